import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import h5py
import hdf5plugin
import numpy as np
import pytest
import pytest_asyncio
from tests.support import recordings
from tests.support.escapes import CANARY, ESCAPES, pictures, virtual, write
from tests.support.lab import ColumnsWriter
from tests.support.patience import PATIENCE
from tests.support.swmr_writer import DATASET, SHAPE, SwmrWriter, picture

from snakemap.core.roi import shrink
from snakemap.errors import FileBroken, FileNotReady, FileRefused, FrameError, RoiError
from snakemap.files.data_root import DataRoot
from snakemap.hdf5 import frame_reader, reader_process
from snakemap.hdf5.child.__main__ import FileReader
from snakemap.hdf5.child.frame_source import FrameSource
from snakemap.hdf5.child.frame_sums import sum_points
from snakemap.hdf5.child.open_files import OpenFiles
from snakemap.hdf5.frame_reader import FrameBatch, FrameReader
from snakemap.hdf5.protocol import ReaderConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = Path(__file__).parents[2] / "data" / "hostile"
ROIS = ((0, 5, 0, 7), (3, 24, 10, 32))
HOUR_S = 3600


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "cm1-1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(data_root):
    """One reader for all tests: whatever a test does to it, the next one must find it in order."""
    data_root.mkdir()
    reader = FrameReader(data_root, path_map=[("/writer", str(data_root))], time_limit_s=5)
    yield reader
    await reader.close()


@pytest.fixture
def visit(data_root, request):
    """A directory of its own for each test."""
    directory = data_root / f"visit-{len(list(data_root.iterdir()))}"
    directory.mkdir()
    return directory


@pytest.fixture
def outside(data_root):
    """A file beside the data root, with frames that nobody may ever see."""
    path = data_root.parent / "cm1-10" / "secret.h5"
    if not path.exists():
        path.parent.mkdir()
        write(path, np.full((8, *SHAPE), CANARY, np.uint16))
    return path


def age(path):
    """Has a file look as if nobody had written to it for an hour."""
    then = time.time() - HOUR_S
    os.utime(path, (then, then))
    return path


def batch(path, start=0, stop=8, dataset="d", **options):
    return FrameBatch(f"file://localhost{path}", dataset, start, stop, **{"rois": ROIS, **options})


def plain_sums(frames, frames_per_point=1):
    """What a batch of all of these frames comes to, by numpy alone."""
    dtype = {"f": "f8", "i": "i8"}.get(frames.dtype.kind, "u8")
    parts = [*(frames[:, y0:y1, x0:x1] for y0, y1, x0, x1 in ROIS), frames]
    sums = np.stack([part.sum(axis=(1, 2), dtype=dtype) for part in parts], axis=1)
    return sums.reshape(-1, frames_per_point, len(parts)).sum(axis=1, dtype=dtype)


# values


LAYOUTS = {
    "raw": {"chunks": (1, *SHAPE)},
    "raw and growing": {"chunks": (1, *SHAPE), "maxshape": (None, *SHAPE)},
    "gzip": {"chunks": (1, *SHAPE), "compression": "gzip", "shuffle": True},
    "bitshuffle": {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")},
    "blosc": {"chunks": (1, *SHAPE), **hdf5plugin.Blosc()},
    "lzf": {"chunks": (1, *SHAPE), "compression": "lzf"},
    "several frames a chunk": {"chunks": (5, *SHAPE)},
    "several packed frames a chunk": {"chunks": (5, *SHAPE), "compression": "gzip"},
    "several chunks a frame": {"chunks": (3, 7, 11), "compression": "gzip"},
    "contiguous": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
async def test_sums_and_frame_are_those_of_numpy_in_every_layout(reader, visit, layout, libver):
    frames = pictures(0, 12)
    path = write(visit / "scan.h5", frames, libver=libver, **LAYOUTS[layout])
    reduced = await reader.reduce(batch(path, 1, 12, preview=True, frame_shape=SHAPE))
    assert reduced.sums.dtype == np.uint64
    assert reduced.sums.tolist() == plain_sums(frames[1:]).tolist()
    assert reduced.length == 12
    assert reduced.identity == (path.stat().st_dev, path.stat().st_ino)
    assert reduced.frame is not None
    assert reduced.frame.tolist() == frames[11].tolist()


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f8"]
)
@pytest.mark.parametrize("layout", ["raw", "gzip", "contiguous"])
async def test_sums_are_those_of_numpy_for_every_dtype(reader, visit, dtype, layout):
    frames = pictures(0, 6, dtype)
    path = write(visit / "scan.h5", frames, **LAYOUTS[layout])
    reduced = await reader.reduce(batch(path, 0, 6, preview=True))
    assert reduced.sums.tolist() == plain_sums(frames).tolist()
    assert reduced.sums.dtype == plain_sums(frames).dtype
    assert reduced.frame is not None
    assert reduced.frame.tolist() == frames[-1].tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_point_of_several_frames_is_their_sum(reader, visit, layout):
    frames = pictures(0, 24)
    path = write(visit / "scan.h5", frames, **LAYOUTS[layout])
    reduced = await reader.reduce(batch(path, 1, 8, frames_per_point=3))
    assert reduced.sums.tolist() == plain_sums(frames[3:], 3).tolist()
    assert await reader.length(str(path), "/d") == 24


async def test_a_large_frame_is_shown_small(reader, visit):
    frames = np.random.default_rng(3).integers(0, 255, (2, 1216, 1936), dtype=np.uint8)
    path = write(visit / "scan.h5", frames, chunks=(1, 1216, 1936))
    reduced = await reader.reduce(batch(path, 0, 2, preview=True))
    assert reduced.frame is not None
    assert reduced.frame.shape == (304, 484)
    assert reduced.frame.tolist() == shrink(frames[1]).tolist()


async def test_without_rois_only_the_total_is_summed(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 3))
    reduced = await reader.reduce(batch(path, 0, 3, rois=()))
    assert reduced.sums.tolist() == [[int(picture(number).sum())] for number in range(3)]
    assert reduced.frame is None


@pytest.mark.parametrize("case", recordings.CASES)
async def test_recorded_frames_are_summed_as_numpy_sums_them(reader, visit, case):
    resources = [document.doc for document in recordings.ordered(case) if document.name == "stream_resource"]
    images = [doc for doc in resources if len(doc["parameters"].get("chunk_shape", ())) == 3]
    assert images
    for doc in images:
        dataset = doc["parameters"]["dataset"]
        frames = recordings.frames(doc["uri"], dataset)
        name = Path(doc["uri"]).name
        shutil.copy(recordings.FOLDER / name, visit / name)
        reduced = await reader.reduce(
            batch(visit / name, 0, len(frames), dataset=dataset, frame_shape=frames.shape[1:])
        )
        assert reduced.sums.tolist() == plain_sums(frames).tolist()
        assert await reader.shape(str(visit / name), dataset) == frames.shape


