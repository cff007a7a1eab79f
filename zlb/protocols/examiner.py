"""What workers are asked to tell besides hits, and whether what they tell can be true.

Each lease has a *share* pattern, whose samples prove themselves and can only be left out, and patterns with a *planted*
sample: one we have hashed ourselves, which hides among the others (Golle and Mironov 2001, "ringers"). Whoever skips a
part of a lease misses shares, which the count test notices in time, and planted samples, which one is enough. With
`Method.SPOT` the last pattern is dense, and only committed to: a block of it is searched again by another worker.

Planted samples and spot checks are exact: no honest worker is accused. The count test errs once in 10^10 reports.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import log, log2
from typing import NamedTuple

from zlb.core.config import Method
from zlb.core.ids import JobId, Span
from zlb.core.limits import PATTERNS_MAX
from zlb.core.work import Pattern
from zlb.protocols.intervals import IntervalSet

Word = Callable[[int], int]
"""The sampled word of an integer: one hash of our own."""

WORD_BITS = 32
SHARE_DOMAIN = b"zlb share word"
"""Told apart from all else that is hashed."""
SHARES = 64
"""Shares expected of a second of work, and at most of one lease: 64 hashes of ours, some 0.1 ms, for each second of a
slot. A worker that does nothing shows none of 64 with probability 10^-28."""
DENSE_BITS = 3
"""Of few integers at most every eighth is a sample: a kernel that needs long for each shall not be slowed down."""
DECOYS = 2.0
"""True samples beside each planted one, on average: whoever has found some cannot know which."""
TRACES = 1024
"""Samples of a lease that are committed to: 16 in each block, so that a thinned block differs."""
BLOCKS = 64
"""One block searched again costs 1.6 % of its lease."""
SKIPPED = (0.1, 0.5, 0.9)
"""Fractions that the count test looks for (`CountTest`)."""
DOUBT_MAX = 25.0
"""Log likelihood ratio at which a worker is accused: exp(-25) is 1.4e-11 for each of its reports."""


class Terms(NamedTuple):
    """What is asked of a lease. `planted` are samples we know, each with the index of its pattern."""

    patterns: tuple[Pattern, ...] = ()
    planted: tuple[tuple[int, int], ...] = ()
    blocks: int = 0
    """If any: of the last pattern only a commitment to so many blocks is asked."""

    @property
    def reported(self) -> tuple[Pattern, ...]:
        """Patterns of which all samples are to be reported."""
        return self.patterns[:-1] if self.blocks else self.patterns

    @property
    def share(self) -> Pattern | None:
        """The pattern of self-proving samples."""
        return self.patterns[0] if self.patterns else None

    @property
    def trace(self) -> Pattern | None:
        """The pattern that is committed to."""
        return self.patterns[-1] if self.blocks else None


NO_TERMS = Terms()


@dataclass(slots=True)
class CountTest:
    """Whether a worker reports as many shares as there are: cumulative sums of log likelihood ratios (Page 1954).

    Under honest work shares come by Poisson's law with mean `expected`; whoever skips a fraction f has 1 - f of them.
    A long honest past is no shield: sums do not go below zero.
    """

    doubts: list[float] = field(default_factory=lambda: [0.0] * len(SKIPPED))

    def count(self, shares: int, expected: float) -> bool:
        """Take in a report; whether it is beyond doubt that something was skipped."""
        for i, f in enumerate(SKIPPED):
            self.doubts[i] = max(0.0, self.doubts[i] + shares * log(1 - f) + f * expected)
        return max(self.doubts) > DOUBT_MAX


class Examiner:
    """Draws up terms and judges samples, by the word of single integers. `rng` is not to be guessed by workers.

    `share` is the job's `share_word`; whoever draws up no terms needs none.
    """

    def __init__(self, word: Word | None, method: Method, rng: random.Random, share: int = 0) -> None:
        self._word, self._rng, self._share = word, rng, share
        self.method = Method.NONE if word is None else method
        """`NONE` also if the kernel has no samples to tell."""

    def terms(self, spans: Sequence[Span], rate: float) -> Terms:
        """What to ask of leases over `spans`, all of them the same; `rate` is integers a second, 0 if unknown."""
        if self._word is None or self.method is Method.NONE:
            return NO_TERMS
        count = sum(stop - start for start, stop in spans)
        patterns = [share_pattern(self._share, mask_of(max(count, rate) / SHARES))]
        spot = self.method is Method.SPOT and len(spans) == 1 and count >= BLOCKS
        planted = []
        while len(patterns) < PATTERNS_MAX - spot:
            n = self._drawn(spans, count)
            mask = mask_of(count / DECOYS)
            planted.append((len(patterns), n))
            patterns.append(Pattern(mask, self._word(n) & mask))
        if spot:
            patterns.append(self._pattern(count / TRACES))
        return Terms(tuple(patterns), tuple(planted), BLOCKS if spot else 0)

    def wrong(
        self, terms: Terms, test: CountTest, spans: Sequence[Span], samples: Sequence[Sequence[int]]
    ) -> str:
        """Why these cannot be all samples of what was newly searched, `spans`; empty if nothing speaks against it."""
        if not terms.patterns or not spans:
            return ""
        if len(samples) != len(terms.reported):
            return f"reported samples of {len(samples)} patterns, not of {len(terms.reported)}"
        if self._word is None:
            return ""
        done = IntervalSet(spans)
        for pattern, found in zip(terms.reported, samples, strict=True):
            if why := self._untrue(pattern, done, found):
                return why
        for index, n in terms.planted:
            if n in done and n not in samples[index]:
                return f"did not find {n}, which it had to"
        if test.count(len(samples[0]), done.measure * chance(terms.patterns[0])):
            return "reported too few shares for what it says it has searched"
        return ""

    def is_sample(self, pattern: Pattern, n: int) -> bool:
        """Whether `n` matches, by a hash of our own."""
        assert self._word is not None, "without samples nothing is examined"
        return self._word(n) & pattern.mask == pattern.value

    def _untrue(self, pattern: Pattern, done: IntervalSet, found: Sequence[int]) -> str:
        before = -1
        for n in found:
            if n <= before or n not in done or not self.is_sample(pattern, n):
                return f"reported {n} as a sample, which it is not"
            before = n
        return ""

    def _pattern(self, one_in: float) -> Pattern:
        mask = mask_of(one_in)
        return Pattern(mask, self._rng.getrandbits(WORD_BITS) & mask)

    def _drawn(self, spans: Sequence[Span], count: int) -> int:
        offset = self._rng.randrange(count)
        for start, stop in spans:
            if offset < stop - start:
                return start + offset
            offset -= stop - start
        raise AssertionError("spans hold fewer integers than they have")


def share_word(job: JobId, params: bytes) -> int:
    """The word that shares of this job are like, in the bits of their mask: nobody's choice once the job is known.

    Whoever could choose it after the search would find one that is matched often enough by half of the integers.
    """
    return int.from_bytes(sha256(b"\0".join((SHARE_DOMAIN, job.encode(), params))).digest()[:4], "big")


def share_pattern(word: int, mask: int) -> Pattern:
    """The pattern of shares in a lease; `mask` has low bits only, or it would be another choice."""
    return Pattern(mask, word & mask)


def is_share_pattern(word: int, pattern: Pattern) -> bool:
    """Whether leases of a job with this share word can have had that pattern for their shares."""
    mask = pattern.mask
    return not mask & (mask + 1) and pattern == share_pattern(word, mask)


def chance(pattern: Pattern) -> float:
    """How probable it is that an integer is a sample."""
    return 2.0 ** -pattern.mask.bit_count()


def mask_of(one_in: float) -> int:
    """Low bits in which one of `one_in` words is like another, or so."""
    bits = round(log2(one_in)) if one_in > 1 else 0
    return (1 << max(DENSE_BITS, min(bits, WORD_BITS))) - 1
