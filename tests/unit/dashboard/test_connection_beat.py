"""The beat over connections without a server: who gets it, who does not, and which connections are closed."""

from __future__ import annotations

import asyncio
import json
import weakref
from typing import Any, cast

import pytest
from bokeh.document import Document
from tests.support.patience import patiently

from snakemap.dashboard import connection_beat
from snakemap.dashboard.connection_beat import BEAT, PING_EVERY, PINGS_UNANSWERED_MAX, ConnectionBeat


class Socket:
    """Counts what is sent; ``takes`` is clear while the browser takes nothing."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.began = 0
        self.closed = False
        self.latest_pong = -1
        self.takes = asyncio.Event()
        self.takes.set()

    async def send_message(self, message: Any) -> None:
        self.began += 1
        await self.takes.wait()
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True


class Connection:
    """``alive`` is a browser that answers pings."""

    def __init__(self, *, alive: bool = True) -> None:
        self._socket = Socket()
        self.alive = alive
        self.pings = 0

    def send_ping(self) -> None:
        self.pings += 1
        if self.alive:
            self._socket.latest_pong = self.pings


class Session:
    def __init__(self, *connections: Connection) -> None:
        self._subscribed_connections = set(connections)


class Context:
    def __init__(self, session: Session | None) -> None:
        self.session = session


class Page:
    """A document with a session, as far as the beat knows of it."""

    def __init__(self, *connections: Connection) -> None:
        self.document = Document()
        self.session = Session(*connections)
        self.context = Context(self.session)
        self.document._session_context = cast(Any, weakref.ref(self.context))

    async def follow(self, beat: ConnectionBeat) -> None:
        beat.follow(self.document)
        for callback in self.document.session_callbacks:
            await cast(Any, callback).callback()

    def destroy(self) -> None:
        for callback in self.document.session_destroyed_callbacks:
            callback(cast(Any, None))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_beat, "PERIOD_S", 0.002)


async def until(happens: Any) -> None:
    async with patiently(10):
        while not happens():
            await asyncio.sleep(0.001)


async def test_every_connection_of_every_page_gets_one_message_that_a_browser_knows() -> None:
    one, other, third = Connection(), Connection(), Connection()
    pages, beat = [Page(one, other), Page(third)], ConnectionBeat()
    for page in pages:
        await page.follow(beat)
    await until(lambda: all(len(connection._socket.sent) > 2 for connection in (one, other, third)))
    content = json.loads(one._socket.sent[0].content_json)
    assert content == {"events": [{"kind": "MessageSent", "msg_type": BEAT, "msg_data": None}]}
    assert len({id(message) for message in one._socket.sent + third._socket.sent}) == 1
    for page in pages:
        page.destroy()


async def test_it_rests_when_the_last_page_has_gone_and_begins_again_with_the_next() -> None:
    connection, beat = Connection(), ConnectionBeat()
    page = Page(connection)
    await page.follow(beat)
    await until(lambda: connection._socket.sent)
    page.destroy()
    assert beat.documents == 0
    await until(lambda: beat._timer is None)
    page = Page(later := Connection())
    await page.follow(beat)
    await until(lambda: later._socket.sent)
    page.destroy()


async def test_a_browser_that_takes_nothing_holds_up_nobody_and_gets_no_queue_of_beats() -> None:
    stuck, free = Connection(), Connection()
    stuck._socket.takes.clear()
    page, beat = Page(stuck, free), ConnectionBeat()
    await page.follow(beat)
    await until(lambda: len(free._socket.sent) > 5)
    assert (stuck._socket.began, stuck._socket.sent) == (1, [])
    stuck._socket.takes.set()
    await until(lambda: len(stuck._socket.sent) > 3)
    page.destroy()


async def test_a_connection_that_answers_no_ping_is_closed_and_one_that_does_is_not() -> None:
    dead, alive = Connection(alive=False), Connection()
    page, beat = Page(dead, alive), ConnectionBeat()
    await page.follow(beat)
    await until(lambda: dead._socket.closed)
    assert dead.pings == PINGS_UNANSWERED_MAX
    await until(lambda: alive.pings > 2 * PINGS_UNANSWERED_MAX)
    assert not alive._socket.closed
    assert alive._socket.began >= PING_EVERY * alive.pings - 1
    page.destroy()


async def test_a_document_without_a_session_has_no_beat() -> None:
    """As in a notebook, where the kernel's own page says that it is gone."""
    document, beat = Document(), ConnectionBeat()
    beat.follow(document)
    for callback in document.session_callbacks:
        await cast(Any, callback).callback()
    assert (beat.documents, beat._timer) == (0, None)
