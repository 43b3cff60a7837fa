"""What arrives from the beamline, told apart and put in order: Bluesky documents, worker events, and all the rest.

blueapi publishes three kinds of body on one destination, told apart by their keys (recorded from blueapi 1.21):

    {"name": "start", "doc": {...}, "task_id": ...}              a Bluesky document
    {"state": "RUNNING", "task_status": {...}, "errors": ...}    a worker event
    {"task_id": ..., "statuses": {...}}                          a progress event: nine of ten messages of a step scan

Nothing here validates more than snakemap relies on: a tolerant reader survives the next release of everybody else.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import orjson

from snakemap.errors import DocumentError

__all__ = [
    "DERIVED",
    "SETTLED",
    "WORKER",
    "CausalOrder",
    "Document",
    "Message",
    "Span",
    "WorkerEvent",
    "decode",
    "envelope",
    "joined",
    "parents",
    "position",
    "progress_of",
]

BODY_BYTES_MAX = 16 * 1024 * 1024
BRACKETS_MAX = 200
"""A body with no more brackets than this cannot be nested deeper than JSON can be written again."""

SEQ_NUM_LIMIT = 2**53
PROGRESS_MAX = 6
"""Devices of which progress is told at one time."""

NEIGHBORS = 32
"""How many announcements back one is looked for that a new one may go on from: detectors that are announced in turn."""

DERIVED = "snakemap"
"""Name of the stream that holds our own documents, beside the detector's ``primary``."""

WORKER = "worker"
"""The name under which a worker event stands in the store, among the documents."""

SETTLED = "settled"
"""The name of our own note that a run which has ended has been filled from its file as far as it goes."""

REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {"uid": str, "time": (int, float)},
    "descriptor": {"uid": str, "run_start": str, "data_keys": dict},
    "event": {"descriptor": str, "seq_num": int},
    "event_page": {"descriptor": str, "seq_num": list},
    "resource": {"uid": str},
    "datum": {"datum_id": str, "resource": str},
    "datum_page": {"datum_id": list, "resource": str},
    "bulk_datum": {"datum_ids": list, "datum_kwarg_list": list, "resource": str},
    "stream_resource": {"uid": str, "data_key": str, "uri": str, "parameters": dict},
    "stream_datum": {"descriptor": str, "stream_resource": str, "seq_nums": dict, "indices": dict},
    "stop": {"run_start": str, "exit_status": str},
}
"""The documents there are, and the fields of each that snakemap cannot do without."""


@dataclass(frozen=True, slots=True)
class Document:
    """One Bluesky document as it came.

    Attributes:
        name: which document, like ``"stream_datum"``.
        doc: its body, untouched.
        run: uid of the run it belongs to; empty until :class:`CausalOrder` has found out.
        task_id: blueapi's task, like ``"d4d2336f-..."``; None in recordings from before blueapi 0.14.
    """

    name: str
    doc: dict[str, Any]
    run: str = ""
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """What blueapi's worker says of itself and its task.

    Attributes:
        state: ``"IDLE"``, ``"RUNNING"``, ``"PAUSED"``, ``"ABORTING"`` and so on.
        task_id: the task it speaks of, or None when it has none.
        complete: the task has ended. Also true, wrongly, while paused.
        failed: the task has failed. Also true, wrongly, while paused.
        errors: messages, oldest first.
        warnings: messages, oldest first.
        body: the event as it came.
    """

    state: str
    task_id: str | None
    complete: bool
    failed: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    body: dict[str, Any]

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> WorkerEvent:
        """Reads the event from its JSON body.

        Raises:
            DocumentError: when the state is not text or the task's status is not an object.
        """
        status = body.get("task_status") or {}
        if not isinstance(body.get("state"), str) or not isinstance(status, dict):
            raise DocumentError("a worker event whose state is not text or whose task_status is not an object")
        errors, warnings = body.get("errors") or [], body.get("warnings") or []
        if not isinstance(errors, list) or not isinstance(warnings, list):
            raise DocumentError("a worker event whose errors or warnings are not a list")
        return cls(
            state=body["state"],
            task_id=_text_or_none(status.get("task_id")),
            complete=bool(status.get("task_complete")),
            failed=bool(status.get("task_failed")),
            errors=tuple(str(error) for error in errors),
            warnings=tuple(str(warning) for warning in warnings),
            body=body,
        )


