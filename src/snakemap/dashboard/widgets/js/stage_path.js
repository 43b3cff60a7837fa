// Draws the path of the stage over the maps: done, to come, position and direction.
export default ({page, figure: usual, done, ahead, arrows, here}) => {
  const path = page.stage_path, figure = page._enlarged ?? usual
  const quietly = (source, data) => { source.setv({data}, {sync: false}) }
  if (!path || !path.xs.length || figure.properties.inner_width.is_unset) {
    for (const source of [done, ahead]) quietly(source, {x: [], y: []})
    for (const source of [arrows, here]) quietly(source, {x: [], y: [], angle: []})
    return
  }
  const {xs, ys, ns} = path
  const at = Math.min(page._at ?? 0, ns[ns.length - 1])
  // number of corners passed; they are in the order of the scan
  let [low, high] = [0, ns.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (ns[middle] <= at) low = middle + 1
    else high = middle
  }
  const behind = low
  const next = Math.min(behind, ns.length - 1)
  const last = Math.max(behind - 1, 0)
  const share = next > last && at > ns[last] ? (at - ns[last]) / (ns[next] - ns[last]) : 0
  const now = [xs[last] + share * (xs[next] - xs[last]), ys[last] + share * (ys[next] - ys[last])]
  const slice = (values, from, to) => Array.from(values.slice(from, to))
  quietly(done, {
    x: behind ? [...slice(xs, 0, behind), now[0]] : [],
    y: behind ? [...slice(ys, 0, behind), now[1]] : [],
  })
  quietly(ahead, {
    x: behind ? [now[0], ...slice(xs, behind)] : slice(xs, 0),
    y: behind ? [now[1], ...slice(ys, behind)] : slice(ys, 0),
  })
  // directions on the screen depend on the proportions
  const across = figure.inner_width / (figure.x_range.end - figure.x_range.start)
  const upwards = figure.inner_height / (figure.y_range.end - figure.y_range.start)
  const turned = (dx, dy) => Math.atan2(dy * upwards, dx * across) - Math.PI / 2
  const heads = path.arrows.map(([x, y, dx, dy]) => ({x, y, angle: turned(dx, dy)}))
  const columns = (rows) => ({x: rows.map((row) => row.x), y: rows.map((row) => row.y), angle: rows.map((row) => row.angle)})
  quietly(arrows, columns(heads))
  quietly(here, columns(behind ? [{x: now[0], y: now[1], angle: 0}] : []))
}
