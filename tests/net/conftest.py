"""Real processes over real sockets: peers and jobs started as commands, everything bounded in time."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from types import MappingProxyType
from typing import Any

import pytest

ENOUGH_S = 60
"""Far longer than anything here takes: a test that waits so long has failed."""
NOTHING_MORE: Mapping[str, str] = MappingProxyType({})
"""In the environment of a process."""


@dataclass
class Process:
    """A command, and what it says line by line."""

    popen: subprocess.Popen[str]
    lines: Queue[str] = field(default_factory=Queue)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.put(line.rstrip("\n"))

    def next(self) -> str:
        """The next line; fails the test when none comes."""
        try:
            line = self.lines.get(timeout=ENOUGH_S)
        except Empty:
            pytest.fail(f"{self.popen.args} said only {self.said}")
        self.said.append(line)
        return line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next line in which `pattern` is found."""
        while True:
            if found := re.search(pattern, self.next()):
                return found

    def wait_for_event(self, name: str) -> dict[str, Any]:
        """The next line of `--json` with that event."""
        while True:
            event: dict[str, Any] = json.loads(self.next())
            if event["event"] == name:
                return event

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(ENOUGH_S)


@dataclass
class Peer(Process):
    """A running `zlb-peer`."""

    endpoint: str = ""
    node: str = ""


@dataclass
class Tracker(Process):
    """A running `zlb-tracker`."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def integers(self) -> list[int]:
        """The hits of the plain output, as they came."""
        return [int(line.split("\t")[0]) for line in self.out.splitlines()]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of `--json`."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def done(self) -> dict[str, Any]:
        """The last line of `--json`."""
        assert self.events[-1]["event"] == "done", self.err
        return self.events[-1]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One state directory for all tests, so that kernels are compiled once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZLB_")}
    return kept | {"ZLB_STATE_DIR": str(tmp_path_factory.mktemp("state")), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def spawn(environment: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Start `PREFIX python -m MODULE ARGUMENTS`, perhaps with more in its environment; whatever still runs at the end
    of the test is killed."""
    started: list[Process] = []

    def start(
        kind: type[Process],
        module: str,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        more: Mapping[str, str] = NOTHING_MORE,
    ) -> Process:
        popen = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if kind in (Peer, Tracker) else None,
            text=True,
            env={**environment, **more},
        )
        started.append(kind(popen))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()
        assert process.popen.stdout is not None
        process.popen.stdout.close()


@pytest.fixture
def peer(spawn: Callable[..., Peer]) -> Callable[..., Peer]:
    """Start a peer of one slot on a free port, measured and ready."""

    def start(
        *arguments: str, listen: str = "tcp://127.0.0.1:*", more: Mapping[str, str] = NOTHING_MORE
    ) -> Peer:
        where = "--listen", listen, "--slots", "1"
        process = spawn(Peer, "zlb.cli.peer", *where, *arguments, more=more)
        found = process.wait_for(r"^(\S+) listening on (\S+), ")
        process.node, process.endpoint = found[1], found[2]
        process.wait_for("integers a second")
        return process

    return start


@pytest.fixture
def client(spawn: Callable[..., Process]) -> Callable[..., Process]:
    """Start `zlb-submit ARGUMENTS` and read along."""
    return lambda *arguments: spawn(Process, "zlb.cli.submit", *arguments)


@pytest.fixture(scope="session")
def submit(environment: dict[str, str]) -> Callable[..., Answer]:
    """Run `zlb-submit ARGUMENTS` to its end."""

    def run(*arguments: str, more: Mapping[str, str] = NOTHING_MORE) -> Answer:
        command = [sys.executable, "-P", "-m", "zlb.cli.submit", *arguments]
        env = {**environment, **more}
        ended = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=ENOUGH_S, check=False
        )
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def zlb(environment: dict[str, str]) -> Callable[..., Answer]:
    """Run `zlb ARGUMENTS` to its end."""

    def run(*arguments: str) -> Answer:
        command = [sys.executable, "-P", "-m", "zlb.cli.main", *arguments]
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=ENOUGH_S, check=False
        )
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    return run


@dataclass
class Cluster:
    """Three trackers, and how they, peers and commands that use them are started."""

    directory: Path
    endpoints: dict[str, str]
    _spawn: Callable[..., Tracker]
    _peer: Callable[..., Peer]
    _zlb: Callable[..., Answer]
    trackers: dict[str, Tracker] = field(default_factory=dict)

    @property
    def at(self) -> list[str]:
        """`--tracker` for each of the founders."""
        return [word for node in "abc" for word in ("--tracker", self.endpoints[node])]

    def start(self, node: str) -> Tracker:
        """Start the tracker of that name, again perhaps; `d` is no founder."""
        founders = ",".join(f"{one}={self.endpoints[one]}" for one in "abc")
        where = ("--data", str(self.directory / node), "--listen", self.endpoints[node], "--id", node)
        self.trackers[node] = tracker = self._spawn(
            Tracker, "zlb.cli.tracker", *where, "--cluster", founders, "--election-timeout", "300ms"
        )
        tracker.wait_for(f"^{node} listening on ")
        return tracker

    def kill(self, *nodes: str) -> None:
        """kill -9."""
        for node in nodes:
            self.trackers[node].end(signal.SIGKILL)

    def peer(self) -> Peer:
        """A peer that has joined."""
        peer = self._peer(*self.at)
        while peer.node not in {line["node"] for line in self("peers", "--json").events}:
            pass
        return peer

    def __call__(self, *arguments: str) -> Answer:
        """Run `zlb ARGUMENTS --tracker …` to its end."""
        return self._zlb(*arguments, *self.at)

    def submit(self, *arguments: str) -> str:
        """Submit a job; its id."""
        answer = self("submit", *arguments, "--detach")
        assert answer.code == 0, answer.err
        return answer.out.strip()

    def state(self) -> dict[str, Any]:
        """`zlb tracker status --json`."""
        (state,) = self("tracker", "status", "--json").events
        return state

    def job(self, job: str) -> dict[str, Any]:
        """`zlb status JOB --json`."""
        (line,) = self("status", job, "--json").events
        return line


@pytest.fixture
def cluster(
    tmp_path: Path,
    spawn: Callable[..., Tracker],
    peer: Callable[..., Peer],
    zlb: Callable[..., Answer],
) -> Cluster:
    """Three trackers, one of which leads."""
    endpoints = dict(zip("abcd", free_endpoints(4), strict=True))
    started = Cluster(tmp_path, endpoints, spawn, peer, zlb)
    for node in "abc":
        started.start(node)
    while started("tracker", "status").code != 0:
        pass
    return started


def free_endpoints(count: int) -> list[str]:
    """Where nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return found
