// What the lists of files, nodes and values share; put before each of them. Names come from files: they only ever go in
// as text, without what is no letter and what turns the direction of writing.
const make = (tag, name, parent) => {
  const node = document.createElement(tag)
  node.className = name
  parent?.append(node)
  return node
}
const readable = (value, most = 300) => {
  const text = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "")
  const clean = text.replace(/[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, "\ufffd")
  return clean.length > most ? `${clean.slice(0, most / 2)}…${clean.slice(-most / 2)}` : clean
}
