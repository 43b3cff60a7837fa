// The summary table: one row a channel. Text only ever goes in as text.
export function render({model, el}) {
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

  const fill = () => {
    const {rows = [], caption = ""} = model.state
    write(note, caption)
    while (body.rows.length > rows.length) body.deleteRow(-1)
    rows.forEach((row, i) => {
      const line = body.rows[i] ?? body.insertRow()
      while (line.cells.length < heads.length) line.insertCell()
      const texts = [
        row.channel, ...[row.minimum, row.maximum, row.mean, row.total].map((value) => quantity(value, row.unit)),
        row.at ?? "–", row.position ?? "–", quantity(row.points),
      ]
      texts.forEach((text, k) => {
        write(line.cells[k], text)
        if (k) tip(line.cells[k], text)  // a narrow column cuts off long ones
      })
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
