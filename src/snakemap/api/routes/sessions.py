"""The routes of sessions: an anonymous client has an id that nobody can guess, and finds again what it follows."""

from __future__ import annotations

import math
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from snakemap.api.auth import check_page
from snakemap.api.error_responses import Refusals, refusals
from snakemap.api.middleware.etags import known_of, version_of
from snakemap.api.middleware.rate_limit import address_of
from snakemap.api.models import Bounds, MapsModel, Pair, Tag
from snakemap.api.roi_preview import Preview
from snakemap.api.routes.runs import MAPS, NO_RUN, UID_MAX, UNUSABLE, As, Here, IfNoneMatch, service, versioned
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
NO_SESSION: Refusals = {SessionNotFound: "There is no session of that id (any more)."}
FOREIGN: Refusals = {OriginRefused: "A web page of another site asks."}
UNUSABLE_ROI: Refusals = {**UNUSABLE, RoiError: "An ROI that holds no pixel."}


class Wanted(BaseModel):
    """What a session shall be; what is left out stays."""

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
        description=f"Whatever the client wants to find again, at most {VIEW_BYTES_MAX} bytes.",
        examples=[{"zoom": 2}],
    )

    @field_validator("view")
    @classmethod
    def _check_view(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            size = len(orjson.dumps(value))
        except orjson.JSONEncodeError as error:
            raise ValueError(f"it cannot be kept: {error}") from None
        if size > VIEW_BYTES_MAX:
            raise ValueError(f"it has {size:,} bytes as JSON, and at most {VIEW_BYTES_MAX:,} are kept")
        return value

    def told(self) -> dict[str, Any]:
        """What was said, and no default.

        Raises:
            RoiError: when an ROI holds no pixel, or has the name of the total.
        """
        for name, (y0, y1, x0, x1) in self.rois.items():
            if name == TOTAL:
                raise RoiError(f"`{TOTAL}` is the sum over the whole frame and cannot be a rectangle")
            Roi(name, y0, y1, x0, x1)
        return self.model_dump(exclude_unset=True)


class SessionModel(BaseModel):
    """A session; its id is the only key to it, so keep it as a password."""

    id: str = Field(examples=[TOKEN])
    follow: str = Field(description="Uid of a run, or `latest`.", examples=["latest"])
    source: str = Field(description="As the maps name it; empty is the main one.", examples=[""])
    rois: dict[str, Bounds] = Field(description="`[y0, y1, x0, x1]` by name.", examples=[ROIS])
    view: dict[str, Any] = Field(description="The client's own.", examples=[{"zoom": 2}])
    expires_in_s: int = Field(description="Seconds without any use after which it is forgotten.", examples=[KEPT_S])


class RoiCounts(BaseModel):
    """One ROI of a frame."""

    bounds: Bounds = Field(description="`[y0, y1, x0, x1]`.", examples=[[610, 760, 95, 245]])
    counts: float | None = Field(
        description="Null when there are none to tell; `trouble` says why.", examples=[15_300.0]
    )
    trouble: str = Field(description="Empty when all is well.", examples=[""])


class RoisModel(BaseModel):
    """The newest preview frame of a run, summed over ROIs.

    The worker keeps a preview of one frame every now and then, not of every point, and makes large frames smaller: each
    of its pixels is then the mean, as a whole number where the detector has whole numbers, of a block of detector
    pixels. `exact` tells whether these are the counts of the frame itself. The maps have the exact sums of every point.
    """

    run: str = Field(description="Uid.", examples=["c2b8eafc-390c-4d1a-be80-23f2a976cfe1"])
    source: str = Field(description="The camera.", examples=["camera"])
    seq_num: int | None = Field(description="Of the point whose frame it is.", examples=[63])
    time: float | None = Field(description="When it was kept, in seconds since 1970.", examples=[1795461238.1])
    frame_shape: Pair = Field(description="Of the detector: rows and columns.", examples=[[1216, 1936]])
    block: int = Field(
        description="Side in detector pixels of the block that one preview pixel is the mean of.", examples=[4]
    )
    exact: bool = Field(description="Whether the preview is the frame itself.", examples=[False])
    rois: dict[str, RoiCounts] = Field(
        examples=[{"spot": {"bounds": [610, 760, 95, 245], "counts": 15_300.0, "trouble": ""}}]
    )


def _page_of_ours(request: Request) -> None:
    check_page(request, service(request).settings)


Ours = Depends(_page_of_ours)


@sessions.post(
    "/sessions",
    summary="Begin a session",
    status_code=201,
    response_model=SessionModel,
    dependencies=[Ours],
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
    here: Here,
    request: Request,
    response: Response,
    address: Annotated[str, Depends(address_of)],
    wanted: Annotated[Wanted | None, Body()] = None,
) -> SessionModel:
    """Begins a session; its id is drawn by the server, and told once.

    It is forgotten when nobody has used it for a day.
    """
    visitor = await here.visitors.create(address, (wanted or Wanted()).told())
    response.headers["Location"] = f"{request.scope['root_path']}/api/sessions/{visitor.token}"
    response.headers["Cache-Control"] = "no-store"
    return _model(visitor)


@sessions.get(
    "/sessions/{id}", summary="Look at a session", response_model=SessionModel, responses=refusals(NO_SESSION)
)
async def look(token: Token, here: Here, response: Response) -> SessionModel:
    """A session as it is."""
    response.headers["Cache-Control"] = "no-store"
    return _model(await here.visitors.use(token))


@sessions.patch(
    "/sessions/{id}",
    summary="Change a session",
    response_model=SessionModel,
    dependencies=[Ours],
    responses=refusals({**NO_SESSION, **FOREIGN, **UNUSABLE_ROI}),
)
async def change(token: Token, wanted: Wanted, here: Here, response: Response) -> SessionModel:
    """Changes what was said of a session, each as a whole; the rest stays."""
    response.headers["Cache-Control"] = "no-store"
    return _model(await here.visitors.use(token, wanted.told()))


@sessions.delete(
    "/sessions/{id}",
    summary="End a session",
    status_code=204,
    dependencies=[Ours],
    responses=refusals({**NO_SESSION, **FOREIGN}),
)
async def end(token: Token, here: Here) -> None:
    """Ends a session."""
    await here.visitors.forget(token)


@sessions.get(
    "/sessions/{id}/maps",
    summary="Maps of what a session follows",
    response_model=MapsModel,
    responses={**refusals({**NO_SESSION, **NO_RUN}), **MAPS},
)
async def session_maps(
    token: Token, here: Here, form: As = MapFormat.JSON, if_none_match: IfNoneMatch = None
) -> Response:
    """The maps of what a session follows, as they are now."""
    visitor = await here.visitors.use(token)
    uid = await find_uid(here.store, visitor.follow)
    # what is followed may change, so a cursor alone is no version here
    salt = version_of(uid, visitor.source)[:8]
    known = [tag.removesuffix(f"-{salt}") for tag in known_of(if_none_match) if tag == "*" or tag.endswith(f"-{salt}")]
    found = await here.folds.maps(uid, form, source=visitor.source, known=known)
    return versioned(WrittenBytes(f"{found.cursor}-{salt}", found.body), form)


@sessions.get(
    "/sessions/{id}/rois",
    summary="Counts over the ROIs of a session",
    response_model=RoisModel,
    responses=refusals({**NO_SESSION, **NO_RUN, FrameNotFound: "The run has no preview frame (any more)."}),
)
async def session_rois(token: Token, here: Here) -> RoisModel:
    """Counts of the newest preview frame of what a session follows, over the session's ROIs, else over the run's."""
    visitor = await here.visitors.use(token)
    run = await here.folds.run(await find_uid(here.store, visitor.follow))
    if visitor.source and visitor.source not in run.sources:
        raise RunNotFound(f"run {run.uid[:100]!r} has no {visitor.source[:100]!r}; it has {', '.join(run.sources)}")
    source = run.source(visitor.source)
    name, uid, rois = run.name_of(source), run.uid, visitor.rois or dict(source.rois)
    kept = await here.store.frame(uid, "" if source is run.main else name)
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
        return RoiCounts(bounds=list(bounds), counts=None, trouble="a pixel of it is no number")
    return RoiCounts(bounds=list(bounds), counts=counts, trouble="")


def _model(visitor: ApiSession) -> SessionModel:
    return SessionModel(
        id=visitor.token,
        follow=visitor.follow,
        source=visitor.source,
        rois={name: list(bounds) for name, bounds in visitor.rois.items()},
        view=visitor.view,
        expires_in_s=KEPT_S,
    )
