// Sends the server the ranges of a zoom by hand once they rest: for the address of the page.
export default ({page, x_range, y_range}) => {
  clearTimeout(page._resting)
  page._resting = setTimeout(() => {
    const state = page._fitted
    if (!state?.ranges) return
    const seen = [x_range.start, x_range.end, y_range.start, y_range.end]
    const near = (ranges) => ranges.every((end, k) =>
      Math.abs(end - seen[k]) < 1e-6 * Math.abs(ranges[k < 2 ? 1 : 3] - ranges[k < 2 ? 0 : 2]))
    const ranges = near(state.home) ? null : near(state.ranges) ? state.target : seen
    const zoom = ranges && {of: state.place.of, ranges}
    const text = JSON.stringify(zoom)
    if (text === JSON.stringify(page.zoom ?? null)) return
    state.reported = text
    page.zoom = zoom
  }, 250)
}
