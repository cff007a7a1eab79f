"""How large a worker's next subjob is: its share of what is left, in time; small at first, at most doubling with each
clean subjob.

Weighted factoring (Hummel, Schonberg and Flynn 1992; adaptive, as AWF-C): a slot gets `left * rate / power / x`, where
`power` is the rate of all slots together. Work is compared in time, never in integers: machines differ, and a start-up
measurement is only a first guess (turbo, heat, other tenants), so the rate is re-estimated from every report.
"""

from __future__ import annotations

from dataclasses import dataclass

from zlb.core.config import CoordinatorConfig, Scheme
from zlb.core.limits import SECOND

SMOOTHING = 0.3
"""Weight of the newest measurement in the moving average: follows a change within a few subjobs, rides out noise."""
FLOOR_RTTS = 2
"""A subjob lasts no less than so many round trips: with one prefetched, a slot then never waits."""
FIRST_COUNT_MAX = 1 << 28
"""Integers of the first subjob, whatever rate is claimed: a device that does 10^10 a second has it done at once."""
FIRST_RTTS = 4
"""Nor does the first one of a worker of which little is known."""
RATE_MIN = 1e-6
"""Integers a second: of whoever claims less nothing is known, for the time it would need is no number any more."""


@dataclass(slots=True)
class Sizer:
    """Subjob sizes for one worker. `rate` is integers a second of one of its slots, 0 while unknown."""

    config: CoordinatorConfig
    rate: float = 0.0
    _count_max: int = 0

    def next_count(self, left: int, power: float, rtt_ns: int) -> int:
        """Integers for the next subjob, at least 1, of `left` that nobody has; `power` is integers a second of all."""
        config = self.config
        if config.chunk_count is not None:
            return config.chunk_count
        if config.scheme is Scheme.SEED:
            return self._capacity(rtt_ns)
        if not self._count_max:
            first_ns = min(max(config.first_ns, FIRST_RTTS * rtt_ns), config.chunk_ns)
            claimed = min(int(self.rate * first_ns / SECOND), FIRST_COUNT_MAX)
            self._count_max = max(1, claimed) if self.rate else config.first_count
        if not self.rate:
            return self._count_max
        floor = self.rate * max(FLOOR_RTTS * rtt_ns, config.tail_ns) / SECOND
        share = left * self.rate / max(power, self.rate) / config.batches
        longest = self.rate * config.chunk_ns / SECOND
        return max(1, int(min(max(share, floor), longest, self._count_max)))

    def claim(self, rate: float) -> None:
        """The worker says it has measured `rate`; believed until something was measured on this job."""
        if not self.rate and rate >= RATE_MIN:
            self.rate = rate

    def measured(self, count: int, busy_ns: int) -> None:
        """`count` integers took one slot `busy_ns`."""
        if count > 0 and busy_ns > 0:
            rate = count * SECOND / busy_ns
            self.rate = (1 - SMOOTHING) * self.rate + SMOOTHING * rate if self.rate else rate

    def clean(self, count: int) -> None:
        """A subjob of `count` integers was finished in full: the next may be twice as large."""
        self._count_max = max(self._count_max, 2 * count)

    def _capacity(self, rtt_ns: int) -> int:
        """The scheme to compare with: a fixed number of round trips' work, whatever is left."""
        capacity = int(self.rate * rtt_ns * self.config.seed_factor / SECOND)
        return capacity or self.config.first_count
