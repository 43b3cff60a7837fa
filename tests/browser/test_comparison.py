"""Two runs compared whose values are not counts: images, color bars, and what the pointer reads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from playwright.sync_api import Browser
from tests.browser.test_dataset_axes import pointed
from tests.browser.test_numbers import LABELS, append, labels
from tests.support.browser import Shown, open_page
from tests.support.cases import Documents, number
from tests.support.stack import Stack

from snakemap.dashboard.permalink import ViewPlace, query
from snakemap.dashboard.quantities import quantity

PARTS = ("first", "second", "difference", "ratio")
STEPS = np.arange(12.0)
VALUES: dict[str, tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]] = {
    "i0": (("A", 1.235e-10 * 2.0**STEPS), ("A", 1.5e-10 * 2.0**STEPS)),
    "it": (("A", -3.03e-7 * (STEPS + 1)), ("A", 2.5e-7 * (STEPS - 4))),
    "gain": (("uA", 1.5 + STEPS), ("V", 2.5 + STEPS)),
    "odd": (("<img src=x>", 1e-9 * (STEPS + 1)), ("<img src=x>", 4e-9 * (STEPS + 1))),
    "counts": (("", 123_456_789 + STEPS), ("", 123_456_791 + 3 * STEPS)),
    "tiny": (("A", 1e-50 * (STEPS + 1)), ("A", 3e-50 * (STEPS + 1))),
    "big": (("A", 7e287 * (STEPS + 1)), ("A", 1.4e288 * (STEPS + 1))),
}
"""Units and values (12,) of each channel of both runs."""

TITLE = "(name) => sm.view(name).model.title.text"


def grid(values: np.ndarray) -> np.ndarray:
    """Twelve points on the cells of a snaked scan of 3 x 4, rows from the bottom."""
    rows = values.reshape(3, 4).copy()
    rows[1] = rows[1, ::-1]
    return rows


@pytest.fixture(scope="module")
def runs(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The uids of two runs, which are all that the store has."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    made = [scan(tmp_path_factory.mktemp(name), which) for which, name in enumerate(("before", "after"))]
    with ThreadPoolExecutor(1) as thread:  # Playwright keeps an event loop in the main thread
        thread.submit(lambda: asyncio.run(append(redis_server, made))).result()
    return made[0].uid, made[1].uid


def scan(folder: Path, which: int) -> Documents:
    """The first or the second run."""
    case = Documents(folder, 3, 4)
    channels = {name: both[which] for name, both in VALUES.items()}
    descriptor = case.descriptor("primary", **{key: number(unit) for key, (unit, _) in channels.items()})
    for point in range(12):
        case.event(descriptor, point + 1, **{key: float(values[point]) for key, (_, values) in channels.items()})
    case.stop(primary=12)
    return case


@pytest.fixture(scope="module")
def page(pages: Stack, runs: tuple[str, str], chromium: Browser) -> Iterator[Shown]:
    """The comparison of both runs."""
    shown = open_page(chromium, f"{pages.url}/dashboard?{query(ViewPlace(compare=runs))}")
    shown.wait(lambda: image(shown, "ratio").shape == (3, 4))
    yield shown
    shown.page.close()
    assert shown.errors == []


def image(tab: Shown, part: str) -> np.ndarray:
    """What a figure of the comparison draws, as the browser has it."""
    told: Any = tab.page.evaluate(
        """(name) => { const image = sm.view(name)?.model.renderers[0].data_source.data.image?.[0]
                       if (!image) return null
                       return {shape: image.shape, values: Array.from(image, (v) => isNaN(v) ? null : v)} }""",
        f"compare {part}",
    )
    if told is None:
        return np.zeros((0, 0))
    values = [np.nan if value is None else value for value in told["values"]]
    return np.array(values, float).reshape(told["shape"])


@pytest.mark.parametrize("channel", VALUES)
def test_two_runs_are_compared_in_their_units(page: Shown, channel: str) -> None:
    (unit, first), (other, second) = VALUES[channel]
    a, b = grid(first), grid(second)
    expected = {"first": a, "second": b, "difference": b - a, "ratio": b / a}
    page.page.locator(".bk-btn:visible").filter(has_text=re.compile(f"^{channel}$")).first.click()
    page.wait(lambda: all(np.allclose(image(page, part), expected[part], rtol=1e-6, atol=0) for part in PARTS))
    for part in PARTS:
        np.testing.assert_array_equal(image(page, part), expected[part], err_msg=part)
    common = unit if unit == other else ""
    for part, shown_in in zip(PARTS, (unit, other, common, ""), strict=True):
        figure = f"compare {part}"
        title = f" ({shown_in})" if shown_in else ""
        page.wait(lambda: page.page.evaluate(TITLE, figure).endswith(title))  # noqa: B023
        if channel in ("i0", "it", "counts"):  # others have no prefix, or values beyond all prefixes
            page.wait(lambda: any(word.endswith(shown_in) for word in page.page.evaluate(LABELS, [figure, "bar"])[0]))  # noqa: B023
            assert len(labels(page, figure, unit=shown_in)) >= 2
        value = f"value {quantity(expected[part][2, 1], shown_in)}"
        page.wait(lambda: pointed(page, figure, 1.0, 2.0).endswith(value))  # noqa: B023
    note = page.page.get_by_text("values are compared without conversion")
    assert note.is_visible() == (unit != other)
