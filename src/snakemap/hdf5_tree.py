"""What is in an HDF5 file: the members of its groups, some at a time, and all that is told of one of them.

Every link is followed by :class:`snakemap.hdf5_files.OpenFiles`, never by HDF5, so that a listing shows where a link
leads and why it is not followed, and one bad member spoils no other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import h5py
from h5py import h5a, h5d, h5g, h5o, h5z  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.confine import shown
from snakemap.errors import FileRefused, FrameError, SnakemapError
from snakemap.hdf5_files import HDF5_ERRORS, Found, HdfFile, Node, OpenFiles, link_of, reading
from snakemap.hdf5_nexus import auxiliary_of, axes_of, class_of, default_of, errors_of, signal_of, text_attribute
from snakemap.hdf5_parts import parts_of
from snakemap.hdf5_types import described, dtype_of, enum_of, fields_of, plain, values_of
from snakemap.hdf5_wire import LookRequest

__all__ = ["about", "find_names", "members"]

COUNT_MAX = 500
LOOK_S = 1.0
"""Seconds after which a listing ends with what it has; the rest is for the next request."""

DEFAULTS_MAX = 8
"""Groups from which ``@default`` may lead to the next one."""

SEARCH_S, NODES_MAX = 0.5, 20_000
ATTRIBUTES_MAX, ATTRIBUTE_BYTES_MAX = 200, 64 * 1024

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


def members(files: OpenFiles, request: LookRequest) -> dict[str, Any]:
    """Some members of a group, in the order of their names.

    Only those that are told are opened; of the others not more than the name is looked at, and that only to search.
    """
    node = files.node(files.open_afresh(request["path"]), request["node"])
    group = _group(node)
    offset, count = max(0, request.get("offset", 0)), min(request.get("count", 200), COUNT_MAX)
    search = request.get("search", "").casefold()
    with reading(node.file, "its members cannot be listed"):
        total = group.id.get_num_objs()
        names, found = _names(group, offset, count, search, total)
        default, auxiliary = default_of(group), auxiliary_of(group)
    told: list[dict[str, Any]] = []
    until = time.monotonic() + LOOK_S
    for name in names:
        if not group:  # HDF5 has let the file go over a bad member
            node = files.node(files.again(node.file), node.place)
            group = _group(node)
        marks = {"default": name in default, "auxiliary": name in auxiliary}
        told.append({**_member(files, node, group, name), **marks})
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
        "members": told,
    }


def _names(group: h5py.Group, offset: int, count: int, search: str, total: int) -> tuple[list[str], int]:
    """Names of some members, and how many there are to choose from."""
    names: list[str] = []
    if not search:

        def take(name: bytes) -> bool | None:
            names.append(_decoded(name))
            return len(names) >= count or None

        if offset < total and count > 0:
            group.id.links.iterate(take, idx=offset)
        return names, total
    found, until = 0, time.monotonic() + SEARCH_S

    def match(name: bytes) -> bool | None:
        nonlocal found
        text = _decoded(name)
        if search in text.casefold():
            found += 1
            if offset < found <= offset + count:
                names.append(text)
        return time.monotonic() > until or None

    group.id.links.iterate(match)
    return names, found


def find_names(files: OpenFiles, request: LookRequest) -> dict[str, Any]:
    """Paths below the root whose last name holds a text, those near the root first; links are told, not followed."""
    file = files.open_afresh(request["path"])
    search, count = request.get("search", "").casefold(), min(request.get("count", 200), COUNT_MAX)
    node = files.node(file, "/")
    paths: list[str] = []
    seen, until = 0, time.monotonic() + SEARCH_S

    def visit(name: bytes) -> bool | None:
        nonlocal seen
        seen += 1
        text = _decoded(name)
        if search in text.rpartition("/")[2].casefold():
            paths.append(f"/{text}")
        return seen >= NODES_MAX or time.monotonic() > until or None

    with reading(file, "its names cannot be searched"):
        node.item.id.links.visit(visit)
    paths.sort(key=lambda path: (path.count("/"), path))
    ended = seen < NODES_MAX and time.monotonic() <= until
    return {"paths": paths[:count], "more": len(paths) > count or not ended}


def about(files: OpenFiles, request: LookRequest) -> dict[str, Any]:
    """All that is told of a node, without its values."""
    file = files.open_afresh(request["path"])
    node = files.node(file, request["node"])
    item = node.item
    told: dict[str, Any] = {
        "node": request["node"],
        "place": node.place,
        "file": str(node.file.name),
        "file_size": file.size,
        "identified": list(node.file.identified),
        "live": node.file.young,
        **_nothing(),
    }
    if isinstance(item, h5py.Dataset):
        files.allow(Found(node.file, item, node.path))
        with reading(node.file, f"{shown(node.path)} cannot be looked at"):
            told |= _dataset(item)
        told["nexus"] = _quietly(node.file, lambda: _signal_plot(files, file, request["node"]))
    elif isinstance(item, h5py.Group):
        with reading(node.file, f"{shown(node.path)} cannot be looked at"):
            told["members"] = item.id.get_num_objs()
        told["nexus"] = _quietly(node.file, lambda: _group_plot(files, node))
        told |= _stack(files, files.node(files.again(file), request["node"]))
    else:
        told |= _typed(dtype_of(item.id)) | {"kind": "datatype"}
    if not item:  # HDF5 has let the file go over what a plot needs
        item = files.node(files.again(node.file), node.place).item
    with reading(node.file, f"the attributes of {shown(node.path)} cannot be read"):
        told |= _words(item)
        told["attributes"] = list(_attributes(item))
        told["attributes_total"] = h5a.get_num_attrs(item.id)
    return told


def _stack(files: OpenFiles, node: Node) -> dict[str, Any]:
    """What a group is as a stack of frames in several files; nothing when it is none."""
    try:
        parts = parts_of(files, node)
    except SnakemapError:  # what is wrong with its links spoils nothing else
        parts = None
    if parts is None:
        return {}
    with_frames = {"shape": list(parts.shape), "maxshape": list(parts.shape), "dtype": described(parts.dtype)}
    size = math.prod(parts.shape) * parts.dtype.itemsize
    plot = {"default": None, "signal": None, "signals": [], "axes": [], "errors": None, "title": ""}
    about = {"values": values_of(parts.dtype), "bytes": size, "stretches": parts.stretches, "missing": parts.missing}
    return {**with_frames, **about, "nexus": plot}


def _quietly(file: HdfFile, plot: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is told of a plot; what is wrong with it spoils nothing else."""
    try:
        with reading(file, "its plots cannot be looked up"):
            return plot()
    except SnakemapError:
        return _plot(None, "", "", "")


