"""Messages from the beamline: Bluesky documents, worker events, progress events.

blueapi publishes three kinds of body on one destination, distinguished by their keys (recorded from blueapi 1.21):

    {"name": "start", "doc": {...}, "task_id": ...}              a Bluesky document
    {"state": "RUNNING", "task_status": {...}, "errors": ...}    a worker event
    {"task_id": ..., "statuses": {...}}                          a progress event: nine of ten messages of a step scan

Only what snakemap relies on is validated, so that new releases of other software change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import orjson

from snakemap.core.json_values import is_dict, is_list
from snakemap.errors import DocumentError

__all__ = [
    "DERIVED",
    "SETTLED",
    "WORKER",
    "Document",
    "Entry",
    "Message",
    "Span",
    "WorkerEvent",
    "decode",
    "envelope",
    "parents",
    "progress_of",
    "shortened",
    "to_json_line",
]

BODY_BYTES_MAX = 16 * 1024 * 1024


BRACKETS_MAX = 200
"""A body with no more brackets than this cannot be nested deeper than JSON can be written again."""


SEQ_NUM_LIMIT = 2**53


PROGRESS_MAX = 6
"""Devices in one progress report."""


DERIVED = "snakemap"
"""Name of the stream of derived documents, beside the detector's ``primary``."""


WORKER = "worker"
"""Name of a worker event in the store."""


SETTLED = "settled"
"""Name of the derived note that an ended run is filled from its files as far as possible."""


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
"""All documents, with the fields that snakemap requires."""


@dataclass(frozen=True, slots=True)
class Document:
    """One Bluesky document as received.

    Attributes:
        name: which document, like ``"stream_datum"``.
        doc: its body, unchanged.
        run: uid of its run; empty until :class:`CausalOrder` sets it.
        task_id: blueapi's task, like ``"d4d2336f-..."``; None in recordings from before blueapi 0.14.
    """

    name: str
    doc: dict[str, Any]
    run: str = ""
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """The state of blueapi's worker and its task.

    Attributes:
        state: ``"IDLE"``, ``"RUNNING"``, ``"PAUSED"``, ``"ABORTING"`` and so on.
        task_id: its task, or None.
        complete: the task has ended. Also true, wrongly, while paused.
        failed: the task has failed. Also true, wrongly, while paused.
        errors: messages, oldest first.
        warnings: messages, oldest first.
        body: the event as received.
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
        """Parse the event from its JSON body.

        Raises:
            DocumentError: if the state is not text or the task's status is not an object.
        """
        status: object = body.get("task_status") or {}
        if not isinstance(body.get("state"), str) or not is_dict(status):
            raise DocumentError("a worker event whose state is not text or whose task_status is not an object")
        errors: object = body.get("errors") or []
        warnings: object = body.get("warnings") or []
        if not is_list(errors) or not is_list(warnings):
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
    """A message in the store.

    Attributes:
        cursor: its id in the stream, like ``"1795461238076-0"``: milliseconds since 1970, and a number.
        name: the document's name, :data:`WORKER` or :data:`SETTLED`.
        run: uid of its run; empty for a worker event.
        task_id: blueapi's task, or None.
        doc: the body of the document or event, unchanged.
    """

    cursor: str
    name: str
    run: str
    task_id: str | None
    doc: dict[str, Any]

    @property
    def json_line(self) -> bytes:
        """The entry as one line of JSON, without newline."""
        return to_json_line(self.cursor, self.name, self.run, self.doc)

    @property
    def document(self) -> Document:
        """The appended document; a worker event is a document named :data:`WORKER`."""
        return Document(self.name, self.doc, run=self.run, task_id=self.task_id)


def decode(body: bytes | str) -> Message | None:
    """Decode the body of a broker's message.

    Args:
        body: UTF-8 JSON, at most 16 MiB and 254 levels deep.

    Returns:
        A document, a worker event, or None for a progress event.

    Raises:
        DocumentError: if it is none of these, with the reason; the caller counts it and goes on.

    >>> decode('{"task_id": "t", "statuses": {}}') is None
    True
    >>> decode('{"name": "stop", "doc": {"run_start": "r", "exit_status": "success"}, "task_id": "t"}').name
    'stop'
    """
    if len(body) > BODY_BYTES_MAX:
        raise DocumentError(f"a message of {len(body):,} bytes; at most {BODY_BYTES_MAX:,} are read")
    message = _loads(body)
    if not is_dict(message):
        raise DocumentError(f"JSON, but a {type(message).__name__} where an object was expected")
    if "statuses" in message:
        return None
    if "state" in message:
        return WorkerEvent.from_body(message)
    if "name" not in message or "doc" not in message:
        raise DocumentError(f"an object that is no known event; its keys are {shortened(sorted(message))}")
    return _document(message["name"], message["doc"], _text_or_none(message.get("task_id")))


def progress_of(body: bytes | str) -> list[dict[str, Any]]:
    """Return name, unit and progress of each device in a progress event; invalid numbers are None.

    >>> event = {"statuses": {"u": {"display_name": "x", "initial": 0, "current": 1.5, "target": 3, "unit": "mm"}}}
    >>> progress_of(orjson.dumps(event))
    [{'name': 'x', 'unit': 'mm', 'initial': 0, 'current': 1.5, 'target': 3, 'percentage': None}]
    """
    message = _loads(body)
    statuses = message.get("statuses") if is_dict(message) else None
    devices = [one for one in statuses.values() if is_dict(one)] if is_dict(statuses) else []
    return [
        {
            "name": str(one.get("display_name") or "")[:60],
            "unit": str(one.get("unit") or "")[:20],
            **{key: _number_or_none(one.get(key)) for key in ("initial", "current", "target", "percentage")},
        }
        for one in devices[:PROGRESS_MAX]
    ]


def _number_or_none(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def envelope(name: str, doc: Mapping[str, Any], *, task_id: str | None) -> dict[str, Any]:
    """Return a document in blueapi's envelope (its ``DataEvent``)."""
    return {"name": name, "doc": dict(doc), "task_id": task_id}


