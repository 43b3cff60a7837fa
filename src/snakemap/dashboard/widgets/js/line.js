// A line above a pane without a top bar, shown while the page is cut off from its server.
export function render({model, view, el}) {
  const line = document.createElement("div")
  line.className = "line"
  line.setAttribute("role", "status")
  el.classList.add("connection")
  nameMessages(model)
  followConnection({model, view, el, show: (cut) => {
    el.toggleAttribute("data-cut", Boolean(cut))
    line.toggleAttribute("data-refused", Boolean(cut?.refused))
    line.textContent = cut?.text ?? ""
  }})
  return line
}
