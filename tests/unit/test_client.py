"""A client and three trackers, composed as they are: it finds the leader, and outlives it."""

import random
from dataclasses import dataclass, field

from tests.unit.test_tracker_room import Room, at, submit
from zlb.core.config import ClientConfig
from zlb.core.effects import Effect, Emit, Send
from zlb.core.events import Answered, NoTracker, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import MS, SECOND
from zlb.nodes.client import Client
from zlb.protocols import commands as c
from zlb.protocols import queries
from zlb.wire.messages import Goodbye, Hello, TaskAck
from zlb.wire.tracking import AskKind, AskOutcome, TrackerReply


@dataclass
class Desk:
    """A client that was told of some trackers, in a room with all of them."""

    room: Room
    told: str
    """Names of the trackers that it was told of."""
    events: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        ends = [at(name) for name in self.told]
        self.client = Client(NodeId("client"), 1, ends, ClientConfig(), random.Random(1))
        self.do(self.client.on_start(self.room.now))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    whom = str(to).removeprefix("tcp://").removesuffix(":7000")
                    if whom in self.room.nodes and whom not in self.room.away:
                        self.room.hear(whom, "client", message)
                case Emit(event):
                    self.events.append(event)

    def run(self, ns: int) -> None:
        """In steps of 10 ms."""
        for _ in range(ns // (10 * MS)):
            self.room.run(10 * MS)
            for src, message in self.room.inbox.pop("client", []):
                if src not in self.room.away:
                    self.do(self.client.on_message(self.room.now, NodeId(src), message))
            if self.client.deadline() <= self.room.now:
                self.do(self.client.on_tick(self.room.now))

    @property
    def answers(self) -> dict[int, object]:
        return {
            event.number: c.unpack_result(event.payload)[1]
            for event in self.events
            if isinstance(event, Answered) and event.outcome == AskOutcome.DONE
        }

    def submit(self, job: str) -> int:
        return self.client.patron.once(self.room.now, c.pack(submit(job)))


def room() -> Room:
    made = Room()
    made.elect()
    return made


def test_told_of_a_follower_only_it_finds_the_leader() -> None:
    trackers = room()
    desk = Desk(trackers, trackers.followers[0])
    number = desk.submit("j")
    desk.run(SECOND)
    assert desk.answers == {number: "j"} and desk.client.patron.leader == trackers.leader
    assert desk.client.neighbours.is_linked(NodeId(trackers.leader))


def test_a_leader_that_dies_is_followed_by_another_and_nothing_happens_twice() -> None:
    trackers = room()
    desk = Desk(trackers, "abc")
    desk.run(200 * MS)
    numbers = [desk.submit(f"j{n}") for n in range(3)]
    desk.run(10 * MS)
    dead = trackers.leader
    trackers.nodes.pop(dead)
    numbers += [desk.submit(f"j{n}") for n in range(3, 6)]
    desk.run(6 * SECOND)
    assert desk.answers == {number: f"j{n}" for n, number in enumerate(numbers)}
    assert list(trackers.nodes[trackers.leader].registry.jobs) == [f"j{n}" for n in range(6)]


def test_without_a_majority_it_says_who_is_missing_and_answers_when_they_return() -> None:
    trackers = room()
    lonely, *others = "abc"
    desk = Desk(trackers, lonely)
    desk.run(200 * MS)
    for other in others:
        trackers.nodes.pop(other)
    desk.run(6 * SECOND)
    number = desk.client.patron.ask(trackers.now, AskKind.QUERY, queries.ask(queries.ListJobs()))
    desk.run(SECOND)
    whys = [event.why for event in desk.events if isinstance(event, NoTracker)]
    assert whys[-1] == "no majority: a reaches 1 of 3 trackers, b, c missing"
    assert whys.count(whys[-1]) == 1 and not desk.answers
    trackers.start("b", incarnation=2)
    desk.run(8 * SECOND)
    assert desk.answers == {number: []}


def test_a_link_with_a_tracker_lives_though_neither_side_has_anything_to_say() -> None:
    trackers = room()
    desk = Desk(trackers, "abc")
    desk.run(30 * SECOND)
    assert sorted(desk.client.neighbours.linked) == ["a", "b", "c"]
    assert all(node.neighbours.is_linked(NodeId("client")) for node in trackers.nodes.values())


def test_what_is_no_answer_of_a_tracker_is_not_heard() -> None:
    client = Client(NodeId("client"), 1, [], ClientConfig(), random.Random(1))
    client.on_message(0, NodeId("p"), Hello("p", 1, "", "", "", ""))
    for message in (TaskAck("j", 1), TrackerReply("x", "tcp://192.0.2.1:7000", ())):
        assert client.on_message(0, NodeId("p"), message) == []
    assert client.unexpected == 2


def test_stop_is_immediate() -> None:
    client = Client(NodeId("client"), 1, [Endpoint(at("a"))], ClientConfig(), random.Random(1))
    client.on_message(0, NodeId("a"), Hello("a", 1, "", "", "", "main"))
    assert client.on_stop(0) == [Send(NodeId("a"), Goodbye("stopped")), Emit(Stopped())]
