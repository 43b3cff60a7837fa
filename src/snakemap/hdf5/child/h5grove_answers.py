"""Answers in the form of h5grove, for H5Web and others, with confined paths.

Metadata and encodings are h5grove's. Finding nodes is not: h5grove lets HDF5 follow every link, wherever it leads. Here
:class:`snakemap.hdf5.child.open_files.OpenFiles` follows them, datasets are audited before use, and sizes are checked
before reading. Files that are being written are read like others.

A member that cannot be opened does not affect others: a link is described as a link, as h5grove does for broken ones,
    all
else as ``{"kind": "other"}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from h5grove import encoders
from h5grove.models import LinkResolution
from h5grove.utils import (
    QueryArgumentError,
    convert,
    get_array_stats,
    get_dataset_slice,
    hdf_path_join,
    parse_link_resolution_arg,
    parse_slice,
    sorted_dict,
)
from h5py import h5a  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.core.file_uri import is_file_uri
from snakemap.errors import (
    FileBroken,
    FileMissing,
    FileNotReady,
    FrameError,
    NotThere,
    SelectionError,
    SnakemapError,
    TooLarge,
    WrongKind,
)
from snakemap.files.data_root import local_paths, shown
from snakemap.hdf5.child.dtypes import dtype_of, values_of
from snakemap.hdf5.child.h5grove_members import (
    ATTRIBUTE_BYTES_MAX,
    ATTRIBUTES_MAX,
    Link,
    audit_storage,
    encode_members,
    encoding_errors,
    is_chunk_too_large,
    link_content,
    names_below,
    node_content,
    node_metadata,
)
from snakemap.hdf5.child.hdf_file import CHUNK_BYTES_MAX, HdfFile, Node, OpenDataset, reading
from snakemap.hdf5.child.open_files import OpenFiles, link_of
from snakemap.hdf5.child.slices import UNPACKED_MAX, check_written, unpacked_bytes
from snakemap.hdf5.protocol import INSPECT_PAYLOAD_MAX, H5groveRequest

__all__ = ["GROVE"]

DATA_MAX = 64 << 20
"""Maximum bytes of values in one answer."""


TEXT_VALUES_MAX = 1_000_000
"""Maximum values written as text in one answer, and Python objects of strings and lists."""


Answer = tuple[dict[str, Any], bytes]


def meta(files: OpenFiles, request: H5groveRequest) -> Answer:
    """Return shape, type and attributes of a node, and the members of a group.

    Raises:
        NotThere: no such file, or nothing of that name in it.
        WrongKind: numpy has no such type, or its names are no text.
        TooLarge: it has too many members or attributes.
        FileNotReady, FileRefused, FileBroken: as :meth:`OpenFiles.node` and :meth:`OpenFiles.allow` do.
    """
    path = request["node"]
    entity = _entity(files, request)
    if not isinstance(entity, Node):
        return _json(link_content(path, entity).metadata())
    description = node_metadata(files, entity, path)
    if isinstance(entity.item, h5py.Group):
        description = sorted_dict(("children", encode_members(files, entity, path)), *description.items())
    return _json(description)


def attr(files: OpenFiles, request: H5groveRequest) -> Answer:
    """Return values of attributes by name; raises as :func:`meta` does, and NotThere for an unknown name."""
    node = _node(files, request)
    if isinstance(node.item, h5py.Dataset):
        audit_storage(files, OpenDataset(node.file, node.item, node.path))
    keys = request.get("attr_keys")
    with reading(node.file, f"the attributes of {shown(node.path)} cannot be read"):
        names = _attribute_names(node, keys)
        try:
            values = node_content(node, request["node"]).attributes(names)
        except TypeError as error:
            raise WrongKind(f"{node} has an attribute of a kind that cannot be read: {shown(error)}") from error
    with encoding_errors(node, "json"):
        return _sized(node, encoders.encode(values, "json").content)


def data(files: OpenFiles, request: H5groveRequest) -> Answer:
    """Return values of a dataset, or of a part of it, in one of five formats.

    Raises:
        NotThere, FileNotReady, FileRefused, FileBroken: as :func:`meta` does.
        WrongKind: it is no dataset, or its values do not fit that format.
        SelectionError: the selection is invalid, or does not fit.
        TooLarge: it exceeds the limit of an answer, or of unpacking.
    """
    form = request.get("format", "json")
    found, chosen = _chosen(files, request)
    _check_size(found, chosen, as_text=form in ("json", "csv"))
    check_written(found, chosen)
    with reading(found.file, "its values cannot be read"):
        values = get_dataset_slice(found.dataset, request.get("selection"))
    with encoding_errors(found, form):
        values = convert(values, request.get("dtype"))
        if request.get("flatten") and isinstance(values, np.ndarray):
            values = np.ravel(values)
        if form != "json" and np.asarray(values).dtype.hasobject:
            raise WrongKind(f"{found} holds strings, lists or references: they are available as json only")
        return _sized(found, encoders.encode(values, form).content)


def stats(files: OpenFiles, request: H5groveRequest) -> Answer:
    """Return minimum, maximum, mean and standard deviation of the finite values of a dataset, or of a part of it.

    Raises:
        As :func:`data` does.
    """
    found, chosen = _chosen(files, request)
    dtype = dtype_of(found.dataset.id.get_type())
    numbers = values_of(dtype.base if dtype and dtype.subdtype else dtype) in ("number", "bool", "enum")
    if found.dataset.shape is None or (not numbers and _count(chosen)):
        raise WrongKind(f"{found} holds no numbers that could be compared")
    _check_size(found, chosen, as_text=False)
    check_written(found, chosen)
    with reading(found.file, "its values cannot be read"):
        values = np.asarray(get_dataset_slice(found.dataset, request.get("selection")))
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    with encoding_errors(found, "json"):
        return _json(get_array_stats(values))


def paths(files: OpenFiles, request: H5groveRequest) -> Answer:
    """Return the paths of a group and of everything below it; links are listed, not followed.

    Raises:
        As :func:`meta` does, and WrongKind for other nodes. With ``resolve_links=all`` a broken link is NotThere, and
        one that
        leads out of the data root FileRefused.
    """
    path, resolve = request["node"], _resolution(request)
    node = _entity(files, request)
    if not isinstance(node, Node) or not isinstance(node.item, h5py.Group):
        raise WrongKind(f"{shown(request['path'])}, {shown(path)} is not a group")
    names, links = names_below(node)
    for name in links if resolve is LinkResolution.ALL else ():
        _resolved(files, files.again(node.file), hdf_path_join(node.place, name))
        files.trim(node.file)
    with encoding_errors(node, "json"):
        found = [path, *(hdf_path_join(path, name.decode()) for name in names)]
        return _sized(node, encoders.encode(found, "json").content)


GROVE: dict[str, Callable[[OpenFiles, Any], Answer]] = {
    "grove meta": meta,
    "grove attr": attr,
    "grove data": data,
    "grove stats": stats,
    "grove paths": paths,
}
"""Functions by the ``ask`` of a request."""


# nodes


def _open(files: OpenFiles, path: str) -> HdfFile:
    """Open a file by its name in the data root, or by the writer's name or URI."""
    outside = path.startswith("/") or is_file_uri(path)
    names = [str(name) for name in local_paths(path, files.path_map)] if outside else [path]
    try:
        for name in names[:-1]:
            with suppress(FileMissing):
                return files.open_afresh(name)
        return files.open_afresh(names[-1])
    except FileNotReady as error:
        if _is_missing(error):
            raise NotThere(f"File not found: {shown(path)} is not in the data root") from error
        raise