async def test_the_writers_path_is_mapped_to_ours(reader, visit):
    path = write(visit / "scan 1.h5", pictures(0, 2))
    uri = f"file://localhost/writer/{visit.name}/scan%201.h5"
    reduced = await reader.reduce(FrameBatch(uri, "d", 0, 2, rois=ROIS))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 2)).tolist()
    assert await reader.length(str(path), "d") == 2


async def test_many_may_ask_at_one_time(reader, visit):
    paths = [write(visit / f"scan-{number}.h5", pictures(number, number + 2)) for number in range(20)]
    answers = await asyncio.gather(*(reader.reduce(batch(path, 0, 2)) for path in paths for _ in range(2)))
    expected = [plain_sums(pictures(number, number + 2)).tolist() for number in range(20) for _ in range(2)]
    assert [answer.sums.tolist() for answer in answers] == expected


async def test_only_so_many_files_stay_open(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2))
    for number in range(40):
        shutil.copy(path, visit / f"copy-{number}.h5")
        await reader.reduce(batch(visit / f"copy-{number}.h5", 0, 2))
    assert len(list(Path(f"/proc/{reader.pid}/fd").iterdir())) < 45


class ScriptedChild:
    """Stands for a reading process, and gives answers thought up by a test."""

    def __init__(self, *answers):
        self.process = SimpleNamespace(pid=0, poll=lambda: None)
        self.answers = [({"ready": True}, b""), *answers]
        self.asked = []
        self.killed = False

    async def exchange(self, header):
        self.asked.append(header)
        answer, payload = self.answers.pop(0)
        return answer, bytearray(payload)

    def kill(self):
        self.killed = True

    async def ended(self, **_: float):
        return 0


async def test_what_the_reader_has_no_time_for_is_asked_for_again(data_root, monkeypatch):
    header = {"length": 9, "bytes": 0, "identity": [1, 2], "dtype": "<u8", "frame": None}
    child = ScriptedChild(
        ({**header, "points": 3}, np.arange(3, dtype="<u8").tobytes()),
        ({**header, "points": 1}, np.arange(3, 4, dtype="<u8").tobytes()),
        ({**header, "points": 2, "frame": ["|u1", 1, 1]}, np.arange(4, 6, dtype="<u8").tobytes() + b"\7"),
    )
    monkeypatch.setattr(reader_process, "ReaderChild", lambda: child)
    reader = FrameReader(data_root)
    reduced = await reader.reduce(batch(data_root / "scan.h5", 2, 8, rois=(), preview=True))
    assert [(request["start"], request["stop"]) for request in child.asked[1:]] == [(2, 8), (5, 8), (6, 8)]
    assert reduced.sums.tolist() == [[0], [1], [2], [3], [4], [5]]
    assert reduced.frame is not None
    assert reduced.frame.tolist() == [[7]]
    await reader.close()


async def test_a_file_replaced_between_two_parts_of_a_batch_is_broken(data_root, monkeypatch):
    header = {"points": 1, "length": 9, "bytes": 0, "dtype": "<u8", "frame": None}
    child = ScriptedChild(*(({**header, "identity": [1, inode]}, bytes(8)) for inode in (2, 3)))
    monkeypatch.setattr(reader_process, "ReaderChild", lambda: child)
    reader = FrameReader(data_root)
    with pytest.raises(FileBroken, match="was replaced by another file"):
        await reader.reduce(batch(data_root / "scan.h5", 0, 2, rois=()))
    await reader.close()


async def test_the_reader_stops_at_the_end_of_a_point_when_half_its_time_is_up(visit):
    frames = pictures(0, 12)
    path = write(visit / "scan.h5", frames, chunks=(1, *SHAPE), compression="gzip")
    with DataRoot(visit) as root:
        files = OpenFiles(root)
        source = FrameSource(files.find(files.open(path.name), "d"))
        source.portion = 2
        sums, last = sum_points(source, [], points=range(4), frames_per_point=3, until=0)
        assert sums.tolist() == [[int(frames[:3].sum())]]
        assert last.tolist() == frames[3].tolist()
        sums, _ = sum_points(source, [], points=range(1, 4), frames_per_point=3, until=time.monotonic() + 60)
        assert sums[:, 0].tolist() == [int(frames[3 * point : 3 * point + 3].sum()) for point in (1, 2, 3)]
        del source
        files.close()


# files that grow


async def test_frames_can_be_read_as_they_are_written(reader, visit):
    path = visit / "scan.h5"
    with SwmrWriter(path) as writer:
        assert await reader.length(str(path), DATASET) == 0
        for stop in (1, 2, 7, 40):
            length = await reader.length(str(path), DATASET)
            with pytest.raises(FileNotReady, match=f"has {length} frames"):
                await reader.reduce(batch(path, length, stop, DATASET))
            writer.write(stop - length)
            reduced = await reader.reduce(batch(path, length, stop, DATASET))
            assert reduced.sums.tolist() == plain_sums(pictures(length, stop)).tolist()
            assert reduced.length == stop
    reduced = await reader.reduce(batch(path, 0, 40, DATASET))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 40)).tolist()


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": (4, *SHAPE)}, {"chunks": (3, 7, 11)}])
async def test_frames_in_chunks_of_any_kind_can_be_read_as_they_are_written(reader, visit, options):
    path = visit / "scan.h5"
    with SwmrWriter(path, options=options) as writer:
        for number in range(10):
            writer.write()
            reduced = await reader.reduce(batch(path, 0, number + 1, DATASET))
            assert reduced.sums.tolist() == plain_sums(pictures(0, number + 1)).tolist()


async def test_what_a_killed_writer_has_written_can_be_read(reader, visit):
    path = visit / "scan.h5"
    writer = SwmrWriter(path)
    writer.write(5)
    writer.kill()
    assert await reader.length(str(path), DATASET) == 5
    reduced = await reader.reduce(batch(path, 0, 5, DATASET))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 5)).tolist()


async def test_a_frame_that_is_announced_and_not_written_is_not_taken_for_a_dark_one(reader, visit):
    path = visit / "scan.h5"
    with SwmrWriter(path) as writer:
        writer.write(2)
        writer.announce(2)
        with pytest.raises(FileNotReady, match="has not been written from frame 3 on"):
            await reader.reduce(batch(path, 0, 4, DATASET))
        writer.write(1)
        with pytest.raises(FileNotReady):
            await reader.reduce(batch(path, 2, 5, DATASET))
        reduced = await reader.reduce(batch(path, 4, 5, DATASET))
        assert reduced.sums.tolist() == plain_sums(pictures(4, 5)).tolist()


async def test_a_file_that_its_writer_has_not_opened_to_readers_is_not_ready(reader, visit):
    path = visit / "scan.h5"
    with SwmrWriter(path, swmr=False) as writer:
        writer.write(3)
        age(path)
        with pytest.raises(FileNotReady, match="without SWMR"):
            await reader.reduce(batch(path, 0, 3, DATASET))
        writer.order("swmr")
        writer.write(1)
        reduced = await reader.reduce(batch(path, 0, 4, DATASET))
        assert reduced.sums.tolist() == plain_sums(pictures(0, 4)).tolist()


