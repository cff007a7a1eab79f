"""The end of a job: what the hungry get of stragglers, who is backed up, and when nothing of the kind is done."""

import itertools
import random

import pytest

from zlb.core.config import CoordinatorConfig, Method, Scheme
from zlb.core.effects import Send
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.timers import NEVER
from zlb.protocols.crew import Crew, Hand
from zlb.protocols.examiner import Examiner
from zlb.protocols.leasing import ASK_AGAIN_NS, SPLIT_RTTS, Lessor
from zlb.protocols.ledger import Lease, Ledger
from zlb.protocols.merkle import Commitment
from zlb.protocols.quorum import new_ledger
from zlb.protocols.sizing import Sizer
from zlb.protocols.spots import Spots
from zlb.wire.messages import TaskProof, TaskShrink

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
SIZE = 100_000
LATE = 60 * SECOND


class Bench:
    """A job of `SIZE` integers, leased in chunks of `chunk`."""

    def __init__(self, chunk: int | None = SIZE, **config: object) -> None:
        self.config = CoordinatorConfig(chunk_count=chunk, **config)  # type: ignore[arg-type]
        self.ledger: Ledger = new_ledger(self.config, [(0, SIZE)], [])
        self.crew = Crew()
        rng = random.Random(1)
        self.examiner = Examiner(lambda n: n * 2654435761 % 2**32, self.config.verify, rng)
        self.spots = Spots(JobId("j"), self.config, self.examiner, rng)
        self.lessor = Lessor(JobId("j"), self.config, self.ledger, self.crew, self.examiner, self.spots)

    def hand(self, node: NodeId, rate: float = 1000.0, rtt_ms: int = 0, slots: int = 1) -> Hand:
        hand = Hand(node, 1, Sizer(self.config, rate), slots=slots, rtt_ns=rtt_ms * MS)
        return self.crew.add(hand)

    def grant(self, node: NodeId, want: int = 1, now: int = 0) -> list[Lease]:
        return self.lessor.grant(now, self.crew[node], want)

    def tick(self, now: int) -> list[tuple[NodeId, int, int]]:
        """(to, lease, stop) of what is asked back."""
        assert self.lessor.deadline() <= now
        self.lessor.on_tick(now)
        sent = self.lessor.flush()
        assert all(isinstance(one, Send) and isinstance(one.message, TaskShrink) for one in sent)
        return [(one.to, one.message.lease, one.message.stop) for one in sent]  # type: ignore[union-attr]


def straggler(victim: float = 1000.0, thief: float = 1000.0, rtt_ms: int = 0, **config: object) -> Bench:
    """`A` holds all, 100 s of work at 1000 a second, and `B` nothing."""
    bench = Bench(**config)  # type: ignore[arg-type]
    bench.hand(A, victim, rtt_ms)
    bench.hand(B, thief, rtt_ms)
    assert len(bench.grant(A)) == 1 and bench.grant(B) == []
    return bench


# -- splitting


@pytest.mark.parametrize(
    ("victim", "thief", "left"), [(1000, 1000, 0.5), (1000, 3000, 0.25), (3000, 1000, 0.75)]
)
def test_a_straggler_gives_back_so_much_that_both_finish_together(
    victim: float, thief: float, left: float
) -> None:
    ((node, lease, stop),) = straggler(victim, thief).tick(20 * MS)
    assert (node, lease) == (A, 1) and stop == pytest.approx(left * SIZE, rel=0.001)


def test_what_a_straggler_has_reported_is_not_split_again() -> None:
    bench = straggler()
    bench.ledger.report(bench.ledger.leases[1], [(0, 80_000)])  # type: ignore[index]
    assert bench.tick(20 * MS) == [(A, 1, pytest.approx(90_000, abs=20))]


def test_a_thief_that_is_busy_for_a_while_yet_gets_that_much_less() -> None:
    bench = Bench(chunk=50_000)
    bench.hand(A)
    bench.hand(B)
    bench.grant(A)
    (held,) = bench.grant(B)
    bench.ledger.report(held, [(50_000, 90_000)])  # ten seconds left, of fifty
    assert bench.grant(B) == []
    ((node, _, stop),) = bench.tick(20 * MS)
    assert node == A and stop == pytest.approx(30_000, abs=20)


def test_nothing_is_split_while_there_is_something_to_lease() -> None:
    bench = straggler()
    bench.ledger.give_back(bench.ledger.leases[1], [(SIZE - 1, SIZE)])  # type: ignore[index]
    assert bench.tick(20 * MS) == []


@pytest.mark.parametrize("over", [True, False])
def test_a_straggler_is_split_if_it_is_busy_for_more_than_four_round_trips_with_both(over: bool) -> None:
    bench = straggler(rtt_ms=100)
    threshold_ns = SPLIT_RTTS * 2 * 100 * MS + 2 * bench.config.tail_ns
    left = threshold_ns // MS + (10 if over else -10)
    bench.ledger.report(bench.ledger.leases[1], [(0, SIZE - left)])  # type: ignore[index]
    bench.crew[A].heard_at = 20 * MS
    assert bool(bench.tick(20 * MS)) == over


