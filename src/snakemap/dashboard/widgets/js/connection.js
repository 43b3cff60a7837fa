// Whether the page is connected to its server, by the browser's own clock. The server sends a beat every second; after
// three seconds without one, or as soon as the socket closes, the page is cut off. Before the first beat it waits longer, as
// a slow browser may still be drawing. A page that is cut off shows so, takes no input, and polls the server at growing
// intervals. When beats come again over the old socket, the page goes on. When the server answers but the old socket stays
// silent, the page is loaded again at the same address.
//
// When the element of an embedded pane is out of the page for half a minute, the server closes its connection and frees its
// session, and its models are removed here. When the element is back in the page, the pane is loaded again.
//
// `show` gets `{text, refused}` while the page is cut off, and null when it is not.
const BEAT = "snakemap-beat"
// a page that is driven by a program on a busy machine may set a longer silence before it loads
const SILENT_MS = globalThis.snakemapSilentMs ?? 2800, CHECK_MS = 150, LATE_MS = 1500
const FIRST_MS = Math.max(SILENT_MS, 15000)
const ANSWER_MS = 5000, SETTLE_MS = 3000, PAUSE_MS = 1000, PAUSE_MAX_MS = 8000
const STEADY_MS = 10000, AGAIN_MAX_MS = 60000, EMBED_MS = 120000
// a test may set a shorter time; an element that is only moved is out of the page for less
const GONE_MS = globalThis.snakemapGoneMs ?? 30000, BACK_MS = 1000
const REOPENED = "snakemap-reopened", AGAIN = "snakemap-again-", STALE = "grayscale(1)"
const ICON = "data:image/svg+xml," + encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#c8281e"/>' +
  '<path d="M4 4l8 8M12 4l-8 8" stroke="#fff" stroke-width="2.4"/></svg>')
const replaced = (globalThis[Symbol.for("snakemap.replaced")] ??= new Map())

