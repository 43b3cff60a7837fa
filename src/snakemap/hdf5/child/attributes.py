"""Attributes of a node, bounded in number and size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from h5py import h5a  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.files.data_root import shown
from snakemap.hdf5.child.dtypes import described, dtype_of, plain
from snakemap.hdf5.child.hdf_file import HDF5_ERRORS

__all__ = ["attributes_of"]

ATTRIBUTES_MAX, ATTRIBUTE_BYTES_MAX = 200, 64 * 1024


def attributes_of(item: Any) -> Iterator[dict[str, Any]]:
    """Yield the first attributes of an object; a too large or unreadable one has no value."""
    sizes: list[tuple[bytes, int]] = []

    def take(name: bytes, info: Any) -> bool | None:
        sizes.append((name, info.data_size))
        return len(sizes) >= ATTRIBUTES_MAX or None

    h5a.iterate(item.id, take, info=True)
    for name, size in sizes:
        description: dict[str, Any] = {"name": plain(name), "dtype": "", "shape": None, "value": None, "cut": True}
        try:
            if size <= ATTRIBUTE_BYTES_MAX:
                description |= _attribute(item, name)
        except HDF5_ERRORS as error:
            description["value"] = f"cannot be read: {shown(error)}"
        yield description


def _attribute(item: Any, name: bytes) -> dict[str, Any]:
    attribute = h5a.open(item.id, name)
    dtype = dtype_of(attribute.get_type())
    description: dict[str, Any] = {"dtype": described(dtype), "shape": list(attribute.shape or ())}
    if dtype is None:
        return description
    value, shortened = _shortened(plain(item.attrs[name], owner=item))
    return {**description, "value": value, "cut": shortened}


def _shortened(value: Any) -> tuple[Any, bool]:
    """Return a value shortened to a line, and whether anything was left out."""
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:200]}…", True
    if isinstance(value, list):
        parts = [_shortened(part) for part in value[:20]]
        return [part for part, _ in parts], len(value) > 20 or any(cut for _, cut in parts)
    return value, False
