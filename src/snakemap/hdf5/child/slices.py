"""Read slices of a dataset, of bounded size."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileNotReady, FrameError
from snakemap.hdf5.child.dectris_parts import StackParts, parts_of
from snakemap.hdf5.child.dtypes import dtype_of, plain, values_of
from snakemap.hdf5.child.hdf_file import OpenDataset, reading
from snakemap.hdf5.child.open_files import OpenFiles
from snakemap.hdf5.protocol import INSPECT_PAYLOAD_MAX, InspectRequest

__all__ = ["ELEMENTS_MAX", "UNPACKED_MAX", "check_written", "read_slice", "unpacked_bytes"]

ELEMENTS_MAX = 4_000_000
ELEMENTS = 1_000_000
ROWS_MAX = 100_000
"""Maximum elements read at once: of numbers, by default, and of anything else."""

UNPACKED_MAX = 512 << 20
"""Maximum bytes of chunks to unpack for one slice."""

RANK_MAX = 32
STACK_RANK = 3


def read_slice(files: OpenFiles, request: InspectRequest) -> tuple[dict[str, Any], bytes]:
    """Return values of a dataset: numbers as bytes, all else as JSON.

    Raises:
        FrameError: the selection is out of range or too large, or there is nothing to read.
        FileNotReady, FileRefused, FileBroken: as :meth:`OpenFiles.find` and :meth:`OpenFiles.require` do.
    """
    file = files.open_afresh(request["path"])
    try:
        found = files.find(file, request["node"])
    except FrameError:
        parts = parts_of(files, files.node(files.again(file), request["node"]))
        if parts is None:
            raise
        return _read_part(files, request, parts)
    files.allow(found)
    dataset = found.dataset
    with reading(found.file, "its values cannot be read"):
        whole, dtype = dataset.shape, dtype_of(dataset.id.get_type())
    kind = values_of(dtype)
    if whole is None or dtype is None or kind == "none":
        raise FrameError(f"{found} holds no values that can be read")
    chosen = _selection(found, whole, request.get("selection", []))
    sizes = [_count(one) for one in chosen]
    numbers = kind in ("number", "complex", "bool", "enum")
    most = min(request.get("most", ELEMENTS), ELEMENTS_MAX if numbers else ROWS_MAX)
    if math.prod(sizes) > most:
        raise FrameError(f"{found}: {math.prod(sizes):,} values are requested, at most {most:,} are read at one time")
    _check_unpacking(found, chosen)
    check_written(found, chosen)
    with reading(found.file, "its values cannot be read"):
        values = dataset[tuple(one if isinstance(one, int) else slice(one.start, one.stop, one.step) for one in chosen)]
    shape = [size for one, size in zip(chosen, sizes, strict=True) if not isinstance(one, int)]
    header: dict[str, Any] = {"shape": shape, "of": list(whole)}
    if numbers:
        array = _numbers(np.asarray(values))
        return {**header, "dtype": array.dtype.str}, array.tobytes()
    rows = _rows(np.asarray(values, dtype) if not shape else values, dataset)
    text = json.dumps(rows).encode()
    if len(text) > INSPECT_PAYLOAD_MAX:
        raise FrameError(f"{found}: so many long values are not read at one time; ask for fewer")
    return {**header, "json": True}, text


def _read_part(files: OpenFiles, request: InspectRequest, parts: StackParts) -> tuple[dict[str, Any], bytes]:
    """Return values of one frame of a stack in several files; NaN if its file is missing.

    Raises:
        FrameError: several frames are requested, or one that does not exist.
    """
    selection = request.get("selection", [])
    frame, rest = (selection[0], selection[1:]) if selection else ([], [])
    if not isinstance(frame, int):
        raise FrameError(f"{request['node']} is a stack in several files: its frames are read one at a time")
    if not 0 <= frame < parts.shape[0]:
        raise FrameError(f"{request['node']} has {parts.shape[0]:,} frames, but frame number {frame:,} is requested")
    part = parts.at(frame)
    if part.there:
        inside: InspectRequest = {**request, "node": part.path, "selection": [frame - part.start, *rest]}
        header, payload = read_slice(files, inside)
        return {**header, "of": list(parts.shape)}, payload
    asked = [*rest, *([0, size, 1] for size in parts.shape[1 + len(rest) :])]
    sizes = [
        len(range(*slice(*one).indices(size)))
        for one, size in zip(asked, parts.shape[1:], strict=True)
        if not isinstance(one, int)
    ]
    if math.prod(sizes) > ELEMENTS_MAX:
        raise FrameError(f"{request['node']}: {math.prod(sizes):,} values are more than are read at one time")
    blank = np.full(sizes, np.nan, "<f4")
    return {"shape": sizes, "of": list(parts.shape), "dtype": blank.dtype.str}, blank.tobytes()


def _selection(found: OpenDataset, shape: Sequence[int], asked: Sequence[int | Sequence[int]]) -> list[int | range]:
    """Return an index or a range within bounds for every dimension."""
    if len(asked) > len(shape):
        raise FrameError(f"{found} has {len(shape)} dimensions, but {len(asked)} are requested")
    chosen: list[int | range] = []
    for size, one in zip(shape, [*asked, *([0, size, 1] for size in shape[len(asked) :])], strict=True):
        if isinstance(one, int):
            if not 0 <= one < size:
                raise FrameError(f"{found} has size {size:,}, but number {one:,} is requested")
            chosen.append(one)
            continue
        start, stop, step = one
        if step < 1 or not 0 <= start <= stop:
            raise FrameError(f"{found}: {start}:{stop}:{step} is not a valid selection")
        chosen.append(range(min(start, size), min(stop, size), step))
    return chosen


def _count(one: int | range) -> int:
    return 1 if isinstance(one, int) else len(one)


def unpacked_bytes(found: OpenDataset, chosen: Sequence[int | range]) -> int:
    """Return the bytes of the chunks to unpack; 0 without chunks. A small file may hold very large ones.

    Args:
        found: the dataset.
        chosen: an index or a range for every dimension.
    """
    chunks = found.dataset.chunks
    if not chunks:
        return 0
    touched = 1
    for one, size in zip(chosen, chunks, strict=True):
        if isinstance(one, int):
            continue
        touched *= min(len(one), (one[-1] // size - one[0] // size + 1)) if len(one) else 0
    return touched * math.prod(chunks) * found.dataset.id.get_type().get_size()


def _check_unpacking(found: OpenDataset, chosen: Sequence[int | range]) -> None:
    """Check that the chunks to unpack are within the limit."""
    unpacked = unpacked_bytes(found, chosen)
    if unpacked > UNPACKED_MAX:
        raise FrameError(
            f"{found}: {unpacked / 1e6:,.0f} MB would have to be unpacked, at most {UNPACKED_MAX / 1e6:,.0f} MB are; "
            "ask for a smaller part"
        )


def check_written(found: OpenDataset, chosen: Sequence[int | range]) -> None:
    """Check that the first selected frame is written: an unwritten one would look dark.

    Raises:
        FileNotReady: it is not written yet.
    """
    dataset = found.dataset
    stack = len(chosen) >= STACK_RANK and isinstance(chosen[0], int)
    if not stack or not dataset.chunks or not found.file.young or found.virtual:
        return
    corner = tuple(
        (one if isinstance(one, int) else one.start) // size * size
        for one, size in zip(chosen, dataset.chunks, strict=True)
    )
    with reading(found.file, "its frames cannot be read"):
        missing = dataset.id.get_chunk_info_by_coord(corner).byte_offset is None
        filled = dataset.id.get_create_plist().fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED
    if missing and not filled:
        raise FileNotReady(f"{found} has no frame {chosen[0]:,} (yet)")


def _numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers as sent: little-endian, of a standard size."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    known = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8), "c": (8, 16)}
    if size in known.get(kind, ()):
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, "<c16" if kind == "c" else "<f8")


def _rows(values: Any, owner: h5py.Dataset) -> Any:
    """Return nested lists of plain values, one level for each dimension."""
    if isinstance(values, np.ndarray) and values.ndim == 0:
        return plain(values[()], owner=owner)
    if isinstance(values, np.ndarray):
        return [_rows(value, owner) for value in values] if values.ndim > 1 else [plain(v, owner=owner) for v in values]
    return plain(values, owner=owner)
