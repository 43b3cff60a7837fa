"""HDF5 files for H5Web and other clients of h5grove: its routes and answers, confined to the data root.

Reader processes answer the requests (:mod:`snakemap.hdf5.child.h5grove_answers`); HDF5 is not loaded here. Errors
have the API's error shape, and in addition the ``message`` that clients of h5grove read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from snakemap.api.error_responses import INVALID, ErrorResponse, Responses, problem_text
from snakemap.api.large_response import LargeResponse, PendingBytes
from snakemap.api.models import ErrorDetail, ErrorModel, Tag
from snakemap.errors import SnakemapError, TooBusy
from snakemap.hdf5.inspector import FileInspector
from snakemap.hdf5.protocol import H5groveRequest
from snakemap.settings import Settings

__all__ = ["H5Service", "h5"]

WAITING_MAX = 100
"""Requests that may wait; a page of H5Web makes about five at one time."""

KEYS_MAX = 1000
TIME_LIMIT_S = 5.0


class H5Format(StrEnum):
    """Format of values."""

    JSON = "json"
    BIN = "bin"
    NPY = "npy"
    CSV = "csv"
    TIFF = "tiff"


HEADERS = {
    H5Format.JSON: {"Content-Type": "application/json"},
    H5Format.BIN: {"Content-Type": "application/octet-stream"},
    H5Format.NPY: {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": 'attachment; filename="data.npy"',
    },
    H5Format.CSV: {"Content-Type": "text/csv", "Content-Disposition": 'attachment; filename="data.csv"'},
    H5Format.TIFF: {"Content-Type": "image/tiff", "Content-Disposition": 'attachment; filename="data.tiff"'},
}


class H5ErrorModel(ErrorModel):
    """An error that clients of h5grove understand, too."""

    message: str = Field(description="As in `error`, where h5grove has it.", examples=["there is no such file"])


class H5Service:
    """Access to HDF5 files for one application.

    Args:
        settings: of the process.
        time_limit_s: seconds that one request may take.

    Attributes:
        inspector: reads the files.
        waiting: requests without an answer yet.
        pending: bytes of the answers that are being sent.
    """

    def __init__(self, settings: Settings, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.inspector = FileInspector(
            settings.root,
            path_map=settings.path_map,
            locking=settings.file_locking,
            time_limit_s=time_limit_s,
        )
        self.waiting = 0
        self.pending = PendingBytes()

    async def answer(self, request: H5groveRequest, form: H5Format = H5Format.JSON) -> Response:
        """Return h5grove's answer to a request.

        Raises:
            TooBusy: when too many requests wait.
        """
        if self.waiting >= WAITING_MAX:
            raise TooBusy("too many requests wait for the reader processes; try again in a moment")
        self.waiting += 1
        try:
            body = await self.inspector.h5grove(request)
        finally:
            self.waiting -= 1
        self.pending.check(len(body))
        return LargeResponse(body, self.pending, headers=HEADERS[form])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """End the reader processes when the application ends."""
    yield
    service: H5Service | None = getattr(app.state, "h5", None)
    if service is not None:
        await service.inspector.close()


def h5_service_of(connection: HTTPConnection) -> H5Service:
    """Return the H5Service of the application, made on first use."""
    state = connection.app.state
    if not hasattr(state, "h5"):
        state.h5 = H5Service(state.service.settings)
    return state.h5


class H5Route(APIRoute):
    """Route with errors in the shape that clients of h5grove understand."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which turns exceptions into responses."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except SnakemapError as error:
                return _refusal(error.status, error.code, str(error))
            except RequestValidationError as error:
                return _refusal(422, INVALID, problem_text(error))

        return handled


def _refusal(status: int, code: str, text: str) -> ErrorResponse:
    body = H5ErrorModel(error=ErrorDetail(code=code, message=text), message=text)
    return ErrorResponse(code, body, status=status)


ERRORS: Responses = {
    403: {"model": H5ErrorModel, "description": "The path is outside the data root, or links to something outside."},
    404: {"model": H5ErrorModel, "description": "No such file, or no such node in it."},
    413: {"model": H5ErrorModel, "description": "More than one answer may hold; choose a part."},
    422: {"model": H5ErrorModel, "description": "The wrong kind of node, a selection that does not fit, a bad file."},
    503: {"model": H5ErrorModel, "description": "The file cannot be read yet, or too many requests wait."},
}

h5 = APIRouter(prefix="/api/h5", tags=[Tag.FILES], route_class=H5Route, responses=ERRORS, lifespan=lifespan)

