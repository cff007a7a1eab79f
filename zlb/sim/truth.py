"""What is true of the integers of a modelled job: its hits, known beforehand, and the word that samples are about."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from zlb.core.work import Oracle, Pattern

WORD_MASK = 0xFFFF_FFFF
CHUNK = 1 << 16
"""Words made in one go: they fit the processor's cache."""
_ALL = (1 << 64) - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def digest(n: int) -> bytes:
    """The modelled digest of `n`."""
    return n.to_bytes(9, "big")


def splitmix64(n: int) -> int:
    """The 64 bits that SplitMix64 makes of state `n` (Steele, Lea, Flood 2014): as random as a hash for any model."""
    n = (n + _STEP) & _ALL
    n = ((n ^ (n >> 30)) * _FIRST) & _ALL
    n = ((n ^ (n >> 27)) * _SECOND) & _ALL
    return n ^ (n >> 31)


def word(n: int) -> int:
    """The modelled word of `n` that patterns are about, 32 bits."""
    return splitmix64(n) & WORD_MASK


def samples(patterns: tuple[Pattern, ...], start: int, stop: int) -> tuple[tuple[int, ...], ...]:
    """For each pattern all integers of `[start, stop)` whose word matches it, ascending."""
    found: list[list[int]] = [[] for _ in patterns]
    while patterns and start < stop:
        count = min(CHUNK, stop - start)
        words = _words(start, count)
        for pattern, mine in zip(patterns, found, strict=True):
            at = np.flatnonzero(words & np.uint64(pattern.mask) == np.uint64(pattern.value))
            mine += [start + offset for offset in at.tolist()]
        start += count
    return tuple(tuple(mine) for mine in found)


def _words(start: int, count: int) -> NDArray[np.uint64]:
    """`word` of `count` integers from `start` on."""
    n = np.arange(count, dtype=np.uint64) + np.uint64((start + _STEP) & _ALL)  # wraps as it should
    n = (n ^ (n >> np.uint64(30))) * np.uint64(_FIRST)
    n = (n ^ (n >> np.uint64(27))) * np.uint64(_SECOND)
    n ^= n >> np.uint64(31)
    return n & np.uint64(WORD_MASK)


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

    def word(self, n: int) -> int:
        """As a kernel's `word`."""
        return word(n)

    @property
    def oracle(self) -> Oracle:
        """What a coordinator checks claims with."""
        return Oracle(self.check, self.word)
