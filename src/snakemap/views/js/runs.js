// The list of runs, newest first; a click stays with one, the first row follows the newest.
export function render({model, el}) {
  const list = document.createElement("ul")
  const row = (uid, title, detail, status) => {
    const item = document.createElement("li")
    const button = document.createElement("button")
    button.type = "button"
    const top = document.createElement("span")
    top.className = "title"
    top.textContent = title
    const bottom = document.createElement("span")
    bottom.className = "detail"
    bottom.textContent = detail
    button.append(top, bottom)
    button.dataset.status = status
    button.setAttribute("aria-pressed", String(uid === model.pinned))
    button.addEventListener("click", () => { model.pinned = uid })
    item.append(button)
    return item
  }
  const time = new Intl.DateTimeFormat(undefined, {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit"})
  const whole = new Intl.NumberFormat("en-US")
  const fill = () => {
    list.replaceChildren(row("", "Follow the newest", "whatever begins next is shown", ""), ...model.runs.map((run) =>
      row(run.uid, `${run.plan_name || "run"}${run.scan_id ? ` · ${run.scan_id}` : ""}`,
        `${time.format(new Date(run.started * 1000))} · ${run.status} · ${whole.format(run.points)}${run.expected ? ` of ${whole.format(run.expected)}` : ""}`,
        run.status)))
  }
  model.on("runs", fill)
  model.on("pinned", fill)
  fill()
  el.classList.add("runs")
  return list
}
