"""`Ledger` against a naive twin that keeps one Python set per class of integers, under any order of events."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zlb.core.ids import NO_LEASE, LeaseId, NodeId, Span
from zlb.core.limits import LATE_LEASES_MAX
from zlb.protocols import ledger as module
from zlb.protocols.ledger import Lease, Ledger, News

TOP = 60
WINDOW = 2
"""`UNVERIFIED_LEASES_MAX` of these tests."""
JOBS = st.lists(
    st.tuples(st.integers(0, TOP - 1), st.integers(1, 25)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=3,
)
WORKERS = st.sampled_from([NodeId(name) for name in "abc"])
PICK = st.integers(0, 99)
NOTHING = News([], [], [], [])


def integers(spans: Iterable[Span]) -> set[int]:
    return {n for start, stop in spans for n in range(start, stop)}


def is_hit(n: int) -> bool:
    return n % 3 == 0


def piece_of(lease: Lease, offset: int, count: int) -> Span:
    """Some integers of a lease, at least one."""
    start, stop = lease.span
    low = start + offset % (stop - start)
    return low, min(low + count, stop)


@dataclass
class Held:
    """A lease, the slow way; `ended_untouched`: its worker said that it had not begun the rest."""

    lease: Lease
    remaining: set[int]
    unreported: set[int]
    said: tuple[NodeId, ...] = ()
    twin: LeaseId | None = None
    recheck: bool = False
    told: list[int] = field(default_factory=list)
    ended_untouched: bool = False
    vanished: int = -1
    """If its worker has: so many of what is left it may have hashed."""


@dataclass
class Twin:
    """What each integer is, the slow way."""

    wanted: set[int]
    unleased: set[int]
    done: set[int]
    suspects: dict[int, tuple[NodeId, ...]] = field(default_factory=dict)
    unverified: dict[NodeId, dict[LeaseId, tuple[set[int], list[int]]]] = field(default_factory=dict)
    live: dict[LeaseId, Held] = field(default_factory=dict)
    all: dict[LeaseId, Held] = field(default_factory=dict)
    abandoned: set[int] = field(default_factory=set)
    tested: int = 0
    released: int = 0
    lies: int = 0
    """Integers reported by a worker that had said it would not search them."""

    def take(self, lease: Lease, said: tuple[NodeId, ...] = ()) -> Held:
        held = Held(lease, integers([lease.span]), integers([lease.span]), said)
        assert lease.said == said and lease.id not in self.all
        self.live[lease.id] = self.all[lease.id] = held
        return held

    def lease(self, lease: Lease, count: int) -> None:
        span = integers([lease.span])
        mine = [workers for workers in self.suspects.values() if lease.worker not in workers]
        if mine:
            (said,) = {self.suspects.pop(n) for n in span}
            assert lease.worker not in said, "given to whoever has failed on it"
            self.take(lease, said)
            return
        assert lease.span[0] == min(self.unleased) and len(span) <= count and span <= self.unleased
        assert len(span) == count or lease.span[1] not in self.unleased
        self.unleased -= span
        self.take(lease)

    def count_late(self, held: Held, new: int) -> None:
        if held.vanished >= 0:
            self.released += max(0, new - held.vanished)
            held.vanished = max(0, held.vanished - new)

    def report(self, held: Held, piece: set[int], hits: list[int]) -> tuple[set[int], list[int]]:
        self.tested += len(piece & held.unreported)
        self.count_late(held, len(piece & held.unreported))
        self.lies += len(piece & held.unreported) * held.ended_untouched
        held.told += [n for n in hits if n in held.unreported]
        held.unreported -= piece
        if held.recheck:
            return set(), []
        fresh = self._finish(piece)
        return fresh, self._take_word(held.lease.worker, held.lease.id, fresh, hits)

    def _take_word(self, worker: NodeId, lease: LeaseId, fresh: set[int], hits: list[int]) -> list[int]:
        mine = [n for n in hits if n in fresh]
        if fresh:
            leases = self.unverified.setdefault(worker, {})
            spans, found = leases.setdefault(lease, (set(), []))
            spans |= fresh
            found += mine
            if len(leases) > WINDOW:
                ended = [one for one in leases if one not in self.live and one != NO_LEASE]
                for oldest in ended[:1]:
                    del leases[oldest]
        return mine

    def _finish(self, integers_: set[int]) -> set[int]:
        fresh = integers_ & self.wanted - self.done
        self.done |= fresh
        self.abandoned -= fresh
        self.unleased -= fresh
        self.suspects = {n: workers for n, workers in self.suspects.items() if n not in fresh}
        for other in self.live.values():
            if not other.recheck:
                other.remaining -= fresh
        return fresh

    def adopt(self, worker: NodeId, pieces: list[set[int]], hits: list[int]) -> set[int]:
        self.tested += sum(map(len, pieces))
        held = [set(one.remaining) for one in self.live.values() if not one.recheck]
        fresh = self._finish(set().union(*pieces))
        self.released += sum(len(one & fresh) for one in held) + sum(map(len, pieces)) - len(fresh)
        self._take_word(worker, NO_LEASE, fresh, hits)
        return fresh

    def put_back(self, integers_: set[int], said: tuple[NodeId, ...]) -> None:
        if said:
            self.suspects.update(dict.fromkeys(integers_, said))
        else:
            self.unleased |= integers_

    def end(self, held: Held, silent: bool, hashed: int = TOP) -> int:
        if self.live.pop(held.lease.id, None) is None:
            return 0
        held.ended_untouched = not silent
        remaining, held.remaining = held.remaining, set()
        twin, held.twin = held.twin, None
        if twin is not None:
            self.live[twin].twin = None
        if twin is not None or held.recheck:
            return 0
        self.put_back(remaining, held.said)
        if silent:
            held.vanished = min(len(remaining), hashed)
            self.released += held.vanished
        return len(remaining)

    def suspect(self, held: Held) -> tuple[NodeId, ...]:
        workers = (*held.said, held.lease.worker)
        if held.twin is not None:
            self.live[held.twin].said = workers
        elif not held.recheck:
            self.put_back(held.remaining, workers)
            self.released += len(held.remaining)
            held.remaining = set()
        self.end(held, silent=True)
        held.vanished = -1  # that has been counted
        return workers

    def truncate(self, stop: int) -> list[LeaseId]:
        words = [spans for leases in self.unverified.values() for spans, _ in leases.values()]
        remaining = [held.remaining for held in self.live.values() if not held.recheck]
        for classes in (self.wanted, self.unleased, self.done, *words, *remaining):
            classes -= {n for n in classes if n >= stop}
        self.suspects = {n: workers for n, workers in self.suspects.items() if n < stop}
        idle = [held for held in self.live.values() if not (held.remaining or held.recheck)]
        for held in idle:
            self.end(held, silent=False)
        return [held.lease.id for held in idle]

    def disbelieve(self, worker: NodeId) -> tuple[set[int], list[int]]:
        words = list(self.unverified.pop(worker, {}).values())
        lost = set().union(*(spans for spans, _ in words))
        self.done -= lost
        self.unleased |= lost
        self.released += len(lost)
        return lost, [n for _, hits in words for n in hits]


class LedgerMachine(RuleBasedStateMachine):
    """Every public method, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "UNVERIFIED_LEASES_MAX", WINDOW)
        self.truncated = False
        self.last: tuple[Lease, Span, list[int]] | None = None

    def teardown(self) -> None:
        self.patch.undo()

    @initialize(job=JOBS, before=st.one_of(st.just([]), JOBS))
    def begin(self, job: list[Span], before: list[Span]) -> None:
        wanted = integers(job)
        done = integers(before) & wanted  # as checkpoints say
        self.ledger = Ledger(job, [(n, n + 1) for n in sorted(done)])
        self.twin = Twin(wanted, wanted - done, set(done))

    def held(self, pick: int, live: bool = False) -> Held:
        among = list((self.twin.live if live else self.twin.all).values())
        return among[pick % len(among)]

    @rule(worker=WORKERS, count=st.integers(1, 20))
    def lease(self, worker: NodeId, count: int) -> None:
        lease = self.ledger.lease(worker, count, 0)
        mine = [workers for workers in self.twin.suspects.values() if worker not in workers]
        assert (lease is None) == (not self.twin.unleased and not mine)
        if lease is not None:
            self.twin.lease(lease, count)

    @precondition(lambda self: self.twin.all)
    @rule(pick=PICK, offset=st.integers(0, 20), count=st.integers(1, 20), tells=st.booleans())
    def report(self, pick: int, offset: int, count: int, tells: bool) -> None:
        held = self.held(pick)  # live or past: late reports are as good as any
        span = piece_of(held.lease, offset, count)
        hits = [n for n in range(*span) if is_hit(n) and tells]
        self.last = held.lease, span, hits
        news = self.ledger.report(held.lease, [span], hits)
        fresh, mine = self.twin.report(held, integers([span]), hits)
        assert news.first == news.done and integers(news.done) == fresh
        assert news.hits == mine and not news.withheld

    @precondition(lambda self: self.last)
    @rule()
    def report_again(self) -> None:
        lease, span, hits = self.last  # type: ignore[misc]
        before = integers([span]) <= self.twin.done or lease.recheck
        news = self.ledger.report(lease, [span], hits)
        fresh, _ = self.twin.report(self.twin.all[lease.id], integers([span]), hits)
        assert integers(news.done) == fresh and not (before and fresh)

    @precondition(lambda self: self.twin.all)
    @rule(pick=PICK, silent=st.booleans(), hashed=st.integers(0, 30))
    def end(self, pick: int, silent: bool, hashed: int) -> None:
        held = self.held(pick)
        assert self.ledger.end(held.lease, silent, hashed) == self.twin.end(held, silent, hashed)

    @precondition(lambda self: self.twin.all)
    @rule(pick=PICK, start=st.integers(0, TOP), count=st.integers(1, 30))
    def give_back(self, pick: int, start: int, count: int) -> None:
        held = self.held(pick)
        returned = self.ledger.give_back(held.lease, [(start, start + count)])
        if held.lease.id not in self.twin.live or held.twin is not None or held.recheck:
            assert returned == 0
            return
        gone = integers([(start, start + count)])
        assert returned == len(gone & held.remaining)
        self.twin.put_back(gone & held.remaining, held.said)
        held.remaining -= gone
        held.unreported -= gone

    @precondition(lambda self: self.twin.live)
    @rule(pick=PICK)
    def suspect(self, pick: int) -> None:
        held = self.held(pick, live=True)
        assert self.ledger.suspect(held.lease) == self.twin.suspect(held)

    @precondition(lambda self: self.twin.live)
    @rule(pick=PICK, worker=WORKERS)
    def back_up(self, pick: int, worker: NodeId) -> None:
        held = self.held(pick, live=True)
        whole = range(min(held.remaining, default=0), max(held.remaining, default=-1) + 1)
        backup = self.ledger.back_up(held.lease, worker, 0)
        may = held.twin is None and not held.recheck and held.remaining and held.remaining == set(whole)
        assert (backup is not None) == bool(may), "one backup at most, of what is in one piece"
        if backup is not None:
            assert integers([backup.span]) == held.remaining
            self.twin.take(backup, held.said).twin, held.twin = held.lease.id, backup.id
            self.twin.released += len(held.remaining)

    @precondition(lambda self: self.twin.done)
    @rule(worker=WORKERS, pick=PICK, count=st.integers(1, 9))
    def recheck(self, worker: NodeId, pick: int, count: int) -> None:
        start = sorted(self.twin.done)[pick % len(self.twin.done)]
        again = self.ledger.recheck(worker, (start, start + count), 0)
        self.twin.take(again).recheck = True
        self.twin.released += count

    @rule(stop=st.integers(1, TOP + 25))
    def truncate(self, stop: int) -> None:
        self.truncated = True
        assert [lease.id for lease in self.ledger.truncate(stop)] == self.twin.truncate(stop)

    @precondition(lambda self: self.twin.live)
    @rule(pick=PICK)
    def abandon(self, pick: int) -> None:
        held = self.held(pick, live=True)
        self.ledger.abandon(held.lease)
        self.twin.abandoned |= set() if held.recheck else held.remaining

    @rule(worker=WORKERS, start=st.integers(0, TOP + 25), count=st.integers(1, 30), gap=st.integers(0, 40))
    def adopt(self, worker: NodeId, start: int, count: int, gap: int) -> None:
        """Of one worker, perhaps the same twice, and perhaps beyond the job."""
        mine = [(start, start + count), (start + gap, start + gap + 3)]
        hits = sorted(filter(is_hit, integers(mine)))
        fresh = self.ledger.adopt(worker, mine, hits)
        assert integers(fresh) == self.twin.adopt(worker, [integers([span]) for span in mine], hits)

    @rule(worker=WORKERS)
    def disbelieve(self, worker: NodeId) -> None:
        lost = self.ledger.disbelieve(worker)
        assert (integers(lost.spans), sorted(lost.hits)) == (
            (expected := self.twin.disbelieve(worker))[0],
            sorted(expected[1]),
        )

    @invariant()
    def same(self) -> None:
        ledger, twin = self.ledger, self.twin
        ledger.check()
        for classes, expected in (
            (ledger.wanted, twin.wanted),
            (ledger.unleased, twin.unleased),
            (ledger.done, twin.done),
        ):
            assert integers(classes) == expected
        assert {n: one.workers for one in ledger.suspects for n in integers(one.spans)} == twin.suspects
        assert all(one.spans for one in ledger.suspects)
        assert ledger.leases.keys() == twin.live.keys()
        for lease_id, held in twin.all.items():
            lease = ledger.find(lease_id)
            assert lease is held.lease and (lease_id in ledger.leases) == (lease_id in twin.live)
            assert (integers(lease.remaining), integers(lease.unreported)) == (
                held.remaining,
                held.unreported,
            )
            assert (lease.said, lease.twin) == (held.said, held.twin)
            assert sorted(lease.told) == sorted(held.told)
        assert (ledger.tested, ledger.released) == (twin.tested, twin.released)
        assert integers(ledger.abandoned) == twin.abandoned and not twin.abandoned & twin.done
        assert ledger.complete == (twin.done == twin.wanted)
        assert ledger.open == len(twin.unleased) + len(twin.suspects)
        word = [len(spans) for leases in twin.unverified.values() for spans, _ in leases.values()]
        assert ledger.verified == len(twin.done) - sum(word)
        if not self.truncated:  # then `done` shrinks
            assert ledger.tested - ledger.done.measure - twin.lies <= ledger.released


