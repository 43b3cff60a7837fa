"""The broker's contract, with a real RabbitMQ that is stopped, killed, paused and restarted."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.patience import PATIENCE, patiently
from tests.support.rabbitmq import RabbitMQ, free_port

from snakemap.core.source_status import SourceState
from snakemap.errors import BrokerUnavailable, SettingsError
from snakemap.transport.document_source import Delivery
from snakemap.transport.stomp_publisher import StompPublisher
from snakemap.transport.stomp_source import StompSource

DEADLINE_S = 40.0
NUMBERS = itertools.count(1)


@pytest.fixture
def destination() -> str:
    """A topic that no other test uses; its last part also names the queue."""
    return f"/topic/test.{next(NUMBERS)}"


@asynccontextmanager
async def listening(
    rabbitmq: RabbitMQ, destination: str, *, acknowledges: bool = True, **options: Any
) -> AsyncIterator[Listener]:
    """A broker that is connected, and a task that keeps what it brings."""
    options = {"retry_s": (0.05, 0.2)} | options
    listener = Listener(
        StompSource(rabbitmq.stomp_url, destination=destination, subscription=destination.replace("/", "."), **options),
        acknowledges=acknowledges,
    )
    try:
        await listener.until(lambda: listener.broker.status.state is SourceState.CONNECTED)
        yield listener
    finally:
        await listener.close()


class Listener:
    """Keeps every frame that a broker brings, and acknowledges it unless told otherwise."""

    def __init__(self, broker: StompSource, *, acknowledges: bool = True) -> None:
        self.broker = broker
        self.frames: list[Delivery] = []
        self.acknowledges = acknowledges
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self._task = asyncio.create_task(self._listen())

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(frame.body) for frame in self.frames]

    async def until(self, happens: Callable[[], object]) -> None:
        async with patiently(DEADLINE_S):
            while not happens():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    def has_ended(self) -> bool:
        return self._task.done()

    def listen_again(self) -> None:
        self._task = asyncio.create_task(self._listen())

    async def has(self, number: int) -> None:
        await self.until(lambda: len(self.frames) >= number)

    async def close(self) -> None:
        self.may_go_on.set()
        await self.broker.close()
        async with patiently(DEADLINE_S):
            await self._task

    async def _listen(self) -> None:
        async for batch in self.broker.batches():
            self.frames += batch
            if self.acknowledges:
                self.broker.ack(batch)
            await self.may_go_on.wait()


def publish(rabbitmq: RabbitMQ, destination: str, bodies: list[Any]) -> None:
    """Publishes, and returns when the broker has everything."""
    with StompPublisher(rabbitmq.stomp_url, destination=destination) as publisher:
        for body in bodies[:-1]:
            publisher.send(body)
        publisher.send(bodies[-1], confirm=True)


def our_threads() -> list[str]:
    """Threads of stomp.py and of our own; asyncio's belong to the loop."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if "asyncio" not in name and name != "MainThread"]


