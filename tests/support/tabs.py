"""Tabs without a browser: a client that opens the page as Bokeh's own does, reads what comes, and leaves."""

from __future__ import annotations

import asyncio
import json
import re

from tests.support.patience import PATIENCE
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.websocket import websocket_connect

__all__ = ["cookies_of", "open_and_close"]

READY = {"type": "event", "name": "document_ready", "values": {"type": "map", "entries": []}}
REQUESTS = (
    ("PULL-DOC-REQ", {}),
    ("PATCH-DOC", {"events": [{"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": READY}]}),
)


def cookies_of(answer: HTTPResponse) -> str:
    """The cookies that an answer sets, as the next request brings them."""
    return "; ".join(cookie.partition(";")[0] for cookie in answer.headers.get_list("Set-Cookie"))


async def _tab(url: str, *, messages: int) -> int:
    answer = await AsyncHTTPClient().fetch(
        f"{url}/dashboard", connect_timeout=60 * PATIENCE, request_timeout=60 * PATIENCE
    )
    token = re.search(r'"token":"([^"]+)"', answer.body.decode())
    assert token is not None
    address = HTTPRequest(
        f"{url.replace('http', 'ws')}/dashboard/ws",
        headers={"Origin": url, "Cookie": cookies_of(answer)},
        connect_timeout=60 * PATIENCE,
        request_timeout=60 * PATIENCE,
    )
    socket = await websocket_connect(address, subprotocols=["bokeh", token[1]], max_message_size=2**28)
    try:
        for _ in range(3):  # the server's greeting: header, metadata, content
            await socket.read_message()
        for number, (kind, content) in enumerate(REQUESTS):
            for part in ({"msgid": str(number), "msgtype": kind}, {}, content):
                await socket.write_message(json.dumps(part))
        received = 0
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
