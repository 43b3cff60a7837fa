"""Documents that snakemap appends to a run: sums of its frames, scalars from its files, a stop.

They are ordinary Bluesky documents: a descriptor of the stream ``snakemap`` for every data key read from files, and
    event
pages with the seq_nums of the detector's own stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from snakemap.core.channels import TOTAL
from snakemap.core.documents import DERIVED
from snakemap.core.json_values import is_list, is_mapping
from snakemap.errors import DocumentError

__all__ = [
    "DERIVED",
    "FRAME_FILE",
    "FRAME_INDEX",
    "OPENED",
    "TOTAL",
    "DerivedDescriptor",
    "Rectangle",
    "derived_descriptor",
    "derived_page",
    "lost_stop",
    "opened_stop",
    "remark_descriptor",
    "rois_of",
    "scalar_descriptor",
    "unread_descriptor",
]

Rectangle = tuple[int, int, int, int]

FRAME_INDEX = "frame index"
"""Column of a page with the row of the dataset that each point was read from."""

FRAME_FILE = "frame file"
"""Column of a page with the number of the resource that each point was read from: 0 for the first of the data key."""

OPENED = "snakemap_file"
"""Key of a start document for a finished file that was opened as a run."""

ROIS_MAX = 32
NAMESPACE = uuid.UUID("8a2c3b5e-5a77-4c0e-9a4b-7d1f3c0f6d10")


class RunOrigin(Protocol):
    """The source of sums; see :class:`snakemap.core.streams.MapSource`."""

    @property
    def key(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def descriptor(self) -> str | None: ...


class RunOwner(Protocol):
    """The run that sums belong to; see :class:`snakemap.core.run.Run`."""

    @property
    def uid(self) -> str: ...
    @property
    def main(self) -> RunOrigin: ...
    @property
    def scanned(self) -> str: ...


@dataclass(frozen=True, slots=True)
class DerivedDescriptor:
    """The content of a derived descriptor.

    Attributes:
        uid: of the descriptor.
        source: uid of the detector's own descriptor; empty if unknown.
        data_key: that was read, like ``"camera"``; empty for the first one of a run.
        rois: rectangles in detector pixels, by channel; None of a scalar.
        frame_shape: rows and columns of a frame; None of a scalar.
        trouble: why these are not the requested ROIs, or why nothing can be read; empty if all is well.
        spectra: whether they are sums of spectra.
        unread: whether nothing can be read.
        remark: whether it holds no sums, only a remark on them in `trouble`.
        files: identity of the files that were read first, see :func:`derived_descriptor`.
    """

    uid: str
    source: str
    data_key: str
    rois: dict[str, Rectangle] | None
    frame_shape: tuple[int, int] | None
    trouble: str = ""
    spectra: bool = False
    unread: bool = False
    remark: bool = False
    files: tuple[tuple[str, str, int, int, int], ...] = ()

    @classmethod
    def read(cls, doc: Mapping[str, Any]) -> DerivedDescriptor:
        """Parse a derived descriptor.

        Raises:
            DocumentError: if it is incomplete or invalid.
        """
        try:
            data = doc["configuration"][DERIVED]["data"]
            source, key = (data[of] if isinstance(data.get(of), str) else "" for of in ("source", "data_key"))
            trouble = str(data.get("trouble") or "")
            kind, files = data.get("kind"), _files(data)
            if kind in ("scalar", "unread", "remark"):
                flags: dict[str, Any] = {"unread": kind == "unread", "remark": kind == "remark"}
                return cls(doc["uid"], source, key, None, None, trouble=trouble, files=files, **flags)
            rois = _rectangles(orjson.loads(data["rois"]))
            height, width = (_whole(size) for size in data["frame_shape"])
            spectra = kind == "spectra"
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DocumentError(f"the derived descriptor {doc['uid']} has no usable ROIs: {error}") from error
        return cls(doc["uid"], source, key, rois, (height, width), trouble=trouble, spectra=spectra, files=files)


def derived_descriptor(
    run: RunOwner,
    rois: Mapping[str, Rectangle],
    *,
    frame_shape: tuple[int, int],
    time: float,
    dtype: str = "<u8",
    source: RunOrigin | None = None,
    trouble: str = "",
    spectra: bool = False,
    files: Sequence[tuple[str, str, int, int, int]] = (),
) -> dict[str, Any]:
    """Return the descriptor of a stream of sums; the same run, data key and ROIs give the same uid.

    Args:
        run: that it belongs to.
        rois: rectangles in detector pixels, by channel; the total is added.
        frame_shape: rows and columns of a frame.
        time: now, in seconds since 1970.
        dtype: of the sums, in numpy's notation.
        source: of the frames; by default the run's main source.
        trouble: why these are not the requested ROIs.
        spectra: whether they are sums of spectra, not of frames.
        files: that were read first, so that another worker recognizes them: uid of the resource, name, inode, address
            of the dataset, checksum of its first row.
    """
    source = source or run.main
    rois_json = orjson.dumps({name: list(rectangle) for name, rectangle in rois.items()}).decode()
    key: dict[str, Any] = {"source": DERIVED, "dtype": "number", "shape": [], "dtype_numpy": dtype, "units": "counts"}
    index: dict[str, Any] = {"source": DERIVED, "dtype": "integer", "shape": [], "dtype_numpy": "<i8"}
    configuration = {
        "data_key": source.key or None,
        "source": source.descriptor,
        "rois": rois_json,
        "frame_shape": list(frame_shape),
        **({"trouble": trouble} if trouble else {}),
        **({"kind": "spectra"} if spectra else {}),
        **({"files": orjson.dumps(files).decode()} if files else {}),
    }
    channels = dict.fromkeys((*rois, TOTAL), key)
    uid = str(uuid.uuid5(NAMESPACE, f"{run.uid} {_place(run, source)} {rois_json}"))
    keys = {**channels, FRAME_INDEX: index, FRAME_FILE: index}
    return _descriptor(uid, run.uid, keys, configuration, time=time, hinted=list(channels))


def scalar_descriptor(
    run: RunOwner,
    source: RunOrigin,
    data_key: str,
    *,
    units: str,
    time: float,
    files: Sequence[tuple[str, str, int, int, int]] = (),
) -> dict[str, Any]:
    """Return the descriptor of a stream of scalars read from a file; the same run and data key give the same uid.

    Args:
        run: that it belongs to.
        source: the detector's own descriptor and its stream.
        data_key: that was read.
        units: of the values.
        time: now, in seconds since 1970.
        files: that were read first, as for :func:`derived_descriptor`.
    """
    key: dict[str, Any] = {"source": DERIVED, "dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    configuration = {
        "kind": "scalar",
        "data_key": data_key,
        "source": source.descriptor,
        **({"files": orjson.dumps(files).decode()} if files else {}),
    }
    uid = str(uuid.uuid5(NAMESPACE, f"{run.uid} scalar {source.stream} {data_key}"))
    keys = {data_key: {**key, **({"units": units} if units else {})}}
    return _descriptor(uid, run.uid, keys, configuration, time=time, hinted=[])


def unread_descriptor(run: RunOwner, source: RunOrigin, reason: str, *, time: float) -> dict[str, Any]:
    """Return the descriptor with the reason why a data key cannot be read; a later descriptor of its sums revokes it.

    Args:
        run: that it belongs to.
        source: that cannot be read.
        reason: for the user, as the rest of a sentence.
        time: now, in seconds since 1970.
    """
    configuration = {"kind": "unread", "data_key": source.key, "source": source.descriptor, "trouble": reason}
    uid = str(uuid.uuid5(NAMESPACE, f"{run.uid} unread {_place(run, source)}"))
    return _descriptor(uid, run.uid, {}, configuration, time=time, hinted=[])


def remark_descriptor(run: RunOwner, source: RunOrigin, about: str, words: str, *, time: float) -> dict[str, Any]:
    """Return the descriptor with a remark on the sums of a data key; its uid depends on run, data key and subject.

    Args:
        run: that it belongs to.
        source: of the sums.
        about: subject, one word; there is one remark on each.
        words: a sentence for the user.
        time: now, in seconds since 1970.
    """
    configuration = {"kind": "remark", "data_key": source.key, "source": source.descriptor, "trouble": words}
    uid = str(uuid.uuid5(NAMESPACE, f"{run.uid} remark {about} {_place(run, source)}"))
    return _descriptor(uid, run.uid, {}, configuration, time=time, hinted=[])


def derived_page(
    descriptor: str,
    seq_nums: Sequence[int],
    sums: Mapping[str, Sequence[float]],
    *,
    time: float,
    indices: Sequence[int] | None = None,
    files: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return an event_page of sums or scalars: one column for each channel, one entry for each point.

    Args:
        descriptor: uid of the derived descriptor.
        seq_nums: scan positions (n,).
        sums: values (n,) by channel.
        time: now, in seconds since 1970.
        indices: rows (n,) of the dataset; they distinguish a repeated frame from the one it replaced.
        files: numbers (n,) of the resources, see :data:`FRAME_FILE`; by default all are in the first.
    """
    times = [time] * len(seq_nums)
    data: dict[str, list[float]] = {channel: list(column) for channel, column in sums.items()}
    uids = [f"{descriptor}/{number}" for number in seq_nums]
    if indices is not None:
        files = files if files is not None else [0] * len(indices)
        data[FRAME_INDEX], data[FRAME_FILE] = list(indices), list(files)
        places = zip(uids, indices, files, strict=True)
        uids = [f"{uid}/{index}/{file}" if file else f"{uid}/{index}" for uid, index, file in places]
    return {
        "descriptor": descriptor,
        "seq_num": list(seq_nums),
        "uid": uids,
        "time": times,
        "data": data,
        "timestamps": dict.fromkeys(data, times),
        "filled": {},
    }