@pytest.mark.parametrize("block", [512, 4096, 8192, 1 << 20])
async def test_a_file_behind_a_user_block_is_read_like_any_other(reader, visit, block):
    frames = pictures(0, 5)
    for name, options in (("raw", {"chunks": (1, *SHAPE)}), ("gzip", LAYOUTS["gzip"]), ("contiguous", {})):
        path = visit / f"{name}.h5"
        with h5py.File(path, "w", libver="latest", userblock_size=block) as file:
            file.create_dataset("d", data=frames, **options)
        age(path)
        assert (await reader.reduce(batch(path, 0, 5))).sums.tolist() == plain_sums(frames).tolist()
        assert (await reader.written(batch(path, 0, 5))).all() == (name != "contiguous")
    with h5py.File(visit / "held.h5", "w", libver="latest", userblock_size=block) as file:
        file["d"] = frames
        file.flush()
        path = age(visit / "held.h5")
        with pytest.raises(FileNotReady, match="without SWMR"):
            await reader.reduce(batch(path, 0, 5))


async def test_a_file_of_the_old_format_can_be_read_once_it_is_closed(reader, visit):
    path = visit / "scan.h5"
    with SwmrWriter(path, plain=True, swmr=False) as writer:
        writer.write(2)
        with pytest.raises(FileNotReady):
            await reader.reduce(batch(path, 0, 4, DATASET))
        writer.write(2)
    reduced = await reader.reduce(batch(path, 0, 4, DATASET))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 4)).tolist()


async def test_with_locking_a_file_that_its_writer_has_locked_is_not_ready(visit, data_root):
    path = visit / "scan.h5"
    reader = FrameReader(data_root, locking=True)
    try:
        with SwmrWriter(path, swmr=False) as writer:
            writer.write(2)
            with pytest.raises(FileNotReady, match="locked by its writer"):
                await reader.reduce(batch(path, 0, 2, DATASET))
        reduced = await reader.reduce(batch(path, 0, 2, DATASET))
        assert reduced.sums.tolist() == plain_sums(pictures(0, 2)).tolist()
    finally:
        await reader.close()


async def test_reading_never_keeps_the_writer_from_its_file(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2))
    await reader.reduce(batch(path, 0, 2))
    with h5py.File(path, "a") as file:
        file.attrs["note"] = "written while it is open in the reader"


async def test_a_file_open_under_several_names_and_in_virtual_datasets_keeps_all_its_frames(reader, visit):
    path = visit / "scan.h5"
    (visit / "link.h5").symlink_to("scan.h5")
    source = h5py.VirtualSource("scan.h5", DATASET, (1, *SHAPE), maxshape=(None, *SHAPE))
    layout = h5py.VirtualLayout((1, *SHAPE), np.uint16, maxshape=(None, *SHAPE))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(visit / "virtual.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("d", layout)
        file["external"] = h5py.ExternalLink("scan.h5", DATASET)
    with SwmrWriter(path) as writer:
        for stop in (4, 9, 20):
            writer.write(stop - await reader.length(str(path), DATASET))
            expected = plain_sums(pictures(0, stop)).tolist()
            for name, dataset in (
                ("scan.h5", DATASET),
                ("link.h5", DATASET),
                ("virtual.h5", "d"),
                ("virtual.h5", "external"),
                ("scan.h5", DATASET),
                ("virtual.h5", "d"),
            ):
                reduced = await reader.reduce(batch(visit / name, 0, stop, dataset))
                assert reduced.sums.tolist() == expected, (name, dataset)


# files that are not there, or no good


async def test_a_file_that_never_appears_is_not_ready(reader, visit):
    with pytest.raises(FileNotReady, match="is not there"):
        await reader.reduce(batch(visit / "never.h5"))


async def test_a_data_root_that_comes_late_is_waited_for(tmp_path):
    reader = FrameReader(tmp_path / "late")
    try:
        with pytest.raises(FileNotReady, match="data root"):
            await reader.length(str(tmp_path / "late" / "scan.h5"), "d")
        (tmp_path / "late").mkdir()
        path = write(tmp_path / "late" / "scan.h5", pictures(0, 2))
        assert await reader.length(str(path), "d") == 2
        assert reader.launches == 1
    finally:
        await reader.close()


async def test_a_dataset_that_is_not_there_yet_is_not_ready(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2), name="entry/other")
    for dataset in ("entry/d", "/no/such/d"):
        with pytest.raises(FileNotReady, match="has no"):
            await reader.length(str(path), dataset)
    write(path, pictures(0, 3), name="entry/d")
    assert await reader.length(str(path), "entry/d") == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
async def test_an_empty_file_is_not_ready_while_it_is_young(reader, visit, content):
    path = visit / "scan.h5"
    path.write_bytes(content)
    with pytest.raises(FileNotReady, match="still empty"):
        await reader.reduce(batch(path))
    age(path)
    with pytest.raises(FileBroken, match="no program writes to it"):
        await reader.reduce(batch(path))


async def test_a_file_that_is_no_hdf5_is_broken(reader, visit):
    path = visit / "scan.h5"
    path.write_text("x,y\n1,2\n" * 1000)
    with pytest.raises(FileBroken, match="is not an HDF5 file"):
        await reader.reduce(batch(path))


async def test_a_truncated_file_is_broken_unless_it_is_in_the_making(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 8))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(FileNotReady):
        await reader.reduce(batch(path))
    age(path)
    with pytest.raises(FileBroken, match=r"scan\.h5 (was cut short|is not a readable HDF5 file)"):
        await reader.reduce(batch(path))


@pytest.mark.parametrize("layout", ["raw", "gzip", "contiguous"])
async def test_a_file_cut_short_while_it_is_read_is_broken(reader, visit, layout):
    path = write(visit / "scan.h5", pictures(0, 8), **LAYOUTS[layout])
    await reader.reduce(batch(path, 0, 4))
    os.truncate(path, path.stat().st_size - 3 * SHAPE[0] * SHAPE[1] // 2)
    with pytest.raises(FileBroken, match="was cut short"):
        await reader.reduce(batch(path, 4, 8))


async def test_a_file_cut_short_after_a_kill_is_not_read_as_zeros(reader, visit):
    path = visit / "scan.h5"
    writer = SwmrWriter(path)
    writer.write(8)
    writer.kill()
    with h5py.File(path, "r", swmr=True, locking=False) as file:
        dataset = file[DATASET]
        assert isinstance(dataset, h5py.Dataset)
        os.truncate(path, dataset.id.get_chunk_info_by_coord((7, 0, 0)).byte_offset + 10)
    with pytest.raises(FileNotReady, match="shorter than its frames need"):
        await reader.reduce(batch(path, 7, 8, DATASET))
    age(path)
    with pytest.raises(FileBroken, match="was cut short"):
        await reader.reduce(batch(path, 7, 8, DATASET))


async def test_a_file_that_is_deleted_while_it_is_read_is_broken_once(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2))
    await reader.reduce(batch(path, 0, 2))
    path.unlink()
    with pytest.raises(FileBroken, match=r"scan\.h5 was deleted"):
        await reader.reduce(batch(path, 0, 2))
    with pytest.raises(FileNotReady, match="is not there"):
        await reader.reduce(batch(path, 0, 2))


