"""The panes as a library, over a real Redis: who is shown what, and what is left when they have gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from tests.support.made_up import MadeUpRun
from tests.support.patience import PATIENCE, patiently

from snakemap import Beamline
from snakemap.dashboard.embed import BeamlineTab
from snakemap.dashboard.embed_pane import EMBEDDED_KINDS
from snakemap.errors import BeamlineClosed, SessionRefused, SettingsError

TIMEOUT_S = 20.0


@pytest.fixture
async def beamline(redis_url: str) -> AsyncIterator[Beamline]:
    with Beamline(redis_url) as beamline:
        yield beamline
    await quiet(beamline)


async def quiet(beamline: Beamline) -> None:
    """Returns when nothing of a beamline goes on any more."""
    async with patiently(TIMEOUT_S):
        while beamline._closing:
            await asyncio.gather(*beamline._closing)


def leave(document: Document) -> None:
    """As a server does when the browser has gone."""
    for destroyed in document.session_destroyed_callbacks:
        destroyed(SimpleNamespace(id="session", _document=document))  # pyright: ignore[reportArgumentType]


async def shown(tab: BeamlineTab, points: int) -> None:
    for one in tab.tabs:
        one.start()  # as when the browser has loaded the page
    async with patiently(TIMEOUT_S):
        while not all((run := one.pipeline.run) and run.summary()["points"] == points for one in tab.tabs):
            for one in tab.tabs:
                one.tick()  # as the server of the session does when it is asked to
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", EMBEDDED_KINDS)
async def test_a_pane_is_shown_and_ends_with_its_document(beamline: Beamline, redis_url: str, kind: str) -> None:
    run = MadeUpRun(redis_url)
    run.add(1, 33)
    tab, document = beamline.tab(), Document()
    tab.pane(kind).server_doc(document)
    await shown(tab, 33)
    leave(document)
    assert tab.tabs == []
    await quiet(beamline)


async def test_two_documents_have_choices_of_their_own_and_the_last_one_ends_the_following(
    beamline: Beamline, redis_url: str
) -> None:
    MadeUpRun(redis_url).add(1, 5)
    tab, documents = beamline.tab(), [Document(), Document()]
    for document in documents:
        tab.maps.server_doc(document)
    await shown(tab, 5)
    first, second = tab.tabs
    first.choices.theme = "light"
    assert (first.live is second.live, second.choices.theme) == (True, "dark")
    live = beamline.live
    leave(documents[0])
    assert tab.tabs == [second]
    assert beamline.live is live
    leave(documents[1])
    await quiet(beamline)
    assert beamline.live is not live


async def test_beamlines_share_nothing(beamline: Beamline, redis_url: str) -> None:
    with Beamline(redis_url, theme="light") as other:
        assert other.live is not beamline.live
        assert (other.tab().theme, beamline.tab().theme) == ("light", "dark")


async def test_one_document_too_many_is_refused(redis_url: str) -> None:
    with Beamline(redis_url, tabs_max=1) as beamline:
        documents = [Document(), Document()]
        pane = beamline.maps()
        pane.server_doc(documents[0])
        with pytest.raises(SessionRefused):
            pane.server_doc(documents[1])
        leave(documents[0])
        await quiet(beamline)


def test_what_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(SettingsError):
        Beamline("redis://localhost", theme="pink")
    with pytest.raises(SettingsError):
        Beamline("redis://localhost", grid="7")
    beamline = Beamline("redis://localhost")
    with pytest.raises(SettingsError):
        beamline.tab(theme="pink")
    beamline.close()
    with pytest.raises(BeamlineClosed):
        _ = beamline.live


def test_a_program_that_only_asks_loads_nothing_of_the_servers() -> None:
    code = (
        "import sys, snakemap; snakemap.connect('http://host:8080').close()\n"
        "print(*sorted({'panel', 'bokeh', 'h5py', 'fastapi', 'redis', 'xarray'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60 * PATIENCE, check=True
    )
    assert told.stdout.strip() == ""
