"""Volunteers who come and go as those of SETI@home did: what of their time is used, and is the result exact?

Hardly one of a hundred of those goes within a few minutes. So others do what they do, with a minute for each hour
(`churn.IN_MINUTES`): one stay in eight is then shorter than a second, and of those there one in ten leaves each minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zlb.core.events import Event, HitFound
from zlb.core.ids import NodeId
from zlb.core.limits import SECOND
from zlb.sim.churn import IN_MINUTES, SETI, Churn
from zlb.sim.studies.rows import Say, Shown, Study
from zlb.sim.volunteers import Fleet, Volunteers
from zlb.sim.weather import stream

PEERS = 1_000
HOURS = 0.5
HITS = 200
"""Planted in the job: each must be found, once."""
EFFICIENCY_MIN = 95.0
"""Per cent of the available capacity."""
PATIENCE = 3
"""Times as long as the job should take it is given."""


@dataclass(frozen=True, slots=True)
class ChurnRow:
    """A job of a fleet. `efficiency` and `recomputed` in per cent: of what was available, and of the job."""

    fleet: str
    peers: int
    hours: float
    departures: int
    status: str
    covered: bool
    """Every integer done, every hit found once."""
    efficiency: float
    reference: float
    recomputed: float
    digest: str


def one(name: str, fleet: Fleet, hours: float) -> ChurnRow:
    """The job that `fleet` should finish in so many hours, hits planted."""
    size = fleet.expected(hours)
    dice = stream(fleet.seed, "hits")
    hits = sorted({dice.randrange(size) for _ in range(HITS)})
    room, found = Volunteers(fleet, size, hits), list[int]()

    def watch(_node: NodeId, event: Event) -> None:
        if isinstance(event, HitFound):
            found.append(event.n)

    room.watch = watch
    run = room.run(int(PATIENCE * hours * 3600 * SECOND))
    covered = run.done == size and sorted(found) == hits
    return ChurnRow(
        fleet=name,
        peers=fleet.peers,
        hours=run.elapsed_ns / SECOND / 3600,
        departures=run.departures,
        status=run.status,
        covered=covered,
        efficiency=100 * run.efficiency,
        reference=EFFICIENCY_MIN,
        recomputed=100 * run.recomputed / size,
        digest=run.digest,
    )


def run(
    say: Say, peers: int = PEERS, hours: float = HOURS, seed: int = 1, often: Churn = IN_MINUTES
) -> list[ChurnRow]:
    """Volunteers who stay, who come and go, who do so more often, and who also use their machines."""
    kinds: tuple[tuple[str, Churn | None, bool], ...] = (
        ("stay", None, False),
        ("SETI@home", SETI, False),
        (f"{1 / often.scale:.0f} times as often", often, False),
        ("the same, disturbed", often, True),
    )
    rows = []
    for name, churn, disturbed in kinds:
        rows.append(one(name, Fleet(peers, seed, churn=churn, disturbed=disturbed), hours))
        say(f"{name}: {rows[-1].status}, {rows[-1].departures} departures, {rows[-1].efficiency:.2f} % used")
    return rows


def draw(rows: Sequence[ChurnRow], axes: Any) -> None:
    """Bars of what was not used, the most that is accepted as a line."""
    names = [f"{row.fleet}\n{row.departures} departures" for row in rows]
    bars = axes.barh(names, [100 - row.efficiency for row in rows])
    axes.bar_label(bars, fmt="%.2f %%", padding=6)
    axes.axvline(100 - EFFICIENCY_MIN, color="k", label="at most")
    axes.invert_yaxis()
    axes.set_xlim(0, 6)
    axes.set_xlabel("available capacity not used, %")
    axes.legend()


STUDY = Study(
    "churn",
    "How much of what volunteers offer is used?",
    {
        "fleet": Shown("volunteers"),
        "peers": Shown("peers"),
        "hours": Shown("took", "{:.2f} h"),
        "departures": Shown("departures"),
        "status": Shown("end"),
        "covered": Shown("exact"),
        "efficiency": Shown("used", "{:.2f} %"),
        "reference": Shown("at least", "{:g} %"),
        "recomputed": Shown("recomputed", "{:.2f} %"),
    },
    run,
    draw,
)
