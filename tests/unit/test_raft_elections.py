"""Elections and leaders that end, one test per rule; sections are of Ongaro's thesis."""

import pytest

from tests.unit.test_raft_cluster import Cluster, emitted, in_order, logged, persisted, sent
from zlb.core.effects import Persist
from zlb.core.events import RoleChanged
from zlb.core.limits import ENTRY_BYTES_MAX, MS, SECOND
from zlb.core.replica import Saved, Vote
from zlb.protocols.raft.machine import Refusal, Role
from zlb.wire.replication import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)


def ask(
    term: int, last_index: int = 9, last_term: int = 9, pre: bool = False, transfer: bool = False
) -> RequestVote:
    return RequestVote(term, pre, transfer, last_index, last_term)


def granted(cluster: Cluster, name: str, src: str, message: RequestVote) -> bool:
    (reply,) = sent(cluster.hear(name, src, message), RequestVoteReply)
    return reply.granted


def test_3_4_a_voter_votes_once_a_term() -> None:
    cluster = Cluster("abc")
    assert granted(cluster, "a", "b", ask(1)) and not granted(cluster, "a", "c", ask(1))
    assert granted(cluster, "a", "b", ask(1)), "the same answer to the same candidate"
    assert granted(cluster, "a", "c", ask(2))


def test_3_4_a_voter_votes_once_a_term_also_after_a_restart() -> None:
    cluster = Cluster("abc")
    assert granted(cluster, "a", "b", ask(1))
    cluster.restart("a")
    assert not granted(cluster, "a", "c", ask(1)) and granted(cluster, "a", "b", ask(1))


def test_3_4_a_candidate_votes_for_itself_only() -> None:
    cluster = Cluster("abc", {"a": Saved(Vote(1, "a"))})
    assert not granted(cluster, "a", "b", ask(1))


def test_3_4_a_candidate_needs_a_majority_of_different_voters() -> None:
    cluster = Cluster("abcde")
    cluster.stand("a")
    for pre, term in ((True, 1), (False, 1)):
        cluster.take()
        before = cluster["a"].role
        for src in ("b", "b", "z"):  # an answer twice, and one of a stranger
            cluster.hear("a", src, RequestVoteReply(term, pre, True))
        assert cluster["a"].role is before
        cluster.hear("a", "c", RequestVoteReply(term, pre, True))
        assert cluster["a"].role is not before
    assert cluster["a"].role is Role.LEADER and cluster["a"].term == 1


def test_3_4_votes_of_an_earlier_term_do_not_count() -> None:
    cluster = Cluster("abc", {"a": logged(1, term=4)})
    cluster.stand("a")
    cluster.hear("a", "b", RequestVoteReply(5, True, True))
    assert cluster["a"].role is Role.CANDIDATE and cluster["a"].term == 5
    cluster.hear("a", "b", RequestVoteReply(4, False, True))
    cluster.hear("a", "b", RequestVoteReply(5, True, True))
    assert cluster["a"].role is Role.CANDIDATE
    cluster.hear("a", "b", RequestVoteReply(5, False, True))
    assert cluster["a"].role is Role.LEADER


def test_3_4_a_candidate_follows_the_leader_of_its_term() -> None:
    cluster = Cluster("abc")
    cluster.stand("a")
    cluster.hear("a", "b", RequestVoteReply(1, True, True))
    (changed,) = emitted(cluster.hear("a", "c", AppendEntries(1, 0, 0, 0, 1, ())), RoleChanged)
    assert changed == RoleChanged("follower", 1, "c") and cluster["a"].voted_for == "a"


def test_3_4_a_split_vote_ends_with_another_election() -> None:
    cluster = Cluster("abcd")
    cluster.stand("a")
    cluster.hear("a", "b", RequestVoteReply(1, True, True))
    cluster.hear("a", "c", RequestVoteReply(1, True, True))
    cluster.hear("a", "b", RequestVoteReply(1, False, True))
    cluster.hear("a", "c", RequestVoteReply(1, False, False))
    assert cluster["a"].role is Role.CANDIDATE
    cluster.elect("a")
    assert cluster["a"].term == 2


def test_3_4_election_timeouts_are_spread_over_twice_the_least() -> None:
    names = map(chr, range(ord("a"), ord("z")))
    deadlines = [Cluster(name + "z")[name].deadline() for name in names]
    assert 500 * MS <= min(deadlines) < 600 * MS and 900 * MS < max(deadlines) < SECOND


def test_3_3_the_only_voter_leads_at_once() -> None:
    cluster = Cluster("a")
    assert cluster["a"].deadline() == 0
    cluster.tick("a")
    assert cluster["a"].role is Role.LEADER and cluster["a"].committed == 1


