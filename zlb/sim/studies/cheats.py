"""Who cheats, and how soon is it found out? Machines that skip, invent or hide, among as many that do not.

Each lease has planted samples, k of them, which whoever skips a fraction f misses with probability 1 - (1 - f)^k; who
cheats only in a share s of what it does skips f s of it. That is the formula; counts of shares, and blocks that others
search again, find a little more. An honest machine must never be accused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from zlb.core.config import Method
from zlb.core.events import Event, HitFound, WorkerAccused
from zlb.core.ids import LeaseId, NodeId
from zlb.core.limits import PATTERNS_MAX, SECOND
from zlb.core.message import Message
from zlb.sim.cheats import Cheat
from zlb.sim.studies.rows import Say, Shown, Study
from zlb.sim.volunteers import Fleet, Volunteers
from zlb.sim.weather import stream
from zlb.sim.world import Machine, Onlooker
from zlb.wire.messages import TaskReport

PEERS = 40
"""Every second of them cheats."""
MINUTES = 1.0
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


@dataclass(frozen=True, slots=True)
class CheatRow:
    """What became of those who tell one lie, under one method."""

    lie: str
    method: str
    cheats: int
    accused: int
    leases: int
    """About which they had reported when they were accused, all together."""
    each: float
    """Accusations for each of these."""
    formula: float | None
    """The same by the planted samples alone; None if they say nothing about this lie."""
    escaped: float
    """Per cent of the job that was skipped, and believed in the end."""
    honest_accused: int
    missed: int
    """Hits that were not told of."""

    @property
    def deviation(self) -> float:
        """Standard deviation of `each` if the formula is right: leases are counted until somebody is accused."""
        chance = self.formula or 0.0
        return chance * sqrt((1 - chance) / max(self.accused, 1))


class _Counter(Onlooker):
    """Leases about which reports of each peer have come in, but those that check others: nothing is planted there."""

    def __init__(self, room: Volunteers) -> None:
        self._room = room
        self.leases: dict[NodeId, set[int]] = {}

    def heard(self, _machine: Machine, src: NodeId, message: Message) -> None:
        """See `Onlooker`."""
        if isinstance(message, TaskReport):
            mine = self.leases.setdefault(src, set())
            ledger = self._room.submitter.coordinator.ledger
            for part in message.parts:
                lease = ledger.find(LeaseId(part.lease))
                if part.done and lease is not None and not lease.recheck:
                    mine.add(part.lease)


def formula(cheat: Cheat, method: Method) -> float | None:
    """The probability that a planted sample of a lease is missed; None where nothing is skipped."""
    planted = PATTERNS_MAX - (2 if method is Method.SPOT else 1)
    return 1 - (1 - cheat.skips * cheat.rate) ** planted if cheat.skips else None


def one(lie: str, cheat: Cheat, method: Method, peers: int, minutes: float, seed: int) -> CheatRow:
    """A job of `peers` machines, every second of which cheats."""
    fleet = Fleet(peers, seed, rate=RATE, sigma=0.3, verify=method)
    size = fleet.expected(minutes / 60)
    dice = stream(seed, "hits")
    hits = sorted({dice.randrange(size) for _ in range(HITS)})
    room = Volunteers(fleet, size, hits, cheats=dict.fromkeys(range(1, peers, 2), cheat))
    counter = room.world.onlooker = _Counter(room)
    until: dict[NodeId, int] = {}
    found: list[int] = []

    def watch(_node: NodeId, event: Event) -> None:
        if isinstance(event, WorkerAccused):
            until.setdefault(event.node, max(1, len(counter.leases.get(event.node, ()))))
        elif isinstance(event, HitFound):
            found.append(event.n)

    room.watch = watch
    room.run(int(20 * minutes * 60 * SECOND))
    liars = fleet.names[1::2]
    caught = [name for name in liars if name in until]
    leases = sum(until.get(name, len(counter.leases.get(name, ()))) for name in liars)
    escaped = sum(room.said(name) - room.hashed(name) for name in liars if name not in until)
    return CheatRow(
        lie=lie,
        method=str(method),
        cheats=len(liars),
        accused=len(caught),
        leases=leases,
        each=len(caught) / max(leases, 1),
        formula=formula(cheat, method),
        escaped=100 * max(0, escaped) / size,
        honest_accused=len(until) - len(caught),
        missed=len(hits) - len({*hits} & {*found}),
    )


def run(
    say: Say,
    lies: Sequence[str] = tuple(LIES),
    methods: Sequence[Method] = METHODS,
    peers: int = PEERS,
    minutes: float = MINUTES,
    seed: int = 1,
) -> list[CheatRow]:
    """A row for each lie and method."""
    rows = []
    for lie in lies:
        for method in methods:
            rows.append(one(lie, LIES[lie], method, peers, minutes, seed))
            row = rows[-1]
            say(f"{lie}, {method}: {row.accused} of {row.cheats} accused after {row.leases} leases")
    return rows


def draw(rows: Sequence[CheatRow], axes: Any) -> None:
    """Accusations for each lease, the formula as marks."""
    names = [f"{row.lie}, {row.method}" for row in rows]
    axes.barh(names, [row.each for row in rows])
    known = [(row.formula, name) for row, name in zip(rows, names, strict=True) if row.formula is not None]
    axes.plot([x for x, _ in known], [name for _, name in known], "k|", label="formula")
    axes.invert_yaxis()
    axes.set_xlabel("accusations for each lease")
    axes.legend()


STUDY = Study(
    "cheats",
    "Who cheats, and how soon is it found out?",
    {
        "lie": Shown("who"),
        "method": Shown("checked by"),
        "accused": Shown("accused"),
        "cheats": Shown("of"),
        "leases": Shown("leases"),
        "each": Shown("for each", "{:.3f}"),
        "formula": Shown("formula", "{:.3f}"),
        "escaped": Shown("escaped", "{:.2f} %"),
        "honest_accused": Shown("honest accused"),
        "missed": Shown("hits missed"),
    },
    run,
    draw,
)
