"""Form of a plan from its JSON schema: its fields, and the parameters from their texts.

blueapi makes the schema with pydantic. Where a parameter is a device, ``type`` is the name of a Python class and
``enum`` lists devices; children of devices, like ``stage.x``, are valid, too, but not listed (blueapi 1.21). So a
device is a text with suggestions; everything else is standard JSON Schema.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from jsonschema import Draft202012Validator

from snakemap.errors import ParamsRefused

__all__ = ["Field", "Kind", "check_params", "fields_of", "read_params"]

Kind = Literal["number", "integer", "switch", "choice", "device", "text", "json"]

JSON_TYPES = frozenset(("string", "number", "integer", "boolean", "array", "object", "null"))
DEPTH_MAX = 12
FIELDS_MAX = 100
TEXT_MAX = 20_000
CHOICES_MAX = 500


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter of a plan.

    Attributes:
        name: of the parameter, like ``"x_start"``.
        title: for display, like ``"X Start"``.
        kind: type of input; ``"json"`` for all other types.
        required: whether the plan needs it.
        value: initial value: the old one, else the default, else None.
        choices: allowed values, or suggestions for a device.
        minimum: of a number, or None.
        maximum: of a number, or None.
        help: its description.
    """

    name: str
    title: str
    kind: Kind
    required: bool
    value: Any
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    help: str = ""

    @property
    def text(self) -> str:
        """The value as text.

        >>> Field("spec", "Spec", "json", True, {"type": "Linspace"}).text
        '{"type":"Linspace"}'
        """
        if self.value is None:
            return ""
        if self.kind == "json" or not isinstance(self.value, (str, bool, int, float)):
            return orjson.dumps(self.value, default=str).decode()
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


def fields_of(schema: Mapping[str, Any], old: Mapping[str, Any]) -> list[Field]:
    """Return the fields of a plan, in its order; old values without a parameter are left out.

    >>> schema = {"properties": {"rows": {"default": 3, "title": "Rows", "type": "integer"}}}
    >>> [(field.name, field.kind, field.value) for field in fields_of(schema, {"rows": 5, "gone": 1})]
    [('rows', 'integer', 5)]
    """
    required = set(schema.get("required") or ())
    fields = []
    for name, definition in list((schema.get("properties") or {}).items())[:FIELDS_MAX]:
        part = _resolved(definition, schema)
        kind = _kind(part)
        value = old[name] if name in old else part.get("default")
        choices = tuple(_enum(part, schema)[:CHOICES_MAX])
        minimum, maximum = _number(part.get("minimum")), _number(part.get("maximum"))
        fields.append(
            Field(
                name, str(part.get("title") or name)[:200], kind, name in required, value, choices,
                minimum if minimum is not None else _number(part.get("exclusiveMinimum")),
                maximum if maximum is not None else _number(part.get("exclusiveMaximum")),
                str(part.get("description") or "")[:1000],
            )
        )  # fmt: skip
    return fields


def read_params(fields: Sequence[Field], texts: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters from the texts of the fields; empty optional fields are left out.

    Raises:
        ParamsRefused: with the error of each field.
    """
    params: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field in fields:
        text = str(texts.get(field.name, field.text)).strip()
        if len(text) > TEXT_MAX:
            faults[field.name] = f"is longer than {TEXT_MAX:,} characters"
        elif not text:
            if field.required and field.kind != "text":
                faults[field.name] = "is required"
            elif field.required:
                params[field.name] = ""
        else:
            try:
                params[field.name] = _value(field, text)
            except ValueError as error:
                faults[field.name] = str(error)
    faults = {**_faults(schema, params, but=faults), **faults}
    if faults:
        raise ParamsRefused(faults)
    return params


def check_params(schema: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Validate parameters against a schema.

    Raises:
        ParamsRefused: with the error of each parameter.
    """
    if faults := _faults(schema, params):
        raise ParamsRefused(faults)


def _faults(
    schema: Mapping[str, Any], params: Mapping[str, Any], but: Mapping[str, str] | None = None
) -> dict[str, str]:
    faults: dict[str, str] = {}
    validator = Draft202012Validator(_plain(schema))
    for error in validator.iter_errors(dict(params)):
        if error.validator == "required":
            missing = [name for name in schema.get("required") or () if name not in params]
            names, words = missing, "is required"
        elif error.validator == "additionalProperties":
            names = [name for name in params if name not in (schema.get("properties") or {})]
            words = "the plan has no such parameter"
        else:
            names, words = [str(error.absolute_path[0]) if error.absolute_path else ""], error.message[:300]
        for name in names:
            if name not in (but or {}):
                faults.setdefault(name, words)
    return faults


def _value(field: Field, text: str) -> Any:
    """Return the value of a field's text.

    Raises:
        ValueError: when the text is invalid.
    """
    if field.kind in ("number", "integer"):
        return _read_number(text, whole=field.kind == "integer")
    if field.kind == "switch":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text[:40]!r} is not true or false")
        return text.lower() == "true"
    if field.kind == "choice":
        for choice in field.choices:
            if str(choice) == text:
                return choice
        raise ValueError(f"{text[:60]!r} is none of {', '.join(str(choice) for choice in field.choices[:20])}")
    if field.kind == "json":
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"is not valid JSON: {error}") from None
    return text


def _read_number(text: str, *, whole: bool) -> int | float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    if not whole:
        return number
    if number != int(number) or abs(number) > 2**53:
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(number)


def _resolved(part: Any, schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return a parameter's schema with its reference resolved, and ``X or null`` read as X."""
    if not isinstance(part, dict) or depth > DEPTH_MAX:
        return {}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        found = (schema.get("$defs") or {}).get(reference.removeprefix("#/$defs/"))
        return {**_resolved(found, schema, depth + 1), **{key: v for key, v in part.items() if key != "$ref"}}
    options = [one for one in part.get("anyOf") or () if isinstance(one, dict) and one.get("type") != "null"]
    if len(options) == 1:
        return {**_resolved(options[0], schema, depth + 1), **{key: v for key, v in part.items() if key != "anyOf"}}
    return part


def _kind(part: Mapping[str, Any]) -> Kind:
    kind = part.get("type")
    if isinstance(kind, str) and kind not in JSON_TYPES:
        return "device"
    if part.get("enum"):
        return "choice"
    kinds: dict[Any, Kind] = {"number": "number", "integer": "integer", "boolean": "switch", "string": "text"}
    return kinds.get(kind, "json") if isinstance(kind, str) else "json"


def _enum(part: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Any]:
    """Return the choices of a parameter, or of the items of a list."""
    found = part.get("enum") or _resolved(part.get("items"), schema).get("enum")
    return [one for one in found or () if isinstance(one, (str, int, float))]


def _plain(part: Any, depth: int = 0) -> Any:
    """Return a schema with devices as strings, which a validator accepts."""
    if depth > 3 * DEPTH_MAX:
        return {}
    if isinstance(part, list):
        return [_plain(one, depth + 1) for one in part]
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if isinstance(kind, str) and kind not in JSON_TYPES:
        return {"type": "string"}
    return {key: _plain(one, depth + 1) for key, one in part.items()}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
