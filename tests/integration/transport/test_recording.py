"""Recordings of the real blueapi, played again through the real broker, give the maps that numpy gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.support.lab import Lab, maps_of_frames
from tests.support.rabbitmq import RabbitMQ
from tests.support.recordings import CASES, FOLDER, documents, frames

from snakemap.core.run import Run


def uid_of(case: str) -> str:
    return next(document.doc["uid"] for document in documents(case) if document.name == "start")


def play(lab: Lab, case: str) -> None:
    """Sends every message of a recording, its headers included, as fast as the broker takes them."""
    assert lab.publisher is not None
    with (FOLDER / f"{case}.jsonl").open() as lines:
        messages = [json.loads(line) for line in lines]
    for number, message in enumerate(messages):
        correlation_id = message["headers"].get("correlation-id")
        last = number == len(messages) - 1
        lab.publisher.send(message["body"].encode(), correlation_id=correlation_id, confirm=last)


def frames_of(run: Run) -> Any:
    resource = next(iter(run.ledger.resources.values()))
    return frames(resource.uri, resource.dataset)


@pytest.fixture
def lab(redis_url: str, rabbitmq: RabbitMQ) -> Lab:
    return Lab(redis_url, root=FOLDER, stomp_url=rabbitmq.stomp_url)


@pytest.mark.parametrize(
    ("case", "status", "shape", "points"),
    [
        ("small_step", "complete", (7, 9), 63),
        ("blob_fly", "complete", (1, 40), 40),
        ("small_aborted", "aborted", (7, 9), 21),
    ],
)
async def test_a_recording_played_again_gives_the_maps_of_its_file(
    lab: Lab, case: str, status: str, shape: tuple[int, int], points: int
) -> None:
    uid = uid_of(case)
    async with lab, lab.worker():
        play(lab, case)
        await lab.until_settled(uid)
        run, summary = await lab.run(uid), await lab.summary(uid)
    assert run.maps.grids.shape == (4, *shape)
    np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, frames_of(run), points=range(1, points + 1)))
    assert (summary["status"], summary["points"]) == (status, points)
    assert run.status == status
    assert summary["trouble"] == ""


async def test_the_point_of_an_aborted_run_that_nobody_announced_is_filled_from_the_file(lab: Lab) -> None:
    uid = uid_of("small_aborted")
    async with lab, lab.worker():
        play(lab, "small_aborted")
        await lab.until_settled(uid)
        note = await lab.settled(uid)
    assert (note["points"], note["filled"], note["missing"]) == (21, 1, 42)


async def test_recordings_played_twice_and_one_after_the_other_stay_apart(lab: Lab) -> None:
    uids = [uid_of(case) for case in CASES]
    async with lab, lab.worker():
        for case in (*CASES, *CASES):
            play(lab, case)
        await lab.until_settled(*uids)
        runs = [await lab.run(uid) for uid in uids]
    for run, points in zip(runs, (63, 40, 21), strict=True):
        np.testing.assert_array_equal(run.maps.grids, maps_of_frames(run, frames_of(run), points=range(1, points + 1)))


async def test_every_document_of_a_recording_stands_in_the_store_verbatim(lab: Lab) -> None:
    uid = uid_of("small_step")
    async with lab, lab.worker():
        play(lab, "small_step")
        await lab.until_settled(uid)
        stored = [entry.doc async for entries in lab.store.run_entries(uid) for entry in entries]
    recorded = [document.doc for document in documents("small_step")]
    assert [doc for doc in stored if doc in recorded] == recorded
