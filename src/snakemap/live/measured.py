"""Which frames of a run can be read again: those of the points that are measured, from the files that were read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from snakemap.core.roi import Roi
from snakemap.core.run import Run
from snakemap.core.streams import MapSource
from snakemap.errors import FileReplaced, FrameError, TooLarge
from snakemap.hdf5.frame_reader import FileFingerprint

__all__ = ["POINTS_MAX", "check_readable", "measured", "recognize", "visited"]

POINTS_MAX = 1_000_000

Ints = npt.NDArray[np.int64]


def check_readable(run: Run, source: MapSource, rois: Sequence[Roi]) -> None:
    """Check that maps of rectangles can be read at all.

    Raises:
        FrameError: the source has no frames in files.
        RoiError: a rectangle reaches beyond the frame.
        TooLarge: the run has too many points.
    """
    name = run.name_of(source)
    if source.kind != "frames":
        raise FrameError(f"{name!r} has {source.kind} and no frames; regions need a camera")
    if not source.ledger.resources:
        raise FrameError(source.unread_reason or f"no file with frames of {name!r} is known (yet)")
    if source.frame_shape is None:
        raise FrameError(source.unread_reason or f"no frame of {name!r} has been read yet")
    for roi in rois:
        roi.check(source.frame_shape)
    if source.maps.raster.size > POINTS_MAX:
        raise TooLarge(f"the run has {source.maps.raster.size:,} points; regions of at most {POINTS_MAX:,} are read")


def recognize(marks: Iterable[FileFingerprint], known: dict[str, FileFingerprint]) -> None:
    """Check that each file is the one that was read before; record new ones.

    Raises:
        FileReplaced: when one was replaced or changed.
    """
    for mark in marks:
        before = known.get(mark.name)
        if before is not None and not mark.fits(before):
            raise FileReplaced(f"{mark.name} was replaced or changed after it was read")
        if before is None or not before.checksum or not before.inode:
            known[mark.name] = mark


def measured(source: MapSource) -> tuple[Ints, Ints]:
    """Return the points (n,) that the worker has read, in rising order, and the places (n,) of their frames."""
    seq_nums = visited(source)
    places = source.ledger.places(seq_nums)
    return seq_nums[places >= 0], places[places >= 0]


def visited(source: MapSource) -> Ints:
    """Return the points (n,) that have values on the maps, in rising order."""
    return np.sort(source.maps.raster.seq_nums(np.flatnonzero(source.maps.visited_cells())))
