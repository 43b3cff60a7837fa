"""The mean frame of points by the API: equal to numpy over the file, while the run grows too."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from tests.integration.api.test_regions import HEIGHT, POINTS, WIDTH, Beamline, beamline, random

from snakemap.core.points_text import POINTS_TEXT_MAX, points_from_text
from snakemap.errors import RequestRefused

__all__ = ["beamline"]


async def test_the_mean_of_points_equals_numpy_and_grows_with_the_run(beamline: Beamline) -> None:
    frames = random("u2", POINTS, HEIGHT, WIDTH)
    await beamline.begin("run", frames)
    await beamline.measure(1, 5)
    url = "/api/runs/run/frame"
    answer = await beamline.client.get(url, params={"points": "2-4,7"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    np.testing.assert_array_equal(np.array(body.pop("values")), frames[1:4].mean(axis=0, dtype=np.float64))
    assert body == {
        "source": "camera", "requested": 4, "measured": 3, "read": 3, "lost": 0, "frames": 3, "complete": True,
        "trouble": "", "shape": [HEIGHT, WIDTH],
    }  # fmt: skip
    known = {"If-None-Match": answer.headers["etag"]}
    again = await beamline.client.get(url, params={"points": "2-4,7"}, headers=known)
    assert again.status_code == 304
    await beamline.measure(6, POINTS)
    answer = await beamline.client.get(url, params={"points": "4,2,7,3", "format": "npz"})
    with np.load(io.BytesIO(answer.content)) as archive:
        about = json.loads(str(archive["about"]))
        expected = frames[[1, 2, 3, 6]].mean(axis=0, dtype=np.float64)
        np.testing.assert_array_equal(archive["frame"], expected)
    assert (about["read"], about["complete"]) == (4, True)


async def test_what_has_no_mean_is_one_sentence(beamline: Beamline) -> None:
    await beamline.begin("run", random("u1", POINTS, HEIGHT, WIDTH))
    await beamline.measure(1, 5)
    for params, status, code in (
        ({"points": "x"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"points": "9"}, 422, "frame"),
        ({"points": "1", "source": "scalars"}, 422, "frame"),
        ({"points": "1", "source": "nothing"}, 404, "run_not_found"),
        ({"points": "1", "format": "csv"}, 422, "invalid_request"),
    ):
        answer = await beamline.client.get("/api/runs/run/frame", params=params)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (params, answer.text)
    (beamline.root / "run.h5").unlink()
    answer = await beamline.client.get("/api/runs/run/frame", params={"points": "1-5"})
    assert answer.status_code == 422
    assert "run.h5" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "text",
    ["", "0", "3-2", "1-", "-1", "1,,2", "1;2", "1.5", "10000001", "1-99999999", "١", "1" * (POINTS_TEXT_MAX + 1)],
)
def test_what_is_no_list_of_points_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused, match="points"):
        points_from_text(text)
