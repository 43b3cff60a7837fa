"""One run, folded from its documents: geometry, maps, frames, status.

A tab, a reload, the worker after a restart, the API and a test all are the same thing: a :class:`Run` that has been
given the run's documents, in the order of the store. Documents that come twice change nothing.
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
from snakemap.core.event_columns import event_columns, event_rows
from snakemap.core.file_uri import path_of
from snakemap.core.frame_ledger import FrameLedger
from snakemap.core.geometry import ScanDefaults
from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.stream_geometry import StreamGeometry
from snakemap.core.streams import SEQ_NUM_MAX, CrossCheck, MapSource, Stream, agreements
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
        habits: what to assume where documents are silent.

    Attributes:
        uid: of the run.
        streams: by name, those that hold anything to draw.
        main: the source that is drawn unless somebody chooses another: the first that can be read, cameras before
            spectra before scalars.
        epoch: rises when a raster or maps were replaced, so that a view knows to begin anew.
        version: rises with every document.
        stop: the stop document, or None.
        settled: our note that it has been filled from its files; None before.
        cursor: of the last document folded in.
        began: when the store took the first document, in seconds since 1970.
        heard: when it took the last one.
        pointed: the points of resources that the last document has announced.
    """

    def __init__(self, start: Mapping[str, Any], *, habits: ScanDefaults | None = None) -> None:
        self.start = dict(start)
        self.uid: str = start["uid"]
        self.habits = habits or ScanDefaults()
        self.scanned = _scanned_stream(self.start)
        placing = StreamGeometry(self.start, habits=self.habits)
        self.main = MapSource("", stream=self.scanned, raster=placing.raster)
        self.streams: dict[str, Stream] = {}
        self.epoch = 0
        self.version = 0
        self.stop: dict[str, Any] | None = None
        self.settled: dict[str, Any] | None = None
        self.cursor = BEGINNING
        self.began = self.heard = float(self.start["time"])
        task_id = self.start.get("blueapi_task_id")
        self.task_id: str | None = task_id if isinstance(task_id, str) else None
        self._placing = placing
        self._by_descriptor: dict[str, Stream] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._classic: dict[str, Mapping[str, Any]] = {}
        self._data = ClassicResources()
        self._blank: MapSource | None = None
        self.pointed: list[tuple[FrameLedger, Pointer]] = []
        self._derived: dict[str, MapSource | tuple[Stream, str]] = {}
        self._agreements: tuple[int, dict[str, list[CrossCheck]]] = (-1, {})

    def apply(self, document: Document, *, cursor: str = "") -> None:
        """Folds one more document of this run in.

        Raises:
            DocumentError: when it cannot be used; the run stays as it was.
        """
        name, doc = document.name, document.doc
        self.pointed = []
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
            self.heard = cursor_ms(self.cursor) / 1000

    @property
    def raster(self) -> Raster:
        """Where the points of the main source lie."""
        return self.main.maps.raster

    @property
    def maps(self) -> Maps:
        """The grids of the main source; empty ones before the first sums."""
        return self.main.maps

    @property
    def ledger(self) -> FrameLedger:
        """The account of the frames of the main source."""
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
    def derived(self) -> str | None:
        """Uid of our descriptor of the main source's sums, or None."""
        return self.main.told.uid if self.main.told else None

    @property
    def ours(self) -> Collection[str]:
        """Uids of our own descriptors."""
        return self._derived.keys()

    @property
    def sources(self) -> dict[str, MapSource]:
        """All that can be drawn, by the name to choose it by; the main source first."""
        found = {}
        streams = sorted(self.streams.values(), key=lambda stream: stream.name != self.main.stream)
        for stream in streams:
            for source in sorted(stream.sources, key=lambda source: source is not self.main):
                found[self.name_of(source)] = source
        return found or {"": self.main}

    def name_of(self, source: MapSource) -> str:
        """The name of a source: its data key, after its stream's where that is not the main one."""
        return source.key if source.stream == self.main.stream else f"{source.stream}: {source.key}"

    def source(self, name: str) -> MapSource:
        """The source of a name, or the main one."""
        return self.sources.get(name, self.main) if name else self.main

    def ledgers(self) -> Iterator[FrameLedger]:
        """The accounts of all that is in files."""
        if not self.streams:
            yield self.main.ledger
        for stream in self.streams.values():
            yield from stream.ledgers()

    def agreements(self, source: MapSource) -> list[CrossCheck]:
        """Our sums of a source held against those that the detector made itself; up to date."""
        epoch, kept = self._agreements
        if epoch != self.epoch:
            self._agreements = self.epoch, (kept := {})
        name = self.name_of(source)
        if name not in kept:
            stream = self.streams.get(source.stream)
            kept[name] = agreements(source, stream.scalars if stream else None)
        for agreement in kept[name]:
            agreement.update()
        return kept[name]

    @property
    def points(self) -> int:
        """Points that are there: pixels visited, or events where there is nothing to draw."""
        if not self.main.key and self.main.told is None:
            return max((stream.events for stream in self.streams.values()), default=0)
        return self.maps.visited

    @property
    def filled(self) -> int:
        """Points that the file held and no document had announced; 0 while the run goes on, when they may still be."""
        return self.ledger.filled if self.stop is not None and self.ledger.descriptor is not None else 0

    @property
    def expected(self) -> int | None:
        """Points of the whole scan, or None while nobody knows."""
        if self.raster.certain:
            return self.raster.size
        if self.stop is None or self.stop["exit_status"] != "success":
            return None
        told = self._events()
        if told is None and self.settled is not None:
            told = max(self.ledger.announced, self.points)
        return told

    @property
    def status(self) -> Status:
        """How it stands; ``complete`` only when every expected point is there.

        A run whose stop says success stays ``running`` until its points are there, or until the worker has settled that
        they will not come.
        """
        if self.stop is None:
            return "running"
        ours = self.stop.get(DERIVED)
        if isinstance(ours, Mapping) and ours.get("status") == "lost":
            return "lost"
        if self.stop["exit_status"] in ENDINGS:
            return ENDINGS[self.stop["exit_status"]]
        if self.expected is not None and self.points >= self.expected and not self._lacks:
            return "complete"
        return "incomplete" if self.settled is not None else "running"

    @property
    def reason(self) -> str:
        """Why it ended as it did, in the words of who ended it, and what is missing or was filled in."""
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
        """Whether something never came though the main source is whole: events, or all frames of a better source."""
        return self._blank is not None or any(self.lost_events.values())

    @property
    def lost_events(self) -> dict[str, int]:
        """Events that never came, by stream: those of the stop document, and gaps in seq_nums while it goes on."""
        return {name: stream.lost(self._told_events(name)) for name, stream in self.streams.items()}

    @property
    def remarks(self) -> list[str]:
        """What is missing of it, what its sums leave out, and what is not drawn, a sentence each."""
        parts: list[str] = []
        for name, lost in self.lost_events.items():
            if lost:
                whole = max(self.streams[name].events, self._told_events(name) or 0)
                of = "" if name == self.main.stream else f" of {name}"
                parts.append(f"{lost:,} of {whole:,} events{of} are missing.")
        if self._blank is not None:
            parts.append(
                f"No frame of {self.name_of(self._blank)} could be read; the maps show {self.name_of(self.main)}."
            )
        opened = self.start.get(OPENED)
        missing = opened.get("missing") if isinstance(opened, Mapping) else None
        if isinstance(missing, str) and missing:
            parts.append(missing[:MISSING_MAX])
        for source in self.sources.values():
            parts += source.remarks.values()
        return [*parts, *self.unused]

    @property
    def unused(self) -> list[str]:
        """What is not drawn because its files cannot be read, a sentence each."""
        told = []
        for stream in self.streams.values():
            before = "" if stream.name == self.main.stream else f"{stream.name}: "
            for ledger in stream.ledgers():
                if ledger.hindrance:
                    told.append(f"{before}{ledger.data_key} is not drawn: {ledger.hindrance.rstrip('.')}.")
        return told

    @property
    def file(self) -> str | None:
        """Path of its first file, as the writer sees it."""
        for ledger in self.ledgers():
            for uid, resource in ledger.resources.items():
                read = (one for source in self.sources.values() if source.told for one in source.told.files)
                return path_of(resource.uri_of(0), [name.rpartition(", ")[0] for of, name, *_ in read if of == uid])
        return None

    @property
    def opened(self) -> bool:
        """Whether it is a finished file that somebody opened, not a scan that was taken."""
        return isinstance(self.start.get(OPENED), Mapping)

    @property
    def called_off(self) -> bool:
        """Whether somebody wanted no more of a file that was being read."""
        return self.opened and self.stop is not None and self.stop["exit_status"] != "success"

    @property
    def ended(self) -> float | None:
        """When it stopped, in seconds since 1970."""
        time = self.stop.get("time") if self.stop else None
        return float(time) if isinstance(time, int | float) else None

    def summary(self) -> dict[str, Any]:
        """What the list of runs says of it; plain JSON."""
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
            "beyond": self.maps.beyond,
            "unreadable": self.ledger.given_up,
            "filled": self.filled,
            "sources": list(self.sources),
            "opened": self.opened,
        }

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        name = str(doc.get("name", PRIMARY))
        if name == DERIVED:
            self._describe(doc)
        elif name not in NO_MAPS:
            stream = self._stream(name)
            if stream is not None:
                self._by_descriptor[doc["uid"]] = stream
                if stream.describe(doc) | self._choose_main():
                    self.epoch += 1
                self._give_resources(stream)

    def _stream(self, name: str) -> Stream | None:
        """The stream of a name. The first one has the run's geometry, until the one comes that the run scans."""
        if name in self.streams or len(self.streams) >= STREAMS_MAX:
            return self.streams.get(name)
        if name == self.scanned or not self.streams:
            for other in self.streams.values():
                if other.placing is self._placing:
                    self._placing = StreamGeometry(self.start, habits=self.habits)
                    other.replace_placing(self._unplaced())
            stream = Stream(name, self._placing)
        else:
            stream = Stream(name, self._unplaced())
        self.streams[name] = stream
        return stream

    def _unplaced(self) -> StreamGeometry:
        """The geometry of a stream that is not the scan: its points in a row."""
        return StreamGeometry({"uid": self.uid, "time": self.start["time"]}, habits=ScanDefaults())

    def _choose_main(self) -> bool:
        """The first source that can be read: a camera, else spectra, else scalars; whether it is another one now.

        The scanned stream comes first, and in it what the plan names first: a descriptor has its data keys in no order.
        """
        streams = sorted(self.streams.values(), key=lambda stream: stream.name != self.scanned)
        sources = [source for stream in streams for source in stream.sources]
        named = self.start.get("detectors")
        order = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []

        def place(source: MapSource) -> tuple[Any, ...]:
            first = source.stream == sources[0].stream
            number = order.index(source.key) if source.key in order else len(order)
            return (bool(source.hindrance), max(source.rank, 1), not first, source.rank, number)

        ranked = sorted(sources, key=place)
        best = next(iter(ranked), None)
        self._blank = None
        if best is not None and self.settled is not None and not best.maps.visited:
            drawn = next((source for source in ranked if source.maps.visited), best)
            if drawn is not best and not best.hindrance:
                self._blank = best
            best = drawn
        if best is None:
            if streams and not self.main.key:
                self.main.stream = streams[0].name
                self.main.lay_out(streams[0].placing.raster)
            return False
        changed, self.main = best is not self.main, best
        return changed

    def _resource(self, doc: Mapping[str, Any]) -> None:
        """Takes a stream_resource: at once, where only one stream can be meant, else with its first stream_datum."""
        if doc["uid"] in self._resources:
            return
        if len(self._resources) >= RESOURCES_MAX:
            raise DocumentError(f"a run of more than {RESOURCES_MAX:,} stream_resources")
        self._resources[doc["uid"]] = doc
        meant = [ledger for stream in self.streams.values() if (ledger := stream.ledger(doc["data_key"]))]
        if len(meant) == 1:
            self._add_resource(meant[0], doc)

    def _add_resource(self, ledger: FrameLedger, doc: Mapping[str, Any]) -> None:
        """Hands a resource over; when its source turns out to be one that cannot be read, another one is the main."""
        before = ledger.hindrance
        ledger.add_resource(doc)
        if ledger.hindrance != before and self._choose_main():
            self.epoch += 1

    def _give_resources(self, stream: Stream) -> None:
        """Hands over what came before its descriptor; what cannot be used is said after all have been."""
        troubles = []
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

    def _describe(self, doc: Mapping[str, Any]) -> None:
        """Takes a descriptor of our own."""
        if doc["uid"] in self._derived:
            return
        told = DerivedDescriptor.read(doc)
        stream = self._by_descriptor.get(told.source)
        if told.unread:
            ledger = stream.ledger(told.data_key) if stream else None
            if ledger is not None and not ledger.any_read:
                ledger.unreadable = told.trouble
                self.epoch += self._choose_main()
            return
        source = stream.images.get(told.data_key, self.main) if stream else self.main
        if told.remark:
            source.remarks[told.uid] = told.trouble[:REMARK_MAX]
            return
        if told.rois is None:
            if stream is not None:
                self._derived[told.uid] = (stream, told.data_key)
                stream.told[told.data_key] = told
            return
        self._derived = {uid: of for uid, of in self._derived.items() if of is not source}
        self._derived[told.uid] = source
        source.describe(told)
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
            ledger.settle_points(seq_nums, event_rows(doc, len(seq_nums)))
        else:
            stream.count(seq_nums)
        if stream.take(seq_nums, data):
            self._begin_anew(stream)
        if stream.pointed:
            self._follow_pointers(stream, name, doc)

    def _follow_pointers(self, stream: Stream, name: str, doc: Mapping[str, Any]) -> None:
        """Announces the frames that an event, or a page of events, names by the ids of data."""
        seq_nums = doc["seq_num"] if name == "event_page" else [doc["seq_num"]]
        for key in stream.pointed & doc["data"].keys():
            ledger = stream.ledger(key)
            ids = doc["data"][key] if name == "event_page" else [doc["data"][key]]
            if ledger is None or not isinstance(ids, list) or len(ids) != len(seq_nums):
                continue
            for seq_num, uid in zip(seq_nums, ids, strict=True):
                pointer = self._data.find(uid, (ledger, seq_num)) if isinstance(uid, str) else None
                if pointer is not None:
                    self._point(ledger, pointer, seq_num)

    def _point(self, ledger: FrameLedger, pointer: Pointer, seq_num: int) -> None:
        """Announces one point of a resource."""
        uid, row = pointer
        if uid not in ledger.resources and uid not in ledger.refused:
            self._add_classic(ledger, uid, row)
        if uid in ledger.resources and row >= 0:
            ledger.add_point(uid, row, seq_num)
            self.pointed.append((ledger, pointer))

    def _add_classic(self, ledger: FrameLedger, uid: str, row: int) -> None:
        """Hands over a resource of which only an event tells whose it is."""
        doc, before = self._classic.get(uid), ledger.hindrance
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
        if ledger.hindrance != before and self._choose_main():
            self.epoch += 1

    def _sums(self, source: MapSource, doc: Mapping[str, Any]) -> None:
        seq_nums, columns = _sums_of(doc, source.maps.channels)
        if not len(seq_nums):
            return
        stream = self.streams.get(source.stream)
        placing = stream.placing if stream else self._placing
        placing.make_room(int(seq_nums.max()))
        replaced = stream.follow() if stream else False
        if source.maps.raster is not placing.raster:
            source.lay_out(placing.raster)
            replaced = True
        if replaced:
            self.epoch += 1
        source.maps.assign(seq_nums, columns)
        source.ledger.settle_points(seq_nums, event_rows(doc, len(seq_nums)))

    def _begin_anew(self, stream: Stream) -> None:
        """Has views begin anew after the geometry of a stream has changed."""
        self.epoch += 1
        if not self.main.key and self.main.stream == stream.name:
            self.main.lay_out(stream.placing.raster)

    def _stop(self, doc: Mapping[str, Any]) -> None:
        ours = isinstance(doc.get(DERIVED), Mapping)
        if self.stop is None or (not ours and isinstance(self.stop.get(DERIVED), Mapping)):
            # a real stop corrects our own guess that the run was lost
            self.stop = dict(doc)
        self._end()

    def _end(self) -> None:
        """Lays every stream out as it turned out to be."""
        for stream in self.streams.values():
            stream.placing.end(stream.points)
            if stream.follow():
                self._begin_anew(stream)
        if self.settled is not None and self._choose_main():
            self.epoch += 1

    def _events(self) -> int | None:
        return self._told_events(self.main.stream)

    def _told_events(self, stream: str) -> int | None:
        """Events of a stream, as the stop document has it."""
        told = (self.stop or {}).get("num_events")
        number = told.get(stream) if isinstance(told, Mapping) else None
        return number if type(number) is int and 0 < number < SEQ_NUM_MAX else None


def axes_summary(raster: Raster) -> dict[str, dict[str, Any]]:
    """Name, unit and coordinates of both axes, plain JSON; coordinates are in the order of the scan's index."""

    def told(axis: Axis) -> dict[str, Any]:
        return {"name": axis.name, "unit": axis.unit, "coordinates": axis.coordinates.tolist(), "known": axis.known}

    return {"slow": told(raster.slow), "fast": told(raster.fast)}


def _scanned_stream(start: Mapping[str, Any]) -> str:
    """The stream whose points are the scan's: the one that ``hints.dimensions`` names, else ``primary``."""
    hints = start.get("hints")
    dimensions = hints.get("dimensions") if isinstance(hints, Mapping) else None
    first = dimensions[0] if isinstance(dimensions, list) and dimensions else None
    name = first[1] if isinstance(first, list) and len(first) == 2 else None
    return name if isinstance(name, str) and name not in NO_MAPS else PRIMARY


def _sums_of(
    doc: Mapping[str, Any], channels: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    """Seq_nums (n,) and sums (n,) by channel of a page of ours; null is NaN."""
    data = doc.get("data")
    if not isinstance(data, Mapping):
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
