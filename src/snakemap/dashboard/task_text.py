"""The error of a task as text: blueapi gives the text of a Python exception."""

from __future__ import annotations

import ast
import re

__all__ = ["failure_text"]

INTERRUPTED = "Your RunEngine is entering a paused state"
"""How the message of Bluesky's RunEngineInterrupted begins, for every scan that is stopped or aborted."""

ENDED = "stopped or aborted before its end"
KINDS = {
    "RunEngineInterrupted": ENDED,
    "RequestStop": ENDED,
    "RequestAbort": ENDED,
    "CancelledError": ENDED,
    "TimeoutError": "a device did not answer in time",
    "FailedStatus": "a device did not complete its operation",
}
EXCEPTION = re.compile(r"(?:[a-z_][\w.]*\.)?([A-Z]\w*)\((.*)\)", re.DOTALL)
STATUS = re.compile(
    r"<\w*Status\b(?:[^<]*?device: (?P<device>[^,<>]+))?.*?(?:errored|exception)[:=] ?(?P<cause>.+)>", re.DOTALL
)
ADDRESS = re.compile(r"<?(?:[\w.]+\.)?(\w+)(?: object)? at 0x[0-9a-fA-F]+>?")
WORDS_MAX = 400


def failure_text(message: str, kind: str = "") -> str:
    """Return what an exception says, without the notation of Python.

    Args:
        message: its text, which may be its repr, or the repr of the status of a device.
        kind: name of its class; empty when it is not known.

    >>> failure_text("TimeoutError('camera did not arm')"), failure_text("", "ConnectionRefusedError")
    ('camera did not arm', 'connection refused')
    >>> failure_text("<AsyncStatus, device: stage-x, task: <coroutine object move>, errored: TimeoutError()>")
    'stage-x: a device did not answer in time'
    """
    text = message.strip()
    if INTERRUPTED in text:
        return ENDED
    if status := STATUS.fullmatch(text):
        device, cause = status["device"], failure_text(status["cause"])
        return f"{device}: {cause}" if device else cause
    exception = EXCEPTION.fullmatch(text)
    if exception and (exception[1] in KINDS or exception[1].endswith(("Error", "Exception", "Failed", "Fault"))):
        return failure_text(_arguments(exception[2]), exception[1])
    if not text:
        return KINDS.get(kind) or _spaced(kind) or "blueapi gives no reason"
    plain = ADDRESS.sub(r"\1", _unquoted(text))
    return " ".join(plain.split())[:WORDS_MAX]


def _arguments(text: str) -> str:
    """Return the arguments of an exception, as they are written in its repr."""
    try:
        values = ast.literal_eval(f"({text},)") if text.strip() else ()
    except (ValueError, SyntaxError):
        return text
    return " ".join(str(value) for value in values)


def _unquoted(text: str) -> str:
    """Return a text without the quotes that are around all of it, as KeyError has it."""
    return text[1:-1] if len(text) > 2 and text[0] in "'\"" and text[0] == text[-1] else text


def _spaced(kind: str) -> str:
    """Return the name of a class of exceptions as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Error").removesuffix("Exception")).lower()