def _nothing() -> dict[str, Any]:
    """What every answer has, of a node that has none of it."""
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


def _filter(told: tuple[int, int, tuple[int, ...], bytes]) -> str:
    code, _, values, name = told
    if code == h5z.FILTER_DEFLATE and values:
        return f"gzip {values[0]}"
    return FILTERS.get(code) or shown(_decoded(name) or f"filter {code}")[:40]


def _group(node: Node) -> h5py.Group:
    if isinstance(node.item, h5py.Group):
        return node.item
    raise FrameError(f"{node} has no members: it is no group")


def _member(files: OpenFiles, node: Node, group: h5py.Group, name: str) -> dict[str, Any]:
    """What a listing tells of a member; that it cannot be opened is told, too."""
    told: dict[str, Any] = {
        "name": name, "link": "hard", "target": "", "kind": "broken", "why": "", "shape": None, "dtype": "", "nx": "",
    }  # fmt: skip
    try:
        with reading(node.file, f"{shown(name)} cannot be looked up"):
            link = link_of(group, name)
        if isinstance(link, h5py.SoftLink):
            told |= {"link": "soft", "target": plain(link.path)}
        elif isinstance(link, h5py.ExternalLink):
            told |= {"link": "external", "target": plain(f"{link.filename}:{link.path}")}
        elif link is None:
            told["link"] = "user"
            raise FileRefused("links of an unknown kind are not followed")
        told |= _opened(files, node, name)
    except FileRefused as refusal:
        told |= {"kind": "refused", "why": str(refusal)}
    except SnakemapError as trouble:
        told |= {"kind": "broken", "why": str(trouble)}
    return told


def _opened(files: OpenFiles, node: Node, name: str) -> dict[str, Any]:
    """Kind, shape and dtype of a member, every link to it followed."""
    there = files.node(files.again(node.file), f"{node.place.rstrip('/')}/{name}")
    item = there.item
    if isinstance(item, h5py.Dataset):
        found = Found(there.file, item, there.path)
        with reading(there.file, f"{shown(name)} cannot be looked at"):
            virtual = found.virtual
            if not virtual:
                item.refresh()
        if virtual:
            files.allow(found)
        with reading(there.file, f"{shown(name)} cannot be looked at"):
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
        with reading(there.file, f"{shown(name)} cannot be looked at"):
            return {"kind": "group", "nx": class_of(item), "members": item.id.get_num_objs()}
    return {"kind": "datatype", "dtype": described(dtype_of(item.id))}


