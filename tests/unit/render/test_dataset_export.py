import csv
import io

import numpy as np
import pytest
from PIL import Image

from snakemap.render.dataset_export import export_values

IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000


@pytest.mark.parametrize("values", [IMAGE, IMAGE * 1j, np.arange(3) > 1, np.zeros((2, 3, 3), np.uint8)])
def test_npy_is_the_numbers_as_they_are(values: np.ndarray) -> None:
    np.testing.assert_array_equal(np.load(export_values(values, "npy")), values)


def test_npy_of_what_is_no_number_is_text_and_no_pickle() -> None:
    assert np.load(export_values(["a", "<b>"], "npy"), allow_pickle=False).tolist() == ["a", "<b>"]
    assert np.load(export_values([[1, "x"]], "npy"), allow_pickle=False).tolist() == ["1 x"]


def test_csv_has_heads_and_rows_and_no_formulas() -> None:
    text = export_values([[1, "=cmd()"], [2, "plain"]], "csv", heads=["n", "+x"]).read().decode()
    assert list(csv.reader(io.StringIO(text))) == [["n", "'+x"], ["1", "'=cmd()"], ["2", "plain"]]
    assert export_values(np.arange(3), "csv").read().split() == [b"0", b"1", b"2"]
    assert export_values(IMAGE, "csv").read().split()[0] == b"0,1000,2000,3000"
    assert export_values(5.5, "csv").read().strip() == b"5.5"


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i8", "f4", "f8"])
def test_tiff_keeps_the_numbers(dtype: str) -> None:
    values = (IMAGE // 100).astype(dtype)
    np.testing.assert_array_equal(np.asarray(Image.open(export_values(values, "tiff"))), values)


def test_png_is_the_picture_on_the_screen() -> None:
    picture = np.asarray(Image.open(export_values(IMAGE, "png", limits=(0, 11_000))))
    assert picture.shape == (3, 4, 4)
    assert picture[0, 0].tolist() == [0, 32, 76, 255]
    assert picture[2, 3, 0] > picture[1, 0, 0]
    flipped = np.asarray(Image.open(export_values(IMAGE, "png", limits=(0, 11_000), flipped=True)))
    np.testing.assert_array_equal(flipped, picture[::-1])
    holes = np.where(IMAGE == 0, np.nan, IMAGE)
    assert np.asarray(Image.open(export_values(holes, "png", limits=(1, 10), log=True)))[0, 0, 3] == 0


def test_color_images_keep_their_colors() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 4, 3)).astype(np.uint8)
    for form in ("png", "tiff"):
        np.testing.assert_array_equal(np.asarray(Image.open(export_values(image, form))), image)
