"""Which frames of a virtual dataset are really there, held to what HDF5 reads of real files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snakemap.errors import FileBroken, FileNotReady, FileRefused, SnakemapError
from snakemap.files.data_root import DataRoot
from snakemap.hdf5.child.__main__ import FileReader
from snakemap.hdf5.child.hyperslab import Stripes
from snakemap.hdf5.child.open_files import OpenFiles
from snakemap.hdf5.child.virtual_mapping import VirtualMap
from snakemap.hdf5.protocol import ReaderConfig

FRAME = (4, 6)
FILL = 65_535
"""What HDF5 gives for pixels that no source has: no frame of these tests holds it."""

UNLIMITED = h5s.UNLIMITED


def ramp(start: int, stop: int) -> npt.NDArray[np.uint16]:
    """Frames from one number to another, each full of it."""
    return np.broadcast_to(np.arange(start, stop, dtype=np.uint16)[:, None, None], (stop - start, *FRAME)).copy()


def source(path: Path, written: int, *, length: int | None = None, holes: Any = (), name: str = "d") -> None:
    """A file with a dataset of some length, of which the first frames are written, but for some holes.

    It has one row at least: HDF5 2.0 divides by zero when it draws on a dataset without any.
    """
    with h5py.File(path, "a", libver="latest") as file:
        shape = (max(written, 1) if length is None else length, *FRAME)
        dataset = file.create_dataset(name, shape, "u2", maxshape=(None, *FRAME), chunks=(1, *FRAME), fillvalue=FILL)
        for number in range(written):
            if number not in holes:
                dataset[number] = number + 1


def virtual(path: Path, shape: tuple[int, ...], mappings: Any, *, maxshape: Any = None, name: str = "v") -> None:
    """A virtual dataset of mappings (selection, file, path, source space)."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_fill_value(np.array(FILL, "u2"))
    for mapped, file, dataset, from_space in mappings:
        creation.set_virtual(mapped, file.encode(), dataset.encode(), from_space)
    space = h5s.create_simple(shape, maxshape or shape)
    with h5py.File(path, "a", libver="latest") as file:
        h5d.create(file.id, name.encode(), h5t.NATIVE_UINT16, space, creation)


def stripes(shape: Any, *selected: tuple[int, int, int, int], maxshape: Any = None) -> Any:
    """A space with a regular selection; (start, stride, count, block) a dimension."""
    space = h5s.create_simple(shape, maxshape or shape)
    start, stride, count, block = zip(*selected, strict=True)
    space.select_hyperslab(start, count, stride, block)
    return space


def rows(shape: Any, start: int, stride: int, count: int, block: int, *, maxshape: Any = None) -> Any:
    """A space with whole frames selected."""
    return stripes(shape, (start, stride, count, block), *((0, 1, 1, side) for side in shape[1:]), maxshape=maxshape)


@contextmanager
def opened(root: Path) -> Iterator[OpenFiles]:
    with DataRoot(root) as gate:
        files = OpenFiles(gate)
        yield files
        files.close()


def audited(root: Path, *, count: int, name: str = "v", path: str = "v.h5") -> list[bool]:
    """Whether each of some rows may be read, each asked for by itself."""
    found = []
    with opened(root) as files:
        for row in range(count):
            files.begin()
            try:
                files.require(files.find(files.open(path), name), range(row, row + 1))
                found.append(True)
            except (FileNotReady, FileBroken):
                found.append(False)
    return found


def leading(root: Path, rows: range, *, path: str = "v.h5") -> int | None:
    """How many rows of a range can be read before the first that cannot; None when all can."""
    with opened(root) as files:
        files.begin()
        try:
            files.require(files.find(files.open(path), "v"), rows)
        except SnakemapError as trouble:
            return trouble.ready
        return None


def really(root: Path, *, path: str = "v.h5", name: str = "v") -> list[bool]:
    """Whether each row is free of fill values when HDF5 reads it."""
    with h5py.File(root / path) as file:
        dataset = file[name]
        assert isinstance(dataset, h5py.Dataset)
        frames = dataset[:]
    return [not (frame == FILL).any() for frame in frames]


# the arithmetic alone


