// Arranges the maps in the number of columns that gives their cells the most pixels; an enlarged map fills the whole area.
// Maps are moved only for another run, shape or window, as the shape of a map stays while its run grows.
const WORTH = 1.15

export default ({page, grid, figures, names, sizes, fit}, _object, _data, {index}) => {
  const place = page.place, view = index.find_one(grid), count = figures.length
  if (!place || !view || count < 2) return
  const width = view.el.clientWidth - sizes.tools, height = view.el.clientHeight
  if (width <= 0 || height <= 0) return
  const enlarged = names.indexOf(page.enlarged)
  // letters on a wall are as large as the screen
  const grown = sizes.wall ? Math.max(1, window.innerWidth / 1920) : 1
  const [y_axis, x_axis, bar] = [sizes.y_axis, sizes.x_axis, sizes.bar].map((side) => Math.round(grown * side))
  const {edge} = sizes
  // each line has an axis of its own values
  const values_left = sizes.along === "row", values_below = sizes.along === "column"
  const inside = (columns) => {
    const rows = Math.ceil(count / columns)
    const wide = (width - y_axis - (columns - 1) * (values_left ? y_axis : edge)) / columns - bar
    const high = (height - x_axis - (rows - 1) * (values_below ? x_axis : edge)) / rows - edge
    return [Math.max(1, wide), Math.max(1, high)]
  }
  // pixels of the screen that the cells of one map cover
  const covered = (columns) => {
    const [wide, high] = inside(columns)
    if (place.rows === 1 && place.columns === 1) return Math.min(wide, high) ** 2
    if (place.rows === 1) return wide * Math.min(high, 120)  // a line needs no more height
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
  const key = (enlarged < 0 ? String(best) : `only ${enlarged}`) + (grown === 1 ? "" : ` ${grown}`)
  if (key === (grid._arranged ?? String(usual))) return
  grid._columns = best
  grid._arranged = key
  page._enlarged = figures[enlarged]
  listen(page)
  const rows = Math.ceil(count / best)
  const share = (parts, labels, first) => `calc((100% - ${labels}px) / ${parts}${first ? ` + ${labels}px` : ""})`
  const here = {sync: false}
  figures.forEach((figure, number) => {
    const alone = number === enlarged
    const left = alone || values_left || number % best === 0, below = alone || values_below || number + best >= count
    const visible = enlarged < 0 || alone
    if (grown !== 1) enlargeLetters(figure, grown, bar)
    figure.setv({min_border_left: left ? y_axis : edge, min_border_bottom: below ? x_axis : edge, visible}, here)
    for (const [axes, visible] of [[figure.left, left], [figure.below, below]]) {
      for (const axis of axes) axis.setv({visible}, here)
    }
  })
  const alone = enlarged >= 0
  grid.setv({
    children: figures.map((figure, number) => [figure, alone ? 0 : Math.floor(number / best), alone ? 0 : number % best]),
    cols: alone ? ["100%"] : Array.from({length: best}, (_, number) => share(best, values_left ? 0 : y_axis - edge, number === 0)),
    rows: alone ? ["100%"] : Array.from({length: rows}, (_, number) => share(rows, values_below ? 0 : x_axis - edge, number === rows - 1)),
  }, here)
  fit.execute(page)
}

const enlargeLetters = (figure, grown, bar) => {
  const here = {sync: false}, letters = `${Math.round(22 * grown)}px`
  figure.setv({min_border_right: bar}, here)
  for (const axis of [...figure.left, ...figure.below]) {
    axis.setv({major_label_text_font_size: letters, axis_label_text_font_size: letters}, here)
  }
  for (const one of figure.right) one.setv({major_label_text_font_size: letters, width: Math.round(18 * grown)}, here)
  for (const one of figure.center) if (one.type === "Label") one.setv({text_font_size: `${Math.round(28 * grown)}px`}, here)
}

// Escape shows all maps again, wherever the pointer is.
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
