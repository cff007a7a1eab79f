"""A room for measurements: one job and many volunteers' machines, whole production nodes, in a world of a given kind.

Unlike the rooms that look for bugs it has no chaos: what happens is what the fleet is said to be, and what is planned.
Virtual hours of thousands of machines take minutes, if nodes do by the clock what they do more rarely: `Fleet.scale`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from zlb.core.config import (
    CoordinatorConfig,
    GossipConfig,
    Method,
    NeighboursConfig,
    PeerConfig,
    SubmitterConfig,
    WorkerConfig,
)
from zlb.core.effects import Effect
from zlb.core.events import Event, JobEnded, WorkerAccused
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.node import Node
from zlb.core.timers import NEVER
from zlb.core.work import Job, Rate, Record, StopRule
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import Submitter
from zlb.sim.cheats import Cheat, CheatingCpu
from zlb.sim.churn import Churn
from zlb.sim.cpu import Cpu
from zlb.sim.pace import DISTURBED_LOSS, SIGMA, Disturbed, Pace, Steady, lognormal
from zlb.sim.truth import Truth
from zlb.sim.weather import stream
from zlb.sim.world import Machine, World

HUB = Endpoint("tcp://127.0.0.1:7000")
"""Where the submitter is dialled."""
KERNEL, PARAMS = "sha256", b"job"
CODED_EVERY = 100
"""One message of so many goes through the codec; the rooms that look for bugs have seen them all go through it."""
UNSCALED_PEERS = 100
"""Up to so many peers nothing is done more rarely than in production."""
LOOKS = 100
"""At the world while it runs, evenly over the time it has."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Volunteers' machines. Speeds are lognormal of median `rate` (integers a second and slot) and sigma `sigma`."""

    peers: int
    seed: int = 1
    rate: float = 1000.0
    sigma: float = SIGMA
    slots: int = 1
    disturbed: bool = False
    """Whether their owners slow them down now and then (`pace.Disturbed`)."""
    churn: Churn | None = None
    rtt_ns: int = 50 * MS
    """Median of the round trips with the submitter, lognormal too, of sigma `rtt_sigma`."""
    rtt_sigma: float = 0.5
    verify: Method = Method.NONE
    """How results are checked. Samples are exact, and cost some 5 ns for each integer that is modelled."""
    report_ns: int | None = None
    """Between a worker's reports; if none is given, production's, scaled."""

    @property
    def scale(self) -> float:
        """How much longer than in production all periods are: a coordinator then hears as much as from
        `UNSCALED_PEERS` peers, however many there are."""
        return max(1.0, self.peers / UNSCALED_PEERS)

    @property
    def names(self) -> list[NodeId]:
        """Of all machines."""
        return [NodeId(f"p{number}") for number in range(self.peers)]

    def rate_of(self, name: NodeId) -> float:
        """Integers a second and slot of one machine when nothing slows it."""
        return lognormal(stream(self.seed, f"rate/{name}"), self.rate, self.sigma)

    def expected(self, hours: float) -> int:
        """Integers that all together should test in so many virtual hours."""
        availability = 1.0 if self.churn is None else self.churn.availability
        undisturbed = 1 - DISTURBED_LOSS if self.disturbed else 1.0
        rate = sum(map(self.rate_of, self.names)) * self.slots
        return max(1, int(rate * hours * 3600 * availability * undisturbed))


@dataclass(frozen=True, slots=True)
class Run:
    """What a job came to. Times in virtual ns."""

    fleet: Fleet
    status: str
    size: int
    done: int
    hashed: int
    """Integers that came out of slots, or were lost with them: all of it, by whoever."""
    capacity: int
    """Integers that those there could have tested until the job ended."""
    elapsed_ns: int
    departures: int
    """Of machines that went without a word."""
    messages: int
    steps: int
    digest: str

    @property
    def efficiency(self) -> float:
        """Share of the available capacity that was used for new integers."""
        return self.done / self.capacity if self.capacity else 0.0

    @property
    def recomputed(self) -> int:
        """Integers hashed more than once, or in vain."""
        return max(0, self.hashed - self.done)


@dataclass(slots=True)
class _Volunteer:
    """One machine, and when it was there."""

    name: NodeId
    pace: Pace
    machine: Machine
    stays: list[tuple[int, int]] = field(default_factory=list)
    cpu: Cpu | None = None
    hashed: int = 0
    """By CPUs of former stays."""


