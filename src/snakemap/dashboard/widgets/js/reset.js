// Resets the zoom of a figure on a double click, and on Escape while the pointer is over the figure.
export default ({x_range, y_range, figure}, event) => {
  const reset = () => {
    x_range.reset()
    y_range.reset()
  }
  if (event.event_name === "doubletap") {
    reset()
    return
  }
  figure._leave?.abort()
  if (event.event_name !== "mouseenter") return
  figure._leave = new AbortController()
  document.addEventListener("keydown", (pressed) => {
    const typing = pressed.composedPath()[0]?.matches?.("input, select, textarea, dialog, dialog *")
    if (pressed.key === "Escape" && !typing) reset()
  }, {signal: figure._leave.signal})
}
