"""What became of every integer of a job: unleased, leased to someone, or done. State is O(live leases).

Union of done intervals is idempotent, so doubled, late and reordered reports are harmless. Invariant, checked by
`check()`: unleased, the remainders of live leases, and done are disjoint and together are the job.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from zlb.core.ids import LeaseId, NodeId, Span
from zlb.core.limits import LATE_LEASES_MAX
from zlb.protocols.intervals import IntervalSet


@dataclass(slots=True)
class Lease:
    """A subjob given to `worker`. `remaining` is what nobody has reported done, `unreported` what it has not itself."""

    id: LeaseId
    worker: NodeId
    span: Span
    heard_at: int
    remaining: IntervalSet = field(init=False)
    unreported: IntervalSet = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = IntervalSet([self.span])
        self.unreported = IntervalSet([self.span])


class Ledger:
    """The integers of one job in three classes, and the leases among them."""

    def __init__(self, spans: Iterable[Span], done: Iterable[Span] = ()) -> None:
        self.wanted = IntervalSet(spans)
        self.unleased = IntervalSet(self.wanted)
        self.done = IntervalSet(done)
        for start, stop in self.done:
            self.unleased.remove(start, stop)
        self.leases: dict[LeaseId, Lease] = {}
        self.past: OrderedDict[LeaseId, Lease] = OrderedDict()
        """Ended leases, so that a late report is told from a stranger's; the oldest are forgotten."""
        self.tested = 0
        """Integers reported, those reported by two workers counted twice."""
        self.released = 0
        """Integers that went back to the pool from a worker that fell silent, who may have hashed some of them, or that
        were adopted while others had them."""
        self._next_id = 0

    @property
    def complete(self) -> bool:
        """Whether every wanted integer is done."""
        return self.done.measure == self.wanted.measure

    def lease(self, worker: NodeId, count: int, now: int) -> Lease | None:
        """Lease the lowest at most `count` unleased integers to `worker`; None if there are none."""
        span = self.unleased.take_lowest(count)
        if span is None:
            return None
        self._next_id += 1
        lease = Lease(LeaseId(self._next_id), worker, span, now)
        self.leases[lease.id] = lease
        return lease

    def find(self, lease_id: LeaseId) -> Lease | None:
        """The live or past lease of that id."""
        return self.leases.get(lease_id) or self.past.get(lease_id)

    def report(self, lease: Lease, spans: Iterable[Span]) -> list[Span]:
        """Note that the worker of `lease` has searched `spans` of it; returns what nobody had reported before."""
        spans = list(spans)
        for start, stop in spans:
            self.tested += sum(b - a for a, b in lease.unreported.remove(start, stop))
        return self._finish(spans, lease)

    def adopt(self, spans: Iterable[Span]) -> list[Span]:
        """Note that somebody has searched `spans` under no lease of ours; returns what nobody had reported before."""
        spans = list(spans)
        size = sum(stop - start for start, stop in spans)
        self.tested += size
        fresh = self._finish(spans, None)
        self.released += size - sum(stop - start for start, stop in fresh)
        return fresh

    def end(self, lease: Lease, silent: bool) -> int:
        """End a live lease: what remains of it goes back to the pool; returns how many integers that is.

        `silent`: its worker vanished and may have hashed them; else it gave them back untouched.
        """
        if self.leases.pop(lease.id, None) is None:
            return 0
        self.past[lease.id] = lease
        if len(self.past) > LATE_LEASES_MAX:
            self.past.popitem(last=False)
        returned = lease.remaining.measure
        for start, stop in lease.remaining:
            self.unleased.add(start, stop)
        lease.remaining = IntervalSet()
        if silent:
            self.released += returned
        return returned

    def truncate(self, stop: int) -> list[Lease]:
        """Want nothing from `stop` on any more; returns the live leases that have nothing left to do."""
        top = max(self.wanted.stop, stop + 1)
        for classes in (self.wanted, self.unleased, self.done):
            classes.remove(stop, top)
        idle = []
        for lease in list(self.leases.values()):
            lease.remaining.remove(stop, top)
            if not lease.remaining:
                self.end(lease, silent=False)
                idle.append(lease)
        return idle

    def check(self) -> None:
        """Assert the invariant of this module."""
        together, measure = IntervalSet(), 0
        parts = [self.unleased, self.done, *(lease.remaining for lease in self.leases.values())]
        for part in parts:
            measure += part.measure
            for start, stop in part:
                together.add(start, stop)
        assert together == self.wanted, "ledger does not cover the job"
        assert measure == self.wanted.measure, "ledger classes overlap"

    def _finish(self, spans: list[Span], lease: Lease | None) -> list[Span]:
        fresh: list[Span] = []
        for start, stop in spans:
            for low, high in self.wanted.overlap(start, stop):
                new = self.done.add(low, high)
                fresh += new
                for a, b in new:
                    self._no_longer_open(lease, a, b)
        return fresh

    def _no_longer_open(self, lease: Lease | None, start: int, stop: int) -> None:
        if lease is not None and sum(b - a for a, b in lease.remaining.remove(start, stop)) == stop - start:
            return
        self.unleased.remove(
            start, stop
        )  # a late report: the integers are back in the pool or leased to another
        for other in self.leases.values():
            gone = other.remaining.remove(start, stop)
            if lease is None:
                self.released += sum(b - a for a, b in gone)
