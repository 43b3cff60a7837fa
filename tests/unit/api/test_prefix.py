"""The API behind a proxy that strips a prefix: what it says of itself leads back through the proxy."""

from __future__ import annotations

import re
from typing import Any, cast

import httpx
import pytest
from tests.unit.api.test_metrics import MetricsStore

from snakemap.api.app import create_app
from snakemap.errors import SettingsError
from snakemap.settings import Settings, load
from snakemap.store.store import Store

PREFIX = "/b01/snakemap-api"


def app_of(**settings: Any) -> Any:
    return create_app(Settings(**settings), cast("Store", MetricsStore()))


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api", follow_redirects=False)


@pytest.mark.parametrize("prefix", ["", PREFIX, "/api", "/api/runs"])
async def test_the_documentation_loads_its_files_and_the_schema_through_the_proxy(prefix: str) -> None:
    async with client_of(app_of(api_root_path=prefix)) as client:

        async def through_proxy(path: str) -> httpx.Response:
            assert path.startswith(f"{prefix}/")
            return await client.get(path.removeprefix(prefix))

        page = (await through_proxy(f"{prefix}/docs")).text
        assets = re.findall(r'(?:href|src)="([^"]+)"', page)
        assert len(assets) == 3
        for path in assets:
            assert (await through_proxy(path)).status_code == 200, path
        schema = (await through_proxy(re.findall(r"url: '([^']+)'", page)[0])).json()
    assert schema.get("servers") == ([{"url": prefix}] if prefix else None)
    assert "/api/runs" in schema["paths"]


async def test_what_is_counted_and_never_limited_goes_by_our_own_paths() -> None:
    app = app_of(api_root_path=PREFIX, api_requests_per_minute=1)
    async with client_of(app) as client:
        assert [(await client.get("/healthz")).status_code for _ in range(3)] == [200, 200, 200]
        assert [(await client.get("/openapi.json")).status_code for _ in range(2)] == [200, 429]
    assert ("GET", "/healthz", "2xx") in app.state.metrics.requests.counts


@pytest.mark.parametrize("value", ["/a", "/a/", "/a/b.c", "/a~b/c_d"])
def test_a_prefix_is_a_path(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SNAKEMAP_API_ROOT_PATH", value)
    assert load().api_root_path == value.rstrip("/")


@pytest.mark.parametrize("value", ["a", "//evil", "/a b", "/a?b", "/a#b", "/../a/..", "http://host/a", "/a\n", "/<b>"])
def test_what_is_no_prefix_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SNAKEMAP_API_ROOT_PATH", value)
    with pytest.raises(SettingsError, match=r"SNAKEMAP_API_ROOT_PATH: .*no path like /snakemap-api"):
        load()
