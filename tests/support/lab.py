"""A laboratory for the real worker: a real Redis, a real RabbitMQ, real files, and a view of what comes out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt
import psutil
from tests.support.forks import Fork, fork
from tests.support.patience import PATIENCE

from snakemap.core.documents import Document
from snakemap.core.run import Run
from snakemap.core.source_status import SourceState
from snakemap.errors import RunNotFound
from snakemap.ingest import ingest
from snakemap.settings import Settings
from snakemap.store.store import Store
from snakemap.transport.sources import open_publisher

__all__ = ["ColumnsWriter", "Lab", "WorkerProcess", "maps_of_frames", "write_frames"]

TIMEOUT_S = 30.0 * PATIENCE


class Lab:
    """One worker's surroundings.

    Args:
        redis_url: the store.
        stomp_url: the broker; empty for none.
        source_url: a document source instead of a broker.
        root: the data root; documents call it ``/data``.
        settings: more settings of the worker.

    Attributes:
        destination: of this laboratory alone.
        store: to look into.
    """

    def __init__(
        self, redis_url: str, *, root: Path, stomp_url: str = "", source_url: str = "", **settings: Any
    ) -> None:
        self.destination = f"/topic/{uuid.uuid4()}"
        self.environment = {
            "redis_url": redis_url,
            "stomp_url": stomp_url,
            "source_url": source_url,
            "state_dir": str(root / ".state"),
            "stomp_destination": self.destination,
            "stomp_subscription": f"test-{self.destination[7:]}",
            "data_root": str(root),
            "path_map": f"/data={root}",
            "file_timeout_s": str(PATIENCE),
            **{name: str(value) for name, value in settings.items()},
        }
        self.root = root
        self.store = Store(redis_url)
        self._stack = ExitStack()
        publisher = open_publisher(self._settings())
        self.publisher = None if publisher is None else self._stack.enter_context(publisher)

    async def __aenter__(self) -> Lab:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stack.close()
        await self.store.close()

    @asynccontextmanager
    async def worker(self, *, listening: bool = True) -> AsyncIterator[None]:
        """A worker in this process, from when it listens (or just began) to when it has ended in good order."""
        stop = asyncio.Event()
        working = asyncio.create_task(ingest(self._settings(), stop=stop))
        try:
            if listening:
                await self.until_listening(lambda: not working.done())
            yield
        finally:
            stop.set()
            await working

    async def until_listening(self, alive: Callable[[], bool] = lambda: True, *, pid: int | None = None) -> None:
        """Returns when a worker says that it has its broker."""
        pid = pid or os.getpid()
        wanted = SourceState.CONNECTED if self.publisher else SourceState.NONE

        async def listening() -> bool:
            assert alive(), "the worker has ended"
            report = (await self.store.reports()).get("ingest", {})
            return report.get("broker") == wanted and report.get("pid") == pid

        await self.until(listening)

    def publish(self, *bodies: dict[str, Any] | bytes) -> None:
        """Publishes as blueapi does, and waits until the broker has the last message."""
        assert self.publisher is not None
        for number, body in enumerate(bodies):
            self.publisher.send(body, confirm=number == len(bodies) - 1)

    def _settings(self) -> Settings:
        return Settings(**self.environment)  # pyright: ignore[reportArgumentType]

    async def append(self, *bodies: dict[str, Any], run: str) -> None:
        """Puts documents into the store, past the broker."""
        await self.store.append(
            [Document(body["name"], body["doc"], run=run, task_id=body["task_id"]) for body in bodies]
        )

    async def until(self, condition: Callable[[], Awaitable[Any]], *, timeout_s: float = TIMEOUT_S) -> None:
        """Looks at the store until something is so."""
        deadline = time.monotonic() + timeout_s
        while not await condition():
            assert time.monotonic() < deadline, "it never came to that"
            await asyncio.sleep(0.01)

    async def summary(self, uid: str) -> dict[str, Any]:
        """What the list of runs says; empty while there is nothing to say."""
        try:
            return await self.store.summary(uid)
        except RunNotFound:
            return {}

    async def until_points(self, uid: str, points: int) -> None:
        """Returns when the list of runs tells of so many points."""

        async def there() -> bool:
            return (await self.summary(uid)).get("points", 0) >= points

        await self.until(there)

    async def until_settled(self, *uids: str) -> None:
        """Returns when runs have ended and have been filled."""

        async def settled() -> bool:
            return all([(await self.summary(uid)).get("settled") for uid in uids])

        await self.until(settled)

    async def run(self, uid: str) -> Run:
        """A run as anybody sees it who reads the store from its beginning."""
        run: Run | None = None
        async for entries in self.store.run_entries(uid):
            for entry in entries:
                if run is None and entry.name == "start":
                    run = Run(entry.doc)
                if run is not None:
                    run.apply(entry.document, cursor=entry.cursor)
        assert run is not None
        return run

    async def settled(self, uid: str) -> dict[str, Any]:
        """The note that a run has been filled as far as it goes."""
        note = (await self.run(uid)).settled
        assert note is not None
        return note


class WorkerProcess:
    """A worker in a process of its own, which can be killed."""

    def __init__(self, lab: Lab, *, output: Path | None = None) -> None:
        self.lab = lab
        self.output = output
        self.process: Fork | None = None

    async def __aenter__(self) -> WorkerProcess:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def connections(self, port: int) -> int:
        """How many connections it has to a port."""
        found = psutil.Process(self.pid).net_connections("tcp")
        return sum(1 for one in found if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED")

    async def start(self, *, listening: bool = True) -> None:
        """Starts it and returns when it listens, or at once."""
        environment = {f"SNAKEMAP_{name.upper()}": value for name, value in self.lab.environment.items()}
        with self.output.open("ab") if self.output else nullcontext(sys.stderr) as output:
            process = fork(["ingest"], environment={**os.environ, **environment}, output=output.fileno())
        self.process = process
        if not listening:
            return
        try:
            await self.lab.until_listening(lambda: process.poll() is None, pid=process.pid)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kills it, as the kernel does when memory runs out."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> int:
        """Ends it in good order; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10 * PATIENCE)


