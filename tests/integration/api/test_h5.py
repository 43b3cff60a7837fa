"""The routes for H5Web: held against h5grove's own, and against files that lead out, crash, or are too much."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import httpx
import numpy as np
import psutil
import pytest
import pytest_asyncio
from fastapi import FastAPI
from h5grove import fastapi_utils
from tests.support.escapes import CANARY, ESCAPES, pictures, virtual, write
from tests.support.h5_corpus import GROUPS, make_corpus
from tests.support.patience import PATIENCE
from tests.support.served import serving, until
from tests.support.swmr_writer import DATASET, SHAPE, SwmrWriter, picture

from snakemap.api import create_app, large_response
from snakemap.api.routes.h5 import H5Service
from snakemap.settings import load
from snakemap.store.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = Path(__file__).parents[2] / "data" / "hostile"
ROUTES = ("meta", "data", "attr", "stats", "paths")
FORMS = ("json", "bin", "npy", "csv", "tiff")
NAMES = ("little_f8_2d", "virtual", "gzip", "compound", "of_dataset", "data", "soft", "round", "vlen_1d")
Asked = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "cm1-1"
    root.mkdir()
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ours(root: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Ours, for all tests: whatever a test does to it, the next one must find it in order."""
    async with h5_client(root, time_limit_s=3) as ours:
        yield ours


@asynccontextmanager
async def h5_client(root: Path, *, time_limit_s: float) -> AsyncIterator[httpx.AsyncClient]:
    settings = load(data_root=root, path_map=f"/writer={root}", api_requests_per_minute=1_000_000)
    app = create_app(settings, Store("unix:///nowhere"))
    app.state.h5 = H5Service(settings, time_limit_s=time_limit_s)
    async with client(app) as ours, app.router.lifespan_context(app):
        yield ours


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    as_they_are = {"Accept-Encoding": "identity"}
    return httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60, headers=as_they_are)


@pytest.fixture
def visit(root: Path) -> Path:
    directory = root / f"visit-{len(list(root.iterdir()))}"
    directory.mkdir()
    return directory


async def ask(ours: httpx.AsyncClient, route: str, file: Path | str, path: str, **query: Any) -> httpx.Response:
    return await ours.get(f"/api/h5/{route}/", params={"file": str(file), "path": path, **query})


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error: it has our shape, and h5grove's message beside it."""
    body = answer.json()
    assert set(body) == {"error", "message"}
    assert set(body["error"]) == {"code", "message"}
    assert body["message"] == body["error"]["message"]
    return answer.status_code, body["error"]["code"]


# h5grove's answers

DIFFERENCES = {
    "h5grove fails where a node is of the wrong kind": (ROUTES, 500, 422, "wrong_kind"),
    "h5grove fails where values cannot be written in that form": (("data",), 500, 422, "wrong_kind"),
    "h5grove fails where a selection does not fit": (("data", "stats"), 500, 422, "selection"),
    "h5grove fails where a link, an attribute or '.' leads nowhere": (ROUTES, 500, 404, "not_there"),
    "h5grove fails where links go round in circles": (ROUTES, 500, 422, "file_broken"),
    "h5grove sends addresses of its memory for strings, lists and references as bin": (
        ("data",), 200, 422, "wrong_kind",
    ),
    "we look at the format before the path": (("data",), 404, 422, "invalid_request"),
    "h5grove fails where anything fails, whatever the format": (("data",), 500, 422, "invalid_request"),
    "in h5grove one link that goes round spoils its whole group": (("meta", "paths"), 500, 200, ""),
}  # fmt: skip
"""Everything in which our answers differ, by route, h5grove's status, and our status and code."""

SELECTIONS = (None, "0", "1:3", ":,2", "::2,1::3", "-1", "-3:-1,0", "5:2", "0:100", "99:100", "0,:,2:8")
WRONG_SELECTIONS = ("100", "x", "1,2,3,4,5", "0:5:0", "0:5:-1", "", "0,", "...")
FULLY_ASKED = ("/layouts/three", "/layouts/virtual", "/numbers/little_f8_2d", "/texts/vlen_1d", "/others/compound")


def nodes_of(corpus: Path) -> list[str]:
    with h5py.File(corpus) as file:
        members = [f"/{group}/{name}" for group in GROUPS for name in file[group]]  # pyright: ignore[reportGeneralTypeIssues]
    below = ["/links/external_group/inner", "/links/soft_group/vlen", "/links/relative", "/links/self/self/hard"]
    nowhere = ["", ".", "/nowhere", "/layouts/one/x", "/links/broken/x", "/links/external_gone/x", "/loops/round/x"]
    return ["/", *GROUPS, *members, *below, *nowhere, "/layouts/", "//layouts//one/"]


