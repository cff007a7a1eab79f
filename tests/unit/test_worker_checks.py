"""The worker's part in checks and in the end of a job: samples, commitments, giving back, resting, far coordinators."""

import itertools
import random

import pytest

from tests.unit.test_worker import Bench as Plain
from tests.unit.test_worker import C
from zlb.core.config import WorkerConfig
from zlb.core.ids import NodeId, RunId
from zlb.core.limits import COMMITMENTS_MAX, MS, SAMPLES_PER_PART_MAX, SECOND
from zlb.core.work import Failed, Hit, Pattern, Searched
from zlb.protocols.holdings import RTTS
from zlb.protocols.merkle import Commitment, opens
from zlb.protocols.worker import Worker
from zlb.wire.codec import encode
from zlb.wire.messages import (
    Done,
    Grant,
    JobClosed,
    Part,
    Sampled,
    TaskAck,
    TaskProof,
    TaskProve,
    TaskReport,
    TaskRequest,
    TaskShrink,
)

ODD, FOURTH = Sampled(1, 1), Sampled(3, 2)
PATTERNS = (ODD, FOURTH)


def samples(pattern: Sampled | Pattern, start: int, stop: int) -> tuple[int, ...]:
    return tuple(n for n in range(start, stop) if n & pattern.mask == pattern.value)


class Bench(Plain):
    """A worker whose kernel takes samples: the word of an integer is the integer itself."""

    def finish(self, run_id: int, *hits: int, stopped_at: int | None = None, outcome: object = None) -> None:  # type: ignore[override]
        search = self.out[RunId(run_id)]
        stop = search.stop if stopped_at is None else stopped_at
        found = tuple(Hit(n, b"d") for n in hits)
        told = tuple(samples(pattern, search.start, stop) for pattern in search.patterns)
        done = Searched(stop, found, (stop - search.start) * MS, told)
        super().finish(run_id, outcome=outcome or done)  # type: ignore[arg-type]

    def finish_all(self, rng: random.Random | None = None) -> None:
        """In any order."""
        while self.out:
            self.finish(sorted(self.out)[rng.randrange(len(self.out)) if rng else 0])

    def parts(self) -> list[Part]:
        return [part for message in self.tick() if isinstance(message, TaskReport) for part in message.parts]

    def shrink(self, lease: int, stop: int) -> None:
        self.do(self.core.on_task_shrink(self.now, C, TaskShrink("j", lease, stop)))

    def prove(self, lease: int, block: int, src: NodeId = C, job: str = "j") -> list[TaskProof]:
        messages = self.do(self.core.on_task_prove(self.now, src, TaskProve(job, lease, block)))
        return [message for message in messages if isinstance(message, TaskProof)]

    def all_reports(self) -> list[Part]:
        """Report, and have each report acknowledged, until nothing is left to say."""
        parts: list[Part] = []
        for _ in range(20):
            reports = [message for message in self.tick() if isinstance(message, TaskReport)]
            for report in reports:
                parts += report.parts
                self.ack(report)
        return parts


def done(parts: list[Part]) -> list[tuple[int, int]]:
    return sorted(one.span for part in parts for one in part.done)


def returned(parts: list[Part]) -> list[tuple[int, int]]:
    return sorted(one.span for part in parts for one in part.returned)


# -- samples


def test_task_report_has_all_samples_of_what_is_done_ascending_by_pattern() -> None:
    bench = Bench(rate=2e4)
    bench.lease(Grant(0, 6000, 1, PATTERNS))
    assert [run.patterns for run in bench.out.values()] == [(Pattern(1, 1), Pattern(3, 2))] * 2
    bench.finish(1)
    bench.finish(0)
    bench.finish_all(random.Random(1))
    (part,) = bench.report().parts
    assert part.samples == tuple(samples(pattern, 0, 6000) for pattern in PATTERNS) and not part.root


def test_task_report_a_part_without_integers_has_no_samples() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1, PATTERNS))
    bench.tick(SECOND)
    (part,) = [part for m in bench.sent if isinstance(m, TaskReport) for part in m.parts]
    assert (part.done, part.samples) == ((), ())


