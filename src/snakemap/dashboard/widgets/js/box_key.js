// While Shift is held over a map, a drag draws a box: the box tool takes the place of the tool that is chosen.
export default ({toolbar}, event) => {
  toolbar._over?.abort()
  if (event.event_name !== "mouseenter") return
  toolbar._over = new AbortController()
  const find = (type) => toolbar.tools.find((tool) => (tool.underlying ?? tool).type === type)
  document.addEventListener("keydown", (pressed) => {
    const box = find("BoxSelectTool")
    if (pressed.key !== "Shift" || !box || box.active) return
    const before = ["PanTool", "BoxZoomTool"].map(find).find((tool) => tool?.active)
    const until = new AbortController(), {signal} = until
    let dragged = false, released = false
    const end = () => {
      if (dragged || signal.aborted) return
      until.abort()
      box.active = false
      if (before) before.active = true
    }
    box.active = true
    document.addEventListener("pointerdown", () => { dragged = true }, {signal, capture: true})
    document.addEventListener("pointerup", () => { dragged = false; if (released) setTimeout(end) }, {signal, capture: true})
    document.addEventListener("keyup", ({key}) => { if (key === "Shift") { released = true; end() } }, {signal})
    window.addEventListener("blur", () => { dragged = false; end() }, {signal})
  }, {signal: toolbar._over.signal})
}
