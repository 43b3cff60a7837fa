// Shared functions, put before the script of each pane. Names come from files: they are only written as text, without control
// characters and changes of the direction of writing.
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
// Writes a text, a tooltip or a data attribute only where it differs: a node that is left alone keeps selection and focus.
const write = (node, text) => { if (node.textContent !== text) node.textContent = text }
const tip = (node, text) => { if (node.title !== text) node.title = text }
const setData = (node, name, value) => { if (node.dataset[name] !== String(value)) node.dataset[name] = value }
// Renders `items` as the children of `parent`. The node of an item stays while its key does, so that mouse presses, focus,
// selection and scroll position survive updates.
//   key(item, place)            what identifies an item; items with the same key are counted in their order
//   create(item, place)         makes the node of a new item
//   update(node, item, place)   writes into the node what differs
const keyed = (parent, items, key, create, update) => {
  const before = new Map([...parent.childNodes].map((node) => [node.keyed, node]))
  const focus = parent.getRootNode().activeElement
  const times = new Map()
  const wanted = items.map((item, place) => {
    const name = String(key(item, place)), again = times.get(name) ?? 0
    times.set(name, again + 1)
    const full = again ? `${name} (${again})` : name
    let node = before.get(full)
    if (!node) {
      node = create(item, place)
      node.keyed = full
    }
    return node
  })
  const kept = new Set(wanted)
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove()
  let at = parent.firstChild
  for (const node of wanted) {
    if (node === at) at = at.nextSibling
    else parent.insertBefore(node, at)
  }
  wanted.forEach((node, place) => update?.(node, items[place], place))
  // a node that was moved has lost the focus
  if (focus && parent.contains(focus) && focus !== parent.getRootNode().activeElement) focus.focus({preventScroll: true})
}
