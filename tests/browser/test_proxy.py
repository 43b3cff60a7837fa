"""Pages and API in Chromium behind nginx, with TLS and a prefix each, as docs/operating.md shows it."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Browser
from tests.support.browser import open_page
from tests.support.made_up import MadeUpRun
from tests.support.nginx import Proxy
from tests.support.patience import PATIENCE

TIMEOUT_S = 30.0 * PATIENCE


def test_the_dashboard_is_live_behind_the_prefix(proxy: Proxy, chromium: Browser, run_behind_proxy: MadeUpRun) -> None:
    run = run_behind_proxy
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, ignore_https_errors=True)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("page", lambda page: page.on("websocket", lambda socket: asked.append(socket.url)))
    shown = open_page(context, f"{proxy.url}/snakemap/dashboard")

    def drawn(last: int) -> bool:
        return all(np.array_equal(shown.image(name), grid, equal_nan=True) for name, grid in run.expected(last).items())

    shown.wait(lambda: drawn(33), timeout_s=TIMEOUT_S)
    run.add(34, 47)
    shown.wait(lambda: drawn(47), timeout_s=TIMEOUT_S)
    assert shown.page.url.startswith(f"{proxy.url}/snakemap/dashboard")
    link = shown.page.locator("a.events").evaluate("(link) => link.href")
    assert link == f"{proxy.url}/snakemap/log"
    assert shown.errors == []
    context.close()
    ours = (f"{proxy.url}/snakemap", f"{proxy.url.replace('https', 'wss')}/snakemap/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(ours)] == []


def test_the_documentation_of_the_api_works_in_a_browser(proxy: Proxy, chromium: Browser) -> None:
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{proxy.api}/docs")
    page.wait_for_selector(".opblock", timeout=TIMEOUT_S * 1000)
    assert page.locator(".servers select").input_value() == "/snakemap-api"
    told = page.evaluate("async () => (await fetch('/snakemap-api/healthz')).json()")
    assert told["status"] == "ok"
    assert failed == []
    context.close()
