"""Jobs that would wait for ever, and messages that would cost a coordinator dear: each found once, and mended."""

import itertools
import time

import pytest

from tests.unit.test_coordinator import emitted, sent
from tests.unit.test_foreman import A, B, Bench, C, D
from zlb.core.config import Method
from zlb.core.events import JobEnded, WorkerAccused
from zlb.core.ids import NodeId
from zlb.core.limits import LEASES_PER_MESSAGE_MAX, RATE_MAX, SECOND, SLOTS_MAX
from zlb.protocols import trust
from zlb.protocols.leasing import LEASES_OF_ONE_MAX
from zlb.protocols.quorum import QuorumLedger
from zlb.protocols.sizing import FIRST_COUNT_MAX
from zlb.protocols.trust import Trust
from zlb.wire.messages import Part, TaskAck, TaskProof, TaskProve, TaskRequest


def bench_out(bench: Bench, node: NodeId) -> None:
    """Find a worker out."""
    (lease,) = bench.lease(node)
    bench.report(node, bench.part(lease, hits=[lease.span[0] + 1]))
    assert bench.crew[node].benched


def leave(bench: Bench, node: NodeId) -> None:
    bench.do(bench.core.on_lost(bench.now, node))


def ended(bench: Bench) -> JobEnded:
    """How the job ends within a minute in which whoever is there does all it is given."""
    for _ in range(60):
        for node in list(bench.core.foreman.neighbours):
            if bench.ended() is None and not bench.core.foreman.is_benched(node):
                bench.work(node, 4)
        end = bench.ended()
        if end is not None:
            return end
        bench.now += SECOND
        bench.do(bench.core.on_tick(bench.now))
    raise AssertionError(f"{bench.core.ledger.open} integers are open for ever")


# -- integers that none of those who are left may have


@pytest.mark.parametrize("goes", [leave, bench_out])
@pytest.mark.parametrize("first", ["failure", "going"])
def test_a_job_ends_when_whoever_could_mend_a_failure_is_gone(goes: object, first: str) -> None:
    bench = Bench(nodes=[A, B, C])
    leave(bench, C)
    (lease,) = bench.lease(A)
    if first == "failure":
        bench.fail(A, lease)
    goes(bench, B)  # type: ignore[operator]
    if first == "going":
        bench.fail(A, lease)
    end = ended(bench)
    assert end.status == "failed" and end.detail.startswith("boom (integers 0 to 100: ")


def test_a_job_goes_on_when_somebody_comes_who_can_do_what_others_failed_on() -> None:
    bench = Bench(nodes=[A, B])
    bench.fail(A, bench.lease(A)[0])
    bench.do(bench.core.on_neighbour(0, C))
    leave(bench, B)
    assert ended(bench).status == "complete"


@pytest.mark.parametrize("late", [False, True])
def test_a_job_that_needs_a_quorum_ends_when_whoever_has_not_failed_has_searched_it(late: bool) -> None:
    bench = Bench(Method.QUORUM, nodes=[A, B, C], copies=2, size=100)
    bench.work(A)
    (lease,) = bench.lease(B)
    if not late:
        leave(bench, C)
    bench.fail(B, lease)
    if late:
        assert bench.ended() is None
        leave(bench, C)
    end = ended(bench)
    assert end.status == "failed" and "integers 0 to 100" in end.detail


def test_a_job_that_needs_a_quorum_and_has_too_few_waits_for_more() -> None:
    bench = Bench(Method.QUORUM, nodes=[A], copies=2, size=100)
    bench.work(A)
    for _ in range(20):
        bench.now += SECOND
        bench.do(bench.core.on_tick(bench.now))
    assert bench.ended() is None
    bench.do(bench.core.on_neighbour(bench.now, B))
    assert ended(bench).status == "complete"


def test_two_that_lie_about_the_same_piece_leave_nobodys_opinion_and_it_is_searched_by_others() -> None:
    ledger = QuorumLedger([(0, 10)], [], 2)
    for worker, hits in ((A, [3]), (B, [7]), (C, [3, 5, 7]), (D, [3, 5, 7])):
        lease = ledger.lease(worker, 10, 0)
        assert lease is not None and not ledger.complete
        news = ledger.report(lease, [(0, 10)], hits)
        ledger.end(lease, silent=False)
        ledger.check()
        if worker == B:
            assert {node for node, _ in news.withheld} == {A, B} and ledger.taken == [(A, (0, 10))]
            lost = [ledger.disbelieve(node).spans.measure for node in (A, B)]
            assert lost == [0, 0], "nobody's word is lost twice"
        assert news.first == ([(0, 10)] if worker in (A, C) else [])
    assert ledger.complete


def test_who_is_credited_for_what_a_liar_was_first_to_tell_is_whoever_did_it_next() -> None:
    bench = Bench(Method.QUORUM, nodes=[A, B, C], copies=2, size=100)
    bench.work(B, hits=[])
    bench.work(A)
    bench.work(C)
    end = bench.ended()
    assert end is not None and bench.accused() == [B]
    assert {node: bench.crew[node].credit for node in (A, B, C)} == {A: 100, B: 0, C: 0}
    assert [(row.start, row.stop, row.worker) for row in end.rows] == [(0, 100, A)]


# -- bounds


