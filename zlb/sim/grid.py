"""The first room of the simulator: peers with static neighbours and submitters with a job each, under a seed's weather.

Who knows whom is the seed's, too: where submitters reach some peers only, those pass their jobs on to the others.
Chaos first, with every checker on; then calm, in which what is left must finish: safety, then progress.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from zlb.core.config import CoordinatorConfig, Method, PeerConfig, SubmitterConfig, WorkerConfig
from zlb.core.events import Event
from zlb.core.ids import Endpoint, JobId, NodeId, Span
from zlb.core.limits import MS, SECOND
from zlb.core.message import Message
from zlb.core.node import Node
from zlb.core.timers import NEVER
from zlb.core.work import Job, Rate, Record, StopRule
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import Submitter
from zlb.sim.checkers import Checkers, JobChecker
from zlb.sim.cpu import Cpu
from zlb.sim.tree_checks import TreeChecks
from zlb.sim.truth import Truth
from zlb.sim.weather import FAULT_MIX, Weather, draw, stream
from zlb.sim.world import World

CALM_NS = 120 * SECOND
"""How long the calm lasts: far longer than any job here takes without faults."""
CHECK_NS = 250 * MS
"""Between two looks at every ledger."""

STEP_NS = 2 * SECOND
"""How long it may take until the next peer of a chain has work, beyond the time until it is offered some, ..."""
STEP_DELAYS = 10
"""... and so many times as long as a message may take: subjobs grow by the round trip."""

Tamper = Callable[[Node], None]
"""Plants a bug into a node just made: tests do, to see that the checkers are awake."""


class Topology(StrEnum):
    """Who knows whom; links are made by whoever knows the other."""

    FULL = "full"
    """Peers know all that came before them, submitters know all."""
    CHAIN = "chain"
    """Peers know the one before them, submitters the first."""
    STAR = "star"
    """Peers know the first, or one of those that know it; submitters know the first."""
    RANDOM = "random"
    """Peers know one or two of those that came before them, submitters the first, and perhaps another."""


@dataclass(frozen=True, slots=True)
class Roads:
    """Whom a peer or a submitter knows, by the number of the peer, and after how long peers pass a job on."""

    topology: Topology
    peers: tuple[tuple[int, ...], ...]
    submitters: tuple[int, ...]
    offer_ns: int
    sublet_ns: int


def draw_roads(seed: int, count: int, topology: Topology | None = None) -> Roads:
    """The roads of `seed` between `count` peers; every second grid is full."""
    rng = stream(seed, "topology")
    others = [Topology.CHAIN, Topology.STAR, Topology.RANDOM]
    drawn = rng.choice([Topology.FULL] * len(others) + others)
    topology = topology or drawn
    offer_ns, sublet_ns = rng.choice([0, 200 * MS, 2 * SECOND]), rng.choice([200 * MS, 2 * SECOND])
    reached: tuple[int, ...] = (0,)
    match topology:
        case Topology.FULL:
            known = [tuple(range(i)) for i in range(count)]
            reached, offer_ns, sublet_ns = tuple(range(count)), 2 * SECOND, 2 * SECOND
        case Topology.CHAIN:
            known = [(i - 1,) if i else () for i in range(count)]
        case Topology.STAR:
            inner = -(-count // 2)
            known = [
                () if not i else (0,) if i < max(inner, 2) else (1 + i % (inner - 1),) for i in range(count)
            ]
        case Topology.RANDOM:
            known = [tuple(sorted(rng.sample(range(i), min(i, rng.choice([1, 2]))))) for i in range(count)]
            reached = tuple(sorted({0, rng.randrange(count)}))
    return Roads(topology, tuple(known), reached, offer_ns, sublet_ns)


@dataclass(frozen=True, slots=True)
class Checking:
    """How results are checked; the first `copies` peers stay, so that a quorum is not waited for in vain."""

    verify: Method = Method.SHARES
    copies: int = 1


def draw_checking(seed: int, roads: Roads) -> Checking:
    """Spot checks or a quorum: that one where all peers are reached, and there are enough of them."""
    rng = stream(seed, "checking")
    method, copies = rng.choice([Method.SPOT, Method.QUORUM, Method.QUORUM]), rng.choice([2, 2, 3])
    if method is Method.SPOT or roads.topology is not Topology.FULL or len(roads.peers) < copies:
        return Checking(Method.SPOT)
    return Checking(method, copies)


class Overtaking(World):
    """Some messages take so long that others, sent later, come before them."""

    def _deliver(self, delay: int, src: NodeId, receiver: NodeId, message: Message) -> None:
        weather, dice = self.weather, self._faults
        if weather is not None and dice.random() < weather.late:
            self.counts["late"] += 1
            delay += dice.randint(MS, weather.late_ns_max)
        super()._deliver(delay, src, receiver, message)


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
    topology: Topology
    tested: dict[NodeId, int] = field(default_factory=dict)
    """Integers searched by each peer that lives in the end, since it started last."""
    sent: int = 0
    """Messages, of which so many were:"""
    lost: int = 0
    late: int = 0
    kept: int = 0
    """Reports whose senders were told that they are kept."""
    checking: Checking = Checking()


class GridFailure(AssertionError):
    """A checker objected; the text holds seed, weather and the last effects."""


def run(
    seed: int,
    tamper: Tamper | None = None,
    weather: Weather | None = None,
    topology: Topology | None = None,
    honest: bool = True,
    checked: bool = False,
) -> Outcome:
    """Run the grid of `seed` to its end; raises `GridFailure` if anything that must hold did not.

    `weather` and `topology` are the seed's unless given. Without `honest`, `tamper` makes some peers cheat. If
    `checked`, some of the work is searched again, as the seed says (`draw_checking`).
    """
    grid = _Grid(seed, tamper, weather or draw(seed), topology, honest, checked)
    try:
        return grid.play()
    except AssertionError as error:
        last = "\n".join(list(grid.world.transcript.lines)[-30:])
        raise GridFailure(
            f"seed {seed}: {error}\n{grid.roads}\n{grid.checking}\nweather: {grid.weather}\n{last}"
        ) from error


class _Grid:
    def __init__(
        self,
        seed: int,
        tamper: Tamper | None,
        weather: Weather,
        topology: Topology | None,
        honest: bool,
        checked: bool,
    ) -> None:
        self.seed, self.weather, self.tamper = seed, weather, tamper
        self.lasts = weather is FAULT_MIX
        """Whether the faults end with the jobs."""
        self.checkers = Checkers()
        kind = Overtaking if weather.late else World
        self.world = kind(seed, weather, self._on_event)
        self.checks = self.world.onlooker = TreeChecks(self.world, self.checkers, weather, honest)
        self.truths: dict[bytes, Truth] = {}
        rng = stream(seed, "grid")
        self.endpoints = [Endpoint(f"tcp://127.0.0.1:{7001 + i}") for i in range(rng.choice([1, 2, 3, 5]))]
        self.roads = draw_roads(seed, len(self.endpoints), topology)
        self.checking = draw_checking(seed, self.roads) if checked else Checking()
        for i, endpoint in enumerate(self.endpoints):
            known = [self.endpoints[other] for other in self.roads.peers[i]]
            self._add_peer(NodeId(f"p{i}"), endpoint, known, rng)
        for i in range(rng.choice([1, 1, 2])):
            self._add_submitter(NodeId(f"s{i}"), rng, mortal=i == 0)

    def _on_event(self, node: NodeId, event: Event) -> None:
        self.checks.on_event(node, event)

    def play(self) -> Outcome:
        chaos_ns, world = self.weather.chaos_ns, self.world
        while world.now < chaos_ns + CALM_NS and not self._over():
            world.run(world.now + CHECK_NS)
            for machine in world.machines.values():
                if isinstance(machine.node, Submitter):
                    machine.node.coordinator.ledger.check()
            done = self.lasts and not self._pending()
            if world.weather is not None and (done or world.now >= chaos_ns):
                world.calm()
        self._check_progress()
        if self.weather.fair:
            self._check_fair()
        ended = {job: checker.ended for job, checker in self.checkers.jobs.items()}
        return Outcome(
            seed=self.seed,
            weather=self.weather,
            digest=world.transcript.digest,
            effects=world.transcript.count,
            ended={job: end.status if end else "orphaned" for job, end in ended.items()},
            recomputed=sum(end.recomputed for end in ended.values() if end),
            virtual_ns=world.now,
            topology=self.roads.topology,
            tested={peer.me: peer.worker.tested for peer in self._peers()},
            sent=world.network.sent,
            lost=world.network.lost,
            late=world.counts["late"],
            kept=self.checks.kept,
            checking=self.checking,
        )

    def _peers(self) -> list[Peer]:
        return [at.node for at in self.world.machines.values() if isinstance(at.node, Peer)]

    def _check_fair(self) -> None:
        """Nothing was searched twice but on purpose, and everybody had their share of what took long enough."""
        ends = [checker.ended for checker in self.checkers.jobs.values()]
        once = self.checking.verify is Method.SHARES
        for end in ends if once else ():
            recomputed = end.recomputed if end else 0
            assert recomputed == 0, (
                f"{recomputed} integers of {end.job if end else ''} leased twice in fair weather"
            )
        if once and all(end is not None and end.status in ("complete", "exhausted") for end in ends):
            tested = sum(peer.worker.tested for peer in self._peers())
            size = sum(checker.job.size for checker in self.checkers.jobs.values())
            assert tested == size, f"{tested} integers were searched in fair weather, of {size}"
        step_ns = self.roads.offer_ns + STEP_NS + STEP_DELAYS * self.weather.delay_ns_max
        enough_ns = len(self.endpoints) * step_ns
        if any(end is not None and end.elapsed_ns > enough_ns for end in ends):
            idle = [peer.me for peer in self._peers() if not peer.worker.tested]
            assert not idle, f"{idle} had no work in {enough_ns / SECOND} s of fair weather: {self.roads}"

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
        offer_ns, sublet_ns = self.roads.offer_ns, self.roads.sublet_ns
        config = PeerConfig(worker=WorkerConfig(slots=slots, offer_ns=offer_ns, sublet_ns=sublet_ns))
        truths = self.truths

        def boot(incarnation: int, disk: list[Record], dice: random.Random) -> Node:
            rates = {record.kernel: record.per_s for record in disk if isinstance(record, Rate)}
            about = name, incarnation, at, at, known, config, dice, rates
            return self._tampered(Peer(*about, lambda _kernel, params: truths[params].oracle))

        self.world.add(name, boot, lambda: Cpu(slots, rate, self.truths), listen=at)
        first = name == "p0"  # which stays, so that someone finishes the jobs
        if not first and rng.random() < self.weather.leaves:
            stops_at = rng.randint(0, min(self.weather.chaos_ns, 10 * SECOND))
            if int(name[1:]) < self.checking.copies:
                return
            self.world.call(stops_at, name, lambda node, now: node.on_stop(now))

    def _add_submitter(self, name: NodeId, rng: random.Random, mortal: bool) -> None:
        job, truth = _draw_job(JobId(f"j{name}"), rng)
        self.truths[job.params] = truth
        self.checkers.jobs[job.id] = JobChecker(job, truth, self.checking.copies)
        chunk_ns = rng.choice([20 * MS, 200 * MS, SECOND, 5 * SECOND])
        verify, copies = self.checking.verify, self.checking.copies
        first_count = rng.choice([16, 1024])
        coordinator = CoordinatorConfig(
            verify=verify, copies=copies, chunk_ns=chunk_ns, first_count=first_count
        )
        explore = self.roads.topology is Topology.FULL
        config = SubmitterConfig(coordinator=coordinator, connect_ns=NEVER, explore=explore)
        known = [self.endpoints[number] for number in self.roads.submitters]

        def boot(incarnation: int, disk: list[Record], dice: random.Random) -> Node:
            submitter = Submitter(name, incarnation, "", known, job, truth.oracle, config, dice)
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
