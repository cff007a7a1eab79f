"""What becomes of workers that fail, fall silent or cheat, of what they did, and of what is known of them."""

import random
from collections.abc import Iterable, Sequence

import pytest

from tests.unit.test_coordinator import emitted, sent
from zlb.core.config import CoordinatorConfig, Method
from zlb.core.effects import Effect, Persist
from zlb.core.events import HitFound, JobEnded, WorkerAccused
from zlb.core.ids import JobId, LeaseId, NodeId, Span
from zlb.core.limits import MS, SECOND
from zlb.core.work import Job, Oracle, Standing, StopRule
from zlb.protocols.coordinator import Coordinator
from zlb.protocols.ledger import Lease
from zlb.protocols.merkle import Commitment
from zlb.protocols.trust import Trust, remembered
from zlb.wire.messages import (
    Done,
    JobClosed,
    Part,
    Reported,
    TaskAck,
    TaskCancel,
    TaskProof,
    TaskProve,
    TaskReport,
    TaskRequest,
)

A, B, C, D = (NodeId(name) for name in "abcd")
SIZE, CHUNK = 1000, 100


def word(n: int) -> int:
    return n * 2654435761 % 2**32 >> 5


def digest(n: int) -> bytes | None:
    """Every multiple of 25 hits."""
    return bytes([n % 256]) if n % 25 == 0 else None


