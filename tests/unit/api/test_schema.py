"""The schema of the API tells everything of every route, whoever has added it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from tests.unit.api.test_app import ApiStore, application, schema

from snakemap.api.middleware.rate_limit import UNLIMITED
from snakemap.api.models import Tag

SCHEMA = schema()
OPERATIONS = {
    f"{method.upper()} {path}": (path, operation)
    for path, methods in SCHEMA["paths"].items()
    for method, operation in methods.items()
}
EVERY = pytest.mark.parametrize("label", sorted(OPERATIONS))
TEXTS = ("application/x-ndjson", "text/event-stream", "text/csv")


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    return SCHEMA["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part


def exemplified(part: dict[str, Any]) -> bool:
    """Whether a schema shows, itself or in all of its parts, what is meant."""
    part = resolved(part)
    if any(key in part for key in ("example", "examples", "const", "enum")) or part.get("type") in ("boolean", "null"):
        return True
    if part.get("type") == "array":
        return exemplified(part.get("items", {}))
    if "properties" in part:
        return all(exemplified(one) for one in part["properties"].values())
    choices = part.get("anyOf", []) + part.get("oneOf", []) + part.get("allOf", [])
    return bool(choices) and any(exemplified(one) for one in choices if resolved(one).get("type") != "null")


def refusals(operation: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            yield int(status), response


@EVERY
def test_every_route_has_one_tag_a_summary_and_a_description(label: str) -> None:
    _, operation = OPERATIONS[label]
    assert len(operation["tags"]) == 1
    assert operation["tags"][0] in set(Tag)
    assert operation["summary"]
    assert operation["description"][-1] in ".:"


@EVERY
def test_every_answer_has_a_schema_and_an_example(label: str) -> None:
    _, operation = OPERATIONS[label]
    good = {status: told for status, told in operation["responses"].items() if status.startswith("2")}
    assert good
    for status, response in good.items():
        assert response["description"]
        assert status == "204" or response["content"]
        for media_type, content in response.get("content", {}).items():
            shown = "example" in content or content.get("examples")
            if media_type == "application/json" or media_type in TEXTS:
                assert shown or exemplified(content["schema"]), f"{status} {media_type}"
            else:
                assert content.get("schema"), f"{status} {media_type}"


@EVERY
def test_every_refusal_has_the_one_shape_and_an_example_of_it(label: str) -> None:
    path, operation = OPERATIONS[label]
    for status, response in refusals(operation):
        assert response["description"]
        content = response["content"]["application/json"]
        shape = content["schema"]["$ref"].rsplit("/", 1)[1]
        if shape == "Readiness":
            assert (path, status) == ("/readyz", 503)
            continue
        assert shape in ("ErrorModel", "H5ErrorModel"), status
        examples = [one["value"] for one in content.get("examples", {}).values()] or [content["example"]]
        for example in examples:
            assert set(example["error"]) == {"code", "message"}
            assert ("message" in example) == (shape == "H5ErrorModel")


@EVERY
def test_every_route_tells_what_holds_for_all(label: str) -> None:
    path, operation = OPERATIONS[label]
    told = {status for status, _ in refusals(operation)}
    assert path in UNLIMITED or 429 in told
    if operation.get("parameters") or "requestBody" in operation:
        assert 422 in told
    if "requestBody" in operation:
        assert {408, 413} <= told


@EVERY
def test_every_text_that_is_asked_for_has_a_longest_length(label: str) -> None:
    """Or is one of a few, or has a pattern that bounds it; so is every number."""
    _, operation = OPERATIONS[label]
    for parameter in operation.get("parameters", []):
        choices = [resolved(one) for one in parameter["schema"].get("anyOf", [parameter["schema"]])]
        for choice in choices:
            if choice.get("type") == "string" and "enum" not in choice and "const" not in choice:
                assert "maxLength" in choice or "pattern" in choice, parameter["name"]
            if choice.get("type") in ("integer", "number"):
                assert {"maximum", "exclusiveMaximum"} & set(choice), parameter["name"]


def test_examples_are_what_they_are_examples_of() -> None:
    for name, model in SCHEMA["components"]["schemas"].items():
        for field, told in model.get("properties", {}).items():
            for example in told.get("examples", []):
                document = {**told, "components": SCHEMA["components"]}
                assert jsonschema.Draft202012Validator(document).is_valid(example), f"{name}.{field}: {example}"


def test_no_answer_of_the_framework_is_promised() -> None:
    assert not [name for name in SCHEMA["components"]["schemas"] if "Validation" in name]


def test_every_tag_is_explained() -> None:
    assert {tag["name"] for tag in SCHEMA["tags"]} == set(Tag)
    assert all(tag["description"] for tag in SCHEMA["tags"])
    app = application(ApiStore())
    assert app.openapi() is app.openapi()
