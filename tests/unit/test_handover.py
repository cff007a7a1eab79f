"""One coordinator after another, as the worker sees it: each rule of docs/protocol.md on epochs is one test."""

from dataclasses import dataclass

from tests.unit.test_worker import ALL, C
from tests.unit.test_worker import Bench as PlainBench
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import HITS_PER_REPORT_MAX, REPORTS_UNACKED_MAX, SECOND
from zlb.core.work import Hit
from zlb.wire.messages import (
    Grant,
    JobAdvert,
    JobClosed,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

D = NodeId("d")


@dataclass
class Bench(PlainBench):
    """A worker of jobs that a tracker knows."""

    def hear(
        self, node: str = "c", epoch: int = 1, unleased: int = 9, job: str = "j", priority: int = 5
    ) -> None:
        advert = JobAdvert(node, 1, 1, job, "k", unleased, epoch, priority)
        self.do(self.core.on_job_advert(self.now, advert))

    def hold(self, *grants: Grant) -> None:
        """Leases of the first coordinator."""
        self.hear()
        self.tick()
        self.transfer(*grants)

    def kept(self, report: TaskReport, kept: bool = True, src: NodeId = C) -> None:
        self.do(self.core.on_task_ack(self.now, src, TaskAck(report.job, report.sequence, kept)))

    def reports(self) -> list[TaskReport]:
        return [message for message in self.tick() if isinstance(message, TaskReport)]


def spans(report: TaskReport) -> list[tuple[int, int]]:
    return sorted(done.span for part in report.parts for done in part.done)


# -- the worker: adverts


def test_job_advert_requests_and_reports_carry_the_epoch() -> None:
    bench = Bench()
    bench.hear(epoch=3)
    (request,) = bench.tick()
    assert isinstance(request, TaskRequest) and request.epoch == 3
    bench.transfer(Grant(0, 100, 1))
    bench.finish(0)
    assert bench.report().epoch == 3


def test_job_advert_of_a_lower_epoch_is_ignored() -> None:
    bench = Bench()
    bench.hear(epoch=2, unleased=0)
    bench.hear("d", epoch=1)
    assert bench.tick() == []
    bench.hear(epoch=2)
    assert len(bench.tick()) == 1


def test_job_advert_of_the_same_epoch_by_another_node_is_ignored() -> None:
    bench = Bench()
    bench.hear(unleased=0)
    bench.hear("d")
    assert bench.tick() == []


def test_job_advert_of_a_tracker_does_not_take_over_a_job_no_tracker_knows() -> None:
    bench = Bench()
    bench.hear(epoch=0, unleased=0)
    bench.hear("d", epoch=1)
    assert bench.tick() == []


def test_job_advert_of_the_greatest_priority_is_pulled_first() -> None:
    bench = Bench()
    bench.hear(job="a", priority=4)
    bench.hear(job="b", priority=9)
    bench.hear(job="c", priority=0)
    assert [message.job for message in bench.tick()] == ["b"]  # type: ignore[attr-defined]
    bench.hear(job="b", priority=9, unleased=0)
    bench.do(bench.core.on_task_transfer(0, C, TaskTransfer("b", 1, (), ALL)))
    assert [message.job for message in bench.tick()] == ["a"]  # type: ignore[attr-defined]


# -- the worker: turning to another coordinator


def test_job_advert_a_higher_epoch_makes_the_worker_start_nothing_more_of_its_leases() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    out = len(bench.out)
    bench.hear("d", 2, unleased=0)
    for run in list(bench.out):
        bench.finish(run)
    assert out == 2 and not bench.out and bench.stopped == []


def test_job_advert_what_is_finished_and_not_reported_goes_to_the_new_coordinator() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0)
    bench.hear("d", 2, unleased=0)
    report = bench.report()
    assert report.epoch == 2 and spans(report) == [(0, 100)]
    assert [(part.lease, part.ended, part.error) for part in report.parts] == [(0, False, "")]


