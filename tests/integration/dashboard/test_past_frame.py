"""Frames of a point from its file, through the same gate as all that is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from snakemap.core.stream_resources import Resource
from snakemap.dashboard.panes.file_workspace import FileServices
from snakemap.dashboard.panes.past_frame import frame_at
from snakemap.errors import SnakemapError
from snakemap.files.directory_listing import DirectoryCache
from snakemap.hdf5.inspector import FileInspector

FRAMES = np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[FileServices]:
    root = tmp_path / "root"
    root.mkdir()
    with h5py.File(root / "scan.h5", "w") as file:
        file["frames"] = FRAMES
        file["grid"] = FRAMES.reshape(2, 3, 4, 5)
        file["colors"] = np.stack([FRAMES] * 3, axis=-1)
        file["line"] = np.arange(5.0)
        file["names"] = [["a", "b"]] * 3
        file["flat"] = np.zeros((6, 0, 5))
        file["broad"] = np.broadcast_to(np.arange(6.0)[:, None, None], (6, 700, 1400))
        file["outside"] = h5py.ExternalLink("../secret.h5", "/frames")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["frames"] = FRAMES
    looker = FileInspector(root)
    yield FileServices(DirectoryCache(root), looker, path_map=(("/beamline", str(root)),))
    await looker.close()


def resource(
    dataset: str, *, uri: str = "file://localhost/beamline/scan.h5", each: int = 1, columns: int = 0
) -> Resource:
    return Resource("r", uri, dataset, each, (4, 5), columns=columns)


async def test_the_frame_of_a_row_is_read_wherever_the_writer_says_that_it_is(room: FileServices) -> None:
    np.testing.assert_array_equal(await frame_at(room, resource("/frames"), 4), FRAMES[4])
    np.testing.assert_array_equal(await frame_at(room, resource("/frames", each=3), 1), FRAMES[5])
    np.testing.assert_array_equal(await frame_at(room, resource("/grid", columns=3), 4), FRAMES[4])
    colors = await frame_at(room, resource("/colors"), 2)
    np.testing.assert_array_equal(colors, np.stack([FRAMES[2]] * 3, axis=-1))


async def test_a_frame_is_found_by_either_reading_of_its_uri(room: FileServices) -> None:
    root = room.inspector.root
    with h5py.File(root / "10%Fe a%20b #5.h5", "w") as file:
        file["frames"] = FRAMES
    for name in ("10%Fe a%20b #5.h5", "10%25Fe%20a%2520b%20%235.h5"):
        found = await frame_at(room, resource("/frames", uri=f"file://localhost/beamline/{name}"), 4)
        np.testing.assert_array_equal(found, FRAMES[4])
    assert room.place_of("file:///beamline/a%20b.h5") == "a b.h5"
    (root / "a%20b.h5").write_bytes(b"")
    assert room.place_of("file:///beamline/a%20b.h5") == "a%20b.h5"
    (root / "a b.h5").write_bytes(b"")
    assert room.place_of("file:///beamline/a%20b.h5") == "a b.h5"
    assert room.place_of("file:///elsewhere/a%20b.h5") == ""


async def test_a_broad_frame_comes_as_small_as_a_screen_needs_it(room: FileServices) -> None:
    frame = await frame_at(room, resource("/broad"), 3)
    assert max(frame.shape) <= 512
    assert np.all(frame == 3.0)


@pytest.mark.parametrize(
    ("dataset", "uri", "row"),
    [
        ("/frames", "file://localhost/beamline/scan.h5", 6),
        ("/nothing", "file://localhost/beamline/scan.h5", 0),
        ("/line", "file://localhost/beamline/scan.h5", 0),
        ("/names", "file://localhost/beamline/scan.h5", 0),
        ("/flat", "file://localhost/beamline/scan.h5", 0),
        ("/grid", "file://localhost/beamline/scan.h5", 0),
        ("/outside", "file://localhost/beamline/scan.h5", 0),
        ("/frames", "file://localhost/beamline/gone.h5", 0),
        ("/frames", "file://localhost/beamline/../secret.h5", 0),
        ("/frames", "file://localhost/etc/passwd", 0),
        ("/frames", "http://elsewhere/scan.h5", 0),
    ],
)
async def test_what_is_no_frame_or_not_for_us_is_an_error(room: FileServices, dataset: str, uri: str, row: int) -> None:
    with pytest.raises(SnakemapError):
        await frame_at(room, resource(dataset, uri=uri), row)
