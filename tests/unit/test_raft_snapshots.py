"""Snapshots, one test per rule; sections are of Ongaro's thesis."""

import zlib

import pytest

from tests.unit.test_raft_cluster import Cluster, Tape, entries, in_order, logged, persisted, sent
from zlb.core.config import RaftConfig
from zlb.core.limits import SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX
from zlb.core.replica import Append, Configuration, Snapshot
from zlb.wire.replication import AppendEntries, AppendEntriesReply, InstallSnapshot, InstallSnapshotReply

BIG = bytes(2 * SNAPSHOT_CHUNK_BYTES_MAX)
"""A command after which a snapshot takes three chunks."""


def behind(config: RaftConfig | None = None) -> Cluster:
    """a and b hold a snapshot of the log up to 3, of three chunks; c has nothing, which a has noticed."""
    cluster = Cluster("abc", config=config or RaftConfig(trailing_entries=0))
    cluster.elect("a", "ab")
    cluster.propose("a", BIG, b"x")
    cluster.settle("a", "ab")
    for name in "ab":
        cluster.perform(name, cluster[name].cut())
    cluster.take()
    while not any(isinstance(message, InstallSnapshot) for _, _, message in cluster.way):
        cluster.beat("a")
        cluster.deliver("ac", AppendEntries | AppendEntriesReply)
    cluster.take()
    return cluster


def chunk(cluster: Cluster) -> InstallSnapshot:
    """What the leader's next heartbeat sends to c."""
    cluster.beat("a")
    (message,) = cluster.take("ac", InstallSnapshot)
    assert isinstance(message, InstallSnapshot)
    return message


def received(cluster: Cluster, message: InstallSnapshot) -> int:
    (reply,) = sent(cluster.hear("c", "a", message), InstallSnapshotReply)
    return reply.received


def chunks(cluster: Cluster) -> list[InstallSnapshot]:
    """All of the snapshot, that c has seen nothing of."""
    first, data = chunk(cluster), cluster["a"].log.snapshot.data  # type: ignore[union-attr]
    cuts = range(0, len(data), SNAPSHOT_CHUNK_BYTES_MAX)
    fields = {name: getattr(first, name) for name in first.__struct_fields__}
    return [
        InstallSnapshot(**fields | {"offset": at, "chunk": data[at : at + SNAPSHOT_CHUNK_BYTES_MAX]})
        for at in cuts
    ]


def test_5_1_a_log_that_has_grown_is_cut() -> None:
    cluster = Cluster("ab", config=RaftConfig(snapshot_entries=5, trailing_entries=2))
    cluster.elect("a")
    cluster.propose("a", *[b"x"] * 3)
    cluster.settle("a")
    assert cluster["a"].log.snapshot is None
    cluster.propose("a", b"y")
    cluster.settle("a")
    for name in "ab":
        snapshot = cluster.saved[name].snapshot
        assert snapshot is not None and (snapshot.last_index, snapshot.last_term, snapshot.trimmed) == (
            5,
            1,
            3,
        )
        assert cluster[name].log.first == cluster.saved[name].first == 4 and cluster[name].log.last == 5


def test_5_1_a_log_of_large_commands_is_cut_sooner() -> None:
    cluster = Cluster("ab", config=RaftConfig(snapshot_bytes=100))
    cluster.elect("a")
    cluster.propose("a", bytes(99))
    cluster.settle("a")
    assert cluster["a"].log.snapshot is None
    cluster.propose("a", b"x")
    cluster.settle("a")
    assert cluster["a"].log.snapshot is not None


def test_5_1_a_snapshot_holds_the_configuration_at_its_end_and_not_a_later_one() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.settle("a")
    cluster["a"].remove(cluster.now, cluster["c"].me)
    cluster.tick("a")
    (snapshot,) = persisted(cluster["a"].cut(), Snapshot)
    assert snapshot.configuration == cluster.founders and snapshot.last_index == 1
    assert cluster["a"].configuration == Configuration(cluster.founders.voters[:2])


