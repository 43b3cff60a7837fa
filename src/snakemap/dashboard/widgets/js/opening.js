// Runs before the document of the page has arrived. If it never arrives, because the server is gone or the session token is
// too old, the page is loaded again at growing intervals; `connection.js` takes over once the document is there.
(() => {
  const FIRST_MS = 5000, FIRST_MAX_MS = 60000, BETWEEN_MS = 2000, ANSWERS = 3, REOPENED = "snakemap-reopened"
  const root = document.documentElement
  const opened = () => "opened" in root.dataset
  const pause = (ms) => new Promise((done) => setTimeout(done, ms * (0.8 + 0.4 * Math.random())))
  const answers = async () => {
    const options = {cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(5000)}
    try {
      const answer = await fetch("healthz", options)
      return answer.ok || answer.type === "opaqueredirect" || answer.status === 401
    } catch { return false }
  }
  const say = (text) => {
    const line = document.createElement("p")
    line.setAttribute("role", "status")
    line.style.cssText = "position: fixed; inset: 0 0 auto 0; z-index: 1000; margin: 0; padding: 12px 16px; font: 14px sans-serif; " +
      "background: var(--sm-panel, #fff); color: var(--sm-text, #1a1f27); border-bottom: 2px solid var(--sm-bad, #c8281e)"
    line.textContent = text
    document.body.append(line)
    return line
  }
  addEventListener("load", async () => {
    const before = Number(sessionStorage.getItem(REOPENED) ?? 0)
    await pause(Math.min(FIRST_MS * 2 ** before, FIRST_MAX_MS))
    if (opened()) return
    const line = say("No connection to the server; trying again")
    // the server answers requests in order: an answer to these means that the document was answered, too
    for (let number = 0; number < ANSWERS && !opened();) {
      number = (await answers()) ? number + 1 : 0
      await pause(BETWEEN_MS)
    }
    if (opened()) return line.remove()
    sessionStorage.setItem(REOPENED, String(before + 1))
    location.reload()
  })
})()
