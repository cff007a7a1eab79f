"""How large should subjobs be? A model of one job, its workers and their round trips, and nothing else.

100 workers with lognormal speeds and round trips, first estimates of whose rates are wrong; in half of the runs they
are slowed down now and then. What a rule costs is how much longer the job takes than its work divided by their rates.

The reference values are of an independent model of the same setting, by the same rules, mean of 3 seeds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, sqrt
from statistics import mean
from typing import Any, NamedTuple

from zlb.core.config import CoordinatorConfig
from zlb.core.limits import MS, SECOND
from zlb.protocols.leasing import SPLIT_RTTS
from zlb.protocols.sizing import SMOOTHING, Sizer
from zlb.sim.pace import SIGMA, Disturbed, Pace, Steady, lognormal
from zlb.sim.studies.rows import Say, Shown, Study
from zlb.sim.weather import stream

WORKERS = 100
RATE = 1e6
"""Median integers a second: so many that sizes can be taken for real numbers."""
RTT_NS, RTT_SIGMA = 50 * MS, 0.5
ESTIMATE_SIGMA = 0.2
"""Of the first estimates of rates, lognormal around what is true."""
FLOOR_RTTS = 2
"""Subjobs of rules that shrink them last no less than so many round trips."""
ASK_RTTS = 1.5
"""Who prefetches asks when so many round trips of work are left: it sees how far it is, and how fast."""
ASK_AGAIN_NS = 200 * MS
"""Before a worker that got nothing asks again."""
ANY = -1
"""Of an event that happens whatever became of its worker's subjob."""
SEEDS = (1, 2, 3)
IDEAL_S = (60.0, 343.0)
"""T0, the work over the sum of the rates: a minute, and 2^32 integers on five devices of 2.5 million a second."""


@dataclass(slots=True)
class Worker:
    """One slot: its pace, its round trip, what is believed of it, and what it does."""

    number: int
    pace: Pace
    rtt_ns: int
    estimate: float
    sizer: Sizer
    size: int = 0
    began_at: int = 0
    ends_at: int = 0
    version: int = 0
    """Of the end of its subjob: it moves when somebody takes over a part of it."""
    next_size: int = 0
    next_at: int = 0
    """When its next subjob has come, or will have."""
    asking: bool = False
    chunks: int = 0

    def left(self, now: int) -> int:
        """Integers it has, and has not searched by `now`."""
        return max(0, self.size - self.pace.done(self.began_at, max(now, self.began_at))) + self.next_size


class Work(NamedTuple):
    """What is to be done: `total` integers, in `ideal_s` if all are busy all the time."""

    total: int
    ideal_s: float


@dataclass(frozen=True, slots=True)
class Rule:
    """How subjobs are sized: `size(worker, left, power, work)` in integers; `power` is the sum of all estimates."""

    name: str
    size: Callable[[Worker, int, float, Work], float]
    prefetches: bool = False
    """A worker asks when little is left of what it has; else when nothing is."""
    ahead: bool = False
    """It asks for the next as soon as it begins one, and stragglers are split, as in production."""
    steals: bool = False
    """Who finds nothing left takes over a part of what the busiest has."""


def seed_rule(m: int) -> Rule:
    """A fixed number of round trips' work, the naive scheme: efficiency m / (m + 1)."""
    return Rule(f"m = {m}", lambda one, _left, _power, _work: one.estimate * m * one.rtt_ns / SECOND)


def static() -> Rule:
    """All work is handed out at once, by the first estimates."""
    return Rule("one share each", lambda one, _left, power, work: work.total * one.estimate / power + 1)


def fixed() -> Rule:
    """One duration for all, the best there is: sqrt(2 h T0), where h is the mean round trip."""
    rtt_s = RTT_NS / SECOND * exp(RTT_SIGMA**2 / 2)
    return Rule("fixed tau*", lambda one, _left, _power, work: one.estimate * sqrt(2 * rtt_s * work.ideal_s))


def factoring(x: float, prefetches: bool = True, steals: bool = False, name: str = "") -> Rule:
    """Weighted adaptive factoring: a worker's share of what is left, divided by x (Hummel et al. 1992)."""

    def size(one: Worker, left: int, power: float, _work: Work) -> float:
        floor = one.estimate * FLOOR_RTTS * one.rtt_ns / SECOND
        return max(left * one.estimate / power / x, floor)

    name = name or f"factoring x = {x:g}{' + prefetch' * prefetches}{' + steal' * steals}"
    return Rule(name, size, prefetches=prefetches, steals=steals)


def production() -> Rule:
    """What zlb's coordinators do: `protocols.sizing`, one subjob prefetched, stragglers split (`protocols.leasing`)."""

    def size(one: Worker, left: int, power: float, _work: Work) -> float:
        return one.sizer.next_count(left, power, one.rtt_ns)

    return Rule("zlb", size, ahead=True, steals=True)


