"""Synthetic frames, maps and documents from a shape and a seed."""

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
"""Counts of a region of the instrument in the dark, additional ones at brightness 1, and those outside of regions."""

SCANS_KEPT = 8
DRAWING_MAX, WAITING_MAX = 2, 16
PAGES_PER_S = 10.0


class SyntheticScan:
    """One scan of one sample; its counts are calculated on demand.

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
        """Return counts (points, channels) of the first points, in scan order."""
        known = self._known  # read once: another thread may calculate the same
        if points > known:
            sums = np.rint(DARK + BRIGHT * self.sample.brightnesses(known, points))
            self._counts[known:points] = np.column_stack([sums, GLOW + sums.sum(axis=1)])
            self._known = points
        return self._counts[:points]

    def run(self, points: int) -> Run:
        """Return the run after a number of points, folded from its documents; its cursor counts them."""
        run = Run(self.start(0.0))
        for document in self._described(run, 0.0):
            run.apply(document)
        counts = self.counts(points)
        if points:
            run.maps.assign(np.arange(1, points + 1), dict(zip(self.channels, counts.T, strict=True)))
        run.cursor = f"{points}-0"
        return run

    def start(self, now: float) -> dict[str, Any]:
        """Return the start document; all connections have the same run."""
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
        """Yield the documents of the scan at its rate, as entries of a store; the first batch is empty.

        They name a file, as all scans do, but it does not exist.

        Args:
            rate_hz: points per second.
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
        sent = 0
        while sent < self.points:
            await asyncio.sleep(max(1 / rate_hz, 1 / PAGES_PER_S))
            ready = min(self.points, int((clock() - began) * rate_hz))
            if ready > sent:
                pages = await asyncio.to_thread(self._points, (primary, sums), sent, ready, clock())
                yield [entry(page) for page in pages]
                sent = ready
        yield [entry(Document("stop", self._stop(clock()), run=self.uid))]

    def _described(self, run: Run, now: float) -> list[Document]:
        """Return the descriptors: the detector's own, and that of the sums."""
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
        """Return the documents of points: the announcement of frames, the positions, the sums."""
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
    """Recently used synthetic scans; frames are drawn in threads, two at a time, with a bounded queue."""

    def __init__(self) -> None:
        self._scans: OrderedDict[tuple[tuple[int, int], int], SyntheticScan] = OrderedDict()
        self._drawing = asyncio.Semaphore(DRAWING_MAX)
        self._waiting = 0

    def scan(self, shape: tuple[int, int], seed: int) -> SyntheticScan:
        """Return the scan of a shape and a seed."""
        scan = self._scans.pop((shape, seed), None) or SyntheticScan(shape, seed)
        self._scans[shape, seed] = scan
        if len(self._scans) > SCANS_KEPT:
            self._scans.popitem(last=False)
        return scan

    async def draw(self, draw: Callable[[], Result]) -> Result:
        """Run a slow function in a thread.

        Raises:
            Busy: too many calls wait already.
        """
        if self._waiting >= WAITING_MAX:
            raise Busy("the server generates too much random data at the moment; try again later")
        self._waiting += 1
        try:
            async with self._drawing:
                return await asyncio.to_thread(draw)
        finally:
            self._waiting -= 1


def frame(frame_shape: tuple[int, int], seed: int, dtype: Dtype, point: int) -> npt.NDArray[np.generic]:
    """Return a frame (rows, columns) of the simulated camera, at a point of a scan of 60x60."""
    request = ScanRequest(frame_shape=frame_shape, seed=seed, dtype=dtype, gzip=0)
    return FrameRenderer(request).frame(point)
