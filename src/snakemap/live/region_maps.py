"""Exact maps of any rectangle of the detector: the frames of a run are summed again, in reader processes.

::

    request: run, source, rectangles
       -> points that the worker has read, and that are not summed yet over one of the rectangles
       -> their rows, in portions of half a second -> a reader process sums them
       -> sums are kept for each point; the answer has what is there when the time is up

Sums belong to a row of a file. A point that is announced again with another row is summed again, and nothing else is.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.frame_ledger import RowRange
from snakemap.core.maps import Maps
from snakemap.core.roi import Roi, add_up
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource
from snakemap.core.streams import MapSource
from snakemap.errors import FrameError, SnakemapError, TooBusy
from snakemap.hdf5.frame_reader import FileFingerprint, FrameBatch, FrameReader, recorded_fingerprints
from snakemap.live.block_access import BlockAccess
from snakemap.live.measured import check_readable, measured, recognize
from snakemap.live.region_sums import KeptSums, RegionSums
from snakemap.render.export import MoreMaps
from snakemap.settings import Settings

__all__ = ["TIME_LIMIT_S", "RegionMaps"]

TIME_LIMIT_S = 10.0
"""Seconds that one request reads; what is not read by then is blank, and read by the next request."""

PORTION_S = 0.5
"""Seconds for which one request keeps a reader process, so that several requests take turns."""

BYTES_KEPT = 128 << 20
READERS = 2
WAITING_MAX = 16
SOURCES_KEPT = 64
NICE = 5
"""Niceness of the reader processes: those of the worker come first."""

Bounds = tuple[int, int, int, int]
Key = tuple[str, str, str]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Source:
    """What is shared by the requests for one source of a run.

    Attributes:
        lock: held by the request that reads.
        marks: fingerprints of the files that were read, by resource and name.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    marks: dict[str, dict[str, FileFingerprint]] = field(default_factory=dict)


