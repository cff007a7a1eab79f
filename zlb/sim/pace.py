"""How fast one slot of a modelled machine is, at any time: steady, slowed by others now and then, at rest."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

from zlb.core.limits import SECOND

SIGMA = 0.8
"""Of the lognormal speeds of volunteers' machines."""
SLOWED = 0.25
"""What is left of a machine's speed while its owner uses it."""
SLOW_NS_MEAN = 10 * SECOND
FAST_NS_MEAN = 200 * SECOND
"""Exponential, both."""
DISTURBED_LOSS = (1 - SLOWED) * SLOW_NS_MEAN / (SLOW_NS_MEAN + FAST_NS_MEAN)
"""Share of all capacity that slow-downs cost: 3.6 %."""


class Pace(Protocol):
    """Work done is a function of time alone: whoever asks, and how often, changes nothing."""

    @property
    def rate(self) -> float:
        """Integers a second when nothing slows the machine."""

    def done(self, start: int, stop: int) -> int:
        """Integers one slot tests between two times."""

    def when(self, start: int, count: int) -> int:
        """When a slot that begins at `start` has tested `count` integers."""


@dataclass(frozen=True, slots=True)
class Steady:
    """The same speed for ever."""

    rate: float

    def done(self, start: int, stop: int) -> int:
        """See `Pace`."""
        return int((stop - start) * self.rate / SECOND)

    def when(self, start: int, count: int) -> int:
        """See `Pace`."""
        return start + int(count * SECOND / self.rate)


@dataclass(frozen=True, slots=True)
class Duty:
    """A machine that may compute only `on_ns` of every `period_ns`, as volunteers set it; all if they are equal."""

    on_ns: int = 1
    period_ns: int = 1
    phase_ns: int = 0

    def awake(self, at: int) -> int:
        """ns it has computed by then."""
        periods, rest = divmod(at + self.phase_ns, self.period_ns)
        return periods * self.on_ns + min(rest, self.on_ns)

    def when(self, awake: int) -> int:
        """The first time by which it has computed so long."""
        periods, rest = divmod(awake, self.on_ns)
        if not rest and periods:
            periods, rest = periods - 1, self.on_ns
        return periods * self.period_ns + rest - self.phase_ns


ALWAYS = Duty()


class Disturbed:
    """Slowed to `SLOWED` for Exp(`SLOW_NS_MEAN`) after every Exp(`FAST_NS_MEAN`), and at rest outside its duty.

    The changes are drawn as far as they are asked for, some 36 an hour, and kept: runs end long after they began.
    """

    def __init__(self, rate: float, dice: random.Random | None, duty: Duty = ALWAYS) -> None:
        self.rate = rate
        self._dice, self._duty = dice, duty
        self._from = [0]
        """Changes of speed: fast at even places, slow at odd ones."""
        self._worked = [0.0]
        """ns of work at full speed by each change."""

    def done(self, start: int, stop: int) -> int:
        """See `Pace`."""
        return int((self._full_ns(stop) - self._full_ns(start)) * self.rate / SECOND)

    def when(self, start: int, count: int) -> int:
        """See `Pace`."""
        goal = self._full_ns(start) + count * SECOND / self.rate
        while self._dice is not None and self._worked[-1] <= goal:
            self._change()
        at = bisect_right(self._worked, goal) - 1
        awake_ns = (goal - self._worked[at]) / self._factor(at)
        return max(start, self._duty.when(self._duty.awake(self._from[at]) + int(awake_ns)))

    def _full_ns(self, at: int) -> float:
        while self._dice is not None and self._from[-1] <= at:
            self._change()
        last = bisect_right(self._from, at) - 1
        awake_ns = self._duty.awake(at) - self._duty.awake(self._from[last])
        return self._worked[last] + awake_ns * self._factor(last)

    def _factor(self, change: int) -> float:
        return SLOWED if change % 2 else 1.0

    def _change(self) -> None:
        assert self._dice is not None
        last = len(self._from) - 1
        mean_ns = SLOW_NS_MEAN if last % 2 else FAST_NS_MEAN
        at = self._from[last] + 1 + int(self._dice.expovariate(1 / mean_ns))
        awake_ns = self._duty.awake(at) - self._duty.awake(self._from[last])
        self._worked.append(self._worked[last] + awake_ns * self._factor(last))
        self._from.append(at)


def lognormal(dice: random.Random, median: float, sigma: float) -> float:
    """A speed, or a delay, of one of many machines."""
    return median * dice.lognormvariate(0.0, sigma)
