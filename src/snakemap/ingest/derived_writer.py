"""Write sums and scalars to the store, as documents of the run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from snakemap.core.cursor import cursor_ms
from snakemap.core.derived_documents import derived_page
from snakemap.core.documents import Document
from snakemap.core.frame_ledger import FrameLedger, RowRange
from snakemap.core.json_values import is_list
from snakemap.core.run import Run
from snakemap.ingest.file_data import SummedData
from snakemap.ingest.latency import LatencyTracker
from snakemap.ingest.worker_stats import WorkerStats
from snakemap.store.interfaces import WorkerStore

__all__ = ["DerivedWriter", "still_wanted"]

OWN_MAX = 1000
"""Pages that are remembered until the store has returned them."""

WAITING_MAX = 8
"""Row ranges that may wait to be stored; reading continues meanwhile, and stops while Redis cannot be reached."""


class DerivedWriter:
    """Appends the sums of one run to the store, in batches, and applies them to the run once they are stored.

    Args:
        run: the run.
        store: retried while it cannot be reached.
        stats: clock and counts.

    Attributes:
        latency: of this run; points count when they are stored.
    """

    def __init__(self, run: Run, store: WorkerStore, *, stats: WorkerStats) -> None:
        self.run = run
        self.store = store
        self.stats = stats
        self.latency = LatencyTracker(stats.work.point_lag)
        self._waiting: asyncio.Queue[SummedData] = asyncio.Queue(WAITING_MAX)
        self._wrote: deque[tuple[Any, Any]] = deque(maxlen=OWN_MAX)

    async def put(self, summed: SummedData) -> None:
        """Queue a row range; wait while the queue is full."""
        await self._waiting.put(summed)

    async def written(self) -> None:
        """Return when everything in the queue is stored."""
        await self._waiting.join()

    def wrote(self, page: Mapping[str, Any]) -> bool:
        """Return whether this worker wrote a page of sums lately; else it comes from a replayed recording."""
        return _mark(page) in self._wrote

    async def write(self) -> None:
        """Write until cancelled."""
        while True:
            together = [await self._waiting.get()]
            while not self._waiting.empty():
                together.append(self._waiting.get_nowait())
            groups = _by_file_data(together)
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
        cursors = await self.stats.retry(lambda: self.store.append(documents))
        # a frame that was announced again meanwhile reopens its point; only the others are done
        for group in groups:
            stored = self._documents(group)
            for document in stored:
                self.run.apply(document)
            if group[0].file_data.shows:
                self._count(group, stored, at=cursor_ms(cursors[-1]) / 1000)

    def _count(self, group: Sequence[SummedData], stored: Sequence[Document], *, at: float) -> None:
        """Count camera points that are in the store since ``at``, in seconds since 1970.

        The frames of a finished file are announced all at once and read one by one: they have no latency.
        """
        pages = [document.doc for document in stored if document.name == "event_page"]
        self.stats.work.points += sum(len(page["seq_num"]) for page in pages)
        if pages and not self.run.opened:
            for summed in group:
                self.latency.written(summed.row_range, at=at)

    def _documents(self, group: Sequence[SummedData]) -> list[Document]:
        """Return the derived descriptor if the run has none, one page of the sums still needed, and new remarks."""
        file_data, time = group[0].file_data, self.stats.clock.now()
        uid = file_data.described
        descriptor = None if uid else file_data.describe(group[0], time=time)
        page = self._page(group, uid or (descriptor or {})["uid"], time)
        described = [] if descriptor is None else [descriptor]
        documents = [self._document("descriptor", doc) for doc in (*described, *file_data.remark(time=time))]
        return documents if page is None else [*documents, self._document("event_page", page)]

    def _page(self, group: Sequence[SummedData], descriptor: str, time: float) -> dict[str, Any] | None:
        seq_nums: list[int] = []
        rows: list[int] = []
        files: list[int] = []
        columns: dict[str, list[float]] = {channel: [] for channel in group[0].columns}
        for summed in group:
            for part in still_wanted(summed.file_data.ledger, summed.row_range):
                offset = part.index - summed.row_range.index
                seq_nums += range(part.seq_num, part.seq_num + part.count)
                rows += range(part.index, part.index + part.count)
                files += [summed.file_data.ledger.number_of(part.resource)] * part.count
                for channel, column in columns.items():
                    column += summed.columns[channel][offset : offset + part.count].tolist()
        return derived_page(descriptor, seq_nums, columns, time=time, indices=rows, files=files) if seq_nums else None

    async def _show(self, group: Sequence[SummedData]) -> None:
        """Save the newest frame for display."""
        summed = next((summed for summed in reversed(group) if summed.frame is not None), None)
        if summed is None or summed.frame is None or summed.frame_shape is None:
            return
        frame, row_range, source = summed.frame, summed.row_range, summed.file_data.name
        about = {
            "seq_num": row_range.seq_num + row_range.count - 1,
            "frame_shape": list(summed.frame_shape),
            "time": self.stats.clock.now(),
        }
        await self.stats.retry(lambda: self.store.save_frame(self.run.uid, frame, about=about, source=source))

    def _document(self, name: str, doc: dict[str, Any]) -> Document:
        return Document(name, doc, run=self.run.uid, task_id=self.run.task_id)


def _mark(page: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what identifies a page of a run: its points, and when it was made."""
    uids, times = page.get("uid"), page.get("time")
    return (str(uids[0]) + str(uids[-1]) if is_list(uids) and uids else None), str(times)[:40]


def _by_file_data(together: Sequence[SummedData]) -> list[list[SummedData]]:
    groups: dict[int, list[SummedData]] = {}
    for summed in together:
        groups.setdefault(id(summed.file_data), []).append(summed)
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
