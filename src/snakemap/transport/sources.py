"""Transports of documents, by the scheme of their address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from snakemap.errors import SettingsError
from snakemap.settings import Settings
from snakemap.transport.document_source import DocumentSource
from snakemap.transport.json_lines import LinesPublisher, LinesSource, probe_lines
from snakemap.transport.merged_source import MergedSource
from snakemap.transport.stomp_publisher import StompPublisher
from snakemap.transport.stomp_source import StompSource, probe

__all__ = ["SOURCES", "DocumentPublisher", "Transport", "open_publisher", "open_source", "probe_source", "source_name"]


class DocumentPublisher(Protocol):
    """Sends messages to where the source of the same transport receives them."""

    def send(self, body: dict[str, Any] | bytes, *, correlation_id: str | None = None, confirm: bool = False) -> None:
        """Send one message; with ``confirm``, return when it cannot be lost."""
        ...

    def publish(self, body: dict[str, Any], correlation_id: str | None = None) -> None:
        """Send one message, as the simulator calls it."""
        ...


@dataclass(frozen=True, slots=True)
class Transport:
    """One kind of source. Each function takes the address and the settings.

    Attributes:
        source: makes the source, without IO.
        publisher: makes a publisher to it, for replay and simulation.
        probe: connects, disconnects and leaves nothing behind; raises a SnakemapError or OSError with the reason.
    """

    source: Callable[[str, Settings], DocumentSource]
    publisher: Callable[[str, Settings], AbstractContextManager[DocumentPublisher]]
    probe: Callable[[str, Settings], None]


STOMP = Transport(
    source=lambda url, settings: StompSource(
        url, destination=settings.stomp_destination, subscription=settings.stomp_subscription
    ),
    publisher=lambda url, settings: StompPublisher(url, destination=settings.stomp_destination),
    probe=lambda url, _settings: probe(url),
)
LINES = Transport(
    source=lambda url, settings: LinesSource(url, state_dir=settings.state_dir),
    publisher=lambda url, _settings: LinesPublisher(url),
    probe=lambda url, _settings: probe_lines(url),
)

SOURCES = {"stomp": STOMP, "stomp+ssl": STOMP, "tcp": STOMP, "lines": LINES}
"""A new transport is one entry."""


def open_source(settings: Settings) -> DocumentSource | None:
    """Return the document source of the settings, not connected, several as one; None when there is none.

    Raises:
        SettingsError: when its address is invalid.
    """
    sources = {source_name(url): _transport(url).source(url, settings) for url in settings.documents_urls}
    return MergedSource(sources) if len(sources) > 1 else next(iter(sources.values()), None)


def open_publisher(settings: Settings) -> AbstractContextManager[DocumentPublisher] | None:
    """Return a publisher to the document source of the settings, the first of several; None when there is none.

    Raises:
        SettingsError: when its address is invalid.
    """
    publishers = [(url, _transport(url)) for url in settings.documents_urls]
    return next((transport.publisher(url, settings) for url, transport in publishers), None)


def probe_source(url: str, settings: Settings) -> None:
    """Connect to a document source of the settings, and disconnect.

    Raises:
        SnakemapError: when it cannot be reached, or its address is invalid.
        OSError: when its file cannot be read.
    """
    _transport(url).probe(url, settings)


def source_name(url: str) -> str:
    """Return the address of a source without user and password.

    >>> source_name("stomp://me:secret@host:61613/lab"), source_name("lines:///data/documents.jsonl")
    ('stomp://host:61613/lab', 'lines:///data/documents.jsonl')
    """
    scheme, colon, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{colon}{place.rpartition('@')[2]}{slash}{path}"


def _transport(url: str) -> Transport:
    scheme = url.partition(":")[0].lower()
    if scheme not in SOURCES:
        raise SettingsError(f"SNAKEMAP_SOURCE_URL: it does not begin with one of {', '.join(SOURCES)}, and ://")
    return SOURCES[scheme]
