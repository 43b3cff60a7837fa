"""What the dataset pane knows of the dataset on the screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import param

from snakemap.dashboard.widgets import Part, list_script, stylesheet

__all__ = ["AxisRead", "ShownDataset", "ValueTable"]


class ValueTable(Part):
    """A page of a table. What is asked for comes as one dictionary with a growing number."""

    state = param.Dict(default={}, doc="What to show; see `table.js` for its keys.")
    ask = param.Dict(default={}, doc="What the user wants to see: `number`, `row`, `column`.")

    written = ("ask",)
    _esm = list_script("table")
    _stylesheets = [stylesheet("table")]  # noqa: RUF012 - Panel reads it from the class


@dataclass(frozen=True, slots=True, eq=False)
class AxisRead:
    """What was read of an axis.

    Attributes:
        values: as many as the dimension has cells, or one more, which are edges; None when they are none of it.
        name: of the axis.
        unit: of the values.
    """

    values: npt.NDArray[np.float64] | None = None
    name: str = ""
    unit: str = ""

    @property
    def title(self) -> str:
        """Name and unit; empty without a name."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass
class ShownDataset:
    """What is shown of which dataset.

    Attributes:
        file: in the data root.
        about: what is known of it.
        display: one of those that suit it.
        index: number chosen in each leading dimension.
        row: first row of a table, and its first column.
        view: rows and columns of a large image that are in view; None: all of them.
        axes: paths of axes, with what was read of them.
        values: what is on the screen, for the download.
    """

    file: str
    about: dict[str, Any]
    display: str
    index: list[int] = field(default_factory=list)
    row: tuple[int, int] = (0, 0)
    view: tuple[float, float, float, float] | None = None
    axes: dict[str, AxisRead] = field(default_factory=dict)
    values: Any = None

    @property
    def node(self) -> str:
        """Its path in the file."""
        return self.about["node"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape when it was last read."""
        return tuple(self.about["shape"] or ())
