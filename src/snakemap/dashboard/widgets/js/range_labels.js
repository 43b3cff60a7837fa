// Labels of places on the histogram's axis: percent of the maximum, or values.
const {low, high, in_shares, unit} = range
const labels = this.labels ??= in_shares ? ticks.map((share) => `${Math.round(share * 100)}%`) : tickLabels(ticks.map((share) => low * (1 - share) + high * share), unit)
return labels[index]
