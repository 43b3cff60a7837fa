"""Log lines with one event each: control characters are escaped."""

from __future__ import annotations

import logging
import re
from typing import Any

__all__ = ["Formatter", "Record", "escaped", "install"]

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters except the tab, line separators, and controls of the text direction."""

INDENT = "    "


def escaped(text: str) -> str:
    r"""Return a text as one line.

    >>> print(escaped("a.h5\n2026-01-01 INFO all is well\x1b[2K"))
    a.h5\n2026-01-01 INFO all is well\x1b[2K
    """
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


class Record(logging.LogRecord):
    """A log record whose message is one line, for every handler and every format."""

    def getMessage(self) -> str:  # noqa: N802
        """Return the message with its arguments, without control characters."""
        return escaped(super().getMessage())


class Formatter(logging.Formatter):
    """Formatter that indents tracebacks, so that no line looks like the begin of another event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event, with the text of its exception made here, not by an earlier handler."""
        if record.exc_info:
            record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return a traceback, each of its lines indented and without control characters."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Return a stack in the same way."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(INDENT + escaped(line) for line in text.split("\n"))


def install() -> None:
    """Make every log line of this process one event; handlers of the root logger keep their formats."""
    logging.setLogRecordFactory(Record)
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        if type(formatter) is logging.Formatter:
            handler.setFormatter(Formatter(formatter._fmt, formatter.datefmt))
