// The tree of a file and the details of the chosen node. Names come from files: they only go in as text.
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
  list.setAttribute("aria-label", "contents of the file")
  const details = make("div", "details", root)
  const title = make("div", "title", details)
  const body = make("tbody", "", make("table", "facts", details))

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
  const create = () => {
    const line = make("div", "row")
    line.setAttribute("role", "treeitem")
    for (const name of ["mark", "name", "star", "nx", "size"]) make("span", name, line)
    line.firstChild.addEventListener("click", (event) => {
      if (line.row.kind !== "group") return
      event.stopPropagation()
      at = rows().indexOf(line)
      ask("toggle", {id: line.row.id})
    })
    line.addEventListener("click", () => {
      focus(rows().indexOf(line))
      if (!["broken", "refused", "trouble", "nothing"].includes(line.row.kind)) act(line.row)
    })
    return line
  }
  const update = (line, row, i) => {
    line.tabIndex = i === at ? 0 : -1
    const written = JSON.stringify(row)
    line.row = row
    if (line.written === written) return
    line.written = written
    line.setAttribute("aria-level", row.depth + 1)
    line.setAttribute("aria-selected", String(row.chosen))
    if (row.kind === "group") line.setAttribute("aria-expanded", String(row.open))
    setData(line, "kind", row.kind)
    line.style.paddingLeft = `${6 + 14 * Math.min(row.depth, 12)}px`
    const [sign, name, star, nx, size] = line.children
    write(sign, row.kind === "group" && row.open ? "▾" : marks[row.kind] ?? "▪")
    write(name, readable(row.name, row.found ? 200 : 90))
    write(star, row.default ? "★" : row.auxiliary ? "☆" : "")
    write(nx, readable(row.nx ?? "", 30))
    write(size, row.dtype ? `${row.shape}  ${readable(row.dtype, 40)}` : row.link ? `→ ${readable(row.link, 60)}` : "")
    tip(line, [readable(row.name, 1000), row.link && `link to ${readable(row.link)}`, readable(row.why), row.default ? "default plot" : row.auxiliary && "auxiliary signal"]
      .filter(Boolean).join("\n"))
  }
  // a row is known by its path; sentences between the rows by what they are about
  const paths = (all) => {
    const path = []
    return all.map((row) => {
      path.length = row.depth
      path.push(row.name)
      return ["more", "trouble", "nothing"].includes(row.kind) ? `${row.kind} ${JSON.stringify(path.slice(0, -1))}` : JSON.stringify(path)
    })
  }
  const fill = () => {
    const state = model.state
    write(file, state.file ? readable(state.file.split("/").pop(), 60) : "")
    tip(file, readable(state.file ?? ""))
    let link = ""
    try { link = `${model.base}file?path=${encodeURIComponent(state.file ?? "")}` } catch { /* a name that is no text */ }
    write(download, state.download && link ? `download (${state.download})` : "")
    download.href = link || "#"
    search.style.display = state.file ? "" : "none"
    if (!search.matches(":focus") && search.value !== (state.search ?? "")) search.value = state.search ?? ""
    write(note, state.trouble ? readable(state.trouble) : state.note || (state.file ? "" : "Choose a file to list its content."))
    note.classList.toggle("bad", Boolean(state.trouble))
    const all = state.rows ?? []
    const focused = list.contains(list.getRootNode().activeElement)
    const keys = paths(all), keyOfFocus = rows()[at]?.keyed
    at = keys.includes(keyOfFocus) ? keys.indexOf(keyOfFocus) : Math.min(at, Math.max(0, all.length - 1))
    keyed(list, all, (_, i) => keys[i], create, update)
    if (focused) rows()[at]?.focus()
    facts(state)
  }
  const facts = (state) => {
    const all = (state.facts ?? []).map(([name, value]) => ({name, value, kind: "fact"}))
    for (const one of state.attributes ?? []) {
      const value = Array.isArray(one.value) ? JSON.stringify(one.value) : one.value ?? `${one.dtype || "too large to show"}`
      all.push({name: `@${one.name}`, value: `${value}${one.cut && Array.isArray(one.value) ? " …" : ""}`, kind: "attribute"})
    }
    write(title, readable(state.title ?? "", 120))
    tip(title, readable(state.title ?? "", 1000))
    keyed(body, state.title ? all : [], (one) => `${one.kind} ${one.name}`, (one) => {
      const row = make("tr", one.kind)
      make("td", "", row)
      make("td", "", row)
      return row
    }, (row, one) => {
      write(row.cells[0], readable(one.name, 60))
      write(row.cells[1], readable(one.value, 240))
      tip(row.cells[1], readable(one.value, 1000))
    })
    details.style.display = state.title ? "" : "none"
  }
  model.on("state", fill)
  fill()
  el.classList.add("tree-list")
  return root
}
