"""Means of the frames of a run, read from its file by reader processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from tests.support.camera_run import camera_run, measure

from snakemap.core.roi import shrink
from snakemap.errors import FrameError
from snakemap.hdf5.frame_reader import FrameReader
from snakemap.live.mean_frames import RUNNING_MAX, FrameMean, MeanFrames, picture_of
from snakemap.live.region_maps import RegionMaps

pytestmark = pytest.mark.asyncio(loop_scope="module")

POINTS, SHAPE = 20, (24, 32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("means")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def means(root: Path) -> AsyncIterator[MeanFrames]:
    """One for all tests, with one reader process."""
    reader = FrameReader(root)

    @asynccontextmanager
    async def lend() -> AsyncIterator[FrameReader]:
        yield reader

    yield MeanFrames(lend)
    await reader.close()


def frames_of(dtype: str, shape: tuple[int, ...] = SHAPE) -> npt.NDArray[Any]:
    values = np.random.default_rng(3).integers(0, 200, (POINTS, *shape))
    frames = values.astype(dtype)
    return frames / frames.dtype.type(7) if frames.dtype.kind == "f" else frames


def write(path: Path, frames: npt.NDArray[Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), **options)
    return path


async def whole(means: MeanFrames, mean: FrameMean) -> FrameMean:
    while not mean.complete:
        await means.grow(mean)
    return mean


CHOSEN = np.array([2, 3, 4, 9, 15])


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3), (3, *SHAPE)])
async def test_the_mean_is_that_of_numpy_over_the_file(
    root: Path, means: MeanFrames, dtype: str, shape: tuple[int, ...]
) -> None:
    frames = frames_of(dtype, shape)
    run = camera_run(write(root / f"{dtype}-{len(shape)}-{shape[0]}.h5", frames), point=shape)
    measure(run, 1, 12)  # point 15 is not measured yet
    mean = means.mean_of(run, run.main, CHOSEN)
    assert mean.wanted == 4
    await whole(means, mean)
    chosen = frames[CHOSEN[:4] - 1] if shape[0] != 3 else np.moveaxis(frames[CHOSEN[:4] - 1], 1, -1)
    np.testing.assert_array_equal(mean.values(), chosen.mean(axis=0, dtype=np.float64))
    assert (mean.points, mean.frames, mean.lost, mean.trouble) == (4, 4, 0, "")
    measure(run, 13, 16)
    assert means.extend(mean, run.main, CHOSEN)
    await whole(means, mean)
    chosen = frames[CHOSEN - 1] if shape[0] != 3 else np.moveaxis(frames[CHOSEN - 1], 1, -1)
    np.testing.assert_allclose(mean.values(), chosen.mean(axis=0, dtype=np.float64), rtol=1e-15)
    assert not means.extend(mean, run.main, CHOSEN[1:])


async def test_a_large_mean_is_as_small_as_a_screen_needs_it(root: Path, means: MeanFrames) -> None:
    frames = frames_of("u2", (700, 1100))
    run = camera_run(write(root / "large.h5", frames), point=(700, 1100))
    measure(run, 1, POINTS)
    mean = await whole(means, means.mean_of(run, run.main, CHOSEN))
    expected = shrink(frames[CHOSEN - 1].mean(axis=0, dtype=np.float64))
    assert expected.shape == (234, 367)
    np.testing.assert_array_equal(await picture_of(mean), expected)


async def test_frames_that_cannot_be_read_are_left_out_and_counted(root: Path, means: MeanFrames) -> None:
    frames = frames_of("u2")
    path = write(root / "damaged.h5", frames, compression="gzip")
    with h5py.File(path, "a") as file:
        dataset: Any = file["data"]
        for row in (0, 7, 8):
            dataset.id.write_direct_chunk((row, 0, 0), b"no gzip at all")
    run = camera_run(path)
    measure(run, 1, POINTS)
    mean = await whole(means, means.mean_of(run, run.main, np.arange(1, POINTS + 1)))
    good = [row for row in range(POINTS) if row not in (0, 7, 8)]
    np.testing.assert_array_equal(mean.values(), frames[good].mean(axis=0, dtype=np.float64))
    assert (mean.points, mean.lost) == (17, 3)
    assert "cannot be read" in mean.trouble


async def test_without_a_readable_frame_there_is_a_sentence(root: Path, means: MeanFrames) -> None:
    run = camera_run(root / "gone.h5")
    with pytest.raises(FrameError, match=r"no frame|no file"):
        means.mean_of(camera_run(""), run.sources["camera"], CHOSEN).values()
    measure(run, 1, POINTS)
    mean = await whole(means, means.mean_of(run, run.main, CHOSEN))
    assert (mean.points, mean.lost) == (0, 5)
    with pytest.raises(FrameError, match=r"gone\.h5"):
        mean.values()


async def test_a_file_that_was_replaced_is_not_read(root: Path, means: MeanFrames) -> None:
    frames = frames_of("u2")
    path = write(root / "replaced.h5", frames)
    run = camera_run(path)
    measure(run, 1, POINTS)
    mean = means.mean_of(run, run.main, CHOSEN)
    first = await whole(means, means.mean_of(run, run.main, CHOSEN))
    mean.marks.update(first.marks)
    path.unlink()
    write(path, frames + np.uint16(1))
    await whole(means, mean)
    assert (mean.points, mean.lost) == (0, 5)
    assert "replaced" in mean.trouble


async def test_only_so_many_means_grow_at_one_time(root: Path, means: MeanFrames, monkeypatch: Any) -> None:
    monkeypatch.setattr("snakemap.live.mean_frames.PORTION_S", 0.0)
    means = MeanFrames(means.lend)
    run = camera_run(write(root / "many.h5", frames_of("u1")), uid="many")
    measure(run, 1, POINTS)
    many = [means.mean_of(run, run.main, np.arange(1, POINTS + 1)) for _ in range(RUNNING_MAX + 1)]
    for mean in many:
        mean._step = 1
    assert [await means.grow(mean) for mean in many] == [True] * RUNNING_MAX + [False]
    assert [mean.points for mean in many] == [1] * RUNNING_MAX + [0]
    means.end(many[0])
    assert await means.grow(many[-1])
    for mean in many[1:]:
        await whole(means, mean)
    assert [mean.points for mean in many[1:]] == [POINTS] * RUNNING_MAX
    means.bytes_kept = 0
    means.end(many[1], keep=True)
    assert [mean.sums is None for mean in many[1:]] == [False, *[True] * (RUNNING_MAX - 1)]


async def test_frames_in_a_file_each_have_a_mean_too(root: Path, means: MeanFrames) -> None:
    frames = frames_of("u2")
    run = camera_run(root / "each.h5")
    measure(run, 1, POINTS)
    mean = means.mean_of(run, run.main, CHOSEN)
    (name,) = mean.resources
    for row, frame in enumerate(frames):
        write(root / f"im_{row:06d}.h5", frame[np.newaxis])
    one = type(mean.resources[name])
    uri, template = f"file://localhost{root}", "%s%s_%6.6d.h5"
    mean.resources[name] = one(name, uri, "/data", 1, SHAPE, SHAPE, template=template, filename="im")
    await whole(means, mean)
    np.testing.assert_array_equal(mean.values(), frames[CHOSEN - 1].mean(axis=0, dtype=np.float64))


async def test_regions_and_means_take_turns_at_the_same_readers(root: Path) -> None:
    regions = RegionMaps(lambda: FrameReader(root))
    run = camera_run(write(root / "turns.h5", frames_of("u1")), uid="turns")
    measure(run, 1, POINTS)
    means = MeanFrames(regions.reader)
    mean = await whole(means, means.mean_of(run, run.main, CHOSEN))
    assert mean.points == 5
    assert len(regions._all) == 1
    await regions.close()
