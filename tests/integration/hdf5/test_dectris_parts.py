"""A DECTRIS master is one stack of frames in several files: in the tree, as a slice, as maps, as the file of a run."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from tests.support.cases import Documents, image, played, ramp, snaked, write
from tests.support.lab import Lab

from snakemap.errors import FrameError
from snakemap.hdf5.inspector import FileInspector
from snakemap.live.file_runs import is_stack, open_stack, stack_of

NODE = "/entry/data"


@pytest_asyncio.fixture
async def looker(tmp_path: Path) -> AsyncIterator[FileInspector]:
    looker = FileInspector(tmp_path)
    yield looker
    await looker.close()


def master(folder: Path, parts: Mapping[int, npt.NDArray[Any] | None], **counts: int) -> Path:
    """A master of parts by number; None: its file is not there. All of it is old, as after a scan."""
    path = folder / "scan_master.h5"
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group(NODE)
        group.attrs["NX_class"] = "NXdata"
        for number, frames in parts.items():
            name = f"scan_data_{number:06}.h5"
            group[f"data_{number:06}"] = h5py.ExternalLink(name, "/entry/data/data")
            if frames is not None:
                old(write(folder / name, frames))
        for name, value in counts.items():
            file[f"/entry/instrument/detector/detectorSpecific/{name}"] = value
    return old(path)


def old(path: Path) -> Path:
    then = time.time() - 3600
    os.utime(path, (then, then))
    return path


async def frame(looker: FileInspector, number: int) -> npt.NDArray[Any]:
    return np.asarray((await looker.read("scan_master.h5", NODE, [number])).values)


async def test_all_frames_in_order_are_one_stack_and_a_missing_file_is_told(
    looker: FileInspector, tmp_path: Path
) -> None:
    master(tmp_path, {1: ramp(4), 2: ramp(4, first=5), 3: None})
    about = await looker.about("scan_master.h5", NODE)
    assert (about["kind"], about["shape"], about["dtype"], about["values"]) == ("group", [8, 8, 8], "uint16", "number")
    assert about["missing"] == "2 of 3 data files are there; frames 9 to 12 are missing."
    assert is_stack(about)
    for number in range(8):
        assert np.all(await frame(looker, number) == number + 1)
    with pytest.raises(FrameError, match="8 frames"):
        await frame(looker, 8)
    block = await looker.read("scan_master.h5", NODE, [5, 2, [1, 8, 3]])
    assert (block.of, block.values.tolist()) == ((8, 8, 8), [6, 6, 6])


@pytest.mark.parametrize(
    ("parts", "counts", "frames", "missing"),
    [
        ({1: ramp(4), 2: ramp(2, first=5)}, {}, [1, 2, 3, 4, 5, 6], ""),
        ({1: ramp(2), 2: None, 3: ramp(1, first=5)}, {}, [1, 2, None, None, 5], "frames 3 to 4 are missing"),
        ({1: ramp(2), 3: ramp(2, first=5)}, {}, [1, 2, None, None, 5, 6], "2 of 3 data files are there; frames 3 to 4"),
        ({1: None, 2: ramp(2, first=3)}, {}, [None, None, 3, 4], "1 of 2 data files is there; frames 1 to 2"),
        ({1: ramp(3), 2: None}, {"nimages": 5}, [1, 2, 3, None, None], "1 of 2 data files is there; frames 4 to 5"),
        ({1: ramp(3), 2: None}, {"nimages": 1, "ntrigger": 5}, [1, 2, 3, None, None], "frames 4 to 5 are missing"),
        ({1: ramp(3), 2: ramp(2, first=4)}, {"nimages": 900}, [1, 2, 3, 4, 5], ""),
        ({1: ramp(2), 2: ramp(2, height=9)}, {}, [1, 2], "1 of 2 data files is there; frames 3 to 4"),
    ],
)  # fmt: skip
async def test_frames_of_missing_files_are_blank(
    looker: FileInspector,
    tmp_path: Path,
    parts: dict[int, npt.NDArray[Any] | None],
    counts: dict[str, int],
    frames: list[int | None],
    missing: str,
) -> None:
    master(tmp_path, parts, **counts)
    about = await looker.about("scan_master.h5", NODE)
    assert about["shape"] == [len(frames), 8, 8]
    assert missing in about["missing"]
    assert bool(missing) == bool(about["missing"])
    for number, value in enumerate(frames):
        shown = await frame(looker, number)
        assert np.isnan(shown).all() if value is None else np.all(shown == value)


async def test_a_part_outside_the_data_root_is_not_read(looker: FileInspector, tmp_path: Path) -> None:
    with h5py.File(old(master(tmp_path, {1: ramp(2)})), "r+") as file:
        file[f"{NODE}/data_000002"] = h5py.ExternalLink("/etc/passwd", "/entry/data/data")
    about = await looker.about("scan_master.h5", NODE)
    assert (about["shape"], about["missing"]) == ([2, 8, 8], "1 of 2 data files is there; frames 3 to 4 are missing.")


async def test_groups_of_other_links_are_no_stack(looker: FileInspector, tmp_path: Path) -> None:
    master(tmp_path, {1: None, 2: None})
    with h5py.File(tmp_path / "scan_master.h5", "r+") as file:
        file["plain/data_000001"] = ramp(2)
        file["other/data_1"] = h5py.ExternalLink("scan_data_000001.h5", "/entry/data/data")
        file["far/data_000001"] = file["far/data_900000"] = h5py.ExternalLink("a.h5", "/x")
        file["signal/data_000001"] = h5py.ExternalLink("a.h5", "/x")
        file["signal/line"] = np.arange(3.0)
        file["signal"].attrs.update({"NX_class": "NXdata", "signal": "line"})
    for node in (NODE, "/plain", "/other", "/far", "/signal", "/"):
        about = await looker.about("scan_master.h5", node)
        assert (about["shape"], about["values"], about["missing"]) == (None, "none", "")
        with pytest.raises(FrameError):
            await looker.read("scan_master.h5", node, [0])


async def test_a_master_becomes_maps_whose_missing_frames_are_blank(
    looker: FileInspector, tmp_path: Path, redis_url: str
) -> None:
    master(tmp_path, {1: ramp(4), 2: None, 3: ramp(3, first=9)})
    lab = Lab(redis_url, root=tmp_path)
    stack = await stack_of(looker, "scan_master.h5", await looker.about("scan_master.h5", NODE))
    assert stack.points == 11
    async with lab, lab.worker(listening=False):
        uid = await open_stack(lab.store, stack)
        await lab.until_settled(uid)
        run, summary = await lab.run(uid), await lab.summary(uid)
    total = run.maps.grids[run.maps.channels.index("total")].ravel()
    np.testing.assert_array_equal(total, [64, 128, 192, 256, *[np.nan] * 4, 576, 640, 704])
    assert "2 of 3 data files are there; frames 5 to 8 are missing." in summary["note"]


async def test_a_run_whose_resource_is_a_master_is_read_from_its_parts(redis_url: str, tmp_path: Path) -> None:
    path = master(tmp_path / "eiger", {1: ramp(5), 2: ramp(5, first=6), 3: ramp(2, first=11)})
    case = Documents(tmp_path / "eiger", 3, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", path, NODE)
    for point in range(0, 12, 3):
        case.stream_datum(descriptor, resource, point, point + 3)
    case.stop(primary=12)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == snaked(3, 4, [64 * (point + 1) for point in range(12)])
    assert (outcome.run.status, outcome.words.strip()) == ("complete", "")
