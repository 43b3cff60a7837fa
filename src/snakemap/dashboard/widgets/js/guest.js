// The box around panes in somebody else's page. Bokeh lays out figures by walking down from the page's own layout, and
// does not come by where a box without figures of its own lies more than two boxes with some deep. This box has none, and
// sees to what is in it, however deep it lies itself.
export function render({model, view}) {
  // a page of ours fills the element that its script is in; where that has no height, it has one of its own
  const fill = () => {
    const mount = view.el.parentElement
    if (!model.alone || !mount || mount.style.height) return
    mount.style.height = "100%"
    if (mount.clientHeight < 40) mount.style.height = `${model.alone}px`
  }
  let within = false
  model.on("after_layout", () => {
    if (within) return
    within = true
    try {
      fill()
      for (const child of view.child_views) {
        child.update_bbox()
        child._compute_layout()
        child.after_layout()
      }
    } finally { within = false }
  })
  model.on("after_render", fill)
  return model.get_child("view")
}
