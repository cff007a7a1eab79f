"""Sets of integers as sorted, disjoint, half-open intervals: quick with millions of them, small with a few.

What is held is one ascending list of *edges*: start, stop, start, stop … An integer with an even number of edges at or
below it is outside, one with an odd number inside. Beyond `EDGES_MAX` edges the list is cut into chunks.

With k intervals held, whether something is in the set takes O(log k). A change and `overlap` take O(log k + intervals
touched); besides they move, as blocks, O(EDGES_MAX + k / EDGES_MAX) words at worst. `len` of a large set takes
O(k / EDGES_MAX). Only what looks at a whole set (`for`, `==`) takes O(k).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain

from zlb.core.ids import Span

EDGES_MAX = 512
"""Edges in one list, two for each interval. 256 to 1024 are about equally quick with 10^6 intervals."""
OUT, IN = 0, 1
"""What the number of edges at or below an integer is modulo 2."""


class IntervalSet:
    """A set of integers; touching intervals are merged, so equal sets have equal spans."""

    __slots__ = ("_chunks", "_edges", "measure")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._edges: list[int] = []
        self._chunks: _Chunks | None = None
        """If any, then all edges are there, and none in `_edges`."""
        self.measure = 0
        """Integers in the set."""
        for start, stop in spans:
            if self.measure:
                self.add(start, stop)
            else:  # of most sets the only one
                _check(start, stop)
                self._edges, self.measure = [start, stop], stop - start

    def __iter__(self) -> Iterator[Span]:
        return iter(_spans(self._all_edges()))

    def __bool__(self) -> bool:
        return self.measure > 0

    def __len__(self) -> int:
        if self._chunks is not None:
            return sum(map(len, self._chunks.lists)) // 2
        return len(self._edges) // 2

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self.measure == other.measure and self._all_edges() == other._all_edges()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __contains__(self, n: int) -> bool:
        edges = self._edges if self._chunks is None else self._chunks.around(n)
        return bisect_right(edges, n) & 1 == IN

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    @property
    def stop(self) -> int:
        """One past the greatest integer; 0 for the empty set."""
        edges = self._edges if self._chunks is None else self._chunks.lists[-1]
        return edges[-1] if edges else 0

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of `[start, stop)` is in the set."""
        edges = self._edges if self._chunks is None else self._chunks.around(start)
        at = bisect_right(edges, start)
        return at & 1 == IN and stop <= edges[at]

    def overlap(self, start: int, stop: int) -> list[Span]:
        """The parts of `[start, stop)` that are in the set, ascending."""
        edges = self._edges if self._chunks is None else self._chunks.join(*self._chunks.find(start, stop))
        first, last = bisect_right(edges, start), bisect_left(edges, stop)
        met = edges[first:last]
        if first & 1 == IN:
            met.insert(0, start)
        if last & 1 == IN:
            met.append(stop)
        return _spans(met)

    def add(self, start: int, stop: int) -> list[Span]:
        """Put `[start, stop)` in; returns the parts that were not there before, ascending."""
        return self._change(start, stop, IN)

    def remove(self, start: int, stop: int) -> list[Span]:
        """Take `[start, stop)` out; returns the parts that were there, ascending."""
        return self._change(start, stop, OUT)

    def clear(self) -> None:
        """Take everything out."""
        self._edges, self._chunks, self.measure = [], None, 0

    def take_lowest(self, count: int) -> Span | None:
        """Take out the lowest run of at most `count` neighbouring integers; None if the set is empty."""
        edges = self._edges if self._chunks is None else self._chunks.lists[0]
        if not edges:
            return None
        start, stop = edges[0], min(edges[0] + count, edges[1])
        self.remove(start, stop)
        return start, stop

    def _all_edges(self) -> list[int]:
        return self._edges if self._chunks is None else self._chunks.join(0, len(self._chunks.lists))

    def _change(self, start: int, stop: int, to: int) -> list[Span]:
        """Have all of `[start, stop)` inside or outside; returns the parts that were not."""
        _check(start, stop)
        chunks = self._chunks
        if chunks is None:
            edges = self._edges
        else:
            where = chunks.find(start, stop)
            edges = chunks.join(*where)
        first, last = bisect_left(edges, start), bisect_right(edges, stop)
        if first == last:  # no edge is met: all of it is inside, or all of it outside
            if first & 1 == to:
                return []
            edges[first:last] = start, stop
            parts, size = [(start, stop)], stop - start
        else:
            changed, kept = edges[first:last], []
            if first & 1 != to:
                changed.insert(0, start)
                kept.append(start)
            if last & 1 != to:
                changed.append(stop)
                kept.append(stop)
            edges[first:last] = kept
            parts, size = [], 0
            for part in _spans(changed):
                a, b = part
                if a < b:  # else an edge was there already
                    parts.append(part)
                    size += b - a
        self.measure += size if to == IN else -size
        if chunks is not None:
            chunks.replace(*where, edges)
            if len(chunks.lists) < 2:
                self._edges, self._chunks = self._all_edges(), None
        elif len(edges) > EDGES_MAX:
            self._edges, self._chunks = [], _Chunks(edges)
        return parts


class _Chunks:
    """The edges of a large set, cut into lists of whole intervals: two or more, none of them empty."""

    __slots__ = ("firsts", "lists")

    def __init__(self, edges: list[int]) -> None:
        self.lists = _cut(edges)
        self.firsts = [chunk[0] for chunk in self.lists]

    def around(self, n: int) -> list[int]:
        """The list that tells whether `n` is inside."""
        return self.lists[max(bisect_right(self.firsts, n) - 1, 0)]

    def find(self, start: int, stop: int) -> tuple[int, int]:
        """Which lists, [first, last), have whatever overlaps or touches `[start, stop)`; at least one."""
        first = max(bisect_right(self.firsts, start) - 1, 0)
        return first, max(bisect_right(self.firsts, stop, first), first + 1)

    def join(self, first: int, last: int) -> list[int]:
        """The edges in these lists: if it is one list, itself and no copy."""
        if last - first == 1:
            return self.lists[first]
        return list(chain.from_iterable(self.lists[first:last]))

    def replace(self, first: int, last: int, edges: list[int]) -> None:
        """Put `edges` where these lists are. Short lists are joined with a neighbour, long ones are cut."""
        if last - first == 1 and EDGES_MAX // 8 < len(edges) <= EDGES_MAX:
            self.firsts[first] = edges[0]
            return
        if len(edges) <= EDGES_MAX // 8:
            if last < len(self.lists):
                edges = edges + self.lists[last]
                last += 1
            elif first > 0:
                first -= 1
                edges = self.lists[first] + edges
        self.lists[first:last] = chunks = _cut(edges)
        self.firsts[first:last] = [chunk[0] for chunk in chunks]


def _spans(edges: list[int]) -> list[Span]:
    each = iter(edges)
    return list(zip(each, each))  # noqa: B905 - naming `strict` takes as long as all the rest


def _cut(edges: list[int]) -> list[list[int]]:
    """A list that is too long as several, about half as long as they may be; none if there are no edges."""
    if len(edges) <= EDGES_MAX:
        return [edges] if edges else []
    intervals, halves = len(edges) // 2, len(edges) // (EDGES_MAX // 2)
    size = 2 * -(-intervals // halves)
    return [edges[at : at + size] for at in range(0, len(edges), size)]


def _check(start: int, stop: int) -> None:
    assert start < stop, f"empty or reversed interval [{start}, {stop})"
