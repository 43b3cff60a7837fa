"""Maps of any rectangle of the detector: equal to numpy over the file, and never more work than was asked for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from tests.support.patience import patiently
from tests.unit.api.test_app import ApiStore, application

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document
from snakemap.core.roi_text import rois_from_text, text_of
from snakemap.core.run import Run
from snakemap.errors import FileReplaced, RoiError
from snakemap.live import region_maps
from snakemap.live.block_access import BlockAccess
from snakemap.settings import load

ROWS, COLUMNS, HEIGHT, WIDTH = 3, 4, 6, 8
POINTS = ROWS * COLUMNS
RNG = np.random.default_rng(16)
ROI = "spot:1,5,2,7"


@dataclass
class Beamline:
    """The API over a store in memory and a data root.

    Attributes:
        client: of the API.
        app: the API.
        store: its documents.
        root: its data root.
    """

    client: httpx.AsyncClient
    app: FastAPI
    store: ApiStore
    root: Path
    run: Run = field(default_factory=lambda: Run({"uid": "none", "time": 1.0}))

    @property
    def frames_read(self) -> int:
        return self.app.state.service.regions.frames_read

    async def begin(
        self, uid: str, frames: Any, *, point_shape: tuple[int, ...] = (1, HEIGHT, WIDTH), **file: Any
    ) -> None:
        """Write a file, and the documents of a run over it without a point; scalars are its second source."""
        with h5py.File(self.root / f"{uid}.h5", "w") as opened:
            opened.create_dataset("data", data=frames, **file)
        start = {"uid": uid, "time": 1.0, "shape": [ROWS, COLUMNS], "snaking": [False, True]}
        self.run = Run(start)
        keys: dict[str, Any] = {
            "camera": {"source": "c", "dtype": "array", "shape": [*point_shape], "external": "STREAM:"},
            "diode": {"source": "d", "dtype": "number", "shape": []},
        }
        descriptor = {"uid": f"{uid}/d", "run_start": uid, "time": 1.0, "name": "primary", "data_keys": keys}
        await self._append(Document("start", start, run=uid), Document("descriptor", descriptor, run=uid))
        told = derived_descriptor(self.run, {"red": (0, 2, 0, WIDTH)}, frame_shape=(HEIGHT, WIDTH), time=1.0)
        resource = {"uid": f"{uid}/r", "run_start": uid, "data_key": "camera", "mimetype": "application/x-hdf5"}
        resource |= {"uri": f"file://localhost{self.root}/{uid}.h5", "parameters": {"dataset": "/data"}}
        await self._append(Document("descriptor", told, run=uid), Document("stream_resource", resource, run=uid))

    async def measure(self, first: int, last: int, *, row: int | None = None) -> None:
        """Append the sums of some points, from 1 on; `row` is that of the first one in the file."""
        uid, row = self.run.uid, first - 1 if row is None else row
        count, seq_nums = last - first + 1, list(range(first, last + 1))
        datum = {"uid": f"{uid}/r/{first}/{row}", "stream_resource": f"{uid}/r", "descriptor": f"{uid}/d"}
        datum |= {"indices": {"start": row, "stop": row + count}, "seq_nums": {"start": first, "stop": last + 1}}
        sums = {name: [1.0] * count for name in ("red", "total")}
        page = derived_page(
            next(iter(self.run.derived_uids)), seq_nums, sums, time=1.0, indices=range(row, row + count)
        )
        await self._append(Document("stream_datum", datum, run=uid), Document("event_page", page, run=uid))

    async def _append(self, *documents: Document) -> None:
        cursors = await self.store.append(list(documents))
        for document, cursor in zip(documents, cursors, strict=True):
            self.run.apply(document, cursor=cursor)

    async def get(self, *rois: str, **params: Any) -> httpx.Response:
        headers = params.pop("headers", {})
        return await self.client.get(
            f"/api/runs/{self.run.uid}/maps", params={"roi": [*rois], **params}, headers=headers
        )

    async def maps(self, *rois: str) -> dict[str, Any]:
        answer = await self.get(*rois)
        assert answer.status_code == 200, answer.text
        return answer.json()


def expected(sums: np.ndarray, *, points: int = POINTS) -> np.ndarray:
    """The map of sums (points,), every second row backwards; NaN where not measured."""
    flat = np.full(POINTS, np.nan)
    flat[:points] = sums[:points]
    grid = flat.reshape(ROWS, COLUMNS).copy()
    grid[1::2] = grid[1::2, ::-1]
    return grid


def grid(body: dict[str, Any], name: str) -> np.ndarray:
    return np.array(body["channels"][name], dtype=np.float64)


@pytest.fixture
async def beamline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Beamline]:
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("SNAKEMAP_DATA_ROOT", str(root))
    store = ApiStore()
    app = application(store)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60) as client:
        yield Beamline(client, app, store, root)
    await app.state.service.regions.close()


def random(dtype: str, *shape: int) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(0, 1e3, shape).astype(kind)
    ends = np.iinfo(kind)
    return RNG.integers(max(ends.min, -(2**40)), min(ends.max, 2**40), shape, dtype=kind, endpoint=True)


async def test_maps_of_rectangles_equal_numpy_for_every_kind_of_frame(beamline: Beamline) -> None:
    for dtype in ("u1", "u2", "u4", "i2", "f4"):
        frames = random(dtype, POINTS, HEIGHT, WIDTH)
        await beamline.begin(dtype, frames, chunks=(1, HEIGHT, WIDTH), compression="gzip")
        await beamline.measure(1, POINTS)
        body = await beamline.maps(ROI, "0,6,0,8", "a:b:0,1,0,1")
        wanted = {"spot": np.s_[:, 1:5, 2:7], "0,6,0,8": np.s_[:], "a:b": np.s_[:, 0:1, 0:1]}
        assert [*body["channels"]] == ["red", "total", *wanted]
        for name, part in wanted.items():
            sums = frames[part].sum(axis=(1, 2), dtype=np.float64 if dtype == "f4" else np.int64)
            np.testing.assert_allclose(grid(body, name), expected(sums), rtol=1e-12 if dtype == "f4" else 0)
        bounds = [[1, 5, 2, 7], [0, 6, 0, 8], [0, 1, 0, 1]]
        about = {"read": POINTS, "approximate": 0, "measured": POINTS, "complete": True, "trouble": ""}
        told = [{"bounds": one, **about} for one in bounds]
        assert [*body["regions"].values()] == told
    colors = random("u1", POINTS, HEIGHT, WIDTH, 3)
    await beamline.begin("colors", colors, point_shape=(1, HEIGHT, WIDTH, 3))
    await beamline.measure(1, POINTS)
    np.testing.assert_array_equal(
        grid(await beamline.maps(ROI), "spot"), expected(colors[:, 1:5, 2:7].sum(axis=(1, 2, 3), dtype=np.int64))
    )
    several = random("u2", 3 * POINTS, HEIGHT, WIDTH)
    await beamline.begin("several", several, point_shape=(3, HEIGHT, WIDTH))
    await beamline.measure(1, POINTS)
    sums = several[:, 1:5, 2:7].sum(axis=(1, 2), dtype=np.int64).reshape(POINTS, 3).sum(axis=1)
    np.testing.assert_array_equal(grid(await beamline.maps(ROI), "spot"), expected(sums))
    wide = np.full((POINTS, HEIGHT, WIDTH), 2**63, np.uint64)
    await beamline.begin("wide", wide)
    await beamline.measure(1, POINTS)
    np.testing.assert_array_equal(grid(await beamline.maps(ROI), "spot"), expected(np.full(POINTS, 20 * 2.0**63)))


async def test_only_new_frames_are_read_while_the_run_grows(beamline: Beamline) -> None:
    frames = random("u2", POINTS + 1, HEIGHT, WIDTH)
    await beamline.begin("grows", frames)
    await beamline.measure(1, 5)
    sums = frames[:, 1:5, 2:7].sum(axis=(1, 2), dtype=np.int64)
    first = await beamline.get(ROI)
    np.testing.assert_array_equal(grid(first.json(), "spot"), expected(sums, points=5))
    again = await beamline.get(ROI, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, beamline.frames_read) == (304, 5)
    await beamline.measure(6, 9)
    grown = await beamline.get(ROI, headers={"If-None-Match": first.headers["ETag"]})
    assert (grown.status_code, beamline.frames_read) == (200, 9)
    np.testing.assert_array_equal(grid(grown.json(), "spot"), expected(sums, points=9))
    await beamline.maps(ROI, "other:0,1,0,1")
    assert beamline.frames_read == 18
    await beamline.measure(3, 3, row=12)  # the third point was taken again
    sums[2] = sums[12]
    np.testing.assert_array_equal(grid(await beamline.maps(ROI), "spot"), expected(sums, points=9))
    assert beamline.frames_read == 19


async def test_what_is_not_read_in_time_is_blank_and_read_by_the_next_request(
    beamline: Beamline, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = random("u2", POINTS, HEIGHT, WIDTH)
    await beamline.begin("slow", frames)
    await beamline.measure(1, POINTS)
    sums = frames[:, 1:5, 2:7].sum(axis=(1, 2), dtype=np.int64)
    regions = beamline.app.state.service.regions
    monkeypatch.setattr(region_maps, "PORTION_S", 0.0)  # a point at a time
    read = [await regions.read(beamline.run, beamline.run.main, rois_from_text([ROI]), limit_s=0.0) for _ in range(2)]
    assert read == ["", ""]
    more = regions.maps(beamline.run, beamline.run.main, rois_from_text([ROI]))
    assert more.about["spot"] == {
        "bounds": [1, 5, 2, 7], "read": 2, "approximate": 0, "measured": POINTS, "complete": False, "trouble": "",
    }  # fmt: skip
    np.testing.assert_array_equal(more.maps.grids[0], expected(sums, points=2))
    bodies = await asyncio.gather(*(beamline.maps(ROI) for _ in range(4)))
    assert all(body["regions"]["spot"]["complete"] for body in bodies)
    assert beamline.frames_read == POINTS  # no frame was read twice for simultaneous requests


async def test_sums_that_were_asked_for_longest_ago_are_dropped(beamline: Beamline) -> None:
    await beamline.begin("many", random("u1", POINTS, HEIGHT, WIDTH))
    await beamline.measure(1, POINTS)
    regions = beamline.app.state.service.regions
    regions._bytes_kept = 2 * 16 * 1024
    for number in (0, 1, 2, 2, 0):
        await beamline.maps(f"{number},{number + 1},0,1")
    assert beamline.frames_read == 4 * POINTS
    assert len(regions._sums) == 2


REFUSED: list[tuple[list[str], str]] = [
    (["0,7,0,8"], "reaches beyond the frame, which has 6 rows and 8 columns"),
    (["0,6,0,9"], "reaches beyond the frame"),
    (["2,2,0,8"], "holds no pixel"),
    (["5,2,0,8"], "holds no pixel"),
    (["0,1,0"], "four whole numbers y0,y1,x0,x1 are needed"),
    (["0,1,0,8,9"], "four whole numbers"),
    (["-1,2,0,8"], "four whole numbers"),
    (["0,1.5,0,8"], "four whole numbers"),
    (["nan,1,0,8"], "four whole numbers"),
    (["0,99999999,0,8"], "four whole numbers"),
    (["٠,1,0,8"], "four whole numbers"),
    (["spot"], "four whole numbers"),
    ([""], "four whole numbers"),
    ([":0,1,0,8"], "a name needs 1 to 40 printable characters"),
    (["a\x07b:0,1,0,8"], "a name needs"),
    ([f"{'x' * 41}:0,1,0,8"], "a name needs"),
    (["total:0,1,0,8"], "two channels cannot have the name 'total'"),
    (["a:0,1,0,8", "a:0,2,0,8"], "two channels cannot have the name 'a'"),
    ([f"{number},6,0,8" for number in (0, 1, 2, 3, 4, 0, 1, 2, 3)], "9 regions were requested; at most 8 can be"),
]


async def test_what_is_no_region_is_refused_with_one_sentence(beamline: Beamline) -> None:
    await beamline.begin("bad", random("u1", POINTS, HEIGHT, WIDTH))
    await beamline.measure(1, 2)
    for rois, reason in REFUSED:
        answer = await beamline.get(*rois)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "roi"), rois
        assert reason in answer.json()["error"]["message"]
    assert beamline.frames_read == 0


async def test_what_has_no_frames_is_refused_with_the_reason(beamline: Beamline) -> None:
    await beamline.begin("lost", random("u1", POINTS, HEIGHT, WIDTH))
    refusals: list[tuple[dict[str, Any], int, str, str]] = [
        ({"source": "scalars"}, 422, "frame", "regions need a camera"),
        ({"source": "nothing"}, 404, "run_not_found", "has no 'nothing'"),
    ]
    for params, status, code, reason in refusals:
        answer = await beamline.get(ROI, **params)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert reason in answer.json()["error"]["message"]
    body = await beamline.maps(ROI)
    assert body["regions"]["spot"] == {
        "bounds": [1, 5, 2, 7], "read": 0, "approximate": 0, "measured": 0, "complete": True, "trouble": "",
    }  # fmt: skip
    assert np.isnan(grid(body, "spot")).all()
    await beamline.measure(1, 4)
    (beamline.root / "lost.h5").unlink()
    answer = await beamline.get(ROI)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "file_not_ready")


async def test_frames_of_a_replaced_file_are_not_mixed_with_those_before(beamline: Beamline) -> None:
    frames = random("u2", POINTS, HEIGHT, WIDTH)
    await beamline.begin("replaced", frames)
    await beamline.measure(1, 4)
    await beamline.maps(ROI)
    other = beamline.root / "other.h5"
    with h5py.File(other, "w") as file:
        file["data"] = frames + np.uint16(1)
    shutil.move(other, beamline.root / "replaced.h5")
    await beamline.measure(5, 8)
    body = await beamline.maps(ROI)
    about = body["regions"]["spot"]
    assert (about["read"], about["measured"], about["complete"]) == (4, 8, False)
    assert "replaced" in about["trouble"]
    answer = await beamline.get("0,1,0,1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, FileReplaced.code)


async def test_every_format_has_the_regions(beamline: Beamline) -> None:
    frames = random("u2", POINTS, HEIGHT, WIDTH)
    await beamline.begin("formats", frames)
    await beamline.measure(1, POINTS)
    sums = frames[:, 1:5, 2:7].sum(axis=(1, 2), dtype=np.int64)
    table = (await beamline.get(ROI, format="csv")).text.splitlines()
    assert table[0].endswith("red,total,spot")
    assert [float(line.split(",")[-1]) for line in table[1:]] == expected(sums).ravel().tolist()
    archive = beamline.root / "maps.npz"
    archive.write_bytes((await beamline.get(ROI, format="npz")).content)
    np.testing.assert_array_equal(np.load(archive)["spot"], expected(sums))
    nexus = beamline.root / "maps.nxs"
    nexus.write_bytes((await beamline.get(ROI, format="nexus")).content)
    found: list[np.ndarray] = []

    def look(name: str, node: Any) -> None:
        if name.endswith("/spot"):
            found.append(np.asarray(node))

    with h5py.File(nexus) as file:
        file.visititems(look)
    np.testing.assert_array_equal(found[0], expected(sums))


def test_a_region_as_text_is_read_as_it_was_written() -> None:
    for text in ("spot:1,5,2,7", "0,6,0,8", "a:b:0,1,0,1"):
        assert [text_of(roi) for roi in rois_from_text([text])] == [text]
    with pytest.raises(RoiError):
        rois_from_text(["0,1,0,1", "0,1,0,1"])


async def test_blocks_answer_at_once_and_say_what_is_not_exact(
    beamline: Beamline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = await beamline.client.get("/api/runs/none/maps", params={"roi": ROI, "approximate": True})
    assert answer.status_code == 404
    frames = np.random.default_rng(7).integers(0, 60_000, (POINTS, HEIGHT, WIDTH)).astype("u2")
    await beamline.begin("blocks", frames)
    await beamline.measure(1, 8)
    assert (await beamline.get(ROI, approximate=True)).json()["error"]["code"] == "frame"
    settings = load(data_root=beamline.root, blocks_dir=tmp_path / "blocks", blocks_max_gb=1)
    regions = beamline.app.state.service.regions
    regions.blocks = BlockAccess.of(settings)
    cut, whole = ROI, f"whole:0,{HEIGHT},0,{WIDTH}"

    async def until_made(points: int) -> dict[str, Any]:
        async with patiently(10):
            while True:
                body = (await beamline.get(cut, whole, approximate=True)).json()
                if body["regions"]["spot"]["approximate"] == points:
                    return body
                await asyncio.sleep(0.05)

    body = await until_made(8)
    assert beamline.frames_read == 0
    assert body["regions"]["whole"] | {"bounds": []} == {
        "bounds": [], "read": 8, "approximate": 0, "measured": 8, "complete": True, "trouble": "",
    }  # fmt: skip
    np.testing.assert_array_equal(grid(body, "whole"), expected(frames.sum(axis=(1, 2)), points=8))
    share = frames.sum(axis=(1, 2)) * (4 * 5) / (HEIGHT * WIDTH)
    np.testing.assert_array_equal(grid(body, "spot"), expected(np.rint(share), points=8))
    await beamline.measure(9, POINTS)
    await until_made(POINTS)
    exact = await beamline.maps(whole)  # whole blocks need no frames
    assert exact["regions"]["whole"]["complete"]
    assert beamline.frames_read == 0
    exact = await beamline.maps(cut)
    np.testing.assert_array_equal(grid(exact, "spot"), expected(frames[:, 1:5, 2:7].sum(axis=(1, 2))))
    assert exact["regions"]["spot"]["approximate"] == 0
    assert (await beamline.get(cut, approximate=True)).json()["regions"]["spot"]["complete"]
