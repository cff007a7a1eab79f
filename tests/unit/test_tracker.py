"""A tracker for its clients: asks, redirects, steering. docs/protocol.md, "TRACKER_REQUEST, TRACKER_REPLY"."""

import pytest

from tests.unit.test_tracker_room import Room, at, led, submit
from zlb.core.errors import ErrorCode
from zlb.core.events import CommandApplied, NeighbourRefused, ReadConfirmed, RoleChanged, Stopped
from zlb.core.ids import NodeId
from zlb.core.limits import ASKS_BYTES_MAX, ENTRY_BYTES_MAX, MS, SECOND
from zlb.protocols import commands as c
from zlb.protocols import desk, queries, steering
from zlb.protocols.commands import Denied
from zlb.protocols.raft.sessions import command, open_session, opened, repeatable
from zlb.wire.messages import Hello, Refused, TaskAck
from zlb.wire.tracking import AskKind, AskOutcome, Heartbeats, Roster, TrackerReply

COMMAND, QUERY, STEERING = AskKind


# -- commands


def test_command_at_the_leader_is_done_everywhere_and_its_result_told() -> None:
    room, leader, _ = led()
    assert room.command(leader, submit()) == "j"
    assert all(list(node.registry.jobs) == ["j"] for node in room.nodes.values())


def test_command_at_a_follower_is_answered_with_who_leads_and_where_and_has_no_effect() -> None:
    room, leader, (follower, _) = led()
    room.send(follower, COMMAND, repeatable(c.pack(submit())))
    room.run(300 * MS)
    (reply,) = room.take("client", TrackerReply)
    assert (reply.leader, reply.where) == (leader, at(leader))
    assert [one.outcome for one in reply.replies] == [AskOutcome.NOT_LEADER]
    assert not room.nodes[leader].registry.jobs


def test_command_that_is_denied_is_done_for_the_client_and_its_result_says_why() -> None:
    room, leader, _ = led()
    assert room.command(leader, c.Steer("x", c.Status.PAUSED)) is Denied.NO_SUCH_JOB


def test_command_replies_of_one_wake_up_travel_together_in_the_order_of_the_log() -> None:
    room, leader, _ = led()
    numbers = room.send(leader, COMMAND, *(repeatable(c.pack(submit(f"j{n}"))) for n in range(5)))
    room.run(300 * MS)
    (message,) = room.take("client", TrackerReply)
    assert [reply.number for reply in message.replies] == numbers


def test_command_that_is_too_large_is_refused() -> None:
    room, leader, _ = led()
    assert room.ask(leader, COMMAND, bytes(ENTRY_BYTES_MAX + 1)).outcome == AskOutcome.TOO_LARGE


def test_command_that_is_none_is_malformed() -> None:
    room, leader, _ = led()
    assert room.ask(leader, COMMAND, b"\x93").outcome == AskOutcome.MALFORMED


def test_command_of_a_session_happens_once_however_often_it_is_repeated() -> None:
    room, leader, _ = led()
    session = opened(room.ask(leader, COMMAND, open_session()).payload)
    asked = command(session, 1, c.pack(submit()))
    first, again = room.ask(leader, COMMAND, asked), room.ask(leader, COMMAND, asked)
    assert first.payload == again.payload and c.unpack_result(first.payload) == (True, "j")
    room.ask(leader, COMMAND, command(session, 2, c.pack(submit("k"))))
    assert room.ask(leader, COMMAND, asked).outcome == AskOutcome.STALE
    assert room.ask(leader, COMMAND, command(99, 1, b"x")).outcome == AskOutcome.EXPIRED


def test_command_of_a_leader_that_is_deposed_is_answered_unknown() -> None:
    room, leader, _ = led()
    room.link("client", leader)
    room.away |= set(room.followers)
    (number,) = room.send(leader, COMMAND, repeatable(c.pack(submit())))
    room.run(2 * SECOND)
    replies = room.replies()
    assert [(reply.number, reply.outcome) for reply in replies] == [(number, AskOutcome.UNKNOWN)]
    assert room.nodes[leader].reign is None


def test_command_asked_again_elsewhere_after_a_leader_died_is_done() -> None:
    room, leader, others = led()
    room.send(leader, COMMAND, repeatable(c.pack(submit())))
    room.nodes.pop(leader)
    room.way.clear()
    other = room.elect()
    assert other in others and room.command(other, submit()) == "j" and room.jobs(other) == ["j"]


