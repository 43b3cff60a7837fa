"""A document as indented text of bounded length, and as one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from snakemap.core.documents import SETTLED, WORKER
from snakemap.core.json_values import is_array, is_dict, is_list

__all__ = ["SUMMARY_MAX", "pretty_text", "summary_line"]

TEXT_MAX = 1000
"""Characters of one text."""


ITEMS_MAX, KEYS_MAX = 24, 200


TAIL = 4
"""Items shown at the end of a shortened list."""


LINES_MAX, CHARACTERS_MAX = 1500, 200_000


DEPTH_MAX = 24


WIDTH = 100


def pretty_text(doc: bytes) -> tuple[str, bool]:
    """Return a document as indented text, and whether it is complete.

    >>> print(pretty_text(b'{"uid":"a","seq_nums":{"start":1,"stop":2},"data":[1,2.5,null]}')[0])
    {
      "uid": "a", "seq_nums": {"start": 1, "stop": 2}, "data": [1, 2.5, null]
    }
    >>> pretty_text(b"no JSON")
    ('no JSON', True)
    """
    try:
        value = orjson.loads(doc)
    except orjson.JSONDecodeError:
        text = doc[: 4 * TEXT_MAX].decode("utf-8", "replace")
        return text, len(doc) <= 4 * TEXT_MAX
    printer = _PrettyPrinter()
    lines: list[str] = []
    size = 0
    for line in printer.lines(value, "", 0):
        if len(lines) >= LINES_MAX or size > CHARACTERS_MAX:
            lines.append("…")
            printer.whole = False
            break
        lines.append(line)
        size += len(line)
    return "\n".join(lines), printer.whole


class _PrettyPrinter:
    """The lines of one document.

    Attributes:
        whole: whether nothing is left out.
    """

    def __init__(self) -> None:
        self.whole = True

    def lines(self, value: Any, key: str, depth: int) -> Iterator[str]:
        """Yield a value in lines, each with its indentation, made lazily."""
        indent = "  " * depth
        short = self._short(value, WIDTH - len(indent) - len(key))
        if short is not None or depth >= DEPTH_MAX:
            if short is None:
                self.whole, short = False, "…"
            yield f"{indent}{key}{short}"
            return
        opening, closing = ("{", "}") if is_dict(value) else ("[", "]")
        yield f"{indent}{key}{opening}"
        yield from self._members(value, depth + 1)
        yield f"{indent}{closing}"

    def _members(self, value: Any, depth: int) -> Iterator[str]:
        if is_dict(value):
            members = [(f"{self._text(key)}: ", one) for key, one in list(value.items())[:KEYS_MAX]]
            left, tail = len(value) - len(members), []
        elif len(value) > ITEMS_MAX + TAIL:
            members, tail = [("", one) for one in value[:ITEMS_MAX]], [("", one) for one in value[-TAIL:]]
            left = len(value) - ITEMS_MAX - TAIL
        else:
            members, left, tail = [("", one) for one in value], 0, []
        for number, (key, one) in enumerate(members):
            yield from self._with_comma(self.lines(one, key, depth), last=number == len(members) - 1 and not left)
        if left:
            self.whole = False
            yield f"{'  ' * depth}… {left:,} more …"
        for number, (key, one) in enumerate(tail):
            yield from self._with_comma(self.lines(one, key, depth), last=number == len(tail) - 1)

    @staticmethod
    def _with_comma(lines: Iterator[str], *, last: bool) -> Iterator[str]:
        line = next(lines)
        for following in lines:
            yield line
            line = following
        yield line if last else f"{line},"

    def _short(self, value: Any, width: int) -> str | None:
        """Return a value in one line if it is simple and fits, else None."""
        if isinstance(value, str):
            return self._text(value)
        if not (is_dict(value) or is_list(value)):
            return orjson.dumps(value).decode()
        if not value:
            return "{}" if is_dict(value) else "[]"
        if len(value) > ITEMS_MAX:
            return self._numbers(value) if is_list(value) else None
        members = value.values() if is_dict(value) else value
        if any(isinstance(one, (dict, list)) or (isinstance(one, str) and len(one) > width) for one in members):
            return None
        if is_dict(value):
            text = "{" + ", ".join(f"{self._text(key)}: {self._short(one, width)}" for key, one in value.items()) + "}"
        else:
            text = f"[{', '.join(str(self._short(one, width)) for one in value)}]"
        return text if len(text) <= width else None

    def _numbers(self, value: list[Any]) -> str | None:
        """Return a long list of numbers in one line: its beginning and its end."""
        if not all(one is None or isinstance(one, (int, float)) for one in value):
            return None
        shown = [orjson.dumps(one).decode() for one in (*value[: ITEMS_MAX // 2], *value[-TAIL:])]
        left = len(value) - len(shown)
        self.whole = False
        return f"[{', '.join(shown[:-TAIL])}, … {left:,} more …, {', '.join(shown[-TAIL:])}]"

    def _text(self, text: str) -> str:
        if len(text) > TEXT_MAX:
            self.whole = False
            text = f"{text[:TEXT_MAX]}… {len(text) - TEXT_MAX:,} more characters …"
        return orjson.dumps(text).decode()


SUMMARY_MAX = 160
"""Characters of a summary line."""


def summary_line(name: str, doc: Mapping[str, Any]) -> str:
    """Return a document in one line of at most :data:`SUMMARY_MAX` characters; ``?`` replaces unprintable ones.

    >>> summary_line("event", {"seq_num": 7}), summary_line("stop", {"exit_status": "abort", "reason": "beam\\nlost"})
    ('seq_num 7', 'abort beam?lost')
    >>> summary_line("stream_datum", {"seq_nums": {"start": 1, "stop": 5}, "indices": {"start": 0, "stop": 4}})
    'seq_nums 1..5'
    """
    text = _words(name, doc)[: 4 * SUMMARY_MAX].strip()
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= SUMMARY_MAX else f"{text[: SUMMARY_MAX - 1]}…"


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
            return f"{len(ids)} data" if is_list(ids) else ""
        case "event":
            return f"seq_num {_text(doc.get('seq_num'))}"
        case "event_page":
            seq_nums = doc.get("seq_num")
            return f"seq_num {_ends(seq_nums)}" if is_list(seq_nums) else ""
        case "stream_datum":
            seq_nums = doc.get("seq_nums")
            span = seq_nums if is_dict(seq_nums) else {}
            return f"seq_nums {_text(span.get('start'))}..{_text(span.get('stop'))}"
        case "stop":
            return f"{_text(doc.get('exit_status'))} {_text(doc.get('reason'))}"
        case _:
            return ""


def _ends(values: list[Any]) -> str:
    return f"{_text(values[0])}..{_text(values[-1])}" if values else ""


def _text(value: Any) -> str:
    """Return a value as text, shortened."""
    if value is None or value == "":
        return ""
    if is_array(value):
        return str(list(value[:10]))[: 2 * SUMMARY_MAX]
    text = f"{len(value)} keys" if is_dict(value) else str(value)
    return text[: 2 * SUMMARY_MAX]
