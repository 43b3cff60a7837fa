// The audit log: each action with its user, time and result, newest first.
export function render({model, el}) {
  const list = make("ol", "audit")
  const clock = new Intl.DateTimeFormat(undefined, {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false})
  const fill = () => {
    const none = {number: "none", none: "No actions yet"}
    keyed(list, model.entries.length ? model.entries : [none], (entry) => entry.number, (entry) => {
      const item = make("li", "")
      if (entry.none) return item
      const top = make("div", "top", item)
      make("span", "what", top)
      make("time", "", top)
      for (const name of ["who", "detail", "came"]) make("div", name, item)
      return item
    }, (item, entry) => {
      item.className = entry.none ? "none" : entry.level
      if (entry.none) { write(item, entry.none); return }
      const [top, user, detail, came] = item.children
      write(top.children[0], readable(entry.what, 80))
      write(top.children[1], clock.format(new Date(1000 * entry.time)))
      write(user, readable(entry.who, 80))
      write(detail, readable(entry.detail, 300))
      tip(detail, readable(entry.detail, 2000))
      write(came, readable(entry.came || "…", 400))
    })
  }
  model.on("entries", fill)
  fill()
  el.classList.add("audit-log")
  return list
}
