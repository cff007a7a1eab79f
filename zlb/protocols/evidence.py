"""Who searched what, and the shares that show it: the rows of a certificate. Memory grows with the job's subjobs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence

from zlb.core.ids import NodeId, Span
from zlb.core.work import Pattern, Row
from zlb.protocols.examiner import share_pattern
from zlb.protocols.intervals import IntervalSet

ROW_SHARES_MAX = 1024
"""Shares of one row: a row that grows is copied."""


class Evidence:
    """Rows that do not overlap, in ascending order; neighbours that differ in nothing else become one."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(
        self,
        worker: NodeId,
        pattern: Pattern | None,
        spans: Iterable[Span],
        shares: Sequence[int],
        at_ns: int,
    ) -> None:
        """`worker` has searched `spans`, which nobody had, and found these shares there, ascending."""
        for start, stop in spans:
            mine = tuple(shares[bisect_left(shares, start) : bisect_left(shares, stop)]) if pattern else ()
            row = Row(start, stop, worker, pattern, mine, at_ns)
            first = last = bisect_right(self._rows, start, key=lambda other: other.start)
            if first and _continues(before := self._rows[first - 1], row):
                row = row._replace(start=before.start, shares=before.shares + row.shares)
                first -= 1
            if last < len(self._rows) and _continues(row, after := self._rows[last]):
                row = row._replace(stop=after.stop, shares=row.shares + after.shares)
                last += 1
            self._rows[first:last] = [row]

    def remove(self, spans: Iterable[Span]) -> None:
        """These integers are to be searched anew."""
        gone = IntervalSet(spans)
        kept = []
        for row in self._rows:
            rest = IntervalSet([(row.start, row.stop)])
            for start, stop in gone.overlap(row.start, row.stop):
                rest.remove(start, stop)
            for start, stop in rest:
                shares = tuple(n for n in row.shares if start <= n < stop)
                kept.append(row._replace(start=start, stop=stop, shares=shares))
        self._rows = kept

    def rows(self, wanted: IntervalSet) -> tuple[Row, ...]:
        """All rows, as far as their integers are wanted."""
        rows = []
        for row in self._rows:
            for start, stop in wanted.overlap(row.start, row.stop):
                shares = tuple(n for n in row.shares if start <= n < stop)
                rows.append(row._replace(start=start, stop=stop, shares=shares))
        return tuple(rows)


def alike(rows: Iterable[Row], share: int, word: Callable[[int], int]) -> tuple[Row, ...]:
    """The same rows, all patterns with the most bits that any of them has, and the shares that match that.

    A pattern with more bits of the job's `share` word is matched by a part of what matched before: nothing has to be
    searched for it, and nobody chooses row by row how many bits are looked at. `word` is that of an integer.
    """
    rows = tuple(rows)
    pattern = share_pattern(share, max((row.pattern.mask for row in rows if row.pattern), default=0))
    return tuple(
        row
        if row.pattern in (None, pattern)
        else row._replace(
            pattern=pattern,
            shares=tuple(n for n in row.shares if word(n) & pattern.mask == pattern.value),
        )
        for row in rows
    )


def _continues(before: Row, row: Row) -> bool:
    alike = (before.stop, before.worker, before.pattern) == (row.start, row.worker, row.pattern)
    return alike and len(before.shares) + len(row.shares) <= ROW_SHARES_MAX