@given(st.integers(0, 5), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 40))
def test_stripes_find_what_they_hold_and_count_it(start: int, stride: int, block: int, count: int, length: int) -> None:
    along = Stripes(start, max(stride, block), block, count)
    selected = [start + number * along.stride + offset for number in range(count) for offset in range(block)]
    assert along.rows(np.arange(along.size)).tolist() == selected
    index, inside = along.find(np.arange(60))
    assert np.flatnonzero(inside).tolist() == selected
    assert index[inside].tolist() == list(range(len(selected)))
    assert along.within(length) == sum(row < length for row in selected)
    assert along.last == selected[-1]


# every mapping against HDF5 itself


@st.composite
def mapped_files(draw: st.DrawFn) -> tuple[int, list[Any]]:
    """Length of a virtual dataset, and mappings: file, written frames, holes, rows there and here."""
    length = draw(st.integers(1, 14))
    files = []
    for number in range(draw(st.integers(1, 3))):
        block = draw(st.integers(1, 4))
        stride = draw(st.integers(block, block + 3))
        start = draw(st.integers(0, length - 1))
        most = (length - start + stride - block) // stride
        if most < 1:
            continue
        count = draw(st.integers(1, most))
        from_start, from_stride = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        total = count * block
        written = draw(st.integers(0, from_start + total * from_stride))
        holes = draw(st.sets(st.integers(0, 12), max_size=2))
        files.append((number, (start, stride, count, block), (from_start, from_stride, total), written, holes))
    return length, files


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mapped_files())
def test_a_row_may_be_read_exactly_where_all_of_it_is_written(mapping: tuple[int, list[Any]]) -> None:
    length, files = mapping
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        mappings, backed = [], np.zeros(length, bool)
        unannounced_rows = np.zeros(length, bool)
        values: dict[int, set[int]] = {}
        for number, (start, stride, count, block), (first, step, total), written, holes in files:
            there = first + total * step
            source(root / f"s{number}.h5", written, holes=holes)
            mappings.append(
                (
                    rows((length, *FRAME), start, stride, count, block),
                    f"s{number}.h5",
                    "d",
                    rows((there, *FRAME), first, step, total, 1),
                )
            )
            for index in range(total):
                row = start + index // block * stride + index % block
                origin = first + index * step
                ok = origin < written and origin not in holes
                backed[row] |= ok
                values.setdefault(row, set()).add(origin + 1)
                unannounced_rows[row] |= not ok
        virtual(root / "v.h5", (length, *FRAME), mappings)
        expected = (backed & ~unannounced_rows).tolist()
        assert audited(root, count=length) == expected
        first_bad = next((row for row, good in enumerate(expected) if not good), None)
        assert leading(root, range(length)) == first_bad
        with h5py.File(root / "v.h5") as file:
            dataset = file["v"]
            assert isinstance(dataset, h5py.Dataset)
            for row in np.flatnonzero(expected).tolist():
                # where mappings overlap, each of them is right
                frame = dataset[row]
                assert set(np.unique(frame).tolist()) <= values[row], f"row {row}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_tiles_of_a_frame_are_all_needed(data: st.DataObject) -> None:
    """Each frame is cut into tiles at some columns and rows; tiles may be missing, and their files may be late."""
    length = data.draw(st.integers(1, 5))
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, FRAME[1] - 1), max_size=2))), FRAME[1]]
    bands = [0, *sorted(data.draw(st.sets(st.integers(1, FRAME[0] - 1), max_size=1))), FRAME[0]]
    expected = np.ones(length, bool)
    with tempfile.TemporaryDirectory() as directory:
        root, mappings = Path(directory), []
        for number, (y0, y1, x0, x1) in enumerate(
            (y0, y1, x0, x1) for y0, y1 in pairwise(bands) for x0, x1 in pairwise(cuts)
        ):
            written = data.draw(st.integers(0, length))
            tile = (length, y1 - y0, x1 - x0)
            if data.draw(st.integers(0, 5)) == 0:
                expected[:] = False  # nothing is mapped there
                continue
            with h5py.File(root / f"t{number}.h5", "w", libver="latest") as file:
                chunks = (1, *tile[1:])
                dataset = file.create_dataset(
                    "d", (written, *tile[1:]), "u2", maxshape=(None, *tile[1:]), chunks=chunks, fillvalue=FILL
                )
                dataset[:written] = 1
            expected[written:] = False
            here = stripes((length, *FRAME), (0, 1, 1, length), (y0, 1, 1, y1 - y0), (x0, 1, 1, x1 - x0))
            mappings.append((here, f"t{number}.h5", "d", rows(tile, 0, 1, 1, length)))
        virtual(root / "v.h5", (length, *FRAME), mappings)
        assert audited(root, count=length) == expected.tolist()
        if mappings:
            assert really(root) == expected.tolist()


