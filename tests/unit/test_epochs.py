"""A coordinator after another: what docs/protocol.md says of epochs (section in the names), and where it begins."""

import random

import pytest

from tests.unit.test_coordinator import A, B, digest, emitted, sent
from zlb.core.config import CoordinatorConfig
from zlb.core.effects import Effect, Publish, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import HitFound, JobEnded, WorkerAccused
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.work import Hit, Job, Oracle, StopRule
from zlb.protocols.checkpoints import Received, Resumed
from zlb.protocols.coordinator import Coordinator
from zlb.wire.messages import (
    Done,
    JobAdvert,
    JobClosed,
    Part,
    Refused,
    Reported,
    Spec,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)


def coordinator(
    epoch: int = 2,
    resumed: Resumed | None = None,
    rule: StopRule = StopRule.ALL,
    wanted: int = 0,
    stop: int = 101,
) -> Coordinator:
    job = Job(JobId("j"), "k", b"", ((1, stop),), rule, wanted)
    config = CoordinatorConfig(chunk_count=10)
    return Coordinator(
        NodeId("me"), 1, job, Oracle(digest), config, random.Random(1), epoch, resumed or Resumed()
    )


def begun(now: int = 10 * SECOND, **changes: object) -> Coordinator:
    """One that hears already, and leases."""
    core = coordinator(**changes)  # type: ignore[arg-type]
    core.on_start(now - CoordinatorConfig().adopt_ns)
    return core


def orphans(start: int, stop: int, hits: list[int] | None = None) -> Part:
    """Searched under an earlier epoch."""
    found = [n for n in range(start, stop) if digest(n)] if hits is None else hits
    return Part(
        0, False, (Done(start, stop - start),), tuple(Reported(n, digest(n) or b"?") for n in found), 0, ""
    )


def report(
    core: Coordinator, *parts: Part, sequence: int = 5, epoch: int = 2, src: NodeId = A, incarnation: int = 1
) -> list[Effect]:
    return core.on_task_report(10 * SECOND, src, TaskReport("j", incarnation, sequence, parts, epoch))