def test_5_2_a_restart_goes_on_from_snapshot_and_log() -> None:
    cluster = Cluster("ab", config=RaftConfig(trailing_entries=1))
    cluster.elect("a")
    cluster.propose("a", b"x", b"y")
    cluster.settle("a")
    cluster.perform("b", cluster["b"].cut())
    cluster.propose("a", b"z")
    cluster.deliver()
    cluster.restart("b")
    assert cluster["b"].committed == 3 and cluster.commands("b") == [b"x", b"y"]
    assert (cluster["b"].log.first, cluster["b"].log.last, cluster["b"].log.last_term) == (3, 4, 1)
    cluster.settle("a")
    assert cluster.commands("b") == [b"x", b"y", b"z"], "each once"


def test_5_3_a_follower_too_far_behind_is_sent_the_state() -> None:
    cluster = behind()
    cluster.settle("a")
    cluster.propose("a", b"y")
    cluster.settle("a")
    assert cluster.commands("c") == cluster.commands("a") == [BIG, b"x", b"y"]
    assert cluster["c"].log.first == 4 and cluster["c"].configuration == cluster.founders
    cluster.restart("c")
    assert cluster.commands("c") == [BIG, b"x"] and cluster["c"].log.last == 4


def test_5_3_chunks_are_at_most_64_kib_and_each_follows_the_reply_to_the_last() -> None:
    cluster = behind()
    first = chunk(cluster)
    assert first.offset == 0 and len(first.chunk) == SNAPSHOT_CHUNK_BYTES_MAX < first.size
    cluster.hear("c", "a", first)
    (reply,) = cluster.take("ca", InstallSnapshotReply)
    (second,) = sent(cluster.hear("a", "c", reply), InstallSnapshot)
    assert second.offset == SNAPSHOT_CHUNK_BYTES_MAX
    assert not sent(cluster.hear("a", "c", reply), InstallSnapshot), (
        "a reply twice is no reason to send twice"
    )


def test_5_3_a_lost_chunk_is_sent_again_by_the_next_heartbeat() -> None:
    cluster = behind()
    assert chunk(cluster).offset == chunk(cluster).offset == 0
    received(cluster, chunk(cluster))
    cluster.deliver("ac", InstallSnapshotReply)
    assert len(cluster.take("ac", InstallSnapshot)) == 1  # the second one is lost
    assert chunk(cluster).offset == SNAPSHOT_CHUNK_BYTES_MAX
    cluster.settle("a")
    assert cluster.commands("c") == [BIG, b"x"]


def test_5_3_chunks_doubled_or_out_of_order_are_not_gathered() -> None:
    cluster = behind()
    one, two, three = chunks(cluster)
    size = SNAPSHOT_CHUNK_BYTES_MAX
    assert [received(cluster, it) for it in (two, one, one, three, two, one)] == [
        0,
        size,
        size,
        size,
        *[2 * size] * 2,
    ]
    assert cluster["c"].committed == 0
    assert received(cluster, three) == three.size and cluster.commands("c") == [BIG, b"x"]
    assert received(cluster, two) == three.size, "whoever has it all says so"


def test_5_3_a_receiver_that_was_restarted_begins_anew() -> None:
    cluster = behind()
    received(cluster, chunk(cluster))
    cluster.deliver("ac", InstallSnapshotReply)
    cluster.restart("c")
    cluster.take("ac")
    assert received(cluster, chunk(cluster)) == 0
    cluster.deliver("ac")
    cluster.settle("a")
    assert cluster.commands("c") == [BIG, b"x"]


def test_5_3_a_snapshot_whose_checksum_is_wrong_is_gathered_anew() -> None:
    cluster = behind()
    one, two, three = chunks(cluster)
    fields = {name: getattr(two, name) for name in two.__struct_fields__}
    other = InstallSnapshot(**fields | {"chunk": b"\1" + two.chunk[1:]})  # of another leader's, say
    assert received(cluster, one) and received(cluster, other)
    assert received(cluster, three) == 0 and cluster["c"].committed == 0
    assert [received(cluster, it) for it in (one, two, three)][-1] == three.size
    assert cluster.commands("c") == [BIG, b"x"]


