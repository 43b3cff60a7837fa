"""The positions file of a fly scan, as of a PandA: one growing dataset for each axis, at the root of the file."""

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
"""Dataset by data key."""


def positions_bytes(request: ScanRequest) -> int:
    """Return the approximate final size of the positions file."""
    chunks = -(-request.points // SUM_CHUNK)
    # twice: for the index of chunks
    return 2 * len(POSITION_PATHS) * chunks * SUM_CHUNK * np.dtype("<f8").itemsize + HEADROOM_BYTES


class PositionsFile:
    """The stage positions at each point of a scan, in mm, readable by others while it grows.

    Args:
        place: of the file.
        sample: has the positions.
    """

    def __init__(self, place: SpoolFile, sample: Sample) -> None:
        self.place = place
        self.sample = sample
        self.frames_written = 0
        self._file: h5py.File | None = None
        self._datasets: list[h5py.Dataset] = []

    def open(self) -> None:
        """Create the file and its datasets, readable by others.

        Raises:
            ScanFault: the file cannot be created.
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
        """Write and flush the positions up to `stop`; this is fast, whatever the budget.

        Returns:
            The number of readable points.

        Raises:
            ScanFault: the file is closed, or the disk fails.
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
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
        self._file, self._datasets = None, []


def _positions(file: h5py.File, path: str) -> h5py.Dataset:
    return file.create_dataset(path, shape=(0,), maxshape=(None,), chunks=(SUM_CHUNK,), dtype="<f8")
