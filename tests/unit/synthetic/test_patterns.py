import numpy as np
import pytest

from snakemap.synthetic.patterns import INSTRUMENT_FRAME, PICTURES, grains, patterns_of, snake, up


def seen(name, side):
    edge = np.linspace(0.0, 1.0, side)
    return PICTURES[name](*np.meshgrid(edge, edge))


def likeness(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_stays_between_dark_and_one_and_uses_most_of_it(name):
    picture = seen(name, 200)
    assert picture.shape == (200, 200)
    assert 0.0 <= picture.min() < 0.1
    assert 0.95 < picture.max() <= 1.0


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.rot90, np.transpose])
@pytest.mark.parametrize("side", [10, 60, 200])
def test_a_mirrored_or_turned_picture_is_another_picture(name, turn, side):
    picture = seen(name, side)
    assert likeness(picture, turn(picture)) < 0.75


def test_the_three_pictures_are_unlike_each_other():
    first, second, third = (seen(name, 100) for name in PICTURES)
    assert max(likeness(first, second), likeness(second, third), likeness(third, first)) < 0.4


@pytest.mark.parametrize("name", PICTURES)
def test_a_coarse_scan_sees_the_same_picture_as_a_fine_one(name):
    coarse = seen(name, 50)
    fine = seen(name, 99)
    assert np.array_equal(coarse, fine[::2, ::2])


def test_the_snakes_head_is_at_the_top_right_and_its_eye_is_dark():
    head, eye, mirrored = snake(np.array([0.76, 0.805, 0.21]), np.array([0.77, 0.81, 0.23]))
    assert head > 0.8
    assert eye < 0.1
    assert mirrored < 0.5


def test_the_rings_are_at_the_bottom_left():
    ring, opposite = grains(np.array([0.33, 0.67]), np.array([0.54, 0.46]))
    assert ring > 0.7
    assert opposite < 0.5


def test_the_arrow_points_up():
    barb_above, barb_below = up(np.array([0.76, 0.76]), np.array([0.66, 0.30]))
    assert barb_above > 0.8
    assert barb_below < 0.2


def test_a_region_without_a_pattern_of_its_own_has_one_and_a_rectangle_that_no_other_has() -> None:
    regions = ["red", "green", "blue", *(f"region {number}" for number in range(8))]
    patterns = patterns_of(regions)
    assert list(patterns) == regions
    assert len({rectangle for _, rectangle in patterns.values()}) == len(regions)
    assert all(y1 <= INSTRUMENT_FRAME[0] and x1 <= INSTRUMENT_FRAME[1] for _, (_, y1, _, x1) in patterns.values())
    assert {picture for picture, _ in patterns.values()} == {snake, grains, up}