def test_short_leases_with_the_same_patterns_share_a_run_and_each_gets_its_samples() -> None:
    bench = Bench()
    bench.lease(Grant(0, 6, 1, PATTERNS), Grant(6, 6, 2, PATTERNS))
    ((run_id, run),) = bench.out.items()
    assert (run.start, run.stop) == (0, 12)
    bench.finish(run_id)
    assert [part.samples for part in bench.report().parts] == [
        ((1, 3, 5), (2,)),
        ((7, 9, 11), (6, 10)),
    ]


def test_short_leases_with_other_patterns_do_not_share_a_run() -> None:
    bench = Bench()
    bench.lease(Grant(0, 6, 1, PATTERNS), Grant(6, 6, 2, (ODD,)))
    assert [(run.start, run.stop) for run in bench.out.values()] == [(0, 6), (6, 12)]


def test_of_a_run_that_was_cut_short_samples_are_told_once() -> None:
    bench = Bench()
    bench.lease(Grant(0, 6, 1, PATTERNS), Grant(6, 6, 2, PATTERNS))
    bench.finish(0, stopped_at=8)
    bench.finish_all()
    told = [n for part in bench.all_reports() for n in (part.samples[0] if part.samples else ())]
    assert sorted(told) == list(samples(ODD, 0, 12))


def test_a_lease_of_which_more_samples_are_asked_than_a_report_holds_is_refused() -> None:
    bench = Bench()
    bench.lease(Grant(0, 2 * SAMPLES_PER_PART_MAX, 1, (ODD,)))
    assert not bench.out
    (part,) = bench.report().parts
    assert part.ended and "more samples" in part.error and not part.done


# -- commitments


@pytest.mark.parametrize("seed", range(5))
def test_the_commitment_is_to_the_whole_lease_whatever_the_order_of_its_slices(seed: int) -> None:
    bench = Bench(rate=1000.0, slots=3)
    bench.lease(Grant(7, 1000, 1, PATTERNS, 16))
    rng = random.Random(seed)
    parts: list[Part] = []
    while bench.out:
        bench.finish(rng.choice(sorted(bench.out)))
        if rng.random() < 0.3:
            bench.now += SECOND
            parts += bench.all_reports()
    parts += bench.all_reports()
    (root,) = [part.root for part in parts if part.root]
    assert [part.ended for part in parts if part.root] == [True]
    assert root == Commitment((7, 1007), 16, samples(FOURTH, 7, 1007)).root
    assert all(len(part.samples) == 1 for part in parts if part.done), "what is committed to is not told"
    for block in range(16):
        (proof,) = bench.prove(1, block)
        assert encode(proof) and opens(root, 16, block, proof.samples, proof.path)


def test_a_lease_that_was_not_searched_to_its_end_has_no_commitment() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1, PATTERNS, 16))
    bench.shrink(1, 999)
    bench.finish_all()
    parts = bench.all_reports()
    assert [part.root for part in parts if part.ended] == [b""] and returned(parts) == [(999, 1000)]
    assert bench.prove(1, 3) == [TaskProof("j", 1, 3, (), ())]


@pytest.mark.parametrize(("lease", "block"), [(2, 0), (1, 16), (1, 10**9)])
def test_task_prove_of_what_cannot_be_shown_is_answered_by_no_path(lease: int, block: int) -> None:
    bench = Bench()
    bench.lease(Grant(0, 50, 1, PATTERNS, 16))
    bench.finish_all()
    bench.all_reports()
    assert bench.prove(lease, block) == [TaskProof("j", lease, block, (), ())]


def test_task_prove_of_a_job_that_was_dropped_is_answered_all_the_same() -> None:
    """Silence would be held against us: see `Spots.on_tick`."""
    bench = Bench()
    bench.lease(Grant(0, 50, 1, PATTERNS, 16))
    bench.finish_all()
    bench.all_reports()
    bench.do(bench.core.on_goodbye(bench.now, C))
    assert bench.core.jobs == [] and bench.prove(1, 3) == [TaskProof("j", 1, 3, (), ())]


def test_commitments_are_kept_up_to_their_bound_the_latest_longest() -> None:
    bench = Bench(rate=1e6)
    for i in range(COMMITMENTS_MAX + 1):
        bench.advert()
        bench.tick()
        bench.transfer(Grant(i * 50, 50, i + 1, PATTERNS, 16))
        bench.finish_all()
        bench.all_reports()
    assert bench.prove(1, 0)[0].path == () and all(
        bench.prove(lease, 0)[0].path for lease in range(2, COMMITMENTS_MAX + 2)
    )


# -- giving back


