// Finds the texts of a page whose contrast against what is painted behind them is too small.
(least) => {
  const parsed = (text) => {
    const numbers = (text.match(/-?[\d.]+(e-?\d+)?%?/g) ?? []).map((n) => n.endsWith('%') ? parseFloat(n) / 100 : Number(n))
    if (text.startsWith('color(srgb')) return [255 * numbers[0], 255 * numbers[1], 255 * numbers[2], numbers[3] ?? 1]
    if (!text.startsWith('rgb')) throw new Error(`not a color: ${text}`)
    return [numbers[0], numbers[1], numbers[2], numbers[3] ?? 1]
  }
  const mixed = (above, below, share) => below.map((value, k) => share * above[k] + (1 - share) * value)
  const over = (color, below) => mixed(color.slice(0, 3), below, color[3])
  const light = (color) => {
    const [r, g, b] = color.map((value) => { const v = value / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const parent = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null
  // colors of text and background on the screen: what lies above is painted over what lies below, and as a group where it is translucent
  const painted = (element, color) => {
    const chain = []
    for (let node = element; node; node = parent(node)) chain.unshift(node)
    const paint = (k, below) => {
      const style = getComputedStyle(chain[k])
      const own = over(parsed(style.backgroundColor), below)
      const [text, back] = k === chain.length - 1 ? [over(color, own), own] : paint(k + 1, own)
      const share = Number(style.opacity) * [...style.filter.matchAll(/opacity\(([\d.]+)\)/g)].reduce((all, one) => all * Number(one[1]), 1)
      return [mixed(text, below, share), mixed(back, below, share)]
    }
    return paint(0, [255, 255, 255])
  }
  const found = []
  let seen = 0
  const look = (element, words, style, kind) => {
    seen += 1
    const [text, back] = painted(element, parsed(style.color))
    const [a, b] = [light(text), light(back)].sort((x, y) => y - x)
    const contrast = (a + 0.05) / (b + 0.05)
    if (contrast >= least) return
    const names = []
    for (let node = element; node && names.length < 4; node = parent(node)) {
      if (node.className && typeof node.className === 'string') names.unshift(`${node.localName}.${node.className.trim().split(/\s+/).join('.')}`)
    }
    found.push({words: words.trim().slice(0, 60), where: `${names.join(' ')}${kind}`, contrast: Number(contrast.toFixed(2)),
      text: text.map(Math.round), back: back.map(Math.round)})
  }
  const shows = (element) => element.checkVisibility({opacityProperty: true, visibilityProperty: true}) &&
    (element.getBoundingClientRect().width > 1 || getComputedStyle(element).display === 'contents')
  const walk = (root) => {
    for (const element of root.querySelectorAll('*')) {
      if (element.shadowRoot) walk(element.shadowRoot)
      if (['STYLE', 'SCRIPT', 'OPTION', 'NOSCRIPT', 'TITLE', 'TEMPLATE', 'DATALIST'].includes(element.tagName) || !shows(element)) continue
      const style = getComputedStyle(element)
      for (const node of element.childNodes) {
        if (node.nodeType !== Node.TEXT_NODE || !node.textContent.trim()) continue
        const range = document.createRange()
        range.selectNodeContents(node)
        if ([...range.getClientRects()].some((box) => box.width > 1 && box.height > 1)) look(element, node.textContent, style, '')
      }
      if (element.matches('input, textarea, select')) {
        if (['checkbox', 'range', 'radio', 'file'].includes(element.type)) continue
        if (element.value) look(element, element.tagName === 'SELECT' ? element.selectedOptions[0]?.text ?? '' : element.value, style, ' value')
        else if (element.placeholder) look(element, element.placeholder, getComputedStyle(element, '::placeholder'), ' ::placeholder')
      }
      for (const pseudo of ['::before', '::after']) {
        const its = getComputedStyle(element, pseudo)
        if (/^"\s*[^"\s]/.test(its.content)) look(element, its.content, its, ` ${pseudo}`)
      }
    }
  }
  walk(document)
  return {seen, found}
}
