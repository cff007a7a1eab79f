"""How far a peer is believed: two Beta counters that forget, and the lower bound of what they say decides.

`correct` counts results that passed a check against those that failed one, `timely` leases that were finished against
those that ran out. A failed check weighs as twenty good ones. A stranger is believed little, not nothing: it has to
work its way up, so that coming back under a new name is worth no more than staying honest.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p
from typing import NamedTuple

from zlb.core.ids import NodeId
from zlb.core.work import Standing

FORGETTING = 0.98
"""What is left of old evidence after each batch of `BATCH` results: about 2,500 results count."""
BATCH = 50
FAILED_WEIGHT = 20.0
"""One failed check against good ones: an honest peer never fails one."""
QUANTILE = 0.05
"""Of the posterior: what a peer is at least, with 95 % confidence."""
ACCEPTED_MIN = 0.02
"""Below this a peer gets no leases. A stranger has 0.05; one failed check brings a stranger to 0.0024, and a peer with
a thousand good results to 0.97: that one is sent away for the job, not for good."""
PROBATION = 10
"""Results that are all checked before any is taken on trust (BOINC's adaptive replication)."""
CHECKED_MIN = 0.005
"""However long a peer has been right, this share of its results is checked."""


class Beta(NamedTuple):
    """Evidence for and against, with a uniform prior."""

    good: float = 0.0
    bad: float = 0.0

    @property
    def lower(self) -> float:
        """The 5 % quantile of Beta(good + 1, bad + 1)."""
        return quantile(self.good + 1, self.bad + 1, QUANTILE)

    def faded(self) -> Beta:
        """The same, a batch later."""
        return Beta(self.good * FORGETTING, self.bad * FORGETTING)


class Trust(NamedTuple):
    """What is known of one peer."""

    correct: Beta = Beta()
    timely: Beta = Beta()
    in_a_row: int = 0
    """Results that passed since the last one that failed."""
    in_batch: int = 0

    @property
    def accepted(self) -> bool:
        """Whether it may have leases at all."""
        return self.correct.lower >= ACCEPTED_MIN

    @property
    def checked(self) -> float:
        """The probability with which its next result is to be searched again in part."""
        return 1.0 if self.in_a_row < PROBATION else max(CHECKED_MIN, 1 / self.in_a_row)

    def passed(self) -> Trust:
        """A result was checked as far as it was to be, and is right."""
        grown = self._replace(
            correct=Beta(self.correct.good + 1, self.correct.bad),
            timely=Beta(self.timely.good + 1, self.timely.bad),
            in_a_row=self.in_a_row + 1,
            in_batch=self.in_batch + 1,
        )
        if grown.in_batch < BATCH:
            return grown
        return grown._replace(correct=grown.correct.faded(), timely=grown.timely.faded(), in_batch=0)

    def failed(self) -> Trust:
        """A result is wrong, or was not done at all."""
        return self._replace(correct=Beta(self.correct.good, self.correct.bad + FAILED_WEIGHT), in_a_row=0)

    def late(self) -> Trust:
        """A lease ran out."""
        return self._replace(timely=Beta(self.timely.good, self.timely.bad + 1))

    def standing(self, node: NodeId) -> Standing:
        """What is to be remembered of `node`."""
        return Standing(node, *self.correct, *self.timely, self.in_a_row, self.in_batch)


def remembered(standing: Standing) -> Trust:
    """What was known of a peer."""
    _, *evidence, in_a_row, in_batch = standing
    return Trust(Beta(*evidence[:2]), Beta(*evidence[2:]), in_a_row, in_batch)


STRANGER = Trust()


@lru_cache(maxsize=4096)
def quantile(a: float, b: float, p: float) -> float:
    """The x with `P(X <= x) = p` for X ~ Beta(a, b), to nine digits, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(34):
        middle = (low + high) / 2
        low, high = (middle, high) if _distribution(a, b, middle) < p else (low, middle)
    return (low + high) / 2


def _distribution(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz), on the side where it converges."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _distribution(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    tiny, f, c, d = 1e-300, 1.0, 1.0, 0.0
    for step in range(400):
        m = step // 2
        if step == 0:
            numerator = 1.0
        elif step % 2:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + numerator * d) or tiny)
        c = (1 + numerator / c) or tiny
        f *= c * d
        if abs(1 - c * d) < 1e-12:
            break
    return front * (f - 1)
