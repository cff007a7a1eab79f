"""The tracker's state machine: what each command does, what is refused, and that nothing depends on where it ran."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import JobId, NodeId
from zlb.core.limits import ENDED_JOBS_MAX
from zlb.core.timers import NEVER
from zlb.core.work import StopRule
from zlb.protocols import commands as r
from zlb.protocols import registry as module
from zlb.protocols.commands import Denied, Status
from zlb.protocols.heartbeats import Heartbeats
from zlb.protocols.registry import Registry, left


def submit(job: str = "j-1", key: str = "", **changes: Any) -> r.Submit:
    fields: dict[str, Any] = {
        "name": "",
        "kernel": "sha256",
        "params": b"p",
        "spans": ((0, 100), (200, 50)),
        "rule": StopRule.ALL,
        "hits_wanted": 0,
    }
    return r.Submit(job, key, **(fields | changes))


def told(registry: Registry, command: r.Command, time_ns: int = 5) -> Any:
    """The value, or the reason why not."""
    return r.unpack_result(registry.apply(time_ns, r.pack(command)))[1]


@pytest.fixture
def registry() -> Registry:
    """Two peers, one job, coordinated by the first in epoch 1."""
    made = Registry()
    told(made, r.Join("p-1", "tcp://127.0.0.1:7001", 2, 1), 1)
    told(made, r.Join("p-2", "", 4, 1), 2)
    told(made, submit(), 3)
    assert told(made, r.Assign("j-1", "p-1", 1), 4) == 1
    return made


def test_peers_join_once_and_leave(registry: Registry) -> None:
    assert told(registry, r.Join("p-1", "tcp://127.0.0.1:9", 8, 1), 50) == 1  # when it joined first
    assert registry.peers[NodeId("p-1")] == ("tcp://127.0.0.1:9", 8, 1, 1)
    assert told(registry, r.Leave(("p-1", "p-9"))) == ["p-1"]
    assert list(registry.peers) == ["p-2"]


def test_a_job_loses_its_coordinator_with_the_peer_and_keeps_its_epoch(registry: Registry) -> None:
    told(registry, r.Leave(("p-1",)))
    assert (registry.jobs["j-1"].coordinator, registry.jobs["j-1"].epoch) == ("", 1)
    assert told(registry, r.Assign("j-1", "p-2", 2)) == 2


def test_a_key_names_the_job_of_its_first_use(registry: Registry) -> None:
    assert told(registry, submit("j-2", "same")) == "j-2"
    assert told(registry, submit("j-3", "same")) == "j-2"
    assert list(registry.jobs) == ["j-1", "j-2"]
    assert told(registry, submit("j-2")) is Denied.JOB_EXISTS


def test_checkpoints_unite_and_may_be_repeated(registry: Registry) -> None:
    first = r.Checkpoint("j-1", 1, ((0, 30), (220, 5)), ((7, b"d"),), 40, 5)
    for _ in range(2):
        assert told(registry, first) is False
    assert told(registry, r.Checkpoint("j-1", 1, ((20, 20),), (), 60, 3)) is False  # no evidence is kept
    entry = registry.jobs["j-1"]
    assert (entry.done, entry.hits) == ([(0, 40), (220, 5)], {7: b"d"})
    assert (entry.tested, entry.recomputed) == (60, 5)
    assert left(entry) == [(40, 100), (200, 220), (225, 250)]


def test_a_late_copy_of_an_older_checkpoint_changes_nothing(registry: Registry) -> None:
    first = r.Checkpoint("j-1", 1, ((0, 30),), (), 30, 0, number=1)
    told(registry, first)
    told(registry, r.Checkpoint("j-1", 1, (), (), 30, 30, ((0, 30),), number=2))
    assert told(registry, first) is False and registry.jobs["j-1"].done == []
    told(registry, r.Assign("j-1", "p-2", 2))
    told(registry, r.Checkpoint("j-1", 2, ((0, 30),), (), 60, 30, number=1))  # they are numbered anew
    assert registry.jobs["j-1"].done == [(0, 30)]


# -- evidence


def row(
    start: int, stop: int, worker: str = "p-1", shares: tuple[int, ...] = (), at_ns: int = 0
) -> r.WireRow:
    return r.WireRow(start, stop - start, worker, (7, 1), shares, at_ns)


def searched(number: int, *rows: r.WireRow, undone: tuple[r.WireSpan, ...] = ()) -> r.Checkpoint:
    done = tuple((one.start, one.count) for one in rows)
    return r.Checkpoint("j-2", 1, done, (), 0, 0, undone, number, rows)


@pytest.fixture
def certified(registry: Registry) -> Registry:
    """Another job, which is to be certified, submitted at 10."""
    told(registry, submit("j-2", certified=True), 10)
    told(registry, r.Assign("j-2", "p-1", 1), 11)
    return registry


def kept(registry: Registry, job: str = "j-2") -> list[r.WireRow]:
    return [r.wire_row(one) for one in registry.evidence[JobId(job)].rows()]


def test_evidence_is_kept_of_jobs_that_are_to_be_certified_with_log_time(certified: Registry) -> None:
    told(certified, searched(1, row(0, 30, shares=(1, 9), at_ns=999)), 15)
    told(certified, searched(2, row(40, 50)), 17)
    assert kept(certified) == [row(0, 30, shares=(1, 9), at_ns=5), row(40, 50, at_ns=7)]
    told(certified, r.Checkpoint("j-1", 1, ((0, 30),), (), 0, 0, (), 1, (row(0, 30),)))
    assert certified.evidence.keys() == {"j-2"}


def test_evidence_is_about_what_is_done_and_wanted(certified: Registry) -> None:
    told(
        certified,
        r.Checkpoint("j-2", 1, ((90, 120),), (), 0, 0, (), 1, (row(80, 230, shares=(81, 97, 201)),)),
    )
    assert kept(certified) == [row(90, 100, shares=(97,), at_ns=0), row(200, 210, shares=(201,), at_ns=0)]


def test_evidence_of_what_is_undone_is_gone(certified: Registry) -> None:
    told(certified, searched(1, row(0, 30, shares=(1, 9, 25))), 10)
    told(certified, searched(2, undone=((5, 10),)), 10)
    assert kept(certified) == [row(0, 5, shares=(1,)), row(15, 30, shares=(25,))]


def test_evidence_that_comes_last_counts_whoever_was_first(certified: Registry) -> None:
    told(certified, searched(1, row(0, 30, "liar", (1,))), 10)
    told(certified, searched(2, row(10, 30, "honest", (17, 25))), 10)  # undone and done in one second
    assert kept(certified) == [row(0, 10, "liar", (1,)), row(10, 30, "honest", (17, 25))]
    told(certified, searched(1, row(0, 30, "liar", (1,))), 10)
    assert len(kept(certified)) == 2


def test_evidence_about_anything_but_what_is_done_is_left_out(certified: Registry) -> None:
    told(certified, searched(1, row(0, 30, "p-1", (1,))), 10)
    about = row(20, 60, "p-2"), row(50, 70, "p-2"), row(64, 80, "p-2", (65, 90, 70, 65, 3))
    told(certified, r.Checkpoint("j-2", 1, ((40, 35),), (), 0, 0, (), 2, about), 10)
    assert kept(certified) == [row(0, 30, shares=(1,)), row(40, 60, "p-2"), row(64, 75, "p-2", (65, 70))]


def test_evidence_above_the_lowest_hit_is_wanted_no_longer(registry: Registry) -> None:
    told(registry, submit("j-2", certified=True, rule=StopRule.LOWEST, hits_wanted=1), 10)
    told(registry, r.Assign("j-2", "p-1", 1), 10)
    told(registry, searched(1, row(0, 10), row(40, 60, shares=(41, 57))), 10)
    hit = ((44, b"d"),)
    told(registry, r.Checkpoint("j-2", 1, ((60, 20),), hit, 0, 0, (), 2, (row(60, 80),)), 10)
    assert kept(registry) == [row(0, 10), row(40, 45, shares=(41,))]


def test_evidence_of_the_oldest_jobs_goes_first(certified: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_BYTES_PER_TRACKER_MAX", 3 * 128)
    told(certified, searched(1, row(0, 1), row(2, 3)), 10)
    told(certified, submit("j-3", certified=True), 10)
    told(certified, r.Assign("j-3", "p-1", 1), 10)
    for number, expected in ((1, {"j-2", "j-3"}), (2, {"j-3"})):
        more = row(10 * number, 10 * number + 1)
        told(certified, r.Checkpoint("j-3", 1, ((more.start, 1),), (), 0, 0, (), number, (more,)), 10)
        assert certified.evidence.keys() == expected


def test_evidence_has_a_bound_and_then_there_is_none(
    certified: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_BYTES_PER_JOB_MAX", 3 * 128)
    told(certified, searched(1, *(row(n, n + 1) for n in (0, 2, 4))), 10)
    assert len(kept(certified)) == 3
    told(certified, searched(2, row(6, 7)), 10)
    assert not certified.evidence and len(certified.jobs["j-2"].done) == 4
    told(certified, searched(3, row(8, 9)), 10)
    assert len(certified.jobs["j-2"].done) == 5


def test_evidence_is_forgotten_with_its_job(certified: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDED_JOBS_MAX", 1)
    told(certified, submit("j-3"))
    for job in ("j-2", "j-3"):
        assert "j-2" in certified.evidence
        told(certified, r.Steer(job, Status.CANCELLED))
    assert not certified.evidence


def test_evidence_is_in_the_snapshot(certified: Registry) -> None:
    top = (1 << 64) - 10
    told(certified, submit("j-3", spans=((top, 9),), certified=True))
    told(certified, searched(1, row(0, 30, shares=(1, 9))))
    told(certified, r.Assign("j-3", "p-1", 1))
    word = r.WireRow(top, 9, "p-2", None, ())
    told(certified, r.Checkpoint("j-3", 1, ((top, 9),), (), 0, 0, (), 1, (word,)))
    again = Registry()
    again.restore(certified.snapshot())
    assert again.snapshot() == certified.snapshot() and kept(again) == kept(certified)
    assert kept(again, "j-3") == [word]


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_only_the_coordinator_of_the_epoch_has_a_say(registry: Registry, epoch: int) -> None:
    told(registry, r.Assign("j-1", "p-2", 2))
    before = registry.snapshot()
    assert told(registry, r.Checkpoint("j-1", epoch, ((0, 1),), (), 1, 0)) is Denied.STALE
    assert told(registry, r.Finish("j-1", epoch, Status.COMPLETE, "")) is Denied.STALE
    assert registry.snapshot() == before


def test_a_finished_job_stays_as_it_is(registry: Registry) -> None:
    finish = r.Finish("j-1", 1, Status.FOUND, "enough")
    for _ in range(2):
        assert told(registry, finish, 9) is None
    assert told(registry, r.Checkpoint("j-1", 1, ((0, 1),), (), 1, 0)) is Denied.ENDED
    assert told(registry, r.Assign("j-1", "p-2", 2)) is Denied.ENDED
    assert told(registry, r.Steer("j-1", Status.CANCELLED)) is Denied.ENDED
    entry = registry.jobs["j-1"]
    assert (entry.status, entry.detail, entry.ended_at) == (Status.FOUND, "enough", 9)


def test_people_pause_resume_and_cancel(registry: Registry) -> None:
    for status in (Status.PAUSED, Status.PAUSED, Status.RUNNING, Status.CANCELLED, Status.CANCELLED):
        assert told(registry, r.Steer("j-1", status)) is None
        assert registry.jobs["j-1"].status is status
    assert told(registry, r.Steer("j-1", Status.RUNNING)) is Denied.ENDED
    assert told(registry, r.Steer("j-9", Status.PAUSED)) is Denied.NO_SUCH_JOB


def test_nobody_but_a_coordinator_says_found(registry: Registry) -> None:
    assert told(registry, r.Steer("j-1", Status.FOUND)) is Denied.MALFORMED
    assert told(registry, r.Finish("j-1", 1, Status.PAUSED, "")) is Denied.MALFORMED


def test_jobs_fail_at_their_deadline_in_log_time(registry: Registry) -> None:
    told(registry, submit("j-2", within_ns=94), 6)
    told(registry, r.Join("p-3", "", 1, 1), 100)
    assert registry.jobs["j-2"].open
    told(registry, r.Join("p-3", "", 1, 1), 101)
    assert (registry.jobs["j-2"].status, registry.jobs["j-2"].ended_at) == (Status.FAILED, 101)


def test_assigning_to_strangers_is_refused(registry: Registry) -> None:
    assert told(registry, r.Assign("j-1", "p-9", 2)) is Denied.NO_SUCH_PEER
    assert told(registry, r.Assign("j-9", "p-1", 1)) is Denied.NO_SUCH_JOB


def test_the_history_has_an_end() -> None:
    registry = Registry()
    for number in range(ENDED_JOBS_MAX + 10):
        told(registry, submit(f"j-{number}", f"k-{number}"))
        told(registry, r.Steer(f"j-{number}", Status.CANCELLED))
    assert len(registry.jobs) == len(registry.keys) == ENDED_JOBS_MAX
    assert "j-9" not in registry.jobs
    assert "j-10" in registry.jobs


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_whatever_the_log_holds_is_answered(command: bytes) -> None:
    ok, value = r.unpack_result(Registry().apply(0, command))
    assert ok or value in list(Denied)


NAMES = st.sampled_from(["p-1", "p-2", "p-3"])
JOBS = st.sampled_from(["j-1", "j-2", "j-3"])
SPANS = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 20)), max_size=3).map(tuple)
COMMANDS = st.one_of(
    st.builds(
        r.Join, NAMES, st.sampled_from(["", "tcp://127.0.0.1:1"]), st.integers(0, 4), st.integers(0, 2)
    ),
    st.builds(r.Leave, st.lists(NAMES, max_size=2).map(tuple)),
    st.builds(submit, JOBS, st.sampled_from(["", "k"]), within_ns=st.sampled_from([0, 0, 20])),
    st.builds(r.Steer, JOBS, st.sampled_from(Status)),
    st.builds(r.Assign, JOBS, NAMES, st.integers(1, 3)),
    st.builds(r.Listen, NAMES, st.sampled_from(["", "tcp://127.0.0.1:2"])),
    st.builds(
        r.Checkpoint,
        JOBS,
        st.integers(0, 3),
        SPANS,
        st.just(((3, b"d"),)),
        st.integers(0, 99),
        st.integers(0, 9),
    ),
    st.builds(r.Finish, JOBS, st.integers(0, 3), st.sampled_from(Status), st.just("")),
)


@settings(max_examples=200)
@given(st.lists(COMMANDS, max_size=30), st.integers(0, 30))
def test_a_snapshot_is_all_there_is(commands: list[r.Command], cut: int) -> None:
    one, other = Registry(), Registry()
    for time_ns, command in enumerate(commands):
        if time_ns == cut:
            other.restore(one.snapshot())
        result = one.apply(time_ns, r.pack(command))
        if time_ns >= cut:
            assert other.apply(time_ns, r.pack(command)) == result
            assert other.snapshot() == one.snapshot()
    epochs = [entry.epoch for entry in one.jobs.values()]
    assert all(epoch >= 0 for epoch in epochs)


# --- heartbeats ----------------------------------------------------------------------------------------------------


def test_who_is_silent_for_a_lease_is_gone_and_a_new_leader_grants_one() -> None:
    beats = Heartbeats(lease_ns=10)
    assert beats.deadline() == NEVER
    beats.begin(100, [NodeId("b"), NodeId("a")])
    beats.beat(105, NodeId("a"))
    beats.beat(106, NodeId("c"))
    assert beats.deadline() == 110
    assert beats.silent(109) == []
    assert beats.silent(110) == ["b"]
    assert beats.silent(116) == ["b", "a", "c"]
    beats.forget(NodeId("b"))
    beats.forget(NodeId("b"))
    assert beats.deadline() == 115


# --- epochs, incarnations, trackers, versions ------------------------------------------------------------------------


def test_assigning_takes_the_next_epoch_and_no_other(registry: Registry) -> None:
    for epoch in (0, 1, 3):
        assert told(registry, r.Assign("j-1", "p-2", epoch)) is Denied.STALE
    assert told(registry, r.Assign("j-1", "p-2", 2)) == 2


def test_a_restarted_peer_coordinates_nothing_any_more_and_one_that_moved_does(registry: Registry) -> None:
    told(registry, r.Join("p-1", "tcp://127.0.0.1:9", 2, 1))
    assert registry.jobs["j-1"].coordinator == "p-1"  # type: ignore[index]
    told(registry, r.Join("p-1", "tcp://127.0.0.1:9", 2, 2))
    assert (registry.jobs["j-1"].coordinator, registry.jobs["j-1"].epoch) == ("", 1)  # type: ignore[index]


def test_a_late_word_of_a_process_that_is_gone_changes_nothing(registry: Registry) -> None:
    told(registry, r.Join("p-1", "tcp://127.0.0.1:9", 2, 5))
    before = registry.snapshot()
    assert told(registry, r.Join("p-1", "tcp://127.0.0.1:1", 9, 4)) == 1
    assert registry.snapshot() == before


def test_a_coordinator_that_left_has_no_say_though_nobody_took_over(registry: Registry) -> None:
    told(registry, r.Leave(("p-1",)))
    assert told(registry, r.Checkpoint("j-1", 1, ((0, 1),), (), 1, 0)) is Denied.STALE
    assert told(registry, r.Finish("j-1", 1, Status.COMPLETE, "")) is Denied.STALE


def test_trackers_are_listed_where_they_listened_last_until_they_are_none(registry: Registry) -> None:
    told(registry, r.Listen("t-1", "tcp://127.0.0.1:1"))
    told(registry, r.Listen("t-2", "tcp://127.0.0.1:2"))
    told(registry, r.Listen("t-1", "tcp://127.0.0.1:3"))
    assert registry.trackers == {"t-2": "tcp://127.0.0.1:2", "t-1": "tcp://127.0.0.1:3"}
    told(registry, r.Listen("t-2", ""))
    told(registry, r.Listen("t-9", ""))
    assert registry.trackers == {"t-1": "tcp://127.0.0.1:3"}


@pytest.mark.parametrize(
    "command",
    [
        r.Listen("t-1", "tcp://127.0.0.1:1"),
        r.Leave(("p-1",)),
        r.Join("p-1", "tcp://127.0.0.1:7001", 2, 2),
        r.Join("p-1", "tcp://127.0.0.1:9", 2, 1),
        submit("j-2"),
        r.Steer("j-1", Status.PAUSED),
        r.Steer("j-1", Status.CANCELLED),
        r.Prioritise("j-1", 9),
        r.Assign("j-1", "p-2", 2),
        r.Finish("j-1", 1, Status.COMPLETE, ""),
    ],
    ids=lambda command: type(command).__name__,
)
def test_the_version_grows_with_what_a_roster_tells(registry: Registry, command: r.Command) -> None:
    before = registry.version
    told(registry, command)
    assert registry.version > before


@pytest.mark.parametrize(
    "command",
    [
        r.Checkpoint("j-1", 1, ((0, 9),), (), 9, 0),
        r.Join("p-3", "", 1, 1),
        r.Join("p-1", "tcp://127.0.0.1:7001", 8, 1),
        r.Leave(("p-2",)),
        r.Assign("j-1", "p-9", 2),
        r.Steer("j-9", Status.PAUSED),
    ],
    ids=lambda command: type(command).__name__,
)
def test_the_version_stays_while_a_roster_would_tell_the_same(registry: Registry, command: r.Command) -> None:
    before = registry.version
    told(registry, command)
    assert registry.version == before


def test_people_change_the_priority_of_open_jobs_only(registry: Registry) -> None:
    assert told(registry, r.Prioritise("j-1", 9)) is None and registry.jobs["j-1"].priority == 9  # type: ignore[index]
    told(registry, r.Steer("j-1", Status.CANCELLED))
    assert told(registry, r.Prioritise("j-1", 1)) is Denied.ENDED
    assert told(registry, r.Prioritise("j-9", 1)) is Denied.NO_SUCH_JOB
    assert told(registry, r.Prioritise("j-1", 10)) is Denied.MALFORMED


def test_a_job_has_no_more_hits_than_its_bound(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HITS_PER_JOB_MAX", 2)
    two = ((1, b"a"), (2, b"b"))
    assert told(registry, r.Checkpoint("j-1", 1, (), two, 1, 0)) is False
    assert told(registry, r.Checkpoint("j-1", 1, (), two, 1, 0)) is False  # repeated
    before = registry.snapshot()
    assert told(registry, r.Checkpoint("j-1", 1, ((0, 9),), ((3, b"c"),), 9, 0)) is Denied.TOO_MANY_HITS
    assert registry.snapshot() == before


def test_there_are_no_more_open_jobs_than_their_bound(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_JOBS_MAX", 2)
    assert told(registry, submit("j-2", "k")) == "j-2"
    assert told(registry, submit("j-3")) is Denied.TOO_MANY_JOBS
    assert told(registry, submit("j-3", "k")) == "j-2"  # it is there already
    told(registry, r.Steer("j-1", Status.CANCELLED))
    assert told(registry, submit("j-3")) == "j-3"
