"""What can be asked of a tracker, and its answers: each sentence of `zlb.protocols.queries` is one test."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.core.limits import HITS_PER_REPORT_MAX
from zlb.core.work import StopRule
from zlb.protocols import commands as c
from zlb.protocols import queries as q
from zlb.protocols.commands import Denied, Status
from zlb.protocols.registry import Registry

AT = "tcp://127.0.0.1:1"


def submit(job: str = "j", **changes: Any) -> c.Submit:
    fields: dict[str, Any] = {
        "key": "",
        "name": "a name",
        "kernel": "sha256",
        "params": b"p",
        "spans": ((0, 100), (200, 50)),
        "rule": StopRule.ALL,
        "hits_wanted": 0,
    }
    return c.Submit(job, **(fields | changes))


def grown(*commands: c.Command, at: int = 10) -> Registry:
    """Two peers and what the commands make of them, one a nanosecond."""
    registry = Registry()
    every = (c.Join("p1", AT, 2, 1), c.Join("p2", "", 4, 1), *commands)
    for time_ns, command in enumerate(every, at):
        ok, why = c.unpack_result(registry.apply(time_ns, c.pack(command)))
        assert ok, why
    return registry


def told(registry: Registry, query: q.Query, kind: Any) -> Any:
    return q.read(q.answer(registry, q.ask(query)), kind)


def line(registry: Registry, job: str = "j") -> q.JobLine:
    view = told(registry, q.WatchJob(job, 0), q.JobView)
    assert isinstance(view, q.JobView)
    return view.line


def test_jobs_are_listed_oldest_first_ended_ones_too() -> None:
    registry = grown(submit("b"), submit("a"), submit("c"), c.Steer("b", Status.CANCELLED))
    lines = told(registry, q.ListJobs(), list[q.JobLine])
    assert [one.job for one in lines] == ["b", "a", "c"]
    assert [one.status for one in lines] == [Status.CANCELLED, Status.RUNNING, Status.RUNNING]


def test_a_job_in_short_says_what_it_is_and_how_far() -> None:
    registry = grown(
        submit(priority=7, submitted_wall_ns=99),
        c.Assign("j", "p1", 1),
        c.Checkpoint("j", 1, ((0, 30),), ((7, b"d"), (8, b"e")), 40, 5),
        c.Join("p3", "", 1, 1),
    )
    assert line(registry) == q.JobLine(
        "j", "a name", "sha256", Status.RUNNING, "", 7, "p1", 1, 150, 30, 2, 40, 5, 3, 99
    )


def test_elapsed_stands_still_when_the_job_has_ended() -> None:
    end = c.Finish("j", 1, Status.COMPLETE, "so")
    registry = grown(submit(), c.Assign("j", "p1", 1), end, c.Join("p3", "", 1, 1))
    ended = line(registry)
    assert (ended.elapsed_ns, ended.status, ended.detail, ended.coordinator) == (2, Status.COMPLETE, "so", "")


def test_hits_are_told_from_a_position_on_as_they_came() -> None:
    first = c.Checkpoint("j", 1, (), ((9, b"9"), (4, b"4")), 1, 0)
    second = c.Checkpoint("j", 1, (), ((1, b"1"), (9, b"9")), 1, 0)
    registry = grown(submit(), c.Assign("j", "p1", 1), first, second)
    for position, ns in ((0, [9, 4, 1]), (1, [4, 1]), (3, []), (99, [])):
        view = told(registry, q.WatchJob("j", position), q.JobView)
        assert [n for n, _ in view.hits] == ns and view.line.hits == 3


def test_hits_of_one_answer_are_bounded() -> None:
    registry = grown(submit(), c.Assign("j", "p1", 1))
    registry.jobs["j"].hits = dict.fromkeys(range(HITS_PER_REPORT_MAX + 5), b"")  # type: ignore[index]
    assert len(told(registry, q.WatchJob("j", 0), q.JobView).hits) == HITS_PER_REPORT_MAX
    assert len(told(registry, q.WatchJob("j", HITS_PER_REPORT_MAX), q.JobView).hits) == 5


def test_the_lowest_hit_is_no_result_until_it_is_proven() -> None:
    registry = grown(
        submit(rule=StopRule.LOWEST, hits_wanted=1),
        c.Assign("j", "p1", 1),
        c.Checkpoint("j", 1, ((40, 20),), ((50, b"a"), (41, b"b")), 20, 0),
    )
    assert told(registry, q.WatchJob("j", 0), q.JobView).hits == () and line(registry).hits == 0
    registry.apply(20, c.pack(c.Finish("j", 1, Status.FOUND, "")))
    assert told(registry, q.WatchJob("j", 0), q.JobView).hits == ((41, b"b"),) and line(registry).hits == 1


def test_the_lowest_hit_of_a_cancelled_job_is_no_result() -> None:
    registry = grown(
        submit(rule=StopRule.LOWEST, hits_wanted=1),
        c.Assign("j", "p1", 1),
        c.Checkpoint("j", 1, ((40, 20),), ((50, b"a"),), 20, 0),
        c.Steer("j", Status.CANCELLED),
    )
    assert line(registry).hits == 0


def test_peers_are_told_with_the_open_jobs_they_coordinate() -> None:
    jobs = (submit("a"), submit("b"), submit("c"), submit("d"))
    assigned = (c.Assign("a", "p1", 1), c.Assign("b", "p1", 1), c.Assign("c", "p2", 1))
    registry = grown(*jobs, *assigned, c.Steer("a", Status.CANCELLED))
    now = registry.time_ns
    assert told(registry, q.ListPeers(), list[q.PeerLine]) == [
        q.PeerLine("p1", AT, 2, now - 10, ("b",)),
        q.PeerLine("p2", "", 4, now - 11, ("c",)),
    ]


def test_a_coordinator_is_told_all_it_needs_to_go_on() -> None:
    spec = submit(priority=3)
    registry = grown(
        spec,
        c.Assign("j", "p1", 1),
        c.Checkpoint("j", 1, ((0, 30), (220, 5)), ((7, b"d"), (3, b"c")), 40, 5),
        c.Steer("j", Status.PAUSED),
        c.Prioritise("j", 8),
    )
    resumption = told(registry, q.ResumeJob("j", 1), q.Resumption)
    done = ((0, 30), (220, 5))
    assert resumption == q.Resumption(spec, 8, Status.PAUSED, done, 2, (3, b"c"), 40, 5)


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_coordinator_of_another_epoch_is_told_nothing(epoch: int) -> None:
    registry = grown(submit(), c.Assign("j", "p1", 1), c.Assign("j", "p2", 2))
    assert told(registry, q.ResumeJob("j", epoch), q.Resumption) is Denied.STALE


@pytest.mark.parametrize("query", [q.WatchJob("x", 0), q.ResumeJob("x", 1), q.DescribeJob("x")])
def test_of_a_job_that_is_not_there_nothing_is_told(query: q.Query) -> None:
    assert told(grown(submit()), query, q.JobView) is Denied.NO_SUCH_JOB


@given(st.binary(max_size=60))
def test_whatever_is_asked_is_answered_and_changes_nothing(query: bytes) -> None:
    registry = grown(submit())
    before = registry.snapshot()
    ok, value = c.unpack_result(q.answer(registry, query))
    assert ok or value in list(Denied)
    assert registry.snapshot() == before


def test_a_query_nested_beyond_reason_is_malformed() -> None:
    assert c.unpack_result(q.answer(grown(), b"\x91" * 100_000)) == (False, Denied.MALFORMED)


TOP = (1 << 64) - 1


@pytest.mark.parametrize(
    "spans",
    [
        ((0, TOP), (0, TOP)),
        ((5, 5), (0, 5)),
        ((0, 5), (4, 5)),
        ((TOP, 2),),
        ((0, TOP), (TOP, 1)),
    ],
    ids=["twice", "not sorted", "overlapping", "beyond the integers", "more than can be told"],
)
def test_a_job_over_integers_that_nobody_can_search_or_tell_is_not_taken(
    spans: tuple[tuple[int, int], ...],
) -> None:
    registry = grown()
    _, why = c.unpack_result(registry.apply(20, c.pack(submit(spans=spans))))
    assert why is Denied.MALFORMED and told(registry, q.ListJobs(), list[q.JobLine]) == []


def test_a_job_over_the_largest_range_can_be_told_of() -> None:
    registry = grown(
        submit(spans=((0, TOP),)), c.Assign("j", "p1", 1), c.Checkpoint("j", 1, ((0, TOP),), (), TOP, TOP)
    )
    assert (line(registry).size, line(registry).done) == (TOP, TOP)


def test_what_a_checkpoint_says_beyond_its_job_is_of_no_account() -> None:
    wild = c.Checkpoint("j", 1, ((90, 1000), (TOP, TOP), (0, TOP)), (), 1, 0)
    registry = grown(submit(), c.Assign("j", "p1", 1), wild)
    assert line(registry).done == line(registry).size == 150
    Registry().restore(registry.snapshot())


# -- evidence


def row(n: int, shares: int = 0) -> c.WireRow:
    return c.WireRow(10 * n, 5, "p1", (7, 1), tuple(range(10 * n, 10 * n + shares)), 0)


def evidenced(*rows: c.WireRow) -> Registry:
    done = tuple((one.start, one.count) for one in rows)
    job = submit(spans=((0, 1 << 40),), certified=True)
    return grown(job, c.Assign("j", "p1", 1), c.Checkpoint("j", 1, done, (), 0, 0, (), 1, rows))


def test_evidence_comes_in_pages_of_which_each_fits_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q, "ROWS_BYTES_MAX", 3 * 128)
    registry, got = evidenced(*map(row, range(8))), list[c.WireRow]()
    while len(got) < 8:
        found = told(registry, q.ReadEvidence("j", len(got)), q.Evidenced)
        assert found.count == 8 and found.coordinator == "p1" and 0 < len(found.rows) <= 3
        got += found.rows
    assert [(one.start, one.count) for one in got] == [(10 * n, 5) for n in range(8)]
    assert told(registry, q.ReadEvidence("j", 8), q.Evidenced).rows == ()


def test_one_row_comes_though_it_is_longer_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q, "ROWS_BYTES_MAX", 100)
    assert len(told(evidenced(row(0, 5), row(1)), q.ReadEvidence("j", 0), q.Evidenced).rows) == 1


def test_there_is_no_evidence_of_other_jobs_or_if_there_was_too_much() -> None:
    assert told(grown(submit()), q.ReadEvidence("j", 0), q.Evidenced) is Denied.NO_EVIDENCE
    assert told(grown(submit()), q.ReadEvidence("x", 0), q.Evidenced) is Denied.NO_SUCH_JOB
    registry = evidenced(row(0))
    registry.evidence.clear()
    assert told(registry, q.ReadEvidence("j", 0), q.Evidenced) is Denied.TOO_MUCH_EVIDENCE


def test_who_coordinated_last_is_told_though_it_has_left() -> None:
    registry = evidenced(row(0))
    registry.apply(50, c.pack(c.Leave(("p1",))))
    assert told(registry, q.ReadEvidence("j", 0), q.Evidenced).coordinator == "p1"
