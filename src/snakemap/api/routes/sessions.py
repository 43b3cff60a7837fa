"""Routes of sessions, which hold the state of an anonymous client under an id that cannot be guessed."""

from __future__ import annotations

import math
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from snakemap.api.auth import check_page
from snakemap.api.error_responses import Refusals, refusals
from snakemap.api.middleware.etags import content_hash, parse_etags
from snakemap.api.middleware.rate_limit import address_of
from snakemap.api.models import Bounds, MapsModel, Pair, Tag
from snakemap.api.roi_preview import Preview
from snakemap.api.routes.runs import (
    MAPS,
    NO_RUN,
    UID_MAX,
    UNREADABLE,
    UNUSABLE,
    Approximate,
    As,
    IfNoneMatch,
    Rois,
    ServiceDep,
    service_of,
    versioned,
)
from snakemap.api.session_store import KEPT_S, ApiSession
from snakemap.core.channels import TOTAL
from snakemap.core.roi import Roi
from snakemap.errors import Busy, FrameNotFound, OriginRefused, RoiError, RunNotFound, SessionNotFound, TooManySessions
from snakemap.live.run_cache import WrittenBytes
from snakemap.render.export import MapFormat
from snakemap.store.run_index import find_uid

__all__ = ["sessions"]

ROIS_MAX = 32
ROI_NAME_MAX = 40
SIDE_MAX = 1_000_000
VIEW_BYTES_MAX = 4096
TOKEN = "xw0Hh2Yk1sQv9Zr3pTn8BdLmC5uEa7Gf-JiKoRbVc4M"
ROIS = {"spot": [610, 760, 95, 245]}

sessions = APIRouter(prefix="/api", tags=[Tag.SESSIONS], responses=refusals(UNUSABLE))

Edge = Annotated[int, Field(ge=0, le=SIDE_MAX)]
Rectangle = Annotated[list[Edge], Field(min_length=4, max_length=4)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=ROI_NAME_MAX)]
Token = Annotated[
    str, Path(alias="id", description="Of the session, as POST gave it.", max_length=100, examples=[TOKEN])
]
NO_SESSION: Refusals = {SessionNotFound: "The id is unknown or expired."}
FOREIGN: Refusals = {OriginRefused: "The request comes from a web page of another site."}
UNUSABLE_ROI: Refusals = {**UNUSABLE, RoiError: "An ROI without pixels."}


