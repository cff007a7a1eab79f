"""The worker's duties, one test per sentence of docs/protocol.md (section in the name) and of its own promises."""

import itertools
from dataclasses import dataclass, field

import pytest

from zlb.core.config import WorkerConfig
from zlb.core.effects import Effect, Emit, Run, Send, Stop
from zlb.core.events import Notice
from zlb.core.ids import NodeId, RunId
from zlb.core.limits import (
    ENDED_JOBS_MAX,
    HITS_PER_REPORT_MAX,
    JOBS_PER_WORKER_MAX,
    MS,
    PIECES_UNREPORTED_MAX,
    REPORTS_UNACKED_MAX,
    SECOND,
)
from zlb.core.timers import NEVER
from zlb.core.work import Failed, Hit, Outcome, Search, Searched
from zlb.protocols.worker import Worker
from zlb.wire.codec import decode, encode
from zlb.wire.messages import (
    Grant,
    JobAdvert,
    JobClosed,
    LoadUpdate,
    Spec,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

C = NodeId("c")
ALL, FIRST = Spec("k", b"", 0), Spec("k", b"", 1)


@dataclass
class Bench:
    """A worker, what it has sent, and the runs it has out."""

    slots: int = 1
    rate: float = 1000.0
    spec: Spec = ALL
    now: int = 0
    sent: list[object] = field(default_factory=list)
    out: dict[RunId, Search] = field(default_factory=dict)
    stopped: list[RunId] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    ids: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        self.core = Worker(NodeId("w"), 1, WorkerConfig(slots=self.slots, redistributes=False), self.ids)
        if self.rate:
            self.core.rates["k"] = self.rate

    def do(self, effects: list[Effect]) -> list[object]:
        """Take effects in; returns the messages among them."""
        messages = [effect.message for effect in effects if isinstance(effect, Send)]
        for effect in effects:
            match effect:
                case Run(run_id, search):
                    self.out[run_id] = search
                case Stop(run_id):
                    self.stopped.append(run_id)
                case Emit(Notice(text)):
                    self.notices.append(text)
        self.sent += messages
        return messages

    def tick(self, ns: int = 0) -> list[object]:
        self.now += ns
        return self.do(self.core.on_tick(self.now))

    def advert(self, job: str = "j", node: str = "c", unleased: int = 9) -> None:
        self.do(self.core.on_job_advert(self.now, JobAdvert(node, 1, 1, job, "k", unleased)))

    def request(self, job: str = "j", node: str = "c") -> TaskRequest:
        """The request that an advert provokes."""
        self.advert(job, node)
        (message,) = self.tick()
        assert isinstance(message, TaskRequest)
        return message

    def transfer(self, *grants: Grant, sequence: int | None = None, job: str = "j") -> None:
        last = [m.sequence for m in self.sent if isinstance(m, TaskRequest) and m.job == job][-1]
        transfer = TaskTransfer(job, last if sequence is None else sequence, grants, self.spec)
        self.do(self.core.on_task_transfer(self.now, C, transfer))

    def lease(self, *grants: Grant) -> None:
        """Advert, request, transfer."""
        self.request()
        self.transfer(*grants)

    def finish(
        self, run_id: int, *hits: int, stopped_at: int | None = None, outcome: Outcome | None = None
    ) -> None:
        search = self.out.pop(RunId(run_id))
        stop = search.stop if stopped_at is None else stopped_at
        done = Searched(stop, tuple(Hit(n, b"d") for n in hits), (stop - search.start) * MS)  # 1000 a second
        self.do(self.core.on_done(self.now, RunId(run_id), outcome or done))

    def report(self) -> TaskReport:
        """The report that is due now."""
        (message,) = [m for m in self.tick() if isinstance(m, TaskReport)]
        return message

    def ack(self, report: TaskReport) -> None:
        self.do(self.core.on_task_ack(self.now, C, TaskAck(report.job, report.sequence)))


# -- TASK_REQUEST, TASK_TRANSFER


def test_job_advert_with_integers_is_answered_by_a_pull() -> None:
    assert Bench().request() == TaskRequest("j", 1, 1, 2, 1000.0, False)


def test_job_advert_without_integers_is_not() -> None:
    bench = Bench()
    bench.advert(unleased=0)
    assert bench.tick() == [] and bench.core.jobs == ["j"]


def test_task_request_at_most_one_is_open() -> None:
    bench = Bench()
    bench.request()
    for _ in range(5):
        bench.advert()
        assert bench.tick() == []


def test_task_request_is_repeated_unchanged_backing_off() -> None:
    bench = Bench()
    first = bench.request()
    waits, sent_at = [], 0
    while bench.now < 6 * SECOND:
        bench.now = bench.core.deadline()
        for message in bench.tick():
            assert message == first
            waits.append((bench.now - sent_at) // MS)
            sent_at = bench.now
    assert waits == [200, 400, 800, 1600, 2000, 2000]


def test_task_request_rate_is_zero_when_not_measured() -> None:
    assert Bench(rate=0).request().rate == 0


def test_task_request_knows_is_true_once_the_spec_came() -> None:
    bench = Bench()
    bench.lease(Grant(0, 100, 1))
    (again,) = bench.tick()
    assert isinstance(again, TaskRequest) and again.knows and again.sequence == 2 and again.want == 1


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_task_transfer_a_worker_holds_at_most_one_lease_per_slot_and_as_many_prefetched(slots: int) -> None:
    bench = Bench(slots)
    held = 0
    for _ in range(5):
        bench.advert()
        for message in bench.tick():
            assert isinstance(message, TaskRequest) and held + message.want <= 2 * slots
            bench.transfer(*(Grant(1000 * (held + i), 1000, held + i + 1) for i in range(message.want)))
            held += message.want
    assert held == 2 * slots == bench.core.load().queue


def test_task_transfer_of_another_sequence_or_node_is_ignored() -> None:
    bench = Bench()
    bench.request()
    bench.transfer(Grant(0, 10, 1), sequence=7)
    transfer = TaskTransfer("j", 1, (Grant(0, 10, 1),), ALL)
    bench.do(bench.core.on_task_transfer(0, NodeId("stranger"), transfer))
    assert not bench.out
    bench.transfer(Grant(0, 10, 1))
    bench.transfer(Grant(0, 10, 1), sequence=1)  # doubled
    assert len(bench.out) == 1


def test_task_transfer_without_leases_waits_for_the_next_advert() -> None:
    bench = Bench()
    bench.lease()
    assert bench.tick() == [] and bench.tick(400 * MS) == []
    assert bench.request().sequence == 2


def test_two_jobs_share_the_room() -> None:
    bench = Bench(slots=2)
    bench.advert("a")
    bench.advert("b")
    assert [(m.job, m.want) for m in bench.tick()] == [("a", 2), ("b", 2)]  # type: ignore[attr-defined]


def test_two_jobs_the_one_held_least_of_is_asked_first() -> None:
    bench = Bench(slots=2)
    bench.advert("a")
    bench.tick()
    bench.transfer(Grant(0, 1000, 1), Grant(1000, 1000, 2), Grant(2000, 1000, 3), job="a")
    bench.advert("b")
    assert [(m.job, m.want) for m in bench.tick()] == [("b", 1)]  # type: ignore[attr-defined]


def test_not_ready_remembers_adverts_and_asks_later() -> None:
    bench = Bench()
    bench.core.ready = False
    bench.advert()
    assert bench.tick() == []
    bench.do(bench.core.on_ready(5))
    assert len(bench.tick(5)) == 1


# -- TASK_REPORT


def test_task_report_names_each_lease_once_a_second() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1), Grant(1000, 1000, 2))
    named = []
    while bench.now < 5 * SECOND:
        bench.now = bench.core.deadline()
        for message in bench.tick():
            if isinstance(message, TaskReport):
                named.append((bench.now, [part.lease for part in message.parts]))
                bench.ack(message)
    assert named == [(n * SECOND, [1, 2]) for n in range(1, 6)]


