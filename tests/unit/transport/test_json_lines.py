"""A file of JSON lines as document source: the contract, and what a file can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.source_contract import Reader, SourceContract

from snakemap.core.source_status import SourceState
from snakemap.errors import SettingsError
from snakemap.transport.document_source import DocumentSource
from snakemap.transport.json_lines import LinesPublisher, LinesSource


def url_of(directory: Path) -> str:
    return f"lines://{directory}/documents.jsonl"


def source_of(directory: Path, **options: Any) -> LinesSource:
    return LinesSource(url_of(directory), state_dir=directory / "state", poll_s=0.01, **options)


class TestLinesSource(SourceContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        (tmp_path / "documents.jsonl").touch()
        return tmp_path

    def source(self, place: Any) -> DocumentSource:
        return source_of(place, held_max=self.held_max)

    async def send(self, place: Any, bodies: Sequence[dict[str, Any]]) -> None:
        with LinesPublisher(url_of(place)) as publisher:
            for body in bodies:
                publisher.send(body, confirm=True)


def write(directory: Path, text: str, mode: str = "a") -> None:
    with (directory / "documents.jsonl").open(mode) as file:
        file.write(text)


def start(number: int) -> str:
    return json.dumps({"name": "start", "doc": {"number": number}}) + "\n"


async def test_a_file_that_appears_later_is_read_and_one_that_is_not_there_is_lost(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    reader = Reader(source, acknowledges=True)
    await reader.until(lambda: source.status.state is SourceState.LOST)
    assert str(source.status) == f"lost: {tmp_path}/documents.jsonl cannot be read: No such file or directory"
    write(tmp_path, start(1))
    await reader.has(1)
    assert source.status.state is SourceState.CONNECTED
    await source.close()


async def test_a_line_is_read_when_its_end_is_written(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    text = start(7)
    write(tmp_path, start(6) + text[:9])
    reader = Reader(source, acknowledges=True)
    await reader.has(1)
    write(tmp_path, text[9:] + "\n" + start(8))
    await reader.has(3)
    assert reader.numbers == [6, 7, 8]
    await source.close()


async def test_a_file_that_is_replaced_or_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    write(tmp_path, start(1) + start(2))
    reader = Reader(source, acknowledges=False)
    await reader.has(2)
    write(tmp_path, start(3), mode="w")
    await reader.has(3)
    (tmp_path / "new").write_text(start(4) + start(5) + start(6))
    (tmp_path / "new").rename(tmp_path / "documents.jsonl")
    await reader.has(6)
    source.ack(reader.deliveries[:3])  # of the former files
    assert source.held == 3
    assert reader.numbers == [1, 2, 3, 4, 5, 6]
    await source.close()


async def test_what_is_no_message_is_delivered_as_it_is_and_a_line_that_is_too_long_is_counted(tmp_path: Path) -> None:
    source = source_of(tmp_path, body_bytes_max=100)
    write(tmp_path, '{"broken\n[1]\n' + "x" * 5000 + "\n" + start(1))
    reader = Reader(source, acknowledges=True)
    await reader.has(3)
    assert [delivery.body for delivery in reader.deliveries[:2]] == [b'{"broken\n', b"[1]\n"]
    assert source.oversized == 1
    assert source.held == 0
    await source.close()


async def test_the_task_of_a_worker_event_arrives_as_a_header(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    with LinesPublisher(url_of(tmp_path)) as publisher:
        publisher.publish({"state": "IDLE"}, "task")
        publisher.send(b'{"state": "RUNNING"}')
    reader = Reader(source, acknowledges=True)
    await reader.has(2)
    assert [dict(delivery.headers) for delivery in reader.deliveries] == [{"correlation-id": "task"}, {}]
    assert [json.loads(delivery.body) for delivery in reader.deliveries] == [{"state": "IDLE"}, {"state": "RUNNING"}]
    await source.close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inode": "x", "offset": 1}', '{"inode": 1}'])
async def test_a_position_that_cannot_be_read_costs_a_repetition_only(tmp_path: Path, content: str) -> None:
    write(tmp_path, start(1))
    for _ in range(2):
        source = source_of(tmp_path)
        reader = Reader(source, acknowledges=True)
        await reader.has(1)
        assert reader.numbers == [1]
        await source.close()
        (position,) = (tmp_path / "state" / "sources").glob("*.json")
        position.write_text(content)


@pytest.mark.parametrize("url", ["lines:", "lines://", "lines://host/path", "lines:relative.jsonl", "file:///a"])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SNAKEMAP_SOURCE_URL: it is not lines:///path"):
        LinesSource(url, state_dir=tmp_path)
