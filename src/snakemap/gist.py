"""What matters of an event, in a few words; for a terminal's line and for a row of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snakemap.documents import SETTLED, WORKER

__all__ = ["GIST_MAX", "gist"]

GIST_MAX = 160
"""Characters of a gist."""


def gist(name: str, doc: Mapping[str, Any]) -> str:
    """A few words, at most :data:`GIST_MAX` characters, with every character that cannot be printed as ``?``.

    >>> gist("event", {"seq_num": 7}), gist("stop", {"exit_status": "abort", "reason": "beam\\nlost"})
    ('seq_num 7', 'abort beam?lost')
    >>> gist("stream_datum", {"seq_nums": {"start": 1, "stop": 5}, "indices": {"start": 0, "stop": 4}})
    'seq_nums 1..5'
    """
    text = _words(name, doc)[: 4 * GIST_MAX].strip()
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= GIST_MAX else f"{text[: GIST_MAX - 1]}…"


def _words(name: str, doc: Mapping[str, Any]) -> str:
    match name:
        case _ if name == WORKER:
            return _text(doc.get("state"))
        case _ if name == SETTLED:
            return f"{_text(doc.get('points'))} points, {_text(doc.get('missing'))} missing"
        case "start":
            return f"{_text(doc.get('plan_name'))} {_text(doc.get('shape'))}"
        case "descriptor" | "resource" | "stream_resource":
            return _text(doc.get("name") or doc.get("data_key") or doc.get("spec"))
        case "datum":
            return _text(doc.get("datum_id"))
        case "datum_page":
            ids = doc.get("datum_id")
            return f"{len(ids)} data" if isinstance(ids, list) else ""
        case "event":
            return f"seq_num {_text(doc.get('seq_num'))}"
        case "event_page":
            seq_nums = doc.get("seq_num")
            return f"seq_num {_ends(seq_nums)}" if isinstance(seq_nums, list) else ""
        case "stream_datum":
            seq_nums = doc.get("seq_nums")
            told = seq_nums if isinstance(seq_nums, dict) else {}
            return f"seq_nums {_text(told.get('start'))}..{_text(told.get('stop'))}"
        case "stop":
            return f"{_text(doc.get('exit_status'))} {_text(doc.get('reason'))}"
        case _:
            return ""


def _ends(values: list[Any]) -> str:
    return f"{_text(values[0])}..{_text(values[-1])}" if values else ""


def _text(value: Any) -> str:
    """A value as text; of one that is long, as much as may be seen."""
    if value is None or value == "":
        return ""
    if isinstance(value, (list, tuple)):
        value = list(value[:10])
    elif isinstance(value, dict):
        value = f"{len(value)} keys"
    return str(value)[: 2 * GIST_MAX]
