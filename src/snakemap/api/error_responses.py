"""How the API refuses: one shape for every error, and how its schema tells of it."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from snakemap.api.middleware.request_metrics import CODE
from snakemap.api.models import ErrorDetail, ErrorModel
from snakemap.errors import SnakemapError

__all__ = ["INVALID", "ErrorResponse", "Refusals", "Responses", "answer", "answer_to", "problems_of", "refusals"]

INVALID = "invalid_request"
"""Code of a parameter or a body that is none of those that a route takes."""

Responses = dict[int | str, dict[str, Any]]
Refusals = dict[type[SnakemapError], str]
"""When what is refused, by kind of error."""


class ErrorResponse(JSONResponse):
    """An answer that is an error; whoever counts requests finds its code in the scope.

    Args:
        code: of the error.
        body: that tells it.
        status: of the answer.
        headers: with it.
    """

    def __init__(self, code: str, body: ErrorModel, *, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(body.model_dump(), status_code=status, headers=headers)
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        scope[CODE] = self._code
        await super().__call__(scope, receive, send)


def answer(status: int, code: str, text: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the one shape."""
    return ErrorResponse(code, ErrorModel(error=ErrorDetail(code=code, message=text)), status=status, headers=headers)


def answer_to(error: SnakemapError) -> JSONResponse:
    """An error of ours in the one shape, with the time to wait where it tells one."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return answer(error.status, error.code, str(error), headers=headers)


def problems_of(error: RequestValidationError) -> str:
    """What is wrong with a request, in one line."""
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())


def refusals(told: Refusals) -> Responses:
    """What a route may refuse with, as FastAPI wants it; errors of one status go together.

    Args:
        told: when it happens, by kind of error.
    """
    found: Responses = {}
    for kind, words in told.items():
        response = found.setdefault(
            kind.status, {"model": ErrorModel, "description": "", "content": {"application/json": {"examples": {}}}}
        )
        response["description"] = f"{response['description']} {words}".strip()
        example = {"error": {"code": kind.code, "message": words}}
        response["content"]["application/json"]["examples"][kind.code] = {"value": example}
    return found
