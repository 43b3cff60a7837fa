"""Every decision has a status, a date, the ways that were rejected, and the files that it rules, which exist."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
STATES = ("proposed", "accepted", "superseded")
EVERY_RECORD = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|js|md))`")


def head_of(record: Path) -> dict[str, str]:
    """Return the list below the title: its entries by their names in small letters."""
    _, _, rest = record.read_text(encoding="utf-8").partition("\n\n")
    head = rest.partition("\n\n")[0]
    return {name.lower(): text.strip() for name, text in re.findall(r"^- \*\*(\w+):\*\*((?:.|\n(?!- ))*)", head, re.M)}


def test_they_are_numbered_without_gaps() -> None:
    assert [record.name[:5] for record in RECORDS] == [f"{number:04}-" for number in range(1, len(RECORDS) + 1)]
    for number, record in enumerate(RECORDS, 1):
        assert record.read_text(encoding="utf-8").startswith(f"# {number}. ")


@EVERY_RECORD
def test_a_record_begins_with_status_date_rejected_ways_and_files(record: Path) -> None:
    head = head_of(record)
    assert list(head) == ["status", "date", "rejected", "files"]
    assert head["status"].split()[0] in STATES
    assert date(2026, 11, 1) <= date.fromisoformat(head["date"])
    assert head["rejected"]
    assert FILE.search(head["files"])


@EVERY_RECORD
def test_the_files_that_a_record_names_exist(record: Path) -> None:
    named = FILE.findall(record.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).is_file()] == []
