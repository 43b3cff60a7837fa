"""Colors that stand beside one another can be told apart: of the themes, and of the texts of all figures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from bokeh.document import Document
from bokeh.model import Model
from bokeh.models import ColorBar, LabelSet, Plot
from tests.support.contrast import LEAST, ratio

from snakemap.core.channels import HUES
from snakemap.dashboard.page_css import STATUS_COLORS
from snakemap.dashboard.panes.dataset_image import ImagePane
from snakemap.dashboard.panes.dataset_line import LinePane
from snakemap.dashboard.panes.frame import FrameView
from snakemap.dashboard.panes.histogram import HistogramView
from snakemap.dashboard.panes.maps import MapsView
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.theme import THEMES, Theme
from snakemap.dashboard.view_state import Choices
from snakemap.render.cache import RenderCache

CHANNELS = ("red", "green", "blue", "total")


@pytest.mark.parametrize("name", list(THEMES))
def test_words_and_lamps_can_be_read_on_every_background(name: str) -> None:
    theme = THEMES[name]
    words = {"text": theme.text, "faint": theme.faint, "accent": theme.accent, **STATUS_COLORS[name]}
    backs = {"page": theme.page, "panel": theme.panel}
    pairs = [(f"{word} on {back}", words[word], backs[back]) for word, back in product(words, backs)]
    pairs.append(("panel on accent", theme.panel, theme.accent))
    pairs += [(f"{channel} on panel", color, theme.panel) for channel, color in HUES[name].items()]
    assert [(what, round(ratio(text, back), 2)) for what, text, back in pairs if ratio(text, back) < LEAST] == []


def plots(theme: Theme) -> Iterator[Any]:
    """Every figure of the pages, as it looks in a theme."""
    pipeline = Pipeline(Choices(theme=theme.name), RenderCache())
    maps = MapsView(pipeline, channels=CHANNELS, on_box=lambda _: None)
    histogram = HistogramView(theme=theme, on_brush=lambda _: None)
    image = ImagePane(document=Document(), theme=theme, on_view=lambda _: None)
    line = LinePane(document=Document(), theme=theme)
    figures = [*maps.figures, histogram.figure, FrameView(theme=theme).figure, image.figure, *line.figures.values()]
    yield from (figure for figure in figures if figure is not None)


def texts(plot: Any) -> Iterator[tuple[Model, str, str]]:
    """Every color of a text of a figure, with the color that is behind it."""
    parts = [plot.title, *plot.axis, *plot.select(ColorBar), *plot.select(LabelSet)]
    for part in parts:
        own = getattr(part, "background_fill_color", None)
        for name in part.properties():
            color = getattr(part, name)
            if name == "title_text_color" and not part.title:
                continue  # there is no such text
            if name.endswith("text_color") and isinstance(color, str) and color.startswith("#"):
                yield part, color, own if isinstance(own, str) and own.startswith("#") else plot.border_fill_color


@pytest.mark.parametrize("name", list(THEMES))
def test_texts_of_figures_can_be_read(name: str) -> None:
    theme, seen, faint = THEMES[name], 0, []
    for plot in plots(theme):
        assert isinstance(plot, Plot)
        for part, text, back in texts(plot):
            seen += 1
            if ratio(text, back) < LEAST:
                faint.append((plot.name, type(part).__name__, text, back, round(ratio(text, back), 2)))
    assert seen >= 50
    assert faint == []


def test_names_of_regions_lie_on_a_background_of_their_own() -> None:
    (labels,) = FrameView(theme=THEMES["light"]).figure.select(LabelSet)
    assert (labels.background_fill_color, labels.background_fill_alpha) == ("black", 0.7)
    for color in HUES["dark"].values():
        assert ratio(color, "#4d4d4d") >= 3  # white pixels behind it: large bold type asks for 3
