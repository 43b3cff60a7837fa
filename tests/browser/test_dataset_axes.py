"""Datasets of NXdata groups lie at the values of their axes, uneven ones too, and small values stay values."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.browser.test_files import aged, click, data, head, tree
from tests.support.browser import Shown, open_page
from tests.support.stack import Stack

SMALL = 3.2e-9
Y, X = (low + 0.5 * np.arange(count) ** 1.3 for low, count in ((10.0, 6), (-2.0, 7)))
"""Edges of 5 rows and 6 columns, of uneven widths."""

TOF = np.geomspace(1, 100, 10)


@pytest.fixture(scope="module")
def axes(pages: Stack) -> Path:
    """NXdata with uneven axes: edges and centers of an image, edges of a line; an image of currents without a unit."""
    path = pages.data_root / "axes.nxs"
    with h5py.File(path, "w") as file:
        for name, more in (("edges", 0), ("centers", 1)):
            group = file.create_group(name)
            group.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": ["y", "x"]})
            group["data"] = np.arange(30.0).reshape(5, 6)
            group["model"] = 2 * np.arange(30.0).reshape(5, 6)
            group.attrs["auxiliary_signals"] = ["model"]
            for axis, edges in (("y", Y), ("x", X)):
                group[axis] = edges[: len(edges) - more]
                group[axis].attrs["units"] = "um"
        group = file.create_group("line")
        group.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["tof"]})
        group["counts"], group["tof"] = np.arange(9.0), TOF
        group["tof"].attrs["units"] = "us"
        file["currents"] = SMALL * np.arange(1.0, 7).reshape(2, 3)
    return aged(path)


def reach(tab: Shown) -> list[float]:
    """Left, width, bottom and height of the image as it is drawn."""
    return [float(data(tab, "dataset image", 0, name)[0]) for name in ("x", "dw", "y", "dh")]


def reaches(tab: Shown, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the image lies between the first and the last edges of both axes."""
    return np.allclose(reach(tab), [x[0], x[-1] - x[0], y[0], y[-1] - y[0]])


def shares(cells: np.ndarray) -> np.ndarray:
    """Which part of the pixels each cell has along a line of the image."""
    return np.unique(cells, return_counts=True)[1] / len(cells)


def titles(tab: Shown, figure: str) -> list[str]:
    """The titles of the horizontal and of the vertical axis."""
    return tab.page.evaluate(
        "(name) => { const {model} = sm.view(name); return [model.below[0].axis_label, model.left[0].axis_label] }",
        figure,
    )


TOOLTIP = """(all) => all.flatMap((one) => [...(one.shadowRoot ?? one).children])
  .filter((one) => !['STYLE', 'LINK'].includes(one.tagName)).map((one) => one.innerText)"""


def pointed(tab: Shown, figure: str, x: float, y: float) -> str:
    """The tooltip of a place that is given in the coordinates of a figure."""
    at = tab.page.evaluate(
        """([name, x, y]) => {
          const view = sm.view(name), box = view.canvas_view.el.getBoundingClientRect()
          return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
        }""",
        [figure, x, y],
    )
    tab.page.mouse.move(at[0] - 1, at[1] - 1)
    tab.page.mouse.move(*at)
    return " ".join(" ".join(tab.page.locator(".bk-Tooltip").evaluate_all(TOOLTIP)).split())


def chosen(tab: Shown, group: str, node: str) -> None:
    """Choose a node of the tree and wait for its title."""
    click(tab, group)
    tab.wait(lambda: head(tab) == node)


def test_images_and_lines_lie_at_the_values_of_their_axes(
    pages: Stack, chromium: Browser, axes: Path, redis_url: str
) -> None:
    tab = open_page(chromium, f"{pages.url}/dashboard")
    tab.page.get_by_text("Files", exact=True).click()
    tab.page.locator("[role=option]", has_text=axes.name).click()
    tab.wait(lambda: "edges" in tree(tab))

    chosen(tab, "edges", "/edges/data")
    tab.wait(lambda: reaches(tab, X, Y))
    image = data(tab, "dataset image", 0, "image")
    np.testing.assert_allclose(shares(image[0]), np.diff(X) / (X[-1] - X[0]), atol=2 / image.shape[1])
    np.testing.assert_allclose(shares(image[:, 0]), np.diff(Y) / (Y[-1] - Y[0]), atol=2 / image.shape[0])
    assert image[0, 0] == 0
    assert titles(tab, "dataset image") == ["x (um)", "y (um)"]
    middle = (X[4] + X[5]) / 2, (Y[1] + Y[2]) / 2
    tab.wait(lambda: pointed(tab, "dataset image", *middle).endswith("value 10"))
    found = re.search(r"x ([\d.]+) µm y ([\d.]+) µm", pointed(tab, "dataset image", *middle))
    assert found is not None
    assert [float(found[1]), float(found[2])] == pytest.approx(middle, abs=0.02)  # as exact as a pixel of the screen
    tab.page.locator("select").filter(has_text="model").select_option("model")
    tab.wait(lambda: data(tab, "dataset image", 0, "image").max() == 58)
    assert reaches(tab, X, Y)

    chosen(tab, "centers", "/centers/data")
    inner_x, inner_y = ((one[:-2] + one[1:-1]) / 2 for one in (X, Y))  # edges lie between centers
    x = np.array([1.5 * X[0] - 0.5 * X[1], *inner_x, 1.5 * X[-2] - 0.5 * X[-3]])
    y = np.array([1.5 * Y[0] - 0.5 * Y[1], *inner_y, 1.5 * Y[-2] - 0.5 * Y[-3]])
    tab.wait(lambda: reaches(tab, x, y))
    image = data(tab, "dataset image", 0, "image")
    np.testing.assert_allclose(shares(image[0]), np.diff(x) / (x[-1] - x[0]), atol=2 / image.shape[1])

    chosen(tab, "line", "/line/counts")
    tab.wait(lambda: np.array_equal(data(tab, "dataset line", 0, "x"), np.repeat(TOF, 2)[1:-1]))
    assert data(tab, "dataset line", 0, "y").tolist() == np.repeat(np.arange(9.0), 2).tolist()
    assert titles(tab, "dataset line")[0] == "tof (us)"

    # without a unit, too, a small value is not written as zero
    chosen(tab, "currents", "/currents")
    tab.wait(lambda: reach(tab)[1] == 3)
    tab.wait(lambda: pointed(tab, "dataset image", 1.5, 0.5).endswith("value 6.400e-9"))
    assert tab.errors == []
    tab.page.close()
