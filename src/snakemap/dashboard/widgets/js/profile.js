// Draws the values of a map of one row, or of one column, as a line; the ends of its axis are those of the colors.
export default ({page, cells, mappers, sources, ranges, names, along, log}) => {
  const place = page.place
  if (!place) return
  const {left, bottom, dx, dy, rows, columns} = place.image
  const [first, step, count] = along === "row" ? [left, dx, columns] : [bottom, dy, rows]
  const at = Float64Array.from({length: count}, (_, number) => first + (number + 0.5) * step)
  const quietly = (model, changes) => model.setv(changes, {sync: false})
  names.forEach((name, number) => {
    const values = Float64Array.from(cells.data[name][0])
    if (values.length !== count) return  // the place of other cells is on its way
    quietly(sources[number], {data: along === "row" ? {x: at, y: values} : {x: values, y: at}})
    const {low, high} = mappers[number]
    if (!(high > low)) return
    const room = 0.06 * (high - low)
    const [start, end] = log ? [low / 1.2, high * 1.2] : [low === 0 ? 0 : low - room, high + room]
    quietly(ranges[number], {start, end})
  })
}