def test_task_report_is_repeated_unchanged_until_acknowledged() -> None:
    bench = Bench()
    bench.lease(Grant(0, 100, 1))
    bench.finish(0)
    first = bench.report()
    assert first.parts[0].ended and first.parts[0].done[0].span == (0, 100)
    repeats = []
    while bench.now < 5 * SECOND:
        bench.now = bench.core.deadline()
        repeats += [message for message in bench.tick() if isinstance(message, TaskReport)]
    assert len(repeats) > 3 and set(repeats) == {first} and not bench.core.drained
    bench.ack(first)
    bench.do(bench.core.on_job_closed(bench.now, C, JobClosed("j", "found")))
    assert bench.core.drained and bench.core.deadline() == bench.now  # asks, though no job is left
    bench.tick()
    assert bench.core.deadline() == NEVER


def test_task_report_done_is_told_in_one_sequence_only() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    spans = []
    for run_id in range(4):
        bench.finish(run_id)
        bench.tick(SECOND)
    for message in bench.sent:
        if isinstance(message, TaskReport):
            bench.ack(message)
    spans = [
        done.span
        for m in {m for m in bench.sent if isinstance(m, TaskReport)}
        for p in m.parts
        for done in p.done
    ]
    assert sorted(spans) == [(0, 100), (100, 200), (200, 300), (300, 400)]