def test_job_advert_what_was_reported_and_is_not_kept_goes_to_the_new_coordinator() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0, 7)
    lost = bench.report()
    bench.finish(1, 107)
    arrived = bench.report()
    bench.kept(arrived, kept=False)
    bench.finish(2, 207)
    bench.kept(bench.report())
    bench.hear("d", 2, unleased=0)
    report = bench.report()
    assert spans(report) == [(0, 200)] and [hit.n for hit in report.parts[0].hits] == [7, 107]
    assert report not in (lost, arrived)


def test_job_advert_what_is_still_running_is_reported_when_it_is_finished() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.hear("d", 2, unleased=0)
    assert bench.reports() == []
    bench.finish(0, 50)
    report = bench.report()
    assert spans(report) == [(0, 100)] and [hit.n for hit in report.parts[0].hits] == [50]


def test_job_advert_it_reports_before_it_requests() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0)
    bench.hear("d", 2)
    kinds = [type(message) for message in bench.tick()]
    assert kinds == [TaskReport, TaskRequest]


def test_job_advert_it_reports_all_before_it_requests_though_it_is_more_than_a_report_holds() -> None:
    bench = Bench()
    bench.hold(Grant(0, 1_000_000, 1))
    bench.finish(0, *range(100))
    bench.core._jobs[JobId("j")].orphan([(200, 2 * HITS_PER_REPORT_MAX + 200)], ())
    bench.core._jobs[JobId("j")].orphan((), [Hit(n, b"d") for n in range(200, 2 * HITS_PER_REPORT_MAX + 200)])
    bench.hear("d", 2)
    seen: list[object] = []
    for _ in range(5):
        seen += bench.tick()
    kinds = [type(message) for message in seen]
    assert kinds == [TaskReport] * 3 + [TaskRequest]
    reports = [message for message in seen if isinstance(message, TaskReport)]
    assert sum(len(part.hits) for report in reports for part in report.parts) == 2 * HITS_PER_REPORT_MAX + 100


def test_job_advert_what_is_finished_while_too_many_reports_are_out_is_reported_later() -> None:
    bench = Bench(slots=REPORTS_UNACKED_MAX)
    bench.hold(*(Grant(1000 * n, 1000, n) for n in range(1, REPORTS_UNACKED_MAX + 1)))
    bench.hear("d", 2)
    bench.tick()
    runs = dict(bench.out)
    reports = []
    for run in runs:
        bench.finish(run)
        reports += bench.reports()
    assert len(reports) == REPORTS_UNACKED_MAX < len(runs)
    for sent_report in list(reports):
        bench.kept(sent_report, src=D)
        reports += bench.reports()
    assert sorted(span for one in reports for span in spans(one)) == sorted(
        (r.start, r.stop) for r in runs.values()
    )


def test_job_advert_words_of_the_former_coordinator_mean_nothing_any_more() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0, 7)
    report = bench.report()
    bench.hear("d", 2, unleased=0)
    again = bench.report()
    bench.kept(report)
    bench.kept(again, src=C)
    bench.do(bench.core.on_task_cancel(0, C, TaskCancel("j", (1,))))
    bench.do(bench.core.on_job_closed(0, C, JobClosed("j", "over")))
    assert bench.core.jobs == ["j"] and not bench.core.drained


def test_job_advert_the_next_but_one_coordinator_gets_it_too() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0, 7)
    bench.report()
    bench.hear("d", 2, unleased=0)
    bench.report()
    bench.hear("e", 5, unleased=0)
    report = bench.report()
    assert (
        report.epoch == 5 and spans(report) == [(0, 100)] and [hit.n for hit in report.parts[0].hits] == [7]
    )


def test_job_advert_the_same_coordinator_in_a_higher_epoch_is_another() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0)
    bench.hear("c", 2, unleased=0)
    assert spans(bench.report()) == [(0, 100)]


