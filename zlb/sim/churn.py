"""How volunteers come and go: hours up and hours down of one host after another, as traces of SETI@home have them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

HOUR_NS = 3_600_000_000_000
SHORTEST_NS = 1_000_000
"""A stay, or an absence, that the fits make shorter takes a millisecond."""


@dataclass(frozen=True, slots=True)
class Churn:
    """Independent stays and absences. Availability is Weibull, unavailability lognormal; all in hours, times `scale`.

    The defaults are the fits to the availability traces of SETI@home (Javadi, Kondo, Vincent, Anderson 2011) as the
    simulator ComBoS uses them: stays of 10.35 h in the mean and 1.17 h in the median, absences of 11.0 and 0.56 h.
    Another `scale` leaves their shapes and the availability as they are.
    """

    up_shape: float = 0.393
    up_scale_h: float = 2.964
    down_mu: float = -0.586
    down_sigma: float = 2.444
    scale: float = 1.0
    """How long all stays and absences are, over what was measured."""

    def up_ns(self, dice: random.Random) -> int:
        """How long a host that has just come will stay."""
        return max(SHORTEST_NS, self._ns(dice.weibullvariate(self.up_scale_h, self.up_shape)))

    def down_ns(self, dice: random.Random) -> int:
        """How long a host that has just left will be away."""
        return max(SHORTEST_NS, self._ns(dice.lognormvariate(self.down_mu, self.down_sigma)))

    @property
    def availability(self) -> float:
        """The share of all hosts that are there at any time: mean stay over mean stay and absence."""
        up_h = self.up_scale_h * math.gamma(1 + 1 / self.up_shape)
        down_h = math.exp(self.down_mu + self.down_sigma**2 / 2)
        return up_h / (up_h + down_h)

    def stays(self, dice: random.Random, fresh: bool = False) -> Iterator[tuple[int, int]]:
        """`(from, to)` of each stay of one host, in ns, for ever.

        It is seen at a random time of its life (or, if `fresh`, from its first hour on): a time more likely falls into
        a long stay or absence than into a short one, so the first of either is drawn from those weighted by length.
        """
        at, to = 0, -1
        if fresh:
            to = self.up_ns(dice)
        elif dice.random() < self.availability:
            longer = dice.gammavariate(1 + 1 / self.up_shape, 1.0) ** (1 / self.up_shape)
            to = self._ns(dice.random() * longer * self.up_scale_h)
        else:
            longer = dice.lognormvariate(self.down_mu + self.down_sigma**2, self.down_sigma)
            at = self._ns(dice.random() * longer)
        while True:
            to = max(at + SHORTEST_NS, to) if to >= 0 else at + self.up_ns(dice)
            yield at, to
            at, to = to + self.down_ns(dice), -1

    def _ns(self, hours: float) -> int:
        return int(hours * self.scale * HOUR_NS)


SETI = Churn()
IN_MINUTES = Churn(scale=1 / 60)
"""The same with a minute for each hour: so many come and go within a short run as there in sixty times as long."""