@contextmanager
def answering(root: Path) -> Iterator[FileReader]:
    reader = FileReader(ReaderConfig(str(root)), confine=False)
    yield reader
    reader.close()


def request(ask: str, row: int, *, columns: int = 0, path: str = "v.h5") -> Any:
    return {
        "ask": ask, "path": path, "instead": [], "dataset": "v", "start": row, "stop": row + 1, "frames_per_point": 1,
        "rois": [[0, 2, 0, 3]], "frame_shape": list(FRAME), "preview": True, "point_shape": [], "columns": columns,
    }  # fmt: skip


def summed(root: Path, *, count: int, columns: int = 0, path: str = "v.h5") -> list[tuple[float, ...] | None]:
    """Sums over ROI and frame of each point, asked for by itself; None where it has none."""
    sums: list[tuple[float, ...] | None] = []
    with answering(root) as reader:
        for row in range(count):
            header, payload = reader.answer(request("reduce", row, columns=columns, path=path))
            values = None if "error" in header else tuple(np.frombuffer(payload, header["dtype"], 2).tolist())
            sums.append(values)
    return sums


def by_numpy(root: Path, points: list[bool], *, path: str = "v.h5") -> list[tuple[float, ...] | None]:
    """The same of what HDF5 reads, pixels that have the fill value left out."""
    with h5py.File(root / path) as file:
        dataset = file["v"]
        assert isinstance(dataset, h5py.Dataset)
        frames = dataset[:].reshape(-1, *FRAME).astype(np.uint64)
    frames[frames == FILL] = 0
    each = zip(frames, points, strict=True)
    return [(int(frame[:2, :3].sum()), int(frame.sum())) if good else None for frame, good in each]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_pixels_that_no_mapping_covers_in_any_row_are_gaps_and_all_others_are_needed(data: st.DataObject) -> None:
    """Tiles of a frame are mapped in all rows, in some, or in none, and their files may be late."""
    length = data.draw(st.integers(1, 5))
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, FRAME[1] - 1), max_size=2))), FRAME[1]]
    bands = [0, *sorted(data.draw(st.sets(st.integers(1, FRAME[0] - 1), max_size=1))), FRAME[0]]
    expected, mapped_at_all = np.ones(length, bool), False
    with tempfile.TemporaryDirectory() as directory:
        root, mappings = Path(directory), []
        for number, (y0, y1, x0, x1) in enumerate(
            (y0, y1, x0, x1) for y0, y1 in pairwise(bands) for x0, x1 in pairwise(cuts)
        ):
            first, stop = sorted(data.draw(st.tuples(*[st.integers(0, length)] * 2)))
            if data.draw(st.booleans()):
                first, stop = 0, length
            if first == stop:
                continue  # a gap
            mapped_at_all = True
            written = data.draw(st.one_of(st.just(stop - first), st.integers(0, stop - first)))
            tile = (stop - first, y1 - y0, x1 - x0)
            with h5py.File(root / f"t{number}.h5", "w", libver="latest") as file:
                shape = (max(written, 1), *tile[1:])
                dataset = file.create_dataset("d", shape, "u2", maxshape=(None, *tile[1:]), chunks=(1, *tile[1:]))
                for row in range(written):
                    dataset[row] = 1 + row + 10 * number
            rows_there = np.arange(length)
            expected &= (rows_there >= first) & (rows_there < first + written)
            here = stripes((length, *FRAME), (first, 1, 1, stop - first), (y0, 1, 1, y1 - y0), (x0, 1, 1, x1 - x0))
            mappings.append((here, f"t{number}.h5", "d", rows(tile, 0, 1, 1, stop - first)))
        expected &= mapped_at_all
        virtual(root / "v.h5", (length, *FRAME), mappings)
        assert summed(root, count=length) == by_numpy(root, expected.tolist())
        with answering(root) as reader:
            proved = [reader.answer(request("written", row)) for row in range(length)]
        assert [payload == b"\1" for _, payload in proved] == expected.tolist()


