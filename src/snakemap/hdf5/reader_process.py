"""A process that reads HDF5 files for us, as its parent sees it: it may crash, hang or be killed, and is replaced then.

A bad file can crash HDF5 or send it round in circles for ever, so nothing of HDF5 is loaded here. What reads is
:mod:`snakemap.hdf5.child`; it is given so many seconds and so much memory, and replaced when it does not answer.
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
"""How long a killed process is waited for: while others wait for an answer, and when nobody does any more."""
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "XDG_CACHE_HOME")
ENVIRONMENT_PREFIXES = ("PYTHON", "NUMBA_")
"""What the reader is told of our environment: it has no use for passwords, and HDF5 no say in what it loads."""


class ReaderProcess:
    """Asks another process, one request after the other; several may wait for their turn.

    Args:
        root: the data root; nothing outside it is ever read.
        path_map: pairs of the writer's prefix and ours.
        locking: whether HDF5 locks the files that it reads.
        time_limit_s: seconds that one request may take.
        memory_limit_bytes: address space of the reading process.
        sums: whether it is to sum frames, and gets ready for it.
        nice: how far it stands back behind other processes, from 0 to 19.

    Attributes:
        launches: how often a process was started; more than once: one had to be replaced.
        confined: whether the kernel itself confines the process to the root (Landlock); None before the first file.
    """

    payload_max = PAYLOAD_MAX
    """Bytes of an answer; more is taken for a reader gone mad."""

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
    ) -> None:
        self.path_map = tuple(path_map)
        self.terms = ReaderConfig(str(root), self.path_map, locking, time_limit_s, memory_limit_bytes, sums, nice)
        self.launches = 0
        self.confined: bool | None = None
        self._lock = asyncio.Lock()
        self._child: ReaderChild | None = None
        self._ending: list[ReaderChild] = []

    @property
    def pid(self) -> int | None:
        """The process that reads, while there is one."""
        return self._child.process.pid if self._child else None

    async def start(self) -> None:
        """Starts the process, so that the first request need not wait for it.

        Raises:
            FileNotReady: when it cannot be started.
        """
        async with self._lock:
            await self._running()

    async def close(self) -> None:
        """Ends the process. Another request would start it anew."""
        async with self._lock:
            self._abandon()
            await self._reap(patience_s=LAST_S)

    async def _ask(self, request: Mapping[str, Any], read: Callable[[dict[str, Any], bytearray], T]) -> T:
        async with self._lock:
            child = await self._running()
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
        name, limit_s = shown(request["path"]), self.terms.time_limit_s
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
            raise FileBroken(f"{name} could not be read: the reader process {await child.fate()}") from error
        except (LookupError, TypeError, ValueError) as error:
            raise FileBroken(f"{name} could not be read: the reader process gave an invalid answer") from error
        finally:
            # also when nobody waits for the answer any more: the next one to ask must not get it
            if not answered:
                self._abandon()

    async def _running(self) -> ReaderChild:
        if self._child is not None and self._child.process.poll() is None:
            return self._child
        self._abandon()
        await self._reap()
        self._child = child = ReaderChild()
        child.payload_max = self.payload_max
        self.launches += 1
        answered = False
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await child.exchange(dataclasses.asdict(self.terms))
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
        """Waits for the ends of processes that were killed; one that the disk holds up is left for the next time."""
        self._ending = [child for child in self._ending if await child.ended(patience_s=patience_s) is None]
        for child in self._ending:
            logger.warning("the reader process %s does not end; its disk may hang", child.process.pid)


def _error(header: Mapping[str, Any]) -> SnakemapError:
    """The error that an answer tells of; raises as a reading of nonsense does."""
    error = ERRORS[header["error"]](str(header["message"]))
    ready = header.get("ready")
    error.ready = max(0, int(ready)) if ready is not None else None
    return error


class ReaderChild:
    """The reading process, as its parent sees it."""

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
        """Sends a message and waits for its answer.

        Raises:
            EOFError: the process has ended.
            OSError: it is ending.
            ValueError: what it says makes no sense.
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

    async def fate(self) -> str:
        """What happened to the process, as the verb of a sentence."""
        code = await self.ended()
        if code is None:
            return "closed the connection"
        if code == -signal.SIGKILL:
            return "was killed, perhaps because memory ran out"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended (exit code {code})"

    async def ended(self, *, patience_s: float = END_S) -> int | None:
        """Its exit code; None when it does not end in time."""
        for _ in range(round(patience_s / END_POLL_S)):
            if self.process.poll() is not None:
                break
            await asyncio.sleep(END_POLL_S)
        return self.process.returncode

    def kill(self) -> None:
        """Ends it, whatever it is doing."""
        self.process.kill()
        self.sock.close()

    async def _exactly(self, count: int) -> bytearray:
        received = bytearray(count)
        view = memoryview(received)
        while view:
            got = await asyncio.get_running_loop().sock_recv_into(self.sock, view)
            if not got:
                raise EOFError("the reader has hung up")
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
