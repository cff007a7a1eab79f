"""What the seed makes of the world: swarm testing, a different mix of faults for every seed, printed when one fails.

Plain message loss finds little; crash points between effects and very different weathers find most (docs/decisions.md).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

from zlb.core.limits import MS


def stream(seed: int, name: str) -> random.Random:
    """The dice of one concern: a new consumer of randomness does not shift the others'."""
    return random.Random(f"{seed}/{name}")


@dataclass(frozen=True, slots=True)
class Weather:
    """Faults while the chaos lasts. Probabilities are per message or per effect; times in ns."""

    loss: float
    double: float
    delay_ns_min: int
    delay_ns_max: int
    crash: float
    """At each point between two effects of a peer: everything not yet performed is lost."""
    restart_ns_max: int
    pause: float
    """At each event of a node: it then does nothing for up to `pause_ns_max`, as under SIGSTOP."""
    pause_ns_max: int
    submitter_dies: float
    """Probability that the first submitter dies, for good, at some point of the chaos."""
    leaves: float
    """Probability of each peer but the first to be asked to stop, and to do so in good order; for replicas, of a change
    of the configuration, a hand-over or a cut of the log, every 10 ms."""
    chaos_ns: int
    """When the faults end: what is left then must finish."""
    sync_ns_max: int = 0
    """A sync of a disk takes up to so long."""
    sync_fails: float = 0.0
    """At each sync: the process dies then, and what was synced is on the disk, or not."""
    sync_blocks: bool = False
    """Whether a node does nothing during a sync, as our driver; if not, it goes on, but what it does waits."""
    jumps: float = 0.0
    """Probability that some clock jumps, every 10 ms."""
    jump_ns_min: int = 0
    """Below 0: clocks go back."""
    jump_ns_max: int = 0
    late: float = 0.0
    """Probability of each message to take up to `late_ns_max` longer than others, which overtake it."""
    late_ns_max: int = 0

    @property
    def fair(self) -> bool:
        """Whether recovery has nothing to do: then nothing may be hashed twice."""
        calm = not (self.crash or self.pause or self.submitter_dies or self.leaves or self.late)
        return calm and self.delay_ns_max <= 200 * MS and self.loss <= 0.02

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


FAULT_MIX = Weather(
    loss=0.2,
    double=0.2,
    late=0.2,
    late_ns_max=500 * MS,
    delay_ns_min=MS // 10,
    delay_ns_max=MS,
    crash=0.0,
    restart_ns_max=0,
    pause=0.0,
    pause_ns_max=0,
    submitter_dies=0.0,
    leaves=0.0,
    chaos_ns=300_000 * MS,
)
"""Every message is lost, doubled or overtaken with 20 % each, and nothing else happens, for as long as jobs last."""


def draw(seed: int) -> Weather:
    """The weather of `seed`."""
    rng = stream(seed, "weather")
    weather = Weather(
        loss=rng.choice([0.0, 0.0, 0.02, 0.1, 0.3]),
        double=rng.choice([0.0, 0.0, 0.05, 0.3]),
        delay_ns_min=rng.choice([MS // 10, MS]),
        delay_ns_max=rng.choice([MS, 20 * MS, 200 * MS, 1500 * MS]),
        crash=rng.choice([0.0, 0.0, 0.0005, 0.002, 0.01]),
        restart_ns_max=rng.choice([100 * MS, 3000 * MS, 8000 * MS]),
        pause=rng.choice([0.0, 0.0, 0.001, 0.005]),
        pause_ns_max=rng.choice([200 * MS, 4000 * MS, 15_000 * MS]),
        submitter_dies=rng.choice([0.0, 0.0, 0.5]),
        leaves=rng.choice([0.0, 0.0, 0.3]),
        chaos_ns=rng.choice([5, 20, 60]) * 1000 * MS,
    )
    if rng.random() < 0.15:  # fair days too: recovery mends broken promises, so only without it are they seen
        weather = replace(weather, crash=0, pause=0, submitter_dies=0, leaves=0, loss=0, delay_ns_max=20 * MS)
    return weather


def draw_replicas(seed: int) -> Weather:
    """The weather of `seed` for replicas of a log: they talk much, so crashes per effect are rarer."""
    rng = stream(seed, "weather")
    weather = Weather(
        loss=rng.choice([0.0, 0.0, 0.02, 0.1, 0.3]),
        double=rng.choice([0.0, 0.0, 0.05, 0.3]),
        delay_ns_min=rng.choice([MS // 10, MS]),
        delay_ns_max=rng.choice([MS, 20 * MS, 200 * MS, 1500 * MS]),
        crash=rng.choice([0.0, 0.0, 0.0005, 0.002, 0.01]),
        restart_ns_max=rng.choice([100 * MS, 3000 * MS]),
        pause=rng.choice([0.0, 0.0, 0.001, 0.005]),
        pause_ns_max=rng.choice([200 * MS, 2000 * MS]),
        submitter_dies=0.0,
        leaves=rng.choice([0.0, 0.02, 0.02, 0.1]),
        chaos_ns=rng.choice([5, 10, 20]) * 1000 * MS,
    )
    asleep_ns_max = rng.choice([1000 * MS, 60_000 * MS])  # as a virtual machine that was suspended, or moved
    jump_ns_min, jump_ns_max = rng.choice([(-1000 * MS, 0), (0, asleep_ns_max)])
    return replace(
        weather,
        sync_ns_max=rng.choice([0, 2 * MS, 20 * MS, 200 * MS]),
        sync_fails=rng.choice([0.0, 0.0, 0.003, 0.03]),
        sync_blocks=rng.random() < 0.3,
        jumps=rng.choice([0.0, 0.0, 0.002, 0.01]),
        jump_ns_min=jump_ns_min,
        jump_ns_max=jump_ns_max,
    )
