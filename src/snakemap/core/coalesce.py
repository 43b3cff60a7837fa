"""Join events that follow each other into pages, and stream datums into ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from snakemap.core.documents import Entry
from snakemap.core.json_values import is_dict, is_list

__all__ = ["coalesce"]

NEIGHBORS = 32
"""Announcements searched back for one that a new one continues: several detectors are announced in turn."""


def coalesce(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the same content in fewer entries: events and pages of one descriptor become one page, announcements one
    range.

    Catching up then costs a page instead of its points. Announcements of frames stay before the sums of these; all else
    keeps its order. The yielded cursors do not rise: drop known entries first.
    """
    pages: dict[Any, list[Entry]] = {}
    announced: list[Entry] = []
    for entry in entries:
        columns = _columns_of(entry)
        if columns is not None:
            pages.setdefault((entry.run, *columns), []).append(entry)
        elif entry.name == "stream_datum":
            _announce(announced, entry)
        else:
            yield from _flushed(announced, pages)
            yield entry
    yield from _flushed(announced, pages)


def _flushed(announced: list[Entry], pages: dict[Any, list[Entry]]) -> Iterator[Entry]:
    yield from announced
    announced.clear()
    for parts in pages.values():
        yield _page_of(parts)
    pages.clear()


def _announce(announced: list[Entry], entry: Entry) -> None:
    """Append a stream_datum to the last one of its resource if it continues that one, else add it."""
    doc = entry.doc
    for number in range(len(announced) - 1, max(len(announced) - 1 - NEIGHBORS, -1), -1):
        last = announced[number].doc
        if (last["stream_resource"], last["descriptor"]) != (doc["stream_resource"], doc["descriptor"]):
            continue
        if all(last[key]["stop"] == doc[key]["start"] for key in ("indices", "seq_nums")):
            longer = {key: {"start": last[key]["start"], "stop": doc[key]["stop"]} for key in ("indices", "seq_nums")}
            announced[number] = replace(entry, doc={**doc, **longer})
            return
        break
    announced.append(entry)


def _columns_of(entry: Entry) -> tuple[str, tuple[str, ...]] | None:
    """Return descriptor and keys of an event or a page that can be merged with similar ones; None for all else."""
    data = entry.doc.get("data")
    if entry.name not in ("event", "event_page") or not is_dict(data):
        return None
    if entry.name == "event":
        columns, points = [[value] for value in data.values()], 1
    else:
        columns, points = list(data.values()), len(entry.doc["seq_num"])
    if any(not is_list(column) or len(column) != points for column in columns):
        return None
    if not all({int, float, type(None)}.issuperset(map(type, column)) for column in columns):
        return None  # kept separate: an invalid value must not affect its neighbors
    return entry.doc["descriptor"], tuple(sorted(data))


def _page_of(entries: list[Entry]) -> Entry:
    """Return one page of several events or pages, with the cursor of the last."""
    last = entries[-1]
    if len(entries) == 1:
        return last
    seq_nums: list[Any] = []
    data: dict[str, list[Any]] = {key: [] for key in last.doc["data"]}
    for entry in entries:
        lone = entry.name == "event"
        seq_nums += [entry.doc["seq_num"]] if lone else entry.doc["seq_num"]
        for key, column in entry.doc["data"].items():
            data[key] += [column] if lone else column
    return replace(last, name="event_page", doc={**last.doc, "seq_num": seq_nums, "data": data})
