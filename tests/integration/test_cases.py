"""Cases that went wrong once, through the real chain: store, worker, files, then the run as page and API show it."""

from __future__ import annotations

from pathlib import Path

from tests.support.cases import Documents, image, number, played, ramp, snaked, write


async def test_frames_and_events_of_a_plain_run_come_to_their_maps(redis_url: str, tmp_path: Path) -> None:
    case = Documents(tmp_path / "plain", 2, 3)
    descriptor = case.descriptor(cam=image(1, 8, 8), diode=number("nA"))
    resource = case.stream_resource("cam", write(case.folder / "cam.h5", ramp(6)))
    for point in range(6):
        case.stream_datum(descriptor, resource, point, point + 1)
        case.event(descriptor, point + 1, diode=float(point))
    case.stop(primary=6)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == snaked(2, 3, [64 * (point + 1) for point in range(6)])
    assert outcome.channel("diode", "scalars") == snaked(2, 3, list(range(6)))
    assert (outcome.run.status, outcome.words.strip()) == ("complete", "")


async def test_only_the_axes_run_back_that_snake_axes_names(redis_url: str, tmp_path: Path) -> None:
    case = Documents(tmp_path / "snake_axes", 2, 2, 3, snaking=None, extents=None, snake_axes=["x"])
    descriptor = case.descriptor(diode=number())
    for point in range(1, 13):
        case.event(descriptor, point, diode=float(point))
    case.stop(primary=12)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("diode") == [[1, 2, 3], [6, 5, 4], [7, 8, 9], [12, 11, 10]]
    assert outcome.run.raster.source == "shape and snake_axes"
    assert outcome.run.status == "complete"
