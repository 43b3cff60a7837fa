"""The guide for those who run it: every metric that it names is told, and every one that is told is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.api.test_metrics import MetricsStore

from snakemap.api.routes.metrics import Metrics
from snakemap.settings import load
from snakemap.store.heartbeat import ANSWER_S, Histogram, Work
from snakemap.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
BLOCKS: list[dict[str, Any]] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]
SAMPLE = re.compile(r"\b(?:snakemap|process)_[a-z_]+\b")


async def told() -> dict[str, set[str]]:
    """The labels of every sample of an API that knows of everything, by its name."""
    store = MetricsStore()
    work = Work(since=1.0)
    work.documents["start"] += 1
    store.reported["ingest"] = {
        **{"broker": "connected", "queue": 0, "received": 1, "oversized": 0, "waiting": 0, "readers_replaced": 0},
        **{"errors": {"document": 1}, "work": work.to_json(), "held": 0, "held_s": 0.0},
        "sources": [{"name": "a", "broker": "connected", "held": 0}],
    }
    store.reported["pages:a:1"] = {"process": "a:5006", "tabs": 1, "tabs_max": 2, "refused": {"session_refused": 1}}

    async def ask() -> None:
        return

    metrics = Metrics(cast("Store", store), load(), ask_blueapi=ask)
    metrics.clients["websocket"] = lambda: 0
    metrics.requests.counts["GET", "/api/runs", "2xx"] += 1
    metrics.requests.errors["run_not_found"] += 1
    metrics.requests.waits["GET", "/api/runs"] = Histogram(ANSWER_S)
    text, _ = await metrics.text("")
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


async def test_every_metric_that_the_guide_names_is_told() -> None:
    samples = await told()
    known = samples.keys() | {name.removesuffix("_bucket") for name in samples if name.endswith("_bucket")}
    named = {name for name in SAMPLE.findall(GUIDE) if name != "process_"}
    assert len(named) > 30
    assert named - known == set()


async def test_every_metric_of_ours_that_is_told_is_in_the_guide() -> None:
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in await told() if name.startswith("snakemap_")}
    assert {name for name in names if f"`{name}" not in GUIDE} == set()


async def test_the_guide_tells_the_labels_of_every_metric() -> None:
    samples = await told()
    for name, labels in re.findall(r"`(snakemap_[a-z_]+)\{([a-z,]+)\}`", GUIDE):
        found = samples.get(name) or samples[f"{name}_bucket"] - {"le"}
        assert set(labels.split(",")) == found, name


def test_alerts_and_scraping_are_what_prometheus_reads() -> None:
    scraping, alerting = BLOCKS
    assert scraping["scrape_configs"][0]["static_configs"][0]["targets"]
    rules = alerting["groups"][0]["rules"]
    assert len(rules) >= 5
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "annotations"}
        assert rule["annotations"]["summary"].endswith(".")
        assert SAMPLE.search(rule["expr"])
        assert rule["expr"].count("(") == rule["expr"].count(")")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_of_both_ports(path: str) -> None:
    assert f"`http://host:8080{path}`, `http://host:5006{path}`" in GUIDE
