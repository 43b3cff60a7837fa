from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from snakemap.blueapi.status_poller import WorkerStatus
from snakemap.core.channels import HUES
from snakemap.core.derived_documents import DerivedDescriptor
from snakemap.core.documents import SETTLED, Document
from snakemap.core.maps import Maps
from snakemap.core.raster import Axis, Raster
from snakemap.core.run import Run
from snakemap.dashboard.page_css import embedded_css, page_css
from snakemap.dashboard.panes.status_text import STALE_AFTER_S, RateEstimate, duration, lights, progress, table
from snakemap.dashboard.pipeline import Pipeline
from snakemap.dashboard.view_state import Choices
from snakemap.live.run_follower import RunFollower
from snakemap.render.cache import RenderCache
from snakemap.store.redis_info import RedisCondition

NOW = 10_000.0
WORKER = {"host": "beam", "waiting": 1200, "broker": "connected", "worker_state": "RUNNING"}


def run_of(*, points: int = 0, certain: bool = True, heard: float = NOW) -> Run:
    """A run of 100 points that began 100 s ago; every point has the value of its seq_num."""
    run = Run({"uid": "run", "time": NOW - 100})
    raster = replace(Raster.of_shape((10, 10), snake=True, source="test"), certain=certain)
    run.main.maps = Maps(raster, ("red", "total"))
    run.main.derived_descriptor = DerivedDescriptor("ours", "", "", {}, (1, 1))
    seq_nums = range(1, points + 1)
    run.maps.assign(seq_nums, {"red": seq_nums, "total": seq_nums})
    run.updated = heard
    return run


def stop(run: Run, exit_status: str = "success", *, reason: str = "", ended: float = NOW - 50) -> Run:
    doc = {"run_start": "run", "exit_status": exit_status, "reason": reason, "time": ended}
    run.apply(Document("stop", doc, run="run"))
    return run


def live_of(**report: Any) -> RunFollower:
    """A Live whose worker reports, without a store to follow."""
    live = RunFollower(cast(Any, None))
    live.reports = {"ingest": {**WORKER, **report}}
    return live


def shown(live: RunFollower, run: Run | None, *, worker: WorkerStatus | None = None) -> list[tuple[str, str]]:
    return [(light["name"], light["level"]) for light in lights(live, run, now=NOW, worker=worker)]


# progress


def test_progress_tells_points_share_rate_elapsed_and_remaining_time() -> None:
    pace = RateEstimate()
    pace.note(30, now=NOW - 10)
    pace.note(50, now=NOW)
    told = progress(run_of(points=50), pace, now=NOW)
    assert told == "0:25 left · 50 of 100 points · 50 % · 2.0 points/s · 1:40 elapsed"


def test_progress_without_a_known_end_tells_no_share_and_no_remaining_time() -> None:
    assert progress(run_of(points=50, certain=False), RateEstimate(), now=NOW) == "50 points · 1:40 elapsed"


def test_a_run_that_stands_still_tells_neither_a_rate_nor_when_it_ends() -> None:
    pace = RateEstimate()
    for second in range(30):
        pace.note(50, now=NOW - 30 + second)
    assert progress(run_of(points=50), pace, now=NOW) == "50 of 100 points · 50 % · 1:40 elapsed"


def test_progress_of_a_run_that_has_ended_tells_its_mean_rate_and_its_whole_time() -> None:
    run = stop(run_of(points=100))
    assert progress(run, RateEstimate(), now=NOW) == "100 of 100 points · 100 % · 2.0 points/s · 0:50 elapsed"


def test_a_run_of_which_a_point_is_missing_is_never_at_100_percent() -> None:
    run = run_of()
    run.main.maps = Maps(Raster.of_shape((100, 100), snake=True, source="test"), ("total",))
    run.maps.assign(range(1, 10_000), {"total": range(1, 10_000)})
    assert progress(run, RateEstimate(), now=NOW).startswith("9,999 of 10,000 points · 99 %")


def test_a_pace_is_that_of_the_last_seconds_and_begins_anew_with_another_run() -> None:
    pace = RateEstimate()
    assert pace.per_second is None
    for second in range(60):
        pace.note(min(second, 30) * 10, now=float(second))
    assert pace.per_second == pytest.approx(0)
    pace.note(5, now=60.0)
    assert pace.per_second is None
    pace.note(25, now=70.0)
    assert pace.per_second == pytest.approx(2)


@pytest.mark.parametrize(
    ("seconds", "told"), [(-3, "0:00"), (0.4, "0:00"), (59.6, "1:00"), (3599.7, "1:00:00"), (90_000, "25:00:00")]
)
def test_a_duration_is_never_negative_and_carries_over(seconds: float, told: str) -> None:
    assert duration(seconds) == told


# lights


def test_all_is_well_while_points_come_in() -> None:
    assert shown(live_of(), run_of()) == [(name, "good") for name in ("live", "Redis", "worker", "broker")]


