"""Small runs that went wrong once, each with its documents, its files, and the maps that are right.

:class:`Documents` builds the documents of a run. :func:`played` sends them through the real chain: a real store, a real
worker that reads real files, then the run as a page and the API show it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import orjson
from tests.support.lab import Lab

from snakemap.core.causal_order import CausalOrder
from snakemap.core.documents import Document, decode, envelope
from snakemap.core.run import Run
from snakemap.live.run_follower import RunFollower
from snakemap.render.export import MapFormat, written

__all__ = [
    "Documents",
    "Outcome",
    "Played",
    "all_played",
    "image",
    "number",
    "played",
    "playing",
    "ramp",
    "snaked",
    "write",
]

TIME = 1_800_000_000.0
DATASET = "/entry/data/data"


class Documents:
    """Builds the documents of one run, in the order in which its methods are called.

    Args:
        shape: of the grid, slow to fast; two axes are called ``y`` and ``x``, three ``z``, ``y`` and ``x``.
        folder: where its files are; the name of the plan.
        start: more for the start document. None leaves a key out.

    Attributes:
        uid: of the run.
        sent: name and body of every document so far.
    """

    _numbers = itertools.count(1)

    def __init__(self, folder: Path, *shape: int, **start: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.uid = self._uid("run")
        motors = ["z", "y", "x"][-len(shape) :]
        doc: dict[str, Any] = {"uid": self.uid, "time": TIME, "scan_id": 1, "plan_name": folder.name}
        doc |= {"shape": list(shape), "num_points": int(np.prod(shape)), "motors": motors}
        doc |= {"snaking": [False, *(True for _ in shape[1:])], "extents": [[0, size - 1] for size in shape]}
        doc |= {"hints": {"gridding": "rectilinear", "dimensions": [[[motor], "primary"] for motor in motors]}}
        self.add("start", **{key: value for key, value in (doc | start).items() if value is not None})

    def add(self, name: str, /, **doc: Any) -> str:
        """Adds any document; returns its uid."""
        self.sent.append((name, doc))
        return str(doc.get("uid", ""))

    def descriptor(self, stream: str = "primary", **data_keys: Mapping[str, Any]) -> str:
        """Adds a descriptor; returns its uid."""
        about = {"run_start": self.uid, "time": TIME, "configuration": {}, "hints": {}, "object_keys": {}}
        return self.add("descriptor", uid=self._uid("d"), name=stream, data_keys=data_keys, **about)

    def stream_resource(
        self,
        key: str,
        path: Path,
        dataset: str = DATASET,
        *,
        mimetype: str = "application/x-hdf5",
        uri: str = "",
        **parameters: Any,
    ) -> str:
        """Adds a stream_resource of a data key; returns its uid."""
        told = {"mimetype": mimetype, "uri": uri or f"file://localhost{path}"}
        parameters = {"dataset": dataset, "chunk_shape": [1, 8, 8], **parameters}
        return self.add(
            "stream_resource", uid=self._uid("r"), run_start=self.uid, data_key=key, **told, parameters=parameters
        )

    def stream_datum(
        self, descriptor: str, resource: str, first: int, last: int, *, seq_num: int | None = None
    ) -> None:
        """Announces the rows from ``first`` up to ``last``, half open; of the seq_nums one higher unless told."""
        seq_num = first + 1 if seq_num is None else seq_num
        ranges = {"indices": {"start": first, "stop": last}}
        ranges |= {"seq_nums": {"start": seq_num, "stop": seq_num + last - first}}
        self.add("stream_datum", uid=f"{resource}/{first}", descriptor=descriptor, stream_resource=resource, **ranges)

    def event(self, descriptor: str, seq_num: int, **data: Any) -> None:
        """Adds an event."""
        stamps = dict.fromkeys(data, TIME + seq_num)
        about = {"time": TIME + seq_num, "timestamps": stamps, "filled": {}}
        self.add("event", uid=self._uid("e"), descriptor=descriptor, seq_num=seq_num, data=data, **about)

    def resource(self, spec: str, path: str, root: Path | str | None = None, **kwargs: Any) -> str:
        """Adds a resource as ophyd made them before ophyd-async; returns its uid."""
        about = {"root": str(self.folder if root is None else root), "path_semantics": "posix"}
        return self.add(
            "resource",
            uid=self._uid("r"),
            run_start=self.uid,
            spec=spec,
            resource_path=path,
            resource_kwargs=kwargs,
            **about,
        )

    def datum(self, resource: str, number: int, **kwargs: Any) -> str:
        """Adds a datum of such a resource; returns its id."""
        told = kwargs or {"point_number": number}
        self.add("datum", datum_id=f"{resource}/{number}", resource=resource, datum_kwargs=told)
        return f"{resource}/{number}"

    def stop(self, status: str = "success", **more: Any) -> None:
        """Ends the run; ``primary=12`` is what its num_events say."""
        streams = {key: value for key, value in more.items() if isinstance(value, int)}
        others = {key: value for key, value in more.items() if not isinstance(value, int)}
        about = {"exit_status": status, "reason": "", "num_events": streams, **others}
        self.add("stop", uid=self._uid("s"), run_start=self.uid, time=TIME + 1e3, **about)

    def documents(self) -> list[Document]:
        """What has been added, as it comes out of a broker: decoded, each after those that it refers to."""
        order, ready = CausalOrder(), list[Document]()
        for name, doc in self.sent:
            message = decode(orjson.dumps(envelope(name, doc, task_id=None)))
            if isinstance(message, Document):
                ready += order.accept(message)
        return ready

    def _uid(self, kind: str) -> str:
        return f"{kind}-{self.folder.name}-{next(self._numbers)}"


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        run: folded from the store, from the beginning.
        live: the run as the pages of a server have it.
        summary: what the list of runs says.
        api: what ``/api/runs/{uid}/maps`` answers, by the name of the source; the main one also by ``""``.
    """

    run: Run
    live: Run
    summary: dict[str, Any]
    api: dict[str, dict[str, Any]]

    def channel(self, name: str, source: str = "") -> list[list[float | None]]:
        """The grid of one channel; store, page and API must agree on it."""
        answered = self.api[source]["channels"][name]
        for run in (self.run, self.live):
            maps = run.source(source).maps
            grid = maps.grids[maps.channels.index(name)]
            shown = [[None if np.isnan(value) else value for value in row] for row in grid.tolist()]
            assert shown == answered, (name, source)
        return answered

    @property
    def words(self) -> str:
        """What is said of it under the maps and in the list of runs."""
        return " ".join(str(self.summary[key]) for key in ("reason", "note"))


