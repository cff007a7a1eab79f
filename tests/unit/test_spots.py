"""Spot checks, one test for each branch: who is asked, who searches again, and who is accused of each difference."""

import random
from collections.abc import Sequence

import pytest

from zlb.core.config import CoordinatorConfig, Method
from zlb.core.effects import Effect, Send
from zlb.core.ids import JobId, LeaseId, NodeId
from zlb.core.limits import SECOND
from zlb.core.timers import NEVER
from zlb.protocols.examiner import Examiner
from zlb.protocols.ledger import Lease
from zlb.protocols.merkle import Commitment, block_span
from zlb.protocols.spots import GIVEN_UP, Spots, Verdict
from zlb.wire.messages import TaskProof, TaskProve

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
SPAN = (1000, 1000 + 64 * 40)
"""Forty integers in each block."""
CONFIG = CoordinatorConfig(verify=Method.SPOT)
L = LeaseId(1)
PASSED = Verdict(A, L, None, "")


def word(n: int) -> int:
    return n * 2654435761 % 2**32 >> 7


class Bench:
    """Spot checks of one job, with a lease of `A` that has ended."""

    def __init__(self, hits: Sequence[int] = (), told: Sequence[int] | None = None) -> None:
        rng = random.Random(3)
        self.examiner = Examiner(word, Method.SPOT, rng)
        self.spots = Spots(JobId("j"), CONFIG, self.examiner, rng)
        self.lease = Lease(LeaseId(1), A, SPAN, 0)
        self.lease.terms = self.examiner.terms([SPAN], 0.0)
        self.hits = list(hits)
        trace = self.lease.terms.trace
        assert trace is not None
        self.trace = trace
        self.samples = [n for n in range(*SPAN) if self.examiner.is_sample(trace, n)]
        self.tree = Commitment(SPAN, 64, self.samples if told is None else told)
        self.next_id = 1
        self.spots.begin(0, self.lease, self.tree.root, self.hits)
        (send,) = self.spots.flush()
        assert isinstance(send, Send) and send.to == A and isinstance(send.message, TaskProve)
        assert (send.message.job, send.message.lease) == ("j", 1)
        self.block = send.message.block
        self.span = block_span(SPAN, 64, self.block)

    @property
    def mine(self) -> list[int]:
        """True samples of the block."""
        return [n for n in self.samples if self.span[0] <= n < self.span[1]]

    def proof(self, block: int | None = None, lease: int = 1) -> TaskProof:
        block = self.block if block is None else block
        return TaskProof("j", lease, block, self.tree.block(block), self.tree.path(block))

    def open(self) -> None:
        assert self.spots.on_task_proof(A, self.proof()) is None

    def again(self, worker: NodeId = B) -> Lease:
        """`worker` is given the block."""
        taken = self.spots.take(worker)
        assert taken is not None
        span, terms, checked = taken
        assert (span, terms.patterns, checked) == (self.span, (self.trace,), 1)
        assert not terms.planted and not terms.blocks
        self.next_id += 1
        lease = Lease(LeaseId(self.next_id), worker, span, 0, terms, recheck=True)
        self.spots.given(checked, lease)
        return lease

    def search(
        self,
        again: Lease,
        samples: Sequence[int] | None = None,
        hits: Sequence[int] = (),
        ended: bool = True,
        done: tuple[int, int] | None = None,
    ) -> Verdict | None:
        low, high = self.span if done is None else done
        if low < high:
            again.unreported.remove(low, high)
        some = self.mine if samples is None else samples
        return self.spots.on_searched(again, [n for n in some if low <= n < high], hits, ended)


def asked(effects: list[Effect]) -> int:
    return sum(isinstance(effect, Send) and isinstance(effect.message, TaskProve) for effect in effects)


def test_an_honest_worker_passes_when_another_finds_the_same() -> None:
    bench = Bench()
    bench.open()
    assert bench.search(bench.again()) == PASSED and len(bench.spots) == 0
    assert bench.spots.deadline() == NEVER


def test_every_block_is_drawn() -> None:
    rng, blocks = random.Random(1), set()
    judge = Examiner(word, Method.SPOT, rng)
    spots = Spots(JobId("j"), CONFIG, judge, rng)
    lease = Lease(LeaseId(1), A, SPAN, 0, judge.terms([SPAN], 0.0))
    for _ in range(1000):
        spots.begin(0, lease, bytes(32), [])
        (send,) = spots.flush()
        assert isinstance(send, Send) and isinstance(send.message, TaskProve)
        blocks.add(send.message.block)
    assert blocks == set(range(64))


