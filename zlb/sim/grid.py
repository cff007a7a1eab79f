"""The first room of the simulator: peers with static neighbours and submitters with a job each, under a seed's weather.

Chaos first, with every checker on; then calm, in which what is left must finish: safety, then progress.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from zlb.core.config import CoordinatorConfig, PeerConfig, SubmitterConfig, WorkerConfig
from zlb.core.ids import Endpoint, JobId, NodeId, Span
from zlb.core.limits import MS, SECOND
from zlb.core.node import Node
from zlb.core.timers import NEVER
from zlb.core.work import Job, Rate, Record, StopRule
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import Submitter
from zlb.sim.checkers import Checkers, JobChecker
from zlb.sim.cpu import Cpu
from zlb.sim.truth import Truth
from zlb.sim.weather import Weather, draw, stream
from zlb.sim.world import World

CALM_NS = 120 * SECOND
"""How long the calm lasts: far longer than any job here takes without faults."""
CHECK_NS = 250 * MS
"""Between two looks at every ledger."""

Tamper = Callable[[Node], None]
"""Plants a bug into a node just made: tests do, to see that the checkers are awake."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the grid came to."""

    seed: int
    weather: Weather
    digest: str
    effects: int
    ended: dict[JobId, str]
    recomputed: int
    virtual_ns: int


class GridFailure(AssertionError):
    """A checker objected; the text holds seed, weather and the last effects."""


def run(seed: int, tamper: Tamper | None = None) -> Outcome:
    """Run the grid of `seed` to its end; raises `GridFailure` if anything that must hold did not."""
    grid = _Grid(seed, tamper)
    try:
        return grid.play()
    except AssertionError as error:
        last = "\n".join(list(grid.world.transcript.lines)[-30:])
        raise GridFailure(f"seed {seed}: {error}\nweather: {grid.weather}\n{last}") from error


