// Applies an update of the server to the maps. Only a missed update is reported back.
export default ({page, cells, bars, mappers, count_range, value_range, names, trail}) => {
  if (!page.news) return
  const news = JSON.parse(page.news)
  const state = (page._shown ??= {number: 0})
  // a script runs after its message, the first time after its compilation: a second message may overtake it
  if (news.number === state.number) return
  if (news.number !== state.number + 1) page.missed += 1
  state.number = news.number
  if (state.base !== page.base) {
    state.base = page.base
    // before the first drawing there are colors and a histogram, and no cells
    state.version = page.base?.version ?? -1
    state.spans = page.base?.spans ?? []
  }
  const quietly = (model, changes) => model.setv(changes, {sync: false})

  // dims what is not brushed: all cells when numbers is null, else these
  const veil = (numbers) => {
    const veiled = cells.data.veil[0]
    if (!page.brush) { veiled.fill(0); return }
    const [channel, low, high] = page.brush
    const values = cells.data[names[channel]][0]
    const [first, last] = state.spans[channel] ?? [NaN, NaN]
    const [from, to] = [low, high].map((share) => first * (1 - share) + last * share)
    const one = (i) => { const v = values[i]; veiled[i] = Number.isNaN(v) || (v >= from && v <= to) ? 0 : 1 }
    if (numbers) numbers.forEach(one)
    else for (let i = 0; i < veiled.length; i++) one(i)
  }

  let all = Boolean(news.veil)
  if (news.spans) {
    all ||= page.brush !== null && String(news.spans) !== String(state.spans)
    state.spans = news.spans
  }
  if (news.cells) {
    // values are absolute: an overlap does no harm, after a gap everything is requested again
    if (news.from > state.version) { page.missed += 1; return }
    state.version = Math.max(state.version, news.to)
    names.forEach((name, k) => {
      const image = cells.data[name][0], values = news.values[k]
      if (values) news.cells.forEach((cell, i) => { const v = values[i]; image[cell] = v === null ? NaN : v })
    })
    if (page.brush && !all) veil(news.cells)
  }
  if (all) veil(null)
  if (news.limits) news.limits.forEach(([low, high], k) => quietly(mappers[k], {low, high}))
  if (all || news.cells?.length || news.limits) cells.change.emit()
  if (news.at !== undefined) {
    page._at = news.at
    if (page.trail) trail.execute(page)
  }
  if (news.range && value_range) {
    const [low, high] = news.range
    quietly(value_range, {low, high})
    if (!news.bars) bars.change.emit()
  }
  if (news.bars && bars) {
    const top = bars.data.top
    news.bars.forEach((count, i) => { top[i] = count })
    const most = Math.max(1, ...news.bars)
    const unit = 10 ** Math.floor(Math.log10(most))
    const end = [1, 2, 5, 10].find((step) => step * unit >= most) * unit * 1.04
    if (count_range.end !== end) quietly(count_range, {end})
    bars.change.emit()
  }
}
