"""Pages and API behind nginx, with TLS and a prefix each, by the configuration that docs/operating.md shows."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from tests.support.made_up import MadeUpRun
from tests.support.nginx import Proxy, trusting
from tests.support.patience import PATIENCE
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

TIMEOUT_S = 30.0 * PATIENCE


def test_all_that_a_page_loads_comes_through_the_proxy(proxy: Proxy, run_behind_proxy: MadeUpRun) -> None:
    with proxy.client() as client:
        page = client.get(f"{proxy.url}/snakemap/maps")
        loaded = [page.url.join(found) for found in re.findall(r'(?:src|href)="([^"]+\.(?:js|css)[^"]*)"', page.text)]
        assert len(loaded) > 3
        for url in loaded:
            assert str(url).startswith(f"{proxy.url}/snakemap/")
            assert client.get(url).status_code == 200, url
        for path in ("healthz", "log", "events?name=start"):
            assert client.get(f"{proxy.url}/snakemap/{path}").status_code == 200, path


@pytest.mark.parametrize("name", ["maps", "dashboard", "log", "histogram", "frame", "summary"])
def test_the_script_of_a_page_for_pages_of_others_has_no_style_for_them(proxy: Proxy, name: str) -> None:
    ours = "html, body {"
    address = f"{proxy.url}/snakemap/{name}"
    asked = {"bokeh-autoload-element": "a", "bokeh-app-path": f"/snakemap/{name}", "bokeh-absolute-url": address}
    with proxy.client() as client:
        page, script = client.get(address), client.get(f"{address}/autoload.js", params=asked)
    assert (page.status_code, script.status_code) == (200, 200)
    assert ours in page.text
    assert ours not in script.text
    assert "data-theme" not in script.text
    assert "Traceback" not in proxy.stack.pages.log.read_text()


def test_a_browser_of_another_origin_gets_no_session(proxy: Proxy) -> None:
    async def refused(url: str) -> int:
        origin = "https://elsewhere"
        with pytest.raises(InvalidStatus) as refusal:
            await connect(url, origin=origin, ssl=trusting(proxy.directory))  # pyright: ignore[reportArgumentType]
        return refusal.value.response.status_code

    secure = proxy.url.replace("https", "wss")
    for path in ("/snakemap/dashboard/ws", "/snakemap-api/api/documents"):
        assert asyncio.run(refused(secure + path)) == 403, path


def test_the_api_answers_behind_the_prefix(proxy: Proxy, run_behind_proxy: MadeUpRun) -> None:
    with proxy.client() as client:
        schema = client.get(f"{proxy.api}/openapi.json").json()
        assert schema["servers"] == [{"url": "/snakemap-api"}]
        runs = client.get(f"{proxy.api}/api/runs").json()
        assert isinstance(runs, list)
        made = client.post(f"{proxy.api}/api/sessions", json={})
        assert made.status_code == 201
        location = made.headers["location"]
        assert location.startswith("/snakemap-api/api/sessions/")
        assert client.get(proxy.url + location).status_code == 200
        moved = client.get(f"{proxy.api}/api/runs/", follow_redirects=False)
        assert re.sub(r"^https?://[^/]+", "", moved.headers["location"]) == "/snakemap-api/api/runs"
        assert moved.headers["location"].startswith((proxy.url, "/"))


def test_streams_of_the_api_come_at_once_behind_the_prefix(proxy: Proxy, run_behind_proxy: MadeUpRun) -> None:
    with proxy.client() as client, client.stream("GET", f"{proxy.api}/api/data/events") as answer:
        assert next(answer.iter_lines()).startswith("retry:")

    async def first() -> dict[str, object]:
        url = f"{proxy.api.replace('https', 'wss')}/api/runs/{run_behind_proxy.uid}/documents?after=0"
        async with asyncio.timeout(TIMEOUT_S), connect(url, ssl=trusting(proxy.directory)) as socket:
            return json.loads(await socket.recv())

    assert asyncio.run(first())["name"] == "start"
