"""A camera's file writer in a process of its own: one writer, many readers (SWMR), under a test's control."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["DATASET", "SHAPE", "SwmrWriter", "picture"]

SHAPE = (24, 32)
DATASET = "/entry/data/data"


def picture(number: int, dtype: npt.DTypeLike = np.uint16, shape: tuple[int, int] = SHAPE) -> npt.NDArray[Any]:
    """The frame of that number: no two are alike, and none is dark."""
    random = np.random.default_rng(number)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    return (random.integers(0, 100, shape) + 1 + number % 20).astype(dtype)


END_TIMEOUT_S = 180.0
"""This file is also a program of its own, which imports nothing from the tests."""


class SwmrWriter:
    """Writes a file and lets readers in when told to; it lives until :meth:`close` or :meth:`kill`.

    Args:
        path: of the file.
        swmr: whether readers are let in at once.
        plain: whether the file is of the old format, which never lets readers in.
        options: how to create the dataset, like ``{"compression": "gzip"}``.
    """

    def __init__(
        self, path: Path, *, swmr: bool = True, plain: bool = False, options: dict[str, Any] | None = None
    ) -> None:
        arguments = json.dumps({"path": str(path), "plain": plain, "options": options or {}})
        self.process = subprocess.Popen(
            [sys.executable, __file__, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        if swmr:
            self.order("swmr")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def write(self, count: int = 1) -> int:
        """Writes more frames; all of them can be read when this returns. Returns how many there are."""
        return self.order(f"write {count}")

    def announce(self, count: int = 1) -> int:
        """Makes the dataset longer without writing the frames."""
        return self.order(f"announce {count}")

    def order(self, command: str) -> int:
        """Has a command carried out."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        """Ends it in the middle of everything."""
        self.process.kill()
        self._wait()

    def close(self) -> None:
        """Closes the file."""
        if self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self._wait()

    def _wait(self) -> None:
        self.process.wait(END_TIMEOUT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


def serve(path: str, *, plain: bool, options: dict[str, Any]) -> None:
    """Carries out commands from standard input, answering each with the frames there are."""
    with h5py.File(path, "w", libver=None if plain else "latest") as file:
        chunks = tuple(options.pop("chunks", (1, *SHAPE)))
        dataset = file.create_dataset(
            DATASET, (0, *SHAPE), np.uint16, maxshape=(None, *SHAPE), chunks=chunks, **options
        )
        answer(0)
        for line in sys.stdin:
            command, _, count = line.strip().partition(" ")
            length = dataset.shape[0]
            if command == "swmr":
                file.swmr_mode = True
            else:
                dataset.resize(length + int(count), axis=0)
            if command == "write":
                for number in range(length, dataset.shape[0]):
                    dataset[number] = picture(number)
            dataset.flush()
            answer(dataset.shape[0])


def answer(length: int) -> None:
    sys.stdout.write(f"{length}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    serve(told["path"], plain=told["plain"], options=told["options"])
