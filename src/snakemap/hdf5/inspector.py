"""Inspect HDF5 files: members, metadata, and slices of values.

Files are untrusted, so reader processes (:mod:`snakemap.hdf5.reader_process`) open them; there are several, so that a
file that hangs one of them does not block the others. Errors are those of :mod:`snakemap.hdf5.frame_reader`, with
``FrameError`` for a request that the file cannot satisfy.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snakemap.errors import FrameError
from snakemap.hdf5.protocol import INSPECT_PAYLOAD_MAX, H5groveRequest, InspectRequest
from snakemap.hdf5.reader_process import ReaderProcess

__all__ = ["Block", "FileInspector", "Selection"]

Selection = Sequence[int | Sequence[int]]
"""For each dimension of a dataset an index, or start, stop and step; missing dimensions are selected whole."""

PROCESSES = 2
TIME_LIMIT_S = 5.0
MEMORY_LIMIT_BYTES = 2 << 30
DTYPES = frozenset(
    ("|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f4", "<f8", "<c8", "<c16"),
)
NAME_MAX = 64 * 1024
RANK_MAX = 32


@dataclass(frozen=True, slots=True)
class Block:
    """Values of a dataset.

    Attributes:
        values: an array of numbers, or nested lists of JSON values.
        of: the current shape of the whole dataset.
    """

    values: Any
    of: tuple[int, ...]


class _InspectorProcess(ReaderProcess):
    """One inspecting process."""

    payload_max = INSPECT_PAYLOAD_MAX

    async def json(self, request: InspectRequest) -> dict[str, Any]:
        """Return an answer in JSON."""
        return await self._ask(request, _json_object)

    async def block(self, request: InspectRequest) -> Block:
        """Return an answer of values."""
        return await self._ask(request, _block)

    async def raw(self, request: H5groveRequest) -> bytearray:
        """Return the payload of an answer unchanged."""
        return await self._ask(request, _untouched)


class FileInspector:
    """Inspect the files of the data root; one instance serves all tabs of a process.

    Args:
        root: the data root; nothing outside it is read.
        path_map: pairs of the writer's prefix and the local one.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: of one request.
        memory_limit_bytes: address space of each reader process.
        processes: maximum number; they are started when first needed.
    """

    def __init__(
        self,
        root: Path,
        *,
        path_map: Sequence[tuple[str, str]] = (),
        locking: bool = False,
        time_limit_s: float = TIME_LIMIT_S,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        processes: int = PROCESSES,
    ) -> None:
        self.root = root
        self._all = [
            _InspectorProcess(
                root,
                path_map=path_map,
                locking=locking,
                time_limit_s=time_limit_s,
                memory_limit_bytes=memory_limit_bytes,
                sums=False,
            )
            for _ in range(processes)
        ]
        self._free = list(self._all)
        self._places = asyncio.Semaphore(processes)

    @property
    def launches(self) -> int:
        """Number of process starts."""
        return sum(looker.launches for looker in self._all)

    @property
    def pids(self) -> list[int]:
        """Ids of the running processes."""
        return [looker.pid for looker in self._all if looker.pid is not None]

    @property
    def replaced(self) -> int:
        """Number of processes replaced because a file crashed or hung them."""
        return sum(max(looker.launches - 1, 0) for looker in self._all)

    async def close(self) -> None:
        """End the processes."""
        for looker in self._all:
            await looker.close()

    async def members(
        self, path: str, node: str = "/", *, offset: int = 0, count: int = 200, search: str = ""
    ) -> dict[str, Any]:
        """Return members of a group, in the order of their names.

        Args:
            path: of the file in the data root.
            node: of the group in the file.
            offset: members to skip.
            count: maximum members; fewer are returned if it takes too long: continue after the last one.
            search: text in their names, ignoring case.

        Returns:
            ``total``, ``found``, ``offset``, ``live``, ``file``, and ``members``: ``name``, ``link`` (hard, soft,
            external, user), ``target``, ``kind`` (group, dataset, datatype, broken, refused), ``why``, ``shape``,
            ``dtype``, ``nx`` and ``default`` each.
        """
        request: InspectRequest = {"ask": "members", "path": path, "node": node, "offset": offset, "count": count}
        return await self._json({**request, "search": search[:NAME_MAX]})

    async def find(self, path: str, search: str, *, count: int = 200) -> dict[str, Any]:
        """Return ``paths`` whose last name contains a text, and whether there are ``more``."""
        return await self._json({"ask": "find", "path": path, "node": "/", "search": search[:NAME_MAX], "count": count})

    async def about(self, path: str, node: str = "/") -> dict[str, Any]:
        """Return the metadata of a group, dataset or datatype; see ``snakemap.hdf5.child.tree.about``."""
        return await self._json({"ask": "about", "path": path, "node": node})

    async def read(self, path: str, node: str, selection: Selection = (), *, most: int = 1_000_000) -> Block:
        """Return values of a dataset.

        Args:
            path: of the file in the data root.
            node: of the dataset in the file.
            selection: of the values; dimensions with an index are dropped.
            most: maximum number of values; more are a ``FrameError``.
        """
        asked = [int(one) if isinstance(one, int | np.integer) else [int(part) for part in one] for one in selection]
        if any(isinstance(one, list) and len(one) != 3 for one in asked):
            raise FrameError("a selection is a number, or start, stop and step, for each dimension")
        request: InspectRequest = {"ask": "slice", "path": path, "node": node, "selection": asked, "most": most}
        async with self._lent(request) as looker:
            return await looker.block(request)

    async def h5grove(self, request: H5groveRequest) -> bytearray:
        """Return h5grove's answer in the requested format.

        Raises:
            NotThere: no such file, or nothing of that name in it.
            WrongKind: it is of another kind, or its values do not fit that format.
            SelectionError: the selection is invalid, or does not fit.
            TooLarge: it exceeds the size limit of an answer.
        """
        async with self._lent(request) as looker:
            return await looker.raw(request)

    async def _json(self, request: InspectRequest) -> dict[str, Any]:
        async with self._lent(request) as looker:
            return await looker.json(request)

    @asynccontextmanager
    async def _lent(self, request: H5groveRequest | InspectRequest) -> AsyncIterator[_InspectorProcess]:
        if len(request["path"]) > NAME_MAX or len(request["node"]) > NAME_MAX:
            raise FrameError("this name is too long for a file, or for anything in it")
        async with self._places:
            process = self._free.pop()  # the one used last has its files open
            try:
                yield process
            finally:
                self._free.append(process)


def _json_object(header: dict[str, Any], payload: bytearray) -> dict[str, Any]:
    value = json.loads(payload)
    if not header.get("json") or not isinstance(value, dict):
        raise TypeError("an answer that is no object")
    return value


def _untouched(header: dict[str, Any], payload: bytearray) -> bytearray:
    return payload


def _block(header: dict[str, Any], payload: bytearray) -> Block:
    """Return the values of an answer, validated: a bad file may have corrupted the reader."""
    of, shape = (tuple(int(size) for size in header[name]) for name in ("of", "shape"))
    if min((*of, *shape, 0)) < 0 or len(of) > RANK_MAX:
        raise ValueError(f"values {shape} of {of}")
    if header.get("json"):
        return Block(json.loads(payload), of)
    if header["dtype"] not in DTYPES or len(payload) != math.prod(shape) * np.dtype(header["dtype"]).itemsize:
        raise ValueError(f"{len(payload):,} bytes for {shape} of {header['dtype']!r}")
    values: npt.NDArray[Any] = np.frombuffer(payload, header["dtype"]).reshape(shape)
    return Block(values, of)
