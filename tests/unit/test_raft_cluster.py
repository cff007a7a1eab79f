"""Replicas driven by hand, for the paper tests in `test_raft_*.py`: what is under way arrives when a test says so."""

import random
from dataclasses import dataclass, field
from itertools import pairwise
from types import UnionType

import msgspec

from zlb.core.config import RaftConfig
from zlb.core.effects import Effect, Emit, Persist, Send
from zlb.core.ids import NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.message import Message
from zlb.core.replica import Configuration, Entry, EntryKind, Saved, Term, Vote, fold
from zlb.protocols.raft.machine import Role
from zlb.protocols.raft.replica import Replica
from zlb.wire.codec import decode, encode
from zlb.wire.replication import AppendEntries, RequestVote

CONFIG = RaftConfig()


class Tape:
    """A state machine that keeps every command; the result is how many there are."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, _time_ns: int, command: bytes) -> bytes:
        self.commands.append(command)
        return b"%d" % len(self.commands)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.commands)

    def restore(self, data: bytes) -> None:
        self.commands = msgspec.msgpack.decode(data, type=list[bytes])


def entries(*terms: Term) -> tuple[Entry, ...]:
    """Commands of these terms from index 1 on: the same index and term, the same entry."""
    return tuple(
        Entry(term, EntryKind.COMMAND, at, b"%d@%d" % (term, at)) for at, term in enumerate(terms, 1)
    )


def logged(*terms: Term, term: Term | None = None) -> Saved:
    """What a replica kept that has `entries(*terms)`; its term is that of the last one, if not told."""
    return Saved(Vote(max(terms, default=0) if term is None else term, None), None, 1, entries(*terms))


@dataclass
class Cluster:
    """Replicas with names of one letter, what they keep, and what is under way between them."""

    names: str
    saved: dict[str, Saved] = field(default_factory=dict)
    config: RaftConfig = CONFIG
    joining: str = ""
    """Those of `names` that are in no configuration yet."""
    now: int = 0
    replicas: dict[str, Replica] = field(default_factory=dict)
    way: list[tuple[str, str, Message]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.founders = Configuration(tuple(NodeId(name) for name in self.names if name not in self.joining))
        for name in self.names:
            self.saved.setdefault(name, Saved())
            self.restart(name)

    def __getitem__(self, name: str) -> Replica:
        return self.replicas[name]

    def restart(self, name: str) -> None:
        """A process that dies, and its successor: it has what was persisted."""
        initial = Configuration(()) if name in self.joining else self.founders
        rng = random.Random(name)
        self.replicas[name] = Replica(NodeId(name), self.saved[name], initial, Tape(), self.config, rng)
        self.perform(name, self[name].on_start(self.now))

    def perform(self, name: str, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case Persist(record):
                    self.saved[name] = fold(self.saved[name], record)  # type: ignore[arg-type]
                case Send(to, message):
                    self.way.append((name, str(to), decode(encode(message))))
        return effects

    # -- time

    def tick(self, name: str, after_ns: int = 0) -> list[Effect]:
        """Time passes, for all; only `name` looks at its clock."""
        self.now += after_ns
        return self.perform(name, self[name].on_tick(self.now))

    def stand(self, name: str) -> list[Effect]:
        """`name` has heard of no leader for longer than anybody waits."""
        return self.tick(name, SECOND)

    def beat(self, name: str) -> list[Effect]:
        """The leader's heartbeat is due."""
        return self.tick(name, self.config.heartbeat_ns)

    def propose(self, name: str, *commands: bytes) -> list[Effect]:
        """Commands are proposed together, and leave."""
        for command in commands:
            assert isinstance(self[name].propose(self.now, command), tuple)
        return self.tick(name)

    # -- messages

    def hear(self, name: str, src: str, message: Message) -> list[Effect]:
        return self.perform(name, self[name].on_message(self.now, NodeId(src), message))

    def take(self, link: str = "", kind: type[Message] = Message) -> list[Message]:
        """Take what is under way on a link (`"ab"`: from a to b), or on any, out of it: lost, unless it is `hear`d."""
        found = [it for it in self.way if link in ("", it[0] + it[1]) and isinstance(it[2], kind)]
        self.way = [it for it in self.way if it not in found]
        return [message for _, _, message in found]

    def deliver(self, among: str = "", kind: type[Message] | UnionType = Message) -> None:
        """What is under way among these, or all, arrives, and the answers too, until none is left."""
        among = among or self.names
        for _ in range(1000):
            goes = [{src, to} <= {*among} and isinstance(message, kind) for src, to, message in self.way]
            at = goes.index(True) if any(goes) else None
            if at is None:
                return
            src, to, message = self.way.pop(at)
            self.hear(to, src, message)
        raise AssertionError("they talk for ever")

    def elect(self, name: str, among: str = "") -> None:
        """`name` becomes the leader by the votes of `among`; all else that was under way is lost."""
        self.take()
        self.stand(name)
        self.deliver(among)
        assert self[name].role is Role.LEADER, self[name].role
        self.take()

    def settle(self, leader: str, among: str = "") -> None:
        """Two heartbeats: with the first everyone gets what is missing, with the second learns what is committed."""
        for _ in range(2):
            self.beat(leader)
            self.deliver(among)

    # -- looking

    def terms(self, name: str) -> list[Term]:
        log = self[name].log
        return [entry.term for entry in log.tail(log.first)]

    def commands(self, name: str) -> list[bytes]:
        machine = self[name].machine
        assert isinstance(machine, Tape)
        return machine.commands


