"""The coordinator's duties, one test per sentence of docs/protocol.md (section in the name) and of its stop rules."""

import random
from collections.abc import Callable

import pytest

from zlb.core.config import CoordinatorConfig
from zlb.core.effects import Effect, Emit, Publish, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import HitFound, JobEnded, Notice
from zlb.core.ids import JobId, NodeId, Span
from zlb.core.limits import HITS_PER_REPORT_MAX, INTEGERS_MAX, MS, RATE_MAX, SECOND
from zlb.core.timers import NEVER
from zlb.core.work import Job, Oracle, StopRule
from zlb.protocols import coordinator as module
from zlb.protocols import foreman
from zlb.protocols.coordinator import Coordinator
from zlb.wire.codec import decode, encode
from zlb.wire.messages import (
    Done,
    JobAdvert,
    JobClosed,
    Part,
    Refused,
    Reported,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
CONFIG = CoordinatorConfig(chunk_count=10)


def digest(n: int) -> bytes | None:
    """Every multiple of 7 hits."""
    return bytes([n % 256]) if n % 7 == 0 else None


def coordinator(
    rule: StopRule = StopRule.ALL,
    wanted: int = 0,
    spans: tuple[Span, ...] = ((1, 101),),
    config: CoordinatorConfig = CONFIG,
    check: Callable[[int], bytes | None] = digest,
) -> Coordinator:
    job = Job(JobId("j"), "k", b"\x80", spans, rule, wanted)
    core = Coordinator(NodeId("me"), 1, job, Oracle(check), config, random.Random(1))
    assert core.on_start(0) == []
    return core


def request(sequence: int = 1, want: int = 1, incarnation: int = 1, rate: float = 0.0) -> TaskRequest:
    return TaskRequest("j", incarnation, sequence, want, rate, True)


def part(lease: int, start: int, stop: int, ended: bool = False, hits: list[int] | None = None) -> Part:
    """News of a lease: all of `[start, stop)` is done, with the hits it has unless told otherwise."""
    found = [n for n in range(start, stop) if digest(n)] if hits is None else hits
    done = (Done(start, stop - start),) if start < stop else ()
    return Part(lease, ended, done, tuple(Reported(n, digest(n) or b"?") for n in found), MS, "")


def report(*parts: Part, sequence: int = 2, incarnation: int = 1) -> TaskReport:
    return TaskReport("j", incarnation, sequence, parts)


def lease(
    core: Coordinator, node: NodeId, sequence: int = 1, want: int = 1, now: int = 0
) -> list[tuple[int, int, int]]:
    """(lease, start, stop) of what `node` gets."""
    (transfer,) = sent(core.on_task_request(now, node, request(sequence, want)), TaskTransfer)
    return [(grant.lease, *grant.span) for grant in transfer.leases]


def sent(effects: list[Effect], kind: type) -> list:  # type: ignore[type-arg]
    return [
        effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def emitted(effects: list[Effect], kind: type) -> list:  # type: ignore[type-arg]
    return [effect.event for effect in effects if isinstance(effect, Emit) and isinstance(effect.event, kind)]


def test_job_advert_is_published_twice_a_second_and_at_once_when_integers_return() -> None:
    core = coordinator()
    advert = JobAdvert("me", 1, 1, "j", "k", 100)
    assert core.deadline() == 0 and Publish(advert) in core.on_tick(0)
    assert Publish(replace_advert(advert, 2, 100)) in core.on_tick(500 * MS)
    (held,) = lease(core, A, now=500 * MS)
    core.on_task_report(600 * MS, A, report(part(held[0], 1, 4, ended=True)))
    assert core.deadline() <= 600 * MS
    assert Publish(replace_advert(advert, 3, 97)) in core.on_tick(600 * MS)


def replace_advert(advert: JobAdvert, sequence: int, unleased: int) -> JobAdvert:
    return JobAdvert(advert.node, advert.incarnation, sequence, advert.job, advert.kernel, unleased)


def test_job_advert_of_the_whole_range_fits_the_wire() -> None:
    core = coordinator(spans=((0, INTEGERS_MAX),))
    for effect in core.on_tick(0):
        if isinstance(effect, Publish):
            assert decode(encode(effect.message)) == JobAdvert("me", 1, 1, "j", "k", INTEGERS_MAX - 1)


def test_task_request_a_repeated_sequence_gets_the_same_leases() -> None:
    core = coordinator()
    first = core.on_task_request(0, A, request(1, want=3))
    assert core.on_task_request(1, A, request(1, want=3)) == first
    assert len(sent(first, TaskTransfer)[0].leases) == 3 and len(core.ledger.leases) == 3


def test_task_request_a_repeated_sequence_gets_only_those_still_live() -> None:
    core = coordinator()
    (one, two) = lease(core, A, want=2)
    core.on_task_report(1, A, report(part(one[0], one[1], one[2], ended=True)))
    assert lease(core, A, want=2) == [two]


def test_task_request_a_lower_sequence_is_not_answered() -> None:
    core = coordinator()
    lease(core, A, sequence=5)
    assert core.on_task_request(0, A, request(4)) == [] and len(core.ledger.leases) == 1


def test_task_request_a_higher_sequence_gets_new_leases() -> None:
    core = coordinator()
    assert lease(core, A, sequence=1) != lease(core, A, sequence=2) and len(core.ledger.leases) == 2


def test_task_request_sequences_of_workers_are_their_own() -> None:
    core = coordinator()
    lease(core, A, sequence=9)
    assert lease(core, B, sequence=1) == [(2, 11, 21)]


def test_task_request_no_leases_means_nothing_to_lease_now() -> None:
    core = coordinator(spans=((1, 5),))
    assert lease(core, A) == [(1, 1, 5)] and lease(core, B) == []


def test_task_request_the_spec_is_told_to_who_does_not_know_it() -> None:
    core = coordinator(StopRule.COUNT, 3)
    (transfer,) = sent(core.on_task_request(0, A, TaskRequest("j", 1, 1, 1, 0.0, False)), TaskTransfer)
    assert (transfer.spec.kernel, transfer.spec.params, transfer.spec.hits_max) == ("k", b"\x80", 3)
    (transfer,) = sent(core.on_task_request(0, A, request(2)), TaskTransfer)
    assert transfer.spec is None


@pytest.mark.parametrize(
    ("rule", "wanted", "hits_max"),
    [
        (StopRule.FIRST, 1, 1),
        (StopRule.LOWEST, 1, 1),
        (StopRule.ALL, 0, 0),
        (StopRule.COUNT, HITS_PER_REPORT_MAX, HITS_PER_REPORT_MAX),
        (StopRule.COUNT, HITS_PER_REPORT_MAX + 1, 0),
    ],
)
def test_task_transfer_hits_max_is_what_the_rule_wants(rule: StopRule, wanted: int, hits_max: int) -> None:
    assert coordinator(rule, wanted)._spec().hits_max == hits_max


def test_task_transfer_a_higher_incarnation_ends_the_leases_of_the_lower() -> None:
    core = coordinator()
    lease(core, A, sequence=7, want=2)
    effects = core.on_task_request(1, A, request(sequence=1, incarnation=2))
    assert [grant.span for grant in sent(effects, TaskTransfer)[0].leases] == [(1, 11)]
    assert [held.span for held in core.ledger.leases.values()] == [(1, 11)] and core.ledger.released == 20


def test_task_transfer_a_lower_incarnation_is_not_heard() -> None:
    core = coordinator()
    core.on_task_request(0, A, request(incarnation=5))
    assert core.on_task_request(0, A, request(sequence=9, incarnation=4)) == []
    assert core.on_task_report(0, A, report(part(1, 1, 11), incarnation=4)) == []


def test_task_request_the_highest_rate_the_codec_takes_is_survived() -> None:
    core = coordinator(config=CoordinatorConfig())
    message = decode(encode(TaskRequest("j", 1, 1, 1, RATE_MAX, True)))
    assert isinstance(message, TaskRequest) and core.on_task_request(0, A, message)


def test_task_report_is_acknowledged_when_entered() -> None:
    core = coordinator()
    (held,) = lease(core, A)
    effects = core.on_task_report(1, A, report(part(*held), sequence=9))
    assert effects == [
        Emit(HitFound(JobId("j"), 7, b"\x07", A)),
        Send(A, TaskAck("j", 9)),
    ]
    assert core.ledger.done.measure == 10


def test_task_report_repeated_counts_once_and_is_acknowledged_again() -> None:
    core = coordinator()
    (held,) = lease(core, A)
    message = report(part(*held, ended=True))
    core.on_task_report(1, A, message)
    assert core.on_task_report(2, A, message) == [Send(A, TaskAck("j", 2))]
    assert (core.ledger.tested, core.hits) == (10, 1)


def test_task_report_for_anothers_lease_is_not_yours() -> None:
    core = coordinator()
    (held,) = lease(core, A)
    effects = core.on_task_report(1, B, report(part(*held)))
    assert [refused.code for refused in sent(effects, Refused)] == [ErrorCode.NOT_YOURS]
    assert core.strange == 1 and not core.ledger.done


@pytest.mark.parametrize(
    "wrong",
    [
        Part(99, False, (Done(1, 1),), (), 1, ""),
        Part(1, False, (Done(0, 5),), (), 1, ""),
        Part(1, False, (Done(5, 7),), (), 1, ""),
        Part(1, False, (Done(1, 3),), (Reported(7, b"\x07"),), 1, ""),
    ],
    ids=["no such lease", "below the lease", "above the lease", "hit outside of done"],
)
def test_task_report_of_what_is_not_in_the_lease_has_no_effect(wrong: Part) -> None:
    core = coordinator()
    lease(core, A)
    effects = core.on_task_report(1, A, report(wrong))
    assert sent(effects, Refused) and core.strange == 1 and not core.ledger.done and not core.hits


def test_task_report_after_the_lease_expired_is_merged_and_counted_once() -> None:
    core = coordinator(spans=((1, 11),))
    (held,) = lease(core, A)
    effects = core.on_tick(3 * SECOND)
    assert emitted(effects, Notice) and not core.ledger.leases and core.ledger.released == 10
    (other,) = lease(core, B, now=3 * SECOND)
    effects = core.on_task_report(4 * SECOND, A, report(part(*held, ended=True)))
    assert emitted(effects, HitFound) == [HitFound(JobId("j"), 7, b"\x07", A)]
    assert emitted(effects, JobEnded)[0].status == "complete"
    assert sent(core.on_task_report(5 * SECOND, B, report(part(*other))), JobClosed)
    assert core.hits == 1


def test_task_report_a_lease_not_named_for_three_seconds_expires() -> None:
    core = coordinator()
    lease(core, A)
    (other,) = lease(core, B)
    for now in range(0, 3 * SECOND, 100 * MS):
        core.on_tick(now)
        if now == 2 * SECOND:
            core.on_task_report(now, B, report(part(other[0], 0, 0)))
    assert len(core.ledger.leases) == 2
    core.on_tick(3 * SECOND + 3 * SECOND // module.SWEEPS)
    assert [held.worker for held in core.ledger.leases.values()] == [B] and core.ledger.released == 10


def test_task_report_only_the_unreported_part_returns() -> None:
    core = coordinator()
    (held,) = lease(core, A)
    core.on_task_report(1, A, report(part(held[0], 1, 8)))
    core.on_tick(4 * SECOND)
    assert core.ledger.released == 3 and (8, 101) in list(core.ledger.unleased)


def test_task_report_what_a_lost_worker_had_no_time_for_was_not_hashed() -> None:
    core = coordinator(spans=((1, 2001),), config=CoordinatorConfig(chunk_count=1000))
    first, _ = lease(core, A, want=2)
    core.on_task_report(SECOND, A, report(part(first[0], 1, 2)))  # a thousand a second
    core.on_lost(SECOND + 300 * MS, A)
    assert core.ledger.unleased.measure == 1999
    assert core.ledger.released == 200, "half of what it does in that time and in a slice"
    core.on_task_report(2 * SECOND, A, report(part(first[0], 2, 602), sequence=3))
    assert core.ledger.released == 600, "it had time for more"


def test_task_report_a_worker_that_reports_no_more_is_thought_to_have_vanished_before_its_next_report() -> (
    None
):
    core = coordinator(spans=((1, 10_001),), config=CoordinatorConfig(chunk_count=5000))
    (held,) = lease(core, A)
    core.on_task_report(SECOND, A, report(part(held[0], 1, 2)))  # a thousand a second
    core.on_tick(5 * SECOND)
    assert not core.ledger.leases and core.ledger.released == 550


def test_task_report_ended_gives_the_rest_back() -> None:
    core = coordinator()
    (held,) = lease(core, A)
    core.on_task_report(1, A, report(part(held[0], 3, 5, ended=True)))
    assert list(core.ledger.unleased) == [(1, 3), (5, 101)] and not core.ledger.leases
    assert core.ledger.released == 0 and not core.foreman.crew[A].leases


def test_job_closed_answers_whoever_comes_late() -> None:
    core = coordinator(StopRule.FIRST, 1)
    (held,) = lease(core, A)
    effects = core.on_task_report(1, A, report(part(*held)))
    assert Send(A, JobClosed("j", "found")) in effects and not sent(effects, TaskAck)
    for late in (
        core.on_task_request(2, B, request()),
        core.on_task_report(2, B, report(part(*held))),
    ):
        assert late == [Send(B, JobClosed("j", "found"))]


def test_errors_of_a_job_that_is_not_ours() -> None:
    core = coordinator()
    for effects in (
        core.on_task_request(0, A, TaskRequest("other", 1, 1, 1, 0.0, True)),
        core.on_task_report(0, A, TaskReport("other", 1, 1, ())),
    ):
        assert [refused.code for refused in sent(effects, Refused)] == [ErrorCode.NOT_A_COORDINATOR]


def test_errors_full_when_a_job_has_all_the_workers_it_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreman, "WORKERS_PER_JOB_MAX", 1)
    core = coordinator()
    lease(core, A)
    effects = core.on_task_request(0, B, request())
    assert [refused.code for refused in sent(effects, Refused)] == [ErrorCode.FULL]
    assert lease(core, A, sequence=2)


def test_errors_full_ends_when_workers_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreman, "WORKERS_PER_JOB_MAX", 1)
    core = coordinator()
    lease(core, A)
    core.on_lost(1, A)
    assert lease(core, B)


def test_goodbye_ends_the_leases_of_the_worker_at_once() -> None:
    core = coordinator()
    core.on_neighbour(0, A)
    lease(core, A)
    effects = core.on_lost(1, A)
    assert emitted(effects, Notice) and not core.ledger.leases and core.deadline() <= 1


def test_a_new_neighbour_is_handed_the_advert() -> None:
    core = coordinator()
    assert core.on_neighbour(0, A) == [Send(A, JobAdvert("me", 1, 1, "j", "k", 100))]


# -- stop rules


def test_lowest_wants_nothing_above_the_best_hit_and_cancels_it() -> None:
    core = coordinator(StopRule.LOWEST, 1)
    (low, high), (rest,) = lease(core, A, want=2), lease(core, B)
    effects = core.on_task_report(1, A, report(part(high[0], high[1], 15, ended=True)))
    assert effects == [
        Send(A, TaskCancel("j", (high[0],))),
        Send(B, TaskCancel("j", (rest[0],))),
        Send(A, TaskAck("j", 2)),
    ]
    assert core.ledger.wanted.stop == 15 and list(core.ledger.unleased) == []
    assert core.ended is None and core.progress(1).hits == 1
    effects = core.on_task_report(2, A, report(part(low[0], 1, 8, ended=True), sequence=3))
    assert emitted(effects, HitFound) == [HitFound(JobId("j"), 7, b"\x07", A)]
    assert emitted(effects, JobEnded)[0].status == "found"


def test_lowest_does_not_end_while_lower_integers_are_open() -> None:
    core = coordinator(StopRule.LOWEST, 1)
    (held,) = lease(core, A)
    effects = core.on_task_report(1, A, report(part(held[0], 7, 11)))
    assert not emitted(effects, JobEnded) and list(core.ledger.leases[held[0]].remaining) == [(1, 7)]  # type: ignore[index]
    assert emitted(core.on_task_report(2, A, report(part(held[0], 1, 7), sequence=3)), HitFound)


def test_count_ends_at_the_hit_that_was_wanted() -> None:
    core = coordinator(StopRule.COUNT, 2)
    held = lease(core, A, want=3)
    effects = core.on_task_report(1, A, report(*(part(*one, ended=True) for one in held)))
    assert [hit.n for hit in emitted(effects, HitFound)] == [7, 14] and core.hits == 2
    assert emitted(effects, JobEnded)[0].status == "found"


@pytest.mark.parametrize(
    ("rule", "wanted", "status"),
    [(StopRule.ALL, 0, "complete"), (StopRule.FIRST, 1, "exhausted"), (StopRule.LOWEST, 1, "exhausted")],
)
def test_the_end_of_the_range_has_its_name(rule: StopRule, wanted: int, status: str) -> None:
    core = coordinator(rule, wanted, ((1, 6),))
    (held,) = lease(core, A)
    effects = core.on_task_report(1, A, report(part(*held, ended=True)))
    (end,) = emitted(effects, JobEnded)
    assert (end.status, end.done, end.tested, end.hits) == (status, 5, 5, 0)


def test_a_job_without_integers_ends() -> None:
    job = Job(JobId("j"), "k", b"", (), StopRule.ALL, 0)
    core = Coordinator(NodeId("me"), 1, job, Oracle(lambda n: None), CoordinatorConfig(), random.Random(1))
    (end,) = emitted(core.on_start(0), JobEnded)
    assert end.status == "complete"


def test_cancel_ends_once() -> None:
    core = coordinator()
    lease(core, A)
    effects = core.on_cancel(5, "timeout")
    assert effects[0] == Send(A, JobClosed("j", "cancelled"))
    (end,) = emitted(effects, JobEnded)
    assert (end.status, end.detail, end.elapsed_ns) == ("cancelled", "timeout", 5)
    assert core.on_cancel(6, "again") == []
    assert [effect.message.unleased for effect in core.on_tick(6) if isinstance(effect, Publish)] == [0]  # type: ignore[attr-defined]
    assert core.deadline() == NEVER and core.on_tick(NEVER) != [] and core.deadline() == NEVER


# -- workers that cannot


def failed(lease_id: int, why: str = "broken") -> Part:
    return Part(lease_id, True, (), (), 0, why)


def test_a_bad_hit_benches_its_worker() -> None:
    core = coordinator()
    core.on_neighbour(0, B)
    (held,) = lease(core, A)
    effects = core.on_task_report(1, A, report(part(held[0], 1, 11, hits=[8])))
    assert core.foreman.bad_hits == 1 and core.hits == 0 and not core.ledger.done and not core.ledger.leases
    assert (
        Send(A, JobClosed("j", "for you: you reported a hit that is none")) in effects and core.ended is None
    )
    assert core.on_task_request(2, A, request(9)) == [
        Send(A, JobClosed("j", "for you: you reported a hit that is none"))
    ]
    assert lease(core, B) == [(2, 1, 11)]


def test_a_hit_with_a_wrong_digest_is_bad() -> None:
    core = coordinator()
    core.on_neighbour(0, B)
    (held,) = lease(core, A)
    core.on_task_report(1, A, report(Part(held[0], False, (Done(1, 10),), (Reported(7, b"?"),), 1, "")))
    assert core.foreman.bad_hits == 1 and core.hits == 0


def test_integers_that_a_worker_fails_on_are_leased_alone_to_another() -> None:
    core = coordinator()
    for node in (A, B, C):
        core.on_neighbour(0, node)
    (held,) = lease(core, A)
    effects = core.on_task_report(1, A, report(failed(held[0])))
    assert core.ended is None and core.ledger.open == 100 and not sent(effects, JobClosed)
    assert lease(core, A, sequence=2)[0][1:] == (11, 21), "not those again"
    assert lease(core, B)[0][1:] == (1, 11)
    core.ledger.check()


def test_a_subjob_that_fails_on_three_peers_fails_the_job_and_is_named() -> None:
    core = coordinator()
    nodes = [A, B, C, NodeId("d")]
    for node in nodes:
        core.on_neighbour(0, node)
    for node in nodes[:2]:
        assert lease(core, node)[0][1:] == (1, 11)
        core.on_task_report(1, node, report(failed(max(core.ledger.leases))))
        assert core.ended is None
    (poison,) = lease(core, C)
    (end,) = emitted(core.on_task_report(1, C, report(failed(poison[0]))), JobEnded)
    assert (end.status, end.detail) == ("failed", "broken (integers 1 to 11: 3 of 4 peers failed on it)")


def test_when_all_there_are_have_failed_on_it_the_job_has_failed() -> None:
    core = coordinator()
    core.on_neighbour(0, A)
    core.on_neighbour(0, B)
    (one,) = lease(core, A)
    core.on_task_report(1, A, report(failed(one[0])))
    assert core.ended is None
    (two,) = lease(core, B)
    (end,) = emitted(core.on_task_report(1, B, report(failed(two[0]))), JobEnded)
    assert end.detail == "broken (integers 1 to 11: 2 of 2 peers failed on it)"


def test_a_worker_that_fails_three_times_in_a_row_gets_no_more() -> None:
    core = coordinator()
    core.on_neighbour(0, A)
    core.on_neighbour(0, B)
    for number in range(1, 4):
        (held,) = lease(core, A, sequence=number)
        effects = core.on_task_report(1, A, report(failed(held[0]), sequence=number + 10))
    why = "for you: you failed 3 times in a row, at last: broken"
    assert sent(effects, JobClosed) == [JobClosed("j", why)] and core.ended is None
    assert core.on_task_request(2, A, request(9)) == [Send(A, JobClosed("j", why))]
    assert [lease(core, B, sequence=number)[0][1:] for number in (1, 2, 3)] == [(1, 11), (11, 21), (21, 31)]


def test_a_failed_worker_that_does_a_lease_is_forgiven() -> None:
    core = coordinator()
    core.on_neighbour(0, B)
    core.on_neighbour(0, A)
    for number in (1, 2):
        (held,) = lease(core, A, sequence=number)
        core.on_task_report(1, A, report(failed(held[0]), sequence=number + 10))
    (held,) = lease(core, A, sequence=3)
    core.on_task_report(1, A, report(part(held[0], 21, 31, ended=True, hits=[21, 28]), sequence=20))
    assert core.foreman.crew[A].failures == 0


def test_a_worker_that_was_found_out_stays_so_when_it_restarts() -> None:
    core = coordinator()
    core.on_neighbour(0, B)
    (held,) = lease(core, A)
    core.on_task_report(1, A, report(part(held[0], 1, 11, hits=[8])))
    assert sent(core.on_task_request(2, A, request(incarnation=2)), JobClosed)


def test_a_worker_whose_kernel_failed_may_have_mended_it_when_it_restarts() -> None:
    core = coordinator()
    core.on_neighbour(0, B)
    for number in range(1, 4):
        (held,) = lease(core, A, sequence=number)
        core.on_task_report(1, A, report(failed(held[0]), sequence=number + 10))
    assert core.foreman.is_benched(A)
    assert len(sent(core.on_task_request(2, A, request(incarnation=2)), TaskTransfer)[0].leases) == 1
