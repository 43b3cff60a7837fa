"""The recordings as forms: what blueapi really sent, the frames in the files, and the positions that scanspec tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scanspec.specs import Spec
from tests.support import recordings
from tests.support.forms.form import Expected, Form

__all__ = ["recorded_forms", "recorded_names"]

STATUS = {"small_step": "complete", "blob_fly": "complete", "small_aborted": "aborted"}


def recorded_names() -> list[str]:
    """Names of the forms."""
    return list(STATUS)


def recorded_forms() -> Iterator[Form]:
    """All of them."""
    for case, status in STATUS.items():
        documents = recordings.documents(case)
        files = dict(_datasets(doc.doc for doc in documents if doc.name == "stream_resource"))
        frames = next(rows for (_, dataset), rows in files.items() if dataset == "/entry/data/data")
        spec = documents[0].doc.get("scanspec")
        places = _midpoints(spec) if spec else {}
        size = len(next(iter(places.values()), frames))
        counts = np.append(frames, np.full(size - len(frames), np.nan))
        expected = Expected(counts, places, source="scanspec" if spec else "", status=status, expected=size)
        yield Form(case, "recorded from blueapi 1.21", tuple(recordings.bodies(case)), (expected,), files=files)


def _datasets(resources: Iterator[Any]) -> Iterator[tuple[tuple[str, str], npt.NDArray[np.float64]]]:
    """Every dataset that is spoken of: the sum of each of its rows."""
    for doc in resources:
        uri, dataset = doc["uri"], doc["parameters"]["dataset"]
        rows = recordings.frames(uri, dataset).astype(np.float64)
        yield (uri, dataset), rows.reshape(len(rows), -1).sum(axis=1)


def _midpoints(told: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Where each point lies (n,), by motor, as scanspec has it."""
    points = list(Spec.deserialize(told).midpoints())
    return {axis: np.array([point[axis] for point in points]) for axis in points[0]}