def test_silence_makes_a_run_stale_and_tells_since_when() -> None:
    assert shown(live_of(), run_of(heard=NOW - STALE_AFTER_S))[0] == ("live", "good")
    name, level = shown(live_of(), run_of(heard=NOW - 60))[0]
    assert (name[:12], level) == ("stale since ", "warn")
    assert lights(live_of(), run_of(heard=NOW - 60), now=NOW)[0]["title"] == "no new data for 1:00"


def test_a_lost_redis_is_told_at_once_and_of_those_behind_it_nothing_is_claimed() -> None:
    live = live_of()
    live.store_lost_since, live.store_trouble = NOW - 7, "cannot be reached"
    first, second = shown(live, run_of())
    assert first[0].startswith("stale since")
    assert second == ("Redis lost", "bad")
    assert lights(live, run_of(), now=NOW)[1]["title"] == "for 0:07: cannot be reached"


def test_a_lost_worker_is_told() -> None:
    live = live_of()
    live.reports = {}
    assert shown(live, run_of()) == [("live", "good"), ("Redis", "good"), ("worker lost", "bad")]
    said = lights(live, run_of(), now=100.0)[-1]["title"]
    assert said == "No worker holds the lease: no documents are stored. Start `snakemap ingest`."


@pytest.mark.parametrize(
    ("told", "light"),
    [
        (RedisCondition("OOM", "Redis is full"), ("Redis full", "bad")),
        (RedisCondition("READONLY", "Redis is a replica"), ("Redis read-only", "bad")),
        (RedisCondition("MISCONF", "Redis cannot save", "allkeys-lru"), ("Redis cannot save", "bad")),
        (RedisCondition("NOREPLICAS", "Redis lacks replicas"), ("Redis lacks replicas", "bad")),
        (RedisCondition(evicts="allkeys-lru"), ("Redis evicts", "warn")),
    ],
)
def test_a_redis_that_stores_nothing_new_or_evicts_has_its_own_light(
    told: RedisCondition, light: tuple[str, str]
) -> None:
    live = live_of()
    live.condition = told
    assert shown(live, run_of()) == [("live", "good"), light, ("worker", "good"), ("broker", "good")]
    assert (told.refuses or told.evicts) in lights(live, run_of(), now=NOW)[1]["title"]
    live.reports = {}
    assert shown(live, run_of())[-1] == (("worker unknown", "warn") if told.word else ("worker lost", "bad"))


def test_a_lost_broker_is_told_with_its_reason() -> None:
    live = live_of(broker="lost: connection refused")
    assert shown(live, run_of())[-1] == ("broker lost", "bad")
    assert lights(live, run_of(), now=NOW)[-1]["title"] == "lost: connection refused"


def test_each_of_several_document_sources_has_its_own_light() -> None:
    sources = [
        {"name": "stomp://b21-broker:61613", "broker": "connected"},
        {"name": "lines:///data/a.jsonl", "broker": "lost: /data/a.jsonl cannot be read"},
        {"name": "lines:///data/b.jsonl", "broker": "connected", "held": 8, "held_s": 60.0},
    ]
    lights = [("b21-broker", "good"), ("a.jsonl lost", "bad"), ("b.jsonl delayed", "bad")]
    assert shown(live_of(sources=sources), run_of())[-3:] == lights


def test_messages_that_are_delivered_and_not_stored_are_said_however_well_the_broker_is_connected() -> None:
    live = live_of(held=812, held_s=42.3)
    assert shown(live, run_of())[-1] == ("broker delayed", "bad")
    words = "812 messages were delivered to the worker and are not stored; the oldest has waited 42 s"
    assert lights(live, run_of(), now=NOW)[-1]["title"] == words
    assert shown(live_of(held=812, held_s=0.4), run_of())[-1] == ("broker", "good")
    assert shown(live_of(held=0, held_s=42.3), run_of())[-1] == ("broker", "good")
    assert shown(live_of(broker="lost: refused", held=1, held_s=42.3), run_of())[-1] == ("broker lost", "bad")
    assert shown(live_of(held="x", held_s=None), run_of())[-1] == ("broker", "good")


def test_documents_that_refer_to_others_that_never_came_are_said_with_the_name_of_the_queue() -> None:
    live = live_of(held=0, held_s=0.0, orphans=3, subscription="maps")
    assert shown(live, run_of())[-1] == ("broker delayed", "bad")
    said = lights(live, run_of(), now=NOW)[-1]["title"]
    assert said.startswith("3 documents refer to others that never came: another program may read the queue maps, or")
    for odd in ({"orphans": 0}, {"orphans": "x"}, {"orphans": None}):
        assert shown(live_of(held=0, held_s=0.0, **odd), run_of())[-1] == ("broker", "good")
    assert shown(live_of(broker="lost: refused", orphans=3), run_of())[-1] == ("broker lost", "bad")


@pytest.mark.parametrize("broker", ["none", "", None])
def test_without_a_broker_there_is_no_light_for_one(broker: str | None) -> None:
    assert shown(live_of(broker=broker), run_of())[-1] == ("worker", "good")


