"""Finished files opened as maps: the real worker, a real Redis, real files, looked into as the page does it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from tests.support.lab import Lab, WorkerProcess, maps_of_frames
from tests.support.patience import PATIENCE

from snakemap.core.run import Run
from snakemap.errors import FrameError
from snakemap.hdf5.inspector import FileInspector
from snakemap.live.file_runs import FrameStack, cancel_reading, open_stack, stack_of
from snakemap.live.run_follower import RunFollower

SHAPE = (48, 64)
GRID = (20, 25)


@pytest.fixture
def lab(redis_url: str, tmp_path: Path) -> Lab:
    return Lab(redis_url, root=tmp_path)


@pytest_asyncio.fixture
async def looker(tmp_path: Path) -> AsyncIterator[FileInspector]:
    looker = FileInspector(tmp_path)
    yield looker
    await looker.close()


def frames_of(count: int, *, bits: type = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(count).integers(0, 200, (count, *SHAPE)).astype(bits)


def written(path: Path, frames: npt.NDArray[Any], *, snake: bool = False, age_s: float = 3600, **options: Any) -> Path:
    """A NeXus file as a beamline leaves it, with positions of the stage where it snaked."""
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        data.attrs.update({"NX_class": "NXdata", "signal": "data"})
        data.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), **options)
        data["exposure"] = np.full(len(frames), 0.1)
        if snake:
            rows, columns = np.divmod(np.arange(len(frames)), GRID[1])
            columns = np.where(rows % 2, GRID[1] - 1 - columns, columns)
            for name, values in (("stage_y", 5 + 0.2 * rows), ("stage_x", -3 + 0.1 * columns)):
                data[name] = values
                data[name].attrs["units"] = "mm"
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


async def opened(looker: FileInspector, name: str, node: str = "/entry/data/data") -> FrameStack:
    return await stack_of(looker, name, await looker.about(name, node))


def assert_maps(run: Run, frames: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, frames, points=range(1, len(frames) + 1)))


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, dict(hdf5plugin.Bitshuffle(cname="lz4"))])
async def test_a_stack_with_positions_becomes_snaked_maps(
    lab: Lab, looker: FileInspector, options: dict[str, Any]
) -> None:
    frames = frames_of(500)
    written(lab.root / "scan.nxs", frames, snake=True, **options)
    stack = await opened(looker, "scan.nxs")
    assert sorted(position.name for position in stack.positions) == ["stage_x", "stage_y"]
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, stack)
        await lab.until_settled(uid)
        summary = await lab.summary(uid)
        run = await lab.run(uid)
    assert (run.raster.rows, run.raster.columns, run.raster.snaking) == (*GRID, (False, True))
    assert (run.raster.fast.name, run.raster.fast.unit) == ("stage_x", "mm")
    np.testing.assert_allclose(run.raster.fast.coordinates, -3 + 0.1 * np.arange(25), atol=1e-6)
    assert_maps(run, frames)
    assert (summary["status"], summary["points"], summary["opened"]) == ("complete", 500, True)
    assert summary["plan_name"] == "scan.nxs"


async def test_a_stack_without_positions_is_a_row_until_a_shape_is_typed(lab: Lab, looker: FileInspector) -> None:
    frames = frames_of(60)
    written(lab.root / "scan.h5", frames)
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, await opened(looker, "scan.h5"))
        await lab.until_settled(uid)
        run = await lab.run(uid)
    assert (run.raster.rows, run.raster.columns) == (1, 60)
    assert "Shape unknown" in run.raster.note
    assert_maps(run, frames)


async def test_opened_again_it_is_there_at_once_and_a_changed_file_is_another_one(
    lab: Lab, looker: FileInspector
) -> None:
    written(lab.root / "scan.h5", frames_of(60))
    async with lab:
        async with lab.worker(listening=False):
            first = await open_stack(lab.store, await opened(looker, "scan.h5"))
            await lab.until_settled(first)
        before = await lab.store.latest()  # nobody reads any more
        assert await open_stack(lab.store, await opened(looker, "scan.h5")) == first
        assert await lab.store.latest() == before
        assert (await lab.run(first)).points == 60
        written(lab.root / "scan.h5", frames_of(61), age_s=1800)
        other = await open_stack(lab.store, await opened(looker, "scan.h5"))
        rois = await open_stack(lab.store, await opened(looker, "scan.h5"), rois={"spot": (0, 4, 0, 4)})
    assert len({first, other, rois}) == 3


async def test_two_tabs_that_open_it_at_once_make_one_run(lab: Lab, looker: FileInspector) -> None:
    frames = frames_of(40)
    written(lab.root / "scan.h5", frames)
    stack = await opened(looker, "scan.h5")
    async with lab, lab.worker(listening=False):
        uids = await asyncio.gather(*(open_stack(lab.store, stack) for _ in range(5)))
        await lab.until_settled(uids[0])
        run = await lab.run(uids[0])
    assert len(set(uids)) == 1
    assert_maps(run, frames)


async def test_called_off_the_maps_stay_as_they_are_and_it_can_be_opened_again(lab: Lab, looker: FileInspector) -> None:
    frames = frames_of(3000)
    written(lab.root / "scan.h5", frames, compression="gzip")
    stack = await opened(looker, "scan.h5")
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, stack)
        await cancel_reading(lab.store, uid)
        await lab.until_settled(uid)
        summary = await lab.summary(uid)
        again = await open_stack(lab.store, stack)
        await lab.until_settled(again)
        run = await lab.run(again)
    assert summary["status"] == "aborted"
    assert summary["points"] < 3000
    assert "stopped on the page" in summary["reason"]
    assert again != uid
    assert_maps(run, frames)


async def test_a_worker_killed_while_it_reads_goes_on_where_it_was(lab: Lab, looker: FileInspector) -> None:
    frames = frames_of(3000)
    written(lab.root / "scan.h5", frames, compression="gzip")
    async with lab, WorkerProcess(lab) as worker:
        uid = await open_stack(lab.store, await opened(looker, "scan.h5"))
        await lab.until_points(uid, 50)
        worker.kill()
        await worker.start()
        await lab.until_settled(uid)
        summary = await lab.summary(uid)
        run = await lab.run(uid)
        worker.end()
    assert summary["status"] == "complete"
    assert_maps(run, frames)


async def test_a_file_that_is_gone_before_it_was_read_has_failed_and_says_why(lab: Lab, looker: FileInspector) -> None:
    written(lab.root / "scan.h5", frames_of(10))
    stack = await opened(looker, "scan.h5")
    (lab.root / "scan.h5").unlink()
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, stack)
        await lab.until_settled(uid)
        summary = await lab.summary(uid)
    assert summary["status"] == "failed"
    assert "scan.h5" in summary["reason"]


async def test_who_follows_the_newest_run_is_not_sent_to_a_file_that_somebody_opened(
    lab: Lab, looker: FileInspector
) -> None:
    written(lab.root / "scan.h5", frames_of(10))
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, await opened(looker, "scan.h5"))
        await lab.until_settled(uid)
        live = RunFollower(lab.store)
        live.start()
        await asyncio.wait_for(live.ready.wait(), 10 * PATIENCE)
        assert live.newest is None
        assert (await live.open(uid)).points == 10
        await live.close()


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": (2, 3, 10, 12), "compression": "gzip"}])
async def test_a_stack_in_rows_and_columns_of_points_is_a_grid_with_the_axes_of_its_file(
    lab: Lab, looker: FileInspector, options: dict[str, Any]
) -> None:
    frames = np.random.default_rng(3).integers(0, 900, (7, 9, 10, 12)).astype(np.uint16)
    with h5py.File(lab.root / "map.nxs", "w") as file:
        data = file.create_group("entry/data")
        data.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": ["y_set", "x_set", ".", "."]})
        data.create_dataset("data", data=frames, **options)
        data["y_set"], data["x_set"] = 1 + 0.5 * np.arange(7), -2 + 0.1 * np.arange(9)
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, await opened(looker, "map.nxs"))
        await lab.until_settled(uid)
        run, summary = await lab.run(uid), await lab.summary(uid)
    assert (summary["status"], summary["points"], run.raster.snaking) == ("complete", 63, (False, False))
    np.testing.assert_array_equal(run.maps.grids[-1], frames.sum(axis=(2, 3)))
    np.testing.assert_array_equal(run.maps.grids[0], frames[:, :, :3].sum(axis=(2, 3)))
    assert (run.raster.slow.name, run.raster.fast.name) == ("y_set", "x_set")
    np.testing.assert_allclose(run.raster.slow.coordinates, 1 + 0.5 * np.arange(7))
    np.testing.assert_allclose(run.raster.fast.coordinates, -2 + 0.1 * np.arange(9))


@pytest.mark.parametrize("shape", [(5,), (5, 6), (4, 1, 9), (2, 3, 1, 5), (0, 8, 8), (2, 3, 4, 5, 6)])
async def test_what_is_no_stack_of_frames_is_refused(
    looker: FileInspector, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["d"] = np.zeros(shape)
    with pytest.raises(FrameError, match="not a stack of frames"):
        await opened(looker, "scan.h5", "/d")


async def test_frames_in_color_and_behind_links_are_read_too(lab: Lab, looker: FileInspector) -> None:
    frames = np.random.default_rng(1).integers(0, 200, (12, *SHAPE, 3)).astype(np.uint8)
    (lab.root / "raw").mkdir()
    with h5py.File(lab.root / "raw" / "camera.h5", "w") as file:
        file["frames"] = frames
    with h5py.File(lab.root / "scan.nxs", "w") as file:
        file["entry/camera"] = h5py.ExternalLink("raw/camera.h5", "/frames")
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, await opened(looker, "scan.nxs", "/entry/camera"))
        await lab.until_settled(uid)
        run = await lab.run(uid)
    np.testing.assert_array_equal(run.maps.grids[-1].ravel(), frames.sum(axis=(1, 2, 3)))
