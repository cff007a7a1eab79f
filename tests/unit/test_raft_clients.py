"""What clients may count on, one test per rule: sessions (§6.3 of Ongaro's thesis) and reads (§6.4)."""

import pytest

from tests.unit.test_raft_cluster import Cluster, Tape, emitted, logged, sent
from zlb.core.effects import Effect
from zlb.core.events import ReadConfirmed
from zlb.core.limits import SECOND
from zlb.protocols.raft import sessions as module
from zlb.protocols.raft.machine import Role
from zlb.protocols.raft.sessions import SessionRefusal, Sessions, command, open_session, opened
from zlb.wire.replication import (
    AppendEntries,
    AppendEntriesReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)


def sessions(expiry_ns: int = SECOND, count: int = 2) -> tuple[Sessions, Tape]:
    """Sessions 1 to `count`, opened at log time 0."""
    tape = Tape()
    machine = Sessions(tape, expiry_ns)
    for number in range(1, count + 1):
        assert opened(machine.apply(0, open_session())) == number  # type: ignore[arg-type]
    return machine, tape


def test_6_3_a_command_that_is_repeated_is_executed_once_and_has_the_same_answer() -> None:
    machine, tape = sessions()
    assert machine.apply(0, command(1, 1, b"x")) == b"1"
    assert machine.apply(1, command(2, 1, b"y")) == b"2"
    assert machine.apply(2, command(1, 1, b"x")) == b"1"
    assert machine.apply(3, command(1, 2, b"x")) == b"3"
    assert tape.commands == [b"x", b"y", b"x"]


def test_6_3_a_command_that_comes_late_is_stale() -> None:
    machine, tape = sessions()
    machine.apply(0, command(1, 1, b"x"))
    machine.apply(0, command(1, 2, b"y"))
    assert machine.apply(0, command(1, 1, b"x")) is SessionRefusal.STALE and tape.commands == [b"x", b"y"]


def test_6_3_a_session_expires_by_log_time_after_its_last_command() -> None:
    machine, tape = sessions(expiry_ns=10)
    machine.apply(0, command(1, 1, b"x"))
    machine.apply(10, command(1, 2, b"y"))
    assert machine.apply(20, command(1, 3, b"z")) == b"3", "ten after its last command is not yet too late"
    assert machine.apply(31, command(1, 4, b"!")) is SessionRefusal.EXPIRED
    assert tape.commands == [b"x", b"y", b"z"]


def test_6_3_no_command_is_executed_again_after_its_session_is_forgotten() -> None:
    machine, tape = sessions(expiry_ns=10)
    machine.apply(0, command(1, 1, b"x"))
    assert machine.apply(11, command(1, 1, b"x")) is SessionRefusal.EXPIRED
    assert opened(machine.apply(12, open_session())) == 3  # type: ignore[arg-type]
    assert machine.apply(13, command(1, 1, b"x")) is SessionRefusal.EXPIRED
    assert tape.commands == [b"x"]


def test_6_3_a_repeat_does_not_make_a_session_last_longer_than_its_command() -> None:
    machine, _ = sessions(expiry_ns=10)
    machine.apply(0, command(1, 1, b"x"))
    machine.apply(0, command(1, 2, b"y"))
    assert machine.apply(10, command(1, 2, b"y")) == b"2"
    assert machine.apply(11, command(1, 2, b"y")) is SessionRefusal.EXPIRED


def test_6_3_of_too_many_sessions_the_one_that_was_quiet_longest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SESSIONS_MAX", 2)
    machine, tape = sessions()
    machine.apply(1, command(1, 1, b"x"))
    machine.apply(2, command(1, 1, b"x"))
    assert list(machine.sessions) == [2, 1], "only a new session takes a place"
    machine.apply(3, open_session())
    assert list(machine.sessions) == [1, 3]
    assert machine.apply(4, command(2, 1, b"x")) is SessionRefusal.EXPIRED and tape.commands == [b"x"]


def test_6_3_sessions_stand_in_the_order_of_their_last_commands() -> None:
    machine, _ = sessions(expiry_ns=10)
    for at, (session, sequence) in enumerate([(1, 1), (2, 1), (1, 2)]):
        machine.apply(at, command(session, sequence, b"x"))
    assert list(machine.sessions) == [2, 1]
    machine.apply(12, open_session())
    assert list(machine.sessions) == [1, 3]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x01", b"\x93\xa1a\x01\xc4\x00", b"\x92\x01\x01"])
def test_6_3_what_is_no_command_is_malformed_and_has_no_effect(data: bytes) -> None:
    machine, tape = sessions(count=0)
    assert machine.apply(0, data) is SessionRefusal.MALFORMED
    assert tape.commands == [] and machine.sessions == {}


