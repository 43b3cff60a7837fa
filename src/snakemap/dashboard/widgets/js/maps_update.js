// Puts cells, colors and the place of the stage into the maps. Only a missed update is reported back.
parts.push((news, {page, cells, mappers, names, stage}, quietly) => {
  const state = page._shown
  if (state.base !== page.base) {
    state.base = page.base
    // before the first drawing there are colors and a histogram, and no cells
    state.version = page.base?.version ?? -1
    state.spans = page.base?.spans ?? []
  }

  // dims what is not brushed: all cells when numbers is null, else these
  const dim = (numbers) => {
    const dimmed = cells.data.dimmed[0]
    if (!page.brush) { dimmed.fill(0); return }
    const [channel, low, high] = page.brush
    const values = cells.data[names[channel]][0]
    const [first, last] = state.spans[channel] ?? [NaN, NaN]
    const [from, to] = [low, high].map((share) => first * (1 - share) + last * share)
    const one = (i) => { const v = values[i]; dimmed[i] = Number.isNaN(v) || (v >= from && v <= to) ? 0 : 1 }
    if (numbers) numbers.forEach(one)
    else for (let i = 0; i < dimmed.length; i++) one(i)
  }

  let all = Boolean(news.dim)
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
    if (page.brush && !all) dim(news.cells)
  }
  if (all) dim(null)
  if (news.limits) news.limits.forEach(([low, high], k) => quietly(mappers[k], {low, high}))
  if (all || news.cells?.length || news.limits) cells.change.emit()
  if (news.at !== undefined) {
    page._at = news.at
    if (page.stage_path) stage.execute(page)
  }
})
