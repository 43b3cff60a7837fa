// Sends arrow keys that are pressed while the pointer is over a map and no field or button has the focus.
export default ({page}, event) => {
  page._walking?.abort()
  if (event.event_name !== "mouseenter") return
  page._walking = new AbortController()
  document.addEventListener("keydown", (pressed) => {
    if (!pressed.key.startsWith("Arrow") || pressed.ctrlKey || pressed.altKey || pressed.metaKey) return
    const focus = pressed.composedPath()[0]
    if (!focus?.matches?.("body, html, .bk-events")) return  // a click gives the focus to the events of a figure
    pressed.preventDefault()
    const key = (pressed.shiftKey ? "Shift+" : "") + pressed.key
    page.walk = {number: (page.walk?.number ?? 0) + 1, key}
  }, {signal: page._walking.signal})
}
