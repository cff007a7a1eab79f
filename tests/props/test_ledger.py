"""`Ledger` against a naive twin that keeps one Python set per class of integers, under any order of events."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import LeaseId, NodeId, Span
from zlb.core.limits import LATE_LEASES_MAX
from zlb.protocols.ledger import Lease, Ledger

TOP = 60
JOBS = st.lists(
    st.tuples(st.integers(0, TOP - 1), st.integers(1, 25)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=3,
)
STEPS = st.lists(
    st.tuples(st.just("lease"), st.integers(1, 20), st.just(0), st.just(0))
    | st.tuples(st.just("report"), st.integers(0, 9), st.integers(0, 20), st.integers(1, 20))
    | st.tuples(st.just("again"), st.just(0), st.just(0), st.just(0))
    | st.tuples(st.just("end"), st.integers(0, 9), st.booleans(), st.just(0))
    | st.tuples(st.just("adopt"), st.integers(0, TOP + 25), st.integers(1, 30), st.integers(0, 40))
    | st.tuples(st.just("truncate"), st.integers(1, TOP + 25), st.just(0), st.just(0)),
    max_size=30,
)


@dataclass
class Twin:
    """What each integer is, the slow way."""

    wanted: set[int]
    unleased: set[int]
    done: set[int] = field(default_factory=set)
    remaining: dict[LeaseId, set[int]] = field(default_factory=dict)
    unreported: dict[LeaseId, set[int]] = field(default_factory=dict)
    tested: int = 0
    released: int = 0

    def lease(self, lease: Lease, count: int) -> None:
        start = min(self.unleased)
        span = set(range(*lease.span))
        assert lease.span[0] == start and len(span) <= count and span <= self.unleased
        assert len(span) == count or lease.span[1] not in self.unleased
        self.unleased -= span
        self.remaining[lease.id], self.unreported[lease.id] = set(span), set(span)

    def report(self, lease_id: LeaseId, piece: set[int]) -> set[int]:
        self.tested += len(piece & self.unreported[lease_id])
        self.unreported[lease_id] -= piece
        fresh = (piece & self.wanted) - self.done
        self.done |= fresh
        self.unleased -= fresh
        for remaining in self.remaining.values():
            remaining -= fresh
        return fresh

    def adopt(self, pieces: list[set[int]]) -> set[int]:
        self.tested += sum(map(len, pieces))
        fresh: set[int] = set().union(*pieces) & self.wanted - self.done
        self.done |= fresh
        held = [remaining & fresh for remaining in self.remaining.values()]
        self.released += sum(map(len, [*pieces, *held])) - len(fresh)
        for remaining in (self.unleased, *self.remaining.values()):
            remaining -= fresh
        return fresh

    def end(self, lease_id: LeaseId, silent: bool) -> int:
        remaining = self.remaining.pop(lease_id, set())
        self.unleased |= remaining
        self.released += len(remaining) * silent
        return len(remaining)

    def truncate(self, stop: int) -> list[LeaseId]:
        for integers in (self.wanted, self.unleased, self.done, *self.remaining.values()):
            integers -= {n for n in integers if n >= stop}
        idle = [lease_id for lease_id, remaining in self.remaining.items() if not remaining]
        for lease_id in idle:
            del self.remaining[lease_id]
        return idle


def integers(spans: list[Span]) -> set[int]:
    return {n for start, stop in spans for n in range(start, stop)}


def compare(ledger: Ledger, twin: Twin) -> None:
    ledger.check()
    for classes, expected in (
        (ledger.wanted, twin.wanted),
        (ledger.unleased, twin.unleased),
        (ledger.done, twin.done),
    ):
        assert integers(list(classes)) == expected
    live = {lease_id: integers(list(lease.remaining)) for lease_id, lease in ledger.leases.items()}
    assert live == twin.remaining
    assert (ledger.tested, ledger.released) == (twin.tested, twin.released)
    assert ledger.complete == (twin.done == twin.wanted)


@settings(max_examples=300)
@given(JOBS, st.one_of(st.just([]), JOBS), STEPS)
def test_does_as_sets_of_integers(
    job: list[Span], before: list[Span], steps: list[tuple[str, int, int, int]]
) -> None:
    wanted = integers(job)
    done = integers(before) & wanted  # as checkpoints say
    ledger = Ledger(job, [(n, n + 1) for n in sorted(done)])
    twin = Twin(wanted, wanted - done, set(done))
    compare(ledger, twin)
    given_: list[Lease] = []
    last: tuple[Lease, Span] | None = None
    for what, a, b, c in steps:
        if what == "lease":
            lease = ledger.lease(NodeId("w"), a, 0)
            assert (lease is None) == (not twin.unleased)
            if lease is not None:
                twin.lease(lease, a)
                given_.append(lease)
        elif what == "truncate":
            assert [lease.id for lease in ledger.truncate(a)] == twin.truncate(a)
        elif what == "adopt":  # of one worker, perhaps the same twice, and perhaps beyond the job
            mine = [(a, a + b), (a + c, a + c + 3)]
            assert integers(ledger.adopt(mine)) == twin.adopt([integers([span]) for span in mine])
        elif what == "again" and last is not None:  # a doubled report changes nothing
            assert ledger.report(last[0], [last[1]]) == []
        elif what in ("report", "end") and given_:
            lease = given_[a % len(given_)]  # live or past: late reports are as good as any
            if what == "end":
                assert ledger.end(lease, bool(b)) == twin.end(lease.id, bool(b))
            else:
                start, stop = lease.span
                low = start + b % (stop - start)
                last = lease, (low, min(low + c, stop))
                fresh = ledger.report(lease, [last[1]])
                assert integers(fresh) == twin.report(lease.id, integers([last[1]]))
        compare(ledger, twin)


def test_a_late_report_counts_once_though_two_hashed_it() -> None:
    ledger = Ledger([(0, 10)])
    slow = ledger.lease(NodeId("slow"), 10, 0)
    assert slow is not None and ledger.end(slow, silent=True) == 10
    other = ledger.lease(NodeId("other"), 10, 0)
    assert other is not None and ledger.report(other, [(0, 6)]) == [(0, 6)]
    assert ledger.report(slow, [(0, 10)]) == [(6, 10)]
    assert (ledger.done.measure, ledger.tested, ledger.released) == (10, 16, 10)
    assert ledger.complete and not other.remaining and ledger.end(other, silent=False) == 0


def test_what_was_done_before_is_neither_leased_nor_tested_again() -> None:
    ledger = Ledger([(0, 10)], [(2, 5), (8, 10)])
    spans = []
    while (lease := ledger.lease(NodeId("w"), 10, 0)) is not None:
        spans.append(lease.span)
    assert spans == [(0, 2), (5, 8)] and (ledger.done.measure, ledger.tested) == (5, 0)
    assert not ledger.complete and Ledger([(0, 10)], [(0, 10)]).complete


def test_what_is_adopted_is_taken_out_of_whoever_searches_it_now() -> None:
    ledger = Ledger([(0, 10)])
    lease = ledger.lease(NodeId("w"), 6, 0)
    assert lease is not None and ledger.adopt([(4, 20)]) == [(4, 10)]
    assert list(lease.remaining) == [(0, 4)] and not ledger.unleased and ledger.tested == 16
    assert ledger.report(lease, [(0, 6)]) == [(0, 4)] and ledger.complete
    assert ledger.tested - 10 == ledger.released == 12, (
        "ten beyond the job, two that somebody else searches too"
    )


def test_past_leases_are_remembered_up_to_their_bound() -> None:
    ledger = Ledger([(0, 1)])
    first = last = ledger.lease(NodeId("w"), 1, 0)
    assert first is not None
    for _ in range(LATE_LEASES_MAX):
        assert last is not None
        ledger.end(last, silent=True)
        last = ledger.lease(NodeId("w"), 1, 0)
    assert last is not None and ledger.find(first.id) is first and len(ledger.past) == LATE_LEASES_MAX
    ledger.end(last, silent=True)
    assert (
        ledger.find(first.id) is None and ledger.find(last.id) is last and len(ledger.past) == LATE_LEASES_MAX
    )
