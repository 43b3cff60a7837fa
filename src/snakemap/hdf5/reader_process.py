"""The parent's side of a reader process of HDF5 files: start, ask, time out, replace.

A bad file can crash HDF5 or make it loop for ever, so HDF5 is not loaded here. The process (:mod:`snakemap.hdf5.child`)
has limits of time and memory, and is replaced if it crashes, hangs or is killed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from snakemap.errors import FileBroken, FileNotReady, SnakemapError
from snakemap.files.data_root import shown
from snakemap.hdf5.protocol import ERRORS, HEADER_MAX, LENGTHS, PAYLOAD_MAX, ReaderConfig

__all__ = ["ReaderChild", "ReaderProcess", "environment"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

START_LIMIT_S = 60.0
END_POLL_S = 0.005
END_S, LAST_S = 1.0, 10.0
"""Seconds to wait for the end of a killed process: while requests wait, and when closing."""
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "XDG_CACHE_HOME")
ENVIRONMENT_PREFIXES = ("PYTHON", "NUMBA_")
"""Variables of the environment for the reader: no passwords, and none that make HDF5 load libraries."""


class ReaderProcess:
    """Send requests to another process, one after the other; several callers may wait.

    Args:
        root: the data root; nothing outside it is read.
        path_map: pairs of the writer's prefix and the local one.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: of one request.
        memory_limit_bytes: address space of the reader process.
        sums: whether it sums frames, and compiles for it at start.
        nice: niceness, 0 to 19.
        blocks: whether it sums blocks of frames, and compiles for it at start.
    """

    payload_max = PAYLOAD_MAX
    """Maximum bytes of an answer; more means a corrupt reader."""

    def __init__(
        self,
        root: Path,
        *,
        path_map: Sequence[tuple[str, str]] = (),
        locking: bool = False,
        time_limit_s: float = 10.0,
        memory_limit_bytes: int = 4 << 30,
        sums: bool = True,
        nice: int = 0,
        blocks: bool = False,
    ) -> None:
        self.path_map = tuple(path_map)
        self.config = ReaderConfig(
            str(root), self.path_map, locking, time_limit_s, memory_limit_bytes, sums, nice, blocks
        )
        self.launches = 0
        self.confined: bool | None = None
        self._lock = asyncio.Lock()
        self._child: ReaderChild | None = None
        self._ending: list[ReaderChild] = []

    @property
    def pid(self) -> int | None:
        """Id of the running process, if any."""
        return self._child.process.pid if self._child else None

    async def start(self) -> None:
        """Start the process before the first request.

        Raises:
            FileNotReady: it cannot be started.
        """
        async with self._lock:
            await self._running()

    async def close(self) -> None:
        """End the process; another request starts it again."""
        async with self._lock:
            self._abandon()
            await self._reap(patience_s=LAST_S)

    async def _ask(
        self, request: Mapping[str, Any], read: Callable[[dict[str, Any], bytearray], T], *, payload_max: int = 0
    ) -> T:
        async with self._lock:
            child = await self._running()
            child.payload_max = payload_max or self.payload_max
            header, answer = await self._exchange(child, request, read)
        self._note(header.get("confined"))
        if isinstance(answer, SnakemapError):
            raise answer
        return answer

    def _note(self, confined: object) -> None:
        if confined is False and self.confined is not False:
            logger.warning("the kernel does not confine the HDF5 reader to the data root; only our own checks do")
        if isinstance(confined, bool):
            self.confined = confined

    async def _exchange(
        self, child: ReaderChild, request: Mapping[str, Any], read: Callable[[dict[str, Any], bytearray], T]
    ) -> tuple[dict[str, Any], T | SnakemapError]:
        name, limit_s = shown(request["path"]), self.config.time_limit_s
        answered = False
        try:
            async with asyncio.timeout(limit_s):
                header, payload = await child.exchange(dict(request))
            answer = _error(header) if "error" in header else read(header, payload)
            answered = True
            return header, answer
        except TimeoutError as error:
            raise FileBroken(f"{name} could not be read within {limit_s:g} s; reading was stopped") from error
        except (OSError, EOFError) as error:
            raise FileBroken(f"{name} could not be read: the reader process {await child.exit_reason()}") from error
        except (LookupError, TypeError, ValueError) as error:
            raise FileBroken(f"{name} could not be read: the reader process gave an invalid answer") from error
        finally:
            # also if the caller was cancelled: its answer must not go to the next request
            if not answered:
                self._abandon()

    async def _running(self) -> ReaderChild:
        if self._child is not None and self._child.process.poll() is None:
            return self._child
        self._abandon()
        await self._reap()
        self._child = child = ReaderChild()
        self.launches += 1
        answered = False
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await child.exchange(dataclasses.asdict(self.config))
            answered = True
            return child
        except (OSError, EOFError, LookupError, TypeError, ValueError) as error:
            raise FileNotReady(f"the process that reads files cannot be started: {error}") from error
        finally:
            if not answered:
                self._abandon()

    def _abandon(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._ending.append(self._child)
            self._child = None

    async def _reap(self, *, patience_s: float = END_S) -> None:
        """Wait for the ends of killed processes; one that is blocked by the disk is left for the next call."""
        self._ending = [child for child in self._ending if await child.ended(patience_s=patience_s) is None]
        for child in self._ending:
            logger.warning("the reader process %s does not end; its disk may hang", child.process.pid)


def _error(header: Mapping[str, Any]) -> SnakemapError:
    """Return the error in an answer; raises LookupError, TypeError or ValueError for an invalid one."""
    error = ERRORS[header["error"]](str(header["message"]))
    ready = header.get("ready")
    error.ready = max(0, int(ready)) if ready is not None else None
    return error


class ReaderChild:
    """A running reader process."""

    def __init__(self) -> None:
        self.payload_max = PAYLOAD_MAX
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "snakemap.hdf5.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    async def exchange(self, header: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Send a message and return its answer.

        Raises:
            EOFError: the process has ended.
            OSError: it is ending.
            ValueError: the answer is invalid.
        """
        text = json.dumps(header).encode()
        await asyncio.get_running_loop().sock_sendall(self.sock, LENGTHS.pack(len(text), 0) + text)
        header_bytes, payload_bytes = LENGTHS.unpack(await self._exactly(LENGTHS.size))
        if header_bytes > HEADER_MAX or payload_bytes > self.payload_max:
            raise ValueError(f"an answer of {header_bytes:,} + {payload_bytes:,} bytes")
        answer = json.loads(await self._exactly(header_bytes))
        if not isinstance(answer, dict):
            raise TypeError("an answer that is no object")
        return answer, await self._exactly(payload_bytes)

    async def exit_reason(self) -> str:
        """Return what happened to the process, as the verb of a sentence."""
        code = await self.ended()
        if code is None:
            return "closed the connection"
        if code == -signal.SIGKILL:
            return "was killed, perhaps because memory ran out"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended (exit code {code})"

    async def ended(self, *, patience_s: float = END_S) -> int | None:
        """Return its exit code; None if it does not end in time."""
        for _ in range(round(patience_s / END_POLL_S)):
            if self.process.poll() is not None:
                break
            await asyncio.sleep(END_POLL_S)
        return self.process.returncode

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.sock.close()

    async def _exactly(self, count: int) -> bytearray:
        received = bytearray(count)
        view = memoryview(received)
        while view:
            got = await asyncio.get_running_loop().sock_recv_into(self.sock, view)
            if not got:
                raise EOFError("the reader closed the connection")
            view = view[got:]
        return received


def environment() -> dict[str, str]:
    """Return the environment of a process that loads HDF5: no passwords, and no filters out of files."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in ENVIRONMENT or name.startswith(ENVIRONMENT_PREFIXES)
    }
    # `::` forbids HDF5 to load filters from files; those of hdf5plugin are registered without that
    return {**ours, "HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
