// The summary table: one row a channel. Content is only written as text.
export function render({model, el}) {
  const heads = ["channel", "minimum", "maximum", "mean", "sum", "at row, column", "position of the maximum", "pixels"]
  const box = document.createElement("div")
  box.className = "sheet"
  const table = document.createElement("table")
  const head = table.createTHead().insertRow()
  for (const title of heads) {
    const cell = document.createElement("th")
    cell.textContent = title
    head.append(cell)
  }
  const body = table.createTBody()
  const note = document.createElement("caption")
  table.prepend(note)  // the style sheet looks from it at the rows
  box.append(table)
  if (model.folds) {
    const fold = document.createElement("button")
    fold.type = "button"
    fold.className = "fold"
    const show = (folded) => {
      box.toggleAttribute("data-folded", folded)
      fold.textContent = folded ? "▴" : "▾"
      fold.title = folded ? "Show the summary table" : "Fold the summary table: the maps grow"
      fold.setAttribute("aria-label", fold.title)
      fold.setAttribute("aria-expanded", String(!folded))
    }
    fold.addEventListener("click", () => {
      show(!box.hasAttribute("data-folded"))
      localStorage.setItem("snakemap-summary", box.hasAttribute("data-folded") ? "folded" : "open")
    })
    box.append(fold)
    show(localStorage.getItem("snakemap-summary") === "folded")
  }

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
  return box
}
