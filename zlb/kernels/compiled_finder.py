"""Survivors found by compiled code: rows and tests go into a frame, records come out as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zlb.kernels import compiled, scan
from zlb.kernels.interface import Pattern
from zlb.kernels.layout import Layout, Rows
from zlb.kernels.matching import PATTERNS_MAX, WordTest
from zlb.kernels.paths import Path
from zlb.kernels.survivors import Survivors
from zlb.kernels.words import Words

RECORDS_MAX = 512 + scan.BATCH_GROUPS
"""Groups with survivors that one call reports: some thousand integers, also if all lanes are survivors."""


class CompiledFinder:
    """Finds survivors by the search loop compiled for a layout."""

    def __init__(self, layout: Layout, twice: bool, path: Path) -> None:
        self._layout = layout
        self._twice = twice
        self._path = path
        if len(layout.tail):
            layout.prepared_tail  # noqa: B018 - made here, so that threads find it

    def find(
        self,
        rows: Rows,
        test: WordTest,
        patterns: Sequence[Pattern],
        stop_flag: npt.NDArray[np.uint8],
        enough: int,
    ) -> Survivors:
        """See `Finder.find`."""
        layout = self._layout
        variant = self._variant(test.last, bool(patterns))
        loop = compiled.load(variant)
        tests = _test_words(test, patterns)
        records = np.empty((RECORDS_MAX, variant.record_words), np.uint32)
        tail = layout.prepared_tail
        frame = compiled.frame(
            rows.table,
            len(rows.table),
            columns=layout.columns.ctypes.data,
            column_words=layout.columns.shape[1],
            tail=tail.ctypes.data,
            tail_blocks=len(tail),
            tests=tests.ctypes.data,
            records=records.ctypes.data,
            records_max=RECORDS_MAX,
            enough=enough,
            stop_flag=stop_flag.ctypes.data,
        )
        count = loop.call(frame.ctypes.data)
        row, index = (int(frame[scan.FRAME.index(name)]) for name in ("stopped_row", "stopped_index"))
        stopped_at = rows.base + layout.span * row + index
        if row == len(rows.table):
            stopped_at = rows.base + layout.span * (row - 1) + int(rows.table[-1, -2:].sum())
        passed = self._read(variant, rows.table, records[:count]) if count else [[]] * variant.tests
        return Survivors(stopped_at, passed[: 1 + len(patterns)])

    def _variant(self, last: bool, patterns: bool) -> scan.Variant:
        layout = self._layout
        word = len(layout.function.initial) - 1 if last else 0
        return scan.Variant(
            layout.function,
            self._twice,
            layout.varying,
            len(layout.tail) > 0,
            word,
            patterns,
            layout.beginnings,
            self._path,
        )

    def _read(self, variant: scan.Variant, table: Words, records: Words) -> list[list[int]]:
        lanes, streams, beginnings = variant.path.lanes, variant.streams, variant.versions
        masks = records[:, 3:].reshape(len(records), variant.tests, streams, 1)
        bits = masks >> np.arange(lanes, dtype=np.uint32) & 1
        passed = []
        for test in range(variant.tests):
            record, stream, lane = bits[:, test].nonzero()
            row, index, version_set = (records[record, at].astype(np.int64) for at in range(3))
            if beginnings == 1:
                index += stream * lanes + lane
                beginning = np.zeros_like(index)
            else:
                index += lane
                beginning = version_set * streams + stream
            inside = index < table[row, -2].astype(np.int64) + table[row, -1]
            found = (row * self._layout.span + index) * beginnings + beginning
            passed.append(np.sort(found[inside]).tolist())
        return passed


def _test_words(test: WordTest, patterns: Sequence[Pattern]) -> Words:
    """The rule's and the patterns' tests as compiled code takes them; patterns that are not given never match."""
    never = Pattern(0, 1)
    words = [test.mask, test.value, test.limit]
    for pattern in (*patterns, *[never] * (PATTERNS_MAX - len(patterns))):
        words += [pattern.mask, pattern.value]
    return np.array(words, np.uint32)
