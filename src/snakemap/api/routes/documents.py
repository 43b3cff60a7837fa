"""The routes of the one stream: pages of it, WebSockets and server-sent events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, WebSocket
from fastapi.responses import StreamingResponse

from snakemap.api.error_responses import Refusals, Responses, refusals
from snakemap.api.middleware.rate_limit import address_of
from snakemap.api.models import Message, Tag
from snakemap.api.routes.runs import NO_RUN, UNUSABLE, Here, Uid
from snakemap.api.streaming import page_lines
from snakemap.errors import Busy, CursorError, CursorGone, RequestRefused, StoreUnavailable, TooManyClients

__all__ = ["CROWD", "Address", "documents"]

COUNT_MAX = 10_000
CURSOR_MAX = 60
EVENT = (
    "id: 1795461238076-0\nevent: stop\n"
    'data: {"cursor":"1795461238076-0","name":"stop","run":"c2b8eafc","doc":{"exit_status":"success"}}\n\n'
)
LINE = '{"cursor":"1795461238076-0","name":"stop","run":"c2b8eafc","doc":{"exit_status":"success"}}\n'

LINES: Responses = {
    200: {
        "content": {"application/x-ndjson": {"schema": Message.model_json_schema(), "example": LINE}},
        "description": "JSON lines: one object of this schema each.",
    }
}
EVENTS: Responses = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENT}},
        "description": "Events without an end: `id` is the cursor, `event` the name of the document, `data` what a "
        "WebSocket sends. A comment comes when there has been nothing else for 15 s. A client that cannot keep up is "
        "let go, and goes on after its last id.",
    }
}
CROWD: Refusals = {TooManyClients: "Too many clients of this address.", Busy: "Too many clients."}
NO_CURSOR: Refusals = {CursorError: "That is no cursor, or one that lies in the future."}
CURSORS: Refusals = {
    **NO_CURSOR,
    CursorGone: "What came after the cursor has left the store; begin again with after=0.",
}

documents = APIRouter(
    prefix="/api",
    tags=[Tag.DOCUMENTS],
    responses=refusals({StoreUnavailable: "Redis is away.", **CROWD, RequestRefused: UNUSABLE[RequestRefused]}),
)

After = Annotated[
    str | None,
    Query(description="Cursor to begin after; 0 is everything. Default: from now on.", max_length=CURSOR_MAX),
]
AfterOfRun = Annotated[
    str, Query(description="Cursor to begin after; 0 is the start of the run.", max_length=CURSOR_MAX)
]
LastId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="Cursor to begin after, as a browser sends it that comes back; goes before `after`.",
        max_length=CURSOR_MAX,
    ),
]
Address = Annotated[str, Depends(address_of)]


def _refused(*kinds: Refusals) -> Responses:
    return refusals({**{kind: words for told in kinds for kind, words in told.items()}, **CROWD})


@documents.get(
    "/documents",
    summary="A page of the stream",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, CURSORS), **LINES},
)
async def page(
    here: Here,
    address: Address,
    after: Annotated[str, Query(description="Cursor to begin after; 0 is everything.", max_length=CURSOR_MAX)] = "0",
    count: Annotated[int, Query(description="The most that are told.", ge=1, le=COUNT_MAX)] = 1000,
) -> StreamingResponse:
    """A page of the stream, for those who poll: go on after the cursor of its last line; it is empty at the end.

    A page has fewer lines than were asked for when they are large.
    """
    return await here.streams.lines(address, page_lines(here.store, after, count=count))


@documents.get(
    "/documents/events",
    summary="The stream as server-sent events",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, CURSORS), **EVENTS},
)
async def events(here: Here, address: Address, after: After = None, last_id: LastId = None) -> StreamingResponse:
    """Every event as it comes, as server-sent events; with `after`, everything since that cursor first."""
    return await here.streams.everything_as_events(address, after=last_id or after)


@documents.get(
    "/runs/{uid}/documents",
    summary="Documents of a run",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, NO_RUN, NO_CURSOR), **LINES},
)
async def run_documents(uid: Uid, here: Here, address: Address, after: AfterOfRun = "0") -> StreamingResponse:
    """Every document of a run up to now, in order, as JSON lines; with `after`, those since that cursor."""
    return await here.streams.lines(address, await here.documents(uid, after=after))


@documents.get(
    "/runs/{uid}/documents/events",
    summary="A run as server-sent events",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, NO_RUN, NO_CURSOR), **EVENTS},
)
async def run_events(
    uid: Uid, here: Here, address: Address, after: AfterOfRun = "0", last_id: LastId = None
) -> StreamingResponse:
    """The documents of one run as server-sent events: all there are, or since a cursor, then those that come."""
    return await here.streams.run_as_events(address, uid, after=last_id or after)


@documents.websocket("/documents")
async def all_documents(websocket: WebSocket, here: Here, after: str | None = None) -> None:
    """Every event as it comes; with `after`, everything since that cursor first."""
    await here.streams.everything(websocket, after=after)


@documents.websocket("/runs/{uid}/documents")
async def live_run_documents(websocket: WebSocket, uid: str, here: Here, after: str = "0") -> None:
    """The documents of one run: all there are, or since a cursor, then those that come."""
    await here.streams.run(websocket, uid, after=after)
