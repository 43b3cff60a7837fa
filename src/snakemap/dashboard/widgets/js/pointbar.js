// The point whose frame is shown. Names come from files: they only ever go in as text.
//   state: point, last, place, counts ([{name, value, unit}]), file, row, path, trouble
export function render({model, el}) {
  const bar = make("div", "pointbar")
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
  const lines = ["place", "counts", "source"].map((kind) => make("div", kind, bar))

  let number = 0
  const ask = (what, value = null) => { model.ask = {number: ++number, what, value} }
  before.addEventListener("click", () => ask("step", -1))
  after.addEventListener("click", () => ask("step", 1))
  newest.addEventListener("click", () => ask("newest"))
  field.addEventListener("change", () => ask("go", Number(field.value)))

  const fill = () => {
    const {point = 0, last = 1, place = "", counts = [], file = "", row = "", path = "", trouble = ""} = model.state
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
    bar.dataset.trouble = trouble ? "yes" : "no"
  }
  model.on("state", fill)
  fill()
  return bar
}
