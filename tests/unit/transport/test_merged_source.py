"""Several sources as one: the contract, and what several can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.source_contract import Reader, SourceContract
from tests.unit.transport.test_json_lines import source_of, start, url_of, write

from snakemap.core.source_status import SourceState
from snakemap.transport.document_source import DocumentSource
from snakemap.transport.json_lines import LinesPublisher
from snakemap.transport.merged_source import MergedSource


def merged(directory: Path, **options: Any) -> MergedSource:
    for name in ("one", "other"):
        (directory / name).mkdir(exist_ok=True)
    return MergedSource({name: source_of(directory / name, **options) for name in ("one", "other")})


class TestMergedSource(SourceContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "documents.jsonl").touch()
        return tmp_path

    def source(self, place: Any) -> DocumentSource:
        return merged(place, held_max=self.held_max)

    async def send(self, place: Any, bodies: Sequence[dict[str, Any]]) -> None:
        with LinesPublisher(url_of(place / "one")) as publisher:
            for body in bodies:
                publisher.send(body, confirm=True)


async def test_each_source_keeps_its_order_and_gets_its_acknowledgements(tmp_path: Path) -> None:
    source = merged(tmp_path)
    for name, numbers in (("one", range(20)), ("other", range(100, 140))):
        write(tmp_path / name, "".join(start(number) for number in numbers))
    reader = Reader(source, acknowledges=False)
    await reader.has(60)
    assert [number for number in reader.numbers if number < 100] == list(range(20))
    assert [number for number in reader.numbers if number >= 100] == list(range(100, 140))
    source.ack([delivery for delivery in reader.deliveries if delivery.source == "other"])
    assert (source.held, source.sources["one"].held) == (20, 20)
    await source.close()
    again = Reader(merged(tmp_path), acknowledges=True)
    await again.has(20)
    assert again.numbers == list(range(20))
    await again.source.close()


async def test_it_is_lost_with_the_reason_while_one_of_them_is_and_the_other_one_is_read(tmp_path: Path) -> None:
    source = merged(tmp_path)
    write(tmp_path / "one", start(1))
    reader = Reader(source, acknowledges=True)
    await reader.has(1)
    await reader.until(lambda: source.status.state is SourceState.LOST)
    path = tmp_path / "other" / "documents.jsonl"
    assert str(source.status) == f"lost: other: {path} cannot be read: No such file or directory"
    write(tmp_path / "other", start(2))
    await reader.has(2)
    await reader.until(lambda: source.status.state is SourceState.CONNECTED)
    await source.close()
