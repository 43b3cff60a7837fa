"""The raw frame of a point, with the ROIs in their colors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import panel as pn
from bokeh.events import SelectionGeometry
from bokeh.models import (
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    Image,
    ImageRGBA,
    LabelSet,
    LinearColorMapper,
    PanTool,
    Quad,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.plotting import figure

from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.dashboard.callbacks import on_events
from snakemap.dashboard.client_state import fitted, resettable
from snakemap.dashboard.figure_theme import apply_theme, counts_formatter, save_tool
from snakemap.dashboard.pane import Pane
from snakemap.dashboard.panes.picture_plot import Picture, picture
from snakemap.dashboard.panes.picture_plot import colored as in_color
from snakemap.dashboard.panes.region_boxes import RegionBoxes
from snakemap.dashboard.permalink import NUMBER_MAX
from snakemap.dashboard.session_context import SessionContext
from snakemap.dashboard.theme import Theme, channel_color
from snakemap.render.palettes import DIVERGING

__all__ = ["FrameView", "camera_of"]

TOOLBAR = ":host(.bk-inner) { background-color: var(--sm-panel); }"

NOTHING = np.zeros((1, 1), np.uint8)
OUTLINE = ("left", "right", "top", "bottom", "color", "name", "name_x", "name_align", "name_offset")
LATE = 0.75
"""Share of the width of a frame from which on names of regions end, instead of begin, at their region."""
AXES = ("detector column (px)", "detector row (px)")

NO_FRAME = "of the frames only the newest is kept"

NO_POINT = -1
"""What is shown while it is no frame of one point."""

GREYS = [f"#{level:02x}{level:02x}{level:02x}" for level in range(256)]


class FrameView(Pane):
    """One detector frame, downsampled to what the pane can show; row 0 is at the top, as the detector has it.

    Args:
        theme: the colors of the page.
    """

    period_s = 0.25
    after_choice = False

    def __init__(self, *, theme: Theme, **params: Any) -> None:
        super().__init__(**params)
        self.shown: int | None = None
        self.regions: Mapping[str, tuple[int, int, int, int]] = {}  # of the tab, outlined too
        self.on_region: Callable[[float, float, float, float], None] | None = None
        self._background: tuple[int, npt.NDArray[Any]] | None = None
        self._drawn: tuple[npt.NDArray[Any], tuple[int, int], str, bool] | None = None
        self.image, self.color_image = (
            ColumnDataSource({"image": [np.zeros((1, 1), kind)], "x": [0], "y": [0], "dw": [1], "dh": [1]})
            for kind in (np.uint8, np.uint32)
        )
        self.outlines = ColumnDataSource({key: [] for key in OUTLINE})
        self.mapper = LinearColorMapper(palette=GREYS, low=0, high=255)
        self.figure = self._figure()
        self.page = fitted(self.figure)
        self.boxes = RegionBoxes(self.figure)
        self.restyle(theme)
        self._rois: dict[str, tuple[int, int, int, int]] | None = None
        self._layout = pn.pane.Bokeh(self.figure, sizing_mode="stretch_both", css_classes=["frame"], autodispatch=False)

    @classmethod
    def of(cls, session: SessionContext) -> Self:
        """Return the frame of a session."""
        made = super().of(session)

        def on_point(*_: Any) -> None:
            made.hasten()
            session.soon()

        session.choices.param.watch(on_point, ["point", "frame_of"])
        return made

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def update(self, session: SessionContext) -> None:
        """Show the frame that the user has chosen; by default the newest one."""
        run, choices = session.pipeline.run, session.choices
        if run is None:
            return
        source = session.pipeline.base
        if source.kind != "frames":
            source = run.main
        self.regions = {roi.name: (roi.y0, roi.y1, roi.x0, roi.x1) for roi in session.shown_regions}
        if choices.frame_of != "point":
            if session.show_mean_frame is not None:
                session.show_mean_frame(run)
                return
        elif session.playback.moment is None and not choices.point:
            frame, number = session.live.frame(run.uid, camera_of(run, source))
            self.draw(source, frame, number=number)
            return
        elif session.show_past_frame is not None:
            session.show_past_frame(run, source)
            return
        self.blank(NO_FRAME)

    def draw(self, source: MapSource, frame: npt.NDArray[Any] | None, *, number: int | None) -> None:
        """Draw a frame and the ROIs of its camera.

        Args:
            source: whose frame it is.
            frame: (rows, columns), or (rows, columns, 3) in color, downsampled; None when there is none yet.
            number: its point's seq_num, for the title and to know it again.
        """
        rois = {**source.rois, **self.regions}
        if source.frame_shape is not None and rois != self._rois:
            self._outline(rois, source.frame_shape)
        if frame is None or number == self.shown or source.frame_shape is None:
            return
        self.shown = number
        self._show(frame, source.frame_shape, f"frame of point {number:,}" if number is not None else "frame")

    def draw_other(self, source: MapSource, frame: npt.NDArray[Any], *, title: str, signed: bool = False) -> None:
        """Draw what is no frame of one point: a mean of several frames, or a difference.

        Args:
            source: whose frames they are.
            frame: as :meth:`draw` has it.
            title: of the pane.
            signed: whether it is a difference, in colors that are centered on zero; that of colors is summed over them.
        """
        self.draw(source, None, number=None)
        if source.frame_shape is not None:
            self.shown = NO_POINT
            self._show(frame, source.frame_shape, title, signed=signed)

    def use_background(self, point: int, frame: npt.NDArray[Any] | None) -> None:
        """Subtract a frame from all frames that are shown from now on.

        Args:
            point: its seq_num.
            frame: as :meth:`draw` has it; None for none.
        """
        self._background = None if frame is None else (point, frame)
        if self._drawn is not None:
            self._show_drawn(*self._drawn)

    def _show(self, frame: npt.NDArray[Any], frame_shape: tuple[int, int], title: str, *, signed: bool = False) -> None:
        self._drawn = frame, frame_shape, title, signed
        self._show_drawn(*self._drawn)

    def _show_drawn(self, frame: npt.NDArray[Any], frame_shape: tuple[int, int], title: str, signed: bool) -> None:
        """Show a frame, less the background if it has the same shape; two means are a difference already."""
        height, width = frame_shape
        if self._background is not None and not signed and self._background[1].shape == frame.shape:
            point, background = self._background
            frame, signed = (frame.astype(np.float64) - background).astype(np.float32), True
            title = f"{title} − point {point:,}"
        if signed and frame.ndim == 3:
            frame = frame.sum(axis=-1)
        self.figure.title.text = title
        colored = frame.ndim == 3
        self.picture.visible, self.colors.visible, self.bar.visible = not colored, colored, not colored
        if colored:
            self.in_color.show(in_color(_levels(frame), (0, 0, width, height), AXES))
        else:
            self.in_gray.show(picture(frame, (0, 0, width, height), (*AXES, "counts")))
        finite = frame[np.isfinite(frame)]
        low, high = float(np.min(finite, initial=0)), float(np.max(finite, initial=0))
        if signed:
            high = max(-low, high) or 1.0
            low = -high
        self.mapper.update(palette=DIVERGING if signed else GREYS, low=low, high=high if high > 0 else 1.0)
        self.bar.title = "counts" if signed else ""

    def blank(self, title: str) -> None:
        """Show the ROIs without a frame, and a title that says why."""
        if self.shown is not None or self.figure.title.text != title:
            self.shown = self._drawn = None
            self.picture.visible = self.colors.visible = False
            self.figure.title.text = title

    def reset(self) -> None:
        """Show nothing, for another run."""
        self.shown = self._drawn = None
        self._rois = None
        self.picture.visible = self.colors.visible = False
        self.in_gray.show(picture(NOTHING, (0, 0, 1, 1)))
        self.outlines.data = {key: [] for key in self.outlines.data}
        self.boxes.show({}, {}, (1, 1))
        self.figure.title.text = "no frame yet"

    def restyle(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        apply_theme(self.figure, theme)
        self.bar.update(background_fill_color=None, major_label_text_color=theme.faint, title_text_color=theme.faint)

    def name_columns(self, *, visible: bool) -> None:
        """Write the name of the lower axis, or leave its room to the frame."""
        label = AXES[0] if visible else None
        if self.figure.xaxis.axis_label != label:
            self.figure.xaxis.axis_label = label

    def _on_box(self, event: SelectionGeometry) -> None:
        """Pass on a box that was drawn: left, right, top and bottom in detector pixels."""
        box = event.geometry
        if self.on_region is None or not event.final or not box or box.get("type") != "rect":
            return
        sides = [box.get(side) for side in ("x0", "x1", "y0", "y1")]
        if all(isinstance(side, int | float) and abs(side) <= NUMBER_MAX for side in sides):
            (left, right), (top, bottom) = sorted(sides[:2]), sorted(sides[2:])
            self.on_region(left, right, top, bottom)

    def _outline(self, rois: Mapping[str, tuple[int, int, int, int]], frame_shape: tuple[int, int]) -> None:
        height, width = frame_shape
        self._rois = dict(rois)
        boxes = list(rois.values())
        # outlines on a picture are read against dark pixels, by day too
        colors = [channel_color(name, _ON_PICTURE, channels=list(rois)) for name in rois]
        # a name near the right edge ends at its region, or it would be cut off
        late = [box[2] > LATE * width for box in boxes]
        self.outlines.data = {
            "name_x": [box[3] if at_end else box[2] for box, at_end in zip(boxes, late, strict=True)],
            "name_align": ["right" if at_end else "left" for at_end in late],
            "name_offset": [-3 if at_end else 3 for at_end in late],
            "left": [box[2] for box in boxes],
            "right": [box[3] for box in boxes],
            "top": [box[0] for box in boxes],
            "bottom": [box[1] for box in boxes],
            "color": colors,
            "name": list(rois),
        }
        own = {name: rois[name] for name in self.regions if name in rois}
        self.boxes.show(own, dict(zip(rois, colors, strict=True)), frame_shape)
        place = {"left": 0, "right": width, "bottom": height, "top": 0, "dx": 1, "dy": 1, "aspect": "true distances"}
        if place != self.page.place:
            self.page.place = place

    def _figure(self) -> Any:
        plot = figure(
            title="no frame yet",
            x_range=Range1d(start=0, end=1),
            y_range=Range1d(start=1, end=0),
            tools=[],
            sizing_mode="stretch_both",
            min_height=100,
            min_width=160,
            min_border_left=56,
            toolbar_location="above",
            toolbar_inner=True,
            name="frame",
        )
        wheel, pan = WheelZoomTool(), PanTool()
        box = BoxSelectTool(renderers=[], description="Draw a region")
        plot.add_tools(pan, wheel, box, ResetTool(), save_tool("frame"))
        on_events(plot, SelectionGeometry, callback=self._on_box)
        plot.toolbar.update(active_scroll=wheel, autohide=True, logo=None, stylesheets=[TOOLBAR])
        resettable(plot)
        for axis in (*plot.xaxis, *plot.yaxis):
            axis.ticker.desired_num_ticks = 4  # the pane is small, and its labels are long
        place: dict[str, Any] = {"image": "image", "x": "x", "y": "y", "dw": "dw", "dh": "dh"}
        self.picture = plot.add_glyph(self.image, Image(**place, color_mapper=self.mapper), visible=False)
        self.colors = plot.add_glyph(self.color_image, ImageRGBA(**place), visible=False)
        self.in_gray = Picture(picture(NOTHING, (0, 0, 1, 1)), figure=plot, glyph=self.picture)
        no_color = in_color(np.zeros((1, 1, 4), np.uint8), (0, 0, 1, 1))
        self.in_color = Picture(no_color, figure=plot, glyph=self.colors)
        sides = {side: side for side in ("left", "right", "top", "bottom")}
        plot.add_glyph(self.outlines, Quad(**sides, fill_color=None, line_color="color", line_width=2))
        labels = LabelSet(
            x="name_x", y="top", text="name", text_color="color", source=self.outlines, text_font_size="12px",
            text_font_style="bold", background_fill_color="black", background_fill_alpha=0.7,
            text_baseline="top", text_align="name_align", x_offset="name_offset",
            y_offset=-3,  # inside: above the first row there is no room
        )  # fmt: skip
        self.bar = ColorBar(color_mapper=self.mapper, width=9, padding=4, label_standoff=5)
        self.bar.formatter = counts_formatter()
        plot.add_layout(self.bar, "right")
        plot.add_layout(labels)
        plot.xaxis.axis_label, plot.yaxis.axis_label = AXES
        return plot


def camera_of(run: Run, source: MapSource) -> str:
    """Return the data key of a camera that is not the main one; else empty."""
    return "" if source is run.main else run.name_of(source)


_ON_PICTURE = Theme("dark", "", "", "", "", "", "", "", "")


def _levels(frame: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a color frame (rows, columns, 3) in levels from black to the brightest value of any color."""
    top = float(np.max(frame, initial=0)) or 1.0
    return np.clip(np.nan_to_num(frame.astype(np.float64)) * (255 / top), 0, 255).astype(np.uint8)