def test_task_report_hits_are_told_at_once() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.finish(0)
    assert [m for m in bench.tick() if isinstance(m, TaskReport)] == []
    bench.finish(1, 150)
    assert [hit.n for hit in bench.report().parts[0].hits] == [150]


def test_task_report_hits_max_ends_a_lease_early() -> None:
    bench = Bench(spec=FIRST)
    bench.lease(Grant(0, 1000, 1))
    assert [search.hits_max for search in bench.out.values()] == [1, 1]
    bench.finish(0, 40, stopped_at=41)
    assert len(bench.out) == 1  # the other slice was out already; no third
    bench.finish(1, stopped_at=200)
    (part,) = bench.report().parts
    assert part.ended and [done.span for done in part.done] == [(0, 41), (100, 200)] and part.hits[0].n == 40


def test_task_report_without_hits_max_a_full_run_is_continued() -> None:
    bench = Bench()
    bench.lease(Grant(0, 100, 1))
    assert bench.out[RunId(0)].hits_max == HITS_PER_REPORT_MAX
    bench.finish(0, 49, stopped_at=50)
    assert [(search.start, search.stop) for search in bench.out.values()] == [(50, 100)]


def test_task_report_error_says_why_a_lease_was_given_up() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.finish(0, outcome=Failed("no such kernel"))
    bench.finish(1)
    (part,) = bench.report().parts
    assert (part.ended, part.error, part.done[0].span) == (True, "no such kernel", (100, 200))


def test_task_report_a_long_error_still_fits_the_wire() -> None:
    bench = Bench()
    bench.lease(Grant(0, 100, 1))
    bench.finish(0, outcome=Failed("x" * 5000))
    assert decode(encode(bench.report()))


def test_on_done_without_progress_beside_another_leases_news() -> None:
    """Was an IndexError: a run that had not begun when it failed, while another lease had pieces to tell."""
    bench = Bench(slots=2)
    bench.lease(Grant(0, 1000, 1), Grant(1000, 1000, 2))
    by_lease = {0: [], 1: []}  # type: ignore[var-annotated]
    for run_id, search in bench.out.items():
        by_lease[search.start // 1000].append(run_id)
    bench.finish(by_lease[0][0])
    bench.finish(by_lease[1][0], outcome=Failed("broken"))


def test_reports_in_flight_are_bounded() -> None:
    bench = Bench()
    bench.lease(Grant(0, 100_000, 1))
    for run_id in range(100):
        bench.finish(run_id, bench.out[RunId(run_id)].start)
        bench.tick()
    reports = {m.sequence: m for m in bench.sent if isinstance(m, TaskReport)}
    assert len(reports) == REPORTS_UNACKED_MAX
    bench.ack(reports[min(reports)])
    bench.now += SECOND
    (news,) = [m for m in bench.tick() if isinstance(m, TaskReport) and m.sequence not in reports]
    assert len(news.parts[0].hits) == 100 - REPORTS_UNACKED_MAX  # all that gathered


def test_pieces_not_reported_hold_new_runs_back() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1 << 40, 1))
    while bench.out:
        bench.finish(min(bench.out))
    assert PIECES_UNREPORTED_MAX <= bench.core._jobs["j"].unreported <= PIECES_UNREPORTED_MAX + 2  # type: ignore[index]
    bench.tick(SECOND)
    assert bench.out


