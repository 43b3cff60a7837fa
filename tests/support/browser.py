"""What a test wants to know of a page in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page
from tests.support.patience import PATIENCE, eventually

__all__ = ["ARGUMENTS", "CHANNELS", "LOOK_EVERY_S", "SCRIPT", "Shown", "open_page", "patient"]

CHROMIUM = "/usr/bin/chromium-headless-shell"
"""Chromium without its window, which opens a page in two thirds of the time."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=LocalNetworkAccessChecks",  # a page that a test serves counts as one from another network
]
CHANNELS = ("red", "green", "blue", "total")
TIMEOUT_MS = 30_000 * PATIENCE
LOOK_EVERY_S = 0.05
"""Pause between two looks at a page: each look takes time from the page that it waits for."""

SCRIPT = """
window.sm = {
  models() { return Bokeh.documents.flatMap((d) => [...d._all_models.values()]) },
  named(name) { return this.models().find((m) => m.name === name) },
  cells() { return this.view('map-total')?.model.renderers[0].data_source },
  image(name) {
    const array = this.cells()?.data[name]?.[0]
    if (!array) return JSON.stringify({shape: [0, 0], values: []})  // the figures are not there yet
    return JSON.stringify({shape: array.shape, values: Array.from(array)})  // one text is quick, a long list is not
  },
  view(name) {
    const search = (views) => {
      for (const view of views) {
        if (view.model?.name === name) return view
        const found = view.child_views ? search(view.child_views) : null
        if (found) return found
      }
      return null
    }
    return search([...Bokeh.index.roots])
  },
  frame(name) {
    const view = this.view(name), at = view.canvas_view.el.getBoundingClientRect(), box = view.frame.bbox
    return {x: at.x + box.left, y: at.y + box.top, width: box.width, height: box.height}
  },
}
"""


P = ParamSpec("P")
T = TypeVar("T", Page, BrowserContext)


@dataclass
class Shown:
    """A tab in Chromium.

    Attributes:
        page: Playwright's.
        errors: what its console and its scripts complained of.
    """

    page: Page
    errors: list[str] = field(default_factory=list)

    def image(self, name: str) -> np.ndarray:
        """One column of the maps as drawn, row 0 at the bottom; NaN where nothing is."""
        told = json.loads(self.page.evaluate("(name) => sm.image(name)", name))
        return np.array(told["values"], dtype=float).reshape(told["shape"])

    def seen_at(self, name: str, x: float, y: float) -> float:
        """The value that a map shows at a place in motor coordinates; NaN where nothing is."""
        return self.page.evaluate(
            """([name, x, y]) => {
              const place = sm.models().find((model) => model.place?.uid)?.place, image = place?.image
              if (!image) return NaN
              const column = Math.floor((x - image.left) / image.dx), row = Math.floor((y - image.bottom) / image.dy)
              return sm.cells().data[name][0][row * image.columns + column] ?? NaN
            }""",
            [name, x, y],
        )

    def maps(self) -> dict[str, np.ndarray]:
        """The four maps as drawn."""
        return {name: self.image(name) for name in CHANNELS}

    def bars(self) -> list[float]:
        """The histogram's counts."""
        return self.page.evaluate(
            "() => Array.from(sm.models().find((m) => m.data && m.data.top && m.data.left.length === 64).data.top)"
        )

    def frame(self, name: str) -> dict[str, float]:
        """Where a figure's inner frame is on the screen, in pixels."""
        return self.page.evaluate("(name) => sm.frame(name)", name)

    def settled_frame(self, name: str) -> dict[str, float]:
        """Where a figure's inner frame is, once the page has stopped to arrange its parts."""
        boxes = [self.frame(name)]

        def settled() -> bool:
            boxes.append(self.frame(name))
            return boxes[-1] == boxes[-2]

        self.wait_every(settled, every_s=0.2)
        return boxes[-1]

    def drag(self, name: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags over a figure; positions are shares of its frame, from its top left corner."""
        box = self.settled_frame(name)
        for number, (x, y) in enumerate((start, end)):
            at = (box["x"] + x * box["width"], box["y"] + y * box["height"])
            self.page.mouse.move(*at, steps=1 if number == 0 else 6)
            if number == 0:
                self.page.mouse.down()
        self.page.mouse.up()

    def text(self, selector: str) -> str:
        """The text of the first element, shadow roots included."""
        return self.page.locator(selector).first.inner_text()

    def table(self) -> dict[str, list[str]]:
        """The summary table: cells by channel."""
        rows = self.page.locator("table tbody tr").all()
        cells = [row.locator("td").all_inner_texts() for row in rows]  # a row that is gone by now has no cells
        return {row[0]: row[1:] for row in cells if row}

    def lights(self) -> list[str]:
        """Return what the indicators of the top bar say."""
        return self.page.locator(".light").all_inner_texts()

    def wait(self, happens: Any, *, timeout_s: float = 20.0) -> None:
        """Returns when something has happened; fails with the page's complaints when it does not."""
        self.wait_every(happens, timeout_s=timeout_s, every_s=LOOK_EVERY_S)

    def wait_every(self, happens: Any, *, timeout_s: float = 20.0, every_s: float) -> None:
        """As :meth:`wait`, with another pause between two looks."""
        if not eventually(happens, timeout_s=timeout_s, every_s=every_s):
            raise AssertionError(f"it did not happen; lights {self.lights()}, errors {self.errors}")


def patient(make: Callable[P, T]) -> Callable[P, T]:
    """Return what makes a page or a context, with a limit on its waits that suffices on a busy machine.

    Playwright's own limit is 30 s, for the load of a page as well.
    """

    def made(*args: P.args, **options: P.kwargs) -> T:
        new = make(*args, **options)
        new.set_default_timeout(TIMEOUT_MS)
        return new

    return made


def said_where(message: ConsoleMessage) -> str:
    """What a console says, with the address that it is about: "404" alone does not say what was not found."""
    where = message.location.get("url")
    return f"{message.text} [{where}]" if where else message.text


def open_page(
    browser: Browser | BrowserContext, url: str, *, width: int = 1440, height: int = 900, silent_s: float = 60.0
) -> Shown:
    """Opens a tab and returns when its document is there.

    Args:
        browser: or a context of it.
        url: of the page.
        width: of the window, in pixels.
        height: likewise.
        silent_s: of the server, after which the page counts as cut off; 0: as for users. On a busy machine the server
            may be silent for longer than users should wait for a word.
    """
    page = (
        browser.new_page(viewport={"width": width, "height": height})
        if isinstance(browser, Browser)
        else browser.new_page()
    )
    page.set_default_timeout(TIMEOUT_MS)
    shown = Shown(page)
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("console", lambda message: shown.errors.append(said_where(message)) if message.type == "error" else None)
    if silent_s:
        page.add_init_script(f"window.snakemapSilentMs = {1000 * silent_s}")
    page.add_init_script(SCRIPT)  # it is there again when the page is opened again
    page.goto(url)
    page.wait_for_function("() => window.Bokeh && Bokeh.documents.length")
    figures = "sm.cells() || sm.named('histogram') || sm.named('frame') || location.pathname.endsWith('/summary')"
    page.wait_for_function(f"() => {figures}")
    return shown