class _Grid:
    def __init__(self, seed: int, tamper: Tamper | None) -> None:
        self.seed, self.weather, self.tamper = seed, draw(seed), tamper
        self.checkers = Checkers()
        self.world = World(seed, self.weather, self.checkers.on_event)
        self.truths: dict[bytes, Truth] = {}
        rng = stream(seed, "grid")
        self.endpoints = [Endpoint(f"tcp://127.0.0.1:{7001 + i}") for i in range(rng.choice([1, 2, 3, 5]))]
        for i, endpoint in enumerate(self.endpoints):
            self._add_peer(NodeId(f"p{i}"), endpoint, self.endpoints[:i], rng)
        for i in range(rng.choice([1, 1, 2])):
            self._add_submitter(NodeId(f"s{i}"), rng, mortal=i == 0)

    def play(self) -> Outcome:
        chaos_ns, world = self.weather.chaos_ns, self.world
        while world.now < chaos_ns + CALM_NS and not self._over():
            world.run(world.now + CHECK_NS)
            for machine in world.machines.values():
                if isinstance(machine.node, Submitter):
                    machine.node.coordinator.ledger.check()
            if world.weather is not None and world.now >= chaos_ns:
                world.calm()
        self._check_progress()
        if self.weather.fair:
            for job, checker in self.checkers.jobs.items():
                recomputed = checker.ended.recomputed if checker.ended else 0
                assert recomputed == 0, f"{recomputed} integers of {job} leased twice in fair weather"
        ended = {job: checker.ended for job, checker in self.checkers.jobs.items()}
        return Outcome(
            seed=self.seed,
            weather=self.weather,
            digest=world.transcript.digest,
            effects=world.transcript.count,
            ended={job: end.status if end else "orphaned" for job, end in ended.items()},
            recomputed=sum(end.recomputed for end in ended.values() if end),
            virtual_ns=world.now,
        )

    def _over(self) -> bool:
        """Calm has come, every job has ended or lost its submitter, and every peer is idle again."""
        return self.world.weather is None and not self._pending()

    def _pending(self) -> list[str]:
        """What is not finished, in words."""
        pending = []
        for name, machine in self.world.machines.items():
            match machine.node:
                case Peer() as peer if peer.worker.jobs:
                    pending.append(f"{name} holds jobs {peer.worker.jobs}")
                case Submitter() as submitter:
                    ledger = submitter.coordinator.ledger
                    pending.append(f"{name}: {ledger.done.measure} of {ledger.wanted.measure} done")
        return pending

    def _check_progress(self) -> None:
        pending = self._pending()
        assert not pending, f"no progress in {CALM_NS // SECOND} s of calm: {'; '.join(pending)}"

    def _add_peer(self, name: NodeId, at: Endpoint, known: list[Endpoint], rng: random.Random) -> None:
        slots, rate = rng.choice([1, 2, 4]), rng.choice([2e3, 1e4, 5e4])
        config = PeerConfig(worker=WorkerConfig(slots=slots))

        def boot(incarnation: int, disk: list[Record], dice: random.Random) -> Node:
            rates = {record.kernel: record.per_s for record in disk if isinstance(record, Rate)}
            return self._tampered(Peer(name, incarnation, at, at, known, config, dice, rates))

        self.world.add(name, boot, lambda: Cpu(slots, rate, self.truths), listen=at)
        if known and rng.random() < self.weather.leaves:  # the first stays, so that someone finishes the jobs
            stops_at = rng.randint(0, min(self.weather.chaos_ns, 10 * SECOND))
            self.world.call(stops_at, name, lambda node, now: node.on_stop(now))

    def _add_submitter(self, name: NodeId, rng: random.Random, mortal: bool) -> None:
        job, truth = _draw_job(JobId(f"j{name}"), rng)
        self.truths[job.params] = truth
        self.checkers.jobs[job.id] = JobChecker(job, truth)
        chunk_ns = rng.choice([20 * MS, 200 * MS, SECOND, 5 * SECOND])
        coordinator = CoordinatorConfig(chunk_ns=chunk_ns, first_count=rng.choice([16, 1024]))
        config = SubmitterConfig(coordinator=coordinator, connect_ns=NEVER)

        def boot(incarnation: int, disk: list[Record], dice: random.Random) -> Node:
            submitter = Submitter(name, incarnation, "", self.endpoints, job, truth.oracle, config, dice)
            return self._tampered(submitter)

        machine = self.world.add(name, boot, lambda: Cpu(0, 1.0, {}), crashes=False, returns=False)
        if mortal and rng.random() < self.weather.submitter_dies:
            dies_at = rng.randint(0, self.weather.chaos_ns)
            self.world.call(dies_at, name, lambda node, now: self.world.crash(machine) or [])  # type: ignore[func-returns-value]

    def _tampered(self, node: Node) -> Node:
        if self.tamper is not None:
            self.tamper(node)
        return node


def _draw_job(job_id: JobId, rng: random.Random) -> tuple[Job, Truth]:
    base = rng.choice([0, 1000, (1 << 32) - 5000, (1 << 64) - 400_000])
    size = rng.choice([1, 100, 20_000, 200_000])
    size = min(size, (1 << 64) - base)
    spans: tuple[Span, ...] = ((base, base + size),)
    if size > 1000 and rng.random() < 0.3:
        cut = base + rng.randrange(100, size - 100)
        spans = ((base, cut), (cut + 50, base + size))
    hits = sorted({base + rng.randrange(size) for _ in range(rng.choice([0, 1, 5, 50, 2000]))})
    if rng.random() < 0.1:
        hits = list(range(base, base + min(size, 10_000)))
    rule = rng.choice(list(StopRule))
    wanted = {StopRule.ALL: 0, StopRule.COUNT: rng.choice([2, 5])}.get(rule, 1)
    return Job(job_id, "sha256", job_id.encode(), spans, rule, wanted), Truth(hits)
