// The history: runs newest first with small pictures, searched by plan, date and status; a click stays with one, the
// first row follows the newest, and two that are ticked are compared. The server knows more runs than are listed, so it
// is asked for those that are looked for, too.
export function render({model, el}) {
  const box = make("div", "history")
  const tools = make("div", "tools", box)
  const search = make("input", "search", tools)
  search.type = "search"
  search.placeholder = "plan, file or number"
  search.maxLength = 80
  const line = make("div", "line", tools)
  const status = make("select", "", line)
  for (const name of ["any status", "running", "complete", "incomplete", "aborted", "failed", "lost"]) {
    const option = make("option", "", status)
    option.value = name === "any status" ? "" : name
    option.textContent = name
  }
  const day = make("input", "day", line)
  day.type = "date"
  day.title = "runs of this day"
  const bar = make("div", "compare", box)
  const words = make("span", "", bar)
  const go = make("button", "", bar)
  go.type = "button"
  go.textContent = "Compare"
  const list = make("ul", "", box)
  let ticked = [], count = 0
  const time = new Intl.DateTimeFormat(undefined, {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false})
  const whole = new Intl.NumberFormat("en-US")
  const lasted = (seconds) => {
    const s = Math.max(0, Math.round(seconds)), pad = (n) => String(n).padStart(2, "0")
    return s >= 3600 ? `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)}` : `${Math.floor(s / 60)}:${pad(s % 60)}`
  }
  const bounds = () => {
    if (!day.value) return [null, null]
    const [year, month, date] = day.value.split("-").map(Number)
    return [new Date(year, month - 1, date), new Date(year, month - 1, date + 1)].map((at) => at.getTime() / 1000)
  }
  const matches = (run) => {
    const text = `${run.plan_name ?? ""} ${run.scan_id ?? ""} ${run.path ?? ""}`.toLowerCase(), [since, until] = bounds()
    return search.value.toLowerCase().split(/\s+/).every((word) => text.includes(word)) &&
      (!status.value || run.status === status.value) && (since == null || (run.started >= since && run.started < until))
  }
  let asking = 0
  const ask = () => {
    clearTimeout(asking)
    asking = setTimeout(() => {
      const [since, until] = bounds()
      model.wanted = {text: search.value, status: status.value, since, until}
    }, 200)
  }
  const row = (run) => {
    const item = make("li", run ? "run" : "newest")
    const button = make("button", "choose", item)
    button.type = "button"
    const uid = run?.uid ?? ""
    const words = make("span", "words", button)
    make("span", "title", words).textContent = readable(run ? `${run.plan_name || "run"}${run.scan_id != null ? ` · ${run.scan_id}` : ""}` : "Follow the newest", 80)
    const detail = make("span", "detail", words)
    if (run) {
      const points = run.points == null ? "" : ` · ${whole.format(run.points)}${run.expected ? ` of ${whole.format(run.expected)}` : ""}`
      detail.textContent = `${time.format(new Date(run.started * 1000))}${run.ended ? ` · ${lasted(run.ended - run.started)}` : ""}`
      make("span", "detail state", words).textContent = `${run.status}${points}`
      if (run.file) { const file = make("span", "detail file", words); file.textContent = readable(run.file, 60); file.title = readable(run.path ?? run.file, 600) }
      if (run.picture) {
        const picture = make("img", "picture", button)
        picture.loading = "lazy"
        picture.alt = ""
        picture.src = `picture?run=${encodeURIComponent(uid)}&v=${run.picture}`
        picture.addEventListener("error", () => picture.remove())
      }
      const tick = make("input", "tick", item)
      tick.type = "checkbox"
      tick.title = "tick two to compare"
      tick.checked = ticked.includes(uid)
      tick.addEventListener("change", () => {
        ticked = tick.checked ? [...ticked, uid].slice(-2) : ticked.filter((one) => one !== uid)
        fill()
      })
    } else detail.textContent = "whatever begins next is shown"
    button.dataset.status = run?.status ?? ""
    button.setAttribute("aria-pressed", String(uid === model.pinned))
    button.addEventListener("click", () => { if (model.pinned === uid) model.again += 1; model.pinned = uid })
    return item
  }
  const fill = () => {
    const known = new Set(model.runs.map((run) => run.uid))
    ticked = ticked.filter((uid) => known.has(uid))
    const found = model.runs.filter(matches)
    const filtered = !!(search.value || status.value || day.value)
    list.replaceChildren(...(filtered ? [] : [row(null)]), ...found.map(row))
    if (filtered && !found.length) make("li", "none", list).textContent = "No run is like that."
    if (model.more) make("li", "none", list).textContent = `${whole.format(model.more)} older runs are not listed; look for them above.`
    bar.hidden = !ticked.length
    words.textContent = ticked.length === 1 ? "tick one more to compare" : "two runs are ticked"
    go.disabled = ticked.length !== 2
  }
  for (const node of [search, status, day]) node.addEventListener("input", () => { fill(); ask() })
  go.addEventListener("click", () => { count += 1; model.compare = {number: count, runs: ticked} })
  model.on("runs", fill)
  model.on("more", fill)
  model.on("pinned", fill)
  fill()
  el.classList.add("runs")
  return box
}
