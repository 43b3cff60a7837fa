"""Members and metadata of the nodes of an HDF5 file.

:class:`snakemap.hdf5.child.open_files.OpenFiles` follows every link, never HDF5: a listing shows where a link leads and
why it is not followed, and a bad member does not affect others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import h5py
from h5py import h5a, h5d, h5z  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import FileRefused, FrameError, SnakemapError
from snakemap.files.data_root import shown
from snakemap.hdf5.child.attributes import attributes_of
from snakemap.hdf5.child.dectris_parts import parts_of
from snakemap.hdf5.child.default_plot import (
    NODES_MAX,
    SEARCH_S,
    decode_name,
    group_plot,
    member_names,
    plot_of,
    signal_plot,
)
from snakemap.hdf5.child.dtypes import described, dtype_of, enum_of, fields_of, plain, values_of
from snakemap.hdf5.child.hdf_file import HdfFile, Node, OpenDataset, reading
from snakemap.hdf5.child.nexus import auxiliary_of, class_of, default_of, text_attribute
from snakemap.hdf5.child.open_files import OpenFiles, link_of
from snakemap.hdf5.protocol import InspectRequest

__all__ = ["about", "find_names", "members"]

COUNT_MAX = 500


LOOK_S = 1.0
"""Maximum seconds of a listing; the next request continues it."""


FILTERS = {
    h5z.FILTER_DEFLATE: "gzip",
    h5z.FILTER_SHUFFLE: "shuffle",
    h5z.FILTER_FLETCHER32: "fletcher32",
    h5z.FILTER_SZIP: "szip",
    5: "nbit",
    6: "scale-offset",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}


LAYOUTS = {h5d.COMPACT: "compact", h5d.CONTIGUOUS: "contiguous", h5d.CHUNKED: "chunked", h5d.VIRTUAL: "virtual"}


def members(files: OpenFiles, request: InspectRequest) -> dict[str, Any]:
    """Return members of a group, in the order of their names.

    Only listed members are opened; of the others only the name is read, for a search.
    """
    node = files.node(files.open_afresh(request["path"]), request["node"])
    group = _group(node)
    offset, count = max(0, request.get("offset", 0)), min(request.get("count", 200), COUNT_MAX)
    search = request.get("search", "").casefold()
    with reading(node.file, "its members cannot be listed"):
        total = group.id.get_num_objs()
        names, found = member_names(group, offset, count, search, total)
        default, auxiliary = default_of(group), auxiliary_of(group)
    listed: list[dict[str, Any]] = []
    until = time.monotonic() + LOOK_S
    for name in names:
        if not group:  # a bad member made HDF5 close the file
            node = files.node(files.again(node.file), node.place)
            group = _group(node)
        marks = {"default": name in default, "auxiliary": name in auxiliary}
        listed.append({**_member(files, node, group, name), **marks})
        files.trim(node.file)
        if time.monotonic() > until:
            break
    return {
        "node": request["node"],
        "file": str(node.file.name),
        "total": total,
        "found": found,
        "offset": offset,
        "live": node.file.young,
        "members": listed,
    }


def find_names(files: OpenFiles, request: InspectRequest) -> dict[str, Any]:
    """Return paths below the root whose last name contains a text, those near the root first; links are not
    followed."""
    file = files.open_afresh(request["path"])
    search, count = request.get("search", "").casefold(), min(request.get("count", 200), COUNT_MAX)
    node = files.node(file, "/")
    paths: list[str] = []
    seen, until = 0, time.monotonic() + SEARCH_S

    def visit(name: bytes) -> bool | None:
        nonlocal seen
        seen += 1
        text = decode_name(name)
        if search in text.rpartition("/")[2].casefold():
            paths.append(f"/{text}")
        return seen >= NODES_MAX or time.monotonic() > until or None

    with reading(file, "its names cannot be searched"):
        node.item.id.links.visit(visit)
    paths.sort(key=lambda path: (path.count("/"), path))
    ended = seen < NODES_MAX and time.monotonic() <= until
    return {"paths": paths[:count], "more": len(paths) > count or not ended}


def about(files: OpenFiles, request: InspectRequest) -> dict[str, Any]:
    """Return the metadata of a node."""
    file = files.open_afresh(request["path"])
    node = files.node(file, request["node"])
    item = node.item
    metadata: dict[str, Any] = {
        "node": request["node"],
        "place": node.place,
        "file": str(node.file.name),
        "file_size": file.size,
        "identified": list(node.file.identified),
        "live": node.file.young,
        **_nothing(),
    }
    if isinstance(item, h5py.Dataset):
        files.allow(OpenDataset(node.file, item, node.path))
        with reading(node.file, f"{shown(node.path)} cannot be read"):
            metadata |= _dataset(item)
        metadata["nexus"] = _quietly(node.file, lambda: signal_plot(files, file, request["node"]))
    elif isinstance(item, h5py.Group):
        with reading(node.file, f"{shown(node.path)} cannot be read"):
            metadata["members"] = item.id.get_num_objs()
        metadata["nexus"] = _quietly(node.file, lambda: group_plot(files, node))
        metadata |= _stack(files, files.node(files.again(file), request["node"]))
    else:
        metadata |= _typed(dtype_of(item.id)) | {"kind": "datatype"}
    if not item:  # something that a plot needs made HDF5 close the file
        item = files.node(files.again(node.file), node.place).item
    with reading(node.file, f"the attributes of {shown(node.path)} cannot be read"):
        metadata |= _words(item)
        metadata["attributes"] = list(attributes_of(item))
        metadata["attributes_total"] = h5a.get_num_attrs(item.id)
    return metadata


def _stack(files: OpenFiles, node: Node) -> dict[str, Any]:
    """Return the metadata of a group as a stack of frames in several files; empty if it is none."""
    try:
        parts = parts_of(files, node)
    except SnakemapError:  # bad links do not affect the rest
        parts = None
    if parts is None:
        return {}
    with_frames = {"shape": list(parts.shape), "maxshape": list(parts.shape), "dtype": described(parts.dtype)}
    size = math.prod(parts.shape) * parts.dtype.itemsize
    plot = {"default": None, "signal": None, "signals": [], "axes": [], "errors": None, "title": ""}
    about = {
        "values": values_of(parts.dtype),
        "bytes": size,
        "stretches": parts.readable_ranges,
        "missing": parts.missing,
    }
    return {**with_frames, **about, "nexus": plot}


def _quietly(file: HdfFile, plot: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a plot; empty on errors, which do not affect the rest."""
    try:
        with reading(file, "its plots cannot be read"):
            return plot()
    except SnakemapError:
        return plot_of(None, "", "", "")


