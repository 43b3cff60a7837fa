"""Models of the API's responses."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AxisModel",
    "Bounds",
    "ErrorDetail",
    "ErrorModel",
    "Health",
    "MapsModel",
    "Message",
    "Pair",
    "PositionsModel",
    "Readiness",
    "RegionModel",
    "RunModel",
    "Tag",
]


# lists of a fixed length, not tuples: client generators understand them
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Span = Annotated[list[float], Field(min_length=2, max_length=2)]
Spans = Annotated[list[Span], Field(min_length=2, max_length=2)]
Bounds = Annotated[list[int], Field(min_length=4, max_length=4)]


class Tag(StrEnum):
    """Topic of a route."""

    RUNS = "Runs"
    MAPS = "Maps"
    DOCUMENTS = "Documents"
    FILES = "Files"
    PLANS = "Plans"
    DEMO = "Demo"
    SESSIONS = "Sessions"
    META = "Meta"


class RunModel(BaseModel):
    """One run, as in the list of runs; times are in seconds since 1970."""

    model_config = ConfigDict(extra="allow")

    uid: str = Field(examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"])
    plan_name: str = Field(examples=["grid_scan"])
    status: Literal["running", "complete", "incomplete", "aborted", "failed", "lost"] = Field(
        description="`complete` only when every expected point is there.", examples=["complete"]
    )
    points: int = Field(description="Points that have been measured.", examples=[63])
    expected: int | None = Field(description="Points of the whole scan; null while unknown.", examples=[63])
    started: float = Field(examples=[1795461238.1])
    ended: float | None = Field(examples=[1795461240.8])
    file: str | None = Field(description="Path of its first file, as the writer sees it.", examples=["/data/scan.h5"])


class AxisModel(BaseModel):
    """One axis; coordinates are in the order of the scan's index and may decrease."""

    name: str = Field(examples=["stage-x"])
    unit: str = Field(description="Empty when unknown.", examples=["mm"])
    coordinates: list[float] = Field(examples=[[0.0, 0.5, 1.0]])
    known: bool = Field(description="False when the coordinates are only indices.", examples=[True])


class PositionsModel(BaseModel):
    """Positions of the points of a path along one axis, in the order of the scan; null where not known yet."""

    name: str = Field(examples=["stage-x"])
    unit: str = Field(description="Empty when unknown.", examples=["mm"])
    values: list[float | None] = Field(examples=[[0.0, 0.4, None]])


class RegionModel(BaseModel):
    """The state of one requested region."""

    bounds: Bounds = Field(description="`y0, y1, x0, x1`, half open.", examples=[[610, 760, 95, 245]])
    read: int = Field(description="Points whose values are exact: the sums of their pixels.", examples=[6000])
    approximate: int = Field(
        default=0,
        description="Points whose values are not: blocks of pixels that the region cuts count by their area.",
        examples=[0],
    )
    measured: int = Field(description="Points whose frames can be read.", examples=[10_000])
    complete: bool = Field(description="Whether all of them were; if not, ask again.", examples=[False])
    trouble: str = Field(description="Why some frames cannot be read; empty when they can.", examples=[""])


