// Enlarges a map to the whole area on a double click, and shows all maps again on the next one and on Escape. When no map is
// enlarged, Escape over a map resets the zoom.
export default ({page, channel, x_range, y_range, figure}, event) => {
  if (event.event_name === "doubletap") {
    page.enlarged = page.enlarged === channel ? "" : channel
    return
  }
  figure._leave?.abort()
  if (event.event_name !== "mouseenter") return
  figure._leave = new AbortController()
  document.addEventListener("keydown", (pressed) => {
    const typing = pressed.composedPath()[0]?.matches?.("input, select, textarea, dialog, dialog *")
    if (pressed.key !== "Escape" || typing || pressed.defaultPrevented || page.enlarged) return
    x_range.reset()
    y_range.reset()
  }, {signal: figure._leave.signal})
}
