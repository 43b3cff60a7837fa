"""The API's routes over a store in memory: what they answer, how they fail, and what they never do twice."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import h5py
import httpx
import numpy as np
import orjson
import pytest
from fastapi import FastAPI
from tests.support import scans
from tests.support.beamline import FakeClock, FakeStore, Scan

from snakemap.api import create_app
from snakemap.core.documents import Document, Entry
from snakemap.core.run import Run
from snakemap.errors import RunNotFound, StoreUnavailable
from snakemap.live import run_cache
from snakemap.render.export import MapFormat, written
from snakemap.settings import load
from snakemap.store.store import Store

OPENAPI = Path(__file__).parents[2] / "data" / "openapi.json"


class ApiStore(FakeStore):
    """A store in memory that counts what is read of it.

    Attributes:
        read_entries: documents that were handed out.
        closed: whether it was let go.
    """

    address = "memory"

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.read_entries = 0
        self.closed = False

    async def run_entries(
        self, uid: str, *, after: str = "0", until: str = "", count: int = 1000
    ) -> AsyncIterator[list[Entry]]:
        async for entries in super().run_entries(uid, after=after, until=until, count=count):
            self.read_entries += len(entries)
            yield entries

    def script(self, text: str, *, changes: bool = True) -> Any:
        async def call(keys: Any, *arguments: Any) -> Any:
            raise StoreUnavailable("no scripts in memory")

        return call

    async def summary(self, uid: str) -> dict[str, Any]:
        self._check()
        if self.runs.get(uid) is None:
            raise RunNotFound(f"no run {uid}")
        return self.runs[uid] or {}

    async def reports(self) -> dict[str, dict[str, Any]]:
        self._check()
        return self.reported

    async def command(self, *_words: str | int) -> None:
        """Answers nothing, like a Redis that does not let anybody ask."""
        self._check()

    async def close(self) -> None:
        self.closed = True


def application(store: ApiStore) -> FastAPI:
    return create_app(load(), cast("Store", store))


@pytest.fixture
def store() -> ApiStore:
    return ApiStore()


@pytest.fixture
async def client(store: ApiStore) -> AsyncIterator[httpx.AsyncClient]:
    app = application(store)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


async def put(store: ApiStore, scan: Scan, *more: Document, points: int = 12) -> None:
    """Puts a scan into the store, with the summary that the worker keeps of it."""
    await store.append([*scans.documents(scan, points=points), *more])
    await store.save_summary(scan.uid, await summary(store, scan.uid))


async def summary(store: ApiStore, uid: str) -> dict[str, Any]:
    run: Run | None = None
    for entry in store.entries:
        if entry.run == uid:
            run = run or Run(entry.doc)
            run.apply(entry.document, cursor=entry.cursor)
    assert run is not None
    return run.summary()


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code, of an error that has the one shape."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    return answer.status_code, body["error"]["code"]


async def test_runs_are_listed_newest_first(client: httpx.AsyncClient, store: ApiStore) -> None:
    for uid in ("old", "new"):
        await put(store, Scan(uid))
    listed = (await client.get("/api/runs")).json()
    assert [run["uid"] for run in listed] == ["new", "old"]
    wanted = ("uid", "plan_name", "status", "points", "expected", "started", "ended", "file")
    assert {name: listed[1][name] for name in wanted} == {
        "uid": "old",
        "plan_name": "scan",
        "status": "running",
        "points": 12,
        "expected": 12,
        "started": 1_795_000_000.0,
        "ended": None,
        "file": "/data/old.h5",
    }


async def test_one_run_is_told_by_its_uid_and_as_the_latest(client: httpx.AsyncClient, store: ApiStore) -> None:
    for uid in ("old", "new"):
        await put(store, Scan(uid))
    assert (await client.get("/api/runs/old")).json()["uid"] == "old"
    assert (await client.get("/api/runs/latest")).json()["uid"] == "new"


async def test_maps_follow_the_snake_and_are_null_where_the_stage_has_not_been(
    client: httpx.AsyncClient, store: ApiStore
) -> None:
    extents = {"extents": [[0, 2], [10, 13]], "snaking": [False, True], "shape": [3, 4]}
    dimensions = {"hints": {"dimensions": [[["y"], "primary"], [["x"], "primary"]]}}
    await put(store, Scan("run", start_extra={**extents, **dimensions}), points=6)
    answer = await client.get("/api/runs/run/maps")
    maps = answer.json()
    assert maps["shape"] == [3, 4]
    assert maps["channels"] == {
        "red": [[1, 2, 3, 4], [None, None, 6, 5], [None] * 4],
        "green": [[1001, 1002, 1003, 1004], [None, None, 1006, 1005], [None] * 4],
        "blue": [[2001, 2002, 2003, 2004], [None, None, 2006, 2005], [None] * 4],
        "total": [[3001, 3002, 3003, 3004], [None, None, 3006, 3005], [None] * 4],
    }
    assert maps["fast_axis"] == maps["axes"]["fast"]["name"] == "x"
    assert maps["axes"]["fast"]["coordinates"] == [10, 11, 12, 13]
    assert maps["axes"]["slow"] == {"name": "y", "unit": "", "coordinates": [0, 1, 2], "known": True}
    assert maps["extents"] == [[-0.5, 2.5], [9.5, 13.5]]
    assert maps["cursor"] == store.entries[-1].cursor
    assert answer.headers["etag"] == f'"{store.entries[-1].cursor}"'


async def test_maps_as_arrays_are_those_of_the_json(client: httpx.AsyncClient, store: ApiStore) -> None:
    await put(store, Scan("run"), points=6)
    told = (await client.get("/api/runs/latest/maps")).json()
    answer = await client.get("/api/runs/latest/maps?format=npz")
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as arrays:
        assert set(arrays) == {"red", "green", "blue", "total", "slow", "fast", "cursor", "about"}
        for channel, grid in told["channels"].items():
            np.testing.assert_array_equal(arrays[channel], np.array(grid, dtype=np.float64))
        assert str(arrays["cursor"]) == told["cursor"]


async def test_channels_of_strange_names_stay_apart_within_the_archive(
    client: httpx.AsyncClient, store: ApiStore
) -> None:
    rois: dict[str, Any] = dict.fromkeys(("file", "slow", "../../etc", "a/b", "a_b", '"', ""), (0, 2, 0, 4))
    await store.append(scans.documents(Scan("run"), points=1, rois=rois))
    answer = await client.get("/api/runs/run/maps?format=npz")
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as arrays:
        firsts = [float(arrays[name][0, 0]) for name in arrays if arrays[name].ndim == 2]
    assert firsts == [1 + 1000 * place for place in range(8)]
    assert list((await client.get("/api/runs/run/maps")).json()["channels"]) == [*rois, "total"]


async def test_maps_as_a_table_are_those_of_the_json(client: httpx.AsyncClient, store: ApiStore) -> None:
    await put(store, Scan("run"), points=6)
    maps = (await client.get("/api/runs/latest/maps")).json()
    answer = await client.get("/api/runs/latest/maps?format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    heads, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    slow, fast = maps["axes"]["slow"], maps["axes"]["fast"]
    axes = [f"{axis['name']} ({axis['unit']})" if axis["unit"] else axis["name"] for axis in (slow, fast)]
    assert heads == ["row", "column", *axes, "red", "green", "blue", "total"]
    assert len(rows) == 12
    for row, column, y, x, *values in rows:
        assert float(y) == slow["coordinates"][int(row)]
        assert float(x) == fast["coordinates"][int(column)]
        expected = [grid[int(row)][int(column)] for grid in maps["channels"].values()]
        assert values == ["" if value is None else str(int(value)) for value in expected]


def h5_file(content: bytes) -> Any:
    """An HDF5 file in memory, whose members a type checker does not know."""
    return h5py.File(io.BytesIO(content))


async def test_maps_as_a_nexus_file_are_those_of_the_json(client: httpx.AsyncClient, store: ApiStore) -> None:
    await put(store, Scan("run"), points=6)
    maps = (await client.get("/api/runs/latest/maps")).json()
    answer = await client.get("/api/runs/latest/maps?format=nexus")
    assert answer.headers["content-type"] == "application/x-hdf5"
    with h5_file(answer.content) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata"
        signals = [*data.attrs["auxiliary_signals"], data.attrs["signal"]]
        assert signals == ["red", "green", "blue", "total"]
        for channel in signals:
            np.testing.assert_array_equal(data[channel][()], np.array(maps["channels"][channel], dtype=np.float64))
        for name, side in zip(data.attrs["axes"], ("slow", "fast"), strict=True):
            assert data[name].attrs["long_name"] == maps["axes"][side]["name"]
            assert data[name][()].tolist() == maps["axes"][side]["coordinates"]
            assert data[name].attrs.get("units", "") == maps["axes"][side]["unit"]
        assert entry["entry_identifier"][()].decode() == "run"


@pytest.mark.parametrize(
    "name", ["=1+1", "@sum", "+1", "-1", 'a"b', "a,b", "a\nb", "../../etc", "a/b", "row", "maps", "."]
)
async def test_channels_of_strange_names_are_text_in_tables_and_one_member_in_files(
    client: httpx.AsyncClient, store: ApiStore, name: str
) -> None:
    await store.append(scans.documents(Scan("run"), points=1, rois={name: (0, 2, 0, 4), f"{name} ": (0, 2, 0, 4)}))
    (heads, first, *_) = csv.reader(io.StringIO((await client.get("/api/runs/run/maps?format=csv")).text, newline=""))
    assert not heads[4].startswith(("=", "+", "-", "@"))
    assert heads[4].lstrip("'") == name.replace("\n", " ")
    assert first[4:] == ["1", "1001", "2001"]
    content = (await client.get("/api/runs/run/maps?format=nexus")).content
    with h5_file(content) as file:
        data = file["entry/maps"]
        firsts = {data[member].attrs["long_name"]: data[member][0, 0] for member in data if data[member].ndim == 2}
    assert firsts == {name: 1, f"{name} ": 1001, "total": 2001}


async def test_maps_that_a_client_has_already_are_not_sent_again(client: httpx.AsyncClient, store: ApiStore) -> None:
    await put(store, Scan("run"), points=6)
    etag = (await client.get("/api/runs/run/maps")).headers["etag"]
    for known in (etag, f"W/{etag}"):
        answer = await client.get("/api/runs/run/maps", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    await store.append([scans.stop(Scan("run"))])
    answer = await client.get("/api/runs/run/maps", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.json()["cursor"]) == (200, store.entries[-1].cursor)


async def test_a_run_that_grows_is_folded_on_and_never_anew(client: httpx.AsyncClient, store: ApiStore) -> None:
    for size, document in enumerate(scans.documents(Scan("run"), points=12), 1):
        await store.append([document])
        assert (await client.get("/api/runs/run/maps")).status_code == 200
        assert store.read_entries == size
    maps = (await client.get("/api/runs/run/maps")).json()
    assert maps["channels"]["red"] == [[1, 2, 3, 4], [8, 7, 6, 5], [9, 10, 11, 12]]


async def test_maps_are_written_once_for_all_who_ask(
    client: httpx.AsyncClient, store: ApiStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms: list[MapFormat] = []

    def counted(run: Run, form: MapFormat, *, source: str) -> bytes:
        forms.append(form)
        return written(run, form, source=source)

    monkeypatch.setattr(run_cache, "write_maps", counted)
    await put(store, Scan("run"))
    for form in ("json", "npz", "json", "npz"):
        await client.get(f"/api/runs/run/maps?format={form}")
    assert forms == [MapFormat.JSON, MapFormat.NPZ]


async def test_only_the_runs_that_were_asked_for_lately_are_kept(
    client: httpx.AsyncClient, store: ApiStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cache, "RUNS_KEPT", 2)
    for uid in "abc":
        await put(store, Scan(uid))
    size = len(store.entries) // 3
    for uid in "abc":
        await client.get(f"/api/runs/{uid}/maps")
    await client.get("/api/runs/c/maps")
    assert store.read_entries == 3 * size
    await client.get("/api/runs/a/maps")
    assert store.read_entries == 4 * size


async def test_maps_of_a_run_that_has_expired_are_not_told_from_memory(
    client: httpx.AsyncClient, store: ApiStore
) -> None:
    await put(store, Scan("run"))
    assert (await client.get("/api/runs/run/maps")).status_code == 200
    store.flush()
    assert error_of(await client.get("/api/runs/run/maps")) == (404, "run_not_found")


async def test_a_document_that_cannot_be_used_spoils_nothing_else(client: httpx.AsyncClient, store: ApiStore) -> None:
    *before, last = scans.documents(Scan("run"), points=12)
    spoilt = Document("event_page", {**last.doc, "data": {"red": [1, 2, 3]}}, run="run")
    await store.append([*before, spoilt, last])
    maps = (await client.get("/api/runs/run/maps")).json()
    assert maps["channels"]["red"] == [[1, 2, 3, 4], [8, 7, 6, 5], [9, 10, 11, 12]]


async def test_documents_are_told_verbatim_one_a_line(client: httpx.AsyncClient, store: ApiStore) -> None:
    await put(store, Scan("other"))
    await put(store, Scan("run"))
    answer = await client.get("/api/runs/run/documents")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [orjson.loads(line) for line in answer.text.splitlines()] == [
        {"cursor": entry.cursor, "name": entry.name, "run": "run", "doc": entry.doc}
        for entry in store.entries
        if entry.run == "run"
    ]


async def test_documents_are_there_before_the_worker_has_said_a_word_of_the_run(
    client: httpx.AsyncClient, store: ApiStore
) -> None:
    await store.append(scans.documents(Scan("run"), points=0))
    assert len((await client.get("/api/runs/run/documents")).text.splitlines()) == 4


@pytest.mark.parametrize("path", ["", "/maps", "/maps?format=npz", "/documents"])
@pytest.mark.parametrize("uid", ["nobody", "latest"])
async def test_a_run_that_is_not_there_is_not_found(client: httpx.AsyncClient, uid: str, path: str) -> None:
    assert error_of(await client.get(f"/api/runs/{uid}{path}")) == (404, "run_not_found")


@pytest.mark.parametrize("path", ["", "/run", "/latest", "/run/maps", "/run/documents"])
async def test_a_store_that_is_away_is_told_as_such(client: httpx.AsyncClient, store: ApiStore, path: str) -> None:
    await put(store, Scan("run"))
    store.down = True
    assert error_of(await client.get(f"/api/runs{path}")) == (503, "store_unavailable")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/../etc/passwd", 404, "not_found"),
        ("POST", "/api/runs", 405, "method_not_allowed"),
        ("GET", "/api/runs/run/maps?format=gif", 422, "invalid_request"),
    ],
)
async def test_every_refusal_has_the_one_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    assert error_of(await client.request(method, path)) == (status, code)


async def test_a_method_that_is_not_allowed_is_told_those_that_are(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/api/runs")).headers["allow"] == "GET"


async def test_what_nobody_foresaw_is_an_error_of_the_same_shape_that_tells_no_secrets(
    client: httpx.AsyncClient, store: ApiStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*, count: int) -> None:
        raise ZeroDivisionError("the password is swordfish")

    monkeypatch.setattr(store, "summaries", fail)
    answer = await client.get("/api/runs")
    assert error_of(answer) == (500, "error")
    assert "swordfish" not in answer.text
    assert "GET /api/runs failed: ZeroDivisionError" in caplog.text


async def test_no_other_web_page_is_let_in(client: httpx.AsyncClient) -> None:
    for method in ("GET", "OPTIONS"):
        asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
        answer = await client.request(method, "/api/runs", headers=asking)
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_process_answers_even_without_its_store(client: httpx.AsyncClient, store: ApiStore) -> None:
    store.down = True
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("reports", "checks"),
    [
        ({"ingest": {"broker": "none"}}, {"redis": "ok", "worker": "ok"}),
        ({"ingest": {"broker": "connected"}}, {"redis": "ok", "worker": "ok", "broker": "ok"}),
    ],
)
async def test_it_is_ready_when_data_can_come_through(
    client: httpx.AsyncClient, store: ApiStore, reports: dict[str, Any], checks: dict[str, str]
) -> None:
    store.reported = reports
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "checks": checks})


@pytest.mark.parametrize(
    ("reports", "down", "wrong"),
    [
        ({}, False, "worker"),
        ({"ingest": {"broker": "lost: the broker is away"}}, False, "broker"),
        ({"ingest": {"broker": "connecting"}}, False, "broker"),
        ({"ingest": {"broker": "connected"}}, True, "redis"),
    ],
)
async def test_it_is_not_ready_and_says_which_part_is_missing(
    client: httpx.AsyncClient, store: ApiStore, reports: dict[str, Any], down: bool, wrong: str
) -> None:
    store.reported, store.down = reports, down
    answer = await client.get("/readyz")
    body = answer.json()
    assert (answer.status_code, body["ready"], body["error"]["code"]) == (503, False, "not_ready")
    assert [part for part, said in body["checks"].items() if said != "ok"] == [wrong]
    assert body["error"]["message"] == f"{wrong}: {body['checks'][wrong]}"


async def test_the_store_is_let_go_at_the_end(store: ApiStore) -> None:
    app = application(store)
    async with app.router.lifespan_context(app):
        assert not store.closed
    assert store.closed


def test_the_schema_is_the_one_we_have_promised() -> None:
    """What others rely on changes only on purpose. To accept a change, in the top directory of the repository::

    python -c "from tests.unit.api.test_app import promise; promise()"
    """
    assert json.loads(OPENAPI.read_text()) == schema()


def schema() -> dict[str, Any]:
    return application(ApiStore()).openapi()


def promise() -> None:
    """Writes the schema that is promised from now on."""
    OPENAPI.write_text(json.dumps(schema(), indent=2) + "\n")


def test_maps_as_large_as_they_may_be_are_written_in_pieces_that_fit_together() -> None:
    run = Run({"uid": "run", "time": 0.0, "shape": [300, 170]})
    seq_nums = np.arange(1, 300 * 170 + 1, 3)
    run.maps.assign(seq_nums, dict.fromkeys(run.maps.channels, seq_nums / 7))
    told = orjson.loads(written(run, MapFormat.JSON))
    for number, channel in enumerate(run.maps.channels):
        np.testing.assert_array_equal(np.array(told["channels"][channel], dtype=np.float64), run.maps.grids[number])


async def test_directories_are_listed_and_nothing_outside(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "cm1-1"
    (root / "sub").mkdir(parents=True)
    (root / "scan.dat").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "cm1-10").mkdir()
    (root / "out").symlink_to(tmp_path / "cm1-10")
    monkeypatch.setenv("SNAKEMAP_DATA_ROOT", str(root))
    transport = httpx.ASGITransport(application(ApiStore()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as here:
        body = (await here.get("/api/files", params={"order": "name"})).json()
        found = [(entry["name"], entry["kind"]) for entry in body["entries"]]
        assert found == [("sub", "directory"), ("out", "refused"), ("scan.dat", "hdf5")]
        assert (body["path"], body["total"], body["found"], body["more"]) == ("", 3, 3, False)
        assert (await here.get("/api/files", params={"path": "sub"})).json()["entries"] == []
        assert len((await here.get("/api/files", params={"search": "scan*", "count": 1})).json()["entries"]) == 1
        for path in ("..", "../cm1-10", "out", "/etc", "scan.dat", "a\0b"):
            assert error_of(await here.get("/api/files", params={"path": path})) == (403, "file_refused")
        assert error_of(await here.get("/api/files", params={"path": "nowhere"})) == (404, "file_missing")
        for wrong in ({"order": "oldest"}, {"count": 0}, {"count": 501}, {"offset": -1}, {"search": "x" * 201}):
            assert error_of(await here.get("/api/files", params=wrong)) == (422, "invalid_request")


async def test_latest_is_a_run_that_was_taken_and_not_a_file_that_was_opened(
    client: httpx.AsyncClient, store: ApiStore
) -> None:
    await put(store, Scan(uid="taken"))
    await put(store, Scan(uid="file"))
    await store.save_summary("file", {**await summary(store, "file"), "opened": True})
    assert (await client.get("/api/runs/latest")).json()["uid"] == "taken"
