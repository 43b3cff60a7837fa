"""A document as text that a person can read: indented, and bounded however large the document is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

__all__ = ["excerpt"]

TEXT_MAX = 1000
"""Characters of one text."""

ITEMS_MAX, KEYS_MAX = 24, 200
TAIL = 4
"""Items of a list that are shown at its end, when not all are."""

LINES_MAX, CHARACTERS_MAX = 1500, 200_000
DEPTH_MAX = 24
WIDTH = 100


def excerpt(doc: bytes) -> tuple[str, bool]:
    """A document as text, and whether that is all of it.

    >>> print(excerpt(b'{"uid":"a","seq_nums":{"start":1,"stop":2},"data":[1,2.5,null]}')[0])
    {
      "uid": "a",
      "seq_nums": {"start": 1, "stop": 2},
      "data": [1, 2.5, null]
    }
    >>> excerpt(b"no JSON")
    ('no JSON', True)
    """
    try:
        value = orjson.loads(doc)
    except orjson.JSONDecodeError:
        text = doc[: 4 * TEXT_MAX].decode("utf-8", "replace")
        return text, len(doc) <= 4 * TEXT_MAX
    told = _Told()
    lines: list[str] = []
    size = 0
    for line in told.lines(value, "", 0):
        if len(lines) >= LINES_MAX or size > CHARACTERS_MAX:
            lines.append("…")
            told.whole = False
            break
        lines.append(line)
        size += len(line)
    return "\n".join(lines), told.whole


class _Told:
    """What is told of one document.

    Attributes:
        whole: whether nothing has been left out.
    """

    def __init__(self) -> None:
        self.whole = True

    def lines(self, value: Any, key: str, depth: int) -> Iterator[str]:
        """A value in lines, each with its indentation; they are made only as far as somebody takes them."""
        indent = "  " * depth
        short = self._short(value, WIDTH - len(indent) - len(key))
        if short is not None or depth >= DEPTH_MAX:
            if short is None:
                self.whole, short = False, "…"
            yield f"{indent}{key}{short}"
            return
        opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
        yield f"{indent}{key}{opening}"
        yield from self._members(value, depth + 1)
        yield f"{indent}{closing}"

    def _members(self, value: Any, depth: int) -> Iterator[str]:
        if isinstance(value, dict):
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
        """A value in one line, when it is simple and fits."""
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, (dict, list)):
            return orjson.dumps(value).decode()
        if not value:
            return "{}" if isinstance(value, dict) else "[]"
        if len(value) > ITEMS_MAX:
            return self._numbers(value) if isinstance(value, list) else None
        members = value.values() if isinstance(value, dict) else value
        if any(isinstance(one, (dict, list)) or (isinstance(one, str) and len(one) > width) for one in members):
            return None
        if isinstance(value, dict):
            text = "{" + ", ".join(f"{self._text(key)}: {self._short(one, width)}" for key, one in value.items()) + "}"
        else:
            text = f"[{', '.join(str(self._short(one, width)) for one in value)}]"
        return text if len(text) <= width else None

    def _numbers(self, value: list[Any]) -> str | None:
        """A long list of numbers in one line: its beginning and its end."""
        if not all(one is None or isinstance(one, (int, float)) for one in value):
            return None
        told = [orjson.dumps(one).decode() for one in (*value[: ITEMS_MAX // 2], *value[-TAIL:])]
        left = len(value) - len(told)
        self.whole = False
        return f"[{', '.join(told[:-TAIL])}, … {left:,} more …, {', '.join(told[-TAIL:])}]"

    def _text(self, text: str) -> str:
        if len(text) > TEXT_MAX:
            self.whole = False
            text = f"{text[:TEXT_MAX]}… {len(text) - TEXT_MAX:,} more characters …"
        return orjson.dumps(text).decode()