def test_a_lease_is_not_asked_for_again_before_an_answer_can_have_come() -> None:
    bench = straggler(rtt_ms=10)
    asked = [now for now in range(20 * MS, SECOND, 20 * MS) if bench.tick(now)]
    assert asked[0] == 20 * MS
    assert all(b - a >= ASK_AGAIN_NS for a, b in itertools.pairwise(asked)) and len(asked) > 2


def test_the_newest_lease_of_a_straggler_is_split() -> None:
    bench = Bench(chunk=SIZE // 2)
    bench.hand(A)
    bench.hand(B)
    assert len(bench.grant(A, want=2)) == 2 and bench.grant(B) == []
    assert bench.tick(20 * MS) == [(A, 2, pytest.approx(SIZE // 2, abs=20))], "all of it: it is not begun"


def test_two_that_are_hungry_take_from_two_stragglers() -> None:
    bench = Bench(chunk=SIZE // 2)
    for node in (A, B, C, NodeId("d")):
        bench.hand(node)
    bench.grant(A), bench.grant(B)
    assert bench.grant(C) == [] == bench.grant(NodeId("d"))
    assert sorted(node for node, _, _ in bench.tick(20 * MS)) == [A, B]


def test_of_a_thief_whose_rate_is_unknown_nothing_is_known_to_split_by() -> None:
    assert straggler(thief=0.0).tick(20 * MS) == []


def test_a_thief_whose_rate_is_unknown_does_not_keep_others_from_being_fed() -> None:
    bench = straggler(thief=0.0)
    bench.hand(C)
    assert bench.grant(C) == []
    assert [node for node, _, _ in bench.tick(20 * MS)] == [A]


def test_a_worker_does_not_take_from_itself() -> None:
    bench = Bench()
    bench.hand(A)
    assert len(bench.grant(A)) == 1 and bench.grant(A) == []
    assert bench.tick(20 * MS) == []


# -- backups


def overdue(**config: object) -> Bench:
    """`A` holds all and has said nothing of it for long; `B`, whose rate is not known, is hungry."""
    return straggler(thief=0.0, **config)


def test_a_suspected_lease_is_backed_up_for_whoever_is_hungry() -> None:
    bench = overdue()
    assert bench.lessor.available(B) == 0
    bench.tick(2 * SECOND)
    assert bench.lessor.available(B) == SIZE and bench.lessor.available(A) == 0
    (backup,) = bench.grant(B, now=2 * SECOND)
    assert backup.span == (0, SIZE) and bench.ledger.leases[backup.twin].worker == A  # type: ignore[index]
    assert bench.lessor.available() == 0


def test_a_lease_that_is_heard_of_is_not_backed_up_before_it_is_late() -> None:
    bench = overdue()
    lease = bench.ledger.leases[1]  # type: ignore[index]
    for second in range(1, 600):
        lease.heard_at = bench.crew[A].heard_at = second * SECOND
        bench.tick(second * SECOND)
        if bench.lessor.available(B):
            break
    assert 2 * 100 < second < 600, "later than twice what its worker's rate lets expect, and not never"


def test_at_most_one_backup_of_a_lease() -> None:
    bench = overdue()
    bench.hand(C, 0.0)
    bench.grant(C)
    bench.tick(2 * SECOND)
    assert len(bench.grant(B, want=5, now=2 * SECOND)) == 1
    for now in range(3 * SECOND, 20 * SECOND, SECOND // 2):
        bench.tick(now)
        assert bench.lessor.available(C) == 0 and bench.grant(C, now=now) == []
    assert len(bench.ledger.leases) == 2


def test_one_lease_is_backed_up_at_a_time() -> None:
    bench = Bench(chunk=SIZE // 2)
    bench.hand(A)
    bench.hand(B, 0.0)
    bench.grant(A, want=2)
    bench.grant(B)
    bench.tick(2 * SECOND)
    bench.tick(3 * SECOND)
    assert bench.lessor.available(B) == SIZE // 2


def test_a_worker_is_not_given_a_backup_of_its_own_lease_nor_of_what_it_has_failed_on() -> None:
    bench = Bench()
    bench.hand(A)
    bench.hand(B)
    (held,) = bench.grant(A)
    bench.ledger.suspect(held)
    bench.crew[A].leases.clear()
    bench.crew[B].sizer.rate = 0.0
    (again,) = bench.grant(B)
    assert again.said == (A,) and bench.grant(A) == []
    bench.tick(LATE)
    assert bench.lessor.available(A) == bench.lessor.available(B) == 0


def test_a_lease_in_several_pieces_does_not_keep_another_from_being_backed_up() -> None:
    bench = Bench(chunk=SIZE // 2)
    bench.hand(A)
    bench.hand(B, 0.0)
    first, _ = bench.grant(A, want=2)
    bench.ledger.report(first, [(10, 20)])
    bench.grant(B)
    spans = []
    for now in range(LATE, 2 * LATE, SECOND):
        bench.tick(now)
        spans += [lease.span for lease in bench.grant(B, want=2, now=now)]
    assert spans == [(SIZE // 2, SIZE)]


def test_under_a_quorum_nobody_is_told_of_a_backup_that_is_never_given() -> None:
    bench = overdue(verify=Method.QUORUM, copies=2)
    bench.tick(LATE)
    assert bench.lessor.available(B) == 0 and bench.lessor.fed(LATE) == []


# -- the hungry


def test_the_hungry_are_told_when_there_is_something_and_each_once_in_a_while() -> None:
    bench = straggler()
    assert bench.lessor.fed(MS) == []
    bench.ledger.give_back(bench.ledger.leases[1], [(SIZE - 100, SIZE)])  # type: ignore[index]
    assert bench.lessor.fed(MS) == [B]
    assert bench.lessor.fed(MS + ASK_AGAIN_NS - 1) == [] and bench.lessor.fed(MS + ASK_AGAIN_NS) == [B]


def test_whoever_gets_all_it_asked_for_is_hungry_no_longer() -> None:
    bench = straggler()
    bench.ledger.give_back(bench.ledger.leases[1], [(SIZE - 100, SIZE)])  # type: ignore[index]
    assert len(bench.grant(B)) == 1 and not bench.lessor.hungry and bench.lessor.deadline() == NEVER


def test_whoever_is_lost_or_benched_is_hungry_no_longer() -> None:
    bench = straggler()
    bench.lessor.on_lost(B)
    assert bench.lessor.deadline() == NEVER
    bench = straggler()
    bench.crew[B].benched = "cheated"
    assert bench.tick(20 * MS) == [] and not bench.lessor.hungry
    bench = straggler()
    bench.crew.remove(B)
    assert bench.tick(20 * MS) == [] and not bench.lessor.hungry


def test_looks_for_stragglers_are_some_time_apart() -> None:
    bench = straggler()
    for _ in range(10):
        now = bench.lessor.deadline()
        bench.tick(now)
        assert bench.lessor.deadline() == now + bench.config.split_ns


def test_the_seeds_scheme_neither_splits_nor_backs_up_nor_tells_anybody() -> None:
    bench = Bench(chunk=None, scheme=Scheme.SEED, seed_factor=1.0)
    bench.hand(A, rate=float(SIZE), rtt_ms=1000)
    bench.hand(B)
    assert [lease.size for lease in bench.grant(A)] == [SIZE] and bench.grant(B) == []
    assert not bench.lessor.hungry and bench.lessor.deadline() == NEVER
    bench.ledger.end(bench.ledger.leases[1], silent=True)  # type: ignore[index]
    assert bench.lessor.fed(LATE) == []


# -- spot checks and terms


def test_a_block_to_be_checked_comes_before_new_work_and_is_no_part_of_the_job() -> None:
    bench = Bench(chunk=SIZE // 2, verify=Method.SPOT)
    bench.hand(A)
    bench.hand(B)
    (lease,) = bench.grant(A)
    tree = Commitment(lease.span, lease.terms.blocks, [])
    bench.ledger.report(lease, [lease.span])
    bench.ledger.end(lease, silent=False)
    bench.spots.begin(0, lease, tree.root, [])
    (prove,) = bench.spots.flush()
    block = prove.message.block  # type: ignore[union-attr]
    bench.spots.on_task_proof(A, TaskProof("j", lease.id, block, (), tree.path(block)))
    assert bench.lessor.available(A) == SIZE // 2 < bench.lessor.available(B)
    again, new = bench.grant(B, want=2)
    assert again.recheck and again.terms.patterns == (lease.terms.trace,) and not new.recheck
    assert {again.id, new.id} == bench.crew[B].leases
    assert not any(one.recheck for one in bench.grant(A, want=2))
    bench.ledger.check()


def test_leases_so_short_that_they_share_a_run_are_asked_for_the_same_samples() -> None:
    bench = Bench(chunk=10)
    bench.hand(A, rate=1e5)
    leases = bench.grant(A, want=8)
    assert len({lease.terms for lease in leases}) == 1 and leases[0].terms.patterns


def test_longer_leases_are_each_asked_for_their_own() -> None:
    bench = Bench(chunk=5000)
    bench.hand(A, rate=1e5)
    assert len({lease.terms for lease in bench.grant(A, want=4)}) == 4


def test_a_request_for_many_short_leases_gets_no_more_long_ones_than_two_a_slot() -> None:
    bench = Bench(chunk=50_000)
    bench.hand(A, rate=1e5)
    assert len(bench.grant(A, want=64)) == 2