def parents(name: str, doc: Mapping[str, Any]) -> list[str]:
    """Return the uids of the documents that must come before this one; the first known one gives the run.

    >>> parents("stream_datum", {"descriptor": "d", "stream_resource": "s"})
    ['d', 's']
    """
    keys = ("run_start", "descriptor", "stream_resource", "resource")
    found = [doc[key] for key in keys if isinstance(doc.get(key), str)]
    if name == "descriptor" and doc.get("name") == DERIVED:
        found += _source_of(doc)
    return found


def _source_of(doc: Mapping[str, Any]) -> list[str]:
    """Return the uid of the detector's descriptor that a derived one refers to, if any."""
    try:
        source = doc["configuration"][DERIVED]["data"]["source"]
    except (KeyError, TypeError):
        return []
    return [source] if isinstance(source, str) and source else []


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
        """Parse ``{"start": 0, "stop": 5}``.

        Raises:
            DocumentError: if a bound is missing, not whole, negative, or the range runs backwards.
        """
        start, stop = value.get("start"), value.get("stop")
        if not is_whole(start) or not is_whole(stop) or not 0 <= start <= stop:
            raise DocumentError(f"{what} {shortened(dict(value))} is not a range from start to stop")
        return cls(start, stop)


def to_json_line(cursor: str, name: str, run: str, doc: Mapping[str, Any] | bytes) -> bytes:
    """Return an entry as one line of JSON, without newline; stored text that is no JSON becomes a string.

    >>> to_json_line("1-0", "stop", "r", b'{"exit_status":"success"}')
    b'{"cursor":"1-0","name":"stop","run":"r","doc":{"exit_status":"success"}}'
    """
    value: Any = doc
    if isinstance(doc, bytes):
        try:
            orjson.loads(doc)
            value = orjson.Fragment(doc.replace(b"\n", b" "))
        except orjson.JSONDecodeError:
            value = doc.decode("utf-8", "replace")
    return orjson.dumps({"cursor": cursor, "name": name, "run": run, "doc": value})


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
        raise DocumentError(f"no document is called {shortened(name)}")
    if not is_dict(doc):
        raise DocumentError(f"a {name} whose body is a {type(doc).__name__}")
    for key, kind in REQUIRED[name].items():
        if not isinstance(doc.get(key), kind) or isinstance(doc.get(key), bool) or doc.get(key) == "":
            raise DocumentError(f"a {name} without a usable {key!r}: {shortened(doc.get(key))}")
    if name == "stream_datum":
        _check_stream_datum(doc)
    if name == "event_page" and not all(is_whole(number) and number < SEQ_NUM_LIMIT for number in doc["seq_num"]):
        raise DocumentError("an event_page whose seq_num are not whole numbers within reason")
    if name == "bulk_datum":
        return Document("datum_page", _datum_page(doc), task_id=task_id)
    return Document(name, doc, task_id=task_id)


def _datum_page(doc: dict[str, Any]) -> dict[str, Any]:
    """Return a bulk_datum as datum_page: the same arguments, one column each."""
    ids, rows = doc["datum_ids"], doc["datum_kwarg_list"]
    if len(ids) != len(rows) or not all(is_dict(row) for row in rows):
        raise DocumentError(f"a bulk_datum of {len(ids)} ids with {len(rows)} sets of arguments")
    keys = dict.fromkeys(key for row in rows for key in row)
    return {
        "resource": doc["resource"],
        "datum_id": ids,
        "datum_kwargs": {key: [row.get(key) for row in rows] for key in keys},
    }


def _check_stream_datum(doc: dict[str, Any]) -> None:
    indices, seq_nums = Span.read(doc["indices"], "indices"), Span.read(doc["seq_nums"], "seq_nums")
    # ophyd-async may announce frames with unknown seq_nums (0, 0), which the run bundler fills in
    if seq_nums.size not in (0, indices.size):
        raise DocumentError(f"a stream_datum of {indices.size} frames for {seq_nums.size} points")


def is_whole(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def shortened(value: Any) -> str:
    """Return the representation of a value, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
