"""Replicating and committing, one test per rule; sections and figures are of Ongaro's thesis."""

import pytest
from msgspec.structs import replace

from tests.unit.test_raft_cluster import Cluster, emitted, entries, in_order, logged, persisted, sent
from zlb.core.config import RaftConfig
from zlb.core.events import CommandApplied
from zlb.core.limits import APPENDS_IN_FLIGHT_MAX, SECOND
from zlb.core.replica import Append, Entry, EntryKind, Saved, Vote
from zlb.protocols.raft.machine import Role
from zlb.wire.replication import (
    AppendEntries,
    AppendEntriesReply,
    RequestVote,
    RequestVoteReply,
)


def wired(*terms: int, first: int = 1) -> tuple[Entry, ...]:
    """What `entries(*terms)` are on the wire, from index `first` on."""
    return entries(*terms)[first - 1 :]


def answer(cluster: Cluster, name: str, append: AppendEntries) -> AppendEntriesReply:
    (reply,) = sent(cluster.hear(name, "b", append), AppendEntriesReply)
    return reply


def test_3_5_entries_are_taken_only_behind_the_one_they_follow() -> None:
    cluster = Cluster("abc", {"a": logged(1, 1, term=2)})
    refused = answer(cluster, "a", AppendEntries(2, 3, 1, 0, 7, wired(1, 1, 1, 2, first=4)))
    assert refused == AppendEntriesReply(2, False, 3, 0, 7), "its log ends before"
    refused = answer(cluster, "a", AppendEntries(2, 2, 2, 0, 8, wired(1, 2, 2, first=3)))
    assert refused == AppendEntriesReply(2, False, 1, 1, 8), "another term there"
    assert cluster.terms("a") == [1, 1]
    taken = answer(cluster, "a", AppendEntries(2, 2, 1, 0, 9, wired(1, 1, 2, first=3)))
    assert taken == AppendEntriesReply(2, True, 3, 0, 9) and cluster.terms("a") == [1, 1, 2]


def test_3_5_only_entries_that_conflict_are_taken_back() -> None:
    cluster = Cluster("abc", {"a": logged(1, 1, 2, 2, term=3)})
    answer(cluster, "a", AppendEntries(3, 0, 0, 0, 1, wired(1, 1)))
    assert cluster.terms("a") == [1, 1, 2, 2], "an old message must not take back what came after it"
    answer(cluster, "a", AppendEntries(3, 1, 1, 0, 1, wired(1, 1, 3, first=2)))
    assert cluster.terms("a") == [1, 1, 3]


def test_3_5_the_same_entries_again_are_acknowledged_and_not_written() -> None:
    cluster = Cluster("abc")
    append = AppendEntries(1, 0, 0, 0, 1, wired(1, 1))
    first, again = cluster.hear("a", "b", append), cluster.hear("a", "b", append)
    assert persisted(first, Append) and not persisted(again, Append)
    assert sent(first, AppendEntriesReply) == sent(again, AppendEntriesReply)


def test_3_5_a_follower_commits_no_more_than_it_knows_to_match() -> None:
    cluster = Cluster("abc", {"a": logged(1, 1, 2, 2, term=3)})
    answer(cluster, "a", AppendEntries(3, 2, 1, 4, 1, ()))
    assert cluster["a"].committed == 2, "entries 3 and 4 may be others than the leader's"


def test_3_5_what_is_committed_is_not_taken_back_by_an_old_message() -> None:
    cluster = Cluster("abc")
    answer(cluster, "a", AppendEntries(1, 0, 0, 3, 1, wired(1, 1, 1)))
    assert answer(cluster, "a", AppendEntries(1, 0, 0, 0, 1, wired(1))).index == 1
    assert answer(cluster, "a", AppendEntries(1, 1, 1, 2, 1, wired(1, 1, 1, 1, first=2))).index == 4
    assert cluster["a"].committed == 3 and cluster.terms("a") == [1, 1, 1, 1]


def test_3_5_entries_are_applied_once_in_order_when_they_are_committed() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    effects = cluster.propose("a", b"x", b"y")
    assert not emitted(effects, CommandApplied)
    (append,) = cluster.take("ab", AppendEntries)
    (reply,) = sent(cluster.hear("b", "a", append), AppendEntriesReply)
    applied = emitted(cluster.hear("a", "b", reply), CommandApplied)
    assert applied == [CommandApplied(2, 1, b"1"), CommandApplied(3, 1, b"2")]
    assert not emitted(cluster.hear("a", "b", reply), CommandApplied)
    assert cluster.commands("b") == [], "b does not know yet"
    cluster.beat("a")
    cluster.deliver()
    assert cluster.commands("b") == [b"x", b"y"]


