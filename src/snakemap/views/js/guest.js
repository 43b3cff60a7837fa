// The box around panes in somebody else's page. Bokeh lays out figures by walking down from the page's own layout, and
// does not come by where a box without figures of its own lies more than two boxes with some deep. This box has none, and
// sees to what is in it, however deep it lies itself.
export function render({model, view}) {
  let within = false
  model.on("after_layout", () => {
    if (within) return
    within = true
    try {
      for (const child of view.child_views) {
        child.update_bbox()
        child._compute_layout()
        child.after_layout()
      }
    } finally { within = false }
  })
  return model.get_child("view")
}
