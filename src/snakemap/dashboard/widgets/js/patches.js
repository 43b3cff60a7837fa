// Patches of the server, applied in their order. Those that come while the views of new models are made wait.
// Bokeh connects a new view to its model before it has drawn it. A patch that comes in between calls a slot of a view
// without elements; the slot throws, and the rest of the patch is lost.
const DRAWN_MS = 800  // views that take longer hold up nothing more: a beat of the server may be waiting

function applyWhenDrawn(shown) {
  if (Object.hasOwn(shown, "apply_json_patch")) return
  const apply = shown.apply_json_patch
  const waiting = []
  let drawing = false
  // models whose views make others: those that a new model is put into
  const parents = (patch) => patch.events
    .filter((event) => event.kind === "ModelChanged" && hasNewModel(event.new)).map((event) => event.model.id)
  const drawn = (ids) => Promise.race([
    Promise.allSettled([...(shown.views_manager?.query((view) => ids.includes(view.model.id)) ?? [])].map((view) => view.ready)),
    new Promise((done) => { setTimeout(done, DRAWN_MS) }),
  ])
  const next = () => {
    while (waiting.length && !drawing) {
      const [patch, ...buffers] = waiting.shift(), ids = parents(patch)
      try {
        apply.call(shown, patch, ...buffers)
      } finally {
        drawing = ids.length > 0
        if (drawing) void drawn(ids).then(() => { drawing = false; next() })
        else if (waiting.length) queueMicrotask(next)
      }
    }
  }
  shown.apply_json_patch = (...patch) => {
    waiting.push(patch)
    next()
  }
}

function hasNewModel(value) {
  if (value === null || typeof value !== "object") return false
  return value.type === "object" || Object.values(value).some(hasNewModel)
}
