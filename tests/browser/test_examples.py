"""The programs and the notebook of examples/, as a user runs them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page
from tests.support.browser import SCRIPT, Shown, said_where
from tests.support.documented import block
from tests.support.http_requests import answers
from tests.support.made_up import MadeUpRun
from tests.support.notebook import Notebook
from tests.support.patience import eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import Program, Stack

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGES = """() => JSON.stringify(sm.models().filter((model) => model.data?.image?.length).map(({data}) =>
  ({shape: data.image[0].shape, values: Array.from(data.image[0])})))"""


@contextmanager
def served(example: str, directory: Path, redis_url: str) -> Iterator[str]:
    """The address of an example that is served by Panel."""
    port = free_port()
    environment = {**os.environ, "SNAKEMAP_REDIS_URL": redis_url}
    arguments = ["serve", str(EXAMPLES / example), "--port", str(port)]
    url = f"http://localhost:{port}/{Path(example).stem}"
    with Program(arguments, environment=environment, log=directory / "log", module="panel"):
        assert eventually(lambda: answers(url), timeout_s=60, every_s=0.2), (directory / "log").read_text()[-2000:]
        yield url


@contextmanager
def opened(chromium: Browser, url: str) -> Iterator[Shown]:
    """A page that must complain of nothing."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    shown = Shown(page)
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("console", lambda message: shown.errors.append(said_where(message)) if message.type == "error" else None)
    page.add_init_script(SCRIPT)
    page.goto(url)
    yield shown
    page.close()
    assert shown.errors == []


def images(page: Page) -> list[np.ndarray]:
    """All images of a page, as the browser has them."""
    found = json.loads(page.evaluate(IMAGES))
    return [np.array(one["values"], dtype=float).reshape(one["shape"]) for one in found]


def shows(page: Page, *expected: np.ndarray) -> bool:
    """Whether each of some maps is an image of the page."""
    found = images(page)
    return all(any(np.array_equal(one, grid, equal_nan=True) for one in found) for grid in expected)


def test_elements_composed_with_those_of_a_user_grow_in_every_tab(
    redis_url: str, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    with (
        served("compose.py", tmp_path, redis_url) as url,
        opened(chromium, url) as first,
        opened(chromium, url) as late,
    ):
        for shown, last in ((first, 33), (late, 33)):
            grids = run.expected(last)
            shown.wait(lambda shown=shown, grids=grids: shows(shown.page, grids["total"], grids["red"]))
        run.add(34, 47)
        grids = run.expected(47)
        for shown in (first, late):
            shown.wait(lambda shown=shown: shows(shown.page, grids["total"], grids["red"]))
        labels = first.page.evaluate("() => sm.models().map((model) => model.axis_label).filter(Boolean)")
        assert {"stage-x (mm)", "stage-y (mm)"} <= set(labels)


def test_the_idiomatic_sibling_shows_its_maps(redis_url: str, chromium: Browser, tmp_path: Path) -> None:
    with served("idiomatic.py", tmp_path, redis_url) as url, opened(chromium, url) as shown:

        def measured() -> bool:
            found = images(shown.page)
            return len(found) == 4 and all(np.count_nonzero(~np.isnan(one)) > 3 for one in found)

        shown.wait(measured)


def test_the_notebook_runs_and_its_maps_grow(
    pages: Stack, redis_url: str, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    api = f"http://127.0.0.1:{(port := free_port())}"
    environment = {**pages.pages.environment, "SNAKEMAP_REDIS_URL": redis_url, "SNAKEMAP_API_PORT": str(port)}
    cells = json.loads((EXAMPLES / "compose.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    with (
        Program(["api"], environment=environment, log=tmp_path / "api.log"),
        opened(chromium, f"{pages.url}/healthz") as shown,
    ):
        shown.page.route("https://cdn.holoviz.org/**", lambda route: route.fulfill(status=200))
        with Notebook(shown.page, assets=pages.url) as notebook:
            notebook.run(
                f"import os\nos.environ |= {{'SNAKEMAP_REDIS_URL': '{redis_url}', 'SNAKEMAP_API_URL': '{api}'}}"
            )
            for source in code[:2]:
                notebook.run(source)

            def drawn(last: int) -> bool:
                notebook.carry()
                grids = run.expected(last)
                return shows(shown.page, grids["total"], grids["red"])

            shown.wait(lambda: drawn(33))
            run.add(34, 47)
            shown.wait(lambda: drawn(47))
            shown.wait(lambda: answers(f"{api}/healthz"))
            for source in code[2:]:
                notebook.run(source)
            shown.wait(lambda: shows(shown.page, *run.expected(47).values()))


def test_a_beamline_leaves_a_part_of_the_dashboard_out_and_adds_its_own(
    pages: Stack, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "dashboard.py").write_text(block("extending.md", "python", "# page"))
    port = free_port()
    url = f"http://localhost:{port}/dashboard"
    arguments = ["serve", str(tmp_path / "dashboard.py"), "--plugins", "snakemap.doors", "--port", str(port)]
    with Program(arguments, environment=pages.pages.environment, log=tmp_path / "log", module="panel"):
        assert eventually(lambda: answers(url), timeout_s=60, every_s=0.2), (tmp_path / "log").read_text()[-2000:]
        with opened(chromium, url) as shown:
            shown.wait(lambda: np.array_equal(shown.image("total"), run.expected(33)["total"], equal_nan=True))
            page = shown.page
            page.get_by_text("301 mA").wait_for()
            assert page.get_by_role("tab").all_inner_texts() == ["Runs"]
            assert page.evaluate("() => sm.view('frame')") is None
            assert page.evaluate("() => sm.view('histogram') !== null")
