"""The page of the log over a hundred thousand events, under somebody's hand, while others come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Browser, Page
from tests.support.browser import LOOK_EVERY_S
from tests.support.patience import eventually
from tests.support.stack import Stack

NASTY = '<img src=x onerror="window.hacked=1">'
STREAM, LIFE = "snakemap:documents", "snakemap:life"
EVENTS, KEPT = 100_400, 100_000
BEGAN_MS = 1_795_461_000_000
LARGE = 100_300
"""The number of an event whose document has 100,000 rows."""

NEEDLES = range(1000, EVENTS, 10_000)


def event(number: int) -> dict[str, str]:
    """The fields of an entry: a run of a thousand events, with a worker's event at its end."""
    run, step = divmod(number, 1000)
    doc: dict[str, Any] = {"descriptor": f"d{run}", "seq_num": step, "data": {"x": number}, "number": number}
    name = "event"
    if step == 0:
        name, doc = "start", {"uid": f"run-{run}", "plan_name": NASTY, "time": 1.0, "number": number}
    elif step == 998:
        name, doc = "stop", {"run_start": f"run-{run}", "exit_status": "success", "reason": NASTY, "number": number}
    elif step == 999:
        name, doc = "worker", {"state": "IDLE", "number": number}
    elif step == 5:
        name = NASTY
    if number in NEEDLES or (number - 7) in NEEDLES:
        doc["note"] = f'Needle in a haystack, "{NASTY}"'
    if number == LARGE:
        doc["rows"] = list(range(100_000))
    owner = "" if name == "worker" else f"run-{run}"
    return {"name": name, "run": owner, "task": "", "doc": json.dumps(doc, separators=(",", ":"))}


def add(client: redis.Redis, numbers: range) -> None:
    """Append events as a worker does, which names the life of a store that it finds empty."""
    client.set(LIFE, token_hex(8), nx=True)
    for begun in range(numbers.start, numbers.stop, 5000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(begun, min(begun + 5000, numbers.stop)):
                pipeline.xadd(STREAM, event(number), id=f"{BEGAN_MS + number}-0")  # pyright: ignore[reportArgumentType]
            pipeline.execute()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("log"), redis_url=redis_server, LOG_ROWS=str(KEPT)).serve()
    try:
        yield stack
    finally:
        stack.end()


