"""Which numbers pass the test of one word of their digest: found by compiled code or, as here, by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from zlb.kernels.fips180 import BLOCK_WORDS, State, compress, padding
from zlb.kernels.interface import Pattern
from zlb.kernels.layout import Layout, Rows
from zlb.kernels.matching import WordTest
from zlb.kernels.words import PLAIN, Words, words_of

ARRAY_INTEGERS = 4096
"""Numbers numpy hashes at once: arrays of 16 KiB."""


class Survivors(NamedTuple):
    """What one call covered: all numbers below `stopped_at` in the rows that were given.

    `passed[i]` are those that pass the i-th test, the rule's first, ascending, as number * beginnings + beginning, less
    the base of the rows times the beginnings. (Beginnings are the layout's, mostly one.)
    """

    stopped_at: int
    passed: list[list[int]]


class Finder(Protocol):
    """Finds survivors among the messages of one layout."""

    def find(
        self,
        rows: Rows,
        test: WordTest,
        patterns: Sequence[Pattern],
        stop_flag: npt.NDArray[np.uint8],
        enough: int,
    ) -> Survivors:
        """Test the numbers of `rows`; come back early when told to, soon after `enough` survivors of the rule, or
        when there is no room for more."""
        ...


class ArrayFinder:
    """Finds survivors with numpy: the expressions of `zlb.kernels.fips180` evaluated over arrays."""

    def __init__(self, layout: Layout, twice: bool) -> None:
        self._layout = layout
        self._twice = twice

    def find(
        self,
        rows: Rows,
        test: WordTest,
        patterns: Sequence[Pattern],
        stop_flag: npt.NDArray[np.uint8],
        enough: int,
    ) -> Survivors:
        """See `Finder.find`."""
        span, beginnings = self._layout.span, self._layout.beginnings
        passed: list[list[int]] = [[] for _ in range(1 + len(patterns))]
        stopped_at = rows.base
        for number, row in enumerate(rows.table):
            first, count = (int(word) for word in row[-2:])
            for at in range(first, first + count, ARRAY_INTEGERS):
                stopped_at = rows.base + number * span + at
                if stop_flag[0] or len(passed[0]) >= enough:
                    return Survivors(stopped_at, passed)
                end = min(at + ARRAY_INTEGERS, first + count)
                digests = [
                    self._digest(row, beginning, at, end, stop_flag) for beginning in range(beginnings)
                ]
                if stop_flag[0]:
                    return Survivors(stopped_at, passed)
                words = np.stack([each[-1].byteswap() if test.last else each[0] for each in digests], axis=1)
                matches = [(words ^ test.value) & test.mask <= test.limit]
                matches += [words & pattern.mask == pattern.value for pattern in patterns]
                for found, match in zip(passed, matches, strict=True):
                    places = np.flatnonzero(match.ravel())
                    found += ((number * span + at) * beginnings + places).tolist()
                stopped_at = rows.base + number * span + end
        return Survivors(stopped_at, passed)

    def _digest(
        self, row: Words, beginning: int, first: int, end: int, stop_flag: npt.NDArray[np.uint8]
    ) -> State:
        """The digests of the numbers at index `first` to `end`; nothing of use once the stop flag is set."""
        layout, function = self._layout, self._layout.function
        hashes, count = len(function.initial), end - first
        state: State = tuple(
            np.full(count, word) for word in row[beginning * hashes : (beginning + 1) * hashes]
        )
        column = 0
        for block, varying in enumerate(layout.varying):
            at = layout.beginnings * hashes + block * BLOCK_WORDS
            message = [np.full(count, word) for word in row[at : at + BLOCK_WORDS]]
            for word in varying:
                message[word] += layout.columns[column, first:end]
                column += 1
            state = compress(PLAIN, function, state, message)
        for words in layout.tail.tolist():
            if stop_flag[0]:
                break
            state = compress(PLAIN, function, state, words)
        if self._twice:
            padded = [*state, *words_of(padding(4 * hashes)).tolist()]
            state = compress(PLAIN, function, function.initial, padded)
        return state
