// The regions of the tab, one field each. Names are only ever written as text.
//   state: rows ([{text, name, note, color}]), refusal, full
export function render({model, el}) {
  const box = make("div", "regions")
  const list = make("div", "list", box)
  const last = make("div", "row", box)
  const field = make("input", "rectangle new", last)
  field.placeholder = "new region: name:y0,y1,x0,x1"
  field.title = "rows y0 to y1 and columns x0 to x1 of the detector, half open; or draw a box on the frame"
  field.setAttribute("aria-label", "new region")
  const refusal = make("div", "refusal", box)
  refusal.setAttribute("role", "status")
  let number = 0
  const ask = (place, text) => { model.ask = {number: ++number, place, text} }
  field.addEventListener("change", () => {
    if (field.value.trim()) ask((model.state.rows ?? []).length, field.value)
  })
  const fill = () => {
    const {rows = [], refusal: reason = "", full = false} = model.state
    if (list.childElementCount < rows.length) field.value = ""
    keyed(list, rows, (row, k) => k, (row, k) => {
      const node = make("div", "row")
      const mark = make("span", "mark", node)
      mark.tabIndex = 0
      mark.setAttribute("role", "button")
      mark.setAttribute("aria-label", "move this region")
      mark.title = "arrow keys move this region by a pixel, with Shift its lower right corner; or drag it on the frame"
      mark.addEventListener("keydown", (event) => {
        if (!event.key.startsWith("Arrow") || event.ctrlKey || event.altKey || event.metaKey) return
        event.preventDefault()
        event.stopPropagation()
        model.ask = {number: ++number, place: k, key: `${event.shiftKey ? "Shift+" : ""}${event.key}`}
      })
      const text = make("input", "rectangle", node)
      text.setAttribute("aria-label", "region")
      text.addEventListener("change", () => ask(k, text.value))
      const note = make("span", "note", node)
      const remove = make("button", "remove", node)
      remove.type = "button"
      remove.textContent = "✕"
      remove.title = "remove this region"
      remove.setAttribute("aria-label", "remove this region")
      remove.addEventListener("click", () => ask(k, ""))
      return node
    }, (node, row) => {
      const [mark, text, note] = node.children
      mark.style.background = row.color
      if (el.getRootNode().activeElement !== text || text.dataset.sent !== row.text) text.value = row.text
      setData(text, "sent", row.text)
      write(note, readable(row.note, 120))
      tip(note, readable(row.note))
    })
    field.disabled = full
    write(refusal, readable(reason))
  }
  model.on("state", fill)
  fill()
  return box
}
