"""A job outlives all: three trackers, three peers, and kill -9 for client, coordinator, leader, and every tracker.

`zlb wait` in a new shell prints the exact result, and nothing that was kept is hashed twice.
"""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.net.conftest import ENOUGH_S, Answer, Peer, Process
from zlb.cli.trackers import Trackers
from zlb.core.errors import ZlbError
from zlb.core.ids import Endpoint
from zlb.kernels import load_kernel
from zlb.protocols.queries import JobLine, ListJobs, ListPeers, PeerLine

BITS = int(os.environ.get("SURVIVAL_BITS", "30"))
"""Of the job's size: 34 takes two minutes a test on two cores."""
SIZE = 2**BITS
DIFFICULTY = BITS - 10
"""A thousand hits."""
SLICES = 3 * 3 * 10**7
"""More than three slots hash in two slices of a tenth of a second: what may be hashed twice at a death."""


class Grid:
    """Three trackers, and peers that are told of all of them."""

    def __init__(self, spawn: Callable[..., Any], ports: list[int], data: Path) -> None:
        self._spawn, self._data = spawn, data
        self.endpoints = [f"tcp://127.0.0.1:{port}" for port in ports]
        self.cluster = ",".join(f"t{number}={where}" for number, where in enumerate(self.endpoints))
        self.trackers = {f"t{number}": self.start(number) for number in range(len(ports))}
        self.peers: dict[str, Peer] = {}

    @property
    def options(self) -> list[str]:
        """`--tracker` for each of them."""
        return [word for endpoint in self.endpoints for word in ("--tracker", endpoint)]

    def start(self, number: int) -> Process:
        """Start a tracker, or start it again from its disk."""
        where = "--data", str(self._data / f"t{number}"), "--listen", self.endpoints[number]
        options = "--cluster", self.cluster, "--election-timeout", "300ms"
        return self._spawn(Process, "zlb.cli.tracker", *where, *options)

    def volunteer(self) -> None:
        """Start a peer of one slot."""
        options = "--listen", "tcp://127.0.0.1:*", "--slots", "1"
        peer = self._spawn(Peer, "zlb.cli.peer", *options, *self.options)
        peer.node = peer.wait_for(r"^(\S+) listening on (\S+), ")[1]
        peer.wait_for("enrolled")
        self.peers[peer.node] = peer

    def ask(self, query: Any, kind: Any) -> Any:
        """What the trackers say."""
        with Trackers(tuple(map(Endpoint, self.endpoints))) as trackers:
            return trackers.ask(query, kind)

    def leader(self) -> str:
        """Who leads, as soon as somebody does."""
        by = time.monotonic() + ENOUGH_S
        with Trackers(tuple(map(Endpoint, self.endpoints))) as trackers:
            while time.monotonic() < by:
                if leader := trackers.state().leader:
                    return leader
        pytest.fail(f"nobody leads after {ENOUGH_S} s")

    def line(self, job: str) -> JobLine:
        """A job in short."""
        return next(line for line in self.ask(ListJobs(), list[JobLine]) if line.job == job)

    def until(self, job: str, reached: Callable[[JobLine], bool]) -> JobLine:
        """Look at a job until that is so."""
        by = time.monotonic() + ENOUGH_S
        while time.monotonic() < by:
            if reached(line := self.line(job)):
                return line
        pytest.fail(f"{line} after {ENOUGH_S} s")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, below those the kernel gives to diallers."""
    found: set[int] = set()
    while len(found) < number:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.add(port)
    return sorted(found)


@pytest.fixture
def grid(spawn: Callable[..., Any], tmp_path: Path) -> Grid:
    """Three trackers with a leader, three peers on their roster."""
    made = Grid(spawn, free_ports(3), tmp_path)
    for _ in range(3):
        made.volunteer()
    by = time.monotonic() + ENOUGH_S
    while len(made.ask(ListPeers(), list[PeerLine])) < 3:
        assert time.monotonic() < by, "the peers are not on the roster"
    return made


def submitted(grid: Grid, spawn: Callable[..., Any], *options: str) -> tuple[Process, str]:
    """A client that follows its job, and the job's id."""
    words = "-r", f"0:{SIZE}", "-d", str(DIFFICULTY), "--all", "--json", *options, *grid.options
    client = spawn(Process, "zlb.cli.submit", *words)
    return client, client.wait_for_event("accepted")["job"]


def check_result(grid: Grid, spawn: Callable[..., Any], job: str, deaths: int) -> None:
    """`zlb wait` in a new shell: every hit once, all of the range, and no more twice than was in progress."""
    wait = spawn(Process, "zlb.cli.main", "wait", job, "--json", *grid.options)
    assert wait.popen.wait(10 * ENOUGH_S) == 0
    events = []
    while not events or events[-1]["event"] != "done":
        events.append(json.loads(wait.next()))
    check = load_kernel("sha256").checker({"difficulty": DIFFICULTY})
    found = [(int(event["n"]), bytes.fromhex(event["digest"])) for event in events if event["event"] == "hit"]
    assert len({n for n, _ in found}) == len(found)
    assert all(check(n) == digest for n, digest in found)
    expected = SIZE / 2**DIFFICULTY
    assert abs(len(found) - expected) < 6 * expected**0.5
    done = events[-1]
    assert done["status"] == "complete"
    assert SIZE <= int(done["tested"]) <= SIZE + deaths * SLICES
    line = grid.line(job)
    assert line.done == SIZE and line.hits == len(found)


@pytest.mark.slow
def test_a_job_outlives_client_coordinator_and_leader_one_after_the_other(
    grid: Grid, spawn: Callable[..., Any], zlb: Callable[..., Answer], tmp_path: Path
) -> None:
    file = tmp_path / "job.cert"
    client, job = submitted(grid, spawn, "--certificate", str(file))
    grid.until(job, lambda line: line.done > SIZE // 20)
    client.end(signal.SIGKILL)
    line = grid.until(job, lambda line: line.done > SIZE // 10)
    grid.peers[line.coordinator].end(signal.SIGKILL)
    grid.until(job, lambda line: line.epoch == 2 and line.done > SIZE // 6)
    leader = grid.leader()
    grid.trackers[leader].end(signal.SIGKILL)
    check_result(grid, spawn, job, deaths=1)
    assert not file.exists(), "its client is dead"
    assert zlb("result", job, "--certificate", str(file), *grid.options).code == 0
    (said,) = zlb("verify", str(file), "--json").events
    assert (said["verdict"], said["faults"], said["covered"]) == ("good", [], str(SIZE))


@pytest.mark.slow
def test_a_job_outlives_all_three_at_once_and_every_tracker(grid: Grid, spawn: Callable[..., Any]) -> None:
    client, job = submitted(grid, spawn)
    line = grid.until(job, lambda line: line.done > SIZE // 10)
    leader = grid.leader()
    for process in (client, grid.peers[line.coordinator], grid.trackers[leader]):
        process.popen.send_signal(signal.SIGKILL)
    kept = line.done
    line = grid.until(job, lambda line: line.epoch == 2 and line.done > SIZE // 4)
    assert line.done > kept
    for name, tracker in grid.trackers.items():
        if name != leader:
            tracker.end(signal.SIGKILL)
    with (
        pytest.raises(ZlbError, match="no tracker answers"),
        Trackers((Endpoint(grid.endpoints[0]),), 10**9) as trackers,
    ):
        trackers.state()
    for number in range(3):
        grid.start(number)
    assert grid.line(job).done >= line.done
    check_result(grid, spawn, job, deaths=1)
