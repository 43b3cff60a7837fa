"""Only what was written is shown: virtual datasets, storage that was allotted at once, files that were exchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.support.cases import (
    DATASET,
    Documents,
    Outcome,
    Played,
    all_played,
    image,
    number,
    playing,
    ramp,
    snaked,
    write,
)
from tests.support.lab import Lab

SOURCE = "data"


def one_block(path: Path, source: str, frames: int) -> Path:
    """A virtual dataset of one block over the first frames of a source."""
    with h5py.File(path, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((frames, 8, 8), "u2")
        layout[:] = h5py.VirtualSource(source, SOURCE, shape=(frames, 8, 8))
        file.create_virtual_dataset(DATASET, layout, fillvalue=0)
    return path


def several(path: Path, sources: dict[str, slice], frames: int) -> Path:
    """A virtual dataset of several sources, each for some of its rows."""
    with h5py.File(path, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((frames, 8, 8), "u2")
        for source, rows in sources.items():
            count = len(range(frames)[rows])
            layout[rows] = h5py.VirtualSource(source, SOURCE, shape=(count, 8, 8))
        file.create_virtual_dataset(DATASET, layout, fillvalue=0)
    return path


def announced(folder: Path, path: Path, rows: int, columns: int, points: int, *, stop: str = "success") -> Documents:
    """A run of a camera of which some points are announced one by one, and which ends."""
    case = Documents(folder, rows, columns)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", path)
    for point in range(points):
        case.stream_datum(descriptor, resource, point, point + 1)
    case.stop(stop, primary=points)
    return case


def sums(count: int, *, first: int = 1) -> list[float]:
    """Sums of frames of :func:`ramp`."""
    return [64.0 * value for value in range(first, first + count)]


def grow(path: Path, frames: npt.NDArray[Any], dataset: str = SOURCE) -> None:
    """Appends frames to a file, as another process does it."""
    code = (
        "import h5py, sys, numpy as np\n"
        "first, last = int(sys.argv[3]), int(sys.argv[4])\n"
        "with h5py.File(sys.argv[1], 'a', libver='latest', locking=False) as file:\n"
        "    data = file[sys.argv[2]]\n"
        "    before = len(data)\n"
        "    data.resize(before + last - first, axis=0)\n"
        "    data[before:] = np.arange(first, last)[:, None, None]\n"
    )
    first, last = int(frames[0, 0, 0]), int(frames[-1, 0, 0]) + 1
    subprocess.run([sys.executable, "-c", code, str(path), dataset, str(first), str(last)], check=True, timeout=60)


# at rest: after an abort nothing is filled in that was not written


async def test_after_an_abort_nothing_is_filled_in_that_was_not_written(redis_url: str, tmp_path: Path) -> None:
    """Each file has room for 63 frames, of which 21 are written; 18 or 21 are announced."""
    cases: dict[str, Documents] = {}
    right: dict[str, int] = {}

    def add(name: str, path: Path, *, points: int, right_points: int) -> None:
        cases[name] = announced(tmp_path / name, path, 7, 9, points, stop="abort")
        right[name] = right_points

    folder = tmp_path / "files"
    write(folder / "s.h5", ramp(21), SOURCE)
    block = one_block(folder / "v.h5", "s.h5", 63)
    add("one block", block, points=21, right_points=21)
    add("one block with a tail", block, points=18, right_points=21)
    # frames of the files' own numbers, so that each row is the next of the ramp
    for name, values in (("even", range(1, 22, 2)), ("odd", range(2, 22, 2))):
        with h5py.File(folder / f"{name}.h5", "w", libver="latest") as file:
            data = file.create_dataset(SOURCE, (len(values), 8, 8), "u2", maxshape=(None, 8, 8), chunks=(1, 8, 8))
            data[:] = np.array(values)[:, None, None]
    add(
        "interleaved",
        several(folder / "i.h5", {"even.h5": np.s_[::2], "odd.h5": np.s_[1::2]}, 63),
        points=18,
        right_points=21,
    )
    write(folder / "b.h5", ramp(11, first=11), SOURCE)
    write(folder / "a.h5", ramp(10), SOURCE)
    add(
        "end to end",
        several(folder / "e.h5", {"a.h5": np.s_[:10], "b.h5": np.s_[10:63]}, 63),
        points=18,
        right_points=21,
    )
    add("virtual twice", one_block(folder / "vv.h5", "inner.h5", 63), points=18, right_points=21)
    with h5py.File(folder / "inner.h5", "w", libver="latest") as file:
        layout = h5py.VirtualLayout((63, 8, 8), "u2")
        layout[:] = h5py.VirtualSource("s.h5", SOURCE, shape=(63, 8, 8))
        file.create_virtual_dataset(SOURCE, layout)
    for name, options in {
        "contiguous": {},
        "chunks one by one": {"chunks": (1, 8, 8)},
        "chunks of five": {"chunks": (5, 8, 8)},
        "chunks of five, packed": {"chunks": (5, 8, 8), "compression": "gzip"},
    }.items():
        with h5py.File(folder / f"{name}.h5", "w", libver="latest") as file:
            file.create_dataset(DATASET, (63, 8, 8), "u2", **options)[:21] = ramp(21)
        add(name, folder / f"{name}.h5", points=18, right_points=18 if name == "contiguous" else 21)
    outcomes = await all_played(redis_url, tmp_path, *cases.values())
    for name, outcome in zip(cases, outcomes, strict=True):
        assert outcome.channel("total") == snaked(7, 9, sums(right[name])), name
        assert (outcome.run.status, outcome.run.points) == ("aborted", right[name]), name
        assert "could not be read" not in outcome.words, name


async def test_a_frame_of_which_no_source_holds_a_part_is_blank_and_that_is_said(
    redis_url: str, tmp_path: Path
) -> None:
    write(tmp_path / "left.h5", ramp(4)[:, :, :4], SOURCE)
    write(tmp_path / "right.h5", ramp(4)[:, :, 4:], SOURCE)
    for name, rows in (("whole", slice(0, 4)), ("in part", slice(0, 2))):
        with h5py.File(tmp_path / f"{name}.h5", "w", libver="latest") as file:
            layout = h5py.VirtualLayout((4, 8, 8), "u2")
            layout[:, :, :4] = h5py.VirtualSource("left.h5", SOURCE, shape=(4, 8, 4))
            count = len(range(4)[rows])
            layout[rows, :, 4:] = h5py.VirtualSource("right.h5", SOURCE, shape=(4, 8, 4))[:count]
            file.create_virtual_dataset(DATASET, layout, fillvalue=0)
    cases = [announced(tmp_path / f"of {name}", tmp_path / f"{name}.h5", 2, 2, 4) for name in ("whole", "in part")]
    whole, in_part = await all_played(redis_url, tmp_path, *cases)
    assert whole.channel("total") == snaked(2, 2, sums(4))
    assert in_part.channel("total") == snaked(2, 2, sums(2))
    assert (whole.run.status, in_part.run.status) == ("complete", "incomplete")
    assert "no source holds all of frame 3, so that it has no number" in in_part.words


@pytest.mark.parametrize("fill", [0, 65_535])
async def test_gaps_between_modules_are_left_out_of_the_sums_and_that_is_said(
    redis_url: str, tmp_path: Path, fill: int
) -> None:
    """Two modules with two columns between them that no file has; beside it, a module that is mapped too late."""
    write(tmp_path / "left.h5", ramp(4)[:, :, :3], SOURCE)
    write(tmp_path / "right.h5", ramp(4)[:, :, 5:], SOURCE)
    for name, first in (("gaps", 0), ("late", 1)):
        with h5py.File(tmp_path / f"{name}.h5", "w", libver="latest") as file:
            layout = h5py.VirtualLayout((4, 8, 8), "u2")
            layout[:, :, :3] = h5py.VirtualSource("left.h5", SOURCE, shape=(4, 8, 3))
            layout[first:, :, 5:] = h5py.VirtualSource("right.h5", SOURCE, shape=(4, 8, 3))[first:]
            file.create_virtual_dataset(DATASET, layout, fillvalue=fill)
    cases = [announced(tmp_path / f"of {name}", tmp_path / f"{name}.h5", 2, 2, 4) for name in ("gaps", "late")]
    gaps, late = await all_played(redis_url, tmp_path, *cases)
    values = [8 * 6 * frame for frame in range(1, 5)]
    assert gaps.channel("total") == snaked(2, 2, values)
    assert gaps.run.status == "complete"
    said = "16 pixels of each frame of cam are in gaps between its modules: they have no data and are not in the sums."
    assert gaps.words.strip() == said
    assert late.channel("total") == snaked(2, 2, [None, *values[1:]])
    assert late.run.status == "incomplete"
    assert "no source holds all of frame 1" in late.words


# announced before it was written


def two_halves(folder: Path) -> Path:
    """Odd and even frames in files of their own, of which the second is behind."""
    write(folder / "odd.h5", ramp(1), SOURCE)
    with h5py.File(folder / "v.h5", "w", libver="latest") as file:
        grows = (None, 8, 8)
        layout = h5py.VirtualLayout((10, 8, 8), "u2", maxshape=grows)
        for number, name in enumerate(("s.h5", "odd.h5")):
            source = h5py.VirtualSource(name, SOURCE, shape=(10, 8, 8), maxshape=grows)
            layout[number : h5py.h5s.UNLIMITED : 2] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset(DATASET, layout)
    return folder / "v.h5"


async def test_frames_that_are_announced_before_they_are_written_are_waited_for(redis_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "block"
    write(folder / "s.h5", ramp(10), SOURCE)
    case = announced(folder, one_block(folder / "v.h5", "s.h5", 20), 4, 5, 0)
    case = Documents(folder, 4, 5)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    case.stream_datum(descriptor, case.stream_resource("cam", folder / "v.h5"), 0, 20)
    async with playing(redis_url, tmp_path, file_timeout_s=60) as chain:
        await chain.play(case)
        await chain.lab.until_points(case.uid, 10)
        assert (await chain.outcome(case)).channel("total") == snaked(4, 5, sums(10))

        async def waiting() -> bool:
            return "Frame 11 of" in str((await chain.lab.summary(case.uid)).get("note"))

        await chain.lab.until(waiting)
        grow(folder / "s.h5", ramp(10, first=11))
        await chain.lab.until_points(case.uid, 20)
        case.stop(primary=20)
        await chain.play(case)
        await chain.lab.until_settled(case.uid)
        outcome = await chain.outcome(case)
    assert outcome.channel("total") == snaked(4, 5, sums(20))
    assert (outcome.run.status, outcome.words.strip()) == ("complete", "")


async def test_frames_that_never_come_leave_their_points_blank_and_the_first_is_named(
    redis_url: str, tmp_path: Path
) -> None:
    """All at once, and one by one; in a virtual dataset, in one whose chunks are missing, and in one that is short."""
    write(tmp_path / "s.h5", ramp(10), SOURCE)
    one_block(tmp_path / "v.h5", "s.h5", 20)
    with h5py.File(tmp_path / "holes.h5", "w", libver="latest") as file:
        file.create_dataset(DATASET, (20, 8, 8), "u2", chunks=(1, 8, 8))[:10] = ramp(10)
    write(tmp_path / "short.h5", ramp(10))
    cases = []
    for name in ("v", "holes", "short"):
        cases.append(announced(tmp_path / f"{name} one by one", tmp_path / f"{name}.h5", 4, 5, 20))
        case = Documents(tmp_path / f"{name} at once", 4, 5)
        descriptor = case.descriptor(cam=image(1, 8, 8))
        case.stream_datum(descriptor, case.stream_resource("cam", tmp_path / f"{name}.h5"), 0, 20)
        case.stop(primary=20)
        cases.append(case)
    for case, outcome in zip(cases, await all_played(redis_url, tmp_path, *cases), strict=True):
        about = (case.folder.name, outcome.words)
        assert outcome.channel("total") == snaked(4, 5, sums(10)), about
        assert (outcome.run.status, outcome.run.points) == ("incomplete", 10), about
        assert "frame 11 " in outcome.words.lower(), about
        assert "frame 20" not in outcome.words, about
        assert "10 of 20 points are missing" in outcome.words, about


async def test_two_sources_that_grow_at_their_own_pace(redis_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "halves"
    write(folder / "s.h5", ramp(4), SOURCE)
    path = two_halves(folder)
    case = Documents(folder, 2, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    case.stream_datum(descriptor, case.stream_resource("cam", path), 0, 8)
    async with playing(redis_url, tmp_path, file_timeout_s=60) as chain:
        await chain.play(case)
        await chain.lab.until_points(case.uid, 3)
        assert (await chain.outcome(case)).channel("total") == snaked(2, 4, [64, 64, 128])
        grow(folder / "odd.h5", ramp(3, first=2))
        await chain.lab.until_points(case.uid, 8)
        outcome = await chain.outcome(case)
    assert outcome.channel("total") == snaked(2, 4, [64, 64, 128, 128, 192, 192, 256, 256])


async def test_parts_named_by_a_pattern_come_one_after_the_other(redis_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "pattern"
    write(folder / "part_0.h5", ramp(4), SOURCE, chunks=(1, 8, 8))
    with h5py.File(folder / "v.h5", "w", libver="latest") as file:
        from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

        creation, most = h5p.create(h5p.DATASET_CREATE), (h5s.UNLIMITED, 8, 8)
        here = h5s.create_simple((4, 8, 8), most)
        here.select_hyperslab((0, 0, 0), (h5s.UNLIMITED, 1, 1), (4, 8, 8), (4, 8, 8))
        creation.set_virtual(here, b"part_%b.h5", SOURCE.encode(), h5s.create_simple((4, 8, 8)))
        links = h5p.create(h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        space = h5s.create_simple((4, 8, 8), most)
        h5d.create(file.id, DATASET.encode(), h5t.NATIVE_UINT16, space, creation, lcpl=links)
    case = Documents(folder, 2, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    case.stream_datum(descriptor, case.stream_resource("cam", folder / "v.h5"), 0, 8)
    async with playing(redis_url, tmp_path, file_timeout_s=60) as chain:
        await chain.play(case)
        await chain.lab.until_points(case.uid, 4)
        with h5py.File(folder / "part.tmp", "w", libver="latest") as file:
            file.create_dataset(SOURCE, (4, 8, 8), "u2", chunks=(1, 8, 8))[:3] = ramp(3, first=5)
        (folder / "part.tmp").rename(folder / "part_1.h5")
        await chain.lab.until_points(case.uid, 7)
        outcome: Outcome = await chain.outcome(case)
    assert outcome.channel("total") == snaked(2, 4, sums(7))


# sums that do not fit, and halves


async def test_sums_beyond_64_bits_are_floats_and_that_is_said(redis_url: str, tmp_path: Path) -> None:
    cases = []
    for name, dtype, frames in (
        ("unsigned", "<u8", np.full((4, 8, 9), 2**63, "u8")),
        ("signed", "<i8", np.full((4, 8, 9), -(2**62), "i8")),
        ("fits", "<u8", np.full((4, 8, 8), 2**57, "u8")),
        ("halves", "<f2", np.full((4, 8, 9), 0.5, "f2")),
    ):
        case = Documents(tmp_path / name, 2, 2)
        descriptor = case.descriptor(cam=image(1, *frames.shape[1:], dtype=dtype))
        case.stream_datum(descriptor, case.stream_resource("cam", write(case.folder / "cam.h5", frames)), 0, 4)
        case.stop(primary=4)
        cases.append(case)
    unsigned, signed, fits, halves = await all_played(redis_url, tmp_path, *cases)
    assert unsigned.channel("total") == snaked(2, 2, [72 * 2.0**63] * 4)
    assert signed.channel("total") == snaked(2, 2, [72 * -(2.0**62)] * 4)
    assert fits.channel("total") == snaked(2, 2, [2.0**63] * 4)
    assert halves.channel("total") == snaked(2, 2, [36.0] * 4)
    said = "Sums of cam do not fit into 64 bits: they are kept as float64, rounded to 16 digits."
    for outcome in (unsigned, signed):
        assert outcome.words.strip() == said
    assert not fits.words.strip()
    assert not halves.words.strip()
    assert {outcome.run.status for outcome in (unsigned, signed, fits, halves)} == {"complete"}


@pytest.mark.parametrize(("name", "options", "shown"), [("allotted", {}, 8), ("chunked", {"chunks": (1, 8, 8)}, 12)])
async def test_frames_whose_announcement_got_lost_are_shown_only_when_they_were_written_for_certain(
    redis_url: str, tmp_path: Path, name: str, options: dict[str, Any], shown: int
) -> None:
    path = write(tmp_path / f"{name}.h5", ramp(12), **(options or {"chunks": None}))
    case = Documents(tmp_path / name, 3, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", path)
    case.stream_datum(descriptor, resource, 0, 4)
    case.stream_datum(descriptor, resource, 8, 12)
    case.stop(primary=12)
    (outcome,) = await all_played(redis_url, tmp_path, case)
    values = [None if shown == 8 and 4 <= point < 8 else value for point, value in enumerate(sums(12))]
    assert outcome.channel("total") == snaked(3, 4, values)
    assert ("frame 5 is not in the documents and may not have been written" in outcome.words) == (shown == 8), (
        outcome.words
    )


# a file that is not the same any more


def renamed(path: Path, frames: npt.NDArray[Any], dataset: str) -> None:
    """Another file under the same name."""
    write(path.with_suffix(".new"), frames, dataset).replace(path)


def in_place(path: Path, frames: npt.NDArray[Any], dataset: str) -> None:
    """The same file with all in its old place, but other frames."""
    other = write(path.with_suffix(".new"), frames, dataset)
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    other.unlink()


def rewritten(path: Path, frames: npt.NDArray[Any], dataset: str) -> None:
    """The same inode, emptied and written anew."""
    other = write(path.with_suffix(".new"), frames, dataset)
    path.write_bytes(other.read_bytes())
    other.unlink()


@pytest.mark.parametrize("exchange", [renamed, in_place, rewritten])
@pytest.mark.parametrize("source", [False, True], ids=["file", "source of a virtual dataset"])
async def test_nothing_of_another_file_gets_into_the_maps(
    redis_url: str, tmp_path: Path, exchange: Any, source: bool
) -> None:
    path, dataset = tmp_path / "s.h5", SOURCE if source else DATASET
    write(path, ramp(6), dataset)
    case = Documents(tmp_path / "run", 3, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", one_block(tmp_path / "v.h5", "s.h5", 12) if source else path)
    case.stream_datum(descriptor, resource, 0, 6)
    async with playing(redis_url, tmp_path) as chain:
        await chain.play(case)
        await chain.lab.until_points(case.uid, 6)
        exchange(path, ramp(12, first=101), dataset)
        case.stream_datum(descriptor, resource, 6, 12)
        await chain.play(case)

        async def said() -> bool:
            return "data read so far are kept" in str((await chain.lab.summary(case.uid)).get("note"))

        await chain.lab.until(said)
        case.stop(primary=12)
        await chain.play(case)
        await chain.lab.until_settled(case.uid)
        outcome = await chain.outcome(case)
        # a run that comes after it reads the new file
        later = (
            announced(tmp_path / "later", path, 3, 4, 0) if source else announced(tmp_path / "later", path, 3, 4, 12)
        )
        await chain.play(later)
        await chain.lab.until_settled(later.uid)
        if not source:
            assert (await chain.outcome(later)).channel("total") == snaked(3, 4, sums(12, first=101))
    assert outcome.channel("total") == snaked(3, 4, sums(6))
    assert outcome.run.status == "incomplete"
    assert outcome.words.count("data read so far are kept") == 1


async def test_a_worker_that_comes_after_another_recognizes_the_file(redis_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5", ramp(6))
    case = Documents(tmp_path / "run", 3, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", path)
    case.stream_datum(descriptor, resource, 0, 6)
    async with Lab(redis_url, root=tmp_path) as lab:
        chain = Played(lab)
        async with lab.worker():
            await chain.play(case)
            await lab.until_points(case.uid, 6)
        renamed(path, ramp(12, first=101), DATASET)
        case.stream_datum(descriptor, resource, 6, 12)
        case.stop(primary=12)
        await chain.play(case)
        async with lab.worker():
            await lab.until_settled(case.uid)
            outcome = await chain.outcome(case)
    assert outcome.channel("total") == snaked(3, 4, sums(6))
    assert "data read so far are kept" in outcome.words
    assert outcome.run.status == "incomplete"


async def test_a_worker_that_comes_after_another_recognizes_the_file_of_scalars(redis_url: str, tmp_path: Path) -> None:
    """Numbers beside a camera, in a file of their own that is exchanged between two workers."""
    camera = write(tmp_path / "cam.h5", ramp(12))

    def column(first: int, count: int) -> Path:
        with h5py.File(tmp_path / "new.h5", "w", libver="latest") as file:
            file.create_dataset(
                "/sum", data=np.arange(first, first + count, dtype=float), maxshape=(None,), chunks=(1,)
            )
        return (tmp_path / "new.h5").replace(tmp_path / "sums.h5")

    numbers = column(1, 6)
    case = Documents(tmp_path / "run", 3, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8), det={**number(), "dtype": "number", "external": "STREAM:"})
    frames, values = case.stream_resource("cam", camera), case.stream_resource("det", numbers, "/sum")
    for resource in (frames, values):
        case.stream_datum(descriptor, resource, 0, 6)
    async with Lab(redis_url, root=tmp_path) as lab:
        chain = Played(lab)
        async with lab.worker():
            await chain.play(case)
            await lab.until_points(case.uid, 6)

            async def written() -> bool:
                return (await lab.run(case.uid)).source("scalars").maps.visited == 6

            await lab.until(written)
        column(101, 12)
        for resource in (frames, values):
            case.stream_datum(descriptor, resource, 6, 12)
        case.stop(primary=12)
        await chain.play(case)
        async with lab.worker():
            await lab.until_settled(case.uid)
            outcome = await chain.outcome(case)
    assert outcome.channel("total") == snaked(3, 4, sums(12))
    assert outcome.channel("det", "scalars") == snaked(3, 4, [1, 2, 3, 4, 5, 6])
    assert "data read so far are kept" in outcome.words


async def test_that_sums_are_rounded_is_still_said_when_another_process_reads_the_store(
    redis_url: str, tmp_path: Path
) -> None:
    """The worker ends in mid-run, after the first sums that did not fit; the rest fits."""
    frames = np.ones((8, 8, 9), "u8")
    frames[2:4] = 2**63
    case = Documents(tmp_path / "run", 2, 4)
    descriptor = case.descriptor(cam=image(1, 8, 9, dtype="<u8"))
    resource = case.stream_resource("cam", write(tmp_path / "cam.h5", frames))
    said = "Sums of cam do not fit into 64 bits: they are kept as float64, rounded to 16 digits."
    async with Lab(redis_url, root=tmp_path) as lab:
        chain = Played(lab)
        async with lab.worker():
            for first in (0, 2):  # the descriptor tells of whole numbers when the first sums come
                case.stream_datum(descriptor, resource, first, first + 2)
                await chain.play(case)
                await lab.until_points(case.uid, first + 2)
        assert said in (await chain.outcome(case)).run.remarks
        case.stream_datum(descriptor, resource, 4, 8)
        case.stop(primary=8)
        await chain.play(case)
        async with lab.worker():
            await lab.until_settled(case.uid)
            outcome = await chain.outcome(case)
            note = str((await lab.summary(case.uid)).get("note"))
    assert outcome.run.status == "complete"
    assert note.count(said) == 1
    assert outcome.run.remarks == [said]