def test_task_report_a_lost_one_is_repeated_though_others_are_acknowledged() -> None:
    bench = Bench()
    bench.lease(Grant(0, 100_000, 1))
    bench.finish(0, 5)
    lost = bench.report()
    for run_id in range(1, 31):  # three seconds, a hit every tenth of one
        bench.now += 100 * MS
        bench.finish(run_id, bench.out[RunId(run_id)].start)
        for message in bench.tick():
            if isinstance(message, TaskReport) and message != lost:
                bench.ack(message)
    assert bench.sent.count(lost) > 1


# -- TASK_CANCEL, JOB_CLOSED, GOODBYE


def test_task_cancel_stops_the_runs_and_forgets_the_lease_without_a_report() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1), Grant(1000, 100, 2))
    bench.do(bench.core.on_task_cancel(0, C, TaskCancel("j", (1, 99))))
    assert bench.stopped == [0, 1]
    bench.finish(0, 5, stopped_at=6)
    bench.finish(1, stopped_at=100)
    assert [(search.start, search.stop) for search in bench.out.values()] == [(1000, 1100)]
    bench.finish(2)
    assert [part.lease for part in bench.report().parts] == [2]


def test_job_closed_ends_everything_and_late_adverts_do_not_wake_it() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.do(bench.core.on_job_closed(0, C, JobClosed("j", "found")))
    assert bench.stopped == [0, 1] and bench.core.jobs == []
    bench.finish(0, 1)
    bench.finish(1)
    bench.advert()
    assert bench.tick() == [] and bench.core.jobs == [] and bench.core.drained


def test_job_closed_by_somebody_else_means_nothing() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.do(bench.core.on_job_closed(0, NodeId("stranger"), JobClosed("j", "found")))
    assert bench.core.jobs == ["j"]


def test_goodbye_of_the_coordinator_drops_its_jobs() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.do(bench.core.on_goodbye(0, C))
    assert bench.core.jobs == [] and bench.stopped == [0, 1] and bench.notices


def test_a_silent_coordinator_is_given_up() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1))
    bench.tick(10 * SECOND - 1)
    assert bench.core.jobs == ["j"]
    bench.tick(1)
    assert bench.core.jobs == [] and bench.notices == ["job j dropped: no word from c"]


# -- stopping, load, bounds


def test_stop_gives_back_what_is_left_and_asks_no_more() -> None:
    bench = Bench()
    bench.lease(Grant(0, 1000, 1), Grant(1000, 1000, 2))
    bench.do(bench.core.on_stop(0))
    assert bench.stopped == [0, 1]
    bench.finish(0, stopped_at=30)
    bench.finish(1, stopped_at=100)
    parts = {part.lease: part for part in bench.report().parts}
    assert all(part.ended for part in parts.values()) and [d.span for d in parts[1].done] == [(0, 30)]
    bench.advert()
    assert [m for m in bench.tick() if isinstance(m, TaskRequest)] == []


def test_stop_gives_back_a_transfer_that_comes_too_late() -> None:
    bench = Bench()
    bench.request()
    bench.do(bench.core.on_stop(0))
    bench.transfer(Grant(0, 1000, 1))
    assert not bench.out and bench.report().parts[0].ended


def test_load_is_time_at_the_measured_rate() -> None:
    bench = Bench(slots=2)
    bench.lease(Grant(0, 1000, 1), Grant(1000, 1000, 2))
    assert bench.core.load() == (SECOND, 1000.0, 2, 2)  # 2000 integers, 2 slots of 1000 a second


