"""How fast frames are read and summed, beside reading them alone and beside four sums with numpy.

All that is compared runs in turns in one process run, each turn over all frames of a file that is in the page cache,
and the best turn counts: on a busy machine the ratios say more than the numbers. The budget: reading and summing runs
at 80 % or more of what reading alone does. Exit code 1 when it does not.

    python benchmarks/reduce.py [--frames 48] [--turns 9]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from snakemap.hdf5.child.__main__ import FileReader
from snakemap.hdf5.frame_reader import FrameBatch, FrameReader
from snakemap.hdf5.protocol import FrameRequest, ReaderConfig

SHAPE = (1216, 1936)
ROIS = ((610, 760, 95, 245), (605, 755, 880, 1030), (600, 750, 1665, 1815))
DATASET = "/entry/data/data"
BUDGET = 0.8
LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "bitshuffle-lz4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
}


def write(path: Path, frames: int, options: dict[str, Any]) -> None:
    """A file as a camera writes it, one frame a chunk: a dim background, a bright spot, and photon noise."""
    random = np.random.default_rng(7)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    bright = 3 + 60 * np.exp(-((rows - 600) ** 2 + (columns - 900) ** 2) / 200**2)
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset(
            DATASET, (frames, *SHAPE), np.uint8, maxshape=(None, *SHAPE), chunks=(1, *SHAPE), **options
        )
        different = [random.poisson(bright).astype(np.uint8) for _ in range(8)]
        for number in range(frames):
            dataset[number] = different[number % len(different)]


async def measure(path: Path, frames: int, turns: int) -> dict[str, float]:
    """Seconds for all frames of a file, by what was done with them; each opens the file for itself, off the clock."""
    batch = FrameBatch(str(path), DATASET, 0, frames, rois=ROIS, frame_shape=SHAPE)
    outside = FrameReader(path.parent, time_limit_s=60)

    async def from_outside() -> float:
        await outside.length(str(path), DATASET)
        began = time.perf_counter()
        await outside.reduce(batch)
        return time.perf_counter() - began

    candidates = {
        "reading alone": lambda: reading(path, frames, lambda _frame: None),
        "our reader": lambda: our_reader(path, frames),
        "asked from outside": from_outside,
        "four numpy sums": lambda: reading(path, frames, numpy_sums),
    }
    best = dict.fromkeys(candidates, float("inf"))
    try:
        for turn in range(turns + 1):
            for name, candidate in candidates.items():
                took = await candidate()
                # the first turn warms up
                best[name] = min(best[name], took) if turn else best[name]
    finally:
        await outside.close()
    return best


async def reading(path: Path, frames: int, use: Callable[[npt.NDArray[np.uint8]], None]) -> float:
    """Seconds for reading frames one by one into a buffer, and for what is made of them."""
    buffer = np.empty(SHAPE, np.uint8)
    with h5py.File(path, "r", swmr=True, locking=False) as file:
        dataset = cast(h5py.Dataset, file[DATASET])
        began = time.perf_counter()
        for number in range(frames):
            dataset.read_direct(buffer, np.s_[number])
            use(buffer)
        return time.perf_counter() - began


def numpy_sums(frame: npt.NDArray[np.uint8]) -> None:
    """The sums of the ROIs and of the whole frame, each by itself."""
    for y0, y1, x0, x1 in ROIS:
        frame[y0:y1, x0:x1].sum(dtype=np.uint64)
    frame.sum(dtype=np.uint64)


async def our_reader(path: Path, frames: int) -> float:
    """Seconds for what the reading process does to answer a request, without asking it across processes."""
    request: FrameRequest = {
        "ask": "reduce",
        "path": path.name,
        "dataset": DATASET,
        "start": 0,
        "stop": frames,
        "frames_per_point": 1,
        "rois": [list(roi) for roi in ROIS],
        "frame_shape": list(SHAPE),
        "preview": False,
    }
    reader = FileReader(ReaderConfig(str(path.parent), time_limit_s=60), confine=False)
    reader.answer({**request, "ask": "shape"})
    began = time.perf_counter()
    header, _ = reader.answer(request)
    took = time.perf_counter() - began
    reader.close()
    if header.get("points") != frames:
        raise SystemExit(f"not all frames were read: {header}")
    return took


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=48, help="frames in each file (default: 48)")
    parser.add_argument("--turns", type=int, default=9, help="turns of which the best counts (default: 9)")
    arguments = parser.parse_args()
    frame_gb = SHAPE[0] * SHAPE[1] / 1e9
    within = True
    print(f"{arguments.frames} frames of {SHAPE[0]}x{SHAPE[1]} uint8, best of {arguments.turns} turns\n")
    print(f"{'file':<16}{'what':<20}{'frames/s':>10}{'GB/s':>8}{'of reading':>12}")
    with tempfile.TemporaryDirectory() as directory:
        for layout, options in LAYOUTS.items():
            path = Path(directory).resolve() / f"{layout}.h5"
            write(path, arguments.frames, options)
            seconds = asyncio.run(measure(path, arguments.frames, arguments.turns))
            for name, took in seconds.items():
                rate, ratio = arguments.frames / took, seconds["reading alone"] / took
                print(f"{layout:<16}{name:<20}{rate:>10,.0f}{rate * frame_gb:>8.2f}{ratio:>12.0%}")
            within &= seconds["reading alone"] / seconds["our reader"] >= BUDGET
    print(f"\nbudget: our reader at {BUDGET:.0%} of reading alone or more: {'kept' if within else 'NOT KEPT'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
