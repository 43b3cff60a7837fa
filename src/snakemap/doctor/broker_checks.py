"""Checks of the broker: whether it lets us in, and whether what we listen to is there."""

from __future__ import annotations

from collections.abc import Iterator

from snakemap.doctor.finding import CheckContext, Found, Note, Wrong
from snakemap.errors import BrokerUnavailable
from snakemap.transport.stomp_source import probe

__all__ = ["broker", "destination", "subscription"]

NONE = "none is set; documents come from whoever writes to the store"
NAME_BYTES_MAX = 255
BROADCAST = ("/topic/", "/exchange/", "/amq/")


def broker(scene: CheckContext) -> Iterator[Found]:
    """Yield whether we are let in."""
    url = scene.settings.stomp_url
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
        yield "lets us in"


def destination(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the broker lets us listen where blueapi publishes."""
    url, place = scene.settings.stomp_url, scene.settings.stomp_destination
    if not place.startswith(BROADCAST):
        yield Wrong(
            f"{place!r} gives each message to one listener only; blueapi publishes to /topic/NAME, set it to that"
        )
    elif not url:
        yield f"{place}, once there is a broker"
    else:
        yield from _listened(url, place)


def _listened(url: str, place: str) -> Iterator[Found]:
    try:
        probe(url)
    except BrokerUnavailable:
        yield Note("cannot be told while the broker does not let us in")
        return
    try:
        probe(url, place)
    except BrokerUnavailable as trouble:
        yield Wrong(f"{trouble}; set it to where blueapi publishes, like /topic/public.worker.event")
    else:
        yield f"documents come from {place}"


def subscription(scene: CheckContext) -> Iterator[Found]:
    """Yield whether the name of our queue is one."""
    name = scene.settings.stomp_subscription
    if not name:
        yield "made from this host and the store"
    elif name.startswith("amq.") or len(name.encode()) > NAME_BYTES_MAX or not name.isprintable():
        yield Wrong(f"{name[:60]!r} cannot name a queue; set it to a short name that does not begin with amq.")
    elif not scene.settings.stomp_url:
        yield Note(f"{name}, but there is no broker; set SNAKEMAP_STOMP_URL, or unset it")
    else:
        yield f"{name}; no other worker may have the same"