def test_load_of_a_huge_lease_fits_the_wire() -> None:
    bench = Bench(rate=1e7)
    bench.lease(Grant(0, 1 << 60, 1))
    assert encode(LoadUpdate("w", 1, 1, *bench.core.load()))


def test_jobs_are_bounded() -> None:
    bench = Bench()
    for i in range(JOBS_PER_WORKER_MAX + 1):
        bench.advert(f"j{i}")
    assert len(bench.core.jobs) == JOBS_PER_WORKER_MAX
    assert len(bench.tick()) == 4  # one lease of each of so many jobs; no more, for there is no room


def test_ended_jobs_are_remembered_up_to_their_bound() -> None:
    bench = Bench()
    for i in range(ENDED_JOBS_MAX + 1):
        bench.advert(f"j{i}")
        bench.do(bench.core.on_job_closed(0, C, JobClosed(f"j{i}", "")))
    bench.advert(f"j{ENDED_JOBS_MAX}")
    assert bench.core.jobs == []
    bench.advert("j0")
    assert bench.core.jobs == ["j0"]


def test_two_jobs_a_dead_coordinator_does_not_hold_up_the_other() -> None:
    bench = Bench()
    bench.request("dead", "gone")
    bench.advert("j")
    asked = []
    for _ in range(10):  # five seconds; the neighbour is lost after four
        bench.advert("j")
        asked += [m.job for m in bench.tick(500 * MS) if isinstance(m, TaskRequest)]
    assert "j" in asked


# -- short leases


def test_short_leases_that_follow_each_other_share_a_run_and_each_gets_its_hits() -> None:
    bench = Bench()
    bench.lease(Grant(0, 3, 1), Grant(3, 3, 2), Grant(6, 3, 3), Grant(100, 3, 4))  # 3 ms each
    assert [(run.start, run.stop) for run in bench.out.values()] == [(0, 9), (100, 103)]
    bench.finish(0, 1, 7)
    parts = bench.report().parts
    assert [(part.lease, part.ended, part.done[0].span) for part in parts] == [
        (1, True, (0, 3)),
        (2, True, (3, 6)),
        (3, True, (6, 9)),
    ]
    assert [[hit.n for hit in part.hits] for part in parts] == [[1], [], [7]]
    assert [part.busy_ns for part in parts] == [3 * MS] * 3


def test_a_shared_run_that_was_cut_short_is_taken_up_where_it_ended() -> None:
    bench = Bench()
    bench.lease(Grant(0, 3, 1), Grant(3, 3, 2), Grant(6, 3, 3))
    bench.finish(0, stopped_at=4)
    assert sorted((run.start, run.stop) for run in bench.out.values()) == [(4, 6), (6, 9)]


def test_of_a_shared_run_that_failed_each_lease_is_tried_alone() -> None:
    bench = Bench()
    bench.lease(Grant(0, 3, 1), Grant(3, 3, 2))
    bench.finish(0, outcome=Failed("poison"))
    assert (
        sorted((run.start, run.stop) for run in bench.out.values()) == [(0, 3), (3, 6)] and not bench.notices
    )


def test_many_short_leases_are_asked_for_at_once_and_not_before_half_are_gone() -> None:
    bench = Bench()
    bench.lease(*(Grant(i * 5, 5, i + 1) for i in range(2)))  # 5 ms each: 100 ms ahead are 20 leases
    (again,) = bench.tick()
    assert isinstance(again, TaskRequest) and again.want == 1, "no more than twice as many as before"
    pull = bench.core._pull
    held = bench.core._jobs["j"]  # type: ignore[index]
    for _ in range(9):
        pull.look_ahead(held, 5)
    assert pull._ahead == 20 and not pull.is_worth_asking(11) and pull.is_worth_asking(10)


def test_a_finished_lease_waits_a_little_for_others_while_there_is_more_to_do() -> None:
    bench = Bench()
    bench.lease(*(Grant(i * 15, 15, i + 1) for i in range(5)))
    bench.finish(0)
    assert not [message for message in bench.tick() if isinstance(message, TaskReport)]
    bench.finish(1)
    bench.now = WorkerConfig().batch_ns
    assert [part.lease for part in bench.report().parts] == [1, 2]