TestDoesAsSetsOfIntegers = LedgerMachine.TestCase
TestDoesAsSetsOfIntegers.settings = settings(max_examples=300, stateful_step_count=40)
A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def leased(ledger: Ledger, worker: NodeId, count: int = 10) -> Lease:
    lease = ledger.lease(worker, count, 0)
    assert lease is not None
    return lease


def test_a_late_report_counts_once_though_two_hashed_it() -> None:
    ledger = Ledger([(0, 10)])
    slow = leased(ledger, A)
    assert ledger.end(slow, silent=True) == 10
    other = leased(ledger, B)
    assert ledger.report(other, [(0, 6)]).done == [(0, 6)]
    assert ledger.report(slow, [(0, 10)]).done == [(6, 10)]
    assert (ledger.done.measure, ledger.tested, ledger.released) == (10, 16, 10)
    assert ledger.complete and not other.remaining and ledger.end(other, silent=False) == 0


def test_what_was_done_before_is_neither_leased_nor_tested_again() -> None:
    ledger = Ledger([(0, 10)], [(2, 5), (8, 10)])
    spans = []
    while (lease := ledger.lease(A, 10, 0)) is not None:
        spans.append(lease.span)
    assert spans == [(0, 2), (5, 8)] and (ledger.done.measure, ledger.tested) == (5, 0)
    assert not ledger.complete and Ledger([(0, 10)], [(0, 10)]).complete


