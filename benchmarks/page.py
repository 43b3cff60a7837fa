"""What a tab costs the server: our page against the idiomatic HoloViews one, in one run on one machine.

    python benchmarks/page.py [--seconds 8] [--sizes 100 1000] [--tabs 1 5 20]

Each page is served by a process of its own; browsers are stood in for by a websocket client in another, which opens
the page as Bokeh's own client does and reads what comes. One point arrives every 100 ms. Processor time is the server's
own, once less what it uses while the page stands still and once whole; bytes are what one client received.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HZ = 10
CHANNELS = ("red", "green", "blue", "total")


def pictures(size: int) -> np.ndarray:
    """Four maps (4, size, size) in counts, brighter towards the end."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0.2, 1, size * size).reshape(size, size)
    return (ramp * rng.uniform(0.2, 1, (4, size, size)) * 1e6).astype(np.int64)


# ---------------------------------------------------------------------------------------------------------- our page


def ours(size: int, done: int) -> tuple[Any, Any]:
    """The dashboard, fed without Redis; returns the page and a function that adds one point."""
    from bokeh.io.doc import curdoc

    from snakemap.core.derived_documents import derived_descriptor, derived_page
    from snakemap.core.documents import Entry
    from snakemap.dashboard.callbacks import soon
    from snakemap.dashboard.connection_beat import ConnectionBeat
    from snakemap.dashboard.layout import Dashboard
    from snakemap.dashboard.model_walk import walk_after_changes
    from snakemap.dashboard.session import Session
    from snakemap.live.run_follower import RunFollower
    from snakemap.render.cache import RenderCache
    from snakemap.render.pyramid import warm_up

    warm_up()
    live, levels, heartbeat = RunFollower(Silence()), RenderCache(), ConnectionBeat()  # type: ignore[arg-type]
    sums = pictures(size)
    count = 0

    def entry(name: str, doc: dict[str, Any]) -> Entry:
        nonlocal count
        count += 1
        return Entry(f"{int(time.time() * 1000)}-{count}", name, "run", None, doc)

    start = {
        "uid": "run",
        "time": time.time(),
        "plan_name": "benchmark",
        "shape": [size, size],
        "snaking": [False, True],
    }
    live.fold([entry("start", start)])
    run = live.runs["run"]
    descriptor = derived_descriptor(
        run,
        {"red": (0, 9, 0, 9), "green": (9, 18, 0, 9), "blue": (18, 27, 0, 9)},
        frame_shape=(27, 9),
        time=time.time(),
    )
    live.fold([entry("descriptor", descriptor)])

    def add(first: int, last: int) -> None:
        seq_nums = list(range(first, last + 1))
        rows, columns, _ = run.raster.pixel(seq_nums)
        columns_of = {name: sums[k, rows, columns].tolist() for k, name in enumerate(CHANNELS)}
        live.fold([entry("event_page", derived_page(descriptor["uid"], seq_nums, columns_of, time=time.time()))])

    add(1, done)
    state = {"next": done + 1}

    def point() -> None:
        add(state["next"], state["next"])
        state["next"] += 1

    def page() -> Any:
        walk_after_changes(curdoc())  # as the pages of the product do
        tab = Session(live, levels, document=curdoc())
        soon(tab.document, tab.start)  # this may be a thread
        heartbeat.follow(tab.document)
        return Dashboard(tab)

    return page, point


class Silence:
    """A store in which nothing happens: the benchmark folds its points itself."""

    async def latest(self) -> str:
        """Cursor of an empty stream."""
        return "0-0"

    async def summaries(self) -> list[dict[str, Any]]:
        """No runs."""
        return []

    async def reports(self) -> dict[str, Any]:
        """A worker that is well."""
        return {"ingest": {"host": "here", "waiting": 0, "broker": "connected"}}

    async def frame(self, uid: str, source: str = "") -> None:
        """No frame."""
        return None

    async def follow(self, after: str) -> Any:
        """Nothing, for ever."""
        while True:
            await asyncio.sleep(1)
            yield []


# ----------------------------------------------------------------------------------------------- the idiomatic page