def test_busy_is_the_answer_when_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "ASKS_WAITING_MAX", 2)
    room, leader, _ = led()
    numbers = room.send(leader, COMMAND, *(repeatable(c.pack(submit(f"j{n}"))) for n in range(4)))
    room.run(300 * MS)
    outcomes = {reply.number: reply.outcome for reply in room.replies()}
    assert [outcomes[n] for n in numbers] == [AskOutcome.DONE] * 2 + [AskOutcome.BUSY] * 2
    assert room.command(leader, submit("later")) == "later"


# -- queries


def test_query_is_answered_by_any_tracker_with_what_is_true_now() -> None:
    room, leader, followers = led()
    room.command(leader, submit())
    for name in (leader, *followers):
        assert room.jobs(name) == ["j"]


def test_query_at_a_tracker_that_reaches_nobody_is_not_answered_with_what_may_be_old() -> None:
    room, leader, (lonely, _) = led()
    room.command(leader, submit("old"))
    room.link("client", lonely)
    room.away.add(lonely)
    room.command(leader, submit("new"))
    room.replies()
    room.send(lonely, QUERY, queries.ask(queries.ListJobs()))
    room.run(3 * SECOND)
    assert all(reply.outcome != AskOutcome.DONE for reply in room.replies())


def test_query_that_could_not_be_answered_is_forgotten_after_a_while() -> None:
    room, _leader, (lonely, _) = led()
    room.link("client", lonely)
    room.away.add(lonely)
    room.send(lonely, QUERY, queries.ask(queries.ListJobs()))
    assert len(room.nodes[lonely]._desk._queries) == 1
    room.run(6 * SECOND)
    assert not room.nodes[lonely]._desk._queries


def test_query_after_query_does_not_keep_the_first_from_being_forgotten() -> None:
    room, _leader, (lonely, _) = led()
    room.link("client", lonely)
    room.away.add(lonely)
    for _ in range(20):
        room.send(lonely, QUERY, queries.ask(queries.ListJobs()))
        room.run(SECOND)
    assert room.nodes[lonely]._desk.waiting <= 10


def test_query_that_is_none_is_denied() -> None:
    room, leader, _ = led()
    reply = room.ask(leader, QUERY, b"\x93")
    assert c.unpack_result(reply.payload) == (False, Denied.MALFORMED)


# -- nobody leads


def test_not_leader_says_in_words_who_is_missing() -> None:
    room, leader, (one, other) = led()
    room.nodes.pop(leader)
    room.nodes.pop(other)
    room.run(6 * SECOND)
    for kind, payload in ((COMMAND, repeatable(c.pack(submit()))), (QUERY, queries.ask(queries.ListJobs()))):
        room.send(one, kind, payload)
        room.run()
        (reply,) = room.take("client", TrackerReply)
        missing = ", ".join(sorted((leader, other)))
        text = f"no majority: {one} reaches 1 of 3 trackers, {missing} missing"
        assert (reply.leader, reply.where) == ("", "") and reply.replies[0].payload.decode() == text
        assert reply.replies[0].outcome == AskOutcome.NOT_LEADER


def test_not_leader_before_the_first_election_says_so() -> None:
    room = Room()
    room.run(10 * MS)
    reply = room.ask("a", COMMAND, b"x", 0)
    assert reply.payload.decode() == "no leader yet: a reaches 3 of 3 trackers"


def test_not_leader_of_who_is_no_member_yet_says_so() -> None:
    room = Room("abcd", joining="d")
    room.elect()
    reply = room.ask("d", COMMAND, b"x", 0)
    assert reply.payload.decode() == "d is no member of the cluster yet"


def test_clients_hear_of_a_new_leader_at_once() -> None:
    room, leader, followers = led()
    room.ask(followers[0], QUERY, queries.ask(queries.ListJobs()))
    room.ask(followers[1], QUERY, queries.ask(queries.ListJobs()))
    room.nodes.pop(leader)
    room.elect()
    told = [message.leader for message in room.take("client", TrackerReply)]
    assert room.leader in told


