"""One run, folded from its documents: geometry, maps, frames, status.

A tab, a reload, the worker after a restart, the API and a test all are the same thing: a :class:`Run` that has been
given the run's documents, in the order of the store. Documents that come twice change nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import orjson

from snakemap.documents import SETTLED, Document
from snakemap.errors import DocumentError
from snakemap.frames import FrameLedger
from snakemap.geometry import Habits, raster_of
from snakemap.maps import Maps
from snakemap.raster import Axis, Raster

__all__ = ["DERIVED", "TOTAL", "Run", "Status", "derived_descriptor", "derived_page", "lost_stop"]

Status = Literal["running", "complete", "incomplete", "aborted", "failed", "lost"]
Rectangle = tuple[int, int, int, int]

DERIVED = "snakemap"
"""Name of the stream that holds our sums, beside the detector's own ``primary``."""

TOTAL = "total"
DEFAULT_CHANNELS = ("red", "green", "blue", TOTAL)
ROIS_MAX = 32
NAMESPACE = uuid.UUID("8a2c3b5e-5a77-4c0e-9a4b-7d1f3c0f6d10")
ENDINGS: dict[str, Status] = {"abort": "aborted", "fail": "failed"}


class Run:
    """The state of one run.

    Args:
        start: its start document.
        habits: what to assume where documents are silent.

    Attributes:
        uid: of the run.
        raster: the grid of its maps; another one when more becomes known, see ``epoch``.
        maps: the grids; empty ones before the first sums.
        epoch: rises when ``raster`` or ``maps`` were replaced, so that a view knows to begin anew.
        version: rises with every document.
        rois: rectangles ``(y0, y1, x0, x1)`` in detector pixels, by channel; empty before the first sums.
        frame_shape: rows and columns of a frame, or None before that is known.
        ledger: the account of its frames.
        stop: the stop document, or None.
        cursor: of the last document folded in.
        heard: when the store took the last document, in seconds since 1970.
    """

    def __init__(self, start: Mapping[str, Any], *, habits: Habits | None = None) -> None:
        self.start = dict(start)
        self.uid: str = start["uid"]
        self.habits = habits or Habits()
        self.raster: Raster = raster_of(self.start, habits=self.habits)
        self.maps = Maps(self.raster, DEFAULT_CHANNELS)
        self.epoch = 0
        self.version = 0
        self.rois: dict[str, Rectangle] = {}
        self.frame_shape: tuple[int, int] | None = None
        self.ledger = FrameLedger()
        self.stop: dict[str, Any] | None = None
        self.settled: dict[str, Any] | None = None
        self.cursor = "0-0"
        self.heard = float(self.start["time"])
        task_id = self.start.get("blueapi_task_id")
        self.task_id: str | None = task_id if isinstance(task_id, str) else None
        self.derived: str | None = None
        self._streams: dict[str, str] = {}

    def apply(self, document: Document, *, cursor: str = "") -> None:
        """Folds one more document of this run in.

        Raises:
            DocumentError: when it cannot be used; the run stays as it was.
        """
        name, doc = document.name, document.doc
        if name == "descriptor":
            self._descriptor(doc)
        elif name == "stream_resource":
            self.ledger.add_resource(doc)
        elif name == "stream_datum":
            self.ledger.add_datum(doc)
        elif name == "event_page" and doc["descriptor"] == self.derived:
            self._sums(doc)
        elif name == "stop":
            self._stop(doc)
        elif name == SETTLED:
            self.settled = doc
        self.task_id = self.task_id or document.task_id
        self.version += 1
        if cursor:
            self.cursor = cursor
            self.heard = int(cursor.partition("-")[0]) / 1000

    @property
    def points(self) -> int:
        """Pixels that have been visited."""
        return self.maps.visited

    @property
    def expected(self) -> int | None:
        """Points of the whole scan, or None while nobody knows."""
        if self.raster.certain:
            return self.raster.size
        if self.stop is None or self.stop["exit_status"] != "success":
            return None
        return self._events()

    @property
    def status(self) -> Status:
        """How it stands; ``complete`` only when every expected point is there.

        A run whose stop says success stays ``running`` until its points are there, or until the worker has settled that
        they will not come.
        """
        if self.stop is None:
            return "running"
        ours = self.stop.get(DERIVED)
        if isinstance(ours, Mapping) and ours.get("status") == "lost":
            return "lost"
        if self.stop["exit_status"] in ENDINGS:
            return ENDINGS[self.stop["exit_status"]]
        if self.expected is not None and self.points >= self.expected:
            return "complete"
        return "incomplete" if self.settled is not None else "running"

    @property
    def reason(self) -> str:
        """Why it ended as it did, in the words of who ended it, or what is missing."""
        if self.stop is None:
            return ""
        told = str(self.stop.get("reason") or "")
        missing = (self.expected or 0) - self.points
        if self.status == "incomplete" and missing > 0:
            told = " ".join(filter(None, (told, f"{missing:,} of {self.expected:,} points are missing.")))
        return told

    @property
    def file(self) -> str | None:
        """Path of its first file, as the writer sees it."""
        for resource in self.ledger.resources.values():
            return unquote(urlsplit(resource.uri).path)
        return None

    @property
    def ended(self) -> float | None:
        """When it stopped, in seconds since 1970."""
        time = self.stop.get("time") if self.stop else None
        return float(time) if isinstance(time, int | float) else None

    def summary(self) -> dict[str, Any]:
        """What the list of runs says of it; plain JSON."""
        return {
            "uid": self.uid,
            "plan_name": str(self.start.get("plan_name", "")),
            "status": self.status,
            "points": self.points,
            "expected": self.expected,
            "started": float(self.start["time"]),
            "ended": self.ended,
            "file": self.file,
            "scan_id": self.start.get("scan_id"),
            "instrument": self.start.get("instrument"),
            "instrument_session": self.start.get("instrument_session"),
            "task_id": self.task_id,
            "reason": self.reason,
            "geometry": self.raster.described,
            "note": self.raster.note,
            "shape": [self.raster.rows, self.raster.columns],
            "beyond": self.maps.beyond,
            "unreadable": self.ledger.given_up,
        }

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        if doc.get("name") == DERIVED:
            self._derived(doc)
            return
        self._streams[doc["uid"]] = str(doc.get("name", "primary"))
        keys = doc["data_keys"].items()
        units = {name: str(key["units"]) for name, key in keys if isinstance(key, Mapping) and key.get("units")}
        before, named = self.raster, self.raster.with_units(units)
        if (before.slow.unit, before.fast.unit) != (named.slow.unit, named.fast.unit):
            self.raster = self.maps.raster = named
            self.epoch += 1
        self.ledger.add_descriptor(doc)

    def _derived(self, doc: Mapping[str, Any]) -> None:
        if doc["uid"] == self.derived:
            return
        try:
            told = doc["configuration"][DERIVED]["data"]
            rois = _rectangles(orjson.loads(told["rois"]))
            height, width = (_whole(size) for size in told["frame_shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"the derived descriptor {doc['uid']} does not tell its ROIs: {error}") from error
        self.derived, self.rois, self.frame_shape = doc["uid"], rois, (height, width)
        self.maps = Maps(self.raster, (*rois, TOTAL))
        self.epoch += 1

    def _sums(self, doc: Mapping[str, Any]) -> None:
        seq_nums, columns = self._columns(doc)
        if not len(seq_nums):
            return
        self._make_room(int(seq_nums.max()))
        self.maps.assign(seq_nums, columns)
        self.ledger.settle_points(seq_nums)

    def _columns(self, doc: Mapping[str, Any]) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
        """Seq_nums (n,) and sums (n,) by channel of a page; null is NaN."""
        data = doc.get("data")
        if not isinstance(data, Mapping):
            raise DocumentError("a page of sums without data")
        try:
            seq_nums = np.array(doc["seq_num"], dtype=np.int64)
            columns = {name: np.array(data[name], dtype=np.float64) for name in self.maps.channels if name in data}
        except (TypeError, ValueError, OverflowError) as error:
            raise DocumentError(f"a page of sums that are not numbers: {error}") from error
        if any(column.shape != seq_nums.shape for column in columns.values()):
            raise DocumentError(f"a page of {len(seq_nums)} points whose columns have another length")
        return seq_nums, columns

    def _make_room(self, seq_num: int) -> None:
        """Lengthens the row of a run whose shape nobody told."""
        if self.raster.certain or seq_num <= self.raster.size:
            return
        longer = raster_of(self.start, habits=self.habits, points=seq_num)
        if longer.size == self.raster.size:
            return  # as long as a row may be
        before, self.raster = self.maps, longer
        self.maps = Maps(self.raster, before.channels)
        known = np.flatnonzero(before.visited_cells())
        values = {name: before.values(number, known) for number, name in enumerate(before.channels)}
        self.maps.assign(known + 1, values)
        self.epoch += 1

    def _stop(self, doc: Mapping[str, Any]) -> None:
        ours = isinstance(doc.get(DERIVED), Mapping)
        if self.stop is None or (not ours and isinstance(self.stop.get(DERIVED), Mapping)):
            # a real stop corrects our own guess that the run was lost
            self.stop = dict(doc)

    def _events(self) -> int | None:
        told = (self.stop or {}).get("num_events")
        stream = self._streams.get(self.ledger.descriptor or "", "primary")
        number = told.get(stream) if isinstance(told, Mapping) else None
        return number if type(number) is int and number > 0 else None


def derived_descriptor(
    run: Run, rois: Mapping[str, Rectangle], *, frame_shape: tuple[int, int], time: float, floating: bool = False
) -> dict[str, Any]:
    """The descriptor of our own stream of sums; the same run and ROIs always give the same uid.

    Args:
        run: that it belongs to.
        rois: rectangles in detector pixels, by channel; the total is added.
        frame_shape: rows and columns of a frame.
        time: now, in seconds since 1970.
        floating: whether the sums are of floating-point frames.
    """
    told = orjson.dumps({name: list(rectangle) for name, rectangle in rois.items()}).decode()
    key = {
        "source": DERIVED,
        "dtype": "number",
        "shape": [],
        "dtype_numpy": "<f8" if floating else "<u8",
        "units": "counts",
    }
    configuration = {
        "data_key": run.ledger.data_key,
        "source": run.ledger.descriptor,
        "rois": told,
        "frame_shape": list(frame_shape),
    }
    keys = {
        name: {
            "source": DERIVED,
            "dtype": "array" if name == "frame_shape" else "string",
            "shape": [2] if name == "frame_shape" else [],
        }
        for name in configuration
    }
    channels = (*rois, TOTAL)
    return {
        "uid": str(uuid.uuid5(NAMESPACE, f"{run.uid} {run.ledger.data_key} {told}")),
        "run_start": run.uid,
        "time": time,
        "name": DERIVED,
        "data_keys": {channel: {**key, "object_name": DERIVED} for channel in channels},
        "object_keys": {DERIVED: list(channels)},
        "configuration": {
            DERIVED: {"data": configuration, "timestamps": dict.fromkeys(configuration, time), "data_keys": keys}
        },
        "hints": {DERIVED: {"fields": list(channels)}},
    }


def derived_page(
    descriptor: str, seq_nums: Sequence[int], sums: Mapping[str, Sequence[float]], *, time: float
) -> dict[str, Any]:
    """An event_page of sums: one column a channel, one entry a point."""
    times = [time] * len(seq_nums)
    return {
        "descriptor": descriptor,
        "seq_num": list(seq_nums),
        "uid": [f"{descriptor}/{seq_num}" for seq_num in seq_nums],
        "time": times,
        "data": {channel: list(column) for channel, column in sums.items()},
        "timestamps": dict.fromkeys(sums, times),
        "filled": {},
    }


def lost_stop(run: Run, reason: str, *, time: float) -> dict[str, Any]:
    """The stop document with which we close a run that will never get one; a real one that comes later corrects it."""
    return {
        "uid": str(uuid.uuid5(NAMESPACE, f"{run.uid} lost")),
        "run_start": run.uid,
        "time": time,
        "exit_status": "fail",
        "reason": f"lost: {reason}",
        "num_events": {},
        DERIVED: {"status": "lost"},
    }


def rois_of(start: Mapping[str, Any], setting: Mapping[str, Rectangle] | None) -> dict[str, Rectangle] | None:
    """The ROIs that the start document tells, else the instrument's, else None: then three bands of the frame serve.

    Raises:
        DocumentError: when ``start.rois`` is there and not usable.
    """
    told = start.get("rois")
    if told is None:
        return dict(setting) if setting else None
    if not told:
        raise DocumentError(f"rois {str(told)[:100]!r} are not rectangles by name")
    try:
        return _rectangles(told)
    except (TypeError, ValueError) as error:
        raise DocumentError(f"rois {str(told)[:100]!r} are not rectangles (y0, y1, x0, x1): {error}") from error


def _rectangles(told: Any) -> dict[str, Rectangle]:
    if not isinstance(told, Mapping):
        raise TypeError(f"a {type(told).__name__} is no set of rectangles by name")
    if len(told) > ROIS_MAX or TOTAL in told:
        raise ValueError(f"at most {ROIS_MAX} rectangles, none of them called {TOTAL}")
    return {str(name): _rectangle(value) for name, value in told.items()}


def _rectangle(value: Any) -> Rectangle:
    y0, y1, x0, x1 = (_whole(bound) for bound in value)
    if not (0 <= y0 < y1 and 0 <= x0 < x1):
        raise ValueError(f"{(y0, y1, x0, x1)} is not y0 < y1, x0 < x1, from 0 on")
    return y0, y1, x0, x1


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:100]} is not a whole number of pixels")
    return value


def axes_summary(raster: Raster) -> dict[str, dict[str, Any]]:
    """Name, unit and coordinates of both axes, plain JSON; coordinates are in the order of the scan's index."""

    def told(axis: Axis) -> dict[str, Any]:
        return {"name": axis.name, "unit": axis.unit, "coordinates": axis.coordinates.tolist(), "known": axis.known}

    return {"slow": told(raster.slow), "fast": told(raster.fast)}
