"""What a point costs, from the first to the 1,000,000th: it must not depend on how many came before.

A point is folded into its run, drawn into the picture, and told to one tab: sums, histogram and all. A hundred points
come at a time, as at a tick of a fast fly scan. Printed is the median of the last
tenth against that of the first.

    python benchmarks/points.py [points]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scanspec.specs import Linspace, Snake, Spiral

from snakemap.core.derived_documents import derived_descriptor, derived_page
from snakemap.core.documents import Document
from snakemap.core.run import Run
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.view_state import Choices
from snakemap.render.cache import RenderCache
from snakemap.render.pyramid import warm_up

ROIS = {"red": (0, 9, 0, 9), "green": (9, 18, 0, 9), "blue": (18, 27, 0, 9)}
CHANNELS = (*ROIS, "total")
BATCH = 100
KEYS = {"camera": {"external": "STREAM:", "shape": [1, 27, 9], "dtype": "array", "source": "benchmark"}}
POSITION = {"dtype": "number", "shape": [], "source": "MOTOR.RBV", "units": "mm"}

Values = npt.NDArray[np.float64]


def begun(start: dict[str, Any], *, positions: bool = False) -> tuple[Run, str]:
    """A run with its descriptors, and the uid of ours."""
    run = Run({"uid": "run", "time": time.time(), **start})
    keys = {**KEYS, **({"stage-x": POSITION, "stage-y": POSITION} if positions else {})}
    descriptor = {"uid": "d", "run_start": "run", "time": 1.0, "name": "primary", "data_keys": keys}
    run.apply(Document("descriptor", descriptor, run="run"))
    ours = derived_descriptor(run, ROIS, frame_shape=(27, 9), time=1.0)
    run.apply(Document("descriptor", ours, run="run"))
    return run, ours["uid"]


def grid(points: int) -> tuple[Run, str, None]:
    """A snaked grid from a scanspec."""
    side = round(points**0.5)
    spec = Linspace("stage-y", 0.0, 1.0, side) * Snake(Linspace("stage-x", 0.0, 1.0, side))
    return *begun({"scanspec": spec.serialize()}), None


def spiral(points: int) -> tuple[Run, str, None]:
    """A spiral whose way is known beforehand."""
    step = 0.89 / points**0.5
    return *begun({"scanspec": Spiral("stage-x", 0.0, 1.0, step, "stage-y", 0.0, 1.0).serialize()}), None


def arriving(points: int) -> tuple[Run, str, tuple[Values, Values]]:
    """A snake of which nobody knows anything but the readbacks in its events."""
    side = round(points**0.5)
    rows, columns = np.divmod(np.arange(side * side), side)
    columns = np.where(rows % 2, side - 1 - columns, columns)
    tremble = np.random.default_rng(2).normal(0, 0.02 / side, (2, side * side))
    return *begun({}, positions=True), (columns / side + tremble[0], rows / side + tremble[1])


def nothing(points: int) -> tuple[Run, str, None]:
    """A row of unknown length, drawn in a shape that was typed."""
    return *begun({}), None


def measured(case: Callable[[int], tuple[Run, str, Any]], points: int) -> Iterator[float]:
    """Seconds that each batch took, in order."""
    run, descriptor, positions = case(points)
    choices = Choices(shape=(round(points**0.5), round(points**0.5), True) if case is nothing else None)
    pipeline = Pipeline(choices, RenderCache())
    pipeline.look_at(run)
    sums = np.random.default_rng(1).integers(1_000, 1_000_000, (len(CHANNELS), points)).astype(float)
    sums[:, 0] = 1_000_000  # the running maximum comes first: a new one has the histogram counted anew
    pipeline.everything()
    total = min(points, run.raster.size) if run.raster.certain else points
    for first in range(0, total - BATCH, BATCH):
        part = slice(first, first + BATCH)
        numbers = list(range(first + 1, first + BATCH + 1))
        page = derived_page(
            descriptor, numbers, {name: sums[k, part].tolist() for k, name in enumerate(CHANNELS)}, time=1.0
        )
        events = None
        if positions is not None:
            xs, ys = positions
            told = {"stage-x": xs[part].tolist(), "stage-y": ys[part].tolist()}
            events = derived_page("d", numbers, told, time=1.0)
        began = time.perf_counter()
        if events is not None:
            run.apply(Document("event_page", events, run="run"))
        run.apply(Document("event_page", page, run="run"))
        if pipeline.update() is None:
            pipeline.everything()
        pipeline.histogram()
        pipeline.limits()
        pipeline.summaries()
        yield time.perf_counter() - began


def main() -> None:
    """Prints the table."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    warm_up()
    print(f"{points:,} points, {BATCH} at a time; microseconds a point\n")
    print("| run | first tenth | last tenth | ratio | mean of all |\n|---|---|---|---|---|")
    for case in (grid, spiral, arriving, nothing):
        list(measured(case, 2_000))  # compiles
        took = np.fromiter(measured(case, points), dtype=float) / BATCH * 1e6
        tenth = len(took) // 10
        first, last = np.median(took[:tenth]), np.median(took[-tenth:])
        print(f"| {case.__name__} | {first:.1f} | {last:.1f} | {last / first:.2f} | {took.mean():.1f} |", flush=True)


if __name__ == "__main__":
    main()