def lost_stop(run: RunOwner, reason: str, *, time: float) -> dict[str, Any]:
    """Return the stop document of a run that will never get one; a real one that comes later replaces it."""
    return {
        "uid": str(uuid.uuid5(NAMESPACE, f"{run.uid} lost")),
        "run_start": run.uid,
        "time": time,
        "exit_status": "fail",
        "reason": f"lost: {reason}",
        "num_events": {},
        DERIVED: {"status": "lost"},
    }


def opened_stop(uid: str, *, time: float, status: str = "success", reason: str = "") -> dict[str, Any]:
    """Return the stop document of a finished file opened as a run, after it was read or cancelled.

    Args:
        uid: of the run.
        time: now, in seconds since 1970.
        status: ``"success"``, ``"abort"`` or ``"fail"``.
        reason: for the user."""
    return {
        "uid": str(uuid.uuid5(NAMESPACE, f"{uid} {status} {time}")),
        "run_start": uid,
        "time": time,
        "exit_status": status,
        "reason": reason,
        "num_events": {},
    }


def rois_of(start: Mapping[str, Any], setting: Mapping[str, Rectangle] | None) -> dict[str, Rectangle] | None:
    """Return the ROIs of the start document, else those of the settings, else None: bands of the frame are then used.

    Raises:
        DocumentError: if ``start.rois`` is unusable.
    """
    rois = start.get("rois")
    if rois is None:
        return dict(setting) if setting else None
    if not rois:
        raise DocumentError(f"rois {str(rois)[:100]!r} are not rectangles by name")
    try:
        return _rectangles(rois)
    except (TypeError, ValueError) as error:
        raise DocumentError(f"rois {str(rois)[:100]!r} are not rectangles (y0, y1, x0, x1): {error}") from error


