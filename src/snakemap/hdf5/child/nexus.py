"""NeXus attributes: classes, signals and axes."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5o  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.hdf5.child.open_files import link_of

__all__ = ["auxiliary_of", "axes_of", "class_of", "default_of", "errors_of", "signal_of", "text_attribute"]

ATTRIBUTE_BYTES_MAX = 4096
NAMES_MAX = 16
MEMBERS_MAX = 50


def text_attribute(item: Any, name: str) -> str:
    """Return a short text attribute; empty if there is none, or it is no text."""
    value = _attribute(item, name)
    return value[:200] if isinstance(value, str) else ""


def class_of(item: Any) -> str:
    """Return the NeXus class of a group, like ``NXdata``; empty if it has none."""
    return text_attribute(item, "NX_class")


def signal_of(group: h5py.Group) -> str:
    """Return the signal of a group: its ``@signal``, or the member with ``@signal=1`` as in older files."""
    if name := text_attribute(group, "signal"):
        return name if _there(group, name) else ""
    if class_of(group) != "NXdata" or group.id.get_num_objs() > MEMBERS_MAX:
        return ""
    for name in [str(member) for member in group]:  # few, as checked above
        dataset = _own(group, name)
        if dataset is not None and str(_attribute(dataset, "signal") or "") == "1":
            return name
    return ""


def auxiliary_of(group: h5py.Group) -> list[str]:
    """Return the members in ``@auxiliary_signals``: they have the same axes as the signal."""
    value = _attribute(group, "auxiliary_signals")
    names = [value] if isinstance(value, str) else value or []
    return [name for name in dict.fromkeys(names[:NAMES_MAX]) if _there(group, name)]


def default_of(group: h5py.Group) -> list[str]:
    """Return the members in ``@default`` and ``@signal``, the default first."""
    return [name for name in (text_attribute(group, "default"), text_attribute(group, "signal")) if name]


def axes_of(group: h5py.Group, signal: str) -> list[str]:
    """Return the axis of each dimension of the signal; empty for a dimension without one."""
    value = _attribute(group, "axes")
    if value is None:
        dataset = _own(group, signal)
        value = _attribute(dataset, "axes") if dataset is not None else None
    if isinstance(value, str):
        value = value.strip("[]").replace(":", ",").split(",")
    names = [str(name).strip() for name in value or []][:NAMES_MAX]
    return [name if name not in ("", ".") and _there(group, name) else "" for name in names]


def errors_of(group: h5py.Group, signal: str) -> str:
    """Return the member with the uncertainties of the signal; empty if there is none."""
    dataset = _own(group, signal)
    named = text_attribute(dataset, "uncertainties") if dataset is not None else ""
    for name in (named, f"{signal}_errors", "errors"):
        if name and _there(group, name):
            return name
    return ""


def _there(group: h5py.Group, name: str) -> bool:
    """Return whether a group has a member of that name; links are not followed."""
    return "/" not in name and name not in ("", ".") and group.id.links.exists(_raw(name))


def _own(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """Return a dataset in the group itself; links are not followed."""
    if not _there(group, name) or not isinstance(link_of(group, name), h5py.HardLink):
        return None
    raw = _raw(name)
    own = h5o.get_info(group.id, raw).type == h5o.TYPE_DATASET
    return h5py.Dataset(h5d.open(group.id, raw)) if own else None


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _attribute(item: Any, name: str) -> str | list[str] | None:
    """Return a short attribute as text, or as a list of texts."""
    raw = _raw(name)
    if not h5a.exists(item.id, raw):
        return None
    attribute = h5a.open(item.id, raw)
    if attribute.get_storage_size() > ATTRIBUTE_BYTES_MAX:
        return None
    value = item.attrs[name]
    if isinstance(value, np.ndarray):
        return [_text(one) for one in value.ravel()[:NAMES_MAX]]
    return _text(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
