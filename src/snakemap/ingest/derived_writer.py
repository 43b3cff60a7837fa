"""What has been read, on its way into the store: pages of sums and scalars as documents of the run they belong to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from snakemap.core.cursor import cursor_ms
from snakemap.core.derived_documents import derived_page
from snakemap.core.documents import Document
from snakemap.core.frame_ledger import FrameLedger, RowRange
from snakemap.core.run import Run
from snakemap.ingest.file_data import SummedData
from snakemap.ingest.latency import LatencyTracker
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.interfaces import WorkerStore

__all__ = ["DerivedWriter", "still_wanted"]

OWN_MAX = 1000
"""Pages that are remembered as ours until the store has brought them back."""

WAITING_MAX = 8
"""Pieces that may wait for the store; reading goes on meanwhile, and stops when the store is away."""


class DerivedWriter:
    """Appends what was read of one run to it, together what has come together, and folds it in when it is stored.

    Args:
        run: that it belongs to.
        store: where it goes; while it is away it waits.
        tally: the clock, and who waits for the store.

    Attributes:
        lags: of this run; points count there as they are stored.
    """

    def __init__(self, run: Run, store: WorkerStore, *, tally: WorkerStats) -> None:
        self.run = run
        self.store = store
        self.tally = tally
        self.lags = LatencyTracker(tally.work.point_lag)
        self._waiting: asyncio.Queue[SummedData] = asyncio.Queue(WAITING_MAX)
        self._wrote: deque[tuple[Any, Any]] = deque(maxlen=OWN_MAX)

    async def put(self, summed: SummedData) -> None:
        """Take a row range over; waits while too many wait already."""
        await self._waiting.put(summed)

    async def written(self) -> None:
        """Return when everything taken over is in the store."""
        await self._waiting.join()

    def wrote(self, page: Mapping[str, Any]) -> bool:
        """Return whether this worker wrote a page of sums lately; else it comes from a replayed recording."""
        return _mark(page) in self._wrote

    async def write(self) -> None:
        """Go on until it is cancelled."""
        while True:
            together = [await self._waiting.get()]
            while not self._waiting.empty():
                together.append(self._waiting.get_nowait())
            groups = _by_feed(together)
            await self._append(groups)
            for group in groups:
                await self._show(group)
            for _ in together:
                self._waiting.task_done()

    async def _append(self, groups: Sequence[Sequence[SummedData]]) -> None:
        documents = [document for group in groups for document in self._documents(group)]
        if not documents:
            return
        self._wrote.extend(_mark(document.doc) for document in documents if document.name == "event_page")
        cursors = await self.tally.insist(lambda: self.store.append(documents))
        # a frame that was announced again meanwhile takes its point back; only the others are done with
        for group in groups:
            stored = self._documents(group)
            for document in stored:
                self.run.apply(document)
            if group[0].feed.shows:
                self._count(group, stored, at=cursor_ms(cursors[-1]) / 1000)

    def _count(self, group: Sequence[SummedData], stored: Sequence[Document], *, at: float) -> None:
        """Count points of a camera that are in the store since ``at``, in seconds since 1970.

        What a finished file holds was announced all at once and is read one after the other: that is no lag.
        """
        pages = [document.doc for document in stored if document.name == "event_page"]
        self.tally.work.points += sum(len(page["seq_num"]) for page in pages)
        if pages and not self.run.opened:
            for summed in group:
                self.lags.written(summed.row_range, at=at)

    def _documents(self, group: Sequence[SummedData]) -> list[Document]:
        """Return the derived descriptor if the run has none, one page of the sums still needed, and new remarks."""
        feed, time = group[0].feed, self.tally.clock.now()
        uid = feed.described
        descriptor = None if uid else feed.describe(group[0], time=time)
        page = self._page(group, uid or (descriptor or {})["uid"], time)
        described = [] if descriptor is None else [descriptor]
        documents = [self._document("descriptor", doc) for doc in (*described, *feed.remark(time=time))]
        return documents if page is None else [*documents, self._document("event_page", page)]

    def _page(self, group: Sequence[SummedData], descriptor: str, time: float) -> dict[str, Any] | None:
        seq_nums: list[int] = []
        rows: list[int] = []
        columns: dict[str, list[float]] = {channel: [] for channel in group[0].columns}
        for summed in group:
            for part in still_wanted(summed.feed.ledger, summed.row_range):
                offset = part.index - summed.row_range.index
                seq_nums += range(part.seq_num, part.seq_num + part.count)
                rows += range(part.index, part.index + part.count)
                for channel, column in columns.items():
                    column += summed.columns[channel][offset : offset + part.count].tolist()
        return derived_page(descriptor, seq_nums, columns, time=time, indices=rows) if seq_nums else None

    async def _show(self, group: Sequence[SummedData]) -> None:
        """Keep the newest frame for the screen."""
        summed = next((summed for summed in reversed(group) if summed.frame is not None), None)
        if summed is None or summed.frame is None or summed.frame_shape is None:
            return
        frame, row_range, source = summed.frame, summed.row_range, summed.feed.name
        about = {
            "seq_num": row_range.seq_num + row_range.count - 1,
            "frame_shape": list(summed.frame_shape),
            "time": self.tally.clock.now(),
        }
        await self.tally.insist(lambda: self.store.save_frame(self.run.uid, frame, about=about, source=source))

    def _document(self, name: str, doc: dict[str, Any]) -> Document:
        return Document(name, doc, run=self.run.uid, task_id=self.run.task_id)


def _mark(page: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what tells one page of a run from the others: of which points it is, and when it was made."""
    uids, times = page.get("uid"), page.get("time")
    return (str(uids[0]) + str(uids[-1]) if isinstance(uids, list) and uids else None), str(times)[:40]


def _by_feed(together: Sequence[SummedData]) -> list[list[SummedData]]:
    groups: dict[int, list[SummedData]] = {}
    for summed in together:
        groups.setdefault(id(summed.feed), []).append(summed)
    return list(groups.values())


def still_wanted(ledger: FrameLedger, row_range: RowRange) -> list[RowRange]:
    """Return the parts of a row range whose points have not been read or announced again meanwhile."""
    ledger.put_back(row_range)
    parts: list[RowRange] = []
    while (part := ledger.pending(limit=row_range.count)) is not None:
        offset = part.index - row_range.index
        inside = 0 <= offset <= row_range.count - part.count and part == row_range.part(offset, part.count)
        if not inside:
            ledger.put_back(part)
            break
        parts.append(part)
        if offset + part.count == row_range.count:
            break
    return parts
