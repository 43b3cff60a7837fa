"""Apply a region drawn on a map to the parameters of a plan: start, stop, center and width of each axis.

Parameters are matched by name: a role (``start``, ``stop``, ``center`` ...) and an axis (``x``, ``y``, or the axis'
name). Scanspecs are matched by the names of their axes. All other parameters stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Region", "apply_region"]

Region = Mapping[str, tuple[float, float]]
"""Lowest and highest coordinate by axis name, like ``{"stage-x": (0.0, 1.5)}``; fast axis first."""

ROLES = {
    "start": "start", "begin": "start", "from": "start", "first": "start", "min": "start", "low": "start", "0": "start",
    "stop": "stop", "end": "stop", "to": "stop", "last": "stop", "max": "stop", "high": "stop", "1": "stop",
    "center": "center", "centre": "center", "middle": "center",
    "width": "span", "height": "span", "range": "span", "size": "span", "span": "span", "diameter": "span",
}  # fmt: skip
DEPTH_MAX = 20


def apply_region(params: Mapping[str, Any], region: Region) -> dict[str, Any]:
    """Return the parameters that a region changes, with their new values; the direction of each axis stays.

    >>> apply_region({"x_start": 0.0, "x_stop": 1.0, "rows": 3}, {"stage-x": (2.0, 3.5), "stage-y": (0, 1)})
    {'x_start': 2.0, 'x_stop': 3.5}
    >>> apply_region({"x_start": 5.0, "x_stop": 1.0, "x_center": 3.0}, {"stage-x": (2.0, 3.5)})
    {'x_start': 3.5, 'x_stop': 2.0, 'x_center': 2.75}
    """
    changed: dict[str, Any] = {}
    places = {name: place for name, value in params.items() if _real(value) and (place := _place(name, region))}
    for name, (role, axis) in places.items():
        low, high = region[axis]
        falling = _falling(params, places, axis)
        changed[name] = _round(_of_role(role, high, low) if falling else _of_role(role, low, high))
    for name, value in params.items():
        if isinstance(value, Mapping) and "type" in value:
            new = _spec(value, region, 0)
            if new != value:
                changed[name] = new
    return changed


def _of_role(role: str, start: float, stop: float) -> float:
    return {"start": start, "stop": stop, "center": (start + stop) / 2, "span": abs(stop - start)}[role]


def _falling(params: Mapping[str, Any], places: Mapping[str, tuple[str, str]], axis: str) -> bool:
    ends = {role: params[name] for name, (role, of) in places.items() if of == axis and role in ("start", "stop")}
    return len(ends) == 2 and ends["start"] > ends["stop"]


def _place(name: str, region: Region) -> tuple[str, str] | None:
    """Return role and axis of a parameter, from its name; None without a match.

    >>> _place("x_start", {"stage-x": (0, 1)}), _place("centre_y", {"stage-x": (0, 1), "stage-y": (0, 1)})
    (('start', 'stage-x'), ('center', 'stage-y'))
    """
    tokens = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    tokens = [part for token in tokens for part in _split(token)]
    role = next((ROLES[token] for token in tokens if token in ROLES), None)
    if role is None:
        return None
    for axis in region:
        words = re.findall(r"[a-z]+", axis.lower())
        if words and (words[-1] in tokens or "".join(words) in tokens):
            return role, axis
    return None


def _split(token: str) -> list[str]:
    """Split names like ``xmin`` and ``ystart`` into axis and role."""
    return [token[0], token[1:]] if token[:1] in ("x", "y", "z") and token[1:] in ROLES else [token]


def _spec(part: Any, region: Region, depth: int) -> Any:
    """Return a scanspec with the ends of its axes replaced."""
    if depth > DEPTH_MAX:
        return part
    if isinstance(part, list):
        return [_spec(one, region, depth + 1) for one in part]
    if not isinstance(part, Mapping):
        return part
    part = {key: _spec(value, region, depth + 1) for key, value in part.items()}
    axis = part.get("axis")
    if isinstance(axis, str) and axis in region and _real(part.get("start")) and _real(part.get("stop")):
        low, high = region[axis]
        falling = part["start"] > part["stop"]
        part["start"], part["stop"] = (_round(high), _round(low)) if falling else (_round(low), _round(high))
    for prefix in ("x", "y"):
        axis = part.get(f"{prefix}_axis")
        if isinstance(axis, str) and axis in region and f"{prefix}_centre" in part:
            low, high = region[axis]
            part[f"{prefix}_centre"], part[f"{prefix}_diameter"] = _round((low + high) / 2), _round(high - low)
    return part


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _round(value: float) -> float:
    """Return a coordinate with six significant digits."""
    return float(f"{value:.6g}")