def test_6_3_sessions_are_part_of_a_snapshot() -> None:
    machine, _ = sessions(expiry_ns=10, count=3)
    for at, session in enumerate([2, 1, 3]):
        machine.apply(at, command(session, 1, b"%d" % session))
    successor, tape = sessions(expiry_ns=10, count=0)
    successor.restore(machine.snapshot())
    assert successor.apply(5, command(2, 1, b"2")) == b"1" and tape.commands == [b"2", b"1", b"3"]
    assert successor.snapshot() == machine.snapshot()
    assert successor.apply(11, command(2, 2, b"!")) is SessionRefusal.EXPIRED
    assert list(successor.sessions) == [1, 3], "in the order in which they expire"
    assert opened(successor.apply(11, open_session())) == 4  # type: ignore[arg-type]


# --- reads ---------------------------------------------------------------------------------------------------------


def confirmed(effects: list[Effect]) -> list[int]:
    return [event.token for event in emitted(effects, ReadConfirmed)]


def leading(names: str = "abc") -> Cluster:
    cluster = Cluster(names)
    cluster.elect("a")
    cluster.propose("a", b"x")
    cluster.settle("a")
    cluster.take()
    return cluster


def ask(cluster: Cluster, name: str, token: int) -> list[Effect]:
    return cluster.perform(name, cluster[name].read(cluster.now, token))


def test_6_4_no_read_before_the_no_op_is_committed() -> None:
    cluster = Cluster("abc", {name: logged(1) for name in "abc"})
    cluster.stand("a")
    cluster.deliver("abc", RequestVote | RequestVoteReply)
    assert cluster["a"].role is Role.LEADER
    cluster.take()
    ask(cluster, "a", 7)
    cluster.tick("a")
    heartbeat = cluster.take("ab", AppendEntries)[0]
    round_ = heartbeat.round  # type: ignore[attr-defined]
    acked = AppendEntriesReply(2, True, 1, 0, round_)
    assert confirmed(cluster.hear("a", "b", acked)) == [], (
        "earlier leaders may have committed entry 1, or more"
    )
    has_noop = AppendEntriesReply(2, True, 2, 0, round_)
    assert confirmed(cluster.hear("a", "b", has_noop)) == [7] and cluster["a"].committed == 2


def test_6_4_a_read_is_confirmed_by_a_majority_of_a_later_round_only() -> None:
    cluster = leading("abcde")
    cluster.beat("a")
    early = {src: cluster.take(f"a{src}")[0] for src in "bcde"}
    ask(cluster, "a", 7)
    for src, message in early.items():  # asked before the read was, so they say nothing about now
        cluster.hear(src, "a", message)
        for reply in cluster.take(f"{src}a"):
            assert confirmed(cluster.hear("a", src, reply)) == []
    cluster.tick("a")
    answers = []
    for src in "bbc":
        for message in cluster.take(f"a{src}"):
            cluster.hear(src, "a", message)
        answers += [confirmed(cluster.hear("a", src, reply)) for reply in cluster.take(f"{src}a")]
    assert answers == [[], [7]]


def test_6_4_a_leader_that_was_deposed_confirms_nothing() -> None:
    cluster = leading()
    ask(cluster, "a", 7)
    cluster.tick("a")
    cluster.take()
    cluster.now += SECOND
    cluster.elect("b", "bc")
    cluster.propose("b", b"y")
    cluster.deliver()
    cluster.settle("b")
    assert cluster["a"].role is Role.FOLLOWER and cluster.commands("a") == [b"x", b"y"]
    late = AppendEntriesReply(1, True, 2, 0, 99)
    assert confirmed(cluster.hear("a", "c", late)) == []


def test_6_4_many_reads_take_one_round() -> None:
    cluster = leading()
    for token in range(10):
        ask(cluster, "a", token)
    cluster.tick("a")
    (message,) = cluster.take("ab")
    cluster.hear("b", "a", message)
    (reply,) = cluster.take("ba")
    assert confirmed(cluster.hear("a", "b", reply)) == list(range(10))


def test_6_4_the_only_voter_answers_at_once() -> None:
    cluster = Cluster("a")
    cluster.tick("a")
    ask(cluster, "a", 7)
    assert confirmed(cluster.tick("a")) == [7]


def test_6_4_a_follower_asks_the_leader_and_waits_until_it_has_applied_as_much() -> None:
    cluster = leading()
    cluster.propose("a", b"y")
    cluster.deliver("ac")
    cluster.take()
    assert sent(ask(cluster, "b", 7), ReadIndex) == [ReadIndex(7)]
    cluster.deliver("ab", ReadIndex)
    cluster.tick("a")
    cluster.deliver("ac")
    (answer,) = cluster.take("ab", ReadIndexReply)
    assert answer == ReadIndexReply(7, 3)
    assert confirmed(cluster.hear("b", "a", answer)) == [] and cluster["b"].committed == 2
    cluster.take()
    seen: list[int] = []
    while not seen:
        cluster.beat("a")
        for message in cluster.take("ab", AppendEntries):
            seen += confirmed(cluster.hear("b", "a", message))
        cluster.deliver("ab", AppendEntriesReply)
    assert seen == [7] and cluster.commands("b") == [b"x", b"y"]


def test_6_4_a_follower_without_a_leader_has_nobody_to_ask() -> None:
    cluster = Cluster("abc")
    assert ask(cluster, "b", 7) == []
    assert cluster.hear("b", "c", ReadIndex(7)) == [], "nor does it answer for another"
