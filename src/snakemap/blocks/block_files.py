"""The block sums of one camera in one run: a directory of a few files.

::

    about.json     run, stream and data key, shape of the frames, dtype of the sums
    index          a record for each point, by seq_num: place of its frame (0: none) and checksum of its sums
    sums-00000     the sums of the first points, as many as fit into 32 MB; sums-00001 those of the next, ...
    lock           locked by the one process that writes

A writer writes the sums of a point first and its record then, so that a killed process leaves nothing half-made. The
checksum finds what a crash of the machine, or a full or faulty disk, has spoiled: such points count as not made.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.block_sums import BLOCK, BLOCK_DTYPES, BlockFormat, add_points, box_sums
from snakemap.core.roi import Roi
from snakemap.files.private import make_private, open_private, write_private

__all__ = ["BlockKey", "BlockReader", "BlockWriter", "lock_of"]

VERSION = 1
CHUNK_BYTES = 32 << 20
ABOUT, INDEX, LOCK = "about.json", "index", "lock"
RECORD = np.dtype([("place", "<i8"), ("checksum", "<u4"), ("spare", "<u4")])
"""Of a point; the place is one more than that of the ledger, so that a hole in the file means none."""

ABOUT_BYTES_MAX = 10_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BlockKey:
    """Of which frames the sums are.

    Attributes:
        run: its uid.
        stream: name of the stream, like ``"primary"``.
        data_key: of the camera, like ``"camera"``.
    """

    run: str
    stream: str
    data_key: str

    def about(self, form: BlockFormat) -> dict[str, Any]:
        """Return what the file about the sums holds."""
        return {
            "version": VERSION,
            "run": self.run,
            "stream": self.stream,
            "data_key": self.data_key,
            "frame_shape": [*form.frame_shape],
            "block": BLOCK,
            "dtype": form.dtype,
        }

    def format_of(self, text: str) -> BlockFormat | None:
        """Return the format in the text of a file about sums; None if it is of others, or of another version."""
        try:
            about = json.loads(text)
            height, width = (int(size) for size in about["frame_shape"])
            form = BlockFormat((height, width), str(about["dtype"]))
        except (LookupError, TypeError, ValueError):
            return None
        known = form.dtype in BLOCK_DTYPES and min(height, width) > 0
        return form if known and about == self.about(form) else None


class BlockReader:
    """Reads the sums of one camera in one run, while another process may write them; for several threads.

    Args:
        directory: of the files; it need not exist.
        key: of the frames.

    Attributes:
        format: of the sums; None while there are none.
        spoiled: number of points whose sums are not those that were written.
    """

    def __init__(self, directory: Path, key: BlockKey) -> None:
        self.directory = directory
        self.key = key
        self.format: BlockFormat | None = None
        self.spoiled = 0
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._records = np.empty(0, RECORD)
        self._places: Ints = np.empty(0, np.int64)
        self._chunks: dict[int, npt.NDArray[Any]] = {}

    @property
    def places(self) -> Ints:
        """Places (points,) of the frames whose sums are there, by ``seq_num - 1``; -1 for none."""
        return self._places

    def refresh(self, *, points_max: int | None = None) -> bool:
        """Look for new sums, and check them; return whether more are to be checked.

        Args:
            points_max: number of points that are checked; None for all.
        """
        with self._lock:
            records = self._read_index()
            if self.format is None:
                return False
            if len(records) < len(self._records):
                self._records, self._places = np.empty(0, RECORD), np.empty(0, np.int64)
            size = len(records)
            before = np.zeros(size, RECORD)
            before[: len(self._records)] = self._records[:size]
            places = np.full(size, -1, np.int64)
            places[: len(self._places)] = self._places[:size]
            changed = np.flatnonzero(records != before)
            some = changed[:points_max]
            for slot in some:
                places[slot] = int(records["place"][slot]) - 1 if self._is_whole(int(slot), records[slot]) else -1
            before[some] = records[some]
            self._records, self._places = before, places
            return len(some) < len(changed)

    def known(self, seq_nums: Ints, places: Ints) -> npt.NDArray[np.bool_]:
        """Return for which points (points,) sums of the frames at these places are there."""
        with self._lock:
            return self._known(seq_nums, places)

    def boxes(self, seq_nums: Ints, places: Ints, roi: Roi) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Return for which points (points,) sums are there, and those over a rectangle (n,); see :func:`box_sums`.

        Args:
            seq_nums: (points,).
            places: (points,) of their frames, as :meth:`FrameLedger.places` has them.
            roi: within the frame.
        """
        with self._lock:
            known, form = self._known(seq_nums, places), self.format
            sums = np.empty(np.count_nonzero(known))
            if form is not None:
                for chunk, inside, slots in self._by_chunk(seq_nums[known], form):
                    sums[inside] = box_sums(chunk, slots, roi, form)
            return known, sums

    def total(self, seq_nums: Ints, places: Ints) -> tuple[int, npt.NDArray[Any] | None]:
        """Return the number of points whose sums are there, and the sums (rows, columns) of the blocks over these.

        Args:
            seq_nums: (points,).
            places: (points,) of their frames, as :meth:`FrameLedger.places` has them.
        """
        with self._lock:
            known, form = self._known(seq_nums, places), self.format
            if form is None or not known.any():
                return 0, None
            total = form.no_points()
            for chunk, _, slots in self._by_chunk(seq_nums[known], form):
                add_points(chunk, slots, total)
            return int(np.count_nonzero(known)), form.blocks(total)

    def _known(self, seq_nums: Ints, places: Ints) -> npt.NDArray[np.bool_]:
        kept, slots = self._places, seq_nums - 1
        inside = (slots >= 0) & (slots < len(kept)) & (places >= 0)
        known = np.zeros(len(seq_nums), bool)
        known[inside] = kept[slots[inside]] == places[inside]
        return known

    def _by_chunk(
        self, seq_nums: Ints, form: BlockFormat
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | slice, Ints]]:
        """Yield the sums of each chunk, which points (points,) are in it, and their places in it."""
        per_chunk = points_per_chunk(form)
        numbers = (seq_nums - 1) // per_chunk
        found = np.unique(numbers)
        for number in found:
            inside = slice(None) if len(found) == 1 else numbers == number
            yield self._chunks[int(number)], inside, (seq_nums[inside] - 1) % per_chunk

    def _read_index(self) -> npt.NDArray[Any]:
        """Return the records; forget everything if the files are others than before."""
        try:
            with (self.directory / INDEX).open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._identity or self.format is None:
                    self._forget()
                    with (self.directory / ABOUT).open(encoding="utf-8", errors="replace") as about:
                        self.format = self.key.format_of(about.read(ABOUT_BYTES_MAX))
                    self._identity = status.st_dev, status.st_ino
                content = file.read()
        except OSError:
            self._forget()
            return np.empty(0, RECORD)
        return np.frombuffer(content, RECORD, len(content) // RECORD.itemsize)

    def _forget(self) -> None:
        self.format, self._identity, self.spoiled = None, None, 0
        self._records, self._places, self._chunks = np.empty(0, RECORD), np.empty(0, np.int64), {}

    def _is_whole(self, slot: int, record: Any) -> bool:
        """Return whether the sums of a point are there and as they were written."""
        form = self.format
        if form is None or record["place"] <= 0:
            return False
        number, place = divmod(slot, points_per_chunk(form))
        chunk = self._chunks.get(number)
        if chunk is None or len(chunk) <= place:
            chunk = self._map(number, form)
        whole = chunk is not None and len(chunk) > place and zlib.crc32(chunk[place]) == record["checksum"]
        self.spoiled += not whole
        return whole

    def _map(self, number: int, form: BlockFormat) -> npt.NDArray[Any] | None:
        """Map the sums of a chunk into memory."""
        path = chunk_path(self.directory, number)
        try:
            points = min(path.stat().st_size // form.size_bytes, points_per_chunk(form))
            mapped = np.memmap(path, form.dtype, "r", shape=(points, *form.shape)) if points else None
        except (OSError, ValueError):
            return None
        if mapped is None:
            return None
        self._chunks[number] = chunk = mapped.view(np.ndarray)
        return chunk


class BlockWriter:
    """Writes the sums of one camera in one run; one process at a time.

    Args:
        directory: of the files; those of other sums in it are removed.
        key: of the frames.
        form: of the sums.
        lock: descriptor from :func:`lock_of`, closed with this.

    Raises:
        OSError: the files cannot be written.
    """

    def __init__(self, directory: Path, key: BlockKey, form: BlockFormat, *, lock: int) -> None:
        self.directory = directory
        self.format = form
        self._lock = lock
        self._chunks: dict[int, int] = {}
        reader = BlockReader(directory, key)
        reader.refresh()
        if reader.format != form:
            remove_sums(directory)
            write_private(directory / ABOUT, json.dumps(key.about(form)))
        self._index = open_private(directory / INDEX, os.O_RDWR | os.O_CREAT)
        self.places: Ints = reader.places.copy() if reader.format == form else np.empty(0, np.int64)

    def close(self) -> None:
        """Close the files, so that another process may write."""
        for descriptor in (*self._chunks.values(), self._index, self._lock):
            os.close(descriptor)
        self._chunks = {}

    def lacking(self, seq_nums: Ints, places: Ints) -> npt.NDArray[np.bool_]:
        """Return of which points (points,) there are no sums of the frames at these places."""
        self._grow(int(seq_nums.max(initial=0)))
        return self.places[seq_nums - 1] != places

    def put(self, seq_nums: Ints, places: Ints, sums: npt.NDArray[Any]) -> None:
        """Write the sums of points.

        Args:
            seq_nums: (points,), consecutive.
            places: (points,), as :meth:`FrameLedger.places` has them.
            sums: (points, rows, columns), in the format.

        Raises:
            OSError: they cannot be written.
        """
        self._grow(int(seq_nums.max(initial=0)))
        first, per_chunk = int(seq_nums[0]) - 1, points_per_chunk(self.format)
        sums = np.ascontiguousarray(sums, self.format.dtype)
        records = np.zeros(len(seq_nums), RECORD)
        if (self.places[seq_nums - 1] >= 0).any():
            self._write_records(first, records)  # a reader must not take new sums for those of an earlier frame
        begin = 0
        while begin < len(seq_nums):
            number, place = divmod(first + begin, per_chunk)
            end = min(len(seq_nums), begin + per_chunk - place)
            _write_all(self._chunk(number), sums[begin:end].data.cast("B"), place * self.format.size_bytes)
            begin = end
        records["place"] = places + 1
        records["checksum"] = [zlib.crc32(one) for one in sums]
        self._write_records(first, records)
        self.places[seq_nums - 1] = places

    def _write_records(self, first: int, records: npt.NDArray[Any]) -> None:
        self.places[first : first + len(records)] = -1
        _write_all(self._index, memoryview(records.tobytes()), first * RECORD.itemsize)

    def _grow(self, size: int) -> None:
        more = max(size, 2 * len(self.places)) - len(self.places) if size > len(self.places) else 0
        if more:
            self.places = np.concatenate([self.places, np.full(more, -1, np.int64)])

    def _chunk(self, number: int) -> int:
        """Return the descriptor of a chunk; the file has its full size at once, with holes."""
        descriptor = self._chunks.get(number)
        if descriptor is None:
            descriptor = open_private(chunk_path(self.directory, number), os.O_RDWR | os.O_CREAT)
            self._chunks[number] = descriptor
            whole = points_per_chunk(self.format) * self.format.size_bytes
            if os.fstat(descriptor).st_size != whole:
                os.ftruncate(descriptor, whole)
        return descriptor


def points_per_chunk(form: BlockFormat) -> int:
    """Return the number of points in a chunk."""
    return max(1, CHUNK_BYTES // form.size_bytes)


def chunk_path(directory: Path, number: int) -> Path:
    """Return the file of a chunk."""
    return directory / f"sums-{number:05}"


def lock_of(directory: Path) -> int | None:
    """Return the descriptor of the lock of a directory, which is made; None if another process has the lock.

    Raises:
        OSError: it cannot be made.
    """
    make_private(directory)
    descriptor = open_private(directory / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # another process may have removed the directory meanwhile
        if (directory / LOCK).stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def remove_sums(directory: Path) -> None:
    """Remove all sums of a directory, the index first; the lock stays.

    Raises:
        OSError: they cannot be removed.
    """
    for path in (directory / INDEX, directory / ABOUT, *sorted(directory.glob("sums-*"))):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _write_all(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
