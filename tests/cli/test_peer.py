"""`zlb peer`: what its options hand to `run.serve`, and its life as lines."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from zlb.cli import run
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import NeighbourLost, NeighbourRefused, NeighbourUp, Notice, Stopped

Call = Callable[..., Result]

LIFE = [
    run.Listening("p-1a2b", "tcp://127.0.0.1:7001", "tcp://127.0.0.1:4711", 2),
    NeighbourUp("p-2"),
    NeighbourRefused("ipc://x", 1, "version 1 is not 2"),
    Notice("job j-1 dropped: no kernel is named 'x'"),
    NeighbourLost("p-2", "silent"),
    Stopped(),
]
LINES = [
    "p-1a2b listening on tcp://127.0.0.1:7001, 2 slots",
    "p-2 joined",
    "ipc://x refused: version 1 is not 2",
    "job j-1 dropped: no kernel is named 'x'",
    "p-2 left: silent",
    "bye",
]


class FakeServe:
    error: BaseException | None = None

    def __init__(self) -> None:
        self.asked: run.Serving | None = None

    def __call__(self, serving: run.Serving, on_event: Callable[[Any], None]) -> None:
        self.asked = serving
        if self.error is not None:
            raise self.error
        for event in LIFE:
            on_event(event)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> FakeServe:
    fake = FakeServe()
    monkeypatch.setattr(run, "serve", fake)
    return fake


def test_defaults(call: Call, serve: FakeServe, tmp_path: Path) -> None:
    result = call("peer")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == LINES
    assert serve.asked == run.Serving("tcp://127.0.0.1:7001", None, (), (), None, tmp_path, False)


def test_options(call: Call, serve: FakeServe, tmp_path: Path) -> None:
    where = "--listen tcp://*:* --publish ipc://p --peer ipc://a --peer ipc://b --tracker ipc://t --insecure"
    lent = f"--slots 3 --state-dir {tmp_path}/x"
    assert call("peer", *where.split(), *lent.split()).exit_code == 0
    peers = ("ipc://a", "ipc://b")
    assert serve.asked == run.Serving("tcp://*:*", "ipc://p", peers, ("ipc://t",), 3, tmp_path / "x", True)


def test_neighbours_from_the_environment(call: Call, serve: FakeServe) -> None:
    call("peer", env={"ZLB_PEERS": "ipc://a,ipc://b", "ZLB_TRACKERS": "ipc://t"})
    assert serve.asked is not None
    assert (serve.asked.peers, serve.asked.trackers) == (("ipc://a", "ipc://b"), ("ipc://t",))


def test_json(call: Call, serve: FakeServe) -> None:
    assert [json.loads(line) for line in call("peer", "--json").stdout.splitlines()] == [
        {"event": "listening", "node": "p-1a2b", "endpoint": "tcp://127.0.0.1:7001", "slots": 2},
        {"event": "joined", "node": "p-2"},
        {"event": "refused", "where": "ipc://x", "code": 1, "detail": "version 1 is not 2"},
        {"event": "notice", "text": "job j-1 dropped: no kernel is named 'x'"},
        {"event": "left", "node": "p-2", "reason": "silent"},
        {"event": "stopped"},
    ]


def test_quiet_and_verbose(call: Call, serve: FakeServe) -> None:
    assert call("peer", "-q").stdout == ""
    for said, line in zip(call("peer", "-v").stdout.splitlines(), LINES, strict=True):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ " + re.escape(line), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "zlb: compiling\n"), (("-v",), "zlb: compiling\n"), (("-q",), ""), (("--json",), "")],
)
def test_kernels_say_what_takes_long(
    call: Call, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    def serve(*arguments: Any) -> None:
        logging.getLogger("zlb.kernels").info("compiling")

    monkeypatch.setattr(run, "serve", serve)
    assert call("peer", *arguments).stderr == said


@pytest.mark.parametrize("code", [ExitCode.BIND, ExitCode.USAGE])
def test_errors_are_one_line_and_a_code(call: Call, serve: FakeServe, code: ExitCode) -> None:
    serve.error = ZlbError("tcp://127.0.0.1:7001 is in use", code)
    result = call("peer")
    assert (result.exit_code, result.stdout) == (int(code), "")
    assert result.stderr == "zlb peer: tcp://127.0.0.1:7001 is in use\n"


def test_a_second_interrupt(call: Call, serve: FakeServe) -> None:
    serve.error = KeyboardInterrupt()
    assert call("peer").exit_code == 130


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--listen 127.0.0.1:7001", "is no endpoint"),
        ("--listen tcp://127.0.0.1:99999", "port 99999 of"),
        ("--peer tcp://*:1", "to dial, name the host and the port"),
        ("--slots 0", "'0' is no number of threads"),
        ("--slots -1", "'-1' is no number of threads"),
        ("--slots many", "'many' is no number of threads"),
    ],
)
def test_usage_errors(call: Call, serve: FakeServe, arguments: str, error: str) -> None:
    result = call("peer", *arguments.split())
    assert result.exit_code == 2
    assert error in result.stderr
    assert serve.asked is None
