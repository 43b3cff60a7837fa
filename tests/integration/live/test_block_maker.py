"""Block sums of runs: made in portions, resumed, bounded, and equal to numpy over the file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from tests.support.camera_run import camera_run, measure

from snakemap.blocks import block_files
from snakemap.blocks.block_directory import BlockDirectory
from snakemap.blocks.block_files import BlockKey, BlockReader, BlockWriter
from snakemap.core.block_sums import BlockFormat
from snakemap.core.roi import Roi
from snakemap.core.run import Run
from snakemap.hdf5.frame_reader import FrameReader
from snakemap.live.block_access import BlockAccess
from snakemap.live.block_maker import BlockMaker, key_of
from snakemap.live.measured import measured

pytestmark = pytest.mark.asyncio(loop_scope="module")

POINTS, SHAPE = 20, (40, 50)
WHOLE, CUT = Roi("whole", 16, 40, 0, 32), Roi("cut", 3, 37, 11, 50)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def frame_reader(root: Path) -> AsyncIterator[FrameReader]:
    """One reader process for all tests."""
    reader = FrameReader(root, sums=False)
    yield reader
    await reader.close()


@pytest.fixture
def directory(tmp_path: Path) -> BlockDirectory:
    return BlockDirectory(tmp_path / "blocks", bytes_max=10**9)


def write(path: Path, frames: npt.NDArray[Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), **options)
    return path


def frames_of(dtype: str, shape: tuple[int, ...] = SHAPE, seed: int = 3) -> npt.NDArray[Any]:
    values = np.random.default_rng(seed).integers(0, 200, (POINTS, *shape)).astype(dtype)
    return values / values.dtype.type(7) if values.dtype.kind == "f" else values


async def make_all(maker: BlockMaker, run: Run) -> None:
    while await maker.portion(run, run.main):
        pass


def read(directory: BlockDirectory, run: Run) -> BlockReader:
    reader = directory.reader(key_of(run, run.main))
    reader.refresh()
    return reader


def gray(frames: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = frames.astype(np.float64)
    if wide.ndim == 4:
        return wide.sum(axis=1 if wide.shape[1] == 3 else 3)
    return wide


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f4"])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3), (3, *SHAPE)])
async def test_sums_over_boxes_are_those_of_numpy(
    root: Path, frame_reader: FrameReader, directory: BlockDirectory, dtype: str, shape: tuple[int, ...]
) -> None:
    frames = frames_of(dtype, shape)
    run = camera_run(write(root / f"{dtype[-2:]}-{len(shape)}-{shape[0]}.h5", frames), point=shape)
    measure(run, 1, 12)
    maker = BlockMaker(directory, lambda: frame_reader)
    await make_all(maker, run)
    assert maker.made == 12
    measure(run, 13, POINTS)
    await make_all(maker, run)
    assert maker.made == POINTS
    reader, wide = read(directory, run), gray(frames)
    known, sums = reader.boxes(*measured(run.main), WHOLE)
    assert known.all()
    np.testing.assert_allclose(sums, wide[:, 16:40, 0:32].sum(axis=(1, 2)), rtol=1e-12 if dtype == "f4" else 0)
    count, total = reader.total(*measured(run.main))
    assert count == POINTS
    assert total is not None
    np.testing.assert_allclose(total[0, 1], wide[:, :16, 16:32].sum(), rtol=1e-12)
    np.testing.assert_allclose(reader.boxes(*measured(run.main), CUT)[1], wide[:, 3:37, 11:].sum(axis=(1, 2)), rtol=0.1)


async def test_several_frames_a_point_and_compressed_ones_are_summed(
    root: Path, frame_reader: FrameReader, directory: BlockDirectory
) -> None:
    frames = np.random.default_rng(5).integers(0, 60_000, (POINTS * 2, *SHAPE)).astype("u2")
    run = camera_run(write(root / "two.h5", frames, compression="gzip"), point=(2, *SHAPE))
    measure(run, 1, POINTS)
    await make_all(BlockMaker(directory, lambda: frame_reader), run)
    known, sums = read(directory, run).boxes(*measured(run.main), WHOLE)
    assert known.all()
    assert sums.tolist() == frames[:, 16:40, :32].reshape(POINTS, -1).sum(axis=1, dtype=np.float64).tolist()


async def test_frames_that_cannot_be_read_are_left_out(
    root: Path, frame_reader: FrameReader, directory: BlockDirectory
) -> None:
    path = write(root / "damaged.h5", frames_of("u2"), compression="gzip")
    with h5py.File(path, "a") as file:
        dataset: Any = file["data"]
        for row in (0, 7, 8):
            dataset.id.write_direct_chunk((row, 0, 0), b"no gzip at all")
    run = camera_run(path, point=SHAPE)
    measure(run, 1, POINTS)
    maker = BlockMaker(directory, lambda: frame_reader)
    await make_all(maker, run)
    known, _ = read(directory, run).boxes(*measured(run.main), WHOLE)
    assert np.flatnonzero(~known).tolist() == [0, 7, 8]
    assert not await maker.portion(run, run.main)


async def test_a_second_process_waits_and_goes_on_where_the_first_was_killed(
    root: Path, frame_reader: FrameReader, directory: BlockDirectory
) -> None:
    run = camera_run(write(root / "resumed.h5", frames_of("u2")), point=SHAPE)
    measure(run, 1, 8)
    first, second = (BlockMaker(directory, lambda: frame_reader) for _ in range(2))
    await make_all(first, run)
    measure(run, 9, POINTS)
    assert not await second.portion(run, run.main)
    assert second.made == 0
    first.release(run, run.main)  # the lock of a killed process is released by the kernel
    third = BlockMaker(directory, lambda: frame_reader)
    await make_all(third, run)
    assert third.made == 12
    assert read(directory, run).boxes(*measured(run.main), WHOLE)[0].all()


async def test_without_room_the_oldest_sums_go_and_then_no_more_are_made(
    root: Path, frame_reader: FrameReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = BlockDirectory(tmp_path / "blocks", bytes_max=27_000)
    (tmp_path / "blocks").mkdir()
    other = tmp_path / "blocks" / "of the user"
    other.write_bytes(bytes(100_000))
    maker = BlockMaker(directory, lambda: frame_reader)
    runs = []
    for number in range(3):
        run = camera_run(write(root / f"room-{number}.h5", frames_of("u1")), uid=f"room-{number}", point=SHAPE)
        measure(run, 1, POINTS)
        await make_all(maker, run)
        maker.release(run, run.main)
        runs.append(run)
        maker._room = 0
    there = [bool(read(directory, run).boxes(*measured(run.main), WHOLE)[0].all()) for run in runs]
    assert there == [False, True, True]
    assert other.exists()
    small = BlockMaker(BlockDirectory(tmp_path / "small", bytes_max=100), lambda: frame_reader)
    assert not await small.portion(runs[0], runs[0].main)
    assert "SNAKEMAP_BLOCKS_MAX_GB" in caplog.text


async def test_a_directory_that_cannot_be_written_is_logged_and_nothing_fails(
    root: Path, frame_reader: FrameReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory")
    run = camera_run(write(root / "unwritable.h5", frames_of("u1")), point=SHAPE)
    measure(run, 1, POINTS)
    maker = BlockMaker(BlockDirectory(tmp_path / "file", bytes_max=10**9), lambda: frame_reader)
    assert not await maker.portion(run, run.main)
    assert "cannot be written" in caplog.text


KEY, FORM = BlockKey("run", "primary", "camera"), BlockFormat.of(SHAPE, "u2")


def writer_of(directory: BlockDirectory, key: BlockKey = KEY) -> BlockWriter:
    lock = directory.lock(key)
    assert lock is not None
    return directory.writer(key, FORM, lock=lock)


def put(directory: BlockDirectory, seq_nums: range, *, value: int, key: BlockKey = KEY) -> Path:
    writer = writer_of(directory, key)
    sums = np.full((len(seq_nums), *FORM.shape), value, FORM.dtype)
    numbers = np.array(seq_nums)
    writer.put(numbers, numbers - 1, sums)
    writer.close()
    return writer.directory


ALL = np.arange(1, 11), np.arange(10)


async def test_spoiled_sums_count_as_not_made(directory: BlockDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_files, "CHUNK_BYTES", 3 * FORM.size_bytes)
    path = put(directory, range(1, 11), value=7)
    assert len([*path.glob("sums-*")]) == 4
    with (path / "sums-00001").open("r+b") as file:
        file.seek(FORM.size_bytes)
        file.write(b"\xff")
    (path / "sums-00002").unlink()
    reader = directory.reader(KEY)
    while reader.refresh(points_max=2):
        pass
    known, sums = reader.boxes(*ALL, WHOLE)
    assert np.flatnonzero(~known).tolist() == [4, 6, 7, 8]
    assert reader.spoiled == 4
    assert len(sums) == 6
    writer = writer_of(directory)
    assert np.flatnonzero(writer.lacking(*ALL)).tolist() == [4, 6, 7, 8]
    writer.close()


@pytest.mark.parametrize("about", ["", "[]", "{", '{"frame_shape": 1}', '{"version": 9}', "\0" * 100])
async def test_files_of_others_are_not_read_and_are_replaced(directory: BlockDirectory, about: str) -> None:
    path = put(directory, range(1, 11), value=7)
    (path / "about.json").write_text(about)
    reader = directory.reader(KEY)
    reader.refresh()
    assert reader.format is None
    assert not reader.boxes(*ALL, WHOLE)[0].any()
    put(directory, range(3, 5), value=8)
    reader.refresh()
    known, _ = reader.boxes(*ALL, WHOLE)
    assert np.flatnonzero(known).tolist() == [2, 3]


async def test_the_sums_of_another_run_are_not_taken(directory: BlockDirectory) -> None:
    path = put(directory, range(1, 11), value=7)
    other = BlockKey("other", "primary", "camera")
    path.rename(directory._path_of(other))
    reader = directory.reader(other)
    reader.refresh()
    assert reader.format is None


async def test_a_point_that_is_taken_again_has_new_sums(directory: BlockDirectory) -> None:
    put(directory, range(1, 11), value=7)
    reader = directory.reader(KEY)
    reader.refresh()
    writer = writer_of(directory)
    writer.put(np.array([4]), np.array([99]), np.full((1, *FORM.shape), 9, FORM.dtype))
    writer.close()
    reader.refresh()
    places = np.arange(10)
    assert np.flatnonzero(~reader.boxes(ALL[0], places, WHOLE)[0]).tolist() == [3]
    places[3] = 99
    assert reader.boxes(ALL[0], places, WHOLE)[0].all()


async def test_a_reader_notices_that_sums_were_removed_or_cut_short(directory: BlockDirectory) -> None:
    path = put(directory, range(1, 11), value=7)
    reader = directory.reader(KEY)
    reader.refresh()
    (path / "index").write_bytes((path / "index").read_bytes()[:40])
    reader.refresh()
    assert reader.boxes(*ALL, WHOLE)[0].tolist() == [True, True, *[False] * 8]
    assert directory._remove(path)
    reader.refresh()
    assert reader.format is None
    assert not reader.boxes(*ALL, WHOLE)[0].any()
    assert reader.total(*ALL) == (0, None)


async def test_only_one_process_writes(directory: BlockDirectory) -> None:
    writer = writer_of(directory)
    assert directory.lock(KEY) is None
    assert not directory._remove(writer.directory)
    writer.close()
    writer_of(directory).close()


async def test_the_mean_of_blocks_has_one_value_for_the_pixels_of_each(
    root: Path, frame_reader: FrameReader, directory: BlockDirectory
) -> None:
    frames = frames_of("u2")
    run = camera_run(write(root / "mean.h5", frames), uid="mean", point=SHAPE)
    measure(run, 1, POINTS)
    maker = BlockMaker(directory, lambda: frame_reader)
    await make_all(maker, run)
    maker.release(run, run.main)
    access = BlockAccess(directory, maker)
    count, mean = await access.mean(run, run.main, np.array([2, 3, 19, 21]))
    assert count == 3
    assert mean is not None
    chosen = frames[[1, 2, 18]].astype(np.float64)
    expected = np.empty(SHAPE)
    for row in range(0, SHAPE[0], 16):
        for column in range(0, SHAPE[1], 16):
            place = np.s_[row : row + 16, column : column + 16]
            expected[place] = chosen[(slice(None), *place)].mean()
    np.testing.assert_allclose(mean, expected)
    assert await access.mean(run, run.main, np.array([40])) == (0, None)
    assert access._task is not None
    access._task.cancel()
