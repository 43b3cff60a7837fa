// One button for each list, at the edge of the page; the lists are the parts of the pane beside it. The button of an open list
// closes it, which makes the maps larger. The browser remembers whether a list is open.
const KEPT = "snakemap-lists", WIDE = 1400
const ICONS = {
  Runs: "M4 6h16M4 12h16M4 18h10",
  Files: "M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z",
  Tree: "M6 4v14h6M6 10h6M14 8h6v4h-6zM14 16h6v4h-6z",
  Actions: "M4 13h4l3-8 4 14 2-6h3",
}
const OTHER = "M5 5h14v14H5z"

export function render({model, view}) {
  const rail = make("div", "lists")
  rail.setAttribute("role", "tablist")
  rail.setAttribute("aria-orientation", "vertical")
  rail.setAttribute("aria-label", "Lists")
  const choose = (place, open) => {
    if (model.active !== place) model.active = place
    if (model.open !== open) model.open = open
    localStorage.setItem(KEPT, open ? "open" : "closed")
  }
  const tabs = model.titles.map((title, place) => {
    const tab = make("button", "tab", rail)
    tab.type = "button"
    tab.setAttribute("role", "tab")
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg")
    icon.setAttribute("viewBox", "0 0 24 24")
    icon.setAttribute("aria-hidden", "true")
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
    path.setAttribute("d", ICONS[title] ?? OTHER)
    icon.append(path)
    tab.append(icon)
    make("span", "title", tab).textContent = title
    tab.addEventListener("click", () => choose(place, model.active !== place || !model.open))
    return tab
  })
  rail.addEventListener("keydown", (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key]
    if (!step) return
    event.preventDefault()
    const place = (model.active + step + tabs.length) % tabs.length
    choose(place, true)
    tabs[place].focus()
  })
  const fill = () => tabs.forEach((tab, place) => {
    const active = place === model.active
    tab.setAttribute("aria-selected", String(active && Boolean(model.open)))
    tab.title = active && model.open ? `Close ${model.titles[place]}` : model.titles[place]
    tab.tabIndex = active ? 0 : -1
  })
  // at once, without the server, which may be busy
  const show = () => {
    fill()
    const {children} = view.parent.model, pane = children[children.indexOf(view.model) + 1]
    pane.visible = Boolean(model.open)
    pane.children.forEach((list, place) => { list.visible = place === model.active })
  }
  for (const name of ["active", "open"]) model.on(name, show)
  if (model.open === null) {
    const kept = localStorage.getItem(KEPT)
    model.open = kept ? kept === "open" : window.innerWidth >= WIDE
  }
  show()
  return rail
}
