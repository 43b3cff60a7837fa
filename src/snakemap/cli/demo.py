"""Run everything on one machine as a supervised tree of processes: Redis, worker, API, pages, simulated beamline.

The processes are ended in order with the demo. If the demo itself is killed, the kernel signals its processes, and a
cleanup process (:mod:`snakemap.cli.demo_cleanup`) ends the remaining ones and removes the files. The state directory is
a temporary one unless ``SNAKEMAP_STATE_DIR`` is set.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import typer

from snakemap.blueapi.client import BlueapiClient
from snakemap.cli.process_tree import DEATHS_MAX, CleanupProcess, DemoProcess, describe_exit, die_with_parent, interrupt
from snakemap.errors import BlueapiUnavailable, SnakemapError, WorkerBusy
from snakemap.files.private import make_private
from snakemap.settings import Settings
from snakemap.simulator.blueapi_rest import ENDED_EARLY
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.synthetic.request import ScanRequest, shape_from_text
from snakemap.web.ports import authority, free_port, listen

__all__ = ["Demo", "DemoFailed", "DemoOptions"]

READY_TIMEOUT_S = 120.0


END_TIMEOUT_S = 8.0


PAUSE_S = 4.0


RESTART_DELAY_S, RESTART_DELAY_MAX_S = 0.5, 8.0


SOUND_S = 60.0
"""A process that ran longer did not die because of its start."""


FAILURES_MAX = 20


TAKEN_OVER = "another program uses the simulated beamline; the demo starts no more scans"


LOOK_S = 0.2


STEP_MM = 0.05


SESSION = "cm12345-1"


DISK_BYTES_MAX = 4_000_000_000


LINE_BYTES_MAX = 1 << 20


PROGRAM = (sys.executable, "-m", "snakemap")


class DemoFailed(SnakemapError):
    """A process of the demo keeps dying, or does not start; the message ends with its last lines."""

    code = "demo_failed"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of the demo.

    Attributes:
        shape: of a scan, slow by fast, like ``"60x60"``.
        rate_hz: points a second; 0 is as fast as possible.
        mode: ``"step"``, ``"fly"``, or ``"both"`` in turn.
        frame_shape: of the camera, rows by columns.
        once: only one scan, whose maps stay.
        port: of the page; None for the setting's, or a free one when that is in use.
        log_level: of the processes.
    """

    shape: str = "60x60"
    rate_hz: float = 20.0
    mode: str = "both"
    frame_shape: str = "1216x1936"
    once: bool = False
    port: int | None = None
    log_level: str = "warning"

    def check(self) -> None:
        """Check the options.

        Raises:
            SettingsError: when such scans are impossible.
        """
        shape, frame_shape = shape_from_text(self.shape), shape_from_text(self.frame_shape)
        ScanRequest(shape=shape, frame_shape=frame_shape, rate_hz=self.rate_hz)


