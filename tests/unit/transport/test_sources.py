"""Sources and publishers are chosen by the scheme of the address."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemap.errors import SettingsError
from snakemap.settings import Settings
from snakemap.transport.json_lines import LinesPublisher, LinesSource
from snakemap.transport.merged_source import MergedSource
from snakemap.transport.sources import SOURCES, open_publisher, open_source, source_name
from snakemap.transport.stomp_source import StompSource


def settings_of(state_dir: Path, **values: str) -> Settings:
    return Settings(state_dir=state_dir, stomp_subscription="mine", **values)  # pyright: ignore[reportArgumentType]


def test_no_address_is_no_source(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert open_source(settings) is None
    assert open_publisher(settings) is None


def test_the_scheme_chooses_the_source(tmp_path: Path) -> None:
    broker = open_source(settings_of(tmp_path, stomp_url="stomp://host", stomp_destination="/topic/mine"))
    assert isinstance(broker, StompSource)
    assert (broker.destination, broker.subscription) == ("/topic/mine", "mine")
    lines = open_source(settings_of(tmp_path, stomp_url="stomp://host", source_url=f"lines://{tmp_path}/a.jsonl"))
    assert isinstance(lines, LinesSource)
    assert lines.path == tmp_path / "a.jsonl"


def test_a_broker_may_be_set_as_source(tmp_path: Path) -> None:
    assert isinstance(open_source(settings_of(tmp_path, source_url="stomp+ssl://host")), StompSource)


def test_several_addresses_are_one_source_and_the_first_is_published_to(tmp_path: Path) -> None:
    urls = f"lines://{tmp_path}/a.jsonl, stomp://me:a,b@host:61613,lines://{tmp_path}/a.jsonl"
    settings = settings_of(tmp_path, source_url=urls)
    source = open_source(settings)
    assert isinstance(source, MergedSource)
    assert list(source.sources) == [f"lines://{tmp_path}/a.jsonl", "stomp://host:61613"]
    assert source.subscription == "mine"
    assert isinstance(open_publisher(settings), LinesPublisher)


@pytest.mark.parametrize("url", ["zmq://host:5577", "nonsense", "://"])
def test_another_scheme_is_refused_with_those_that_there_are(url: str, tmp_path: Path) -> None:
    for make in (open_source, open_publisher):
        with pytest.raises(SettingsError, match=r"SNAKEMAP_SOURCE_URL: .*stomp.*lines") as refused:
            make(settings_of(tmp_path, source_url=url))
        assert all(scheme in str(refused.value) for scheme in SOURCES)


def test_a_password_is_not_in_the_name_of_a_source() -> None:
    assert source_name("stomp://me:swordfish@host:1") == "stomp://host:1"
