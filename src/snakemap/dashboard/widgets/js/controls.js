// The state of blueapi's worker, the buttons that change it, and the holder of control. A disabled button says why.
export function render({model, el}) {
  const box = make("div", "controls")
  const head = make("div", "head", box)
  const indicator = make("span", "indicator", head)
  const worker = make("span", "worker", head)
  const since = make("span", "since", head)
  const now = make("div", "now", box)
  const trouble = make("div", "trouble", now)
  const bars = make("div", "bars", now)
  const starts = make("div", "buttons", box)
  // at opposite ends of the row, against wrong presses
  const ends = make("div", "buttons ends", box)
  const lockLine = make("div", "lock", box)
  const holder = make("span", "holder", lockLine)
  const actions = make("span", "actions", lockLine)
  const dialog = make("dialog", "dialog", box)
  let count = 0
  const ask = (what, more = {}) => { count += 1; model.ask = {number: count, what, ...more} }

  const button = (row, name, label, press) => {
    const node = make("button", name, row)
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
    dialog.setAttribute("aria-label", title)
    make("p", "", form).textContent = detail
    const reason = make("input", "reason", form)
    reason.placeholder = "reason (optional)"
    reason.maxLength = 300
    reason.hidden = !reasoned
    const row = make("div", "row", form)
    const no = make("button", "", row)
    no.textContent = "Back"
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
    again: button(starts, "again", "Run again…", () => ask("again")),
    new: button(starts, "new", "New scan…", () => ask("new")),
    pause: button(starts, "pause", "Pause", confirm("pause", "Pause the scan?", "blueapi 1.21 may not be able to resume or abort a paused scan. The status of the run stays running until it ends.", false)),
    resume: button(starts, "resume", "Resume", () => ask("resume")),
    stop: button(ends, "stop", "Stop", confirm("stop", "Stop the scan?", "The scan ends early; data so far are kept, the run is marked incomplete if points are missing.", true)),
  }
  const why = make("div", "why", ends)
  all.abort = button(ends, "abort", "Abort", confirm("abort", "Abort the scan?", "The scan ends at once; data so far are kept, the run is marked aborted.", true))
  const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", hour12: false})
  const number = (value) => typeof value === "number" ? Number(value.toPrecision(5)).toString() : "?"

  const fillBars = (progress) => {
    keyed(bars, progress, (one) => one.name, () => {
      const line = make("div", "bar")
      make("span", "device", line)
      make("span", "done", make("span", "track", line))
      make("span", "at", line)
      return line
    }, (line, one) => {
      write(line.querySelector(".device"), readable(one.name, 40))
      const span = one.target - one.initial
      const known = typeof one.target === "number" && typeof one.initial === "number" && typeof one.current === "number" && span !== 0
      const share = known ? (one.current - one.initial) / span : one.percentage
      line.querySelector(".done").style.width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`
      write(line.querySelector(".at"), known ? `${number(one.current)} of ${number(one.target)} ${one.unit === "units" ? "" : readable(one.unit, 12)}` : "")
    })
  }
  const fill = () => {
    const state = model.state
    setData(indicator, "level", state.level ?? "idle")
    write(worker, readable(state.text, 80))
    tip(worker, readable(state.text, 400))
    write(since, state.since ? `since ${clock.format(new Date(1000 * state.since))}` : "")
    write(trouble, readable(state.trouble, 160))
    tip(trouble, readable(state.trouble, 2000))
    fillBars(state.progress ?? [])
    let said = ""
    for (const [name, node] of Object.entries(all)) {
      const given = (state.buttons ?? {})[name] ?? {}
      node.hidden = !given.shown
      node.disabled = !!given.why
      tip(node, given.why ?? "")
      if (given.why && (name === "again" || (name === "new" && !said))) said = given.why
    }
    write(why, readable(said, 200))
    tip(why, readable(said, 1000))
    fillLock(state.lock ?? {})
  }
  const fillLock = (lock) => {
    const holds = lock.shown ? readable(lock.text, 120) : ""
    write(holder, holds)
    tip(holder, holds)
    keyed(actions, lock.shown ? lock.actions ?? [] : [], ([what]) => what, ([what]) => {
      const node = make("button", "link")
      node.type = "button"
      node.addEventListener("click", () => ask(what))
      return node
    }, (node, [, label]) => write(node, label))
  }
  model.on("state", fill)
  // the holder of control answers while its page is open; without timers, which browsers slow down in hidden tabs
  model.on("beat", () => { model.answer = model.beat })
  // A tab keeps its control over a reload: its key is in sessionStorage from the end of one page to the start of the next.
  // It is not there while the page is open, because window.open and "duplicate tab" copy the storage.
  const KEY = "snakemap-tab", KEPT_MS = 60_000
  let key = model.key
  const take = () => {
    const [kept, at] = (sessionStorage.getItem(KEY) ?? "").split(" ")
    sessionStorage.removeItem(KEY)
    return Math.abs(Date.now() - Number(at)) < KEPT_MS ? kept : ""
  }
  const kept = take()
  if (kept) { key = kept; ask("back", {key}) }
  const leave = () => sessionStorage.setItem(KEY, `${key} ${Date.now()}`)
  const again = (event) => { if (event.persisted) take() }
  window.addEventListener("pagehide", leave)
  window.addEventListener("pageshow", again)
  model.on("remove", () => { window.removeEventListener("pagehide", leave); window.removeEventListener("pageshow", again) })
  fill()
  el.classList.add("control-desk")
  return box
}