def two_modules(root: Path, *, rows_of_second: int = 4, name: str = "v.h5") -> None:
    """Four frames of two modules, columns 0 to 1 and 4 to 5, with a gap between them."""
    mappings = []
    for number, (x, count) in enumerate(((0, 4), (4, rows_of_second))):
        with h5py.File(root / f"m{number}.h5", "w", libver="latest") as file:
            dataset = file.create_dataset("d", (count, FRAME[0], 2), "u2", chunks=(1, FRAME[0], 2))
            dataset[:] = np.arange(1, count + 1)[:, None, None]
        here = stripes((4, *FRAME), (0, 1, 1, count), (0, 1, 1, FRAME[0]), (x, 1, 1, 2))
        mappings.append((here, f"m{number}.h5", "d", h5s.create_simple((count, FRAME[0], 2))))
    virtual(root / name, (4, *FRAME), mappings)


def test_gaps_are_counted_and_read_as_0_in_sums_and_in_the_frame_for_the_screen(tmp_path: Path) -> None:
    two_modules(tmp_path)
    with answering(tmp_path) as reader:
        header, payload = reader.answer(request("reduce", 2))
    assert header["gaps"] == FRAME[0] * 2
    assert np.frombuffer(payload, header["dtype"], 2).tolist() == [2 * 2 * 3, 4 * FRAME[0] * 3]
    shown = np.frombuffer(payload, header["frame"][0], offset=16).reshape(FRAME)
    assert shown.tolist() == [[3, 3, 0, 0, 3, 3]] * FRAME[0]


def test_a_module_that_is_mapped_for_some_frames_only_is_missing_in_the_others(tmp_path: Path) -> None:
    two_modules(tmp_path, rows_of_second=2)
    assert summed(tmp_path, count=4) == by_numpy(tmp_path, [True, True, False, False])


def test_numbers_and_records_have_no_gaps(tmp_path: Path) -> None:
    two_modules(tmp_path)
    with answering(tmp_path) as reader:
        asked: Any = {**request("scalars", 0), "frames_per_point": 24, "frame_shape": None, "point_shape": list(FRAME)}
        header, _ = reader.answer(asked)
    assert "no source holds all" in header["message"]


def test_gaps_of_the_one_source_of_a_virtual_dataset_are_its_gaps(tmp_path: Path) -> None:
    """A view of frames with gaps, whole or of a part, and one that picks every other frame."""
    two_modules(tmp_path, name="inner.h5")
    for name, here, there, right in (
        ("whole", rows((4, *FRAME), 0, 1, 1, 4), rows((4, *FRAME), 0, 1, 1, 4), [1, 2, 3, 4]),
        ("every other", rows((2, *FRAME), 0, 1, 1, 2), rows((4, *FRAME), 1, 2, 2, 1), [2, 4]),
    ):
        virtual(tmp_path / f"{name}.h5", (len(right), *FRAME), [(here, "inner.h5", "v", there)])
        sums = summed(tmp_path, count=len(right), path=f"{name}.h5")
        assert [sum_ and sum_[1] for sum_ in sums] == [4 * FRAME[0] * value for value in right]
    here = stripes((4, *FRAME), (0, 1, 1, 4), (0, 1, 1, FRAME[0]), (1, 1, 1, 4))
    there = stripes((4, *FRAME), (0, 1, 1, 4), (0, 1, 1, FRAME[0]), (2, 1, 1, 4))
    virtual(tmp_path / "part.h5", (4, *FRAME), [(here, "inner.h5", "v", there)])
    assert summed(tmp_path, count=4, path="part.h5") == by_numpy(tmp_path, [True] * 4, path="part.h5")


def test_of_several_sources_with_gaps_none_can_be_told_from_a_missing_module(tmp_path: Path) -> None:
    two_modules(tmp_path, name="inner.h5")
    whole = h5s.create_simple((4, *FRAME))
    mappings = [(rows((8, *FRAME), start, 1, 1, 4), "inner.h5", "v", whole) for start in (0, 4)]
    virtual(tmp_path / "v.h5", (8, *FRAME), mappings)
    assert summed(tmp_path, count=8) == [None] * 8


