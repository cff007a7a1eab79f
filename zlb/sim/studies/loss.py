"""What does the death of one device cost? A tree of subjobs, as it was first thought up, and zlb.

In the tree every device splits what it gets among devices drawn from all, and hands results up when all below it is
done: one that dies just before takes with it whatever it is an ancestor of. A random path from the root to a leaf meets
it with probability 1 - (1 - 1/k)^h. In zlb a device reports every second to whoever owns the job, nobody is between:
what it did since is lost, and the slice it had under way when it reported, which no report tells of before it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from zlb.core.config import WorkerConfig
from zlb.core.ids import NodeId
from zlb.core.limits import SECOND
from zlb.sim.studies.rows import Say, Shown, Study
from zlb.sim.volunteers import Fleet, Volunteers, scaled
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


@dataclass(frozen=True, slots=True)
class LossRow:
    """Loss in per cent of all work, mean and worst; `reference` is the formula for trees, for zlb the most there is."""

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


def most(size: int, rate: float, config: WorkerConfig) -> float:
    """Per cent of a job of `size` integers that one slot can lose at most: its work between two reports, and a slice.

    By the interval alone it would be 0.058 % of 2^32 at 2.5 million a second; deaths that cost more are rare.
    """
    return 100 * rate * (config.report_ns + config.slice_ns) / SECOND / size


def zlb(devices: int, deaths: Sequence[int], size: int = SIZE, rate: float = RATE) -> LossRow:
    """One of equal devices dies for good at a random time of the job: what is searched twice, over the whole job."""
    shares, bound = [], 0.0
    for seed in deaths:
        fleet = Fleet(devices, seed, rate=rate, sigma=0.0)
        bound = most(size, rate, scaled(fleet)[0].worker)
        room = Volunteers(fleet, size)
        ideal_ns = int(size / (devices * rate) * SECOND)
        dice = stream(seed, "death")
        room.kill(dice.randrange(ideal_ns // 10, ideal_ns * 9 // 10), NodeId(f"p{dice.randrange(devices)}"))
        run = room.run(4 * ideal_ns)
        assert run.status == "complete", f"the job is {run.status}, {run.done} of {size} are done"
        shares.append(100 * run.recomputed / size)
    return LossRow("zlb", devices, None, mean(shares), max(shares), bound, len(shares))


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
    bars = axes.barh(names, [row.loss for row in rows])
    axes.bar_label(bars, [f"{row.loss:.3g} %" for row in rows], label_type="center", color="w")
    axes.plot([row.reference for row in rows], names, "k|", ms=24, mew=2, label="formula; zlb: at most")
    worst = [(row.worst, name) for row, name in zip(rows, names, strict=True) if row.worst is not None]
    axes.plot([x for x, _ in worst], [name for _, name in worst], "kx", label="worst death")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=0.005)
    axes.xaxis.set_major_formatter("{x:g}")
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
        "reference": Shown("reference", "{:.3f} %"),
        "samples": Shown("samples"),
    },
    run,
    draw,
)
