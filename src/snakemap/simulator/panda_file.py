"""The file of a fly scan's positions, as a PandA writes it: one growing dataset an axis, at the root of the file."""

from __future__ import annotations

import h5py
import numpy as np

from snakemap.simulator.data_files import SpoolFile
from snakemap.simulator.writer import HEADROOM_BYTES, SUM_CHUNK, ScanFault
from snakemap.synthetic.paths import FAST, SLOW
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["POSITION_PATHS", "PositionsFile", "positions_bytes"]

POSITION_PATHS = {FAST: f"/{FAST}", SLOW: f"/{SLOW}"}
"""Data key to dataset."""


def positions_bytes(request: ScanRequest) -> int:
    """About how large the file of a whole scan's positions will become."""
    chunks = -(-request.points // SUM_CHUNK)
    # twice: room for the index of chunks
    return 2 * len(POSITION_PATHS) * chunks * SUM_CHUNK * np.dtype("<f8").itemsize + HEADROOM_BYTES


class PositionsFile:
    """Where the stage was at each point of a scan, in mm, readable by others while it grows.

    Args:
        place: where the file goes.
        sample: knows where each point is.
    """

    def __init__(self, place: SpoolFile, sample: Sample) -> None:
        self.place = place
        self.sample = sample
        self.frames_written = 0
        self._file: h5py.File | None = None
        self._datasets: list[h5py.Dataset] = []

    def open(self) -> None:
        """Makes the file and its datasets, and lets readers in; close it in the end.

        Raises:
            ScanFault: when the file cannot be made.
        """
        try:
            self._file = h5py.File(self.place.path, "x", libver="latest")
            # in the order of Sample.positions
            self._datasets = [_positions(self._file, POSITION_PATHS[axis]) for axis in (SLOW, FAST)]
            self._file.swmr_mode = True
        except OSError as error:
            self.close()
            raise ScanFault(f"the PandA cannot write {self.place.path.name}: {error}") from error

    def write(self, stop: int, *, budget_s: float) -> int:
        """Writes the positions up to `stop`, and shows them; it takes no time to speak of, whatever the budget.

        Returns:
            The points in the file now; every one of them can be read.

        Raises:
            ScanFault: when the file is closed, or the disk refuses.
        """
        if not self._datasets:
            raise ScanFault("the PandA's file is closed")
        start = self.frames_written
        places = self.sample.positions(start, stop)
        try:
            for dataset, column in zip(self._datasets, places.T, strict=True):
                dataset.resize(stop, axis=0)
                dataset[start:] = column
                dataset.flush()
        except OSError as error:
            raise ScanFault(f"the PandA cannot write {self.place.path.name}: {error}") from error
        self.frames_written = stop
        return stop

    def close(self) -> None:
        """Closes the file; closing it twice does no harm."""
        if self._file is not None:
            self._file.close()
        self._file, self._datasets = None, []


def _positions(file: h5py.File, path: str) -> h5py.Dataset:
    return file.create_dataset(path, shape=(0,), maxshape=(None,), chunks=(SUM_CHUNK,), dtype="<f8")
