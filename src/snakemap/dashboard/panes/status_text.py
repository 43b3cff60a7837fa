"""Progress of a run, health indicators, list of runs and summary table, as text and numbers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.core.channels import hue_of
from snakemap.core.maps import ChannelSummary, value_at
from snakemap.core.raster import Axis
from snakemap.core.run import Run
from snakemap.core.source_status import SourceState
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.quantities import quantity, unit_text
from snakemap.live.run_follower import RunFollower
from snakemap.store.readiness import NO_WORKER, broker_of
from snakemap.store.redis_info import RedisCondition
from snakemap.store.refusals import LIGHTS

__all__ = ["RUNS_SHOWN", "RateEstimate", "duration", "history", "lights", "progress", "sought", "table", "whereabouts"]

STALE_AFTER_S = 5.0
PACE_WINDOW_S = 20.0
RUNS_SHOWN = 200
TEXT_MAX = 80
HISTORY = ("uid", "plan_name", "scan_id", "started", "ended", "status", "expected")


class RateEstimate:
    """Points a second, from what came in the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, points: int, *, now: float) -> None:
        """Note the number of points at a time, in seconds."""
        if self._seen and points < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, points))
        while now - self._seen[0][0] > PACE_WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        """Points a second, or None before there are enough points."""
        if len(self._seen) < 2:
            return None
        (begun, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - begun) if ended - begun > 0.5 else None


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds as text.

    >>> [duration(seconds) for seconds in (7, 432, 3_725)]
    ['0:07', '7:12', '1:02:05']
    """
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def progress(run: Run, pace: RateEstimate, *, now: float) -> str:
    """Return remaining time, points, share, rate and elapsed time, in the order in which a narrow bar cuts them off.

    Times are in seconds since 1970.
    """
    expected = run.expected
    parts = [f"{run.points:,} of {expected:,} points" if expected else f"{run.points:,} points"]
    if expected:
        parts.append(f"{100 * run.points // expected} %")
    started = float(run.start["time"])
    elapsed = (run.ended or now) - started
    rate = pace.per_second if run.stop is None else (run.points / elapsed if elapsed > 0 else None)
    if rate:
        parts.append(f"{rate:.1f} points/s")
    parts.append(f"{duration(elapsed)} elapsed")
    if run.stop is None and expected and rate:
        parts.insert(0, f"{duration((expected - run.points) / rate)} left")
    return " · ".join(parts)


def lights(
    live: RunFollower,
    run: Run | None,
    *,
    now: float,
    worker: WorkerStatus | None = None,
    moment_ms: int | None = None,
) -> list[dict[str, str]]:
    """Return the health indicators of the top bar: data first, then the processes that data need.

    Each has a ``name``, a ``level`` (``good``, ``warn``, ``bad``, ``idle``) and a ``title`` that says more.

    Args:
        live: what the process knows.
        run: as it is now.
        now: seconds since 1970.
        worker: what blueapi does.
        moment_ms: milliseconds since 1970 of the moment that is drawn instead; None for now.
    """
    shown = [_data_light(live, run, now=now) if moment_ms is None else _past_light(moment_ms)]
    if live.store_lost_since is not None:
        ago = duration(now - live.store_lost_since)
        return [*shown, _light("Redis lost", "bad", f"for {ago}: {live.store_trouble}")]
    shown.append(_redis_light(live.condition))
    shown += _blueapi_light(worker)
    ingest = live.reports.get("ingest")
    if ingest is None and live.condition.word:
        return [
            *shown,
            _light("worker unknown", "warn", "`snakemap ingest` cannot report while Redis refuses to store data"),
        ]
    if ingest is None:
        return [*shown, _light("worker lost", "bad", NO_WORKER)]
    shown.append(_light("worker", "good", f"on {ingest.get('host', '?')}, {ingest.get('waiting', 0):,} frames to read"))
    sources = ingest.get("sources")
    if isinstance(sources, list) and sources:
        return [*shown, *(_source_light(source_label(one), one) for one in sources if isinstance(one, dict))]
    if SourceState.of(ingest.get("broker")) is not SourceState.NONE:
        shown.append(_source_light("broker", ingest))
    return shown


def source_label(source: Mapping[str, Any]) -> str:
    """Return a short name of one of several document sources: its host, or the name of its file.

    >>> source_label({"name": "stomp://b21-broker:61613"}), source_label({"name": "lines:///data/documents.jsonl"})
    ('b21-broker', 'documents.jsonl')
    """
    name = str(source.get("name") or "source")
    return (name.partition("://")[2].strip("/").rpartition("/")[2].partition(":")[0] or name)[:40]


def _source_light(name: str, report: Mapping[str, Any]) -> dict[str, str]:
    """Return the indicator of a document source."""
    trouble = broker_of(report)
    if trouble == SourceState.CONNECTED:
        return _light(name, "good", trouble)
    delayed = SourceState.of(report.get("broker")) is SourceState.CONNECTED
    return _light(f"{name} {'delayed' if delayed else 'lost'}", "bad", trouble)


def _redis_light(condition: RedisCondition) -> dict[str, str]:
    """Return the indicator of a Redis that answers: whether it stores new documents and keeps old ones."""
    if condition.word:
        return _light(LIGHTS.get(condition.word, "Redis refuses"), "bad", condition.refuses)
    if condition.evicts:
        what = f"its policy is {condition.evicts}: when its memory is full it removes documents; set it to noeviction"
        return _light("Redis evicts", "warn", what)
    return _light("Redis", "good", "Redis answers")


def _blueapi_light(worker: WorkerStatus | None) -> list[dict[str, str]]:
    """Return the indicator of blueapi, if one is set."""
    if worker is None or not worker.since:
        return []
    if worker.trouble:
        return [_light("blueapi lost", "bad", worker.trouble)]
    level = "good" if worker.state in ("IDLE", "RUNNING") else "warn"
    return [_light(f"blueapi {worker.state.lower()}", level, "state of the blueapi worker")]


def sought(summaries: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the runs that match a search; unusable criteria are ignored.

    Args:
        summaries: newest first.
        wanted: ``text``, whose words are in plan, number or file; ``status``; ``since`` and ``until``, between which
            the run began, in seconds since 1970.

    >>> [run["uid"] for run in sought([{"uid": "a", "plan_name": "fly"}, {"uid": "b"}], {"text": "FLY"})]
    ['a']
    """
    words = str(wanted.get("text") or "")[:TEXT_MAX].lower().split()
    status, since, until = wanted.get("status"), wanted.get("since"), wanted.get("until")
    found = summaries
    if words:
        found = [run for run in found if all(word in _searched(run) for word in words)]
    if isinstance(status, str) and status:
        found = [run for run in found if run.get("status") == status]
    if isinstance(since, int | float) and isinstance(until, int | float):
        found = [run for run in found if since <= (run.get("started") or 0) < until]
    return found


