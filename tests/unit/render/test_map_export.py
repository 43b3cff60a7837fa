"""Maps in every format: read back, the numbers are the same."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from snakemap.core.raster import Axis, Raster
from snakemap.core.run import Run
from snakemap.render.export import EXPORTERS, MapFormat, written
from snakemap.render.map_picture import BLANK, map_picture
from snakemap.synthetic.synthetic_scan import SyntheticScan

SHAPE = (6, 8)


@pytest.fixture(scope="module")
def run() -> Run:
    """The first 30 of 48 points."""
    return SyntheticScan(SHAPE, 4).run(30)


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def raster(slow: Axis, fast: Axis) -> Raster:
    return Raster(
        (len(slow.coordinates), len(fast.coordinates)), snaking=(False, False), slow=slow, fast=fast, source="test"
    )


def test_every_format_has_one_exporter() -> None:
    assert set(EXPORTERS) == set(MapFormat)
    assert len({one.suffix for one in EXPORTERS.values()}) == len(MapFormat)
    assert [form for form, one in EXPORTERS.items() if one.write is None] == [MapFormat.NEXUS]


def test_numbers_are_the_same_after_a_round_trip(run: Run) -> None:
    grids, channels = run.maps.grids, run.maps.channels
    np.testing.assert_array_equal(np.load(io.BytesIO(written(run, MapFormat.NPY))), grids)
    with tifffile.TiffFile(io.BytesIO(written(run, MapFormat.TIFF))) as file:
        pages: list[Any] = list(file.pages)
        assert [page.description for page in pages] == list(channels)
        np.testing.assert_array_equal(np.stack([page.asarray() for page in pages]), grids)
    channels = json.loads(written(run, MapFormat.JSON))["channels"]
    np.testing.assert_array_equal(np.array(channels["total"], dtype=float), grids[-1])


def test_a_tiff_is_float64_where_float32_is_not_exact() -> None:
    run = SyntheticScan(SHAPE, 4).run(30)
    run.maps.grids[0, 0, 0] = 2**24 + 1
    with tifffile.TiffFile(io.BytesIO(written(run, MapFormat.TIFF))) as file:
        page: Any = file.pages[0]
        assert page.asarray().dtype == np.float64
        assert page.asarray()[0, 0] == 2**24 + 1


def test_the_summary_has_a_line_for_each_channel(run: Run) -> None:
    text = written(run, MapFormat.TABLE).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["channel"] for row in rows] == list(run.maps.channels)
    for row, grid in zip(rows, run.maps.grids, strict=True):
        assert int(row["pixels"]) == 30
        assert float(row["sum"]) == np.nansum(grid)
        assert float(row["maximum"]) == grid[int(row["row of maximum"]), int(row["column of maximum"])]
    blank = list(csv.DictReader(io.StringIO(written(SyntheticScan(SHAPE, 4).run(0), MapFormat.TABLE).decode())))
    assert {row["pixels"] for row in blank} == {"0"}
    assert {row["maximum"] for row in blank} == {""}


def test_a_picture_shows_blank_cells_in_gray_and_low_coordinates_at_the_left_and_bottom() -> None:
    grid = np.array([[[0.0, 4.0], [np.nan, 1.0]]])
    for falls in (False, True):
        step = -1 if falls else 1
        axes = [Axis(name, "mm", np.array([0.0, 1.0])[::step]) for name in ("y", "x")]
        drawn = picture(
            map_picture(raster(*axes), ["total"], grid[:, ::step, ::step], title="a scan", units={"total": "counts"})
        )
        blank = np.argwhere((drawn == BLANK).all(axis=-1))
        (top, left), (bottom, right) = blank.min(axis=0), blank.max(axis=0)
        assert (bottom - top, right - left) == (239, 239)
        assert not drawn[bottom + 10, left + 10].any()  # zero is black
        assert (drawn[bottom + 10, right + 10] == drawn[bottom + 230, right + 230]).all()
        assert drawn[bottom + 10, right + 10].sum() > 700  # the maximum is white


@pytest.mark.parametrize("values", [np.nan, 0.0, -3.0, 7.0, np.inf, 1e300])
def test_a_picture_of_one_cell_can_be_drawn_whatever_it_holds(values: float) -> None:
    axes = [Axis(f"<b>{'y' * 300}\n\u202e", "µm" * 50, np.array([1e9])), Axis("", "", np.array([0.0]), known=False)]
    names = ["<script>alert(1)</script>" * 9, "b"]
    made = map_picture(
        raster(*axes), names, np.full((2, 1, 1), values), title="\x00" * 500, units=dict.fromkeys(names, "\x07")
    )
    assert picture(made).shape[2] == 3


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (3, 2000)])
def test_a_long_run_has_a_picture_with_all_channels(shape: tuple[int, int]) -> None:
    run = SyntheticScan(shape, 1).run(5)
    height, width, _ = picture(written(run, MapFormat.PNG)).shape
    assert max(height, width) < 2500