def test_what_is_adopted_is_taken_out_of_whoever_searches_it_now() -> None:
    ledger = Ledger([(0, 10)])
    lease = leased(ledger, A, 6)
    assert ledger.adopt(B, [(4, 20)]) == [(4, 10)]
    assert list(lease.remaining) == [(0, 4)] and not ledger.unleased and ledger.tested == 16
    assert ledger.report(lease, [(0, 6)]).done == [(0, 4)] and ledger.complete
    assert ledger.tested - 10 == ledger.released == 12, (
        "ten beyond the job, two that somebody else searches too"
    )


def test_past_leases_are_remembered_up_to_their_bound() -> None:
    ledger = Ledger([(0, 1)])
    first = last = leased(ledger, A, 1)
    for _ in range(LATE_LEASES_MAX):
        ledger.end(last, silent=True)
        last = leased(ledger, A, 1)
    assert ledger.find(first.id) is first and len(ledger.past) == LATE_LEASES_MAX
    ledger.end(last, silent=True)
    assert (
        ledger.find(first.id) is None and ledger.find(last.id) is last and len(ledger.past) == LATE_LEASES_MAX
    )


def test_suspect_integers_go_to_whoever_has_not_failed_on_them_and_alone() -> None:
    ledger = Ledger([(0, 20)])
    assert ledger.suspect(leased(ledger, A, 5)) == (A,)
    assert leased(ledger, A, 5).span == (5, 10), "not its own failure"
    again = leased(ledger, B, 20)
    assert (again.span, again.said) == ((0, 5), (A,)), "and nothing else with it"
    assert ledger.suspect(again) == (A, B) and leased(ledger, C).said == (A, B)