RULES = (
    *map(seed_rule, (1, 2, 3, 4)),
    static(),
    fixed(),
    factoring(1, prefetches=False, name="GSS"),
    factoring(2, prefetches=False),
    factoring(2),
    factoring(3),
    factoring(4),
    factoring(3, steals=True),
    production(),
)
REFERENCE: dict[str, tuple[float | None, ...]] = {
    "m = 1": (100, 108, 100, 108),
    "m = 2": (50.6, 56.4, 50.1, 55.9),
    "m = 3": (33.3, None, 33.3, None),
    "m = 4": (25.6, 30.7, 25.1, 29.7),
    "one share each": (59, 64, 59, 68),
    "fixed tau*": (4.4, 13.1, 1.8, 7.7),
    "GSS": (30, 34, 30, 40),
    "factoring x = 2": (1.8, 8.7, 0.34, 5.2),
    "factoring x = 2 + prefetch": (0.61, 8.7, 0.12, 5.9),
    "factoring x = 3 + prefetch": (0.67, 4.8, 0.12, 4.2),
    "factoring x = 4 + prefetch": (0.64, 4.3, 0.12, 4.0),
    "factoring x = 3 + prefetch + steal": (0.67, 4.2, 0.12, 3.9),
}
"""Overhead in per cent: 60 s, 60 s volatile, 343 s, 343 s volatile. Without disturbance m round trips cost 100 / m."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A rule in a setting. Overheads in per cent of `ideal_s`."""

    rule: str
    ideal_s: float
    volatile: bool
    overhead: float
    reference: float | None
    chunks: float
    """Subjobs of a worker, mean."""
    seeds: int


