// The file browser: a directory of any length, of which the browser has what is on the screen. Names only go in as text.
export function render({model, el}) {
  const HEIGHT = 26
  const whole = new Intl.NumberFormat("en-US")
  const size = (bytes) => {
    if (bytes < 1000) return `${bytes} B`
    const power = Math.min(5, Math.floor(Math.log10(bytes) / 3))
    return `${(bytes / 1000 ** power).toFixed(1)} ${" kMGTP"[power]}B`
  }
  const day = new Intl.DateTimeFormat(undefined, {year: "numeric", month: "short", day: "numeric"})
  const age = (time) => {
    const seconds = Date.now() / 1000 - time
    if (seconds < 5) return "now"
    if (seconds < 90) return `${Math.round(seconds)} s`
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`
    if (seconds < 129600) return `${Math.round(seconds / 3600)} h`
    return seconds < 86400 * 60 ? `${Math.round(seconds / 86400)} d` : day.format(new Date(time * 1000))
  }
  let number = 0
  const ask = (what, more) => { model.ask = {number: ++number, what, ...more} }
  // the list on the server may be newer, so the row is named, too
  const open = (row, k) => {
    if (row.kind !== "directory" && row.kind !== "hdf5") return false
    ask("open", {id: k, text: row.name})
    if (row.kind === "hdf5") model.chosen += 1
    return true
  }

  const root = make("div", "files")
  const crumbs = make("nav", "crumbs", root)
  crumbs.setAttribute("aria-label", "directory")
  const links = make("div", "links", root)
  const tools = make("div", "tools", root)
  const search = make("input", "search", tools)
  search.type = "search"
  search.placeholder = "filter"
  search.maxLength = 200
  search.setAttribute("aria-label", "filter the files by name")
  search.title = "part of a name, or a pattern with * and ?   ( / )"
  const sort = make("select", "sort", tools)
  sort.setAttribute("aria-label", "order")
  const note = make("div", "note", root)
  const view = make("div", "view", root)
  view.tabIndex = 0
  view.setAttribute("role", "listbox")
  view.setAttribute("aria-label", "files")
  const space = make("div", "space", view)

  let at = -1
  let timer = 0
  let requested = null
  search.addEventListener("input", () => {
    clearTimeout(timer)
    timer = setTimeout(() => ask("search", {text: search.value}), 150)
  })
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "Enter") { view.focus(); go(0); event.preventDefault() }
    if (event.key === "Escape") { search.value = ""; ask("search", {text: ""}); view.focus() }
    event.stopPropagation()
  })
  sort.addEventListener("change", () => ask("sort", {text: sort.value}))
  const wanted = () => {
    const first = Math.floor(view.scrollTop / HEIGHT), last = Math.ceil((view.scrollTop + view.clientHeight) / HEIGHT)
    const {offset = 0, rows = [], found = 0} = model.state
    if (first >= offset && Math.min(last, found) <= offset + rows.length) return
    const start = Math.max(0, first - 40)
    if (start !== requested) { requested = start; ask("page", {offset: start}) }
  }
  view.addEventListener("scroll", () => { clearTimeout(wanted.timer); wanted.timer = setTimeout(wanted, 30) })
  const go = (k) => {
    const {found = 0} = model.state
    if (!found) return
    at = Math.max(0, Math.min(found - 1, k))
    const top = at * HEIGHT
    if (top < view.scrollTop) view.scrollTop = top
    else if (top + HEIGHT > view.scrollTop + view.clientHeight) view.scrollTop = top + HEIGHT - view.clientHeight
    fill()
  }
  const up = () => { const depth = (model.state.crumbs ?? []).length; if (depth) ask("crumb", {id: depth - 1}) }
  view.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(view.clientHeight / HEIGHT) - 1)
    const steps = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9}
    if (event.key in steps) go(at + steps[event.key])
    else if (event.key === "Enter" && at >= 0) {
      const {offset = 0, rows = []} = model.state, row = rows[at - offset]
      if (row) open(row, at)
    }
    else if (event.key === "Backspace" || event.key === "ArrowLeft") up()
    else if (event.key === "/") search.focus()
    else return
    event.preventDefault()
    event.stopPropagation()
  })

  const marks = {directory: "▸", hdf5: "▦", file: "·", other: "?", refused: "⛔"}
  const create = () => {
    const line = make("div", "row")
    line.setAttribute("role", "option")
    for (const name of ["mark", "name", "live", "size", "age"]) make("span", name, line)
    line.children[2].title = "a program is writing to it"
    line.addEventListener("click", () => {
      at = line.place
      if (!open(line.row, at)) fill()
    })
    return line
  }
  const update = (line, row, k) => {
    line.place = k
    line.row = row
    const top = `${k * HEIGHT}px`
    if (line.style.top !== top) line.style.top = top
    setData(line, "kind", row.kind)
    line.setAttribute("aria-selected", String(row.chosen))
    line.classList.toggle("at", k === at)
    const [sign, name, live, bytes, since] = line.children
    write(sign, marks[row.kind] ?? "·")
    write(name, readable(row.name))
    write(live, row.live ? "live" : "")
    write(bytes, row.kind === "hdf5" || row.kind === "file" ? size(row.size) : "")
    write(since, row.modified ? age(row.modified) : "")
    const why = {refused: "a link to a place outside the data root, or a file without read permission", file: "not an HDF5 file", other: "not a regular file"}
    tip(line, [readable(row.name, 1000), why[row.kind], row.modified && new Date(row.modified * 1000).toLocaleString()]
      .filter(Boolean).join("\n"))
  }
  let place = null
  const fill = () => {
    const state = model.state
    const rows = state.rows ?? [], offset = state.offset ?? 0
    const here = JSON.stringify([state.crumbs, state.order, state.search])
    if (!state.loading && here !== place) {
      place = here
      at = rows.findIndex((row) => row.chosen)
      at = at < 0 ? -1 : at + offset
      requestAnimationFrame(() => { view.scrollTop = at < 0 ? offset * HEIGHT : Math.max(0, at * HEIGHT - view.clientHeight / 2) })
    }
    requested = null
    space.style.height = `${(state.found ?? 0) * HEIGHT}px`
    keyed(space, rows, (row) => row.name, create, (line, row, i) => update(line, row, offset + i))
    const parts = ["data", ...(state.crumbs ?? [])]
    keyed(crumbs, parts, (part, k) => `${k} ${part}`, (_, k) => {
      const crumb = make("button", "crumb")
      crumb.type = "button"
      crumb.addEventListener("click", () => ask("crumb", {id: k}))
      return crumb
    }, (crumb, part, k) => {
      write(crumb, readable(part, 40))
      tip(crumb, readable(part))
      crumb.disabled = k === parts.length - 1
    })
    const offered = []
    if (state.run_file) offered.push({what: "run file", words: `file of this run: ${readable(state.run_file, 40)}`})
    if (state.run) offered.push({what: "run", words: "show the maps of this file"})
    keyed(links, offered, (link) => link.what, ({what}) => {
      const link = make("button", "link")
      link.type = "button"
      link.addEventListener("click", () => {
        ask(what)
        if (what === "run file") model.chosen += 1
      })
      return link
    }, (link, {words}) => write(link, words))
    keyed(sort, state.orders ?? [], (order) => order, (order) => {
      const option = make("option", "")
      option.value = order
      option.textContent = {newest: "newest first", name: "by name", size: "largest first"}[order] ?? order
      return option
    })
    sort.value = state.order ?? "newest"
    if (!search.matches(":focus") && search.value !== (state.search ?? "")) search.value = state.search ?? ""
    const few = state.found !== state.total
    write(note, state.trouble ? readable(state.trouble, 400) : state.loading ? "reading…"
      : !state.total ? "empty directory" : `${few ? `${whole.format(state.found)} of ` : ""}${whole.format(state.total)} ${state.total === 1 ? "entry" : "entries"}${state.more ? ", more are not shown" : ""}`)
    note.classList.toggle("bad", Boolean(state.trouble))
  }
  model.on("state", fill)
  fill()
  let there = false
  const ticking = setInterval(() => {
    if (root.isConnected) there = true
    else if (there) { clearInterval(ticking); return }
    for (const line of space.children) {
      if (line.row.modified) write(line.lastChild, age(line.row.modified))
    }
  }, 1000)
  el.classList.add("file-list")
  return root
}
