"""Everything on one machine, as one supervised tree of processes: Redis, worker, API, pages, simulated beamline.

Nothing is left behind: processes are ended in order when the demo is, and by the kernel should the demo itself be
killed; the state directory is a temporary one unless ``SNAKEMAP_STATE_DIR`` names another.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import typer

from snakemap.embedded_redis import EmbeddedRedis
from snakemap.errors import SettingsError, SnakemapError
from snakemap.settings import Settings
from snakemap.simulator.request import shape_from_text

__all__ = ["Demo", "Wishes"]

READY_TIMEOUT_S = 90.0
END_TIMEOUT_S = 8.0
PAUSE_S = 4.0
DEATHS_MAX = 4
SOUND_S = 60.0
PR_SET_PDEATHSIG = 1


class DemoFailed(SnakemapError):
    """A part of the demo keeps dying; the message ends with its last lines."""

    code = "demo_failed"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the demo shall show.

    Attributes:
        shape: of a scan, slow by fast, like ``"60x60"``.
        rate_hz: points a second.
        mode: ``"step"``, ``"fly"``, or ``"both"`` in turn.
        frame_shape: of the camera, rows by columns.
        once: one scan, and then its maps stay.
        port: of the page; None for the setting's, or a free one when that is taken.
    """

    shape: str = "60x60"
    rate_hz: float = 20.0
    mode: str = "both"
    frame_shape: str = "1216x1936"
    once: bool = False
    port: int | None = None


@dataclass(slots=True)
class Part:
    """One process of the tree.

    Attributes:
        name: of the subcommand.
        arguments: of ``snakemap``.
        process: while it runs.
        lines: the last that it said.
        deaths: when it died lately, in seconds of the monotonic clock.
    """

    name: str
    arguments: list[str]
    process: asyncio.subprocess.Process | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=12))
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS_MAX))