class Bench:
    """A coordinator whose workers are played here, all of them neighbours; they are honest unless told otherwise."""

    def __init__(
        self,
        verify: Method = Method.SHARES,
        nodes: Iterable[NodeId] = (A, B, C, D),
        rule: StopRule = StopRule.ALL,
        wanted: int = 0,
        size: int = SIZE,
        trust: dict[NodeId, Trust] | None = None,
        epoch: int = 0,
        **config: object,
    ) -> None:
        job = Job(JobId("j"), "k", b"", ((0, size),), rule, wanted)
        settings = CoordinatorConfig(
            **{"verify": verify, "chunk_count": CHUNK, "remembers": True, "rows": True, **config}  # type: ignore[arg-type]
        )
        oracle = Oracle(digest, word)
        self.core = Coordinator(
            NodeId("me"), 1, job, oracle, settings, random.Random(1), epoch=epoch, trust=trust
        )
        self.now, self.sequence, self.effects = 0, 0, self.core.on_start(0)
        for node in nodes:
            self.core.on_neighbour(0, node)

    @property
    def crew(self):  # type: ignore[no-untyped-def]
        return self.core.foreman.crew

    def do(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        self.core.ledger.check()
        return effects

    def lease(self, node: NodeId, want: int = 1, incarnation: int = 1) -> list[Lease]:
        self.sequence += 1
        request = TaskRequest("j", incarnation, self.sequence, want, 0.0, True, self.core.epoch)
        before = set(self.core.ledger.leases)
        self.do(self.core.on_task_request(self.now, node, request))
        return [lease for key, lease in self.core.ledger.leases.items() if key not in before]

    def part(
        self,
        lease: Lease,
        *spans: Span,
        ended: bool = True,
        hits: Sequence[int] | None = None,
        skips: bool = False,
        **changes: object,
    ) -> Part:
        """News of a lease, of all of it unless told otherwise."""
        spans = spans or (lease.span,)
        judge, terms = self.core.foreman.examiner, lease.terms
        told = [n for span in spans for n in range(*span) if digest(n)] if hits is None else hits
        samples = tuple(
            tuple(n for span in spans for n in range(*span) if judge.is_sample(pattern, n) and not skips)
            for pattern in terms.reported
        )
        root = self.tree(lease).root if terms.blocks and ended else b""
        about = {"error": "", "busy_ns": MS, "samples": samples, "root": root, **changes}
        done = tuple(Done(start, stop - start) for start, stop in spans if start < stop)
        reported = tuple(Reported(n, digest(n) or b"?") for n in told)
        return Part(lease.id, ended, done, reported, **about)  # type: ignore[arg-type]

    def tree(self, lease: Lease) -> Commitment:
        trace = lease.terms.trace
        assert trace is not None
        judge = self.core.foreman.examiner
        return Commitment(
            lease.span, lease.terms.blocks, [n for n in range(*lease.span) if judge.is_sample(trace, n)]
        )

    def report(self, node: NodeId, *parts: Part, incarnation: int = 1) -> list[Effect]:
        self.sequence += 1
        report = TaskReport("j", incarnation, self.sequence, parts, self.core.epoch)
        return self.do(self.core.on_task_report(self.now, node, report))

    def work(self, node: NodeId, want: int = 1, **how: object) -> list[Lease]:
        """Ask for leases and do them all."""
        leases = self.lease(node, want)
        for lease in leases:
            self.report(node, self.part(lease, **how))  # type: ignore[arg-type]
        return leases

    def fail(self, node: NodeId, lease: Lease) -> list[Effect]:
        return self.report(node, Part(lease.id, True, (), (), 0, "boom"))

    def prove(self, lease: Lease) -> None:
        """The worker of a lease opens what is asked."""
        (asked,) = [m for m in sent(self.effects, TaskProve) if m.lease == lease.id]
        tree = self.tree(lease)
        proof = TaskProof("j", lease.id, asked.block, tree.block(asked.block), tree.path(asked.block))
        self.do(self.core.on_task_proof(self.now, lease.worker, proof))

    def accused(self) -> list[NodeId]:
        return [event.node for event in emitted(self.effects, WorkerAccused)]

    def hits(self) -> list[int]:
        return [hit.n for hit in emitted(self.effects, HitFound)]

    def credit(self) -> int:
        return sum(hand.credit for hand in self.crew)

    def ended(self) -> JobEnded | None:
        ends = emitted(self.effects, JobEnded)
        assert len(ends) <= 1
        return ends[0] if ends else None


# -- those who cheat


def test_an_accusation_requeues_exactly_what_is_unverified() -> None:
    bench = Bench()
    mine, others = bench.work(A, 3), bench.work(B, 2)
    half, fresh = bench.lease(A, 2)
    bench.report(A, bench.part(half, (half.span[0], half.span[0] + 40), ended=False))
    effects = bench.report(A, bench.part(fresh, skips=True))
    again = {span for lease in mine for span in [lease.span]}
    unleased, done = bench.core.ledger.unleased, bench.core.ledger.done
    assert all(unleased.covers(*span) for span in again) and all(done.covers(*one.span) for one in others)
    assert unleased.covers(*half.span) and unleased.covers(*fresh.span) and done.measure == 200
    assert emitted(effects, WorkerAccused)[0].again == 340
    assert not sent(effects, TaskAck) and sent(effects, JobClosed)


def test_the_job_of_a_cheat_is_done_by_others_and_each_hit_is_told_once() -> None:
    bench = Bench()
    bench.work(A, 3)
    bench.work(A, skips=True)
    while bench.ended() is None:
        bench.work(B, 4)
    assert bench.accused() == [A]
    assert sorted(bench.hits()) == list(range(0, SIZE, 25))
    assert bench.ended().status == "complete"  # type: ignore[union-attr]


def test_credit_sums_to_what_is_done_whatever_happens() -> None:
    rng = random.Random(4)
    for method in (Method.SHARES, Method.QUORUM):
        bench = Bench(method, copies=1)
        while bench.ended() is None:
            node = rng.choice([A, B, C, D])
            for lease in bench.lease(node, rng.randint(1, 3)):
                what = rng.random() if node != D else 1.0
                if what < 0.1:
                    bench.report(node, bench.part(lease, skips=True))
                elif what < 0.3:
                    bench.report(node, bench.part(lease, (lease.span[0], lease.span[0] + 7)))
                else:
                    bench.report(node, bench.part(lease))
                assert bench.credit() == bench.core.ledger.done.measure
        assert all(hand.credit >= 0 for hand in bench.crew)
        rows = bench.ended().rows  # type: ignore[union-attr]
        assert sum(row.stop - row.start for row in rows) == SIZE
        assert {row.worker for row in rows}.isdisjoint(bench.accused())


@pytest.mark.parametrize("rule", [StopRule.ALL, StopRule.COUNT])
def test_a_hit_that_is_reported_twice_in_one_part_is_one(rule: StopRule) -> None:
    bench = Bench(rule=rule, wanted=3 if rule is StopRule.COUNT else 0)
    (lease,) = bench.lease(A)
    bench.report(A, bench.part(lease, (0, 10), hits=[0, 0, 0], ended=False))
    assert bench.hits() == [0] and bench.core.hits == 1 and bench.ended() is None


def test_integers_that_are_reported_twice_in_one_part_count_once() -> None:
    bench = Bench(Method.NONE)
    (lease,) = bench.lease(A)
    bench.report(A, bench.part(lease, (1, 11), (1, 11), (5, 9), ended=False))
    assert bench.crew[A].tested == bench.crew[A].credit == bench.core.ledger.tested == 10


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"skips": True}, "did not find"),
        ({"hits": [1]}, "reported a hit that is none"),
        ({"samples": ()}, "reported samples of 0 patterns"),
    ],
    ids=["skipped", "forged", "no samples"],
)
def test_whoever_reports_what_cannot_be_true_gets_nothing_more_of_the_job(
    how: dict[str, object], why: str
) -> None:
    bench = Bench()
    bench.work(A, **how)
    (event,) = emitted(bench.effects, WorkerAccused)
    assert event.node == A and why in event.why
    assert bench.lease(A) == [] and bench.lease(A, incarnation=9) == [], "nor as another process"
    assert not bench.core.ledger.done and bench.credit() == 0