def questions(corpus: Path) -> Iterator[Asked]:
    for path in nodes_of(corpus):
        for resolve in ("only_valid", "none", "all"):
            yield "meta", {"path": path, "resolve_links": resolve}
        yield "paths", {"path": path}
        yield "attr", {"path": path}
        yield "attr", {"path": path, "attr_keys": ["text", "numbers"]}
        for form in FORMS:
            yield "data", {"path": path, "format": form}
        yield "data", {"path": path, "flatten": "true", "selection": "1:3"}
        yield "data", {"path": path, "format": "bin", "dtype": "safe"}
        yield "stats", {"path": path}
    for path, selection in itertools.product(FULLY_ASKED, (*SELECTIONS, *WRONG_SELECTIONS)):
        for form, flatten in itertools.product(("json", "bin", "npy", "csv", "tiff"), ("false", "true")):
            yield "data", {"path": path, "format": form, "flatten": flatten, "selection": selection}
        yield "stats", {"path": path, "selection": selection}
    for path, resolve in itertools.product(
        ("/links", "/layouts", "/loops", "/links/soft_group"), ("all", "none", "TRUE")
    ):
        yield "paths", {"path": path, "resolve_links": resolve}
    for path in ("/", "/links/broken", "/nowhere"):
        yield "meta", {"path": path, "resolve_links": "perhaps"}
        yield "data", {"path": path, "dtype": "nonsense"}
        yield "data", {"path": path, "format": "zip"}
    yield "data", {"path": "/layouts/one", "format": "zip"}
    yield "data", {"path": "/layouts/one", "dtype": "nonsense"}
    yield "data", {"path": "/layouts/one", "flatten": "perhaps"}


def same(theirs: httpx.Response, our: httpx.Response) -> bool:
    if theirs.status_code != our.status_code:
        return False
    headers = ("content-type", "content-disposition", "content-length")
    told = [[answer.content, *map(answer.headers.get, headers)] for answer in (theirs, our)]
    return theirs.status_code >= 400 or told[0] == told[1]


@pytest.mark.filterwarnings("ignore:metadata on a dtype", "ignore:.*nonconformant TIFF")  # what h5grove's own code says
async def test_every_answer_is_h5groves_but_for_what_is_named_here(ours: httpx.AsyncClient, visit: Path) -> None:
    corpus = make_corpus(visit)
    for path in visit.iterdir():
        os.utime(path, (0, 0))
    app = FastAPI()
    app.include_router(fastapi_utils.router)
    fastapi_utils.settings.base_dir = str(visit)
    seen, identical, unnamed = set(), 0, []
    async with client(app) as theirs:
        for route, query in questions(corpus):
            told = {name: value for name, value in query.items() if value is not None}
            their = await theirs.get(f"/{route}", params={"file": "corpus.h5", **told})
            our = await ours.get(f"/api/h5/{route}", params={"file": f"{visit.name}/corpus.h5", **told})
            if same(their, our):
                identical += their.status_code == 200
                continue
            code = our.json()["error"]["code"] if our.status_code >= 400 else ""
            fact = their.status_code, our.status_code, code
            names = {name for name, (routes, *named) in DIFFERENCES.items() if route in routes and tuple(named) == fact}
            seen |= names
            unnamed += [] if names else [(route, told, *fact)]
    assert unnamed == []
    assert seen == set(DIFFERENCES)
    assert identical > 1000


async def test_a_virtual_dataset_whose_source_is_missing_is_no_data_where_h5grove_makes_them_up(
    ours: httpx.AsyncClient, visit: Path
) -> None:
    virtual(visit / "scan.h5", [("gone.h5", "d")])
    for route in ("data", "stats", "attr", "meta"):
        assert refusal(await ask(ours, route, visit / "scan.h5", "d")) == (503, "file_not_ready")
    assert (await ask(ours, "meta", visit / "scan.h5", "/")).json()["children"] == [{"kind": "other", "name": "d"}]


# as H5Web asks