def _signal_plot(files: OpenFiles, file: HdfFile, path: str) -> dict[str, Any]:
    """What the group that a dataset is asked for in says of how to draw it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    place = "/" + "/".join(parts[:-1])
    group = files.node(files.again(file), place)
    if not isinstance(group.item, h5py.Group):
        return _plot(None, "", "", "")
    with reading(group.file, f"{shown(place)} cannot be looked at"):
        signal, auxiliary = signal_of(group.item), auxiliary_of(group.item)
        title = _title(files, group) if signal == parts[-1] else ""
        return _plot(group.item, place, parts[-1] if parts[-1] in (signal, *auxiliary) else "", title)


def _plot(group: h5py.Group | None, place: str, signal: str, title: str) -> dict[str, Any]:
    """What a group says of how to draw its signal; nothing without one."""
    base = place.rstrip("/")
    if group is None or not signal:
        return {"default": None, "signal": None, "signals": [], "axes": [], "errors": None, "title": ""}
    errors = errors_of(group, signal)
    return {
        "default": None,
        "signal": f"{base}/{signal}",
        "signals": [f"{base}/{name}" for name in dict.fromkeys((signal_of(group), *auxiliary_of(group))) if name],
        "axes": [f"{base}/{name}" if name else None for name in axes_of(group, signal)],
        "errors": f"{base}/{errors}" if errors else None,
        "title": title,
    }


def _group_plot(files: OpenFiles, node: Node) -> dict[str, Any]:
    """Where the default plot of a group is, by way of ``@default`` from group to group."""
    place = node.place
    for _ in range(DEFAULTS_MAX):
        group = files.node(node.file, place)
        if not isinstance(group.item, h5py.Group) or group.file is not node.file:
            break
        base = place.rstrip("/")
        if signal := signal_of(group.item):
            return {**_plot(group.item, place, signal, _title(files, group)), "default": place}
        names = default_of(group.item) or _first_plot(group.item)
        if not names:
            break
        place = f"{base}/{names[0]}"
    return _plot(None, "", "", "")


def _first_plot(group: h5py.Group) -> list[str]:
    """The first member that is an entry or data, where nobody says what the default is."""
    names, _ = _names(group, 0, 50, "", group.id.get_num_objs())
    for name in names:
        if isinstance(link_of(group, name), h5py.HardLink):
            raw = name.encode(errors="surrogateescape")
            group_there = h5o.get_info(group.id, raw).type == h5o.TYPE_GROUP
            if group_there and class_of(h5py.Group(h5g.open(group.id, raw))) in ("NXentry", "NXdata"):
                return [name]
    return []


def _title(files: OpenFiles, node: Node) -> str:
    """The title of a plot: an attribute of its group, or a member of it."""
    if text := text_attribute(node.item, "title"):
        return text
    if not isinstance(node.item, h5py.Group) or not node.item.id.links.exists(b"title"):
        return ""
    try:
        there = files.node(node.file, f"{node.place.rstrip('/')}/title")
        if not isinstance(there.item, h5py.Dataset) or there.item.shape != ():
            return ""
        found = Found(there.file, there.item, there.path)
        files.allow(found)
        return str(plain(there.item[()]))[:200] if values_of(there.item.dtype) == "string" else ""
    except SnakemapError:
        return ""


def _words(item: Any) -> dict[str, str]:
    names = ("units", "long_name", "interpretation")
    return {"nx": class_of(item), **{name: text_attribute(item, name) for name in names}}


def _attributes(item: Any) -> Iterator[dict[str, Any]]:
    """The first attributes of an object; one that is too large or cannot be read is told without its value."""
    sizes: list[tuple[bytes, int]] = []

    def take(name: bytes, info: Any) -> bool | None:
        sizes.append((name, info.data_size))
        return len(sizes) >= ATTRIBUTES_MAX or None

    h5a.iterate(item.id, take, info=True)
    for name, size in sizes:
        told: dict[str, Any] = {"name": plain(name), "dtype": "", "shape": None, "value": None, "cut": True}
        try:
            if size <= ATTRIBUTE_BYTES_MAX:
                told |= _attribute(item, name)
        except HDF5_ERRORS as error:
            told["value"] = f"cannot be read: {shown(error)}"
        yield told


def _attribute(item: Any, name: bytes) -> dict[str, Any]:
    attribute = h5a.open(item.id, name)
    dtype = dtype_of(attribute.get_type())
    told: dict[str, Any] = {"dtype": described(dtype), "shape": list(attribute.shape or ())}
    if dtype is None:
        return told
    value, shortened = _shortened(plain(item.attrs[name], owner=item))
    return {**told, "value": value, "cut": shortened}


def _shortened(value: Any) -> tuple[Any, bool]:
    """A value that is not too long for a line, and whether something was left out."""
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:200]}…", True
    if isinstance(value, list):
        parts = [_shortened(part) for part in value[:20]]
        return [part for part, _ in parts], len(value) > 20 or any(cut for _, cut in parts)
    return value, False


def _decoded(name: bytes | str) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