def test_whoever_claims_next_to_no_rate_stops_nothing() -> None:
    bench = Bench(nodes=[A, B], chunk_count=None)
    bench.core.on_task_request(0, A, TaskRequest("j", 1, 1, 1, 1e-300, True, 0))
    while bench.lease(B):
        pass
    for _ in range(5):
        bench.now += SECOND // 4
        bench.do(bench.core.on_tick(bench.now))
    assert bench.crew[A].sizer.rate == 0


def test_the_first_subjob_of_whoever_claims_any_rate_is_bounded() -> None:
    bench = Bench(nodes=[A, B], chunk_count=None, size=10**12)
    request = TaskRequest("j", 1, 1, LEASES_PER_MESSAGE_MAX, RATE_MAX, True, 0, SLOTS_MAX)
    bench.do(bench.core.on_task_request(0, A, request))
    sizes = [lease.size for lease in bench.core.ledger.leases.values()]
    assert sizes and max(sizes) <= FIRST_COUNT_MAX
    (lease,) = bench.lease(B)
    assert lease.size < FIRST_COUNT_MAX, "nor does that change what others get"


def test_the_leases_of_one_worker_are_bounded() -> None:
    bench = Bench(nodes=[A], chunk_count=1, size=100_000)
    for number in range(1, 6):
        request = TaskRequest("j", 1, number, LEASES_PER_MESSAGE_MAX, 0.0, True, 0, SLOTS_MAX)
        bench.core.on_task_request(0, A, request)
    assert len(bench.core.ledger.leases) == len(bench.crew[A].leases) == LEASES_OF_ONE_MAX
    request = TaskRequest("j", 1, 1, LEASES_PER_MESSAGE_MAX, 0.0, True, 0, 1)
    bench.core.on_task_request(0, B, request)
    assert len(bench.crew[B].leases) <= 65, "so many as one slot may hold"


def test_what_was_abandoned_is_forgotten_once_it_is_done() -> None:
    bench = Bench()
    for incarnation in range(1, 50):
        bench.lease(A, incarnation=incarnation)
    leave(bench, A)
    assert bench.core.ledger.abandoned.measure == 100
    while bench.ended() is None:
        bench.work(B, 4)
    assert not bench.core.ledger.abandoned


def test_progress_of_ten_thousand_strangers_costs_no_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(nodes=(), size=10**6, chunk_count=10)
    for number in range(2_000):
        bench.core.on_task_request(0, NodeId(f"n{number}"), TaskRequest("j", 1, 1, 1, 1e3, True, 0))
    calls = itertools.count()
    exact = trust._distribution
    monkeypatch.setattr(trust, "_distribution", lambda *about: next(calls) and 0 or exact(*about))
    trust.quantile.cache_clear()
    for _ in range(5):
        bench.core.progress(1)
    assert next(calls) < 200, "one quantile for all of them"


def test_ten_thousand_lease_and_restart_messages_stay_quick() -> None:
    bench = Bench(nodes=[A], size=10**7)
    started = time.perf_counter()
    for number in range(1, 2_000):
        bench.core.on_task_request(0, A, TaskRequest("j", number, number, 4, 0.0, True, 0))
    assert time.perf_counter() - started < 10 and len(bench.core.ledger.leases) == 4


# -- deadlines


def test_an_accusation_at_a_tick_is_put_into_the_log() -> None:
    bench = Bench(Method.SPOT, chunk_count=640, size=6400, epoch=1)
    (lease,) = bench.work(A)
    checkpoints = bench.core.checkpoints
    assert checkpoints is not None and checkpoints.take().done == ((0, 640),) and not checkpoints
    (asked,) = sent(bench.effects, TaskProve)
    while len(bench.core.foreman.spots):
        bench.now = bench.core.foreman.spots.deadline()
        bench.do(bench.core.on_tick(bench.now))
    assert (asked.lease, bench.core.ledger.done.measure) == (lease.id, 0)
    assert checkpoints and checkpoints.take().undone == ((0, 640),)


def test_a_check_nobody_answers_never_spins() -> None:
    bench = Bench(Method.SPOT, nodes=[A, B], chunk_count=640, size=640)
    bench.work(A)
    for _ in range(100):
        if bench.ended() is not None:
            break
        assert bench.core.deadline() > bench.now or not bench.now
        bench.now = max(bench.core.deadline(), bench.now + 1)
        bench.do(bench.core.on_tick(bench.now))
        if bench.core.ledger.unleased:
            bench.work(B)
    assert bench.core.ledger.done.measure in (0, 640)


def test_a_worker_that_is_found_out_is_told_and_not_acknowledged() -> None:
    bench = Bench()
    lease, other = bench.lease(A, 2)
    effects = bench.report(A, Part(lease.id, True, (), (), 0, ""), bench.part(other, hits=[101]))
    assert emitted(effects, WorkerAccused) and not sent(effects, TaskAck)
    bench.do(bench.core.on_task_proof(0, A, TaskProof("j", lease.id, 0, (), ())))


def test_trust_of_a_stranger_is_computed_once() -> None:
    trust.quantile.cache_clear()
    for _ in range(10):
        assert Trust().correct.lower == pytest.approx(0.05)
    assert trust.quantile.cache_info().misses == 1
