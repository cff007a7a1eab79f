"""How fast is the replicated tracker, and how fast does it recover? Three members on one machine, rivals in turn.

Each round measures, one after the other, so that the host's mood hits all alike: the disk alone, zlb, and what is
installed of etcd and PySyncObj (`bench/rivals.py` says how those are measured). zlb's members are whole trackers as
processes, with Raft, sessions, registry, bus and SQLite; commands are 100-byte `Join`s of one peer. Its client is one
process with a `Client` node over the same bus: what its callers ask in one wake-up shares a message.

* durable: 64 callers, each asks again once answered; one caller likewise; one caller that reads (ReadIndex).
* in memory: the same members without a store; 20,000 commands in flight, at the leader, or at first at a follower.
* failover: the leader is killed; the client's rule of `rivals.failover`, but that one client knows all members and
  finds out by itself which to try. LAN preset: 150 to 300 ms, heartbeat 30 ms.
* heartbeats: a thousand peers with a connection each and one heartbeat a second, all at the leader, or a third of them
  at each tracker, as peers choose: share of a core at the leader.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import click
import common
import rivals
import zmq

from zlb.core.config import ClientConfig, RaftConfig, TrackerConfig
from zlb.core.effects import Effect
from zlb.core.events import Answered, Event
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.replica import Configuration, Saved, fold
from zlb.drivers.bus import Bus
from zlb.drivers.reactor import Reactor, ReactorThread
from zlb.drivers.store import Store
from zlb.nodes.client import Client
from zlb.nodes.tracker import Tracker, founded
from zlb.protocols import commands, queries, steering
from zlb.protocols.raft.sessions import repeatable
from zlb.wire import codec
from zlb.wire.messages import Hello
from zlb.wire.tracking import AskKind, AskOutcome, Heartbeat, HeartbeatAck

MEMBERS = 3
WINDOW = 20_000
WARM_UP_S = 0.3
ELECTION_MS, HEARTBEAT_MS = 150, 30
FORMULA_MS = ELECTION_MS * (1 + 1 / MEMBERS) - HEARTBEAT_MS / 2
"""Mean time from the kill to the next election: the lesser of two timeouts, each uniform from one to two ELECTION_MS
after the last heartbeat, which was half an interval ago. Voting takes a millisecond or two more."""
PAD = "x" * 70
COMMAND = commands.pack(commands.Join("bench", f"inproc://{PAD}", 1, 1))
assert len(repeatable(COMMAND)) == 100


def member(number: int, endpoints: list[str], directory: Path | None) -> None:
    """Be a tracker until killed; without a directory, nothing is kept."""
    names = [NodeId(f"m{n}") for n in range(len(endpoints))]
    bus = Bus(names[number], zmq.Context.instance(), Endpoint(endpoints[number]), None)
    first = founded(Configuration(tuple(names)))
    saved, save = fold(Saved(), first), lambda records: None
    if directory is not None:
        store = Store(directory, "bench", names[number])
        store.save([first])
        saved, save = store.load(), store.save
    raft = RaftConfig(election_ns_min=ELECTION_MS * MS, heartbeat_ns=HEARTBEAT_MS * MS)
    others = {name: Endpoint(where) for name, where in zip(names, endpoints, strict=True)}
    node = Tracker(
        names[number],
        time.time_ns(),
        endpoints[number],
        "bench",
        others,
        saved,
        TrackerConfig(raft=raft),
        random.Random(),
    )
    Reactor(node, bus, lambda event: None, save=save).run()


class Zlb(rivals.Trio):
    """Three trackers; the setting `durable` says whether with a store."""

    def _start(self) -> None:
        self.endpoints = [f"tcp://127.0.0.1:{port}" for port in rivals.free_ports(MEMBERS)]
        for number in range(MEMBERS):
            place = str(self.files / f"m{number}") if self.settings["durable"] else "-"
            self._run(
                [sys.executable, os.path.abspath(__file__), "member", str(number), place, *self.endpoints]
            )

    def _look(self) -> int | None:
        said = []
        for endpoint in self.endpoints:
            with Asker([endpoint]) as asker:
                said.append(
                    steering.unpack_state(asker.ask(AskKind.STEERING, steering.pack(steering.Tell())))
                )
        leaders = {state.leader for state in said}
        linked = all(other.linked for state in said for other in state.members)
        leader = leaders.pop()
        return int(leader[1:]) if linked and leader and not leaders else None


class Asker:
    """A client in a thread of its own. `on_answer` is called there with each answer."""

    def __init__(self, endpoints: list[str], on_answer: Callable[[Answered], None] | None = None) -> None:
        self.answers: SimpleQueue[Answered] = SimpleQueue()
        self.on_answer = on_answer or self.answers.put
        me = NodeId(f"u-{random.getrandbits(32):08x}")
        bus = Bus(me, zmq.Context.instance(), None, None)
        self.node = Client(me, time.time_ns(), map(Endpoint, endpoints), ClientConfig(), random.Random())
        self.reactor = Reactor(self.node, bus, self._on_event)
        self._thread = ReactorThread(self.reactor, "asker")

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def ask(self, kind: AskKind, payload: bytes) -> bytes:
        """Ask once, and wait."""
        self.begin(kind, payload, 1)
        answered = self.answers.get(timeout=rivals.START_S)
        assert answered.outcome == AskOutcome.DONE, answered
        return answered.payload

    def begin(self, kind: AskKind, payload: bytes, number: int) -> None:
        """Ask so many times at once."""

        def step(now: int) -> list[Effect]:
            for _ in range(number):
                self.node.patron.ask(now, kind, payload)
            return []

        self.reactor.call(step)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Answered):
            self.on_answer(event)


class Callers:
    """So many callers of one client, each asking again once it is answered, for `seconds` behind a warm-up."""

    def __init__(self, kind: AskKind, payload: bytes, number: int, seconds: float) -> None:
        self.kind, self.payload, self.number = kind, payload, number
        self.times_ns: list[int] = []
        self.sent = self.answered = self.denied = 0
        self.over: SimpleQueue[None] = SimpleQueue()
        self._asked: dict[int, int] = {}
        self._seconds = seconds
        self._from_ns = self._until_ns = 0

    def run(self, endpoints: list[str]) -> dict[str, Any]:
        """Rate and latency; every ask must be answered in the end."""
        self._from_ns = time.perf_counter_ns() + int(WARM_UP_S * SECOND)
        self._until_ns = self._from_ns + int(self._seconds * SECOND)
        with Asker(endpoints, self._on_answer) as self._asker:
            self._asker.reactor.call(self._start)
            with suppress(Empty):  # if not all were answered, the share says so
                self.over.get(timeout=self._seconds + rivals.START_S)
        share = self.answered / self.sent
        rate = len(self.times_ns) / self._seconds
        return {
            "per_s": rate,
            **rivals.percentiles(self.times_ns),
            "answered_share": share,
            "denied": self.denied,
        }

    def _start(self, now: int) -> list[Effect]:
        for _ in range(self.number):
            self._ask(now)
        return []

    def _ask(self, now: int) -> None:
        self.sent += 1
        self._asked[self._asker.node.patron.ask(now, self.kind, self.payload)] = time.perf_counter_ns()

    def _on_answer(self, answered: Answered) -> None:
        now = time.perf_counter_ns()
        asked_ns = self._asked.pop(answered.number)
        self.answered += 1
        self.denied += answered.outcome != AskOutcome.DONE
        if self._from_ns <= now < self._until_ns:
            self.times_ns.append(now - asked_ns)
        if now < self._until_ns:
            self._ask(time.monotonic_ns())
        elif not self._asked:
            self.over.put(None)


def rates(directory: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Durable commands and linearizable reads of one caller and of 64, at one fresh trio."""
    read = queries.ask(queries.WatchJob("none", 0))
    found = {}
    with Zlb(directory, durable=True) as trio:
        for name, kind, payload in (("writes", AskKind.COMMAND, COMMAND), ("reads", AskKind.QUERY, read)):
            for number in (1, 64):
                callers = Callers(kind, payload, number, seconds)
                found[f"{name}, {number} clients"] = callers.run(trio.endpoints)
    return found


