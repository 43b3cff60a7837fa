// Who asked for what, when, and what came of it; newest first.
export function render({model, el}) {
  const list = make("ol", "audit")
  const clock = new Intl.DateTimeFormat(undefined, {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false})
  const fill = () => {
    list.replaceChildren(...model.entries.map((entry) => {
      const item = make("li", entry.level)
      const top = make("div", "top", item)
      make("span", "what", top).textContent = readable(entry.what, 80)
      make("time", "", top).textContent = clock.format(new Date(1000 * entry.time))
      make("div", "who", item).textContent = readable(entry.who, 80)
      if (entry.detail) { const detail = make("div", "detail", item); detail.textContent = readable(entry.detail, 300); detail.title = readable(entry.detail, 2000) }
      make("div", "came", item).textContent = readable(entry.came || "…", 400)
      return item
    }))
    if (!model.entries.length) make("li", "none", list).textContent = "Nobody has asked for anything yet."
  }
  model.on("entries", fill)
  fill()
  el.classList.add("audit-log")
  return list
}
