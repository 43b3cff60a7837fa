"""Write an archive of maps, from standard input, as a NeXus file, to standard output."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import h5py
import numpy as np

__all__ = ["nexus"]


def nexus(archive: bytes) -> bytes:
    """Return the file; see :mod:`snakemap.hdf5.nexus_file` for its members.

    Raises:
        ValueError, KeyError: the archive is not one of maps.
    """
    buffer = io.BytesIO()
    with np.load(io.BytesIO(archive), allow_pickle=False) as arrays, h5py.File(buffer, "w") as file:
        about = json.loads(str(arrays["about"]))
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry", default="maps")
        entry["title"] = about["plan_name"]
        entry["entry_identifier"] = about["uid"]
        entry["program_name"] = "snakemap"
        entry["status"] = about["status"]
        _maps(_group(entry, "maps", "NXdata"), arrays, about)
        note = _group(entry, "note", "NXnote")
        note["type"], note["data"] = "application/json", str(arrays["about"])
    return buffer.getvalue()


def _maps(data: h5py.Group, arrays: Any, about: dict[str, Any]) -> None:
    """Write the channels and the coordinates of their axes."""
    used: set[str] = set()
    axes = []
    for side in ("slow", "fast"):
        axis = about["axes"][side]
        axes.append(_name(axis["name"] or side, used))
        _dataset(data, axes[-1], arrays[side], unit=axis["unit"], long_name=axis["name"])
    for side, position in (about["positions"] or {}).items():
        _dataset(data, _name(side, used), arrays[side], unit=position["unit"], long_name=position["name"])
    signals = []
    for channel, member in about["channels"].items():
        signals.append(_name(channel, used))
        _dataset(data, signals[-1], arrays[member], unit=about["units"].get(channel, ""), long_name=channel)
    data.attrs["signal"] = signals[-1]
    data.attrs["auxiliary_signals"] = np.array(signals[:-1], dtype=h5py.string_dtype())
    data.attrs["axes"] = np.array(axes, dtype=h5py.string_dtype())


def _group(parent: h5py.Group, name: str, nexus_class: str, **attributes: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    group.attrs.update(attributes)
    return group


def _dataset(data: h5py.Group, name: str, values: Any, *, unit: str, long_name: str) -> None:
    dataset = data.create_dataset(name, data=values)
    dataset.attrs["long_name"] = long_name
    if unit:
        dataset.attrs["units"] = unit


def _name(name: str, used: set[str]) -> str:
    """Return a name as a member of a group: it comes from a document and may look like a path."""
    clean = "".join("_" if character in "/\0" else character for character in name).strip(".") or "_"
    while clean in used:
        clean += "_"
    used.add(clean)
    return clean


if __name__ == "__main__":
    sys.stdout.buffer.write(nexus(sys.stdin.buffer.read()))