@pytest.mark.parametrize(
    ("exit_status", "status"), [("abort", "aborted"), ("fail", "failed"), ("success", "incomplete")]
)
def test_a_run_that_has_ended_is_finished_however_long_ago(exit_status: str, status: str) -> None:
    run = stop(run_of(heard=NOW - 3600), exit_status)
    run.apply(Document(SETTLED, {"run_start": "run"}, run="run"))
    assert shown(live_of(), run)[0] == ("finished", "idle")
    assert lights(live_of(), run, now=NOW)[0]["title"] == f"the run is {status}"


def test_without_a_run_one_waits() -> None:
    assert shown(live_of(), None)[0] == ("waiting", "idle")


@pytest.mark.parametrize(
    ("worker", "told"),
    [
        (WorkerStatus("RUNNING", 1.0), ("blueapi running", "good")),
        (WorkerStatus("PAUSED", 1.0), ("blueapi paused", "warn")),
        (WorkerStatus("", 1.0, trouble="it cannot be reached"), ("blueapi lost", "bad")),
    ],
)
def test_blueapis_state_is_told_where_there_is_one(worker: WorkerStatus, told: tuple[str, str]) -> None:
    assert told in shown(live_of(), run_of(), worker=worker)
    assert not [name for name, _ in shown(live_of(), run_of(), worker=WorkerStatus()) if "blueapi" in name]
    assert not [name for name, _ in shown(live_of(), run_of()) if "blueapi" in name]


# table


def rows_of(run: Run, **choices: Any) -> list[dict[str, Any]]:
    pipeline = Pipeline(Choices(**choices), RenderCache())
    pipeline.look_at(run)
    return table(pipeline, pipeline.summaries(), brushed=None, marks={})["rows"]


def test_rows_name_variables_that_every_theme_has_for_their_colors() -> None:
    rows = rows_of(run_of())
    assert [row["color"] for row in rows] == [f"var(--sm-channel-{name})" for name in ("red", "total")]
    for theme, colors in HUES.items():
        for name, color in colors.items():
            assert f"--sm-channel-{name}: {color};" in embedded_css(theme)
            assert f"--sm-channel-{name}: {color};" in page_css(theme)


def test_the_table_has_a_row_a_channel_with_where_its_maximum_is() -> None:
    run = run_of(points=11)
    run.maps.raster = replace(
        run.raster, slow=Axis("y", "mm", np.arange(10) / 10), fast=Axis("x", "", 5 - np.arange(10.0))
    )
    red, total = rows_of(run)
    assert (red["channel"], total["channel"]) == ("red", "total")
    expected = {"minimum": 1.0, "maximum": 11.0, "mean": 6.0, "total": 66.0, "points": 11}
    assert {key: red[key] for key in expected} == expected
    assert (red["at"], red["position"]) == ("1, 9", "x -4, y 0.1 mm")


def test_of_axes_that_nobody_told_the_table_tells_no_position() -> None:
    assert rows_of(run_of(points=3))[0]["position"] is None


def test_the_table_before_the_first_point_is_empty_and_can_be_sent_as_json() -> None:
    for row in rows_of(run_of()):
        told = {key: row[key] for key in ("minimum", "maximum", "mean", "total", "at", "position")}
        assert told == dict.fromkeys(told)
        assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_the_caption_says_which_pixels_are_brushed() -> None:
    run = run_of(points=3)
    pipeline = Pipeline(Choices(), RenderCache())
    pipeline.look_at(run)
    brushed = {"channel": "red", "range": (0.25, 0.5)}
    told = table(pipeline, pipeline.summaries(), brushed=brushed, marks={})["caption"]
    assert told == "brushed pixels only: red from 25% to 50% of its maximum"
    assert table(pipeline, pipeline.summaries(), brushed=None, marks={})["caption"] == ""


@pytest.mark.parametrize(
    ("unit", "values", "told"),
    [
        ("A", [1e-10, 4e-10], "red from 100.0 pA to 200.0 pA"),
        ("", [-3.0, 1.0], "red from -2 to -1"),
        ("<b>", [1.0, 2.0], "red from 0.5000 <b> to 1 <b>"),
        ("counts", [1.0, 2.0], "red from 25% to 50% of its maximum"),
    ],
)
def test_the_caption_names_brushed_values_in_the_unit_of_the_channel(unit: str, values: list[float], told: str) -> None:
    run = run_of()
    run.main.units["red"] = unit
    run.maps.assign([1, 2], {"red": values})
    pipeline = Pipeline(Choices(channel="red"), RenderCache())
    pipeline.look_at(run)
    brushed = {"channel": "red", "range": (0.25, 0.5)}
    shown = table(pipeline, pipeline.summaries(), brushed=brushed, marks={})
    assert shown["caption"] == f"brushed pixels only: {told}"
    assert shown["rows"][0]["unit"] == unit
