"""A session belongs to the browser that it was made for, whatever another one brings: its id or its token."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from bokeh.util.token import get_session_id, get_token_payload
from tests.support.patience import PATIENCE
from tests.support.stack import Stack
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from snakemap.dashboard.session_owner import COOKIE

SECRET = "the-token-of-the-victim"
OTHER = "http://overview.beamline:8000"
STRANGER = "http://evil.example:5006"
TIMEOUT_S = 30.0 * PATIENCE


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("pages"), redis_url=redis_server, ORIGINS="overview.beamline:8000",
        BLUEAPI_TOKEN_HEADER="X-Forwarded-Access-Token",
    ).serve()  # fmt: skip
    try:
        yield stack
    finally:
        stack.end()


@pytest.fixture
def victim(pages: Stack) -> Iterator[httpx.Client]:
    with browser(pages) as client:
        client.headers["X-Forwarded-Access-Token"] = f"Bearer {SECRET}"
        yield client


@pytest.fixture
def attacker(pages: Stack) -> Iterator[httpx.Client]:
    with browser(pages) as client:
        yield client


def browser(pages: Stack) -> httpx.Client:
    return httpx.Client(base_url=pages.url, trust_env=False, timeout=TIMEOUT_S)


def token_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text[:300]
    found = re.search(r'"token":\s*"([^"]+)"', answer.text)
    assert found is not None
    return found[1]


def pane(client: httpx.Client, **headers: str) -> httpx.Response:
    asked = {"bokeh-autoload-element": "e", "bokeh-app-path": "/maps", "bokeh-absolute-url": f"{client.base_url}maps"}
    return client.get("/maps/autoload.js", params=asked, headers=headers)


def joins(client: httpx.Client, token: str, page: str = "dashboard", **headers: str) -> int:
    """Status of the answer to a WebSocket; 101: it was opened, and the session answered."""
    if client.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    url = f"ws://{client.base_url.netloc.decode()}/{page}/ws"
    try:
        told: Any = {"subprotocols": ["bokeh", token], "additional_headers": headers}
        with connect(url, **told) as socket:
            greeting = json.loads(socket.recv(TIMEOUT_S))
            assert greeting["msgtype"] == "ACK"
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code
    except ConnectionClosed:
        return 0


def test_a_browser_joins_its_own_session_and_joins_it_again(victim: httpx.Client) -> None:
    token = token_of(victim.get("/dashboard"))
    assert [joins(victim, token) for _ in range(3)] == [101, 101, 101]


def test_the_token_of_a_page_is_worth_nothing_without_the_cookie(victim: httpx.Client, attacker: httpx.Client) -> None:
    token = token_of(victim.get("/dashboard"))
    attacker.get("/dashboard")  # so it has a cookie of its own
    assert attacker.cookies
    with httpx.Client(base_url=victim.base_url) as bare:
        assert [joins(attacker, token), joins(bare, token)] == [403, 403]
    assert joins(victim, token) == 101
    assert joins(attacker, token) == 403


@pytest.mark.parametrize("named", ["argument", "header", "token", "autoload", "pages"])
def test_a_signed_id_that_the_attacker_hands_out_is_not_taken(
    victim: httpx.Client, attacker: httpx.Client, named: str
) -> None:
    token = token_of(attacker.get("/dashboard"))
    session = get_session_id(token)
    element = {"bokeh-autoload-element": "e"}
    asked: dict[str, Any] = {
        "argument": {"url": "/dashboard", "params": {"bokeh-session-id": session}},
        "header": {"url": "/dashboard", "headers": {"Bokeh-Session-Id": session}},
        "token": {"url": "/dashboard", "params": {"bokeh-token": token}},
        "autoload": {"url": "/maps/autoload.js", "params": {"bokeh-session-id": session, **element}},
        "pages": {"url": "/log", "params": {"bokeh-session-id": session}},
    }[named]
    answer = victim.get(**asked)
    assert answer.status_code == 403
    assert SECRET not in answer.text
    assert "token" not in answer.text
    assert "must not contain a session id" in answer.text


def test_a_token_of_an_application_is_no_token_of_another_and_no_session_is_made_for_it(victim: httpx.Client) -> None:
    token = token_of(victim.get("/dashboard"))
    assert joins(victim, token, page="maps") == 403
    assert joins(victim, "nonsense") == 403
    assert joins(victim, f"{token}x") == 403


def test_what_the_browser_sent_is_not_in_the_page(victim: httpx.Client) -> None:
    for _ in range(2):  # the second time with the cookie
        token = token_of(victim.get("/dashboard"))
        told = repr(get_token_payload(token))
        assert SECRET not in told
        assert COOKIE not in told
        assert all(value not in told for value in victim.cookies.values())


def test_the_scripts_of_a_page_are_compressed_and_those_of_webgl_are_left_out(victim: httpx.Client) -> None:
    scripts = re.findall(r'<script[^>]* src="([^"]+)"', victim.get("/dashboard").text)
    assert any("/bokeh.min.js" in script for script in scripts)
    assert not any("bokeh-gl" in script for script in scripts)
    sent = 0
    for script in scripts:
        with victim.stream("GET", urljoin("/dashboard", script)) as answer:
            assert answer.read()
            sent += answer.num_bytes_downloaded
    assert sent < 900_000  # of 2.8 MB


def test_the_cookie_is_kept_from_scripts_and_other_sites_and_is_given_once(pages: Stack) -> None:
    with browser(pages) as client:
        (given,) = client.get("/dashboard").headers.get_list("set-cookie")
        assert given.startswith(COOKIE)
        assert {part.strip().lower() for part in given.split(";")[1:]} == {"httponly", "path=/", "samesite=lax"}
        assert "set-cookie" not in client.get("/log").headers
    with browser(pages) as client:
        assert (
            "; secure" in client.get("/dashboard", headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"].lower()
        )


def test_two_tabs_that_open_at_once_in_a_new_browser_both_work(pages: Stack) -> None:
    with browser(pages) as one, browser(pages) as other, browser(pages) as both:
        tokens = [token_of(one.get("/dashboard")), token_of(other.get("/dashboard"))]
        both.cookies.update(one.cookies)
        both.cookies.update(other.cookies)
        assert [joins(both, token) for token in tokens] == [101, 101]


def test_a_pane_of_a_named_page_is_joined_once_without_a_cookie(attacker: httpx.Client, victim: httpx.Client) -> None:
    token = token_of(pane(victim, Origin=OTHER))
    assert joins(attacker, token, page="maps", Origin=STRANGER) == 403  # and that did not use it up
    assert joins(victim, token, page="maps", Origin=OTHER) == 101
    assert joins(attacker, token, page="maps") == 403
    again = token_of(pane(victim, Origin=OTHER))
    assert joins(victim, again, page="maps", Origin=OTHER) == 101


def test_a_pane_whose_browser_sends_cookies_is_bound_to_them(attacker: httpx.Client, victim: httpx.Client) -> None:
    victim.get("/dashboard")
    token = token_of(pane(victim, Referer=f"{OTHER}/overview"))
    assert joins(attacker, token, page="maps") == 403
    assert [joins(victim, token, page="maps") for _ in range(2)] == [101, 101]


@pytest.mark.parametrize("how", [{"Origin": STRANGER}, {"Referer": f"{STRANGER}/"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_pane_that_a_strange_page_loads_in_the_victims_browser_cannot_be_joined(
    attacker: httpx.Client, victim: httpx.Client, how: dict[str, str]
) -> None:
    token = token_of(pane(victim, **how))
    assert joins(attacker, token, page="maps") == 403
    assert SECRET not in repr(get_token_payload(token))


def test_a_page_in_a_frame_of_another_site_is_joined_once(attacker: httpx.Client, victim: httpx.Client) -> None:
    framed = {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "cross-site"}
    token = token_of(victim.get("/maps", headers=framed))
    assert joins(attacker, token, page="maps") == 101  # the browser keeps no cookie there, and this stands for it
    with browser_like(attacker) as other:
        assert joins(other, token, page="maps") == 403


def browser_like(client: httpx.Client) -> httpx.Client:
    return httpx.Client(base_url=client.base_url, trust_env=False)


def test_a_session_has_few_connections(victim: httpx.Client) -> None:
    token = token_of(victim.get("/dashboard"))
    cookie = "; ".join(f"{name}={value}" for name, value in victim.cookies.items())
    url = f"ws://{victim.base_url.netloc.decode()}/dashboard/ws"
    with ExitStack() as opened:
        for _ in range(4):
            told: Any = {"subprotocols": ["bokeh", token], "additional_headers": {"Cookie": cookie}}
            socket = opened.enter_context(connect(url, **told))
            assert json.loads(socket.recv(TIMEOUT_S))["msgtype"] == "ACK"
        assert joins(victim, token) == 403
