"""A pane in a page that has loaded Bokeh by itself: the pane uses that Bokeh, or says why it cannot.

Bokeh's script for panes loads Bokeh a second time. Its parts are then added to the second one, and Panel to the first,
which lacks them. Here the second one is ignored, so that everything is added to the one of the page.
"""

from __future__ import annotations

import json

from bokeh import __version__

__all__ = ["with_bokeh_of_page"]

SCRIPT = """
(function() {
  const element = document.getElementById(%(element)s), needed = %(version)s, bokeh = window.Bokeh
  if (!bokeh?.__bokeh__) return true
  if (bokeh.version === needed) {
    Object.defineProperty(bokeh, needed, {configurable: true, get: () => bokeh, set() {}})
    return true
  }
  // a page that has loaded the widgets of Bokeh, as pages of a Bokeh server have, may be a patch version apart
  const minor = (version) => version.split(".", 2).join(".")
  if (minor(bokeh.version) === minor(needed)) return true
  const line = document.createElement("p")
  line.setAttribute("role", "alert")
  line.textContent = `This pane needs Bokeh ${needed}, but the page has loaded Bokeh ${bokeh.version}. ` +
    "Both must be of the same minor version."
  element?.after(line)
  return false
})()
"""


def with_bokeh_of_page(script: str, element: str) -> str:
    """Return the script of a pane, to be run in a page that may have a Bokeh of its own.

    Args:
        script: as Bokeh writes it.
        element: id of the element that the pane is put in.
    """
    condition = SCRIPT % {"element": json.dumps(element), "version": json.dumps(__version__)}
    return f"if ({condition.strip()}) {{\n{script}\n}}\n"
