// The form of a plan: a field for each of its parameters, the estimate of the scan, and one confirmation.
export function render({model, el}) {
  const form = make("form", "plan")
  const head = make("div", "head", form)
  const title = make("h2", "", head)
  const close = make("button", "close", head)
  close.type = "button"
  close.textContent = "×"
  close.title = "Close without starting"
  const planLine = make("label", "field", form)
  make("span", "name", planLine).textContent = "plan"
  const plan = make("select", "", planLine)
  const about = make("p", "about", form)
  const sessionLine = make("label", "field", form)
  make("span", "name", sessionLine).textContent = "instrument session"
  const session = make("input", "", sessionLine)
  session.placeholder = "aa12345-1"
  session.maxLength = 40
  session.name = "instrument_session"
  const sessionFault = make("span", "fault", sessionLine)
  const fields = make("div", "fields", form)
  const foot = make("div", "foot", form)
  const hint = make("p", "hint", foot)
  const estimate = make("p", "estimate", foot)
  const trouble = make("p", "trouble", foot)
  const count = make("p", "count", foot)
  count.setAttribute("role", "status")
  const row = make("div", "row", foot)
  const back = make("button", "back", row)
  back.type = "button"
  const start = make("button", "start", row)
  start.type = "submit"
  let asked = 0, filled = -1, refused = 0, shown = "", timer = null
  const inputs = new Map()
  const ask = (what, more = {}) => { asked += 1; model.ask = {number: asked, what, ...more} }
  const values = () => Object.fromEntries([...inputs].map(([name, {input}]) =>
    [name, input.type === "checkbox" ? String(input.checked) : input.value]))
  const everything = () => ({values: values(), session: session.value.trim()})
  const later = () => { clearTimeout(timer); timer = setTimeout(() => ask("change", everything()), 250) }

  const makeField = (field) => {
    const line = make("label", "field", fields)
    line.dataset.kind = field.kind
    const name = make("span", "name", line)
    name.textContent = readable(field.name, 60) + (field.required ? " *" : "")
    name.title = readable(field.help, 1000)
    let input
    if (field.kind === "choice") {
      input = make("select", "", line)
      for (const choice of field.required ? field.choices : ["", ...field.choices]) {
        const option = make("option", "", input)
        option.value = choice
        option.textContent = readable(choice, 80)
      }
    } else if (field.kind === "json" && field.value.length > 40) {
      input = make("textarea", "", line)
      input.rows = 4
    } else {
      input = make("input", "", line)
      if (field.kind === "switch") input.type = "checkbox"
      if (field.kind === "number" || field.kind === "integer") input.inputMode = "decimal"
      if (field.kind === "device" && field.choices.length) {
        const list = make("datalist", "", line)
        list.id = `choices-${field.name}`
        for (const choice of field.choices) make("option", "", list).value = choice
        input.setAttribute("list", list.id)
      }
    }
    input.name = field.name
    input.autocomplete = "off"
    input.spellcheck = false
    const unit = make("span", "help", line)
    unit.textContent = readable(field.help, 90)
    unit.title = readable(field.help, 1000)
    const fault = make("span", "fault", line)
    input.addEventListener("input", later)
    inputs.set(field.name, {input, fault})
  }
  const put = (input, text) => { if (input.type === "checkbox") input.checked = text === "true"; else input.value = text }

  const fill = () => {
    const state = model.state
    form.hidden = !state.open
    if (!state.open) { shown = ""; return }
    title.textContent = readable(state.title, 80)
    keyed(plan, state.plans ?? [], (name) => name, (name) => {
      const option = make("option", "")
      option.value = name
      option.textContent = readable(name, 80)
      return option
    })
    plan.value = state.plan
    about.textContent = readable(state.about, 400)
    if (shown !== state.key) {
      shown = state.key
      inputs.clear()
      fields.replaceChildren()
      for (const field of state.fields ?? []) makeField(field)
      session.value = sessionStorage.getItem("snakemap-session") || state.session || ""
      filled = -1
    }
    if (filled !== state.filled) {
      filled = state.filled
      for (const [name, text] of Object.entries(state.values ?? {})) if (inputs.has(name)) put(inputs.get(name).input, text)
    }
    const faults = state.faults ?? {}
    const all = [...inputs, ["instrument_session", {input: session, fault: sessionFault}]]
    for (const [name, {input, fault}] of all) {
      fault.textContent = readable(faults[name] ?? "", 300)
      input.setAttribute("aria-invalid", String(name in faults))
    }
    hint.textContent = readable(state.hint, 300)
    estimate.textContent = readable(state.estimate, 300)
    const elsewhere = Object.keys(faults).filter((name) => !inputs.has(name) && name !== "instrument_session")
    trouble.textContent = readable([state.trouble, ...elsewhere.map((name) => `${name} ${faults[name]}`)].filter(Boolean).join(" "), 600)
    const wrong = Object.keys(faults).length
    write(count, wrong ? `${wrong} ${wrong === 1 ? "field needs" : "fields need"} attention` : "")
    const confirming = !!state.confirm
    for (const {input} of inputs.values()) input.disabled = confirming || !!state.busy
    session.disabled = plan.disabled = confirming || !!state.busy
    form.classList.toggle("confirming", confirming)
    if (confirming) estimate.textContent = readable(state.confirm, 400)
    start.textContent = state.busy ? "starting…" : confirming ? "Start" : "Check and start…"
    start.disabled = !!state.busy
    back.textContent = confirming ? "Back" : "Cancel"
    if ((state.refused ?? 0) !== refused) {
      refused = state.refused ?? 0
      const first = [["instrument_session", {input: session}], ...inputs].find(([name]) => name in faults)?.[1].input
      if (first) { first.focus({preventScroll: true}); first.closest(".field").scrollIntoView({block: "nearest"}) }
    }
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    clearTimeout(timer)
    if (session.value.trim()) sessionStorage.setItem("snakemap-session", session.value.trim())
    ask(model.state.confirm ? "start" : "check", everything())
  })
  form.addEventListener("keydown", (event) => { if (event.key === "Escape") ask(model.state.confirm ? "back" : "close") })
  back.addEventListener("click", () => ask(model.state.confirm ? "back" : "close"))
  close.addEventListener("click", () => ask("close"))
  plan.addEventListener("change", () => ask("plan", {plan: plan.value}))
  session.addEventListener("input", later)
  model.on("state", fill)
  fill()
  el.classList.add("plan-form")
  return form
}
