// Fits the ranges of a figure to the chosen proportions, whatever the size of the screen: around the whole map, or around the
// zoom that the server asks for. A zoom or pan by hand stays in view.
export default ({page, figure: usual, x_range, y_range}) => {
  const place = page.place, figure = page._enlarged ?? usual
  // a figure that is not on the page, or not yet, has no size
  if (!place || figure.properties.inner_width.is_unset) return
  const [width, height] = [figure.inner_width, figure.inner_height]
  if (!width || !height) return
  const state = (page._fitted ??= {target: null})
  const {left, right, bottom, top, dx, dy, aspect} = place
  const around = ([x0, x1, y0, y1]) => {
    let [wide, high] = [x1 - x0, y1 - y0]
    // a single row would be too thin to see
    if (aspect !== "fill" && !(place.rows === 1 || place.columns === 1)) {
      const [unit_x, unit_y] = aspect === "true distances" ? [1, 1] : [dx, dy]
      const per_pixel = Math.max(wide / unit_x / width, Math.abs(high) / unit_y / height)
      wide = per_pixel * width * unit_x
      high = Math.sign(high) * per_pixel * height * unit_y  // negative where rows run downwards
    }
    const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2]
    return [x - wide / 2, x + wide / 2, y - high / 2, y + high / 2]
  }
  const seen = [x_range.start, x_range.end, y_range.start, y_range.end]
  const near = (ranges) => ranges && ranges.every((end, k) =>
    Math.abs(end - seen[k]) < 1e-6 * Math.abs(ranges[k < 2 ? 1 : 3] - ranges[k < 2 ? 0 : 2]))
  // a zoom stays while the coordinates mean the same, even if other cells are sent or a path grows
  const of = JSON.stringify([place.of ?? [left, right, bottom, top], aspect])
  const zoom = JSON.stringify(page.zoom ?? null)
  const reported = of === state.of && zoom === state.reported
  if (of !== state.of || zoom !== state.zoom) {
    // this zoom may still be that of another run
    state.target = page.zoom && page.zoom.of === place.of ? page.zoom.ranges : null
    state.ranges = reported ? seen : null
  } else if (near(state.home)) state.target = null
  const untouched = !state.ranges || (!reported && (near(state.ranges) || near(state.home)))
  Object.assign(state, {of, zoom, place, reported: undefined, home: around([left, right, bottom, top])})
  const [x0, x1, y0, y1] = state.home
  x_range.setv({reset_start: x0, reset_end: x1}, {sync: false})
  y_range.setv({reset_start: y0, reset_end: y1}, {sync: false})
  if (untouched) {
    state.ranges = state.target ? around(state.target) : state.home
    x_range.setv({start: state.ranges[0], end: state.ranges[1]})
    y_range.setv({start: state.ranges[2], end: state.ranges[3]})
  }
}
