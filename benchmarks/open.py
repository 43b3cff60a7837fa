"""What opening a tab costs during a scan: the server's processor time, what is sent, and how long other tabs wait.

    python benchmarks/open.py [--tabs 8] [--rate 10]

The whole product runs (`snakemap demo`): a scan at 10 points a second, Redis, the worker, and the server of the pages.
A client opens pages one after the other as Bokeh's own client does, and leaves; another one stays and notes the time
between two messages. Processor time is that of the server of the pages, less what it uses for the tab that stays.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.tabs import opened

SETTLE_S, IDLE_S = 12.0, 8.0
MESSAGES = 12
"""Messages after which a page counts as open: the document, and the first updates."""


def processor_seconds(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def server_of_pages(parent: int) -> int:
    """The process of ``panel serve`` among the children of the demo."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"panel\0serve" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise SystemExit("the demo runs no server of pages")


async def in_use(url: str) -> tuple[Any, dict[str, float]]:
    """Open a page; returns its connection, and seconds and bytes until it was open."""
    begun = time.perf_counter()
    tab = await opened(url)
    received = 0
    for _ in range(MESSAGES):
        received += len(await tab.socket.read_message() or "")
    return tab.socket, {"page": tab.page_s, "open": time.perf_counter() - begun, "bytes": tab.bytes + received}


async def scripts_bytes(url: str) -> int:
    """Bytes of scripts and styles as they are sent to a browser that opens the dashboard for the first time."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        page = (await client.get("/dashboard")).text
        total = 0
        for address in re.findall(r'<(?:script[^>]* src|link[^>]* href)="([^"]+\.(?:js|css)[^"]*)"', page):
            async with client.stream("GET", urljoin("/dashboard", address)) as answer:
                await answer.aread()
                total += answer.num_bytes_downloaded
    return total


async def measured(url: str, pid: int, tabs: int) -> dict[str, float]:
    """Open tabs one after the other while another one is open."""
    staying, _ = await in_use(url)
    gaps: list[float] = []

    async def watch() -> None:
        last = time.perf_counter()
        while await staying.read_message() is not None:
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(SETTLE_S)
    before, begun = processor_seconds(pid), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    share = (processor_seconds(pid) - before) / (time.perf_counter() - begun)
    calm = max(gaps[-20:])
    gaps.clear()
    before, begun, found = processor_seconds(pid), time.perf_counter(), []
    for _ in range(tabs):
        socket, figures = await in_use(url)
        found.append(figures)
        socket.close()
        await asyncio.sleep(1)
    spent = processor_seconds(pid) - before - share * (time.perf_counter() - begun)
    watching.cancel()
    return {
        "share": share,
        "cpu": spent / tabs,
        **{name: statistics.median(one[name] for one in found) for name in ("page", "open", "bytes")},
        "scripts": await scripts_bytes(url),
        "calm": calm,
        "gap": max(gaps),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tabs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        scan = ["--rate", str(options.rate), "--shape", "100x100", "--mode", "step"]
        demo = subprocess.Popen(
            [sys.executable, "-m", "snakemap", "demo", *scan],
            env={**os.environ, "SNAKEMAP_STATE_DIR": state}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert demo.stdout
            url = next(found[1] for line in demo.stdout if (found := re.search(r"(http://\S+)/dashboard", line)))
            row = asyncio.run(measured(url, server_of_pages(demo.pid), options.tabs))
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    print(f"one open tab uses            {100 * row['share']:6.0f} % of a core")
    print(f"opening a tab: server CPU    {row['cpu']:6.2f} s")
    print(f"               the page      {row['page']:6.2f} s after the request")
    print(f"               first updates {row['open']:6.2f} s after the request")
    print(f"               sent          {row['bytes'] / 1e6:6.2f} MB")
    print(f"               first time    {row['scripts'] / 1e6:6.2f} MB more: scripts and styles")
    print(f"longest wait of another tab  {row['gap']:6.2f} s, {row['calm']:.2f} s while no page is opened")


if __name__ == "__main__":
    main()
