"""What files cost: the first look at a directory of 10,000, and a finished scan opened as maps.

Compared in one run, in turns, and the best turn counts: on a busy machine the ratios say more than the numbers.

- The first page of a directory that nobody has looked at, beside listing its names and stating them by hand.
- A finished scan opened as maps, from the click to the last point in the store, by a real worker and a real Redis,
  beside reading its frames alone. The budget: 80 % or more of what reading alone does, of
  a scan long enough that beginning does not count. And what opening it again costs. Exit code 1 when it does not.

    python benchmarks/files.py [--files 10000] [--frames 2000] [--turns 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from snakemap.files.directory_listing import DirectoryCache
from snakemap.hdf5.inspector import FileInspector
from snakemap.ingest import ingest
from snakemap.live.file_runs import open_stack, stack_of
from snakemap.settings import load
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.store import Store

SHAPE = (1216, 1936)
DATASET = "/entry/data/data"
BUDGET = 0.8
FIRST_PAGE_BUDGET_S = 0.5


async def measure_directory(root: Path, turns: int) -> tuple[float, float]:
    """Seconds for the first page of a directory, and for names and sizes by hand."""
    pages, hands = [], []
    for _ in range(turns):
        began = time.perf_counter()
        await DirectoryCache(root).page(count=120)
        pages.append(time.perf_counter() - began)
        began = time.perf_counter()
        with os.scandir(root) as entries:
            sum(entry.stat().st_size for entry in entries)
        hands.append(time.perf_counter() - began)
    return min(pages), min(hands)


def write(path: Path, frames: int) -> None:
    """A file as a camera writes it, one frame a chunk, packed as detectors do."""
    random = np.random.default_rng(7)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    bright = 3 + 60 * np.exp(-((rows - 600) ** 2 + (columns - 900) ** 2) / 200**2)
    different = [random.poisson(bright).astype(np.uint8) for _ in range(8)]
    with h5py.File(path, "w", libver="latest") as file:
        packed = dict(hdf5plugin.Bitshuffle(cname="lz4"))
        dataset = file.create_dataset(DATASET, (frames, *SHAPE), np.uint8, chunks=(1, *SHAPE), **packed)
        for number in range(frames):
            dataset[number] = different[number % len(different)]


def read_alone(path: Path, frames: int) -> float:
    """Seconds for reading all frames, and doing nothing with them."""
    began = time.perf_counter()
    with h5py.File(path) as file:
        dataset = file[DATASET]
        assert isinstance(dataset, h5py.Dataset)
        buffer = np.empty(SHAPE, np.uint8)
        for number in range(frames):
            dataset.read_direct(buffer, np.s_[number])
    return time.perf_counter() - began


async def open_scan(path: Path, redis_url: str, state: Path) -> tuple[float, float]:
    """Seconds from opening a scan as maps to its last point in the store; and for opening it again."""
    settings = load(data_root=path.parent, redis_url=redis_url, state_dir=state)
    store, looker, stop = Store(redis_url), FileInspector(path.parent), asyncio.Event()
    working = asyncio.create_task(ingest(settings, stop=stop))
    while "ingest" not in await store.reports():
        await asyncio.sleep(0.05)
    about = await looker.about(path.name, DATASET)
    began = time.perf_counter()
    uid = await open_stack(store, await stack_of(looker, path.name, about))
    while True:
        await asyncio.sleep(0.02)
        summaries = {summary["uid"]: summary for summary in await store.summaries()}
        if summaries.get(uid, {}).get("ended"):
            break
    took = time.perf_counter() - began
    began = time.perf_counter()
    if await open_stack(store, await stack_of(looker, path.name, about)) != uid:
        raise RuntimeError("it was opened twice")
    again = time.perf_counter() - began
    stop.set()
    await working
    await looker.close()
    await store.close()
    return took, again


async def main(files: int, frames: int, turns: int) -> int:
    """Measures, and tells; the exit code."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "files"
        root.mkdir()
        for number in range(files):
            (root / f"scan-{number}.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
        page, hand = await measure_directory(root, turns)
        print(f"first page of {files:,} files: {1e3 * page:.0f} ms, {page / hand:.1f} times names and sizes by hand")
        path = Path(directory) / "scans" / "scan.h5"
        path.parent.mkdir()
        write(path, frames)
        alone, opened, again = [], [], []
        for turn in range(turns):
            alone.append(read_alone(path, frames))
            state = Path(directory) / f"state-{turn}"
            with EmbeddedRedis(state) as url:
                told = await open_scan(path, url, state)
            opened.append(told[0])
            again.append(told[1])
    share = min(alone) / min(opened)
    gigabytes = frames * SHAPE[0] * SHAPE[1] / 1e9
    print(
        f"{frames:,} frames ({gigabytes:.1f} GB): reading alone {min(alone):.1f} s, "
        f"opened as maps {min(opened):.1f} s, {100 * share:.0f} % (budget {100 * BUDGET:.0f} %); "
        f"opened again {1e3 * min(again):.0f} ms"
    )
    return 0 if share >= BUDGET and page <= FIRST_PAGE_BUDGET_S else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=3)
    told = parser.parse_args()
    sys.exit(asyncio.run(main(told.files, told.frames, told.turns)))
