"""What is kept of the documents of an open run, so that it can begin again in a store that has lost it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from snakemap.documents import Document, Span
from snakemap.frames import Piece

__all__ = ["Kept"]

WHOLE = ("start", "descriptor", "resource", "stream_resource", "stop")
"""Documents that are kept as they came."""

PAGE_MAX = 5000


class Kept:
    """Documents of a run, in little memory: what was announced as few ranges, events as columns of numbers."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._spans: dict[tuple[str, str], list[Piece]] = {}
        self._events: dict[tuple[str, tuple[str, ...]], tuple[array[int], list[array[float]]]] = {}

    def take(self, document: Document) -> None:
        """Keeps what is needed of a document."""
        name, doc = document.name, document.doc
        if name in WHOLE:
            self._documents[f"{name} {doc.get('uid')}"] = document
        elif name == "stream_datum":
            self._announce(doc)
        elif name == "event":
            self._columns(doc["descriptor"], [doc["seq_num"]], {key: [value] for key, value in _data(doc).items()})
        elif name == "event_page":
            self._columns(doc["descriptor"], doc["seq_num"], _data(doc))

    def documents(self) -> list[Document]:
        """Enough to begin the run again from its files; in the order in which documents come."""
        stop = [document for document in self._documents.values() if document.name == "stop"]
        others = [document for document in self._documents.values() if document.name != "stop"]
        if not others:
            return stop
        pages = [replace(others[0], name="event_page", doc=doc) for doc in self._pages()]
        spans = [replace(others[0], name="stream_datum", doc=doc) for doc in self._data()]
        return [*others, *pages, *spans, *stop]

    def _announce(self, doc: Mapping[str, Any]) -> None:
        resource = doc["stream_resource"]
        rows, points = Span.read(doc["indices"], "indices"), Span.read(doc["seq_nums"], "seq_nums")
        if not rows.size or points.size != rows.size:
            return
        spans = self._spans.setdefault((doc["descriptor"], resource), [])
        new = Piece(resource, rows.start, points.start, rows.size)
        if spans and spans[-1].part(spans[-1].count, rows.size) == new:
            spans[-1] = spans[-1].part(0, spans[-1].count + rows.size)
        elif not spans or spans[-1] != new:
            spans.append(new)

    def _columns(self, descriptor: str, seq_nums: list[int], data: Mapping[str, Any]) -> None:
        """Keeps those columns of an event or a page that are numbers."""
        numbers = {
            key: column
            for key, column in data.items()
            if isinstance(column, list)
            and len(column) == len(seq_nums)
            and {int, float, type(None)}.issuperset(map(type, column))
        }
        keys = tuple(sorted(numbers))
        try:
            new = [array("d", (math.nan if value is None else value for value in numbers[key])) for key in keys]
            points = array("q", seq_nums)
        except (TypeError, OverflowError):
            return
        empty = (array("q"), [array("d") for _ in keys])
        kept_points, columns = self._events.setdefault((descriptor, keys), empty)
        kept_points.extend(points)
        for column, values in zip(columns, new, strict=True):
            column.extend(values)

    def _data(self) -> Iterator[dict[str, Any]]:
        for (descriptor, resource), spans in self._spans.items():
            for span in spans:
                yield {
                    "uid": f"{resource}/again-{span.index}",
                    "stream_resource": resource,
                    "descriptor": descriptor,
                    "indices": {"start": span.index, "stop": span.index + span.count},
                    "seq_nums": {"start": span.seq_num, "stop": span.seq_num + span.count},
                }

    def _pages(self) -> Iterator[dict[str, Any]]:
        for (descriptor, keys), (seq_nums, columns) in self._events.items():
            for start in range(0, len(seq_nums), PAGE_MAX):
                part = slice(start, start + PAGE_MAX)
                numbers = seq_nums[part].tolist()
                times = [0.0] * len(numbers)
                yield {
                    "descriptor": descriptor,
                    "seq_num": numbers,
                    "uid": [f"{descriptor}/again-{number}" for number in numbers],
                    "time": times,
                    "data": {key: column[part].tolist() for key, column in zip(keys, columns, strict=True)},
                    "timestamps": dict.fromkeys(keys, times),
                    "filled": {},
                }


def _data(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    data = doc.get("data")
    return data if isinstance(data, Mapping) else {}
