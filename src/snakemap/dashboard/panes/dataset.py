"""The chosen dataset, drawn by its shape; no more of it is read than the screen can show."""

from __future__ import annotations

import functools
import html
import io
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import panel as pn
from bokeh.document import Document

from snakemap.dashboard.background import BackgroundTasks
from snakemap.dashboard.callbacks import every, later, on_click
from snakemap.dashboard.format import bytes_text, shape_text
from snakemap.dashboard.notifications import warn
from snakemap.dashboard.panes.dataset_image import ImagePane
from snakemap.dashboard.panes.dataset_line import LinePane
from snakemap.dashboard.panes.dataset_state import AxisRead, ShownDataset, ValueTable
from snakemap.dashboard.theme import Theme
from snakemap.dashboard.widgets import UNSEEN_LABEL, stylesheet
from snakemap.errors import FileNotReady, SnakemapError
from snakemap.hdf5.inspector import Block, FileInspector
from snakemap.render.axis_edges import Scale, edges_of
from snakemap.render.dataset_display import (
    COMPLEX_PARTS,
    LIMITS,
    displays_of,
    image_window,
    leading,
    line_step,
    part_of,
    table_window,
)
from snakemap.render.dataset_export import FORMATS, export_values

__all__ = ["DatasetView", "complain"]

ROWS, COLUMNS = 100, 30
"""Rows and columns of one page of a table."""


NARROW = ":host { min-width: 0 !important; }"


SLIDERS_MAX = 8


PLAY_MS, FOLLOW_MS, BUSY_MS = 250, 1_000, 300


NO_AXIS = AxisRead()


