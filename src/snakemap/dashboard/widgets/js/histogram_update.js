// Puts bars and their range into the histogram.
parts.push((news, {bars, value_range, count_range}, quietly) => {
  if (news.range) {
    const [low, high] = news.range
    quietly(value_range, {low, high})
    if (!news.bars) bars.change.emit()
  }
  if (!news.bars) return
  const top = bars.data.top
  news.bars.forEach((count, i) => { top[i] = count })
  const most = Math.max(1, ...news.bars)
  const unit = 10 ** Math.floor(Math.log10(most))
  const end = [1, 2, 5, 10].find((step) => step * unit >= most) * unit * 1.04
  if (count_range.end !== end) quietly(count_range, {end})
  bars.change.emit()
})
