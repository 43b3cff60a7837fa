"""Data of a beamline that is not there: frames, maps and documents that follow from a shape and a seed alone."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from snakemap.core.channels import TOTAL
from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document, Entry
from snakemap.core.run import Run
from snakemap.errors import Busy
from snakemap.synthetic.frames import FrameRenderer
from snakemap.synthetic.paths import FAST, SLOW
from snakemap.synthetic.patterns import INSTRUMENT_FRAME, INSTRUMENT_ROIS
from snakemap.synthetic.request import Dtype, ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["SyntheticScan", "SyntheticScans", "frame"]

Result = TypeVar("Result")

CAMERA = "camera"
NAMESPACE = uuid.UUID("3d0b6b0e-6c1b-4b52-9b6a-0f6f7a0f2c11")
DARK, BRIGHT, GLOW = 20_000.0, 1_200_000.0, 3_500_000.0
"""Counts of a region of the instrument in the dark, more of them at brightness 1, and of all that is no region."""

SCENES_KEPT = 8
DRAWING_MAX, WAITING_MAX = 2, 16
PAGES_PER_S = 10.0


class SyntheticScan:
    """One scan of one sample; its counts are worked out as far as somebody has asked.

    Args:
        shape: points along the slow axis and along the fast one.
        seed: of all noise.
    """

    def __init__(self, shape: tuple[int, int], seed: int) -> None:
        self.request = ScanRequest(shape=shape, seed=seed)
        self.sample = Sample(self.request)
        self.points = self.request.points
        self.channels = (*INSTRUMENT_ROIS, TOTAL)
        self.uid = str(uuid.uuid5(NAMESPACE, f"{shape} {seed}"))
        self._counts = np.empty((self.points, len(self.channels)))
        self._known = 0

    def counts(self, points: int) -> npt.NDArray[np.float64]:
        """Counts (points, channels) of the first points, in the order of the scan."""
        known = self._known  # once: another thread may be here at the same time, with the same result
        if points > known:
            sums = np.rint(DARK + BRIGHT * self.sample.brightnesses(known, points))
            self._counts[known:points] = np.column_stack([sums, GLOW + sums.sum(axis=1)])
            self._known = points
        return self._counts[:points]

    def run(self, points: int) -> Run:
        """The run as its documents tell it after so many points; its cursor counts them."""
        run = Run(self.start(0.0))
        for document in self._described(run, 0.0):
            run.apply(document)
        counts = self.counts(points)
        if points:
            run.maps.assign(np.arange(1, points + 1), dict(zip(self.channels, counts.T, strict=True)))
        run.cursor = f"{points}-0"
        return run

    def start(self, now: float) -> dict[str, Any]:
        """The start document; every connection tells the same run."""
        (rows, columns), (slow_step, step), (y, x) = (
            self.request.shape,
            self.request.steps_mm,
            self.request.origin_mm,
        )
        return {
            "uid": self.uid,
            "time": now,
            "scan_id": 1 + self.request.seed,
            "plan_name": "random_scan",
            "plan_type": "generator",
            "detectors": [CAMERA],
            "motors": [SLOW, FAST],
            "num_points": self.points,
            "shape": [rows, columns],
            "extents": [[y, y + slow_step * (rows - 1)], [x, x + step * (columns - 1)]],
            "snaking": [False, True],
            "hints": {"gridding": "rectilinear", "dimensions": [[[SLOW], "primary"], [[FAST], "primary"]]},
        }

    async def entries(self, rate_hz: float, *, clock: Callable[[], float] = time.time) -> AsyncGenerator[list[Entry]]:
        """The documents of the scan at its pace, as the store tells them; the first batch is empty.

        They tell of a file, as all scans do, which nobody has written.

        Args:
            rate_hz: points a second.
            clock: seconds since 1970.
        """
        yield []
        began, numbers = clock(), itertools.count()

        def entry(document: Document) -> Entry:
            return Entry(f"{int(clock() * 1000)}-{next(numbers)}", document.name, self.uid, None, document.doc)

        run = Run(start := self.start(began))
        primary, sums = self._described(run, began)
        resource = Document("stream_resource", self._resource(), run=self.uid)
        yield [entry(one) for one in (Document("start", start, run=self.uid), primary, resource, sums)]
        told = 0
        while told < self.points:
            await asyncio.sleep(max(1 / rate_hz, 1 / PAGES_PER_S))
            ready = min(self.points, int((clock() - began) * rate_hz))
            if ready > told:
                pages = await asyncio.to_thread(self._points, (primary, sums), told, ready, clock())
                yield [entry(page) for page in pages]
                told = ready
        yield [entry(Document("stop", self._stop(clock()), run=self.uid))]

    def _described(self, run: Run, now: float) -> list[Document]:
        """The descriptors: the detector's own, and that of the sums."""
        readback = {"source": "random", "dtype": "number", "dtype_numpy": "<f8", "shape": [], "units": "mm"}
        frames = {
            "source": "random", "dtype": "array", "dtype_numpy": "|u1", "shape": [1, *INSTRUMENT_FRAME],
            "external": "STREAM:",
        }  # fmt: skip
        keys = {SLOW: readback, FAST: readback, CAMERA: frames}
        primary = {
            "uid": str(uuid.uuid5(NAMESPACE, f"{self.uid} primary")),
            "run_start": self.uid,
            "time": now,
            "name": "primary",
            "data_keys": {name: {**key, "object_name": name} for name, key in keys.items()},
            "object_keys": {name: [name] for name in keys},
            "configuration": {name: {"data": {}, "timestamps": {}, "data_keys": {}} for name in keys},
            "hints": {SLOW: {"fields": [SLOW]}, FAST: {"fields": [FAST]}, CAMERA: {"fields": []}},
        }
        known = Run(run.start)
        known.apply(Document("descriptor", primary, run=self.uid))
        sums = derived_descriptor(known, INSTRUMENT_ROIS, frame_shape=INSTRUMENT_FRAME, time=now)
        return [Document("descriptor", doc, run=self.uid) for doc in (primary, sums)]

    def _resource(self) -> dict[str, Any]:
        return {
            "uid": str(uuid.uuid5(NAMESPACE, f"{self.uid} file")),
            "run_start": self.uid,
            "data_key": CAMERA,
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost/random/{self.uid}.h5",
            "parameters": {"dataset": "/entry/data/data", "chunk_shape": [1, *INSTRUMENT_FRAME]},
        }

    def _points(self, descriptors: tuple[Document, Document], start: int, stop: int, now: float) -> list[Document]:
        """What some points bring: their frames are announced, then where the stage was, then their sums."""
        seq_nums = list(range(start + 1, stop + 1))
        counts = self.counts(stop)[start:stop]
        places = self.sample.positions(start, stop)
        primary, sums = (descriptor.doc["uid"] for descriptor in descriptors)
        columns = dict(zip(self.channels, counts.T.tolist(), strict=True))
        resource = self._resource()["uid"]
        datum = {
            "uid": f"{resource}/{start}",
            "stream_resource": resource,
            "descriptor": primary,
            "indices": {"start": start, "stop": stop},
            "seq_nums": {"start": start + 1, "stop": stop + 1},
        }
        pages = (
            derived_page(primary, seq_nums, {SLOW: places[:, 0].tolist(), FAST: places[:, 1].tolist()}, time=now),
            derived_page(sums, seq_nums, columns, time=now, indices=range(start, stop)),
        )
        announced = Document("stream_datum", datum, run=self.uid)
        return [announced, *(Document("event_page", page, run=self.uid) for page in pages)]

    def _stop(self, now: float) -> dict[str, Any]:
        return {
            "uid": str(uuid.uuid5(NAMESPACE, f"{self.uid} stop")),
            "run_start": self.uid,
            "time": now,
            "exit_status": "success",
            "reason": "",
            "num_events": {"primary": self.points, "snakemap": self.points},
        }