class DatasetView(pn.viewable.Viewer):
    """A dataset with its tools and sliders.

    Args:
        inspector: reads the files; shared by all tabs.
        document: Bokeh's, of the tab.
        theme: the colors of the page.
        on_back: called when the user wants to see the maps again.
        on_maps: called with file and dataset when the user wants maps of a stack.
        on_shown: called whenever something else is to be read: another dataset, display or slice.
    """

    def __init__(
        self,
        inspector: FileInspector,
        *,
        document: Document,
        theme: Theme,
        on_back: Callable[[], None],
        on_maps: Callable[[str, dict[str, Any]], None],
        on_shown: Callable[[], None] = lambda: None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.inspector = inspector
        self.on_shown = on_shown
        self.document = document
        self.background = BackgroundTasks(document)
        self.shown: ShownDataset | None = None
        self._timers: dict[str, Any] = {}
        self._fields: list[tuple[pn.widgets.IntSlider, pn.widgets.IntInput]] = []
        self._reading, self._asked = False, 0
        self._filling = False
        self.image = ImagePane(document=document, theme=theme, on_view=self._on_view)
        self.line = LinePane(document=document, theme=theme)
        self.table = ValueTable(sizing_mode="stretch_both", visible=False)
        self.table.param.watch(self._on_table, "ask")
        self.text = pn.pane.HTML("", sizing_mode="stretch_both", stylesheets=[stylesheet("dataset")], visible=False)
        self.head = pn.pane.HTML("", sizing_mode="stretch_width", margin=0, stylesheets=[stylesheet("dataset"), NARROW])
        self.status = pn.pane.HTML("", width=160, margin=(6, 4), stylesheets=[stylesheet("dataset")])
        self._make_tools(on_back, on_maps)
        self._layout = pn.Column(
            pn.Row(
                self.back,
                self.head,
                self.status,
                self.as_maps,
                height=40,
                sizing_mode="stretch_width",
                margin=0,
                stylesheets=[NARROW],
            ),
            self.tools,
            self.sliders,
            self.image.pane,
            self.line.pane,
            self.table,
            self.text,
            sizing_mode="stretch_both",
            margin=0,
            css_classes=["dataset"],
            stylesheets=[NARROW],
            styles={"min-height": "0", "gap": "4px"},
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def look_at(
        self,
        file: str,
        about: dict[str, Any],
        *,
        stack: bool = False,
        display: str = "",
        index: Sequence[int] = (),
    ) -> None:
        """Show a dataset.

        Args:
            file: in the data root.
            about: description by :meth:`snakemap.hdf5.inspector.FileInspector.about`.
            stack: whether maps can be made of it.
            display: one of those that suit it; empty for the best one.
            index: number to begin with in each leading dimension; the last one where there are fewer.
        """
        self.as_maps.visible = stack
        displays = displays_of(about)
        self.shown = ShownDataset(file, about, display if display in displays else displays[0])
        self._stop()
        self._lay_out(displays, index)
        self._write_head()
        if about["live"]:
            self._keep_reading()
        self._load()

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        self.image.restyle(theme)
        self.line.restyle(theme)

    def close(self) -> None:
        """Release all resources."""
        self._stop()
        self.background.close()

    def _make_tools(self, on_back: Callable[[], None], on_maps: Callable[[str, dict[str, Any]], None]) -> None:
        """Make the tools above the plot; those that do not suit it are hidden."""
        css: dict[str, Any] = {"stylesheets": [stylesheet("widgets")], "margin": 0}
        unseen = {**css, "stylesheets": [stylesheet("widgets"), UNSEEN_LABEL]}
        self.back = pn.widgets.Button(label="‹ Maps", width=70, **{**css, "margin": (4, 0)})
        on_click(self.back, self.document, on_back)
        self.as_maps = pn.widgets.Button(label="Open as maps", width=108, visible=False, **{**css, "margin": (4, 4)})
        on_click(
            self.as_maps, self.document, lambda: on_maps(shown.file, shown.about) if (shown := self.shown) else None
        )
        self.display = pn.widgets.RadioButtonGroup(options=["image"], **css)
        self.signal = pn.widgets.Select(label="signal", options=[], width=76, visible=False, **unseen)
        self.part = pn.widgets.Select(label="part of complex values", options=list(COMPLEX_PARTS), width=130, **unseen)
        self.limits = pn.widgets.Select(label="limits of the colors", options=list(LIMITS), width=110, **unseen)
        self.low = pn.widgets.FloatInput(label="lowest color", value=0, width=90, **unseen)
        self.high = pn.widgets.FloatInput(label="highest color", value=1, width=90, **unseen)
        self.log = pn.widgets.Toggle(label="log", width=44, **css)
        self.flip = pn.widgets.Toggle(label="flip", width=46, **css)
        self.play = pn.widgets.Toggle(label="play", width=50, **css)
        self.follow = pn.widgets.Toggle(label="newest", width=64, **css)
        self.form = pn.widgets.Select(label="format of the download", options=list(FORMATS), width=70, **unseen)
        self.download = pn.widgets.FileDownload(
            callback=self._download, filename="slice.npy", label="Download", width=100, **css
        )
        self.sliders = pn.Column(sizing_mode="stretch_width", margin=0)
        tools = (
            self.display, self.signal, self.part, self.limits, self.low, self.high, self.log, self.flip,
            self.play, self.follow, pn.HSpacer(), self.form, self.download,
        )  # fmt: skip
        self.tools = pn.Row(
            *tools, sizing_mode="stretch_width", height=30, margin=0, styles={"gap": "6px"}, stylesheets=[NARROW]
        )
        self.display.param.watch(self._on_display, "value")
        self.signal.param.watch(self._on_signal, "value")
        self.part.param.watch(lambda _: self._redraw(), "value")
        for widget in (self.limits, self.low, self.high, self.log, self.flip):
            widget.param.watch(self._on_colors, "value")
        self.play.param.watch(self._on_play, "value")
        self.follow.param.watch(self._on_follow, "value")
        self.form.param.watch(lambda _: self._name_download(), "value")

    def _lay_out(self, displays: tuple[str, ...], index: Sequence[int] = ()) -> None:
        """Put tools and sliders into place for a dataset, or for another display of it."""
        shown = self._must()
        self._filling = True
        try:
            self.display.param.update(options=list(displays), value=shown.display, visible=len(displays) > 1)
            self.play.value = self.follow.value = False
            count = leading(shown.display, shown.shape)
            index = [*index, *[0] * count][:count]
            shown.index = [max(0, min(one, size - 1)) for one, size in zip(index, shown.shape, strict=False)]
            shown.row, shown.view = (0, 0), None
            self._fields.clear()
            self.sliders[:] = [self._slider(number, size) for number, size in enumerate(shown.shape[:count])][
                :SLIDERS_MAX
            ]
            for (slider, _), one in zip(self._fields, shown.index, strict=False):
                slider.value = one
            self._suit()
        finally:
            self._filling = False

    def _suit(self) -> None:
        """Show the tools that suit what is shown."""
        shown = self._must()
        drawn, image = shown.display in ("image", "line", "color image"), shown.display == "image"
        growing = bool(shown.index) and (shown.about["maxshape"] or [0])[0] is None
        signals = {PurePosixPath(path).name: path for path in shown.about["nexus"]["signals"]}
        chosen = next((path for path in signals.values() if path == shown.node), None)
        self.signal.param.update(options=signals, value=chosen, visible=len(signals) > 1 and chosen is not None)
        self.part.visible = drawn and shown.about["values"] == "complex"
        self.limits.visible = image
        self.low.visible = self.high.visible = image and self.limits.value == "by hand"
        self.log.visible, self.flip.visible = (
            shown.display in ("image", "line"),
            image or shown.display == "color image",
        )
        self.play.visible = drawn and bool(shown.index) and shown.shape[0] > 1
        self.follow.visible = growing or (bool(shown.index) and bool(shown.about["live"]))
        kinds = [name for name, suits in FORMATS.items() if shown.display in suits]
        self.form.param.update(options=kinds, visible=bool(kinds))
        self.download.visible = bool(kinds)
        if kinds and self.form.value not in kinds:
            self.form.value = kinds[0]
        self._name_download()

    def _slider(self, number: int, size: int) -> pn.viewable.Viewable:
        """Return slider and number field of one leading dimension; the slider holds the value."""
        css: dict[str, Any] = {"stylesheets": [stylesheet("widgets")]}
        slider = pn.widgets.IntSlider(
            name=_dimension(number, size), start=0, end=max(1, size - 1), value=0, disabled=size < 2,
            sizing_mode="stretch_width", margin=(0, 12, 0, 8), **css,
        )  # fmt: skip
        css = {"stylesheets": [stylesheet("widgets"), UNSEEN_LABEL]}
        field = pn.widgets.IntInput(
            label=_dimension(number, size), value=0, start=0, end=max(1, size - 1), width=76, margin=(8, 4), **css
        )
        field.param.watch(lambda event: slider.param.update(value=event.new or 0), "value")
        slider.param.watch(lambda event: field.param.update(value=event.new), "value")
        self._fields.append((slider, field))

        def move(event: Any) -> None:
            shown = self.shown
            if self._filling or shown is None or number >= len(shown.index):
                return
            shown.index[number] = int(np.clip(event.new or 0, 0, max(0, shown.shape[number] - 1)))
            shown.row = (0, 0)
            if number == 0 and shown.index[0] != shown.shape[0] - 1:
                self.follow.value = False
            self._load()

        slider.param.watch(move, "value")
        return pn.Row(slider, field, sizing_mode="stretch_width", height=44, margin=0, stylesheets=[NARROW])

    def _must(self) -> ShownDataset:
        if self.shown is None:
            raise SnakemapError("no dataset is shown")
        return self.shown

    def _load(self) -> None:
        """Read what is to be shown, and draw it; earlier requests are dropped."""
        shown = self.shown
        if shown is None:
            return
        self.on_shown()
        if shown.display == "nothing":
            self._say("This dataset is empty." if 0 in shown.shape else "The values of this dataset cannot be shown.")
            return
        self._asked += 1
        self._reading = True
        later(self.document, functools.partial(self._say_busy, self._asked), BUSY_MS)
        work, then = {
            "scalar": (self._read_scalar, self._draw_scalar),
            "table": (self._read_table, self._draw_table),
            "line": (self._read_line, self._draw_line),
        }.get(shown.display, (self._read_image, self._draw_image))

        def draw(result: Any) -> None:
            self._reading = False
            self.status.object = ""
            then(shown, result)

        self.background.run("read", functools.partial(work, shown), draw, failed=self._fail)

    def _say_busy(self, number: int) -> None:
        if self._reading and self._asked == number:
            self.status.object = '<div class="status">reading…</div>'

    def _fail(self, error: SnakemapError) -> None:
        """Show an error; a frame that is not written yet leaves the previous one on the screen."""
        self._reading = False
        shown = self.shown
        if isinstance(error, FileNotReady) and shown is not None and shown.values is not None:
            self.status.object = '<div class="status">waiting for the next frame</div>'
            return
        self.status.object = ""
        self._say(str(error), bad=True)

    def _say(self, text: str, *, bad: bool = False) -> None:
        kind = "trouble" if bad else "message"
        self.text.object = f'<div class="{kind}">{html.escape(text)}</div>'
        self._only(self.text)

    def _only(self, body: Any) -> None:
        """Show one body and hide the others."""
        for one in (self.image.pane, self.line.pane, self.table, self.text):
            one.visible = one is body

    # what is read

    async def _read_scalar(self, shown: ShownDataset) -> Block:
        return await self.inspector.read(shown.file, shown.node)

    async def _read_table(self, shown: ShownDataset) -> Block:
        window = table_window(shown.shape[len(shown.index) :], *shown.row, rows=ROWS, columns=COLUMNS)
        return await self.inspector.read(shown.file, shown.node, [*shown.index, *window])

    async def _read_line(self, shown: ShownDataset) -> tuple[Block, Block | None, int]:
        length = shown.shape[-1]
        selection = [*shown.index, [0, length, line_step(length)]]
        block = await self.inspector.read(shown.file, shown.node, selection)
        errors, path = None, shown.about["nexus"]["errors"]
        if path is not None:
            try:
                errors = await self.inspector.read(shown.file, path, selection)
            except SnakemapError:
                errors = None  # errors of another shape are no errors of this
        await self._read_axes(shown, 1)
        return block, errors, line_step(length)

    async def _read_image(self, shown: ShownDataset) -> tuple[Block, list[int], list[int]]:
        count = len(shown.index)
        rows, columns = image_window((shown.shape[count], shown.shape[count + 1]), shown.view)
        block = await self.inspector.read(shown.file, shown.node, [*shown.index, rows, columns], most=4_000_000)
        await self._read_axes(shown, 2)
        return block, rows, columns

    async def _read_axes(self, shown: ShownDataset, count: int) -> None:
        """Titles, and for lines the values, of the axes of the last dimensions, once for each dataset."""
        axes = shown.about["nexus"]["axes"]
        for number, path in list(enumerate(axes[: len(shown.shape)]))[len(shown.shape) - count :]:
            if path is None or path in shown.axes:
                continue
            shown.axes[path] = NO_AXIS
            try:
                about = await self.inspector.about(shown.file, path)
                values, size = None, shown.shape[number]
                if about["shape"] in ([size], [size + 1]) and about["values"] == "number":
                    step = line_step(size) if count == 1 else 1
                    length = about["shape"][0] if step == 1 else size
                    read = await self.inspector.read(shown.file, path, [[0, length, step]], most=4_000_000)
                    values = np.asarray(read.values, np.float64)
                name = about["long_name"] or PurePosixPath(path).name
                shown.axes[path] = AxisRead(values, name, about["units"])
            except SnakemapError:
                continue

    # what is drawn

    def _draw_scalar(self, shown: ShownDataset, block: Block) -> None:
        value = block.values
        if isinstance(value, np.ndarray):
            value = value[()].item()
            names = {number: name for name, number in shown.about["enum"].items()}
            value = f"{names[value]} ({value})" if value in names else value
        shown.values = value
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        kind = "text" if isinstance(value, str) and len(text) > 40 else "scalar"
        unit = html.escape(shown.about["units"])
        self.text.object = f'<div class="{kind}">{html.escape(text)} <span class="unit">{unit}</span></div>'
        self._only(self.text)

    def _draw_table(self, shown: ShownDataset, block: Block) -> None:
        values = block.values
        rows = values.tolist() if isinstance(values, np.ndarray) else values
        names = {number: name for name, number in shown.about["enum"].items()}
        if names:
            rows = [[_named(v, names) for v in row] if isinstance(row, list) else _named(row, names) for row in rows]
        fields = [one["name"] for one in shown.about["fields"]]
        flat = len(shown.shape) - len(shown.index) == 1
        heads = fields if fields and flat else None
        if flat and heads is None:
            rows = [[value] for value in rows]
        shown.values = values
        width = len(rows[0]) if rows else 0
        columns = 1 if flat else shown.shape[-1]
        self.table.state = {
            "heads": heads
            or ([shown.about["units"] or "value"] if flat else list(range(shown.row[1], shown.row[1] + width))),
            "rows": [[_cell_value(value) for value in row] for row in rows],
            "row": shown.row[0],
            "column": shown.row[1],
            "of_rows": shown.shape[len(shown.index)],
            "of_columns": 0 if flat else columns,
            "page": ROWS,
            "columns_page": COLUMNS,
        }
        self._only(self.table)

    def _draw_line(self, shown: ShownDataset, result: tuple[Block, Block | None, int]) -> None:
        block, errors, step = result
        shown.values = block.values
        y = np.asarray(part_of(block.values, self.part.value), np.float64)
        axis = shown.about["nexus"]["axes"][len(shown.shape) - 1 : len(shown.shape)]
        read = shown.axes.get(axis[0] or "", NO_AXIS) if axis else NO_AXIS
        x, title, unit = read.values, read.title, read.unit
        if x is not None and len(x) == len(y) + 1:
            x = edges_of(x, len(y))
        if x is None or len(x) not in (len(y), len(y) + 1):
            x, title, unit = np.arange(len(y), dtype=np.float64) * step, read.name and f"number along {read.name}", ""
        low = np.asarray(errors.values, np.float64) if errors is not None and errors.values.shape == y.shape else None
        name = PurePosixPath(shown.node).name
        label = shown.about["long_name"] or name
        label += f" ({shown.about['units']})" if shown.about["units"] else ""
        if shown.about["values"] == "complex":
            label = f"{self.part.value} of {label}"
        self.line.draw(
            x, y, errors=low, titles=(shown.about["nexus"]["title"] or "", title or "number", label),
            key=(shown.file, shown.node, self.part.value, len(y) if not shown.about["live"] else 0),
            units=(unit, shown.about["units"] if shown.about["values"] != "complex" else ""),
        )  # fmt: skip
        self._only(self.line.pane)

    def _draw_image(self, shown: ShownDataset, result: tuple[Block, list[int], list[int]]) -> None:
        block, rows, columns = result
        shown.values = block.values
        count = len(shown.index)
        values = block.values if shown.display == "color image" else part_of(block.values, self.part.value)
        scales = self._scale(shown, count, "row"), self._scale(shown, count + 1, "column")
        step = rows[2]
        self.image.draw(
            values, origin=(rows[0], columns[0]), step=step, shape=(shown.shape[count], shown.shape[count + 1]),
            title=f"shows 1 of {step} rows and columns; zoom in for all" if step > 1 else "",
            scales=scales, unit=shown.about["units"] if shown.about["values"] != "complex" else "",
        )  # fmt: skip
        self._only(self.image.pane)

    def _scale(self, shown: ShownDataset, number: int, plain: str) -> Scale:
        """Return where the rows or columns of an image lie: at the values of their axis, or at their numbers."""
        path = (shown.about["nexus"]["axes"][number : number + 1] or [None])[0]
        read, count = shown.axes.get(path or "", NO_AXIS), shown.shape[number]
        edges = edges_of(read.values, count) if read.values is not None else None
        if edges is None:
            return Scale.numbered(count, f"number along {read.name}" if read.name else plain)
        return Scale(edges, read.title, read.name, read.unit)

    def _redraw(self) -> None:
        """Draw another part of complex numbers."""
        if not self._filling:
            self._load()

    # what the user does

    def _on_display(self, event: Any) -> None:
        if self._filling or self.shown is None:
            return
        self.shown.display = event.new
        self._lay_out(tuple(self.display.options))
        self._load()

    def _on_signal(self, event: Any) -> None:
        """Show another signal of the same plot."""
        shown = self.shown
        if self._filling or shown is None or not event.new or event.new == shown.node:
            return
        display, index = shown.display, tuple(shown.index)

        def show(about: dict[str, Any]) -> None:
            if self.shown is shown:
                self.look_at(shown.file, about, stack=self.as_maps.visible, display=display, index=index)

        work = functools.partial(self.inspector.about, shown.file, event.new)
        self.background.run("signal", work, show, failed=self._fail)

    def _on_colors(self, _: Any) -> None:
        hand = self.limits.value == "by hand"
        if hand and not self.low.visible and self.image.figure is not None:
            mapper = self.image.mappers[self.log.value]
            self.low.value, self.high.value = float(mapper.low), float(mapper.high)
        self.low.visible = self.high.visible = hand and self.limits.visible
        by_hand, before = (self.low.value, self.high.value), self.image.refusal
        self.image.rescale(limits=self.limits.value, by_hand=by_hand, log=self.log.value, flipped=self.flip.value)
        refusal = self.image.refusal if hand and self.limits.visible else ""
        if refusal and refusal != before:
            warn(f"The color limits set by hand are not used: {refusal}.")
        self.line.set_log(self.log.value)

    def _on_view(self, view: tuple[float, float, float, float]) -> None:
        """Read a large image again where the user zooms in, if that gives finer pixels."""
        shown = self.shown
        if shown is None or shown.display not in ("image", "color image"):
            return
        count = len(shown.index)
        shape = (shown.shape[count], shown.shape[count + 1])
        if image_window(shape)[0][2] == 1 or shown.view == view:
            return
        shown.view = view
        self._load()

    def _on_table(self, event: Any) -> None:
        shown, asked = self.shown, event.new if isinstance(event.new, dict) else {}
        row, column = asked.get("row"), asked.get("column")
        if shown is None or shown.display != "table" or not isinstance(row, int) or not isinstance(column, int):
            return
        sizes = shown.shape[len(shown.index) :]
        last = sizes[1] if len(sizes) > 1 else 1
        shown.row = max(0, min(row, sizes[0] - 1)), max(0, min(column, last - 1))
        self._load()

    def _on_play(self, event: Any) -> None:
        self._end("play")
        if event.new:
            self._timers["play"] = every(self.document, self._next, PLAY_MS)

    def _next(self) -> None:
        """Show the next frame, after the last one the first; slow reading skips none."""
        shown = self.shown
        if shown is not None and shown.index and not self._reading:
            self._fields[0][0].value = (shown.index[0] + 1) % shown.shape[0]

    def _on_follow(self, event: Any) -> None:
        """Follow the newest frame, even through pauses of the scan."""
        if event.new:
            self._keep_reading()
            self._to_last()

    def _keep_reading(self) -> None:
        if "live" not in self._timers:
            self._timers["live"] = every(self.document, self._read_again, FOLLOW_MS)

    def _cannot_read(self, error: SnakemapError) -> None:
        if not isinstance(error, FileNotReady):  # a file that is not ready may be so the next time
            self._end("live")

    def _to_last(self) -> None:
        shown = self.shown
        if shown is not None and shown.index and self._fields[0][0].value != shown.shape[0] - 1:
            self._fields[0][0].value = shown.shape[0] - 1

    def _read_again(self) -> None:
        """Read how large the dataset is now, while a program writes to the file."""
        shown = self.shown
        if shown is None:
            return
        work = functools.partial(self.inspector.about, shown.file, shown.node)
        self.background.run("again", work, functools.partial(self._grow, shown), failed=self._cannot_read)

    def _grow(self, shown: ShownDataset, about: dict[str, Any]) -> None:
        if shown is not self.shown:
            return
        grown, before = about["shape"] != shown.about["shape"], shown.shape
        shown.about = about
        if not about["live"] and not self.follow.value:
            self._end("live")
        if not grown or len(shown.shape) != len(before):
            return
        self._write_head()
        if displays_of(about)[0] != "nothing" and shown.display == "nothing":
            self.look_at(shown.file, about)
            return
        for number, ((slider, typed), size) in enumerate(zip(self._fields, shown.shape, strict=False)):
            top = max(1, size - 1)
            slider.param.update(name=_dimension(number, size), end=top, disabled=size < 2)
            typed.end = top
        if self.follow.value:
            self._to_last()
        elif not shown.index or shown.display == "table":
            self._load()

    def _end(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            self.document.remove_periodic_callback(timer)

    def _stop(self) -> None:
        for name in list(self._timers):
            self._end(name)
        self.status.object = ""
        self._reading = False

    def _write_head(self) -> None:
        shown = self._must()
        about = shown.about
        facts = [shape_text(about["shape"]), about["dtype"], about["units"], ", ".join(about["filters"])]
        facts += [bytes_text(about["bytes"])] if shown.shape else []
        facts += ["live"] if about["live"] else []
        facts += [about["missing"]] if about["missing"] else []
        text = " · ".join(html.escape(fact) for fact in facts if fact)
        name = html.escape(_printable(shown.node))
        place = html.escape(_printable(shown.file))
        self.head.object = (
            f'<div class="head"><div class="node" title="{name}">{name}</div>'
            f'<div class="facts" title="{place}">{text} · {place}</div></div>'
        )

    def _name_download(self) -> None:
        if self.shown is not None and self.form.value:
            stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in PurePosixPath(self.shown.node).name)[:60]
            self.download.filename = f"{stem or 'slice'}.{self.form.value}"

    def _download(self) -> io.BytesIO:
        """Return what is on the screen as a file."""
        shown = self._must()
        heads = [one["name"] for one in shown.about["fields"]]
        values = shown.values
        if self.form.value in ("png", "tiff") and shown.display == "image":
            values = part_of(values, self.part.value)
        mapper = self.image.mappers[self.log.value]
        return export_values(
            values, self.form.value, heads=heads, limits=(float(mapper.low), float(mapper.high)),
            flipped=self.flip.value, log=self.log.value,
        )  # fmt: skip


def complain(error: SnakemapError) -> None:
    """Show an error as a notification; the pane keeps what it shows."""
    warn(str(error))


def _dimension(number: int, size: int) -> str:
    return f"dimension {number}, 0 to {max(0, size - 1):,}"


def _cell_value(value: Any) -> Any:
    """Return a value as a table shows it: floats short, whole numbers beyond JavaScript's range as text."""
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, complex):
        return f"{value:.6g}".strip("()")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    if isinstance(value, list):
        return [_cell_value(one) for one in value]
    return value


def _named(value: Any, names: dict[int, str]) -> Any:
    return f"{names[value]} ({value})" if value in names else value


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:400])
