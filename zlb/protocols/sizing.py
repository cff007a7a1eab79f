"""How large a worker's next subjob is: sized in time, small at first, at most doubling with each clean subjob.

Work is compared in time, never in integers: machines differ, and a start-up measurement is only a first guess
(turbo, heat, other tenants), so the rate is re-estimated from every report.
"""

from __future__ import annotations

from dataclasses import dataclass

from zlb.core.config import CoordinatorConfig
from zlb.core.limits import SECOND

SMOOTHING = 0.3
"""Weight of the newest measurement in the moving average: follows a change within a few subjobs, rides out noise."""


@dataclass(slots=True)
class Sizer:
    """Subjob sizes for one worker. `rate` is integers a second of one of its slots, 0 while unknown."""

    config: CoordinatorConfig
    rate: float = 0.0
    _count_max: int = 0

    def next_count(self) -> int:
        """Integers for the next subjob, at least 1."""
        if self.config.chunk_count is not None:
            return self.config.chunk_count
        if not self._count_max:
            first_ns = min(self.config.first_ns, self.config.chunk_ns)
            self._count_max = (
                max(1, int(self.rate * first_ns / SECOND)) if self.rate else self.config.first_count
            )
        if not self.rate:
            return self._count_max
        return max(1, min(self._count_max, int(self.rate * self.config.chunk_ns / SECOND)))

    def claim(self, rate: float) -> None:
        """The worker says it has measured `rate`; believed until something was measured on this job."""
        if not self.rate:
            self.rate = rate

    def measured(self, count: int, busy_ns: int) -> None:
        """`count` integers took one slot `busy_ns`."""
        if count > 0 and busy_ns > 0:
            rate = count * SECOND / busy_ns
            self.rate = (1 - SMOOTHING) * self.rate + SMOOTHING * rate if self.rate else rate

    def clean(self, count: int) -> None:
        """A subjob of `count` integers was finished in full: the next may be twice as large."""
        self._count_max = max(self._count_max, 2 * count)
