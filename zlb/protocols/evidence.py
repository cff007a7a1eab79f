"""Who searched what, and the shares that show it: the rows of a certificate. Memory grows with the job's subjobs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from zlb.core.ids import NodeId, Span
from zlb.core.limits import INTEGERS_MAX, ROW_SHARES_MAX, SHARES_PER_JOB
from zlb.core.work import Pattern, Row
from zlb.protocols.examiner import Word, mask_of, share_pattern
from zlb.protocols.intervals import IntervalSet

ROW_BYTES, SHARE_BYTES = 128, 9
"""Of a row as it travels, at most, and of each of its shares."""
ROW_BYTES_MAX = ROW_BYTES + SHARE_BYTES * ROW_SHARES_MAX


class Evidence:
    """Rows that do not overlap, in ascending order; neighbours that differ in nothing else become one.

    It may begin with such `rows`; `thin` tells what of a new one is kept.
    """

    def __init__(self, rows: Iterable[Row] = (), thin: Callable[[Row], Row] = lambda row: row) -> None:
        self._rows = list(rows)
        self._thin = thin
        self.size = sum(map(_size, self._rows))
        """Bytes, at most, of all rows as they travel."""

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
            for row in _parts(self._thin(Row(start, stop, worker, pattern, mine, at_ns))):
                self._add(row)

    def remove(self, spans: Iterable[Span]) -> None:
        """These integers are to be searched anew."""
        for start, stop in IntervalSet(spans):
            first = bisect_right(self._rows, start, key=lambda row: row.stop)
            last = bisect_left(self._rows, stop, key=lambda row: row.start)
            touched = self._rows[first:last]
            before = [_cut(row, 0, start) for row in touched[:1] if row.start < start]
            after = [_cut(row, stop, INTEGERS_MAX) for row in touched[-1:] if row.stop > stop]
            self._replace(first, last, before + after)

    def rows(self, wanted: IntervalSet | None = None) -> tuple[Row, ...]:
        """All rows, as far as their integers are wanted."""
        if wanted is None:
            return tuple(self._rows)
        return tuple(_cut(row, *span) for row in self._rows for span in wanted.overlap(row.start, row.stop))

    def take(self, wanted: Sequence[Span], bytes_max: int) -> tuple[list[Span], tuple[Row, ...]]:
        """As much of the ascending spans as has rows of so many bytes, one row at least, and these rows, which are
        forgotten. What has no rows goes along."""
        rows = self.rows(IntervalSet(wanted))
        fitting = page(rows, 0, bytes_max)
        taken = list(wanted)
        if len(fitting) < len(rows):
            end = rows[len(fitting)].start
            taken = [(start, min(stop, end)) for start, stop in wanted if start < end]
        self.remove(taken)
        return taken, fitting

    def _add(self, row: Row) -> None:
        first = last = bisect_right(self._rows, row.start, key=lambda other: other.start)
        if first and _continues(before := self._rows[first - 1], row):
            row = row._replace(start=before.start, shares=before.shares + row.shares)
            first -= 1
        if last < len(self._rows) and _continues(row, after := self._rows[last]):
            row = row._replace(stop=after.stop, shares=row.shares + after.shares)
            last += 1
        self._replace(first, last, [row])

    def _replace(self, first: int, last: int, rows: list[Row]) -> None:
        self.size += sum(map(_size, rows)) - sum(map(_size, self._rows[first:last]))
        self._rows[first:last] = rows


def page(rows: Sequence[Row], first: int, bytes_max: int) -> tuple[Row, ...]:
    """So many of the rows, beginning with the first, as have so many bytes when they travel; one at least."""
    last, size = first, 0
    while last < len(rows) and (last == first or size + _size(rows[last]) <= bytes_max):
        size += _size(rows[last])
        last += 1
    return tuple(rows[first:last])


def thinner(done: Callable[[], int], share: int, word: Word | None) -> Callable[[Row], Row]:
    """What is kept of rows where there is little room: some `limits.SHARES_PER_JOB` shares for each doubling of what is
    `done`, and of all rows alike as many in the end."""

    def thin(row: Row) -> Row:
        if row.pattern is None or word is None:
            return row
        mask = mask_of(done() / SHARES_PER_JOB)
        return _looked_at(row, share_pattern(share, row.pattern.mask | mask), word)

    return thin


def alike(rows: Iterable[Row], share: int, word: Word) -> tuple[Row, ...]:
    """The same rows, all patterns with the most bits that any of them has, and the shares that match that.

    A pattern with more bits of the job's `share` word is matched by a part of what matched before: nothing has to be
    searched for it, and nobody chooses row by row how many bits are looked at. `word` is that of an integer.
    """
    rows = tuple(rows)
    pattern = share_pattern(share, max((row.pattern.mask for row in rows if row.pattern), default=0))
    return tuple(row if row.pattern is None else _looked_at(row, pattern, word) for row in rows)


def _looked_at(row: Row, pattern: Pattern, word: Word) -> Row:
    """The row with a pattern of as many bits or more."""
    if row.pattern == pattern:
        return row
    shares = tuple(n for n in row.shares if word(n) & pattern.mask == pattern.value)
    return row._replace(pattern=pattern, shares=shares)


def _parts(row: Row) -> Iterator[Row]:
    """The row, in several if it has too many shares for one."""
    while len(row.shares) > ROW_SHARES_MAX:
        middle = row.shares[ROW_SHARES_MAX]
        yield _cut(row, row.start, middle)
        row = _cut(row, middle, row.stop)
    yield row


def _cut(row: Row, start: int, stop: int) -> Row:
    """The part of the row from `start` to `stop`."""
    start, stop = max(row.start, start), min(row.stop, stop)
    shares = row.shares[bisect_left(row.shares, start) : bisect_left(row.shares, stop)]
    return row._replace(start=start, stop=stop, shares=shares)


def _size(row: Row) -> int:
    return ROW_BYTES + SHARE_BYTES * len(row.shares)


def _continues(before: Row, row: Row) -> bool:
    alike = (before.stop, before.worker, before.pattern) == (row.start, row.worker, row.pattern)
    return alike and len(before.shares) + len(row.shares) <= ROW_SHARES_MAX