class ColumnsWriter:
    """A PandA's writer in a process of its own: columns of numbers that grow while they are read (SWMR).

    Args:
        path: of the file.
        datasets: paths of the columns.
    """

    CODE = """
import json, sys
import h5py, numpy as np
path, datasets = json.loads(sys.argv[1])
with h5py.File(path, "w", libver="latest") as file:
    options = {"maxshape": (None,), "chunks": (1024,), "fillvalue": np.nan}
    columns = {name: file.create_dataset(name, (0,), np.float64, **options) for name in datasets}
    file.swmr_mode = True
    print(flush=True)
    for line in sys.stdin:
        for name, values in json.loads(line).items():
            column = columns[name]
            column.resize(len(column) + len(values), axis=0)
            column[len(column) - len(values):] = values
            column.flush()
        print(flush=True)
"""

    def __init__(self, path: Path, datasets: Iterable[str]) -> None:
        told = json.dumps([str(path), list(datasets)])
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", self.CODE, told], stdin=pipe, stdout=pipe, text=True)
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()

    def write(self, **values: Iterable[float]) -> None:
        """Makes columns longer, by name; all of it can be read when this returns."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({name: list(numbers) for name, numbers in values.items()}) + "\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "the writer has ended"


def write_frames(path: Path, frames: npt.NDArray[Any], *, dataset: str = "/entry/data/data") -> None:
    """Writes a file as a detector leaves it."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(dataset, data=frames, chunks=(1, *frames.shape[1:]), maxshape=(None, *frames.shape[1:]))


def maps_of_frames(run: Run, frames: npt.NDArray[Any], *, points: Iterable[int]) -> npt.NDArray[np.float64]:
    """The maps (channels, rows, columns) of a run whose point n is frame n - 1, by numpy alone.

    Args:
        run: for its raster and its ROIs.
        frames: (frames, rows, columns).
        points: the seq_nums that have been visited.
    """
    grids = np.full((len(run.rois) + 1, run.raster.rows, run.raster.columns), np.nan)
    for seq_num in points:
        (row,), (column,), _ = run.raster.pixel([seq_num])
        frame = frames[seq_num - 1].astype(np.uint64)
        for number, (y0, y1, x0, x1) in enumerate(run.rois.values()):
            grids[number, row, column] = frame[y0:y1, x0:x1].sum()
        grids[-1, row, column] = frame.sum()
    return grids