def test_a_found_out_peer_is_kept_out_of_the_next_job() -> None:
    bench = Bench()
    bench.work(A, skips=True)
    while bench.ended() is None:
        bench.work(B, 4)
    records = [effect.record for effect in bench.effects if isinstance(effect, Persist)]
    trust = {record.node: remembered(record) for record in records if isinstance(record, Standing)}
    assert not trust[A].accepted and trust[B].accepted and trust[B].correct.good == SIZE // CHUNK
    following = Bench(trust=trust)
    assert following.lease(A) == [] and len(following.lease(B)) == 1
    assert sent(following.effects, JobClosed)[0].reason.endswith("you were found out before")
    assert following.lease(A, incarnation=2) == []


def test_a_proven_peer_that_is_found_out_is_sent_away_for_this_job_only() -> None:
    proven = Trust()
    for _ in range(1000):
        proven = proven.passed()
    bench = Bench(trust={A: proven})
    bench.work(A, skips=True)
    assert bench.lease(A) == []
    assert len(Bench(trust={A: bench.crew[A].trust}).lease(A)) == 1


def test_when_nobody_is_left_the_job_has_failed() -> None:
    bench = Bench(nodes=[A])
    bench.work(A, skips=True)
    assert bench.ended() is not None and bench.ended().status == "failed"
    assert "no peer is left" in bench.ended().detail


def test_whoever_withholds_several_hits_is_accused_once() -> None:
    bench = Bench(Method.QUORUM, copies=2)
    bench.work(A)
    bench.work(B, hits=[])
    assert bench.accused() == [B] and bench.crew[B].trust.correct.bad == 20
    bench = Bench(Method.QUORUM, copies=2)
    bench.work(A, hits=[])
    bench.work(B)
    assert bench.accused() == [A] and sorted(bench.hits()) == [0, 25, 50, 75]


# -- what counts for a worker


def test_a_lease_that_was_done_in_full_counts_for_its_worker() -> None:
    bench = Bench()
    bench.work(A)
    assert bench.crew[A].trust.in_a_row == 1 and bench.crew[A].failures == 0


@pytest.mark.parametrize("searched", [0, 60])
def test_a_lease_that_was_given_back_does_not_count_for_its_worker(searched: int) -> None:
    bench = Bench(chunk_count=None, first_count=CHUNK)
    (lease,) = bench.lease(A)
    rest = (Done(searched, CHUNK - searched),)
    bench.report(A, bench.part(lease, (0, searched), returned=rest))
    assert bench.crew[A].trust.in_a_row == 0, "of what is not done nothing was checked"
    (following,) = bench.lease(A)
    assert following.size <= CHUNK, "nor has it shown that it can do more"


def test_a_lease_that_was_given_up_does_not_count_for_its_worker() -> None:
    bench = Bench()
    (lease,) = bench.lease(A)
    bench.report(A, bench.part(lease, (0, 99)))
    assert bench.crew[A].trust.in_a_row == 0


