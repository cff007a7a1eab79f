"""Jobs in a peer's hands: how they end, who takes them away, and what people want of them."""

from tests.unit.test_coordinators import ME, J, Office, V, W
from zlb.core.effects import Send
from zlb.core.limits import HITS_PER_JOB_MAX, SECOND
from zlb.core.work import StopRule
from zlb.protocols import commands as c
from zlb.protocols.commands import Status
from zlb.wire.messages import (
    JobClosed,
    Part,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
)
from zlb.wire.tracking import AskOutcome

# -- the end


def test_the_end_is_the_last_checkpoint_then_finish_and_only_then_job_closed() -> None:
    office = Office()
    office.begin(rule=StopRule.FIRST, wanted=1)
    one, two = office.lease(2)
    office.report(one)
    assert TaskCancel(J, (two[0],)) in office.told(TaskCancel)
    office.tick()
    assert office.commands == ["Checkpoint"] and office.registry.jobs[J].open
    office.answer()
    office.tick()
    assert office.commands == ["Finish"] and office.told(JobClosed) == []
    assert office.registry.jobs[J].hits == {7: b"\x07"}
    office.answer()
    assert office.registry.jobs[J].status is Status.FOUND and not office.registry.jobs[J].open
    assert office.told(JobClosed) == [JobClosed(J, "found")] and office.core.jobs == []


def test_a_job_that_ends_while_a_checkpoint_is_out_ends_after_it() -> None:
    office = Office()
    office.begin(stop=21)
    one, two = office.lease(2)
    office.report(one)
    office.tick(SECOND)
    office.report(two, sequence=10)
    seen = []
    for _ in range(3):
        office.tick()
        seen += office.commands
        office.answer()
    assert seen == ["Checkpoint", "Checkpoint", "Finish"]
    assert office.registry.jobs[J].status is Status.COMPLETE and office.registry.jobs[J].done == [(1, 20)]


def test_job_closed_answers_whoever_asks_after_the_end() -> None:
    office = Office()
    office.begin(rule=StopRule.FIRST, wanted=1)
    (one,) = office.lease()
    office.report(one)
    for _ in range(2):
        office.answer()
    office.told(JobClosed)
    office.roster()
    assert office.report(one) == [Send(W, JobClosed(J, "found"))]
    assert office.hear(TaskRequest(J, 1, 1, 1, 0.0, True, 1), V) == [Send(V, JobClosed(J, "found"))]


def test_a_job_with_enough_hits_in_its_checkpoints_ends_at_once() -> None:
    office = Office()
    office.submit(rule=StopRule.COUNT, wanted=2)
    office.commit(c.Checkpoint(J, 1, ((1, 20),), ((7, b"\x07"), (14, b"\x0e")), 20, 0))
    office.roster()
    office.answer()
    office.answer()
    assert office.registry.jobs[J].status is Status.FOUND


def test_another_coordinator_makes_us_forget_the_job_and_say_nothing() -> None:
    office = Office()
    office.begin()
    office.lease()
    office.out.clear()
    office.commit(c.Assign(J, "v", 2))
    office.roster()
    assert office.core.jobs == [] and office.out == []


def test_a_stale_checkpoint_makes_us_forget_the_job_and_say_nothing_to_workers() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease()
    office.report(one)
    office.commit(c.Assign(J, "v", 2))
    office.tick(SECOND)
    office.told(TaskAck)
    office.answer()
    assert office.core.jobs == [] and office.told(JobClosed) == [] and office.told(TaskAck) == []


def test_the_same_job_in_a_higher_epoch_is_begun_anew() -> None:
    office = Office()
    office.begin()
    office.commit(c.Assign(J, "me", 2))
    office.roster()
    office.roster()
    office.answer()
    coordinator = office.core.coordinator(J)
    assert coordinator is not None and coordinator.epoch == 2


def test_a_job_that_is_over_for_people_is_closed() -> None:
    office = Office()
    office.begin()
    office.lease()
    office.commit(c.Steer(J, Status.CANCELLED))
    office.roster()
    assert office.told(JobClosed) == [JobClosed(J, "over")] and office.core.jobs == []


