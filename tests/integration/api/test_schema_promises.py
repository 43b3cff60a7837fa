"""What the schema promises, held against a real server by requests that nobody has thought of.

Every route that is in the schema is asked, whoever has added it; only streams that never end are left out.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support import scans
from tests.support.beamline import Scan
from tests.support.http_requests import answers
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import Program
from tests.unit.api.test_app import schema

from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.store import Store

SPOT = {"rois": {"spot": [0, 2, 0, 2]}}

EXAMPLES = 20
ENDLESS = "text/event-stream"
FOUND = {
    "GET /api/runs", "GET /api/runs/{uid}", "GET /api/runs/{uid}/maps", "GET /api/runs/{uid}/documents",
    "GET /api/documents", "GET /api/files", "GET /api/sessions/{id}", "GET /api/sessions/{id}/maps",
    "GET /api/sessions/{id}/rois", "GET /api/random/frame", "GET /api/random/map", "GET /api/audit",
    "GET /api/h5/meta/", "GET /api/h5/data/",
}  # fmt: skip
"""Routes of which an example must find something: requests that are all refused prove little."""

LARGE = re.compile(r"\d{2,}x\d+|\d+x\d{2,}")
CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

PROMISED = schemathesis.openapi.from_dict(schema())
OPERATIONS = {
    operation.label: operation
    for operation in (result.ok() for result in PROMISED.get_all_operations())  # pyright: ignore
    if ENDLESS not in str(operation.definition.raw["responses"])
}


@dataclass(frozen=True, slots=True)
class Served:
    """A server with something to tell.

    Attributes:
        url: of it.
        session: to ask it with.
        log: what it said.
        turns: counts requests; every second one asks for what is there.
    """

    url: str
    session: requests.Session
    log: Path
    turns: Iterator[int] = field(default_factory=itertools.count)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory, root, port = tmp_path_factory.mktemp("api"), tmp_path_factory.mktemp("data"), free_port()
    with h5py.File(root / "scan.h5", "w") as file:
        file["entry/data/data"] = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis_url:
        asyncio.run(_fill(redis_url))
        environment = {
            "SNAKEMAP_REDIS_URL": redis_url, "SNAKEMAP_API_PORT": str(port), "SNAKEMAP_DATA_ROOT": str(root),
            "SNAKEMAP_STATE_DIR": str(directory), "SNAKEMAP_API_REQUESTS_PER_MINUTE": "1000000",
        }  # fmt: skip
        with Program(["api"], environment=environment, log=directory / "log"), requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{port}"
            assert eventually(lambda: answers(f"{url}/healthz"), timeout_s=30, every_s=0.1)
            yield Served(url, session, directory / "log")


async def _fill(redis_url: str) -> None:
    store = Store(redis_url)
    for uid in ("old", "run"):
        scan = Scan(uid)
        await store.append([*scans.documents(scan, points=12), scans.stop(scan)])
        summary = {
            "uid": uid, "plan_name": "scan", "status": "complete", "points": 12, "expected": 12, "started": 1.0,
            "ended": 2.0, "file": "/data/scan.h5",
        }  # fmt: skip
        await store.save_summary(uid, summary)
        await store.save_frame(uid, np.ones((6, 4)), about={"seq_num": 12, "frame_shape": [6, 4], "time": 1.0})
    await store.close()


def aimed(case: Case, served: Served) -> None:
    """Has a request ask for something that is there, every second time, and for nothing too large to be looked at."""
    if len(str(case.path_parameters.get("uid", ""))) % 2:
        case.path_parameters["uid"] = "run"
    if len(str(case.path_parameters.get("id", ""))) % 2:
        begun = served.session.post(f"{served.url}/api/sessions", json=SPOT, timeout=20 * PATIENCE)
        case.path_parameters["id"] = begun.json().get("id", "there are too many")
    if "/h5/" in case.path and next(served.turns) % 2:
        case.query = {
            **(case.query or {}),
            "file": "scan.h5",
            "path": "/entry/data/data",
            "dtype": "origin",
            "selection": "0",
        }
    if "/random/" in case.path:
        shape = str((case.query or {}).get("shape", "1216x1936"))
        case.query = {**(case.query or {}), "shape": "7x9" if LARGE.fullmatch(shape) else shape}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_every_answer_is_one_that_was_promised(label: str, mode: GenerationMode, served: Served) -> None:
    operation = OPERATIONS[label]
    checks = CHECKS
    if mode is GenerationMode.NEGATIVE:
        if not (operation.query or operation.headers or operation.body):
            return  # no text is wrong in a path, unless it is too long, and looking for that takes long
        checks = [*CHECKS, negative_data_rejection]

    statuses: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def asked(case: Case) -> None:
        if mode is GenerationMode.POSITIVE:
            aimed(case, served)
        answer = case.call(base_url=served.url, session=served.session, timeout=20 * PATIENCE)
        statuses.add(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code >= 400 and "/readyz" not in case.path:
            assert set(answer.json()) - {"message"} == {"error"}
        case.validate_response(answer, checks=checks)

    try:
        asked()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be thought of that would be wrong
    if mode is GenerationMode.POSITIVE and label in FOUND:
        assert 200 in statuses
    said = served.log.read_text()
    assert "ERROR" not in said
    assert "Traceback" not in said


def test_the_routes_that_must_find_something_are_in_the_schema() -> None:
    assert OPERATIONS.keys() >= FOUND
