"""Who cheats, and how soon is it found out? Machines that skip, invent or hide, among as many that do not.

Each lease has k planted samples. Who skips a fraction f of a share s of what it does misses each of them with
probability f s, and so is found out by a lease with probability 1 - (1 - f s)^k. Both are compared: of all planted
samples that were due in what cheats reported until they were accused, the share that was missing, which counts nothing
else; and the leases that it took. Those may be fewer, for counts of shares and blocks that others search again find
some cheats earlier. An honest machine must never be accused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

from zlb.core.config import Method
from zlb.core.events import Event, HitFound, WorkerAccused
from zlb.core.ids import LeaseId, NodeId
from zlb.core.limits import PATTERNS_MAX, SECOND
from zlb.core.message import Message
from zlb.protocols.ledger import Lease
from zlb.sim.cheats import Cheat
from zlb.sim.studies.rows import Say, Shown, Study
from zlb.sim.volunteers import Fleet, Volunteers
from zlb.sim.weather import stream
from zlb.sim.world import Machine, Onlooker
from zlb.wire.messages import Part, TaskReport

PEERS = 40
"""Every second of them cheats."""
MINUTES = 0.5
SEEDS = (1, 2, 3)
"""Jobs of each row, counted together."""
RATE = 10_000.0
CELL = 160
"""Far less than the smallest lease, so that what is skipped is spread over each: `STRIPS` pieces of ten integers."""
HITS = 400
SKIPS = Cheat(cell=CELL, skips=1.0, idles=True)
LIES: dict[str, Cheat] = {
    "skips all": SKIPS,
    "skips half": replace(SKIPS, skips=0.5),
    "skips a fifth": replace(SKIPS, skips=0.2),
    "skips a tenth": replace(SKIPS, skips=0.1),
    "skips half of a fifth": replace(SKIPS, skips=0.5, rate=0.2),
    "skips a tenth of a fifth": replace(SKIPS, skips=0.1, rate=0.2),
    "skips half, all alike": replace(SKIPS, skips=0.5, group="gang"),
    "invents samples": Cheat(cell=CELL, forges_samples=1.0),
    "invents hits": Cheat(cell=1 << 14, forges_hits=1.0),
    "withholds hits": Cheat(cell=CELL, withholds=1.0),
    "boasts": Cheat(boasts=4.0),
}
METHODS = (Method.SHARES, Method.SPOT)
BLOCK_SAMPLES = 16 * sqrt(2)
"""Of a block that is searched again, on average and at most: 16 (`examiner.TRACES` over `BLOCKS`), and as the number of
a lease is a power of two, up to so many."""


@dataclass(frozen=True, slots=True)
class CheatRow:
    """What became of those who tell one lie, under one method."""

    lie: str
    method: str
    cheats: int
    accused: int
    leases: float
    """About which each of them had reported when it was accused, or at the end, on average."""
    soonest: float | None
    longest: float | None
    """How many by the formula: if a block of each were compared at once, and by planted samples alone. None if those
    say nothing about this lie."""
    due: int
    """Planted samples in what they had reported."""
    missing: float
    """Share of these that was missing, and for which they were accused."""
    formula: float | None
    """The same, as it should be: f s."""
    escaped: float
    """Per cent of the job that was skipped, and believed in the end."""
    honest_accused: int
    missed: int
    """Hits that were not told of."""

    @property
    def deviation(self) -> float:
        """Standard deviation of `missing` if the formula is right: a binomial's."""
        chance = self.formula or 0.0
        return sqrt(chance * (1 - chance) / max(self.due, 1))

    def deviation_of(self, leases: float) -> float:
        """Standard deviation of `leases` if so many are right: a geometric's, of as many as were accused."""
        return sqrt(leases * (leases - 1) / max(self.accused, 1))


@dataclass(slots=True)
class _Tally:
    """What the jobs of a row come to."""

    cheats: int = 0
    accused: int = 0
    leases: int = 0
    due: int = 0
    missing: int = 0
    skipped: int = 0
    size: int = 0
    honest_accused: int = 0
    missed: int = 0


@dataclass(slots=True)
class _Reported:
    """What one peer has reported: leases (those that share their samples are one), and planted samples in them."""

    leases: set[object] = field(default_factory=set)
    due: int = 0
    missing: bool = False
    """In the report that came last."""


class _Counter(Onlooker):
    """Keeps count of reports until their peer is accused; not of those that check others: nothing is planted there."""

    def __init__(self, room: Volunteers) -> None:
        self._room = room
        self.of: dict[NodeId, _Reported] = {}

    def heard(self, _machine: Machine, src: NodeId, message: Message) -> None:
        """See `Onlooker`."""
        if not isinstance(message, TaskReport) or src in self._room.accused:
            return
        mine, ledger = self.of.setdefault(src, _Reported()), self._room.submitter.coordinator.ledger
        for part in message.parts:
            lease = ledger.find(LeaseId(part.lease))
            if part.done and lease is not None and not lease.recheck:
                mine.leases.add(lease.terms.planted or lease.id)
                due, mine.missing = _due(lease, part)
                mine.due += due
                if mine.missing:  # it is accused now, and nothing else is looked at
                    return