async def test_messages_arrive_in_order_with_the_headers_of_blueapi(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        with StompPublisher(rabbitmq.stomp_url, destination=destination) as publisher:
            publisher.publish({"name": "start", "doc": {"plan": "σ"}, "task_id": "t"})
            publisher.publish({"state": "IDLE"}, "t")
            publisher.send(b'{"raw": 1}', confirm=True)
        await listener.has(3)
    assert listener.bodies == [
        {"name": "start", "doc": {"plan": "σ"}, "task_id": "t"},
        {"state": "IDLE"},
        {"raw": 1},
    ]
    document, worker, _ = (frame.headers for frame in listener.frames)
    assert document["destination"] == destination
    assert document["JMSType"] == "TextMessage"
    assert document["content-length"] == str(len(listener.frames[0].body))
    assert "content-type" not in document
    assert "correlation-id" not in document
    assert worker["correlation-id"] == "t"


async def test_what_is_published_while_we_are_away_arrives_afterwards(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination):
        pass
    publish(rabbitmq, destination, list(range(100)))
    async with listening(rabbitmq, destination) as listener:
        await listener.has(100)
    assert listener.bodies == list(range(100))


async def test_what_was_acknowledged_does_not_come_again(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        publish(rabbitmq, destination, list(range(300)))
        await listener.has(300)
    publish(rabbitmq, destination, ["new"])
    async with listening(rabbitmq, destination) as listener:
        await listener.has(1)
    assert listener.bodies == ["new"]


async def test_what_was_not_acknowledged_comes_again_marked_and_in_order(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination, acknowledges=False) as listener:
        publish(rabbitmq, destination, list(range(10)))
        await listener.has(10)
        listener.broker.ack(listener.frames[3:5])
    async with listening(rabbitmq, destination) as again:
        await again.has(8)
    assert again.bodies == [0, 1, 2, 5, 6, 7, 8, 9]
    assert {frame.headers["redelivered"] for frame in again.frames} == {"true"}


async def test_acknowledgements_of_a_connection_that_has_ended_are_ignored(
    rabbitmq: RabbitMQ, destination: str
) -> None:
    async with listening(rabbitmq, destination, acknowledges=False) as first:
        publish(rabbitmq, destination, ["a"])
        await first.has(1)
    async with listening(rabbitmq, destination, acknowledges=False) as second:
        await second.has(1)
        stale = Delivery(b"", first.frames[0].ack_id, connection=0)
        second.broker.ack([stale])  # would make RabbitMQ end the connection
        second.broker.ack(second.frames)
        publish(rabbitmq, destination, ["b"])
        await second.has(2)
        assert second.broker.connections == 1
        assert second.broker.status.state is SourceState.CONNECTED


async def test_a_broker_that_restarts_in_mid_stream_is_found_again(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        publish(rabbitmq, destination, ["before"])
        await listener.has(1)
        connected_since = listener.broker.status.since
        rabbitmq.stop()
        await listener.until(lambda: listener.broker.status.state is SourceState.LOST)
        lost_since = listener.broker.status.since
        assert lost_since >= connected_since
        await asyncio.to_thread(rabbitmq.start)
        await listener.until(lambda: listener.broker.status.state is SourceState.CONNECTED)
        assert listener.broker.status.since > lost_since
        publish(rabbitmq, destination, ["after"])
        await listener.has(2)
    assert listener.bodies == ["before", "after"]


async def test_our_queue_outlives_a_restart_of_the_broker_while_we_are_away(
    rabbitmq: RabbitMQ, destination: str
) -> None:
    async with listening(rabbitmq, destination):
        pass
    rabbitmq.stop()
    rabbitmq.start()
    publish(rabbitmq, destination, ["kept by the durable queue"])
    async with listening(rabbitmq, destination) as listener:
        await listener.has(1)
    assert listener.bodies == ["kept by the durable queue"]


async def test_what_had_reached_us_is_ours_even_if_the_broker_is_killed(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        listener.may_go_on.clear()
        publish(rabbitmq, destination, list(range(50)))
        await listener.until(lambda: len(listener.frames) + listener.broker.queued == 50)
        rabbitmq.kill()
        await listener.until(lambda: listener.broker.status.state is SourceState.LOST)
        # not persistent, so gone from the broker's queue; but what had reached us is still here
        listener.may_go_on.set()
        await listener.has(50)
        assert listener.bodies[:50] == list(range(50))
        await asyncio.to_thread(rabbitmq.start)
        await listener.until(lambda: listener.broker.status.state is SourceState.CONNECTED)
        await asyncio.to_thread(publish, rabbitmq, destination, ["after"])
        await listener.until(lambda: "after" in listener.bodies)


async def test_a_broker_that_falls_silent_is_lost_although_its_connection_is_open(
    rabbitmq: RabbitMQ, destination: str
) -> None:
    async with listening(rabbitmq, destination, heartbeat_ms=1000) as listener:
        rabbitmq.pause()
        await listener.until(lambda: "was silent for" in listener.broker.status.reason)
        await asyncio.to_thread(rabbitmq.start)
        await listener.until(lambda: listener.broker.status.state is SourceState.CONNECTED)
        assert listener.broker.connections == 2


async def test_no_more_than_the_queue_size_is_given_to_a_reader_that_acknowledges_nothing(
    rabbitmq: RabbitMQ, destination: str
) -> None:
    async with listening(rabbitmq, destination, acknowledges=False, queue_size=20) as listener:
        publish(rabbitmq, destination, list(range(100)))
        await listener.has(20)
        listener.broker.ack(listener.frames[:1])
        await listener.has(21)
    assert listener.bodies == list(range(21))


async def test_a_slow_reader_loses_nothing_and_fills_no_memory(rabbitmq: RabbitMQ, destination: str) -> None:
    total, most = 20_000, 0
    async with listening(rabbitmq, destination, queue_size=200) as listener:
        listener.may_go_on.clear()
        await asyncio.to_thread(publish, rabbitmq, destination, list(range(total)))
        await listener.until(lambda: listener.broker.queued == 200)
        while len(listener.frames) < total:
            listener.may_go_on.clear()
            before = len(listener.frames)
            most = max(most, listener.broker.queued)
            listener.may_go_on.set()
            await listener.has(before + 1)
        assert listener.broker.connections == 1
    assert listener.bodies == list(range(total))
    assert most == 200


async def test_a_full_inbox_holds_the_broker_back_and_is_not_taken_for_its_silence(
    rabbitmq: RabbitMQ, destination: str
) -> None:
    async with listening(rabbitmq, destination, queue_bytes=4000, heartbeat_ms=1000) as listener:
        listener.may_go_on.clear()
        await asyncio.to_thread(publish, rabbitmq, destination, ["x" * 1000] * 100)
        await listener.until(lambda: listener.broker.queued == 3)
        held_back_until = time.monotonic() + 4.5  # RabbitMQ counts heartbeats in seconds: three are given up after 3 s
        await listener.until(lambda: time.monotonic() > held_back_until)
        assert listener.broker.queued == 3
        assert listener.broker.connections == 1
        listener.may_go_on.set()
        await listener.has(100)
        assert listener.broker.connections == 1


async def test_closing_while_the_inbox_is_full_ends_at_once(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination, queue_bytes=4000) as listener:
        listener.may_go_on.clear()
        publish(rabbitmq, destination, ["x" * 1000] * 100)
        await listener.until(lambda: listener.broker.queued == 3)
        began = time.monotonic()
        await listener.broker.close()
        assert time.monotonic() - began < 5 * PATIENCE
    assert our_threads() == []


async def test_a_message_too_large_is_counted_and_does_not_come_again(
    rabbitmq: RabbitMQ, destination: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(rabbitmq, destination, body_bytes_max=1000) as listener:
        publish(rabbitmq, destination, ["x" * 2000, "small", "y" * 2000])
        await listener.until(lambda: listener.broker.oversized == 2 and listener.frames)
    assert listener.bodies == ["small"]
    assert "A message of 2002 bytes was dropped; 1 so far" in caplog.text
    async with listening(rabbitmq, destination) as again:
        publish(rabbitmq, destination, ["next"])
        await again.has(1)
    assert again.bodies == ["next"]


async def test_closing_leaves_no_thread_and_ends_the_reader(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        assert our_threads() != []
    assert our_threads() == []
    await listener.broker.close()


async def test_a_reader_that_leaves_gives_everything_back_and_can_come_again(
    rabbitmq: RabbitMQ, destination: str
) -> None:
    async with listening(rabbitmq, destination, acknowledges=False, queue_size=20) as listener:
        broker = listener.broker
        assert (broker.held, broker.held_s) == (0, 0.0)
        publish(rabbitmq, destination, list(range(30)))
        await listener.has(20)
        await listener.until(lambda: broker.held == 20 and broker.held_s > 0.1)
        broker.ack(listener.frames[:1])
        await listener.has(21)
        await listener.until(lambda: broker.held == 20)
        await broker.leave()
        await listener.until(listener.has_ended)
        assert (broker.held, broker.queued, broker.status.state) == (0, 0, SourceState.CONNECTING)
        assert our_threads() == []
        async with listening(rabbitmq, destination) as other:
            await other.has(29)
        assert other.bodies == list(range(1, 30))
        publish(rabbitmq, destination, ["new"])
        listener.listen_again()
        await listener.has(22)
        assert json.loads(listener.frames[-1].body) == "new"
        await listener.until(lambda: broker.connections == 2)


async def test_a_broker_that_was_never_used_can_be_closed(rabbitmq: RabbitMQ) -> None:
    broker = StompSource(rabbitmq.stomp_url, destination="/topic/x", subscription="never")
    assert broker.status.state is SourceState.CONNECTING
    await broker.close()


async def test_two_readers_of_one_broker_are_refused(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        with pytest.raises(RuntimeError, match="one reader"):
            await anext(listener.broker.batches())


async def state_of(url: str, **options: Any) -> str:
    """What a broker says of itself once it has not been able to connect."""
    broker = StompSource(url, destination="/topic/x", subscription="x", retry_s=(0.01, 0.02), **options)
    listener = Listener(broker)
    try:
        await listener.until(lambda: broker.status.state is SourceState.LOST)
        return broker.status.reason
    finally:
        await listener.close()


async def test_a_wrong_password_is_told_as_such_without_it_and_not_tried_again_soon(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    url = rabbitmq.stomp_url.replace("guest:guest", "guest:wrong-secret")
    began = time.monotonic()
    state = await state_of(url)
    assert "refuses us: Bad CONNECT: Access refused for user 'guest'" in state
    assert time.monotonic() - began < 10 * PATIENCE
    assert "wrong-secret" not in state + caplog.text
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_port_on_which_nothing_listens_is_told_once_however_often_it_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    broker = StompSource(f"stomp://127.0.0.1:{port}", destination="/topic/x", subscription="x", retry_s=(0.01, 0.02))
    listener = Listener(broker)
    await listener.until(lambda: broker.status.state is SourceState.LOST)
    status = broker.status
    several_attempts_later = time.monotonic() + 0.3
    await listener.until(lambda: time.monotonic() > several_attempts_later)
    assert str(broker.status) == f"lost: The broker at 127.0.0.1:{port} cannot be reached: Connection refused"
    assert broker.status == status
    assert caplog.text.count("Connection refused") == 1
    await listener.close()


async def test_a_host_that_does_not_exist_is_lost() -> None:
    assert "cannot be reached" in await state_of("stomp://nobody.invalid:61613")


async def test_a_virtual_host_that_does_not_exist_is_told(rabbitmq: RabbitMQ) -> None:
    assert "Virtual host 'nowhere' access denied" in await state_of(f"{rabbitmq.stomp_url}/nowhere")


async def test_a_destination_that_the_broker_does_not_know_is_told(rabbitmq: RabbitMQ) -> None:
    async with patiently(DEADLINE_S):
        broker = StompSource(rabbitmq.stomp_url, destination="/nonsense/x", subscription="x")
        listener = Listener(broker)
        await listener.until(lambda: "refuses us: Unknown destination" in broker.status.reason)
        await listener.close()


async def test_something_that_is_no_broker_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        state = await state_of(f"stomp://127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.2)
    assert "does not answer as a STOMP broker does" in state


def test_a_publisher_says_that_the_broker_is_not_there() -> None:
    with pytest.raises(BrokerUnavailable, match="Connection refused"):
        StompPublisher(f"stomp://me:secret@127.0.0.1:{free_port()}").connect()
    assert our_threads() == []


def test_a_publisher_with_a_wrong_password_is_refused(rabbitmq: RabbitMQ) -> None:
    with pytest.raises(BrokerUnavailable, match="refuses us") as told:
        StompPublisher(rabbitmq.stomp_url.replace("guest:guest", "guest:wrong-secret")).connect()
    assert "secret" not in str(told.value)


def test_a_publisher_that_loses_the_broker_says_so_and_connects_again(rabbitmq: RabbitMQ, destination: str) -> None:
    publisher = StompPublisher(rabbitmq.stomp_url, destination=destination)
    publisher.send({"n": 1}, confirm=True)
    rabbitmq.stop()
    with pytest.raises(BrokerUnavailable):
        publisher.send({"n": 2}, confirm=True)
    rabbitmq.start()
    publisher.send({"n": 3}, confirm=True)
    publisher.close()
    publisher.close()
    assert our_threads() == []


async def test_threads_may_share_a_publisher(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        with StompPublisher(rabbitmq.stomp_url, destination=destination) as publisher:

            def send_many(first: int) -> None:
                for number in range(first, first + 200):
                    publisher.send({"n": number}, confirm=number % 50 == 0)

            await asyncio.gather(*(asyncio.to_thread(send_many, first) for first in (0, 1000, 2000)))
        await listener.has(600)
    sent = [number for first in (0, 1000, 2000) for number in range(first, first + 200)]
    assert sorted(body["n"] for body in listener.bodies) == sent


async def test_a_publisher_that_closes_has_handed_everything_over(rabbitmq: RabbitMQ, destination: str) -> None:
    async with listening(rabbitmq, destination) as listener:
        with StompPublisher(rabbitmq.stomp_url, destination=destination) as publisher:
            for number in range(1000):
                publisher.send({"n": number})
        await listener.has(1000)
    assert [body["n"] for body in listener.bodies] == list(range(1000))


@pytest.mark.parametrize("url", ["", "host:61613", "http://host", "stomp://", "stomp://host:port"])
def test_a_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="SNAKEMAP_STOMP_URL"):
        StompSource(url, destination="/topic/x", subscription="x")
    with pytest.raises(SettingsError, match="SNAKEMAP_STOMP_URL"):
        StompPublisher(url)
