"""Where a page of others found us, by what its browser asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from snakemap.dashboard.embed_css import script_address, server_of


def request(uri: str, *, host: str = "snakemap:5006", protocol: str = "http", absolute: str = "") -> Any:
    arguments = {"bokeh-absolute-url": [absolute.encode()]} if absolute else {}
    return SimpleNamespace(uri=uri, host=host, protocol=protocol, arguments=arguments)


@pytest.mark.parametrize(
    ("asked", "server"),
    [
        (request("/maps/autoload.js?bokeh-autoload-element=a"), "http://snakemap:5006"),
        (request("/prefix/maps/autoload.js"), "http://snakemap:5006/prefix"),
        (request("/maps/autoload.js", host="s", absolute="https://s/maps"), "https://s"),
        (request("/maps/autoload.js", protocol="https"), "https://snakemap:5006"),
    ],
    ids=["plain", "prefix", "TLS before us", "TLS of ours"],
)
def test_a_page_of_others_loads_styles_from_where_its_script_came_from(asked: Any, server: str) -> None:
    assert server_of(asked) == server


@pytest.mark.parametrize(
    "absolute", ["https://evil/maps", "javascript:alert(1)", "https://[", "", "ftp://snakemap:5006/"]
)
def test_nobody_can_name_another_server(absolute: str) -> None:
    assert server_of(request("/maps/autoload.js", absolute=absolute)) == "http://snakemap:5006"


def test_a_page_of_our_own_needs_none() -> None:
    assert server_of(request("/maps?bokeh-absolute-url=http://evil", absolute="http://evil/maps")) == ""


@pytest.mark.parametrize(
    ("asked", "address"),
    [
        (
            "/maps/autoload.js?bokeh-autoload-element=a&theme=light",
            "http://snakemap:5006/maps/autoload.js?bokeh-autoload-element=a&theme=light",
        ),
        (
            "/beamline/maps/autoload.js?bokeh-autoload-element=a&run=x%26y",
            "http://snakemap:5006/beamline/maps/autoload.js?bokeh-autoload-element=a&run=x%26y",
        ),
        (
            "/maps/autoload.js?bokeh-session-id=old&bokeh-token=older&bokeh-autoload-element=a",
            "http://snakemap:5006/maps/autoload.js?bokeh-autoload-element=a",
        ),
        ("/maps?theme=light", ""),
    ],
    ids=["plain", "prefix", "session", "page of ours"],
)
def test_a_pane_is_embedded_again_by_the_same_script_and_never_into_the_old_session(asked: str, address: str) -> None:
    document = cast(Any, SimpleNamespace(session_context=SimpleNamespace(request=request(asked))))
    assert script_address(document) == address
