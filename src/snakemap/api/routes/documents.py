"""Routes of the document stream: pages, WebSockets and server-sent events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, WebSocket
from fastapi.responses import StreamingResponse

from snakemap.api.error_responses import Refusals, Responses, refusals
from snakemap.api.middleware.rate_limit import address_of
from snakemap.api.models import Message, Tag
from snakemap.api.routes.runs import NO_RUN, UNUSABLE, ServiceDep, Uid
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
        "WebSocket sends. A comment is sent when there was no event for 15 s. A client that cannot keep up is "
        "disconnected, and continues after its last id.",
    }
}
CROWD: Refusals = {TooManyClients: "Too many clients of this address.", Busy: "Too many clients."}
NO_CURSOR: Refusals = {CursorError: "The cursor is invalid, or newer than the newest entry."}
CURSORS: Refusals = {
    **NO_CURSOR,
    CursorGone: "Entries after the cursor have left the store; begin again with after=0.",
}

documents = APIRouter(
    prefix="/api",
    tags=[Tag.DOCUMENTS],
    responses=refusals(
        {StoreUnavailable: "Redis cannot be reached.", **CROWD, RequestRefused: UNUSABLE[RequestRefused]}
    ),
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
        description="Cursor to begin after, as a reconnecting browser sends it; takes precedence over `after`.",
        max_length=CURSOR_MAX,
    ),
]
Address = Annotated[str, Depends(address_of)]


def _refused(*kinds: Refusals) -> Responses:
    return refusals({**{kind: words for texts in kinds for kind, words in texts.items()}, **CROWD})


@documents.get(
    "/documents",
    summary="A page of the stream",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, CURSORS), **LINES},
)
async def page(
    service: ServiceDep,
    address: Address,
    after: Annotated[str, Query(description="Cursor to begin after; 0 is everything.", max_length=CURSOR_MAX)] = "0",
    count: Annotated[int, Query(description="The most entries.", ge=1, le=COUNT_MAX)] = 1000,
) -> StreamingResponse:
    """A page of the stream, for polling: continue after the cursor of its last line; the page is empty at the end.

    A page has fewer lines than requested when they are large.
    """
    return await service.streams.lines(address, page_lines(service.store, after, count=count))


@documents.get(
    "/documents/events",
    summary="The stream as server-sent events",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, CURSORS), **EVENTS},
)
async def events(
    service: ServiceDep, address: Address, after: After = None, last_id: LastId = None
) -> StreamingResponse:
    """Every event as it arrives, as server-sent events; with `after`, everything since that cursor first."""
    return await service.streams.everything_as_events(address, after=last_id or after)


@documents.get(
    "/runs/{uid}/documents",
    summary="Documents of a run",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, NO_RUN, NO_CURSOR), **LINES},
)
async def run_documents(uid: Uid, service: ServiceDep, address: Address, after: AfterOfRun = "0") -> StreamingResponse:
    """Every document of a run up to now, in order, as JSON lines; with `after`, those since that cursor."""
    return await service.streams.lines(address, await service.documents(uid, after=after))


@documents.get(
    "/runs/{uid}/documents/events",
    summary="A run as server-sent events",
    response_class=StreamingResponse,
    responses={**_refused(UNUSABLE, NO_RUN, NO_CURSOR), **EVENTS},
)
async def run_events(
    uid: Uid, service: ServiceDep, address: Address, after: AfterOfRun = "0", last_id: LastId = None
) -> StreamingResponse:
    """The documents of one run as server-sent events: all stored ones, or those since a cursor, then the new ones."""
    return await service.streams.run_as_events(address, uid, after=last_id or after)


@documents.websocket("/documents")
async def all_documents(websocket: WebSocket, service: ServiceDep, after: str | None = None) -> None:
    """Every event as it arrives; with `after`, everything since that cursor first."""
    await service.streams.everything(websocket, after=after)


@documents.websocket("/runs/{uid}/documents")
async def live_run_documents(websocket: WebSocket, uid: str, service: ServiceDep, after: str = "0") -> None:
    """The documents of one run: all stored ones, or those since a cursor, then the new ones."""
    await service.streams.run(websocket, uid, after=after)
