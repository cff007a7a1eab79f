"""A job that waits for somebody says so, and what only a part of a quorum has searched is not done."""

from tests.unit.test_coordinator import A, B, coordinator, emitted, lease, part, report
from zlb.core.config import CoordinatorConfig, Method
from zlb.core.events import JobEnded, JobWaits
from zlb.core.limits import SECOND
from zlb.protocols.coordinator import Coordinator

QUORUM = CoordinatorConfig(chunk_count=100, verify=Method.QUORUM, copies=2, rows=True)


def told_to_wait(core: Coordinator, *seconds: float) -> list[str]:
    """What is said of waiting meanwhile."""
    ticks = [core.on_tick(int(second * SECOND)) for second in seconds]
    return [event.why for effects in ticks for event in emitted(effects, JobWaits)]


def test_a_job_says_once_that_nobody_takes_anything_of_it() -> None:
    core = coordinator(config=CoordinatorConfig(chunk_count=100))
    assert told_to_wait(core, 1, 2, 3, 9) == []  # nobody is there
    core.on_neighbour(10 * SECOND, A)
    (said,) = told_to_wait(core, 10, 12, 14, 15, 16, 30)
    assert said.startswith("no peer takes any of it: ")
    lease(core, A, now=31 * SECOND)
    assert told_to_wait(core, 31, 32, 33) == []
    core.on_task_report(33 * SECOND, A, report(part(1, 1, 50, ended=True)))
    assert told_to_wait(core, 34, 36, 37) == []
    assert len(told_to_wait(core, 39, 45)) == 1


def test_a_job_that_rests_or_is_over_waits_for_nobody() -> None:
    core = coordinator(config=CoordinatorConfig(chunk_count=100))
    core.on_neighbour(0, A)
    core.on_steered(0, True, 5)
    assert told_to_wait(core, 1, 9, 20) == []
    core.on_steered(20 * SECOND, False, 5)
    assert told_to_wait(core, 21, 23) == []
    core.on_cancel(24 * SECOND, "")
    assert told_to_wait(core, 24, 31) == []


def test_a_quorum_that_another_peer_could_make_says_that_it_waits_for_it() -> None:
    core = coordinator(config=QUORUM)
    core.on_neighbour(0, A)
    core.on_neighbour(0, B)  # which rests
    ((held, start, stop),) = lease(core, A)
    core.on_task_report(1, A, report(part(held, start, stop, ended=True)))
    assert told_to_wait(core, 1, 2, 4) == []
    assert lease(core, A, sequence=2, now=4 * SECOND) == []  # to ask in vain is not to work
    assert len(told_to_wait(core, 4.5, 6, 7)) == 1


def test_a_quorum_without_others_says_so_at_once() -> None:
    core = coordinator(config=QUORUM)
    core.on_neighbour(0, A)
    ((held, start, stop),) = lease(core, A)
    core.on_task_report(1, A, report(part(held, start, stop, ended=True)))
    (said,) = told_to_wait(core, 1, 2, 9)
    assert "by 2 peers: waiting for more" in said


def test_rows_hold_what_is_done_and_not_what_one_of_a_quorum_has_searched() -> None:
    core = coordinator(config=QUORUM)
    ((first, start, stop),) = lease(core, A)
    core.on_task_report(1, A, report(part(first, start, stop, ended=True)))
    ((second, *span),) = lease(core, B)
    assert span == [start, stop]
    core.on_task_report(2, B, report(part(second, start, start + 30)))
    (ended,) = emitted(core.on_cancel(3, "timeout"), JobEnded)
    assert [(row.start, row.stop, row.worker) for row in ended.rows] == [(start, start + 30, A)]
    assert sum(row.stop - row.start for row in ended.rows) == ended.done
