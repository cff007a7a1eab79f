"""What a coordinator has learned since its last checkpoint, and which reports are kept once it is in the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from zlb.core.ids import NodeId, Span
from zlb.core.limits import (
    HIT_BYTES,
    HITS_PER_CHECKPOINT_MAX,
    ROWS_BYTES_MAX,
    SPANS_PER_CHECKPOINT_MAX,
)
from zlb.core.work import Hit, Row
from zlb.protocols.evidence import ROW_BYTES_MAX, Evidence
from zlb.protocols.intervals import IntervalSet


class Resumed(NamedTuple):
    """Where a coordinator begins: what the checkpoints of those before it say."""

    done: tuple[Span, ...] = ()
    hits: int = 0
    lowest: Hit | None = None
    """The lowest hit that is known; others may still be lower."""
    tested: int = 0
    recomputed: int = 0
    loose: tuple[int, ...] = ()
    """Hits that are in the log although their integers are not done: they will be found again."""


class Received(NamedTuple):
    """A report, by its worker."""

    worker: NodeId
    incarnation: int
    sequence: int


class Delta(NamedTuple):
    """News for one checkpoint; `reports` are in the log with it."""

    done: tuple[Span, ...]
    hits: tuple[Hit, ...]
    reports: tuple[Received, ...]
    undone: tuple[Span, ...] = ()
    """Of what an earlier checkpoint says is done."""
    rows: tuple[Row, ...] = ()
    """Evidence for what is done, if it is kept."""
    cut: bool = False
    """Not all news had room in it."""


class Checkpoints:
    """Gathers news and gives it out in pieces that fit the log. Hits come before the integers they lie in."""

    def __init__(self) -> None:
        self.evidence: Evidence | None = None
        """Whose rows go along with the integers they are about."""
        self._done = IntervalSet()
        self._undone = IntervalSet()
        self._hits: list[Hit] = []
        self._reports: dict[Received, None] = {}

    def __bool__(self) -> bool:
        return bool(self._done or self._undone or self._hits or self._reports)

    def add(self, spans: list[Span], hits: list[Hit]) -> None:
        """These integers are done, and have these hits."""
        for start, stop in spans:
            self._done.add(start, stop)
            self._undone.remove(start, stop)
        self._hits += hits

    def undo(self, spans: Iterable[Span]) -> None:
        """These integers are not done after all."""
        for start, stop in spans:
            self._undone.add(start, stop)
            self._done.remove(start, stop)

    def wait(self, report: Received) -> None:
        """It waits to be kept; all its news has been added."""
        self._reports[report] = None

    def take(self) -> Delta:
        """The next piece."""
        hits, self._hits = self._hits[:HITS_PER_CHECKPOINT_MAX], self._hits[HITS_PER_CHECKPOINT_MAX:]
        room = min(ROWS_BYTES_MAX, HIT_BYTES * (HITS_PER_CHECKPOINT_MAX - len(hits)))
        if self._hits or (self.evidence is not None and room < ROW_BYTES_MAX):
            return Delta((), tuple(hits), (), cut=True)
        done, rows = list(self._done)[:SPANS_PER_CHECKPOINT_MAX], tuple[Row, ...]()
        if self.evidence is not None:
            done, rows = self.evidence.take(done, room)
        for start, stop in done:
            self._done.remove(start, stop)
        reports: tuple[Received, ...] = ()
        if not self._done:
            reports = tuple(self._reports)
            self._reports.clear()
        undone = tuple(self._undone)[: SPANS_PER_CHECKPOINT_MAX - len(done)]
        for start, stop in undone:
            self._undone.remove(start, stop)
        return Delta(tuple(done), tuple(hits), reports, undone, rows, bool(self._done or self._undone))