@pytest.mark.parametrize(
    "message",
    [
        ask(7),
        RequestVoteReply(7, False, False),
        AppendEntries(7, 0, 0, 0, 1, ()),
        AppendEntriesReply(7, False, 0, 0, 1),
        InstallSnapshot(7, 1, 1, 0, (), (), 0, 1, 0, 1, b""),
    ],
    ids=lambda message: type(message).__name__,
)
def test_3_3_a_higher_term_ends_leadership(message: object) -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    if isinstance(message, RequestVote):  # who leads only gives way to a successor it asked for (§4.2.3)
        message = ask(7, transfer=True)
    effects = cluster.hear("a", "b", message)  # type: ignore[arg-type]
    assert cluster["a"].role is Role.FOLLOWER and cluster["a"].leader is None
    assert cluster["a"].term == 7 and persisted(effects, Vote)


def test_3_3_messages_of_an_earlier_term_are_refused_with_ours() -> None:
    cluster = Cluster("abc", {"a": logged(1, term=3)})
    (reply,) = sent(cluster.hear("a", "b", AppendEntries(2, 1, 1, 1, 5, ())), AppendEntriesReply)
    assert (reply.term, reply.success) == (3, False)
    assert cluster["a"].committed == 0 and cluster["a"].known_leader is None
    assert sent(cluster.hear("a", "b", ask(2)), RequestVoteReply) == [RequestVoteReply(3, False, False)]


@pytest.mark.parametrize(
    ("last_term", "last_index", "grants"),
    [(2, 9, False), (3, 2, False), (3, 3, True), (3, 4, True), (4, 1, True), (0, 0, False)],
)
def test_3_6_1_a_voter_wants_a_log_as_up_to_date_as_its_own(
    last_term: int, last_index: int, grants: bool
) -> None:
    for pre in (True, False):
        cluster = Cluster("abc", {"a": logged(1, 2, 3)})
        assert granted(cluster, "a", "b", ask(4, last_index, last_term, pre)) is grants
    assert cluster["a"].term == 4, "the term is taken over even where the vote is not given"


def test_3_8_a_vote_is_durable_before_it_is_sent() -> None:
    cluster = Cluster("abc")
    effects = cluster.hear("a", "b", ask(1))
    assert in_order([e for e in effects if e != Persist(Vote(1, None))], Vote, RequestVoteReply)
    assert persisted(effects, Vote)[-1] == Vote(1, "b")


def test_3_8_a_candidate_s_own_vote_is_durable_before_it_asks() -> None:
    cluster = Cluster("ab")
    cluster.stand("a")
    effects = cluster.hear("a", "b", RequestVoteReply(1, True, True))
    assert in_order(effects, Vote, RequestVote) and persisted(effects, Vote) == [Vote(1, "a")]


def test_4_2_3_who_hears_a_leader_does_not_help_to_depose_it() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    for name in "ab":
        effects = cluster.hear(name, "c", ask(9))
        assert sent(effects, RequestVoteReply) == [RequestVoteReply(1, False, False)]
        assert not persisted(effects, Vote) and cluster[name].term == 1
    cluster.now += 500 * MS - 1
    assert not granted(cluster, "b", "c", ask(9))
    cluster.now += 1
    assert granted(cluster, "b", "c", ask(9)), "an election timeout later nobody leads, as far as b knows"


def test_4_2_3_a_vote_for_a_successor_the_leader_chose_is_given() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    assert granted(cluster, "b", "c", ask(2, transfer=True)) and cluster["b"].voted_for == "c"


def test_6_2_a_leader_that_hears_no_majority_follows_again() -> None:
    cluster = Cluster("abcde")
    cluster.elect("a")
    for _ in range(20):
        cluster.beat("a")
        cluster.deliver("abc")
        cluster.take()
    assert cluster["a"].role is Role.LEADER
    for _ in range(20):
        cluster.beat("a")
        cluster.deliver("ab")
        cluster.take()
    assert cluster["a"].role is Role.FOLLOWER and cluster["a"].term == 1
    assert cluster["a"].propose(cluster.now, b"x") is Refusal.NOT_LEADER


def test_9_6_a_pre_vote_changes_nothing_at_the_voter() -> None:
    cluster = Cluster("abc", {"a": logged(1, 2)})
    before = cluster["a"].deadline()
    effects = cluster.hear("a", "b", ask(3, pre=True))
    assert sent(effects, RequestVoteReply) == [RequestVoteReply(3, True, True)] and len(effects) == 1
    assert granted(cluster, "a", "c", ask(3, pre=True)), "and more than one may be promised it"
    assert (cluster["a"].term, cluster["a"].voted_for, cluster["a"].deadline()) == (2, None, before)


