"""What the real worker makes of files that are not as documents say: one worker for all of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import h5py
import numpy as np
import pytest
import pytest_asyncio
from tests.support.beamline import SHAPE, Scan, some_frames
from tests.support.lab import Lab, maps_of_frames, write_frames

from snakemap.store.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A worker without a broker: documents are put into the store."""
    root = tmp_path_factory.mktemp("data")
    with EmbeddedRedis(tmp_path_factory.mktemp("state")) as url:
        async with Lab(url, root=root, file_timeout_s=1) as lab, lab.worker():
            yield lab


def scan_of(uid: str, **changes: Any) -> Scan:
    return Scan(**{"uid": uid, "shape": (10, 10), "frames": some_frames(100), **changes})


async def settled(lab: Lab, scan: Scan) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and last note of a scan of which all documents have come."""
    await lab.append(*scan.whole(), run=scan.uid)
    await lab.until_settled(scan.uid)
    return await lab.summary(scan.uid), await lab.settled(scan.uid)


@pytest.mark.parametrize(
    ("uid", "uri", "words"),
    [
        ("never", "file://localhost/data/never.h5", "never.h5 is not there (yet)"),
        ("outside", "file://localhost/etc/passwd", "data root"),
        ("upwards", "file://localhost/data/../outside.h5", "outside.h5"),
        ("elsewhere", "http://localhost/data/scan.h5", "http"),
        ("directory", "file://localhost/data/", "not a file"),
    ],
)
async def test_a_file_that_is_not_there_or_not_ours_is_said_so(lab: Lab, uid: str, uri: str, words: str) -> None:
    summary, note = await settled(lab, scan_of(uid, uri=uri))
    assert words in summary["trouble"]
    assert words in note["reason"]
    assert summary["status"] == "incomplete"
    assert (summary["points"], note["missing"]) == (0, 100)


async def test_a_file_that_is_no_hdf5_is_said_so(lab: Lab) -> None:
    path = lab.root / "text.h5"
    path.write_bytes(b"not HDF5 at all" * 1000)
    os.utime(path, (0, 0))
    summary, _ = await settled(lab, scan_of("text"))
    assert "text.h5" in summary["trouble"]
    assert "HDF5" in summary["trouble"]


async def test_a_file_without_the_dataset_is_said_so(lab: Lab) -> None:
    write_frames(lab.root / "empty.h5", some_frames(100), dataset="/elsewhere")
    summary, _ = await settled(lab, scan_of("empty"))
    assert "/entry/data/data" in summary["trouble"]


async def test_of_a_truncated_file_all_is_read_that_is_left(lab: Lab) -> None:
    scan = scan_of("truncated")
    path = lab.root / "truncated.h5"
    write_frames(path, scan.frames)
    os.truncate(path, path.stat().st_size - scan.frames[90:].nbytes)
    os.utime(path, (0, 0))
    summary, note = await settled(lab, scan)
    run = await lab.run("truncated")
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, scan.frames, points=range(1, 91)))
    assert summary["status"] == "incomplete"
    assert note["missing"] == 10
    assert "truncated.h5 was cut short" in summary["trouble"]


@pytest.mark.parametrize("how", ["deleted", "shrunk"])
async def test_a_file_that_goes_in_mid_run_leaves_what_was_read(lab: Lab, how: str) -> None:
    scan = scan_of(how)
    path = lab.root / f"{how}.h5"
    write_frames(path, scan.frames[:50])
    await lab.append(*scan.whole()[:53], run=how)
    await lab.until_points(how, 50)
    if how == "deleted":
        path.unlink()
    else:
        with h5py.File(path, "r+") as file:
            dataset = file["/entry/data/data"]
            assert isinstance(dataset, h5py.Dataset)
            dataset.resize(10, axis=0)
    await lab.append(*scan.whole()[53:], run=how)
    await lab.until_settled(how)
    run, summary = await lab.run(how), await lab.summary(how)
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, scan.frames, points=range(1, 51)))
    assert summary["status"] == "incomplete"
    assert f"{how}.h5" in summary["trouble"]


async def test_frames_of_another_shape_are_said_so(lab: Lab) -> None:
    write_frames(lab.root / "other.h5", some_frames(100, shape=(7, 5)))
    summary, _ = await settled(lab, scan_of("other"))
    assert "other.h5" in summary["trouble"]
    assert summary["points"] == 0


async def test_frames_that_cannot_be_summed_are_said_so(lab: Lab) -> None:
    write_frames(lab.root / "complex.h5", np.zeros((100, *SHAPE), dtype=np.complex64))
    summary, _ = await settled(lab, scan_of("complex"))
    assert "complex64" in summary["trouble"]


@pytest.mark.parametrize(
    ("uid", "column", "words"),
    [
        ("text", np.full(100, "text", h5py.string_dtype()), "holds text or records, not numbers"),
        ("short", np.arange(60.0), "has 60 values (yet)"),
    ],
)
async def test_a_column_that_cannot_be_read_costs_no_point(lab: Lab, uid: str, column: Any, words: str) -> None:
    scan = scan_of(f"column-{uid}", others={"diode": np.arange(100.0)})
    write_frames(lab.root / f"column-{uid}.h5", scan.frames)
    write_frames(lab.root / f"column-{uid}-diode.h5", column)
    summary, note = await settled(lab, scan)
    assert (summary["status"], note["missing"]) == ("complete", 0)
    assert words in note["reason"]
    assert "points of diode could not be read." in note["reason"]
    run = await lab.run(scan.uid)
    diode = run.streams["primary"].files["diode"]
    assert diode.given_up == 0, "only the worker knows what it gave up"
    assert run.sources["scalars"].maps.visited == (60 if uid == "short" else 0)


async def test_frames_of_too_many_colors_are_said_so(lab: Lab) -> None:
    write_frames(lab.root / "colors.h5", np.ones((100, 5, *SHAPE), np.uint8))
    summary, _ = await settled(lab, scan_of("colors"))
    assert "no stack of frames of one color or three" in summary["trouble"]


async def test_none_of_them_has_harmed_the_worker(lab: Lab) -> None:
    scan = scan_of("good")
    write_frames(lab.root / "good.h5", scan.frames)
    summary, _ = await settled(lab, scan)
    run = await lab.run("good")
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, scan.frames, points=range(1, 101)))
    assert (summary["status"], summary["trouble"]) == ("complete", "")