class Demo:
    """The demo's tree of processes.

    Args:
        settings: of the process.
        options: options.
        program: the ``snakemap`` command.

    Raises:
        SettingsError: when an option is invalid.
    """

    def __init__(self, settings: Settings, options: DemoOptions, *, program: Sequence[str] = PROGRAM) -> None:
        options.check()
        self.settings = settings
        self.options = options
        self.program = program
        self.port = _page_port(settings, options.port)
        self.api_port = free_port(settings.host, settings.api_port, setting="SNAKEMAP_API_PORT", besides=self.port)
        self.rest_port = free_port("127.0.0.1", 0, setting="the simulated beamline", besides=self.port)
        self._parts: list[DemoProcess] = []
        self._environment: dict[str, str] = {}
        self._cleanup: CleanupProcess | None = None
        self._stop = asyncio.Event()
        self._signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            self._signals.append(signal.SIGHUP)

    def run(self) -> int:
        """Run until Ctrl-C.

        Returns:
            The exit code: 0 when it was interrupted.

        Raises:
            DemoFailed: when a part keeps dying, or the page never answers.
        """
        with ExitStack() as stack:
            for number in self._signals:
                stack.callback(signal.signal, number, signal.signal(number, interrupt))
            with suppress(KeyboardInterrupt):
                self._run_within(stack)
        return 0

    def _run_within(self, stack: ExitStack) -> None:
        """Run with a stack for the cleanup: Redis first, then files."""
        settings, state_dir = self.settings, self.settings.state_dir.expanduser()
        temporary = "state_dir" not in settings.model_fields_set
        if temporary:
            state_dir = Path(tempfile.mkdtemp(prefix="snakemap-demo-"))
            stack.callback(shutil.rmtree, state_dir, ignore_errors=True)
        self._cleanup = stack.enter_context(CleanupProcess(state_dir, temporary=temporary))
        url = settings.redis_url or stack.enter_context(EmbeddedRedis(state_dir))
        self._environment = self._environment_of(state_dir, url)
        asyncio.run(self._live())

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._stop.set)
        works: dict[str, Coroutine[Any, Any, None]] = {
            name: self._supervise(DemoProcess(name, [name])) for name in ("ingest", "api", "serve")
        }
        works["simulate"] = self._supervise(DemoProcess("simulate", self._beamline_arguments()))
        works["scan"] = self._scan()
        tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
        waiting = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait((waiting, *tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.set()
            await self._end(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def _environment_of(self, state_dir: Path, redis_url: str) -> dict[str, str]:
        data_root = self.settings.data_root or state_dir / "data"
        if self.settings.data_root is None:
            make_private(data_root)
        else:
            data_root.mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "SNAKEMAP_STATE_DIR": str(state_dir),
            "SNAKEMAP_REDIS_URL": redis_url,
            "SNAKEMAP_DATA_ROOT": str(data_root),
            "SNAKEMAP_PORT": str(self.port),
            "SNAKEMAP_API_PORT": str(self.api_port),
            "SNAKEMAP_BLUEAPI_URL": f"http://127.0.0.1:{self.rest_port}",
            "SNAKEMAP_BLUEAPI_TOKEN": "",
            "SNAKEMAP_INSTRUMENT_SESSION": self.settings.instrument_session or SESSION,
        }

    async def _supervise(self, part: DemoProcess) -> None:
        """Keep a server running.

        Raises:
            DemoFailed: when it dies again and again.
        """
        delay_s = RESTART_DELAY_S
        while not self._stop.is_set():
            began = time.monotonic()
            code = await self._run(part)
            if self._stop.is_set():
                return
            now = time.monotonic()
            part.deaths.append(now)
            if len(part.deaths) == DEATHS_MAX and now - part.deaths[0] < SOUND_S:
                raise DemoFailed(f"{part.name} keeps dying ({describe_exit(code)}):{part.last_lines()}")
            delay_s = RESTART_DELAY_S if now - began > SOUND_S else min(2 * delay_s, RESTART_DELAY_MAX_S)
            typer.echo(f"{part.name} has died ({describe_exit(code)}) and begins again", err=True)
            await self._pause(delay_s)

    async def _scan(self) -> None:
        """Wait for the page, print its address, and start scans until another client starts or ends one.

        Raises:
            DemoFailed: when the page does not answer, or scans keep failing.
        """
        host = "localhost" if self.settings.host in ("0.0.0.0", "127.0.0.1", "::", "::1") else self.settings.host
        page = f"http://{authority(host, self.port)}/dashboard"
        if not await self._until_answer(page):
            return
        typer.echo(
            f"\n  snakemap is ready:  {page}\n  its API:            http://{authority(host, self.api_port)}/docs\n"
            f"  simulated blueapi:  {self._environment['SNAKEMAP_BLUEAPI_URL']}/api/v1"
        )
        typer.echo("  Ctrl-C ends it and removes everything.\n")
        blueapi = BlueapiClient(self._environment["SNAKEMAP_BLUEAPI_URL"])
        try:
            await self._scan_again_and_again(blueapi)
        finally:
            await blueapi.close()
        await self._stop.wait()

    async def _scan_again_and_again(self, blueapi: BlueapiClient) -> None:
        """Start scan after scan until interrupted, or until another client has taken over.

        A failed scan is repeated before the next one. A scan continues while its beamline does not answer.

        Raises:
            DemoFailed: when scans keep failing, or the beamline does not answer.
        """
        failures, mine, under_way = 0, "", False
        silent_since: float | None = time.monotonic()
        turns = enumerate(self._modes())
        turn = next(turns, None)
        while turn is not None:
            number, mode = turn
            try:
                if not (under_way and await blueapi.active_task() == mine):
                    if mine and not under_way and not await self._is_left_alone(blueapi, mine):
                        typer.echo(TAKEN_OVER, err=True)
                        return
                    plan, params = f"simulated_{mode}_scan", self._scan_params(seed=number)
                    mine = await blueapi.submit(plan, params, instrument_session=SESSION)
                    under_way = True
                    await blueapi.begin(mine)
                silent_since = None
                if not await self._until_done(blueapi, mine):
                    return
                errors = (await blueapi.task(mine)).errors
                under_way = False
                if errors and errors[-1] != ENDED_EARLY:
                    raise DemoFailed(errors[-1])
                failures, turn = 0, next(turns, None)
            except WorkerBusy:
                typer.echo(TAKEN_OVER, err=True)
                return
            except BlueapiUnavailable as trouble:
                # a restarting beamline is no failed scan; its supervisor reports a process that keeps dying
                if silent_since is None:
                    silent_since = time.monotonic()
                    typer.echo(f"{trouble}; the demo continues when it answers", err=True)
                if time.monotonic() - silent_since > READY_TIMEOUT_S:
                    raise DemoFailed(f"scans fail: {trouble}{self._last_lines_of('simulate')}") from trouble
            except SnakemapError as trouble:
                failures, mine, under_way = failures + 1, "", False
                if failures == FAILURES_MAX:
                    raise DemoFailed(f"scans fail: {trouble}{self._last_lines_of('simulate')}") from trouble
            if await self._pause(PAUSE_S):
                return

    async def _until_done(self, blueapi: BlueapiClient, task_id: str) -> bool:
        """Return whether a task ended before the demo was stopped."""
        while not (await blueapi.task(task_id)).complete:
            if await self._pause(LOOK_S):
                return False
        return True

    async def _is_left_alone(self, blueapi: BlueapiClient, mine: str) -> bool:
        """Return whether no other client has started a scan since, or ended this one."""
        return await blueapi.active_task() == mine and not (await blueapi.task(mine)).errors

    def _modes(self) -> Iterator[str]:
        modes = ["step", "fly"] if self.options.mode == "both" else [self.options.mode]
        return iter(modes[:1]) if self.options.once else itertools.cycle(modes)

    def _scan_params(self, *, seed: int) -> dict[str, Any]:
        """Return the parameters of the simulated plans."""
        (rows, columns), frame_shape = shape_from_text(self.options.shape), shape_from_text(self.options.frame_shape)
        return {
            **{"rows": rows, "columns": columns, "rate_hz": self.options.rate_hz, "frame_shape": list(frame_shape)},
            **{"x_start": -2.0, "x_stop": round(-2.0 + STEP_MM * max(1, columns - 1), 6)},
            **{"y_start": 1.0, "y_stop": round(1.0 + STEP_MM * max(1, rows - 1), 6), "seed": seed},
        }

    def _beamline_arguments(self) -> list[str]:
        free_bytes = shutil.disk_usage(self._environment["SNAKEMAP_DATA_ROOT"]).free
        limit_gb = min(DISK_BYTES_MAX, free_bytes // 2) / 1e9
        return ["simulate", "--rest", str(self.rest_port), "--disk-limit-gb", f"{limit_gb:.3f}"]

    async def _until_answer(self, page: str) -> bool:
        """Return whether the page answered before the demo was stopped.

        Raises:
            DemoFailed: when it takes too long.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            while time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    if (await client.get(page)).status_code == 200:
                        return True
                if await self._pause(0.2):
                    return False
        raise DemoFailed(f"the page does not answer at {page}:{self._last_lines_of('serve')}")

    def _last_lines_of(self, name: str) -> str:
        """Return the last lines of a process, to follow a message."""
        return next((part.last_lines() for part in self._parts if part.name == name), "")

    async def _run(self, part: DemoProcess) -> int:
        """Run a process to its end, which comes soon when the demo ends.

        Returns:
            Its exit code.
        """
        self._parts.append(part)
        part.lines.clear()
        part.process = await asyncio.create_subprocess_exec(
            *(*self.program, "--log-level", self.options.log_level, *part.arguments),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        pid = part.process.pid
        if self._cleanup is not None:
            self._cleanup.began(pid)
        if self._stop.is_set():
            part.signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(part), name=f"lines of {part.name}")
        code = await part.process.wait()
        await asyncio.wait((listening,), timeout=1.0)  # a grandchild may hold the output open
        listening.cancel()
        part.signal(signal.SIGKILL)
        if self._cleanup is not None:
            self._cleanup.ended(pid)
        self._parts.remove(part)
        return code

    async def _listen(self, part: DemoProcess) -> None:
        """Print the output of a process."""
        output = part.process.stdout if part.process else None
        while output is not None and not output.at_eof():
            try:
                line = (await output.readline()).decode("utf-8", "replace").rstrip()
            except ValueError:
                line = f"(a line of more than {LINE_BYTES_MAX:,} bytes)"
            if line:
                part.lines.append(line)
                if not self._stop.is_set():  # otherwise every process would report its end
                    typer.echo(f"{part.name:<8} | {line}", err=True)

    async def _pause(self, seconds: float) -> bool:
        """Wait; return whether the demo was stopped meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """End all processes, the beamline first; kill those that do not end in time."""
        for names in (("scan", "simulate"), ("ingest", "api", "serve")):
            ending = [part for part in self._parts if part.name in names]
            for part in ending:
                part.signal(signal.SIGTERM)
            if ending:
                await asyncio.wait([task for task in tasks if task.get_name() in names], timeout=END_TIMEOUT_S)
        for part in self._parts:
            part.signal(signal.SIGKILL)
        await asyncio.wait(tasks, timeout=END_TIMEOUT_S / 2)
        for task in tasks:
            task.cancel()  # it waits for the page only
        await asyncio.gather(*tasks, return_exceptions=True)


def _page_port(settings: Settings, wanted: int | None) -> int:
    """Return the port of the page: the given one, else a free one.

    Raises:
        SettingsError: when the port cannot be used.
    """
    if wanted is None:
        return free_port(settings.host, settings.port, setting="SNAKEMAP_PORT")
    with listen(settings.host, wanted, setting="--port") as listening:
        return listening.getsockname()[1]
