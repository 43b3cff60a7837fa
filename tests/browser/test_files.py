"""From the file browser by way of the tree to each kind of dataset, and to the maps of a finished scan."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.support.browser import Shown, open_page
from tests.support.patience import eventually
from tests.support.stack import Stack

SCRIPT = '<img src=x onerror="window.hacked=1">'
STACK = np.random.default_rng(0).integers(0, 200, (12, 30, 40)).astype(np.uint8)
GRID = (6, 8)


def kinds(path: Path) -> Path:
    """A NeXus file with something of every kind."""
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "plot", SCRIPT: SCRIPT})
        plot = entry.create_group("plot")
        plot.attrs.update({"NX_class": "NXdata", "signal": "y", "axes": "energy"})
        plot["y"], plot["energy"] = np.arange(20.0) ** 2, np.linspace(7, 8, 20)
        plot["y_errors"] = np.ones(20)
        plot["energy"].attrs["units"] = "keV"
        more = entry.create_group("kinds")
        more["stack"] = STACK
        more["rgb"] = np.random.default_rng(1).integers(0, 255, (20, 30, 3)).astype(np.uint8)
        more["complex"] = np.arange(12).reshape(3, 4) * (3 + 4j)
        more["flags"] = np.eye(5, dtype=bool)
        more["records"] = np.array([(number, number / 2, b"point") for number in range(150)], "i4,f8,S8")
        more["texts"] = np.array([SCRIPT, "plain"], h5py.string_dtype())
        more.create_dataset("states", data=[0, 7], dtype=h5py.enum_dtype({"IDLE": 0, "BUSY": 7}, "u1"))
        more["opaque"] = np.array([b"\x01\xff"], "V2")
        more["temperature"] = 293.15
        more["temperature"].attrs["units"] = "K"
        more["note"] = f"{SCRIPT} a note that is rather long, as notes of scientists may well be"
        more["nothing"] = np.zeros((0, 4))
        more[SCRIPT] = 5
        entry["outside"] = h5py.ExternalLink("../../etc/passwd", "/x")
        entry["gone"] = h5py.SoftLink("/nowhere")
        for number in range(150):
            entry[f"many/m{number:03}"] = h5py.SoftLink("/entry/plot")
    return aged(path)


def aged(path: Path) -> Path:
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    return path


@pytest.fixture
def visit(pages: Stack) -> Path:
    """The data root, with a file of kinds, a text, and a file whose name is a script."""
    root = pages.data_root
    if not (root / "kinds.nxs").exists():
        kinds(root / "kinds.nxs")
        (root / "notes.txt").write_text("no HDF5")
        (root / "sub" / "deep").mkdir(parents=True)
        (root / "out.h5").symlink_to("/etc/passwd")
        (root / '<img src=x onerror="window.hacked=2">').write_bytes(b"\x89HDF\r\n\x1a\n")
    return root


@pytest.fixture
def files(tab: Shown, visit: Path) -> Iterator[Shown]:
    """The dashboard with its file browser open; no script from any name has run in the end."""
    tab.page.get_by_text("Files", exact=True).click()
    tab.wait(lambda: "kinds.nxs" in listed(tab))
    yield tab
    assert tab.page.evaluate("() => window.hacked") is None


def listed(tab: Shown) -> dict[str, str]:
    """Kinds of the entries on the screen, by name."""
    script = "rows => Object.fromEntries(rows.map(r => [r.querySelector('.name').textContent, r.dataset.kind]))"
    return tab.page.locator("[role=option]").evaluate_all(script)


def tree(tab: Shown) -> dict[str, str]:
    """Texts of the rows of the tree on the screen, by name."""
    script = "rows => Object.fromEntries(rows.map(r => [r.querySelector('.name').textContent, r.textContent]))"
    return tab.page.locator("[role=treeitem]").evaluate_all(script)


def click(tab: Shown, name: str) -> None:
    """Chooses a node of the tree."""
    tab.page.locator("[role=treeitem] .name").get_by_text(name, exact=True).click()


def head(tab: Shown) -> str:
    return tab.page.locator(".node").inner_text()


def data(tab: Shown, figure: str, glyph: int, column: str) -> np.ndarray[Any, Any]:
    """A column of what a glyph draws, as the browser has it."""
    text = tab.page.evaluate(
        """([figure, glyph, column]) => {
          const values = sm.view(figure)?.model.renderers[glyph].data_source.data[column] ?? []
          const array = column === 'image' ? values[0] : values
          return JSON.stringify({shape: array?.shape ?? [array?.length ?? 0], values: Array.from(array ?? [])})
        }""",
        [figure, glyph, column],
    )
    told = json.loads(text)
    return np.array(told["values"]).reshape(told["shape"])


def shows(tab: Shown, expected: Any) -> bool:
    """Whether the image on the screen has these values, exactly."""
    image = data(tab, "dataset image", 0, "image")
    return image.shape == np.shape(expected) and np.array_equal(image, expected)


def cells(tab: Shown) -> list[list[str]]:
    return tab.page.locator(".values tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )


def open_kinds(tab: Shown) -> None:
    tab.page.locator("[role=option]", has_text="kinds.nxs").click()
    tab.wait(lambda: "entry" in tree(tab))
    click(tab, "entry")
    tab.wait(lambda: "kinds" in tree(tab))
    click(tab, "kinds")
    tab.wait(lambda: "stack" in tree(tab))


def test_files_are_browsed_filtered_and_come_by_themselves(files: Shown, visit: Path) -> None:
    script = '<img src=x onerror="window.hacked=2">'
    assert listed(files).items() >= {
        "kinds.nxs": "hdf5", "notes.txt": "file", "sub": "directory", "out.h5": "refused", script: "hdf5",
    }.items()  # fmt: skip
    (visit / "new.h5").write_bytes(b"\x89HDF\r\n\x1a\n\x03\x08\x08\x05")
    files.wait(lambda: "new.h5" in listed(files))
    assert files.page.locator("[role=option]", has_text="new.h5").locator(".live").inner_text() == "live"
    (visit / "new.h5").unlink()
    files.wait(lambda: "new.h5" not in listed(files))
    files.page.get_by_placeholder("filter").fill("kin*")
    files.wait(lambda: list(listed(files)) == ["kinds.nxs"])
    files.page.get_by_placeholder("filter").fill("")
    files.wait(lambda: "sub" in listed(files))
    files.page.locator("[role=listbox]").focus()
    for key in ("Home", "Enter"):  # directories come first
        files.page.keyboard.press(key)
    files.wait(lambda: list(listed(files)) == ["deep"])
    assert files.page.locator(".crumbs").inner_text().replace("\n", " ").split() == ["data", "sub"]
    files.page.keyboard.press("Backspace")
    files.wait(lambda: "kinds.nxs" in listed(files))


def test_the_tree_tells_what_is_in_a_file_and_draws_its_default_plot(files: Shown) -> None:
    files.page.locator("[role=option]", has_text="kinds.nxs").click()
    files.wait(lambda: head(files) == "/entry/plot/y")
    files.wait(lambda: len(data(files, "dataset line", 0, "x")) == 20)
    np.testing.assert_allclose(data(files, "dataset line", 0, "x"), np.linspace(7, 8, 20))
    np.testing.assert_allclose(data(files, "dataset line", 0, "y"), np.arange(20.0) ** 2)
    np.testing.assert_allclose(data(files, "dataset line", 2, "high"), np.arange(20.0) ** 2 + 1)
    click(files, "entry")
    files.wait(lambda: "kinds" in tree(files))
    rows = tree(files)
    assert "NXentry" in rows["entry"]
    assert "../../etc/passwd:/x" in rows["outside"]
    kinds_of_rows = files.page.locator("[role=treeitem]").evaluate_all(
        "rows => rows.map(r => [r.querySelector('.name').textContent, r.dataset.kind])"
    )
    assert dict(kinds_of_rows).items() >= {"outside": "refused", "gone": "broken", "kinds": "group"}.items()
    files.wait(lambda: f"@{SCRIPT}" in files.page.locator(".details").inner_text())
    click(files, "many")
    files.wait(lambda: "50 more" in tree(files))
    click(files, "50 more")
    files.wait(lambda: "m149" in tree(files))
    files.page.get_by_placeholder("find a name in this file").fill("TEMP")
    files.wait(lambda: list(tree(files)) == ["/entry/kinds/temperature"])
    click(files, "/entry/kinds/temperature")
    files.wait(lambda: "293.15" in files.page.locator(".scalar").inner_text())


def test_every_kind_of_dataset_is_drawn(files: Shown) -> None:
    open_kinds(files)
    click(files, "stack")
    files.wait(lambda: shows(files, STACK[0]))
    files.page.get_by_text("play", exact=True).click()
    files.wait(lambda: shows(files, STACK[3]))
    files.page.get_by_text("play", exact=True).click()
    files.page.get_by_text("table", exact=True).click()
    files.wait(lambda: len(cells(files)) == 30 and cells(files)[2][1] == str(STACK[0, 2, 0]))
    click(files, "rgb")
    files.wait(lambda: data(files, "dataset image", 2, "image").shape == (20, 30))
    click(files, "complex")
    files.wait(lambda: shows(files, 5 * np.arange(12).reshape(3, 4)))
    files.page.locator("select").filter(has_text="phase").select_option("imaginary part")
    files.wait(lambda: shows(files, 4 * np.arange(12).reshape(3, 4)))
    click(files, "flags")
    files.wait(lambda: shows(files, np.eye(5)))
    click(files, "records")
    files.wait(lambda: cells(files)[:2] == [["0", "0", "0", "point"], ["1", "1", "0.5", "point"]])
    files.page.locator("button[title='last rows']").click()
    files.wait(lambda: cells(files)[-1] == ["149", "149", "74.5", "point"])
    click(files, "texts")
    files.wait(lambda: cells(files) == [["0", SCRIPT], ["1", "plain"]])
    click(files, "opaque")
    files.wait(lambda: cells(files) == [["0", "01 ff"]])
    click(files, "states")
    files.wait(lambda: data(files, "dataset line", 0, "y").tolist() == [0, 7])
    files.page.get_by_text("table", exact=True).click()
    files.wait(lambda: cells(files) == [["0", "IDLE (0)"], ["1", "BUSY (7)"]])
    for name, text in (("temperature", "293.15 K"), ("note", "scientists"), ("nothing", "is empty"), (SCRIPT, "5")):
        click(files, name)
        files.wait(lambda text=text: text in files.page.locator(".scalar, .text, .message").inner_text())


def test_a_slice_can_be_taken_along(files: Shown, tmp_path: Path) -> None:
    open_kinds(files)
    click(files, "stack")
    files.wait(lambda: shows(files, STACK[0]))
    with files.page.expect_download() as download:
        files.page.get_by_text("Download", exact=True).click()
    download.value.save_as(tmp_path / "slice.npy")
    assert download.value.suggested_filename == "stack.npy"
    np.testing.assert_array_equal(np.load(tmp_path / "slice.npy"), STACK[0])


def test_a_whole_file_can_be_taken_along_and_none_from_outside(files: Shown, visit: Path, pages: Stack) -> None:
    files.page.locator("[role=option]", has_text="kinds.nxs").click()
    files.wait(lambda: files.page.locator(".download").inner_text().startswith("download ("))
    with files.page.expect_download() as download:
        files.page.locator(".download").click()
    assert download.value.suggested_filename == "kinds.nxs"
    assert Path(download.value.path()).read_bytes() == (visit / "kinds.nxs").read_bytes()
    for path in ("../secret", "/etc/passwd", "out.h5", "sub", ""):
        answer = httpx.get(f"{pages.url}/file", params={"path": path}, trust_env=False)
        assert (path, answer.status_code) == (path, 403)
    assert httpx.get(f"{pages.url}/file", params={"path": "nothing"}, trust_env=False).status_code == 404


def test_a_stack_follows_the_file_while_it_is_written(files: Shown, visit: Path) -> None:
    with h5py.File(visit / "live.h5", "w", libver="latest") as file:
        frames = file.create_dataset("d", data=STACK[:2], maxshape=(None, 30, 40), chunks=(1, 30, 40))
        file.swmr_mode = True
        files.wait(lambda: "live.h5" in listed(files))
        files.page.locator("[role=option]", has_text="live.h5").click()
        files.wait(lambda: "d" in tree(files))
        click(files, "d")
        files.wait(lambda: shows(files, STACK[0]))
        files.page.get_by_text("newest", exact=True).click()
        files.wait(lambda: shows(files, STACK[1]))
        frames.resize(5, axis=0)
        frames[2:] = STACK[2:5]
        frames.flush()
        files.wait(lambda: shows(files, STACK[4]))
        files.wait(lambda: "5 × 30 × 40" in tree(files)["d"])
    (visit / "live.h5").unlink()


def test_a_finished_scan_becomes_maps_and_is_there_at_once_the_next_time(
    files: Shown, pages: Stack, chromium: Browser, visit: Path
) -> None:
    count = GRID[0] * GRID[1]
    frames = np.random.default_rng(5).integers(0, 200, (count, 30, 40)).astype(np.uint8)
    rows, columns = np.divmod(np.arange(count), GRID[1])
    columns = np.where(rows % 2, GRID[1] - 1 - columns, columns)
    with h5py.File(visit / "scan.nxs", "w") as file:
        file["entry/data"] = frames
        for name, values in (("y", 0.2 * rows), ("x", 0.1 * columns)):
            file[f"entry/{name}"] = values
            file[f"entry/{name}"].attrs["units"] = "mm"
    aged(visit / "scan.nxs")
    expected = frames.sum(axis=(1, 2), dtype=float).reshape(GRID)
    expected[1::2] = expected[1::2, ::-1].copy()
    pages.ingest.start()
    try:
        for tab in (files, open_page(chromium, f"{pages.url}/dashboard")):
            if tab is not files:
                tab.page.get_by_text("Files", exact=True).click()
            tab.wait(lambda tab=tab: "scan.nxs" in listed(tab))
            tab.page.locator("[role=option]", has_text="scan.nxs").click()
            tab.wait(lambda tab=tab: "entry" in tree(tab))
            click(tab, "entry")
            tab.wait(lambda tab=tab: "data" in tree(tab))
            click(tab, "data")
            tab.page.get_by_text("Open as maps").click()
            tab.wait(lambda tab=tab: np.array_equal(tab.image("total"), expected), timeout_s=30)
            tab.wait(lambda tab=tab: tab.text(".status") == "complete")
        assert tab.errors == []
        tab.page.close()
    finally:
        assert eventually(lambda: pages.ingest.end() is not None, timeout_s=20)


@contextmanager
def busy(pages: Stack) -> Iterator[None]:
    """The server does nothing meanwhile, and then everything that was asked for, in order."""
    os.kill(pages.pages.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pages.pages.pid, signal.SIGCONT)


def list_shown(tab: Shown) -> str:
    """Title of the list that is shown in the left pane."""
    return tab.page.get_by_role("tab", selected=True).inner_text()


def details(tab: Shown) -> str:
    """What the tree says of the node that is chosen, whether the tree is shown or not."""
    return tab.page.locator(".details").text_content() or ""


@pytest.mark.parametrize("way", ["click", "Enter"])
def test_a_file_that_was_chosen_does_not_take_the_user_away_from_another_list(
    files: Shown, pages: Stack, way: str
) -> None:
    row = files.page.locator("[role=option]", has_text="kinds.nxs")
    with busy(pages):
        if way == "click":
            row.click()
        else:
            files.page.locator("[role=listbox]").focus()
            names = list(listed(files))
            for key in ("Home", *["ArrowDown"] * names.index("kinds.nxs"), "Enter"):
                files.page.keyboard.press(key)
        assert list_shown(files) == "Tree"
        files.page.get_by_text("Runs", exact=True).click()
        assert list_shown(files) == "Runs"
    files.wait(lambda: "entry" in tree(files))
    assert list_shown(files) == "Runs"
    files.page.get_by_text("Tree", exact=True).click()
    files.wait(lambda: list_shown(files) == "Tree")


def test_a_dataset_that_was_chosen_does_not_take_the_user_away_from_the_maps(files: Shown, pages: Stack) -> None:
    open_kinds(files)
    click(files, "flags")
    files.wait(lambda: shows(files, np.eye(5)))
    with busy(pages):
        click(files, "stack")
        files.page.get_by_text("Runs", exact=True).click()
        files.page.get_by_text("Follow the newest", exact=True).click()
    files.wait(lambda: "12 × 30 × 40" in details(files))
    files.wait(lambda: not files.page.locator(".node").is_visible())
    assert files.page.evaluate("() => sm.frame('map-total').width") > 0
