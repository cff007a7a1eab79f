"""Changes of who has a copy of the log, one test per rule; sections are of Ongaro's thesis."""

import pytest

from tests.unit.test_raft_cluster import Cluster, sent
from zlb.core.config import RaftConfig
from zlb.core.ids import NodeId
from zlb.core.limits import SECOND
from zlb.core.replica import Configuration
from zlb.protocols.raft.machine import Refusal, Role
from zlb.wire.replication import AppendEntries, AppendEntriesReply, RequestVote, RequestVoteReply

A, B, C, D, E = map(NodeId, "abcde")


def with_leader(names: str = "abc", joining: str = "", caught_up: int = 1000) -> Cluster:
    """a leads, and what it knows is known to all."""
    cluster = Cluster(names, config=RaftConfig(caught_up_entries=caught_up), joining=joining)
    cluster.elect("a")
    cluster.settle("a")
    return cluster


def configurations(cluster: Cluster) -> set[Configuration]:
    return {cluster[name].configuration for name in cluster.names}


def test_4_1_one_change_at_a_time() -> None:
    cluster = with_leader(joining="c")
    assert cluster["a"].add(cluster.now, C) == 2
    assert cluster["a"].remove(cluster.now, B) is Refusal.CHANGE_PENDING
    cluster.tick("a")
    cluster.take()
    assert cluster["a"].remove(cluster.now, B) is Refusal.CHANGE_PENDING, "b has not acknowledged it"
    cluster.settle("a")
    assert cluster["a"].remove(cluster.now, B) == 3


def test_4_1_no_change_before_the_no_op_is_committed() -> None:
    """The bug of 2015: two leaders in turn, each with a change of its own, could have had majorities apart."""
    cluster = Cluster("abc")
    cluster.stand("a")
    cluster.deliver("abc", RequestVote | RequestVoteReply)
    assert cluster["a"].role is Role.LEADER and cluster["a"].committed == 0
    assert cluster["a"].remove(cluster.now, C) is Refusal.CHANGE_PENDING
    cluster.deliver()
    assert cluster["a"].committed == 1 and cluster["a"].remove(cluster.now, C) == 2


def test_4_1_a_configuration_counts_as_soon_as_it_is_appended() -> None:
    cluster = with_leader("abcd", joining="d")
    cluster["a"].remove(cluster.now, C)
    assert cluster["a"].configuration == Configuration((A, B))
    cluster.tick("a")
    assert not cluster.take("ac"), "and c receives nothing any more"
    (append,) = cluster.take("ab", AppendEntries)
    cluster.hear("b", "a", append)
    assert cluster["b"].configuration == Configuration((A, B)) and cluster["b"].committed == 1


def test_4_1_a_configuration_that_is_truncated_counts_no_more() -> None:
    cluster = with_leader("abcde")
    cluster["a"].remove(cluster.now, E)
    cluster.tick("a")
    for append in cluster.take("ab", AppendEntries):
        cluster.hear("b", "a", append)
    cluster.take()
    assert cluster["b"].configuration == Configuration((A, B, C, D))
    cluster.elect("c", "cde")
    cluster.settle("c")
    assert configurations(cluster) == {Configuration((A, B, C, D, E))}
    cluster.restart("b")
    assert cluster["b"].configuration == Configuration((A, B, C, D, E))


def test_4_1_a_configuration_survives_a_restart_committed_or_not() -> None:
    cluster = with_leader("abc")
    cluster["a"].remove(cluster.now, C)
    cluster.tick("a")
    cluster.restart("a")
    assert cluster["a"].configuration == Configuration((A, B)) and cluster["a"].committed == 0


def test_4_1_what_changes_nothing_is_refused() -> None:
    cluster = with_leader(joining="c")
    assert cluster["a"].add(cluster.now, B) is Refusal.NO_CHANGE
    assert cluster["a"].remove(cluster.now, C) is Refusal.NO_CHANGE
    assert cluster["b"].add(cluster.now, C) is Refusal.NOT_LEADER
    alone = with_leader("a")
    assert alone["a"].remove(alone.now, A) is Refusal.LAST_VOTER


def test_4_2_1_a_learner_receives_the_log_and_applies_it() -> None:
    cluster = with_leader("abcd", joining="d")
    cluster.propose("a", b"x")
    cluster["a"].add(cluster.now, D)
    cluster.settle("a")
    cluster.settle("a")
    assert cluster.commands("d") == [b"x"]
    assert configurations(cluster) == {Configuration((A, B, C), (D,))}


def test_4_2_1_a_learner_s_copy_does_not_count() -> None:
    cluster = with_leader("abcd", joining="d")
    cluster["a"].add(cluster.now, D)
    cluster.settle("a")
    before = cluster["a"].committed
    cluster.propose("a", b"x")
    cluster.deliver("ad")
    assert cluster["d"].log.last == before + 1 and cluster["a"].committed == before
    cluster.deliver()
    assert cluster["a"].committed == before + 1