class Demo:
    """The tree and its life.

    Args:
        settings: of the process.
        wishes: what to show.

    Raises:
        SettingsError: when a wish cannot be granted.
    """

    def __init__(self, settings: Settings, wishes: Wishes) -> None:
        shape_from_text(wishes.shape)
        shape_from_text(wishes.frame_shape)
        self.settings = settings
        self.wishes = wishes
        self.temporary = "SNAKEMAP_STATE_DIR" not in os.environ
        self.port = wishes.port or _free_port(settings.host, settings.port)
        self.api_port = _free_port(settings.host, settings.api_port, besides=self.port)
        self._parts: list[Part] = []

    def run(self) -> int:
        """Runs until Ctrl-C.

        Returns:
            The exit code: 0 when it was interrupted.

        Raises:
            DemoFailed: when a part keeps dying, or the page never answers.
        """
        state_dir = Path(tempfile.mkdtemp(prefix="snakemap-demo-")) if self.temporary else self.settings.state_dir
        try:
            if self.settings.redis_url:
                return asyncio.run(self._live(state_dir, self.settings.redis_url))
            with EmbeddedRedis(state_dir) as url:
                return asyncio.run(self._live(state_dir, url))
        finally:
            if self.temporary:
                shutil.rmtree(state_dir, ignore_errors=True)

    async def _live(self, state_dir: Path, redis_url: str) -> int:
        environment = self._environment(state_dir, redis_url)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        servers = [Part("ingest", ["ingest"]), Part("api", ["api"]), Part("serve", ["serve"])]
        self._parts = [*servers]
        tasks = [asyncio.create_task(self._supervise(part, environment), name=part.name) for part in servers]
        tasks.append(asyncio.create_task(self._scan(environment), name="simulator"))
        waiting = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {waiting}:
                task.result()
        finally:
            for task in (waiting, *tasks):
                task.cancel()
            await asyncio.gather(waiting, *tasks, return_exceptions=True)
            await self._end()
        return 0

    def _environment(self, state_dir: Path, redis_url: str) -> dict[str, str]:
        data_root = self.settings.data_root or state_dir / "data"
        data_root.mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "SNAKEMAP_STATE_DIR": str(state_dir),
            "SNAKEMAP_REDIS_URL": redis_url,
            "SNAKEMAP_DATA_ROOT": str(data_root),
            "SNAKEMAP_PORT": str(self.port),
            "SNAKEMAP_API_PORT": str(self.api_port),
        }

    async def _scan(self, environment: dict[str, str]) -> None:
        """Waits for the page, says where it is, and scans."""
        host = "localhost" if self.settings.host in ("0.0.0.0", "127.0.0.1") else self.settings.host
        page = f"http://{host}:{self.port}/dashboard"
        await self._until_ready(page)
        typer.echo(f"\n  snakemap is ready:  {page}\n  its API:            http://{host}:{self.api_port}/docs")
        typer.echo("  Ctrl-C ends it and leaves nothing behind.\n")
        for number, mode in enumerate(self._modes()):
            await self._scan_once(mode, environment, seed=number)
            await asyncio.sleep(PAUSE_S)
        await asyncio.Event().wait()

    def _modes(self) -> Iterator[str]:
        modes = ["step", "fly"] if self.wishes.mode == "both" else [self.wishes.mode]
        return iter(modes[:1]) if self.wishes.once else itertools.cycle(modes)

    async def _scan_once(self, mode: str, environment: dict[str, str], *, seed: int) -> None:
        wishes = self.wishes
        arguments = ["simulate", "--shape", wishes.shape, "--rate", str(wishes.rate_hz), "--mode", mode]
        part = Part("simulate", [*arguments, "--frame-shape", wishes.frame_shape, "--seed", str(seed)])
        self._parts.append(part)
        try:
            if await self._run_once(part, environment):
                typer.echo("a scan failed:\n" + "\n".join(part.lines), err=True)
        finally:
            if part.process is None or part.process.returncode is not None:
                self._parts.remove(part)

    async def _until_ready(self, page: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline:
                try:
                    if (await client.get(page, timeout=20)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.2)
        said = next((part.lines for part in self._parts if part.name == "serve"), [])
        raise DemoFailed(f"the page does not answer at {page}:\n" + "\n".join(said))

    async def _supervise(self, part: Part, environment: dict[str, str]) -> None:
        """Keeps a server running; one that dies again and again ends the demo."""
        delay_s = 0.5
        while True:
            began = time.monotonic()
            code = await self._run_once(part, environment)
            now = time.monotonic()
            part.deaths.append(now)
            if len(part.deaths) == DEATHS_MAX and now - part.deaths[0] < SOUND_S:
                raise DemoFailed(f"{part.name} keeps dying (exit code {code}):\n" + "\n".join(part.lines))
            delay_s = 0.5 if now - began > SOUND_S else min(2 * delay_s, 8.0)
            typer.echo(f"{part.name} has died (exit code {code}) and begins again", err=True)
            await asyncio.sleep(delay_s)

    async def _run_once(self, part: Part, environment: dict[str, str]) -> int:
        part.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "snakemap", "--log-level", "warning", *part.arguments),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        output = part.process.stdout
        while output is not None and (line := await output.readline()):
            part.lines.append(line.decode("utf-8", "replace").rstrip())
        return await part.process.wait()

    async def _end(self) -> None:
        """Ends all processes, the beamline first; what does not end in time is killed."""
        for part in reversed(self._parts):
            process = part.process
            if process is None or process.returncode is not None:
                continue
            _signal_group(process, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.communicate(), END_TIMEOUT_S)
            except TimeoutError:
                _signal_group(process, signal.SIGKILL)
                await process.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Tells a process and, should it have to be killed, all that it has started."""
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        return


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port(host: str, wanted: int, *, besides: int | None = None) -> int:
    """A port nobody listens on: the wanted one if it is free.

    Raises:
        SettingsError: when the address is not of this machine.
    """
    for port in (wanted, 0):
        if port == besides:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise SettingsError(f"SNAKEMAP_HOST: nothing can listen on {host}")