async def test_a_file_that_is_replaced_while_it_is_read_is_broken_once(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2))
    before = await reader.reduce(batch(path, 0, 2))
    write(visit / "other.h5", pictures(5, 9)).replace(path)
    with pytest.raises(FileBroken, match="was replaced by another file"):
        await reader.reduce(batch(path, 0, 2))
    after = await reader.reduce(batch(path, 0, 4))
    assert after.sums.tolist() == plain_sums(pictures(5, 9)).tolist()
    assert after.identity != before.identity


async def test_a_dataset_that_shrinks_is_broken_once(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 8), chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
    await reader.reduce(batch(path, 0, 8))
    resize = f"import h5py; h5py.File({str(path)!r}, 'a')['d'].resize(3, axis=0)"
    subprocess.run([sys.executable, "-c", resize], check=True)
    with pytest.raises(FileBroken, match="had 8 frames when it was read, and now has 3"):
        await reader.reduce(batch(path, 0, 3))
    reduced = await reader.reduce(batch(path, 0, 3))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 3)).tolist()


async def test_a_frame_that_cannot_be_unpacked_is_broken_and_the_others_are_not(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 4), **LAYOUTS["gzip"])
    with h5py.File(path, "a") as file:
        dataset = file["d"]
        assert isinstance(dataset, h5py.Dataset)
        dataset.id.write_direct_chunk((2, 0, 0), b"no gzip at all")
    with pytest.raises(FileBroken, match="cannot be read"):
        await reader.reduce(batch(path, 0, 4))
    reduced = await reader.reduce(batch(path, 0, 2))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 2)).tolist()


# frames that are not what they should be


async def test_frames_of_another_shape_than_promised_are_refused(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2))
    with pytest.raises(FrameError, match="24 rows and 32 columns, but its descriptor promises 32 and 24"):
        await reader.reduce(batch(path, 0, 2, frame_shape=(32, 24)))


@pytest.mark.parametrize("shape", [(2, 5, 24, 32), (2, 1, 3, 24, 32)])
async def test_frames_of_five_colors_or_five_dimensions_are_refused_in_clear_words(reader, visit, shape):
    path = write(visit / "scan.h5", np.ones(shape, np.uint8))
    with pytest.raises(FrameError, match="no stack of frames"):
        await reader.reduce(batch(path, 0, 2))


def color_pictures(count, dtype, *, last):
    """Frames (count, rows, columns, 3) or (count, 3, rows, columns), no two colors of which are alike."""
    frames = pictures(0, 3 * count, dtype).reshape(count, 3, *SHAPE)
    return np.moveaxis(frames, 1, -1) if last else frames


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", ">u2"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("options", [{"chunks": 1}, {"chunks": 4, "compression": "gzip"}, {}])
async def test_color_frames_are_summed_over_their_colors_and_shown_in_color(reader, visit, dtype, last, options):
    frames = color_pictures(6, dtype, last=last)
    if "chunks" in options:
        options = {**options, "chunks": (options["chunks"], *frames.shape[1:])}
    path = write(visit / "scan.h5", np.ascontiguousarray(frames), **options)
    reduced = await reader.reduce(batch(path, 1, 6, preview=True, frame_shape=SHAPE))
    by_color = frames[1:] if last else np.moveaxis(frames[1:], 1, -1)
    expected = np.sum([plain_sums(by_color[..., color]) for color in range(3)], axis=0)
    assert reduced.sums.tolist() == expected.tolist()
    assert reduced.frame is not None
    np.testing.assert_array_equal(reduced.frame, by_color[-1])
    assert (await reader.shape(str(path), "d")) == frames.shape


@pytest.mark.parametrize(
    ("shape", "point_shape", "frames_per_point", "points"),
    [
        ((6, 3, *SHAPE), (1, 3, *SHAPE), 1, 6),
        ((6, 3, *SHAPE), (3, *SHAPE), 3, 6),  # the old way to tell a color frame
        ((18, *SHAPE), (3, *SHAPE), 3, 6),  # three frames a point
        ((6, *SHAPE, 3), (*SHAPE, 3), SHAPE[0], 6),
        ((6, *SHAPE, 3), (2, *SHAPE, 3), 2, 3),
        ((6, 3, *SHAPE), (2, 3, *SHAPE), 2, 3),
        ((6, 4, *SHAPE), (4, *SHAPE), 4, 6),  # a row a point, four frames in it
        ((24, *SHAPE), (4, *SHAPE), 4, 6),
    ],
)
async def test_the_dataset_decides_what_a_point_is(reader, visit, shape, point_shape, frames_per_point, points):
    frames = np.random.default_rng(1).integers(0, 200, shape, dtype=np.uint8)
    path = write(visit / "scan.h5", frames)
    promised = {"frames_per_point": frames_per_point, "point_shape": point_shape, "frame_shape": SHAPE}
    reduced = await reader.reduce(batch(path, 0, points, rois=(), **promised))
    assert reduced.sums[:, 0].tolist() == frames.reshape(points, -1).sum(axis=1).tolist()
    with pytest.raises(FileNotReady):
        await reader.reduce(batch(path, 0, points + 1, rois=(), **promised))


async def test_a_large_color_frame_is_shown_small_and_in_color(reader, visit):
    frames = np.zeros((1, 3, 1024, 700), np.uint8)
    frames[:, 1] = 7
    path = write(visit / "scan.h5", frames)
    frame = (await reader.reduce(batch(path, 0, 1, rois=(), preview=True))).frame
    assert frame is not None
    assert frame.shape == (512, 350, 3)
    assert np.unique(frame[..., 1]).tolist() == [7]
    assert not frame[..., 0].any()


# sums of frames, pixel by pixel


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f8"]
)
@pytest.mark.parametrize("layout", ["raw", "gzip", "several frames a chunk", "contiguous"])
async def test_the_sum_of_frames_is_that_of_numpy_for_every_dtype(reader, visit, dtype, layout):
    frames = pictures(0, 20, dtype)
    if frames.dtype.kind == "f":
        frames /= frames.dtype.type(3)
    path = write(visit / "scan.h5", frames, **LAYOUTS[layout])
    total = await reader.add(batch(path, frame_shape=SHAPE), [(1, 4), (7, 8), (9, 20)], limit_s=60)
    assert (total.points, total.frames) == (15, 15)
    chosen = frames[[1, 2, 3, 7, *range(9, 20)]]
    np.testing.assert_array_equal(total.sums / total.frames, chosen.mean(axis=0, dtype=np.float64))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("last", [False, True])
