"""The end of passing work on: cheats are dismissed, jobs end, parents vanish, and nobody works for itself."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.test_redistribution import (
    EVERY_8TH,
    HALF,
    Bench,
    C,
    D,
    J,
    K,
    L,
    W,
    acks,
    bench,
    part,
    spans,
)
from zlb.core.config import WorkerConfig
from zlb.core.ids import NodeId
from zlb.core.limits import MS, SECOND
from zlb.protocols.checkpoints import Received
from zlb.protocols.worker import Worker
from zlb.wire.messages import (
    Done,
    Grant,
    JobClosed,
    Part,
    Reported,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)


def dismissed(it: Bench, sent: list[tuple[str, object]], why: str, child: NodeId = K) -> bool:
    told = [message for to, message in sent if to == child]
    return (
        f"{child} gets no more of job j from us: {why}" in it.notices
        and told == [JobClosed("j", f"for you: you {why}")]
        and not acks(sent)
    )


# -- cheats


def test_a_forged_hit_is_found() -> None:
    it = bench()
    (grant,) = it.ask().leases
    sent = it.tell(part(grant, 1020))
    assert dismissed(it, sent, "reported a hit that is none")
    assert it.todo == [(200, 1000), (1000, 2000)], "what it held is ours again"


def test_a_hit_with_another_digest_is_forged() -> None:
    it = bench()
    (grant,) = it.ask().leases
    lie = Part(grant.lease, True, (Done(1000, 50),), (Reported(1010, b"other"),), MS, "")
    assert dismissed(it, it.tell(lie), "reported a hit that is none")


def test_a_forged_sample_is_found() -> None:
    it = bench(EVERY_8TH)
    (grant,) = it.ask().leases
    it.tell(part(grant, samples=((1003, 1004),)))
    assert "k gets no more of job j from us" in it.notices[-1] and it.todo[-1] == (1000, 2000)


def test_missing_shares_are_found() -> None:
    it = bench(HALF)
    (grant,) = it.ask(rate=10_000.0).leases
    assert grant.count > 100
    it.tell(part(grant, samples=((1001, 1003),)))
    assert "too few shares" in it.notices[-1] and it.todo[-1] == (1000, 2000)


def test_samples_of_too_few_patterns_are_found() -> None:
    it = bench(EVERY_8TH, HALF)
    (grant,) = it.ask().leases
    it.tell(part(grant, samples=((1003,),)))
    assert "k gets no more of job j from us" in it.notices[-1]


@pytest.mark.parametrize("done", [Done(900, 50), Done(1040, 20), Done(0, 5000)])
def test_what_was_not_given_cannot_be_done(done: Done) -> None:
    it = bench()
    (grant,) = it.ask().leases
    sent = it.tell(Part(grant.lease, False, (done,), (), MS, ""))
    assert dismissed(it, sent, "reported what it was not given")


def test_what_another_was_given_cannot_be_done() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.ask(L)
    assert dismissed(it, it.tell(part(grant), child=L), "reported what another was given", L)
    assert acks(it.tell(part(grant), sequence=7)) == [("k", 7, False)], "whose it is has done nothing wrong"


@pytest.mark.parametrize("hit", [Reported(5010, b"d"), Reported(1010, b"d")])
def test_hits_of_what_was_searched_for_others_are_checked_too(hit: Reported) -> None:
    # Else we were accused by whoever is above us: of a hit that is none, and of one in integers that are not told of.
    it = bench()
    sent = it.tell(Part(0, False, (Done(5000, 100),), (hit,), 0, ""))
    assert dismissed(it, sent, "reported a hit that is none")
    assert not it.core._jobs[J].orphans


def test_whoever_was_dismissed_gets_nothing_more_nor_is_heard() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, 1020))
    closed = [("k", JobClosed("j", "for you: you are not believed"))]
    for incarnation in (1, 2):  # nor when it is started anew, or was lost in between
        request = TaskRequest("j", incarnation, 900 + incarnation, 1, 1000.0, False)
        assert it.do(it.core.on_child(it.now, K, request)) == closed
        it.do(it.core.on_lost(K))
    gone = Part(0, False, (Done(5000, 100),), (), 0, "")
    assert it.tell(part(grant)) == closed == it.tell(gone)
    assert not it.core._jobs[J].orphans and not it.core._jobs[J].receipts


def test_what_a_cheat_reported_before_in_the_same_report_is_judged_above() -> None:
    it = bench()
    one, two = it.ask(want=2).leases
    it.tell(part(one, 1010), part(two, 1060))
    assert it.todo[-1] == (1050, 2000)
    assert spans(it.up()) == [(2, 1000, 1050)]


# -- ends


def test_what_need_not_be_kept_any_more_is_told_with_the_next_report() -> None:
    it = bench()
    before = it.core._jobs[J].receive(Received(L, 1, 55))
    assert before is not None
    before.complete = True
    (grant,) = it.ask().leases
    assert acks(it.tell(part(grant, count=0), sequence=7)) == [("l", 55, True), ("k", 7, True)]


def test_if_the_job_is_over_all_below_hear_of_it() -> None:
    it = bench()
    it.ask()
    sent = it.do(it.core.on_job_closed(it.now, C, JobClosed("j", "found")))
    assert sent == [("k", JobClosed("j", "over"))]
    assert it.core.redistribution.slots(J) == 0 and not it.core.redistribution._sublets
    it.published.clear()
    it.tick(5 * SECOND)
    assert it.published == []


def test_if_only_we_have_nothing_to_do_with_it_any_more_they_hear_nothing() -> None:
    it = bench()
    it.ask()
    assert it.do(it.core.on_goodbye(it.now, C)) == []
    assert it.core.jobs == [] and not it.core.redistribution._sublets
    assert it.core.on_child(it.now, K, TaskReport("j", 1, 1, ())) is None


def test_whoever_leaves_takes_back_what_it_passed_on_and_gives_it_back() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, count=20))
    sent = it.do(it.core.on_stop(it.now))
    assert ("k", TaskCancel("j", (grant.lease,))) in sent
    for run_id in list(it.out):
        it.finish(run_id)
    reports = [m for _, m in it.tick(50 * MS) if isinstance(m, TaskReport)]
    assert (2, 1000, 1020) in [span for report in reports for span in spans(report)]
    for report in reports:
        it.ack(report)
    reports += [m for _, m in it.tick(SECOND) if isinstance(m, TaskReport)]
    assert {p.lease for m in reports for p in m.parts if p.ended} == {1, 2} and it.todo == []


def test_while_the_owner_needs_the_machine_children_finish_what_they_have() -> None:
    it = bench()
    (grant,) = it.ask().leases
    sent = it.do(it.core.on_rest(it.now))
    assert not any(isinstance(message, TaskCancel) for _, message in sent)
    it.tell(part(grant))
    told = [span for _, m in it.tick(50 * MS) if isinstance(m, TaskReport) for span in spans(m)]
    assert (2, 1000, 1050) in told
    assert it.ask().leases == ()


# -- parents that vanish


def child() -> Bench:
    """A child of d, which has the job from c, with a lease of which [0, 100) is finished and reported."""
    it = Bench()
    it.hear("d", ("c",))
    it.tick()
    request = it.core._jobs[J].request
    assert request is not None
    transfer = TaskTransfer("j", request.message.sequence, (Grant(0, 1000, 5),), it.spec)
    it.do(it.core.on_task_transfer(0, D, transfer))
    it.finish(0)
    it.tick(1500 * MS)
    return it


def turned_to(it: Bench, node: str) -> list[TaskReport]:
    return [m for to, m in it.tick() if isinstance(m, TaskReport) and to == node]


@pytest.mark.parametrize("how", ["lost", "goodbye", "silence"])
def test_an_orphan_hands_what_it_finished_to_whoever_else_passes_the_job_on(how: str) -> None:
    it = child()
    match how:
        case "lost":
            it.do(it.core.on_lost(D))
        case "goodbye":
            it.do(it.core.on_goodbye(it.now, D))
        case "silence":
            it.tick(11 * SECOND)
    assert it.core.jobs == ["j"]
    it.hear("l", ("c",))
    assert it.core._jobs[J].coordinator == L
    (report,) = turned_to(it, "l")
    assert spans(report) == [(0, 0, 100)]


def test_before_it_is_one_it_stays_with_its_parent() -> None:
    it = child()
    it.hear("l", ("c",))
    assert it.core._jobs[J].coordinator == D


def test_what_an_orphan_is_still_searching_is_handed_over_too() -> None:
    it = child()
    it.do(it.core.on_lost(D))
    it.hear("l", ("c",))
    (first,) = turned_to(it, "l")
    it.ack(first, src=L)
    it.finish(1)
    (second,) = turned_to(it, "l")
    assert spans(second) == [(0, 100, 200)]


def test_an_orphan_that_finds_nobody_lets_go() -> None:
    it = child()
    it.do(it.core.on_lost(D))
    it.tick(21 * SECOND)
    assert it.core.jobs == [] and "nobody else passes it on" in it.notices[-1]


def test_a_parent_that_was_only_away_is_gone_on_with() -> None:
    it = child()
    it.do(it.core.on_lost(D))
    it.hear("d", ("c",))
    job = it.core._jobs[J]
    assert job.coordinator == D and not job.silent and job.leases


# -- no circles


def test_nobody_takes_a_job_from_its_own_descendant() -> None:
    it = Bench()
    it.hear("d", ("c", "w", "k"))
    assert it.core.jobs == []
    it = child()
    it.do(it.core.on_lost(D))
    it.hear("l", ("c", "w"))
    assert it.core._jobs[J].coordinator == D


def test_nobody_works_for_itself() -> None:
    # It is silent from the moment on in which its last advert comes to its own ears.
    it = child()
    it.do(it.core.on_lost(D))
    it.hear("w", ("c", "d"))
    assert it.core._jobs[J].coordinator == D


def test_whoever_is_above_us_gets_nothing_from_us() -> None:
    it = child()
    for above in (C, D):
        assert it.do(it.core.on_child(it.now, above, TaskRequest("j", 1, 1, 1, 1000.0, False))) == []
    assert it.core.redistribution.slots(J) == 0


def test_two_orphans_that_took_each_other_let_go() -> None:
    it = child()
    it.do(it.core.on_lost(D))
    it.hear("l", ("c",))  # which has turned to us meanwhile
    assert it.core._jobs[J].coordinator == L
    it.published.clear()
    it.hear("l", ("c", "d", "w"))
    it.tick(SECOND)
    assert it.core._jobs[J].silent and not it.published
    it.hear("k", ("c",))
    assert it.core._jobs[J].coordinator == K


def test_an_idle_child_moves_up_and_a_busy_one_does_not() -> None:
    it = child()
    it.hear("c")
    assert it.core._jobs[J].coordinator == D
    idle = Bench()
    idle.hear("d", ("c", "k"), 0)
    idle.hear("l", ("c", "k"), 0)
    assert idle.core._jobs[J].coordinator == D
    idle.hear("c", (), 0)
    assert idle.core._jobs[J].coordinator == C


def test_nothing_is_published_to_those_only_from_whom_we_have_it() -> None:
    it = Bench()
    it.core.on_lost(K)
    it.core.on_neighbour(0, NodeId("c"))
    it.hold(Grant(0, 10_000, 1))
    it.tick(4 * SECOND)
    assert not it.published


@pytest.mark.parametrize("blocks", [0, 4])
def test_a_report_without_its_samples_is_not_taken_where_nothing_can_be_checked(blocks: int) -> None:
    it = Bench()
    it.core = Worker(W, 1, WorkerConfig(slots=1), itertools.count())  # its kernel is not installed here
    it.core.rates["k"] = 1000.0
    it.core.on_neighbour(0, K)
    it.hold(Grant(0, 1000, 1, (EVERY_8TH, HALF), blocks), Grant(1000, 1000, 2, (EVERY_8TH, HALF), blocks))
    (grant,) = it.ask().leases
    sent = it.tell(Part(grant.lease, True, (Done(grant.start, grant.count),), (), MS, ""))
    assert [message for to, message in sent if to == K] == [
        JobClosed("j", "for you: you reported samples of 0 patterns, not of 2")
    ]
    it.tick(2 * SECOND)
