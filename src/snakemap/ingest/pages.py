"""What has been summed, on its way into the store: pages of sums as documents of the run they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from snakemap.documents import Document, Message
from snakemap.frames import FrameLedger, Piece
from snakemap.ingest.regions import Regions, with_trouble
from snakemap.ingest.tally import Tally
from snakemap.runs import TOTAL, Run, derived_descriptor, derived_page

__all__ = ["Pages", "Summed", "still_wanted"]

WAITING_MAX = 4
"""Pieces that may wait for the store; reading goes on meanwhile, and stops when the store is away."""


class Store(Protocol):
    """What is needed of :class:`snakemap.store.Store`."""

    async def append(self, messages: Sequence[Message]) -> list[str]: ...
    async def save_frame(self, uid: str, frame: npt.NDArray[Any], *, about: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Summed:
    """A piece that has been read.

    Attributes:
        piece: its points.
        sums: (points, ROIs + 1) in counts: each ROI in order, then the total.
        regions: what was summed over.
        frame_shape: rows and columns of a frame.
        frame: the last frame of the piece, downsampled for the screen; None when nobody asked for it.
    """

    piece: Piece
    sums: npt.NDArray[Any]
    regions: Regions
    frame_shape: tuple[int, int]
    frame: npt.NDArray[Any] | None = None


class Pages:
    """Appends the sums of one run to it, together what has come together, and folds them in when they are stored.

    Args:
        run: that the sums belong to.
        store: where they go; while it is away they wait.
        tally: the clock, and who waits for the store.
    """

    def __init__(self, run: Run, store: Store, *, tally: Tally) -> None:
        self.run = run
        self.store = store
        self.tally = tally
        self._waiting: asyncio.Queue[Summed] = asyncio.Queue(WAITING_MAX)

    async def put(self, summed: Summed) -> None:
        """Takes a piece over; waits while too many wait already."""
        await self._waiting.put(summed)

    async def written(self) -> None:
        """Returns when everything taken over is in the store."""
        await self._waiting.join()

    async def write(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            together = [await self._waiting.get()]
            while not self._waiting.empty():
                together.append(self._waiting.get_nowait())
            await self._append(together)
            await self._show(together)
            for _ in together:
                self._waiting.task_done()

    async def _append(self, together: Sequence[Summed]) -> None:
        documents = [*self._descriptor(together[0]), *self._page(together)]
        if not documents:
            return
        await self.tally.insist(lambda: self.store.append(documents))
        # a frame that was announced again meanwhile takes its point back; only the others are done with
        for document in (*self._descriptor(together[0]), *self._page(together)):
            self.run.apply(document)

    def _descriptor(self, summed: Summed) -> list[Document]:
        """The descriptor of our stream, as long as the run has none."""
        if self.run.derived is not None:
            return []
        doc = derived_descriptor(
            self.run,
            summed.regions.rectangles,
            frame_shape=summed.frame_shape,
            time=self.tally.clock.now(),
            floating=summed.sums.dtype.kind == "f",
        )
        return [self._document("descriptor", with_trouble(doc, summed.regions.trouble))]

    def _page(self, together: Sequence[Summed]) -> list[Document]:
        """One page of what is still wanted, or none."""
        seq_nums: list[int] = []
        rows: list[list[float]] = []
        for summed in together:
            for part in still_wanted(self.run.ledger, summed.piece):
                offset = part.index - summed.piece.index
                seq_nums += range(part.seq_num, part.seq_num + part.count)
                rows += summed.sums[offset : offset + part.count].tolist()
        if not seq_nums:
            return []
        channels = (*together[0].regions.rectangles, TOTAL)
        sums = dict(zip(channels, zip(*rows, strict=True), strict=True))
        descriptor = self.run.derived or self._descriptor(together[0])[0].doc["uid"]
        page = derived_page(descriptor, seq_nums, sums, time=self.tally.clock.now())
        return [self._document("event_page", page)]

    async def _show(self, together: Sequence[Summed]) -> None:
        """Keeps the newest frame for the screen."""
        summed = next((summed for summed in reversed(together) if summed.frame is not None), None)
        if summed is None or summed.frame is None:
            return
        frame, piece = summed.frame, summed.piece
        about = {
            "seq_num": piece.seq_num + piece.count - 1,
            "frame_shape": list(summed.frame_shape),
            "time": self.tally.clock.now(),
        }
        await self.tally.insist(lambda: self.store.save_frame(self.run.uid, frame, about=about))

    def _document(self, name: str, doc: dict[str, Any]) -> Document:
        return Document(name, doc, run=self.run.uid, task_id=self.run.task_id)


def still_wanted(ledger: FrameLedger, piece: Piece) -> list[Piece]:
    """Those parts of a piece taken off the ledger whose points have not been read or announced otherwise meanwhile."""
    ledger.put_back(piece)
    parts: list[Piece] = []
    while (part := ledger.pending(limit=piece.count)) is not None:
        offset = part.index - piece.index
        inside = 0 <= offset <= piece.count - part.count and part == piece.part(offset, part.count)
        if not inside:
            ledger.put_back(part)
            break
        parts.append(part)
        if offset + part.count == piece.count:
            break
    return parts
