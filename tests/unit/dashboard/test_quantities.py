from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.properties import examples
from tests.support.quantities import QUANTITIES

from snakemap.dashboard.quantities import quantity, unit_text

UNITS = ["", "A", "nA", "keV", "mm", "s", "K", "counts", "mm/s", "arb. unit", "%"]
POWERS = {"f": -15, "p": -12, "n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}


@pytest.mark.parametrize(("value", "unit", "text"), QUANTITIES)
def test_a_value_is_written_with_its_unit(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@examples(300)
@given(st.floats(-1e308, 1e308), st.sampled_from(UNITS))
def test_what_is_written_is_the_value_to_four_digits_and_only_zero_is_zero(value: float, unit: str) -> None:
    number, _, told = quantity(value, unit).partition(" ")
    assert re.fullmatch(r"-?\d{1,3}(,\d{3})*(\.\d+)?(e[+-]\d+)?", number)
    assert len(number) <= 20
    read = float(number.replace(",", ""))
    base = {"nA": "A", "keV": "eV", "mm": "m"}.get(unit, unit)
    if unit in ("A", "nA", "keV", "mm", "s", "K"):
        read *= 10.0 ** (POWERS[told.removesuffix(base)] - POWERS[unit.removesuffix(base)])
    else:
        assert told == unit
    assert read == pytest.approx(value, rel=5.1e-4, abs=0)
    assert (read == 0) == (value == 0)
    assert value == 0 or math.copysign(1, read) == math.copysign(1, value)


@pytest.mark.parametrize("unit", [None, 5, ["A"], {"A": 1}, "\ud800", "A" * 10**6])
def test_a_unit_that_is_no_short_text_is_made_one(unit: object) -> None:
    text = unit_text(unit)
    assert len(text) <= 24
    assert text.isprintable()
    text.encode()
