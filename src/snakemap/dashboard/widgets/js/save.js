// A menu of files that the maps can be saved as. The links lead to the server; the picture is made in the browser.
export function render({model, el}) {
  const place = make("div", "save", null)
  const button = make("button", "", place)
  button.type = "button"
  button.textContent = "Save"
  button.title = "save the maps as a file"
  const list = make("div", "menu", place)
  const open = (wanted) => {
    list.hidden = !wanted
    button.setAttribute("aria-expanded", String(wanted))
  }
  const item = (tag, title, detail) => {
    const node = make(tag, "item", list)
    make("b", "", node).textContent = title
    make("span", "", node).textContent = detail
    node.addEventListener("click", () => open(false))
    return node
  }
  const picture = item("button", "PNG picture", "the maps as they are on the screen, with axes")
  picture.type = "button"
  picture.addEventListener("click", savePicture)
  const links = model.kinds.map(([kind, title, detail]) => [kind, item("a", title, detail)])
  open(false)
  button.addEventListener("click", () => open(list.hidden))
  place.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) { event.stopPropagation(); open(false); button.focus() }
  })
  place.addEventListener("focusout", (event) => { if (!place.contains(event.relatedTarget)) open(false) })
  list.tabIndex = -1
  const fill = () => {
    const {run, source, base, rois = []} = model.state
    button.disabled = !run
    for (const [kind, link] of links) {
      const query = new URLSearchParams({run: run ?? "", source: source ?? "", format: kind})
      for (const roi of rois) query.append("roi", roi)
      const href = `${base ?? ""}export?${query}`
      if (link.getAttribute("href") !== href) link.setAttribute("href", href)
      link.setAttribute("download", "")
    }
  }
  model.on("state", fill)
  fill()
  return place
}

// the maps that are on the screen, by Bokeh's own export
async function savePicture() {
  const grids = []
  const search = (view) => {
    if (view.model?.type === "GridPlot" && view.el.offsetParent) grids.push(view)
    else for (const child of view.child_views ?? []) search(child)
  }
  for (const root of [...Bokeh.index.roots]) search(root)
  for (const view of grids) {
    const link = document.createElement("a")
    link.href = URL.createObjectURL(await view.export().to_blob())
    link.download = `snakemap-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.png`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
  }
}
