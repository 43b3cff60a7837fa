"""What a form of run is: the documents that tell of it, and the map that they must come to, in motor coordinates."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.support.ledgers import settle

from snakemap.core.causal_order import CausalOrder
from snakemap.core.derived_documents import TOTAL, derived_descriptor, derived_page, scalar_descriptor
from snakemap.core.documents import SETTLED, Document, decode, envelope
from snakemap.core.frame_ledger import FrameLedger
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run
from snakemap.core.streams import MapSource, Stream

__all__ = ["ROIS", "Expected", "Files", "Form", "brightness", "on_the_wire", "worked"]

Files = Mapping[tuple[str, str], npt.NDArray[np.float64]]
"""What the datasets of a form hold, by URI and path in the file: the sum of every frame, or scalars; one a row."""

ROIS = {"half": (0, 4, 0, 3)}
"""Its sum is half of the total, by decree."""

FRAME = (4, 6)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
LONG_AGO, LONG_AFTER = 1.5e9, 2.5e9


def brightness(x: Any, y: Any, z: Any = 0.0) -> Any:
    """The counts of a sample at a place in mm: another one at every other place, and never the same for x as for y.

    >>> brightness(1.0, 2.0), brightness(2.0, 1.0)
    (1114.6, 1207.6)
    """
    return 1000.0 + 100.0 * x + 7.0 * y + 0.3 * x * y + 500.0 * z


@dataclass(frozen=True)
class Expected:
    """What one run of a form must come to.

    Attributes:
        counts: (n,) of the point of seq_num ``index + 1``; NaN where the map is blank.
        places: by motor, where each point lies (n,), in the unit of the motor; empty when nobody can know.
        source: words that must be among those that tell where the geometry is from.
        status: how it stands in the end.
        expected: points of the whole scan; None when nobody can know.
        needed: the motors whose coordinates the map must have; by default all of ``places``.
        table: seq_nums (rows, columns) of a grid, as it lies in memory; None where that is not told.
        path: whether its points lie on a path, and not in a grid that is visited row by row; None where either will do.
        tolerance: how far a coordinate may be off, in the unit of the motor.
        blank: points that came without a usable number: visited, and yet NaN.
        beyond: points outside the grid.
        sample: counts of a place (x, y), where the stage has no third axis.
        scalars: by data key, what its own map holds at each point (n,).
        others: by name, the total of another source at each point (n,).
    """

    counts: npt.NDArray[np.float64]
    places: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    source: str = ""
    status: str = "complete"
    expected: int | None = None
    needed: tuple[str, ...] | None = None
    table: npt.NDArray[np.int64] | None = None
    path: bool | None = None
    tolerance: float = 1e-9
    blank: int = 0
    beyond: int = 0
    sample: Callable[[Any, Any], Any] | None = None
    scalars: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    others: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @property
    def visited(self) -> int:
        """Points whose document has come."""
        return int(np.count_nonzero(~np.isnan(self.counts))) + self.blank


@dataclass(frozen=True)
class Form:
    """One form that a run can have.

    Attributes:
        name: short, unique.
        about: what formats.md says of it, in a sentence.
        messages: what the broker delivers, JSON text.
        files: what the announced datasets hold.
        expected: what each run comes to, in the order in which they began.
        defaults: the instrument's settings.
        rewinds: whether a point may hold another value in mid-run than in the end.
    """

    name: str
    about: str
    messages: tuple[str, ...]
    expected: tuple[Expected, ...]
    files: Files = field(default_factory=dict)
    defaults: ScanDefaults = field(default_factory=ScanDefaults)
    rewinds: bool = False

    @cached_property
    def documents(self) -> tuple[Document, ...]:
        """The documents in the order of the store, each with its run, and those that the worker adds."""
        return tuple(worked(self.messages, self.files, self.defaults))

    @cached_property
    def runs(self) -> tuple[str, ...]:
        """Uids of its runs, in the order in which they began."""
        return tuple(dict.fromkeys(document.run for document in self.documents if document.name == "start"))


def on_the_wire(
    documents: Iterable[tuple[str, Any]], *, task_id: str | None = "task", stretch: int = 0, anonymous: bool = False
) -> tuple[str, ...]:
    """Documents as blueapi sends them: JSON, sets and tuples as lists, NaN as null; the same bytes every time.

    Args:
        documents: name and body.
        task_id: in the envelope.
        stretch: a number of its own for every form, so that no two have a uid in common.
        anonymous: whether the envelope has no task, as before blueapi 0.14.
    """
    texts = []
    for number, (name, doc) in enumerate(documents):
        body = envelope(name, _plain(doc, 1_700_000_000.0 + number / 8), task_id=task_id)
        if anonymous:
            del body["task_id"]
        texts.append(json.dumps(body))
    numbers: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return numbers.setdefault(found[0], str(uuid.UUID(int=(stretch << 64) + len(numbers))))

    return tuple(UUID.sub(numbered, text) for text in texts)


def worked(messages: Iterable[str], files: Files, defaults: ScanDefaults) -> Iterator[Document]:
    """The documents as the store has them: each with its run, and the sums that the worker has read from the files."""
    order, runs = CausalOrder(), dict[str, Run]()
    for message in messages:
        document = decode(message)
        if not isinstance(document, Document):
            continue
        for ready in order.accept(document):
            run = runs.get(ready.run)
            if run is None:
                run = runs[ready.run] = Run(ready.doc, defaults=defaults)
            run.apply(ready)
            yield ready
            yield from _reduced(run, ready, files)


def _reduced(run: Run, document: Document, files: Files) -> Iterator[Document]:
    """What the worker appends after a document: all that can be read now, and in the end what is left in the files."""
    if document.name == "stop":
        for ledger in run.ledgers():
            for uid, resource in ledger.resources.items():
                length = len(files.get((resource.uri, resource.dataset), ()))
                ledger.fill(uid, length=length, expected=run.expected)
    if document.name in ("stream_datum", "stop", "event", "event_page", "datum", "datum_page"):
        for stream in list(run.streams.values()):
            for source in list(stream.images.values()):
                yield from _sums(run, source, files)
            for key, ledger in list(stream.files.items()):
                yield from _scalars(run, stream, key, ledger, files)
    if document.name == "stop":
        yield _applied(run, SETTLED, {"run_start": run.uid})


def _sums(run: Run, source: MapSource, files: Files) -> Iterator[Document]:
    for seq_nums, indices, values in _read(source.ledger, files):
        descriptor = derived_descriptor(run, ROIS, frame_shape=FRAME, time=1.0, dtype="<f8", source=source)
        yield _applied(run, "descriptor", descriptor)
        columns = {"half": (values / 2).tolist(), TOTAL: values.tolist()}
        yield _applied(run, "event_page", derived_page(descriptor["uid"], seq_nums, columns, time=1.0, indices=indices))


def _scalars(run: Run, stream: Stream, key: str, ledger: FrameLedger, files: Files) -> Iterator[Document]:
    origin = MapSource(key, stream=stream.name, raster=stream.geometry.raster, ledger=ledger)
    for seq_nums, indices, values in _read(ledger, files):
        descriptor = scalar_descriptor(run, origin, key, units="mm", time=1.0)
        yield _applied(run, "descriptor", descriptor)
        page = derived_page(descriptor["uid"], seq_nums, {key: values.tolist()}, time=1.0, indices=indices)
        yield _applied(run, "event_page", page)


def _read(ledger: FrameLedger, files: Files) -> Iterator[tuple[list[int], list[int], npt.NDArray[np.float64]]]:
    """Seq_nums, rows and sums of all points that wait, a few at a time."""
    while (row_range := ledger.pending(limit=7)) is not None:
        resource = ledger.resources[row_range.resource]
        each = resource.frames_per_point
        rows = files[resource.uri, resource.dataset][
            row_range.index * each : (row_range.index + row_range.count) * each
        ]
        seq_nums = list(range(row_range.seq_num, row_range.seq_num + row_range.count))
        indices = list(range(row_range.index, row_range.index + row_range.count))
        settle(ledger, row_range)
        yield seq_nums, indices, rows.reshape(row_range.count, each).sum(axis=1)


def _applied(run: Run, name: str, doc: dict[str, Any]) -> Document:
    document = Document(name, json.loads(json.dumps(_plain(doc, None))), run=run.uid)
    run.apply(document)
    return document


def _plain(value: Any, now: float | None) -> Any:
    """A value as JSON would have it; times are those of a clock that is always the same."""
    match value:
        case np.ndarray() | np.generic():
            return _plain(value.tolist(), now)
        case Mapping():
            return {str(key): _plain(part, now) for key, part in value.items()}
        case set() | frozenset():
            return [_plain(part, now) for part in sorted(value)]
        case float() if not np.isfinite(value):
            return None
        case float() if now is not None and LONG_AGO < value < LONG_AFTER:
            return now
        case str() | int() | float() | None:
            return value
        case Sequence():
            return [_plain(part, now) for part in value]
    return repr(value)
