"""Find the default plot of a NeXus file."""

from __future__ import annotations

import time
from typing import Any

import h5py
from h5py import h5g, h5o  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import SnakemapError
from snakemap.files.data_root import shown
from snakemap.hdf5.child.dtypes import plain, values_of
from snakemap.hdf5.child.hdf_file import HdfFile, Node, OpenDataset, reading
from snakemap.hdf5.child.nexus import auxiliary_of, axes_of, class_of, default_of, errors_of, signal_of, text_attribute
from snakemap.hdf5.child.open_files import OpenFiles, link_of

__all__ = ["NODES_MAX", "SEARCH_S", "decode_name", "group_plot", "member_names", "plot_of", "signal_plot"]

DEFAULTS_MAX = 8
"""Maximum number of groups along ``@default``."""


SEARCH_S, NODES_MAX = 0.5, 20_000


def member_names(group: h5py.Group, offset: int, count: int, search: str, total: int) -> tuple[list[str], int]:
    """Return names of some members, and the number of all matches."""
    names: list[str] = []
    if not search:

        def take(name: bytes) -> bool | None:
            names.append(decode_name(name))
            return len(names) >= count or None

        if offset < total and count > 0:
            group.id.links.iterate(take, idx=offset)
        return names, total
    found, until = 0, time.monotonic() + SEARCH_S

    def match(name: bytes) -> bool | None:
        nonlocal found
        text = decode_name(name)
        if search in text.casefold():
            found += 1
            if offset < found <= offset + count:
                names.append(text)
        return time.monotonic() > until or None

    group.id.links.iterate(match)
    return names, found


def signal_plot(files: OpenFiles, file: HdfFile, path: str) -> dict[str, Any]:
    """Return how the group of a dataset plots the dataset."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    place = "/" + "/".join(parts[:-1])
    group = files.node(files.again(file), place)
    if not isinstance(group.item, h5py.Group):
        return plot_of(None, "", "", "")
    with reading(group.file, f"{shown(place)} cannot be read"):
        signal, auxiliary = signal_of(group.item), auxiliary_of(group.item)
        title = _title(files, group) if signal == parts[-1] else ""
        return plot_of(group.item, place, parts[-1] if parts[-1] in (signal, *auxiliary) else "", title)


def plot_of(group: h5py.Group | None, place: str, signal: str, title: str) -> dict[str, Any]:
    """Return how a group plots its signal; empty without a group."""
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


def group_plot(files: OpenFiles, node: Node) -> dict[str, Any]:
    """Return the path of the default plot of a group; ``@default`` leads from group to group."""
    place = node.place
    for _ in range(DEFAULTS_MAX):
        group = files.node(node.file, place)
        if not isinstance(group.item, h5py.Group) or group.file is not node.file:
            break
        base = place.rstrip("/")
        if signal := signal_of(group.item):
            return {**plot_of(group.item, place, signal, _title(files, group)), "default": place}
        names = default_of(group.item) or _first_plot(group.item)
        if not names:
            break
        place = f"{base}/{names[0]}"
    return plot_of(None, "", "", "")


def _first_plot(group: h5py.Group) -> list[str]:
    """Return the first entry or data among the members, for groups without ``@default``."""
    names, _ = member_names(group, 0, 50, "", group.id.get_num_objs())
    for name in names:
        if isinstance(link_of(group, name), h5py.HardLink):
            raw = name.encode(errors="surrogateescape")
            group_there = h5o.get_info(group.id, raw).type == h5o.TYPE_GROUP
            if group_there and class_of(h5py.Group(h5g.open(group.id, raw))) in ("NXentry", "NXdata"):
                return [name]
    return []


def _title(files: OpenFiles, node: Node) -> str:
    """Return the title of a plot: an attribute of its group, or a member of it."""
    if text := text_attribute(node.item, "title"):
        return text
    if not isinstance(node.item, h5py.Group) or not node.item.id.links.exists(b"title"):
        return ""
    try:
        there = files.node(node.file, f"{node.place.rstrip('/')}/title")
        if not isinstance(there.item, h5py.Dataset) or there.item.shape != ():
            return ""
        found = OpenDataset(there.file, there.item, there.path)
        files.allow(found)
        return str(plain(there.item[()]))[:200] if values_of(there.item.dtype) == "string" else ""
    except SnakemapError:
        return ""


def decode_name(name: bytes | str) -> str:
    """Return a name as text; bytes that are not UTF-8 become surrogates."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