class Played:
    """A worker and its store while documents are played.

    Args:
        lab: the store and the worker's settings.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._sent: dict[str, int] = {}

    async def play(self, case: Documents) -> None:
        """Puts what a case has added since the last time into the store."""
        documents = case.documents()
        await self.lab.store.append(documents[self._sent.get(case.uid, 0) :])
        self._sent[case.uid] = len(documents)

    async def outcome(self, case: Documents) -> Outcome:
        """What there is of a case now."""
        run = await self.lab.run(case.uid)
        live = RunFollower(self.lab.store)
        try:
            followed = await live.open(case.uid)
        finally:
            await live.close()
        api = {name: json.loads(written(run, MapFormat.JSON, source=name)) for name in ("", *run.sources)}
        return Outcome(run, followed, await self.lab.summary(case.uid), api)


@asynccontextmanager
async def playing(redis_url: str, root: Path, **settings: Any) -> AsyncIterator[Played]:
    """A real worker over an empty store; ``root`` is the data root, and documents name files by their real paths."""
    async with Lab(redis_url, root=root, **settings) as lab, lab.worker():
        yield Played(lab)


async def played(redis_url: str, root: Path, case: Documents, **settings: Any) -> Outcome:
    """Plays a whole case, and waits until it is settled."""
    return (await all_played(redis_url, root, case, **settings))[0]


async def all_played(redis_url: str, root: Path, *cases: Documents, **settings: Any) -> list[Outcome]:
    """Plays whole cases one after the other by one worker, and waits until they are settled."""
    async with playing(redis_url, root, **settings) as chain:
        for case in cases:
            await chain.play(case)
        await chain.lab.until_settled(*(case.uid for case in cases))
        return [await chain.outcome(case) for case in cases]


def image(*shape: int, dtype: str = "<u2", external: str = "STREAM:") -> dict[str, Any]:
    """A data key of frames, or of spectra."""
    return {"source": "sim", "dtype": "array", "shape": list(shape), "dtype_numpy": dtype, "external": external}


def number(units: str = "") -> dict[str, Any]:
    """A data key of one number a point."""
    return {"source": "sim", "dtype": "number", "shape": [], "dtype_numpy": "<f8", "units": units}


def snaked(rows: int, columns: int, values: Sequence[float | None]) -> list[list[float | None]]:
    """The grid of values in the order of a snaked scan; None where there are no more.

    >>> snaked(2, 3, [1, 2, 3, 4])
    [[1, 2, 3], [None, None, 4]]
    """
    grid: list[list[float | None]] = [[None] * columns for _ in range(rows)]
    for place, value in enumerate(values):
        row, column = divmod(place, columns)
        grid[row][columns - 1 - column if row % 2 else column] = value
    return grid


def write(path: Path, data: npt.NDArray[Any], dataset: str = DATASET, **options: Any) -> Path:
    """Writes a dataset into a file of its own, in chunks of one row unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver="latest") as file:
        chunked = {"chunks": (1, *data.shape[1:]), "maxshape": (None, *data.shape[1:])}
        file.create_dataset(dataset, data=data, **(options or chunked))
    return path


def ramp(count: int, *, first: int = 1, dtype: str = "u2", height: int = 8, width: int = 8) -> npt.NDArray[Any]:
    """Frames (count, height, width): all pixels of the first are ``first``, of the next one more, and so on."""
    values = np.arange(first, first + count, dtype=dtype)
    return np.broadcast_to(values[:, None, None], (count, height, width)).copy()