def test_the_block_is_given_to_nobody_before_it_is_opened() -> None:
    bench = Bench()
    assert bench.spots.take(B) is None and bench.spots.open(B) == 0
    bench.open()
    assert bench.spots.open(B) == 40 and bench.spots.take(B) is not None


def test_the_block_is_never_given_to_the_worker_that_is_checked() -> None:
    bench = Bench()
    bench.open()
    assert bench.spots.take(A) is None and bench.spots.open(A) == 0


def test_the_block_is_given_once() -> None:
    bench = Bench()
    bench.open()
    bench.again(B)
    assert bench.spots.take(C) is None and bench.spots.open(C) == 0


def test_a_proof_that_was_lost_is_asked_for_again_and_at_last_its_worker_is_accused() -> None:
    bench = Bench()
    asks, verdicts = 1, []
    while bench.spots.deadline() != NEVER:
        now = bench.spots.deadline()
        assert bench.spots.on_tick(now - 1) == []
        verdicts = bench.spots.on_tick(now)
        asks += asked(bench.spots.flush())
    assert asks == CONFIG.proofs_max and now == CONFIG.proofs_max * CONFIG.proof_ns
    assert verdicts == [Verdict(A, L, None, GIVEN_UP)]


def test_a_late_proof_is_as_good_as_any() -> None:
    bench = Bench()
    bench.spots.on_tick(5 * SECOND)
    bench.open()
    assert bench.spots.deadline() == NEVER and bench.spots.on_tick(100 * SECOND) == []
    assert bench.search(bench.again()) == PASSED


def test_a_repeated_proof_changes_nothing() -> None:
    bench = Bench()
    bench.open()
    again = bench.again()
    assert bench.spots.on_task_proof(A, bench.proof()) is None
    assert bench.spots.on_task_proof(A, TaskProof("j", 1, bench.block, (), ())) is None
    assert bench.search(again) == PASSED
    assert bench.spots.on_task_proof(A, bench.proof()) is None


@pytest.mark.parametrize("what", ["another worker's", "another lease's", "another block's"])
def test_a_proof_that_was_not_asked_for_is_ignored(what: str) -> None:
    bench = Bench()
    other = (bench.block + 1) % 64
    src = B if what.startswith("another worker") else A
    proof = (
        bench.proof(other) if what.endswith("block's") else bench.proof(lease=1 + (what == "another lease's"))
    )
    assert bench.spots.on_task_proof(src, proof) is None
    assert bench.spots.take(B) is None and len(bench.spots) == 1


def test_other_samples_than_were_committed_to_accuse() -> None:
    bench = Bench()
    proof = TaskProof("j", 1, bench.block, (*bench.mine[1:],), bench.tree.path(bench.block))
    assert bench.spots.on_task_proof(A, proof) == Verdict(
        A, L, A, "shows other samples than it has committed to"
    )
    assert len(bench.spots) == 0


@pytest.mark.parametrize("wrong", ["another block's", "too short", "too long"])
def test_a_wrong_path_accuses(wrong: str) -> None:
    bench = Bench()
    path = bench.tree.path(bench.block)
    other = bench.tree.path(bench.block ^ 3)
    shown = {"another block's": other, "too short": path[:-1], "too long": (*path, bytes(32))}[wrong]
    verdict = bench.spots.on_task_proof(A, TaskProof("j", 1, bench.block, tuple(bench.mine), shown))
    assert verdict is not None and verdict.accused == A


def test_a_worker_that_cannot_show_it_any_more_is_neither_accused_nor_passed() -> None:
    bench = Bench()
    assert bench.spots.on_task_proof(A, TaskProof("j", 1, bench.block, (), ())) == Verdict(
        A, L, None, GIVEN_UP
    )
    assert len(bench.spots) == 0 and GIVEN_UP


def test_a_worker_that_is_lost_is_checked_no_longer() -> None:
    bench = Bench()
    bench.spots.on_lost(B)
    assert len(bench.spots) == 1
    bench.spots.on_lost(A)
    assert len(bench.spots) == 0 and bench.spots.deadline() == NEVER
    assert bench.spots.on_task_proof(A, bench.proof()) is None


