"""Real processes over real sockets: peers and jobs started as commands, everything bounded in time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

import pytest

ENOUGH_S = 60
"""Far longer than anything here takes: a test that waits so long has failed."""


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


@dataclass(frozen=True)
class Answer:
    """What `zlb-submit` said."""

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
    """Start `python -m MODULE ARGUMENTS`; whatever still runs at the end of the test is killed."""
    started: list[Process] = []

    def start(kind: type[Process], module: str, *arguments: str) -> Process:
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if kind is Peer else None,
            text=True,
            env=environment,
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

    def start(*arguments: str, listen: str = "tcp://127.0.0.1:*") -> Peer:
        process = spawn(Peer, "zlb.cli.peer", "--listen", listen, "--slots", "1", *arguments)
        found = process.wait_for(r"^(\S+) listening on (\S+), ")
        process.node, process.endpoint = found[1], found[2]
        process.wait_for("integers a second")
        return process

    return start


@pytest.fixture
def client(spawn: Callable[..., Process]) -> Callable[..., Process]:
    """Start `zlb-submit ARGUMENTS` and read along."""
    return lambda *arguments: spawn(Process, "zlb.cli.submit", *arguments)


@pytest.fixture
def submit(environment: dict[str, str]) -> Callable[..., Answer]:
    """Run `zlb-submit ARGUMENTS` to its end."""

    def run(*arguments: str) -> Answer:
        command = [sys.executable, "-P", "-m", "zlb.cli.submit", *arguments]
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=ENOUGH_S, check=False
        )
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    return run
