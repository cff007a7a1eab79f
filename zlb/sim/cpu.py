"""Slots that search at a given rate, with hits known beforehand: the modelled counterpart of `drivers.workers`."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

from zlb.core.ids import RunId
from zlb.core.limits import SECOND
from zlb.core.work import Failed, Hit, Measure, Measured, Outcome, Search, Searched, Work

START_NS = 20_000
"""What a run costs beside its hashing."""


def digest(n: int) -> bytes:
    """The modelled digest of `n`."""
    return n.to_bytes(9, "big")


class Truth:
    """The hits there are, for the kernel and for whoever checks it."""

    def __init__(self, hits: list[int]) -> None:
        self.hits = sorted(hits)

    def among(self, start: int, stop: int) -> list[int]:
        """Hits in `[start, stop)`, ascending."""
        return self.hits[bisect_left(self.hits, start) : bisect_left(self.hits, stop)]

    def check(self, n: int) -> bytes | None:
        """As a kernel's `check`."""
        return digest(n) if self.among(n, n + 1) else None


@dataclass(slots=True)
class _Going:
    """A run on a slot."""

    search: Search
    started_at: int
    stops_at: int


class Cpu:
    """`slots` slots of `rate` integers a second each, first come first served.

    The world asks `next_at` and then `finish`; ties are broken by run id.
    """

    def __init__(self, slots: int, rate: float, truths: dict[bytes, Truth]) -> None:
        self.slots, self.rate = slots, rate
        self._truths = truths
        """By packed kernel parameters."""
        self._going: dict[RunId, _Going] = {}
        self._waiting: deque[tuple[RunId, Search]] = deque()
        self._cut: dict[RunId, Outcome] = {}
        self._measuring: dict[RunId, int] = {}

    def run(self, now: int, run_id: RunId, work: Work) -> None:
        """Start, or queue, a run; a measurement takes its time beside the slots."""
        match work:
            case Search():
                self._waiting.append((run_id, work))
                self._fill(now)
            case Measure(_, _, _, aim_ns):
                self._measuring[run_id] = now + aim_ns

    def stop(self, now: int, run_id: RunId) -> None:
        """End a run early, with what it has done until now."""
        if self._measuring.pop(run_id, None) is not None:
            self._cut[run_id] = Failed("stopped")
        going = self._going.pop(run_id, None)
        if going is not None:
            busy_ns = now - going.started_at
            count = min(int(busy_ns * self.rate / SECOND), going.stops_at - going.search.start)
            self._cut[run_id] = self._outcome(going.search, going.search.start + count, busy_ns)
            self._fill(now)
            return
        for item in self._waiting:
            if item[0] == run_id:
                self._waiting.remove(item)
                self._cut[run_id] = Searched(item[1].start, (), 0)
                return

    def next_at(self) -> int | None:
        """When the next run ends; None if none is going."""
        if self._cut:
            return 0
        return min((at for at, _ in self._ends()), default=None)

    def finish(self, now: int) -> tuple[RunId, Outcome]:
        """The run that ended first, and its outcome."""
        for run_id in list(self._cut):
            return run_id, self._cut.pop(run_id)
        _, run_id = min(self._ends())
        if self._measuring.pop(run_id, None) is not None:
            return run_id, Measured(self.rate)
        going = self._going.pop(run_id)
        self._fill(now)
        return run_id, self._outcome(going.search, going.stops_at, self._ends_at(going) - going.started_at)

    def _ends(self) -> list[tuple[int, RunId]]:
        going = [(self._ends_at(going), run_id) for run_id, going in self._going.items()]
        return going + [(at, run_id) for run_id, at in self._measuring.items()]

    def _fill(self, now: int) -> None:
        while self._waiting and len(self._going) < self.slots:
            run_id, search = self._waiting.popleft()
            hits = self._hits(search, search.stop)[: search.hits_max]
            enough = len(hits) == search.hits_max
            self._going[run_id] = _Going(search, now, hits[-1] + 1 if enough else search.stop)

    def _ends_at(self, going: _Going) -> int:
        return going.started_at + START_NS + int((going.stops_at - going.search.start) * SECOND / self.rate)

    def _hits(self, search: Search, stop: int) -> list[int]:
        truth = self._truths.get(search.params)
        return truth.among(search.start, stop) if truth else []

    def _outcome(self, search: Search, stopped_at: int, busy_ns: int) -> Searched:
        hits = tuple(Hit(n, digest(n)) for n in self._hits(search, stopped_at))
        return Searched(stopped_at, hits, busy_ns)
