"""How the API refuses: one shape for every error, and how its schema tells of it."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from snakemap.api.models import ErrorDetail, ErrorModel
from snakemap.errors import SnakemapError

__all__ = ["INVALID", "Refusals", "Responses", "answer", "answer_to", "problems_of", "refusals"]

INVALID = "invalid_request"
"""Code of a parameter or a body that is none of those that a route takes."""

Responses = dict[int | str, dict[str, Any]]
Refusals = dict[type[SnakemapError], str]
"""When what is refused, by kind of error."""


def answer(status: int, code: str, text: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the one shape."""
    body = ErrorModel(error=ErrorDetail(code=code, message=text))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


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
