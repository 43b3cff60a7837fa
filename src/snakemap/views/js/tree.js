// The tree of a file and what is told of the chosen node. Names come from files: they only ever go in as text.
export function render({model, el}) {
  let number = 0
  const ask = (what, more) => { model.ask = {number: ++number, what, ...more} }

  const root = make("div", "tree")
  const head = make("div", "head", root)
  const file = make("div", "file", head)
  const download = make("a", "download", head)
  const search = make("input", "search", head)
  search.type = "search"
  search.placeholder = "find a name in this file"
  search.setAttribute("aria-label", "find a name in this file")
  search.maxLength = 200
  const note = make("div", "note", root)
  const list = make("div", "rows", root)
  list.setAttribute("role", "tree")
  const details = make("div", "details", root)

  let timer = 0
  search.addEventListener("input", () => {
    clearTimeout(timer)
    timer = setTimeout(() => ask("search", {text: search.value}), 200)
  })
  let at = 0
  const rows = () => [...list.children]
  const focus = (k) => {
    const all = rows()
    if (!all.length) return
    at = Math.max(0, Math.min(all.length - 1, k))
    all.forEach((row, i) => { row.tabIndex = i === at ? 0 : -1 })
    all[at].focus()
  }
  const act = (row) => ask(row.kind === "more" ? "more" : "choose", {id: row.id})
  list.addEventListener("keydown", (event) => {
    const row = model.state.rows?.[at]
    const steps = {ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e6, End: 1e6}
    if (event.key in steps) focus(at + steps[event.key])
    else if (event.key === "Enter" || event.key === " ") row && act(row)
    else if (event.key === "ArrowRight" && row?.kind === "group") row.open ? focus(at + 1) : ask("toggle", {id: row.id})
    else if (event.key === "ArrowLeft" && row) {
      if (row.open) ask("toggle", {id: row.id})
      else for (let k = at - 1; k >= 0; k--) if (model.state.rows[k].depth < row.depth) { focus(k); break }
    } else if (event.key === "/") search.focus()
    else return
    event.preventDefault()
    event.stopPropagation()
  })

  const marks = {group: "▸", dataset: "▪", datatype: "T", broken: "⚠", refused: "⛔", more: "＋", trouble: "⚠", nothing: ""}
  const draw = (row, i) => {
    const line = make("div", "row")
    line.setAttribute("role", "treeitem")
    line.setAttribute("aria-level", row.depth + 1)
    line.setAttribute("aria-selected", String(row.chosen))
    if (row.kind === "group") line.setAttribute("aria-expanded", String(row.open))
    line.dataset.kind = row.kind
    line.tabIndex = i === at ? 0 : -1
    line.style.paddingLeft = `${6 + 14 * Math.min(row.depth, 12)}px`
    const mark = make("span", "mark", line)
    mark.textContent = row.kind === "group" && row.open ? "▾" : marks[row.kind] ?? "▪"
    const name = make("span", "name", line)
    name.textContent = readable(row.name, row.found ? 200 : 90)
    if (row.default) make("span", "star", line).textContent = "★"
    if (row.nx) make("span", "nx", line).textContent = readable(row.nx, 30)
    const size = make("span", "size", line)
    if (row.dtype) size.textContent = `${row.shape}  ${readable(row.dtype, 40)}`
    else if (row.link) size.textContent = `→ ${readable(row.link, 60)}`
    line.title = [readable(row.name, 1000), row.link && `link to ${readable(row.link)}`, readable(row.why), row.default && "drawn by default"]
      .filter(Boolean).join("\n")
    mark.addEventListener("click", (event) => {
      if (row.kind !== "group") return
      event.stopPropagation()
      at = i
      ask("toggle", {id: row.id})
    })
    line.addEventListener("click", () => { focus(i); if (!["broken", "refused", "trouble", "nothing"].includes(row.kind)) act(row) })
    return line
  }
  let shown = []
  const fill = () => {
    const state = model.state
    file.textContent = state.file ? readable(state.file.split("/").pop(), 60) : ""
    file.title = readable(state.file ?? "")
    let link = ""
    try { link = `file?path=${encodeURIComponent(state.file ?? "")}` } catch { /* a name that is no text */ }
    download.textContent = state.download && link ? `download (${state.download})` : ""
    download.href = link || "#"
    search.style.display = state.file ? "" : "none"
    if (!search.matches(":focus") && search.value !== (state.search ?? "")) search.value = state.search ?? ""
    note.textContent = state.trouble ? readable(state.trouble) : state.note || (state.file ? "" : "Choose a file, and what is in it is listed here.")
    note.classList.toggle("bad", Boolean(state.trouble))
    const all = state.rows ?? []
    const focused = list.contains(list.getRootNode().activeElement)
    at = Math.min(at, Math.max(0, all.length - 1))
    // rows that are the same stay: nothing flickers while a dataset grows
    all.forEach((row, i) => {
      const text = JSON.stringify(row)
      if (shown[i] === text && list.children[i]) return
      const line = draw(row, i)
      if (list.children[i]) list.replaceChild(line, list.children[i])
      else list.append(line)
      shown[i] = text
    })
    while (list.children.length > all.length) list.lastChild.remove()
    shown.length = all.length
    if (focused) rows()[at]?.focus()
    facts(state)
  }
  const facts = (state) => {
    const table = make("table", "facts")
    const line = (name, value, kind) => {
      const row = table.insertRow()
      row.className = kind
      row.insertCell().textContent = readable(name, 60)
      const cell = row.insertCell()
      cell.textContent = readable(value, 240)
      cell.title = readable(value, 1000)
    }
    for (const [name, value] of state.facts ?? []) line(name, value, "fact")
    for (const one of state.attributes ?? []) {
      const value = Array.isArray(one.value) ? JSON.stringify(one.value) : one.value ?? `${one.dtype || "too large to be shown"}`
      line(`@${one.name}`, `${value}${one.cut && Array.isArray(one.value) ? " …" : ""}`, "attribute")
    }
    const title = make("div", "title")
    title.textContent = readable(state.title ?? "", 120)
    title.title = readable(state.title ?? "", 1000)
    details.replaceChildren(...(state.title ? [title, table] : []))
    details.style.display = state.title ? "" : "none"
  }
  model.on("state", fill)
  fill()
  el.classList.add("tree-list")
  return root
}
