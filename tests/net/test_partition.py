"""A real partition: trackers in network namespaces, whose links go down and up again.

Needs the right to make namespaces (root in a container will do), and is skipped without it.
"""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.conftest import ENOUGH_S, Peer, Process
from zlb.cli.trackers import Trackers
from zlb.core.errors import ZlbError
from zlb.core.ids import Endpoint
from zlb.protocols.queries import JobLine, ListJobs, ListPeers, PeerLine

MEMBERS = 3
PORT = 7101
NETWORKS = itertools.cycle("abcdefgh")
"""What is taken down takes its time to go, and its name with it."""


def ip(*words: str) -> None:
    """Run `ip WORDS`; raises what its failure is."""
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=ENOUGH_S)


class Network:
    """A bridge, and a namespace for each tracker, linked to it."""

    def __init__(self, name: str) -> None:
        self.name, self.bridge = name, f"{name}b"
        octet = 1 + (os.getpid() + ord(name[-1])) % 250
        self.hosts = [f"10.213.{octet}.{number + 1}" for number in range(MEMBERS)]
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"10.213.{octet}.254/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for number, host in enumerate(self.hosts):
            inside = self.namespace(number)
            ip("netns", "add", inside)
            ip("link", "add", f"{name}{number}", "type", "veth", "peer", "name", "eth0", "netns", inside)
            ip("link", "set", f"{name}{number}", "master", self.bridge, "up")
            ip("-n", inside, "addr", "add", f"{host}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", inside, "link", "set", device, "up")

    def namespace(self, number: int) -> str:
        """Where a tracker lives."""
        return f"{self.name}{number}"

    def cut(self, *numbers: int) -> None:
        """Nothing reaches these trackers, nor comes from them."""
        for number in numbers:
            ip("link", "set", f"{self.name}{number}", "down")

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for number in range(MEMBERS):
            ip("link", "set", f"{self.name}{number}", "up")

    def close(self) -> None:
        """Take it all away."""
        for number in range(MEMBERS):
            ip("netns", "del", self.namespace(number))
        ip("link", "del", self.bridge)


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs `ip netns`, and the right to use it")
    try:
        made = Network(f"zlb{os.getpid() % 10_000}{next(NETWORKS)}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    yield made
    made.close()


class Grid:
    """Trackers in their namespaces, and peers outside."""

    def __init__(self, network: Network, spawn: Callable[..., Any], data: Path) -> None:
        self.network, self._spawn = network, spawn
        self.endpoints = [Endpoint(f"tcp://{host}:{PORT}") for host in network.hosts]
        cluster = ",".join(f"t{number}={where}" for number, where in enumerate(self.endpoints))
        for number, endpoint in enumerate(self.endpoints):
            words = (
                "--data",
                str(data / f"t{number}"),
                "--listen",
                endpoint,
                "--cluster",
                cluster,
                "--insecure",
            )
            prefix = "ip", "netns", "exec", network.namespace(number)
            spawn(Process, "zlb.cli.tracker", *words, prefix=prefix)
        self.peers = [self._volunteer() for _ in range(2)]

    def _volunteer(self) -> Peer:
        options = [word for endpoint in self.endpoints for word in ("--tracker", endpoint)]
        peer: Peer = self._spawn(
            Peer, "zlb.cli.peer", "--listen", "tcp://127.0.0.1:*", "--slots", "1", *options
        )
        peer.wait_for("enrolled")
        return peer

    def trackers(self) -> Trackers:
        """All of them, as far as they can be reached."""
        return Trackers(tuple(self.endpoints))

    def until(self, job: str, reached: Callable[[JobLine], bool]) -> JobLine:
        """Look at a job until that is so."""
        with self.trackers() as trackers:
            for line in deadline(lambda: trackers.ask(ListJobs(), list[JobLine])):
                found: JobLine = next(one for one in line if one.job == job)
                if reached(found):
                    return found
        raise AssertionError


def deadline(look: Callable[[], Any]) -> Iterator[Any]:
    """What there is to see, again and again, for as long as a test may take."""
    by = time.monotonic() + ENOUGH_S
    for _ in itertools.count():
        assert time.monotonic() < by, "not within the time a test may take"
        yield look()


def cpu_s(process: Process) -> float:
    """CPU time a process has used."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def grid(network: Network, spawn: Callable[..., Any], tmp_path: Path) -> Grid:
    made = Grid(network, spawn, tmp_path)
    with made.trackers() as trackers:
        for peers in deadline(lambda: trackers.ask(ListPeers(), list[PeerLine])):
            if len(peers) == len(made.peers):
                return made
    raise AssertionError


@pytest.fixture
def job(grid: Grid, submit: Callable[..., Any]) -> str:
    """The id of a job that takes far longer than a test."""
    options = [word for endpoint in grid.endpoints for word in ("--tracker", endpoint)]
    answer = submit("-r", ":2^50", "-d", "60", "--all", "--detach", *options)
    assert answer.code == 0, answer.err
    name: str = answer.out.strip()
    grid.until(name, lambda line: line.done > 0)
    return name


def test_a_minority_refuses_and_the_rest_goes_on_until_it_heals(grid: Grid, job: str) -> None:
    with grid.trackers() as trackers:
        leader = int(trackers.state().leader[1:])
    grid.network.cut(leader)
    done = grid.until(job, lambda line: True).done  # another leads, or there would be no answer
    grid.until(job, lambda line: line.done > done)

    zlb = "import sys; from zlb.cli.main import main; main()"
    words = "-P", "-c", zlb, "pause", job, "--tracker", grid.endpoints[leader]
    inside = "ip", "netns", "exec", grid.network.namespace(leader)
    for alone in deadline(
        lambda: subprocess.run(
            [*inside, sys.executable, *words], capture_output=True, text=True, timeout=ENOUGH_S, check=False
        )
    ):
        assert alone.returncode == 5, alone
        if "no majority" in alone.stderr:  # at first it may still believe to lead
            break
    others = ", ".join(f"t{number}" for number in range(MEMBERS) if number != leader)
    assert f"t{leader} reaches 1 of 3 trackers, {others} missing" in alone.stderr

    grid.network.heal()
    with grid.trackers() as trackers:
        for state in deadline(trackers.state):
            if all(member.linked and state.last - member.match < 10 for member in state.members):
                break
    line = grid.until(job, lambda line: line.done > done)
    assert (line.status, line.epoch) == ("running", 1), "nothing that the minority was told has happened"


def test_peers_go_on_while_all_trackers_are_cut_off(grid: Grid, job: str) -> None:
    grid.network.cut(*range(MEMBERS))
    with (
        pytest.raises(ZlbError, match="no tracker answers"),
        Trackers(tuple(grid.endpoints), 10**9) as trackers,
    ):
        trackers.state()
    before = [cpu_s(peer) for peer in grid.peers]
    for now in deadline(lambda: [cpu_s(peer) for peer in grid.peers]):
        if all(
            later - earlier > 6 for earlier, later in zip(before, now, strict=True)
        ):  # leases last a second
            break
    grid.network.heal()
    line = grid.until(job, lambda line: line.done > 0)
    later = grid.until(job, lambda now: now.done > line.done)
    assert (later.status, later.tested) == ("running", later.done), "nothing was searched twice"
