"""What does the death of one device cost? A tree of subjobs, as it was first thought up, and zlb.

In the tree every device splits what it gets among devices drawn from all, and hands results up when all below it is
done: one that dies just before takes with it whatever it is an ancestor of. A random path from the root to a leaf meets
it with probability 1 - (1 - 1/k)^h. In zlb a device reports every second to whoever owns the job, nobody is between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from zlb.core.ids import NodeId
from zlb.core.limits import SECOND
from zlb.sim.studies.rows import Say, Shown, Study
from zlb.sim.volunteers import Fleet, Volunteers
from zlb.sim.weather import stream

TREES = ((5, 6), (5, 7), (100, 2), (100, 3), (100, 6), (1000, 1))
"""Devices and levels: log_k of 34,360 subjobs rounded down, or up, and six levels left as they were."""
PATHS = 200_000
"""Drawn in each tree: the standard error is 0.1 points at most."""
SIZE = 1 << 32
RATE = 2.5e6
"""Integers a second of a device."""
DEVICES = (5, 100)
DEATHS = 20
LOSS_MAX = 0.06
"""Per cent of the job: a second's work of one device of 2.5 million a second, of 2^32 integers."""


@dataclass(frozen=True, slots=True)
class LossRow:
    """Loss in per cent of all work, mean and worst; `reference` is the formula for trees, and what zlb promises."""

    scheme: str
    devices: int
    levels: int | None
    loss: float
    worst: float | None
    reference: float
    samples: int


def formula(devices: int, levels: int) -> float:
    """Share of the work in a tree of so many levels that one of so many devices takes with it."""
    return 1 - (1 - 1 / devices) ** levels


def tree(devices: int, levels: int, paths: int = PATHS, seed: int = 1) -> LossRow:
    """Random paths from the root to a leaf, and how many of them meet device 0."""
    dice = stream(seed, f"tree/{devices}/{levels}")
    met = sum(any(dice.randrange(devices) == 0 for _ in range(levels)) for _ in range(paths))
    return LossRow("tree", devices, levels, 100 * met / paths, None, 100 * formula(devices, levels), paths)


def zlb(devices: int, deaths: Sequence[int], size: int = SIZE, rate: float = RATE) -> LossRow:
    """One of equal devices dies for good at a random time of the job: what is searched twice, over the whole job."""
    shares = []
    for seed in deaths:
        room = Volunteers(Fleet(devices, seed, rate=rate, sigma=0.0), size)
        ideal_ns = int(size / (devices * rate) * SECOND)
        dice = stream(seed, "death")
        room.kill(dice.randrange(ideal_ns // 10, ideal_ns * 9 // 10), NodeId(f"p{dice.randrange(devices)}"))
        run = room.run(4 * ideal_ns)
        assert run.status == "complete", f"the job is {run.status}, {run.done} of {size} are done"
        shares.append(100 * run.recomputed / size)
    return LossRow("zlb", devices, None, mean(shares), max(shares), LOSS_MAX, len(shares))


def run(
    say: Say,
    trees: Sequence[tuple[int, int]] = TREES,
    devices: Sequence[int] = DEVICES,
    deaths: int = DEATHS,
    paths: int = PATHS,
) -> list[LossRow]:
    """A row for each tree, and for zlb with as many devices."""
    rows = []
    for k, h in trees:
        rows.append(tree(k, h, paths))
        say(f"tree of {k} devices, {h} levels: {rows[-1].loss:.2f} %")
    for k in devices:
        rows.append(zlb(k, range(deaths)))
        say(f"zlb with {k} devices: {rows[-1].loss:.3f} %, {rows[-1].worst:.3f} % at worst")
    return rows


def draw(rows: Sequence[LossRow], axes: Any) -> None:
    """Bars, the references as marks."""
    names = [f"{row.scheme}, {row.devices} devices{f', h = {row.levels}' * bool(row.levels)}" for row in rows]
    axes.barh(names, [row.loss for row in rows])
    axes.plot([row.reference for row in rows], names, "k|", label="formula; zlb: at most")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("lost with one device, % of all work")
    axes.legend()


STUDY = Study(
    "loss",
    "What does the death of one device cost?",
    {
        "scheme": Shown("scheme"),
        "devices": Shown("devices"),
        "levels": Shown("levels"),
        "loss": Shown("lost", "{:.3f} %"),
        "worst": Shown("at worst", "{:.3f} %"),
        "reference": Shown("reference", "{:.2f} %"),
        "samples": Shown("samples"),
    },
    run,
    draw,
)
