"""Routes of synthetic data, for developing a client without a beamline."""

from __future__ import annotations

import io
import math
import time
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Query, Response, WebSocket
from PIL import Image
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from snakemap.api.error_responses import Responses, refusals
from snakemap.api.middleware.etags import content_hash, parse_etags
from snakemap.api.models import MapsModel, Pair, Tag
from snakemap.api.routes.runs import MAPS, As, IfNoneMatch, ServiceDep, versioned
from snakemap.api.streaming import refuse
from snakemap.errors import Busy, RequestRefused
from snakemap.live.run_cache import WrittenBytes
from snakemap.live.written_maps import write_maps
from snakemap.render.export import MapFormat
from snakemap.synthetic.request import Dtype, shape_from_text
from snakemap.synthetic.synthetic_scan import frame

__all__ = ["random"]

POINTS_MAX = 250_000
SCANNED = (60, 60)
RATE_MIN_HZ, RATE_MAX_HZ = 0.1, 1000.0
SIDE = r"(?:[1-9]\d?|[1-4]\d{2}|500)"
FRAME_SIDE = r"(?:[4-9]|[1-9]\d{1,2}|1\d{3}|20[0-3]\d|204[0-8])"
"""4 to 2048."""

random = APIRouter(
    prefix="/api/random",
    tags=[Tag.DEMO],
    responses=refusals(
        {RequestRefused: "A parameter is invalid.", Busy: "Too many requests for synthetic data at one time."}
    ),
)

Seed = Annotated[int, Query(description="The same seed gives the same data.", ge=0, lt=2**32)]
Shape = Annotated[
    str, Query(description="Points, slow by fast, each 1 to 500.", pattern=f"^{SIDE}x{SIDE}$", examples=["60x60"])
]
FrameShape = Annotated[
    str,
    Query(
        description="Rows by columns, each 4 to 2048.", pattern=f"^{FRAME_SIDE}x{FRAME_SIDE}$", examples=["1216x1936"]
    ),
]
Rate = Annotated[float, Query(description="Points a second.", ge=RATE_MIN_HZ, le=RATE_MAX_HZ)]


class FrameFormat(StrEnum):
    """File format of a frame."""

    JSON = "json"
    NPY = "npy"
    PNG = "png"


MEDIA_TYPES = {
    FrameFormat.JSON: "application/json",
    FrameFormat.NPY: "application/octet-stream",
    FrameFormat.PNG: "image/png",
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FRAMES: Responses = {
    200: {
        "content": {MEDIA_TYPES[FrameFormat.NPY]: BINARY, MEDIA_TYPES[FrameFormat.PNG]: BINARY},
        "description": "JSON, a NumPy array, or an image.",
    },
    304: {"description": "Unchanged since the ETag in If-None-Match."},
}


class FrameModel(BaseModel):
    """A detector frame."""

    shape: Pair = Field(description="Rows and columns.", examples=[[4, 4]])
    dtype: str = Field(description="As numpy names it.", examples=["uint8"])
    values: list[list[float]] = Field(description="Counts, as rows of columns.", examples=[[[1, 2, 2, 1]] * 4])


@random.get("/frame", summary="A random frame", response_model=FrameModel, responses=FRAMES)
async def random_frame(
    service: ServiceDep,
    shape: FrameShape = "1216x1936",
    seed: Seed = 0,
    dtype: Dtype = "uint8",
    form: Annotated[
        FrameFormat, Query(alias="format", description="`png` is for uint8 and uint16.")
    ] = FrameFormat.JSON,
    point: Annotated[int, Query(description="Of a scan of 60x60, from 0.", ge=0, lt=SCANNED[0] * SCANNED[1])] = 2567,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A frame of a simulated camera: three bright patches, at the regions of the instrument, over a dim background."""
    if form is FrameFormat.PNG and dtype not in ("uint8", "uint16"):
        raise RequestRefused(f"a PNG holds uint8 or uint16, not {dtype}")
    version = content_hash(shape, str(seed), dtype, form, str(point))
    if {version, "*"} & parse_etags(if_none_match):
        return versioned(WrittenBytes(version, None))
    size = shape_from_text(shape)
    body = await service.synthetic.draw(lambda: _written(frame(size, seed, dtype, point), form))
    return Response(
        body, media_type=MEDIA_TYPES[form], headers={"ETag": f'"{version}"', "Cache-Control": "max-age=3600"}
    )


@random.get("/map", summary="Random maps, which may grow", response_model=MapsModel, responses=MAPS)
async def random_map(
    service: ServiceDep,
    shape: Shape = "60x60",
    seed: Seed = 0,
    points: Annotated[
        int | None, Query(description="Points measured along the snake, at most. Default: all.", ge=0, le=POINTS_MAX)
    ] = None,
    rate_hz: Annotated[
        float | None, Query(description="Points a second by which it grows.", ge=RATE_MIN_HZ, le=RATE_MAX_HZ)
    ] = None,
    since: Annotated[
        float | None,
        Query(
            description="Start of a growing map, in seconds since 1970. Default: when the server started.",
            ge=0,
            le=1e11,
        ),
    ] = None,
    form: As = MapFormat.JSON,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Maps in the format of a run's maps; with `rate_hz` they grow as time passes. Their cursor counts the points."""
    scan = service.synthetic.scan(shape_from_text(shape), seed)
    visited = scan.points if points is None else min(points, scan.points)
    if rate_hz is not None:
        grown = (time.time() - (service.started if since is None else since)) * rate_hz
        visited = min(visited, max(0, math.floor(grown)))
    version = f"{visited}-0"
    if {version, "*"} & parse_etags(if_none_match):
        return versioned(WrittenBytes(version, None), form)
    body = await service.synthetic.draw(lambda: write_maps(scan.run(visited), form))
    return versioned(WrittenBytes(version, body), form)


class _Query(BaseModel):
    """Parameters of the WebSocket."""

    shape: str = Field("60x60", pattern=f"^{SIDE}x{SIDE}$")
    rate_hz: float = Field(10.0, ge=RATE_MIN_HZ, le=RATE_MAX_HZ)
    seed: int = Field(0, ge=0, lt=2**32)


QUERY = TypeAdapter(_Query)


@random.websocket("/documents")
async def random_documents(websocket: WebSocket, service: ServiceDep) -> None:
    """A scan in the format of the document stream, at its own pace; then the socket is closed with code 1000."""
    try:
        asked = QUERY.validate_python(dict(websocket.query_params))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
        await refuse(websocket, RequestRefused(text))
        return
    scan = service.synthetic.scan(shape_from_text(asked.shape), asked.seed)
    await service.streams.serve(websocket, scan.entries(asked.rate_hz))


def _written(pixels: npt.NDArray[np.generic], form: FrameFormat) -> bytes:
    if form is FrameFormat.JSON:
        content: dict[str, Any] = {"shape": pixels.shape, "dtype": pixels.dtype.name, "values": pixels}
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    buffer = io.BytesIO()
    if form is FrameFormat.NPY:
        np.save(buffer, pixels, allow_pickle=False)
    else:
        Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
