"""A run that nobody scanned, appended to the store as the worker would have: for tests of pages and the API."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import redis

from snakemap.core.cursor import cursor_ms
from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document
from snakemap.core.raster import Raster
from snakemap.core.run import Run
from snakemap.render.thumbnail import thumbnail
from snakemap.store.keys import STREAM
from snakemap.store.store import Store

__all__ = ["MadeUpRun"]

ROIS = {"red": (0, 8, 0, 8), "green": (8, 16, 0, 8), "blue": (16, 24, 0, 8)}


class MadeUpRun:
    """A snaked scan over random counts.

    Args:
        redis_url: of the store.
        shape: rows and columns.
        start: added to the start document.
        rois: regions by name.
        scalars: values (points,) that events hold, by data key.
        units: of scalars, by data key.
        file: uri of the file that its frames, (24, 8) each, are said to be in; empty for none.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        shape: tuple[int, int] = (8, 10),
        start: dict[str, Any] | None = None,
        rois: dict[str, tuple[int, int, int, int]] = ROIS,
        seed: int = 1,
        scalars: dict[str, np.ndarray] | None = None,
        units: dict[str, str] | None = None,
        file: str = "",
    ) -> None:
        rows, columns = shape
        spec = {
            "type": "Product",
            "outer": {"type": "Linspace", "axis": "stage-y", "start": 1.0, "stop": 2.0, "num": rows},
            "inner": {
                "type": "Snake",
                "spec": {"type": "Linspace", "axis": "stage-x", "start": -1.0, "stop": 1.0, "num": columns},
            },
            "gap": True,
        }
        self.url = redis_url
        self._last = ""
        self._reached: list[tuple[int, int]] = []
        self.uid = str(uuid.uuid4())
        doc = {"uid": self.uid, "time": time.time(), "plan_name": "made_up", "scan_id": 7, "scanspec": spec}
        self.start = {**doc, "units": {"stage-x": "mm", "stage-y": "mm"}, **(start or {})}
        self.channels = (*rois, "total")
        rng = np.random.default_rng(seed)
        self.sums = rng.integers(1_000, 1_000_000, (len(self.channels), rows, columns))
        self.run = Run(self.start)
        self.points = rows * columns
        self.scalars = scalars or {}
        keys: dict[str, dict[str, Any]] = {
            key: {"source": "made up", "dtype": "number", "shape": [], "units": (units or {}).get(key, "")}
            for key in self.scalars
        }
        keys["camera"] = {"source": "made up", "dtype": "array", "shape": [1, 24, 8], "external": "STREAM:"}
        self._primary = {"uid": f"{self.uid}/primary", "run_start": self.uid, "time": time.time(), "data_keys": keys}
        self._append(
            [
                Document("start", self.start, run=self.uid),
                Document("descriptor", {**self._primary, "name": "primary"}, run=self.uid),
            ]
        )
        self._descriptor = derived_descriptor(self.run, rois, frame_shape=(24, 8), time=time.time())
        self._append([Document("descriptor", self._descriptor, run=self.uid)])
        self._file = f"{self.uid}/file" if file else ""
        if file:
            told = {"mimetype": "application/x-hdf5", "uri": file, "parameters": {"dataset": "/data"}}
            resource = {"uid": self._file, "run_start": self.uid, "data_key": "camera", **told}
            self._append([Document("stream_resource", resource, run=self.uid)])

    def add(self, first: int, last: int) -> None:
        """Appends the sums of some points, both inclusive, from 1 on."""
        seq_nums = list(range(first, last + 1))
        rows, columns = self._places(seq_nums)
        data = {name: self.sums[k, rows, columns].tolist() for k, name in enumerate(self.channels)}
        page = derived_page(self._descriptor["uid"], seq_nums, data, time=time.time())
        told = {key: values[first - 1 : last].tolist() for key, values in self.scalars.items()}
        events = derived_page(self._primary["uid"], seq_nums, told, time=time.time())
        documents = [Document("event_page", doc, run=self.uid) for doc in ([events] if told else []) + [page]]
        if self._file:
            of = {"stream_resource": self._file, "descriptor": self._primary["uid"]}
            spans = {"indices": {"start": first - 1, "stop": last}, "seq_nums": {"start": first, "stop": last + 1}}
            datum = {"uid": f"{self._file}/{first}", **of, **spans}
            documents.insert(0, Document("stream_datum", datum, run=self.uid))
        self._append(documents)
        self._reached.append((cursor_ms(self._last), last))

    def later(self, seconds: float) -> None:
        """Have the store date what comes next so much later, without waiting; from then on its clock is behind."""
        with redis.Redis.from_url(self.url) as client:
            about: Any = client.xinfo_stream(STREAM)
            last_ms = int(about["last-generated-id"].split(b"-")[0])
            client.execute_command("XSETID", STREAM, f"{last_ms + round(1000 * seconds)}-0")

    def reached(self, moment_ms: int) -> int:
        """Return how many points the store had at a moment, in milliseconds since 1970."""
        return max((last for at, last in self._reached if at <= moment_ms), default=0)

    def stop(self, exit_status: str = "success") -> None:
        """Ends the run."""
        doc = {"uid": "stop", "run_start": self.uid, "time": time.time(), "exit_status": exit_status, "num_events": {}}
        self._append([Document("stop", doc, run=self.uid)])

    def draw(self) -> None:
        """Keeps a small picture of its maps, as the worker does."""
        self._work(lambda store: store.save_picture(self.uid, thumbnail(self.run.maps)))

    def expected(self, last: int) -> dict[str, np.ndarray]:
        """The maps after some points, as drawn (both axes rise); NaN where not visited."""
        rows, columns = self._places(range(1, last + 1))
        maps = {}
        for k, name in enumerate(self.channels):
            maps[name] = np.full(self.sums.shape[1:], np.nan)
            maps[name][rows, columns] = self.sums[k, rows, columns]
        return maps

    def value(self, channel: str, seq_num: int) -> float:
        """The sum of one point."""
        (row,), (column,) = self._places([seq_num])
        return float(self.sums[self.channels.index(channel), row, column])

    def _places(self, seq_nums: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of some points in the shape that was asked for, snaked, whatever the documents tell."""
        shape = self.sums.shape[1:]
        rows, columns, _ = Raster.of_shape(shape, snake=True, source="made up").pixel(seq_nums)
        return rows, columns

    def _append(self, documents: list[Document]) -> None:
        async def append(store: Store) -> None:
            cursors = await store.append(documents)
            for document, cursor in zip(documents, cursors, strict=True):
                self.run.apply(document, cursor=cursor)
            self._last = cursors[-1]
            await store.save_summary(self.uid, self.run.summary())
            await store.report("ingest", {"host": "here", "waiting": 0, "broker": "none"}, ttl_s=600)

        self._work(append)

    def _work(self, what: Callable[[Store], Awaitable[None]]) -> None:
        async def work() -> None:
            store = Store(self.url)
            await what(store)
            await store.close()

        # Playwright keeps a loop running in the main thread
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(work())).result()
