// The history: runs newest first with thumbnails, searched by plan, date and status. A click stays with a run, the first row
// follows the newest, and two ticked runs are compared. The server also searches the runs that are not listed.
export function render({model, el}) {
  const box = make("div", "history")
  const tools = make("div", "tools", box)
  const search = make("input", "search", tools)
  search.type = "search"
  search.placeholder = "plan, file or number"
  search.maxLength = 80
  const line = make("div", "line", tools)
  const status = make("select", "", line)
  status.setAttribute("aria-label", "status of the runs")
  for (const name of ["any status", "running", "complete", "incomplete", "aborted", "failed", "lost"]) {
    const option = make("option", "", status)
    option.value = name === "any status" ? "" : name
    option.textContent = name
  }
  const day = make("input", "day", line)
  day.type = "date"
  day.title = "runs of this date"
  day.setAttribute("aria-label", day.title)
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
  // a row is the run's uid, "" for the newest, or a sentence
  const create = (row) => {
    const item = make("li", row.sentence ? "none" : row.run ? "run" : "newest")
    if (row.sentence) return item
    const button = make("button", "choose", item)
    button.type = "button"
    const uid = row.run?.uid ?? ""
    const about = make("span", "about", button)
    for (const name of row.run ? ["title", "detail", "detail state", "detail file"] : ["title", "detail"]) make("span", name, about)
    button.addEventListener("click", () => { if (model.pinned === uid) model.again += 1; model.pinned = uid })
    if (!row.run) return item
    const tick = make("input", "tick", item)
    tick.type = "checkbox"
    tick.title = "select two runs to compare"
    tick.setAttribute("aria-label", tick.title)
    tick.addEventListener("change", () => {
      ticked = tick.checked ? [...ticked, uid].slice(-2) : ticked.filter((one) => one !== uid)
      fill()
    })
    return item
  }
  const update = (item, {run, sentence}) => {
    if (sentence) { write(item, sentence); return }
    const button = item.firstChild, [title, detail, state, file] = button.firstChild.children
    button.setAttribute("aria-pressed", String((run?.uid ?? "") === model.pinned))
    setData(button, "status", run?.status ?? "")
    write(title, readable(run ? `${run.plan_name || "run"}${run.scan_id != null ? ` · ${run.scan_id}` : ""}` : "Follow the newest", 80))
    if (!run) { write(detail, "switches to each new run"); return }
    const points = run.points == null ? "" : ` · ${whole.format(run.points)}${run.expected ? ` of ${whole.format(run.expected)}` : ""}`
    write(detail, `${time.format(new Date(run.started * 1000))}${run.ended ? ` · ${lasted(run.ended - run.started)}` : ""}`)
    write(state, `${run.status}${points}`)
    write(file, readable(run.file ?? "", 60))
    tip(file, readable(run.path ?? run.file ?? "", 600))
    item.lastChild.checked = ticked.includes(run.uid)
    draw(button, run)
  }
  // loads the thumbnail again when it has changed; not again after a failure
  const draw = (button, run) => {
    const wanted = run.picture ? `picture?run=${encodeURIComponent(run.uid)}&v=${run.picture}` : ""
    if ((button.dataset.picture ?? "") === wanted) return
    button.dataset.picture = wanted
    const shown = button.querySelector("img")
    if (!wanted) { shown?.remove(); return }
    const picture = shown ?? make("img", "picture", button)
    picture.loading = "lazy"
    picture.alt = ""
    picture.src = wanted
    picture.onerror = () => picture.remove()
  }
  const fill = () => {
    const known = new Set(model.runs.map((run) => run.uid))
    ticked = ticked.filter((uid) => known.has(uid))
    const found = model.runs.filter(matches)
    const filtered = !!(search.value || status.value || day.value)
    const rows = [...(filtered ? [] : [{key: "newest"}]), ...found.map((run) => ({key: `run ${run.uid}`, run}))]
    if (filtered && !found.length) rows.push({key: "none", sentence: "No matching runs"})
    if (model.more) rows.push({key: "more", sentence: `${whole.format(model.more)} older runs are not listed; search above.`})
    keyed(list, rows, (row) => row.key, create, update)
    bar.hidden = !ticked.length
    write(words, ticked.length === 1 ? "select one more to compare" : "two runs selected")
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
