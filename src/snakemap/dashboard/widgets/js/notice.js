// A sound, and where the browser allows it a notice, when the run that is shown ends. Off until the user presses the bell;
// the browser remembers it. Browsers have notices for pages over https only.
const NOTICE = "snakemap-notice"
const BELL = '<svg viewBox="0 0 16 16" width="15" height="15" aria-hidden="true" fill="none" stroke="currentColor" ' +
  'stroke-width="1.4" stroke-linejoin="round" stroke-linecap="round"><path d="M3 12c1-1 1.4-2.3 1.4-4.6C4.4 4.6 6 3 8 3' +
  's3.6 1.6 3.6 4.4c0 2.3.4 3.6 1.4 4.6zM6.7 14h2.6"/><path class="off" d="M2.5 2.5l11 11"/></svg>'
const TONES = {complete: [660, 880], other: [440, 330, 220]}

function runNotice(bar) {
  const button = make("button", "bell", bar)
  button.type = "button"
  button.innerHTML = BELL
  const notices = globalThis.isSecureContext && "Notification" in globalThis
  let sound = null, last = null
  const wanted = () => localStorage.getItem(NOTICE) === "on"
  const show = () => {
    button.setAttribute("aria-pressed", String(wanted()))
    button.title = wanted() ? "No sound when the run ends" : `Sound${notices ? " and notice" : ""} when the run ends`
    button.setAttribute("aria-label", button.title)
  }
  // browsers let a page sound only after a press on it
  const prepare = () => {
    sound ??= new AudioContext()
    if (sound.state === "suspended") void sound.resume()
  }
  const play = (tones) => {
    if (!sound || sound.state !== "running") return
    tones.forEach((hertz, place) => {
      const begin = sound.currentTime + 0.22 * place, tone = sound.createOscillator(), volume = sound.createGain()
      tone.frequency.value = hertz
      volume.gain.setValueAtTime(0.25, begin)
      volume.gain.exponentialRampToValueAtTime(0.001, begin + 0.2)
      tone.connect(volume).connect(sound.destination)
      tone.start(begin)
      tone.stop(begin + 0.21)
    })
  }
  button.addEventListener("click", () => {
    localStorage.setItem(NOTICE, wanted() ? "off" : "on")
    if (wanted()) {
      prepare()
      play(TONES.complete.slice(1))
      if (notices && Notification.permission === "default") void Notification.requestPermission()
    }
    show()
  })
  addEventListener("pointerdown", () => { if (wanted()) prepare() }, {capture: true})
  show()
  return ({uid, status, plan, figures}) => {
    const ended = last && uid && last.uid === uid && last.status === "running" && status !== "running"
    last = {uid, status}
    if (!ended || !wanted()) return
    play(TONES[status] ?? TONES.other)
    if (notices && Notification.permission === "granted") {
      new Notification(`${readable(plan, 80)}: ${status}`, {body: readable(figures, 120), tag: `snakemap-${uid}`})
    }
  }
}
