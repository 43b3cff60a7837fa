// The event log: any number of events, of which the browser has those on the screen and some around them. Content of
// documents is only written as text.
export function render({model, el}) {
  const HEIGHT = 24, AROUND = 100, KEPT = 3000
  const KINDS = ["start", "descriptor", "stream_resource", "resource", "stream_datum", "datum", "event", "event_page", "stop", "settled", "worker"]
  const whole = new Intl.NumberFormat("en-US")
  const plural = (n, one, many) => `${whole.format(n)} ${n === 1 ? one : many ?? `${one}s`}`
  const bytes = (n) => n < 1000 ? `${n} B` : n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : `${(n / 1e6).toFixed(1)} MB`
  const two = (n, width = 2) => String(n).padStart(width, "0")
  const moment = (cursor) => new Date(Number(cursor.split("-")[0]))
  const day = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${two(date.getMilliseconds(), 3)}`
  let number = 0
  // of two changes of a property in close succession the server may see only the second: so the last few are sent
  let asked = []
  const ask = (what, more) => {
    asked = [...asked.filter((one) => one.what !== "window" && one.number > number - 8), {number: ++number, what, ...more}]
    model.ask = {asked}
  }

  const theme = model.base ? "" : model.theme || localStorage.getItem("snakemap-theme")
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme

  const root = make("div", "log")
  const bar = make("header", "", root)
  const home = make("a", "home", bar)
  home.href = `${model.base}dashboard`
  home.textContent = "snakemap"
  home.title = "to the dashboard"
  make("span", "title", bar).textContent = "log"
  const run = make("select", "run", bar)
  run.setAttribute("aria-label", "run")
  const search = make("input", "search", bar)
  search.type = "search"
  search.placeholder = "text in the document"
  search.maxLength = 200
  search.setAttribute("aria-label", "text in the document")
  search.title = 'search in the JSON text of the documents, like "exit_status": "abort"   ( / )'
  make("span", "gap", bar)
  const button = (name, text, title, does) => {
    const made = make("button", name, bar)
    made.type = "button"
    made.textContent = text
    made.title = title
    made.addEventListener("click", does)
    return made
  }
  const pause = button("pause", "Pause", "stop the list; new events are still recorded", () => ask("pause", {on: !model.state.paused}))
  button("begin", "⤒", "go to the first event in the store", () => { follow = false; ask("time", {ms: 0}) })
  const time = make("input", "time", bar)
  time.type = "datetime-local"
  time.step = 1
  time.setAttribute("aria-label", "go to this time")
  time.title = "go to this time"
  button("end", "⤓", "go to the newest event and follow", () => toEnd())
  const save = make("a", "save", bar)
  save.textContent = "Download"
  save.title = "save the listed events as JSON lines, which snakemap replay can read"
  save.setAttribute("download", "snakemap-events.jsonl")
  const chips = make("div", "chips", root)
  chips.setAttribute("role", "group")
  chips.setAttribute("aria-label", "documents")
  const past = make("div", "past", root)
  const pastWords = make("span", "", past)
  const step = (text, does) => {
    const made = make("button", "", past)
    made.type = "button"
    made.textContent = text
    made.addEventListener("click", does)
    return made
  }
  const earlier = step("Earlier", () => ask("earlier"))
  step("Later", () => ask("later"))
  step("Newest", () => toEnd())
  const middle = make("div", "middle", root)
  const view = make("div", "view", middle)
  view.tabIndex = 0
  view.setAttribute("role", "listbox")
  view.setAttribute("aria-label", "events")
  const space = make("div", "space", view)
  const empty = make("div", "empty", view)
  const detail = make("aside", "detail", middle)
  detail.hidden = true
  const note = make("div", "note", root)
  note.setAttribute("aria-live", "polite")

  // places of all events, and the rows that are here
  let epoch = -1, start = 0, stop = 0, fresh = 0, searched = 1, gone = 0
  let cache = new Map(), nodes = new Map(), drawn = null
  let follow = true, picked = "", requested = ""
  const old = () => model.state.old
  const from = () => old() ? 0 : start
  const count = () => old() ? old().rows.length : stop - start
  const rowAt = (place) => old() ? old().rows[place] : cache.get(place)

  const span = () => {
    const first = Math.floor(view.scrollTop / HEIGHT), lines = Math.ceil(view.clientHeight / HEIGHT)
    return [from() + Math.max(0, first - 4), from() + Math.min(count(), first + lines + 5)]
  }
  const want = () => {
    if (old()) return
    const [first, last] = span()
    let missing = false
    for (let place = first; place < last && !missing; place++) missing = !cache.has(place)
    const key = `${epoch} ${first} ${last} ${follow} ${start}`
    if ((missing || requested.split(" ")[3] !== String(follow)) && key !== requested) {
      requested = key
      ask("window", {start: first - AROUND, stop: last + AROUND, tail: follow})
    }
  }
  const wantSoon = () => { clearTimeout(wantSoon.timer); wantSoon.timer = setTimeout(want, 30) }

  // The scroll position that this script last set. Another one is the user's: at the newest event the list follows,
  // elsewhere the visible rows stay in place while events come and go before and after them.
  let left = 0
  const noticeScroll = () => {
    if (Math.abs(view.scrollTop - left) < 1) return
    left = view.scrollTop
    if (!old()) follow = left + view.clientHeight >= view.scrollHeight - HEIGHT / 2
  }
  const scrollTo = (top) => { view.scrollTop = top; left = view.scrollTop }
  const fitSpace = () => {
    noticeScroll()
    space.style.height = `${count() * HEIGHT}px`
    left = view.scrollTop  // a shorter list is cut by the browser
  }

  const draw = (row, place) => {
    const line = make("div", "row")
    line.style.top = `${(place - from()) * HEIGHT}px`
    line.setAttribute("role", "option")
    if (!row) { line.classList.add("coming"); line.textContent = "…"; return line }
    const [cursor, name, uid, gist, size] = row, date = moment(cursor)
    line.dataset.cursor = cursor
    line.dataset.name = KINDS.includes(name) ? name : "other"
    const when = make("span", "when", line)
    make("span", "day", when).textContent = `${day(date).slice(5)} `
    make("span", "", when).textContent = clock(date)
    make("span", "name", line).textContent = readable(name, 60) || "?"
    const owner = make("span", "owner", line)
    owner.textContent = uid ? readable(uid, 300).slice(0, 8) : ""
    make("span", "gist", line).textContent = readable(gist, 200)
    make("span", "size", line).textContent = bytes(size)
    line.title = [`${day(date)} ${clock(date)}`, uid && `run ${readable(uid, 100)}`, cursor].filter(Boolean).join("\n")
    line.addEventListener("click", () => pick(place))
    mark(line)
    return line
  }
  const mark = (line) => {
    const is = Boolean(picked) && line.dataset.cursor === picked
    line.setAttribute("aria-selected", String(is))
  }
  const paint = () => {
    fitSpace()
    if (follow && !old()) scrollTo(view.scrollHeight)
    const [first, last] = span(), base = old() ? `old ${old().begins}` : `${epoch}`
    if (base !== drawn) { drawn = base; nodes.clear(); space.replaceChildren() }
    for (const [place, node] of nodes) {
      if (place < first || place >= last || (node.classList.contains("coming") && rowAt(place))) { node.remove(); nodes.delete(place); continue }
      // earlier rows may have been removed
      const top = `${(place - from()) * HEIGHT}px`
      if (node.style.top !== top) node.style.top = top
    }
    for (let place = first; place < last; place++) {
      if (nodes.has(place)) continue
      const node = draw(rowAt(place), place)
      nodes.set(place, node)
      space.append(node)
    }
    if (cache.size > KEPT) for (const place of cache.keys()) if (place < first - KEPT / 3 || place > last + KEPT / 3) cache.delete(place)
    say()
    want()
  }
  const paintSoon = () => { if (!paintSoon.waits) { paintSoon.waits = true; requestAnimationFrame(() => { paintSoon.waits = false; paint() }) } }

  view.addEventListener("scroll", () => {
    noticeScroll()
    paintSoon()
    wantSoon()
  })
  const toEnd = () => { follow = true; requested = ""; ask("live"); paintSoon() }
  const show = (place) => {
    follow = false
    scrollTo(Math.max(0, (place - from()) * HEIGHT - view.clientHeight / 3))
    paintSoon()
  }

  const pick = (place) => {
    const row = rowAt(place)
    if (!row) return
    picked = row[0]
    if (follow && place < from() + count() - Math.floor(view.clientHeight / HEIGHT / 2)) follow = false
    for (const node of nodes.values()) if (node.dataset.cursor) mark(node)
    ask("open", {cursor: picked})
  }
  const placeOf = () => {
    for (const [place, node] of nodes) if (node.dataset.cursor === picked) return place
    return null
  }
  let there = false
  const onKey = (event) => {
    if (root.isConnected) there = true
    else if (there) { keys.removeEventListener("keydown", onKey); return }
    if (event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT", "PRE"].includes(event.composedPath()[0]?.tagName)) return
    const page = Math.max(1, Math.floor(view.clientHeight / HEIGHT) - 1)
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const here = placeOf(), place = (here ?? span()[0] + 4) + (event.key === "ArrowDown" ? 1 : -1)
      if (here !== null && (place < from() || place >= from() + count())) return
      const top = (place - from()) * HEIGHT
      if (top < view.scrollTop) scrollTo(top)
      else if (top + HEIGHT > view.scrollTop + view.clientHeight) scrollTo(top + HEIGHT - view.clientHeight)
      follow = false
      paint()
      pick(place)
    } else if (event.key === "End") toEnd()
    else if (event.key === "Home") { follow = false; scrollTo(0); paintSoon() }
    else if (event.key === "PageDown" || event.key === "PageUp") view.scrollTop += (event.key === "PageDown" ? 1 : -1) * page * HEIGHT
    else if (event.key === "Escape") close()
    else if (event.key === "/") search.focus()
    else return
    event.preventDefault()
  }
  // on our own page wherever the focus is, except in text fields; embedded only within the log
  const keys = model.base ? root : document
  keys.addEventListener("keydown", onKey)

  // filters
  // the requested filter counts until the server has applied it: two clicks may be faster
  let wish = null
  const wished = () => wish ?? {run: "", names: [], text: "", ...model.state.filter}
  const filter = (change) => {
    wish = {...wished(), ...change}
    ask("filter", wish)
  }
  const same = (a, b) => a.run === b.run && a.text === b.text && [...a.names].sort().join("\n") === [...b.names].sort().join("\n")
  run.addEventListener("change", () => filter({run: run.value}))
  search.addEventListener("input", () => { clearTimeout(search.timer); search.timer = setTimeout(() => filter({text: search.value}), 250) })
  search.addEventListener("keydown", (event) => { if (event.key === "Escape") { search.value = ""; filter({text: ""}); view.focus() } })
  time.addEventListener("change", () => {
    const ms = new Date(time.value).getTime()
    if (Number.isFinite(ms) && ms > 0) { follow = false; ask("time", {ms}) }
  })
  const option = (value, text) => {
    const made = make("option", "")
    made.value = value
    made.textContent = text
    return made
  }
  const fillRuns = () => {
    const {runs = [], filter: now = {}} = model.state
    const key = JSON.stringify([runs, now.run])
    if (key === fillRuns.key) return
    fillRuns.key = key
    const known = runs.some(([uid]) => uid === now.run)
    const offered = [["", "all runs"], ["-", "no run"],
      ...(now.run && now.run !== "-" && !known ? [[now.run, `${readable(now.run, 60).slice(0, 8)}`]] : []),
      ...runs.map(([uid, words]) => [uid, `${readable(uid, 60).slice(0, 8)}  ${readable(words, 60)}`])]
    keyed(run, offered, ([uid]) => uid, ([uid]) => option(uid, ""), (node, [, words]) => write(node, words))
    run.value = now.run ?? ""
    run.title = readable(now.run, 100)
  }
  const fillChips = () => {
    const {names = [], filter: now = {}} = model.state
    const key = JSON.stringify([names, now.names])
    if (key === fillChips.key) return
    fillChips.key = key
    const rank = (name) => KINDS.includes(name) ? KINDS.indexOf(name) : KINDS.length
    const chosen = new Set(now.names ?? [])
    keyed(chips, [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1)), (name) => name, (name) => {
      const chip = make("button", "chip")
      chip.type = "button"
      chip.textContent = readable(name, 60)
      chip.addEventListener("click", () => {
        const next = new Set(wished().names)
        if (!next.delete(name)) next.add(name)
        filter({names: [...next]})
      })
      return chip
    }, (chip, name) => chip.setAttribute("aria-pressed", String(chosen.has(name))))
  }

  const fillPast = () => {
    const found = old()
    past.hidden = !found
    if (!found) return
    write(pastWords, found.rows.length
      ? `${plural(found.rows.length, "event")} older than the list, from ${day(moment(found.rows[0][0]))} ${clock(moment(found.rows[0][0]))} on`
      : "no matching events among the older events that were searched")
    earlier.disabled = !found.before
  }

  const say = () => {
    const state = model.state, {run: uid, names = [], text} = state.filter ?? {}
    const filtered = Boolean(uid || names.length || text)
    const parts = []
    if (state.trouble) parts.push(readable(state.trouble, 300))
    if (old()) parts.push(plural(old().rows.length, "event"))
    else if (filtered) parts.push(`${plural(count(), "event")} of ${whole.format(state.kept ?? 0)}`)
    else parts.push(plural(count(), "event"))
    if (!state.loaded) parts.push("reading earlier events…")
    else if (searched < 1 && filtered) parts.push(`searching, ${Math.floor(100 * searched)} %`)
    if (state.paused) parts.push(fresh ? `paused, ${whole.format(fresh)} new` : "paused")
    else if (!follow && !old()) parts.push("not following new events; press End to follow")
    write(note, parts.join(" · "))
    note.classList.toggle("bad", Boolean(state.trouble))
    const nothing = count() === 0
    write(empty, !nothing ? "" : state.trouble ? "" : !state.loaded || searched < 1 ? "searching…" : filtered ? "No matching events" : "No events yet")
  }
  const fillDownload = () => {
    const {filter: now = {}, frozen} = model.state
    const query = new URLSearchParams()
    if (now.run) query.set("run", now.run)
    for (const name of now.names ?? []) query.append("name", name)
    if (now.text) query.set("text", now.text)
    if (frozen) query.set("until", frozen)
    save.href = `${model.base}events?${query}`
  }
  let wasOld = null
  const fillState = () => {
    const state = model.state
    if (wish && state.filter && (state.trouble || same(wish, state.filter))) wish = null
    fillRuns()
    fillChips()
    fillPast()
    fillDownload()
    if (!search.matches(":focus") && state.filter && search.value !== state.filter.text) search.value = state.filter.text
    pause.textContent = state.paused ? "Resume" : "Pause"
    pause.setAttribute("aria-pressed", String(Boolean(state.paused)))
    const now = old() ? old().begins : null
    if (now !== wasOld) {
      wasOld = now
      requested = ""
      if (now !== null) { follow = false; requestAnimationFrame(() => scrollTo(0)) }
    }
    paintSoon()
  }
  const fillNews = () => {
    const news = model.news
    if (news.epoch === undefined) return
    noticeScroll()
    if (news.epoch !== epoch) { epoch = news.epoch; cache = new Map(); follow = !old(); requested = ""; start = news.start }
    const moved = start - news.start
    ;({start, stop, fresh, searched} = news)
    news.rows.forEach((row, k) => cache.set(news.from + k, row))
    if (moved && !follow && !old()) {
      const top = view.scrollTop + moved * HEIGHT
      fitSpace()
      scrollTo(top)
    }
    if (news.go?.number && news.go.number !== gone) {
      gone = news.go.number
      fitSpace()
      show(news.go.place)
    }
    if (moved) paint()  // at once: lines and scroll position belong together
    else paintSoon()
  }

  // one event
  const close = () => { picked = ""; detail.hidden = true; for (const node of nodes.values()) mark(node); paintSoon() }
  const fillDetail = () => {
    const chosen = model.chosen
    if (!chosen.cursor || chosen.cursor !== picked) return
    detail.hidden = false
    const head = make("div", "head"), date = moment(chosen.cursor)
    make("span", "name", head).textContent = readable(chosen.name, 60) || "?"
    make("span", "gap", head)
    const act = (tag, text, title) => {
      const made = make(tag, "", head)
      made.textContent = text
      made.title = title
      if (tag === "button") made.type = "button"
      return made
    }
    if (!chosen.trouble) {
      const copy = act("button", "Copy", "copy this text")
      copy.addEventListener("click", () => navigator.clipboard?.writeText(chosen.text).then(() => { copy.textContent = "Copied" }, () => {}))
      const link = act("a", "Download", "download the whole document")
      link.href = `${model.base}events?cursor=${encodeURIComponent(chosen.cursor)}`
      link.setAttribute("download", `snakemap-${chosen.cursor}.jsonl`)
    }
    act("button", "✕", "close").addEventListener("click", close)
    const facts = make("div", "facts")
    if (chosen.run) {
      const only = make("button", "only", facts)
      only.type = "button"
      only.textContent = `run ${readable(chosen.run, 80)}`
      only.title = "list only this run"
      only.addEventListener("click", () => filter({run: chosen.run}))
    }
    make("span", "faint", facts).textContent = [`${day(date)} ${clock(date)}`, chosen.cursor, chosen.size !== undefined && bytes(chosen.size), !chosen.whole && "shortened"].filter(Boolean).join(" · ")
    const text = make("pre", "text")
    text.tabIndex = 0
    text.textContent = chosen.trouble ?? chosen.text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd")
    detail.replaceChildren(head, facts, text)
    paintSoon()
  }

  model.on("state", fillState)
  model.on("news", fillNews)
  model.on("chosen", fillDetail)
  fillState()
  fillNews()
  const resized = new ResizeObserver(() => {
    left = view.scrollTop  // a higher list shows more of what there is
    if (root.isConnected) paintSoon()
  })
  resized.observe(view)
  el.classList.add("event-log")
  return root
}