def test_task_shrink_gives_back_what_is_not_begun_and_says_so_at_once() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1))
    assert max(run.stop for run in bench.out.values()) == 200
    bench.shrink(1, 500)
    (part,) = bench.parts()
    assert (part.ended, [one.span for one in part.returned]) == (False, [(500, 1000)])
    bench.finish_all()
    assert sum(high - low for low, high in done(bench.all_reports())) == 500
    assert not bench.core.load().queue


def test_task_shrink_what_is_returned_is_never_searched() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1))
    bench.shrink(1, 450)
    bench.finish(0, stopped_at=30)
    bench.finish_all()
    parts = bench.all_reports()
    told = {n for low, high in done(parts) for n in range(low, high)}
    assert told == set(range(450)) and returned(parts) == [(450, 1000)]
    assert [part.ended for part in parts].count(True) == 1


def test_task_shrink_of_what_is_begun_returns_nothing_and_is_answered() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 100, 1))
    bench.shrink(1, 0)
    (part,) = bench.parts()
    assert (part.lease, part.returned, part.ended) == (1, (), False)
    bench.finish_all()
    assert done(bench.all_reports()) == [(0, 100)]


def test_task_shrink_of_a_whole_lease_that_is_not_begun_ends_it() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1), Grant(1000, 1000, 2))
    bench.shrink(2, 1000)
    (part,) = [part for part in bench.parts() if part.lease == 2]
    assert part.ended and [one.span for one in part.returned] == [(1000, 2000)]


def test_task_shrink_of_an_unknown_lease_or_by_a_stranger_does_nothing() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1))
    bench.shrink(7, 0)
    assert not bench.core.on_task_shrink(0, NodeId("stranger"), TaskShrink("j", 1, 0))
    assert bench.parts() == []


def test_what_is_returned_is_told_once_and_again_only_with_its_report() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1))
    bench.shrink(1, 900)
    (first,) = [m for m in bench.tick() if isinstance(m, TaskReport)]
    bench.shrink(1, 800)
    (second,) = [m for m in bench.tick() if isinstance(m, TaskReport)]
    assert [one.span for one in first.parts[0].returned] == [(900, 1000)]
    assert [one.span for one in second.parts[0].returned] == [(800, 900)]
    assert [m for m in bench.tick(300 * MS) if isinstance(m, TaskReport)] == [first, second], "unchanged"


def test_a_lease_is_not_said_to_have_ended_before_what_it_returned_is_acknowledged() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 200, 1))
    bench.shrink(1, 150)
    bench.finish_all()
    (report,) = [m for m in bench.tick() if isinstance(m, TaskReport)]
    again = bench.parts()
    assert report.parts[0].ended or not any(part.ended for part in again)
    bench.ack(report)
    assert any(part.ended for part in (*report.parts, *bench.parts()))


def test_a_failure_gives_back_what_is_not_begun_and_names_the_error_when_it_ends() -> None:
    bench = Bench(rate=1000.0)
    bench.lease(Grant(0, 1000, 1))
    bench.finish(0, outcome=Failed("boom"))
    bench.finish(1)
    parts = bench.all_reports()
    assert returned(parts) == [(200, 1000)] and done(parts) == [(100, 200)]
    assert [part.error for part in parts if part.ended] == ["boom"]


# -- far coordinators


def asked_in(bench: Bench, *waits_ms: int) -> list[TaskRequest]:
    """Requests that are answered after so long, with nothing."""
    requests = []
    for wait in waits_ms:
        bench.advert()
        requests += [m for m in bench.tick() if isinstance(m, TaskRequest)]
        bench.now += wait * MS
        if bench.core._jobs and requests:
            bench.transfer()
    return requests


def far_bench(limit_ms: int | None = 50) -> Bench:
    bench = Bench()
    limit = None if limit_ms is None else limit_ms * MS
    bench.core = Worker(NodeId("w"), 1, WorkerConfig(rtt_ns_max=limit), itertools.count())
    bench.core.rates["k"] = 1000.0
    return bench


def test_a_coordinator_that_takes_long_to_answer_thrice_is_not_worked_for() -> None:
    bench = far_bench()
    assert len(asked_in(bench, 80, 90, 100)) == 3 and not [m for m in bench.sent if isinstance(m, TaskReport)]
    assert bench.notices == ["c answers in 80 ms: not worked for"]
    assert asked_in(bench, 10, 10) == []