async def test_the_sum_of_color_frames_is_in_color(reader, visit, dtype, last):
    frames = color_pictures(6, dtype, last=last)
    path = write(visit / "scan.h5", np.ascontiguousarray(frames))
    total = await reader.add(batch(path, frame_shape=SHAPE), [(1, 3), (4, 6)], limit_s=60)
    by_color = frames if last else np.moveaxis(frames, 1, -1)
    np.testing.assert_array_equal(total.sums / total.frames, by_color[[1, 2, 4, 5]].mean(axis=0, dtype=np.float64))


@pytest.mark.parametrize(
    ("shape", "promised", "frames"),
    [
        ((18, *SHAPE), {"point_shape": (3, *SHAPE), "frames_per_point": 3}, 12),
        ((6, 4, *SHAPE), {"point_shape": (4, *SHAPE), "frames_per_point": 4}, 16),
        ((2, 3, *SHAPE), {"columns": 3}, 4),
    ],
)
async def test_the_sum_of_frames_has_all_frames_of_its_points(reader, visit, shape, promised, frames):
    values = np.random.default_rng(2).integers(0, 200, shape, dtype=np.uint8)
    path = write(visit / "scan.h5", values)
    total = await reader.add(batch(path, frame_shape=SHAPE, **promised), [(0, 2), (3, 5)], limit_s=60)
    assert (total.points, total.frames) == (4, frames)
    chosen = values.reshape(6, -1, *SHAPE)[[0, 1, 3, 4]]
    assert total.sums.tolist() == chosen.sum(axis=(0, 1)).tolist()


async def test_a_sum_of_frames_ends_when_its_time_is_up_or_before_the_first_unreadable_point(reader, visit):
    frames = pictures(0, 600)
    path = write(visit / "scan.h5", frames, **LAYOUTS["gzip"])
    total = await reader.add(batch(path), [(0, 600)], limit_s=0)
    assert 1 <= total.points < 600
    assert total.sums.tolist() == frames[: total.points].sum(axis=0).tolist()
    with h5py.File(path, "a") as file:
        dataset = file["d"]
        assert isinstance(dataset, h5py.Dataset)
        dataset.id.write_direct_chunk((300, 0, 0), b"no gzip at all")
    total = await reader.add(batch(path), [(0, 2), (298, 310)], limit_s=60)
    assert total.points == 2
    assert total.sums.tolist() == frames[:2].sum(axis=0).tolist()
    with pytest.raises(FileBroken, match="cannot be read"):
        await reader.add(batch(path), [(300, 302)], limit_s=60)
    with pytest.raises(FileNotReady):
        await reader.add(batch(path), [(599, 601)], limit_s=60)
    with pytest.raises(FrameError, match="its descriptor promises 32 and 24"):
        await reader.add(batch(path, frame_shape=(32, 24)), [(0, 1)], limit_s=60)
    assert (await reader.add(batch(path), [(301, 600)], limit_s=60)).points == 299


SUM = {"points": 1, "frames": 1, "sums": ["<u4", 2, 2]}


@pytest.mark.parametrize(
    ("changed", "payload"),
    [
        ({"points": 0}, 16), ({"points": 3}, 16), ({"frames": 0}, 16), ({"sums": ["<u2", 2, 2]}, 8),
        ({"sums": ["<u4", 2, 2, 4]}, 64), ({"sums": ["<u4", 4]}, 16), ({"sums": ["<u4", 0, 2]}, 0), ({}, 15), ({}, 17),
    ],
)  # fmt: skip
async def test_an_invalid_sum_of_frames_of_a_reader_is_an_error(data_root, monkeypatch, changed, payload):
    monkeypatch.setattr(reader_process, "ReaderChild", lambda: ScriptedChild(({**SUM, **changed}, bytes(payload))))
    reader = FrameReader(data_root)
    with pytest.raises(FileBroken, match="invalid answer"):
        await reader.add(batch(data_root / "scan.h5"), [(0, 2)], limit_s=1)
    await reader.close()


# scalars


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "f4", "f8", ">f8", ">i2", "?"])
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (5,), "maxshape": (None,)}, {"chunks": (64,), "compression": "gzip"}]
)
async def test_scalars_are_read_as_they_are(reader, visit, dtype, options):
    values = np.arange(200).astype(dtype)
    path = write(visit / "scan.h5", values, **options)
    read = await reader.scalars(batch(path, 3, 190))
    assert read.dtype == np.float64
    assert read.tolist() == values[3:190].astype(float).tolist()
    assert await reader.length(str(path), "d") == 200


@pytest.mark.parametrize(
    ("shape", "frames_per_point", "point_shape"),
    [((24, 1), 1, (1,)), ((24, 4), 4, (4,)), ((96,), 4, (4,)), ((96, 1), 4, (4,)), ((24,), 1, ())],
)
async def test_the_scalars_of_a_point_are_summed(reader, visit, shape, frames_per_point, point_shape):
    values = np.random.default_rng(2).random(shape)
    path = write(visit / "scan.h5", values)
    options = {"frames_per_point": frames_per_point, "point_shape": point_shape}
    read = await reader.scalars(batch(path, 2, 24, **options))
    np.testing.assert_allclose(read, values.reshape(24, -1).sum(axis=1)[2:], rtol=1e-15)
    with pytest.raises(FileNotReady, match=r"values \(yet\), but value"):
        await reader.scalars(batch(path, 2, 25, **options))


async def test_a_scalar_that_is_no_number_stays_none(reader, visit):
    path = write(visit / "scan.h5", np.array([1.0, np.nan, 3.0]))
    np.testing.assert_array_equal(await reader.scalars(batch(path, 0, 3)), [1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full(3, "text", h5py.string_dtype()), "holds text or records, not numbers"),
        (np.zeros(3, [("a", "u1")]), "holds text or records, not numbers"),
        (np.ones(3, np.complex64), "holds text or records, not numbers"),
        (np.ones((3, 7)), "has 7 numbers a row, but the descriptor promises 1 a point"),
        (np.ones((3, 0)), "not a column of numbers"),
        (np.float64(3), "not a column of numbers"),
    ],
)
async def test_what_is_no_column_of_numbers_is_refused_in_clear_words(reader, visit, data, message):
    path = write(visit / "scan.h5", data)
    with pytest.raises(FrameError, match=message):
        await reader.scalars(batch(path, 0, 2))


async def test_scalars_can_be_read_as_they_are_written(reader, visit):
    path = visit / "positions.h5"
    with ColumnsWriter(path, ["x", "y"]) as writer:
        for start in range(0, 60, 7):
            with pytest.raises(FileNotReady):
                await reader.scalars(batch(path, start, start + 7, "x"))
            writer.write(x=range(start, start + 7), y=[0.5] * 7)
            assert (await reader.scalars(batch(path, start, start + 7, "x"))).tolist() == [*range(start, start + 7)]
            assert (await reader.scalars(batch(path, 0, start + 7, "y"))).tolist() == [0.5] * (start + 7)


