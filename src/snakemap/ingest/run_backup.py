"""Backup of the documents of an open run, to restore it in a store that has lost it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from snakemap.core.documents import Document, Span
from snakemap.core.frame_ledger import RowRange
from snakemap.core.json_values import is_list, is_mapping

__all__ = ["RunBackup"]

WHOLE = ("start", "descriptor", "resource", "stream_resource", "stop")
"""Documents that are kept unchanged."""

PAGE_MAX = 5000
TEXT_MAX = 200


class RunBackup:
    """Documents of a run in little memory: announcements as a few ranges, events as columns of numbers."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._spans: dict[tuple[str, str], list[RowRange]] = {}
        self._data: dict[str, tuple[list[str], list[Any]]] = {}
        self._pointers: dict[tuple[str, str], tuple[list[int], list[Any]]] = {}
        self._events: dict[tuple[str, tuple[str, ...]], tuple[array[int], list[array[float]]]] = {}

    def take(self, document: Document) -> None:
        """Keep what is needed of a document."""
        name, doc = document.name, document.doc
        if name in WHOLE:
            self._documents[f"{name} {doc.get('uid')}"] = document
        elif name == "stream_datum":
            self._announce(doc)
        elif name == "datum":
            ids, numbers = self._data.setdefault(doc["resource"], ([], []))
            ids.append(doc["datum_id"])
            numbers.append(_point_number(doc))
        elif name == "datum_page":
            point_numbers, (ids, numbers) = _point_number(doc), self._data.setdefault(doc["resource"], ([], []))
            ids += doc["datum_id"]
            numbers += point_numbers if is_list(point_numbers) else [None] * len(doc["datum_id"])
        elif name == "event":
            columns = {key: [value] for key, value in _data(doc).items()}
            self._columns(doc["descriptor"], [doc["seq_num"]], columns)
            self._point(doc["descriptor"], [doc["seq_num"]], columns)
        elif name == "event_page":
            self._columns(doc["descriptor"], doc["seq_num"], _data(doc))
            self._point(doc["descriptor"], doc["seq_num"], _data(doc))

    def documents(self) -> list[Document]:
        """Return documents from which the run can be restored together with its files, in valid order."""
        stop = [document for document in self._documents.values() if document.name == "stop"]
        others = [document for document in self._documents.values() if document.name != "stop"]
        if not others:
            return stop
        pages = [replace(others[0], name="event_page", doc=doc) for doc in self._pages()]
        spans = [replace(others[0], name="stream_datum", doc=doc) for doc in self._announced()]
        data = [replace(others[0], name="datum_page", doc=doc) for doc in self._data_pages()]
        return [*others, *data, *pages, *spans, *stop]

    def _announce(self, doc: Mapping[str, Any]) -> None:
        resource = doc["stream_resource"]
        rows, points = Span.read(doc["indices"], "indices"), Span.read(doc["seq_nums"], "seq_nums")
        if not rows.size or points.size != rows.size:
            return
        spans = self._spans.setdefault((doc["descriptor"], resource), [])
        new = RowRange(resource, rows.start, points.start, rows.size)
        if spans and spans[-1].part(spans[-1].count, rows.size) == new:
            spans[-1] = spans[-1].part(0, spans[-1].count + rows.size)
        elif not spans or spans[-1] != new:
            spans.append(new)

    def _columns(self, descriptor: str, seq_nums: list[int], data: Mapping[str, Any]) -> None:
        """Keep the numeric columns of an event or a page."""
        numbers = {
            key: column
            for key, column in data.items()
            if is_list(column)
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

    def _point(self, descriptor: str, seq_nums: list[int], data: Mapping[str, Any]) -> None:
        """Keep the datum ids of events."""
        for key, column in data.items():
            if (
                is_list(column)
                and len(column) == len(seq_nums)
                and all(isinstance(uid, str) and len(uid) <= TEXT_MAX for uid in column)
            ):
                points, ids = self._pointers.setdefault((descriptor, key), ([], []))
                points += seq_nums
                ids += column

    def _data_pages(self) -> Iterator[dict[str, Any]]:
        for resource, (ids, numbers) in self._data.items():
            for start in range(0, len(ids), PAGE_MAX):
                part = slice(start, start + PAGE_MAX)
                yield {"resource": resource, "datum_id": ids[part], "datum_kwargs": {"point_number": numbers[part]}}

    def _announced(self) -> Iterator[dict[str, Any]]:
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
                data = {key: column[part].tolist() for key, column in zip(keys, columns, strict=True)}
                yield _page(descriptor, seq_nums[part].tolist(), data)
        for (descriptor, key), (points, ids) in self._pointers.items():
            for start in range(0, len(points), PAGE_MAX):
                part = slice(start, start + PAGE_MAX)
                yield _page(descriptor, points[part], {key: ids[part]})


def _page(descriptor: str, seq_nums: list[int], data: dict[str, Any]) -> dict[str, Any]:
    times = [0.0] * len(seq_nums)
    return {
        "descriptor": descriptor,
        "seq_num": seq_nums,
        "uid": [f"{descriptor}/again-{number}" for number in seq_nums],
        "time": times,
        "data": data,
        "timestamps": dict.fromkeys(data, times),
        "filled": {},
    }


def _point_number(doc: Mapping[str, Any]) -> Any:
    kwargs = doc.get("datum_kwargs")
    return kwargs.get("point_number") if is_mapping(kwargs) else None


def _data(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    data = doc.get("data")
    return data if is_mapping(data) else {}
