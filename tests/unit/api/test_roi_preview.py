"""Counts over ROIs as a preview tells them: exact where it is the frame, honest where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemap.api.roi_preview import Preview
from snakemap.core.roi import Roi, shrink
from snakemap.errors import FrameError, RoiError

SIDES = st.integers(1, 40)


@settings(deadline=None)  # the first frame waits for a compiler
@given(SIDES, SIDES, st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
def test_counts_are_those_of_a_frame_whose_blocks_are_spread_evenly(
    rows: int, columns: int, longest: int, seed: int, data: st.DataObject
) -> None:
    frame = np.random.default_rng(seed).uniform(0, 100, (rows, columns))
    preview = Preview(shrink(frame, longest=longest), (rows, columns))
    spread = np.kron(preview.pixels, np.ones((preview.block, preview.block)))[:rows, :columns]
    y0, x0 = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, rows)), data.draw(st.integers(x0 + 1, columns))
    assert preview.counts(Roi("r", y0, y1, x0, x1)) == pytest.approx(spread[y0:y1, x0:x1].sum())
    assert preview.counts(Roi("all", 0, rows, 0, columns)) == pytest.approx(frame.sum())


def test_a_whole_frame_of_the_instrument_keeps_its_total_within_the_rounding() -> None:
    frame = np.random.default_rng(0).integers(0, 200, (1216, 1936), dtype=np.uint8)
    preview = Preview(shrink(frame), frame.shape)
    assert preview.block == 4
    assert abs(preview.counts(Roi("all", 0, 1216, 0, 1936)) - int(frame.sum(dtype=np.int64))) < 0.5 * frame.size
    spot = Roi("spot", 608, 760, 96, 244)
    assert preview.counts(spot) == pytest.approx(int(frame[608:760, 96:244].sum(dtype=np.int64)), rel=0.01)


def test_colors_are_summed_and_a_pixel_that_is_no_number_spoils_only_what_holds_it() -> None:
    colors = np.arange(48.0).reshape(4, 4, 3)
    assert Preview(colors, (4, 4)).counts(Roi("r", 0, 2, 0, 2)) == colors[:2, :2].sum()
    frame = np.ones((4, 4))
    frame[3, 3] = np.nan
    assert Preview(frame, (4, 4)).counts(Roi("r", 0, 3, 0, 4)) == 12
    assert np.isnan(Preview(frame, (4, 4)).counts(Roi("r", 0, 4, 0, 4)))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(FrameError):
        Preview(np.ones((4, 5)), (8, 16))
    with pytest.raises(RoiError):
        Preview(np.ones((4, 4)), (4, 4)).counts(Roi("r", 0, 5, 0, 1))
