"""Tabs without a browser: a client that opens the page as Bokeh's own does, reads what comes, and leaves."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from tests.support.patience import PATIENCE
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

__all__ = ["Tab", "open_and_close", "opened"]

READY = {"type": "event", "name": "document_ready", "values": {"type": "map", "entries": []}}
REQUESTS = (
    ("PULL-DOC-REQ", {}),
    ("PATCH-DOC", {"events": [{"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": READY}]}),
)


@dataclass(frozen=True, slots=True)
class Tab:
    """A page that a client has asked for.

    Attributes:
        socket: its connection; what comes next are messages of the server.
        bytes: of the page, without scripts.
        page_s: seconds until the page had come.
    """

    socket: Any
    bytes: int
    page_s: float


async def opened(url: str, page: str = "dashboard") -> Tab:
    """Ask for a page as Bokeh's own client does.

    Args:
        url: of the server, like ``"http://localhost:5006"``.
        page: of the server.
    """
    begun = time.perf_counter()
    patience: dict[str, Any] = {"connect_timeout": 60 * PATIENCE, "request_timeout": 60 * PATIENCE}
    answer = await AsyncHTTPClient().fetch(f"{url}/{page}", **patience)
    page_s = time.perf_counter() - begun
    token = re.search(r'"token":"([^"]+)"', answer.body.decode())
    assert token is not None, "the page has no session token"
    cookies = "; ".join(cookie.partition(";")[0] for cookie in answer.headers.get_list("Set-Cookie"))
    headers = {"Origin": url, "Cookie": cookies}
    request = HTTPRequest(f"{url.replace('http', 'ws')}/{page}/ws", headers=headers, **patience)
    socket = await websocket_connect(request, subprotocols=["bokeh", token[1]], max_message_size=2**30)
    for _ in range(3):  # the server's greeting: header, metadata, content
        await socket.read_message()
    for number, (kind, content) in enumerate(REQUESTS):
        for part in ({"msgid": str(number), "msgtype": kind}, {}, content):
            await socket.write_message(json.dumps(part))
    return Tab(socket, len(answer.body), page_s)


async def _tab(url: str, *, messages: int) -> int:
    socket, received = (await opened(url)).socket, 0
    try:
        while received < messages and await asyncio.wait_for(socket.read_message(), 30 * PATIENCE) is not None:
            received += 1
        return received
    finally:
        socket.close()


def open_and_close(url: str, *, tabs: int, together: int = 10, messages: int = 20) -> int:
    """Opens tabs, some together, each until it has received some messages; returns how many did.

    Args:
        url: of the server, like ``"http://localhost:5006"``.
        tabs: in all.
        together: open at one time.
        messages: that each waits for before it leaves.
    """

    async def work() -> int:
        served = 0
        for begun in range(0, tabs, together):
            group = [_tab(url, messages=messages) for _ in range(min(together, tabs - begun))]
            served += sum(received == messages for received in await asyncio.gather(*group))
        return served

    return asyncio.run(work())