def _nothing() -> dict[str, Any]:
    """Return the default metadata, of every node."""
    empty = {"shape": None, "maxshape": None, "chunks": None, "bytes": 0, "stored": None, "members": None}
    return {
        "kind": "group",
        "nx": "",
        **_typed(None),
        "values": "none",
        "layout": "",
        "filters": [],
        **empty,
        "missing": "",
    }


def _typed(dtype: Any) -> dict[str, Any]:
    return {
        "dtype": described(dtype) if dtype is not None else "",
        "values": values_of(dtype),
        "fields": fields_of(dtype),
        "enum": enum_of(dtype),
    }


def _dataset(dataset: h5py.Dataset) -> dict[str, Any]:
    creation, dtype = dataset.id.get_create_plist(), dtype_of(dataset.id.get_type())
    shape = dataset.shape
    size = dataset.id.get_type().get_size()
    return {
        "kind": "dataset",
        **_typed(dtype),
        "dtype": described(dtype),
        "shape": None if shape is None else list(shape),
        "maxshape": list(dataset.maxshape or ()) if shape is not None else None,
        "chunks": list(dataset.chunks) if dataset.chunks else None,
        "layout": LAYOUTS.get(creation.get_layout(), ""),
        "filters": [_filter(creation.get_filter(number)) for number in range(min(creation.get_nfilters(), 32))],
        "bytes": 0 if shape is None else math.prod(shape) * size,
        "stored": dataset.id.get_storage_size() if creation.get_layout() != h5d.VIRTUAL else None,
    }


def _filter(description: tuple[int, int, tuple[int, ...], bytes]) -> str:
    code, _, values, name = description
    if code == h5z.FILTER_DEFLATE and values:
        return f"gzip {values[0]}"
    return FILTERS.get(code) or shown(decode_name(name) or f"filter {code}")[:40]


def _group(node: Node) -> h5py.Group:
    if isinstance(node.item, h5py.Group):
        return node.item
    raise FrameError(f"{node} has no members: it is not a group")


def _member(files: OpenFiles, node: Node, group: h5py.Group, name: str) -> dict[str, Any]:
    """Return the listing entry of a member, also if it cannot be opened."""
    entry: dict[str, Any] = {
        "name": name, "link": "hard", "target": "", "kind": "broken", "why": "", "shape": None, "dtype": "", "nx": "",
    }  # fmt: skip
    try:
        with reading(node.file, f"{shown(name)} cannot be read"):
            link = link_of(group, name)
        if isinstance(link, h5py.SoftLink):
            entry |= {"link": "soft", "target": plain(link.path)}
        elif isinstance(link, h5py.ExternalLink):
            entry |= {"link": "external", "target": plain(f"{link.filename}:{link.path}")}
        elif link is None:
            entry["link"] = "user"
            raise FileRefused("links of an unknown kind are not followed")
        entry |= _opened(files, node, name)
    except FileRefused as refusal:
        entry |= {"kind": "refused", "why": str(refusal)}
    except SnakemapError as trouble:
        entry |= {"kind": "broken", "why": str(trouble)}
    return entry


def _opened(files: OpenFiles, node: Node, name: str) -> dict[str, Any]:
    """Return kind, shape and dtype of a member, with all links followed."""
    there = files.node(files.again(node.file), f"{node.place.rstrip('/')}/{name}")
    item = there.item
    if isinstance(item, h5py.Dataset):
        found = OpenDataset(there.file, item, there.path)
        with reading(there.file, f"{shown(name)} cannot be read"):
            virtual = found.virtual
            if not virtual:
                item.refresh()
        if virtual:
            files.allow(found)
        with reading(there.file, f"{shown(name)} cannot be read"):
            shape = item.shape
            dtype = described(dtype_of(item.id.get_type()))
            interpreted = text_attribute(item, "interpretation")
        return {
            "kind": "dataset",
            "shape": None if shape is None else list(shape),
            "dtype": dtype,
            "interpretation": interpreted,
        }
    if isinstance(item, h5py.Group):
        with reading(there.file, f"{shown(name)} cannot be read"):
            return {"kind": "group", "nx": class_of(item), "members": item.id.get_num_objs()}
    return {"kind": "datatype", "dtype": described(dtype_of(item.id))}


def _words(item: Any) -> dict[str, str]:
    names = ("units", "long_name", "interpretation")
    return {"nx": class_of(item), **{name: text_attribute(item, name) for name in names}}