def test_what_is_searched_again_for_a_worker_that_is_lost_says_nothing() -> None:
    bench = Bench()
    bench.open()
    again = bench.again()
    bench.spots.on_lost(A)
    assert bench.search(again, samples=[]) is None
    bench.spots.on_expired(again)


def test_a_block_whose_second_worker_fell_silent_is_given_to_another_and_judged_by_that_one_alone() -> None:
    bench = Bench()
    bench.open()
    first = bench.again(B)
    middle = bench.span[0] + 20
    assert bench.search(first, ended=False, done=(bench.span[0], middle)) is None
    bench.spots.on_expired(first)
    assert bench.spots.take(A) is None
    second = bench.again(C)
    assert bench.search(first, done=(middle, bench.span[1])) is None, "late, and nobody's any more"
    assert bench.search(second) == PASSED


def test_a_block_that_was_given_up_before_it_was_begun_is_given_to_another() -> None:
    bench = Bench()
    bench.open()
    assert bench.search(bench.again(B), done=(0, 0)) is None and len(bench.spots) == 1
    assert bench.search(bench.again(C)) == PASSED


def test_what_a_worker_says_before_it_gives_a_block_up_is_not_held_against_the_next() -> None:
    bench = Bench()
    bench.open()
    fake = next(n for n in range(*bench.span) if n not in bench.mine)
    assert bench.spots.on_searched(bench.again(B), [fake], [fake], ended=True) is None
    assert bench.search(bench.again(C)) == PASSED


def test_a_block_in_several_reports_is_judged_when_all_of_it_is_there() -> None:
    bench = Bench(hits=[])
    bench.open()
    again, middle = bench.again(), bench.span[0] + 17
    assert bench.search(again, ended=False, done=(middle, bench.span[1])) is None
    assert bench.search(again, ended=False, done=(bench.span[0], middle)) == PASSED


def test_of_a_block_that_was_searched_in_part_that_part_is_compared() -> None:
    bench = Bench()
    bench.open()
    assert bench.search(bench.again(), done=(bench.span[0], bench.span[0] + 10)) == PASSED


def test_whoever_skipped_a_true_sample_is_accused_be_it_the_first() -> None:
    bench = Bench(told=[])
    bench.open()
    n = bench.mine[0]
    assert bench.search(bench.again()) == Verdict(A, L, A, f"skipped the sample {n}")


def test_whoever_skipped_a_true_sample_is_accused_be_it_the_second() -> None:
    bench = Bench()
    bench.open()
    assert bench.search(bench.again(), samples=bench.mine[:-1]) == Verdict(
        A, L, B, f"skipped the sample {bench.mine[-1]}"
    )


def test_whoever_made_up_a_sample_is_accused_be_it_the_first() -> None:
    bench = Bench(told=list(range(*SPAN)))
    bench.open()
    verdict = bench.search(bench.again())
    assert verdict is not None and verdict.accused == A and verdict.why.startswith("made up the sample")


def test_whoever_made_up_a_sample_is_accused_be_it_the_second() -> None:
    bench = Bench()
    bench.open()
    fake = next(n for n in range(*bench.span) if n not in bench.mine)
    assert bench.search(bench.again(), samples=[*bench.mine, fake]) == Verdict(
        A, L, B, f"made up the sample {fake}"
    )


def test_whoever_did_not_tell_of_a_hit_is_accused_be_it_the_first() -> None:
    bench = Bench()
    bench.open()
    n = bench.span[0] + 5
    assert bench.search(bench.again(), hits=[n]) == Verdict(A, L, A, f"did not tell of the hit {n}")


def test_whoever_did_not_tell_of_a_hit_is_accused_be_it_the_second() -> None:
    bench = Bench(hits=range(*SPAN, 5))
    bench.open()
    n = next(n for n in bench.hits if bench.span[0] <= n)
    assert bench.search(bench.again()) == Verdict(A, L, B, f"did not tell of the hit {n}")


def test_two_who_tell_of_the_same_hits_of_the_block_pass() -> None:
    bench = Bench(hits=range(*SPAN, 5))
    bench.open()
    hits = [n for n in bench.hits if bench.span[0] <= n < bench.span[1]]
    assert bench.search(bench.again(), hits=hits) == PASSED and hits