def _due(lease: Lease, part: Part) -> tuple[int, bool]:
    """Planted samples in what a part newly reports, up to the first that is missing; and whether one is."""
    due, new = 0, [piece for done in part.done for piece in lease.unreported.overlap(*done.span)]
    for index, n in lease.terms.planted:
        if any(start <= n < stop for start, stop in new):
            due += 1
            if n not in part.samples[index]:
                return due, True
    return due, False


def planted(method: Method) -> int:
    """Planted samples of a lease."""
    return PATTERNS_MAX - (2 if method is Method.SPOT else 1)


def leases(cheat: Cheat, samples: float) -> float | None:
    """How many it takes to find that cheat out, on average, by so many samples each; None where nothing is skipped."""
    return 1 / (1 - (1 - cheat.skips * cheat.rate) ** samples) if cheat.skips else None


def _count(tally: _Tally, cheat: Cheat, fleet: Fleet, minutes: float) -> None:
    """A job of that fleet, every second machine of which cheats."""
    size = fleet.expected(minutes / 60)
    dice = stream(fleet.seed, "hits")
    hits = sorted({dice.randrange(size) for _ in range(HITS)})
    room = Volunteers(fleet, size, hits, cheats=dict.fromkeys(range(1, fleet.peers, 2), cheat))
    counter = room.world.onlooker = _Counter(room)
    by_sample: dict[NodeId, bool] = {}
    found: list[int] = []

    def watch(_node: NodeId, event: Event) -> None:
        if isinstance(event, WorkerAccused):
            by_sample[event.node] = event.node in counter.of and counter.of[event.node].missing
        elif isinstance(event, HitFound):
            found.append(event.n)

    room.watch = watch
    room.run(int(20 * minutes * 60 * SECOND))
    liars = fleet.names[1::2]
    told = [counter.of.get(name, _Reported()) for name in liars]
    caught = sum(name in by_sample for name in liars)
    tally.cheats += len(liars)
    tally.accused += caught
    tally.leases += sum(max(1, len(one.leases)) for one in told)
    tally.due += sum(one.due for one in told)
    tally.missing += sum(by_sample.get(name, False) for name in liars)
    tally.skipped += max(
        0, sum(room.said(name) - room.hashed(name) for name in liars if name not in by_sample)
    )
    tally.size += size
    tally.honest_accused += len(by_sample) - caught
    tally.missed += len(hits) - len({*hits} & {*found})


def one(lie: str, cheat: Cheat, method: Method, peers: int, minutes: float, seeds: Sequence[int]) -> CheatRow:
    """Jobs of `peers` machines, every second of which cheats."""
    tally = _Tally()
    for seed in seeds:
        _count(tally, cheat, Fleet(peers, seed, rate=RATE, sigma=0.3, verify=method), minutes)
    blocks = BLOCK_SAMPLES if method is Method.SPOT else 0
    return CheatRow(
        lie=lie,
        method=str(method),
        cheats=tally.cheats,
        accused=tally.accused,
        leases=tally.leases / tally.cheats,
        soonest=leases(cheat, planted(method) + blocks),
        longest=leases(cheat, planted(method)),
        due=tally.due,
        missing=tally.missing / max(tally.due, 1),
        formula=cheat.skips * cheat.rate if cheat.skips else None,
        escaped=100 * tally.skipped / tally.size,
        honest_accused=tally.honest_accused,
        missed=tally.missed,
    )


def run(
    say: Say,
    lies: Sequence[str] = tuple(LIES),
    methods: Sequence[Method] = METHODS,
    peers: int = PEERS,
    minutes: float = MINUTES,
    seeds: Sequence[int] = SEEDS,
) -> list[CheatRow]:
    """A row for each lie and method."""
    rows = []
    for lie in lies:
        for method in methods:
            rows.append(one(lie, LIES[lie], method, peers, minutes, seeds))
            row = rows[-1]
            say(f"{lie}, {method}: {row.accused} of {row.cheats} accused, {row.leases:.2f} leases each")
    return rows


def draw(rows: Sequence[CheatRow], axes: Any) -> None:
    """Leases until cheats were accused, what the formula says as marks; grey where not all were."""
    names = [f"{row.lie}, {row.method}: {row.accused} of {row.cheats}" for row in rows]
    colors = ["C0" if row.accused == row.cheats else "lightgrey" for row in rows]
    axes.barh(names, [row.leases for row in rows], color=colors)
    known = [(row.longest, name) for row, name in zip(rows, names, strict=True) if row.longest is not None]
    axes.plot(
        [x for x, _ in known], [name for _, name in known], "k|", ms=12, label="by planted samples alone"
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=0.5)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("leases of a cheat until it is accused, or the job ends (grey: not all were accused)")
    axes.legend(loc="upper right")


STUDY = Study(
    "cheats",
    "Who cheats, and how soon is it found out?",
    {
        "lie": Shown("who"),
        "method": Shown("by"),
        "accused": Shown("accused"),
        "cheats": Shown("of"),
        "leases": Shown("leases", "{:.2f}"),
        "longest": Shown("formula", "{:.2f}"),
        "missing": Shown("missing", "{:.3f}"),
        "formula": Shown("f s", "{:.2f}"),
        "escaped": Shown("escaped", "{:.2f} %"),
        "honest_accused": Shown("honest"),
        "missed": Shown("hits lost"),
    },
    run,
    draw,
)
