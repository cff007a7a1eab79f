"""Passing leases on: each promise of protocols/redistribution.py is one test, in a worker as peers have it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from zlb.core.config import WorkerConfig
from zlb.core.effects import Effect, Emit, Publish, Run, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import Notice
from zlb.core.ids import JobId, NodeId, RunId
from zlb.core.limits import ANCESTORS_MAX, CHILDREN_MAX, MS, SECOND
from zlb.core.work import Hit, Oracle, Search, Searched
from zlb.protocols.worker import Worker
from zlb.wire.codec import decode, encode
from zlb.wire.messages import (
    Done,
    Grant,
    JobAdvert,
    Part,
    Refused,
    Reported,
    Sampled,
    Spec,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

C, D, K, L, W = map(NodeId, "cdklw")
"""Who coordinates, another who passes the job on, two children, and us."""
J = JobId("j")
SPEC = Spec("k", b"", 0)
HITS = {1010: b"d", 10: b"d"}
EVERY_8TH = Sampled(7, 3)
HALF = Sampled(1, 1)
M = TypeVar("M")


@dataclass
class Bench:
    """A worker of one slot, what it has sent to whom, and what it has published."""

    epoch: int = 0
    now: int = 0
    incarnation: int = 1
    spec: Spec = SPEC
    sent: list[tuple[str, object]] = field(default_factory=list)
    published: list[tuple[int, JobAdvert]] = field(default_factory=list)
    out: dict[RunId, Search] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    sequence: itertools.count[int] = field(default_factory=lambda: itertools.count(100))

    def __post_init__(self) -> None:
        oracle = Oracle(HITS.get, lambda n: n)
        config = WorkerConfig(slots=1)
        self.core = Worker(W, self.incarnation, config, itertools.count(), checker=lambda _k, _p: oracle)
        self.core.rates["k"] = 1000.0
        self.core.on_neighbour(0, K)

    def do(self, effects: list[Effect] | None) -> list[tuple[str, object]]:
        assert effects is not None
        sent = [(str(e.to), decode(encode(e.message))) for e in effects if isinstance(e, Send)]
        for effect in effects:
            match effect:
                case Run(run_id, Search() as search):
                    self.out[run_id] = search
                case Publish(JobAdvert() as advert):
                    self.published.append((self.now, advert))
                case Emit(Notice(text)):
                    self.notices.append(text)
        self.sent += sent
        return sent

    def tick(self, ns: int = 0) -> list[tuple[str, object]]:
        """Keep every deadline of the next `ns`."""
        until, sent = self.now + ns, []
        while True:
            self.now = min(max(self.core.deadline(), self.now), until)
            sent += self.do(self.core.on_tick(self.now))
            if self.now == until:
                return sent + self.do(self.core.on_tick(self.now))

    def hear(
        self,
        node: str = "c",
        ancestors: tuple[str, ...] = (),
        unleased: int = 9,
        job: str = "j",
        epoch: int = -1,
    ) -> None:
        epoch = self.epoch if epoch < 0 else epoch
        advert = JobAdvert(node, 1, 1, job, "k", unleased, epoch, 5, ancestors)
        self.do(self.core.on_job_advert(self.now, advert))

    def hold(self, *grants: Grant, job: str = "j", **about: tuple[str, ...]) -> None:
        """Hear of a job, ask for leases and get them."""
        self.hear(job=job, **about)  # type: ignore[arg-type]
        self.core.on_tick(self.now)
        waiting = self.core._jobs[JobId(job)].request
        assert waiting is not None
        transfer = TaskTransfer(job, waiting.message.sequence, grants, self.spec)
        self.do(self.core.on_task_transfer(self.now, C, transfer))

    def ask(
        self, child: NodeId = K, want: int = 1, rate: float = 1000.0, incarnation: int = 1
    ) -> TaskTransfer:
        """A child asks, and is answered."""
        request = TaskRequest("j", incarnation, next(self.sequence), want, rate, False, self.epoch)
        sent = self.do(self.core.on_child(self.now, child, request))
        (transfer,) = [message for to, message in sent if to == child]
        assert isinstance(transfer, TaskTransfer)
        return transfer

    def tell(self, *parts: Part, child: NodeId = K, sequence: int | None = None) -> list[tuple[str, object]]:
        """A child reports."""
        number = next(self.sequence) if sequence is None else sequence
        return self.do(self.core.on_child(self.now, child, TaskReport("j", 1, number, parts, self.epoch)))

    def up(self, ns: int = 25 * MS) -> TaskReport:
        """What goes up next."""
        (report,) = [m for to, m in self.tick(ns) if isinstance(m, TaskReport) and to == "c"]
        return report

    def ack(self, report: TaskReport, kept: bool = True, src: NodeId = C) -> list[tuple[str, object]]:
        return self.do(self.core.on_task_ack(self.now, src, TaskAck("j", report.sequence, kept)))

    def finish(self, run_id: int) -> None:
        search = self.out.pop(RunId(run_id))
        hits = tuple(Hit(n, HITS[n]) for n in HITS if search.start <= n < search.stop)
        samples = tuple(
            tuple(n for n in range(search.start, search.stop) if n & p.mask == p.value)
            for p in search.patterns
        )
        outcome = Searched(search.stop, hits, (search.stop - search.start) * MS, samples)
        self.do(self.core.on_done(self.now, RunId(run_id), outcome))

    @property
    def todo(self) -> list[tuple[int, int]]:
        return [span for lease in self.core._jobs[J].leases.values() for span in lease.todo]


def bench(*patterns: Sampled, **about: int) -> Bench:
    """Two leases of 1000 held, of which our own slot has [0, 200)."""
    made = Bench(**about)
    made.hold(Grant(0, 1000, 1, patterns), Grant(1000, 1000, 2, patterns))
    return made


def part(
    grant: Grant, *hits: int, count: int | None = None, at: int = 0, samples: tuple[tuple[int, ...], ...] = (),
    error: str = "", ended: bool | None = None,
) -> Part:  # fmt: skip
    """What a child says of a sublet: by default that all of it is done."""
    count = grant.count - at if count is None else count
    start, whole = grant.start + at, at + count == grant.count
    told = tuple(Reported(n, HITS.get(n, b"x")) for n in hits)
    done = (Done(start, count),) if count else ()
    over = whole if ended is None else ended
    return Part(grant.lease, over, done, told, count * MS, error, samples)


def spans(report: TaskReport) -> list[tuple[int, int, int]]:
    return [(p.lease, *done.span) for p in report.parts for done in p.done]


def acks(sent: list[tuple[str, object]]) -> list[tuple[str, int, bool]]:
    return [(to, m.sequence, m.kept) for to, m in sent if isinstance(m, TaskAck)]


# -- offers


def test_a_job_is_offered_when_it_was_held_for_offer_ns_and_then_twice_a_second() -> None:
    it = bench()
    it.tick(3 * SECOND)
    assert [at for at, _ in it.published] == [2 * SECOND, 2500 * MS, 3 * SECOND]
    assert it.published[0][1] == JobAdvert("w", 1, 1, "j", "k", 1800, 0, 5, ("c",))


def test_each_job_waits_for_itself() -> None:
    it = bench()
    it.tick(3100 * MS)
    it.published.clear()
    it.hold(Grant(0, 10_000, 1), job="i")
    it.tick(2200 * MS)
    assert min(at for at, advert in it.published if advert.job == "i") == 5100 * MS
    assert {advert.job for at, advert in it.published if at < 5 * SECOND} == {"j"}


def test_a_new_neighbour_hears_of_what_is_offered_and_not_before() -> None:
    it = bench()
    assert it.do(it.core.on_neighbour(it.now, K)) == []
    it.tick(2 * SECOND)
    ((to, advert),) = it.do(it.core.on_neighbour(it.now, K))
    assert to == K and isinstance(advert, JobAdvert) and advert.ancestors == ("c",)


def test_nothing_is_offered_of_jobs_of_our_own() -> None:
    it = Bench()
    it.hold(Grant(0, 10_000, 1))
    it.core._jobs[J].coordinator = W
    it.tick(3 * SECOND)
    assert it.published == []
    assert it.core.on_child(it.now, K, TaskRequest("j", 1, 1, 1, 1.0, False)) is None


def test_nothing_is_offered_while_the_parent_is_silent() -> None:
    it = Bench()
    it.hold(Grant(0, 10_000, 1), ancestors=("a",))
    it.tick(9900 * MS)
    it.published.clear()
    it.tick(3 * SECOND)
    assert it.published == [] and it.core.jobs == ["j"]
    assert it.core.on_child(it.now, K, TaskRequest("j", 1, 1, 1, 1.0, False)) is None
    assert it.core.on_child(it.now, K, TaskReport("j", 1, 1, ())) is None, "it is not for us to take it in"
    it.hear(ancestors=("a",))
    it.tick(SECOND)
    assert it.published


@pytest.mark.parametrize(("depth", "offered"), [(ANCESTORS_MAX - 1, True), (ANCESTORS_MAX, False)])
def test_a_tree_has_so_many_levels(depth: int, offered: bool) -> None:
    it = Bench()
    it.hold(Grant(0, 10_000, 1), ancestors=tuple(f"a{i}" for i in range(depth)))
    it.tick(3 * SECOND)
    assert bool(it.published) == offered


def test_whoever_rests_offers_nothing() -> None:
    it = bench()
    it.do(it.core.on_rest(it.now))
    it.tick(3 * SECOND)
    assert it.published == []


# -- sublets


def test_sublets_are_slices_of_the_newest_lease() -> None:
    it = bench()
    transfer = it.ask(want=2)
    assert [(grant.start, grant.count) for grant in transfer.leases] == [(1000, 50), (1050, 50)]
    assert transfer.spec == SPEC and it.todo == [(200, 1000), (1100, 2000)]
    ids = {grant.lease for grant in transfer.leases}
    assert len(ids) == 2 and 0 not in ids
    assert it.notices == ["passes job j on to k"]


def test_a_child_is_asked_for_the_same_samples() -> None:
    (grant,) = bench(EVERY_8TH, HALF).ask().leases
    assert grant.patterns == (EVERY_8TH, HALF) and not grant.blocks


def test_a_repeated_request_gets_the_same_and_a_stale_one_nothing() -> None:
    it = bench()
    first, again = TaskRequest("j", 1, 5, 1, 1.0, True), TaskRequest("j", 1, 4, 1, 1.0, True)
    ((_, one),) = it.do(it.core.on_child(0, K, first))
    ((_, two),) = it.do(it.core.on_child(0, K, first))
    assert one == two and isinstance(one, TaskTransfer) and len(one.leases) == 1
    assert it.do(it.core.on_child(0, K, again)) == []


def test_a_hungry_child_hears_when_leases_come() -> None:
    it = Bench()
    it.hold(Grant(0, 100, 1))
    assert it.ask().leases == ()
    sent = len(it.sent)
    it.tick(SECOND)
    it.hold(Grant(100, 5000, 2))
    told = [message for to, message in it.sent[sent:] if to == K]
    assert len(told) == 1 and isinstance(told[0], JobAdvert) and told[0].unleased > 0


def test_slots_of_children_are_asked_for_too() -> None:
    it = Bench()
    it.hold(Grant(0, 100, 1))
    it.do(it.core.on_child(0, K, TaskRequest("j", 1, 5, 4, 1.0, True, slots=7)))
    request = [m for _, m in it.tick(300 * MS) if isinstance(m, TaskRequest)][-1]
    assert request.slots == 8 and request.want > 8


def test_too_many_children_are_refused() -> None:
    it = bench()
    for number in range(CHILDREN_MAX):
        it.do(it.core.on_child(0, NodeId(f"k{number}"), TaskRequest("j", 1, 1, 1, 1.0, True)))
    ((_, refused),) = it.do(it.core.on_child(0, K, TaskRequest("j", 1, 1, 1, 1.0, True)))
    assert isinstance(refused, Refused) and refused.code == ErrorCode.FULL


# -- what children report


def test_a_report_becomes_pieces_with_exactly_its_hits_and_samples() -> None:
    it = bench(EVERY_8TH)
    (grant,) = it.ask().leases
    inside = tuple(n for n in range(1000, 1050) if n % 8 == 3)
    it.tell(part(grant, 1010, count=30, samples=(tuple(n for n in inside if n < 1030),)))
    it.tell(part(grant, at=30, samples=(tuple(n for n in inside if n >= 1030),)))
    report = it.up()
    assert spans(report) == [(2, 1000, 1050)]
    (told,) = report.parts
    assert told.hits == (Reported(1010, b"d"),) and told.samples == (inside,)
    assert told.busy_ns == 50 * MS and not told.ended


def test_a_lease_that_others_have_searched_ends() -> None:
    it = Bench()
    it.hold(Grant(0, 300, 1))
    ask = it.ask(want=2)
    for grant in ask.leases:
        it.tell(part(grant))
    for run_id in list(it.out):
        it.finish(run_id)
    last = it.up()
    it.ack(last)
    while it.core._jobs[J].leases:
        for run_id in list(it.out):
            it.finish(run_id)
        for _, message in it.tick(20 * MS):
            if isinstance(message, TaskReport):
                it.ack(message)
                last = message
    assert last.parts[-1].ended and not last.parts[-1].error


def test_what_a_child_gives_up_is_ours_again() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, count=20, ended=True))
    assert it.todo == [(200, 1000), (1020, 2000)]


def test_a_silent_child_s_unreported_part_is_ours_again() -> None:
    it = bench()
    one, two = it.ask(want=2).leases
    it.tell(part(one, count=20))
    it.tick(2 * SECOND)
    it.tell(part(two, count=0))  # as it does once a second
    it.tick(1600 * MS)
    assert (1020, 1050) in it.todo and not any(start <= 1050 < stop for start, stop in it.todo)
    assert any("k is silent" in text for text in it.notices)


def test_a_lost_child_s_unreported_part_is_ours_again() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, count=20))
    it.do(it.core.on_lost(K))
    assert it.todo == [(200, 1000), (1020, 2000)]
    assert it.core.redistribution.slots(J) == 0


def test_a_restarted_child_holds_nothing() -> None:
    it = bench()
    it.ask()
    (grant,) = it.ask(incarnation=2).leases
    assert (grant.start, grant.count) == (1000, 50)


def test_of_a_late_report_counts_what_nobody_has_begun_again() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.do(it.core.on_lost(K))
    (again,) = it.ask(L).leases
    assert again.start == 1000
    it.tell(part(again, count=20, ended=True), child=L)
    it.tell(part(grant))
    assert it.todo == [(200, 1000), (1050, 2000)]
    assert spans(it.up()) == [(2, 1000, 1050)]


def test_a_failing_child_fails_the_lease_with_its_error() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, count=10, error="no such kernel", ended=True))
    report = it.up()
    (told,) = [p for p in report.parts if p.lease == 2]
    assert [done.span for done in told.done] == [(1000, 1010)]
    assert [span.span for span in told.returned] == [(1050, 2000)]
    assert told.ended and told.error == "no such kernel"
    assert it.todo == [(200, 1000)]


# -- receipts


def test_a_report_is_kept_when_all_its_pieces_are_kept_above() -> None:
    it = Bench()
    it.hold(Grant(0, 220, 1), Grant(1000, 20, 2))
    one, two = it.ask(want=2).leases
    assert {one.start, two.start} == {1000, 200}, "it is of two leases"
    assert acks(it.tell(part(one), part(two), sequence=7)) == [("k", 7, False)]
    report = it.up()
    assert acks(it.ack(report)) == [("k", 7, True)]


def test_a_report_above_that_is_only_known_keeps_nothing() -> None:
    it = bench(epoch=1)
    (grant,) = it.ask().leases
    assert acks(it.tell(part(grant), sequence=7)) == [("k", 7, False)]
    report = it.up()
    assert acks(it.ack(report, kept=False)) == []
    assert acks(it.ack(report)) == [("k", 7, True)]


def test_a_report_without_news_is_kept_at_once() -> None:
    it = bench()
    (grant,) = it.ask().leases
    assert acks(it.tell(part(grant, count=0), sequence=7)) == [("k", 7, True)]


def test_a_repeated_report_counts_once_and_is_answered_each_time() -> None:
    it = bench()
    (grant,) = it.ask().leases
    for _ in range(3):
        assert acks(it.tell(part(grant, 1010, count=20), sequence=7)) == [("k", 7, False)]
    report = it.up()
    assert spans(report) == [(2, 1000, 1020)] and len(report.parts[0].hits) == 1
    it.ack(report)
    for _ in range(3):  # the word that it is kept was lost
        assert acks(it.tell(part(grant, 1010, count=20), sequence=7)) == [("k", 7, True)]
    assert not [m for _, m in it.tick(500 * MS) if isinstance(m, TaskReport)]
    assert acks(it.tell(part(grant, at=20), sequence=8)) == [("k", 8, False)], "and it is still believed"


def test_a_report_that_was_repeated_long_after_is_no_lie() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, count=20), sequence=7)
    it.ack(it.up())
    for number in range(1000, 1300):  # more than are remembered
        it.tell(part(grant, count=0), sequence=number)
    assert acks(it.tell(part(grant, count=20), sequence=7)) == [("k", 7, True)]
    assert not any("gets no more" in text for text in it.notices)


def test_of_a_cancelled_lease_nothing_need_be_kept() -> None:
    it = bench()
    (grant,) = it.ask().leases
    it.tell(part(grant, count=20), sequence=7)
    sent = it.do(it.core.on_task_cancel(it.now, C, TaskCancel("j", (2,))))
    assert acks(sent) == [("k", 7, True)]
    assert ("k", TaskCancel("j", (grant.lease,))) in sent
    assert not it.core.redistribution._sublets


def test_over_a_hand_over_a_report_is_kept_when_the_next_one_keeps_it() -> None:
    it = bench(epoch=1)
    (grant,) = it.ask().leases
    it.tell(part(grant, 1010, count=30), sequence=7)
    it.up()  # and no answer
    it.epoch = 2
    it.hear("d")
    ((_, report),) = [(to, m) for to, m in it.tick() if isinstance(m, TaskReport)]
    assert [(p.lease, p.done, p.hits) for p in report.parts] == [
        (0, (Done(1000, 30),), (Reported(1010, b"d"),))
    ]
    assert acks(it.ack(report, kept=False, src=D)) == []
    assert acks(it.ack(report, src=D)) == [("k", 7, True)]


def test_what_children_find_for_a_lease_that_is_over_is_for_the_next_coordinator() -> None:
    it = bench(epoch=1)
    (grant,) = it.ask().leases
    it.epoch = 2
    it.hear("d")
    it.tick()
    assert acks(it.tell(part(grant, 1010), sequence=7)) == [("k", 7, False)]
    (report,) = [m for to, m in it.tick(25 * MS) if isinstance(m, TaskReport) and to == D]
    assert spans(report) == [(0, 1000, 1050)] and report.parts[0].hits == (Reported(1010, b"d"),)
    assert acks(it.ack(report, src=D)) == [("k", 7, True)]


def test_what_was_searched_for_a_parent_that_is_gone_goes_up_as_such() -> None:
    it = bench()
    gone = Part(0, False, (Done(5000, 100),), (), 0, "")
    assert acks(it.tell(gone, child=L, sequence=7)) == [("l", 7, False)]
    report = it.up()
    assert spans(report) == [(0, 5000, 5100)]
    assert acks(it.ack(report)) == [("l", 7, True)]


def test_what_an_earlier_process_of_ours_passed_on_is_not_taken_for_what_we_pass_on() -> None:
    (old,) = bench().ask().leases
    it = bench(incarnation=2)
    (new,) = it.ask().leases
    assert old.lease != new.lease
    it.tell(Part(old.lease, True, (Done(7000, 50),), (), 0, ""), sequence=7)
    assert spans(it.up()) == [(0, 7000, 7050)], "it goes up as searched for somebody who is gone"
    assert not any("gets no more" in text for text in it.notices)
