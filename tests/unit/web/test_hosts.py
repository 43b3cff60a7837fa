"""Which host names a server answers to."""

from __future__ import annotations

import socket

import pytest
from tests.support.rabbitmq import eventually

from snakemap.web.hosts import HostNames, name_of

OWN = socket.gethostname()


@pytest.mark.parametrize(
    "asked",
    [
        "localhost:5006", "127.0.0.1", "[::1]:8080", "LOCALHOST.", "10.0.0.7:5006", "dashboard.beamline",
        "dashboard.beamline:443", "Wall.Beamline:5006", "10.0.0.9:80", "[fd00::1]:80",
    ],
)  # fmt: skip
def test_names_of_the_settings_and_of_this_machine_are_answered(asked: str) -> None:
    hosts = HostNames("10.0.0.7", ("dashboard.beamline:5006", "wall.beamline", "10.0.0.9:5006", "[fd00::1]:5006"))
    assert hosts.allows([asked])


@pytest.mark.parametrize(
    "asked",
    [
        "evil.example", "evil.example:5006", "dashboard.beamline.evil.example", "localhost.evil.example", "10.0.0.8",
        "", " ", "localhost:5006@evil.example", "localhost evil.example", "evil.example/localhost", "127.0.0.2",
        "localhost, evil.example", "[::1", "localhost:x", "[::1]evil.example",
    ],
)  # fmt: skip
def test_other_names_are_refused(asked: str) -> None:
    assert not HostNames("10.0.0.7", ("dashboard.beamline:5006",)).allows([asked])


def test_the_machine_answers_to_its_own_name_and_to_the_address_that_was_called() -> None:
    hosts = HostNames("0.0.0.0")
    assert eventually(lambda: hosts.allows([f"{OWN}:5006"]))
    assert hosts.allows(["10.1.2.3:5006"], arrived_at="10.1.2.3")
    assert hosts.allows(["10.1.2.3:5006"], arrived_at="::ffff:10.1.2.3")
    assert not hosts.allows(["10.1.2.4:5006"], arrived_at="10.1.2.3")


def test_every_name_that_is_given_must_be_one_of_ours() -> None:
    hosts = HostNames("127.0.0.1", ("dashboard.beamline",))
    assert hosts.allows(["127.0.0.1:5006", "dashboard.beamline"])
    assert not hosts.allows(["127.0.0.1:5006", "evil.example"])
    assert not hosts.allows(["evil.example", "localhost"])
    assert hosts.allows([])  # HTTP/1.0: not a browser


def test_a_name_is_read_as_browsers_write_it() -> None:
    assert name_of("[0:0:0:0:0:0:0:1]:80") == "::1"
    assert name_of("[::ffff:10.0.0.7]") == "10.0.0.7"
