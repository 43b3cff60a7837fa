// The top bar: which run, how far it is, and whether what is shown can be trusted to be live.
const CUT = [{name: "no connection", level: "bad", title: "no connection to the server; the page shows old data"}]
const WRONG = ["bad", "warn"]

export function render({model, view, el}) {
  const bar = document.createElement("header")
  bar.classList.toggle("wall", model.wall)
  nameMessages(model)
  const brand = make("div", "brand", bar)
  brand.innerHTML = model.logo
  make("span", "name", bar).textContent = "snakemap"
  const run = make("div", "run", bar)
  const plan = make("span", "plan", run)
  const status = make("span", "status", run)
  const geometry = make("span", "geometry", run)
  const progress = make("div", "progress", bar)
  const track = make("div", "track", progress)
  track.setAttribute("role", "progressbar")
  track.setAttribute("aria-label", "points of the run")
  const done = make("div", "done", track)
  const figures = make("div", "figures", progress)
  const percent = make("span", "percent", figures), left = make("span", "remaining", figures), rest = make("span", "rest", figures)
  const indicators = connectionIndicators(bar)
  const events = make("a", "events", bar)
  events.textContent = "Log"
  events.title = "log of all events, live"
  events.target = "_blank"
  events.href = `${model.base}log`
  const elsewhere = model.foreign || model.base !== ""
  const notice = elsewhere ? null : runNotice(bar)
  const theme = make("button", "theme", bar)
  theme.type = "button"

  let cut = null
  const fill = () => {
    const state = model.state
    write(plan, state.plan ?? "")
    write(status, state.status ?? "")
    setData(status, "status", state.status ?? "")
    setData(bar, "status", state.status ?? "")
    tip(status, state.reason ?? "")
    write(geometry, state.geometry ?? "")
    tip(geometry, state.geometry ?? "")
    const share = state.expected ? Math.min(1, state.points / state.expected) : state.points ? null : 0
    track.classList.toggle("unknown", share === null)
    done.style.width = `${100 * (share ?? 1)}%`
    track.setAttribute("aria-valuenow", String(Math.round(100 * (share ?? 0))))
    // only the text after the remaining time may be cut off
    write(percent, model.wall && share !== null && state.points ? `${Math.floor(100 * share)} %` : "")
    const text = cut?.text ?? state.figures ?? "", end = cut ? -1 : text.indexOf(" left · ")
    write(left, end < 0 ? "" : text.slice(0, end + " left".length))
    write(rest, end < 0 ? text : text.slice(end + " left".length))
    bar.toggleAttribute("data-stale", state.status === "running" && WRONG.includes(state.lights?.[0]?.level))
    bar.toggleAttribute("data-cut", Boolean(cut))
    bar.toggleAttribute("data-refused", Boolean(cut?.refused))
    indicators(cut ? CUT : state.lights ?? [])
    if (!elsewhere) nameTab({run: tabText(state, share)})
    if (!cut) notice?.(state)
  }
  const root = document.documentElement
  const applyTheme = (name) => {
    if (!elsewhere) root.dataset.theme = name
    theme.textContent = name === "dark" ? "☀" : "☾"
    theme.title = name === "dark" ? "Light colors" : "Dark colors"
    theme.setAttribute("aria-label", theme.title)
  }
  // the cookie lets the server draw the next page in these colors from the start
  const keep = (name) => {
    localStorage.setItem("snakemap-theme", name)
    document.cookie = `snakemap-theme=${name}; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`
  }
  theme.addEventListener("click", () => {
    model.theme = model.theme === "dark" ? "light" : "dark"
    if (!elsewhere) keep(model.theme)
  })
  model.on("theme", () => applyTheme(model.theme))
  model.on("state", fill)
  const asked = elsewhere ? null : new URLSearchParams(location.search).get("theme")
  const kept = elsewhere ? null : localStorage.getItem("snakemap-theme")
  const wanted = asked ?? kept ?? model.theme
  if ((wanted === "dark" || wanted === "light") && wanted !== model.theme) model.theme = wanted
  if (kept === "dark" || kept === "light") keep(kept)
  applyTheme(model.theme)
  fill()
  followConnection({model, view, el, show: (message) => { cut = message; fill() }})
  el.classList.add("topbar")
  return bar
}

// One indicator for the data, and one for each connection with a problem. A press lists all of them in sentences.
function connectionIndicators(bar) {
  const place = make("div", "connections", bar)
  const button = make("button", "indicators", place)
  button.type = "button"
  button.title = "all connections"
  button.setAttribute("aria-live", "polite")
  const list = make("div", "lights", place)
  list.hidden = true
  const open = (wanted) => {
    list.hidden = !wanted
    button.setAttribute("aria-expanded", String(wanted))
  }
  open(false)
  button.addEventListener("click", () => open(list.hidden))
  place.addEventListener("keydown", (event) => { if (event.key === "Escape") open(false) })
  place.addEventListener("focusout", (event) => {
    if (!list.hidden && !place.contains(event.relatedTarget)) open(false)
  })
  list.tabIndex = -1  // a press on the list keeps it open
  return (lights) => {
    const shown = lights.filter(({level}, place) => place === 0 || WRONG.includes(level))
    keyed(button, shown, (_, place) => place, () => make("span", "sign"), (node, light) => {
      setData(node, "level", light.level)
      write(node, light.name)
    })
    keyed(list, lights, (_, place) => place, () => {
      const entry = make("div", "entry")
      make("span", "light", entry)
      make("span", "why", entry)
      return entry
    }, (node, light) => {
      setData(node.firstChild, "level", light.level)
      write(node.firstChild, light.name)
      write(node.lastChild, light.title)
    })
  }
}

// The progress in the title of the browser's tab.
const tabText = ({status, points}, share) => {
  if (!status) return ""
  if (status !== "running") return status
  return share === null ? `${points.toLocaleString("en-US")} points` : `${Math.floor(100 * share)} %`
}