async def test_a_reader_that_talks_nonsense_about_scalars_is_given_up(data_root, monkeypatch):
    for header, payload_bytes in (({}, 8), ({"points": 2}, 16), ({"points": 1}, 9), ({"points": "many"}, 8)):
        reader, child = FrameReader(data_root), ScriptedChild((header, bytes(payload_bytes)))
        monkeypatch.setattr(reader_process, "ReaderChild", lambda child=child: child)
        with pytest.raises(FileBroken, match="invalid answer"):
            await reader.scalars(batch(data_root / "scan.h5", 0, 1))
        await reader.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((24, 32)), "no stack of frames"),
        (np.float64(3), "no stack of frames"),
        (h5py.Empty("f4"), "no stack of frames"),
        (np.zeros((2, 0, 32)), "no stack of frames"),
        (np.ones((2, 24, 32), np.complex64), "cannot be summed"),
        (np.zeros((2, 24, 32), [("a", "u1")]), "cannot be summed"),
        (np.full((2, 24, 32), "text", h5py.string_dtype()), "cannot be summed"),
    ],
)
async def test_what_is_no_stack_of_frames_is_refused(reader, visit, data, message):
    path = write(visit / "scan.h5", data)
    with pytest.raises(FrameError, match=message):
        await reader.reduce(batch(path, 0, 2))


async def test_a_path_that_is_no_dataset_is_refused(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2), name="entry/d")
    with h5py.File(path, "a") as file:
        file["type"] = np.dtype("u2")
    for dataset, message in (
        ("entry", "is a group"),
        ("/", "is a group"),
        ("type", "is a datatype"),
        ("entry/d/more", "leads through a dataset"),
        ("entry\0", "is not a path"),
    ):
        with pytest.raises(FrameError, match=message):
            await reader.length(str(path), dataset)


async def test_an_roi_beyond_the_frame_is_refused(reader, visit):
    path = write(visit / "scan.h5", pictures(0, 2))
    with pytest.raises(RoiError, match=r"ROI 2 .* has 24 rows and 32 columns"):
        await reader.reduce(batch(path, 0, 2, rois=((0, 1, 0, 1), (0, 25, 0, 32))))


@pytest.mark.parametrize(("start", "stop", "frames_per_point"), [(-1, 2, 1), (2, 2, 1), (0, 1, 0)])
async def test_a_batch_without_points_cannot_be_made(start, stop, frames_per_point):
    with pytest.raises(FrameError):
        FrameBatch("file:///a.h5", "d", start, stop, frames_per_point)


@pytest.mark.parametrize(("start", "stop", "per_point"), [(0, 2**53, 1), (2**52, 2**53, 2**53)])
async def test_points_beyond_all_bounds_are_not_ready(reader, visit, start, stop, per_point):
    path = write(visit / "scan.h5", pictures(0, 2))
    with pytest.raises(FileNotReady):
        await reader.reduce(batch(path, start, stop, frames_per_point=per_point))


# ways out of the data root


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("escape", ESCAPES)
async def test_nothing_outside_the_data_root_is_read(reader, visit, outside, escape, there):
    ESCAPES[escape](visit, outside if there else outside.with_name("nothing.h5"))
    with pytest.raises(FileRefused) as refusal:
        await reader.reduce(batch(visit / "scan.h5"))
    assert str(CANARY * SHAPE[0] * SHAPE[1]) not in str(refusal.value)
    with pytest.raises(FileRefused):
        await reader.length(str(visit / "scan.h5"), "d")


@pytest.mark.parametrize("escape", ESCAPES)
async def test_nothing_outside_is_read_on_a_kernel_that_does_not_confine(visit, data_root, outside, escape):
    ESCAPES[escape](visit, outside)
    reader = FileReader(ReaderConfig(str(data_root)), confine=False)
    request = frame_reader._request("reduce", batch(visit / "scan.h5"), str(visit / "scan.h5"), 0)
    for ask in ("reduce", "shape"):
        header, payload = reader.answer({**request, "ask": ask})
        assert (header.get("error"), payload) == ("file_refused", b"")
    reader.close()


@pytest.mark.parametrize(
    "uri", ["file://localhost/etc/passwd", "file:///proc/self/environ", "{outside}", "{root}/../cm1-10/secret.h5"]
)
async def test_a_document_cannot_name_a_file_outside(reader, data_root, outside, uri):
    with pytest.raises(FileRefused):
        await reader.length(uri.format(outside=outside, root=data_root), "d")


async def test_the_kernel_confines_the_reader_too(reader, visit):
    await reader.length(str(write(visit / "scan.h5", pictures(0, 2))), "d")
    assert reader.confined is True


async def test_a_kernel_that_does_not_confine_is_told_of_once(data_root, monkeypatch, caplog):
    answer = {"shape": [1, 2, 3], "confined": False}
    monkeypatch.setattr(reader_process, "ReaderChild", lambda: ScriptedChild((answer, b""), (answer, b"")))
    reader = FrameReader(data_root)
    for _ in range(2):
        assert await reader.shape(str(data_root / "scan.h5"), "d") == (1, 2, 3)
    assert reader.confined is False
    assert [record.message for record in caplog.records] == [
        "the kernel does not confine the HDF5 reader to the data root; only our own checks do"
    ]
    await reader.close()


async def test_the_reader_knows_no_secrets(reader, monkeypatch, data_root, visit):
    monkeypatch.setenv("SNAKEMAP_STOMP_URL", "stomp://user:password@host:61613")
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(visit))
    path = write(visit / "scan.h5", pictures(0, 2))
    other = FrameReader(data_root)
    try:
        await other.length(str(path), "d")
        environment = Path(f"/proc/{other.pid}/environ").read_bytes()
    finally:
        await other.close()
    assert b"password" not in environment
    assert str(visit).encode() not in environment
    assert b"HDF5_PLUGIN_PRELOAD=::" in environment


# links that stay inside


async def test_links_in_the_data_root_are_followed(reader, visit):
    (visit / "raw").mkdir()
    (visit / "nexus").mkdir()
    write(visit / "raw" / "scan.h5", pictures(0, 8), name="entry/data/data")
    with h5py.File(visit / "nexus" / "scan.nxs", "w") as file:
        file["relative"] = h5py.ExternalLink("../raw/scan.h5", "/entry/data/data")
        file["absolute"] = h5py.ExternalLink(str(visit / "raw" / "scan.h5"), "entry/data/data")
        file["as the writer sees it"] = h5py.ExternalLink(f"/writer/{visit.name}/raw/scan.h5", "entry/data/data")
        file["group"] = h5py.ExternalLink("../raw/scan.h5", "entry")
        file["entry/soft"] = h5py.SoftLink("/relative")
        file["entry/near"] = h5py.SoftLink("./soft")
        file["entry/hard"] = file["entry"]
    (visit / "link.nxs").symlink_to(visit / "nexus" / "scan.nxs")
    expected = plain_sums(pictures(0, 8)).tolist()
    for dataset in ("relative", "absolute", "as the writer sees it", "group/data/data", "/entry/hard/hard/near"):
        for name in ("nexus/scan.nxs", "link.nxs"):
            reduced = await reader.reduce(batch(visit / name, dataset=dataset))
            assert reduced.sums.tolist() == expected, dataset


