"""Bodies that a broker may deliver and nobody should: each is to be refused with a DocumentError, and nothing else."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["ENVELOPES", "HOSTILE_BODIES", "NOT_JSON", "STRANGE_VALUES"]

NOT_JSON: dict[str, bytes | str] = {
    "empty": b"",
    "blank": b"  \n ",
    "text": b"hello",
    "half": b'{"name": "start", "doc": {"uid": "a", "ti',
    "two values": b'{"statuses": {}} {"statuses": {}}',
    "trailing comma": b'{"statuses": {},}',
    "single quotes": b"{'statuses': {}}",
    "NaN": b'{"name": "start", "doc": {"uid": "a", "time": NaN}}',
    "Infinity": b'{"name": "start", "doc": {"uid": "a", "time": Infinity}}',
    "a number beyond all doubles": b'{"name": "start", "doc": {"uid": "a", "time": 1e999}}',
    "not UTF-8": b'{"name": "start", "doc": {"uid": "\xff\xfe", "time": 1}}',
    "UTF-16": '{"statuses": {}}'.encode("utf-16"),
    "half a surrogate pair, escaped": b'{"name": "start", "doc": {"uid": "\\ud800", "time": 1}}',
    "half a surrogate pair, in text": '{"name": "start", "doc": {"uid": "\ud800", "time": 1}}',
    "a raw NUL": b'{"name": "start", "doc": {"uid": "\x00", "time": 1}}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "HDF5": b"\x89HDF\r\n\x1a\n\x00\x00",
    "a pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "lists 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 5,000 deep": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
}
"""What is not JSON, or not JSON for this reader."""

NOT_OURS: dict[str, Any] = {
    "a list": [],
    "a number": 1,
    "text": "start",
    "null": None,
    "true": True,
    "an empty object": {},
    "a document without a name": {"doc": {"uid": "a", "time": 1}},
    "a document without a body": {"name": "start"},
    "somebody else's event": {"status": "STARTED", "filePath": "/dls/x.nxs", "swmrStatus": "ENABLED"},
    "a thousand keys": {f"key {number}": number for number in range(1000)},
}

BAD_WORKER_EVENTS: dict[str, Any] = {
    "a state that is a number": {"state": 1},
    "a state that is null": {"state": None},
    "a state that is a list": {"state": ["IDLE"]},
    "a task_status that is text": {"state": "IDLE", "task_status": "done"},
    "a task_status that is a list": {"state": "IDLE", "task_status": [1]},
    "errors that are a number": {"state": "IDLE", "errors": 5},
    "errors that are text": {"state": "IDLE", "errors": "it broke"},
    "errors that are true": {"state": "IDLE", "errors": True},
    "warnings that are an object": {"state": "IDLE", "warnings": {"a": 1}},
}

BAD_DOCUMENTS: dict[str, tuple[Any, Any]] = {
    "an unknown name": ("begin", {"uid": "a", "time": 1}),
    "a name that is a number": (1, {}),
    "a name that is null": (None, {}),
    "a name that is a list": (["start"], {}),
    "a name that is an object": ({"start": 1}, {}),
    "a name in capitals": ("START", {"uid": "a", "time": 1}),
    "our own note": ("settled", {"run_start": "a"}),
    "our own name for worker events": ("worker", {"state": "IDLE"}),
    "a body that is a list": ("start", []),
    "a body that is text": ("start", "uid"),
    "a body that is null": ("stop", None),
    "a start of nothing": ("start", {}),
    "a start without time": ("start", {"uid": "a"}),
    "a start at a time that is text": ("start", {"uid": "a", "time": "now"}),
    "a start at a time that is true": ("start", {"uid": "a", "time": True}),
    "a start at a time that is null": ("start", {"uid": "a", "time": None}),
    "a start whose uid is a number": ("start", {"uid": 7, "time": 1}),
    "a start whose uid is empty": ("start", {"uid": "", "time": 1}),
    "a start whose uid is a deep list": ("start", {"uid": json.loads("[" * 200 + "]" * 200), "time": 1}),
    "a descriptor without a run": ("descriptor", {"uid": "d", "data_keys": {}}),
    "a descriptor whose data_keys are a list": ("descriptor", {"uid": "d", "run_start": "a", "data_keys": []}),
    "an event whose seq_num is true": ("event", {"descriptor": "d", "seq_num": True}),
    "an event whose seq_num is a fraction": ("event", {"descriptor": "d", "seq_num": 1.5}),
    "an event whose seq_num is beyond all integers": ("event", {"descriptor": "d", "seq_num": 2**70}),
    "an event_page whose seq_num is one number": ("event_page", {"descriptor": "d", "seq_num": 1}),
    "an event_page with a seq_num that is true": ("event_page", {"descriptor": "d", "seq_num": [1, True]}),
    "an event_page with a seq_num that is null": ("event_page", {"descriptor": "d", "seq_num": [None]}),
    "an event_page with a seq_num that is a list": ("event_page", {"descriptor": "d", "seq_num": [[1]]}),
    "an event_page with a huge seq_num": ("event_page", {"descriptor": "d", "seq_num": [2**64 - 1]}),
    "a stream_resource without parameters": ("stream_resource", {"uid": "s", "data_key": "k", "uri": "file:///x"}),
    "a stream_resource whose uri is null": (
        "stream_resource",
        {"uid": "s", "data_key": "k", "uri": None, "parameters": {}},
    ),
    "a stop without a status": ("stop", {"run_start": "a"}),
    "a stop whose status is a list": ("stop", {"run_start": "a", "exit_status": ["success"]}),
    "a datum_page whose ids are text": ("datum_page", {"datum_id": "x", "resource": "r"}),
}

BAD_RANGES: dict[str, Any] = {
    "empty": {},
    "without a stop": {"start": 0},
    "backwards": {"start": 5, "stop": 4},
    "from below zero": {"start": -1, "stop": 0},
    "of fractions": {"start": 0.0, "stop": 1.0},
    "of text": {"start": "0", "stop": "1"},
    "of booleans": {"start": False, "stop": True},
    "of nulls": {"start": None, "stop": None},
    "of lists": {"start": [0], "stop": [1]},
    "beyond all integers": {"start": 0, "stop": 2**80},
    "of another length": {"start": 0, "stop": 2},
    "a list": [0, 1],
    "null": None,
}


def _stream_datum(**changed: Any) -> tuple[str, dict[str, Any]]:
    good = {"start": 0, "stop": 1}
    return "stream_datum", {"descriptor": "d", "stream_resource": "s", "indices": good, "seq_nums": good, **changed}


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


ENVELOPES: dict[str, bytes] = {
    **{f"JSON: {why}": _encoded(body) for why, body in NOT_OURS.items()},
    **{f"worker event: {why}": _encoded(body) for why, body in BAD_WORKER_EVENTS.items()},
    **{why: _encoded({"name": name, "doc": doc, "task_id": "t"}) for why, (name, doc) in BAD_DOCUMENTS.items()},
    **{
        f"stream_datum: {field} {why}": _encoded(dict(zip(("name", "doc"), _stream_datum(**{field: bad}), strict=True)))
        for field in ("indices", "seq_nums")
        for why, bad in BAD_RANGES.items()
    },
    "a start nested 300 deep": b'{"name":"start","doc":{"uid":"a","time":1,"x":' + b"[" * 300 + b"]" * 300 + b"}}",
    "a start of 17 MB": b'{"name":"start","doc":{"uid":"a","time":1,"x":"' + b"x" * 17_000_000 + b'"}}',
}
"""JSON that is no message of ours, or a message that lacks what snakemap cannot do without."""

HOSTILE_BODIES: dict[str, bytes | str] = {**NOT_JSON, **ENVELOPES}
"""All of them, by what is wrong."""

STRANGE_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    "",
    "x",
    "\x00",
    "é\u202e\U0001f40d",
    "<img src=x onerror=alert(1)>",
    "../../etc/passwd",
    "1" * 5000,
    "file://[",
    "file://localhost/%00%ff",
    [],
    [None],
    [[]],
    [[[]]],
    ["x", 1, None],
    [1, 2],
    [1, [2, 3]],
    [2**64 - 1],
    [1e308, -1e308],
    {},
    {"": None},
    {"start": 2**64 - 2, "stop": 2**64 - 1},
    {"start": 0, "stop": 0},
    {"start": 1, "stop": 10_000_001},
    json.loads("[" * 100 + "]" * 100),
    json.loads('{"a":' * 100 + "1" + "}" * 100),
]
"""Values, all of them JSON, that may stand in any field that snakemap does not check when it decodes."""
