// Gives the ranges of a figure the proportions that were asked for, whatever the size of the screen.
export default ({page, figure, x_range, y_range}) => {
  const place = page.place
  // a figure that is not on the page, or not yet, has no size
  if (!place || figure.properties.inner_width.is_unset) return
  const [width, height] = [figure.inner_width, figure.inner_height]
  if (!width || !height) return
  const state = (page._fitted ??= {})
  const {left, right, bottom, top, dx, dy, aspect} = place
  let [wide, high] = [right - left, top - bottom]
  // a lone row would be a hair's breadth high
  if (aspect !== "fill" && !(place.rows === 1 || place.columns === 1)) {
    const [unit_x, unit_y] = aspect === "true distances" ? [1, 1] : [dx, dy]
    const per_pixel = Math.max(wide / unit_x / width, Math.abs(high) / unit_y / height)
    wide = per_pixel * width * unit_x
    high = Math.sign(high) * per_pixel * height * unit_y  // negative where rows run downwards
  }
  const [x, y] = [(left + right) / 2, (bottom + top) / 2]
  const [x0, x1, y0, y1] = [x - wide / 2, x + wide / 2, y - high / 2, y + high / 2]
  // a view that was zoomed or panned by hand stays, unless another place is shown
  const near = (a, b, span) => Math.abs(a - b) < 1e-6 * Math.abs(span)
  const home = state.place !== place || !state.ranges || (
    near(x_range.start, state.ranges[0], wide) && near(x_range.end, state.ranges[1], wide) &&
    near(y_range.start, state.ranges[2], high) && near(y_range.end, state.ranges[3], high))
  state.place = place
  state.ranges = [x0, x1, y0, y1]
  x_range.setv({reset_start: x0, reset_end: x1}, {sync: false})
  y_range.setv({reset_start: y0, reset_end: y1}, {sync: false})
  if (home) {
    x_range.setv({start: x0, end: x1})
    y_range.setv({start: y0, end: y1})
  }
}
