"""The growing HDF5 file of one scan, as from a camera's file writer (SWMR)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from snakemap.simulator.data_files import SpoolFile
from snakemap.synthetic.frames import FrameRenderer, Rendered

__all__ = ["DATA_PATH", "SUM_CHUNK", "SUM_PATH", "WRONG_BY", "FrameFile", "ScanFault", "file_bytes", "sum_path"]

DATA_PATH = "/entry/data/data"
ATTRIBUTES_PATH = "/entry/instrument/NDAttributes"
SUM_PATH = f"{ATTRIBUTES_PATH}/camera-sum"
WRONG_BY = 1000.0
"""Error of a wrong sum, in counts."""

SUM_CHUNK = 1024
"""Numbers in one chunk of a scalar dataset; the chunk is rewritten at every flush, so it is small."""

HEADROOM_BYTES = 256 * 1024
"""Bytes of a file reserved for HDF5's metadata."""

FRAME_BYTES_EXTRA = 96
"""Bytes of a frame beside its chunk: its sums, and its entry in the index of chunks."""


class ScanFault(Exception):
    """A fault that ends a simulated scan; its text becomes the reason in the stop document."""


@dataclass(frozen=True, slots=True)
class _Datasets:
    data: h5py.Dataset
    total: h5py.Dataset
    sums: tuple[h5py.Dataset, ...]

    def all(self) -> tuple[h5py.Dataset, ...]:
        return (self.data, self.total, *self.sums)


def sum_path(camera: str) -> str:
    """Return the path of the sums in a camera's file.

    >>> sum_path("camera") == SUM_PATH
    True
    """
    return f"{ATTRIBUTES_PATH}/{camera}-sum"


def file_bytes(renderer: FrameRenderer) -> int:
    """Return the approximate final size of the file."""
    request = renderer.request
    frames = request.points * request.frames_per_point
    return frames * (renderer.chunk_bytes() + FRAME_BYTES_EXTRA) + HEADROOM_BYTES


class FrameFile:
    """One scan's frames and their sums, readable by others while it grows.

    The file also has the camera's own sums, total and per region (``RedTotal`` and so on), for cross checks.

    Args:
        place: of the file, with its maximum size.
        renderer: of the frames.
        camera: name of the camera.
    """

    def __init__(self, place: SpoolFile, renderer: FrameRenderer, *, camera: str = "camera") -> None:
        self.place = place
        self.camera = camera
        self.renderer = renderer
        self.frames_written = 0
        self._file: h5py.File | None = None
        self._datasets: _Datasets | None = None
        # of the frames of one point only the first is wrong: the error of their sum is the same as of others
        per_point = renderer.request.frames_per_point
        self._wrong = frozenset((seq_num - 1) * per_point for seq_num in renderer.request.wrong_sum_at)

    def open(self) -> None:
        """Create the file and its datasets, readable by others.

        Raises:
            ScanFault: the file cannot be created.
        """
        try:
            self._file = h5py.File(self.place.path, "x", libver="latest")
            self._datasets = self._create(self._file)
            self._file.swmr_mode = True
        except OSError as error:
            self.close()
            raise ScanFault(f"the camera cannot write {self.place.path.name}: {error}") from error

    def write(self, stop: int, *, budget_s: float) -> int:
        """Render, write and flush frames up to `stop`, or as many as the time allows (at least one).

        Returns:
            The number of readable frames.

        Raises:
            ScanFault: the file would exceed its limit, or the disk fails.
        """
        if self._datasets is None:
            raise ScanFault("the camera's file is closed")
        deadline = time.monotonic() + budget_s
        frames: list[Rendered] = []
        try:
            while self.frames_written + len(frames) < stop:
                frames.append(self._write_frame(self._datasets, self.frames_written + len(frames)))
                if time.monotonic() >= deadline:
                    break
        finally:
            self._write_sums(self._datasets, frames)
            self.frames_written += len(frames)
        return self.frames_written

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
        self._file = self._datasets = None

    def _create(self, file: h5py.File) -> _Datasets:
        request = self.renderer.request
        one = request.dataset_shape
        packed: dict[str, Any] = {"compression": "gzip", "compression_opts": request.gzip} if request.gzip else {}
        data = file.create_dataset(
            DATA_PATH,
            shape=(0, *one),
            maxshape=(None, *one),
            chunks=(1, *one),
            dtype=self.renderer.dtype,
            **packed,
        )
        file["entry"].attrs["NX_class"] = "NXentry"
        file["entry/data"].attrs.update({"NX_class": "NXdata", "signal": "data"})
        file.attrs.update({"creator": "snakemap simulate", "request": json.dumps(request.as_dict())})
        names = [f"{ATTRIBUTES_PATH}/{name.capitalize()}Total" for name in request.rectangles]
        return _Datasets(data, _scalars(file, sum_path(self.camera)), tuple(_scalars(file, name) for name in names))

    def _write_frame(self, datasets: _Datasets, index: int) -> Rendered:
        frame = self.renderer.render(index)
        if self._size() + len(frame.chunk) + HEADROOM_BYTES > self.place.bytes_max:
            limit_mb = self.place.bytes_max / 1e6
            raise ScanFault(f"the disk limit is reached: this scan's file may take {limit_mb:,.1f} MB and no more")
        try:
            datasets.data.resize(index + 1, axis=0)
            datasets.data.id.write_direct_chunk((index, *(0 for _ in datasets.data.shape[1:])), frame.chunk)
        except OSError as error:
            raise ScanFault(f"the camera cannot write {self.place.path.name}: {error}") from error
        return frame

    def _write_sums(self, datasets: _Datasets, frames: list[Rendered]) -> None:
        if not frames:
            return
        stop = self.frames_written + len(frames)
        totals = [
            frame.total + WRONG_BY * (index in self._wrong) for index, frame in enumerate(frames, self.frames_written)
        ]
        columns = [totals, *zip(*(frame.sums for frame in frames), strict=True)]
        for dataset, values in zip((datasets.total, *datasets.sums), columns, strict=True):
            dataset.resize(stop, axis=0)
            dataset[self.frames_written :] = np.array(values)
        # the frames last: a reader that finds a frame also finds its sums
        for dataset in reversed(datasets.all()):
            dataset.flush()

    def _size(self) -> int:
        return self._file.id.get_filesize() if self._file is not None else 0


def _scalars(file: h5py.File, path: str) -> h5py.Dataset:
    return file.create_dataset(path, shape=(0,), maxshape=(None,), chunks=(SUM_CHUNK,), dtype="<f8")
