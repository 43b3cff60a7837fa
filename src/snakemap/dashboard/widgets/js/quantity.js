// Numbers with their units as text. `quantities.py` is the same in Python, and one table tests both. This text is put
// before other scripts, so it only declares.
const PREFIXES = new Map([["f", -15], ["p", -12], ["n", -9], ["µ", -6], ["m", -3], ["", 0], ["k", 3], ["M", 6], ["G", 9], ["T", 12], ["P", 15]])
const MICRO = /^[uμ]/u
// the largest power of ten of a prefix before each unit: kiloseconds and megametres are not in use
const BASES = new Map([["A", 15], ["V", 15], ["W", 15], ["Hz", 15], ["eV", 15], ["Pa", 15], ["T", 15], ["J", 15], ["N", 15], ["C", 15], ["F", 15], ["Ω", 15], ["m", 3], ["s", 0], ["K", 0], ["rad", 0]])
const COUNTED = new Set(["", "count", "counts", "ct", "cts", "photons"])
const UNIT_MAX = 24

// A unit from a document: bounded, without control characters.
const unitText = (unit) => {
  const letters = [...String(unit ?? "").slice(0, 1000).replace(/\s+/gu, " ").trim().replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, "\ufffd")]
  return letters.length > UNIT_MAX ? `${letters.slice(0, UNIT_MAX - 1).join("")}…` : letters.join("")
}
// Base unit, its power of ten, and the largest one that is used; null for a unit that takes no prefix.
const unitParts = (name) => {
  if (BASES.has(name)) return {base: name, power: 0, largest: BASES.get(name)}
  const plain = name.replace(MICRO, "µ"), base = plain.slice(1), power = PREFIXES.get(plain.slice(0, 1))
  if (!name || power === undefined || !(power <= BASES.get(base))) return null
  return {base, power, largest: BASES.get(base)}
}
const prefixOf = (power) => [...PREFIXES].find(([, of]) => of === power)[0]
const digitsOf = (size) => {
  const [mantissa, power] = size.toExponential(3).split("e")
  return [mantissa.replace(".", ""), Number(power)]
}
const grouped = (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ",")
const pointed = (digits, point) => point <= 0 ? `0.${"0".repeat(-point)}${digits}` :
  point >= digits.length ? grouped(digits.padEnd(point, "0")) : `${digits.slice(0, point)}.${digits.slice(point)}`
const scientific = (digits, power) => `${digits[0]}.${digits.slice(1)}e${power < 0 ? "-" : "+"}${Math.abs(power)}`
const prefixed = (size, parts) => {
  const [digits, power] = digitsOf(size), full = power + parts.power
  const group = Math.min(3 * Math.floor(full / 3), parts.largest)
  return group < -15 || full - group > 5 ? null : `${pointed(digits, full - group + 1)} ${prefixOf(group)}${parts.base}`
}
const unprefixed = (size, counted) => {
  if (Number.isInteger(size) && size < 1e15) return grouped(String(size))
  const [digits, power] = digitsOf(size)
  if (power < -3 || power > 14 || (power > 5 && !counted)) return scientific(digits, power)
  if (power < 3 || !counted) return pointed(digits, power + 1)
  const [whole, tenths] = size.toFixed(1).split(".")
  return `${grouped(whole)}.${tenths}`
}
// A value with its unit: four significant digits with an SI prefix where the unit takes one, whole numbers as they are.
const quantity = (value, unit = "") => {
  if (typeof value !== "number" || Number.isNaN(value)) return "–"
  const name = unitText(unit), tail = name ? ` ${name}` : "", size = Math.abs(value), sign = value < 0 ? "-" : ""
  if (size === 0) return `0${tail}`
  if (size === Infinity) return `${sign}∞${tail}`
  const parts = unitParts(name)
  if (!parts) return `${sign}${unprefixed(size, COUNTED.has(name))}${tail}`
  return `${sign}${prefixed(size, parts) ?? `${scientific(...digitsOf(size))}${tail}`}`
}

const trimmed = (text) => text.includes(".") ? text.replace(/\.?0+(?=$|e| )/, "") : text
// One label by itself, as on a logarithmic axis.
const lone = (value, parts) => {
  if (value === 0) return "0"
  const sign = value < 0 ? "-" : "", size = Math.abs(value), [digits, power] = digitsOf(size)
  const text = parts ? prefixed(size, parts) : power >= 3 && power < 18 ? prefixed(size, {base: "", power: 0, largest: 15}) : power >= -3 && power < 3 ? pointed(digits, power + 1) : null
  return sign + trimmed(text ?? scientific(digits, power)).replace(parts ? "" : " ", "")
}
// Labels of the ticks of an axis: one prefix for all, and as many digits as make them differ. Where they span decades,
// each has its own prefix. Units that take no prefix stand in the title and not at every tick.
const tickLabels = (ticks, unit = "") => {
  const parts = unitParts(unitText(unit)), sizes = ticks.map(Math.abs).filter((size) => size > 0 && size < Infinity)
  if (!sizes.length) return ticks.map(() => "0")
  const most = Math.max(...sizes), least = Math.min(...sizes)
  const sorted = [...ticks].sort((a, b) => a - b)
  const step = Math.min(...sorted.slice(1).map((tick, k) => tick - sorted[k]).filter((gap) => gap > 0), most)
  if (ticks.every((tick) => tick > 0) && most >= 1000 * least) return ticks.map((tick) => lone(tick, parts))
  const [, own] = digitsOf(most), full = own + (parts?.power ?? 0)
  const takes = parts ? full >= -15 && full - parts.largest < 6 : own >= 3 && own < 18
  const group = takes ? Math.min(3 * Math.floor(full / 3), parts?.largest ?? 15) : 0
  const exponent = takes ? group - (parts?.power ?? 0) : own < -3 || own >= 6 ? own : 0
  const tail = takes ? (parts ? ` ${prefixOf(group)}${parts.base}` : prefixOf(group)) : exponent ? `e${exponent < 0 ? "-" : "+"}${Math.abs(exponent)}` : ""
  const scaled = (value) => Number(`${value}e0`) === 0 ? 0 : Math.abs(exponent) > 300 ? value / 10 ** (exponent / 2) / 10 ** (exponent / 2) : value / 10 ** exponent
  const spacing = scaled(step)
  let digits = 0
  while (digits < 12 && ticks.some((tick) => Math.abs(Number(scaled(tick).toFixed(digits)) - scaled(tick)) > 1e-3 * spacing)) digits += 1
  return ticks.map((tick) => Math.abs(tick) < 1e-6 * step ? "0" : `${scaled(tick).toFixed(digits)}${tail}`)
}
