"""Error responses: one JSON shape for every error, and its description for the schema."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from snakemap.api.middleware.request_metrics import CODE
from snakemap.api.models import ErrorDetail, ErrorModel
from snakemap.errors import SnakemapError

__all__ = [
    "INVALID",
    "ErrorResponse",
    "Refusals",
    "Responses",
    "error_response",
    "problem_text",
    "refusals",
    "response_to",
]

INVALID = "invalid_request"
"""Error code of an invalid parameter or body."""

Responses = dict[int | str, dict[str, Any]]
Refusals = dict[type[SnakemapError], str]
"""Descriptions of refusals, by error class."""


class ErrorResponse(JSONResponse):
    """Error response that stores its code in the scope, for the request metrics.

    Args:
        code: error code.
        body: the content.
        status: HTTP status.
        headers: further headers.
    """

    def __init__(self, code: str, body: ErrorModel, *, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(body.model_dump(), status_code=status, headers=headers)
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        scope[CODE] = self._code
        await super().__call__(scope, receive, send)


def error_response(status: int, code: str, text: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error response in the API's error shape."""
    return ErrorResponse(code, ErrorModel(error=ErrorDetail(code=code, message=text)), status=status, headers=headers)


def response_to(error: SnakemapError) -> JSONResponse:
    """Return the response to an error of snakemap, with Retry-After where the error has a delay."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return error_response(error.status, error.code, str(error), headers=headers)


def problem_text(error: RequestValidationError) -> str:
    """Return all validation problems of a request in one line."""
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())


def refusals(descriptions: Refusals) -> Responses:
    """Return the ``responses`` argument of a route for its errors; errors of one status are merged.

    Args:
        descriptions: when each error is raised, by error class.
    """
    found: Responses = {}
    for kind, words in descriptions.items():
        response = found.setdefault(
            kind.status, {"model": ErrorModel, "description": "", "content": {"application/json": {"examples": {}}}}
        )
        response["description"] = f"{response['description']} {words}".strip()
        example = {"error": {"code": kind.code, "message": words}}
        response["content"]["application/json"]["examples"][kind.code] = {"value": example}
    return found
