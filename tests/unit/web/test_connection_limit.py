"""Bounds on connections, without any."""

from __future__ import annotations

import errno
import logging

import pytest

from snakemap.web.connection_limits import ConnectionLimit, OutOfDescriptors


class Opened:
    """Connections that note who was closed."""

    def __init__(self, **bounds: int) -> None:
        self.counted = ConnectionLimit(**bounds)
        self.closed: list[str] = []

    def open(self, name: str, address: str = "10.0.0.7") -> bool:
        return self.counted.opened(name, address, lambda: self.closed.append(name))


def test_the_oldest_connection_that_waits_makes_room_for_a_new_one() -> None:
    opened = Opened(waiting_each=2)
    assert [opened.open(name) for name in "abc"] == [True, True, True]
    assert opened.closed == ["a"]
    opened.counted.asked("b")
    assert opened.open("d")
    assert opened.closed == ["a"]
    assert opened.open("e")
    assert opened.closed == ["a", "c"]


def test_one_address_takes_no_place_of_another() -> None:
    opened = Opened(waiting_each=10, waiting_all=4)
    for name in "abc":
        opened.open(name, "10.0.0.8")
    opened.open("x", "10.0.0.7")
    opened.open("y", "10.0.0.9")
    assert opened.closed == ["a"]
    assert opened.counted.waiting == 4


def test_addresses_of_one_ipv6_network_are_one() -> None:
    opened = Opened(waiting_each=1)
    opened.open("a", "2001:db8::1")
    opened.open("b", "2001:db8::2")
    assert opened.closed == ["a"]


def test_an_address_has_so_many_connections_and_those_that_wait_go_first() -> None:
    opened = Opened(open_each=2)
    for name in "ab":
        opened.open(name)
        opened.counted.asked(name)
    assert not opened.open("c")
    assert opened.open("c", "10.0.0.8")
    opened.counted.waits("a", lambda: opened.closed.append("a"))
    assert opened.open("d")
    assert opened.closed == ["a"]
    opened.counted.closed("b")
    assert opened.open("e")


def test_what_has_ended_is_forgotten() -> None:
    opened = Opened()
    for name in "abc":
        opened.open(name)
        opened.counted.closed(name)
        opened.counted.closed(name)
        opened.counted.asked(name)
    assert opened.counted.waiting == 0
    assert not any((opened.counted._open, opened.counted._counts, opened.counted._waiting))


def test_running_out_of_descriptors_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    exhausted = OutOfDescriptors(clock=lambda: now)
    with caplog.at_level(logging.ERROR):
        for _ in range(1000):
            assert exhausted.is_it(OSError(errno.EMFILE, "Too many open files"))
            now += 0.1
    assert len(caplog.records) == 2
    assert "600 times" in caplog.text
    assert not exhausted.is_it(OSError(errno.EPERM, "no"))
    assert not exhausted.is_it(None)