def test_one_quick_answer_among_three_is_enough_to_work_for_a_coordinator() -> None:
    bench = far_bench()
    assert len(asked_in(bench, 80, 40, 500, 100)) == 4 and not bench.notices


def test_without_a_limit_no_coordinator_is_far() -> None:
    bench = far_bench(None)
    assert len(asked_in(bench, 190, 190, 190, 190)) == 4 and not bench.notices


def test_what_a_far_coordinator_has_leased_is_given_back() -> None:
    bench = far_bench()
    asked_in(bench, *[80] * (RTTS - 1))
    bench.advert()
    bench.tick()
    bench.now += 80 * MS
    bench.transfer(Grant(0, 1000, 1))
    assert not bench.out and [part.ended for part in bench.parts()] == [True]


def test_a_request_tells_how_long_the_last_ones_took() -> None:
    bench = far_bench(None)
    requests = asked_in(bench, 30, 20, 40, 50, 60, 70)
    assert [request.rtt_ns // MS for request in requests] == [0, 0, 0, 20, 20, 40]


# -- resting


def test_rest_stops_what_runs_gives_all_back_and_asks_for_nothing() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1), Grant(1000, 1000, 2))
    bench.do(bench.core.on_rest(bench.now))
    assert sorted(bench.stopped) == sorted(bench.out) and bench.core.resting
    for run_id in sorted(bench.out):
        bench.finish(run_id, stopped_at=bench.out[RunId(run_id)].start + 10)
    parts = bench.all_reports()
    assert {part.lease for part in parts if part.ended} == {1, 2} and not bench.out
    assert sum(high - low for low, high in done(parts)) == 20
    bench.advert()
    assert not [m for m in bench.tick() if isinstance(m, TaskRequest)] and bench.core.deadline() > bench.now


def test_resume_asks_anew() -> None:
    bench = Bench()
    bench.advert()
    bench.do(bench.core.on_rest(bench.now))
    assert not [m for m in bench.tick() if isinstance(m, TaskRequest)]
    bench.do(bench.core.on_resume(bench.now))
    assert [m.want for m in bench.tick() if isinstance(m, TaskRequest)] == [2]
    bench.transfer(Grant(0, 1000, 1))
    assert bench.out


def test_a_transfer_that_comes_while_we_rest_is_given_back() -> None:
    bench = Bench()
    bench.request()
    bench.do(bench.core.on_rest(bench.now))
    bench.transfer(Grant(0, 1000, 1))
    assert not bench.out and [part.ended for part in bench.parts()] == [True]


def test_a_run_that_comes_back_after_a_short_rest_is_told_in_full_and_nothing_is_lost() -> None:
    bench = Bench()
    bench.lease(Grant(0, 150, 1))
    bench.do(bench.core.on_rest(bench.now))
    bench.do(bench.core.on_resume(bench.now))
    bench.finish(0, stopped_at=30)
    bench.finish_all()
    parts = bench.all_reports()
    spans = done(parts)
    assert spans[0][0] == 0 and sum(high - low for low, high in spans) == len(
        {n for low, high in spans for n in range(low, high)}
    )
    assert [part.ended for part in parts].count(True) == 1 and not bench.core.load().queue


def test_resume_after_stop_does_not_wake_a_worker() -> None:
    bench = Bench()
    bench.advert()
    bench.do(bench.core.on_stop(bench.now))
    bench.do(bench.core.on_resume(bench.now))
    bench.advert()
    assert not [m for m in bench.tick() if isinstance(m, TaskRequest)]


def test_a_job_that_ends_while_we_rest_is_forgotten() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.do(bench.core.on_rest(bench.now))
    bench.do(bench.core.on_job_closed(bench.now, C, JobClosed("j", "found")))
    bench.do(bench.core.on_resume(bench.now))
    assert bench.core.jobs == []
    bench.finish_all()
    assert bench.core.drained


def test_a_late_acknowledgement_while_we_rest_does_no_harm() -> None:
    bench = Bench()
    bench.lease(Grant(0, 50, 1))
    bench.finish_all()
    report = bench.report()
    bench.do(bench.core.on_rest(bench.now))
    bench.do(bench.core.on_task_ack(bench.now, C, TaskAck("j", report.sequence)))
    assert bench.core.drained and report.parts[0].done == (Done(0, 50),)