class Log:
    """The page in Chromium."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.goto(url)

    def wait(self, happens: Any, *, timeout_s: float = 30.0) -> None:
        assert eventually(happens, timeout_s=timeout_s, every_s=LOOK_EVERY_S), (
            f"{self.note()}, {self.numbers()[:3]}, {self.errors}"
        )

    def note(self) -> str:
        return self.page.locator(".note").inner_text()

    def says(self, words: str) -> None:
        self.wait(lambda: words in self.note())

    def numbers(self) -> list[int]:
        """The numbers of the events on the screen, in their order."""
        script = """rows => rows.filter(row => row.dataset.cursor).map(row => [row.offsetTop, row.dataset.cursor])
          .sort((a, b) => a[0] - b[0]).map(row => row[1])"""
        found = self.page.locator(".row").evaluate_all(script)
        return [int(cursor.partition("-")[0]) - BEGAN_MS for cursor in found]

    def seen(self) -> list[int]:
        """Those of them of which something is in sight."""
        script = """view => [...view.querySelectorAll('.row')].filter(row => row.dataset.cursor
            && row.offsetTop + 24 > view.scrollTop && row.offsetTop < view.scrollTop + view.clientHeight)
          .sort((a, b) => a.offsetTop - b.offsetTop).map(row => row.dataset.cursor)"""
        found = self.page.locator(".view").evaluate(script)
        return [int(cursor.partition("-")[0]) - BEGAN_MS for cursor in found]

    def scroll_to(self, share: float) -> None:
        view = self.page.locator(".view")
        view.hover()
        self.page.mouse.wheel(0, -1000)  # a hand on it: the end is followed no longer
        view.evaluate("(view, share) => { view.scrollTop = share * view.scrollHeight }", share)

    def chip(self, name: str) -> None:
        self.page.locator(".chip").get_by_text(name, exact=True).click()

    def open(self, number: int) -> str:
        """Looks into an event that is on the screen; returns what is shown."""
        self.page.locator(f'.row[data-cursor="{BEGAN_MS + number}-0"]').click()
        self.wait(lambda: f"{BEGAN_MS + number}-0" in self.page.locator(".facts").inner_text())
        return self.page.locator(".text").inner_text()


@pytest.fixture
def log(served: Stack, chromium: Browser, redis_url: str) -> Iterator[Log]:
    with redis.Redis.from_url(redis_url) as client:
        add(client, range(EVENTS))
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    log = Log(page, f"{served.url}/log")
    yield log
    assert page.evaluate("() => window.hacked") is None
    page.close()
    assert log.errors == []


def test_a_hundred_thousand_events_are_scrolled_filtered_stopped_looked_into_and_taken_along(
    log: Log, served: Stack, redis_url: str, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(redis_url)
    page, first, last = log.page, EVENTS - KEPT, EVENTS - 1
    log.wait(lambda: last in log.seen())  # the newest are there before the others have been read
    log.wait(lambda: log.note().startswith("100,000 events") and "reading" not in log.note())

    # scrolled: the browser has no more than is on the screen
    for share in (0.5, 0.123, 0.9):
        log.scroll_to(share)
        expected = first + int(share * KEPT)
        log.wait(lambda expected=expected: abs((log.seen() or [-999])[0] - expected) <= 60)
        seen = log.seen()
        assert seen == list(range(seen[0], seen[-1] + 1))
        assert page.locator(".row").count() < 100
    where = log.seen()

    # what comes meanwhile moves nothing
    add(client, range(EVENTS, EVENTS + 30))
    log.says("100,030 events")
    assert log.seen() == where
    page.keyboard.press("End")
    log.wait(lambda: last + 30 in log.seen())
    add(client, range(EVENTS + 30, EVENTS + 60))
    log.wait(lambda: last + 60 in log.seen())  # the end is followed

    # stopped
    page.get_by_role("button", name="Pause").click()
    log.says("paused")
    where = log.seen()
    add(client, range(EVENTS + 60, EVENTS + 100))
    log.says("paused, 40 new")
    assert log.seen() == where
    assert where[-1] == last + 60
    page.get_by_role("button", name="Resume").click()
    log.wait(lambda: last + 100 in log.seen())

    # filtered by text, by document, by run
    needles = [n for begun in NEEDLES for n in (begun, begun + 7) if n >= first]
    page.locator(".search").fill('"note": "NEEDLE in')
    log.says(f"{len(needles)} events of 100,100")
    log.wait(lambda: log.numbers() == needles)
    log.chip("start")
    log.wait(lambda: log.numbers() == [n for n in needles if n % 1000 == 0])
    page.locator(".search").fill("")
    log.says("100 events of")
    log.chip("start")
    log.chip(NASTY)
    log.says("100 events of 100,100")
    log.wait(lambda: all(n % 1000 == 5 for n in log.numbers()))
    log.chip(NASTY)
    page.locator("select.run").select_option("run-57")
    log.says("999 events of")
    log.chip("stop")
    log.wait(lambda: log.numbers() == [57_998])

    # looked into: text is text
    text = log.open(57_998)
    assert json.loads(text) == json.loads(event(57_998)["doc"])
    assert "<img src=x" in text
    assert page.locator(".only").inner_text() == "run run-57"

    # taken along: what is listed, in the form that replay reads
    log.chip("stop")
    log.says("999 events of")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).first.click()
    download.value.save_as(tmp_path / "events.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["doc"]["number"] for line in lines] == list(range(57_000, 57_999))
    assert lines[0] == {
        "cursor": f"{BEGAN_MS + 57_000}-0", "name": "start", "run": "run-57", "doc": json.loads(event(57_000)["doc"]),
    }  # fmt: skip
    query = {"text": "needle", "until": f"{BEGAN_MS + 50_000}-0"}
    answer = httpx.get(f"{served.url}/events", params=query, trust_env=False)
    told = [json.loads(line)["doc"]["number"] for line in answer.text.splitlines()]
    assert told == [n for n in (m for begun in NEEDLES for m in (begun, begun + 7)) if n <= 50_000]

    # a moment, a document of a hundred thousand rows, of which the browser gets a little
    page.locator("select.run").select_option("")
    log.says("100,100 events")
    zone = page.evaluate("() => new Date().getTimezoneOffset()")
    moment = page.evaluate(
        "([ms, zone]) => new Date(ms - 60000 * zone).toISOString().slice(0, 19)", [BEGAN_MS + 100_000, zone]
    )
    page.locator("input.time").fill(moment)
    log.wait(lambda: 100_000 in log.seen())
    page.locator(".view").evaluate("(view) => { view.scrollTop += 300 * 24 }")
    log.wait(lambda: LARGE in log.numbers())
    text = log.open(LARGE)
    assert "more …" in text
    assert len(text) < 2000
    assert "shortened" in page.locator(".facts").inner_text()
    answer = httpx.get(f"{served.url}/events", params={"cursor": f"{BEGAN_MS + LARGE}-0"}, trust_env=False)
    assert answer.json()["doc"]["rows"] == list(range(100_000))

    # older than what is kept: from the store, by cursor
    page.locator("button.begin").click()
    log.wait(lambda: log.seen()[:3] == [0, 1, 2])
    assert "300 events older than the list" in page.locator(".past").inner_text()
    page.get_by_role("button", name="Later").click()
    log.wait(lambda: log.seen()[:3] == [300, 301, 302])
    page.get_by_role("button", name="Earlier").click()
    log.wait(lambda: 0 in log.numbers() or 1 in log.numbers())
    page.get_by_role("button", name="Newest").click()
    log.wait(lambda: last + 100 in log.seen())
    assert page.locator(".past").is_hidden()
    client.close()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"until": "yesterday"}, 422),
        ({"cursor": "yesterday"}, 422),
        ({"cursor": "5-0"}, 404),
        ({"run": NASTY}, 200),
        ({"text": "\0"}, 200),
    ],
)
def test_what_cannot_be_taken_along_is_refused(
    served: Stack, redis_url: str, query: dict[str, str], status: int
) -> None:
    answer = httpx.get(f"{served.url}/events", params=query, trust_env=False)
    assert answer.status_code == status
    assert "<img" not in answer.text
    if status == 200:
        assert answer.text == ""


def test_the_dashboard_leads_to_the_log_which_wears_its_colors_and_begins_with_what_the_address_says(
    served: Stack, chromium: Browser, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        add(client, range(2000))
    log = Log(chromium.new_page(viewport={"width": 1280, "height": 800}), f"{served.url}/dashboard")
    link = log.page.locator("a.events")
    link.wait_for()
    with log.page.expect_popup() as popup:
        link.click()
    popup.value.locator(".event-log").or_(popup.value.locator(".log")).first.wait_for()
    assert popup.value.url == f"{served.url}/log"
    popup.value.close()
    log.page.close()
    assert log.errors == []
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    light = Log(page, f"{served.url}/log?theme=light&run=run-1&name=stop&text=success")
    light.says("1 event of")
    light.wait(lambda: light.numbers() == [1998])
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(238, 240, 243)"
    assert light.errors == []
    page.close()
