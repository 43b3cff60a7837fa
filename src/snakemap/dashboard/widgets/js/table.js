// A page of a table; values come from files and are only written as text.
export function render({model, el}) {
  const whole = new Intl.NumberFormat("en-US")
  let number = 0
  const ask = (row, column) => { model.ask = {number: ++number, row, column} }
  const root = make("div", "values")
  const view = make("div", "view", root)
  view.tabIndex = 0
  const table = make("table", "", view)
  const top = make("tr", "", make("thead", "", table))
  const body = make("tbody", "", table)
  const foot = make("div", "foot", root)
  const button = (text, title) => {
    const made = make("button", "", foot)
    made.type = "button"
    made.textContent = text
    made.title = title
    return made
  }
  const [first, back, next, last] = [button("«", "first rows"), button("‹", "rows before"), button("›", "rows after"), button("»", "last rows")]
  const said = make("span", "said", foot)
  const [left, right] = [button("◂", "columns before"), button("▸", "columns after")]
  const step = () => model.state.page ?? 100
  first.addEventListener("click", () => ask(0, model.state.column))
  back.addEventListener("click", () => ask(Math.max(0, model.state.row - step()), model.state.column))
  next.addEventListener("click", () => ask(model.state.row + step(), model.state.column))
  last.addEventListener("click", () => ask(Math.max(0, Math.ceil(model.state.of_rows / step() - 1) * step()), model.state.column))
  left.addEventListener("click", () => ask(model.state.row, Math.max(0, model.state.column - model.state.columns_page)))
  right.addEventListener("click", () => ask(model.state.row, model.state.column + model.state.columns_page))
  const fill = () => {
    const {heads = [], rows = [], row = 0, column = 0, of_rows = 0, of_columns = 0, columns_page = 1} = model.state
    keyed(top, ["", ...heads], (_, k) => k, () => make("th", ""), (cell, title) => write(cell, readable(title)))
    keyed(body, rows, (_, k) => row + k, () => {
      const line = make("tr", "")
      make("th", "", line)
      return line
    }, (line, values, k) => {
      while (line.cells.length > values.length + 1) line.lastChild.remove()
      while (line.cells.length < values.length + 1) make("td", "", line)
      write(line.cells[0], whole.format(row + k))
      values.forEach((value, j) => {
        const cell = line.cells[j + 1], text = readable(value, 2000)
        write(cell, text.length > 120 ? `${text.slice(0, 120)}…` : text)
        tip(cell, text.length > 20 ? text.slice(0, 2000) : "")
        cell.classList.toggle("number", typeof value === "number")
      })
    })
    const words = of_rows ? `rows ${whole.format(row)} to ${whole.format(row + rows.length - 1)} of ${whole.format(of_rows)}` +
      (of_columns > columns_page ? `, columns ${whole.format(column)} to ${whole.format(column + heads.length - 1)} of ${whole.format(of_columns)}` : "") : ""
    write(said, words)
    first.disabled = back.disabled = row <= 0
    next.disabled = last.disabled = row + rows.length >= of_rows
    left.style.display = right.style.display = of_columns > columns_page ? "" : "none"
    left.disabled = column <= 0
    right.disabled = column + heads.length >= of_columns
  }
  // another page begins at its top; new values of the same page keep the scroll position
  let page = null
  model.on("state", () => {
    const {row = 0, column = 0, of_columns = 0} = model.state, now = JSON.stringify([row, column, of_columns])
    fill()
    if (now !== page) view.scrollTop = 0
    page = now
  })
  fill()
  el.classList.add("value-table")
  return root
}