def _searched(run: Mapping[str, Any]) -> str:
    parts = (run.get(key) for key in ("plan_name", "scan_id", "file"))
    return " ".join(str(part) for part in parts if part is not None).lower()


def history(summaries: Sequence[Mapping[str, Any]], *, now: float, pictures: bool = True) -> list[dict[str, Any]]:
    """Return the rows of the list of runs; those of running runs change at most every ten seconds.

    Args:
        summaries: newest first.
        now: seconds since 1970.
        pictures: whether the page's server has the small pictures.
    """
    rows = []
    for one in summaries[:RUNS_SHOWN]:
        running, file = one["status"] == "running", str(one.get("file") or "")
        picture = int(one.get("picture") or 0) if pictures else 0
        rows.append(
            {
                **{key: one.get(key) for key in HISTORY},
                "points": None if running else one.get("points"),
                "file": file.rstrip("/").rpartition("/")[2],
                "path": file,
                "picture": picture and (int(now // 10) if running else picture),
            }
        )
    return rows


def table(
    pipeline: Pipeline,
    summaries: Sequence[ChannelSummary],
    *,
    brushed: Mapping[str, Any] | None,
    marks: Mapping[str, str],
) -> dict[str, Any]:
    """Return the summary table: one row for each channel, and a caption that names the points.

    Args:
        pipeline: of the tab.
        summaries: one a channel.
        brushed: ``range`` and ``channel`` of the brush; None without one.
        marks: what is wrong with a channel, by its name.
    """
    maps = pipeline.maps
    rows = []
    for name, summary in zip(maps.channels, summaries, strict=True):
        found = summary.row >= 0
        rows.append(
            {
                "channel": name,
                "unit": unit_text(pipeline.source.units.get(name)),
                "color": f"var(--sm-channel-{hue_of(name, channels=maps.channels)})",
                "mark": marks.get(name, ""),
                **{key: _finite(getattr(summary, key)) for key in ("minimum", "maximum", "mean")},
                "total": summary.total if found else None,
                "points": summary.points,
                **(whereabouts(pipeline, summary.row, summary.column) if found else {"at": None, "position": None}),
            }
        )
    caption = ""
    if brushed:
        caption = f"brushed pixels only: {brushed['channel']} {_range_text(pipeline, *brushed['range'])}"
    return {"rows": rows, "caption": caption}


def _range_text(pipeline: Pipeline, low: float, high: float) -> str:
    """Return a brushed range as text: shares of the maximum for counts, else values."""
    if pipeline.in_shares:
        return f"from {low:.0%} to {high:.0%} of its maximum"
    unit, span = pipeline.unit, pipeline.span
    return f"from {quantity(value_at(low, *span), unit)} to {quantity(value_at(high, *span), unit)}"


def whereabouts(pipeline: Pipeline, row: int, column: int) -> dict[str, str | None]:
    """Return where a cell of the maps lies.

    Args:
        pipeline: of the tab.
        row: of the cell.
        column: of the cell.

    Returns:
        ``at``, row and column of the scan, or its number on a path; ``position``, its coordinates. None where unknown.
    """
    raster = pipeline.maps.raster
    cell = row * raster.columns + column
    at: str | None = f"{row}, {column}"
    if not pipeline.indexed:
        at = f"point {column + 1:,}"
    elif pipeline.choices.shape is not None:
        place = pipeline.picture.position_of(cell)
        at = f"{place[0]}, {place[1]}" if place else None
    if raster.path is not None:
        (x,), (y,) = raster.path.at([column + 1])
        names = (raster.path.x_name, x, raster.path.x_unit), (raster.path.y_name, y, raster.path.y_unit)
        parts = [f"{name} {value:.4g} {unit}".strip() for name, value, unit in names if value == value]
        return {"at": at, "position": ", ".join(parts) or None}
    return {"at": at, "position": _position(raster.slow, raster.fast, row, column)}


def _position(slow: Axis, fast: Axis, row: int, column: int) -> str | None:
    parts = [
        f"{axis.name} {axis.coordinates[index]:.4g} {axis.unit}".strip()
        for axis, index in ((fast, column), (slow, row))
        if axis.known
    ]
    return ", ".join(parts) or None


def _data_light(live: RunFollower, run: Run | None, *, now: float) -> dict[str, str]:
    if run is None:
        return _light("waiting", "idle", "no run yet")
    if run.status != "running":
        return _light("finished", "idle", f"the run is {run.status}")
    silent = now - run.updated
    if silent > STALE_AFTER_S or live.store_lost_since is not None:
        since = time.strftime("%H:%M:%S", time.localtime(run.updated))
        return _light(f"stale since {since}", "warn", f"no new data for {duration(silent)}")
    return _light("live", "good", "new points arrive")


def _past_light(moment_ms: int) -> dict[str, str]:
    at = time.strftime("%H:%M:%S", time.localtime(moment_ms / 1000))
    return _light(f"as of {at}", "warn", "maps, histogram, table and frame show the run at that time")


def _light(name: str, level: str, title: str) -> dict[str, str]:
    return {"name": name, "level": level, "title": title}


def _finite(value: float) -> float | None:
    return value if value == value else None