def test_replies_that_are_too_long_together_travel_apart() -> None:
    room, leader, _ = led()
    big = c.Submit("big", "", "", "k", bytes(150 * 1024), ((0, 1),), c.StopRule.ALL, 0)
    room.command(leader, big)
    asked = queries.ask(queries.DescribeJob("big"))
    room.send(leader, QUERY, asked, asked, asked)
    room.run(300 * MS)
    messages = room.take("client", TrackerReply)
    assert sum(len(message.replies) for message in messages) == 3 and len(messages) >= 2
    for message in messages:
        size = sum(len(reply.payload) for reply in message.replies)
        assert size <= ASKS_BYTES_MAX or len(message.replies) == 1


# -- steering


def test_tell_is_answered_without_anybody_else() -> None:
    room, leader, (lonely, _) = led()
    room.command(leader, submit())
    room.link("client", lonely)
    room.away.add(lonely)
    room.run(6 * SECOND)
    state = room.tell(lonely)
    assert (state.node, state.cluster, state.leader, state.jobs) == (lonely, "main", "", 1)
    linked = {member.node: member.linked for member in state.members}
    assert linked == {name: name == lonely for name in "abc"}


def test_tell_at_the_leader_says_how_far_everybody_is() -> None:
    room, leader, _ = led()
    state = room.tell(leader)
    assert (state.role, state.leader) == ("leader", leader)
    assert [(m.node, m.endpoint, m.votes, m.match) for m in state.members] == [
        (name, at(name), True, state.last) for name in "abc"
    ]
    assert state.committed == state.last and state.waiting == 0


def test_steering_that_is_none_is_malformed() -> None:
    room, leader, _ = led()
    assert room.ask(leader, STEERING, b"\x93").outcome == AskOutcome.MALFORMED


def test_steering_the_members_at_a_follower_is_redirected() -> None:
    room, _leader, (follower, other) = led()
    for what in (steering.Add("d", at("d")), steering.Remove(other), steering.Transfer(other)):
        assert room.steer(follower, what).outcome == AskOutcome.NOT_LEADER


def test_what_cannot_be_done_is_refused_with_why() -> None:
    room, leader, (follower, _) = led()
    for what in (steering.Add(follower, at(follower)), steering.Transfer("x"), steering.Transfer(leader)):
        reply = room.steer(leader, what)
        assert reply.outcome == AskOutcome.IMPOSSIBLE
        assert reply.payload.decode() == "the configuration is that already"


def test_transfer_makes_another_one_lead() -> None:
    room, leader, (heir, _) = led()
    assert room.steer(leader, steering.Transfer(heir)).outcome == AskOutcome.DONE
    room.run(400 * MS)
    assert room.leader == heir and room.command(heir, submit()) == "j"


def test_command_while_leadership_is_handed_over_is_busy() -> None:
    room, leader, (heir, _other) = led()
    room.link("client", leader)
    room.away.add(heir)
    room.steer(leader, steering.Transfer(heir))
    (number,) = room.send(leader, COMMAND, repeatable(c.pack(submit())))
    assert [(r.number, r.outcome) for r in room.replies()] == []
    room.run(MS)
    assert [(r.number, r.outcome) for r in room.replies()] == [(number, AskOutcome.BUSY)]


def test_cut_makes_a_snapshot() -> None:
    room, leader, _ = led()
    before = room.tell(leader)
    room.steer(leader, steering.Cut())
    after = room.tell(leader)
    assert before.snapshot < after.snapshot == after.committed


def test_add_makes_a_learner_a_voter_once_it_has_the_log() -> None:
    room = Room("abcd", joining="d")
    leader = room.elect()
    room.command(leader, submit())
    assert room.steer(leader, steering.Add("d", at("d"))).outcome == AskOutcome.DONE
    room.run(3 * SECOND)
    members = {member.node: (member.votes, member.endpoint) for member in room.tell(leader).members}
    assert members == {name: (True, at(name)) for name in "abcd"}
    assert list(room.nodes["d"].registry.jobs) == ["j"] and "d" in room.nodes[leader].registry.trackers


def test_remove_stops_the_member_and_takes_it_off_the_roster() -> None:
    room, leader, (gone, other) = led()
    assert room.steer(leader, steering.Remove(gone)).outcome == AskOutcome.DONE
    room.run(2 * SECOND)
    assert gone not in room.nodes and (gone, Stopped()) in room.events
    for name in (leader, other):
        assert gone not in room.nodes[name].registry.trackers
    assert room.command(leader, submit()) == "j"


def test_remove_that_is_not_committed_stops_nobody() -> None:
    room, leader, (gone, other) = led()
    room.away.add(other)
    room.steer(leader, steering.Remove(gone))
    room.run(3 * SECOND)
    assert gone in room.nodes


