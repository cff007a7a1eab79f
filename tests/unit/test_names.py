"""A name with several addresses is several machines; nobody is asked over the network here."""

import socket
from typing import Any

import pytest

from zlb.core.ids import Endpoint
from zlb.drivers.names import resolved

KNOWN = {
    "trackers.example": ["192.0.2.1", "192.0.2.2", "2001:db8::3"],
    "one.example": ["192.0.2.7"],
    "same.example": ["192.0.2.7", "192.0.2.7"],
    "192.0.2.9": ["192.0.2.9"],
}


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were looked up."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        if host not in KNOWN:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in KNOWN[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def of(*endpoints: str) -> list[str]:
    return list(resolved(map(Endpoint, endpoints)))


def test_a_name_with_several_addresses_is_each_of_them() -> None:
    assert of("tcp://trackers.example:7000") == [
        "tcp://192.0.2.1:7000",
        "tcp://192.0.2.2:7000",
        "tcp://[2001:db8::3]:7000",
    ]


@pytest.mark.parametrize("name", ["one.example", "same.example", "192.0.2.9"])
def test_a_name_with_one_address_stays_that_a_machine_that_moves_is_found(name: str) -> None:
    assert of(f"tcp://{name}:7000") == [f"tcp://{name}:7000"]


def test_a_name_without_any_address_stays_for_it_may_get_one_later() -> None:
    assert of("tcp://nobody.example:7000") == ["tcp://nobody.example:7000"]


def test_what_is_no_name_is_not_looked_up(directory: list[str]) -> None:
    given = ["tcp://localhost:1", "tcp://[::1]:2", "ipc:///tmp/x", "inproc://y"]
    assert of(*given) == given and directory == []


def test_order_stays_and_nobody_is_named_twice() -> None:
    assert of("tcp://192.0.2.2:7000", "tcp://trackers.example:7000", "tcp://192.0.2.2:7000") == [
        "tcp://192.0.2.2:7000",
        "tcp://192.0.2.1:7000",
        "tcp://[2001:db8::3]:7000",
    ]
