"""Slots that search at a modelled pace, with hits known beforehand: the modelled counterpart of `drivers.workers`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from zlb.core.ids import RunId, Span
from zlb.core.work import Failed, Hit, Measure, Measured, Outcome, Search, Searched, Work
from zlb.sim.pace import Pace, Steady
from zlb.sim.truth import Truth, digest, samples

START_NS = 20_000
"""What a run costs beside its hashing."""


@dataclass(slots=True)
class Going:
    """A run on a slot: `spans` of it are hashed, in that order."""

    search: Search
    started_at: int
    stops_at: int
    spans: list[Span]
    ends_at: int


class Cpu:
    """`slots` slots of one pace (a number: so many integers a second, always), first come first served.

    The world asks `next_at` and then `finish`; ties are broken by run id. Other kinds (`sim.cheats`) hash less than
    they say, or say other things than they found.
    """

    def __init__(self, slots: int, pace: float | Pace, truths: Mapping[bytes, Truth]) -> None:
        self.slots = slots
        self.pace: Pace = Steady(pace) if isinstance(pace, int | float) else pace
        self._truths = truths
        """By packed kernel parameters."""
        self._going: dict[RunId, Going] = {}
        self._waiting: deque[tuple[RunId, Search]] = deque()
        self._cut: dict[RunId, Outcome] = {}
        self._measuring: dict[RunId, int] = {}
        self._hashed_before = 0

    def hashed(self, now: int) -> int:
        """Integers really searched by `now`, also those that nobody will hear of."""
        going = [min(self.pace.done(run.started_at, now), _size(run.spans)) for run in self._going.values()]
        return self._hashed_before + sum(going)

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
            count = self.pace.done(going.started_at, now)
            stopped_at = min(self._reached(going, count), going.stops_at)
            self._cut[run_id] = self._outcome(going, stopped_at, now - going.started_at)
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
        at = min([going.ends_at for going in self._going.values()], default=None)
        if self._measuring:
            measured_at = min(self._measuring.values())
            at = measured_at if at is None else min(at, measured_at)
        return at

    def finish(self, now: int) -> tuple[RunId, Outcome]:
        """The run that ended first, and its outcome."""
        for run_id in list(self._cut):
            return run_id, self._cut.pop(run_id)
        ends = [(going.ends_at, run_id) for run_id, going in self._going.items()]
        _, run_id = min(ends + [(at, run_id) for run_id, at in self._measuring.items()])
        if self._measuring.pop(run_id, None) is not None:
            return run_id, Measured(self._told_rate())
        going = self._going.pop(run_id)
        self._fill(now)
        return run_id, self._outcome(going, going.stops_at, going.ends_at - going.started_at)

    # -- what other kinds do otherwise

    def _told_rate(self) -> float:
        """What a measurement comes to."""
        return self.pace.rate

    def _hashed(self, start: int, stop: int) -> list[Span]:
        """What of a run is hashed, ascending: all of it."""
        return [(start, stop)]

    def _costs(self, count: int, _said: int) -> int:
        """For how many integers' time a slot is busy with hashing `count` and saying `_said`."""
        return count

    def _said(self, search: Search, outcome: Searched) -> Searched:
        """What is told of a run that came to `outcome`: just that."""
        return outcome

    # -- helpers

    def _fill(self, now: int) -> None:
        while self._waiting and len(self._going) < self.slots:
            run_id, search = self._waiting.popleft()
            stops_at, spans = search.stop, self._hashed(search.start, search.stop)
            hits = self._hits(search, spans)
            if len(hits) >= search.hits_max:
                stops_at = hits[search.hits_max - 1] + 1
            count = sum(min(stop, stops_at) - start for start, stop in spans if start < stops_at)
            ends_at = self.pace.when(now + START_NS, self._costs(count, stops_at - search.start))
            self._going[run_id] = Going(search, now, stops_at, spans, ends_at)

    def _reached(self, going: Going, count: int) -> int:
        """How far a run is once `count` integers are hashed."""
        for start, stop in going.spans:
            if count < stop - start:
                return start + count
            count -= stop - start
        return going.search.stop

    def _hits(self, search: Search, spans: list[Span]) -> list[int]:
        truth = self._truths.get(search.params)
        return [n for span in spans for n in truth.among(*span)] if truth is not None else []

    def _outcome(self, going: Going, stopped_at: int, busy_ns: int) -> Searched:
        search = going.search
        spans = [(low, min(high, stopped_at)) for low, high in going.spans if low < stopped_at]
        self._hashed_before += _size(spans)
        found = [samples(search.patterns, *span) for span in spans] if search.patterns else []
        told = tuple(tuple(n for part in found for n in part[i]) for i in range(len(search.patterns)))
        hits = tuple(Hit(n, digest(n)) for n in self._hits(search, spans))
        return self._said(search, Searched(stopped_at, hits, busy_ns, told))


def _size(spans: list[Span]) -> int:
    return sum(stop - start for start, stop in spans)
