"""The search for a hash puzzle: stretches of integers go to a finder, and what survives its test is decided by hashlib.

Compiled code only ever sees numbers of one length, less what all of them share, so nothing in it can overflow at 2^63
or 2^64. Every hit is hashed again with hashlib, which supplies the digest and leaves no way for a fault of the
compiled code to put a false hit into the world.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zlb.kernels import paths
from zlb.kernels.bitcoin import NONCES
from zlb.kernels.fips180 import BLOCK_BYTES, SHA1, SHA256, HashFunction
from zlb.kernels.interface import Found, Hit, Pattern
from zlb.kernels.layout import Layout, absorb
from zlb.kernels.matching import PATTERNS_MAX, require_askable
from zlb.kernels.puzzle import Puzzle
from zlb.kernels.survivors import ARRAY_INTEGERS, ArrayFinder, Finder

FUNCTIONS = {function.name: function for function in (SHA1, SHA256)}

CALL_NUMBERS = 1 << 22
"""Numbers one call of compiled code is given: enough to make up for the call; the stop flag is looked at inside."""
ENOUGH_MAX = 1 << 32
"""More survivors than a call can report."""
SHORT = 4
"""If numpy can hash all numbers of one length with no more compressions of arrays than this, it is done sooner than the
compiler."""
SLICE_BYTES = 1 << 20
"""What hashlib is given between two looks at the stop flag: some milliseconds' worth."""
LAYOUTS_MAX = 64
"""Layouts kept: more than the lengths a number can have."""


class Stretch(NamedTuple):
    """Numbers [first, end) that one layout serves; number k with beginning b is integer base + k * beginnings + b."""

    key: int
    first: int
    end: int
    base: int


class HashSearch:
    """Implements `SamplingSearch` for one puzzle."""

    patterns_max = PATTERNS_MAX

    def __init__(self, puzzle: Puzzle) -> None:
        self._puzzle = puzzle
        self._function = FUNCTIONS[puzzle.algorithm.function]
        self._test = puzzle.rule.word_test()
        whole_blocks = len(puzzle.prefix) // BLOCK_BYTES * BLOCK_BYTES
        absorb(self._function, puzzle.prefix[:whole_blocks])  # remembered; a search has no time for it
        name = paths.asked_for()
        self._path = None if name == paths.NUMPY else _best_path(self._function)
        self._beginnings = puzzle.versions.shared if puzzle.versions else 1
        message_bytes = len(puzzle.suffix) + len(puzzle.prefix) % BLOCK_BYTES + BLOCK_BYTES
        self._slice = max(1, SLICE_BYTES // message_bytes)
        """Survivors decided between two looks at the stop flag."""
        self._finders: dict[int, tuple[Layout, Finder]] = {}
        self._lock = threading.Lock()

    def sampled_word(self, digest: bytes) -> int:
        """See `SamplingSearch.sampled_word`."""
        return self._test.word_of(digest)

    def search(
        self,
        start: int,
        stop: int,
        stop_flag: npt.NDArray[np.uint8],
        hits_max: int,
        patterns: Sequence[Pattern] = (),
    ) -> Found:
        """See `SamplingSearch.search`."""
        self._puzzle.require_fit(start, stop)
        require_askable(hits_max, patterns)
        hits: list[Hit] = []
        samples: list[list[int]] = [[] for _ in patterns]

        def found(stopped_at: int) -> Found:
            return Found(
                stopped_at, tuple(hits), tuple(tuple(n for n in some if n < stopped_at) for some in samples)
            )

        for stretch in self._stretches(start, stop):
            layout, finder = self._finder(stretch)
            at = stretch.first
            while at < stretch.end:
                if stop_flag[0]:
                    return found(max(start, self._integer(stretch, at)))
                rows = layout.rows(at, min(stretch.end, at + CALL_NUMBERS // self._beginnings))
                survivors = finder.find(
                    rows, self._test, patterns, stop_flag, min(hits_max - len(hits), ENOUGH_MAX)
                )
                base = self._integer(stretch, rows.base)
                rule, *others = (
                    [n for offset in passed if start <= (n := base + offset) < stop]
                    for passed in survivors.passed
                )
                for some, passed in zip(samples, others, strict=True):
                    some += passed
                for first in range(0, len(rule), self._slice):
                    if stop_flag[0]:
                        return found(rule[first])
                    hits += self._hits(rule[first : first + self._slice])
                    if len(hits) >= hits_max:
                        del hits[hits_max:]
                        return found(hits[-1].n + 1)
                at = survivors.stopped_at
        return found(stop)

    def _integer(self, stretch: Stretch, number: int) -> int:
        return stretch.base + number * self._beginnings

    def _stretches(self, start: int, stop: int) -> Iterator[Stretch]:
        """Cut [start, stop), which may cut through the versions of a nonce, into what one layout can serve."""
        puzzle = self._puzzle
        if puzzle.versions is None:
            for first, end in puzzle.encoding.segments(start, stop):
                yield Stretch(len(puzzle.encoding.encode(first)), first, end, 0)
            return
        shared = puzzle.versions.shared
        size = NONCES * shared
        for group in range(start // size, -(-stop // size)):
            base = group * size
            first, end = max(start - base, 0) // shared, -(-min(stop - base, size) // shared)
            if start < stop:
                yield Stretch(group, first, end, base)

    def _finder(self, stretch: Stretch) -> tuple[Layout, Finder]:
        with self._lock:
            known = self._finders.get(stretch.key)
            if known is None:
                if len(self._finders) >= LAYOUTS_MAX:
                    self._finders.clear()
                known = self._finders[stretch.key] = self._new_finder(stretch)
            return known

    def _new_finder(self, stretch: Stretch) -> tuple[Layout, Finder]:
        puzzle = self._puzzle
        encoding, prefixes, digits = puzzle.encoding, [puzzle.prefix], stretch.key
        if puzzle.versions is not None:
            first = stretch.key * self._beginnings
            prefixes = [puzzle.versions.prefix(first + number) for number in range(self._beginnings)]
            digits = encoding.width or 0
        layout = Layout(self._function, prefixes, encoding, digits, puzzle.suffix)
        twice = puzzle.algorithm.twice
        arrays = -(-(encoding.base**digits) // ARRAY_INTEGERS) * (1 + len(layout.tail))
        if self._path is None or arrays <= SHORT:
            return layout, ArrayFinder(layout, twice)
        from zlb.kernels.compiled_finder import CompiledFinder  # where there is a compiler

        return layout, CompiledFinder(layout, twice, self._path)

    def _hits(self, survivors: list[int]) -> list[Hit]:
        """Those survivors that are hits."""
        accepts, passes = self._puzzle.rule.accepts, self._test.passes
        hits = []
        for n, digest in zip(survivors, self._puzzle.digests(survivors), strict=True):
            if accepts(digest):
                hits.append(Hit(n, digest))
            elif not passes(digest):
                raise RuntimeError(f"the search loop reported {n}, which hashlib does not confirm")
        return hits


def _best_path(function: HashFunction) -> paths.Path:
    from zlb.kernels.compiled import best_path  # where there is a compiler

    return best_path(function)