def scaled(fleet: Fleet) -> tuple[PeerConfig, SubmitterConfig]:
    """What the nodes of such a fleet are told: production's configuration, each period times `fleet.scale`."""

    def longer(ns: int) -> int:
        return int(ns * fleet.scale)

    links, gossip, work, lead = NeighboursConfig(), GossipConfig(), WorkerConfig(), CoordinatorConfig()
    links = replace(links, neighbours_max=max(links.neighbours_max, fleet.peers))
    links = replace(links, hello_ns_max=longer(links.hello_ns_max), silence_ns=longer(links.silence_ns))
    report_ns = longer(work.report_ns) if fleet.report_ns is None else fleet.report_ns
    lead = replace(
        lead,
        verify=fleet.verify,
        chunk_ns=longer(lead.chunk_ns),
        first_ns=longer(lead.first_ns),
        tail_ns=longer(lead.tail_ns),
        split_ns=longer(lead.split_ns),
        silence_ns=max(3 * report_ns, longer(lead.silence_ns)),
        period_ns=longer(lead.period_ns),
        progress_ns=NEVER // 2,  # nobody watches
    )
    work = replace(
        work,
        slots=fleet.slots,
        report_ns=report_ns,
        slice_ns=longer(work.slice_ns),
        offer_period_ns=longer(work.offer_period_ns),
        silence_ns=longer(work.silence_ns),
    )
    gossip = replace(gossip, period_ns=longer(gossip.period_ns), forget_ns=longer(gossip.forget_ns))
    peer = PeerConfig(neighbours=links, gossip=gossip, worker=work)
    return peer, SubmitterConfig(neighbours=links, coordinator=lead, connect_ns=NEVER)


