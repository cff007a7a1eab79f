"""Trackers driven by hand, for `test_tracker*.py`: messages arrive at once, unless a test cuts somebody off."""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zlb.core.config import TrackerConfig
from zlb.core.effects import Effect, Emit, Persist, Send
from zlb.core.events import Event, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.message import Message
from zlb.core.replica import Configuration, ReplicaRecord, Saved, fold
from zlb.core.work import StopRule
from zlb.nodes.tracker import Tracker, founded
from zlb.protocols import commands as c
from zlb.protocols import queries, steering
from zlb.protocols.raft.sessions import repeatable
from zlb.wire.codec import decode, encode
from zlb.wire.messages import Hello
from zlb.wire.tracking import Ask, AskKind, AskOutcome, Heartbeat, Reply, TrackerReply, TrackerRequest

M = TypeVar("M", bound=Message)
ME = NodeId("client")


def at(name: str) -> Endpoint:
    return Endpoint(f"tcp://{name}:7000")


def submit(job: str = "j") -> c.Submit:
    return c.Submit(job, "", "", "k", b"", ((0, 100),), StopRule.ALL, 0)


@dataclass
class Room:
    """Trackers of one cluster; what they send to others is in `inbox`, by name."""

    names: str = "abc"
    joining: str = ""
    """Those of `names` that are no founders."""
    now: int = 0
    nodes: dict[str, Tracker] = field(default_factory=dict)
    saved: dict[str, Saved] = field(default_factory=dict)
    way: deque[tuple[str, str, Message]] = field(default_factory=deque)
    inbox: dict[str, list[tuple[str, Message]]] = field(default_factory=dict)
    events: list[tuple[str, Event]] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    """No other tracker hears them, nor do they hear one."""
    number: int = 0

    def __post_init__(self) -> None:
        founders = Configuration(tuple(NodeId(name) for name in self.names if name not in self.joining))
        for name in self.names:
            self.saved[name] = Saved() if name in self.joining else Saved(snapshot=founded(founders))
            self.start(name)

    def start(self, name: str, listen: str = "", incarnation: int = 1, cluster: str = "main") -> Tracker:
        """A process, with what its disk holds."""
        ends: Mapping[NodeId, Endpoint] = {NodeId(other): at(other) for other in self.names}
        self.nodes[name] = node = Tracker(
            NodeId(name),
            incarnation,
            listen or at(name),
            cluster,
            ends,
            self.saved.setdefault(name, Saved()),
            TrackerConfig(),
            random.Random(f"{name}:{incarnation}"),
        )
        self.perform(name, node.on_start(self.now))
        return node

    def perform(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(record):
                    assert isinstance(record, ReplicaRecord)
                    self.saved[name] = fold(self.saved[name], record)
                case Emit(event):
                    self.events.append((name, event))
                    if isinstance(event, Stopped):
                        self.nodes.pop(name)
                case Send(to, message):
                    whom = str(to).removeprefix("tcp://").removesuffix(":7000")
                    if not {name, whom} & self.away or whom not in self.names:
                        self.way.append((name, whom, decode(encode(message))))

    def deliver(self) -> None:
        for _ in range(10_000):
            if not self.way:
                return
            src, to, message = self.way.popleft()
            if to in self.nodes:
                self.perform(to, self.nodes[to].on_message(self.now, NodeId(src), message))
            elif to not in self.names:
                self.inbox.setdefault(to, []).append((src, message))
        raise AssertionError("they talk for ever")

    def run(self, ns: int = 0) -> None:
        """Let `ns` pass, every deadline kept."""
        until = self.now + ns
        for _ in range(100_000):
            self.deliver()
            due = min(((node.deadline(), name) for name, node in self.nodes.items()), default=(until + 1, ""))
            if due[0] > until:
                self.now = until
                return
            self.now = max(self.now, due[0])
            self.perform(due[1], self.nodes[due[1]].on_tick(self.now))
        raise AssertionError("a deadline that never passes")

    @property
    def leader(self) -> str:
        leading = [(node.replica.term, name) for name, node in self.nodes.items() if node.reign is not None]
        return max(leading)[1] if leading else ""

    @property
    def followers(self) -> list[str]:
        return [name for name in self.nodes if name != self.leader]

    def elect(self) -> str:
        """Run until somebody leads and has committed its first entry."""
        for _ in range(100):
            self.run(100 * MS)
            leader = self.nodes.get(self.leader)
            reign = None if leader is None else leader.replica.leader
            if leader is not None and reign is not None and leader.replica.committed >= reign.noop:
                self.run(500 * MS)
                return self.leader
        raise AssertionError("nobody leads")

    # -- clients and peers

    def hear(self, to: str, src: str, message: Message) -> None:
        self.perform(to, self.nodes[to].on_message(self.now, NodeId(src), message))

    def link(self, src: str, *to: str, cluster: str = "") -> None:
        for tracker in to:
            self.hear(tracker, src, Hello(src, 1, at(tracker), "", "", cluster))
        self.deliver()
        self.take(src, Message)

    def take(self, name: str, kind: type[M]) -> list[M]:
        """What has come for `name`, of a kind; all of it is forgotten."""
        return [message for _, message in self.inbox.pop(name, []) if isinstance(message, kind)]

    def send(self, to: str, kind: AskKind, *payloads: bytes, src: str = "client") -> list[int]:
        """Ask, and leave it at that; the numbers."""
        if not self.nodes[to].neighbours.is_linked(NodeId(src)):
            self.link(src, to)
        asks = tuple(Ask(self.number + n, int(kind), payload) for n, payload in enumerate(payloads, 1))
        self.number += len(asks)
        self.hear(to, src, TrackerRequest(asks))
        return [ask.number for ask in asks]

    def replies(self, src: str = "client") -> list[Reply]:
        return [reply for message in self.take(src, TrackerReply) for reply in message.replies]

    def ask(self, to: str, kind: AskKind, payload: bytes, ns: int = 300 * MS) -> Reply:
        """Ask, and wait for the one reply."""
        self.replies()
        (number,) = self.send(to, kind, payload)
        self.run(ns)
        (reply,) = [reply for reply in self.replies() if reply.number == number]
        return reply

    def command(self, to: str, command: c.Command) -> Any:
        reply = self.ask(to, AskKind.COMMAND, repeatable(c.pack(command)))
        assert reply.outcome == AskOutcome.DONE, AskOutcome(reply.outcome)
        return c.unpack_result(reply.payload)[1]

    def jobs(self, to: str) -> list[str]:
        reply = self.ask(to, AskKind.QUERY, queries.ask(queries.ListJobs()))
        assert reply.outcome == AskOutcome.DONE, AskOutcome(reply.outcome)
        lines = queries.read(reply.payload, list[queries.JobLine])
        assert isinstance(lines, list)
        return [line.job for line in lines]

    def steer(self, to: str, what: steering.Steering) -> Reply:
        return self.ask(to, AskKind.STEERING, steering.pack(what), 0)

    def tell(self, to: str) -> steering.TrackerState:
        return steering.unpack_state(self.steer(to, steering.Tell()).payload)

    def beat(
        self, to: str, peer: str, version: int = 0, incarnation: int = 1, listen: str = "tcp://127.0.0.1:1"
    ) -> None:
        if not self.nodes[to].neighbours.is_linked(NodeId(peer)):
            self.link(peer, to)
        self.hear(to, peer, Heartbeat(incarnation, listen, 1, version))
        self.deliver()


def led() -> tuple[Room, str, list[str]]:
    """Three trackers, the one that leads, and the others."""
    room = Room()
    leader = room.elect()
    return room, leader, room.followers


def test_three_trackers_elect_one_and_know_where_all_of_them_are() -> None:
    room, leader, _ = led()
    for node in room.nodes.values():
        assert node.replica.known_leader == leader
        assert node.registry.trackers == {name: at(name) for name in "abc"}
    assert room.now < 3 * SECOND