async def test_a_linked_file_that_is_not_there_yet_is_not_ready(reader, visit):
    with h5py.File(visit / "scan.nxs", "w") as file:
        file["d"] = h5py.ExternalLink("raw.h5", "d")
    with pytest.raises(FileNotReady, match=r"raw\.h5 is not there"):
        await reader.reduce(batch(visit / "scan.nxs"))
    write(visit / "raw.h5", pictures(0, 8))
    assert await reader.length(str(visit / "scan.nxs"), "d") == 8


@pytest.mark.parametrize("kind", ["soft", "external", "chain"])
async def test_links_that_go_round_in_circles_come_to_an_end(reader, visit, kind):
    with h5py.File(visit / "scan.h5", "w") as file:
        if kind == "soft":
            file["d"] = h5py.SoftLink("/e")
            file["e"] = h5py.SoftLink("d")
        elif kind == "external":
            file["d"] = h5py.ExternalLink("scan.h5", "d")
        else:
            file["d"] = h5py.SoftLink("/" + "a/" * 100)
            file["a"] = file["/"]
    with pytest.raises(FileBroken, match="too many links"):
        await reader.reduce(batch(visit / "scan.h5"))


async def test_virtual_datasets_in_the_data_root_are_read(reader, visit):
    (visit / "sub").mkdir()
    write(visit / "a.h5", pictures(0, 8), chunks=(1, *SHAPE))
    write(visit / "sub" / "b.h5", pictures(8, 16), name="entry/d", compression="gzip")
    virtual(visit / "inner.h5", [("a.h5", "d")])
    virtual(visit / "scan.h5", [("inner.h5", "d"), ("sub/b.h5", "entry/d"), (str(visit / "a.h5"), "/d"), (".", "own")])
    write(visit / "scan.h5", pictures(16, 24), name="own")
    expected = [*pictures(0, 16), *pictures(0, 8), *pictures(16, 24)]
    for start, stop in ((0, 32), (3, 5), (7, 25)):
        reduced = await reader.reduce(batch(visit / "scan.h5", start, stop))
        assert reduced.sums.tolist() == plain_sums(np.stack(expected[start:stop])).tolist()


async def test_a_virtual_dataset_waits_for_the_sources_of_the_frames_asked_for(reader, visit):
    layout = h5py.VirtualLayout((8, *SHAPE), np.uint16)
    for number in range(2):
        layout[number::2] = h5py.VirtualSource(f"{number}.h5", DATASET, (4, *SHAPE))
    with h5py.File(visit / "scan.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("d", layout)
    with SwmrWriter(visit / "0.h5") as even:
        even.write(2)
        reduced = await reader.reduce(batch(visit / "scan.h5", 2, 3))
        assert reduced.sums.tolist() == plain_sums(pictures(1, 2)).tolist()
        with pytest.raises(FileNotReady, match=r"1\.h5 is not there"):
            await reader.reduce(batch(visit / "scan.h5", 2, 4))
        with SwmrWriter(visit / "1.h5") as odd:
            odd.write(3)
            reduced = await reader.reduce(batch(visit / "scan.h5", 0, 4))
            assert reduced.sums.tolist() == plain_sums(pictures(0, 2).repeat(2, axis=0)).tolist()
            with pytest.raises(FileNotReady, match=r"0\.h5, .* has 2 frames"):
                await reader.reduce(batch(visit / "scan.h5", 0, 5))
            even.announce(1)
            with pytest.raises(FileNotReady, match=r"0\.h5, .* has not been written from frame 3 on"):
                await reader.reduce(batch(visit / "scan.h5", 0, 5))


@pytest.mark.parametrize("kind", ["itself", "each other"])
async def test_a_virtual_dataset_that_draws_on_itself_does_not_even_crash_the_reader(reader, visit, kind):
    virtual(visit / "scan.h5", [("scan.h5" if kind == "itself" else "other.h5", "d")])
    virtual(visit / "other.h5", [("scan.h5", "d")])
    await reader.start()
    pid = reader.pid
    with pytest.raises(FileBroken, match="contains itself"):
        await reader.reduce(batch(visit / "scan.h5"))
    assert reader.pid == pid


async def test_virtual_datasets_too_many_levels_deep_are_broken(reader, visit):
    write(visit / "scan-0.h5", pictures(0, 8))
    for level in range(1, 11):
        virtual(visit / f"scan-{level}.h5", [(f"scan-{level - 1}.h5", "d")])
    reduced = await reader.reduce(batch(visit / "scan-8.h5"))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 8)).tolist()
    with pytest.raises(FileBroken, match="in too many levels"):
        await reader.reduce(batch(visit / "scan-10.h5"))


# files that crash, hang or flood the reader


async def assert_in_order(reader, visit):
    path = visit / "good.h5"
    if not path.exists():
        write(path, pictures(0, 2))
    reduced = await reader.reduce(batch(path, 0, 2))
    assert reduced.sums.tolist() == plain_sums(pictures(0, 2)).tolist()


async def test_a_file_that_crashes_hdf5_is_broken_and_the_next_request_works(reader, visit):
    shutil.copy(HOSTILE / "r2466.h5", visit)
    await reader.start()
    pid = reader.pid
    with pytest.raises(FileBroken, match=r"r2466\.h5 could not be read: the reader process crashed \(SIGSEGV\)"):
        await reader.reduce(batch(visit / "r2466.h5", dataset="/entry/vds"))
    await assert_in_order(reader, visit)
    assert reader.pid != pid


