// Round values between the ends of the histogram's range, as places on its axis from 0 to 1.
const {low, high, in_shares} = range
const [first, last] = in_shares || !(high - low < Infinity) ? [0, 1] : [low, high]
const step = (() => {
  const rough = (last - first) / 4, unit = 10 ** Math.floor(Math.log10(rough))
  return [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((one) => one >= rough * 0.999) ?? rough
})()
const ticks = []
for (let k = Math.ceil(first / step - 1e-6); k * step <= last + 1e-6 * step && ticks.length < 12; k++) ticks.push((k * step - first) / (last - first))
return ticks.filter((tick) => tick >= Math.min(cb_data.start, cb_data.end) - 1e-9 && tick <= Math.max(cb_data.start, cb_data.end) + 1e-9)
