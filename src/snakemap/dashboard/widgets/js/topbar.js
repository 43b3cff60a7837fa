// The top bar: which run, how far it is, and whether what is shown can be trusted to be live.
const CUT = [{name: "no connection", level: "bad", title: "no connection to the server; the page shows old data"}]

export function render({model, view, el}) {
  const bar = document.createElement("header")
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
  const done = make("div", "done", track)
  const figures = make("div", "figures", progress)
  const lights = make("div", "lights", bar)
  lights.setAttribute("aria-live", "polite")
  const events = make("a", "events", bar)
  events.textContent = "Log"
  events.title = "log of all events, live"
  events.target = "_blank"
  events.href = `${model.base}log`
  const theme = make("button", "theme", bar)
  theme.type = "button"

  let cut = null
  const fill = () => {
    const state = model.state
    write(plan, state.plan ?? "")
    write(status, state.status ?? "")
    setData(status, "status", state.status ?? "")
    tip(status, state.reason ?? "")
    write(geometry, state.geometry ?? "")
    const share = state.expected ? Math.min(1, state.points / state.expected) : state.points ? null : 0
    track.classList.toggle("unknown", share === null)
    done.style.width = `${100 * (share ?? 1)}%`
    track.setAttribute("aria-valuenow", String(Math.round(100 * (share ?? 0))))
    write(figures, cut?.text ?? state.figures ?? "")
    bar.toggleAttribute("data-cut", Boolean(cut))
    bar.toggleAttribute("data-refused", Boolean(cut?.refused))
    keyed(lights, cut ? CUT : state.lights ?? [], (_, place) => place, () => make("span", "light"), (node, light) => {
      setData(node, "level", light.level)
      tip(node, light.title)
      write(node, light.name)
    })
  }
  const root = document.documentElement, foreign = model.guest || model.base !== ""
  const wear = (name) => {
    if (!foreign) root.dataset.theme = name
    theme.textContent = name === "dark" ? "☀" : "☾"
    theme.title = name === "dark" ? "Light colors" : "Dark colors"
  }
  // the cookie lets the server draw the next page in these colors from the start
  const keep = (name) => {
    localStorage.setItem("snakemap-theme", name)
    document.cookie = `snakemap-theme=${name}; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`
  }
  theme.addEventListener("click", () => {
    model.theme = model.theme === "dark" ? "light" : "dark"
    if (!foreign) keep(model.theme)
  })
  model.on("theme", () => wear(model.theme))
  model.on("state", fill)
  const asked = foreign ? null : new URLSearchParams(location.search).get("theme")
  const kept = foreign ? null : localStorage.getItem("snakemap-theme")
  const wanted = asked ?? kept ?? model.theme
  if ((wanted === "dark" || wanted === "light") && wanted !== model.theme) model.theme = wanted
  if (kept === "dark" || kept === "light") keep(kept)
  wear(model.theme)
  fill()
  followConnection({model, view, el, show: (told) => { cut = told; fill() }})
  el.classList.add("topbar")
  return bar
}
