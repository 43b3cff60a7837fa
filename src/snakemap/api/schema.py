"""The OpenAPI schema, completed with what holds for every route."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from snakemap.api.error_responses import INVALID
from snakemap.api.middleware.rate_limit import UNLIMITED

__all__ = ["openapi_schema"]

ERROR = {"$ref": "#/components/schemas/ErrorModel"}
H5_ERROR = {"$ref": "#/components/schemas/H5ErrorModel"}
FRAMEWORK = ("HTTPValidationError", "ValidationError")
"""Schemas of the framework's own error responses, which the API does not use."""

PUBLIC_NAMES = {
    "MapFormat": "snakemap__api__maps__Form",
    "H5Format": "snakemap__api__h5__Form",
    "FrameFormat": "Picture",
}
"""Names of classes, and their names in the published schema, from which clients generate code."""

CODES = {408: "body_too_slow", 413: "body_too_large", 421: "host_refused", 422: INVALID, 429: "too_often"}
OF_HOSTS = {421: "The request names a host that is not a name of this server."}
OF_ALL = {429: "Too many requests of this address in this minute; Retry-After gives the seconds to wait."}
OF_INPUT = {422: "A parameter or the body is invalid."}
OF_BODIES = {413: "The body is too large.", 408: "The body did not arrive in time."}


def openapi_schema(app: FastAPI) -> dict[str, Any]:
    """Return the schema of an application: FastAPI's, with every error in the API's error shape and an example."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        for path, methods in schema["paths"].items():
            for operation in methods.values():
                _complete(operation, limited=path not in UNLIMITED)
        for name in FRAMEWORK:
            schema["components"]["schemas"].pop(name, None)
        app.openapi_schema = _with_public_names(schema)
    return app.openapi_schema


def _with_public_names(schema: dict[str, Any]) -> dict[str, Any]:
    components: dict[str, Any] = schema["components"]["schemas"]
    for name, public in PUBLIC_NAMES.items():
        components[name]["title"] = public.rpartition("__")[2]
    text = json.dumps(schema)
    for name, public in PUBLIC_NAMES.items():
        text = text.replace(f'"{name}":', f'"{public}":').replace(f'schemas/{name}"', f'schemas/{public}"')
    return json.loads(text)


def _complete(operation: dict[str, Any], *, limited: bool) -> None:
    responses: dict[str, Any] = operation["responses"]
    wanted = OF_HOSTS | (OF_ALL if limited else {})
    if "requestBody" in operation:
        wanted |= OF_BODIES
    if "requestBody" in operation or operation.get("parameters"):
        wanted |= OF_INPUT
    for status, words in wanted.items():
        response = responses.get(str(status))
        if response is None or _schema_of(response).get("$ref", "").endswith(FRAMEWORK):
            responses[str(status)] = {"description": words, "content": {"application/json": {"schema": ERROR}}}
    for status, response in responses.items():
        if _schema_of(response) in (ERROR, H5_ERROR):
            _exemplify(response, int(status))
    operation["responses"] = dict(sorted(responses.items()))


def _exemplify(response: dict[str, Any], status: int) -> None:
    content = response["content"]["application/json"]
    if not content.get("examples") and "example" not in content:
        code = CODES.get(status) or HTTPStatus(status).name.lower()
        content["example"] = {"error": {"code": code, "message": response["description"]}}
        if content["schema"] == H5_ERROR:
            content["example"]["message"] = response["description"]


def _schema_of(response: dict[str, Any]) -> dict[str, Any]:
    return response.get("content", {}).get("application/json", {}).get("schema", {})
