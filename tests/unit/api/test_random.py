"""Random data of the API: the same for the same seed, like the real thing, and bounded."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator

import event_model
import httpx
import numpy as np
import pytest
from PIL import Image
from tests.unit.api.test_app import ApiStore, error_of
from tests.unit.api.test_limits import application, client_of

from snakemap.api.routes import random
from snakemap.core.cursor import cursor_numbers
from snakemap.core.documents import Document
from snakemap.core.run import Run
from snakemap.errors import Busy
from snakemap.render.export import MapFormat, written
from snakemap.synthetic import synthetic_scan
from snakemap.synthetic.sample import Sample
from snakemap.synthetic.synthetic_scan import SyntheticScan, SyntheticScans

START = 1_795_000_000.0


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(application(ApiStore())) as client:
        yield client


async def test_a_frame_is_the_same_in_every_form(client: httpx.AsyncClient) -> None:
    path = "/api/random/frame?shape=40x60&seed=3&dtype=uint16&format="
    told = (await client.get(f"{path}json")).json()
    array = np.load(io.BytesIO((await client.get(f"{path}npy")).content), allow_pickle=False)
    picture = await client.get(f"{path}png")
    assert (told["shape"], told["dtype"], array.dtype, array.shape) == ([40, 60], "uint16", np.uint16, (40, 60))
    np.testing.assert_array_equal(array, told["values"])
    np.testing.assert_array_equal(array, np.array(Image.open(io.BytesIO(picture.content))))
    assert picture.headers["content-type"] == "image/png"
    assert array.max() > 1000


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
async def test_the_same_seed_gives_the_same_frame_and_another_another(client: httpx.AsyncClient, dtype: str) -> None:
    path = f"/api/random/frame?shape=30x20&dtype={dtype}&format=npy"
    first, again, other, later = [
        (await client.get(f"{path}&{more}")).content for more in ("seed=1", "seed=1", "seed=2", "seed=1&point=3")
    ]
    assert first == again
    assert len({first, other, later}) == 3
    assert np.load(io.BytesIO(first)).dtype == dtype


async def test_a_frame_that_a_client_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    path = "/api/random/frame?shape=30x20"
    known = {"If-None-Match": (await client.get(path)).headers["etag"]}
    assert (await client.get(path, headers=known)).status_code == 304
    assert (await client.get(f"{path}&seed=1", headers=known)).status_code == 200


async def test_a_map_is_visited_along_the_snake(client: httpx.AsyncClient) -> None:
    whole = (await client.get("/api/random/map?shape=3x4&seed=5")).json()
    part = (await client.get("/api/random/map?shape=3x4&seed=5&points=6")).json()
    assert (whole["shape"], part["cursor"]) == ([3, 4], "6-0")
    for channel, grid in whole["channels"].items():
        assert not [row for row in grid if None in row]
        (a, b, c, d), (_, _, e, f), _ = grid
        assert part["channels"][channel] == [[a, b, c, d], [None, None, e, f], [None] * 4]
    total, parts = whole["channels"]["total"], [whole["channels"][name] for name in ("red", "green", "blue")]
    assert {round(total[0][i] - sum(part[0][i] for part in parts)) for i in range(4)} == {3_500_000}
    other = (await client.get("/api/random/map?shape=3x4&seed=6")).json()
    assert other["channels"] != whole["channels"]
    assert (await client.get("/api/random/map?shape=3x4&points=0")).json()["channels"]["red"] == [[None] * 4] * 3


async def test_a_map_grows_with_time(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [START]
    monkeypatch.setattr(random.time, "time", lambda: now[0])
    path = f"/api/random/map?shape=10x10&rate_hz=2&since={START}"
    visited = []
    for later in (-5.0, 0.0, 0.4, 0.5, 10.0, 49.9, 50.0, 1e6):
        now[0] = START + later
        answer = await client.get(path)
        red = answer.json()["channels"]["red"]
        visited.append(sum(value is not None for row in red for value in row))
        assert answer.headers["etag"].endswith(f'"{visited[-1]}-0"')
    assert visited == [0, 0, 0, 1, 20, 99, 100, 100]
    assert (await client.get(f"{path}&points=7")).json()["cursor"] == "7-0"


async def test_without_since_it_grows_from_when_the_server_began() -> None:
    app = application(ApiStore())
    app.state.service.started -= 30.0
    async with client_of(app) as client:
        assert (await client.get("/api/random/map?shape=50x50&rate_hz=1")).json()["cursor"] in ("30-0", "31-0")


@pytest.mark.parametrize(
    "query",
    [
        "frame?shape=3x4", "frame?shape=2049x4", "frame?shape=1216", "frame?shape=", "frame?seed=-1",
        "frame?seed=4294967296", "frame?dtype=complex64", "frame?format=gif", "frame?format=png&dtype=float32",
        "frame?point=3600", "map?shape=0x4", "map?shape=501x4", "map?shape=4x4x4", "map?points=-1",
        "map?points=250001", "map?rate_hz=0", "map?rate_hz=1001", "map?rate_hz=nan", "map?since=-1",
        "map?since=inf", "map?format=gif", "map?shape=%D9%A3x4",
    ],
)  # fmt: skip
async def test_what_is_out_of_bounds_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert error_of(await client.get(f"/api/random/{query}")) == (422, "invalid_request")


def test_sides_are_bounded_as_they_are_told() -> None:
    for side, first, last in ((random.SIDE, 1, 500), (random.FRAME_SIDE, 4, 2048)):
        assert [n for n in range(3000) if re.fullmatch(side, str(n))] == list(range(first, last + 1))


async def test_the_documents_are_valid_and_fold_into_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = SyntheticScan((7, 9), 4)
    entries = [entry async for batch in scan.entries(1000.0) for entry in batch]
    for entry in entries:
        event_model.schema_validators[event_model.DocumentNames[entry.name]].validate(entry.doc)
    names = [entry.name for entry in entries]
    assert names[:4] == ["start", "descriptor", "stream_resource", "descriptor"]
    assert set(names[4:-1]) == {"stream_datum", "event_page"}
    assert names[-1] == "stop"
    assert sorted(entries, key=lambda entry: cursor_numbers(entry.cursor)) == entries
    run = Run(entries[0].doc)
    for entry in entries:
        run.apply(Document(entry.name, entry.doc, run=entry.run), cursor=entry.cursor)
    assert (run.status, run.points, run.expected, run.reason) == ("complete", 63, 63, "")
    run.cursor = "63-0"
    assert json.loads(written(run, MapFormat.JSON)) == json.loads(
        written(SyntheticScan((7, 9), 4).run(63), MapFormat.JSON)
    )


async def test_the_documents_come_at_their_pace_and_never_more_than_ten_pages_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, slept = [START], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(synthetic_scan.asyncio, "sleep", sleep)
    for rate_hz, pause_s in ((5.0, 0.2), (1000.0, 0.1)):
        slept.clear()
        batches = [batch async for batch in SyntheticScan((10, 10), 0).entries(rate_hz, clock=lambda: now[0])]
        assert slept == pytest.approx([pause_s] * len(slept))
        assert len(batches) == pytest.approx(3 + 100 / (rate_hz * pause_s), abs=2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (100, 100)])
def test_counts_do_not_depend_on_how_far_somebody_asked_before(shape: tuple[int, int]) -> None:
    points = shape[0] * shape[1]
    at_once, bit_by_bit = SyntheticScan(shape, 1), SyntheticScan(shape, 1)
    for stop in (points // 3, points // 2, points // 4, points):
        bit_by_bit.counts(stop)
    np.testing.assert_array_equal(at_once.counts(points), bit_by_bit.counts(points))


def test_brightness_of_many_points_is_that_of_each() -> None:
    sample = Sample(SyntheticScan((90, 100), 2).request)
    many = sample.brightnesses(4000, 8500)
    for point in (4000, 4095, 4096, 8191, 8192, 8499):
        np.testing.assert_array_equal(many[point - 4000], sample.brightness(point))
    assert sample.brightnesses(5, 5).shape == (0, 3)


async def test_few_scans_are_kept_and_few_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = SyntheticScans()
    first = kept.scan((3, 3), 0)
    assert kept.scan((3, 3), 0) is first
    for seed in range(1, synthetic_scan.SCANS_KEPT + 1):
        kept.scan((3, 3), seed)
    assert kept.scan((3, 3), 0) is not first
    assert await kept.draw(lambda: 7) == 7
    monkeypatch.setattr(synthetic_scan, "WAITING_MAX", 0)
    with pytest.raises(Busy):
        await kept.draw(lambda: 7)
