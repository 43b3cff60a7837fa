"""Maps and the comings and goings of runs as visr-ui wants them, a React page of the same instrument.

It asks for a map by the file of its run and the path that the camera's IOC would give the sum, like
``/entry/instrument/spectroscopy_detector/RedTotal``, twice a second while a run goes on. That a run goes on it hears by
server-sent events. What many clients ask for is looked up and written once.
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
from snakemap.api.middleware.etags import known_of
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
"""Time between two looks at the list of runs, which the worker keeps at the same pace."""

RUNS_WATCHED = 50
KEEP_ALIVE_S = 15.0
RETRY_MS = 2000
"""After which a page that lost us comes back."""

MAPS_KEPT, BYTES_KEPT = 64, 64 * 1024 * 1024
SUFFIX = "Total"
EVENT = 'id: c2b8eafc\ndata: {"uuid":"c2b8eafc","filepath":"/data/scan.h5","status":"running"}\n\n'
Status = Literal["running", "finished", "failed"]
PathMap = Sequence[tuple[str, str]]


class ValuesModel(BaseModel):
    """One map."""

    values: list[list[float | None]] = Field(
        description="Rows are the slow axis; null where not measured.", examples=[[[120.0, None], [None, None]]]
    )


class Happening(BaseModel):
    """A run has begun, or ended; one is sent as a line `data: {...}`, and its `id:` is the uid."""

    uuid: str = Field(description="Of the run.", examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"])
    filepath: str = Field(description="Of its first file, as the writer sees it.", examples=["/data/scan.h5"])
    status: Status = Field(examples=["running"])


class RunsByFile:
    """Which run a file belongs to.

    Args:
        store: with the list of runs.
        path_map: pairs of the writer's prefix and ours; a file may be named either way.
    """

    def __init__(self, store: Store, *, path_map: PathMap = ()) -> None:
        self._store = store
        self._path_map = path_map
        self._lock = asyncio.Lock()
        self._uids: dict[str, str] = {}
        self._looked_at = -LOOK_S

    async def uid(self, filepath: str) -> str:
        """The uid of the newest run that wrote a file; of one that was opened from it, when nobody else did.

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
        for summary in sorted(summaries, key=lambda summary: bool(summary.get("opened"))):  # else the newest first
            for path in self._local(str(summary.get("file") or "")):
                index.setdefault(path, str(summary["uid"]))
        return index

    def _local(self, path: str) -> list[str]:
        """Where a file may be on this machine, by its path or URI; empty when that is not absolute."""
        try:
            return [str(one) for one in local_paths(path, self._path_map)]
        except FileRefused:
            return []


class ChannelMaps:
    """Maps of single channels, written once for all who ask.

    Args:
        folds: the runs.
    """

    def __init__(self, folds: RunCache) -> None:
        self._folds = folds
        self._kept: OrderedDict[tuple[str, str], tuple[str, bytes]] = OrderedDict()

    async def written(self, uid: str, name: str) -> tuple[str, bytes]:
        """The map of one channel as JSON, and the cursor of the last document in it.

        Args:
            uid: of the run.
            name: of the channel, whatever the case.

        Raises:
            NotThere: when the run has no such channel.
        """

        def tell(run: Run) -> tuple[str, bytes]:
            kept = self._kept.get((uid, name))
            if kept is not None and kept[0] == run.cursor:
                return kept
            body = written_values(run, name)
            if body is None:
                raise NotThere(f"run {uid} has no map {name[:100]!r}; it has {', '.join(run.maps.channels)}")
            return run.cursor, body

        answer = self._kept[uid, name] = await self._folds.told(uid, tell)
        self._kept.move_to_end((uid, name))
        kept_bytes = sum(len(body) for _, body in self._kept.values())
        while len(self._kept) > 1 and (len(self._kept) > MAPS_KEPT or kept_bytes > BYTES_KEPT):
            kept_bytes -= len(self._kept.popitem(last=False)[1][1])
        return answer