Message = Document | WorkerEvent


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it stands in the store.

    Attributes:
        cursor: its place in the stream, like ``"1795461238076-0"``: milliseconds since 1970, and a number.
        name: the document's name, :data:`WORKER` or :data:`SETTLED`.
        run: uid of the run it belongs to; empty for a worker event.
        task_id: blueapi's task, or None.
        doc: the document's or the event's body, untouched.
    """

    cursor: str
    name: str
    run: str
    task_id: str | None
    doc: dict[str, Any]

    @property
    def document(self) -> Document:
        """The entry as what was appended; a worker event too comes as a document, named :data:`WORKER`."""
        return Document(self.name, self.doc, run=self.run, task_id=self.task_id)


def decode(body: bytes | str) -> Message | None:
    """Tells what a broker's message says.

    Args:
        body: UTF-8 JSON, at most 16 MiB, nested no deeper than it can be written again (254 levels).

    Returns:
        A document, a worker event, or None for a progress event.

    Raises:
        DocumentError: when it is none of these, saying why; the caller counts it and goes on.

    >>> decode('{"task_id": "t", "statuses": {}}') is None
    True
    >>> decode('{"name": "stop", "doc": {"run_start": "r", "exit_status": "success"}, "task_id": "t"}').name
    'stop'
    """
    if len(body) > BODY_BYTES_MAX:
        raise DocumentError(f"a message of {len(body):,} bytes; at most {BODY_BYTES_MAX:,} are read")
    message = _loads(body)
    if not isinstance(message, dict):
        raise DocumentError(f"JSON, but a {type(message).__name__} where an object was expected")
    if "statuses" in message:
        return None
    if "state" in message:
        return WorkerEvent.from_body(message)
    if "name" not in message or "doc" not in message:
        raise DocumentError(f"an object that is no event of ours; its keys are {_shown(sorted(message))}")
    return _document(message["name"], message["doc"], _text_or_none(message.get("task_id")))


def progress_of(body: bytes | str) -> list[dict[str, Any]]:
    """What a progress event says: of each device its name, and where it is on its way; numbers that are none are None.

    >>> told = {"statuses": {"u": {"display_name": "x", "initial": 0, "current": 1.5, "target": 3, "unit": "mm"}}}
    >>> progress_of(orjson.dumps(told))
    [{'name': 'x', 'unit': 'mm', 'initial': 0, 'current': 1.5, 'target': 3, 'percentage': None}]
    """
    message = _loads(body)
    statuses = message.get("statuses") if isinstance(message, dict) else None
    told = [one for one in statuses.values() if isinstance(one, dict)] if isinstance(statuses, dict) else []
    return [
        {
            "name": str(one.get("display_name") or "")[:60],
            "unit": str(one.get("unit") or "")[:20],
            **{key: _number_or_none(one.get(key)) for key in ("initial", "current", "target", "percentage")},
        }
        for one in told[:PROGRESS_MAX]
    ]


def _number_or_none(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def envelope(name: str, doc: Mapping[str, Any], *, task_id: str | None) -> dict[str, Any]:
    """Wraps a document as blueapi does (its ``DataEvent``)."""
    return {"name": name, "doc": dict(doc), "task_id": task_id}


def parents(name: str, doc: Mapping[str, Any]) -> list[str]:
    """Uids of the documents that must have come before this one; the first that is known tells the run.

    >>> parents("stream_datum", {"descriptor": "d", "stream_resource": "s"})
    ['d', 's']
    """
    keys = ("run_start", "descriptor", "stream_resource", "resource")
    found = [doc[key] for key in keys if isinstance(doc.get(key), str)]
    if name == "descriptor" and doc.get("name") == DERIVED:
        found += _source_of(doc)
    return found


def _source_of(doc: Mapping[str, Any]) -> list[str]:
    """The detector's descriptor that one of our own was made of, where it tells."""
    try:
        source = doc["configuration"][DERIVED]["data"]["source"]
    except (KeyError, TypeError):
        return []
    return [source] if isinstance(source, str) and source else []