def sent(effects: list[Effect], kind: type) -> list:  # type: ignore[type-arg]
    return [
        effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def emitted(effects: list[Effect], kind: type) -> list:  # type: ignore[type-arg]
    return [effect.event for effect in effects if isinstance(effect, Emit) and isinstance(effect.event, kind)]


def persisted(effects: list[Effect], kind: type) -> list:  # type: ignore[type-arg]
    return [
        effect.record for effect in effects if isinstance(effect, Persist) and isinstance(effect.record, kind)
    ]


def in_order(effects: list[Effect], *kinds: type) -> bool:
    """Whether there is exactly one of each of these messages, records or events, in this order."""
    whats = [effect[-1] for effect in effects]
    places = [[i for i, what in enumerate(whats) if isinstance(what, kind)] for kind in kinds]
    return all(len(place) == 1 for place in places) and all(one < two for one, two in pairwise(places))


def test_messages_wait_until_they_are_delivered_and_may_be_lost() -> None:
    cluster = Cluster("abc")
    cluster.stand("a")
    assert [(src, to) for src, to, _ in cluster.way] == [("a", "b"), ("a", "c")]
    assert len(cluster.take("ab", RequestVote)) == 1 and not cluster.take("ab")
    cluster.deliver("ab")
    assert cluster["a"].role is Role.PRE_CANDIDATE and len(cluster.way) == 1
    cluster.deliver()
    assert cluster["a"].role is Role.LEADER


def test_a_successor_has_what_was_persisted() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.propose("a", b"x")
    cluster.take("ac")
    cluster.deliver()
    for name in "abc":
        cluster.restart(name)
    assert [cluster[name].log.last for name in "abc"] == [2, 2, 1]
    assert [cluster[name].term for name in "abc"] == [1, 1, 1]
    assert cluster["a"].voted_for == "a"
    assert cluster.commands("a") == []


def test_a_quiet_cluster_has_one_leader_and_the_same_log_everywhere() -> None:
    cluster = Cluster("abc")
    cluster.elect("b")
    cluster.propose("b", b"x", b"y")
    cluster.settle("b")
    assert [cluster.commands(name) for name in "abc"] == [[b"x", b"y"]] * 3
    cluster.beat("b")
    assert [type(message) for message in cluster.take()] == [AppendEntries] * 2
    assert cluster.config.heartbeat_ns == 50 * MS