def test_9_6_a_pre_candidate_stays_in_its_term() -> None:
    cluster = Cluster("abc")
    for _ in range(5):
        assert not persisted(cluster.stand("a"), Vote)
    assert cluster["a"].term == 0 and cluster["a"].role is Role.PRE_CANDIDATE


def test_9_6_who_was_cut_off_does_not_disturb_when_it_comes_back() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.take()
    for _ in range(20):
        cluster.beat("a")
        cluster.deliver("ab")
        cluster.take()
    cluster.stand("c")
    cluster.now -= SECOND  # c's clock ran ahead: the others have just heard each other
    cluster.deliver()
    assert cluster["a"].role is Role.LEADER and {cluster[name].term for name in "abc"} == {1}
    cluster.beat("a")
    cluster.deliver()
    assert cluster["c"].known_leader == "a"


def test_9_6_a_pre_vote_that_is_refused_for_the_term_brings_the_term() -> None:
    cluster = Cluster("ab", {"b": logged(term=6)})
    cluster.stand("a")
    cluster.deliver()
    assert cluster["a"].term == 6 and cluster["a"].role is Role.FOLLOWER


def test_3_10_the_chosen_one_stands_only_when_it_has_the_whole_log() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.propose("a", b"x", b"y")
    cluster.take("ab")
    cluster.deliver()
    assert cluster["a"].transfer(cluster.now, cluster["b"].me) is None
    cluster.tick("a")
    (entries_of_x,) = cluster.take("ab", AppendEntries)
    cluster.deliver()
    assert not cluster.take("ab", TimeoutNow) and cluster["a"].role is Role.LEADER
    cluster.hear("b", "a", entries_of_x)
    (reply,) = cluster.take("ba", AppendEntriesReply)
    while not sent(cluster.hear("a", "b", reply), TimeoutNow):  # it was behind: repair first
        for message in cluster.take("ab", AppendEntries):
            cluster.hear("b", "a", message)
        (reply,) = cluster.take("ba", AppendEntriesReply)
    assert cluster["b"].log.last == cluster["a"].log.last == 3
    cluster.deliver()
    assert cluster["b"].role is Role.LEADER and cluster["b"].term == 2
    assert cluster["a"].role is Role.FOLLOWER and cluster["a"].known_leader == "b"


def test_3_10_nothing_is_proposed_while_leadership_is_handed_over() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    assert cluster["a"].transfer(cluster.now, cluster["b"].me) is None
    assert cluster["a"].propose(cluster.now, b"x") is Refusal.TRANSFERRING
    assert cluster["a"].remove(cluster.now, cluster["c"].me) is Refusal.TRANSFERRING


def test_3_10_a_transfer_is_given_up_after_an_election_timeout() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster["a"].transfer(cluster.now, cluster["b"].me)
    for _ in range(11):  # c keeps the leader in office
        cluster.beat("a")
        cluster.take("ab")
        cluster.deliver("ac")
    assert cluster["a"].role is Role.LEADER
    assert isinstance(cluster["a"].propose(cluster.now, b"x"), tuple)
    cluster.tick("a")
    cluster.deliver()
    assert not cluster.take(kind=TimeoutNow) and cluster["a"].role is Role.LEADER


def test_3_10_timeout_now_of_another_term_or_to_a_stranger_is_ignored() -> None:
    cluster = Cluster("abc", joining="c")
    cluster.elect("a", "ab")
    for name, term in (("b", 0), ("b", 2), ("c", 1), ("a", 1)):
        assert cluster.hear(name, "a", TimeoutNow(term)) == []


def test_3_10_only_a_leader_hands_over_and_only_to_another_voter() -> None:
    cluster = Cluster("abc", joining="c")
    assert cluster["a"].transfer(0, cluster["b"].me) is Refusal.NOT_LEADER
    cluster.elect("a", "ab")
    assert cluster["a"].transfer(cluster.now, cluster["a"].me) is Refusal.NO_CHANGE
    assert cluster["a"].transfer(cluster.now, cluster["c"].me) is Refusal.NO_CHANGE


def test_propose_refuses_what_no_message_could_carry() -> None:
    cluster = Cluster("a")
    cluster.tick("a")
    assert cluster["a"].propose(0, bytes(ENTRY_BYTES_MAX + 1)) is Refusal.TOO_LARGE
    assert cluster["a"].propose(0, bytes(ENTRY_BYTES_MAX)) == (2, 1)