function followConnection({model, view, el, show}) {
  const shown = view.model.document
  applyWhenDrawn(shown)
  const own = !model.foreign && !model.embedded
  const root = own ? document.documentElement : outermost(model, view, el)
  const ends = new AbortController()
  let last = performance.now(), checked = last, steady = last, silent = FIRST_MS
  let armed = !model.foreign && !model.again, closed = false, lost = null, refused = false, leaving = false
  let gone = null, left = false, connection = null
  let wake = () => {}
  const pause = (ms) => new Promise((done) => { wake = done; setTimeout(done, ms) })

  const say = () => {
    if (!lost) return show(null)
    const since = lost.toLocaleTimeString("en-GB")
    const what = `No connection to the server since ${since}`
    const then = model.foreign ? "the page shows data from then" : "trying again"
    show({refused, text: refused ? `Not sent. ${what}; ${then}` : `${what}; ${then}`})
  }
  const mark = () => {
    root.style.setProperty("--sm-stale", lost ? STALE : "none")
    if (own) markTab(lost)
    say()
  }
  const cut = () => {
    if (lost || ends.signal.aborted || leaving) return
    lost = new Date(Date.now() - (closed ? 0 : performance.now() - last))
    mark()
    if (!model.foreign) void comeBack()
  }
  const beat = () => {
    last = performance.now()
    silent = SILENT_MS
    armed = true
    if (!lost) return
    lost = null
    refused = false
    steady = last
    mark()
    wake()
  }
  const check = () => {
    const now = performance.now(), late = now - checked > LATE_MS
    checked = now
    if (model.embedded) {
      gone = root.isConnected ? null : gone ?? now
      if (gone !== null && now - gone > GONE_MS) { abandon(); return }
    }
    if (!lost && own && now - steady > STEADY_MS) sessionStorage.removeItem(REOPENED)
    if (!armed || lost || now - last <= silent) return
    // after a late check beats may still be queued
    if (late) setTimeout(() => { if (performance.now() - last > silent) cut() }, 500)
    else cut()
  }

  const answers = async () => {
    try {
      const address = model.embedded ? new URL("../healthz", model.embedded) : new URL("healthz", location.href)
      const options = {cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(ANSWER_MS)}
      const answer = await fetch(address, options)
      // the page itself asks for a new sign-in
      if (own && (answer.type === "opaqueredirect" || answer.status === 401)) return true
      return answer.ok && (await answer.json()).status === "ok"
    } catch { return false }
  }
  const comeBack = async () => {
    let wait = PAUSE_MS
    while (lost && !ends.signal.aborted) {
      await pause(wait * (0.7 + 0.6 * Math.random()))
      wait = Math.min(wait * 1.6, PAUSE_MAX_MS)
      if (!lost || (model.embedded && !root.isConnected) || !(await answers())) continue
      if (!closed) {
        // late packets may still come over the old socket
        await pause(SETTLE_MS)
        if (!lost || !(await answers())) continue
      }
      if (own) await reopen()
      else await embedAgain(placed())
    }
  }
  const placed = () => view.root.el.parentElement ?? view.root.el
  const reopen = async () => {
    const before = Number(sessionStorage.getItem(REOPENED) ?? 0)
    const spread = document.visibilityState === "visible" ? 1000 : 8000
    await pause(before ? Math.min(2000 * 2 ** before, AGAIN_MAX_MS) : spread * Math.random())
    if (!lost || ends.signal.aborted) return
    sessionStorage.setItem(REOPENED, String(before + 1))
    leaving = true
    location.reload()
    await pause(AGAIN_MAX_MS)
    leaving = false
  }
  // an embedded pane: its script is run again beside it, and the new pane replaces it once drawn
  const embedAgain = async (place) => {
    if (!place.isConnected) return false
    const name = AGAIN + Math.random().toString(36).slice(2)
    const address = new URL(model.embedded)
    address.searchParams.set("bokeh-autoload-element", name)
    const script = document.createElement("script"), holder = document.createElement("div")
    holder.className = place.className
    holder.style.cssText = place.style.cssText
    script.id = name
    script.src = address.href
    let done = false
    replaced.set(name, () => {
      done = place.isConnected
      if (done) { leave(); place.remove() }
      wake()
      return done
    })
    script.addEventListener("error", () => wake())
    place.after(holder)
    holder.append(script)
    await pause(EMBED_MS)
    replaced.delete(name)
    if (!done) holder.remove()
    return done
  }
  // removes this document; the server is asked to close a connection that is open
  const leave = () => {
    if (left) return
    left = true
    if (closed) connection?.deref()?.close()
    else model.left = true
    ends.abort()
    const at = Bokeh.documents.indexOf(shown)
    if (at >= 0) Bokeh.documents.splice(at, 1)
    for (const one of [...(shown.views_manager?.roots ?? [])]) one.remove()
  }
  const abandon = () => {
    const place = placed()
    leave()
    const again = async () => {
      while (place.isConnected && !(await embedAgain(place))) await pause(PAUSE_MAX_MS)
      if (!place.isConnected) whenBack(place, again)
    }
    whenBack(place, again)
  }

  // input is refused while the page is cut off, and not sent later; the page says so
  const harmless = (event) => event.composedPath().some((node) => node instanceof HTMLAnchorElement && node.href) ||
    (event.type === "keydown" && (event.ctrlKey || event.metaKey || event.altKey || /^(Tab|Escape|Shift|F\d+)$/.test(event.key)))
  let calm
  const refuse = (event) => {
    if (!lost || harmless(event)) return
    event.preventDefault()
    event.stopImmediatePropagation()
    if (event.type !== "pointerdown" && event.type !== "keydown") return
    refused = true
    say()
    clearTimeout(calm)
    calm = setTimeout(() => { refused = false; say() }, 4000)
  }
  const guarded = own ? window : root
  for (const kind of ["pointerdown", "mousedown", "click", "dblclick", "keydown", "beforeinput"]) {
    guarded.addEventListener(kind, refuse, {capture: true, signal: ends.signal})
  }
  for (const kind of ["online", "visibilitychange"]) {
    (kind === "online" ? window : document).addEventListener(kind, () => { if (lost) wake() }, {signal: ends.signal})
  }
  shown.on_message(BEAT, beat)
  shown.on_event("connection_lost", (event) => {
    closed = true
    connection = event.connection
    if (left) connection.deref()?.close()  // else Bokeh would connect again
    else cut()
  })
  shown.on_event("client_reconnected", () => { closed = false; beat() })
  addEventListener("beforeunload", () => { leaving = true; setTimeout(() => { leaving = false }, 5000) }, {signal: ends.signal})
  const clock = setInterval(check, CHECK_MS)
  ends.signal.addEventListener("abort", () => { clearInterval(clock); shown.remove_on_message(BEAT, beat) })
  model.on("remove", () => ends.abort())
  if (own) document.documentElement.dataset.opened = ""
  // a page that was refused loads again by itself
  if (model.again) setTimeout(() => own ? location.reload() : embedAgain(placed()), 1000 * model.again * (1 + Math.random()))
  if (model.embedded) {
    const name = new URL(model.embedded).searchParams.get("bokeh-autoload-element") ?? ""
    // too late: another pane was requested, or the pane to replace is out of the page
    if (name.startsWith(AGAIN) && !replaced.get(name)?.()) setTimeout(() => { const place = placed(); leave(); place.remove() })
  }
}

// calls when an element is in the page again; neither timer nor callback keeps a removed element in memory
function whenBack(place, again) {
  const kept = new WeakRef(place)
  place.snakemapAgain = again
  const clock = setInterval(() => {
    const node = kept.deref()
    if (!node) clearInterval(clock)
    else if (node.isConnected) {
      clearInterval(clock)
      void node.snakemapAgain()
    }
  }, BACK_MS)
}

// the element that holds the whole pane
function outermost(model, view, el) {
  if (model.embedded) return view.root.el
  for (let node = el; node; node = node.assignedSlot ?? node.parentNode ?? node.host) {
    if (node.classList?.contains("snakemap")) return node
  }
  return el
}

// Title of the browser's tab: no connection, else how far the run is; then the name of the page.
const tabTitle = {run: "", lost: false, sign: ""}
function nameTab(change) {
  Object.assign(tabTitle, change)
  const {run, lost, sign} = tabTitle
  const name = document.title.startsWith(sign) ? document.title.slice(sign.length) : document.title
  tabTitle.sign = lost ? "⚠ no connection · " : run ? `${run} · ` : ""
  const title = tabTitle.sign + name
  if (document.title !== title) document.title = title
}

// title and icon of the browser's tab
function markTab(lost) {
  nameTab({lost: Boolean(lost)})
  let icons = [...document.querySelectorAll('link[rel~="icon"]')]
  if (!icons.length) {
    icons = [document.createElement("link")]
    icons[0].rel = "icon"
    document.head.append(icons[0])
  }
  for (const icon of icons) {
    icon.dataset.href ??= icon.getAttribute("href") ?? "favicon.ico"
    icon.href = lost ? ICON : icon.dataset.href
  }
}
