"""Make a run from a finished file: a stack of frames in a file becomes a run like any other.

Opening a file appends derived documents of a run to the store. The worker reads the frames as of any run, and ends the
run when all are read; every page shows the growing maps. The uid of the run follows from the file, its contents and the
ROIs, so opening the same file again finds the same run.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from snakemap.core.derived_documents import OPENED, Rectangle, opened_stop
from snakemap.core.documents import Document
from snakemap.core.frame_ledger import COLUMNS
from snakemap.errors import FileRefused, FrameError, RunNotFound, SnakemapError
from snakemap.files.data_root import local_path
from snakemap.hdf5.inspector import FileInspector
from snakemap.store.store import Store

__all__ = ["FrameStack", "Position", "cancel_reading", "documents_of", "grid_of", "is_stack", "open_stack", "stack_of"]

NAMESPACE = uuid.UUID("5b0d6f0e-0c55-4f0e-8a53-6d0f1a9d2c47")
STACK_RANK, GRID_RANK, COLORS = 3, 4, 3
SIDE_MIN = 2
POSITIONS_MAX = 6
ATTEMPTS_MAX = 100
MEMBERS_MAX = 200
POINTS_MAX = 1_000_000
GRID_MIN = 4
STEP_SHARE = 0.4
"""Maximum deviation of grid positions, as a share of a step."""

LENGTHS = frozenset(("m", "mm", "cm", "um", "µm", "μm", "nm", "deg", "degree", "degrees", "rad", "mrad"))
ENDED = ("aborted", "failed", "lost", "incomplete")


@dataclass(frozen=True, slots=True)
class Position:
    """Dataset with the position of the stage at every frame.

    Attributes:
        name: of the axis.
        node: path of the dataset, one number a frame.
        units: from its attributes.
    """

    name: str
    node: str
    units: str


@dataclass(frozen=True, slots=True)
class FrameStack:
    """A stack of frames in a file.

    Attributes:
        path: of the file in the data root.
        uri: of the file, for documents.
        node: path of the dataset.
        shape: (frames, rows, columns), with colors (..., 3); or rows and columns of points, then those of frames.
        dtype: NumPy's name.
        identified: device, inode, size, and modification time (ns) of the file.
        positions: of the stage; slow axis first where known.
        grid: rows, columns and whether it snakes, when the positions of two axes form a grid.
        extents: first and last position of the slow and of the fast axis of the grid.
        axes: names of both, where there are no positions of each point.
        stretches: readable frames, as half-open ranges; empty for all.
        missing: a sentence about the unreadable ones.
    """

    path: str
    uri: str
    node: str
    shape: tuple[int, ...]
    dtype: str
    identified: tuple[int, ...]
    positions: tuple[Position, ...] = ()
    grid: tuple[int, int, bool] | None = None
    extents: tuple[tuple[float, float], tuple[float, float]] | None = None
    axes: tuple[str, str] = ("", "")
    stretches: tuple[tuple[int, int], ...] = ()
    missing: str = ""

    @property
    def columns(self) -> int:
        """Points in one row of the dataset; 0 where a row is a point."""
        return self.shape[1] if len(self.shape) == GRID_RANK and not _is_colored(self.shape) else 0

    @property
    def points(self) -> int:
        """Number of frames."""
        return self.shape[0] * (self.columns or 1)


def grid_of(slow: npt.NDArray[np.float64], fast: npt.NDArray[np.float64]) -> tuple[int, int, bool] | None:
    """Return the grid of positions (points,) of two axes: rows, columns, and whether every second row is reversed.

    >>> rows, columns = np.divmod(np.arange(12.0), 4)
    >>> grid_of(rows, columns), grid_of(rows, np.where(rows % 2, 3 - columns, columns)), grid_of(columns, columns)
    ((3, 4, False), (3, 4, True), None)
    """
    if len(slow) < GRID_MIN or not (np.isfinite(slow).all() and np.isfinite(fast).all()):
        return None
    steps = np.abs(np.diff(slow))
    turns = np.flatnonzero(steps > STEP_SHARE * steps.max()) + 1 if steps.max() > 0 else np.zeros(0, int)
    columns = int(turns[0]) if len(turns) else 0
    if columns < 2 or len(slow) % columns or not np.array_equal(turns, np.arange(columns, len(slow), columns)):
        return None
    if np.ptp(slow.reshape(-1, columns), axis=1).max() > STEP_SHARE * steps.max():
        return None  # the slow axis moves within a row
    rows = fast.reshape(-1, columns)
    span = abs(rows[0, -1] - rows[0, 0])
    for snake in (False, True):
        straight = rows.copy()
        if snake:
            straight[1::2] = straight[1::2, ::-1].copy()
        if span > 0 and np.abs(straight - straight.mean(axis=0)).max() < STEP_SHARE * span / (columns - 1):
            return len(rows), columns, snake
    return None


def is_stack(about: Mapping[str, Any]) -> bool:
    """Return whether a dataset can become maps: numeric frames in a sequence, or in rows and columns of points."""
    shape = about["shape"] or []
    if about["values"] != "number" or len(shape) not in (STACK_RANK, GRID_RANK) or 0 in shape:
        return False
    height, width = shape[1:3] if len(shape) == STACK_RANK or _is_colored(shape) else shape[2:]
    return min(height, width) >= SIDE_MIN


def _is_colored(shape: Sequence[int]) -> bool:
    """Return whether four dimensions are frames in color; else they are rows and columns of points and of frames."""
    return len(shape) == GRID_RANK and shape[-1] == COLORS


async def stack_of(
    inspector: FileInspector, path: str, about: Mapping[str, Any], *, path_map: Sequence[tuple[str, str]] = ()
) -> FrameStack:
    """Return a dataset as a stack, with the positions beside it.

    Args:
        inspector: reads files.
        path: of the file in the data root.
        about: metadata of the dataset, from the inspector.
        path_map: pairs of the writer's prefix and the local one.

    Raises:
        FrameError: when it is no stack of frames.
    """
    if not is_stack(about):
        raise FrameError(f"{about['node']} is not a stack of frames; maps need one")
    uri = _uri(inspector.root / path, path_map)
    positions = await _positions(inspector, path, about)
    shape, dtype = tuple(about["shape"]), about["dtype"].partition(",")[0]
    stack = FrameStack(path, uri, about["node"], shape, dtype, tuple(about["identified"]), positions)
    if "stretches" in about:
        stretches = tuple((int(start), int(stop)) for start, stop in about["stretches"])
        stack = replace(stack, stretches=stretches, missing=about["missing"])
    return await (_in_rows(inspector, stack, about) if stack.columns else _on_grid(inspector, stack))


def documents_of(stack: FrameStack, *, rois: Mapping[str, Rectangle] | None = None, attempt: int = 0) -> list[Document]:
    """Return the documents of the run of a stack, without its stop document.

    Args:
        stack: of frames.
        rois: the default ROIs; None for none.
        attempt: number of earlier attempts that were cancelled or failed.
    """
    identity = f"{stack.identified} {stack.path} {stack.node} {stack.shape} {sorted((rois or {}).items())} {attempt}"
    if stack.missing:
        identity += f" {stack.stretches}"
    uid = str(uuid.uuid5(NAMESPACE, identity))
    names = [position.name for position in stack.positions]
    start: dict[str, Any] = {
        "uid": uid,
        "time": time.time(),
        "plan_name": PurePosixPath(stack.path).name,
        "num_points": stack.points,
        OPENED: {"path": stack.path, "dataset": stack.node, "missing": stack.missing},
    }
    if names:
        start |= {"motors": names, "hints": {"dimensions": [[[name], "primary"] for name in names]}}
    if stack.grid is not None:
        rows, columns, snake = stack.grid
        start |= {"shape": [rows, columns], "snaking": [False, snake]}
    if stack.extents is not None:
        start["extents"] = [list(extent) for extent in stack.extents]
    if all(stack.axes):
        start["motors"] = list(stack.axes)
    key = PurePosixPath(stack.node).name
    nodes = {key if key not in names else f"{key} frames": (stack.node, _camera_key(stack))}
    nodes |= {position.name: (position.node, _position_key(position)) for position in stack.positions}
    keys = {name: data_key for name, (_, data_key) in nodes.items()}
    descriptor = _uid(uid, "descriptor")
    described = {"uid": descriptor, "run_start": uid, "time": start["time"], "name": "primary", "data_keys": keys}
    documents = [Document("start", start, run=uid), Document("descriptor", described, run=uid)]
    for name, (node, _) in nodes.items():
        resource = {
            "uid": _uid(uid, name),
            "run_start": uid,
            "data_key": name,
            "mimetype": "application/x-hdf5",
            "uri": stack.uri,
            "parameters": {"dataset": node, "chunk_shape": [1], **_column_parameters(stack, node)},
        }
        documents.append(Document("stream_resource", resource, run=uid))
    whole = ((0, stack.points),)
    for name, (node, _) in nodes.items():
        for number, (first, last) in enumerate((stack.stretches or whole) if node == stack.node else whole):
            datum = {
                "uid": _uid(uid, f"{name} {number or 'all'}"),
                "stream_resource": _uid(uid, name),
                "descriptor": descriptor,
                "indices": {"start": first, "stop": last},
                "seq_nums": {"start": first + 1, "stop": last + 1},
            }
            documents.append(Document("stream_datum", datum, run=uid))
    return documents


async def open_stack(store: Store, stack: FrameStack, *, rois: Mapping[str, Rectangle] | None = None) -> str:
    """Return the uid of the run of a stack; a new run is begun if there is none.

    Two tabs may append the same documents: the duplicates are harmless.
    """
    for attempt in range(ATTEMPTS_MAX):
        documents = documents_of(stack, rois=rois, attempt=attempt)
        try:
            summary = await store.summary(documents[0].run)
        except RunNotFound:
            await store.append(documents)
            return documents[0].run
        if summary.get("status") not in ENDED:
            return documents[0].run
    raise FrameError(f"{stack.path} could not be read in {ATTEMPTS_MAX} attempts; it is not read again")


async def cancel_reading(store: Store, uid: str) -> None:
    """End the reading of an opened file; its maps stay as they are."""
    stop = opened_stop(uid, time=time.time(), status="abort", reason="reading was stopped on the page")
    await store.append([Document("stop", stop, run=uid)])


async def _positions(inspector: FileInspector, path: str, about: Mapping[str, Any]) -> tuple[Position, ...]:
    """Return datasets beside the stack with one number a frame that are axes, or have a unit of length or angle."""
    group = str(PurePosixPath(about["node"]).parent)
    axes = [axis for axis in about["nexus"]["axes"] if axis]
    found: list[Position] = []
    try:
        beside = await inspector.members(path, group, count=MEMBERS_MAX)
        names = [member["name"] for member in beside["members"] if member["shape"] == [about["shape"][0]]]
        nodes = [f"{group.rstrip('/')}/{name}" for name in names]
        for node in sorted(nodes, key=lambda node: node not in axes)[: 2 * POSITIONS_MAX]:
            metadata = await inspector.about(path, node)
            if metadata["values"] == "number" and (node in axes or metadata["units"] in LENGTHS):
                found.append(Position(PurePosixPath(node).name, node, metadata["units"]))
    except SnakemapError:
        return ()  # maps do not need positions
    return tuple(found[:POSITIONS_MAX])


async def _on_grid(inspector: FileInspector, stack: FrameStack) -> FrameStack:
    """Return a stack with the grid of its positions, slow axis first; unchanged without a grid."""
    if len(stack.positions) != 2 or stack.shape[0] > POINTS_MAX:
        return stack
    try:
        read = [await inspector.read(stack.path, position.node, most=POINTS_MAX) for position in stack.positions]
    except SnakemapError:
        return stack
    columns = [np.asarray(block.values, np.float64) for block in read]
    for slow, fast in ((0, 1), (1, 0)):
        grid = grid_of(columns[slow], columns[fast])
        if grid is not None:
            first_row = columns[fast][: grid[1]]
            ends = [(float(along[0]), float(along[-1])) for along in (columns[slow], first_row)]
            positions = (stack.positions[slow], stack.positions[fast])
            return replace(stack, positions=positions, grid=grid, extents=(ends[0], ends[1]))
    return stack


async def _in_rows(inspector: FileInspector, stack: FrameStack, about: Mapping[str, Any]) -> FrameStack:
    """Return the grid of a stack in rows and columns of points, with the axes that the file names."""
    names, ends = [], []
    for number, path in enumerate(about["nexus"]["axes"][:2]):
        try:
            metadata = await inspector.about(stack.path, path) if path else {}
            if metadata.get("shape") != [stack.shape[number]] or metadata["values"] != "number":
                break
            values = (await inspector.read(stack.path, path)).values
            names.append(PurePosixPath(path).name)
            ends.append((float(values[0]), float(values[-1])))
        except SnakemapError:
            break
    known = len(ends) == 2 and bool(np.isfinite(ends).all())
    return replace(
        stack,
        positions=(),
        grid=(stack.shape[0], stack.shape[1], False),
        extents=(ends[0], ends[1]) if known else None,
        axes=(names[0], names[1]) if known else ("", ""),
    )


def _column_parameters(stack: FrameStack, node: str) -> dict[str, int]:
    return {COLUMNS: stack.columns} if stack.columns and node == stack.node else {}


def _camera_key(stack: FrameStack) -> dict[str, Any]:
    frame = list(stack.shape[2 if stack.columns else 1 :])
    shape = frame if _is_colored(stack.shape) else [1, *frame]
    return {"dtype": "array", "shape": shape, "dtype_numpy": stack.dtype, "source": stack.uri, "external": "STREAM:"}


def _position_key(position: Position) -> dict[str, Any]:
    return {
        "dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": position.node, "units": position.units,
        "external": "STREAM:",
    }  # fmt: skip


def _uri(path: Path, path_map: Sequence[tuple[str, str]]) -> str:
    """Return the URI of a file for documents, which leads back to the same file.

    Raises:
        FileRefused: when there is none.
    """
    text = os.fspath(path)
    spellings = [text]
    for writer, local in path_map:
        if Path(text).is_relative_to(local):
            spellings.append(str(Path(writer, Path(text).relative_to(local))))
    for spelling in spellings:
        uri = f"file://localhost{quote(os.fsencode(spelling))}"
        if local_path(uri, path_map) == path:
            return uri
    raise FileRefused(f"{path.name} has no URI that leads back to it; check SNAKEMAP_PATH_MAP")


def _uid(run: str, name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{run} {name}"))