class Wanted(BaseModel):
    """Attributes of a session; those left out stay."""

    model_config = ConfigDict(extra="forbid")

    follow: str = Field(
        default="latest", description="Uid of a run, or `latest`.", max_length=UID_MAX, examples=["latest"]
    )
    source: str = Field(
        default="", description="As the maps name it; empty is the main one.", max_length=500, examples=[""]
    )
    rois: dict[Name, Rectangle] = Field(
        default={},
        description="Rectangles of detector pixels `[y0, y1, x0, x1]`, half open, by name; none: those of the run.",
        max_length=ROIS_MAX,
        examples=[ROIS],
    )
    view: dict[str, Any] = Field(
        default={},
        description=f"Free JSON value of the client, at most {VIEW_BYTES_MAX} bytes.",
        examples=[{"zoom": 2}],
    )

    @field_validator("view")
    @classmethod
    def _check_view(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            size = len(orjson.dumps(value))
        except orjson.JSONEncodeError as error:
            raise ValueError(f"it cannot be stored: {error}") from None
        if size > VIEW_BYTES_MAX:
            raise ValueError(f"it has {size:,} bytes as JSON, and at most {VIEW_BYTES_MAX:,} are kept")
        return value

    def changes(self) -> dict[str, Any]:
        """Return the attributes that were set, without defaults.

        Raises:
            RoiError: when an ROI holds no pixel, or has the name of the total.
        """
        for name, (y0, y1, x0, x1) in self.rois.items():
            if name == TOTAL:
                raise RoiError(f"`{TOTAL}` is the sum over the whole frame and cannot be a rectangle")
            Roi(name, y0, y1, x0, x1)
        return self.model_dump(exclude_unset=True)


class SessionModel(BaseModel):
    """A session; its id is the only key to it, so store it like a password."""

    id: str = Field(examples=[TOKEN])
    follow: str = Field(description="Uid of a run, or `latest`.", examples=["latest"])
    source: str = Field(description="As the maps name it; empty is the main one.", examples=[""])
    rois: dict[str, Bounds] = Field(description="`[y0, y1, x0, x1]` by name.", examples=[ROIS])
    view: dict[str, Any] = Field(description="Free JSON value of the client.", examples=[{"zoom": 2}])
    expires_in_s: int = Field(description="Seconds without use after which it expires.", examples=[KEPT_S])


class RoiCounts(BaseModel):
    """Counts over one ROI of a frame."""

    bounds: Bounds = Field(description="`[y0, y1, x0, x1]`.", examples=[[610, 760, 95, 245]])
    counts: float | None = Field(description="Null when they are unknown; `trouble` says why.", examples=[15_300.0])
    trouble: str = Field(description="Empty when there are counts.", examples=[""])


class RoisModel(BaseModel):
    """The newest preview frame of a run, summed over ROIs.

    The worker stores a preview of a frame now and then, not of every point, and reduces large frames: each pixel of the
    preview is then the mean of a block of detector pixels, rounded where the detector has integers. `exact` is true
    when the counts are those of the frame itself. The maps have the exact sums of every point.
    """

    run: str = Field(description="Uid.", examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"])
    source: str = Field(description="The camera.", examples=["camera"])
    seq_num: int | None = Field(description="Of the point of the frame.", examples=[63])
    time: float | None = Field(description="When it was stored, in seconds since 1970.", examples=[1795461238.1])
    frame_shape: Pair = Field(description="Of the detector: rows and columns.", examples=[[1216, 1936]])
    block: int = Field(
        description="Side in detector pixels of the block that one preview pixel is the mean of.", examples=[4]
    )
    exact: bool = Field(description="Whether the preview is the frame itself.", examples=[False])
    rois: dict[str, RoiCounts] = Field(
        examples=[{"spot": {"bounds": [610, 760, 95, 245], "counts": 15_300.0, "trouble": ""}}]
    )


def _check_page(request: Request) -> None:
    check_page(request, service_of(request).settings)


AllowedPage = Depends(_check_page)


@sessions.post(
    "/sessions",
    summary="Begin a session",
    status_code=201,
    response_model=SessionModel,
    dependencies=[AllowedPage],
    responses=refusals(
        {
            **FOREIGN,
            **UNUSABLE_ROI,
            TooManySessions: "The address has too many sessions.",
            Busy: "There are too many sessions.",
        }
    ),
)
async def begin(
    service: ServiceDep,
    request: Request,
    response: Response,
    address: Annotated[str, Depends(address_of)],
    wanted: Annotated[Wanted | None, Body()] = None,
) -> SessionModel:
    """Begins a session; the server chooses its id, and returns it only service.

    It expires after a day without use.
    """
    session = await service.sessions.create(address, (wanted or Wanted()).changes())
    response.headers["Location"] = f"{request.scope['root_path']}/api/sessions/{session.token}"
    response.headers["Cache-Control"] = "no-store"
    return _model(session)


@sessions.get(
    "/sessions/{id}", summary="Look at a session", response_model=SessionModel, responses=refusals(NO_SESSION)
)
async def look(token: Token, service: ServiceDep, response: Response) -> SessionModel:
    """A session as it is."""
    response.headers["Cache-Control"] = "no-store"
    return _model(await service.sessions.use(token))


@sessions.patch(
    "/sessions/{id}",
    summary="Change a session",
    response_model=SessionModel,
    dependencies=[AllowedPage],
    responses=refusals({**NO_SESSION, **FOREIGN, **UNUSABLE_ROI}),
)
async def change(token: Token, wanted: Wanted, service: ServiceDep, response: Response) -> SessionModel:
    """Replaces the given attributes of a session, each as a whole; the others stay."""
    response.headers["Cache-Control"] = "no-store"
    return _model(await service.sessions.use(token, wanted.changes()))


@sessions.delete(
    "/sessions/{id}",
    summary="End a session",
    status_code=204,
    dependencies=[AllowedPage],
    responses=refusals({**NO_SESSION, **FOREIGN}),
)
async def end(token: Token, service: ServiceDep) -> None:
    """Ends a session."""
    await service.sessions.forget(token)


@sessions.get(
    "/sessions/{id}/maps",
    summary="Maps of a session's run",
    response_model=MapsModel,
    responses={**refusals({**NO_SESSION, **UNREADABLE}), **MAPS},
)
async def session_maps(
    token: Token,
    service: ServiceDep,
    form: As = MapFormat.JSON,
    roi: Rois = (),
    approximate: Approximate = False,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The maps of the run that a session follows, as they are now; `roi` and `approximate` are those of a run."""
    session = await service.sessions.use(token)
    uid = await find_uid(service.store, session.follow)
    # the followed run may change, so a cursor alone is no version here
    salt = content_hash(uid, session.source)[:8]
    known = [
        tag.removesuffix(f"-{salt}") for tag in parse_etags(if_none_match) if tag == "*" or tag.endswith(f"-{salt}")
    ]
    found = await service.maps(uid, form, source=session.source, rois=roi, approximate=approximate, known=known)
    return versioned(WrittenBytes(f"{found.cursor}-{salt}", found.body), form)


@sessions.get(
    "/sessions/{id}/rois",
    summary="Counts over the ROIs of a session",
    response_model=RoisModel,
    responses=refusals({**NO_SESSION, **NO_RUN, FrameNotFound: "The run has no preview frame (any more)."}),
)
async def session_rois(token: Token, service: ServiceDep) -> RoisModel:
    """Counts of the newest preview frame of the followed run, over the session's ROIs, else over the run's."""
    session = await service.sessions.use(token)
    run = await service.run_cache.run(await find_uid(service.store, session.follow))
    if session.source and session.source not in run.sources:
        raise RunNotFound(f"run {run.uid[:100]!r} has no {session.source[:100]!r}; it has {', '.join(run.sources)}")
    source = run.source(session.source)
    name, uid, rois = run.name_of(source), run.uid, session.rois or dict(source.rois)
    kept = await service.store.frame(uid, "" if source is run.main else name)
    if kept is None or "frame_shape" not in kept[1]:
        raise FrameNotFound(f"there is no preview frame of {name or 'this run'} (any more)")
    pixels, about = kept
    height, width = about["frame_shape"]
    preview = Preview(pixels, (height, width))
    return RoisModel(
        run=uid,
        source=name,
        seq_num=about.get("seq_num"),
        time=about.get("time"),
        frame_shape=list(preview.frame_shape),
        block=preview.block,
        exact=preview.block == 1,
        rois={roi: _counts(preview, roi, bounds) for roi, bounds in rois.items()},
    )


def _counts(preview: Preview, name: str, bounds: tuple[int, int, int, int]) -> RoiCounts:
    try:
        counts = preview.counts(Roi(name, *bounds))
    except RoiError as trouble:
        return RoiCounts(bounds=list(bounds), counts=None, trouble=str(trouble))
    if not math.isfinite(counts):
        return RoiCounts(bounds=list(bounds), counts=None, trouble="a pixel of the ROI is NaN")
    return RoiCounts(bounds=list(bounds), counts=counts, trouble="")


def _model(session: ApiSession) -> SessionModel:
    return SessionModel(
        id=session.token,
        follow=session.follow,
        source=session.source,
        rois={name: list(bounds) for name, bounds in session.rois.items()},
        view=session.view,
        expires_in_s=KEPT_S,
    )
