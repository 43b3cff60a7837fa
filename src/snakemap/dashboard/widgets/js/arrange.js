// Puts the maps side by side, one over the other, or both, whichever gives their cells the most pixels; one that is enlarged
// has the room of all. The shape of a map stays while its run grows, so maps are moved only when another run, another
// shape or another window needs it.
const TOOLBAR = 30, WORTH = 1.15

export default ({page, grid, figures, names, sizes, fit}, _object, _data, {index}) => {
  const place = page.place, view = index.find_one(grid), count = figures.length
  if (!place || !view || count < 2) return
  const width = view.el.clientWidth - TOOLBAR, height = view.el.clientHeight
  if (width <= 0 || height <= 0) return
  const enlarged = names.indexOf(page.enlarged)
  const {y_axis, x_axis, edge, bar} = sizes
  const inside = (columns) => {
    const rows = Math.ceil(count / columns)
    const wide = (width - y_axis - (columns - 1) * edge) / columns - bar
    const high = (height - x_axis - (rows - 1) * edge) / rows - edge
    return [Math.max(1, wide), Math.max(1, high)]
  }
  // pixels of the screen that the cells of one map cover
  const covered = (columns) => {
    const [wide, high] = inside(columns)
    if (place.rows === 1 && place.columns === 1) return Math.min(wide, high) ** 2
    if (place.rows === 1) return wide * Math.min(high, 120)  // lines, which need no more height
    if (place.columns === 1) return high * Math.min(wide, 120)
    if (place.aspect === "fill") return wide * high
    const [x, y] = place.aspect === "true distances" ? [1, 1] : [place.dx, place.dy]
    const across = Math.abs((place.right - place.left) / x), up = Math.abs((place.top - place.bottom) / y)
    const scale = Math.min(wide / across, high / up)
    return across * up * scale * scale
  }
  const usual = count <= 4 ? 2 : 3
  let best = grid._columns ?? usual
  for (const columns of new Set([usual, 1, count])) {
    if (covered(columns) > covered(best) * (columns === usual ? 1 : WORTH)) best = columns
  }
  const key = enlarged < 0 ? best : `only ${enlarged}`
  if (key === (grid._arranged ?? usual)) return
  grid._columns = best
  grid._arranged = key
  page._enlarged = figures[enlarged]
  listen(page)
  const rows = Math.ceil(count / best)
  const share = (parts, labels, first) => `calc((100% - ${labels}px) / ${parts}${first ? ` + ${labels}px` : ""})`
  const here = {sync: false}
  figures.forEach((figure, number) => {
    const left = number % best === 0 || number === enlarged, below = number + best >= count || number === enlarged
    const visible = enlarged < 0 || number === enlarged
    figure.setv({min_border_left: left ? y_axis : edge, min_border_bottom: below ? x_axis : edge, visible}, here)
    for (const [axes, visible] of [[figure.left, left], [figure.below, below]]) {
      for (const axis of axes) axis.setv({visible}, here)
    }
  })
  const alone = enlarged >= 0
  grid.setv({
    children: figures.map((figure, number) => [figure, alone ? 0 : Math.floor(number / best), alone ? 0 : number % best]),
    cols: alone ? ["100%"] : Array.from({length: best}, (_, number) => share(best, y_axis - edge, number === 0)),
    rows: alone ? ["100%"] : Array.from({length: rows}, (_, number) => share(rows, x_axis - edge, number === rows - 1)),
  }, here)
  fit.execute(page)
}

// Escape gives all maps their room back, wherever the pointer is.
const listen = (page) => {
  page._escape?.abort()
  if (!page._enlarged) return
  page._escape = new AbortController()
  document.addEventListener("keydown", (pressed) => {
    const typing = pressed.composedPath()[0]?.matches?.("input, select, textarea, dialog, dialog *")
    if (pressed.key !== "Escape" || typing || pressed.defaultPrevented) return
    pressed.preventDefault()  // the same key takes a zoom back
    page.enlarged = ""
  }, {signal: page._escape.signal})
}