def flood(directory: Path, seconds: float, at: str) -> dict[str, Any]:
    """20,000 commands in flight, in memory; `at` a follower the client is told of that one only, and begins there."""
    with Zlb(directory, durable=False) as trio:
        known = trio.endpoints if at == "leader" else [trio.endpoints[trio.follower(0)]]
        return Callers(AskKind.COMMAND, COMMAND, WINDOW, seconds).run(known)


def failover(directory: Path) -> dict[str, Any]:
    """One kill of a fresh trio's leader, at any time between two of its heartbeats."""
    with Zlb(directory, durable=True) as trio, Asker(trio.endpoints) as asker:
        asker.ask(AskKind.COMMAND, COMMAND)
        trio.settle(1.0 + random.random())

        def answered(limit_s: float) -> bool:
            with suppress(Empty):
                return asker.answers.get(timeout=limit_s).outcome == AskOutcome.DONE
            return False

        return rivals.failover(trio, lambda _: asker.begin(AskKind.COMMAND, COMMAND, 1), answered)


def heartbeats(directory: Path, seconds: float, spread: bool, peers: int = 1000) -> dict[str, Any]:
    """Share of a core the leader takes for so many peers, all at it or `spread` over all, and without them."""
    with Zlb(directory, durable=True) as trio:
        pid = trio.processes[trio.leader].pid
        trio.settle(1.0)
        idle = _cpu_share(pid, seconds, lambda: time.sleep(seconds))
        endpoints = trio.endpoints if spread else [trio.endpoints[trio.leader]]
        contexts = [zmq.Context(io_threads=1) for _ in range(peers // 500 + 1)]
        peers_there = []
        for number in range(peers):
            socket = contexts[number // 500].socket(zmq.DEALER)
            socket.routing_id = b"peer-%d" % number
            socket.linger = 0
            endpoint = endpoints[number % len(endpoints)]
            socket.connect(endpoint)
            listen = f"tcp://127.0.0.1:{1 + number}"
            socket.send(codec.encode(Hello(f"peer-{number}", 1, endpoint, listen, "")))
            peers_there.append(Volunteer(socket, listen))
        _beat(peers_there, 3.0)  # they join
        busy = _cpu_share(pid, seconds, lambda: _beat(peers_there, seconds))
        with Asker([trio.endpoints[trio.leader]]) as asker:
            state = steering.unpack_state(asker.ask(AskKind.STEERING, steering.pack(steering.Tell())))
        for context in contexts:
            context.destroy(linger=0)
    return {
        "idle_share": idle,
        "share": busy,
        "for_heartbeats_share": busy - idle,
        "peers_enrolled": state.peers,
    }


@dataclass
class Volunteer:
    """A peer, as far as the tracker can tell."""

    socket: zmq.Socket[bytes]
    listen: str
    version: int = 0

    def beat(self) -> None:
        """Hear what was said to it, and say that it lives."""
        while self.socket.poll(0):
            message = codec.decode(self.socket.recv())
            if isinstance(message, HeartbeatAck):
                self.version = message.version
        self.socket.send(codec.encode(Heartbeat(1, self.listen, 1, self.version)))


def _beat(peers: list[Volunteer], seconds: float) -> None:
    """Each beats once a second, evenly spread."""
    began = time.monotonic()
    for turn in range(int(seconds)):
        for number, peer in enumerate(peers):
            left = began + turn + number / len(peers) - time.monotonic()
            if left > 0.005:
                time.sleep(left)
            peer.beat()


def _cpu_share(pid: int, seconds: float, meanwhile: Callable[[], None]) -> float:
    before, began = _cpu_s(pid), time.monotonic()
    meanwhile()
    return (_cpu_s(pid) - before) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Measurement = tuple[str, str, Callable[[], dict[str, Any]]]


def plan(directory: Path, seconds: float, python: str) -> list[Measurement]:
    """Everything, ours between the disk and the rivals; "rates" are several in one."""
    ours: list[Measurement] = [
        ("zlb", "rates", lambda: rates(directory, seconds)),
        ("zlb", "flood, leader", lambda: flood(directory, seconds, "leader")),
        ("zlb", "flood, follower", lambda: flood(directory, seconds, "follower")),
        ("zlb", "failover, 150-300 ms", lambda: failover(directory)),
        ("zlb", "1,000 peers, all at the leader", lambda: heartbeats(directory, max(seconds, 3.0), False)),
        ("zlb", "1,000 peers at three trackers", lambda: heartbeats(directory, max(seconds, 3.0), True)),
    ]
    theirs = rivals.plan(python, directory, seconds)
    return [*theirs[:3], *ours, *theirs[3:]]


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of each measurement in a round.")
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="On the disk to measure.")
@click.option("--only", multiple=True, help="Only of: disk, zlb, etcd, pysyncobj; repeatable.")
@click.option("--match", default="", help="Only measurements whose name has this.")
@click.option("--pysyncobj", default=sys.executable, metavar="PYTHON", help="Which has PySyncObj.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Append to results/tracker.jsonl.")
def main(
    rounds: int,
    seconds: float,
    directory: Path,
    only: tuple[str, ...],
    match: str,
    pysyncobj: str,
    keep: bool,
) -> None:
    """Measure in interleaved rounds; print medians with least and greatest."""
    directory.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str, str], list[float]] = {}
    failed: dict[tuple[str, str], str] = {}
    for who, name, measure in rounds * plan(directory, seconds, pysyncobj):
        if (only and who not in only) or match not in name:
            continue
        try:
            figures = measure()
        except (rivals.Absent, OSError, RuntimeError, EOFError, Empty, AssertionError) as why:
            failed[who, name] = f"{type(why).__name__}: {why}"
            continue
        for part, values in figures.items() if name == "rates" else [(name, figures)]:
            for key, value in values.items():
                if isinstance(value, int | float):
                    found.setdefault((who, part, key), []).append(float(value))
    rows = []
    for (who, part, key), numbers in found.items():
        spread = common.median_spread(numbers).values()
        texts = (f"{number:,.0f}" if number >= 1_000 else f"{number:.3g}" for number in spread)
        rows.append((who, part, key, *texts))
    rows += [(*which, why, "", "", "") for which, why in failed.items()]
    common.print_table(("who", "measurement", "figure", "median", "least", "greatest"), rows)
    mean = found.get(("zlb", "failover, 150-300 ms", "failover_ms"))
    if mean:
        print(
            f"failover: mean {statistics.mean(mean):.0f} ms of {len(mean)}; the formula says {FORMULA_MS:.0f} ms"
        )
    if keep:
        rounds_of = {"; ".join(key): numbers for key, numbers in found.items()}
        common.record("tracker", {"rounds": rounds, "seconds": seconds}, {"rounds": rounds_of})


if __name__ == "__main__":
    if sys.argv[1:2] == ["member"]:
        member(int(sys.argv[2]), sys.argv[4:], None if sys.argv[3] == "-" else Path(sys.argv[3]))
    else:
        main()
