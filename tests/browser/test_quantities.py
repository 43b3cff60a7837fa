"""How numbers are written in the browser: as in Python."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.support.quantities import LABELS, QUANTITIES

from snakemap.dashboard.quantities import quantity
from snakemap.dashboard.widgets import script_of


@pytest.fixture(scope="module")
def run(chromium: Browser) -> Any:
    """Runs a function of the script over a list of arguments, in an empty page."""
    page = chromium.new_page()

    def call(name: str, cases: list[list[Any]]) -> list[Any]:
        body = f"{script_of('quantity')}\nreturn cases.map((args) => {name}(...args))"
        return page.evaluate("([body, cases]) => new Function('cases', body)(cases)", [body, cases])

    yield call
    page.close()


def test_the_browser_writes_every_value_of_the_table_as_python_does(run: Any) -> None:
    assert len(QUANTITIES) >= 60
    assert run("quantity", [[value, unit] for value, unit, _ in QUANTITIES]) == [text for *_, text in QUANTITIES]


def test_the_browser_writes_values_of_all_sizes_as_python_does(run: Any) -> None:
    source = random.Random(7)
    values = [source.choice((-1, 1)) * source.random() * 10 ** source.uniform(-25, 25) for _ in range(1500)]
    values += [source.randrange(1, 99_999) / 2 ** source.randrange(9) for _ in range(1500)]  # many of them are ties
    bits = (struct.unpack("d", source.randbytes(8))[0] for _ in range(1500))
    values += [value for value in bits if abs(value) < float("inf")]
    units = [unit for _, unit, _ in QUANTITIES if len(unit) < 100]
    cases = [[value, source.choice(units)] for value in values]
    assert run("quantity", cases) == [quantity(value, unit) for value, unit in cases]


def test_ticks_have_one_prefix_and_labels_that_differ(run: Any) -> None:
    told = run("tickLabels", [[ticks, unit] for ticks, unit, _ in LABELS])
    assert told == [labels for *_, labels in LABELS]
    assert all(len(set(labels)) == len(labels) for labels in told)


def test_labels_of_ticks_differ_whatever_the_range(run: Any) -> None:
    source = random.Random(9)
    cases = []
    for _ in range(400):
        step = source.choice((1, 2, 5)) * 10.0 ** source.randrange(-18, 18)
        first = source.randrange(-60, 60)
        cases.append([[(first + k) * step for k in range(5)], source.choice(("", "A", "keV", "mm/s", "s"))])
    for (ticks, _), labels in zip(cases, run("tickLabels", cases), strict=True):
        assert len(set(labels)) == 5, (ticks, labels)
        for tick, label in zip(ticks, labels, strict=True):
            assert (tick == 0) == (label.lstrip("0.").startswith(" ") or label == "0"), (ticks, labels)
