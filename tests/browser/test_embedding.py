"""Panes in pages of others, by the very code that docs/embedding.md shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bokeh
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import SCRIPT, Shown, open_page, said_where
from tests.support.documented import block
from tests.support.http_requests import answers
from tests.support.made_up import MadeUpRun
from tests.support.notebook import Notebook
from tests.support.patience import PATIENCE, eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import Stack, die_with_parent
from werkzeug.serving import make_server

START_TIMEOUT_S = 60.0
HOSTS = ("html", "flask", "bokeh")


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Where the pages of others are."""
    return {name: free_port() for name in HOSTS}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: str, ports: dict[str, int]) -> Iterator[Stack]:
    """The server of the pages, which knows of the others."""
    origins = ",".join(f"localhost:{port}" for port in ports.values())
    stack = Stack(tmp_path_factory.mktemp("pages"), redis_url=redis_server, ORIGINS=origins).serve()
    try:
        yield stack
    finally:
        stack.end()


PAGE_WITH_BOKEH = """
from bokeh.embed import file_html
from bokeh.plotting import figure
from bokeh.resources import INLINE

plot = figure(name="own", width=300, height=200, tools="pan")
plot.line([1, 2, 3], [4, 6, 5])
print(file_html(plot, INLINE, title="Overview"))
"""
"""Writes a static page with a figure and the Bokeh that draws it."""


@contextmanager
def files_at(directory: Path, port: int) -> Iterator[None]:
    """A web server that knows files only."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            """Answer a browser that asks for an icon, which not all of its requests let a test intercept."""
            if self.path == "/favicon.ico":
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("localhost", port), partial(Quiet, directory=str(directory)))
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def flask_at(code: str, port: int) -> Iterator[None]:
    """The application that some code makes."""
    made: dict[str, object] = {"__name__": "overview"}
    exec(compile(code, "embedding.md", "exec"), made)
    server = make_server("localhost", port, made["app"], threaded=True)  # pyright: ignore[reportArgumentType]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def program_at(arguments: list[str], directory: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that serves a page."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAP_")}
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        assert eventually(lambda: answers(url), timeout_s=START_TIMEOUT_S, every_s=0.1), log.read_text()[-2000:]
        yield process
    finally:
        process.terminate()
        process.wait(20 * PATIENCE)


@contextmanager
def opened(chromium: Browser, url: str) -> Iterator[Shown]:
    """A tab that must complain of nothing."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    shown = open_page(context, url)
    try:
        yield shown
    finally:
        context.close()
    foreign = [url for url in asked if urlsplit(url).hostname not in ("localhost", None)]
    assert not foreign, foreign
    assert shown.errors == []


def shows(shown: Shown, run: MadeUpRun, last: int) -> bool:
    return all(np.array_equal(shown.image(name), grid, equal_nan=True) for name, grid in run.expected(last).items())


def grows(shown: Shown, run: MadeUpRun) -> None:
    """The maps show what there is, and what comes."""
    shown.wait(lambda: shows(shown, run, 33))
    run.add(34, 47)
    shown.wait(lambda: shows(shown, run, 47))