H5ServiceDep = Annotated[H5Service, Depends(h5_service_of)]
InRoot = Annotated[
    str, Query(alias="file", description="In the data root, or as its writer names it.", max_length=4096)
]
Node = Annotated[str, Query(description="In the file.", max_length=4096)]
Part = Annotated[
    str | None, Query(description="`3`, `0,:,2:8` or `::2`: as numpy, steps forward only.", max_length=2000)
]
Resolve = Annotated[
    str,
    Query(
        description="Soft and external links: `none`, `only_valid`, `all` (one that leads nowhere is a 404).",
        max_length=20,
    ),
]
Keys = Annotated[list[str] | None, Query(description="Names; default: all.", max_length=KEYS_MAX)]
Dtype = Annotated[
    str, Query(description="`origin`, or `safe`: a type with a typed array in JavaScript.", max_length=20)
]


META = {"name": "data", "kind": "dataset", "shape": [100, 1216, 1936], "type": {"class": "H5T_INTEGER", "size": 1}}
ATTRIBUTES = {"NX_class": "NXdata", "signal": "data"}
PATHS = ["/", "/entry", "/entry/data"]
BINARY = {"type": "string", "format": "binary"}


def json_example(example: object) -> Responses:
    """Return the description of a successful response."""
    return {200: {"content": {"application/json": {"example": example}}}}


class StatsModel(BaseModel):
    """Statistics of the finite values; null where there are none."""

    strict_positive_min: float | None = Field(examples=[1.0])
    positive_min: float | None = Field(examples=[0.0])
    min: float | None = Field(examples=[0.0])
    max: float | None = Field(examples=[255.0])
    mean: float | None = Field(examples=[17.2])
    std: float | None = Field(examples=[9.8])


@h5.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def grove_root() -> Response:
    """Health check of h5grove."""
    return PlainTextResponse("ok")


@h5.get("/meta", include_in_schema=False)
@h5.get("/meta/", summary="A node of a file", response_model=dict[str, Any], responses=json_example(META))
async def grove_meta(
    service: H5ServiceDep, file: InRoot, path: Node = "/", resolve_links: Resolve = "only_valid"
) -> Response:
    """The metadata of a node of an HDF5 file, with the members of a group, as H5Web reads them."""
    return await service.answer({"ask": "grove meta", "path": file, "node": path, "resolve_links": resolve_links})


@h5.get("/attr", include_in_schema=False)
@h5.get("/attr/", summary="Attributes of a node", response_model=dict[str, Any], responses=json_example(ATTRIBUTES))
async def grove_attr(service: H5ServiceDep, file: InRoot, path: Node = "/", attr_keys: Keys = None) -> Response:
    """Values of a node's attributes, by name."""
    return await service.answer({"ask": "grove attr", "path": file, "node": path, "attr_keys": attr_keys})


@h5.get("/data", include_in_schema=False)
@h5.get(
    "/data/",
    summary="Values of a dataset",
    response_class=Response,
    responses={
        200: {
            "content": {
                "application/json": {"schema": {}, "example": [[0, 1], [2, 3]]},
                "text/csv": {"schema": {"type": "string"}, "example": "0,1\n2,3\n"},
                "application/octet-stream": {"schema": BINARY},
                "image/tiff": {"schema": BINARY},
            },
            "description": "Values.",
        }
    },
)
async def grove_data(
    service: H5ServiceDep,
    file: InRoot,
    path: Node = "/",
    dtype: Dtype = "origin",
    form: Annotated[H5Format, Query(alias="format")] = H5Format.JSON,
    flatten: bool = False,
    selection: Part = None,
) -> Response:
    """Values of a dataset, or of a part of it; at most 64 MiB, or a million as text."""
    request: H5groveRequest = {"ask": "grove data", "path": file, "node": path, "selection": selection}
    return await service.answer({**request, "dtype": dtype, "format": form.value, "flatten": flatten}, form)


@h5.get("/stats", include_in_schema=False)
@h5.get("/stats/", summary="Statistics of a dataset", response_model=StatsModel)
async def grove_stats(service: H5ServiceDep, file: InRoot, path: Node = "/", selection: Part = None) -> Response:
    """Minimum, maximum, mean and standard deviation of the finite values of a dataset, or of a part of it."""
    return await service.answer({"ask": "grove stats", "path": file, "node": path, "selection": selection})


@h5.get("/paths", include_in_schema=False)
@h5.get("/paths/", summary="Paths below a node", response_model=list[str], responses=json_example(PATHS))
async def grove_paths(
    service: H5ServiceDep, file: InRoot, path: Node = "/", resolve_links: Resolve = "only_valid"
) -> Response:
    """The paths of a group and of everything below it."""
    return await service.answer({"ask": "grove paths", "path": file, "node": path, "resolve_links": resolve_links})
