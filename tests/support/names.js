// Finds what a screen reader cannot name or place: controls without a name, roles without what they need, pictures without
// words. The buttons of messages and of number fields are those of Panel and Bokeh.
() => {
  const CONTROLS = 'button:not(.notyf__dismiss-btn, .bk-spin-btn), a[href], input:not([type=hidden]), select, textarea, [role=button], [role=tab], [role=option], ' +
    '[role=treeitem], [role=checkbox], [role=slider], [role=progressbar], [role=tablist], [role=listbox], [role=tree], dialog[open], ' +
    '[tabindex="0"]:not(.bk-events):not(.bk-canvas-events)'
  const INSIDE = {tab: 'tablist', option: 'listbox', treeitem: 'tree'}
  const STATES = {tab: 'aria-selected', option: 'aria-selected', slider: 'aria-valuenow', checkbox: 'aria-checked'}
  const parent = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null
  const named = (node) => {
    const root = node.getRootNode()
    const by = (node.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => id && root.getElementById(id)?.textContent).join(' ')
    const labels = [...(node.labels ?? [])].map((label) => label.textContent).join(' ')
    const text = node.matches('input, select, textarea, dialog') ? '' : node.textContent
    return [node.getAttribute('aria-label'), by, labels, text, node.title, node.placeholder].some((words) => words?.trim())
  }
  const found = []
  const tell = (node, what) => {
    const names = []
    for (let one = node; one && names.length < 4; one = parent(one)) {
      const kind = typeof one.className === 'string' ? one.className.trim().split(/\s+/).filter(Boolean).map((name) => `.${name}`).join('') : ''
      if (kind || one === node) names.unshift(`${one.localName}${kind}`)
    }
    found.push(`${what}: ${names.join(' ')}`)
  }
  const walk = (root) => {
    const ids = new Set()
    for (const node of root.querySelectorAll('*')) {
      if (node.shadowRoot) walk(node.shadowRoot)
      if (node.id && ids.has(node.id)) tell(node, `two of id ${node.id}`)
      ids.add(node.id)
      if (!node.checkVisibility({visibilityProperty: true}) || node.closest('[aria-hidden=true]')) continue
      if (node.localName === 'img' && !node.hasAttribute('alt')) tell(node, 'no alt')
      if (!node.matches(CONTROLS)) continue
      if (!named(node)) tell(node, 'no name')
      const role = node.getAttribute('role')
      if (STATES[role] && !node.hasAttribute(STATES[role])) tell(node, `no ${STATES[role]}`)
      if (INSIDE[role]) {
        let one = parent(node)
        while (one && one.getAttribute('role') !== INSIDE[role]) one = parent(one)
        if (!one) tell(node, `not in a ${INSIDE[role]}`)
      }
    }
  }
  walk(document)
  return found
}
