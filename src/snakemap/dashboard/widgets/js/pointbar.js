// The point whose frame is shown. Names come from files: they are only written as text.
//   state: of ("newest", "point", "selection", "difference"), chosen, selection (whether there are such), place, trouble,
//     background (its point, or 0; absent where there can be none), note,
//     and of a point: point, last, counts ([{name, value, unit}]), file, row, path
export function render({model, el}) {
  const bar = make("div", "pointbar")
  const choice = make("div", "choice", bar)
  choice.setAttribute("role", "group")
  choice.setAttribute("aria-label", "which frame is shown")
  const steps = make("div", "steps", bar)
  const button = (kind, text, title, parent) => {
    const node = make("button", kind, parent)
    node.type = "button"
    node.textContent = text
    node.title = title
    node.setAttribute("aria-label", title)
    return node
  }
  make("span", "label", steps).textContent = "point"
  const before = button("before", "‹", "previous point of the scan (Shift + ←)", steps)
  const field = make("input", "point", steps)
  field.type = "number"
  field.min = 1
  field.setAttribute("aria-label", "point whose frame is shown")
  const after = button("after", "›", "next point of the scan (Shift + →)", steps)
  const of = make("span", "of", steps)
  const newest = button("newest", "Newest", "show the newest frame again", steps)
  const ground = make("div", "ground", bar)
  const use = button("use", "Use as background", "subtract this frame from all frames that are shown", ground)
  const drop = button("drop", "", "show frames as they are, without the background", ground)
  const reason = make("div", "reason", bar)
  const lines = ["place", "counts", "source"].map((kind) => make("div", kind, bar))

  const frames = {
    newest: button("frame-of", "Newest", "show the newest frame", choice),
    point: button("frame-of", "Point", "show the frame of the point that is chosen", choice),
    selection: button("frame-of", "Selection", "show the mean frame of the selected points", choice),
    difference: button("frame-of", "− rest", "show that minus the mean frame of all other points", choice),
  }

  let number = 0
  const ask = (what, value = null) => { model.ask = {number: ++number, what, value} }
  before.addEventListener("click", () => ask("step", -1))
  after.addEventListener("click", () => ask("step", 1))
  newest.addEventListener("click", () => ask("newest"))
  field.addEventListener("change", () => ask("go", Number(field.value)))
  use.addEventListener("click", () => ask("background"))
  drop.addEventListener("click", () => ask("no background"))
  for (const [of, node] of Object.entries(frames)) node.addEventListener("click", () => ask(of))

  const fill = () => {
    const {point = 0, last = 1, place = "", counts = [], file = "", row = "", path = "", trouble = ""} = model.state
    const {of: shown = "point", chosen = true, selection = false} = model.state
    const {background: under, note = ""} = model.state
    use.hidden = under === undefined || shown !== "point" || point === under
    drop.hidden = !under
    ground.hidden = use.hidden && drop.hidden
    write(drop, `× point ${quantity(under || 0)}`)
    write(reason, under ? note : "")
    choice.hidden = !selection
    newest.hidden = selection
    steps.hidden = shown !== "point"
    frames.point.hidden = !chosen
    for (const [name, node] of Object.entries(frames)) node.setAttribute("aria-pressed", String(name === shown))
    field.max = last
    if (el.getRootNode().activeElement !== field || Number(field.value) !== point) field.value = point
    before.disabled = point <= 1
    after.disabled = point >= last
    write(of, `of ${quantity(last)}`)
    const texts = [
      place,
      trouble || counts.map(({name, value, unit}) => `${readable(name, 40)} ${quantity(value, unit)}`).join("  "),
      [readable(file, 60), row].filter(Boolean).join(" · "),
    ]
    lines.forEach((line, k) => {
      write(line, texts[k])
      tip(line, k === 2 ? readable(path) : texts[k])
    })
    for (const line of lines) line.hidden = shown === "newest" || (shown !== "point" && line === lines[2])
    bar.dataset.trouble = trouble ? "yes" : "no"
  }
  model.on("state", fill)
  fill()
  return bar
}
