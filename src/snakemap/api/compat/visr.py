"""Maps and run events for visr-ui, a React page of the same instrument.

It requests a map by the file of its run and the path at which the camera's IOC would write the sum, like
``/entry/instrument/spectroscopy_detector/RedTotal``, twice a second during a run. Server-sent events announce when runs
begin and end. Answers are computed once for all clients.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from snakemap.api.error_responses import refusals
from snakemap.api.middleware.etags import parse_etags
from snakemap.api.models import Tag
from snakemap.api.routes.documents import CROWD, Address
from snakemap.api.routes.runs import NOT_MODIFIED, UID_MAX, UNUSABLE, IfNoneMatch, versioned
from snakemap.api.service import Service
from snakemap.api.streaming import ServerSentEvents
from snakemap.core.run import Run
from snakemap.errors import FileRefused, NotThere, RunNotFound, StoreUnavailable
from snakemap.files.data_root import local_paths
from snakemap.live.run_cache import RunCache, WrittenBytes
from snakemap.render.export import written_values
from snakemap.store.store import Store

__all__ = ["ChannelMaps", "RunsByFile", "VisrEvents", "visr"]

LOOK_S = 0.25
"""Minimum time between two reads of the list of runs, which the worker updates at the same interval."""

RUNS_WATCHED = 50
KEEP_ALIVE_S = 15.0
RETRY_MS = 2000
"""Delay before a page reconnects."""

MAPS_KEPT, BYTES_KEPT = 64, 64 * 1024 * 1024
SUFFIX = "Total"
EVENT = 'id: c2b8eafc\ndata: {"uuid":"c2b8eafc","filepath":"/data/scan.h5","status":"running"}\n\n'
Status = Literal["running", "finished", "failed"]
PathMap = Sequence[tuple[str, str]]


class ValuesModel(BaseModel):
    """Values of one map."""

    values: list[list[float | None]] = Field(
        description="Rows are the slow axis; null where not measured.", examples=[[[120.0, None], [None, None]]]
    )


class Happening(BaseModel):
    """A run has begun or ended; sent as a line `data: {...}`, with the uid as `id:`."""

    uuid: str = Field(description="Of the run.", examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"])
    filepath: str = Field(description="Of its first file, as the writer sees it.", examples=["/data/scan.h5"])
    status: Status = Field(examples=["running"])


class RunsByFile:
    """Index of runs by their first file.

    Args:
        store: with the list of runs.
        path_map: pairs of the writer's prefix and the local one; a file may be named either way.
    """

    def __init__(self, store: Store, *, path_map: PathMap = ()) -> None:
        self._store = store
        self._path_map = path_map
        self._lock = asyncio.Lock()
        self._uids: dict[str, str] = {}
        self._looked_at = -LOOK_S

    async def uid(self, filepath: str) -> str:
        """Return the uid of the newest run that wrote a file, else of one that was opened from it.

        Raises:
            NotThere: when no run in the store has it.
        """
        asked = self._local(filepath)
        async with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_S:
                self._uids = self._index(await self._store.summaries())
                self._looked_at = time.monotonic()
        found = next((self._uids[path] for path in asked if path in self._uids), None)
        if found is None:
            raise NotThere(f"no run in the store has the file {filepath[:200]!r}")
        return found

    def _index(self, summaries: list[dict[str, Any]]) -> dict[str, str]:
        index: dict[str, str] = {}
        for summary in sorted(summaries, key=lambda summary: bool(summary.get("opened"))):  # newest first otherwise
            for path in self._local(str(summary.get("file") or "")):
                index.setdefault(path, str(summary["uid"]))
        return index

    def _local(self, path: str) -> list[str]:
        """Return the local paths that a path or URI may mean; empty when it is not absolute."""
        try:
            return [str(one) for one in local_paths(path, self._path_map)]
        except FileRefused:
            return []


class ChannelMaps:
    """Maps of single channels as JSON, computed once for all clients.

    Args:
        folds: the runs.
    """

    def __init__(self, folds: RunCache) -> None:
        self._runs = folds
        self._kept: OrderedDict[tuple[str, str], tuple[str, bytes]] = OrderedDict()

    async def written(self, uid: str, name: str) -> tuple[str, bytes]:
        """Return the map of one channel as JSON, and the cursor of the last document in it.

        Args:
            uid: of the run.
            name: of the channel, in lower case.

        Raises:
            NotThere: when the run has no such channel.
        """

        def encode(run: Run) -> tuple[str, bytes]:
            kept = self._kept.get((uid, name))
            if kept is not None and kept[0] == run.cursor:
                return kept
            body = written_values(run, name)
            if body is None:
                raise NotThere(f"run {uid} has no map {name[:100]!r}; it has {', '.join(run.maps.channels)}")
            return run.cursor, body

        answer = self._kept[uid, name] = await self._runs.compute(uid, encode)
        self._kept.move_to_end((uid, name))
        kept_bytes = sum(len(body) for _, body in self._kept.values())
        while len(self._kept) > 1 and (len(self._kept) > MAPS_KEPT or kept_bytes > BYTES_KEPT):
            kept_bytes -= len(self._kept.popitem(last=False)[1][1])
        return answer


class VisrEvents:
    """Events about runs that begin and end, from the list of runs.

    Args:
        store: with the list of runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._now: dict[str, Happening] = {}
        self._looked_at = -LOOK_S

    async def listen(self, last: str | None = None) -> AsyncGenerator[bytes]:
        """Yield the runs that are going on, then every begin and end.

        Args:
            last: uid of the last event that a reconnecting client received; the end of that run is sent, too.
        """
        yield b"retry: %d\n\n" % RETRY_MS
        sent: dict[str, str] | None = None
        quiet_since = time.monotonic()
        while True:
            now = await self._look()
            if now is not None:
                if sent is None:  # runs that ended before the client connected are skipped
                    ended = [(uid, one) for uid, one in now.items() if one.status != "running"]
                    sent = {uid: "running" if uid == last else str(one.status) for uid, one in ended}
                for happening in _changes(sent, now):
                    quiet_since = time.monotonic()
                    yield b"id: %b\ndata: %b\n\n" % (_line(happening.uuid), orjson.dumps(happening.model_dump()))
                sent = {uid: str(one.status) for uid, one in now.items()}
            if time.monotonic() - quiet_since > KEEP_ALIVE_S:
                quiet_since = time.monotonic()
                yield b": nothing new\n\n"
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> dict[str, Happening] | None:
        """Return the state of the newest runs, oldest first; None while Redis cannot be reached."""
        async with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_S:
                try:
                    summaries = await self._store.summaries(count=RUNS_WATCHED)
                except StoreUnavailable:
                    return None
                happenings = filter(None, map(_happening, reversed(summaries)))
                self._now = {happening.uuid: happening for happening in happenings}
                self._looked_at = time.monotonic()
        return self._now


