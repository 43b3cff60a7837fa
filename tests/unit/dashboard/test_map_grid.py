"""Grid lines and scale bars of the maps."""

from __future__ import annotations

from typing import Any

from bokeh.plotting import figure

from snakemap.dashboard.panes.map_grid import MapGrid
from snakemap.dashboard.theme import THEMES


def bars(plot: Any) -> list[Any]:
    return [one for one in plot.center if type(one).__name__ == "ScaleBar" and one.visible]


def test_a_scale_bar_needs_a_unit_of_length_and_there_is_one_a_map() -> None:
    plots = [figure() for _ in range(2)]
    grid = MapGrid(plots)
    options: dict[str, Any] = {"theme": THEMES["dark"], "letters": "11px"}
    grid.show(visible=False, unit="mm", **options)
    assert [len(plot.center) for plot in plots] == [2, 2]  # nothing is made that is not wanted
    grid.show(visible=True, unit="deg", **options)
    assert [bars(plot) for plot in plots] == [[], []]
    assert {lines.grid_line_color for plot in plots for lines in plot.grid} == {"#8a8f99"}
    for unit, name in (("mm", "mm"), ("um", "µm")):
        grid.show(visible=True, unit=unit, **options)
        assert [[bar.unit for bar in bars(plot)] for plot in plots] == [[name], [name]]
    grid.show(visible=True, unit="um", **{**options, "theme": THEMES["light"]})
    assert [[bar.bar_line_color for bar in bars(plot)] for plot in plots] == [[THEMES["light"].text]] * 2
    grid.show(visible=False, unit="um", **options)
    assert [bars(plot) for plot in plots] == [[], []]
    assert {lines.grid_line_color for plot in plots for lines in plot.grid} == {None}