def test_a_page_of_plain_html_holds_live_maps(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(block("embedding.md", "html", "<!doctype", pages=served.url))
    with files_at(tmp_path, ports["html"]), opened(chromium, f"http://localhost:{ports['html']}/") as shown:
        grows(shown, run)
        assert shown.frame("map-total")["width"] > 200


def test_a_static_page_with_a_bokeh_of_its_own_keeps_its_figure_beside_live_maps(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    # in a process of its own: where Panel is imported, Bokeh writes Panel's scripts into the page too
    written = subprocess.run([sys.executable, "-c", PAGE_WITH_BOKEH], check=True, capture_output=True, text=True)
    own = written.stdout
    assert own.count("</body>") == 1
    (tmp_path / "index.html").write_text(own.replace("</body>", f"{pane_script(served.url, 'maps')}</body>"))
    ranges = "() => { const {x_range, y_range} = sm.view('own').model; return [x_range.start, y_range.end] }"
    with files_at(tmp_path, ports["html"]), opened(chromium, f"http://localhost:{ports['html']}/") as shown:
        grows(shown, run)
        start, end = shown.page.evaluate(ranges)
        shown.drag("own", (0.2, 0.5), (0.6, 0.5))
        shown.wait(lambda: shown.page.evaluate(ranges)[0] < start)
        assert shown.page.evaluate(ranges)[1] == end
        assert shown.page.title() == "Overview"


def test_a_page_with_another_version_of_bokeh_says_so_in_the_place_of_the_pane(
    served: Stack, ports: dict[str, int], chromium: Browser, tmp_path: Path
) -> None:
    own = '<!doctype html><script>window.Bokeh = {__bokeh__: true, version: "3.1.0", documents: []}</script>'
    (tmp_path / "index.html").write_text(f"{own}<h1>Overview</h1>{pane_script(served.url, 'maps')}<p>after</p>")
    with files_at(tmp_path, ports["html"]):
        page = chromium.new_page()
        page.goto(f"http://localhost:{ports['html']}/")
        said = page.locator("[role=alert]")
        expect(said).to_contain_text(f"This pane needs Bokeh {bokeh.__version__}, but the page has loaded Bokeh 3.1.0")
        assert page.locator("p").all_inner_texts()[1:] == ["after"]
        page.close()


def test_a_page_that_nobody_named_shows_nothing_and_the_log_says_whom_to_name(
    served: Stack, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(block("embedding.md", "html", "<!doctype", pages=served.url))
    port = free_port()
    with files_at(tmp_path, port):
        page = chromium.new_page()
        page.set_default_timeout(20_000 * PATIENCE)
        with page.expect_console_message(lambda message: "WebSocket" in message.text and "403" in message.text):
            page.goto(f"http://localhost:{port}/")
        assert page.evaluate("() => window.Bokeh.documents.length") == 0
        page.close()
    assert f"localhost:{port}" in served.pages.log.read_text()


def test_a_page_of_flask_holds_two_panes_in_the_colors_that_it_wants(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun
) -> None:
    code = block("embedding.md", "python", "# flask:", pages=served.url)
    with flask_at(code, ports["flask"]), opened(chromium, f"http://localhost:{ports['flask']}/") as shown:
        grows(shown, run)
        shown.wait(lambda: shown.page.evaluate("() => sm.named('frame') !== undefined"))
        assert shown.page.evaluate("() => sm.models().find((model) => model.theme)?.theme ?? 'light'") == "light"


def test_a_bokeh_server_holds_its_own_figure_and_our_pane(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "overview.py").write_text(block("embedding.md", "python", "# bokeh:", pages=served.url))
    url = f"http://localhost:{ports['bokeh']}/overview"
    arguments = ["-m", "bokeh", "serve", "overview.py", "--port", str(ports["bokeh"])]
    with program_at(arguments, tmp_path, url), opened(chromium, url) as shown:
        grows(shown, run)
        assert shown.page.evaluate("() => sm.named('ring') !== undefined")


@pytest.mark.parametrize("begins", ["# panel:", "# bokeh library:"])
def test_the_panes_are_a_library_for_servers_of_others(
    begins: str, redis_url: str, chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    port = free_port()
    code = block("embedding.md", "python", begins, redis=redis_url, port=f"port={port}")
    (tmp_path / "overview.py").write_text(code)
    url = f"http://localhost:{port}/"
    with program_at(["overview.py"], tmp_path, url), ExitStack() as tabs:
        first, second = (tabs.enter_context(opened(chromium, url)) for _ in range(2))
        grows(first, run)
        second.wait(lambda: shows(second, run, 47))
        if begins == "# panel:":
            first.wait(lambda: sum(first.bars()) == 47)


def test_a_notebook_shows_live_maps_while_other_cells_run(
    served: Stack, redis_url: str, chromium: Browser, run: MadeUpRun
) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    shown = Shown(page)
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("console", lambda message: shown.errors.append(said_where(message)) if message.type == "error" else None)
    page.route("https://cdn.holoviz.org/**", lambda route: route.fulfill(status=200))  # Panel's style, in a notebook
    page.route("**/notebook", lambda route: route.fulfill(content_type="text/html", body="<!doctype html><body>"))
    page.goto(f"{served.url}/notebook")
    with Notebook(page, assets=served.url) as notebook:
        notebook.run(block("embedding.md", "python", "# notebook", redis=redis_url))
        page.evaluate(SCRIPT)

        def drawn(last: int) -> bool:
            notebook.carry()
            return shows(shown, run, last)

        shown.wait(lambda: drawn(33))
        run.add(34, 47)
        assert notebook.run("print(6 * 7)") == ["42\n"]
        shown.wait(lambda: drawn(47))
    page.close()
    assert shown.errors == []


HOST_STYLE = """
  html { background: rgb(250, 240, 230); scroll-padding: 7px; }
  body { font: italic 21px/1.7 Georgia, serif; color: rgb(10, 60, 30); margin: 31px; padding: 3px; max-width: 1100px; }
  h1 { color: rgb(120, 0, 60); } a { color: rgb(0, 90, 160); } label { letter-spacing: 2px; }
"""
HOST = """<!doctype html>
<html lang="en" class="host" data-theme="corporate"><head><title>Overview</title><style>{style}</style></head>
<body class="overview">
  <h1>Overview</h1> <p>Words with <a href="#end">a link</a>, <code>code</code> and <label>a label</label>.</p>
  <input value="x"> <select><option>one</option></select> <button>Press</button> <textarea>text</textarea>
  <table><thead><tr><th>a</th></tr></thead><tbody><tr><th>b</th><td>1</td></tr></tbody></table>
  <div id="place" style="height: 360px">{pane}</div>
  <p id="after">after</p> <div style="height: 3000px">long</div> <header id="end">end</header>
</body></html>"""
HOST = re.sub(r"<(?!/|!|html|head|body|title|style)(\w+)", r"<\1 data-own", HOST)
"""A page of others; its own elements are marked."""

HOST_STATE = """() => {
  const styles = {}
  const note = (element, pseudo) => {
    const style = getComputedStyle(element, pseudo)
    return Object.fromEntries(Array.from(style, (name) => [name, style.getPropertyValue(name)]))
  }
  for (const [number, element] of document.querySelectorAll("html, body, [data-own]").entries()) {
    styles[`${element.tagName} ${number}`] = {own: note(element), before: note(element, "::before")}
  }
  const root = document.documentElement
  return {
    styles, title: document.title, href: location.href, theme: root.dataset.theme,
    kept: Object.keys(localStorage).join(),
    attributes: [root, document.body].map((one) => Array.from(one.attributes, (a) => `${a.name}=${a.value}`).join(" ")),
    icons: document.querySelectorAll("link[rel~=icon]").length, height: root.scrollHeight, width: root.scrollWidth,
  }
}"""


def pane_script(url: str, name: str, query: str = "") -> str:
    """The script that embeds a page of ours."""
    asked = f"bokeh-autoload-element=pane&bokeh-app-path=/{name}&bokeh-absolute-url={url}/{name}{query}"
    return f'<script id="pane" src="{url}/{name}/autoload.js?{asked}"></script>'


def state_of(page: Page) -> dict[str, Any]:
    return page.evaluate(HOST_STATE)


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is not the same, by its name."""
    found = {name: (before[name], after[name]) for name in before if name != "styles" and before[name] != after[name]}
    for element, styles in before["styles"].items():
        for part, told in styles.items():
            for name, value in told.items():
                now = after["styles"].get(element, {}).get(part, {}).get(name)
                if now != value:
                    found[f"{element} {part} {name}"] = (value, now)
    return found


@pytest.mark.parametrize("style", [HOST_STYLE, ""], ids=["styled", "plain"])
@pytest.mark.parametrize("name", ["maps", "dashboard", "log"])
def test_a_pane_changes_nothing_of_a_page_of_plain_html(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path, name: str, style: str
) -> None:
    (tmp_path / "without.html").write_text(HOST.format(style=style, pane=""))
    (tmp_path / "with.html").write_text(HOST.format(style=style, pane=pane_script(served.url, name)))
    with files_at(tmp_path, ports["html"]):
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page.goto(f"http://localhost:{ports['html']}/without.html")
        before = state_of(page)
        page.goto(f"http://localhost:{ports['html']}/with.html")
        shown = Shown(page)
        page.wait_for_function("() => window.Bokeh && Bokeh.documents.length")
        page.evaluate(SCRIPT)
        if name == "log":
            page.wait_for_function("() => sm.models().some((model) => model.news?.rows?.length)")
        else:
            shown.wait(lambda: shows(shown, run, 33), timeout_s=60)
        after = state_of(page)
        before["href"] = before["href"].replace("without", "with")
        assert differences(before, after) == {}
        place, pane = (page.locator(where).first.bounding_box() for where in ("#place", "#place > div > *"))
        assert place is not None
        assert pane == place  # as high and wide as its element, and over nothing else
        page.mouse.move(5, 5)
        page.mouse.wheel(0, 900)
        page.wait_for_function("() => scrollY > 500")
        page.keyboard.press("Home")
        page.wait_for_function("() => scrollY === 0")
        page.close()


def test_a_pane_in_an_element_without_a_height_has_one_of_its_own(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(f"<!doctype html><h1>Overview</h1>{pane_script(served.url, 'maps')}")
    with files_at(tmp_path, ports["html"]), opened(chromium, f"http://localhost:{ports['html']}/") as shown:
        grows(shown, run)
        assert shown.page.evaluate("() => [...Bokeh.index.roots][0].el.parentElement.clientHeight") == 560


def test_links_of_an_embedded_page_lead_to_our_server(
    served: Stack, ports: dict[str, int], chromium: Browser, run: MadeUpRun, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(HOST.format(style="", pane=pane_script(served.url, "dashboard")))
    with files_at(tmp_path, ports["html"]), opened(chromium, f"http://localhost:{ports['html']}/") as shown:
        grows(shown, run)
        link = shown.page.locator("a.events").evaluate("(link) => link.href")
        assert link == f"{served.url}/log"
        assert shown.page.locator("img.picture").count() == 0
        colors = "() => getComputedStyle(document.querySelector('#place > div > *')).getPropertyValue('--sm-page')"
        dark = shown.page.evaluate(colors)
        shown.page.locator("button.theme").click()
        shown.wait(lambda: shown.page.evaluate(colors) != dark)
        assert shown.page.evaluate("() => document.documentElement.dataset.theme") == "corporate"


PAGE_STATE = HOST_STATE.replace("html, body, [data-own]", "html, body")
HOST_ADDS = """() => { document.body.append(Object.assign(document.createElement("div"), {id: "long"}))
  document.querySelector("#long").style.cssText = "height: 3000px; width: 10px" }"""


def styles_at(page: Page, url: str, *, ready: Callable[[Shown], bool]) -> dict[str, Any]:
    """The state of a page when it is ready; it scrolls."""
    page.goto(url)
    page.wait_for_function("() => window.Bokeh && Bokeh.documents.length")
    page.evaluate(SCRIPT)
    shown = Shown(page)
    shown.wait(lambda: ready(shown), timeout_s=60)
    page.evaluate(HOST_ADDS)
    told = page.evaluate(PAGE_STATE)
    page.evaluate("() => window.scrollTo(0, 500)")
    assert page.evaluate("() => scrollY") == 500
    return {**told, "height": 0}


@pytest.mark.parametrize("host", ["bokeh server", "panel library", "bokeh library"])
def test_a_pane_changes_nothing_of_a_page_of_bokeh_or_panel(
    served: Stack, ports: dict[str, int], redis_url: str, chromium: Browser, run: MadeUpRun, tmp_path: Path, host: str
) -> None:
    port, path = (ports["bokeh"], "overview") if host == "bokeh server" else (free_port(), "")
    told: dict[str, str] = {"pages": served.url} if host == "bokeh server" else {"redis": redis_url}
    begins = {"bokeh server": "# bokeh:", "panel library": "# panel:", "bokeh library": "# bokeh library:"}[host]
    pane = {
        "bokeh server": ("{{ maps }}", ""),
        "panel library": ('pn.Row(tab.maps, pn.Column("## Notes", tab.histogram))', 'pn.Row(pn.Column("## Notes"))'),
        "bokeh library": ("    beamline.maps(height=560).server_doc(document)\n", ""),
    }[host]
    code = block("embedding.md", "python", begins, **told).replace("port=8000", f"port={port}")
    assert pane[0] in code
    arguments = ["-m", "bokeh", "serve", "overview.py", "--port", str(port)] if path else ["overview.py"]
    url = f"http://localhost:{port}/{path}"
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    states: list[dict[str, Any]] = []
    for variant, ready in (
        (code.replace(*pane), lambda shown: True),
        (code, lambda shown: shows(shown, run, 33)),
    ):
        (tmp_path / "overview.py").write_text(variant)
        with program_at(arguments, tmp_path, url):
            states.append(styles_at(page, url, ready=ready))
            page.goto("about:blank")
    page.close()
    sizes = re.compile("size|height|width|origin|bottom|top|right")  # a page with more in it is longer
    changed = {name: told for name, told in differences(*states).items() if not sizes.search(name)}
    assert changed == {}
