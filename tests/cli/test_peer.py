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
from zlb.core.events import NeighbourLost, NeighbourRefused, NeighbourUp, Notice, Stopped, WorkerAccused
from zlb.drivers.manners import Manners, Quiet

Call = Callable[..., Result]

LIFE = [
    run.Listening("p-1a2b", "tcp://127.0.0.1:7001", "tcp://127.0.0.1:4711", 2),
    NeighbourUp("p-2"),
    NeighbourRefused("ipc://x", 1, "version 1 is not 2"),
    Notice("job j-1 dropped: no kernel is named 'x'"),
    WorkerAccused("j-2", "p-2", "did not find 17, which it had to", 4096),
    WorkerAccused("j-2", "p-3", "reported a hit that is none", 0),
    NeighbourLost("p-2", "silent"),
    Stopped(),
]
LINES = [
    "p-1a2b listening on tcp://127.0.0.1:7001, 2 slots",
    "p-2 joined",
    "ipc://x refused: version 1 is not 2",
    "job j-1 dropped: no kernel is named 'x'",
    "p-2 did not find 17, which it had to: gets no more of job j-2, 4096 integers of it again",
    "p-3 reported a hit that is none: gets no more of job j-2",
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


@pytest.mark.parametrize(
    ("arguments", "manners"),
    [
        ("", Manners(share=1.0, nice=10, idle_only=False, quiet=())),
        ("--max-cpu 33", Manners(share=0.33)),
        ("--max-cpu 50%", Manners(share=0.5)),
        ("--nice 0", Manners(nice=0)),
        ("--nice 19 --idle-only", Manners(nice=19, idle_only=True)),
        ("--quiet-hours 9:00-17:30", Manners(quiet=(Quiet(540, 1050),))),
        ("--quiet-hours 22:00-07:00", Manners(quiet=(Quiet(1320, 420),))),
        ("--quiet-hours 22:00-00:00", Manners(quiet=(Quiet(1320, 1440),))),
        ("--quiet-hours 24:00-07:00", Manners(quiet=(Quiet(0, 420),))),
        ("--quiet-hours 00:00-24:00", Manners(quiet=(Quiet(0, 1440),))),
        (
            "--quiet-hours 1:00-2:00 --quiet-hours 3:00-4:00 --quiet-hours 01:00-02:00",
            Manners(quiet=(Quiet(60, 120), Quiet(180, 240))),
        ),
    ],
)
def test_manners(call: Call, serve: FakeServe, arguments: str, manners: Manners) -> None:
    assert call("peer", *arguments.split()).exit_code == 0
    assert serve.asked is not None
    assert serve.asked.manners == manners


def test_distance(call: Call, serve: FakeServe) -> None:
    assert call("peer", "--max-rtt", "200ms").exit_code == 0
    assert serve.asked is not None
    assert serve.asked.rtt_ns_max == 200_000_000


def test_manners_from_the_environment(call: Call, serve: FakeServe) -> None:
    env = {"ZLB_MAX_CPU": "20", "ZLB_IDLE_ONLY": "1", "ZLB_QUIET_HOURS": "22:00-23:00,01:00-02:00"}
    assert call("peer", env=env).exit_code == 0
    assert serve.asked is not None
    assert serve.asked.manners == Manners(0.2, 10, True, (Quiet(1320, 1380), Quiet(60, 120)))


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
        {
            "event": "accused",
            "job": "j-2",
            "peer": "p-2",
            "why": "did not find 17, which it had to",
            "again": "4096",
        },
        {
            "event": "accused",
            "job": "j-2",
            "peer": "p-3",
            "why": "reported a hit that is none",
            "again": "0",
        },
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
        ("--max-cpu 0", "'0' is no whole percentage from 1 to 100"),
        ("--max-cpu 101", "'101' is no whole percentage"),
        ("--max-cpu 12.5", "'12.5' is no whole percentage"),
        ("--max-cpu -1", "'-1' is no whole percentage"),
        ("--nice -5", "'-5' is no niceness from 0 to 19"),
        ("--nice 20", "'20' is no niceness"),
        ("--max-rtt 0", "a duration of nothing"),
        ("--max-rtt near", "'near' is no duration"),
        ("--quiet-hours 9-17", "'9-17' is not HH:MM-HH:MM"),
        ("--quiet-hours always", "'always' is not HH:MM-HH:MM"),
        ("--quiet-hours 22:00-25:00", "a day has no 25:00"),
        ("--quiet-hours 22:60-23:00", "a day has no 22:60"),
        ("--quiet-hours 22:00-24:01", "a day has no 24:01"),
        ("--quiet-hours 09:00-09:00", "ends when it begins; all day is 00:00-24:00"),
        ("--quiet-hours 24:00-00:00", "ends when it begins"),
    ],
)
def test_usage_errors(call: Call, serve: FakeServe, arguments: str, error: str) -> None:
    result = call("peer", *arguments.split())
    assert result.exit_code == 2
    assert error in result.stderr
    assert serve.asked is None