class CausalOrder:
    """Hands documents on only when those they refer to have been handed on, each with the uid of its run.

    A broker keeps the order of what it delivers, but deliveries start late, stop, and are repeated. What has come too
    early waits here, a bounded number of documents and then the oldest is given up; everything else goes straight on.
    What waited goes on in the order in which it came, as far as its parents let it.

    Args:
        owners: uids already known (starts, descriptors, resources), each with its run.
        waiting_max: documents that may wait at one time.
    """

    def __init__(self, owners: Mapping[str, str] | None = None, *, waiting_max: int = 10_000) -> None:
        self.owners: dict[str, str] = dict(owners or {})
        self.waiting_max = waiting_max
        self.given_up = 0
        self._waiting: OrderedDict[int, str] = OrderedDict()
        self._blocked: dict[str, dict[int, Document]] = {}
        self._count = 0
        self._newest = ""

    @property
    def waiting(self) -> int:
        """Documents that wait for another."""
        return len(self._waiting)

    @property
    def newest_waiting(self) -> int:
        """Number of the document that had to wait last, from 1 on; 0 while none had to."""
        return self._count

    def waits(self, number: int) -> bool:
        """Whether a document, by its number, still waits for another."""
        return number in self._waiting

    def accept(self, document: Document) -> list[Document]:
        """Takes one document in and returns those that can go on now, in order; an empty list when it must wait.

        Raises:
            DocumentError: when too many wait; it names the one given up, and the newcomer waits in its place.
        """
        blocker = self._blocker(document)
        if blocker is None:
            ready = replace(document, run=self._run_of(document))
            return [ready, *self._release(self._register(ready))]
        self._count += 1
        self._wait(self._count, document, blocker)
        if len(self._waiting) > self.waiting_max:
            self._give_up()
        return []

    def learn(self, owners: Mapping[str, str]) -> list[Document]:
        """Takes uids in that others have handed on; returns what waited for them and can go on now, in order."""
        new = {uid: run for uid, run in owners.items() if uid not in self.owners}
        self.owners.update(new)
        freed: dict[int, Document] = {}
        for uid in new:
            freed.update(self._blocked.pop(uid, {}))
        return self._release(freed)

    def forget(self, run: str) -> None:
        """Drops everything known of a run, so that memory follows the runs that are kept."""
        self.owners = {uid: owner for uid, owner in self.owners.items() if owner != run}
        self._newest = "" if self._newest == run else self._newest

    def _blocker(self, document: Document) -> str | None:
        """The first parent that has not come yet, ``""`` for want of any start, or None when nothing is missing."""
        if document.name == "start":
            return None
        needed = parents(document.name, document.doc)
        if _leaves_run_out(document):
            return None if self._newest else ""
        return next((uid for uid in needed if uid not in self.owners), None) if needed else ""

    def _run_of(self, document: Document) -> str:
        if document.name == "start":
            return document.doc["uid"]
        return self._newest if _leaves_run_out(document) else self.owners[parents(document.name, document.doc)[0]]

    def _register(self, document: Document) -> dict[int, Document]:
        """Remembers whose a document is; returns what has waited for it, by order of arrival."""
        if document.name not in ("start", "descriptor", "resource", "stream_resource"):
            return {}
        uid = document.doc["uid"]
        self.owners.setdefault(uid, document.run)
        freed = self._blocked.pop(uid, {})
        if document.name == "start":
            self._newest = document.run
            freed = {**freed, **self._blocked.pop("", {})}
        return freed

    def _release(self, freed: dict[int, Document]) -> list[Document]:
        released: list[Document] = []
        heap = sorted(freed.items())  # keys are unique, so documents are never compared
        while heap:
            key, document = heapq.heappop(heap)
            blocker = self._blocker(document)
            if blocker is not None:
                self._wait(key, document, blocker)
                continue
            del self._waiting[key]
            ready = replace(document, run=self._run_of(document))
            released.append(ready)
            for entry in self._register(ready).items():
                heapq.heappush(heap, entry)
        return released

    def _wait(self, key: int, document: Document, blocker: str) -> None:
        self._waiting[key] = blocker
        self._blocked.setdefault(blocker, {})[key] = document

    def _give_up(self) -> None:
        key, blocker = self._waiting.popitem(last=False)
        lost = self._blocked[blocker].pop(key)
        if not self._blocked[blocker]:
            del self._blocked[blocker]
        self.given_up += 1
        raise DocumentError(f"a {lost.name} whose run never began here: {_shown(parents(lost.name, lost.doc))}")


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of whole numbers, as stream_datum's ``indices`` and ``seq_nums`` are.

    >>> Span(3, 5).size
    2
    """

    start: int
    stop: int
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.stop - self.start)

    @classmethod
    def read(cls, value: Mapping[str, Any], what: str) -> Span:
        """Reads ``{"start": 0, "stop": 5}``.

        Raises:
            DocumentError: when a bound is missing, not whole, negative, or the range runs backwards.
        """
        start, stop = value.get("start"), value.get("stop")
        if not _whole(start) or not _whole(stop) or not 0 <= start <= stop:
            raise DocumentError(f"{what} {_shown(dict(value))} is not a range from start to stop")
        return cls(start, stop)


def position(cursor: str) -> tuple[int, int]:
    """A cursor as numbers, which compare in the order of the stream.

    >>> position("1795461238076-10") > position("1795461238076-9")
    True
    """
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds or 0), int(number or 0)


def joined(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same news in fewer entries: events and pages of one descriptor become one page, announcements one range.

    Catching up then costs a page and not a point. What announces frames goes before what was made of them, as it did;
    everything else keeps its place. The entries given out no longer rise by cursor: leave out what is known before.
    """
    pages: dict[Any, list[Entry]] = {}
    announced: list[Entry] = []
    for entry in entries:
        columns = _columns_of(entry)
        if columns is not None:
            pages.setdefault((entry.run, *columns), []).append(entry)
        elif entry.name == "stream_datum":
            _announce(announced, entry)
        else:
            yield from _flushed(announced, pages)
            yield entry
    yield from _flushed(announced, pages)