def leased(core: Coordinator, now: int = 10 * SECOND, epoch: int = 2) -> list[tuple[int, int, int]]:
    effects = core.on_task_request(now, A, TaskRequest("j", 1, now // MS, 1, 0.0, True, epoch))
    return [
        (grant.lease, *grant.span) for transfer in sent(effects, TaskTransfer) for grant in transfer.leases
    ]


def test_job_advert_names_epoch_and_priority() -> None:
    core = coordinator(epoch=3)
    core.on_start(0)
    core.on_steered(0, paused=False, priority=8)
    (advert,) = [effect.message for effect in core.on_tick(0) if isinstance(effect, Publish)]
    assert isinstance(advert, JobAdvert) and (advert.epoch, advert.priority) == (3, 8)


def test_task_request_of_a_higher_epoch_is_stale_here() -> None:
    core = begun()
    for effects in (
        core.on_task_request(10 * SECOND, A, TaskRequest("j", 1, 1, 1, 0.0, True, 3)),
        report(core, orphans(1, 5), epoch=3),
    ):
        assert [refused.code for refused in sent(effects, Refused)] == [ErrorCode.STALE_EPOCH]
        assert len(effects) == 1
    assert not core.ledger.done


def test_task_request_of_a_lower_epoch_has_no_effect_and_tells_of_ours() -> None:
    core = begun()
    for effects in (
        core.on_task_request(10 * SECOND, A, TaskRequest("j", 1, 1, 1, 0.0, True, 1)),
        report(core, orphans(1, 5), epoch=1),
    ):
        assert [advert.epoch for advert in sent(effects, JobAdvert)] == [2] and not sent(effects, TaskAck)
    assert not core.ledger.done and not core.ledger.leases


def test_task_request_of_a_lower_epoch_is_answered_by_the_advert() -> None:
    effects = begun().on_task_request(10 * SECOND, A, TaskRequest("j", 1, 1, 1, 0.0, True, 1))
    assert [advert.epoch for advert in sent(effects, JobAdvert)] == [2]
    assert not sent(effects, TaskTransfer)


def test_task_transfer_one_that_takes_over_leases_nothing_at_first_and_then_at_once() -> None:
    core = coordinator()
    core.on_start(0)
    adverts = []
    while core.deadline() <= 2 * SECOND:
        now = core.deadline()
        adverts += [(now, e.message.unleased) for e in core.on_tick(now) if isinstance(e, Publish)]  # type: ignore[attr-defined]
        if now < 2 * SECOND:
            assert leased(core, now + 1) == []
    assert adverts[-1] == (2 * SECOND, 100) and {unleased for _, unleased in adverts[:-1]} == {0}
    assert leased(core, 2 * SECOND + MS) == [(1, 1, 11)]


def test_task_transfer_the_first_coordinator_of_a_job_leases_at_once() -> None:
    core = coordinator(epoch=1)
    core.on_start(0)
    assert leased(core, 0, epoch=1) == [(1, 1, 11)]


def test_task_report_lease_0_is_what_was_searched_before() -> None:
    core = begun()
    effects = report(core, orphans(1, 31))
    assert [hit.n for hit in emitted(effects, HitFound)] == [7, 14, 21, 28] and not sent(effects, Refused)
    assert list(core.ledger.done) == [(1, 31)] and leased(core) == [(1, 31, 41)]
    assert sent(effects, TaskAck) == [TaskAck("j", 5, False)]
    assert core.checkpoints is not None
    delta = core.checkpoints.take()
    assert (delta.done, delta.reports) == (((1, 31),), (Received(A, 1, 5),))
    assert [hit.n for hit in delta.hits] == [7, 14, 21, 28]


def test_task_report_lease_0_counts_once_however_often_it_comes() -> None:
    core = begun()
    for _ in range(3):
        report(core, orphans(1, 31))
    assert core.hits == 4 and core.ledger.tested == 30
    report(core, orphans(1, 31), src=B)  # another one has searched it too
    assert core.hits == 4 and core.ledger.tested == 60


def test_task_report_lease_0_of_a_restarted_worker_is_not_taken_for_a_repetition() -> None:
    core = begun()
    report(core, orphans(1, 11))
    report(core, orphans(11, 21), incarnation=2)
    assert list(core.ledger.done) == [(1, 21)]


def test_task_report_lease_0_takes_integers_out_of_live_leases() -> None:
    core = begun()
    ((lease, start, stop),) = leased(core)
    report(core, orphans(start, stop), src=B)
    assert not core.ledger.leases[lease].remaining  # type: ignore[index]


def test_task_report_lease_0_outside_of_the_job_is_of_no_account() -> None:
    core = begun(stop=11)
    effects = report(core, Part(0, False, (Done(1000, 50),), (Reported(1001, digest(1001) or b""),), 0, ""))
    assert not core.ledger.done and not emitted(effects, HitFound) and core.ended is None


@pytest.mark.parametrize(
    "wrong",
    [
        orphans(1, 11, hits=[8]),
        Part(0, False, (Done(1, 5),), (Reported(14, b"\x0e"),), 0, ""),
        Part(0, False, (), (Reported(14, b"\x0e"),), 0, ""),
    ],
    ids=["no hit", "hit elsewhere", "hit of nothing done"],
)
def test_task_report_lease_0_with_a_bad_hit_benches_its_worker(wrong: Part) -> None:
    core = begun()
    core.on_neighbour(0, B)
    effects = report(core, wrong)
    assert core.foreman.bad_hits == 1 and not core.hits and not core.ledger.done and core.ended is None
    assert sent(effects, JobClosed) == [
        JobClosed("j", "for you: you reported a hit that is none")
    ] and emitted(effects, WorkerAccused)


def test_task_report_lease_0_without_epochs_counts_only_what_was_lost_with_a_worker() -> None:
    core = coordinator(epoch=0)
    core.on_start(0)
    core.on_neighbour(0, B)
    core.on_task_request(0, B, TaskRequest("j", 1, 1, 1, 0.0, True))
    report(core, orphans(1, 31), epoch=0)
    assert not core.ledger.done, "somebody has it"
    core.on_lost(1, B)
    report(core, orphans(1, 31), epoch=0, sequence=9)
    (lost,) = [lease.span for lease in core.ledger.past.values()]
    assert list(core.ledger.done) == [lost]
    core.ledger.check()


def test_task_report_lease_0_may_end_the_job() -> None:
    core = begun()
    effects = report(core, orphans(1, 101))
    assert emitted(effects, JobEnded)[0].status == "complete"


def test_task_ack_kept_is_not_told_to_a_worker_that_was_restarted_since() -> None:
    core = begun()
    report(core, orphans(1, 11))
    report(core, sequence=1, incarnation=2)
    assert core.on_kept([Received(A, 1, 5), Received(B, 1, 5)]) == []
    assert core.on_kept([Received(A, 2, 5)]) == [Send(A, TaskAck("j", 5))]


# -- where those before it ended


def test_resumed_done_is_not_leased_again_and_counts_are_carried_on() -> None:
    core = begun(resumed=Resumed(((1, 41), (61, 101)), 3, None, 90, 7))
    assert leased(core) == [(1, 41, 51)]
    assert (core.hits, core.ledger.tested, core.ledger.released) == (3, 90, 7)
    assert core.progress(10 * SECOND).done == 80


def test_resumed_count_ends_with_the_hits_that_are_left_to_find() -> None:
    core = begun(resumed=Resumed(((1, 20),), 2), rule=StopRule.COUNT, wanted=3)
    assert core.ended is None
    effects = report(core, orphans(20, 41))
    assert [hit.n for hit in emitted(effects, HitFound)] == [21]
    assert emitted(effects, JobEnded)[0].status == "found" and core.hits == 3


def test_resumed_count_that_has_all_ends_at_once() -> None:
    core = coordinator(resumed=Resumed(((1, 20),), 2), rule=StopRule.COUNT, wanted=2)
    assert emitted(core.on_start(0), JobEnded)[0].status == "found"


def test_resumed_lowest_wants_nothing_above_the_one_that_is_known() -> None:
    core = begun(resumed=Resumed(((30, 60),), 1, Hit(35, b"#")), rule=StopRule.LOWEST, wanted=1)
    assert core.ledger.wanted.stop == 36 and core.ended is None and core.hits == 0
    effects = report(core, orphans(1, 30))
    assert [(hit.n, hit.worker) for hit in emitted(effects, HitFound)] == [(7, A)]
    assert emitted(effects, JobEnded)[0].status == "found"


def test_resumed_lowest_that_is_proven_ends_with_it() -> None:
    core = coordinator(resumed=Resumed(((1, 60),), 1, Hit(35, b"#")), rule=StopRule.LOWEST, wanted=1)
    effects = core.on_start(0)
    assert emitted(effects, HitFound) == [HitFound(JobId("j"), 35, b"#", NodeId("me"))]
    assert emitted(effects, JobEnded)[0].status == "found"


def test_resumed_with_everything_done_ends_at_once() -> None:
    core = coordinator(resumed=Resumed(((1, 101),), 14))
    assert emitted(core.on_start(0), JobEnded)[0].status == "complete"


# -- the end, and people


def test_the_end_in_an_epoch_stops_leases_but_closes_nothing_until_it_is_in_the_log() -> None:
    core = begun(rule=StopRule.FIRST, wanted=1)
    ((lease, *_),) = leased(core)
    effects = report(core, orphans(50, 60), src=B)
    assert sent(effects, TaskCancel) == [TaskCancel("j", (lease,))] and not sent(effects, JobClosed)
    assert core.on_task_request(10 * SECOND, A, TaskRequest("j", 1, 99, 1, 0.0, True, 2)) == []
    assert core.close("found") == [Send(A, JobClosed("j", "found")), Send(B, JobClosed("j", "found"))]


def test_paused_leases_nothing_and_says_so_and_takes_reports_all_the_same() -> None:
    core = begun()
    ((lease, start, stop),) = leased(core)
    core.on_steered(10 * SECOND, paused=True, priority=5)
    (advert,) = [e.message for e in core.on_tick(10 * SECOND) if isinstance(e, Publish)]
    assert isinstance(advert, JobAdvert) and advert.unleased == 0
    assert leased(core, 11 * SECOND) == []
    report(core, Part(lease, True, (Done(start, stop - start),), (Reported(7, b"\x07"),), MS, ""))
    assert core.ledger.done.measure == 10
    core.on_steered(12 * SECOND, paused=False, priority=5)
    assert leased(core, 12 * SECOND) == [(2, 11, 21)]


def test_steering_to_what_it_is_already_is_no_news() -> None:
    core = begun()
    core.on_tick(10 * SECOND)
    at = core.deadline()
    core.on_steered(10 * SECOND, paused=False, priority=5)
    assert core.deadline() == at > 10 * SECOND


def test_the_spec_is_told_to_whoever_takes_up_a_job_in_a_later_epoch() -> None:
    core = begun()
    effects = core.on_task_request(10 * SECOND, A, TaskRequest("j", 1, 1, 1, 0.0, False, 2))
    assert sent(effects, TaskTransfer)[0].spec == Spec("k", b"", 0)
