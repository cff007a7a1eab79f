"""The third room of the simulator: trackers, peers that coordinate for them, and clients, under a seed's weather.

Chaos first, with every check on; then calm, in which every job must end as it should, and everybody come to rest.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from zlb.core.config import ClientConfig, PeerConfig, RaftConfig, TrackerConfig, WorkerConfig
from zlb.core.effects import Effect
from zlb.core.events import Answered, Event
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.node import Node
from zlb.core.replica import Configuration, ReplicaRecord, Saved, fold
from zlb.core.work import Contacts, Rate, Record
from zlb.nodes.client import Client
from zlb.nodes.peer import Peer
from zlb.nodes.tracker import Tracker, founded
from zlb.protocols.commands import Status
from zlb.protocols.registry import Registry
from zlb.sim.cpu import Cpu
from zlb.sim.partitions import Partitions
from zlb.sim.tracked_checks import Checks, SeenPeer
from zlb.sim.tracked_clients import Customer, Watched
from zlb.sim.tracked_jobs import draw_job
from zlb.sim.weather import Weather, draw, stream
from zlb.sim.world import World

CALM_NS = 120 * SECOND
"""How long the calm lasts: far longer than the jobs here take without faults."""
STEP_NS = 50 * MS
"""Between two looks at the clients."""
RESUME_STEPS = 100
"""So many of them between two looks for jobs that somebody paused who is dead."""
CHECK_STEPS = 5
"""So many of them between two looks at every ledger."""
ALONE_NS_MAX = 8 * SECOND
"""A node is cut off for longer than it may be silent, or shorter."""
MILD = 0.3
"""Share of worlds in which nothing happens but that coordinators die, or leave."""


@dataclass(frozen=True, slots=True)
class TrackedOutcome:
    """What a run came to."""

    seed: int
    digest: str
    effects: int
    ended: dict[JobId, str]
    epochs: int
    """The highest of any job."""
    tested: int
    again: int
    """Integers that came out of slots more often than they were to be searched."""
    virtual_ns: int
    faults: Counter[str]


NodeT = TypeVar("NodeT")


class TrackedFailure(AssertionError):
    """A check objected; the text holds seed, weather and the last effects."""


def run(seed: int) -> TrackedOutcome:
    """Run the room of `seed` to its end; raises `TrackedFailure` if anything that must hold did not."""
    room = _Room(seed)
    try:
        return room.play()
    except AssertionError as error:
        last = "\n".join(line[:400] for line in list(room.world.transcript.lines)[-40:])
        raise TrackedFailure(f"seed {seed}: {error}\nweather: {room.weather}\n{last}") from error


def draw_tracked(seed: int) -> Weather:
    """The weather of `seed`: trackers talk much, so crashes per effect are rarer than in the first room."""
    rng = stream(seed, "weather/tracked")
    weather = replace(
        draw(seed),
        crash=rng.choice([0.0, 0.0, 0.0002, 0.001]),
        chaos_ns=rng.choice([5, 10, 20]) * SECOND,
        submitter_dies=rng.choice([0.0, 0.0, 0.5]),
        sync_ns_max=rng.choice([0, 2 * MS, 20 * MS, 200 * MS]),
        sync_fails=rng.choice([0.0, 0.0, 0.01]),
        sync_blocks=rng.random() < 0.5,
    )
    if rng.random() < MILD or weather.fair:
        weather = replace(
            weather, crash=0, pause=0, submitter_dies=0, loss=0, delay_ns_max=20 * MS, sync_ns_max=0
        )
        leaves, restart_ns_max = rng.choice([0.0, 0.3]), rng.choice([100 * MS, 15 * SECOND, 15 * SECOND])
        weather = replace(weather, sync_fails=0, double=0, leaves=leaves, restart_ns_max=restart_ns_max)
    return weather


class Alone:
    """Nodes that are cut off, one by one: from everybody, in one direction, or a peer from `trackers` only."""

    def __init__(self, trackers: list[NodeId]) -> None:
        self._trackers = trackers
        self._mute: dict[NodeId, int] = {}
        self._deaf: dict[NodeId, int] = {}
        self._severed: dict[NodeId, int] = {}

    def begin(self, name: NodeId, until: int, dice: random.Random) -> None:
        """Cut `name` off in some way."""
        for cut in dice.choice([[self._severed], [self._mute], [self._deaf], [self._mute, self._deaf]]):
            cut[name] = until

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._mute, self._deaf, self._severed = {}, {}, {}

    def cut(self, now: int, src: NodeId, to: NodeId) -> bool:
        """Whether nothing gets from one to the other now."""
        cuts = [(self._mute, src), (self._deaf, to)]
        cuts += [(self._severed, src)] if to in self._trackers else []
        cuts += [(self._severed, to)] if src in self._trackers else []
        return any(cut.get(name, 0) > now for cut, name in cuts)


class _Room:
    def __init__(self, seed: int) -> None:
        self.seed, self.weather = seed, draw_tracked(seed)
        self._dice = dice = stream(seed, "tracked")
        self.mild = not (self.weather.crash or self.weather.pause or self.weather.loss)
        self.mild &= self.weather.delay_ns_max <= 20 * MS
        self.kills = dice.choice([0.0, 0.01, 0.03] if self.mild else [0.0, 0.005, 0.02])
        """Probability that a coordinator dies, or is cut off, at each step."""
        self.fair = self.mild and not self.kills and not self.weather.leaves
        self.world = World(seed, self.weather, self._on_event)
        customers = [NodeId(f"c{i}") for i in range(dice.choice([1, 2, 3]))]
        self.jobs = {
            job: draw_job(job, dice, self.weather.chaos_ns)
            for name in customers
            for job in [JobId(f"{name}j{number}") for number in range(dice.choice([1, 1, 2]))]
        }
        self.truths = {drawn.spec.params: drawn.truth for drawn in self.jobs.values()}
        self.checkers = {drawn.spec.params: drawn.checker() for drawn in self.jobs.values()}
        self.checks = self.world.onlooker = Checks(self.world, self.jobs, self.mild)
        self.trackers = {
            NodeId(f"t{i}"): Endpoint(f"tcp://127.0.0.1:{7101 + i}")
            for i in range(dice.choice([1, 3, 3, 3, 5]))
        }
        self.peers = [NodeId(f"p{i}") for i in range(dice.randint(2, 5))]
        self.customers = {name: self._customer(name) for name in customers}
        names = [*self.trackers, *self.peers]
        self.partitions = Partitions(names, stream(seed, "partitions"))
        self.parts = not self.mild and dice.random() < 0.5
        self.alone = Alone(list(self.trackers))
        self.world.network.cut = self._is_cut
        self._add_trackers()
        for number, name in enumerate(self.peers):
            self._add_peer(name, number)
        for name in customers:
            self._add_client(name)

    # -- playing

    def play(self) -> TrackedOutcome:
        """Chaos, then calm, then the judgement."""
        world, chaos_ns = self.world, self.weather.chaos_ns
        while world.now < chaos_ns:
            self._step()
            if self.parts:
                self.partitions.change(world.now)
            self._disturb()
        world.calm()
        self.partitions.heal()
        self.alone.heal()
        while world.now < chaos_ns + CALM_NS and self._pending():
            if (world.now - chaos_ns) // STEP_NS % RESUME_STEPS == 0:
                self._resume_all()
            self._step()
        pending = self._pending()
        assert not pending, f"no progress in {CALM_NS // SECOND} s of calm: {'; '.join(pending)}"
        return self._judge()

    def _step(self) -> None:
        world = self.world
        world.run(world.now + STEP_NS)
        for customer in self.customers.values():
            if world.machines[customer.name].node is not None:
                for step in customer.steps(world.now):
                    world.call(world.now, customer.name, step)
        if world.now // STEP_NS % CHECK_STEPS == 0:
            self.checks.check_ledgers()

    def _disturb(self) -> None:
        """Now and then something befalls who matters."""
        if self._dice.random() >= self.kills:
            return
        registry = self._registry()
        coordinators = list(dict.fromkeys(entry.coordinator for entry in registry.open_jobs.values()))
        leaders = [name for name, tracker in self._nodes(Tracker) if tracker.replica.leader is not None]
        victims = [NodeId(name) for name in coordinators if name] if self.mild else leaders + self.peers
        if not self.mild and coordinators and coordinators[0] and self._dice.random() < 0.5:
            victims = [NodeId(coordinators[0])]
        if not victims:
            return
        victim, until = self._dice.choice(victims), self.world.now + self._dice.randint(0, ALONE_NS_MAX)
        if self.mild or self._dice.random() < 0.5:
            if self.world.machines[victim].node is not None:
                self.world.counts["kills"] += 1
                self.world.crash(self.world.machines[victim])
            return
        self.world.counts["isolations"] += 1
        self.alone.begin(victim, until, self._dice)

    def _is_cut(self, src: NodeId, receiver: NodeId) -> bool:
        return self.alone.cut(self.world.now, src, receiver) or self.partitions.cut(src, receiver)

    def _resume_all(self) -> None:
        """What somebody paused who is dead now would never end: the first client lives.

        The word of the dead may come late (seed 3145).
        """
        first = next(iter(self.customers.values()))
        for job, entry in self._registry().open_jobs.items():
            owner = next(
                one for one in self.customers.values() if any(job == w.drawn.spec.job for w in one.jobs)
            )
            if entry.status is Status.PAUSED and self.world.machines[owner.name].node is None:
                self.world.call(self.world.now, first.name, first.resume(job))

    def _on_event(self, name: NodeId, event: Event) -> None:
        if isinstance(event, Answered) and name in self.customers:
            self.customers[name].on_answered(event)

    # -- views

    def _nodes(self, kind: type[NodeT]) -> list[tuple[NodeId, NodeT]]:
        return [(name, at.node) for name, at in self.world.machines.items() if isinstance(at.node, kind)]

    def _registry(self) -> Registry:
        """As the tracker has it that knows most."""
        trackers = [tracker for _, tracker in self._nodes(Tracker)]
        best = max(trackers, key=lambda tracker: tracker.replica.committed, default=None)
        return Registry() if best is None else best.registry

    def _pending(self) -> list[str]:
        """What is not at rest, in words."""
        pending = [f"{job} is {entry.status}" for job, entry in self._registry().open_jobs.items()]
        committed = {tracker.replica.committed for _, tracker in self._nodes(Tracker)}
        if len(self._nodes(Tracker)) < len(self.trackers) or len(committed) > 1:
            pending.append(f"trackers have applied {committed}")
        for name, peer in self._nodes(Peer):
            if peer.worker.jobs or peer.coordinators.jobs or not peer.worker.drained:
                pending.append(f"{name} holds {peer.worker.jobs}, coordinates {peer.coordinators.jobs}")
        for name, customer in self.customers.items():
            if self.world.machines[name].node is not None:
                pending += [f"{name} watches {job.drawn.spec.job}" for job in customer.jobs if not job.over]
        return pending

    def _judge(self) -> TrackedOutcome:
        registry, checks, world = self._registry(), self.checks, self.world
        checks.check_ledgers()
        for job, entry in registry.jobs.items():
            drawn = self.jobs[job]
            drawn.check_end(entry)
            if entry.spec.certified:
                drawn.check_evidence(entry, registry.evidence[job])
            if self.fair and entry.status in (Status.COMPLETE, Status.EXHAUSTED):
                assert checks.searched[job] == entry.tested == drawn.size, (
                    f"in fair weather {checks.searched[job]} of {drawn.size} were searched, {entry.tested} counted"
                )
                assert entry.epoch == 1 and not entry.recomputed, f"epoch {entry.epoch} in fair weather"
        for name, customer in self.customers.items():
            if world.machines[name].node is not None:
                for watched in customer.jobs:
                    watched.check()
        whole = [
            job for job, entry in registry.jobs.items() if entry.status in (Status.COMPLETE, Status.EXHAUSTED)
        ]
        return TrackedOutcome(
            self.seed,
            world.transcript.digest,
            world.transcript.count,
            {job: str(entry.status) for job, entry in registry.jobs.items()},
            max(checks.epochs.values(), default=0),
            sum(checks.searched.values()),
            sum(checks.searched[job] - self.jobs[job].size for job in whole),
            world.now,
            sum((machine.disk.counts for machine in world.machines.values()), world.counts),
        )

    # -- machines

    def _customer(self, name: NodeId) -> Customer:
        return Customer(
            name, [Watched(drawn) for job, drawn in self.jobs.items() if job.startswith(f"{name}j")]
        )

    def _add_trackers(self) -> None:
        dice = self._dice
        election_ns = dice.choice([500 * MS, 500 * MS, 1500 * MS])
        raft = RaftConfig(
            election_ns_min=election_ns,
            heartbeat_ns=election_ns // 5,
            snapshot_entries=dice.choice([5, 20, 10_000]),
            trailing_entries=dice.choice([0, 3, 1000]),
        )
        config, syncs = TrackerConfig(raft=raft), dice.random() < 0.5
        for name, at in self.trackers.items():
            self.world.add(
                name, self._tracker_boot(name, at, config), lambda: Cpu(0, 1.0, {}), listen=at, syncs=syncs
            )

    def _tracker_boot(
        self, name: NodeId, at: Endpoint, config: TrackerConfig
    ) -> Callable[[int, list[Record], random.Random], Node]:
        founders = founded(Configuration(tuple(sorted(self.trackers))))

        def boot(incarnation: int, disk: list[Record], dice: random.Random) -> Node:
            saved = fold(Saved(), founders)
            for record in disk:
                assert isinstance(record, ReplicaRecord)
                saved = fold(saved, record)
            tracker = Tracker(name, incarnation, at, "zlb", self.trackers, saved, config, dice)
            self.checks.see(tracker)
            return tracker

        return boot

    def _add_peer(self, name: NodeId, number: int) -> None:
        dice = self._dice
        slots, rate = dice.choice([1, 2, 4]), dice.choice([2e3, 1e4, 5e4])
        config = PeerConfig(worker=WorkerConfig(slots=slots))
        at = Endpoint(f"tcp://127.0.0.1:{7001 + number}") if number == 0 or dice.random() < 0.8 else None
        known = list(self.trackers.values())
        known = known if dice.random() < 0.7 else [dice.choice(known)]
        check = self.checkers

        def boot(incarnation: int, disk: list[Record], rng: random.Random) -> Node:
            rates = {record.kernel: record.per_s for record in disk if isinstance(record, Rate)}
            contacts = [record for record in disk if isinstance(record, Contacts)][-1:]
            endpoints = dict.fromkeys(
                known + [one for contact in contacts for some in contact for one in some]
            )
            peer = SeenPeer(
                name,
                incarnation,
                at or "",
                at or "",
                endpoints,
                config,
                rng,
                rates,
                lambda _, params: check[params],
            )
            peer.checks = self.checks
            return peer

        self.world.add(name, boot, lambda: Cpu(slots, rate, self.truths), listen=at)
        if (
            number and dice.random() < self.weather.leaves
        ):  # the first stays, so that someone finishes the jobs
            self.world.call(dice.randint(0, self.weather.chaos_ns), name, lambda node, now: node.on_stop(now))

    def _add_client(self, name: NodeId) -> None:
        known = list(self.trackers.values())[: self._dice.choice([1, 5])]

        def boot(incarnation: int, _disk: list[Record], dice: random.Random) -> Node:
            return Client(name, incarnation, known, ClientConfig(), dice)

        machine = self.world.add(name, boot, lambda: Cpu(0, 1.0, {}), crashes=False, returns=False)
        if name != next(iter(self.customers)) and self._dice.random() < self.weather.submitter_dies:

            def die(_node: Node, _now: int) -> list[Effect]:
                self.world.crash(machine)
                return []

            self.world.call(self._dice.randint(0, self.weather.chaos_ns), name, die)
