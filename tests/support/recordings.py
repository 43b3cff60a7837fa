"""The recordings in ``tests/data``: what a broker delivered, and the frames that it spoke of."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import numpy.typing as npt

from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Document, Message, decode

__all__ = ["CASES", "FOLDER", "bodies", "documents", "frames", "messages", "ordered"]

FOLDER = Path(__file__).parents[1] / "data" / "recordings"
CASES = ("small_step", "blob_fly", "small_aborted")


def bodies(case: str) -> list[str]:
    """Bodies of the messages of a recording, in the order in which they arrived."""
    with (FOLDER / f"{case}.jsonl").open() as lines:
        return [json.loads(line)["body"] for line in lines]


@cache
def messages(case: str) -> tuple[Message, ...]:
    """Documents and worker events of a recording."""
    decoded = (decode(body) for body in bodies(case))
    return tuple(message for message in decoded if message is not None)


def documents(case: str) -> list[Document]:
    """Documents of a recording, as they were decoded."""
    return [message for message in messages(case) if isinstance(message, Document)]


def ordered(case: str) -> list[Document]:
    """Documents of a recording, each with the uid of its run."""
    order = CausalOrder()
    return [ready for document in documents(case) for ready in order.accept(document)]


def frames(uri: str, dataset: str) -> npt.NDArray[Any]:
    """Frames (n, rows, columns) that a stream_resource of a recording speaks of."""
    with h5py.File(FOLDER / Path(urlsplit(uri).path).name, "r", swmr=True, locking=False) as file:
        return np.asarray(file[dataset])
