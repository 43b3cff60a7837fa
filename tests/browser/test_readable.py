"""Every text of every page can be read, by day and by night: its contrast is measured on the screen.

The same states of the page have a name for each control, for screen readers, and axe-core finds nothing serious.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from tests.support.axe import serious
from tests.support.beamline_rest import end, simulated
from tests.support.browser import Shown, open_page
from tests.support.contrast import faint
from tests.support.names import nameless
from tests.support.patience import eventually
from tests.support.stack import Stack

THEMES = ["dark", "light"]


class Reader:
    """Measures one state of a page after the other, and keeps what is too faint."""

    def __init__(self, theme: str) -> None:
        self.theme = theme
        self.seen: dict[str, int] = {}
        self.found: list[str] = []

    def read(self, shown: Shown, state: str, *, least: int, axe: bool = False) -> None:
        """Measure what is on the screen, with axe-core too; a state with fewer than ``least`` texts was not there."""
        eventually(lambda: not faint(shown)[1], timeout_s=1)  # colors may be on their way from the server
        seen, found = faint(shown)
        assert seen >= least, f"{state}: only {seen} texts are on the page"
        self.found += [f"{state}: {text.contrast} {text.words!r} in {text.where}" for text in found]
        self.found += [f"{state}: {fault}" for fault in nameless(shown)]
        if axe:
            self.found += [f"{state}: {fault}" for fault in serious(shown, theme=self.theme)]


def dressed(browser: Browser, url: str, theme: str) -> Shown:
    """The dashboard in a theme: as a new user has it, or after a press of the button."""
    tab = open_page(browser, f"{url}/dashboard", width=1280, height=800)
    if theme == "light":
        tab.page.locator(".topbar .theme").click()
        tab.page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    return tab


@pytest.fixture
def kinds(beamline: tuple[Stack, str]) -> Path:
    """A file with something of each kind, in the data root."""
    path = beamline[0].data_root / "kinds.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            file["stack"] = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
            file["line"] = np.arange(20.0)
            file["records"] = np.array([(number, number / 2) for number in range(150)], "i4,f8")
            file["temperature"] = 293.15
            file["temperature"].attrs["units"] = "K"
            file["note"] = "a note that is rather long, as notes of scientists may well be"
            file["gone"] = h5py.SoftLink("/nowhere")
    return path


@pytest.mark.parametrize("theme", THEMES)
def test_texts_of_runs_forms_and_confirmations_can_be_read(
    beamline: tuple[Stack, str], chromium: Browser, theme: str
) -> None:
    stack, url = beamline
    simulated(url)
    simulated(url, "simulated_fly_scan", rows=3, seed=5)
    reader, tab = Reader(theme), dressed(chromium, stack.url, theme)
    tab.wait(lambda: tab.text(".status") == "complete" and tab.page.locator("li.run").count() >= 2)
    tab.page.get_by_role("tab", name="Runs").click()  # the lists are closed on a screen of this width
    reader.read(tab, "runs", least=60)
    tab.page.locator("li.run .tick").first.click()
    expect(tab.page.locator(".compare button")).to_be_disabled()
    reader.read(tab, "one run ticked", least=60)
    tab.page.locator("li.run .tick").nth(1).click()
    tab.page.locator(".history .compare button").click()
    back = tab.page.locator(".bk-btn:visible", has_text="‹ Maps")
    back.wait_for()
    reader.read(tab, "two runs compared", least=50, axe=True)
    back.click()
    tab.page.locator("button.link", has_text="Copy link").click()
    reader.read(tab, "link", least=60)
    tab.page.locator("input.bk-input[placeholder=shape]").fill("7 by nine")
    tab.page.keyboard.press("Enter")
    tab.page.locator(".notyf__message").first.wait_for()
    reader.read(tab, "message", least=61)
    tab.page.locator(".buttons .again").click()
    tab.page.locator(".plan [name=rows]").fill("2.5")
    tab.page.get_by_text("Actions", exact=True).click()
    tab.wait(lambda: "whole number" in tab.text(".field:has([name=rows]) .fault"))
    reader.read(tab, "form with a fault", least=70, axe=True)
    tab.page.locator(".plan [name=rows]").fill("30")
    tab.page.locator(".plan [name=rate_hz]").fill("1")
    tab.page.locator(".plan button.start").click()
    tab.page.locator(".plan.confirming").wait_for()
    reader.read(tab, "confirmation", least=70)
    tab.page.locator(".plan.confirming button.start").click()
    try:
        tab.wait(lambda: tab.text(".status") == "running")
        tab.page.locator(".bar .device").first.wait_for()
        reader.read(tab, "running scan, actions", least=55)
        tab.page.locator(".buttons .stop").click()
        tab.page.locator("dialog[open]").wait_for()
        reader.read(tab, "question before a stop", least=58, axe=True)
        tab.page.keyboard.press("Escape")
        tab.page.get_by_text("Runs", exact=True).click()
    finally:
        end(url)
    tab.wait(lambda: tab.text(".status") == "aborted")
    reader.read(tab, "aborted run", least=60, axe=True)
    assert not reader.found, "\n".join(reader.found)
    assert tab.errors == []
    tab.page.close()


@pytest.mark.parametrize("theme", THEMES)
def test_texts_of_files_and_datasets_can_be_read(
    beamline: tuple[Stack, str], chromium: Browser, theme: str, kinds: Path
) -> None:
    stack, _ = beamline
    reader, tab = Reader(theme), dressed(chromium, stack.url, theme)
    tab.page.get_by_text("Files", exact=True).click()
    tab.page.locator(".files .row", has_text=kinds.name).wait_for()
    reader.read(tab, "files", least=25, axe=True)
    tab.page.locator(".files .row", has_text=kinds.name).click()
    for name, there in (
        ("stack", ".head .node"),
        ("line", ".head .node"),
        ("records", ".values td"),
        ("temperature", ".scalar"),
        ("note", ".text"),
    ):
        tab.page.locator(".tree .row .name", has_text=name).click()
        tab.wait(lambda name=name: tab.page.locator(".head .node").first.inner_text() == f"/{name}")
        tab.page.locator(there).first.wait_for()
        reader.read(tab, f"dataset {name}", least=30, axe=name in ("stack", "records"))
    assert not reader.found, "\n".join(reader.found)
    tab.page.close()