class SyntheticScans:
    """The scenes that somebody has asked for lately; drawing is done elsewhere, two at a time, and few may wait."""

    def __init__(self) -> None:
        self._scenes: OrderedDict[tuple[tuple[int, int], int], SyntheticScan] = OrderedDict()
        self._drawing = asyncio.Semaphore(DRAWING_MAX)
        self._waiting = 0

    def scene(self, shape: tuple[int, int], seed: int) -> SyntheticScan:
        """The scene of a shape and a seed."""
        scene = self._scenes.pop((shape, seed), None) or SyntheticScan(shape, seed)
        self._scenes[shape, seed] = scene
        if len(self._scenes) > SCENES_KEPT:
            self._scenes.popitem(last=False)
        return scene

    async def draw(self, draw: Callable[[], Result]) -> Result:
        """Runs something that takes its time where it holds nobody up.

        Raises:
            Busy: when too many wait for that already.
        """
        if self._waiting >= WAITING_MAX:
            raise Busy("too many random data are being made; try again later")
        self._waiting += 1
        try:
            async with self._drawing:
                return await asyncio.to_thread(draw)
        finally:
            self._waiting -= 1


def frame(frame_shape: tuple[int, int], seed: int, dtype: Dtype, point: int) -> npt.NDArray[np.generic]:
    """A frame (rows, columns) of the simulated camera, at a point of a scan of 60x60."""
    request = ScanRequest(frame_shape=frame_shape, seed=seed, dtype=dtype, gzip=0)
    return FrameRenderer(request).frame(point)
