// The box around panes that are embedded in a foreign page. Bokeh lays out figures by walking down from the page's own
// layout, and misses those in a box without figures more than two levels down. So this box lays out its content itself.
export function render({model, view}) {
  // an embedded page fills the element of its script; where that has no height, it sets its own
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