async def test_h5web_gets_along_with_either_spelling_of_a_route_and_hears_its_own_words(
    ours: httpx.AsyncClient, visit: Path
) -> None:
    make_corpus(visit)
    for spelling in ("meta", "meta/"):
        answer = await ours.get(f"/api/h5/{spelling}", params={"file": f"{visit.name}/corpus.h5", "path": "/"})
        assert answer.status_code == 200
        assert [child["name"] for child in answer.json()["children"]] == sorted(GROUPS)
    assert (await ours.get("/api/h5/")).text == "ok"
    said = (await ask(ours, "meta", visit / "gone.h5", "/")).json()["message"]
    assert "File not found" in said
    said = (await ask(ours, "meta", visit / "corpus.h5", "/nowhere")).json()["message"]
    assert "not a valid path" in said
    answer = await ask(ours, "data", visit / "corpus.h5", "/links/broken")
    assert (refusal(answer), "Cannot resolve" in answer.json()["message"]) == ((404, "not_there"), True)


async def test_a_file_is_known_by_the_name_that_its_writer_gives_it(ours: httpx.AsyncClient, visit: Path) -> None:
    write(visit / "scan.h5", pictures(0, 3))
    answer = await ask(ours, "data", f"/writer/{visit.name}/scan.h5", "/d", selection="1", format="bin")
    assert answer.content == pictures(1, 2).tobytes()


async def test_a_file_is_known_by_its_uri_whether_or_not_that_is_encoded(ours: httpx.AsyncClient, visit: Path) -> None:
    for name in ("10%Fe sample #5.h5", "what?.h5", "a%20b.h5", "é 100%.h5"):
        write(visit / name, pictures(0, 3))
        writer = f"/writer/{visit.name}"
        for spelling in (f"{writer}/{name}", f"file://localhost{writer}/{name}", f"file://{quote(f'{writer}/{name}')}"):
            answer = await ask(ours, "data", spelling, "/d", selection="1", format="bin")
            assert answer.content == pictures(1, 2).tobytes(), spelling
    write(visit / "a b.h5", pictures(3, 6))
    for spelling, first in ((f"file://{writer}/a%20b.h5", 3), (f"{writer}/a%20b.h5", 0)):
        answer = await ask(ours, "data", spelling, "/d", selection="1", format="bin")
        assert answer.content == pictures(first + 1, first + 2).tobytes()
    refused = await ask(ours, "data", "file:///writer/%2e%2e/secret.h5", "/d")
    assert refusal(refused) == (403, "file_refused")


async def test_a_file_that_is_being_written_is_told_as_it_is_now(ours: httpx.AsyncClient, visit: Path) -> None:
    with SwmrWriter(visit / "live.h5", options={"compression": "gzip"}) as writer:
        for frames in (1, 3, 8):
            while writer.write() < frames:
                pass
            told = (await ask(ours, "meta", visit / "live.h5", DATASET)).json()
            assert (told["shape"], told["chunks"]) == ([frames, *SHAPE], [1, *SHAPE])
            answer = await ask(ours, "data", visit / "live.h5", DATASET, selection="-1,:,:", format="bin")
            assert answer.content == picture(frames - 1).tobytes()
            stats = (await ask(ours, "stats", visit / "live.h5", DATASET, selection=str(frames - 1))).json()
            assert (stats["max"], stats["min"]) == (picture(frames - 1).max(), picture(frames - 1).min())
        assert DATASET in (await ask(ours, "paths", visit / "live.h5", "/")).json()
        writer.announce()
        answer = await ask(ours, "data", visit / "live.h5", DATASET, selection="-1")
        assert refusal(answer) == (503, "file_not_ready")


# ways out


@pytest.mark.parametrize("name", ESCAPES)
async def test_no_file_leads_out_of_the_data_root_on_any_route(
    ours: httpx.AsyncClient, root: Path, visit: Path, name: str
) -> None:
    outside = root.parent / "cm1-10" / "secret.h5"
    if not outside.exists():
        outside.parent.mkdir()
        write(outside, np.full((8, *SHAPE), CANARY, np.uint16))
    ESCAPES[name](visit, outside)
    for route in ROUTES:
        for resolve in ("only_valid", "all"):
            answer = await ask(ours, route, visit / "scan.h5", "/d", resolve_links=resolve)
            assert answer.status_code == (422 if route == "paths" and is_dataset(visit) else 403), answer.text
    for route, resolve in itertools.product(("meta", "paths"), ("none", "only_valid")):
        for path in ("/", "/d"):
            told = (await ask(ours, route, visit / "scan.h5", path, resolve_links=resolve)).text
            assert '"shape"' not in told  # of the dataset outside
    for form in ("bin", "npy", "csv", "tiff"):
        for selection in ("0", "0,0,0", "::2"):
            answer = await ask(ours, "data", visit / "scan.h5", "/d", format=form, selection=selection)
            assert refusal(answer) == (403, "file_refused")


