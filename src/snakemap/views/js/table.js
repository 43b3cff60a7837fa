// A page of a table; values come from files and only ever go in as text.
export function render({model, el}) {
  const whole = new Intl.NumberFormat("en-US")
  let number = 0
  const ask = (row, column) => { model.ask = {number: ++number, row, column} }
  const root = make("div", "values")
  const view = make("div", "view", root)
  view.tabIndex = 0
  const table = make("table", "", view)
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
    const body = document.createElement("tbody")
    const top = document.createElement("tr")
    for (const title of ["", ...heads]) {
      const cell = document.createElement("th")
      cell.textContent = readable(title)
      top.append(cell)
    }
    const head = document.createElement("thead")
    head.append(top)
    rows.forEach((values, k) => {
      const line = body.insertRow()
      const count = document.createElement("th")
      count.textContent = whole.format(row + k)
      line.append(count)
      for (const value of values) {
        const cell = line.insertCell()
        const text = readable(value, 2000)
        cell.textContent = text.length > 120 ? `${text.slice(0, 120)}…` : text
        if (text.length > 20) cell.title = text.slice(0, 2000)
        if (typeof value === "number") cell.className = "number"
      }
    })
    table.replaceChildren(head, body)
    said.textContent = of_rows ? `rows ${whole.format(row)} to ${whole.format(row + rows.length - 1)} of ${whole.format(of_rows)}` +
      (of_columns > columns_page ? `, columns ${whole.format(column)} to ${whole.format(column + heads.length - 1)} of ${whole.format(of_columns)}` : "") : ""
    first.disabled = back.disabled = row <= 0
    next.disabled = last.disabled = row + rows.length >= of_rows
    left.style.display = right.style.display = of_columns > columns_page ? "" : "none"
    left.disabled = column <= 0
    right.disabled = column + heads.length >= of_columns
  }
  model.on("state", () => { fill(); view.scrollTop = 0 })
  fill()
  el.classList.add("value-table")
  return root
}