class RegionMaps:
    """Sums the frames of runs over rectangles, and keeps the sums that were asked for last.

    Args:
        make: makes a reader, which starts with its first request.
        bytes_kept: maximum memory of the sums.
        blocks: sums of blocks of frames; None for none.
    """

    def __init__(
        self, make: Callable[[], FrameReader], *, bytes_kept: int = BYTES_KEPT, blocks: BlockAccess | None = None
    ) -> None:
        self._make = make
        self.blocks = blocks
        self._bytes_kept = bytes_kept
        self._free: list[FrameReader] = []
        self._all: list[FrameReader] = []
        self._slots = asyncio.Semaphore(READERS)
        self._waiting = 0
        self._sums: OrderedDict[tuple[Key, Bounds], KeptSums] = OrderedDict()
        self._sources: OrderedDict[Key, _Source] = OrderedDict()
        self._point_s = 0.01
        self.frames_read = 0

    @classmethod
    def of(cls, settings: Settings) -> RegionMaps:
        """Return one for the files of the data root."""
        return cls(
            functools.partial(FrameReader.of, settings, nice=NICE),
            blocks=BlockAccess.of(settings),
        )

    async def close(self) -> None:
        """End the reader processes; another request starts them again."""
        for reader in self._all:
            await reader.close()
        if self.blocks is not None:
            await self.blocks.close()

    async def read(self, run: Run, source: MapSource, rois: Sequence[Roi], *, limit_s: float = TIME_LIMIT_S) -> str:
        """Sum the frames of all points that are not summed yet, as many as the time allows.

        Args:
            run: folded by this event loop.
            source: one of its cameras.
            rois: the rectangles.
            limit_s: seconds; at least one portion is read, unless another request reads the same source meanwhile.

        Returns:
            Why some frames cannot be read, a sentence for the user; empty when they can.

        Raises:
            FrameError: the source has no frames in files.
            RoiError: a rectangle reaches beyond the frame.
            TooLarge: the run has too many points.
            TooBusy: too many requests wait.
            SnakemapError: no frame can be read, with the reason.
        """
        check_readable(run, source, rois)
        if self._waiting >= WAITING_MAX:
            raise TooBusy("too many requests wait for the frames of runs; try again in a moment")
        until = time.monotonic() + limit_s
        shared = self._shared(_key(run, source))
        self._waiting += 1
        try:
            async with asyncio.timeout(limit_s):
                await shared.lock.acquire()
        except TimeoutError:
            return ""  # the other request has read for as long
        finally:
            self._waiting -= 1
        try:
            return await self._read(run, source, rois, shared, until=until)
        finally:
            shared.lock.release()

    async def estimate(self, run: Run, source: MapSource, rois: Sequence[Roi]) -> str:
        """Read the sums of blocks instead of frames, and ask for those that are missing; as :meth:`read`."""
        check_readable(run, source, rois)
        if self.blocks is None:
            raise FrameError("no sums of blocks are kept here, so values are exact only; ask without `approximate`")
        await self.blocks.refresh(run, source)
        return ""

    def maps(
        self, run: Run, source: MapSource, rois: Sequence[Roi], *, trouble: str = "", estimated: bool = False
    ) -> MoreMaps:
        """Return the maps of rectangles with all sums that are known now; the run must not change meanwhile.

        Args:
            run: of the source.
            source: one of its cameras.
            rois: the rectangles.
            trouble: why some frames cannot be read.
            estimated: whether sums of blocks stand in for those that are not known.
        """
        maps = Maps(source.maps.raster, [roi.name for roi in rois])
        about: dict[str, Any] = {}
        for roi in rois:
            sums = self.estimated(run, source, roi) if estimated else self._exact(run, source, roi)
            if len(sums.seq_nums):
                maps.assign(sums.seq_nums, {roi.name: sums.values})
            about[roi.name] = {
                "bounds": [*_bounds(roi)],
                "read": sums.read,
                "approximate": sums.approximate,
                "measured": sums.measured,
                "complete": sums.read == sums.measured,
                "trouble": trouble if sums.read < sums.measured else "",
            }
        return MoreMaps(maps, about)

    def estimated(self, run: Run, source: MapSource, roi: Roi) -> RegionSums:
        """Return the sums over a rectangle that are known, and for other points those of its blocks."""
        exact = self._exact(run, source, roi)
        if self.blocks is None or exact.read == exact.measured:
            return exact
        box = self.blocks.boxes(run, source, roi)
        if box is None:
            return exact
        more = ~np.isin(box.seq_nums, exact.seq_nums)
        seq_nums = np.concatenate([exact.seq_nums, box.seq_nums[more]])
        values = np.concatenate([exact.values, box.values[more]])
        return RegionSums(seq_nums, values, 0 if box.exact else int(np.count_nonzero(more)), exact.measured)

    def _exact(self, run: Run, source: MapSource, roi: Roi) -> RegionSums:
        seq_nums, values, measured = self.known(run, source, roi)
        return RegionSums(seq_nums, values, 0, measured)

    def known(self, run: Run, source: MapSource, roi: Roi) -> tuple[Ints, npt.NDArray[np.float64], int]:
        """Return the points (n,) whose sums over a rectangle are known, the sums (n,), and how many can be read."""
        seq_nums, places = measured(source)
        sums = self._sums.get((_key(run, source), _bounds(roi)), KeptSums())
        values, found = sums.values, sums.places
        inside = seq_nums < min(len(found), len(values))
        known = np.zeros(len(seq_nums), bool)
        known[inside] = found[seq_nums[inside]] == places[inside]
        return seq_nums[known], values[seq_nums[known]], len(seq_nums)

    async def _read(self, run: Run, source: MapSource, rois: Sequence[Roi], shared: _Source, *, until: float) -> str:
        seq_nums, places = measured(source)
        columns = [self._column(_key(run, source), _bounds(roi), int(seq_nums.max(initial=0)) + 1) for roi in rois]
        place_of = np.full(int(seq_nums.max(initial=0)) + 1, -1, np.int64)
        place_of[seq_nums] = places
        for roi, sums in zip(rois, columns, strict=True):
            self._take_whole_blocks(run, source, roi, sums, place_of)
        lacking = np.zeros(len(seq_nums), bool)
        for sums in columns:
            lacking |= sums.places[seq_nums] != places
        resources, frame_shape = dict(source.ledger.resources), source.frame_shape
        descriptor = source.derived_descriptor
        files = descriptor.files if descriptor is not None else ()
        trouble = ""
        try:
            for portion in self._portions(source.ledger.row_ranges(seq_nums[lacking])):
                resource = resources[portion.resource]
                known = shared.marks.setdefault(resource.uid, recorded_fingerprints(files, resource.uid))
                summed = await self._sum(resource, portion, rois, frame_shape, known)
                points = np.arange(portion.seq_num, portion.seq_num + portion.count)
                for number, sums in enumerate(columns):
                    sums.values[points] = summed[:, number]
                    sums.places[points] = place_of[points]
                if time.monotonic() > until:
                    break
        except SnakemapError as error:
            if not any((sums.places[seq_nums] == places).any() for sums in columns):
                raise
            trouble = str(error)
        finally:
            self._forget(columns)
        return trouble

    def _take_whole_blocks(self, run: Run, source: MapSource, roi: Roi, sums: KeptSums, place_of: Ints) -> None:
        """Take the sums over a rectangle of whole blocks, which are exact, without reading frames."""
        box = self.blocks.boxes(run, source, roi) if self.blocks is not None else None
        if box is not None and box.exact:
            sums.values[box.seq_nums], sums.places[box.seq_nums] = box.values, place_of[box.seq_nums]

    def _portions(self, row_ranges: Sequence[RowRange]) -> Iterator[RowRange]:
        """Yield rows in portions that take about :data:`PORTION_S`, by the time that the last ones took."""
        for row_range in row_ranges:
            at = 0
            while at < row_range.count:
                count = min(max(int(PORTION_S / self._point_s), 1), row_range.count - at)
                began = time.monotonic()
                yield row_range.part(at, count)
                self._point_s += 0.5 * (max((time.monotonic() - began) / count, 1e-5) - self._point_s)
                at += count

    async def _sum(
        self,
        resource: Resource,
        portion: RowRange,
        rois: Sequence[Roi],
        frame_shape: tuple[int, int] | None,
        known: dict[str, FileFingerprint],
    ) -> npt.NDArray[Any]:
        """Return the sums (points, ROIs + 1) of a portion.

        Raises:
            FileReplaced: the file is not the one whose frames are on the maps.
            SnakemapError: from the reader.
        """
        batch = FrameBatch(
            resource.uri,
            resource.dataset,
            portion.index,
            portion.index + portion.count,
            frames_per_point=resource.frames_per_point,
            rois=tuple(_bounds(roi) for roi in rois),
            frame_shape=frame_shape,
            point_shape=resource.point_shape,
            columns=resource.columns,
        )
        async with self.reader() as reader:
            if not resource.template:
                summed = (await reader.reduce(batch)).sums
                recognize(reader.marks, known)
            else:
                rows = range(portion.index, portion.index + portion.count)
                summed = np.stack([await _sum_files(reader, resource, row, batch) for row in rows])
        self.frames_read += portion.count * resource.frames_per_point
        return summed

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[FrameReader]:
        """Lend one of the reader processes for one portion; callers take turns."""
        async with self._slots:
            if not self._free:
                self._free.append(self._make())
                self._all.append(self._free[-1])
            reader = self._free.pop()
            try:
                yield reader
            finally:
                self._free.append(reader)

    def _shared(self, key: Key) -> _Source:
        shared = self._sources.setdefault(key, _Source())
        self._sources.move_to_end(key)
        while len(self._sources) > SOURCES_KEPT:
            oldest = next(iter(self._sources))
            if self._sources[oldest].lock.locked():
                break
            del self._sources[oldest]
        return shared

    def _column(self, key: Key, bounds: Bounds, size: int) -> KeptSums:
        sums = self._sums.setdefault((key, bounds), KeptSums())
        self._sums.move_to_end((key, bounds))
        sums.grow(size)
        return sums

    def _forget(self, used: Sequence[KeptSums]) -> None:
        """Drop the sums that were asked for longest ago; those in use stay."""
        kept_bytes = sum(sums.size_bytes for sums in self._sums.values())
        for name in list(self._sums):
            if kept_bytes <= self._bytes_kept:
                return
            if not any(self._sums[name] is one for one in used):
                kept_bytes -= self._sums.pop(name).size_bytes


async def _sum_files(reader: FrameReader, resource: Resource, row: int, batch: FrameBatch) -> npt.NDArray[Any]:
    """Return the sums (ROIs + 1,) of one point whose frames have a file each."""
    parts = []
    for number in range(row * resource.frames_per_point, (row + 1) * resource.frames_per_point):
        uri = resource.uri_of(number)
        size = await reader.size(uri, resource.dataset)
        frames = size[0] if len(size) != 2 else 1
        point_shape = size if len(size) == 2 else ()
        one = FrameBatch(uri, resource.dataset, 0, 1, frames, batch.rois, batch.frame_shape, False, point_shape)
        parts.append((await reader.reduce(one)).sums)
    together: Any = np.concatenate(parts)
    return add_up(together, np.zeros(len(parts), np.intp))[0]


def _key(run: Run, source: MapSource) -> Key:
    return run.uid, source.stream, source.key


def _bounds(roi: Roi) -> Bounds:
    return roi.y0, roi.y1, roi.x0, roi.x1
