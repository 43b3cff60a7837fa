"""A scan whose sums are known, as the store holds it: for those who read the store and have no worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.beamline import Scan

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document
from snakemap.core.run import Run

__all__ = ["ROIS", "documents", "page", "stop"]

ROIS = {"red": (0, 2, 0, 4), "green": (2, 4, 0, 4), "blue": (4, 6, 0, 4)}


def documents(scan: Scan, *, points: int, rois: dict[str, Any] | None = None) -> list[Document]:
    """Everything up to the sums of the first ``points`` points; no stop."""
    envelopes = [scan.start(), scan.descriptor(), scan.resource()]
    before = [_document(scan, envelope["name"], envelope["doc"]) for envelope in envelopes]
    run = Run(before[0].doc)
    for document in before:
        run.apply(document)
    descriptor = derived_descriptor(run, rois or ROIS, frame_shape=(6, 4), time=1.0)
    derived = _document(scan, "descriptor", descriptor)
    return [*before, derived, *(page(scan, descriptor, [seq_num]) for seq_num in range(1, points + 1))]


def page(scan: Scan, descriptor: dict[str, Any], seq_nums: Sequence[int]) -> Document:
    """The sums of some points: in each channel their seq_num, and a thousand for each channel before."""
    channels = descriptor["object_keys"]["snakemap"]
    sums = {channel: [1000 * place + seq_num for seq_num in seq_nums] for place, channel in enumerate(channels)}
    return _document(scan, "event_page", derived_page(descriptor["uid"], seq_nums, sums, time=1.0))


def stop(scan: Scan, **extra: Any) -> Document:
    """The end of the scan."""
    return _document(scan, "stop", scan.stop(**extra)["doc"])


def _document(scan: Scan, name: str, doc: dict[str, Any]) -> Document:
    return Document(name, doc, run=scan.uid, task_id=scan.task)
