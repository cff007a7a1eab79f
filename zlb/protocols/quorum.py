"""Every integer searched by several workers: who has searched it so far, and whether they tell the same.

A hit can be checked by one hash, so nobody has to be outvoted: whoever does not tell of a hit that another has told of,
in integers both have searched, has withheld it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from zlb.core.config import CoordinatorConfig, Method
from zlb.core.ids import LeaseId, NodeId, Span
from zlb.core.limits import INTEGERS_MAX
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.ledger import Lease, Ledger, News, Suspect, Unverified


def new_ledger(config: CoordinatorConfig, spans: Iterable[Span], done: Iterable[Span]) -> Ledger:
    """The ledger of a job that is checked as `config` says."""
    if config.verify is Method.QUORUM and config.copies > 1:
        return QuorumLedger(spans, done, config.copies)
    return Ledger(spans, done)


class Opinion(NamedTuple):
    """`workers` have searched `[start, stop)`, and found `hits`; more are to search it, but not who has `failed`."""

    start: int
    stop: int
    workers: tuple[NodeId, ...]
    hits: tuple[int, ...]
    failed: tuple[NodeId, ...] = ()

    def is_for(self, worker: NodeId) -> bool:
        """Whether `worker` may be the next to search it."""
        return worker not in self.workers and worker not in self.failed


class QuorumLedger(Ledger):
    """A ledger in which an integer is done when `copies` workers have searched it; `opinions` wait for one more."""

    def __init__(self, spans: Iterable[Span], done: Iterable[Span], copies: int) -> None:
        super().__init__(spans, done)
        self.copies = copies
        self.opinions: list[Opinion] = []
        self._told: dict[LeaseId, Opinion] = {}
        """What others have told of the integers of a lease."""

    @property
    def open(self) -> int:
        """See `Ledger.open`."""
        return super().open + sum(opinion.stop - opinion.start for opinion in self.opinions)

    def waits(self, workers: Collection[NodeId]) -> str:
        """Why none of these workers can do anything more; empty if one can."""
        if self.unleased or self.leases or not self.opinions:
            return ""
        if any(opinion.is_for(worker) for opinion in self.opinions for worker in workers):
            return ""
        return f"all is searched by those there are, and is to be by {self.copies} peers: waiting for more"

    def stuck(self, workers: Collection[NodeId]) -> Span | None:
        """See `Ledger.stuck`; without those who have searched them already."""
        for opinion in self.opinions:
            if opinion.failed and not any(map(opinion.is_for, workers)):
                return opinion.start, opinion.stop
        return super().stuck(workers)

    def lease(self, worker: NodeId, count: int, now: int) -> Lease | None:
        """See `Ledger.lease`; integers that others have searched come before those nobody has."""
        for number, opinion in enumerate(self.opinions):
            if opinion.is_for(worker):
                stop = min(opinion.stop, opinion.start + count)
                self.opinions[number : number + 1] = _cut(opinion, stop, opinion.stop)
                lease = self._new(worker, (opinion.start, stop), now, opinion.failed)
                self._told[lease.id] = opinion
                self.released += lease.size
                return lease
        return super().lease(worker, count, now)

    def can_back_up(self, _lease: Lease) -> bool:
        """Nothing need be: all of it will be searched by others anyway."""
        return False

    def may_search(self, node: NodeId, lease: Lease) -> bool:
        """See `Ledger.may_search`; who has searched it already is no other."""
        told = self._told.get(lease.id)
        return super().may_search(node, lease) and (told is None or node not in told.workers)

    def report(self, lease: Lease, spans: Iterable[Span], hits: Sequence[int] = ()) -> News:
        """See `Ledger.report`."""
        news = News([], [], [], [])
        told = self._told.get(lease.id)
        for start, stop in spans:
            new = sum(b - a for a, b in lease.unreported.remove(start, stop))
            self.tested += new
            self._count_late(lease, new)
            mine = lease.remaining.remove(start, stop)
            if lease.id not in self.leases and told is None:  # late: it counts if nobody has begun it since
                mine = self.unleased.remove(start, stop)
            for a, b in mine:
                found = tuple(n for n in hits if a <= n < b)
                self._hear(lease.worker, told, Opinion(a, b, (lease.worker,), found, lease.said), news)
        return news

    def adopt(self, worker: NodeId, spans: Iterable[Span], hits: Sequence[int] = ()) -> list[Span]:
        """Nothing is taken over from an earlier epoch but what was done then: who has told what is not in the log."""
        size = sum(stop - start for start, stop in spans)
        self.tested += size
        self.released += size
        return []

    def disbelieve(self, worker: NodeId, _lease: LeaseId | None = None) -> Unverified:
        """See `Ledger.disbelieve`; what others have searched before it is still their word."""
        lost = Unverified()
        opinions, self.opinions = self.opinions, []
        for opinion in opinions:
            if opinion.workers[:1] != (worker,):
                others = tuple(node for node in opinion.workers if node != worker)
                self.opinions.append(opinion._replace(workers=others))
                continue
            span = opinion.start, opinion.stop
            if opinion.failed:
                self.suspects.append(Suspect(IntervalSet([span]), opinion.failed))
            else:
                self.unleased.add(*span)
            _lose(lost, opinion)
        for lease_id, opinion in list(self._told.items()):
            others = tuple(node for node in opinion.workers if node != worker)
            self._told[lease_id] = opinion._replace(workers=others)
            if opinion.workers[:1] == (worker,):
                del self._told[lease_id]
                for start, stop in self.leases[lease_id].remaining:
                    _lose(lost, *_cut(opinion, start, stop))
        self.released += lost.spans.measure
        return lost

    def suspect(self, lease: Lease) -> tuple[NodeId, ...]:
        """See `Ledger.suspect`; what others have told of it is still their word."""
        told = self._told.get(lease.id)
        if told is None:
            return super().suspect(lease)
        workers = (*lease.said, lease.worker)
        self._told[lease.id] = told._replace(failed=workers)
        self.end(lease, silent=True)
        return workers

    def end(self, lease: Lease, silent: bool, hashed: int = INTEGERS_MAX) -> int:
        """See `Ledger.end`."""
        returned = super().end(lease, silent, hashed)
        self._told.pop(lease.id, None)
        return returned

    def truncate(self, stop: int) -> list[Lease]:
        """See `Ledger.truncate`."""
        self.opinions = [part for opinion in self.opinions for part in _cut(opinion, opinion.start, stop)]
        return super().truncate(stop)

    def _hear(self, worker: NodeId, told: Opinion | None, mine: Opinion, news: News) -> None:
        """One more worker has searched this piece; `told` is what those before it have."""
        start, stop, _, found, failed = mine
        before = () if told is None else tuple(n for n in told.hits if start <= n < stop)
        others = () if told is None else told.workers
        withheld = [(worker, n) for n in before if n not in found]
        withheld += [(node, n) for n in found if n not in before for node in others]
        news.withheld.extend(withheld)
        news.hits.extend(n for n in found if n not in before)
        liars = {node for node, _ in withheld}
        if others and others[0] in liars:
            self.taken.append((others[0], (start, stop)))
        if worker not in liars and (not others or others[0] in liars):
            news.first.append((start, stop))
        honest = tuple(node for node in (*others, worker) if node not in liars)
        together = Opinion(start, stop, honest, tuple(sorted({*before, *found})), failed)
        if len(together.workers) >= self.copies:
            self.done.add(start, stop)
            news.done.append((start, stop))
        else:
            self._note(together)

    def _note(self, opinion: Opinion) -> None:
        """Let it wait, as one with the opinion before it if the same have told of both."""
        at = bisect_right(self.opinions, opinion.start, key=lambda other: other.start)
        before = self.opinions[at - 1] if at else None
        if before is not None and before.stop == opinion.start and before[2::2] == opinion[2::2]:
            hits = before.hits + opinion.hits
            self.opinions[at - 1] = opinion._replace(start=before.start, hits=hits)
        else:
            self.opinions.insert(at, opinion)

    def _classes(self) -> list[IntervalSet]:
        return [*super()._classes(), *(IntervalSet([(one.start, one.stop)]) for one in self.opinions)]

    def _put_back(self, lease: Lease, start: int, stop: int) -> None:
        told = self._told.get(lease.id)
        if told is None:
            super()._put_back(lease, start, stop)
        else:
            for part in _cut(told, start, stop):
                self._note(part)


def _cut(opinion: Opinion, start: int, stop: int) -> list[Opinion]:
    """The part of an opinion in `[start, stop)`; nothing if there is none."""
    start, stop = max(start, opinion.start), min(stop, opinion.stop)
    hits = tuple(n for n in opinion.hits if start <= n < stop)
    return [opinion._replace(start=start, stop=stop, hits=hits)] if start < stop else []


def _lose(lost: Unverified, opinion: Opinion) -> None:
    lost.spans.add(opinion.start, opinion.stop)
    lost.hits += opinion.hits
