"""Sets of integers as sorted, disjoint, half-open intervals. O(log k + touched) a change, k intervals held."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from zlb.core.ids import Span


class IntervalSet:
    """A set of integers; touching intervals are merged, so equal sets have equal spans."""

    __slots__ = ("_starts", "_stops", "measure")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.measure = 0
        """Integers in the set."""
        for start, stop in spans:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Span]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __contains__(self, n: int) -> bool:
        at = bisect_right(self._starts, n) - 1
        return at >= 0 and n < self._stops[at]

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    @property
    def stop(self) -> int:
        """One past the greatest integer; 0 for the empty set."""
        return self._stops[-1] if self._stops else 0

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of `[start, stop)` is in the set."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and stop <= self._stops[at]

    def overlap(self, start: int, stop: int) -> list[Span]:
        """The parts of `[start, stop)` that are in the set, ascending."""
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        return [(max(start, self._starts[i]), min(stop, self._stops[i])) for i in range(first, last)]

    def add(self, start: int, stop: int) -> list[Span]:
        """Put `[start, stop)` in; returns the parts that were not there before, ascending."""
        _check(start, stop)
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        fresh, at = [], start
        for i in range(first, last):
            if at < self._starts[i]:
                fresh.append((at, self._starts[i]))
            at = max(at, self._stops[i])
        if at < stop:
            fresh.append((at, stop))
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self.measure += sum(b - a for a, b in fresh)
        return fresh

    def remove(self, start: int, stop: int) -> list[Span]:
        """Take `[start, stop)` out; returns the parts that were there, ascending."""
        _check(start, stop)
        gone = self.overlap(start, stop)
        if gone:
            first = bisect_right(self._stops, start)
            last = first + len(gone)
            low, high = self._starts[first], self._stops[last - 1]
            kept = [(a, b) for a, b in ((low, start), (stop, high)) if a < b]
            self._starts[first:last] = [a for a, _ in kept]
            self._stops[first:last] = [b for _, b in kept]
            self.measure -= sum(b - a for a, b in gone)
        return gone

    def clear(self) -> None:
        """Take everything out."""
        self._starts.clear()
        self._stops.clear()
        self.measure = 0

    def take_lowest(self, count: int) -> Span | None:
        """Take out the lowest run of at most `count` neighbouring integers; None if the set is empty."""
        if not self._starts:
            return None
        start = self._starts[0]
        stop = min(start + count, self._stops[0])
        self.remove(start, stop)
        return start, stop


def _check(start: int, stop: int) -> None:
    assert start < stop, f"empty or reversed interval [{start}, {stop})"
