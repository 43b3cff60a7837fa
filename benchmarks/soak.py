"""What tabs leave behind: a server's memory while tabs come and go during a scan of ten points a second, forty a round.

    python benchmarks/soak.py [--rounds 5]

The first round makes what a process makes once; after it the memory should stay where it is, within 10 %. Run it from
the repository.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.made_up import MadeUpRun
from tests.support.stack import Stack
from tests.support.tabs import open_and_close

from snakemap.store.embedded_redis import EmbeddedRedis

TABS = 40
REST_S = 10
"""After which the sessions of closed tabs are gone."""


def scanning(run: MadeUpRun, first: int, end: threading.Event) -> None:
    """Add ten points a second to a run."""
    for number in range(first, run.points + 1):
        run.add(number, number)
        if end.wait(0.1):
            return


def main() -> None:
    """Prints a line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    print(f"{'tabs so far':>12}{'MB':>8}{'of the first round':>20}{'points':>8}")
    with tempfile.TemporaryDirectory(prefix="soak-") as name, EmbeddedRedis(Path(name) / "redis") as url:
        run = MadeUpRun(url, shape=(100, 100))
        run.add(1, 2_000)
        end = threading.Event()
        scan = threading.Thread(target=scanning, args=(run, 2_001, end))
        stack = Stack(Path(name) / "stack", redis_url=url).serve()
        try:
            scan.start()
            first = 0.0
            for number in range(1, told.rounds + 1):
                open_and_close(stack.url, tabs=TABS, together=5, messages=20)
                time.sleep(REST_S)
                memory = psutil.Process(stack.pages.pid).memory_info().rss / 1e6
                first = first or memory
                print(f"{number * TABS:>12}{memory:>8.0f}{100 * memory / first:>19.0f}%{run.run.points:>8}", flush=True)
        finally:
            end.set()
            scan.join()
            stack.end()


if __name__ == "__main__":
    main()