FIGURE_3_6 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}
"""The followers that a leader of term 8 may meet: entries are missing, surplus, or both."""
LEADER_3_6 = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)


@pytest.mark.parametrize("batch_bytes", [1, 1 << 16])
def test_3_5_the_six_followers_of_figure_3_6_are_repaired(batch_bytes: int) -> None:
    saved = {name: logged(*terms, term=7) for name, terms in {**FIGURE_3_6, "l": LEADER_3_6}.items()}
    cluster = Cluster("abcdefl", saved, RaftConfig(batch_bytes=batch_bytes))
    cluster.elect("l", "abefl")  # c and d have newer logs, and would refuse
    cluster.settle("l")
    logs = {name: cluster[name].log.tail(1) for name in cluster.names}
    assert cluster.terms("l") == [*LEADER_3_6, 8]
    assert all(log == logs["l"] for log in logs.values())
    assert all(cluster.saved[name].entries == logs["l"] for name in cluster.names)
    assert {cluster[name].committed for name in cluster.names} == {11}


@pytest.mark.parametrize("name", FIGURE_3_6)
def test_3_5_a_conflict_costs_a_message_a_term_and_not_one_an_entry(name: str) -> None:
    saved = {"l": logged(*LEADER_3_6, term=7), "m": logged(*LEADER_3_6, term=7)}
    cluster = Cluster(f"l{name}m", {**saved, name: logged(*FIGURE_3_6[name], term=7)})
    cluster.elect("l", "lm")
    cluster.beat("l")
    refusals = 0
    while cluster[name].log.last_term != 8:
        for append in cluster.take(f"l{name}", AppendEntries):
            cluster.hear(name, "l", append)
        for reply in cluster.take(f"{name}l", AppendEntriesReply):
            refusals += not reply.success  # type: ignore[attr-defined]
            cluster.hear("l", name, reply)
    assert refusals <= 3  # f has entries of two terms that the leader has not


def test_3_5_a_leader_never_takes_back_entries_of_its_own() -> None:
    cluster = Cluster("abc", {"a": logged(1, 1)})
    cluster.elect("a")
    cluster.hear("a", "b", AppendEntriesReply(2, False, 1, 0, 1))
    cluster.hear("a", "b", AppendEntriesReply(2, False, 99, 7, 1))
    assert cluster.terms("a") == [1, 1, 2] and cluster["a"].role is Role.LEADER


def test_3_5_a_follower_is_sent_no_more_than_a_window_ahead_of_its_replies() -> None:
    cluster = Cluster("ab", config=RaftConfig(batch_bytes=1))
    cluster.elect("a")
    cluster.propose("a", *[b"x"] * (3 * APPENDS_IN_FLIGHT_MAX))
    way = cluster.take("ab", AppendEntries)
    assert len(way) == APPENDS_IN_FLIGHT_MAX
    for append in way[:5]:
        cluster.hear("b", "a", append)
    cluster.deliver("ab", AppendEntriesReply)
    assert len(cluster.take("ab", AppendEntries)) == 5
    cluster.settle("a")  # all that was lost is sent again
    assert cluster["b"].committed == cluster["a"].log.last == 3 * APPENDS_IN_FLIGHT_MAX + 1


def figure_3_7() -> Cluster:
    """r is S1, and so on. In (c) r leads again, in term 4, and entry 2, of term 2, has come to a majority: r, s, t."""
    saved = {"r": logged(1, 2, term=3), "s": logged(1, 2, term=3), "v": logged(1, 3)}
    cluster = Cluster("rstuv", saved | {name: logged(1, term=3) for name in "tu"}, RaftConfig(batch_bytes=1))
    cluster.stand("r")
    cluster.deliver("rstu", RequestVote | RequestVoteReply)
    while cluster["t"].log.last < 2:  # entry 2 travels alone, for a batch takes no more
        for append in cluster.take("rt", AppendEntries):
            cluster.hear("t", "r", append)
        for reply in cluster.take("tr", AppendEntriesReply):
            cluster.hear("r", "t", reply)
    cluster.hear("r", "s", AppendEntriesReply(4, True, 2, 0, 1))  # to a heartbeat: it has what comes before
    cluster.take()
    assert [cluster.terms(name) for name in "rst"] == [[1, 2, 4], [1, 2], [1, 2]]
    return cluster


