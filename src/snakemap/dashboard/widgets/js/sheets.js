// BokehJS writes the place of each part of a figure into its style sheet at every paint, also when nothing has moved. It
// reads computed styles in between, so the browser computes the styles of the page some forty times for one update of
// the maps. With this, a style sheet whose text stays is not written.
(() => {
  let sheet
  try { sheet = Bokeh.require("core/dom").InlineStyleSheet.prototype } catch { return }
  const update = sheet._update
  if (!update || update.skips) return
  sheet._update = function (css) { if (css !== this.el.textContent) update.call(this, css) }
  sheet._update.skips = true
})();
