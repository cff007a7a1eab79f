"""A tracker for its peers: heartbeats, rosters, coordinators. docs/protocol.md, "HEARTBEAT, .., ROSTER"."""

import pytest

from tests.unit.test_tracker_room import Room, at, led, submit
from zlb.core.limits import MS, SECOND
from zlb.nodes.tracker import ROSTER_NS
from zlb.protocols import commands as c
from zlb.protocols.raft.sessions import repeatable
from zlb.wire.messages import Goodbye
from zlb.wire.tracking import AskKind, Beat, HeartbeatAck, Heartbeats, Roster, RosterJob

AT = "tcp://127.0.0.1:1"


def live(room: Room, to: str, *peers: str, ns: int) -> None:
    """Let time pass while peers send their heartbeats, acknowledged or not."""
    for _ in range(ns // SECOND):
        for peer in peers:
            room.beat(to, peer, room.nodes[to].registry.version)
        room.run(SECOND)


# -- heartbeats


@pytest.mark.parametrize("leads", [True, False])
def test_heartbeat_is_acknowledged_with_the_version_of_the_roster(leads: bool) -> None:
    room, leader, (follower, _) = led()
    to = leader if leads else follower
    version = room.nodes[to].registry.version
    room.beat(to, "p", version)
    assert room.inbox.pop("p") == [(to, HeartbeatAck(version))]


def test_heartbeat_of_who_knows_another_roster_is_answered_with_the_roster_first() -> None:
    room, leader, _ = led()
    room.beat(leader, "p", 0)
    (_, roster), (_, ack) = room.inbox.pop("p")
    version = room.nodes[leader].registry.version
    assert isinstance(roster, Roster) and (roster.version, roster.jobs) == (version, ())
    assert sorted(roster.trackers) == [at(name) for name in "abc"] and ack == HeartbeatAck(version)


@pytest.mark.parametrize("leads", [True, False])
def test_heartbeat_enters_a_peer_into_the_log_wherever_it_is_heard(leads: bool) -> None:
    room, leader, (follower, _) = led()
    room.beat(leader if leads else follower, "p", incarnation=7)
    room.run(SECOND)
    for node in room.nodes.values():
        assert {name: peer[::3] for name, peer in node.registry.peers.items()} == {"p": (AT, 7)}


def test_heartbeats_are_handed_to_the_leader_in_one_message() -> None:
    room, _leader, (follower, _) = led()
    handed = []
    for peer in ("p", "q", "p"):
        room.beat(follower, peer)
    until = room.now + 300 * MS
    while room.now < until:
        room.run(10 * MS - 1)
        at_once = room.nodes[follower].on_tick(room.now + 1)
        room.now += 1
        handed += [e.message for e in at_once if isinstance(getattr(e, "message", None), Heartbeats)]
        room.perform(follower, at_once)
    assert handed == [Heartbeats((Beat("p", 1, AT, 1), Beat("q", 1, AT, 1)))]


def test_heartbeats_never_enter_the_log() -> None:
    room, leader, (follower, _) = led()
    live(room, follower, "p", ns=2 * SECOND)
    last = room.nodes[leader].replica.log.last
    live(room, follower, "p", ns=10 * SECOND)
    live(room, leader, "p", ns=10 * SECOND)
    assert room.nodes[leader].replica.log.last == last


def test_a_peer_silent_for_the_lease_is_taken_out() -> None:
    room, leader, (follower, _) = led()
    live(room, follower, "p", ns=5 * SECOND)
    assert "p" in room.nodes[leader].registry.peers
    room.run(3 * SECOND - 10 * MS)
    assert "p" in room.nodes[leader].registry.peers
    room.run(SECOND)
    assert "p" not in room.nodes[leader].registry.peers


def test_a_peer_that_asks_to_be_taken_out_is() -> None:
    room, leader, _ = led()
    live(room, leader, "p", ns=2 * SECOND)
    room.command(leader, c.Leave(("p",)))
    assert not room.nodes[leader].registry.peers


def test_a_new_leader_grants_every_peer_one_lease_more() -> None:
    room, leader, _followers = led()
    live(room, leader, "p", ns=4 * SECOND)
    room.run(2 * SECOND)  # silent already
    room.nodes.pop(leader)
    room.elect()
    elected = room.now
    while "p" in room.nodes[room.leader].registry.peers:
        room.run(50 * MS)
    assert 3 * SECOND <= room.now - elected <= 4 * SECOND + 200 * MS


def test_a_peer_that_died_while_the_whole_tracker_was_down_is_taken_out() -> None:
    room, leader, _ = led()
    live(room, leader, "p", ns=2 * SECOND)
    room.nodes.clear()
    room.way.clear()
    for name in "abc":
        room.start(name, incarnation=2)
    room.elect()
    assert "p" in room.nodes[room.leader].registry.peers
    room.run(5 * SECOND)
    assert "p" not in room.nodes[room.leader].registry.peers


def test_a_peer_that_goes_on_through_an_election_keeps_its_place_and_its_jobs() -> None:
    room, leader, (follower, _other) = led()
    live(room, follower, "p", ns=2 * SECOND)
    room.command(leader, submit())
    before = room.nodes[follower].registry.jobs["j"].epoch  # type: ignore[index]
    room.nodes.pop(leader)
    live(room, follower, "p", ns=10 * SECOND)
    entry = room.nodes[follower].registry.jobs["j"]  # type: ignore[index]
    assert (entry.coordinator, entry.epoch, before) == ("p", 1, 1) and room.leader


# -- rosters


def test_roster_is_sent_to_all_that_send_their_heartbeats_here_when_it_changes() -> None:
    room, leader, (follower, other) = led()
    for tracker, peer in ((leader, "p"), (follower, "q")):
        room.beat(tracker, peer, room.nodes[tracker].registry.version)
    room.link("r", other)
    room.run(SECOND)
    room.inbox.clear()
    room.command(leader, submit())
    room.run(200 * MS)
    for peer in ("p", "q"):
        rosters = room.take(peer, Roster)
        assert rosters[-1].jobs[0].job == "j" and len(rosters) <= 2  # submitted, and assigned
    assert room.take("r", Roster) == []


def test_roster_says_who_coordinates_what_and_where() -> None:
    room, leader, _ = led()
    room.beat(leader, "p", incarnation=3)
    room.run(SECOND)
    room.command(leader, submit())
    room.run(SECOND)
    room.inbox.clear()
    room.beat(leader, "p", incarnation=3)
    (roster,) = room.take("p", Roster)
    assert roster.jobs == (RosterJob("j", "running", 1, 5, "p", 3, AT),)


def test_roster_names_a_job_that_nobody_coordinates_with_an_empty_node() -> None:
    room, leader, _ = led()
    room.command(leader, submit())
    room.beat(leader, "p")
    (roster,) = room.take("p", Roster)
    assert roster.jobs == (RosterJob("j", "running", 0, 5, "", 0, ""),)


def test_roster_changes_within_a_moment_share_one() -> None:
    room, leader, _ = led()
    room.beat(leader, "p", room.nodes[leader].registry.version)
    room.run(SECOND)
    room.inbox.clear()
    payloads = [c.pack(submit(f"j{number}")) for number in range(5)]
    room.send(leader, AskKind.COMMAND, *map(repeatable, payloads))
    room.run(SECOND)
    assert 1 <= len(room.take("p", Roster)) <= 3


def test_roster_is_told_though_it_never_stops_changing() -> None:
    room, leader, _ = led()
    room.beat(leader, "p", room.nodes[leader].registry.version)
    room.run(SECOND)
    room.inbox.clear()
    until = room.now + SECOND
    number = 0
    while room.now < until:
        number += 1
        status = c.Status.PAUSED if number % 2 else c.Status.RUNNING
        if number == 1:
            room.send(leader, AskKind.COMMAND, repeatable(c.pack(submit())))
        room.send(leader, AskKind.COMMAND, repeatable(c.pack(c.Steer("j", status))))
        room.run(ROSTER_NS // 2)
    assert 10 <= len(room.take("p", Roster)) <= SECOND // ROSTER_NS + 1


def test_roster_is_not_sent_to_who_has_left() -> None:
    room, leader, _ = led()
    room.beat(leader, "p", room.nodes[leader].registry.version)
    room.hear(leader, "p", Goodbye(""))
    room.inbox.clear()
    room.command(leader, submit())
    room.run(SECOND)
    assert room.take("p", Roster) == []


# -- coordinators


def test_a_job_is_assigned_as_soon_as_there_is_a_peer() -> None:
    room, leader, _ = led()
    room.command(leader, submit())
    room.beat(leader, "p")
    room.run(SECOND)
    entry = room.nodes[leader].registry.jobs["j"]  # type: ignore[index]
    assert (entry.coordinator, entry.epoch) == ("p", 1)


def test_the_job_of_a_peer_that_fell_silent_goes_to_another_in_the_next_epoch() -> None:
    room, leader, (follower, _) = led()
    room.beat(leader, "p")
    room.run(500 * MS)
    room.command(leader, submit())
    live(room, follower, "q", ns=6 * SECOND)
    entry = room.nodes[leader].registry.jobs["j"]  # type: ignore[index]
    assert (entry.coordinator, entry.epoch) == ("q", 2)


def test_a_leader_that_takes_over_assigns_what_the_former_left() -> None:
    room, leader, (_follower, _other) = led()
    room.command(leader, submit())
    room.nodes.pop(leader)
    room.elect()
    room.beat(room.leader, "p")
    room.run(SECOND)
    entry = room.nodes[room.leader].registry.jobs["j"]  # type: ignore[index]
    assert (entry.coordinator, entry.epoch) == ("p", 1)


def test_a_peer_that_left_does_not_come_back_with_a_heartbeat_that_was_under_way() -> None:
    room, leader, (follower, _) = led()
    live(room, follower, "p", ns=2 * SECOND)
    room.beat(follower, "p")  # handed over a while later
    room.nodes[follower]._timers.set("beats", room.now + SECOND)
    room.command(leader, c.Leave(("p",)))
    room.hear(follower, "p", Goodbye("stopped"))
    room.run(2 * SECOND)
    assert "p" not in room.nodes[leader].registry.peers