def test_whoever_failed_on_a_lease_that_is_backed_up_is_remembered_by_the_backup() -> None:
    ledger = Ledger([(0, 10)])
    first = leased(ledger, A)
    backup = ledger.back_up(first, B, 0)
    assert backup is not None and ledger.suspect(first) == (A,)
    assert ledger.suspect(backup) == (A, B)
    assert ledger.lease(A, 10, 0) is None and leased(ledger, C).said == (A, B)


def test_what_a_worker_told_is_known_though_another_had_told_it_before() -> None:
    ledger = Ledger([(0, 10)])
    slow = leased(ledger, A)
    ledger.end(slow, silent=True)
    other = leased(ledger, B)
    ledger.report(slow, [(0, 10)], [3])
    assert ledger.report(other, [(0, 10)], [3]).hits == [] and other.told == [3]


def test_what_a_worker_told_is_known_though_it_holds_more_leases_than_are_unverified() -> None:
    many = module.UNVERIFIED_LEASES_MAX + 1
    ledger = Ledger([(0, 2 * many)])
    leases = [leased(ledger, A, 2) for _ in range(many)]
    for lease in leases:
        ledger.report(lease, [(lease.span[0], lease.span[0] + 1)], [lease.span[0]])
    assert all(lease.told == [lease.span[0]] for lease in leases)