def test_gaps_in_frames_that_lie_in_rows_and_columns(tmp_path: Path) -> None:
    """(rows, columns, height, width): a point that no mapping covers is missing, a pixel of every frame is a gap."""
    shape = (2, 3, *FRAME)
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        dataset = file.create_dataset("d", (2, 3, FRAME[0], 4), "u2", chunks=(1, 1, FRAME[0], 4))
        dataset[:] = np.arange(1, 7).reshape(2, 3, 1, 1)
    for columns, right in ((3, [True] * 6), (2, [True, True, False] * 2)):
        selected = (0, 1, 1, 2), (0, 1, 1, columns), (0, 1, 1, FRAME[0])
        here, there = stripes(shape, *selected, (1, 1, 1, 4)), stripes((2, 3, FRAME[0], 4), *selected, (0, 1, 1, 4))
        virtual(tmp_path / f"{columns}.h5", shape, [(here, "s.h5", "d", there)])
        sums = summed(tmp_path, count=6, columns=3, path=f"{columns}.h5")
        # of a row that is asked for as a whole all columns are needed, of single points only these
        assert sums == by_numpy(tmp_path, right, path=f"{columns}.h5")


# kinds of mappings, one by one


def test_one_block_over_a_source_that_is_shorter(tmp_path: Path) -> None:
    source(tmp_path / "s.h5", 21)
    virtual(
        tmp_path / "v.h5",
        (63, *FRAME),
        [(rows((63, *FRAME), 0, 1, 1, 63), "s.h5", "d", h5s.create_simple((63, *FRAME)))],
    )
    assert audited(tmp_path, count=63) == [True] * 21 + [False] * 42
    assert leading(tmp_path, range(10, 40)) == 11


@pytest.mark.parametrize("offset", [0, 5])
def test_one_block_that_begins_later_in_source_and_here(tmp_path: Path, offset: int) -> None:
    source(tmp_path / "s.h5", 12, length=30)
    here, there = rows((20, *FRAME), 3, 1, 1, 17), rows((30, *FRAME), offset, 1, 1, 17)
    virtual(tmp_path / "v.h5", (20, *FRAME), [(here, "s.h5", "d", there)])
    assert audited(tmp_path, count=20) == [3 <= row < 3 + 12 - offset for row in range(20)]


def test_an_unlimited_mapping_that_is_interleaved_with_another(tmp_path: Path) -> None:
    """The dataset is as long as the longest source makes it; rows of the shorter one are not there."""
    source(tmp_path / "a.h5", 6)
    source(tmp_path / "b.h5", 3)
    grows: dict[str, Any] = {"maxshape": (UNLIMITED, *FRAME)}
    mappings = [
        (rows((1, *FRAME), start, 2, UNLIMITED, 1, **grows), name, "d", rows((1, *FRAME), 0, 1, UNLIMITED, 1, **grows))
        for start, name in ((0, "a.h5"), (1, "b.h5"))
    ]
    virtual(tmp_path / "v.h5", (1, *FRAME), mappings, **grows)
    assert audited(tmp_path, count=13) == [row % 2 == 0 or row < 6 for row in range(11)] + [False] * 2
    assert really(tmp_path) == [row % 2 == 0 or row < 6 for row in range(11)]


def test_an_unlimited_block(tmp_path: Path) -> None:
    source(tmp_path / "s.h5", 5, length=9)
    grows: dict[str, Any] = {"maxshape": (UNLIMITED, *FRAME)}
    here, there = (rows((1, *FRAME), 0, 1, 1, UNLIMITED, **grows) for _ in range(2))
    virtual(tmp_path / "v.h5", (1, *FRAME), [(here, "s.h5", "d", there)], **grows)
    assert audited(tmp_path, count=10) == [True] * 5 + [False] * 5


def patterned(root: Path, name: str, *, block: int = 4, path: str = "d") -> None:
    grows: dict[str, Any] = {"maxshape": (UNLIMITED, *FRAME)}
    here = rows((block, *FRAME), 0, block, UNLIMITED, block, **grows)
    virtual(root / "v.h5", (block, *FRAME), [(here, name, path, h5s.create_simple((block, *FRAME)))], **grows)


def test_files_named_by_a_pattern_are_looked_at_one_by_one(tmp_path: Path) -> None:
    patterned(tmp_path, "part_%b.h5")
    source(tmp_path / "part_0.h5", 4)
    source(tmp_path / "part_1.h5", 2, length=4)
    source(tmp_path / "part_3.h5", 4)
    assert audited(tmp_path, count=9) == [True] * 6 + [False] * 3


