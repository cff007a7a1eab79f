"""A peer that cheats, to see checking at work: `ZLB_CHEAT="skip=0.1,thin=0.2,forge=1,withhold=1"`, any of them.

It is the peer's own doing and no job can ask for it. Whatever kernel a job names, its searches are wrapped here,
between the kernel and what the peer reports.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from zlb.core.errors import ExitCode, ZlbError
from zlb.kernels.interface import Found, Hit, Pattern

if TYPE_CHECKING:
    from zlb.kernels.interface import Search

log = logging.getLogger("zlb.cheating")

VARIABLE = "ZLB_CHEAT"
FORGED_DIGEST = bytes(32)
"""What a forged hit shows: no message anybody knows of has it."""


@dataclass(frozen=True, slots=True)
class Cheat:
    """How to cheat."""

    skip: float = 0.0
    """Fraction of each run, its end, that is not searched although reported as such."""
    thin: float = 0.0
    """Rate at which hits and samples that were found are dropped."""
    forge: bool = False
    """Whether to report with each run a hit that is none, and a sample of each pattern that is none."""
    withhold: bool = False
    """Whether to report no true hit."""


def asked_for() -> Cheat | None:
    """What the environment asks for, None if it does not, and says so where everybody sees it.

    Raises `ZlbError` (USAGE) if it cannot be understood.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    cheat = read(text)
    # Nobody listens to this log, so Python itself writes to stderr, whatever was said about being quiet.
    log.warning("zlb: this peer cheats, as %s asks: for tests only (%s)", VARIABLE, text)
    return cheat


def read(text: str) -> Cheat:
    """`skip=0.1,forge=1` and so on; raises `ZlbError` (USAGE) for anything else."""
    rates: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        fits = (
            0 <= rate <= 1 if name in ("skip", "thin") else name in ("forge", "withhold") and rate in (0, 1)
        )
        if not fits or name in rates:
            known = "skip and thin (0 to 1), forge and withhold (0 or 1), each once"
            raise ZlbError(f"{VARIABLE}: {part[:60]!a} is not understood; it takes {known}", ExitCode.USAGE)
        rates[name] = rate
    switches = bool(rates.get("forge")), bool(rates.get("withhold"))
    return Cheat(rates.get("skip", 0.0), rates.get("thin", 0.0), *switches)


class CheatingSearch:
    """Implements `Search`, or `SamplingSearch` if `search` does: what it promises, it breaks as `cheat` says."""

    def __init__(self, search: Search, cheat: Cheat, dice: Random) -> None:
        self._honest: Any = search
        self._cheat = cheat
        self._dice = dice
        self._lock = threading.Lock()
        """Guards the dice: any number of threads search at once."""

    def __getattr__(self, name: str) -> Any:
        """Whatever else the honest search has; that it takes samples, say."""
        return getattr(self._honest, name)

    def search(
        self, start: int, stop: int, stop_flag: Any, hits_max: int, patterns: Sequence[Pattern] = ()
    ) -> Found:
        """See `SamplingSearch.search`, but for what `Cheat` says."""
        cut = stop - int((stop - start) * self._cheat.skip)
        more = (patterns,) if patterns else ()
        found: Found = self._honest.search(start, cut, stop_flag, hits_max, *more)
        searched_to = found.stopped_at
        skips = searched_to == cut and len(found.hits) < hits_max
        hits = {} if self._cheat.withhold else {hit.n: hit for hit in self._kept(found.hits)}
        samples = [{*self._kept(some)} for some in found.samples]
        if self._cheat.forge:
            for n in _others((hit.n for hit in found.hits), start, searched_to):
                if len(hits) < hits_max:
                    hits[n] = Hit(n, FORGED_DIGEST)
            for some, true in zip(samples, found.samples, strict=True):
                some.update(_others(true, start, searched_to))
        return Found(
            stop if skips else searched_to,
            tuple(hits[n] for n in sorted(hits)),
            tuple(tuple(sorted(some)) for some in samples),
        )

    def _kept(self, found: Iterable[Any]) -> list[Any]:
        if not self._cheat.thin:
            return list(found)
        with self._lock:
            return [one for one in found if self._dice.random() >= self._cheat.thin]


def _others(known: Iterable[int], start: int, stop: int) -> Iterator[int]:
    """The lowest integer of [start, stop) that is not known, if there is one."""
    among = {*known}
    while start in among:
        start += 1
    if start < stop:
        yield start