def _flushed(announced: list[Entry], pages: dict[Any, list[Entry]]) -> Iterator[Entry]:
    yield from announced
    announced.clear()
    for parts in pages.values():
        yield _page_of(parts)
    pages.clear()


def _announce(announced: list[Entry], entry: Entry) -> None:
    """Adds a stream_datum to the last one of its resource, when it goes on where that one ends."""
    doc = entry.doc
    for number in range(len(announced) - 1, max(len(announced) - 1 - NEIGHBORS, -1), -1):
        last = announced[number].doc
        if (last["stream_resource"], last["descriptor"]) != (doc["stream_resource"], doc["descriptor"]):
            continue
        if all(last[key]["stop"] == doc[key]["start"] for key in ("indices", "seq_nums")):
            longer = {key: {"start": last[key]["start"], "stop": doc[key]["stop"]} for key in ("indices", "seq_nums")}
            announced[number] = replace(entry, doc={**doc, **longer})
            return
        break
    announced.append(entry)


def _columns_of(entry: Entry) -> tuple[str, tuple[str, ...]] | None:
    """Descriptor and keys of an event or a page that can be joined to others like it; None of all else."""
    data = entry.doc.get("data")
    if entry.name not in ("event", "event_page") or not isinstance(data, dict):
        return None
    if entry.name == "event":
        columns, points = [[value] for value in data.values()], 1
    else:
        columns, points = list(data.values()), len(entry.doc["seq_num"])
    if any(not isinstance(column, list) or len(column) != points for column in columns):
        return None
    if not all({int, float, type(None)}.issuperset(map(type, column)) for column in columns):
        return None  # on its own, so that it does not spoil its neighbors
    return entry.doc["descriptor"], tuple(sorted(data))


