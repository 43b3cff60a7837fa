// The summary table: one row a channel. Text only ever goes in as text.
export function render({model, el}) {
  const whole = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0})
  const tenth = new Intl.NumberFormat("en-US", {minimumFractionDigits: 1, maximumFractionDigits: 1})
  const heads = ["channel", "minimum", "maximum", "mean", "sum", "at row, column", "position of the maximum", "pixels"]
  const table = document.createElement("table")
  const head = table.createTHead().insertRow()
  for (const title of heads) {
    const cell = document.createElement("th")
    cell.textContent = title
    head.append(cell)
  }
  const body = table.createTBody()
  const note = document.createElement("caption")
  table.append(note)

  const few = new Intl.NumberFormat("en-US", {maximumSignificantDigits: 4})
  const number = (value, format) => typeof value === "number" && Math.abs(value) < 1000 && !Number.isInteger(value) ? few.format(value) : value === null || value === undefined ? "–" : format.format(value)
  const fill = () => {
    const {rows = [], caption = ""} = model.state
    write(note, caption)
    while (body.rows.length > rows.length) body.deleteRow(-1)
    rows.forEach((row, i) => {
      const line = body.rows[i] ?? body.insertRow()
      while (line.cells.length < heads.length) line.insertCell()
      const texts = [
        row.channel, number(row.minimum, whole), number(row.maximum, whole), number(row.mean, tenth),
        number(row.total, whole), row.at ?? "–", row.position ?? "–", number(row.points, whole),
      ]
      texts.forEach((text, k) => write(line.cells[k], text))
      line.cells[0].style.color = row.color
      line.cells[0].dataset.mark = row.mark ? "⚠" : ""
      line.cells[0].title = row.mark ?? ""
    })
  }
  model.on("state", fill)
  fill()
  el.classList.add("summary")
  return table
}