class Volunteers:
    """A world with a submitter, its job of `size` integers, and `fleet`; `cheats` are by number of the machine."""

    def __init__(
        self,
        fleet: Fleet,
        size: int,
        hits: list[int] | None = None,
        rule: StopRule = StopRule.ALL,
        cheats: dict[int, Cheat] | None = None,
        configure: Callable[[SubmitterConfig], SubmitterConfig] = lambda config: config,
    ) -> None:
        self.fleet = fleet
        self.truth = Truth(hits or [])
        self.world = World(fleet.seed, None, self._on_event, CODED_EVERY)
        self.job = Job(JobId("job"), KERNEL, PARAMS, ((0, size),), rule, 0 if rule is StopRule.ALL else 1)
        self.ended: JobEnded | None = None
        self.ended_at = 0
        self.accused: list[NodeId] = []
        """Those who told what cannot be true, in that order."""
        self.watch: Callable[[NodeId, Event], None] = lambda _node, _event: None
        self.volunteers: dict[NodeId, _Volunteer] = {}
        self.submitter: Submitter
        """The node that owns the job, once the world runs."""
        self._peer_config, config = scaled(fleet)
        self._delays: dict[NodeId, int] = {}
        self.world.network.takes = lambda src, to: self._delays.get(src) or self._delays[to]
        self._dice = stream(fleet.seed, "volunteers")
        self._add_submitter(configure(config))
        for number, name in enumerate(fleet.names):
            self.add(name, (cheats or {}).get(number))

    def add(self, name: NodeId, cheat: Cheat | None = None) -> None:
        """One more machine, from now on; one that cheats comes back under a new name by being added once more."""
        fleet, dice = self.fleet, stream(self.fleet.seed, f"volunteer/{name}")
        rate = fleet.rate_of(name)
        pace: Pace = Disturbed(rate, dice) if fleet.disturbed else Steady(rate)
        self._delays[name] = int(lognormal(self._dice, fleet.rtt_ns, fleet.rtt_sigma) / 2)

        def boot(incarnation: int, disk: list[Record], rng: random.Random) -> Node:
            rates = {record.kernel: record.per_s for record in disk if isinstance(record, Rate)}
            return Peer(name, incarnation, "", "", [HUB], self._peer_config, rng, rates)

        def make_cpu() -> Cpu:
            truths = {PARAMS: self.truth}
            one = self.volunteers[name]
            one.cpu = (
                Cpu(fleet.slots, pace, truths)
                if cheat is None
                else CheatingCpu(fleet.slots, pace, truths, cheat, fleet.seed, name)
            )
            return one.cpu

        machine = self.world.add(name, boot, make_cpu, starts=False)
        one = self.volunteers[name] = _Volunteer(name, pace, machine)
        now = self.world.now
        stays = iter([(now + dice.randrange(SECOND), NEVER)])
        if fleet.churn is not None:
            drawn = fleet.churn.stays(stream(fleet.seed, f"churn/{name}"))
            stays = ((now + since, now + to) for since, to in drawn)
        self._stay_on(one, stays)

    def whitewash(self, old: NodeId, new: NodeId, cheat: Cheat | None) -> None:
        """Who was found out goes, and comes back at once as somebody nobody knows."""
        self.kill(self.world.now, old)
        self.add(new, cheat)

    def kill(self, at: int, name: NodeId) -> None:
        """At `at`, its power goes; it does not come back by itself."""
        one = self.volunteers[name]

        def end(_node: object, now: int) -> list[Effect]:
            self._gone(one, now)
            return []

        self.world.call(at, name, end)

    def run(self, until: int, look: Callable[[Volunteers], None] = lambda _room: None) -> Run:
        """Let the job run until it has ended, not a step further, or `until`; somebody may `look` in between."""
        step = max(1, until // LOOKS)
        while self.ended is None and self.world.now < until:
            self.world.run(min(until, self.world.now + step))
            look(self)
        return self.outcome()

    def outcome(self) -> Run:
        """What has come of it by now."""
        at = self.ended_at if self.ended is not None else self.world.now
        return Run(
            fleet=self.fleet,
            status=self.ended.status if self.ended is not None else "open",
            size=self.job.size,
            done=self.submitter.coordinator.ledger.done.measure,
            hashed=sum(self.hashed(name) for name in self.volunteers),
            capacity=sum(self.capacity(name, at) for name in self.volunteers),
            elapsed_ns=at,
            departures=self.world.counts["crashes"],
            messages=self.world.network.sent,
            steps=self.world.steps,
            digest=self.world.transcript.digest,
        )

    def capacity(self, name: NodeId, until: int) -> int:
        """Integers that a machine could have tested by then, while it was there."""
        one = self.volunteers[name]
        there = [(since, min(to, until)) for since, to in one.stays if since < until]
        return sum(one.pace.done(*stay) for stay in there) * self.fleet.slots

    def hashed(self, name: NodeId) -> int:
        """Integers that came out of the slots of a machine."""
        one = self.volunteers[name]
        return one.hashed + (one.cpu.hashed(self.world.now) if one.cpu is not None else 0)

    def said(self, name: NodeId) -> int:
        """Integers that the coordinator believes a machine to have tested."""
        hand = self.submitter.coordinator.foreman.crew.get(name)
        return hand.tested if hand is not None else 0

    # -- machines

    def _stay_on(self, one: _Volunteer, stays: Iterator[tuple[int, int]]) -> None:
        """It comes, stays, and goes without a word; when it has gone, it comes again."""
        since, to = next(stays)
        one.stays.append((since, to))
        self.world.start(since, one.name)

        def leave(_node: object, now: int) -> list[Effect]:
            self._gone(one, now)
            self._stay_on(one, stays)
            return []

        if to < NEVER:
            self.world.call(to, one.name, leave)

    def _gone(self, one: _Volunteer, now: int) -> None:
        since, _ = one.stays[-1]
        one.stays[-1] = since, now
        if one.cpu is not None:
            one.hashed += one.cpu.hashed(now)
            one.cpu = None
        self.world.crash(one.machine)

    def _add_submitter(self, config: SubmitterConfig) -> None:
        name = NodeId("s")

        def boot(incarnation: int, _disk: list[Record], rng: random.Random) -> Node:
            about = self.job, self.truth.oracle, config, rng
            self.submitter = Submitter(name, incarnation, "", [], *about)
            return self.submitter

        self.world.add(name, boot, lambda: Cpu(0, 1.0, {}), listen=HUB)

    def _on_event(self, node: NodeId, event: Event) -> None:
        if isinstance(event, JobEnded):
            self.ended, self.ended_at = event, self.world.now
            self.world.halt()
        if isinstance(event, WorkerAccused):
            self.accused.append(event.node)
        self.watch(node, event)
