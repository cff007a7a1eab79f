"""A peer's place on the roster: heartbeats, and what comes back. Each promise is one test."""

import random
from typing import Any

from zlb.core.config import TrackedConfig
from zlb.core.effects import Effect, Emit, Persist, Send
from zlb.core.events import Notice, NoTracker, RosterKnown
from zlb.core.ids import NodeId
from zlb.core.limits import NEIGHBOURS_TOLD_MAX, SECOND
from zlb.core.timers import NEVER
from zlb.core.work import Contacts
from zlb.protocols.enrolment import WAIT_NS, Enrolment
from zlb.wire.tracking import Heartbeat, HeartbeatAck, Roster, RosterJob

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
LISTEN = "tcp://127.0.0.1:1"


def enrolment(*trackers: NodeId) -> Enrolment:
    core = Enrolment(NodeId("p"), 7, LISTEN, 2, TrackedConfig(), random.Random(1))
    for tracker in trackers:
        core.on_tracker(0, tracker)
    return core


def beats(effects: list[Effect]) -> list[tuple[Any, Any]]:
    return [(effect.to, effect.message) for effect in effects if isinstance(effect, Send)]


def job(name: str = "j", node: str = "q", listen: str = "tcp://127.0.0.1:9", priority: int = 5) -> RosterJob:
    return RosterJob(name, "running", 1, priority, node, 1, listen)


def test_heartbeat_is_sent_at_once_and_then_once_a_second_to_one_tracker() -> None:
    core = enrolment(A)
    sent = []
    for _ in range(4):
        now = core.deadline()
        sent += [(now, to, message) for to, message in beats(core.on_tick(now))]
        core.on_heartbeat_ack(A, HeartbeatAck(0))
    assert sent == [(n * SECOND, A, Heartbeat(7, LISTEN, 2, 0)) for n in range(4)]


def test_heartbeat_not_before_its_time() -> None:
    core = enrolment(A)
    core.on_tick(0)
    assert core.on_tick(SECOND - 1) == []


def test_heartbeat_goes_to_another_tracker_if_it_was_not_acknowledged() -> None:
    core = enrolment(A, B)
    ((first, _),) = beats(core.on_tick(0))
    ((second, _),) = beats(core.on_tick(SECOND))
    assert {first, second} == {A, B}
    core.on_heartbeat_ack(second, HeartbeatAck(0))
    assert beats(core.on_tick(2 * SECOND))[0][0] == second


def test_heartbeat_acknowledged_late_by_the_one_before_does_not_count() -> None:
    core = enrolment(A, B)
    ((first, _),) = beats(core.on_tick(0))
    ((second, _),) = beats(core.on_tick(SECOND))
    core.on_heartbeat_ack(first, HeartbeatAck(0))
    assert beats(core.on_tick(2 * SECOND))[0][0] == first != second


def test_heartbeat_to_the_only_tracker_goes_on_though_it_is_silent() -> None:
    core = enrolment(A)
    assert [beats(core.on_tick(n * SECOND))[0][0] for n in range(3)] == [A] * 3


def test_heartbeat_turns_to_another_tracker_at_once_when_one_is_lost() -> None:
    core = enrolment(A, B)
    ((first, _),) = beats(core.on_tick(0))
    core.on_heartbeat_ack(first, HeartbeatAck(0))
    core.on_lost(5, first)
    assert core.deadline() == 5 and beats(core.on_tick(5))[0][0] == ({A, B} - {first}).pop()


def test_heartbeat_of_who_lost_another_tracker_than_its_own_goes_on() -> None:
    core = enrolment(A, B)
    ((first, _),) = beats(core.on_tick(0))
    core.on_heartbeat_ack(first, HeartbeatAck(0))
    core.on_lost(5, ({A, B} - {first}).pop())
    assert core.deadline() == SECOND and beats(core.on_tick(SECOND))[0][0] == first


