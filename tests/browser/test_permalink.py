"""The address of the page: it follows what is shown, and whoever opens it sees the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, urlsplit

import h5py
import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.support.browser import Shown, open_page
from tests.support.made_up import MadeUpRun
from tests.support.stack import Stack


@contextmanager
def opened(chromium: Browser, url: str) -> Iterator[Shown]:
    """A tab that must complain of nothing."""
    shown = open_page(chromium, url)
    yield shown
    shown.page.close()
    assert shown.errors == []


@pytest.fixture
def runs(redis_url: str) -> list[MadeUpRun]:
    """Two runs, the second one the newest; both are whole."""
    made = [MadeUpRun(redis_url, seed=seed) for seed in (1, 2)]
    for run in made:
        run.add(1, 80)
        run.stop()
    return made


def held(shown: Shown) -> dict[str, str]:
    """What the address holds."""
    told = parse_qs(urlsplit(shown.page.evaluate("location.href")).query)
    return {name: values[-1] for name, values in told.items()}


def look(shown: Shown) -> dict[str, object]:
    """What somebody sees of the maps."""
    return shown.page.evaluate(
        """() => {
          const {x_range, y_range} = sm.named('map-total')
          const at = (range) => [range.start, range.end].map((value) => Math.round(value * 1e4) / 1e4)
          const mappers = sm.models().filter((model) => model.type?.endsWith('ColorMapper') && model.low != null)
          const brush = sm.models().find((model) => model.place?.uid)?.brush
          return {x: at(x_range), y: at(y_range), brush, kinds: [...new Set(mappers.map((one) => one.type))].sort(),
                  uid: sm.models().find((model) => model.place?.uid)?.place.uid}
        }"""
    )


def test_a_view_that_was_set_by_hand_is_seen_by_whoever_opens_its_address(
    pages: Stack, chromium: Browser, runs: list[MadeUpRun]
) -> None:
    with opened(chromium, f"{pages.url}/dashboard") as shown:
        shown.wait(lambda: look(shown)["uid"] == runs[1].uid)
        assert held(shown) == {}
        shown.page.locator("li.run").last.click()
        shown.wait(lambda: look(shown)["uid"] == runs[0].uid)
        shown.page.locator(".center select:visible").nth(1).select_option("log")
        shown.drag("histogram", (0.3, 0.5), (0.6, 0.5))
        shown.wait(lambda: look(shown)["brush"] is not None)
        box = shown.frame("map-total")
        shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for _ in range(3):
            shown.page.mouse.wheel(0, -200)
        shown.wait(lambda: {"run", "scale", "zoom", "brush"} <= set(held(shown)))
        shown.page.wait_for_timeout(600)  # small changes are gathered
        wanted, address = look(shown), shown.page.evaluate("location.href")
    with opened(chromium, address) as other:
        other.wait(lambda: look(other)["uid"] == runs[0].uid)
        other.wait(lambda: look(other) == wanted)


def test_back_and_forward_go_from_run_to_run_and_a_link_to_the_newest_names_it(
    pages: Stack, chromium: Browser, runs: list[MadeUpRun]
) -> None:
    with opened(chromium, f"{pages.url}/dashboard") as shown:
        shown.wait(lambda: look(shown)["uid"] == runs[1].uid)
        shown.page.locator("li.run").last.click()
        shown.wait(lambda: held(shown).get("run") == runs[0].uid)
        shown.page.go_back()
        shown.wait(lambda: look(shown)["uid"] == runs[1].uid and held(shown) == {})
        shown.page.go_forward()
        shown.wait(lambda: look(shown)["uid"] == runs[0].uid)
        shown.page.go_back()
        shown.wait(lambda: look(shown)["uid"] == runs[1].uid)
        link = "() => sm.models().find((model) => model.state?.link !== undefined).state.link"
        shown.wait(lambda: shown.page.evaluate(link) == f"run={runs[1].uid}")
        shown.page.get_by_text("Copy link").click()
        shown.wait(lambda: shown.page.get_by_text("Copied").count() == 1)


def test_an_address_leads_to_a_dataset_of_a_file_and_back_to_the_maps(
    pages: Stack, chromium: Browser, runs: list[MadeUpRun]
) -> None:
    path = pages.data_root / "link.h5"
    with h5py.File(path, "w") as file:
        file["entry/stack"] = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    with opened(chromium, f"{pages.url}/dashboard?file=link.h5&node=/entry/stack&slice=3") as shown:
        shown.wait(lambda: shown.page.get_by_text("/entry/stack").count() > 0)
        shown.wait(lambda: held(shown) == {"file": "link.h5", "node": "/entry/stack", "slice": "3"})
        shown.page.get_by_role("button", name="‹ Maps").click()
        shown.wait(lambda: "file" not in held(shown))
        shown.page.go_back()
        shown.wait(lambda: held(shown) == {"file": "link.h5", "node": "/entry/stack", "slice": "3"})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("run=nobody", "nobody"),
        ("file=gone.h5&node=/a", "gone.h5"),
        ("file=../../etc/passwd&node=/a", "passwd"),
        ("zoom=nan,inf,1,2&limits=" + quote("<script>window.hacked=1</script>") + "&shape=99999x99999", "link"),
        ("channel=" + quote("<img src=x onerror=window.hacked=1>"), "channel"),
    ],
)
def test_what_an_address_cannot_have_is_told_and_the_page_goes_on(
    pages: Stack, chromium: Browser, runs: list[MadeUpRun], query: str, words: str
) -> None:
    with opened(chromium, f"{pages.url}/dashboard?{query}") as shown:
        shown.wait(lambda: shown.page.get_by_text(words).count() > 0)
        assert shown.page.evaluate("() => window.hacked") is None
        if "run=" not in query:
            shown.wait(lambda: look(shown)["uid"] == runs[1].uid)


def test_an_address_of_many_letters_is_not_read(pages: Stack, chromium: Browser, runs: list[MadeUpRun]) -> None:
    with opened(chromium, f"{pages.url}/dashboard?channel={'x' * 13_000}") as shown:
        shown.wait(lambda: look(shown)["uid"] == runs[1].uid)
        shown.wait(lambda: shown.page.get_by_text("link").count() > 0)


def test_a_pane_of_its_own_takes_the_same_address(pages: Stack, chromium: Browser, runs: list[MadeUpRun]) -> None:
    with opened(chromium, f"{pages.url}/maps?run={runs[0].uid}&scale=log&theme=light&zoom=-0.5,0.5,1.2,1.6") as shown:
        shown.wait(lambda: look(shown)["uid"] == runs[0].uid)
        shown.wait(lambda: "LogColorMapper" in look(shown)["kinds"])  # pyright: ignore[reportOperatorIssue]
        shown.wait(lambda: abs(look(shown)["x"][0] + 0.5) < 0.6)  # pyright: ignore[reportIndexIssue]