def idiomatic(size: int, done: int) -> tuple[Any, Any]:
    """What HoloViews' own guides would have one write: Pipe, DynamicMap, rasterize, a periodic callback a tab."""
    import holoviews as hv
    import panel as pn
    from holoviews.operation.datashader import rasterize
    from holoviews.streams import Pipe

    hv.extension("bokeh")
    sums = pictures(size).astype(float)
    grids = np.full_like(sums, np.nan)
    state = {"next": 0}

    def point() -> None:
        row, column = divmod(state["next"], size)
        column = size - 1 - column if row % 2 else column
        grids[:, row, column] = sums[:, row, column]
        state["next"] += 1

    for _ in range(done):
        point()

    def page() -> Any:
        pipe = Pipe(data=grids)

        def image(number: int) -> Any:
            return lambda data: hv.Image(data[number][::-1], bounds=(0, 0, 1, 1)).opts(tools=["hover"], colorbar=True)

        def histogram(data: Any) -> Any:
            shares = data[3] / np.nanmax(data[3])
            counts, edges = np.histogram(shares[~np.isnan(shares)], bins=64, range=(0, 1))
            return hv.Histogram((edges, counts))

        maps = [
            rasterize(hv.DynamicMap(image(number), streams=[pipe]), width=400, height=400, dynamic=True)
            for number in range(4)
        ]
        layout = hv.Layout([*maps, hv.DynamicMap(histogram, streams=[pipe])]).cols(2)
        seen = {"next": -1}

        def update() -> None:
            if seen["next"] != state["next"]:
                seen["next"] = state["next"]
                pipe.send(grids)

        pn.state.add_periodic_callback(update, period=1000 // HZ)
        return pn.Column(pn.pane.HoloViews(layout))

    return page, point


# ------------------------------------------------------------------------------------------------- server and client


def serve(kind: str, size: int, tabs: int, seconds: float) -> None:
    """Serves one page, waits for the tabs, and prints processor seconds an update, moving and standing still."""
    import panel as pn
    from tornado.ioloop import PeriodicCallback

    pn.extension()
    done = size * 3 + size // 2
    page, point = {"ours": ours, "idiomatic": idiomatic}[kind](size, done)

    server: Any = pn.serve({"page": page}, port=0, show=False, start=False, verbose=False)
    server.start()
    print(server.port, flush=True)
    figures: dict[str, float] = {}

    async def settled() -> None:
        """Waits until everything has been compiled and sent: a whole second with the processor nearly idle."""
        used = 1.0
        for _ in range(90):
            if used < 0.3:
                return
            begun = time.process_time()
            await asyncio.sleep(1)
            used = time.process_time() - begun

    async def measure() -> None:
        while len(server.get_sessions("/page")) < tabs or not all(
            s.connection_count for s in server.get_sessions("/page")
        ):
            await asyncio.sleep(0.2)
        await settled()
        begun, clock = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds / 2)
        figures["still"] = (time.process_time() - begun) / (time.perf_counter() - clock)
        ticker = PeriodicCallback(point, 1000 / HZ)
        ticker.start()
        await asyncio.sleep(3)
        print("go", flush=True)
        begun, clock = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        figures["moving"] = (time.process_time() - begun) / (time.perf_counter() - clock)
        print("end", flush=True)
        print(json.dumps(figures), flush=True)
        server.io_loop.stop()

    server.io_loop.add_callback(measure)
    server.io_loop.start()


def listen(port: int, tabs: int) -> None:
    """Opens tabs as Bokeh's client does; between two lines on standard input counts what the first one receives."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.support.tabs import opened

    counted = {"bytes": 0, "messages": 0}

    async def tab(number: int) -> None:
        socket = (await opened(f"http://localhost:{port}", "page")).socket
        while (message := await socket.read_message()) is not None:
            if number == 0:
                counted["bytes"] += len(message)
                counted["messages"] += 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(tab(number)) for number in range(tabs)]
        await loop.run_in_executor(None, sys.stdin.readline)
        before = dict(counted)
        await loop.run_in_executor(None, sys.stdin.readline)
        print(json.dumps({key: counted[key] - before[key] for key in counted}), flush=True)
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def measured(kind: str, size: int, tabs: int, seconds: float) -> dict[str, float]:
    """Milliseconds and bytes an update and tab."""
    me = [sys.executable, __file__]
    arguments = [kind, str(size), str(tabs), str(seconds)]
    server = subprocess.Popen(
        [*me, "--serve", *arguments], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    assert server.stdout
    client = subprocess.Popen(
        [*me, "--listen", server.stdout.readline().strip(), str(tabs)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdin
    assert client.stdout
    server.stdout.readline()
    client.stdin.write("go\n")
    client.stdin.flush()
    server.stdout.readline()
    client.stdin.write("end\n")
    client.stdin.flush()
    received = json.loads(client.stdout.readline())
    used = json.loads(server.stdout.readline())
    client.wait(20)
    server.wait(20)
    updates = seconds * HZ
    return {
        "ms": 1000 * (used["moving"] - used["still"]) / HZ / tabs,
        "all": 1000 * used["moving"] / HZ / tabs,
        "core": 100 * used["moving"],
        "bytes": received["bytes"] / updates,
        "messages": received["messages"] / updates,
    }


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--tabs", type=int, nargs="*", default=[1, 5, 20])
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--listen", nargs=2, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve:
        kind, size, tabs, seconds = told.serve
        return serve(kind, int(size), int(tabs), float(seconds))
    if told.listen:
        return listen(int(told.listen[0]), int(told.listen[1]))
    heads = "".join(f"{head:>11}" for head in ("ms/update", "with idle", "% of core"))
    print(f"{'page':<24}{'tabs':>5}{heads}{'bytes':>9}{'frames':>8}{'ratio':>8}")
    for size in told.sizes:
        base = measured("idiomatic", size, 1, told.seconds)
        rows = [("idiomatic", 1, base)]
        rows += [("ours", tabs, measured("ours", size, tabs, told.seconds)) for tabs in told.tabs]
        for kind, tabs, row in rows:
            name = f"{kind} {size}x{size}"
            ratio = base["all"] / row["all"]
            print(
                f"{name:<24}{tabs:>5}{row['ms']:>11.2f}{row['all']:>11.2f}{row['core']:>11.1f}"
                f"{row['bytes']:>9.0f}{row['messages']:>8.1f}{ratio:>7.1f}x"
            )
    return None


if __name__ == "__main__":
    main()