def test_heartbeat_waits_while_there_is_no_tracker_and_begins_with_the_next() -> None:
    core = enrolment(A)
    core.on_tick(0)
    core.on_lost(5, A)
    assert core.deadline() == NEVER
    core.on_tracker(9, B)
    assert core.deadline() == 9 and beats(core.on_tick(9))[0][0] == B


def test_heartbeat_names_the_roster_that_is_known() -> None:
    core = enrolment(A)
    core.on_tick(0)
    core.on_roster(Roster(12, (), ()))
    assert beats(core.on_tick(SECOND))[0][1].version == 12


# -- a word for people


def test_a_missing_tracker_is_worth_a_word_only_where_one_is_expected() -> None:
    core = enrolment()
    core.on_start(0, expected=True)
    assert core.on_tick(WAIT_NS - 1) == []
    assert [type(effect.event) for effect in core.on_tick(WAIT_NS) if isinstance(effect, Emit)] == [NoTracker]
    assert core.deadline() == NEVER
    other = enrolment()
    other.on_start(0, expected=False)
    assert other.deadline() == NEVER


def test_nothing_is_said_when_a_tracker_answers_in_time() -> None:
    core = enrolment()
    core.on_start(0, expected=True)
    core.on_tracker(SECOND, A)
    assert all(isinstance(effect, Send) for now in range(1, 9) for effect in core.on_tick(now * SECOND))


def test_the_first_roster_is_worth_a_word() -> None:
    core = enrolment(A)
    core.on_tick(0)
    notices = [
        effect
        for version in (1, 2)
        for effect in core.on_roster(Roster(version, (), ()))
        if isinstance(effect, Emit) and isinstance(effect.event, Notice)
    ]
    assert notices == [Emit(Notice("enrolled with a"))]


# -- rosters


def test_roster_that_is_new_is_told_and_one_that_is_older_or_the_same_is_not() -> None:
    core = enrolment(A)
    assert Emit(RosterKnown(5)) in core.on_roster(Roster(5, (), ()))
    for version in (5, 4, 0):
        assert core.on_roster(Roster(version, ("tcp://127.0.0.1:2",), ())) == []
    assert core.roster == Roster(5, (), ())
    assert Emit(RosterKnown(6)) in core.on_roster(Roster(6, (), ()))


def test_roster_is_kept_on_disk_when_whom_to_dial_has_changed_and_only_then() -> None:
    core = enrolment(A)
    trackers = ("tcp://127.0.0.1:2", "tcp://127.0.0.1:3")
    kept = Persist(Contacts(trackers, ("tcp://127.0.0.1:9",)))  # type: ignore[arg-type]
    assert kept in core.on_roster(Roster(1, trackers, (job(),)))
    again = core.on_roster(Roster(2, trackers, (job(priority=9),)))
    assert not [effect for effect in again if isinstance(effect, Persist)]
    assert Persist(Contacts(trackers, ())) in core.on_roster(Roster(3, trackers, ()))  # type: ignore[arg-type]


def test_roster_on_disk_names_neither_us_nor_anybody_twice_nor_who_cannot_be_dialled() -> None:
    core = enrolment(A)
    jobs = (job("1"), job("2"), job("3", "p", LISTEN), job("4", "", ""), job("5", "r", ""))
    (kept,) = [effect for effect in core.on_roster(Roster(1, (), jobs)) if isinstance(effect, Persist)]
    assert kept.record == Contacts((), ("tcp://127.0.0.1:9",))  # type: ignore[arg-type]


def test_roster_on_disk_is_bounded() -> None:
    core = enrolment(A)
    jobs = tuple(job(str(n), f"q{n}", f"tcp://127.0.0.1:{n + 1}") for n in range(NEIGHBOURS_TOLD_MAX + 5))
    (kept,) = [effect for effect in core.on_roster(Roster(1, (), jobs)) if isinstance(effect, Persist)]
    assert isinstance(kept.record, Contacts) and len(kept.record.peers) == NEIGHBOURS_TOLD_MAX