def test_a_lease_that_runs_out_counts_against_timeliness_only() -> None:
    bench = Bench()
    bench.lease(A)
    bench.now = 10 * SECOND
    bench.do(bench.core.on_tick(bench.now))
    assert bench.crew[A].trust.timely.bad == 1 and bench.crew[A].trust.accepted
    assert not bench.core.ledger.leases and not bench.crew[A].leases


# -- those who fail


def test_integers_that_fail_on_three_peers_fail_the_job_with_their_range() -> None:
    bench = Bench()
    for node in (A, B, C):
        assert bench.ended() is None
        (lease,) = bench.lease(node)
        assert lease.span == (0, CHUNK)
        bench.fail(node, lease)
    end = bench.ended()
    assert end is not None and end.status == "failed"
    assert end.detail == "boom (integers 0 to 100: 3 of 4 peers failed on it)"


def test_integers_that_fail_on_all_peers_fail_the_job_be_they_fewer_than_three() -> None:
    bench = Bench(nodes=[A, B])
    bench.fail(A, bench.lease(A)[0])
    assert bench.ended() is None
    bench.fail(B, bench.lease(B)[0])
    assert bench.ended() is not None and "2 of 2 peers" in bench.ended().detail


def test_a_peer_that_fails_on_what_others_can_do_is_benched_after_three_in_a_row() -> None:
    bench = Bench()
    for _ in range(3):
        bench.fail(A, bench.lease(A)[0])
        bench.work(B)
    assert bench.lease(A) == [] and bench.ended() is None and not bench.accused()
    assert len(bench.lease(A, incarnation=2)) == 1, "a new process may have mended it"


def test_failures_are_counted_in_a_row() -> None:
    bench = Bench()
    for _ in range(4):
        bench.fail(A, bench.lease(A)[0])
        bench.work(B)
        bench.work(A)
    assert len(bench.lease(A)) == 1 and bench.crew[A].failures == 0


def test_a_lease_that_fails_when_all_of_it_is_done_by_others_does_not_fail_the_job() -> None:
    bench = Bench(nodes=[A, B])
    (slow,) = bench.lease(A)
    bench.now = 5 * SECOND
    bench.do(bench.core.on_tick(bench.now))
    (lease,) = bench.lease(B)
    assert lease.span == slow.span
    bench.report(A, bench.part(slow))
    bench.crew[B].leases.add(lease.id)
    lease.said = (A,)  # as if the first had failed on it before
    bench.fail(B, lease)
    assert bench.ended() is None and bench.core.ledger.done.covers(*slow.span)


# -- those who search again


def spot(*nodes: NodeId, **config: object) -> tuple[Bench, Lease, Lease]:
    """A bench, a lease of `A` that is checked, and the one under which `B` searches a block of it again."""
    bench = Bench(Method.SPOT, nodes or (A, B, C, D), chunk_count=640, size=6400, **config)
    (lease,) = bench.work(A)
    bench.prove(lease)
    (again,) = bench.lease(B)
    assert again.recheck and lease.span[0] <= again.span[0] < again.span[1] <= lease.span[1]
    return bench, lease, again


def test_a_spot_check_that_finds_the_same_counts_for_the_worker() -> None:
    bench, _, again = spot()
    assert bench.crew[A].trust.in_a_row == 0
    bench.report(B, bench.part(again))
    assert bench.crew[A].trust.in_a_row == 1 and not bench.accused()
    assert bench.crew[B].credit == 0 and bench.crew[A].credit == 640


def test_a_spot_check_that_finds_a_hit_more_accuses_the_worker_and_tells_of_it_when_it_is_found_anew() -> (
    None
):
    bench = Bench(Method.SPOT, chunk_count=6400, size=6400)
    (lease,) = bench.work(A, hits=[])
    bench.prove(lease)
    (again,) = bench.lease(B)
    bench.report(B, bench.part(again))
    assert bench.accused() == [A] and bench.core.ledger.done.measure == 0
    bench.work(C, 1)
    assert sorted(bench.hits()) == list(range(0, 6400, 25))