def _happening(summary: dict[str, Any]) -> Happening | None:
    """Return the state of a run; None for a run without a file, and for one that was opened from a file."""
    if not summary.get("file") or summary.get("opened"):
        return None
    status: Status = "running" if summary["status"] == "running" else "failed"
    if summary["status"] in ("complete", "incomplete"):
        status = "finished"
    return Happening(uuid=str(summary["uid"]), filepath=str(summary["file"]), status=status)


def _changes(sent: dict[str, str], now: dict[str, Happening]) -> list[Happening]:
    """Return what has changed; a run that is new and has ended gets a begin event first."""
    changes: list[Happening] = []
    for uid, happening in now.items():
        if sent.get(uid) == happening.status:
            continue
        if uid not in sent and happening.status != "running":
            changes.append(happening.model_copy(update={"status": "running"}))
        changes.append(happening)
    return changes


def _line(text: str) -> bytes:
    """Return a text as one line, as a uid from a document may hold anything."""
    return "".join(text.split()).replace("\0", "").encode("utf-8", "replace")[:200]


class Visr:
    """Dependencies of the routes, one instance for an application.

    Args:
        service: of the application.
    """

    def __init__(self, service: Service) -> None:
        self.files = RunsByFile(service.store, path_map=service.settings.path_map)
        self.maps = ChannelMaps(service.run_cache)
        self.happenings = VisrEvents(service.store)
        self.places = service.streams.places


def _visr(connection: HTTPConnection) -> Visr:
    state = connection.app.state
    if not hasattr(state, "visr"):
        state.visr = Visr(state.service)
    return state.visr


visr = APIRouter(prefix="/api/data", responses=refusals(UNUSABLE))
VisrDep = Annotated[Visr, Depends(_visr)]


@visr.get(
    "/map",
    summary="A map for visr-ui",
    tags=[Tag.MAPS],
    response_model=ValuesModel,
    responses={
        **refusals({NotThere: "No run in the store has that file, or it has no such map."}),
        **NOT_MODIFIED,
    },
)
async def channel_map(
    visr: VisrDep,
    filepath: Annotated[str, Query(description="Of a run's first file, as its writer sees it.", max_length=4096)],
    datapath: Annotated[
        str,
        Query(
            description="Ends in `RedTotal`, `GreenTotal`, `BlueTotal`, or `Total` for the whole frame.",
            max_length=1000,
            examples=["/entry/instrument/spectroscopy_detector/RedTotal"],
        ),
    ],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One map of the run that wrote a file, as visr-ui draws it."""
    channel = channel_of(datapath)
    try:
        cursor, body = await visr.maps.written(await visr.files.uid(filepath), channel)
    except RunNotFound as error:
        raise NotThere(str(error)) from error
    known = parse_etags(if_none_match)
    return versioned(WrittenBytes(cursor, None if cursor in known or "*" in known else body))


@visr.get(
    "/events",
    summary="Runs that begin and end, for visr-ui",
    tags=[Tag.DOCUMENTS],
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": Happening.model_json_schema(), "example": EVENT}},
            "description": "Server-sent events: each has one object of this schema.",
        },
        **refusals(CROWD),
    },
)
async def run_events(
    visr: VisrDep,
    address: Address,
    last_event_id: Annotated[
        str | None, Header(description="Uid of the last run that was received.", max_length=UID_MAX)
    ] = None,
) -> StreamingResponse:
    """Runs as they begin and end, as server-sent events; runs that are going on are sent at once."""
    return ServerSentEvents(visr.happenings.listen(last_event_id), visr.places.take(address))


def channel_of(datapath: str) -> str:
    """Return the channel that the path of a sum names.

    Raises:
        NotThere: when it names none.

    >>> channel_of("/entry/instrument/spectroscopy_detector/RedTotal"), channel_of("/entry/Total")
    ('red', 'total')
    """
    name = datapath.rstrip("/").rpartition("/")[2]
    if not name.endswith(SUFFIX):
        raise NotThere(
            f"{datapath[:200]!r} is not a path of a map; such a path ends in RedTotal, GreenTotal, BlueTotal or Total"
        )
    return name.removesuffix(SUFFIX).lower() or SUFFIX.lower()
