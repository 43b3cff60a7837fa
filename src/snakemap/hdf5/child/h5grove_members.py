"""Members of groups in the form of h5grove."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import orjson
from h5grove import content, encoders
from h5grove.utils import (
    QueryArgumentError,
    hdf_path_join,
)
from h5py import h5a, h5l  # pyright: ignore[reportAttributeAccessIssue]

from snakemap.errors import (
    SnakemapError,
    TooLarge,
    WrongKind,
)
from snakemap.files.data_root import shown
from snakemap.hdf5.child.hdf_file import CHUNK_BYTES_MAX, Node, OpenDataset, reading
from snakemap.hdf5.child.open_files import OpenFiles, link_of
from snakemap.hdf5.protocol import INSPECT_PAYLOAD_MAX

__all__ = [
    "ATTRIBUTES_MAX",
    "ATTRIBUTE_BYTES_MAX",
    "Link",
    "audit_storage",
    "encode_members",
    "encoding_errors",
    "is_chunk_too_large",
    "link_content",
    "names_below",
    "node_content",
    "node_metadata",
]

MEMBERS_MAX, PATHS_MAX = 5_000, 100_000
"""Maximum members of a group, and paths below one, in one answer."""


ATTRIBUTES_MAX, ATTRIBUTE_BYTES_MAX = 10_000, 16 << 20
"""Maximum attributes of an object, and bytes of their values, in one answer."""


LISTING_S = 3.0
"""Maximum seconds of a listing."""


Link = h5py.SoftLink | h5py.ExternalLink


def audit_storage(files: OpenFiles, found: OpenDataset) -> None:
    """Check that a dataset stores and maps nothing outside the data root, whatever the size of its chunks."""
    if not is_chunk_too_large(found):  # chunks are always in the file of the dataset
        files.allow(found)


def is_chunk_too_large(found: OpenDataset) -> bool:
    """Return whether one chunk of a dataset is larger than an answer may be."""
    with reading(found.file, f"{shown(found.path)} cannot be read"):
        return math.prod(found.dataset.chunks or ()) * found.dataset.id.get_type().get_size() > CHUNK_BYTES_MAX


# metadata of a node


def node_metadata(files: OpenFiles, node: Node, path: str) -> dict[str, Any]:
    """Return the metadata of a node without its members."""
    item = node.item
    if isinstance(item, h5py.Dataset):
        audit_storage(files, OpenDataset(node.file, item, node.path))
    with reading(node.file, f"{shown(path)} cannot be read"):
        if h5a.get_num_attrs(item.id) > ATTRIBUTES_MAX:
            raise TooLarge(f"{node} has more attributes than one answer can list, {ATTRIBUTES_MAX:,}")
        try:
            return dict(node_content(node, path).metadata(0))
        except TypeError as error:
            raise WrongKind(f"{node} is, or has an attribute, of a kind that numpy does not know") from error


def node_content(node: Node, path: str) -> Any:
    """Return the content of a node for h5grove."""
    if isinstance(node.item, h5py.Dataset):
        return content.DatasetContent(path, node.item)
    if isinstance(node.item, h5py.Group):
        return content.GroupContent(path, node.item, node.item.file)
    return content.DatatypeContent(path, node.item)


def link_content(path: str, link: Link) -> content.SoftLinkContent | content.ExternalLinkContent:
    """Return the content of a link for h5grove."""
    if isinstance(link, h5py.SoftLink):
        return content.SoftLinkContent(path, link)
    return content.ExternalLinkContent(path, link)


def encode_members(files: OpenFiles, node: Node, path: str) -> list[orjson.Fragment]:
    """Return the metadata of each member of a group, as JSON."""
    group = _group(node)
    with reading(node.file, "its members cannot be listed"):
        total = group.id.get_num_objs()
        if total > MEMBERS_MAX:
            raise TooLarge(f"{node} has {total:,} members; one answer lists at most {MEMBERS_MAX:,}")
        names = list(group.keys())
    encoded: list[orjson.Fragment] = []
    until, left = time.monotonic() + LISTING_S, INSPECT_PAYLOAD_MAX
    for name in names:
        if not group:  # a bad member made HDF5 close the file
            node = files.node(files.again(node.file), node.place)
            group = _group(node)
        member = _member(files, node, group, path, name)
        files.trim(node.file)
        encoded.append(orjson.Fragment(member))
        left -= len(member)
        if left < 0 or time.monotonic() > until:
            raise TooLarge(f"{node} has {total:,} members with more data than fits into one answer")
    return encoded


def _member(files: OpenFiles, node: Node, group: h5py.Group, path: str, name: str | bytes) -> bytes:
    """Return the metadata of a member as JSON, also if it cannot be opened."""
    try:
        if isinstance(name, bytes):
            raise WrongKind("a name that is no text")
        with encoding_errors(node, "json"):
            return encoders.orjson_encode(_member_metadata(files, node, group, path, name))
    except SnakemapError:
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        return encoders.orjson_encode({"kind": content.EntityContent.kind, "name": text})


def _member_metadata(files: OpenFiles, node: Node, group: h5py.Group, path: str, name: str) -> Any:
    with reading(node.file, f"{shown(name)} cannot be read"):
        link = link_of(group, name)
    below = hdf_path_join(path, name)
    try:
        there = files.node(files.again(node.file), hdf_path_join(node.place, name))
    except SnakemapError:
        if isinstance(link, Link):
            return link_content(below, link).metadata()
        raise
    return node_metadata(files, there, below)


def _group(node: Node) -> h5py.Group:
    if isinstance(node.item, h5py.Group):
        return node.item
    raise WrongKind(f"{node} is not a group")


def names_below(node: Node) -> tuple[list[bytes], list[str]]:
    """Return the names of everything below a group, relative to it, and which of them are soft or external links."""
    names: list[bytes] = []
    links: list[str] = []
    until, left = time.monotonic() + LISTING_S, INSPECT_PAYLOAD_MAX

    def visit(name: bytes, info: Any) -> bool | None:
        nonlocal left
        left -= len(name)
        names.append(name)
        if info.type != h5l.TYPE_HARD:
            links.append(name.decode(errors="surrogateescape"))
        return len(names) > PATHS_MAX or left < 0 or time.monotonic() > until or None

    with reading(node.file, "its names cannot be listed"):
        ended = not _group(node).id.links.visit(visit, info=True)
    if not ended:
        raise TooLarge(f"{node} has more paths below it than one answer can list, {PATHS_MAX:,}")
    return names, links


# writing


@contextmanager
def encoding_errors(what: object, form: str) -> Iterator[None]:
    """Translate errors of encoders."""
    try:
        yield
    except QueryArgumentError as error:
        raise WrongKind(f"{what}: {shown(error)}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, struct.error) as error:
        raise WrongKind(f"{what} cannot be put into {shown(form)}: {shown(error)}") from error