def test_a_worker_whose_hits_another_told_of_first_is_not_accused_of_having_kept_them() -> None:
    bench = Bench(Method.SPOT, chunk_count=6400, size=6400)
    (slow,) = bench.lease(A)
    bench.now = 5 * SECOND
    bench.do(bench.core.on_tick(bench.now))
    (lease,) = bench.lease(B)
    bench.report(A, bench.part(slow, (0, 6000), ended=False))
    bench.report(B, bench.part(lease))
    bench.prove(lease)
    (again,) = bench.lease(C)
    bench.report(C, bench.part(again))
    assert not bench.accused() and bench.crew[B].trust.in_a_row == 1


def test_a_spot_check_that_fails_does_not_fail_the_job_though_nobody_else_is_there() -> None:
    bench, _, again = spot(A, B)
    bench.do(bench.core.on_lost(bench.now, A))
    bench.fail(B, again)
    assert bench.ended() is None


def test_a_spot_check_whose_second_worker_fails_is_done_by_another() -> None:
    bench, _, again = spot()
    bench.fail(B, again)
    (third,) = bench.lease(C)
    assert third.recheck and third.span == again.span
    bench.report(C, bench.part(third))
    assert not bench.accused() and bench.crew[A].trust.in_a_row == 1


def test_a_job_that_is_done_waits_for_its_spot_checks_and_not_for_ever() -> None:
    bench = Bench(Method.SPOT, chunk_count=6400, size=6400)
    (lease,) = bench.work(A)
    assert bench.core.ledger.complete and bench.ended() is None
    bench.prove(lease)
    until = bench.core.config.spot_ns
    while bench.ended() is None:
        assert bench.core.deadline() > bench.now or not bench.now, "nothing spins"
        bench.now = bench.core.deadline()
        bench.do(bench.core.on_tick(bench.now))
        assert bench.now <= until
    assert bench.now == until and bench.ended().status == "complete"


# -- the end of a job


def test_of_two_that_hold_the_same_the_second_is_stopped_when_the_first_is_done() -> None:
    bench = Bench(size=CHUNK)
    (lease,) = bench.lease(A)
    assert bench.lease(B) == []
    bench.now = 2 * SECOND
    bench.do(bench.core.on_tick(bench.now))
    (backup,) = bench.lease(B)
    assert backup.twin == lease.id
    effects = bench.report(B, bench.part(backup, ended=False))
    assert sent(effects, TaskCancel) == [TaskCancel("j", (lease.id,))] and bench.ended() is not None
    assert bench.hits() == [0, 25, 50, 75] and bench.credit() == CHUNK


def test_a_job_that_rests_while_somebody_is_hungry_does_not_spin() -> None:
    bench = Bench(size=CHUNK)
    bench.lease(A)
    assert bench.lease(B) == []
    bench.do(bench.core.on_steered(MS, paused=True, priority=5))
    for _ in range(20):
        bench.now = max(bench.now, bench.core.deadline())
        bench.do(bench.core.on_tick(bench.now))
        assert bench.core.deadline() > bench.now, "on_tick has done what was due"
    bench.do(bench.core.on_steered(bench.now, paused=False, priority=5))
    assert bench.core.foreman.lessor.hungry, "and is remembered when it goes on"


def test_what_is_undone_is_undone_in_the_log_too() -> None:
    bench = Bench(epoch=1)
    bench.work(A, 2)
    checkpoints = bench.core.checkpoints
    assert checkpoints is not None and checkpoints.take().done == ((0, 200),)
    bench.work(A, skips=True)
    assert bench.accused() == [A] and checkpoints.take().undone == ((0, 200),)


def test_leases_are_known_to_their_workers_as_long_as_they_live() -> None:
    bench = Bench()
    leases = bench.lease(A, 3)
    bench.fail(A, leases[0])
    bench.report(A, bench.part(leases[1], (leases[1].span[0], leases[1].span[0] + 5)))
    assert bench.crew[A].leases == {leases[2].id}
    assert {lease.worker for lease in bench.core.ledger.leases.values()} == {A}
    bench.do(bench.core.on_lost(0, A))
    assert not bench.crew[A].leases and not bench.core.ledger.leases
    assert bench.core.ledger.find(LeaseId(leases[2].id)) is leases[2]
