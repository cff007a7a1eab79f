"""Endpoints: taken apart, refused with a reason, and what only this machine can reach."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.core.endpoints import Parts, is_local, parse, publish_beside


@pytest.mark.parametrize(
    ("endpoint", "parts"),
    [
        ("tcp://127.0.0.1:7001", Parts("tcp", "127.0.0.1:7001", "127.0.0.1", "7001")),
        ("tcp://[::1]:1", Parts("tcp", "[::1]:1", "[::1]", "1")),
        ("tcp://[fe80::1%eth0]:1", Parts("tcp", "[fe80::1%eth0]:1", "[fe80::1%eth0]", "1")),
        ("tcp://*:*", Parts("tcp", "*:*", "*", "*")),
        ("tcp://grid.example.org:65535", Parts("tcp", "grid.example.org:65535", "grid.example.org", "65535")),
        ("ipc:///tmp/a b", Parts("ipc", "/tmp/a b")),
        ("inproc://x", Parts("inproc", "x")),
    ],
)
def test_endpoints_are_taken_apart(endpoint: str, parts: Parts) -> None:
    assert parse(endpoint) == parts


@pytest.mark.parametrize(
    "endpoint",
    ["", "x", "udp://a:1", "tcp://", "tcp://a", "tcp://a:", "tcp://a:0", "tcp://a:65536", "tcp://a:1:2", "tcp://a:-1",
     "tcp://:1", "tcp://a b:1", "tcp://::1:5", "ipc://", "inproc://", "tcp://a:1\n", "ipc://" + "x" * 251, "TCP://a:1"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_with_one_line(endpoint: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(endpoint)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_parses_or_raises_a_value_error(text: str) -> None:
    for candidate in (text, f"tcp://{text}", f"tcp://{text}:1", f"ipc://{text}"):
        with contextlib.suppress(ValueError):
            assert parse(candidate).transport in ("tcp", "ipc")


def test_only_loopback_is_local() -> None:
    local = [
        "tcp://127.0.0.1:1",
        "tcp://127.9.9.9:*",
        "tcp://localhost:1",
        "tcp://[::1]:1",
        "ipc://x",
        "inproc://x",
    ]
    remote = [
        "tcp://*:1",
        "tcp://0.0.0.0:1",
        "tcp://10.0.0.1:1",
        "tcp://127.0.0.1.example.org:1",
        "tcp://[::]:1",
    ]
    assert all(map(is_local, local)) and not any(map(is_local, remote))


def test_publications_are_beside() -> None:
    assert publish_beside("tcp://127.0.0.1:7001") == "tcp://127.0.0.1:*"  # type: ignore[arg-type]
    assert publish_beside("ipc:///tmp/p") == "ipc:///tmp/p.pub"  # type: ignore[arg-type]
