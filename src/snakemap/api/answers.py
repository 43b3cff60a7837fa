"""How the API refuses: one shape for every error, and how its schema tells of it."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from snakemap.api.models import ErrorDetail, ErrorModel
from snakemap.errors import SnakemapError

__all__ = ["Refusals", "Responses", "answer", "answer_to", "refusals"]

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