def _is_missing(error: SnakemapError) -> bool:
    """Return whether nothing of that name exists, rather than something that cannot be read yet."""
    return isinstance(error.__cause__, KeyError | FileNotFoundError | NotADirectoryError)


def _resolution(request: H5groveRequest) -> LinkResolution:
    try:
        return parse_link_resolution_arg(request.get("resolve_links"), LinkResolution.ONLY_VALID)
    except QueryArgumentError as error:
        raise WrongKind(shown(error)) from error


def _entity(files: OpenFiles, request: H5groveRequest) -> Node | Link:
    """Return the node of a path, or a link that is broken or not to be followed."""
    path, resolve = request["node"], _resolution(request)
    file = _open(files, request["path"])
    parts = [part for part in path.split("/") if part not in ("", ".")]
    missing = f"{shown(path)} is not a valid path in {file}"
    if "\0" in path or (not parts and "/" not in path):
        raise NotThere(missing)
    if not parts:
        return files.node(file, "/")
    link = _last_link(files, file, parts, missing)
    if not isinstance(link, Link):
        return files.node(file, path)
    if resolve is LinkResolution.NONE:
        return link
    try:
        return _resolved(files, files.again(file), path)
    except NotThere:
        if resolve is LinkResolution.ALL:
            raise
        return link