def _page_of(entries: list[Entry]) -> Entry:
    """One page of several events or pages, with the cursor of the last."""
    last = entries[-1]
    if len(entries) == 1:
        return last
    seq_nums: list[Any] = []
    data: dict[str, list[Any]] = {key: [] for key in last.doc["data"]}
    for entry in entries:
        lone = entry.name == "event"
        seq_nums += [entry.doc["seq_num"]] if lone else entry.doc["seq_num"]
        for key, column in entry.doc["data"].items():
            data[key] += [column] if lone else column
    return replace(last, name="event_page", doc={**last.doc, "seq_num": seq_nums, "data": data})


def _leaves_run_out(document: Document) -> bool:
    """Whether it is a resource without its run, which event-model allows: then the newest run is meant."""
    return document.name in ("resource", "stream_resource") and not isinstance(document.doc.get("run_start"), str)


def _loads(body: bytes | str) -> Any:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error}") from error
    text = isinstance(body, str)
    brackets = body.count("{") + body.count("[") if text else body.count(b"{") + body.count(b"[")
    if brackets > BRACKETS_MAX:
        try:
            orjson.dumps(message)
        except orjson.JSONEncodeError as error:
            raise DocumentError(f"JSON that cannot be written again: {error}") from error
    return message


def _document(name: Any, doc: Any, task_id: str | None) -> Document:
    if not isinstance(name, str) or name not in REQUIRED:
        raise DocumentError(f"no document is called {_shown(name)}")
    if not isinstance(doc, dict):
        raise DocumentError(f"a {name} whose body is a {type(doc).__name__}")
    for key, kind in REQUIRED[name].items():
        if not isinstance(doc.get(key), kind) or isinstance(doc.get(key), bool) or doc.get(key) == "":
            raise DocumentError(f"a {name} without a usable {key!r}: {_shown(doc.get(key))}")
    if name == "stream_datum":
        _check_stream_datum(doc)
    if name == "event_page" and not all(_whole(number) and number < SEQ_NUM_LIMIT for number in doc["seq_num"]):
        raise DocumentError("an event_page whose seq_num are not whole numbers within reason")
    if name == "bulk_datum":
        return Document("datum_page", _datum_page(doc), task_id=task_id)
    return Document(name, doc, task_id=task_id)


def _datum_page(doc: dict[str, Any]) -> dict[str, Any]:
    """What a bulk_datum has become: the same arguments, one column each."""
    ids, rows = doc["datum_ids"], doc["datum_kwarg_list"]
    if len(ids) != len(rows) or not all(isinstance(row, dict) for row in rows):
        raise DocumentError(f"a bulk_datum of {len(ids)} ids with {len(rows)} sets of arguments")
    keys = dict.fromkeys(key for row in rows for key in row)
    return {
        "resource": doc["resource"],
        "datum_id": ids,
        "datum_kwargs": {key: [row.get(key) for row in rows] for key in keys},
    }


def _check_stream_datum(doc: dict[str, Any]) -> None:
    indices, seq_nums = Span.read(doc["indices"], "indices"), Span.read(doc["seq_nums"], "seq_nums")
    # ophyd-async may announce frames before it knows their seq_nums (0, 0): those are the run bundler's to fill in
    if seq_nums.size not in (0, indices.size):
        raise DocumentError(f"a stream_datum of {indices.size} frames for {seq_nums.size} points")


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
