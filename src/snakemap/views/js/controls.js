// What blueapi's worker does, the buttons that change it, and who holds control. A button that is off says why.
export function render({model, el}) {
  const box = make("div", "controls")
  const head = make("div", "head", box)
  const lamp = make("span", "lamp", head)
  const words = make("span", "words", head)
  const since = make("span", "since", head)
  const now = make("div", "now", box)
  const trouble = make("div", "trouble", now)
  const bars = make("div", "bars", now)
  const buttons = make("div", "buttons", box)
  const why = make("div", "why", box)
  const baton = make("div", "baton", box)
  const dialog = make("dialog", "dialog", box)
  let count = 0
  const ask = (what, more = {}) => { count += 1; model.ask = {number: count, what, ...more} }

  const button = (name, label, press) => {
    const node = make("button", name, buttons)
    node.type = "button"
    node.textContent = label
    node.addEventListener("click", press)
    return node
  }
  const confirm = (what, title, detail, reasoned) => () => {
    dialog.replaceChildren()
    const form = make("form", "", dialog)
    form.method = "dialog"
    make("h3", "", form).textContent = title
    make("p", "", form).textContent = detail
    const reason = make("input", "reason", form)
    reason.placeholder = "reason"
    reason.maxLength = 300
    reason.hidden = !reasoned
    const row = make("div", "row", form)
    const no = make("button", "", row)
    no.textContent = "Keep going"
    no.value = ""
    const yes = make("button", "danger", row)
    yes.textContent = title.replace(/\?.*/, "")
    yes.value = "yes"
    dialog.onclose = () => { if (dialog.returnValue === "yes") ask(what, {reason: reason.value}) }
    dialog.returnValue = ""
    dialog.showModal()
    ;(reasoned ? reason : no).focus()
  }
  const all = {
    again: button("again", "Run again…", () => ask("again")),
    new: button("new", "New scan…", () => ask("new")),
    stop: button("stop", "Stop", confirm("stop", "Stop the scan?", "It ends early, and its run counts as ended with success.", true)),
    abort: button("abort", "Abort", confirm("abort", "Abort the scan?", "It ends at once, and its run counts as aborted.", true)),
    pause: button("pause", "Pause", confirm("pause", "Pause the scan?", "blueapi 1.21 may not be able to go on or to abort afterwards.", false)),
    resume: button("resume", "Resume", () => ask("resume")),
  }
  const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", hour12: false})
  const number = (value) => typeof value === "number" ? Number(value.toPrecision(5)).toString() : "?"

  const fillBars = (progress) => {
    bars.replaceChildren(...progress.map((one) => {
      const line = make("div", "bar")
      make("span", "device", line).textContent = readable(one.name, 40)
      const span = one.target - one.initial
      const known = typeof one.target === "number" && typeof one.initial === "number" && typeof one.current === "number" && span !== 0
      const share = known ? (one.current - one.initial) / span : one.percentage
      const track = make("span", "track", line)
      const done = make("span", "done", track)
      done.style.width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`
      make("span", "at", line).textContent = known ? `${number(one.current)} of ${number(one.target)} ${one.unit === "units" ? "" : readable(one.unit, 12)}` : ""
      return line
    }))
  }
  const fill = () => {
    const state = model.state
    lamp.dataset.level = state.level ?? "idle"
    words.textContent = readable(state.words, 80)
    words.title = readable(state.words, 400)
    since.textContent = state.since ? `since ${clock.format(new Date(1000 * state.since))}` : ""
    trouble.textContent = readable(state.trouble, 160)
    trouble.title = readable(state.trouble, 2000)
    fillBars(state.progress ?? [])
    let said = ""
    for (const [name, node] of Object.entries(all)) {
      const told = (state.buttons ?? {})[name] ?? {}
      node.hidden = !told.shown
      node.disabled = !!told.why
      node.title = told.why ?? ""
      if (told.why && (name === "again" || (name === "new" && !said))) said = told.why
    }
    why.textContent = readable(said, 200)
    why.title = readable(said, 1000)
    fillBaton(state.baton ?? {})
  }
  const fillBaton = (told) => {
    baton.replaceChildren()
    if (!told.shown) return
    const holder = make("span", "holder", baton)
    holder.textContent = holder.title = readable(told.words, 120)
    for (const [what, label] of told.actions ?? []) {
      const node = make("button", "link", baton)
      node.type = "button"
      node.textContent = label
      node.addEventListener("click", () => ask(what))
    }
  }
  model.on("state", fill)
  // what a tab knows again after a reload, and nobody else does
  const kept = sessionStorage.getItem("snakemap-tab")
  if (kept) ask("back", {key: kept})
  else sessionStorage.setItem("snakemap-tab", model.key)
  fill()
  el.classList.add("control-desk")
  return box
}