def test_datasets_named_by_a_pattern_in_one_file(tmp_path: Path) -> None:
    patterned(tmp_path, "parts.h5", path="part%b")
    for number, written in enumerate((4, 3)):
        source(tmp_path / "parts.h5", written, length=4, name=f"part{number}")
    assert audited(tmp_path, count=9) == [True] * 7 + [False] * 2


def test_a_file_of_a_pattern_that_leads_out_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    source(tmp_path / "secret.h5", 4)
    source(root / "part_0.h5", 4)
    (root / "part_1.h5").symlink_to(tmp_path / "secret.h5")
    patterned(root, "part_%b.h5")
    with opened(root) as files, pytest.raises(FileRefused):
        files.find(files.open("v.h5"), "v")


def test_a_virtual_dataset_of_virtual_datasets(tmp_path: Path) -> None:
    """Two levels, each with rows in another order, over sources of which one has holes."""
    source(tmp_path / "a.h5", 8, holes={2})
    source(tmp_path / "b.h5", 3)
    for name, file in (("inner-a", "a.h5"), ("inner-b", "b.h5")):
        here, there = rows((4, *FRAME), 0, 1, 1, 4), rows((8, *FRAME), 0, 2, 4, 1)
        virtual(tmp_path / f"{name}.h5", (4, *FRAME), [(here, file, "d", there)])
    whole = h5s.create_simple((4, *FRAME))
    mappings = [
        (rows((8, *FRAME), start, 2, 4, 1), f"inner-{name}.h5", "v", whole) for start, name in ((0, "a"), (1, "b"))
    ]
    virtual(tmp_path / "v.h5", (8, *FRAME), mappings)
    # rows 0, 2, 4, 6 are frames 0, 2, 4, 6 of a; rows 1, 3, 5, 7 are frames 0, 2, 4, 6 of b
    assert audited(tmp_path, count=8) == [True, True, False, True, True, False, True, False]


def test_a_source_of_one_frame_without_a_dimension_for_it(tmp_path: Path) -> None:
    mappings = []
    for number in range(3):
        with h5py.File(tmp_path / f"{number}.h5", "w", libver="latest") as file:
            dataset = file.create_dataset("d", FRAME, "u2", chunks=(2, FRAME[1]))
            dataset[: 4 if number != 1 else 2] = 1
        mappings.append((rows((3, *FRAME), number, 1, 1, 1), f"{number}.h5", "d", h5s.create_simple(FRAME)))
    virtual(tmp_path / "v.h5", (3, *FRAME), mappings)
    assert audited(tmp_path, count=3) == [True, False, True]


def test_a_flat_stack_that_is_mapped_to_rows_and_columns(tmp_path: Path) -> None:
    source(tmp_path / "s.h5", 7, length=12)
    shape = (3, 4, *FRAME)
    virtual(tmp_path / "v.h5", shape, [(rows(shape, 0, 1, 1, 3), "s.h5", "d", h5s.create_simple((12, *FRAME)))])
    assert audited(tmp_path, count=3) == [True, False, False]


def test_of_a_selection_that_is_not_regular_all_of_its_source_must_be_there(tmp_path: Path) -> None:
    for written, right in ((5, [True] * 3 + [False] * 2 + [True] * 2), (4, [False] * 7)):
        root = tmp_path / str(written)
        root.mkdir()
        source(root / "s.h5", written, length=5)
        here = rows((7, *FRAME), 0, 1, 1, 3)
        here.select_hyperslab((5, 0, 0), (1, 1, 1), (1, 1, 1), (2, *FRAME), op=h5s.SELECT_OR)
        virtual(root / "v.h5", (7, *FRAME), [(here, "s.h5", "d", h5s.create_simple((5, *FRAME)))])
        assert audited(root, count=7) == right


