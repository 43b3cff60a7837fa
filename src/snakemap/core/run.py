"""One run, folded from its documents: geometry, maps, frames, status.

A :class:`Run` is a fold over the documents of a run in the order of the store. Tabs, the worker, the API and tests all
use it. A document that is applied twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snakemap.core.classic_documents import ClassicResources, Pointer, refusal_of, resource_of
from snakemap.core.cursor import BEGINNING, cursor_ms, cursor_numbers
from snakemap.core.derived_documents import OPENED, DerivedDescriptor, Rectangle
from snakemap.core.documents import DERIVED, SETTLED, Document
from snakemap.core.event_columns import event_columns, event_places
from snakemap.core.file_uri import path_of
from snakemap.core.frame_ledger import FrameLedger
from snakemap.core.geometry import ScanDefaults
from snakemap.core.json_values import is_list, is_mapping
from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.stream_geometry import StreamGeometry
from snakemap.core.streams import SEQ_NUM_MAX, CrossCheck, MapSource, Stream, cross_checks
from snakemap.errors import DocumentError

__all__ = ["Run", "Status", "axes_summary"]

Status = Literal["running", "complete", "incomplete", "aborted", "failed", "lost"]


PRIMARY = "primary"


NO_MAPS = ("baseline", DERIVED)


STREAMS_MAX = 32


RESOURCES_MAX = 10_000


MISSING_MAX = 1_000


REMARK_MAX = 500


ENDINGS: dict[str, Status] = {"abort": "aborted", "fail": "failed"}


class Run:
    """The state of one run.

    Args:
        start: its start document.
        defaults: values for what the documents leave out.

    Attributes:
        uid: of the run.
        streams: those with data to draw, by name.
        main: the source drawn by default: the first readable one; cameras before spectra before scalars.
        epoch: rises when a raster or maps are replaced; views then start over.
        version: rises with every document.
        stop: the stop document, or None.
        settled: the settled note, added when the run is filled from its files; None before.
        cursor: of the last applied document.
        began: when the store received the first document, in seconds since 1970.
        updated: when it received the last one.
        new_pointers: points of resources that the last document announced.
    """

    def __init__(self, start: Mapping[str, Any], *, defaults: ScanDefaults | None = None) -> None:
        self.start = dict(start)
        self.uid: str = start["uid"]
        self.defaults = defaults or ScanDefaults()
        self.scanned = _scanned_stream(self.start)
        geometry = StreamGeometry(self.start, defaults=self.defaults)
        self.main = MapSource("", stream=self.scanned, raster=geometry.raster)
        self.streams: dict[str, Stream] = {}
        self.epoch = 0
        self.version = 0
        self.stop: dict[str, Any] | None = None
        self.settled: dict[str, Any] | None = None
        self.cursor = BEGINNING
        self.began = self.updated = float(self.start["time"])
        task_id = self.start.get("blueapi_task_id")
        self.task_id: str | None = task_id if isinstance(task_id, str) else None
        self._geometry = geometry
        self._by_descriptor: dict[str, Stream] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._classic: dict[str, Mapping[str, Any]] = {}
        self._data = ClassicResources()
        self._blank: MapSource | None = None
        self.new_pointers: list[tuple[FrameLedger, Pointer]] = []
        self._derived: dict[str, MapSource | tuple[Stream, str]] = {}
        self._cross_checks: tuple[int, dict[str, list[CrossCheck]]] = (-1, {})

    def apply(self, document: Document, *, cursor: str = "") -> None:
        """Apply one document of this run.

        Raises:
            DocumentError: if it cannot be used; the run is then unchanged.
        """
        name, doc = document.name, document.doc
        self.new_pointers = []
        if name == "descriptor":
            self._descriptor(doc)
        elif name == "stream_resource":
            self._resource(doc)
        elif name == "stream_datum":
            self._datum(doc)
        elif name == "resource":
            if len(self._classic) < RESOURCES_MAX:
                self._classic.setdefault(doc["uid"], doc)
        elif name in ("datum", "datum_page"):
            for (ledger, seq_num), pointer in self._data.add(name, doc):
                self._point(ledger, pointer, seq_num)
        elif name in ("event", "event_page"):
            self._event(name, doc)
        elif name == "stop":
            self._stop(doc)
        elif name == SETTLED:
            self.settled = doc
            self._end()
        self.task_id = self.task_id or document.task_id
        self.version += 1
        if cursor:
            if self.cursor == BEGINNING:
                self.began = cursor_ms(cursor) / 1000
            self.cursor = max(self.cursor, cursor, key=cursor_numbers)
            self.updated = cursor_ms(self.cursor) / 1000

    @property
    def raster(self) -> Raster:
        """The raster of the main source."""
        return self.main.maps.raster

    @property
    def maps(self) -> Maps:
        """The maps of the main source; empty before the first sums."""
        return self.main.maps

    @property
    def ledger(self) -> FrameLedger:
        """The frame ledger of the main source."""
        return self.main.ledger

    @property
    def rois(self) -> dict[str, Rectangle]:
        """Rectangles ``(y0, y1, x0, x1)`` in detector pixels of the main source, by channel."""
        return self.main.rois

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """Rows and columns of a frame of the main source, or None before that is known."""
        return self.main.frame_shape

    @property
    def derived_uids(self) -> Collection[str]:
        """Uids of the derived descriptors."""
        return self._derived.keys()

    @property
    def sources(self) -> dict[str, MapSource]:
        """All sources by display name, the main source first."""
        found = {}
        streams = sorted(self.streams.values(), key=lambda stream: stream.name != self.main.stream)
        for stream in streams:
            for source in sorted(stream.sources, key=lambda source: source is not self.main):
                found[self.name_of(source)] = source
        return found or {"": self.main}

    def name_of(self, source: MapSource) -> str:
        """Return the display name of a source: its data key, prefixed with the stream unless that is the main one."""
        return source.key if source.stream == self.main.stream else f"{source.stream}: {source.key}"

    def source(self, name: str) -> MapSource:
        """Return the source of a name, or the main one."""
        return self.sources.get(name, self.main) if name else self.main

    def ledgers(self) -> Iterator[FrameLedger]:
        """Yield the frame ledgers of all data in files."""
        if not self.streams:
            yield self.main.ledger
        for stream in self.streams.values():
            yield from stream.ledgers()

    def cross_checks(self, source: MapSource) -> list[CrossCheck]:
        """Return comparisons of a source's sums with the detector's own sums, updated."""
        epoch, kept = self._cross_checks
        if epoch != self.epoch:
            self._cross_checks = self.epoch, (kept := {})
        name = self.name_of(source)
        if name not in kept:
            stream = self.streams.get(source.stream)
            kept[name] = cross_checks(source, stream.scalars if stream else None)
        for cross_check in kept[name]:
            cross_check.update()
        return kept[name]

    @property
    def points(self) -> int:
        """Points so far: visited cells, or events if there is nothing to draw."""
        if not self.main.key and self.main.derived_descriptor is None:
            return max((stream.events for stream in self.streams.values()), default=0)
        return self.maps.visited

    @property
    def filled(self) -> int:
        """Points found in the file that no document announced; 0 until the run stops."""
        return self.ledger.filled if self.stop is not None and self.ledger.descriptor is not None else 0

    @property
    def expected(self) -> int | None:
        """Points of the whole scan, or None while unknown."""
        if self.raster.certain:
            return self.raster.size
        if self.stop is None or self.stop["exit_status"] != "success":
            return None
        expected = self._events()
        if expected is None and self.settled is not None:
            expected = max(self.ledger.announced, self.points)
        return expected

    @property
    def status(self) -> Status:
        """The status; ``complete`` only if every expected point is there.

        A run whose stop document says success stays ``running`` until its points are there or the run is settled.
        """
        if self.stop is None:
            return "running"
        derived = self.stop.get(DERIVED)
        if is_mapping(derived) and derived.get("status") == "lost":
            return "lost"
        if self.stop["exit_status"] in ENDINGS:
            return ENDINGS[self.stop["exit_status"]]
        if self.expected is not None and self.points >= self.expected and not self._lacks:
            return "complete"
        return "incomplete" if self.settled is not None else "running"

    @property
    def reason(self) -> str:
        """The reason from the stop document, with the number of missing and recovered points."""
        if self.stop is None:
            return ""
        reason = str(self.stop.get("reason") or "")
        parts = [reason if not reason or reason[-1] in ".!?" else f"{reason}."]
        missing = (self.expected or 0) - self.points
        if self.status == "incomplete" and missing > 0:
            parts.append(f"{missing:,} of {self.expected:,} points are missing.")
        if self.filled:
            parts.append(f"{_points(self.filled, 'extra ')} recovered from the file.")
        parts = list(filter(None, parts))
        return " ".join(parts) if len(parts) > 1 else reason or "".join(parts)

    @property
    def _lacks(self) -> bool:
        """Whether events, or all frames of a better source, are missing although the main source is complete."""
        return self._blank is not None or any(self.lost_events.values())

    @property
    def lost_events(self) -> dict[str, int]:
        """Missing events by stream: from the stop document, or from gaps in seq_nums before it."""
        return {name: stream.lost(self._stop_events(name)) for name, stream in self.streams.items()}

    @property
    def remarks(self) -> list[str]:
        """Sentences for the user: missing events, incomplete sums, sources that are not drawn."""
        parts: list[str] = []
        for name, lost in self.lost_events.items():
            if lost:
                whole = max(self.streams[name].events, self._stop_events(name) or 0)
                of = "" if name == self.main.stream else f" of {name}"
                parts.append(f"{lost:,} of {whole:,} events{of} are missing.")
        if self._blank is not None:
            parts.append(
                f"No frame of {self.name_of(self._blank)} could be read; the maps show {self.name_of(self.main)}."
            )
        opened = self.start.get(OPENED)
        missing = opened.get("missing") if is_mapping(opened) else None
        if isinstance(missing, str) and missing:
            parts.append(missing[:MISSING_MAX])
        for source in self.sources.values():
            parts += source.remarks.values()
        return [*parts, *self.unused]

    @property
    def unused(self) -> list[str]:
        """A sentence for each data key that is not drawn because its files cannot be read."""
        sentences = list[str]()
        for stream in self.streams.values():
            before = "" if stream.name == self.main.stream else f"{stream.name}: "
            for ledger in stream.ledgers():
                if ledger.unread_reason:
                    sentences.append(f"{before}{ledger.data_key} is not drawn: {ledger.unread_reason.rstrip('.')}.")
        return sentences

    @property
    def file(self) -> str | None:
        """Path of the first file on the writer's machine."""
        for ledger in self.ledgers():
            for uid, resource in ledger.resources.items():
                read = (
                    one
                    for source in self.sources.values()
                    if source.derived_descriptor
                    for one in source.derived_descriptor.files
                )
                return path_of(resource.uri_of(0), [name.rpartition(", ")[0] for of, name, *_ in read if of == uid])
        return None

    @property
    def opened(self) -> bool:
        """Whether it is a finished file opened by a user, not a scan."""
        return is_mapping(self.start.get(OPENED))

    @property
    def cancelled(self) -> bool:
        """Whether the user cancelled reading an opened file."""
        return self.opened and self.stop is not None and self.stop["exit_status"] != "success"

    @property
    def ended(self) -> float | None:
        """Time of the stop document, in seconds since 1970."""
        time = self.stop.get("time") if self.stop else None
        return float(time) if isinstance(time, int | float) else None

    def summary(self) -> dict[str, Any]:
        """Return its entry in the list of runs, plain JSON."""
        return {
            "uid": self.uid,
            "plan_name": str(self.start.get("plan_name", "")),
            "status": self.status,
            "points": self.points,
            "expected": self.expected,
            "started": float(self.start["time"]),
            "ended": self.ended,
            "file": self.file,
            "scan_id": self.start.get("scan_id"),
            "instrument": self.start.get("instrument"),
            "instrument_session": self.start.get("instrument_session"),
            "task_id": self.task_id,
            "reason": self.reason,
            "geometry": self.raster.described,
            "note": " ".join(filter(None, [self.raster.note, *self.remarks])),
            "shape": [self.raster.rows, self.raster.columns],
            "beyond": self.maps.out_of_range,
            "unreadable": self.ledger.given_up,
            "filled": self.filled,
            "sources": list(self.sources),
            "opened": self.opened,
        }

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        name = str(doc.get("name", PRIMARY))
        if name == DERIVED:
            self._derived_descriptor(doc)
        elif name not in NO_MAPS:
            stream = self._stream(name)
            if stream is not None:
                self._by_descriptor[doc["uid"]] = stream
                if stream.describe(doc) | self._choose_main():
                    self.epoch += 1
                self._add_early_resources(stream)

    def _stream(self, name: str) -> Stream | None:
        """Return the stream of a name; the first has the run's geometry until the scanned stream is described."""
        if name in self.streams or len(self.streams) >= STREAMS_MAX:
            return self.streams.get(name)
        if name == self.scanned or not self.streams:
            for other in self.streams.values():
                if other.geometry is self._geometry:
                    self._geometry = StreamGeometry(self.start, defaults=self.defaults)
                    other.replace_geometry(self._row_geometry())
            stream = Stream(name, self._geometry)
        else:
            stream = Stream(name, self._row_geometry())
        self.streams[name] = stream
        return stream

    def _row_geometry(self) -> StreamGeometry:
        """Return the geometry of a stream other than the scanned one: its points in a row."""
        return StreamGeometry({"uid": self.uid, "time": self.start["time"]}, defaults=ScanDefaults())

    def _choose_main(self) -> bool:
        """Choose the first readable source: a camera, else spectra, else scalars; return whether it changed.

        The scanned stream comes first, and in it the detector that the plan names first: data keys have no order.
        """
        streams = sorted(self.streams.values(), key=lambda stream: stream.name != self.scanned)
        sources = [source for stream in streams for source in stream.sources]
        named = self.start.get("detectors")
        order = [name for name in named if isinstance(name, str)] if is_list(named) else []

        def place(source: MapSource) -> tuple[Any, ...]:
            first = source.stream == sources[0].stream
            number = order.index(source.key) if source.key in order else len(order)
            return (bool(source.unread_reason), max(source.rank, 1), not first, source.rank, number)

        ranked = sorted(sources, key=place)
        best = next(iter(ranked), None)
        self._blank = None
        if best is not None and self.settled is not None and not best.maps.visited:
            drawn = next((source for source in ranked if source.maps.visited), best)
            if drawn is not best and not best.unread_reason:
                self._blank = best
            best = drawn
        if best is None:
            if streams and not self.main.key:
                self.main.stream = streams[0].name
                self.main.set_raster(streams[0].geometry.raster)
            return False
        changed, self.main = best is not self.main, best
        return changed

    def _resource(self, doc: Mapping[str, Any]) -> None:
        """Add a stream_resource: at once if only one stream has its data key, else with its first stream_datum."""
        if doc["uid"] in self._resources:
            return
        if len(self._resources) >= RESOURCES_MAX:
            raise DocumentError(f"a run of more than {RESOURCES_MAX:,} stream_resources")
        self._resources[doc["uid"]] = doc
        ledgers = [ledger for stream in self.streams.values() if (ledger := stream.ledger(doc["data_key"]))]
        if len(ledgers) == 1:
            self._add_resource(ledgers[0], doc)

    def _add_resource(self, ledger: FrameLedger, doc: Mapping[str, Any]) -> None:
        """Add a resource to a ledger; if its source cannot be read, choose another main source."""
        before = ledger.unread_reason
        ledger.add_resource(doc)
        if ledger.unread_reason != before and self._choose_main():
            self.epoch += 1

    def _add_early_resources(self, stream: Stream) -> None:
        """Add the resources that came before their descriptor; raise for unusable ones at the end."""
        troubles = list[str]()
        for doc in self._resources.values():
            ledger = stream.ledger(doc["data_key"])
            others = [other for other in self.streams.values() if other.ledger(doc["data_key"])]
            if ledger is None or len(others) != 1 or doc["uid"] in ledger.resources:
                continue
            try:
                self._add_resource(ledger, doc)
            except DocumentError as trouble:
                troubles.append(str(trouble))
        if troubles:
            raise DocumentError("; ".join(troubles))

    def _datum(self, doc: Mapping[str, Any]) -> None:
        stream = self._by_descriptor.get(doc["descriptor"])
        resource = self._resources.get(doc["stream_resource"])
        ledger = stream.ledger(resource["data_key"]) if stream and resource else None
        if ledger is None or resource is None:
            return
        if resource["uid"] not in ledger.resources:
            self._add_resource(ledger, resource)
        ledger.add_datum(doc)

    def _derived_descriptor(self, doc: Mapping[str, Any]) -> None:
        """Apply a derived descriptor."""
        if doc["uid"] in self._derived:
            return
        derived = DerivedDescriptor.read(doc)
        stream = self._by_descriptor.get(derived.source)
        if derived.unread:
            ledger = stream.ledger(derived.data_key) if stream else None
            if ledger is not None and not ledger.any_read:
                ledger.unreadable = derived.trouble
                self.epoch += self._choose_main()
            return
        source = stream.images.get(derived.data_key, self.main) if stream else self.main
        if derived.remark:
            source.remarks[derived.uid] = derived.trouble[:REMARK_MAX]
            return
        if derived.rois is None:
            if stream is not None:
                self._derived[derived.uid] = (stream, derived.data_key)
                stream.derived_descriptors[derived.data_key] = derived
            return
        self._derived = {uid: of for uid, of in self._derived.items() if of is not source}
        self._derived[derived.uid] = source
        source.describe(derived)
        if stream is not None:
            self._choose_main()
        self.epoch += 1

    def _event(self, name: str, doc: Mapping[str, Any]) -> None:
        source = self._derived.get(doc["descriptor"])
        if isinstance(source, MapSource):
            self._sums(source, doc)
            return
        stream, key = source if source else (self._by_descriptor.get(doc["descriptor"]), None)
        if stream is None:
            return
        seq_nums, data = event_columns(name, doc)
        if not len(seq_nums):
            return
        ledger = stream.files.get(key) if key is not None else None
        if ledger is not None:
            ledger.settle_points(seq_nums, *event_places(doc, len(seq_nums)))
        else:
            stream.count(seq_nums)
        if stream.take(seq_nums, data):
            self._restart_views(stream)
        if stream.datum_keys:
            self._follow_pointers(stream, name, doc)

    def _follow_pointers(self, stream: Stream, name: str, doc: Mapping[str, Any]) -> None:
        """Announce the frames that an event, or a page of events, names by datum ids."""
        seq_nums = doc["seq_num"] if name == "event_page" else [doc["seq_num"]]
        for key in stream.datum_keys & doc["data"].keys():
            ledger = stream.ledger(key)
            ids = doc["data"][key] if name == "event_page" else [doc["data"][key]]
            if ledger is None or not is_list(ids) or len(ids) != len(seq_nums):
                continue
            for seq_num, uid in zip(seq_nums, ids, strict=True):
                pointer = self._data.find(uid, (ledger, seq_num)) if isinstance(uid, str) else None
                if pointer is not None:
                    self._point(ledger, pointer, seq_num)

    def _point(self, ledger: FrameLedger, pointer: Pointer, seq_num: int) -> None:
        """Announce one point of a resource."""
        uid, row = pointer
        if uid not in ledger.resources and uid not in ledger.refused:
            self._add_classic(ledger, uid, row)
        if uid in ledger.resources and row >= 0:
            ledger.add_point(uid, row, seq_num)
            self.new_pointers.append((ledger, pointer))

    def _add_classic(self, ledger: FrameLedger, uid: str, row: int) -> None:
        """Add a resource whose data key is known only from an event."""
        doc, before = self._classic.get(uid), ledger.unread_reason
        if doc is None:
            return
        reason = refusal_of(doc) or ("" if row >= 0 else "its documents do not say which frames belong to a point")
        try:
            if not reason:
                ledger.add_known(resource_of(doc))
        except DocumentError as trouble:
            reason = str(trouble)
        if reason:
            ledger.refuse(uid, reason)
        if ledger.unread_reason != before and self._choose_main():
            self.epoch += 1

    def _sums(self, source: MapSource, doc: Mapping[str, Any]) -> None:
        seq_nums, columns = _sums_of(doc, source.maps.channels)
        if not len(seq_nums):
            return
        stream = self.streams.get(source.stream)
        geometry = stream.geometry if stream else self._geometry
        geometry.extend_to(int(seq_nums.max()))
        replaced = stream.follow() if stream else False
        if source.maps.raster is not geometry.raster:
            source.set_raster(geometry.raster)
            replaced = True
        if replaced:
            self.epoch += 1
        source.maps.assign(seq_nums, columns)
        source.ledger.settle_points(seq_nums, *event_places(doc, len(seq_nums)))

    def _restart_views(self, stream: Stream) -> None:
        """Raise the epoch after the geometry of a stream changed."""
        self.epoch += 1
        if not self.main.key and self.main.stream == stream.name:
            self.main.set_raster(stream.geometry.raster)

    def _stop(self, doc: Mapping[str, Any]) -> None:
        derived = is_mapping(doc.get(DERIVED))
        if self.stop is None or (not derived and is_mapping(self.stop.get(DERIVED))):
            # a real stop replaces the derived one of a lost run
            self.stop = dict(doc)
        self._end()

    def _end(self) -> None:
        """Fit every stream's geometry to its final number of points."""
        for stream in self.streams.values():
            stream.geometry.end(stream.points)
            if stream.follow():
                self._restart_views(stream)
        if self.settled is not None and self._choose_main():
            self.epoch += 1

    def _events(self) -> int | None:
        return self._stop_events(self.main.stream)

    def _stop_events(self, stream: str) -> int | None:
        """Return the number of events of a stream in the stop document."""
        counts = (self.stop or {}).get("num_events")
        number = counts.get(stream) if is_mapping(counts) else None
        return number if type(number) is int and 0 < number < SEQ_NUM_MAX else None