def test_job_advert_after_the_hand_over_leases_of_the_new_coordinator_are_searched() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.hear("d", 2)
    bench.tick()
    for run in list(bench.out):
        bench.finish(run)
    last = [message for message in bench.sent if isinstance(message, TaskRequest)][-1]
    transfer = TaskTransfer("j", last.sequence, (Grant(500, 100, 1),), None)  # ids begin anew
    bench.do(bench.core.on_task_transfer(0, D, transfer))
    assert [(run.start, run.stop) for run in bench.out.values()] == [(500, 600)]


def test_job_advert_a_lease_of_the_new_coordinator_is_not_mixed_up_with_an_old_one_of_its_number() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.hear("d", 2)
    bench.tick()
    last = [message for message in bench.sent if isinstance(message, TaskRequest)][-1]
    bench.do(bench.core.on_task_transfer(0, D, TaskTransfer("j", last.sequence, (Grant(500, 100, 1),), None)))
    bench.finish(0, 50)  # a run of the old lease 1
    (report,) = bench.reports()
    assert [(part.lease, [done.span for done in part.done]) for part in report.parts] == [(0, [(0, 100)])]


# -- the worker: silence, and words that are lost


def test_a_silent_coordinator_of_a_tracker_loses_neither_its_job_nor_what_was_found() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0)
    bench.tick(20 * SECOND)
    assert bench.core.jobs == ["j"] and bench.stopped == []
    bench.finish(1)
    assert bench.out  # it goes on
    bench.hear("d", 2, unleased=0)
    assert spans(bench.report()) == [(0, 200)]


def test_a_silent_coordinator_is_asked_for_nothing_until_it_is_heard_again() -> None:
    bench = Bench()
    bench.hear(unleased=0)
    bench.tick(11 * SECOND)
    bench.core._jobs[JobId("j")].unleased = True
    bench.do(bench.core.on_ready(bench.now))
    assert bench.tick() == []
    bench.hear()
    assert len(bench.tick()) == 1


def test_goodbye_of_a_coordinator_of_a_tracker_leaves_its_job() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.do(bench.core.on_goodbye(0, C))
    assert bench.core.jobs == ["j"] and bench.stopped == [] and bench.notices == []


def test_roster_ends_jobs_it_does_not_name_once_their_coordinator_is_silent() -> None:
    bench = Bench()
    bench.hear(job="a", unleased=0)
    bench.tick(11 * SECOND)
    bench.hear(job="b", unleased=0)
    bench.hear(job="c", unleased=0, epoch=0)
    bench.do(bench.core.on_open_jobs(bench.now, {JobId("x")}))
    assert bench.core.jobs == ["b", "c"], "b was heard of by an advert: the tracker may lag behind"


# -- the worker: TASK_ACK


def test_task_ack_without_kept_ends_the_repetition_but_for_once_in_ten_seconds() -> None:
    bench = Bench()
    bench.hold(Grant(0, 100, 1))
    bench.finish(0)
    report = bench.report()
    bench.kept(report, kept=False)
    times = []
    while bench.now < 35 * SECOND:
        bench.now = bench.core.deadline()
        times += [bench.now for message in bench.tick() if message == report]
        bench.hear(unleased=0)
    assert times == [10 * SECOND, 20 * SECOND, 30 * SECOND]


def test_task_ack_without_kept_is_an_acknowledgement_for_the_end_of_a_lease() -> None:
    bench = Bench()
    bench.hold(Grant(0, 200, 1))
    bench.finish(0, 7)
    first = bench.report()
    bench.finish(1)
    second = bench.report()
    assert not first.parts[0].ended and not second.parts[0].ended
    bench.kept(first, kept=False)
    bench.kept(second, kept=False)
    assert [(part.lease, part.ended) for part in bench.report().parts] == [(1, True)]


def test_task_ack_kept_forgets_the_report() -> None:
    bench = Bench()
    bench.hold(Grant(0, 10_000, 1))
    bench.finish(0, 7)
    report = bench.report()
    bench.kept(report, kept=False)
    bench.kept(report)
    bench.kept(report, kept=False)  # overtaken
    bench.hear("d", 2, unleased=0)
    assert bench.reports() == []
