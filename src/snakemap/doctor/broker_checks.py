"""Checks of the document source: connection; destination and queue of the broker."""

from __future__ import annotations

from collections.abc import Iterator

from snakemap.doctor.finding import CheckContext, Found, Note, Wrong
from snakemap.errors import BrokerUnavailable, SnakemapError
from snakemap.transport.sources import probe_source, source_name
from snakemap.transport.stomp_source import probe

__all__ = ["broker", "destination", "source", "subscription"]

NONE = "none is set; documents come from other writers to Redis"
NAME_BYTES_MAX = 255
BROADCAST = ("/topic/", "/exchange/", "/amq/")


def source(context: CheckContext) -> Iterator[Found]:
    """Yield whether documents can be received from the sources that are set instead of a broker."""
    settings = context.settings
    if not settings.source_url:
        yield "the broker" if settings.stomp_url else NONE
        return
    for url in settings.documents_urls:
        name = source_name(url)
        try:
            probe_source(url, settings)
        except (SnakemapError, OSError) as trouble:
            reason = trouble.strerror if isinstance(trouble, OSError) and trouble.strerror else trouble
            yield Wrong(f"{name}: {reason}; correct it, start what writes to it, or unset it for the broker")
        else:
            yield f"documents come from {name}"
    if settings.stomp_url:
        yield Note("SNAKEMAP_STOMP_URL is set, too, and not used; unset one of them")


def broker(context: CheckContext) -> Iterator[Found]:
    """Yield whether the broker accepts the connection."""
    url = context.settings.stomp_url
    if not url:
        yield NONE
        return
    try:
        probe(url)
    except BrokerUnavailable as trouble:
        yield Wrong(
            f"{trouble}; is it up, has it STOMP (rabbitmq-plugins enable rabbitmq_stomp), and are user, password and "
            "virtual host right, as in stomp://user:password@host:61613/vhost?"
        )
    else:
        yield "accepts the connection"


def destination(context: CheckContext) -> Iterator[Found]:
    """Yield whether the broker allows a subscription to the destination."""
    url, place = context.settings.stomp_url, context.settings.stomp_destination
    if not place.startswith(BROADCAST):
        yield Wrong(
            f"{place!r} delivers each message to one listener only; blueapi publishes to /topic/NAME, set it to that"
        )
    elif not url:
        yield f"{place}, once there is a broker"
    else:
        yield from _listened(url, place)


def _listened(url: str, place: str) -> Iterator[Found]:
    try:
        probe(url)
    except BrokerUnavailable:
        yield Note("unknown while the broker refuses the connection")
        return
    try:
        probe(url, place)
    except BrokerUnavailable as trouble:
        yield Wrong(f"{trouble}; set it to where blueapi publishes, like /topic/public.worker.event")
    else:
        yield f"documents come from {place}"


def subscription(context: CheckContext) -> Iterator[Found]:
    """Yield whether the name of the queue is valid."""
    name = context.settings.stomp_subscription
    if not name:
        yield "made from this host and the Redis address"
    elif name.startswith("amq.") or len(name.encode()) > NAME_BYTES_MAX or not name.isprintable():
        yield Wrong(f"{name[:60]!r} cannot name a queue; set it to a short name that does not begin with amq.")
    elif not context.settings.stomp_url:
        yield Note(f"{name}, but there is no broker; set SNAKEMAP_STOMP_URL, or unset it")
    else:
        yield f"{name}; no other worker may have the same"