def axes_summary(raster: Raster) -> dict[str, dict[str, Any]]:
    """Return name, unit and coordinates of both axes, plain JSON; coordinates in scan order."""

    def summary(axis: Axis) -> dict[str, Any]:
        return {"name": axis.name, "unit": axis.unit, "coordinates": axis.coordinates.tolist(), "known": axis.known}

    return {"slow": summary(raster.slow), "fast": summary(raster.fast)}


def _scanned_stream(start: Mapping[str, Any]) -> str:
    """Return the name of the scanned stream: the one in ``hints.dimensions``, else ``primary``."""
    hints = start.get("hints")
    dimensions = hints.get("dimensions") if is_mapping(hints) else None
    first = dimensions[0] if is_list(dimensions) and dimensions else None
    name = first[1] if is_list(first) and len(first) == 2 else None
    return name if isinstance(name, str) and name not in NO_MAPS else PRIMARY


def _sums_of(
    doc: Mapping[str, Any], channels: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    """Return seq_nums (n,) and sums (n,) by channel of a derived page; null is NaN."""
    data = doc.get("data")
    if not is_mapping(data):
        raise DocumentError("a page of sums without data")
    try:
        seq_nums = np.atleast_1d(np.array(doc["seq_num"], dtype=np.int64))
        columns = {name: np.array(data[name], dtype=np.float64) for name in channels if name in data}
    except (TypeError, ValueError, OverflowError) as error:
        raise DocumentError(f"a page of sums that are not numbers: {error}") from error
    if any(column.shape != seq_nums.shape for column in columns.values()):
        raise DocumentError(f"a page of {len(seq_nums)} points whose columns have another length")
    return seq_nums, columns


def _points(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}point{'s' if count != 1 else ''}"
