"""Adversaries: modelled machines that hash less than they say, invent, hide, dawdle or boast; see `Cheat`.

All lies are a function of the integers they are about and of who lies. So it does not matter how a coordinator cuts its
job, and those who collude, who have one name to lie by, tell the same lies about the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zlb.core.ids import Span
from zlb.core.limits import RATE_MAX
from zlb.core.work import Hit, Pattern, Search, Searched
from zlb.sim.cpu import Cpu, Going
from zlb.sim.pace import Pace
from zlb.sim.truth import Truth, digest, splitmix64, word
from zlb.sim.weather import stream

STRIPS = 16
"""Pieces that are left out of a cell that is thinned: so few that a model is fast, so many that no block is spared."""
UNIT = 1 << 64


@dataclass(frozen=True, slots=True)
class Cheat:
    """How a machine cheats; without arguments it is honest. Integers are cheated about by `cell`s of so many."""

    cell: int = 1 << 16
    rate: float = 1.0
    """Share of the cells that are cheated about: who cheats rarely is found late (Sarmenta 2001)."""
    skips: float = 0.0
    """Share of such a cell that is said to be searched, and is not."""
    stretch: bool = False
    """It is left out in one piece, at the end of the cell; else in `STRIPS` pieces: every part of it is thinned."""
    idles: bool = False
    """It takes as long as if it had hashed all, so that its speed does not give it away."""
    forges_hits: float = 0.0
    """Probability that a hit which is none is told about such a cell."""
    forges_samples: float = 0.0
    """As many samples again, as a share of those told, match nothing."""
    withholds: float = 0.0
    """Share of the hits found in such a cell that is not told."""
    boasts: float = 1.0
    """Its rate as told, over what it is: at its start, by the time it says that runs took, and so in its load."""
    group: str = ""
    """Those of one group tell the same lies; without, everybody their own."""


class CheatingCpu(Cpu):
    """A machine of `name` that cheats as `cheat` says."""

    def __init__(
        self,
        slots: int,
        pace: float | Pace,
        truths: Mapping[bytes, Truth],
        cheat: Cheat,
        seed: int,
        name: str,
    ) -> None:
        super().__init__(slots, pace, truths)
        self.cheat = cheat
        self._salt = stream(seed, f"cheat/{cheat.group or name}").randrange(UNIT)

    def cheats_about(self, n: int) -> bool:
        """Whether the cell of `n` is one it cheats about."""
        return self._dice(n // self.cheat.cell, 0) < self.cheat.rate

    def _told_rate(self) -> float:
        return min(self.pace.rate * self.cheat.boasts, RATE_MAX)

    def _hashed(self, start: int, stop: int) -> list[Span]:
        cheat = self.cheat
        if not cheat.skips or not cheat.rate:
            return [(start, stop)]
        spans: list[Span] = []
        for first in range(start - start % cheat.cell, stop, cheat.cell):
            for low, high in self._hashed_of_cell(first):
                low, high = max(low, start), min(high, stop)
                if low < high and spans and spans[-1][1] == low:
                    spans[-1] = spans[-1][0], high
                elif low < high:
                    spans.append((low, high))
        return spans

    def _hashed_of_cell(self, first: int) -> list[Span]:
        cell, after = self.cheat.cell, first + self.cheat.cell
        if not self.cheats_about(first):
            return [(first, after)]
        strips = 1 if self.cheat.stretch else min(STRIPS, cell)
        size = cell // strips
        kept = round(size * (1 - self.cheat.skips))
        return [(first + i * size, first + i * size + kept) for i in range(strips)]

    def _costs(self, count: int, said: int) -> int:
        return said if self.cheat.idles else count

    def _reached(self, going: Going, count: int) -> int:
        return going.search.start + count if self.cheat.idles else super()._reached(going, count)

    def _said(self, search: Search, outcome: Searched) -> Searched:
        cheat, start, stop = self.cheat, search.start, outcome.stopped_at
        hits = [hit for hit in outcome.hits if not self._withheld(hit.n)]
        if cheat.forges_hits:
            for cell in range(start // cheat.cell, -(-stop // cheat.cell)):
                n = cell * cheat.cell + cheat.cell // 2
                known = any(hit.n == n for hit in outcome.hits)
                if (
                    start <= n < stop
                    and not known
                    and self.cheats_about(n)
                    and self._dice(n, 1) < cheat.forges_hits
                ):
                    hits.append(Hit(n, digest(n)))
        told = tuple(
            self._with_forged(pattern, mine, start, stop)
            for pattern, mine in zip(search.patterns, outcome.samples, strict=True)
        )
        busy_ns = max(1, int(outcome.busy_ns / cheat.boasts))
        return Searched(stop, tuple(sorted(hits)[: search.hits_max]), busy_ns, told)

    def _withheld(self, n: int) -> bool:
        return bool(self.cheat.withholds) and self.cheats_about(n) and self._dice(n, 2) < self.cheat.withholds

    def _with_forged(self, pattern: Pattern, told: tuple[int, ...], start: int, stop: int) -> tuple[int, ...]:
        """What is told, and integers that match nothing: some of those next to others told."""
        forged = {
            n + 1
            for n in told
            if self.cheats_about(n)
            and n + 1 < stop
            and self._dice(n, 3) < self.cheat.forges_samples
            and word(n + 1) & pattern.mask != pattern.value
        }
        if self.cheat.forges_samples and not told and start < stop and self.cheats_about(start):
            forged.add(start)  # it has found none: then it invents one
        return tuple(sorted(forged | set(told)))

    def _dice(self, about: int, what: int) -> float:
        """A number in `[0, 1)`, the same whenever and by whoever of a group it is asked."""
        return splitmix64(self._salt ^ splitmix64(about * 4 + what)) / UNIT
