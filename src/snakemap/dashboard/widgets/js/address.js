// The address of the page, as the server sets it; back and forward; a button that copies a link.
export function render({model, el}) {
  const root = document.createElement("div")
  root.className = "address"
  const make = (tag, name, parent) => {
    const node = document.createElement(tag)
    node.className = name
    parent.append(node)
    return node
  }
  const button = make("button", "link", root)
  button.type = "button"
  button.title = "Copy a link to this view, with run, colors and zoom"
  const label = make("span", "label", button)
  label.setAttribute("aria-live", "polite")
  label.textContent = "Copy link"
  const sheet = make("div", "sheet", root)
  sheet.hidden = true
  const field = make("input", "", sheet)
  field.readOnly = true
  field.setAttribute("aria-label", "link to this view")
  make("span", "", sheet).textContent = "press Ctrl+C to copy"

  const address = (query) => {
    const url = new URL(location.href)
    url.search = query
    return url.href
  }
  // a state from before the server's answer to the last back or forward belongs to another entry of the history
  let asked = 0
  const keep = () => {
    const {query, push, answers} = model.state
    if (query === undefined || answers !== asked) return
    const href = address(query)
    if (href !== location.href) history[push ? "pushState" : "replaceState"](null, "", href)
  }
  const leave = new AbortController()
  addEventListener("popstate", () => {
    asked += 1
    model.asked = {number: asked, query: location.search.slice(1)}
  }, {signal: leave.signal})
  model.on("remove", () => leave.abort())

  let timer
  const say = (text) => {
    label.textContent = text
    clearTimeout(timer)
    timer = setTimeout(() => { label.textContent = "Copy link" }, 2000)
  }
  const close = () => { sheet.hidden = true }
  // scripts have no clipboard without https: the link is shown to copy it by hand
  const offer = (href) => {
    field.value = href
    sheet.hidden = false
    field.focus()
    field.select()
    let done = false
    try { done = document.execCommand("copy") } catch { /* by hand, then */ }
    if (done) say("Copied")
  }
  button.addEventListener("click", async () => {
    const href = address(model.state.link ?? location.search)
    try {
      await navigator.clipboard.writeText(href)
      say("Copied")
    } catch { offer(href) }
  })
  field.addEventListener("blur", close)
  field.addEventListener("keydown", (event) => { if (event.key === "Escape") { close(); button.focus() } })
  model.on("state", keep)
  keep()
  el.classList.add("address-bar")
  return root
}