def test_an_answer_that_was_given_up_means_nothing() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease()
    office.report(one)
    office.tick(SECOND)
    (ask,) = office.asks
    office.commit(c.Assign(J, "v", 2))
    office.roster()
    office.reply(ask, AskOutcome.DONE, c.done(None))
    assert office.core.jobs == [] and TaskAck(J, 9, True) not in office.told(TaskAck)


def test_a_job_with_too_many_hits_fails() -> None:
    office = Office()
    office.submit(stop=10 * HITS_PER_JOB_MAX)
    office.registry.jobs[J].hits = dict.fromkeys(range(1000, 1000 + HITS_PER_JOB_MAX), b"")
    office.roster()
    office.answer()
    (one,) = office.lease()
    office.report(one)
    office.tick(SECOND)
    office.answer()
    office.tick()
    assert office.commands == ["Finish"]
    office.answer()
    entry = office.registry.jobs[J]
    assert (entry.status, entry.detail) == (Status.FAILED, str(c.Denied.TOO_MANY_HITS))
    assert office.told(JobClosed) and office.core.jobs == []


def test_a_tracker_that_will_not_have_it_is_told_of_and_the_job_forgotten() -> None:
    office = Office()
    office.submit()
    office.roster()
    office.tick()
    office.reply(office.asks.pop(), AskOutcome.IMPOSSIBLE)
    assert office.notices == ["job j: the tracker says IMPOSSIBLE"] and office.core.jobs == []


# -- leaving


def test_who_is_about_to_leave_leases_nothing_more_and_takes_up_nothing_new() -> None:
    office = Office()
    office.begin()
    office.do(office.core.on_stop(office.now))
    assert office.lease() == []
    office.commit(c.Submit("k", "", "", "k", b"", ((1, 9),), StopRule.ALL, 0), c.Assign("k", "me", 1))
    office.roster()
    assert office.core.jobs == [J]


def test_what_is_still_heard_while_we_leave_is_checkpointed_at_once() -> None:
    office = Office()
    office.begin()
    one, two = office.lease(2)
    office.do(office.core.on_stop(office.now))
    for lease, sequence in ((one, 9), (two, 10)):
        office.report(lease, sequence=sequence)
        assert not office.core.drained
        office.answer()
    assert office.core.drained and office.registry.jobs[J].done == [(1, 20)]


# -- people


def test_pausing_stops_leasing_and_going_on_resumes_it() -> None:
    office = Office()
    office.begin()
    office.commit(c.Steer(J, Status.PAUSED))
    office.roster()
    assert office.lease() == []
    office.commit(c.Steer(J, Status.RUNNING))
    office.roster()
    assert office.lease(sequence=2) == [(1, 1, 11)]


def test_a_job_that_is_paused_when_it_begins_leases_nothing() -> None:
    office = Office()
    office.submit()
    office.commit(c.Steer(J, Status.PAUSED), c.Prioritise(J, 8))
    office.roster()
    office.answer()
    assert office.lease() == []
    coordinator = office.core.coordinator(J)
    assert coordinator is not None and coordinator.priority == 8


# -- workers


def test_a_neighbour_that_is_lost_loses_its_leases() -> None:
    office = Office()
    office.begin()
    office.lease()
    office.do(office.core.on_lost(1, W))
    assert office.lease(src=V) == [(2, 1, 11)]


def test_a_worker_that_cannot_does_not_fail_the_job_while_our_own_still_may() -> None:
    office = Office()
    office.do(office.core.on_neighbour(0, W))
    office.begin()
    (one,) = office.lease()
    office.hear(TaskReport(J, 1, 9, (Part(one[0], True, (), (), 0, "no such kernel"),), 1))
    coordinator = office.core.coordinator(J)
    assert coordinator is not None and coordinator.ended is None


def test_a_job_that_nobody_can_do_fails() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease(src=ME)
    office.hear(TaskReport(J, 1, 9, (Part(one[0], True, (), (), 0, "no such kernel"),), 1), ME)
    office.tick()
    office.answer()
    assert office.registry.jobs[J].status is Status.FAILED
