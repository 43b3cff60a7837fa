"""What the API answers with, as its schema tells it."""

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
    "RunModel",
    "Tag",
]


# lists of a fixed length, and no tuples: those who make clients from a schema understand them
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Span = Annotated[list[float], Field(min_length=2, max_length=2)]
Spans = Annotated[list[Span], Field(min_length=2, max_length=2)]
Bounds = Annotated[list[int], Field(min_length=4, max_length=4)]


class Tag(StrEnum):
    """What a route is about."""

    RUNS = "Runs"
    MAPS = "Maps"
    DOCUMENTS = "Documents"
    FILES = "Files"
    PLANS = "Plans"
    DEMO = "Demo"
    SESSIONS = "Sessions"
    META = "Meta"


class RunModel(BaseModel):
    """One run, as the list of runs tells it; times are in seconds since 1970."""

    model_config = ConfigDict(extra="allow")

    uid: str = Field(examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"])
    plan_name: str = Field(examples=["grid_scan"])
    status: Literal["running", "complete", "incomplete", "aborted", "failed", "lost"] = Field(
        description="`complete` only when every expected point is there.", examples=["complete"]
    )
    points: int = Field(description="Pixels that have been visited.", examples=[63])
    expected: int | None = Field(description="Points of the whole scan; null while nobody knows.", examples=[63])
    started: float = Field(examples=[1795461238.1])
    ended: float | None = Field(examples=[1795461240.8])
    file: str | None = Field(description="Path of its first file, as the writer sees it.", examples=["/data/scan.h5"])


class AxisModel(BaseModel):
    """One axis; coordinates are in the order of the scan's own index and may decrease."""

    name: str = Field(examples=["stage-x"])
    unit: str = Field(description="Empty when nobody told.", examples=["mm"])
    coordinates: list[float] = Field(examples=[[0.0, 0.5, 1.0]])
    known: bool = Field(description="False when the coordinates are mere indices.", examples=[True])


class PositionsModel(BaseModel):
    """Where the points of a path lie along one axis, in the order of the scan; null where nobody has told yet."""

    name: str = Field(examples=["stage-x"])
    unit: str = Field(description="Empty when nobody told.", examples=["mm"])
    values: list[float | None] = Field(examples=[[0.0, 0.4, None]])


class MapsModel(BaseModel):
    """The maps of a run: rows are the slow axis, columns the fast one; null where the stage has not been.

    A scan that visits no grid, as a spiral, is one row of points in the order of the scan, and `positions` tells where
    they lie. A masked grid, or one that is not visited row by row, is that grid.
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
    geometry: str = Field(description="What the shape was read from.", examples=["7 x 9, snaked, from scanspec"])
    source: str = Field(description="What the maps are of.", examples=["camera"])
    sources: list[str] = Field(description="All that there are maps of.", examples=[["camera", "scalars"]])
    channels: dict[str, list[list[float | None]]] = Field(
        description="Counts, by channel, as rows of columns.",
        examples=[{"red": [[1.0, 2.0, 3.0], [None, None, 4.0]], "total": [[9.0, 8.0, 9.0], [None, None, 7.0]]}],
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
    """What went wrong."""

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
    """Whether everything that data need to come through is there; `error` only when it is not."""

    ready: bool = Field(examples=[True])
    checks: dict[str, str] = Field(description="`ok`, or what is wrong.", examples=[{"redis": "ok", "worker": "ok"}])
    error: ErrorDetail | None = Field(default=None, description="What is wrong, in one.", examples=[None])