async def test_a_chunk_that_crashes_a_filter_is_broken_and_the_next_request_works(reader, visit):
    shutil.copy(HOSTILE / "r101745.h5", visit)
    layout = h5py.VirtualLayout((1, 10, 10), np.float32)
    layout[0] = h5py.VirtualSource("r101745.h5", "/entry/data/bs", (10, 10))
    with h5py.File(visit / "scan.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("d", layout)
    # the filter reads beyond the end of its buffer: it depends on what is there whether it notices or crashes
    with pytest.raises(FileBroken):
        await reader.reduce(batch(visit / "scan.h5", 0, 1, rois=()))
    await assert_in_order(reader, visit)


async def test_a_file_that_sends_hdf5_round_in_circles_is_given_up_when_its_time_is_up(visit, data_root):
    shutil.copy(HOSTILE / "r233.h5", visit)
    reader = FrameReader(data_root, time_limit_s=1)
    try:
        await reader.start()
        with pytest.raises(FileBroken, match="could not be read within 1 s"):
            await reader.reduce(batch(visit / "r233.h5", dataset="/entry/vds"))
        await assert_in_order(reader, visit)
        assert reader.launches == 2
    finally:
        await reader.close()


@pytest.mark.parametrize("name", ["r2466.h5", "r101745.h5", "r233.h5"])
async def test_what_is_unharmed_in_a_hostile_file_can_be_read(reader, visit, name):
    path = shutil.copy(HOSTILE / name, visit)
    assert await reader.shape(path, "/entry/data/frames") == (8, 6, 5)
    for dataset in (
        "bool",
        "comp",
        "cplx",
        "data/bs",
        "enum",
        "fixed",
        "names",
        "null",
        "ref",
        "scalar",
        "soft",
        "vlen",
    ):
        with pytest.raises(FrameError):
            await reader.shape(path, f"/entry/{dataset}")


async def test_a_reader_that_hangs_is_replaced_when_its_time_is_up(visit, data_root):
    path = write(visit / "scan.h5", pictures(0, 2))
    reader = FrameReader(data_root, time_limit_s=1)
    try:
        await reader.start()
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGSTOP)
        with pytest.raises(FileBroken, match="could not be read within 1 s"):
            await reader.reduce(batch(path, 0, 2))
        await assert_in_order(reader, visit)
        assert reader.launches == 2
    finally:
        await reader.close()


async def test_a_reader_that_is_killed_over_a_file_is_replaced(reader, visit):
    await reader.start()
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGSTOP)
    asking = asyncio.ensure_future(reader.length(str(visit / "scan.h5"), "d"))
    await asyncio.sleep(0)
    os.kill(reader.pid, signal.SIGKILL)
    with pytest.raises(FileBroken, match="was killed"):
        await asking
    await assert_in_order(reader, visit)


async def test_a_reader_that_died_while_nobody_asked_is_no_fault_of_the_next_file(reader, visit):
    await assert_in_order(reader, visit)
    process = reader._child.process
    process.kill()
    process.wait(10 * PATIENCE)
    await assert_in_order(reader, visit)


async def test_an_answer_that_nobody_waits_for_is_not_given_to_the_next(reader, visit):
    path = write(visit / "scan.h5", pictures(4, 6))
    await reader.start()
    os.kill(reader.pid, signal.SIGSTOP)
    asking = asyncio.ensure_future(reader.reduce(batch(path, 0, 2)))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await assert_in_order(reader, visit)


async def test_a_chunk_that_unfolds_beyond_the_memory_limit_is_broken(visit, data_root):
    path = visit / "scan.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("d", (1, *SHAPE), np.uint16, chunks=(1, *SHAPE), compression="gzip")
        packer = zlib.compressobj(1)
        bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
        dataset.id.write_direct_chunk((0, 0, 0), bomb)
    reader = FrameReader(data_root, memory_limit_bytes=1 << 30, time_limit_s=20)
    try:
        with pytest.raises(FileBroken):
            await reader.reduce(batch(path, 0, 1))
        await assert_in_order(reader, visit)
    finally:
        await reader.close()


async def test_huge_chunks_and_frames_are_not_unpacked(reader, visit):
    with h5py.File(visit / "scan.h5", "w") as file:
        file.create_dataset("chunk", (2, 20_000, 20_000), np.uint8, chunks=(1, 20_000, 20_000), compression="gzip")
        file.create_dataset("most", (2, 16_384, 16_384), np.uint8, chunks=(1, 16_384, 16_384), compression="gzip")
        file.create_dataset("frame", (2, 10**6, 10**6), np.uint8, chunks=(1, 100, 100))
        file.create_dataset("rows", (10**9, 10**3, 10**3), np.uint8, chunks=(1, 10**3, 10**3))
    with pytest.raises(FileBroken, match="chunks of 400 MB; more than 268 MB are not read"):
        await reader.reduce(batch(visit / "scan.h5", 0, 1, "chunk"))
    for dataset in ("most", "frame", "rows"):
        with pytest.raises(FileNotReady, match="has not been written"):
            await reader.reduce(batch(visit / "scan.h5", 0, 1, dataset))


SENSE = {"points": 1, "length": 1, "bytes": 0, "identity": [1, 2], "dtype": "<u8", "frame": None}
NONSENSE = {
    "nothing": ({}, 0),
    "more points than asked for": ({**SENSE, "points": 2}, 48),
    "points in words": ({**SENSE, "points": "many"}, 24),
    "objects for sums": ({**SENSE, "dtype": "|O8"}, 24),
    "half an identity": ({**SENSE, "identity": [1]}, 24),
    "bytes that are none": ({**SENSE, "bytes": "many"}, 24),
    "objects for pixels": ({**SENSE, "frame": ["|O8", 1, 1]}, 32),
    "a huge frame": ({**SENSE, "frame": ["<u8", 10**6, 10**6]}, 32),
    "too few bytes": (SENSE, 23),
    "too many bytes": (SENSE, 25),
    "an unknown error": ({"error": "no such error", "message": ""}, 0),
}


@pytest.mark.parametrize("case", NONSENSE)
async def test_a_reader_that_talks_nonsense_is_given_up(data_root, monkeypatch, case):
    header, payload_bytes = NONSENSE[case]
    reader, child = FrameReader(data_root), ScriptedChild((header, bytes(payload_bytes)))
    monkeypatch.setattr(reader_process, "ReaderChild", lambda: child)
    with pytest.raises(FileBroken, match="invalid answer"):
        await reader.reduce(batch(data_root / "scan.h5", 0, 1))
    assert child.killed
    assert reader.pid is None
    await reader.close()


async def test_a_reader_whose_parent_is_gone_ends(data_root):
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from snakemap.hdf5.frame_reader import FrameReader\n"
        "reader = FrameReader(pathlib.Path(sys.argv[1]))\n"
        "asyncio.run(reader.start())\n"
        "print(reader.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(data_root)], capture_output=True, text=True, check=True)
    deadline = time.monotonic() + 10
    while _lives(int(answer.stdout)) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not _lives(int(answer.stdout))


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_frame_far_on_in_a_file_costs_no_more_than_the_first(reader, visit):
    """HDF5 finds the place of a chunk by going through all before it, which is not done for every frame."""
    path, count = visit / "scan.h5", 60_000
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset("d", (count, 2, 2), "u1", chunks=(1, 2, 2), maxshape=(None, 2, 2))
        for start in range(0, count, 1000):
            dataset[start : start + 1000] = np.ones((1000, 2, 2), "u1")

    async def took(start):
        began = time.perf_counter()
        for number in range(start, start + 20):
            await reader.reduce(batch(path, number, number + 1, rois=()))
        return time.perf_counter() - began

    await took(0)
    first, last = [], []
    for turn in range(3):
        first.append(await took(100 + 20 * turn))
        last.append(await took(count - 100 + 20 * turn))
    assert min(last) < 3 * min(first)