class MapsModel(BaseModel):
    """The maps of a run: rows are the slow axis, columns the fast one; null where not measured.

    A scan without a grid, such as a spiral, is one row of points in the order of the scan, and `positions` has their
    positions. A masked grid, or one that is not scanned row by row, is a grid.
    """

    shape: Pair = Field(description="Rows and columns.", examples=[[7, 9]])
    fast_axis: str = Field(examples=["stage-x"])
    extents: Spans = Field(
        description="Outer cell edges, lowest first: of the slow axis, then of the fast one.",
        examples=[[[-0.5, 1.5], [9.5, 12.5]]],
    )
    cursor: str = Field(
        description="The last document that these maps contain; also the ETag.", examples=["1795461238076-0"]
    )
    axes: dict[Literal["slow", "fast"], AxisModel] = Field(
        examples=[
            {
                "slow": {"name": "stage-y", "unit": "mm", "coordinates": [0.0, 1.0], "known": True},
                "fast": {"name": "stage-x", "unit": "mm", "coordinates": [10.0, 11.0, 12.0], "known": True},
            }
        ]
    )
    positions: dict[Literal["x", "y"], PositionsModel] | None = Field(
        description="Of the points of a path, else null.", examples=[None]
    )
    geometry: str = Field(description="Shape, and its origin.", examples=["7 x 9, snaked, from scanspec"])
    source: str = Field(description="The source of the maps.", examples=["camera"])
    sources: list[str] = Field(description="All sources of the run.", examples=[["camera", "scalars"]])
    regions: dict[str, RegionModel] | None = Field(
        default=None,
        description="Of the channels that were requested with `roi`; absent without.",
        examples=[
            {
                "spot": {
                    "bounds": [0, 8, 0, 4],
                    "read": 6,
                    "approximate": 0,
                    "measured": 6,
                    "complete": True,
                    "trouble": "",
                }
            }
        ],
    )
    channels: dict[str, list[list[float | None]]] = Field(
        description="Counts, by channel, as rows of columns.",
        examples=[{"red": [[1.0, 2.0, 3.0], [None, None, 4.0]], "total": [[9.0, 8.0, 9.0], [None, None, 7.0]]}],
    )


class MeanFrameModel(BaseModel):
    """The mean of the frames of some points."""

    source: str = Field(description="The camera.", examples=["camera"])
    requested: int = Field(description="Points that were requested.", examples=[501])
    measured: int = Field(description="Of these, points that are measured.", examples=[500])
    read: int = Field(description="Points whose frames are in the mean.", examples=[498])
    lost: int = Field(description="Points whose frames cannot be read.", examples=[2])
    frames: int = Field(description="Frames in the mean.", examples=[498])
    complete: bool = Field(description="Whether nothing more can be read; if not, ask again.", examples=[True])
    trouble: str = Field(description="Why frames cannot be read; empty when they can.", examples=[""])
    shape: list[int] = Field(description="Rows and columns, and 3 in color.", examples=[[2, 2]])
    values: list[list[float | None]] | list[list[list[float | None]]] = Field(
        description="Mean counts, as rows of columns, or of columns of colors; null for NaN.",
        examples=[[[0.5, 1.0], [2.0, 0.25]]],
    )


class Message(BaseModel):
    """One entry of the stream, as WebSockets send it and `documents` lists it."""

    cursor: str = Field(examples=["1795461238076-0"])
    name: str = Field(description="The document's name, or `worker`, or `settled`.", examples=["stream_datum"])
    run: str = Field(
        description="Uid of its run; empty for a worker event.", examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"]
    )
    doc: dict[str, Any] = Field(
        description="The document, verbatim.",
        examples=[
            {
                "uid": "a1c3e1f0-4e7e-4f3b-9d7e-0b8f6c1d2e3f/0",
                "descriptor": "0b4ce8d9-6f0a-4f8e-8d0f-1a2b3c4d5e6f",
                "stream_resource": "a1c3e1f0-4e7e-4f3b-9d7e-0b8f6c1d2e3f",
                "indices": {"start": 0, "stop": 1},
                "seq_nums": {"start": 1, "stop": 2},
            }
        ],
    )


class ErrorDetail(BaseModel):
    """Code and message of an error."""

    code: str = Field(description="For programs.", examples=["run_not_found"])
    message: str = Field(description="For people.", examples=["No run 'x' is in the store; it may have expired."])


class ErrorModel(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = Field(default="ok", examples=["ok"])
    version: str = Field(examples=["0.1.0"])


class Readiness(BaseModel):
    """Whether Redis, worker and broker are ready; `error` only when they are not."""

    ready: bool = Field(examples=[True])
    checks: dict[str, str] = Field(
        description="`ok`, or the problem, by part.", examples=[{"redis": "ok", "worker": "ok"}]
    )
    error: ErrorDetail | None = Field(default=None, description="All problems in one.", examples=[None])