def is_dataset(visit: Path) -> bool:
    """Whether `d` is a dataset of the file itself, which is no group whatever it draws on."""
    if (visit / "scan.h5").is_symlink():
        return False
    with h5py.File(visit / "scan.h5") as file:
        return isinstance(file.get("d", getlink=True), h5py.HardLink)


@pytest.mark.parametrize(
    "name", ["../cm1-10/secret.h5", "visit/../../cm1-10/secret.h5", "/etc/passwd", "/proc/self/environ", "", "a\0b"]
)
async def test_no_name_of_a_file_leads_out_of_the_data_root(ours: httpx.AsyncClient, name: str) -> None:
    for route in ROUTES:
        assert refusal(await ask(ours, route, name, "/")) == (403, "file_refused")


async def test_members_that_lead_out_are_told_as_the_links_they_are(ours: httpx.AsyncClient, visit: Path) -> None:
    with h5py.File(visit / "scan.h5", "w") as file:
        file["out"] = h5py.ExternalLink("/etc/passwd", "/x")
        file["in"] = 1
    told = (await ask(ours, "meta", visit / "scan.h5", "/")).json()["children"]
    out = {"kind": "external_link", "name": "out", "target_file": "/etc/passwd", "target_path": "/x"}
    assert ([one["kind"] for one in told], told[1]) == (["dataset", "external_link"], out)
    answer = await ask(ours, "meta", visit / "scan.h5", "/out", resolve_links="none")
    assert answer.json() == out
    assert refusal(await ask(ours, "paths", visit / "scan.h5", "/", resolve_links="all")) == (403, "file_refused")


# bad files, and too much


@pytest.mark.parametrize("name", ["r2466.h5", "r101745.h5", "r233.h5"])
async def test_a_file_that_crashes_or_hangs_hdf5_ends_in_an_error_and_the_next_is_answered(
    ours: httpx.AsyncClient, visit: Path, name: str
) -> None:
    shutil.copy(HOSTILE / name, visit / name)
    good = write(visit / "good.h5", pictures(0, 2))
    errors = 0
    for path in await reachable(ours, visit / name):
        for route in ROUTES:
            answer = await ask(ours, route, visit / name, path)
            assert answer.status_code < 500 or refusal(answer)[0] == 503
            errors += answer.status_code == 422
        assert (await ask(ours, "data", good, "d", format="bin")).content == pictures(0, 2).tobytes()
    assert errors


async def reachable(ours: httpx.AsyncClient, file: Path, most: int = 6) -> list[str]:
    """Some nodes of a file, as far as it lets us; groups last."""
    groups, others = ["/"], []
    for group in groups:
        answer = await ask(ours, "meta", file, group)
        for child in answer.json().get("children", []) if answer.status_code == 200 else []:
            (groups if child["kind"] == "group" else others).append(f"{group.rstrip('/')}/{child['name']}")
    return [*others, *groups][:most]


async def test_more_than_is_answered_at_one_time_is_refused_and_a_part_of_it_is_not(
    ours: httpx.AsyncClient, root: Path, visit: Path
) -> None:
    path = visit / "large.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("huge", (10**8, 10**7), "u1", chunks=(1, 10**4))
        file.create_dataset("just", (8192, 8192), "u1", chunks=(64, 8192))
        file.create_dataset("bomb", (2**29,), "u1", chunks=(2**29,), compression="gzip")
        file.create_dataset("many chunks", (2**20, 2**10), "u1", chunks=(2**10, 2**10))
        file.create_dataset("text", (1001, 1000), "u1")
        owner = file.create_group("attributes")
        for number in range(60):
            owner.attrs[f"a{number}"] = np.full(2**20, number, "u1")
        many = file.create_group("members")
        for number in range(100_001):
            many[f"m{number}"] = h5py.SoftLink("/text")
    too_large = (413, "too_large")
    for selection in (None, ":", "::2", "0:7"):
        query = {} if selection is None else {"selection": selection}
        for form in ("bin", "json", "npy", "csv", "tiff"):
            assert refusal(await ask(ours, "data", path, "huge", format=form, **query)) == too_large
        assert refusal(await ask(ours, "stats", path, "huge", **query)) == too_large
    assert (await ask(ours, "data", path, "huge", selection="7,5:8")).json() == [0, 0, 0]
    async with h5_client(root, time_limit_s=10 * PATIENCE) as patient:
        assert len((await ask(patient, "data", path, "just", format="bin")).content) == 64 * 2**20
    assert refusal(await ask(ours, "data", path, "just", format="npy")) == too_large
    assert refusal(await ask(ours, "data", path, "bomb", selection="0")) == too_large
    assert (await ask(ours, "meta", path, "bomb")).json()["shape"] == [2**29]
    assert refusal(await ask(ours, "data", path, "many chunks", selection=":,0")) == too_large
    for form in ("json", "csv"):
        assert refusal(await ask(ours, "data", path, "text", format=form)) == too_large
        assert (await ask(ours, "data", path, "text", format=form, selection=":10")).status_code == 200
    assert refusal(await ask(ours, "attr", path, "attributes")) == too_large
    answer = await ask(ours, "attr", path, "attributes", attr_keys=["a7"])
    assert set(answer.json()["a7"]) == {7}
    for route in ("meta", "paths"):
        assert refusal(await ask(ours, route, path, "members")) == too_large
        assert refusal(await ask(ours, "paths", path, "/")) == too_large
    answer = await ask(ours, "meta", path, "/")
    assert len(answer.json()["children"]) == 7