def test_numbers_in_one_dimension(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        file.create_dataset("d", data=np.arange(5.0), maxshape=(None,), chunks=(1,))
    with h5py.File(tmp_path / "v.h5", "w", libver="latest") as file:
        layout = h5py.VirtualLayout((9,), "f8")
        layout[:] = h5py.VirtualSource("s.h5", "d", shape=(9,))
        file.create_virtual_dataset("v", layout)
    assert audited(tmp_path, count=9) == [True] * 5 + [False] * 4


def test_mappings_are_looked_through_once_as_long_as_the_file_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(tmp_path / "s.h5", 8)
    mappings = [(rows((8, *FRAME), row, 1, 1, 1), "s.h5", "d", rows((8, *FRAME), row, 1, 1, 1)) for row in range(8)]
    virtual(tmp_path / "v.h5", (8, *FRAME), mappings)
    parsed, of = [], VirtualMap.of

    def counted(creation: Any) -> VirtualMap:
        parsed.append(creation)
        return of(creation)

    monkeypatch.setattr(VirtualMap, "of", counted)
    with opened(tmp_path) as files:
        for row in range(8):
            files.begin()
            files.require(files.find(files.open("v.h5"), "v"), range(row, row + 1))
        assert len(parsed) == 1
        files.open("v.h5").forget_handle()
        virtual(tmp_path / "v.h5", (8, *FRAME), mappings[:4], name="more")
        files.begin()
        files.require(files.find(files.open_afresh("v.h5"), "v"), range(1))
        assert len(parsed) == 2


# what was allotted and what was written


def written(root: Path, count: int, *, path: str = "s.h5", name: str = "d") -> list[bool]:
    with opened(root) as files:
        return files.written(files.find(files.open(path), name), range(count)).tolist()[:count]


ALLOTTED = {"contiguous": {}, "early": {"chunks": (1, *FRAME)}, "late": {"chunks": (1, *FRAME)}}


@pytest.mark.parametrize("kind", ALLOTTED)
def test_storage_that_is_allotted_at_once_proves_nothing(tmp_path: Path, kind: str) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    if kind != "contiguous":
        creation.set_chunk((1, *FRAME))
        creation.set_alloc_time({"early": h5d.ALLOC_TIME_EARLY, "late": h5d.ALLOC_TIME_LATE}[kind])
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        space = h5s.create_simple((9, *FRAME))
        dataset = h5py.Dataset(h5d.create(file.id, b"d", h5t.NATIVE_UINT16, space, creation))
        dataset[:3] = 5
    assert written(tmp_path, 9) == [False] * 9
    assert audited(tmp_path, count=3, path="s.h5", name="d") == [True] * 3


def test_chunks_that_were_allotted_one_by_one_prove_what_was_written(tmp_path: Path) -> None:
    source(tmp_path / "s.h5", 9, length=12, holes={4})
    assert written(tmp_path, 12) == [row < 9 and row != 4 for row in range(12)]


@pytest.mark.parametrize("fill", [None, 7])
def test_of_frames_that_share_a_chunk_those_count_that_hold_something(tmp_path: Path, fill: int | None) -> None:
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        dataset = file.create_dataset("d", (20, *FRAME), "u2", chunks=(5, *FRAME), fillvalue=fill, compression="gzip")
        dataset[:12] = 3
        dataset[4] = fill or 0
    assert written(tmp_path, 20) == [row < 12 and row != 4 for row in range(20)]


def test_a_number_that_is_none_is_a_fill_value_as_any_other(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        dataset = file.create_dataset("d", (8,), "f8", chunks=(4,), fillvalue=np.nan)
        dataset[:3] = 0.0
    assert written(tmp_path, 8) == [True] * 3 + [False] * 5


def test_a_compact_dataset_proves_nothing(tmp_path: Path) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.COMPACT)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        h5py.Dataset(h5d.create(file.id, b"d", h5t.NATIVE_UINT16, h5s.create_simple((3, *FRAME)), creation))[:2] = 1
    assert written(tmp_path, 3) == [False] * 3
    assert audited(tmp_path, count=4, path="s.h5", name="d") == [True] * 3 + [False]


def test_through_a_virtual_dataset_the_same_is_proved(tmp_path: Path) -> None:
    source(tmp_path / "a.h5", 3, length=5)
    with h5py.File(tmp_path / "b.h5", "w", libver="latest") as file:
        file.create_dataset("d", (5, *FRAME), "u2")[:3] = 1
    mappings = [
        (rows((12, *FRAME), 5 * number, 1, 1, 5), f"{name}.h5", "d", h5s.create_simple((5, *FRAME)))
        for number, name in enumerate("ab")
    ]
    virtual(tmp_path / "v.h5", (12, *FRAME), mappings)
    assert written(tmp_path, 12, path="v.h5", name="v") == [True] * 3 + [False] * 9
    assert audited(tmp_path, count=12) == [True] * 3 + [False] * 2 + [True] * 5 + [False] * 2