def test_5_3_chunks_of_a_later_snapshot_replace_those_of_an_earlier() -> None:
    cluster = behind()
    received(cluster, chunk(cluster))
    later = InstallSnapshot(1, 9, 1, 0, ("a",), (), 0, 5, 0, 1, b"ab")
    assert received(cluster, later) == 2


def test_5_3_a_snapshot_too_large_is_not_gathered() -> None:
    cluster = behind()
    assert received(cluster, InstallSnapshot(1, 9, 1, 0, (), (), 0, SNAPSHOT_BYTES_MAX + 1, 0, 1, b"a")) == 0


def test_5_3_a_snapshot_of_an_earlier_term_is_refused() -> None:
    cluster = Cluster("abc", {"c": logged(1, term=3)})
    effects = cluster.hear("c", "a", InstallSnapshot(2, 9, 1, 0, ("a",), (), 0, 1, 0, 1, b"a"))
    assert [reply.term for reply in sent(effects, InstallSnapshotReply)] == [3]
    assert not persisted(effects, Snapshot) and cluster["c"].known_leader is None


@pytest.mark.parametrize(("terms", "kept"), [((1, 1, 1, 1, 1), [1, 1]), ((1, 1, 2, 2, 2), []), ((1,), [])])
def test_5_3_the_log_behind_a_snapshot_stays_only_if_it_goes_on_from_there(
    terms: tuple[int, ...], kept: list[int]
) -> None:
    cluster = Cluster("abc", {"c": logged(*terms, term=3)})
    tape = Tape()
    tape.commands = [entry.data for entry in entries(1, 1, 1)]
    data = tape.snapshot()
    checksum = zlib.crc32(data)
    install = InstallSnapshot(3, 3, 1, 3, ("a", "b", "c"), (), 0, len(data), checksum, 1, data)
    effects = cluster.hear("c", "a", install)
    assert cluster.terms("c") == kept and [e.term for e in cluster.saved["c"].entries] == kept
    assert cluster["c"].committed == 3 and cluster.commands("c") == tape.commands
    assert cluster["c"].log.first == cluster.saved["c"].first == 4
    assert in_order(effects, Snapshot, InstallSnapshotReply), "§3.8: durable before it is acknowledged"


def test_5_3_a_snapshot_of_what_is_known_already_takes_nothing_back() -> None:
    cluster = behind()
    cluster.propose("a", b"y")
    cluster.settle("a")
    old = InstallSnapshot(1, 3, 1, 0, ("c",), (), 0, 1, 0, 1, b"?")
    effects = cluster.hear("c", "a", old)
    assert not persisted(effects, Snapshot) and not persisted(effects, Append)
    assert sent(effects, InstallSnapshotReply)[0].received == old.size
    assert cluster.commands("c") == [BIG, b"x", b"y"] and cluster["c"].configuration == cluster.founders


def test_5_3_a_new_member_learns_the_configuration_from_the_snapshot() -> None:
    cluster = Cluster("abc", config=RaftConfig(trailing_entries=0), joining="c")
    cluster.elect("a", "ab")
    cluster["a"].add(cluster.now, cluster["c"].me)
    cluster.settle("a", "ab")
    cluster.perform("a", cluster["a"].cut())
    cluster.settle("a")
    cluster.settle("a")
    assert cluster["c"].configuration == cluster["a"].configuration == Configuration(("a", "b"), ("c",))
    assert cluster["c"].log.snapshot is not None


def test_5_a_slow_follower_is_served_from_the_entries_kept_behind_a_snapshot() -> None:
    cluster = Cluster("abc", config=RaftConfig(trailing_entries=10))
    cluster.elect("a", "ab")
    cluster.propose("a", b"x")
    cluster.settle("a", "ab")
    cluster.perform("a", cluster["a"].cut())
    cluster.take()
    cluster.beat("a")
    cluster.deliver("ac", AppendEntries)
    assert not cluster.take("ac", InstallSnapshot)
    cluster.settle("a")
    assert cluster.commands("c") == [b"x"] and cluster["c"].log.snapshot is None