class Model:
    """One job under one rule. Times are int ns; the coordinator answers at once, half a round trip away."""

    def __init__(self, rule: Rule, ideal_s: float, volatile: bool, seed: int, workers: int = WORKERS) -> None:
        dice, config = stream(seed, "chunks"), CoordinatorConfig()
        self.rule, self.workers = rule, []
        for number in range(workers):
            rate = lognormal(dice, RATE, SIGMA)
            estimate = lognormal(dice, rate, ESTIMATE_SIGMA)
            rtt_ns = int(lognormal(dice, RTT_NS, RTT_SIGMA))
            pace: Pace = Disturbed(rate, stream(seed, f"pace/{number}")) if volatile else Steady(rate)
            self.workers.append(Worker(number, pace, rtt_ns, estimate, Sizer(config, estimate)))
        total = int(ideal_s * sum(one.pace.rate for one in self.workers))
        self.work = Work(total, ideal_s)
        self.left = total
        self.power = sum(one.estimate for one in self.workers)
        self.ended_at = 0
        self._tail_ns = config.tail_ns
        self._heap: list[tuple[int, int, Callable[[int, Worker], None], Worker, int]] = []
        self._count = 0

    def overhead(self) -> float:
        """Run the job; how much longer it took than `ideal_s`, in per cent."""
        for one in self.workers:
            self._ask(0, one)
        while self._heap:
            now, _, act, one, version = heapq.heappop(self._heap)
            if version in (one.version, ANY):
                act(now, one)
        assert not self.left and not any(one.left(self.ended_at) for one in self.workers), (
            "work was left over"
        )
        return 100 * (self.ended_at / (self.work.ideal_s * SECOND) - 1)

    def _at(self, at: int, act: Callable[[int, Worker], None], one: Worker, version: int = ANY) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, act, one, version))

    def _ask(self, now: int, one: Worker) -> None:
        if not one.asking and not one.next_size:
            one.asking = True
            self._at(now + one.rtt_ns // 2, self._answer, one)

    def _answer(self, now: int, one: Worker) -> None:
        """A request has come to the coordinator."""
        one.asking = False
        size = min(self.left, max(1, int(self.rule.size(one, self.left, self.power, self.work))))
        self.left -= size
        here_at = now + one.rtt_ns // 2
        if not size and self.rule.steals:
            size, here_at = self._steal(now, one)
        if size:
            one.next_size, one.next_at = size, here_at
            one.chunks += 1
            if not one.size:
                self._begin(now, one)
        elif self.rule.steals and any(other.size for other in self.workers):
            one.asking = True
            self._at(now + ASK_AGAIN_NS, self._answer, one)

    def _begin(self, now: int, one: Worker) -> None:
        one.size, one.next_size = one.next_size, 0
        one.began_at = max(now, one.next_at)
        self._goes_on(one)
        if self.rule.ahead:
            self._at(one.began_at, self._ask, one)
        elif self.rule.prefetches:
            self._at(max(one.ends_at - int(ASK_RTTS * one.rtt_ns), one.began_at), self._ask, one)

    def _goes_on(self, one: Worker) -> None:
        one.version += 1
        one.ends_at = one.pace.when(one.began_at, one.size)
        self._at(one.ends_at, self._end, one, one.version)

    def _end(self, now: int, one: Worker) -> None:
        self.ended_at = max(self.ended_at, now)
        busy_ns = max(1, now - one.began_at)
        if one.size:
            before, measured = one.estimate, one.size * SECOND / busy_ns
            one.estimate = (1 - SMOOTHING) * before + SMOOTHING * measured
            self.power += one.estimate - before
            one.sizer.measured(one.size, busy_ns)
            one.sizer.clean(one.size)
        one.size = 0
        if one.next_size:
            self._begin(now, one)
        else:
            self._ask(now, one)

    def _steal(self, now: int, thief: Worker) -> tuple[int, int]:
        """What the busiest gives to `thief`, and when that has come; 0 if it is not worth the messages."""
        left = {one.number: one.left(now) for one in self.workers if one.size and one is not thief}
        if not left:
            return 0, 0
        eta_ns = {number: left[number] * SECOND / self.workers[number].estimate for number in left}
        busiest = max(eta_ns, key=lambda number: (eta_ns[number], -number))
        victim = self.workers[busiest]
        mine_ns = thief.left(now) * SECOND / thief.estimate
        together = thief.estimate + victim.estimate
        gap_ns, worth_ns = eta_ns[busiest] - mine_ns, SPLIT_RTTS * (thief.rtt_ns + victim.rtt_ns)
        if self.rule.ahead:
            worth_ns += 2 * self._tail_ns
        if gap_ns <= worth_ns:
            return 0, 0
        told_at = now + victim.rtt_ns // 2  # it goes on until then
        size = int(gap_ns / SECOND * thief.estimate * victim.estimate / together)
        size = min(size, victim.left(told_at))
        here_at = now + victim.rtt_ns + thief.rtt_ns // 2
        from_next = min(size, victim.next_size)
        victim.next_size -= from_next
        if size > from_next:
            victim.size -= size - from_next
            self._goes_on(victim)
        return size, here_at


def run(
    say: Say,
    rules: Sequence[Rule] = RULES,
    ideal_s: Sequence[float] = IDEAL_S,
    seeds: Sequence[int] = SEEDS,
    workers: int = WORKERS,
) -> list[ChunkRow]:
    """A row for each rule and setting."""
    rows = []
    for rule, ideal, volatile in product(rules, ideal_s, (False, True)):
        models = [Model(rule, ideal, volatile, seed, workers) for seed in seeds]
        overhead = mean(model.overhead() for model in models)
        known = REFERENCE.get(rule.name)
        reference = (
            None if known is None or ideal not in IDEAL_S else known[2 * IDEAL_S.index(ideal) + volatile]
        )
        chunks = mean(one.chunks for model in models for one in model.workers)
        rows.append(ChunkRow(rule.name, ideal, volatile, overhead, reference, chunks, len(models)))
        say(f"{rule.name}, {ideal:g} s{', volatile' * volatile}: {overhead:.2f} %")
    return rows


def draw(rows: Sequence[ChunkRow], axes: Any) -> None:
    """Bars of each rule by setting, the references as marks."""
    rules = list(dict.fromkeys(row.rule for row in rows))
    settings = list(dict.fromkeys((row.ideal_s, row.volatile) for row in rows))
    height = 0.8 / len(settings)
    for i, (ideal, volatile) in enumerate(settings):
        mine = [row for row in rows if (row.ideal_s, row.volatile) == (ideal, volatile)]
        at = [rules.index(row.rule) + i * height for row in mine]
        label = f"{ideal:g} s{', volatile' * volatile}"
        axes.barh(at, [max(row.overhead, 0.01) for row in mine], height, label=label)
        known = [(row.reference, y) for row, y in zip(mine, at, strict=True) if row.reference is not None]
        axes.plot([x for x, _ in known], [y for _, y in known], "k|", label=None if i else "reference")
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(rules))], rules)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=0.05)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("longer than work / rate, %")
    axes.legend()


STUDY = Study(
    "chunks",
    "What does a rule for the size of subjobs cost?",
    {
        "rule": Shown("rule"),
        "ideal_s": Shown("T0", "{:g} s"),
        "volatile": Shown("volatile"),
        "overhead": Shown("overhead", "{:.2f} %"),
        "reference": Shown("reference", "{:g} %"),
        "chunks": Shown("subjobs a worker", "{:.0f}"),
    },
    run,
    draw,
)
