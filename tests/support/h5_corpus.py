"""An HDF5 file with something of everything that a program may meet in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from h5py import h5d, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

__all__ = ["GROUPS", "make_corpus"]

NUMBERS = ("i1", "i2", "<i4", ">i4", "<i8", "u1", ">u2", "u4", "u8", "f2", "<f4", ">f4", "<f8", ">f8", "c8", "c16", "?")
ENUM = h5py.enum_dtype({"red": 0, "green": 1, "blue": 2}, basetype="u1")
RECORD = np.dtype([("number", "<i4"), ("value", ">f8"), ("name", "S5"), ("pair", "<u2", (2,))])


def _numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    values = np.arange(int(np.prod(shape))).reshape(shape) % 100
    return (values - (20 if np.dtype(dtype).kind in "ifc" else 0)).astype(dtype)


def make_corpus(directory: Path) -> Path:
    """Writes ``corpus.h5`` and the file beside it that it draws on; returns its path."""
    with h5py.File(directory / "beside.h5", "w") as file:
        file["frames"] = _numbers((4, 3, 5), "u2")
        file["group/inner"] = np.arange(3)
    path = directory / "corpus.h5"
    with h5py.File(path, "w", libver="latest") as file:
        _numeric(file.create_group("numbers"))
        _layouts(file.create_group("layouts"))
        _texts(file.create_group("texts"))
        _others(file, file.create_group("others"))
        _links(file, file.create_group("links"))
        _attributes(file.create_group("attributes"))
        _nexus(file.create_group("entry"))
    return path


def _numeric(group: h5py.Group) -> None:
    for dtype in NUMBERS:
        name = np.dtype(dtype).str.strip("|").replace("<", "little_").replace(">", "big_")
        group[f"{name}_2d"] = _numbers((6, 7), dtype)
        group[f"{name}_scalar"] = _numbers((1,), dtype)[0]
    group["nan"] = np.array([1.5, np.nan, -np.inf, np.inf, 0.0, -2.0])
    group["all_nan"] = np.full(3, np.nan)
    group["longdouble"] = np.arange(4, dtype=np.longdouble)
    group["enum"] = np.array([0, 1, 2, 1], dtype=ENUM)
    group["enum_scalar"] = np.array(2, dtype=ENUM)
    group["big"] = np.array([2**63 - 1, -(2**63)], dtype="i8")
    group["huge"] = np.array([2**64 - 1], dtype="u8")


def _layouts(group: h5py.Group) -> None:
    group["one"], group["three"], group["four"] = (_numbers(shape, "i4") for shape in ((11,), (4, 5, 6), (2, 3, 4, 5)))
    group["nothing"] = np.empty((0, 4), "f4")
    group["null"] = h5py.Empty("f4")
    group.create_dataset("chunked", data=_numbers((9, 8), "u2"), chunks=(4, 4), maxshape=(None, 8))
    group.create_dataset("gzip", data=_numbers((9, 8), "u2"), chunks=(4, 4), compression="gzip", shuffle=True)
    group.create_dataset("lzf", data=_numbers((9, 8), "f8"), chunks=(4, 4), compression="lzf", fletcher32=True)
    for name, packing in {
        "bitshuffle": hdf5plugin.Bitshuffle(),
        "blosc": hdf5plugin.Blosc(),
        "blosc2": hdf5plugin.Blosc2(),
        "lz4": hdf5plugin.LZ4(),
        "zstd": hdf5plugin.Zstd(),
    }.items():
        group.create_dataset(name, data=_numbers((9, 8), "u2"), chunks=(4, 4), **packing)
    group.create_dataset("unwritten", (5, 5), "f8", fillvalue=3.5)
    layout = h5py.VirtualLayout((4, 3, 5), "u2")
    layout[...] = h5py.VirtualSource("beside.h5", "frames", (4, 3, 5))
    group.create_virtual_dataset("virtual", layout)


def _texts(group: h5py.Group) -> None:
    group["vlen"] = "a text with an umlaut: ü"
    group["vlen_1d"] = np.array(["red", "", "blue €"], h5py.string_dtype())
    group["vlen_2d"] = np.array([["a", "b"], ["c", "d"]], h5py.string_dtype())
    group["ascii"] = np.array([b"one", b"two"], h5py.string_dtype("ascii"))
    group["fixed"] = np.array([b"one", b"three"], "S5")
    group["fixed_scalar"] = np.bytes_(b"alone")
    group["fixed_utf8"] = np.array("größe".encode(), h5py.string_dtype("utf-8", 8))
    group["empty"] = ""


def _others(file: h5py.File, group: h5py.Group) -> None:
    records = np.zeros(3, RECORD)
    records["number"], records["value"], records["name"] = [1, 2, 3], [0.5, np.nan, -1], [b"a", b"bc", b"def"]
    group["compound"], group["compound_scalar"] = records, records[1]
    nested = np.dtype([("inner", RECORD), ("flag", "?")])
    group["compound_nested"] = np.zeros(2, nested)
    text = group.create_dataset("compound_text", (2,), np.dtype([("name", h5py.string_dtype()), ("n", "i2")]))
    text[0] = ("first", 1)
    group["array"] = np.zeros(2, np.dtype(("i4", (3,)))).view("i4").reshape(2, 3)
    h5d.create(group.id, b"array_type", h5t.array_create(h5t.NATIVE_INT32, (2, 3)), h5s.create_simple((2,))).write(
        h5s.ALL, h5s.ALL, np.arange(12, dtype="i4").reshape(2, 2, 3), h5t.array_create(h5t.NATIVE_INT32, (2, 3))
    )
    group["opaque"] = np.array([b"abcde", b"fghij"], "V5")
    group["opaque_scalar"] = np.void(b"abc")
    group["opaque_bytes"] = np.void(b"\xff\xfe\x00")
    group["time"] = np.array([1, 2], "M8[s]").astype(h5py.opaque_dtype("M8[s]"))
    lists = group.create_dataset("lists", (3,), h5py.vlen_dtype("i4"))
    lists[0], lists[1], lists[2] = [1, 2, 3], [], [4]
    group["reference"] = file.ref
    group.create_dataset("references", data=[file.ref, group.ref], dtype=h5py.ref_dtype)
    region = file["layouts/one"].regionref[2:5]
    group.create_dataset("region", data=[region], dtype=h5py.regionref_dtype)
    group["type"], group["type_record"] = np.dtype("<f4"), RECORD


def _links(file: h5py.File, group: h5py.Group) -> None:
    group["soft"] = h5py.SoftLink("/layouts/three")
    group["soft_group"] = h5py.SoftLink("/texts")
    group["relative"] = h5py.SoftLink("soft")
    group["broken"] = h5py.SoftLink("/nowhere")
    file["loops/round"] = h5py.SoftLink("/loops/round")
    group["external"] = h5py.ExternalLink("beside.h5", "/frames")
    group["external_group"] = h5py.ExternalLink("beside.h5", "/group")
    group["external_broken"] = h5py.ExternalLink("beside.h5", "/nowhere")
    group["external_gone"] = h5py.ExternalLink("gone.h5", "/frames")
    group["hard"] = file["layouts/one"]
    group["self"] = group


def _attributes(group: h5py.Group) -> None:
    attributes = group.create_dataset("of_dataset", data=1.0).attrs
    for owner in (attributes, group.attrs):
        owner["text"], owner["fixed"] = "words", np.bytes_(b"bytes")
        owner["texts"] = np.array(["x", "y"], h5py.string_dtype())
        owner["number"], owner["float"], owner["numbers"] = 3, 2.5, np.arange(6).reshape(2, 3)
        owner["nan"], owner["flag"], owner["complex"] = np.nan, np.True_, 1 + 2j
        owner["null"] = h5py.Empty("f8")
        owner["record"] = np.zeros(2, RECORD)
        owner["unit µ"] = "µm"
    attributes.create("enum", 1, dtype=ENUM)
    attributes["reference"] = group.ref
    group.create_group("none")


def _nexus(entry: h5py.Group) -> None:
    entry.attrs.update({"NX_class": "NXentry", "default": "data"})
    data = entry.create_group("data")
    data.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["y", "x"]})
    data.create_dataset("counts", data=_numbers((6, 7), "u4")).attrs["units"] = "counts"
    data["x"], data["y"] = np.linspace(0, 1, 7), np.linspace(-1, 1, 6)
    data["title"] = "a plot"


GROUPS = ("numbers", "layouts", "texts", "others", "attributes", "entry", "links", "loops")
"""Groups of the corpus."""
