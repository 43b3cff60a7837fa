"""Files in documents before ophyd-async: a ``resource``, a ``datum`` for each point, and its id in the event.

    resource {"uid": "r", "spec": "AD_HDF5", "root": "/data", "resource_path": "scan.h5", "resource_kwargs": {...}}
    datum    {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"point_number": 0}}
    event    {"seq_num": 1, "data": {"camera": "r/0"}}

Point ``p`` owns the frames from ``p * frame_per_point`` on. ``AD_HDF5`` and ``AD_HDF5_SWMR`` keep them in one file, in
``/entry/data/data``; ``AD_HDF5_SINGLE`` keeps each in a file of its own, named by a printf template of directory, file
name and frame number.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from snakemap.core.json_values import is_list, is_mapping
from snakemap.core.stream_resources import Resource
from snakemap.errors import DocumentError

__all__ = ["ClassicResources", "Pointer", "refusal_of", "resource_of"]

STACKS = ("AD_HDF5", "AD_HDF5_SWMR")
SINGLES = "AD_HDF5_SINGLE"
DATASET = "/entry/data/data"
DATA_MAX = 200_000
FRAMES_MAX = 100_000
POINT_MAX = 2**53
TEMPLATE_MAX = 300

TEMPLATE = re.compile(r"(?:[^%]|%%)*(?:%s(?:[^%]|%%)*){2}%0?\d{0,2}(?:\.\d{1,2})?d(?:[^%]|%%)*")
"""A printf template of directory, file name and number; widths are bounded."""

Pointer = tuple[str, int]
"""Uid of a resource, and the number of a point in it."""


def refusal_of(doc: Mapping[str, Any]) -> str:
    """Return why a resource is not read, for the user; empty if it is.

    >>> refusal_of({"spec": "AD_HDF5"}), refusal_of({"spec": "AD_TIFF"})
    ('', 'its files are of the kind AD_TIFF; only AD_HDF5, AD_HDF5_SWMR and AD_HDF5_SINGLE are read')
    """
    spec = doc.get("spec")
    if spec in (*STACKS, SINGLES):
        return ""
    kind = f"of the kind {spec[:60]}" if isinstance(spec, str) and spec else "of no known kind"
    return f"its files are {kind}; only AD_HDF5, AD_HDF5_SWMR and AD_HDF5_SINGLE are read"


def resource_of(doc: Mapping[str, Any]) -> Resource:
    """Return where the frames of a resource are; their shape is in the file.

    Raises:
        DocumentError: if its path, its frames per point, or its template cannot be used.

    >>> found = resource_of({"uid": "r", "spec": "AD_HDF5", "root": "/data", "resource_path": "a b.h5"})
    >>> found.uri, found.dataset, found.frames_per_point
    ('file://localhost/data/a%20b.h5', '/entry/data/data', 1)
    """
    uid, root, path = doc["uid"], doc.get("root") or "", doc.get("resource_path")
    kwargs = doc.get("resource_kwargs")
    options = kwargs if is_mapping(kwargs) else dict[str, Any]()
    if not isinstance(path, str) or not path or not isinstance(root, str) or "\0" in root + path:
        raise DocumentError(f"resource {uid} does not name its file")
    frames = options.get("frame_per_point", 1)
    if type(frames) is not int or not 0 < frames <= FRAMES_MAX:
        raise DocumentError(f"resource {uid} has {str(frames)[:40]} frames a point")
    uri = f"file://localhost{quote(str(PurePosixPath(root) / path), errors='surrogatepass')}"
    if doc.get("spec") != SINGLES:
        return Resource(uid, uri, DATASET, frames, None)
    template, name = options.get("template"), options.get("filename")
    if not isinstance(name, str) or "\0" in name or not _is_template(template):
        raise DocumentError(f"resource {uid} does not name its files")
    return Resource(uid, uri, DATASET, frames, None, template=str(template), filename=name)


class ClassicResources:
    """The point of each datum, and the frames that wait for a datum; the newest :data:`DATA_MAX` of both are kept."""

    def __init__(self) -> None:
        self._points: OrderedDict[str, Pointer] = OrderedDict()
        self._awaited: OrderedDict[str, list[Any]] = OrderedDict()

    def add(self, name: str, doc: Mapping[str, Any]) -> Iterator[tuple[Any, Pointer]]:
        """Add a datum or a datum_page; yield what waited for it, with its point.

        Raises:
            DocumentError: if a page has not as many arguments as ids.
        """
        for uid, number in _points_of(name, doc):
            if not isinstance(uid, str):
                continue
            self._points[uid] = pointer = doc["resource"], number
            for waiting in self._awaited.pop(uid, ()):
                yield waiting, pointer
        while len(self._points) > DATA_MAX:
            self._points.popitem(last=False)

    def find(self, uid: str, waiting: Any) -> Pointer | None:
        """Return the point of a datum; if it is unknown, keep ``waiting`` for :meth:`add`."""
        found = self._points.get(uid)
        if found is None:
            self._awaited.setdefault(uid, []).append(waiting)
            while len(self._awaited) > DATA_MAX:
                self._awaited.popitem(last=False)
        return found


def _points_of(name: str, doc: Mapping[str, Any]) -> list[tuple[Any, int]]:
    """Return id and point number of each datum; -1 if it has no number."""
    kwargs = doc.get("datum_kwargs")
    options = kwargs if is_mapping(kwargs) else dict[str, Any]()
    if name == "datum":
        return [(doc["datum_id"], _number(options.get("point_number")))]
    ids, numbers = doc["datum_id"], options.get("point_number", [None] * len(doc["datum_id"]))
    if not is_list(numbers) or len(numbers) != len(ids):
        raise DocumentError(f"a datum_page of {len(ids)} ids with other arguments")
    return [(uid, _number(number)) for uid, number in zip(ids, numbers, strict=True)]


def _number(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < POINT_MAX else -1


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEMPLATE_MAX and TEMPLATE.fullmatch(value) is not None