async def test_who_asks_while_too_many_wait_is_told_so_and_none_of_the_others_is_lost(
    ours: httpx.AsyncClient, visit: Path
) -> None:
    good = write(visit / "good.h5", pictures(0, 2))
    answers = await asyncio.gather(*(ask(ours, "meta", good, "d") for _ in range(150)))
    assert {answer.status_code for answer in answers} == {200, 503}
    assert sum(answer.status_code == 200 for answer in answers) >= 100
    assert refusal(next(answer for answer in answers if answer.status_code == 503)) == (503, "too_busy")
    assert (await ask(ours, "meta", good, "d")).status_code == 200


async def test_names_that_are_no_text_spoil_no_listing(ours: httpx.AsyncClient, visit: Path) -> None:
    with h5py.File(visit / "names.h5", "w") as file:
        file["good"] = 1
        file.id.links.create_soft(b"\xff\xfe", b"/good")
        file["<img src=x onerror=alert(1)>"] = 2
    told = (await ask(ours, "meta", visit / "names.h5", "/")).json()["children"]
    assert {(one["kind"], one["name"]) for one in told} == {
        ("dataset", "good"),
        ("dataset", "<img src=x onerror=alert(1)>"),
        ("other", "\ufffd\ufffd"),
    }


async def test_a_client_that_does_not_take_its_answer_is_let_go_and_the_readers_end_with_the_server(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_response, "PART_TIMEOUT_S", 0.3)
    monkeypatch.setattr(large_response, "HELD_MAX", 60_000_000)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("d", (50_000_000,), "u1")
    async with serving(redis_url, data_root=tmp_path) as api, api.client() as client:
        host, _, port = api.authority.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"GET /api/h5/data/?file=large.h5&path=/d&format=bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        held = api.app.state.h5.pending
        await until(lambda: held.bytes == 0)
        monkeypatch.setattr(large_response, "PART_TIMEOUT_S", 60)
        query = {"file": "large.h5", "path": "/d", "format": "bin"}
        held.bytes = 50_000_000  # as while another client does not take its answer
        assert refusal(await client.get("/api/h5/data/", params=query)) == (503, "too_busy")
        held.bytes = 0
        answer = await client.get("/api/h5/data/", params=query, headers={"Accept-Encoding": "identity"})
        assert (answer.headers["content-length"], answer.content) == ("50000000", bytes(50_000_000))
        writer.close()
        readers = [one for one in psutil.Process().children() if one.pid in api.app.state.h5.inspector.pids]
        assert readers
    assert not any(one.is_running() for one in readers)


async def test_mutated_files_are_answered_and_never_with_a_failure_of_ours(
    ours: httpx.AsyncClient, visit: Path
) -> None:
    """As many as a setting says: 100 take some minutes."""
    count = int(os.environ.get("SNAKEMAP_TEST_MUTATED", "4"))
    original = np.frombuffer(make_corpus(visit).read_bytes(), np.uint8)
    random, told = np.random.default_rng(7), 0
    for number in range(count):
        data = original.copy()
        places = random.integers(0, len(data), random.integers(1, 60))
        data[places] = random.integers(0, 256, len(places))
        (visit / "mutant.h5").unlink(missing_ok=True)
        (visit / "mutant.h5").write_bytes(data.tobytes())
        for route, group in zip(itertools.cycle(ROUTES), GROUPS, strict=False):
            for path in (f"/{group}", *(f"/{group}/{name}" for name in NAMES)):
                answer = await ask(ours, route, visit / "mutant.h5", path)
                assert answer.status_code == 200 or refusal(answer)[0] in (403, 404, 413, 422, 503), number
                told += answer.status_code == 200
    assert told > count
