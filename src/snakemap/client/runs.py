"""Runs of an API, for programs and notebooks."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from snakemap.client.document_stream import DocumentStream, StreamMessage, parse_message
from snakemap.client.html import markup
from snakemap.client.http import Http
from snakemap.errors import ApiFailed, RunNotFound, SnakemapError, StillRunning

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Client", "Run", "connect"]

TIMEOUT_S = 10.0
PATIENCE_S = 60.0
LOOK_S = 0.5
GROWING_S = 1.0
MAPS_KEPT = 16


def connect(url: str, *, timeout_s: float = TIMEOUT_S, token: str = "", proxies: bool = False) -> Client:
    """Return a client of the API at an address; the first request is made on first use.

    Args:
        url: like ``"http://host:8080"``.
        timeout_s: time limit of a request.
        token: for blueapi, if it requires one.
        proxies: whether to use the proxies of the environment; a beamline network needs none.

    Raises:
        SettingsError: when the URL is invalid.
    """
    return Client(Http(url, timeout_s=timeout_s, token=token, proxies=proxies))


class Client:
    """Runs of one API; closed at the end of a ``with``, or by :meth:`close`."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._kept: OrderedDict[tuple[str, str], tuple[str, xr.Dataset]] = OrderedDict()

    def runs(self) -> list[Run]:
        """Return all stored runs, newest first."""
        listed = self._http.json(self._http.get("/api/runs"))
        return [self._run(summary) for summary in listed]

    def run(self, uid: str = "latest", *, source: str = "") -> Run:
        """Return one run; ``latest`` is resolved now, and stays that run.

        Args:
            uid: of the run.
            source: source of its maps: another camera, or ``"scalars"``; empty for the main one.

        Raises:
            RunNotFound: when there is no such run.
            ApiUnavailable: when the API does not answer.
        """
        if not uid:
            raise RunNotFound("give the uid of a run, or latest")
        return self._run(self._summary(uid), source=source)

    def close(self) -> None:
        """Close the connections; maps stay valid."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<snakemap at {self._http.address}>"

    def _run(self, summary: Any, *, source: str = "") -> Run:
        try:
            return Run(self, str(summary["uid"]), source, dict(summary))
        except (KeyError, TypeError, ValueError) as error:
            raise ApiFailed("the API's runs cannot be read; it is of another version than this client") from error

    def _summary(self, uid: str) -> dict[str, Any]:
        return self._http.json(self._http.get(f"/api/runs/{quote(uid, safe='')}"))

    def _maps(self, uid: str, source: str) -> xr.Dataset:
        """Return the current maps; the earlier ones when the API reports no change."""
        from snakemap.client.maps import dataset_of  # importing xarray is slow

        etag, kept = self._kept.get((uid, source), ("", None))
        headers = {"If-None-Match": etag} if kept is not None else None
        answer = self._http.get(f"/api/runs/{quote(uid, safe='')}/maps", headers=headers, format="npz", source=source)
        if answer.status_code != 304 or kept is None:
            kept = dataset_of(answer.content)
            self._kept[uid, source] = answer.headers.get("etag", ""), kept
        self._kept.move_to_end((uid, source))
        while len(self._kept) > MAPS_KEPT:
            self._kept.popitem(last=False)
        return kept.copy()  # a new Dataset over the same read-only arrays

    def _picture(self, uid: str) -> bytes | None:
        try:
            return self._http.get(f"/api/runs/{quote(uid, safe='')}/picture").content
        except RunNotFound:
            return None


@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """One run.

    Attributes:
        uid: of the run.
    """

    _client: Client
    uid: str
    _source: str
    _known: dict[str, Any]

    @property
    def plan_name(self) -> str:
        """Name of the plan."""
        return str(self._known.get("plan_name", ""))

    @property
    def started(self) -> float | None:
        """Start time, in seconds since 1970."""
        return self._known.get("started")

    @property
    def summary(self) -> dict[str, Any]:
        """Its current summary: ``status``, ``points``, ``expected``, ``file`` and more."""
        return self._client._summary(self.uid)

    @property
    def status(self) -> str:
        """Its current status: ``running``, ``complete``, ``incomplete``, ``aborted``, ``failed`` or ``lost``."""
        return str(self.summary["status"])

    @property
    def sources(self) -> list[str]:
        """Names of its sources, the main one first."""
        return list(self.summary.get("sources", []))

    @cached_property
    def start(self) -> dict[str, Any]:
        """Its start document.

        Raises:
            RunNotFound: when the first documents of the run are no longer in the store.
        """
        for name, doc, _ in self.documents():
            if name == "start":
                return doc
        raise RunNotFound(f"the beginning of run {self.uid} is no longer in the store")

    @property
    def maps(self) -> xr.Dataset:
        """Its current maps: one variable for each channel, NaN where not measured.

        They are transferred again only when they have changed. See :func:`snakemap.client.maps.dataset_of`.
        """
        return self._client._maps(self.uid, self._source)

    def source(self, name: str) -> Run:
        """Return the same run with the maps of another of its :attr:`sources`."""
        return Run(self._client, self.uid, name, self._known)

    def growing(self, *, every_s: float = GROWING_S) -> Iterator[xr.Dataset]:
        """Yield its current maps, and again whenever they have changed, until the run is settled.

        Args:
            every_s: minimum interval; the next maps include all changes.
        """
        cursor = None
        while True:
            over, maps = self._is_over(), self.maps  # in this order: the last maps are complete
            if maps.attrs["cursor"] != cursor:
                cursor = maps.attrs["cursor"]
                yield maps
            if over:
                return
            time.sleep(every_s)

    def documents(self) -> Iterator[StreamMessage]:
        """Yield its documents up to now, oldest first: ``for name, doc, cursor in run.documents()``."""
        for line in self._client._http.lines(f"/api/runs/{quote(self.uid, safe='')}/documents"):
            if line.strip():
                yield parse_message(line)

    def follow(self, *, after: str = "", patience_s: float = PATIENCE_S) -> Iterator[StreamMessage]:
        """Yield its documents from the beginning, and new ones as they arrive, until the run is settled.

        A lost connection is restored, and continues after the last document.

        Args:
            after: a cursor; earlier documents are skipped.
            patience_s: time to restore a lost connection.

        Raises:
            ApiUnavailable: when it could not be restored.
        """
        stream = DocumentStream(
            self._client._http, self.uid, self._is_over, patience_s, cursor=after, stopped=bool(after)
        )
        return stream.documents()

    def wait(self, *, timeout_s: float | None = None) -> Self:
        """Return when the run has ended.

        Args:
            timeout_s: time limit; None for none.

        Raises:
            StillRunning: when the time is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (summary := self.summary)["status"] == "running":
            if deadline is not None and time.monotonic() >= deadline:
                points, expected = summary.get("points"), summary.get("expected")
                raise StillRunning(f"run {self.uid} has not ended in {timeout_s:g} s; {points} of {expected} points")
            time.sleep(LOOK_S if deadline is None else max(0.0, min(LOOK_S, deadline - time.monotonic())))
        return self

    def again(self, *, instrument_session: str = "", **params: Any) -> dict[str, Any]:
        """Run its plan again, with its own parameters except those given.

        Args:
            instrument_session: of the new run; empty for the old one.
            params: of the plan.

        Returns:
            ``task_id``, ``plan_name`` and ``params`` of the started task.

        Raises:
            SnakemapError: when it cannot be started: ParamsRefused, WorkerBusy, ReadOnly, BlueapiUnavailable ...
        """
        body: dict[str, Any] = {"params": params}
        if instrument_session:
            body["instrument_session"] = instrument_session
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return self._client._http.post(f"/api/runs/{quote(self.uid, safe='')}/again", body, headers=key)

    def _is_over(self) -> bool:
        summary = self.summary
        return summary["status"] != "running" and bool(summary.get("settled", True))

    def __repr__(self) -> str:
        return f"<run {self.uid} {self.plan_name}>"

    def _repr_html_(self) -> str:
        try:
            return markup(self.summary, self._client._picture(self.uid))
        except SnakemapError as trouble:
            return markup({**self._known, "status": f"unknown: {trouble}"}, None)