def test_4_2_1_a_learner_is_not_asked_to_vote_and_does_not_stand() -> None:
    cluster = with_leader("abcd", joining="d")
    cluster["a"].add(cluster.now, D)
    cluster.settle("a")
    cluster.take()
    assert not cluster.stand("d") and cluster["d"].role is Role.FOLLOWER
    assert len(sent(cluster.stand("b"), RequestVote)) == 2
    cluster.hear("b", "d", RequestVoteReply(2, True, True))
    assert cluster["b"].role is Role.PRE_CANDIDATE, "its vote would not count either"


def test_4_2_1_nor_does_a_learner_keep_a_leader_in_office() -> None:
    cluster = with_leader("abcd", joining="d")
    cluster["a"].add(cluster.now, D)
    cluster.settle("a")
    for _ in range(22):
        cluster.beat("a")
        cluster.deliver("ad")
        cluster.take()
    assert cluster["a"].role is Role.FOLLOWER


def test_4_2_1_a_learner_votes_only_when_it_has_caught_up() -> None:
    cluster = with_leader("abcd", joining="d", caught_up=2)
    cluster["a"].add(cluster.now, D)
    cluster.propose("a", b"x", b"y")
    cluster.deliver("abc")
    cluster.take()
    assert cluster["a"].add(cluster.now, D) is Refusal.NOT_CAUGHT_UP
    cluster.settle("a")
    assert isinstance(cluster["a"].add(cluster.now, D), int)
    cluster.settle("a")
    assert configurations(cluster) == {Configuration((A, B, C, D))}
    cluster.elect("d", "bcd")


def test_4_2_2_a_removed_leader_leads_until_that_is_committed() -> None:
    cluster = with_leader("abc")
    index = cluster["a"].remove(cluster.now, A)
    cluster.tick("a")
    assert cluster["a"].role is Role.LEADER
    cluster.deliver("ab")
    assert cluster["a"].role is Role.LEADER and cluster["a"].committed == 1, (
        "it does not count itself: c is missing"
    )
    cluster.deliver()
    assert cluster["a"].role is Role.FOLLOWER and cluster["a"].committed == index
    assert {cluster[name].committed for name in "bc"} == {index}, "its last message tells them"
    assert not cluster.stand("a"), "and it does not stand again"
    cluster.elect("b", "bc")


def test_4_2_2_a_removed_leader_does_not_leave_for_the_commit_of_an_earlier_entry() -> None:
    cluster = with_leader("abc")
    cluster.propose("a", b"x")
    cluster["a"].remove(cluster.now, A)
    cluster.tick("a")
    for name in "bc":
        first, _ = cluster.take(f"a{name}", AppendEntries)  # x; the configuration is lost
        cluster.hear(name, "a", first)
    cluster.deliver()
    assert cluster.commands("a") == [b"x"] and cluster["a"].role is Role.LEADER
    cluster.settle("a")
    assert cluster["a"].role is Role.FOLLOWER and cluster["b"].configuration == Configuration((B, C))


def test_4_2_2_the_last_but_one_may_leave_the_last() -> None:
    cluster = with_leader("ab")
    cluster["a"].remove(cluster.now, A)
    cluster.tick("a")
    cluster.deliver()
    assert cluster["a"].role is Role.FOLLOWER and cluster["b"].configuration == Configuration((B,))
    cluster.stand("b")
    assert cluster["b"].role is Role.LEADER


def test_4_2_3_a_removed_replica_disturbs_nobody() -> None:
    cluster = with_leader("abc")
    cluster["a"].remove(cluster.now, C)
    cluster.settle("a")
    assert cluster["c"].configuration == Configuration((A, B, C)), "nobody told it"
    cluster.stand("c")
    cluster.now -= SECOND  # c's clock ran ahead: the others have just heard each other
    cluster.deliver()
    assert cluster["a"].role is Role.LEADER and {cluster[name].term for name in "abc"} == {1}


def test_4_2_replies_of_who_was_removed_do_not_count() -> None:
    cluster = with_leader("abcd")
    cluster["a"].remove(cluster.now, D)
    cluster.settle("a")
    before = cluster["a"].committed
    cluster.propose("a", b"x")
    for src in "dd":
        cluster.hear("a", src, AppendEntriesReply(1, True, before + 1, 0, 99))
    cluster.hear("a", "z", AppendEntriesReply(1, True, before + 1, 0, 99))
    assert cluster["a"].committed == before


@pytest.mark.parametrize("order", ["bcde", "edcb"])
def test_4_1_a_cluster_grows_and_shrinks_one_by_one(order: str) -> None:
    cluster = with_leader("abcde", joining="bcde")
    for name in order:
        for _ in range(2):  # learner, then voter
            assert isinstance(cluster["a"].add(cluster.now, NodeId(name)), int)
            cluster.settle("a")
            cluster.settle("a")
    assert configurations(cluster) == {Configuration((A, B, C, D, E))}
    for name in order[:-1]:
        assert isinstance(cluster["a"].remove(cluster.now, NodeId(name)), int)
        cluster.settle("a")
    assert cluster["a"].configuration == Configuration(tuple(sorted((A, NodeId(order[-1])))))
