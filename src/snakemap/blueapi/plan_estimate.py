"""Estimate of a scan before it is begun: points, frames and seconds, from its parameters and from a previous run.

Parameters have no fixed names, so the number of points is estimated only where it follows: from a scanspec, from
integers whose product is the number of points of the previous run, or from integers with names like rows and columns.
The time per point is that of the previous run, with the new exposure. Everything else is None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Estimate", "PreviousRun", "estimate"]

FACTORS_MAX = 4
POINTS_MAX = 100_000_000
COUNTS = frozenset(("num", "number", "n", "nx", "ny", "points", "rows", "columns", "cols", "count", "steps", "size"))
EXPOSURES = ("exposure", "exposure_time", "livetime", "acquire_time", "count_time")
RATES = ("rate", "rate_hz", "frequency", "rate_in_hz")


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What is known of the previous run.

    Attributes:
        params: its parameters.
        points: of the whole scan, or None.
        frames_per_point: 1, or more where an event has several frames.
        period_s: seconds a point, or None before two points were measured.
    """

    params: Mapping[str, Any]
    points: int | None = None
    frames_per_point: int = 1
    period_s: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of a scan; None where unknown.

    Attributes:
        points: of the scan.
        frames: of its camera.
        seconds: from its first point to its last.
    """

    points: int | None
    frames: int | None
    seconds: float | None


def estimate(params: Mapping[str, Any], old: PreviousRun) -> Estimate:
    """Return the estimate of a scan with new parameters.

    >>> old = PreviousRun({"rows": 3, "columns": 4, "exposure": 0.1}, points=12, period_s=0.15)
    >>> result = estimate({"rows": 6, "columns": 4, "exposure": 0.2}, old)
    >>> result.points, result.frames, round(result.seconds, 3)
    (24, 24, 6.0)
    """
    points = _points(params, old)
    if points is None or not 0 < points <= POINTS_MAX:
        return Estimate(None, None, None)
    period = _period(params, old)
    return Estimate(points, points * old.frames_per_point, None if period is None else points * period)


def _points(params: Mapping[str, Any], old: PreviousRun) -> int | None:
    for value in params.values():
        if isinstance(value, Mapping) and "type" in value and (points := _points_of_spec(value)):
            return points
    names = _factors(params, old)
    if names is None:
        return old.points if dict(params) == dict(old.params) else None
    factors = [_sizes(params.get(name)) for name in names]
    return None if None in factors else math.prod(number for factor in factors for number in factor or ())


def _points_of_spec(spec: Mapping[str, Any]) -> int | None:
    from scanspec.specs import Spec  # its import takes a tenth of a start

    try:
        return math.prod(Spec.deserialize(spec).shape())
    except Exception:  # noqa: BLE001 - scanspec may raise anything for user input
        return None


def _factors(params: Mapping[str, Any], old: PreviousRun) -> tuple[str, ...] | None:
    """Return the parameters whose product is the number of points of the previous run, names of counts first.

    Without a previous run, all integers with names of counts.
    """
    if not old.points:
        counts = tuple(name for name, value in params.items() if _sizes(value) and _counts(name))
        return counts or None
    sizes = {name: found for name, value in old.params.items() if (found := _sizes(value))}
    names = sorted(sizes, key=lambda name: not _counts(name))
    for count in range(1, FACTORS_MAX + 1):
        for chosen in itertools.combinations(names, count):
            numbers = [number for name in chosen for number in sizes[name]]
            if math.prod(numbers) == old.points and (old.points > 1 or count == len(names)):
                return _with_ones(chosen, sizes)
    return None


def _with_ones(chosen: tuple[str, ...], sizes: Mapping[str, list[int]]) -> tuple[str, ...]:
    """Return the parameters with those counts added that were one: they do not show in the product."""
    ones = [name for name, found in sizes.items() if name not in chosen and math.prod(found) == 1 and _counts(name)]
    return (*chosen, *ones)


def _counts(name: str) -> bool:
    """Return whether a name is that of a count, like ``num_rows``."""
    return bool(COUNTS & set(name.lower().split("_")))


def _sizes(value: Any) -> list[int] | None:
    """Return positive integers, one or a few; None for anything else."""
    many = isinstance(value, (list, tuple)) and 0 < len(value) <= FACTORS_MAX
    numbers: list[Any] = list(value) if many else [value]
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in numbers)
    return numbers if whole else None


def _period(params: Mapping[str, Any], old: PreviousRun) -> float | None:
    """Return seconds a point: those of the previous run, with the new exposure in place of the old."""
    for name in RATES:
        rate = params.get(name)
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0:
            return 1.0 / rate
    period = old.period_s
    for name in EXPOSURES:
        new, before = params.get(name), old.params.get(name)
        if isinstance(new, (int, float)) and isinstance(before, (int, float)) and period is not None:
            return max(new * old.frames_per_point, period + (new - before) * old.frames_per_point)
    return period
