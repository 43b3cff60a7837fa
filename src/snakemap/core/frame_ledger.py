"""Which frames of which file belong to which points of a run, and which are unread.

``seq_num`` (from 1) is the position of a point in the scan, ``index`` (from 0) its row in the dataset. They diverge
when the RunEngine rewinds: the seq_num repeats, the index goes on. The last frame of a seq_num counts: the later
resource, then the higher row, in whatever order documents arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from snakemap.core.documents import Span
from snakemap.core.stream_resources import Resource, image_data_key, kind_of_file
from snakemap.errors import DocumentError

__all__ = ["COLUMNS", "FrameLedger", "RowRange"]

SEQ_NUM_MAX = 10_000_000


INDEX_MAX = 2 * SEQ_NUM_MAX


FRAME_SIDE_MAX = 2**31


PLACES_MAX = 2**32
"""More than the rows of a dataset."""


RESOURCES_MAX = 10_000


REFUSED_MAX = 100


POINTS_CHECKED_MAX = 4_096


HDF5 = "application/x-hdf5"


UNKNOWN, ANNOUNCED, READ, GIVEN_UP = range(4)


COLUMNS = "snakemap_columns"
"""Parameter of a stream_resource whose dataset has two dimensions of points; only opened files have it."""


@dataclass(frozen=True, slots=True)
class RowRange:
    """Points to read in one go: consecutive rows of one resource for consecutive seq_nums.

    Attributes:
        resource: uid of the stream_resource.
        index: first row of the dataset, in points, from 0 on.
        seq_num: scan position of that row, from 1 on.
        count: points.
    """

    resource: str
    index: int
    seq_num: int
    count: int

    def part(self, offset: int, count: int) -> RowRange:
        """Return some of its points.

        >>> RowRange("r", 10, 11, 5).part(2, 3)
        RowRange(resource='r', index=12, seq_num=13, count=3)
        """
        return RowRange(self.resource, self.index + offset, self.seq_num + offset, count)


class FrameLedger:
    """The state of every frame, or scalar, of one external data key of a run: announced, read, given up.

    Documents are added as they arrive; :meth:`pending` returns what to read next, :meth:`settle_points` marks points as
    read.

    Args:
        data_key: like ``"camera"``; None for the first image data key of a descriptor.

    Attributes:
        resources: where the frames are, by uid of the stream_resource.
        descriptor: uid of the first descriptor with the data key; None before.
        descriptors: uids of all of them: a device that is configured in mid-run is described again.
        data_key: the data key; None before it is known.
        point_shape: shape of one point's data from the descriptor; empty before it is known.
        refused: why a resource is not read, for the user, by its uid.
        unreadable: why its files cannot be read, from the worker; empty while they can.
        announced: the highest seq_num that a document has announced.
    """

    def __init__(self, data_key: str | None = None) -> None:
        self.resources: dict[str, Resource] = {}
        self.descriptor: str | None = None
        self.descriptors: set[str] = set()
        self.data_key = data_key
        self.announced = 0
        self.point_shape: tuple[int, ...] = ()
        self.refused: dict[str, str] = {}
        self.unreadable = ""
        self._stream = ""
        self._number: dict[str, int] = {}
        self._early: list[Mapping[str, Any]] = []
        # by seq_num: the row announced last, the number of its resource, the state
        self._index = np.full(1024, -1, dtype=np.int64)
        self._where = np.full(1024, -1, dtype=np.int32)
        self._state = np.zeros(1024, dtype=np.uint8)
        self._was_announced = np.zeros(1024, dtype=bool)
        # by resource: the row, and the seq_num, after the last one that was announced
        self._ends: dict[str, tuple[int, int]] = {}
        self._queue: deque[RowRange] = deque()

    def add_descriptor(self, doc: Mapping[str, Any]) -> None:
        """Add a descriptor; the first one with frames, or with the data key, counts. Baseline and derived streams are
        ignored.

        Raises:
            DocumentError: if a stream_resource that came before it cannot be used; see :meth:`add_resource`.
        """
        if doc.get("name") in ("baseline", "snakemap") or doc["uid"] in self.descriptors:
            return
        data_key = self.data_key if self.data_key in doc["data_keys"] else image_data_key(doc)
        if data_key is None or (self.data_key is not None and data_key != self.data_key):
            return
        if self.descriptor is not None and doc.get("name", "primary") != self._stream:
            return
        self.descriptors.add(doc["uid"])
        if self.descriptor is not None:
            return
        self.descriptor, self.data_key, self._stream = doc["uid"], data_key, str(doc.get("name", "primary"))
        shape = doc["data_keys"][data_key]["shape"]
        known = all(type(size) is int and 0 < size < FRAME_SIDE_MAX for size in shape)
        self.point_shape = tuple(shape) if known else ()
        self._take_early()

    def add_resource(self, doc: Mapping[str, Any]) -> None:
        """Add a stream_resource of the data key; one that comes before its descriptor is kept until then.

        One that is not HDF5 goes to :attr:`refused`.

        Raises:
            DocumentError: if it names no file or dataset.
        """
        if self.descriptor is None and len(self._early) < RESOURCES_MAX:
            self._early.append(doc)
            return
        if doc["data_key"] != self.data_key or doc["uid"] in self.resources:
            return
        mimetype = doc.get("mimetype", HDF5)
        if mimetype != HDF5:
            self.refuse(doc["uid"], f"its files are {kind_of_file(mimetype)}, and only HDF5 is read")
            return
        dataset = _dataset(doc)
        if len(self.resources) >= RESOURCES_MAX:
            raise DocumentError(f"a run of more than {RESOURCES_MAX:,} stream_resources")
        self._number[doc["uid"]] = len(self._number)
        shape = self.point_shape
        frames = shape[0] if len(shape) in (1, 3, 4) else 1
        columns = doc["parameters"].get(COLUMNS)
        self.resources[doc["uid"]] = Resource(
            doc["uid"], doc["uri"], dataset, frames, _frame_shape(shape), shape,
            columns if type(columns) is int and 0 < columns <= SEQ_NUM_MAX and frames == 1 else 0,
        )  # fmt: skip

    def add_known(self, resource: Resource) -> None:
        """Add a resource that is parsed already."""
        if resource.uid in self.resources or len(self.resources) >= RESOURCES_MAX:
            return
        self._number[resource.uid] = len(self._number)
        self.resources[resource.uid] = resource

    def refuse(self, resource: str, reason: str) -> None:
        """Record why a resource is not read, for the user."""
        if len(self.refused) < REFUSED_MAX:
            self.refused[resource] = reason

    def add_point(self, resource: str, row: int, seq_num: int) -> None:
        """Announce that a row of a resource, in points, is a point of the scan.

        Raises:
            DocumentError: if either is beyond its limit.
        """
        self._add(resource, Span(row, row + 1), Span(seq_num, seq_num + 1))

    def rows_announced(self, resource: str) -> int:
        """Return the rows of a resource, in points, up to the last announced one."""
        return self._ends.get(resource, (0, 0))[0]

    def add_datum(self, doc: Mapping[str, Any]) -> None:
        """Add a stream_datum; one that announces nothing new changes nothing.

        If earlier ones got lost, it announces their rows too: rows are written in order.

        Raises:
            DocumentError: if its ranges are invalid or beyond their limits.
        """
        if doc["stream_resource"] not in self.resources or doc["descriptor"] not in self.descriptors:
            return
        indices, seq_nums = Span.read(doc["indices"], "indices"), Span.read(doc["seq_nums"], "seq_nums")
        if seq_nums.size != indices.size or not seq_nums.size or seq_nums.start < 1:
            return
        self._add(doc["stream_resource"], indices, seq_nums)

    def _add(self, resource: str, indices: Span, seq_nums: Span) -> None:
        if seq_nums.stop > SEQ_NUM_MAX:
            raise DocumentError(f"a stream_datum for point {seq_nums.stop:,}; at most {SEQ_NUM_MAX:,} are kept")
        if indices.stop > INDEX_MAX:
            raise DocumentError(f"a stream_datum for row {indices.stop:,}; at most {INDEX_MAX:,} are kept")
        self._announce_lost(resource, indices.start, seq_nums.start)
        self._announce(RowRange(resource, indices.start, seq_nums.start, seq_nums.size))
        if indices.stop > self.rows_announced(resource):
            self._ends[resource] = indices.stop, seq_nums.stop
        self._was_announced[seq_nums.start : seq_nums.stop] = True
        self.announced = max(self.announced, seq_nums.stop - 1)

    def _announce_lost(self, resource: str, row: int, seq_num: int) -> None:
        """Announce the rows between the last announced one and this one: their announcement got lost.

        row        0  1  2  3  4  5         If rows and points differ, as after row 3, the RunEngine rewound in
        announced  1        4     5         between, at an unknown row: these rows belong to no point.
        lost          2  3
        """
        first = self._number[resource] == 0
        last_row, last_seq_num = self._ends.get(resource, (0, 1 if first else self.announced + 1))
        lost = row - last_row
        if lost > 0 and seq_num - last_seq_num == lost:
            self._announce(RowRange(resource, last_row, last_seq_num, lost))

    def location_of(self, seq_num: int) -> tuple[Resource, int] | None:
        """Return the resource of a point and its row there, in points; None if no document announced it."""
        if not 0 < seq_num < len(self._where) or self._where[seq_num] < 0:
            return None
        resource = list(self.resources.values())[int(self._where[seq_num])]
        return resource, int(self._index[seq_num])

    def places(self, seq_nums: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return a number for the place of each point's frame (n,); another place has another one; -1 if unknown."""
        places = np.full(len(seq_nums), -1, np.int64)
        inside = (seq_nums > 0) & (seq_nums < len(self._where))
        where = self._where[seq_nums[inside]].astype(np.int64)
        places[inside] = np.where(where >= 0, where * PLACES_MAX + self._index[seq_nums[inside]], -1)
        return places

    def row_ranges(self, seq_nums: npt.NDArray[np.int64]) -> list[RowRange]:
        """Return where points (n,), in rising order, are, as the fewest row ranges; those announced nowhere are absent.

        >>> ledger = FrameLedger()
        >>> ledger.row_ranges(np.array([1, 2]))
        []
        """
        known = seq_nums[(seq_nums > 0) & (seq_nums < len(self._where))]
        known = known[self._where[known] >= 0]
        where, rows = self._where[known], self._index[known]
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(known) != 1) | (np.diff(where) != 0)) + 1
        names = list(self.resources)
        stretches = [part for part in np.split(np.arange(len(known)), breaks) if len(part)]
        return [
            RowRange(names[where[part[0]]], int(rows[part[0]]), int(known[part[0]]), len(part)) for part in stretches
        ]

    def pending(self, *, limit: int = 64) -> RowRange | None:
        """Remove the next row range from the queue, oldest first, and return it; None if the queue is empty.

        The caller must pass its points to :meth:`settle_points`, or it to :meth:`put_back` or :meth:`give_up`.
        """
        while self._queue:
            row_range = self._queue.popleft()
            if row_range.count > POINTS_CHECKED_MAX:  # bounds the cost of one call in scans of a million points
                self._queue.appendleft(row_range.part(POINTS_CHECKED_MAX, row_range.count - POINTS_CHECKED_MAX))
                row_range = row_range.part(0, POINTS_CHECKED_MAX)
            wanted = self._wanted(row_range)
            if not wanted.any():
                continue
            first = int(np.argmax(wanted))
            run = wanted[first:]
            count = min(limit, len(run) if run.all() else int(np.argmin(run)))
            rest = row_range.count - first - count
            if rest:
                self._queue.appendleft(row_range.part(first + count, rest))
            return row_range.part(first, count)
        return None

    def number_of(self, resource: str) -> int:
        """Return the number of a resource: how many were announced before it."""
        return self._number[resource]

    def settle_points(
        self, seq_nums: npt.ArrayLike, indices: npt.ArrayLike | None = None, files: npt.ArrayLike | None = None
    ) -> None:
        """Mark points as read, from a derived document.

        Points that no document announced were filled from the file and are not filled again.

        Args:
            seq_nums: the points (n,).
            indices: rows (n,) of the dataset that were read. A point with a later announced row stays unread.
            files: numbers (n,) of the resources that were read. A point that a later one announces stays unread.
        """
        points = np.asarray(seq_nums, dtype=np.int64)
        inside = (points >= 1) & (points < SEQ_NUM_MAX)
        self._grow(int(np.max(points[inside], initial=0)) + 1)
        if indices is not None:
            rows, where = np.asarray(indices, dtype=np.int64)[inside], self._where[points[inside]]
            numbers = where if files is None else np.asarray(files, dtype=np.int64)[inside]
            newer = (where > numbers) | ((where == numbers) & (self._index[points[inside]] > rows))
            inside[inside] &= (where < 0) | ~newer
        self._state[points[inside]] = READ

    def put_back(self, row_range: RowRange) -> None:
        """Put a row range back at the front of the queue."""
        self._queue.appendleft(row_range)

    def give_up(self, row_range: RowRange) -> None:
        """Mark a row range as unreadable, until :meth:`fill` queues it again."""
        self._mark(row_range, GIVEN_UP)

    @property
    def unread_reason(self) -> str:
        """Why nothing of it can be read, for the user; empty if something can."""
        if self.unreadable or self.resources:
            return self.unreadable
        return next(iter(self.refused.values()), "")

    @property
    def waiting(self) -> int:
        """Points announced and not yet read."""
        return int(np.count_nonzero(self._state == ANNOUNCED))

    @property
    def any_read(self) -> bool:
        """Whether any point has been read."""
        return bool((self._state == READ).any())

    @property
    def filled(self) -> int:
        """Points that were read although no document announced them."""
        return int(np.count_nonzero((self._state == READ) & ~self._was_announced))

    @property
    def given_up(self) -> int:
        """Points whose frames could not be read."""
        return int(np.count_nonzero(self._state == GIVEN_UP))

    def unannounced_rows(self, resource: str, *, length: int, expected: int | None) -> list[range]:
        """Return rows, in points, that a file may hold for points of the scan and that no document announced.

        Args:
            resource: uid of the stream_resource.
            length: frames in its dataset now.
            expected: points in the whole scan; None if unknown.
        """
        wanted = self._rows(resource, length=length, expected=expected)[0]
        edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
        return [range(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    def fill(
        self,
        resource: str,
        *,
        length: int,
        expected: int | None,
        written: npt.NDArray[np.bool_] | None = None,
        again: bool = True,
    ) -> int:
        """Queue the rows that a file holds and no document announced, and those given up before.

        Rows after the last announced one continue its points; in the first resource, if none was announced, they begin
        with the first point. Rows beyond the last point of the scan belong to no point. Rows before the last announced
        one were queued by :meth:`add_datum` if their points are certain.

        Args:
            resource: uid of the stream_resource.
            length: frames in its dataset now.
            expected: points in the whole scan; None if unknown.
            written: which of its rows (rows,), in points, are certainly written; None for all.
            again: whether to queue given-up points again.

        Returns:
            The number of queued points.
        """
        wanted, given_up, seq_nums = self._rows(resource, length=length, expected=expected)
        if written is not None:
            wanted[: len(written)] &= written[: len(wanted)]
            wanted[len(written) :] = False
        chosen = wanted | given_up if again else wanted
        for row_range in _row_ranges(RowRange(resource, 0, 0, len(wanted)), chosen, seq_nums):
            self._announce(row_range, again=True)
        return len(np.unique(seq_nums[chosen]))

    def unannounced(self, row_range: RowRange) -> npt.NDArray[np.bool_]:
        """Return which points (points,) of a row range no document announced."""
        return ~self._was_announced[row_range.seq_num : row_range.seq_num + row_range.count]

    def _rows(
        self, resource: str, *, length: int, expected: int | None
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return for each row (rows,): whether it is unannounced, whether it was given up, and its point."""
        last = min(expected or SEQ_NUM_MAX, SEQ_NUM_MAX)
        number = self._number[resource]
        announced = np.flatnonzero(self._where == number)
        # a row further after the last announced one than there are points cannot belong to any
        rows = length // self.resources[resource].frames_per_point
        rows = min(rows, last + int(np.max(self._index[announced], initial=-1)) + 1)
        announced = announced[self._index[announced] < rows]
        known = np.zeros(rows, dtype=bool)
        known[self._index[announced]] = True
        seq_nums = self._implied(rows, resource)
        seq_nums[self._index[announced]] = announced
        wanted = ~known & (seq_nums >= 1) & (seq_nums <= last) & ~self._is_announced(seq_nums)
        given_up = known & (self._state[np.where(known, seq_nums, 0)] == GIVEN_UP) & (seq_nums <= last)
        return wanted, given_up, seq_nums

    def _implied(self, rows: int, resource: str) -> npt.NDArray[np.int64]:
        """Return the seq_nums (rows,) of the rows of a resource after the last announced one; 0 for those before.

        row         0  1  2  3  4  5
        announced      2  3
        implied     0  0  0  4  5  6      (1 2 3 4 5 6 in the first resource when nothing of it was announced)
        """
        first = (0, 1) if self._number[resource] == 0 else (rows, 0)
        row, seq_num = self._ends.get(resource, first)
        return np.where(np.arange(rows) >= row, np.arange(rows) + (seq_num - row), 0)

    def _take_early(self) -> None:
        early, self._early = self._early, []
        problems = list[str]()
        for resource in early:
            try:
                self.add_resource(resource)
            except DocumentError as error:
                problems.append(str(error))
        if problems:
            raise DocumentError("; ".join(problems))

    def _is_announced(self, seq_nums: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        inside = seq_nums < len(self._state)
        return inside & (self._state[np.where(inside, seq_nums, 0)] != UNKNOWN)

    def _wanted(self, row_range: RowRange) -> npt.NDArray[np.bool_]:
        span = slice(row_range.seq_num, row_range.seq_num + row_range.count)
        rows = np.arange(row_range.index, row_range.index + row_range.count)
        here = self._where[span] == self._number[row_range.resource]
        return here & (self._index[span] == rows) & (self._state[span] == ANNOUNCED)

    def _mark(self, row_range: RowRange, state: int) -> None:
        span = slice(row_range.seq_num, row_range.seq_num + row_range.count)
        self._state[span][self._wanted(row_range)] = state

    def _announce(self, row_range: RowRange, *, again: bool = False) -> None:
        stop = row_range.seq_num + row_range.count
        self._grow(stop)
        span = slice(row_range.seq_num, stop)
        rows = np.arange(row_range.index, row_range.index + row_range.count)
        number = self._number[row_range.resource]
        same = self._where[span] == number
        newer = (self._where[span] < number) | (same & (self._index[span] < rows)) | (same & again)
        self._index[span][newer] = rows[newer]
        self._where[span][newer] = number
        self._state[span][newer] = ANNOUNCED
        self._queue.extend(
            [row_range] if newer.all() else _row_ranges(row_range, newer, np.arange(row_range.seq_num, stop))
        )

    def _grow(self, size: int) -> None:
        if size <= len(self._state):
            return
        more = max(size, 2 * len(self._state)) - len(self._state)
        self._index = np.concatenate([self._index, np.full(more, -1, dtype=np.int64)])
        self._where = np.concatenate([self._where, np.full(more, -1, dtype=np.int32)])
        self._state = np.concatenate([self._state, np.zeros(more, dtype=np.uint8)])
        self._was_announced = np.concatenate([self._was_announced, np.zeros(more, dtype=bool)])


def _row_ranges(
    row_range: RowRange, wanted: npt.NDArray[np.bool_], seq_nums: npt.NDArray[np.int64]
) -> Iterator[RowRange]:
    """Yield the wanted rows of a row range as the fewest row ranges with consecutive rows and seq_nums."""
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return
    breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(seq_nums[rows]) != 1)) + 1
    for stretch in np.split(rows, breaks):
        first = int(stretch[0])
        yield RowRange(row_range.resource, row_range.index + first, int(seq_nums[first]), len(stretch))


def _frame_shape(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return rows and columns of a frame from the shape of a point's data; the three colors come first or last.

    >>> [_frame_shape(shape) for shape in ((128, 96), (4, 128, 96), (1, 3, 128, 96), (1, 128, 96, 3), (1,))]
    [(128, 96), (128, 96), (128, 96), (128, 96), None]
    """
    if len(shape) == 4 and shape[1] != 3 and shape[3] == 3:
        return shape[1], shape[2]
    return (shape[-2], shape[-1]) if len(shape) >= 2 else None


def _dataset(doc: Mapping[str, Any]) -> str:
    """Return the path of the dataset of a stream_resource; check that its URI can be parsed."""
    dataset = doc["parameters"].get("dataset") or doc["parameters"].get("path")
    if not isinstance(dataset, str) or not dataset:
        raise DocumentError(f"stream_resource {doc['uid']} does not name the dataset of its frames")
    try:
        urlsplit(doc["uri"])
    except ValueError as error:
        raise DocumentError(f"stream_resource {doc['uid']} is at {doc['uri'][:100]!r}, which is not a URI") from error
    return dataset
