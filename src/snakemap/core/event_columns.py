"""Columns of numbers from the data of event pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.core.derived_documents import FRAME_FILE, FRAME_INDEX
from snakemap.core.json_values import is_list, is_mapping
from snakemap.errors import DocumentError

__all__ = ["event_columns", "event_places"]


def event_columns(
    name: str, doc: Mapping[str, Any]
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    """Return seq_nums (n,) of an event or a page, and every data key with one number for each point (n,)."""
    data = doc.get("data")
    if not is_mapping(data):
        raise DocumentError(f"an {name} without data")
    seq_nums = doc["seq_num"] if name == "event_page" else [doc["seq_num"]]
    if any(not 0 < seq_num < 2**53 for seq_num in seq_nums):
        raise DocumentError(f"an {name} whose seq_num is none: {str(seq_nums)[:100]}")
    columns = dict[str, npt.NDArray[np.float64]]()
    for key, column in data.items():
        values = _numbers(column if name == "event_page" else [column])
        if values is not None and len(values) == len(seq_nums):
            columns[key] = values
    return np.array(seq_nums, dtype=np.int64), columns


def _numbers(values: Any) -> npt.NDArray[np.float64] | None:
    """Return a column (n,) of numbers with NaN for null, or None if it holds anything else."""
    if not is_list(values) or not {int, float, type(None)}.issuperset(map(type, values)):
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return None


def event_places(
    doc: Mapping[str, Any], count: int
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Return the rows (n,) of the dataset that a derived page was read from, and the numbers (n,) of the resources.

    Each is None if the page does not have it.
    """
    return _whole_numbers(doc, FRAME_INDEX, count), _whole_numbers(doc, FRAME_FILE, count)


def _whole_numbers(doc: Mapping[str, Any], key: str, count: int) -> npt.NDArray[np.int64] | None:
    data = doc.get("data")
    column = data.get(key) if is_mapping(data) else None
    if (
        not is_list(column)
        or len(column) != count
        or not all(type(value) is int and 0 <= value < 2**53 for value in column)
    ):
        return None
    return np.array(column, dtype=np.int64)