def _place(run: RunOwner, source: RunOrigin) -> str:
    """Return what identifies a source within a run: its data key, with its stream if that is not the scanned one."""
    key = source.key or "None"
    return key if source.stream == run.scanned else f"{source.stream}: {key}"


def _descriptor(
    uid: str,
    run: str,
    keys: Mapping[str, Mapping[str, Any]],
    configuration: Mapping[str, Any],
    *,
    time: float,
    hinted: list[str],
) -> dict[str, Any]:
    described = {
        name: {
            "source": DERIVED,
            "dtype": "array" if is_list(value) else "string",
            "shape": [len(value)] if is_list(value) else [],
        }
        for name, value in configuration.items()
    }
    configured = {"data": dict(configuration), "timestamps": dict.fromkeys(configuration, time), "data_keys": described}
    return {
        "uid": uid,
        "run_start": run,
        "time": time,
        "name": DERIVED,
        "data_keys": {name: {**key, "object_name": DERIVED} for name, key in keys.items()},
        "object_keys": {DERIVED: list(keys)},
        "configuration": {DERIVED: configured},
        "hints": {DERIVED: {"fields": hinted}},
    }


def _files(data: Mapping[str, Any]) -> tuple[tuple[str, str, int, int, int], ...]:
    """Parse the identities of files in the configuration of a descriptor."""
    return tuple(
        (str(resource), str(name), _whole(inode), _whole(address), _whole(checksum))
        for resource, name, inode, address, checksum in orjson.loads(data.get("files") or "[]")
    )


def _rectangles(rois: Any) -> dict[str, Rectangle]:
    if not is_mapping(rois):
        raise TypeError(f"a {type(rois).__name__} is no set of rectangles by name")
    if len(rois) > ROIS_MAX or not rois.keys().isdisjoint((TOTAL, FRAME_INDEX, FRAME_FILE)):
        raise ValueError(f"at most {ROIS_MAX} rectangles, none of them called {TOTAL}, {FRAME_INDEX} or {FRAME_FILE}")
    return {str(name): _rectangle(value) for name, value in rois.items()}


def _rectangle(value: Any) -> Rectangle:
    y0, y1, x0, x1 = (_whole(bound) for bound in value)
    if not (0 <= y0 < y1 and 0 <= x0 < x1):
        raise ValueError(f"{(y0, y1, x0, x1)} is not y0 < y1, x0 < x1, from 0 on")
    return y0, y1, x0, x1


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:100]} is not a whole number of pixels")
    return value