def _last_link(files: OpenFiles, file: HdfFile, parts: Sequence[str], missing: str) -> object:
    """Return the link named by the last part of a path; those before it are followed."""
    try:
        parent = files.node(file, "/" + "/".join(parts[:-1]))
    except FrameError as error:
        raise NotThere(missing) from error
    except FileNotReady as error:
        if _is_missing(error):
            raise NotThere(missing) from error
        raise
    if not isinstance(parent.item, h5py.Group):
        raise NotThere(missing)
    with reading(parent.file, f"{shown(parts[-1])} cannot be read"):
        try:
            return link_of(parent.item, parts[-1])
        except KeyError as error:
            raise NotThere(missing) from error


def _resolved(files: OpenFiles, file: HdfFile, path: str) -> Node:
    """Return the target of a link.

    Raises:
        NotThere: it is broken or circular.
        FileRefused: it leads out of the data root.
    """
    try:
        return files.node(file, path)
    except (FileNotReady, FileBroken, FrameError) as error:
        raise NotThere(f"Cannot resolve the link {shown(path)} of {file}: {error}") from error


def _node(files: OpenFiles, request: H5groveRequest) -> Node:
    """Return the node of a path.

    Raises:
        NotThere: it is a broken link.
    """
    entity = _entity(files, request)
    if isinstance(entity, Node):
        return entity
    raise NotThere(f"Cannot resolve the link {shown(request['node'])} of {shown(request['path'])}")


def _attribute_names(node: Node, keys: Sequence[str] | None) -> list[str]:
    """Return names of attributes; check the total size of their values."""
    item = node.item
    if keys is not None:
        for key in keys:
            if "\0" in key or key not in item.attrs:
                raise NotThere(f"{node} has no attribute {shown(key)}")
        sizes = [h5a.get_info(item.id, key.encode()).data_size for key in keys]
    else:
        if h5a.get_num_attrs(item.id) > ATTRIBUTES_MAX:
            raise TooLarge(f"{node} has more attributes than one answer can list, {ATTRIBUTES_MAX:,}; name some")
        sizes: list[int] = []
        h5a.iterate(item.id, lambda _name, info: sizes.append(info.data_size), info=True)
    if sum(sizes) > ATTRIBUTE_BYTES_MAX:
        raise TooLarge(
            f"{node}: its attributes are {sum(sizes) / 1e6:,.0f} MB, at most {ATTRIBUTE_BYTES_MAX / 1e6:,.0f} MB are "
            "listed in one answer; name some"
        )
    return list(keys) if keys is not None else list(item.attrs.keys())


# values


