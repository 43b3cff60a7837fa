// From the first document of a run to the last. While the slider is dragged, its position is that of the user.
export function render({model, el}) {
  const SEEK_MS = 100
  const bar = make("div", "timebar")
  const play = make("button", "play", bar)
  play.type = "button"
  const speed = make("select", "speed", bar)
  speed.title = "playback speed"
  speed.setAttribute("aria-label", "speed")
  const hand = make("input", "hand", bar)
  hand.type = "range"
  hand.step = "any"
  hand.title = "drag to show an earlier time of this run, in this tab only"
  hand.setAttribute("aria-label", "time in the run")
  const label = make("span", "moment", bar)
  const live = make("button", "live", bar)
  live.type = "button"

  let number = 0
  let held = false
  let asked = 0
  let waiting = null
  const ask = (what, value = null) => { model.ask = {number: ++number, what, value} }
  const go = () => {
    clearTimeout(waiting)
    asked = Date.now()
    ask("go", Math.round(Number(hand.value)))
  }
  hand.addEventListener("pointerdown", () => { held = true })
  hand.addEventListener("input", () => {
    bar.dataset.at = "then"
    draw()
    clearTimeout(waiting)
    waiting = setTimeout(go, Math.max(0, asked + SEEK_MS - Date.now()))
  })
  hand.addEventListener("change", () => { held = false; go() })
  hand.addEventListener("pointercancel", () => { held = false })
  play.addEventListener("click", () => ask(model.state.playing ? "pause" : "play"))
  speed.addEventListener("change", () => ask("speed", Number(speed.value)))
  live.addEventListener("click", () => ask("live"))

  const draw = () => {
    const {first = 0, last = 1} = model.state
    const share = (Number(hand.value) - first) / Math.max(1, last - first)
    hand.style.setProperty("--share", `${100 * share}%`)
  }
  const fill = () => {
    const {first, last, moment = null, playing = false, running = false, speeds = []} = model.state
    const known = first !== undefined
    for (const node of [play, speed, hand]) node.disabled = !known
    bar.dataset.at = moment === null ? "now" : "then"
    play.dataset.shows = playing ? "pause" : "play"
    play.title = playing ? "pause" : moment === null ? "play this run from the start" : "play"
    play.setAttribute("aria-label", play.title)
    live.textContent = running ? "Live" : "End"
    live.title = running ? "show live data" : "show the end of the run"
    live.disabled = moment === null
    label.textContent = model.state.text ?? ""
    if (speed.options.length !== speeds.length) {
      speed.replaceChildren(...speeds.map((times) => new Option(`${times} ×`, times)))
    }
    speed.value = model.state.speed ?? ""
    if (known && !held) {
      hand.min = first
      hand.max = last
      hand.value = moment ?? last
      hand.setAttribute("aria-valuetext", label.textContent)
    }
    draw()
  }
  model.on("state", fill)
  fill()
  return bar
}
