"""A folded run whose points have frames in an HDF5 file."""

from __future__ import annotations

from pathlib import Path

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document
from snakemap.core.run import Run

__all__ = ["camera_run", "measure"]


def camera_run(
    file: Path | str, *, uid: str = "run", shape: tuple[int, int] = (4, 5), point: tuple[int, ...] = (24, 32)
) -> Run:
    """Return a run without points.

    Args:
        file: that holds its frames, in the dataset ``data``.
        uid: of the run.
        shape: rows and columns of the scan.
        point: shape of the data of one point.
    """
    run = Run({"uid": uid, "time": 1.0, "shape": [*shape]})
    key = {"source": "", "dtype": "array", "shape": [*point], "external": "STREAM:"}
    _apply(run, "descriptor", {"uid": f"{uid}/d", "time": 1.0, "name": "primary", "data_keys": {"camera": key}})
    rows, columns = (point[-3], point[-2]) if point[-1] == 3 else point[-2:]
    rois: dict[str, tuple[int, int, int, int]] = dict.fromkeys(("red", "green", "blue"), (0, 1, 0, 1))
    _apply(run, "descriptor", derived_descriptor(run, rois, frame_shape=(rows, columns), time=1.0))
    place = {"uri": f"file://localhost{file}", "mimetype": "application/x-hdf5", "parameters": {"dataset": "/data"}}
    _apply(run, "stream_resource", {"uid": f"{uid}/r", "data_key": "camera", **place})
    return run


def measure(run: Run, first: int, last: int) -> None:
    """Measure points, both inclusive, from 1 on; each sum is the number of its point, and so is its row, less one."""
    seq_nums = list(range(first, last + 1))
    spans = {"indices": {"start": first - 1, "stop": last}, "seq_nums": {"start": first, "stop": last + 1}}
    of = {"stream_resource": f"{run.uid}/r", "descriptor": f"{run.uid}/d"}
    _apply(run, "stream_datum", {"uid": f"{run.uid}/{first}", **of, **spans})
    sums = {name: [float(seq_num) for seq_num in seq_nums] for name in run.maps.channels}
    _apply(run, "event_page", derived_page(next(iter(run.derived_uids)), seq_nums, sums, time=1.0))


def _apply(run: Run, name: str, doc: dict[str, object]) -> None:
    run.apply(Document(name, {"run_start": run.uid, **doc}, run=run.uid))  # type: ignore[arg-type]