def test_remove_of_the_leader_itself_stops_it_and_the_others_go_on() -> None:
    room, leader, others = led()
    assert room.steer(leader, steering.Remove(leader)).outcome == AskOutcome.DONE
    room.run(5 * SECOND)
    assert room.leader in others and room.command(room.leader, submit()) == "j"
    assert leader not in room.nodes and leader not in room.nodes[room.leader].registry.trackers


def test_who_waits_to_be_added_is_not_stopped() -> None:
    room = Room("abcd", joining="d")
    room.elect()
    room.run(3 * SECOND)
    assert "d" in room.nodes


# -- who is heard


def test_strangers_and_peers_have_no_say_in_the_log() -> None:
    room, leader, _ = led()
    node = room.nodes[leader]
    room.link("peer", leader)
    before = node.unexpected
    for message in (Heartbeats(()), TaskAck("j", 1), Roster(99, (), ())):
        room.hear(leader, "peer", message)
    assert node.unexpected == before + 3
    room.hear(leader, "stranger", Heartbeats(()))
    room.deliver()
    assert [refused.code for refused in room.take("stranger", Refused)] == [ErrorCode.NOT_LINKED]


def test_a_tracker_of_another_cluster_is_refused() -> None:
    room, leader, _ = led()
    room.hear(leader, "x", Hello("x", 1, at(leader), at("x"), "", "other"))
    room.deliver()
    (refused,) = room.take("x", Refused)
    assert (
        refused.code == ErrorCode.WRONG_CLUSTER and "'other'" in refused.detail and "'main'" in refused.detail
    )
    assert not room.nodes[leader].neighbours.is_linked(NodeId("x"))


def test_parts_of_a_tracker_talk_among_themselves_only() -> None:
    room, leader, _ = led()
    room.command(leader, submit())
    room.jobs(leader)
    told = {type(event) for _, event in room.events}
    assert not told & {CommandApplied, ReadConfirmed} and RoleChanged in told and NeighbourRefused not in told


# -- leaving and coming back


def test_stop_of_a_leader_hands_leadership_over_first() -> None:
    room, leader, followers = led()
    room.perform(leader, room.nodes[leader].on_stop(room.now))
    began = room.now
    while leader in room.nodes:
        room.run(10 * MS)
    assert room.now - began < 500 * MS
    room.run(20 * MS)
    assert room.leader in followers


def test_stop_of_a_leader_that_nobody_can_follow_is_over_within_a_second() -> None:
    room, leader, followers = led()
    room.away |= set(followers)
    room.perform(leader, room.nodes[leader].on_stop(room.now))
    room.run(1100 * MS)
    assert leader not in room.nodes


def test_stop_of_a_leader_with_a_learner_hands_over_to_a_voter() -> None:
    room = Room("abcd", joining="d")
    leader = room.elect()
    room.steer(leader, steering.Add("d", at("d")))
    node = room.nodes[leader]
    assert node.reign is not None
    node.neighbours._linked = dict(sorted(node.neighbours._linked.items(), key=lambda pair: pair[0] != "d"))
    node.registry.trackers[NodeId("d")] = at("d")
    room.perform(leader, node.on_stop(room.now))
    assert leader in room.nodes  # it waits for the heir
    room.run(300 * MS)
    assert leader not in room.nodes and room.leader


def test_stop_of_a_follower_is_immediate_and_happens_once() -> None:
    room, _, (follower, _) = led()
    node = room.nodes[follower]
    room.perform(follower, node.on_stop(room.now))
    assert follower not in room.nodes
    assert not [effect for effect in node.on_stop(room.now) if getattr(effect, "event", None) == Stopped()]


def test_a_restarted_tracker_knows_what_it_knew() -> None:
    room, leader, _ = led()
    room.command(leader, submit())
    room.nodes.clear()
    room.way.clear()
    for name in "abc":
        room.start(name, incarnation=2)
    again = room.elect()
    assert room.jobs(again) == ["j"]


def test_a_follower_that_moved_is_listed_where_it_is_now() -> None:
    room, _leader, (follower, _) = led()
    room.nodes.pop(follower)
    room.way.clear()
    room.start(follower, "tcp://moved:7000", incarnation=2)
    room.run(3 * SECOND)
    assert room.nodes[room.leader].registry.trackers[NodeId(follower)] == "tcp://moved:7000"