def _chosen(files: OpenFiles, request: H5groveRequest) -> tuple[OpenDataset, list[int | range]]:
    """Return a dataset that may be read, and the selection along each dimension."""
    node = _node(files, request)
    if not isinstance(node.item, h5py.Dataset):
        raise WrongKind(f"{node} is not a dataset")
    del node
    found = files.find(_open(files, request["path"]), request["node"])
    if is_chunk_too_large(found):
        raise TooLarge(f"{found} has chunks too large to unpack, of more than {CHUNK_BYTES_MAX / 1e6:,.0f} MB")
    files.allow(found)
    with reading(found.file, "its values cannot be read"):
        shape, dtype = found.dataset.shape, dtype_of(found.dataset.id.get_type())
    if dtype is None:
        raise WrongKind(f"{found} is of a kind that numpy does not know")
    return found, _selected(found, shape or (), request.get("selection"))


def _selected(found: OpenDataset, shape: Sequence[int], selection: str | None) -> list[int | range]:
    """Return an index or a range within bounds for every dimension, as for h5py.

    Raises:
        SelectionError: it is invalid, has too many members, or is out of range.
    """
    text = shown(selection)
    try:
        members = () if selection is None else parse_slice(selection)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"{text} is not a selection like 0,:,2:8") from error
    if len(members) > len(shape):
        raise SelectionError(f"{text} has {len(members)} members, and {found} has {len(shape)} dimensions")
    chosen: list[int | range] = []
    for size, member in zip(shape, [*members, *[slice(None)] * (len(shape) - len(members))], strict=True):
        if isinstance(member, int):
            if not -size <= member < size:
                raise SelectionError(f"{text}: {found} has size {size:,}, but number {member:,} is requested")
            chosen.append(member % size)
        elif member.step is not None and member.step < 1:
            raise SelectionError(f"{text}: steps go forward, from 1 on")
        else:
            start, stop, step = member.indices(size)
            chosen.append(range(start, max(start, stop), step))
    return chosen


def _check_size(found: OpenDataset, chosen: Sequence[int | range], *, as_text: bool) -> None:
    """Check that the selection is within the limits of an answer."""
    kind = found.dataset.id.get_type()
    dtype = dtype_of(kind) or np.dtype("V1")
    count = _count(chosen)
    size = count * max(kind.get_size(), dtype.itemsize)
    if size > DATA_MAX:
        raise TooLarge(
            f"{found}: {size / 1e6:,.0f} MB are requested, and at most {DATA_MAX / 1e6:,.0f} MB are read at one time; "
            "choose a part by selection"
        )
    if (as_text or dtype.hasobject) and count * _leaves(dtype) > TEXT_VALUES_MAX:
        raise TooLarge(
            f"{found}: {count * _leaves(dtype):,} values are requested as text, and at most {TEXT_VALUES_MAX:,} are "
            "written in one answer; choose a part by selection, or format=bin"
        )
    unpacked = unpacked_bytes(found, chosen)
    if unpacked > UNPACKED_MAX:
        raise TooLarge(
            f"{found}: {unpacked / 1e6:,.0f} MB would have to be unpacked, and at most {UNPACKED_MAX / 1e6:,.0f} MB "
            "are; choose a part by selection"
        )


def _count(chosen: Sequence[int | range]) -> int:
    return math.prod(1 if isinstance(one, int) else len(one) for one in chosen)


def _leaves(dtype: np.dtype[Any]) -> int:
    """Return the number of values in one element.

    >>> _leaves(np.dtype("f4")), _leaves(np.dtype([("a", "i4"), ("b", "f8", (2, 3))]))
    (1, 7)
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return math.prod(shape) * _leaves(base)
    if dtype.fields is not None:
        return sum(_leaves(field[0]) for field in dtype.fields.values())
    return 1


def _json(value: Any) -> Answer:
    with encoding_errors("its description", "json"):
        return _sized("its description", encoders.orjson_encode(value))


def _sized(what: object, written: bytes) -> Answer:
    if len(written) > INSPECT_PAYLOAD_MAX:
        raise TooLarge(
            f"{what}: the answer would be {len(written) / 1e6:,.0f} MB, and at most "
            f"{INSPECT_PAYLOAD_MAX / 1e6:,.0f} MB are sent; choose a part by selection, or format=bin"
        )
    return {}, written
