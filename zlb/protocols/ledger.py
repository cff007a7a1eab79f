"""What became of every integer of a job: unleased, leased to someone until we hear no more of it, or done; and what of
that is verified, what so far one worker's word. State is O(live leases).

Union of done intervals is idempotent, so doubled, late and reordered reports are harmless. Invariant, checked by
`check()`: unleased, suspect, the remainders of live leases, and done are disjoint and together are the job; what is
unverified is done, and was done by one worker only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zlb.core.ids import NO_LEASE, LeaseId, NodeId, Span
from zlb.core.limits import INTEGERS_MAX, LATE_LEASES_MAX, UNVERIFIED_LEASES_MAX
from zlb.protocols.examiner import NO_TERMS, Terms
from zlb.protocols.intervals import IntervalSet


@dataclass(slots=True)
class Lease:
    """A subjob given to `worker`. `remaining` is what nobody has reported done, `unreported` what it has not itself."""

    id: LeaseId
    worker: NodeId
    span: Span
    heard_at: int
    terms: Terms = NO_TERMS
    said: tuple[NodeId, ...] = ()
    """Who has failed on these integers before."""
    twin: LeaseId | None = None
    """The other lease over what remains of this one: a backup, or what it backs up."""
    recheck: bool = False
    """It is done already, and searched again to see whether it was."""
    granted_at: int = field(init=False)
    gave_back: bool = field(init=False, default=False)
    """Its worker has not searched all of it, and will not."""
    committed: bool = field(init=False, default=False)
    """Its worker has committed to all of it, and was checked if it was to be."""
    told: list[int] = field(init=False, default_factory=list)
    """Hits its worker has told of, though others may have told of them before."""
    split_at: int = field(init=False, default=-1)
    """When its worker was last asked to give some of it back."""
    vanished: int = field(init=False, default=-1)
    """If its worker has vanished: integers it is thought to have hashed since it reported last, and not told of yet."""
    remaining: IntervalSet = field(init=False)
    unreported: IntervalSet = field(init=False)

    def __post_init__(self) -> None:
        self.granted_at = self.heard_at
        self.remaining = IntervalSet([self.span])
        self.unreported = IntervalSet([self.span])

    @property
    def size(self) -> int:
        """Integers in it."""
        return self.span[1] - self.span[0]


class News(NamedTuple):
    """What a report has changed: integers told of for the `first` time, those that are now `done`, and hits that nobody
    had told of. `withheld` are hits that a worker must have seen and did not tell."""

    first: list[Span]
    done: list[Span]
    hits: list[int]
    withheld: list[tuple[NodeId, int]]


class Suspect(NamedTuple):
    """Integers that have made `workers` fail."""

    spans: IntervalSet
    workers: tuple[NodeId, ...]


@dataclass(slots=True)
class Unverified:
    """What one worker has done under one lease, and the hits it found there."""

    spans: IntervalSet = field(default_factory=IntervalSet)
    hits: list[int] = field(default_factory=list)


class Ledger:
    """The integers of one job in their classes, and the leases among them."""

    def __init__(self, spans: Iterable[Span], done: Iterable[Span] = ()) -> None:
        self.wanted = IntervalSet(spans)
        self.unleased = IntervalSet(self.wanted)
        self.done = IntervalSet(done)
        for start, stop in self.done:
            self.unleased.remove(start, stop)
        self.suspects: list[Suspect] = []
        self.unverified: dict[NodeId, OrderedDict[LeaseId, Unverified]] = {}
        """By worker and lease, the oldest first; beyond `UNVERIFIED_LEASES_MAX` they count as verified."""
        self.leases: dict[LeaseId, Lease] = {}
        self.past: OrderedDict[LeaseId, Lease] = OrderedDict()
        """Ended leases, so that a late report is told from a stranger's; the oldest are forgotten."""
        self.tested = 0
        """Integers reported, those reported by two workers counted twice."""
        self.released = 0
        """Integers that went back to the pool from a worker that fell silent, as many as it had time for, or that is
        not believed, that were adopted while others had them, or that were given to two on purpose."""
        self.taken: list[tuple[NodeId, Span]] = []
        """Of whoever was first to tell of these integers, and does not count: whoever reads it clears it."""
        self.pinned: set[LeaseId] = set()
        """Leases that are being checked: they stay unverified."""
        self.abandoned = IntervalSet()
        """Integers not done whose worker vanished with them: somebody it passed them on to may have searched them."""
        self._abandoned_by: dict[NodeId, IntervalSet] = {}
        self._next_id = 0

    # -- views

    @property
    def complete(self) -> bool:
        """Whether every wanted integer is done."""
        return self.done.measure == self.wanted.measure

    @property
    def open(self) -> int:
        """Integers that could be leased, if to the right worker."""
        return self.unleased.measure + sum(suspect.spans.measure for suspect in self.suspects)

    @property
    def verified(self) -> int:
        """Integers that are done and not one worker's word any more."""
        word = (one.spans.measure for leases in self.unverified.values() for one in leases.values())
        return self.done.measure - sum(word)

    def waits(self, _workers: Collection[NodeId]) -> str:
        """Why none of these workers can do anything more; empty if one can."""
        return ""

    def stuck(self, workers: Collection[NodeId]) -> Span | None:
        """Integers that somebody has failed on, and that none of these workers may search."""
        for suspect in self.suspects:
            if all(worker in suspect.workers for worker in workers):
                return next(iter(suspect.spans))
        return None

    def find(self, lease_id: LeaseId) -> Lease | None:
        """The live or past lease of that id."""
        return self.leases.get(lease_id) or self.past.get(lease_id)

    # -- leases

    def lease(self, worker: NodeId, count: int, now: int) -> Lease | None:
        """Lease the lowest at most `count` unleased integers to `worker`; None if there are none.

        Suspect integers come first, but to whoever has not failed on them, and no others with them.
        """
        for number, suspect in enumerate(self.suspects):
            if worker not in suspect.workers:
                span = suspect.spans.take_lowest(suspect.spans.measure)
                assert span is not None, "what is empty is not suspect"
                if not suspect.spans:
                    del self.suspects[number]
                return self._new(worker, span, now, said=suspect.workers)
        span = self.unleased.take_lowest(count)
        return None if span is None else self._new(worker, span, now)

    def can_back_up(self, lease: Lease) -> bool:
        """Whether another may search what remains of `lease`: once, and if that is in one piece."""
        return len(lease.remaining) == 1 and lease.twin is None and not lease.recheck

    def back_up(self, lease: Lease, worker: NodeId, now: int) -> Lease | None:
        """Lease what remains of `lease`, if that can be, to `worker` too: whoever is first is first."""
        if not self.can_back_up(lease):
            return None
        (span,) = lease.remaining
        backup = self._new(worker, span, now, said=lease.said)
        backup.twin, lease.twin = lease.id, backup.id
        self.released += backup.size
        return backup

    def recheck(self, worker: NodeId, span: Span, now: int) -> Lease:
        """Lease integers that are done once more, to compare."""
        lease = self._new(worker, span, now)
        lease.recheck = True
        self.released += lease.size
        return lease

    def end(self, lease: Lease, silent: bool, hashed: int = INTEGERS_MAX) -> int:
        """End a live lease: what remains of it goes back to the pool; returns how many integers that is.

        `silent`: its worker vanished and has hashed `hashed` of them, or so; else it gave them back untouched.
        """
        if self.leases.pop(lease.id, None) is None:
            return 0
        self.past[lease.id] = lease
        if len(self.past) > LATE_LEASES_MAX:
            self.past.popitem(last=False)
        twin = self._part_twins(lease)
        returned = 0
        if twin is None and not lease.recheck:
            returned = lease.remaining.measure
            for start, stop in lease.remaining:
                self._put_back(lease, start, stop)
        lease.remaining = IntervalSet()
        if silent and twin is None and not lease.recheck:
            lease.vanished = min(returned, hashed)
            self.released += lease.vanished
        return returned

    def abandon(self, lease: Lease) -> None:
        """The worker of a live lease has vanished: what remains of it may have been searched by others, for it."""
        for start, stop in () if lease.recheck else lease.remaining:
            self.abandoned.add(start, stop)
            self._abandoned_by.setdefault(lease.worker, IntervalSet()).add(start, stop)

    def lost_by_others(self, worker: NodeId, spans: Iterable[Span]) -> list[Span]:
        """What of `spans` another worker vanished with: this one may have searched it for that one."""
        lost = IntervalSet(piece for span in spans for piece in self.abandoned.overlap(*span))
        for start, stop in self._abandoned_by.get(worker, ()):
            lost.remove(start, stop)
        return list(lost)

    def may_search(self, node: NodeId, lease: Lease) -> bool:
        """Whether what remains of `lease` can be given to `node` when its worker has failed on it."""
        return node != lease.worker and node not in lease.said

    def has_word(self, worker: NodeId, lease: LeaseId) -> bool:
        """Whether something is done by the word of `worker` alone, under that lease."""
        return lease in self.unverified.get(worker, ())

    def give_back(self, lease: Lease, spans: Iterable[Span]) -> int:
        """The worker of a live lease will not search these: to the pool with what remains of them; how many."""
        if lease.id not in self.leases or lease.twin is not None or lease.recheck:
            return 0
        returned = 0
        for start, stop in spans:
            lease.gave_back |= bool(lease.unreported.remove(start, stop))
            for low, high in lease.remaining.remove(start, stop):
                self._put_back(lease, low, high)
                returned += high - low
        return returned

    def suspect(self, lease: Lease) -> tuple[NodeId, ...]:
        """The worker of a live lease has failed on what remains of it; returns who has by now."""
        workers = (*lease.said, lease.worker)
        remaining = IntervalSet(lease.remaining)
        if lease.twin is None and not lease.recheck and remaining:
            lease.remaining = IntervalSet()
            self.suspects.append(Suspect(remaining, workers))
            self.released += remaining.measure
        elif lease.twin is not None:
            self.leases[lease.twin].said = workers
        self.end(lease, silent=False)
        return workers

    def truncate(self, stop: int) -> list[Lease]:
        """Want nothing from `stop` on any more; returns the live leases that have nothing left to do."""
        top = max(self.wanted.stop, stop + 1)
        words = (one.spans for leases in self.unverified.values() for one in leases.values())
        suspects = (suspect.spans for suspect in self.suspects)
        for classes in (self.wanted, self.unleased, self.done, *words, *suspects):
            classes.remove(stop, top)
        self.suspects = [suspect for suspect in self.suspects if suspect.spans]
        idle = []
        for lease in list(self.leases.values()):
            if lease.recheck:
                continue
            lease.remaining.remove(stop, top)
            if not lease.remaining:
                self.end(lease, silent=False)
                idle.append(lease)
        return idle

    # -- results

    def report(self, lease: Lease, spans: Iterable[Span], hits: Sequence[int] = ()) -> News:
        """Note that the worker of `lease` has searched `spans` of it and found `hits`, ascending."""
        spans = list(spans)
        for start, stop in spans:
            for a, b in lease.unreported.remove(start, stop):
                self.tested += b - a
                self._count_late(lease, b - a)
                lease.told += hits[bisect_left(hits, a) : bisect_left(hits, b)]
        if lease.recheck:
            return News([], [], [], [])
        fresh = self._finish(spans, lease)
        return News(fresh, fresh, self._take_word(lease.worker, lease.id, fresh, hits), [])

    def adopt(self, worker: NodeId, spans: Iterable[Span], hits: Sequence[int] = ()) -> list[Span]:
        """Note that `worker` has searched `spans` under no lease of ours; returns what nobody had reported before."""
        spans = list(spans)
        size = sum(stop - start for start, stop in spans)
        self.tested += size
        fresh = self._finish(spans, None)
        self.released += size - sum(stop - start for start, stop in fresh)
        self._take_word(worker, NO_LEASE, fresh, hits)
        return fresh

    def disbelieve(self, worker: NodeId, lease: LeaseId | None = None) -> Unverified:
        """What is done by the word of `worker` alone, under that lease or any, is to be done anew; returns what that
        is."""
        lost = Unverified()
        words = self.unverified.get(worker, OrderedDict())
        for lease_id in [lease_id for lease_id in words if lease in (None, lease_id)]:
            one = words.pop(lease_id)
            for start, stop in one.spans:
                self.done.remove(start, stop)
                self.unleased.add(start, stop)
                lost.spans.add(start, stop)
            lost.hits += one.hits
        self.released += lost.spans.measure
        return lost

    def check(self) -> None:
        """Assert the invariant of this module."""
        together, measure = IntervalSet(), 0
        for part in self._classes():
            measure += part.measure
            for start, stop in part:
                together.add(start, stop)
        assert together == self.wanted, "ledger does not cover the job"
        assert measure == self.wanted.measure, "ledger classes overlap"
        word, measure = IntervalSet(), 0
        for leases in self.unverified.values():
            for one in leases.values():
                measure += one.spans.measure
                for start, stop in one.spans:
                    word.add(start, stop)
                    assert self.done.covers(start, stop), "something unverified is not done"
        assert word.measure == measure, "something is the word of two workers"

    # -- helpers

    def _classes(self) -> list[IntervalSet]:
        held = [
            lease.remaining
            for lease in self.leases.values()
            if not lease.recheck and (lease.twin is None or lease.id < lease.twin)
        ]
        return [self.unleased, self.done, *held, *(suspect.spans for suspect in self.suspects)]

    def _new(self, worker: NodeId, span: Span, now: int, said: tuple[NodeId, ...] = ()) -> Lease:
        self._next_id += 1
        lease = self.leases[LeaseId(self._next_id)] = Lease(LeaseId(self._next_id), worker, span, now)
        lease.said = said
        return lease

    def _part_twins(self, lease: Lease) -> Lease | None:
        """The live twin of a lease that ends, which is now alone."""
        twin = None if lease.twin is None else self.leases.get(lease.twin)
        lease.twin = None
        if twin is not None:
            twin.twin = None
        return twin

    def _take_word(self, worker: NodeId, lease: LeaseId, fresh: list[Span], hits: Sequence[int]) -> list[int]:
        """So far `fresh` is done by the word of `worker` alone; returns the hits in it."""
        found = IntervalSet(fresh)
        mine = [n for n in hits if n in found]
        if fresh:
            leases = self.unverified.setdefault(worker, OrderedDict())
            one = leases.setdefault(lease, Unverified())
            for start, stop in fresh:
                one.spans.add(start, stop)
            one.hits += mine
            if len(leases) > UNVERIFIED_LEASES_MAX:
                self._believe_oldest(leases)
        return mine

    def _believe_oldest(self, leases: OrderedDict[LeaseId, Unverified]) -> None:
        """The oldest lease that has ended and is not being checked is not one worker's word any more."""
        for lease_id in leases:
            if lease_id not in self.pinned and lease_id not in self.leases and lease_id != NO_LEASE:
                del leases[lease_id]
                return

    def _count_late(self, lease: Lease, size: int) -> None:
        """Somebody who had vanished tells of more than it was thought to have hashed."""
        if lease.vanished >= 0:
            known = min(size, lease.vanished)
            lease.vanished -= known
            self.released += size - known

    def _put_back(self, lease: Lease, start: int, stop: int) -> None:
        if lease.said:
            self.suspects.append(Suspect(IntervalSet([(start, stop)]), lease.said))
        else:
            self.unleased.add(start, stop)

    def _finish(self, spans: list[Span], lease: Lease | None) -> list[Span]:
        fresh: list[Span] = []
        for start, stop in spans:
            for low, high in self.wanted.overlap(start, stop):
                new = self.done.add(low, high)
                self.abandoned.remove(low, high)
                fresh += new
                for a, b in new:
                    self._no_longer_open(lease, a, b)
        return fresh

    def _no_longer_open(self, lease: Lease | None, start: int, stop: int) -> None:
        if lease is not None and sum(b - a for a, b in lease.remaining.remove(start, stop)) == stop - start:
            if lease.twin is not None:
                self.leases[lease.twin].remaining.remove(start, stop)
            return
        # a late report: the integers are back in the pool or leased to another
        if sum(b - a for a, b in self.unleased.remove(start, stop)) == stop - start:
            return
        for suspect in self.suspects:
            suspect.spans.remove(start, stop)
        self.suspects = [suspect for suspect in self.suspects if suspect.spans]
        for other in self.leases.values():
            if other.recheck:
                continue
            gone = other.remaining.remove(start, stop)
            if lease is None:
                self.released += sum(b - a for a, b in gone)