def test_3_6_2_entries_of_earlier_terms_are_not_committed_by_counting() -> None:
    """Figure 3.7 (d): what is on a majority goes all the same."""
    cluster = figure_3_7()
    assert cluster["r"].leader is not None
    assert [cluster["r"].leader.progress[name].match for name in "st"] == [2, 2]  # type: ignore[index]
    assert cluster["r"].committed == 0
    cluster.stand("v")
    cluster.deliver("stuv")  # only tells v of term 4
    cluster.elect("v", "stuv")
    cluster.settle("v")
    assert {cluster[name].log.term_at(2) for name in cluster.names} == {3}


def test_3_6_2_an_entry_of_the_leader_s_term_commits_those_before_it() -> None:
    """Figure 3.7 (e): now nobody can win who has not entry 2."""
    cluster = figure_3_7()
    cluster.settle("r", "rst")
    assert {cluster[name].committed for name in "rst"} == {3}
    for _ in range(3):
        cluster.take()
        cluster.stand("v")
        cluster.deliver("stuv")
    assert cluster["v"].role is not Role.LEADER


def test_3_8_entries_are_durable_before_they_are_acknowledged() -> None:
    cluster = Cluster("abc")
    effects = cluster.hear("a", "b", AppendEntries(1, 0, 0, 1, 1, wired(1)))
    assert in_order(effects, Vote, Append, AppendEntriesReply, CommandApplied)


def test_3_8_a_leader_counts_itself_only_for_what_is_durable() -> None:
    cluster = Cluster("a")
    cluster.tick("a")
    effects = cluster.propose("a", b"x")
    assert in_order(effects, Append, CommandApplied)


def test_10_2_1_a_leader_sends_entries_while_it_writes_them() -> None:
    cluster = Cluster("ab")
    cluster.elect("a")
    cluster.settle("a")
    assert in_order(cluster.propose("a", b"x"), AppendEntries, Append)


def test_10_2_1_what_was_proposed_leaves_only_in_the_step_that_makes_it_durable() -> None:
    """Else a majority without the leader could commit what the leader takes back when it is deposed."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.propose("a", b"x")
    assert cluster["a"].propose(cluster.now, b"y") == (3, 1)
    cluster.deliver()  # replies come in before the tick that is due
    cluster.tick("a", cluster.config.heartbeat_ns - 1)
    cluster.deliver()
    assert cluster["a"].committed == cluster["b"].log.last == 3 == len(cluster.saved["a"].entries)
    assert cluster["a"].propose(cluster.now, b"z") == (4, 1)
    cluster.deliver()
    cluster.hear("a", "b", AppendEntriesReply(9, False, 0, 0, 1))
    assert cluster["a"].log.last == 3, "deposed: nobody has heard of z, and nobody will"


def test_3_8_a_restart_begins_with_what_was_kept_and_nothing_committed() -> None:
    cluster = Cluster("abc", {"a": Saved(Vote(3, "a"), None, 1, entries(1, 2, 3))})
    assert (cluster["a"].term, cluster["a"].voted_for, cluster["a"].committed) == (3, "a", 0)
    assert cluster["a"].role is Role.FOLLOWER and cluster.commands("a") == []


def test_6_4_every_leader_begins_with_a_no_op_that_commits_what_was_before() -> None:
    cluster = Cluster("abc", {name: logged(1, 1) for name in "abc"})
    cluster.elect("b")
    entry = cluster["b"].log.entry(3)
    assert (entry.term, entry.kind, entry.data) == (2, EntryKind.NOOP, b"")
    cluster.settle("b")
    assert {cluster[name].committed for name in "abc"} == {3}
    assert cluster.commands("c") == [b"1@1", b"1@2"]


def test_log_time_never_goes_back_though_clocks_do() -> None:
    saved = {name: logged(1, 1) for name in "ab"}
    late = replace(saved["a"].entries[1], time_ns=50 * SECOND)
    saved = {name: kept._replace(entries=(kept.entries[0], late)) for name, kept in saved.items()}
    cluster = Cluster("ab", saved)
    cluster.elect("a")
    cluster.propose("a", b"x")
    cluster.now -= SECOND
    cluster.propose("a", b"y")
    times = [entry.time_ns for entry in cluster["a"].log.tail(2)]
    assert times == sorted(times) and times[0] == 50 * SECOND
