"""How property tests look for counterexamples: the same examples every time, and no clock."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tests.support.hostile_bodies import STRANGE_VALUES

__all__ = ["examples", "strange_values"]


def strange_value(number: int) -> Any:
    """One of the strange values, by number: they are too large to be part of a strategy's description."""
    return STRANGE_VALUES[number]


strange_values = st.integers(0, len(STRANGE_VALUES) - 1).map(strange_value)
"""Draws one of the values that may stand where nobody expects them."""


def examples(count: int) -> settings:
    """Settings for a property that is tried on ``count`` examples."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