class VisrEvents:
    """Tells clients of runs that begin and end, by what the list of runs says.

    Args:
        store: with the list of runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._now: dict[str, Happening] = {}
        self._looked_at = -LOOK_S

    async def listen(self, last: str | None = None) -> AsyncGenerator[bytes]:
        """What a client is told: the runs that go on, then everything that begins and ends.

        Args:
            last: uid of the run that the client heard of last, before it lost us: of that it is told in any case.
        """
        yield b"retry: %d\n\n" % RETRY_MS
        said: dict[str, str] | None = None
        quiet_since = time.monotonic()
        while True:
            now = await self._look()
            if now is not None:
                if said is None:  # what ended before the client came is none of its business
                    ended = [(uid, one) for uid, one in now.items() if one.status != "running"]
                    said = {uid: "running" if uid == last else str(one.status) for uid, one in ended}
                for happening in _news(said, now):
                    quiet_since = time.monotonic()
                    yield b"id: %b\ndata: %b\n\n" % (_line(happening.uuid), orjson.dumps(happening.model_dump()))
                said = {uid: str(one.status) for uid, one in now.items()}
            if time.monotonic() - quiet_since > KEEP_ALIVE_S:
                quiet_since = time.monotonic()
                yield b": nothing new\n\n"
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> dict[str, Happening] | None:
        """How the newest runs stand, oldest first; None while Redis is away."""
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
    """How a run stands; None while it has no file that could be asked for, and for one that was not taken."""
    if not summary.get("file") or summary.get("opened"):
        return None
    status: Status = "running" if summary["status"] == "running" else "failed"
    if summary["status"] in ("complete", "incomplete"):
        status = "finished"
    return Happening(uuid=str(summary["uid"]), filepath=str(summary["file"]), status=status)


def _news(said: dict[str, str], now: dict[str, Happening]) -> list[Happening]:
    """What has changed; a run that has ended already is said to have begun first."""
    news: list[Happening] = []
    for uid, happening in now.items():
        if said.get(uid) == happening.status:
            continue
        if uid not in said and happening.status != "running":
            news.append(happening.model_copy(update={"status": "running"}))
        news.append(happening)
    return news


def _line(text: str) -> bytes:
    """A text as one line: a uid comes from a document."""
    return "".join(text.split()).replace("\0", "").encode("utf-8", "replace")[:200]


class Visr:
    """What the routes stand on, one for an application.

    Args:
        service: of the application.
    """

    def __init__(self, service: Service) -> None:
        self.files = RunsByFile(service.store, path_map=service.settings.path_map)
        self.maps = ChannelMaps(service.folds)
        self.happenings = VisrEvents(service.store)
        self.places = service.streams.places


def _visr(connection: HTTPConnection) -> Visr:
    state = connection.app.state
    if not hasattr(state, "visr"):
        state.visr = Visr(state.service)
    return state.visr


visr = APIRouter(prefix="/api/data", responses=refusals(UNUSABLE))
Here = Annotated[Visr, Depends(_visr)]


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
    here: Here,
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
        cursor, body = await here.maps.written(await here.files.uid(filepath), channel)
    except RunNotFound as error:
        raise NotThere(str(error)) from error
    known = known_of(if_none_match)
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
    here: Here,
    address: Address,
    last_event_id: Annotated[
        str | None, Header(description="Uid of the run that was heard of last.", max_length=UID_MAX)
    ] = None,
) -> StreamingResponse:
    """Runs as they begin and end, as server-sent events; of those that go on a client is told at once."""
    return ServerSentEvents(here.happenings.listen(last_event_id), here.places.take(address))


def channel_of(datapath: str) -> str:
    """The channel that the path of a sum means.

    Raises:
        NotThere: when it means none.

    >>> channel_of("/entry/instrument/spectroscopy_detector/RedTotal"), channel_of("/entry/Total")
    ('red', 'total')
    """
    name = datapath.rstrip("/").rpartition("/")[2]
    if not name.endswith(SUFFIX):
        raise NotThere(
            f"{datapath[:200]!r} is not a path of a map; such a path ends in RedTotal, GreenTotal, BlueTotal or Total"
        )
    return name.removesuffix(SUFFIX).lower() or SUFFIX.lower()
