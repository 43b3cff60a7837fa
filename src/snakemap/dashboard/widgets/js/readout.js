// Writes the cell under the pointer: coordinates with units, row and column, counts of every channel. Without a pointer the
// line holds the note on the run. With a chosen point, its distance to the pointer too.
export default ({page, cells, readout, names, point}, event) => {
  const place = page.place
  const rest = () => readout.setv({text: page.idle || "&nbsp;"}, {sync: false})
  if (event.event_name === "mouseleave") page._pointed = false
  if (event.event_name === "mousemove") page._pointed = true
  else if (!page._pointed) rest()
  if (!place || event.event_name !== "mousemove") return
  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
  const {x, y} = event
  let [column, row] = [Math.floor((x - place.left) / place.dx), Math.floor((y - place.bottom) / place.dy)]
  if (column < 0 || row < 0 || column >= place.columns || row >= place.rows) {
    rest()
    return
  }
  const at = {
    column: Math.floor((x - place.image.left) / place.image.dx),
    row: Math.floor((y - place.image.bottom) / place.image.dy),
  }
  const inside = at.column >= 0 && at.row >= 0 && at.column < place.image.columns && at.row < place.image.rows
  const number = inside ? at.row * place.image.columns + at.column : -1
  const [center_x, center_y] = [place.left + (column + 0.5) * place.dx, place.bottom + (row + 0.5) * place.dy]
  if (place.fast_falls) column = place.columns - 1 - column
  if (place.slow_falls) row = place.rows - 1 - row
  // coordinates to a tenth of a step; steps below six decimals with a power of ten
  const digits = (value, step) => {
    const decimals = Math.ceil(-Math.log10(Math.abs(step))) + 1
    if (decimals <= 6 || value === 0) return value.toFixed(Math.min(6, Math.max(0, decimals)))
    return value.toExponential(Math.min(9, Math.max(1, decimals + Math.floor(Math.log10(Math.abs(value))))))
  }
  const item = (name, value, unit = "", kind = "") =>
    `<span class="item"><span class="name">${escaped(name)}</span> <span class="value ${kind}">${value}${unit ? " " + escaped(unit) : ""}</span></span>`
  const counts = names.map((name, k) => item(name, escaped(quantity(inside ? cells.data[name][0][number] : NaN, place.units[k])), "", place.units[k] && "unit"))
  const where = []
  if (place.fast.known) where.push(item(place.fast.name, digits(center_x, place.dx), place.fast.unit))
  if (place.slow.known) where.push(item(place.slow.name, digits(center_y, place.dy), place.slow.unit))
  const [from_x] = point.data.x, [from_y] = point.data.y
  if (from_x !== undefined && place.fast.known && place.slow.known) {
    const [across, up] = [x - from_x, y - from_y], step = Math.min(Math.abs(place.dx), Math.abs(place.dy))
    if (place.fast.unit === place.slow.unit) where.push(item("distance", digits(Math.hypot(across, up), step), place.fast.unit))
    else where.push(item("from the point", `${digits(across, place.dx)} ${escaped(place.fast.unit)}, ${digits(up, place.dy)}`, place.slow.unit))
  }
  const block = place.step > 1 ? item("mean of", `${place.step} × ${place.step}`) : ""
  if (place.exchanged) [row, column] = [column, row]
  const cell = place.indexed ? item("row", row, "", "cell") + item("column", column, "", "cell") : ""
  const text = `<div class="readout">${where.join("")}${cell}${counts.join("")}${block}</div>`
  readout.setv({text}, {sync: false})
}
