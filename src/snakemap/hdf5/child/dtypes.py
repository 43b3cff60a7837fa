"""Names and kinds of HDF5 datatypes, and values as JSON."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
from h5py import h5r, h5t  # pyright: ignore[reportAttributeAccessIssue]

__all__ = ["described", "dtype_of", "enum_of", "fields_of", "plain", "values_of"]

TEXT_MAX, ITEMS_MAX, BYTES_MAX = 2_000, 100, 64
"""Maximum characters of a text, items of a list and bytes of an opaque value."""

DEPTH_MAX = 8
FIELDS_MAX = 200


def dtype_of(kind: h5t.TypeID) -> np.dtype[Any] | None:
    """Return the numpy dtype of an HDF5 type; None if there is none, as for times."""
    try:
        return kind.dtype
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        return None


def values_of(dtype: np.dtype[Any] | None) -> str:
    """Return the kind of values of a dtype.

    Returns:
        ``number``, ``complex``, ``bool``, ``enum``, ``string``, ``compound``, ``opaque``, ``reference``, ``vlen`` or
        ``none``.

    >>> [values_of(np.dtype(one)) for one in ("u1", "c8", "?", "S3", "V5", [("a", "f4")])]
    ['number', 'complex', 'bool', 'string', 'opaque', 'compound']
    """
    if dtype is None:
        return "none"
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    if h5py.check_enum_dtype(dtype) is not None:
        return "enum"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "vlen"
    if h5py.check_ref_dtype(dtype) is not None:
        return "reference"
    if dtype.names:
        return "compound"
    if dtype.subdtype is not None:
        return "vlen"
    kinds = {"c": "complex", "b": "bool", "S": "string", "V": "opaque", "O": "none", "M": "opaque", "m": "opaque"}
    return kinds.get(dtype.kind, "number" if dtype.kind in "iuf" else "none")


def described(dtype: np.dtype[Any] | None) -> str:
    """Return a dtype as text.

    >>> [described(np.dtype(one)) for one in ("u1", ">f4", "S3", "V5", [("a", "f4"), ("b", "i2")])]
    ['uint8', 'float32, big-endian', 'string (3 bytes)', 'opaque (5 bytes)', 'compound (2 fields)']
    """
    kind = values_of(dtype)
    if dtype is None or kind == "none":
        return "of no known kind"
    if kind == "string":
        length = dtype.itemsize if dtype.kind == "S" else None
        return f"string ({length} bytes)" if length else "string"
    if kind == "enum":
        return f"enum of {_name(dtype)}"
    if kind == "vlen":
        base = h5py.check_vlen_dtype(dtype) or (dtype.subdtype[0] if dtype.subdtype else None)
        return f"lists of {described(base)}" if base is not None else "lists"
    if kind == "reference":
        return "region reference" if h5py.check_ref_dtype(dtype) is h5py.RegionReference else "object reference"
    if kind == "compound":
        return f"compound ({len(dtype.names or ())} fields)"
    return f"opaque ({dtype.itemsize} bytes)" if kind == "opaque" else _name(dtype)


def fields_of(dtype: np.dtype[Any] | None) -> list[dict[str, str]]:
    """Return names and dtypes of the first fields of records."""
    fields = dict(dtype.fields or {}) if dtype is not None else {}
    return [{"name": name, "dtype": described(field[0])} for name, field in list(fields.items())[:FIELDS_MAX]]


def enum_of(dtype: np.dtype[Any] | None) -> dict[str, int]:
    """Return the first names and numbers of an enumeration; empty for any other dtype."""
    named = h5py.check_enum_dtype(dtype) if dtype is not None else None
    return {str(name): int(number) for name, number in list(named.items())[:FIELDS_MAX]} if named else {}


def plain(value: Any, *, owner: Any = None, depth: int = 0) -> Any:
    """Return a value as JSON: text, a number, a list of them; long ones are cut.

    Args:
        value: from h5py.
        owner: any object of its file, to resolve references.
        depth: of nesting.
    """
    if isinstance(value, h5py.Reference | h5py.RegionReference):
        return _referred(value, owner)
    if isinstance(value, bytes):
        return _cut(value.decode("utf-8", "replace"))
    if isinstance(value, str):
        return _cut(value.encode("utf-8", "replace").decode("utf-8", "replace"))
    if isinstance(value, np.void) and value.dtype.names:
        return [plain(value[name], owner=owner, depth=depth + 1) for name in value.dtype.names[:FIELDS_MAX]]
    if isinstance(value, np.void):
        return _hex(value.tobytes())
    if isinstance(value, np.ndarray):
        return _listed(value, owner, depth)
    return _number(value)


def _listed(values: np.ndarray[Any, Any], owner: Any, depth: int) -> Any:
    if depth > DEPTH_MAX:
        return "…"
    if values.ndim == 0:
        return plain(values[()], owner=owner, depth=depth + 1)
    items = [plain(value, owner=owner, depth=depth + 1) for value in values[:ITEMS_MAX]]
    return items if len(values) <= ITEMS_MAX else [*items, "…"]


def _number(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, complex | np.complexfloating):
        return str(complex(value)).strip("()")
    return _cut(str(value))


def _referred(value: Any, owner: Any) -> str:
    kind = "region of" if isinstance(value, h5py.RegionReference) else "reference to"
    if not value:
        return f"{kind} nothing"
    try:
        name = h5r.get_name(value, owner.id) if owner is not None else None
    except (OSError, RuntimeError, ValueError, TypeError):
        name = None
    return f"{kind} {_cut(name.decode('utf-8', 'replace')) if name else 'something'}"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"


def _hex(value: bytes) -> str:
    return value[:BYTES_MAX].hex(" ") + (" …" if len(value) > BYTES_MAX else "")


def _name(dtype: np.dtype[Any]) -> str:
    name = np.dtype(dtype).newbyteorder("=").name
    return f"{name}, big-endian" if dtype.byteorder == ">" else name
