"""The second room of the simulator: replicas of a log, and clients that use it, under a seed's weather.

Chaos first, with every invariant looked at after every step; then calm, in which a leader must be found and every
client be answered. What the clients saw must be linearizable.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from zlb.core.config import RaftConfig
from zlb.core.effects import Effect
from zlb.core.events import CommandApplied, Event, ReadConfirmed, RoleChanged
from zlb.core.ids import NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.replica import Configuration, ReplicaRecord, Saved, fold
from zlb.core.work import Record
from zlb.protocols.raft.machine import Refusal
from zlb.protocols.raft.replica import Replica
from zlb.protocols.raft.sessions import Sessions, command, open_session, opened
from zlb.sim.cpu import Cpu
from zlb.sim.history import Operation
from zlb.sim.invariants import Invariants
from zlb.sim.linearizability import AppendLog, check
from zlb.sim.member import Clock, Lists, Member, endpoint_of
from zlb.sim.partitions import Partitions
from zlb.sim.weather import Weather, draw_replicas, stream
from zlb.sim.world import World

CALM_NS = 60 * SECOND
STEP_NS = 10 * MS
"""Between two looks at the clients."""
PATIENCE_NS = 400 * MS
"""A client that has no answer by then asks another replica."""
FIERCE = 0.25
"""Share of worlds of five in which leaders come and go as fast as they can."""
SYNC_NS_MAX_FIERCE = 2 * MS
"""Their syncs are quick, and their clocks steady: only then do leaders get anywhere before they go."""
MUTE_NS_MAX = 1000 * MS
STRUCK = 0.5
"""Share of changes of the configuration at which the network is cut, in worlds where it ever is."""
KEYS = 3
SESSION_NS = 3600 * SECOND


Tamper = Callable[[Member], None]


@dataclass(slots=True)
class Client:
    """One that appends and reads, one operation at a time, and repeats it until it is answered."""

    name: str
    session: int | None = None
    """Opened with its first append."""
    sequence: int = 0
    number: int = 0
    """Of the operation, so that answers to an earlier one are not taken for its own."""
    operation: tuple[str, str, int] | None = None
    """"append" or "read", key, value."""
    invoked_at: int = 0
    asked_at: int = 0
    asked: NodeId | None = None

    def asks(self, number: int) -> bool:
        """Whether it still waits for the answer to the operation of that number."""
        return self.number == number and self.operation is not None


@dataclass(frozen=True, slots=True)
class ReplicasOutcome:
    """What a run came to."""

    seed: int
    digest: str
    effects: int
    operations: int
    terms: int
    virtual_ns: int
    faults: Counter[str]
    """How often what befell them."""


class ReplicasFailure(AssertionError):
    """An invariant did not hold; the text holds seed, weather and the last effects."""


def run(seed: int, tamper: Tamper | None = None) -> ReplicasOutcome:
    """Run the replicas of `seed` to their end; raises `ReplicasFailure` if anything that must hold did not."""
    cluster = Cluster(seed, tamper)
    try:
        return cluster.play()
    except AssertionError as error:
        last = "\n".join(list(cluster.world.transcript.lines)[-40:])
        raise ReplicasFailure(f"seed {seed}: {error}\nweather: {cluster.weather}\n{last}") from error


@dataclass(slots=True)
class Cluster:
    """Replicas, their clients, and those who look on."""

    seed: int
    tamper: Tamper | None
    weather: Weather = field(init=False)
    world: World = field(init=False)
    invariants: Invariants = field(init=False)
    partitions: Partitions = field(init=False)
    clients: list[Client] = field(init=False)
    history: list[Operation] = field(default_factory=list)
    names: list[NodeId] = field(init=False)
    clocks: dict[NodeId, Clock] = field(default_factory=dict)
    _dice: random.Random = field(init=False)
    _clock_dice: random.Random = field(init=False)
    _disturbances: list[str] = field(init=False)
    _fierce: bool = field(init=False)
    _strikes: float = field(init=False)
    """Probability that a leader dies when it has applied a command, and that its first words are lost."""
    _deafens: float = field(init=False)
    """Probability that a leader does not hear of the next one."""
    _waiting: dict[tuple[NodeId, int, int], tuple[Client, int, bool]] = field(default_factory=dict)
    """Who waits for the entry of an index and a term at a replica."""
    _reading: dict[int, tuple[Client, int]] = field(default_factory=dict)
    _tokens: int = 0
    _values: int = 0

    def __post_init__(self) -> None:
        self._dice = dice = stream(self.seed, "replicas")
        self._clock_dice = stream(self.seed, "clocks")
        self.weather = draw_replicas(self.seed)
        self._fierce = fierce = dice.random() < FIERCE
        if fierce:
            quick = min(self.weather.sync_ns_max, SYNC_NS_MAX_FIERCE)
            leaves = self.weather.leaves * dice.choice([0, 1])
            self.weather = replace(self.weather, sync_ns_max=quick, jumps=0, leaves=leaves)
        self.names = [
            NodeId(f"r{number}")
            for number in range((5 if fierce else dice.choice([1, 3, 3, 3, 5, 5, 7])) + 1)
        ]
        voters = tuple(self.names[:-1])  # the last one may join later
        self.invariants = Invariants()
        self.world = World(self.seed, self.weather, self._on_event)
        self.world.onlooker = self.invariants
        self.partitions = Partitions(self.names, stream(self.seed, "partitions"))
        self.world.network.cut = self.partitions.cut
        self._strikes = 0.5 if fierce else dice.choice([0.0, 0.0, 0.1])
        self._deafens = dice.choice([0.0, 0.5, 1.0])
        changing = ["add", "add", "add", "remove", "remove", "transfer", "cut", "kill", "isolate"]
        self._disturbances = dice.choice([changing, ["kill"] if fierce else changing, ["kill"], ["isolate"]])
        self.clients = [Client(f"c{number}") for number in range(dice.randint(1, 5))]
        config = RaftConfig(
            election_ns_min=150 * MS if fierce else dice.choice([150 * MS, 500 * MS]),
            heartbeat_ns=30 * MS,
            batch_bytes=1 if fierce else dice.choice([1, 1 << 16]),
            snapshot_entries=dice.choice([5, 20, 10_000]),
            trailing_entries=dice.choice([0, 3, 1000]),
            caught_up_entries=5,
        )
        for name in self.names:
            founders = Configuration(voters) if name in voters else Configuration(())
            self.clocks[name] = Clock(dice.choice([1.0, 1.0, 0.9, 1.1]), dice.randrange(1000) * SECOND)
            self.world.add(
                name,
                self._booter(name, founders, config),
                lambda: Cpu(0, 1.0, {}),
                listen=endpoint_of(name),
                syncs=True,
            )

    def _booter(
        self, name: NodeId, founders: Configuration, config: RaftConfig
    ) -> Callable[[int, list[Record], random.Random], Member]:
        def boot(incarnation: int, disk: list[Record], dice: random.Random) -> Member:
            saved = Saved()
            for record in disk:
                assert isinstance(record, ReplicaRecord)
                saved = fold(saved, record)
            self.invariants.booted(name, saved)
            self._waiting = {key: who for key, who in self._waiting.items() if key[0] != name}
            lists = Lists()
            replica = Replica(name, saved, founders, Sessions(lists, SESSION_NS), config, dice)
            member = Member(replica, lists, self.clocks[name])
            if self.tamper is not None:
                self.tamper(member)
            return member

        return boot

    # -- playing

    def play(self) -> ReplicasOutcome:
        """Chaos, then calm, then the judgement."""
        world, chaos_ns = self.world, self.weather.chaos_ns
        while world.now < chaos_ns:
            world.run(world.now + STEP_NS)
            self.partitions.change(world.now)
            self._disturb()
            self._shake_clocks()
            self._clients_act(new=True)
        world.calm()
        self.partitions.heal()
        while world.now < chaos_ns + CALM_NS and not self._at_rest():
            world.run(world.now + STEP_NS)
            self._clients_act(new=False)
        assert self._at_rest(), f"no progress in {CALM_NS // SECOND} s of calm: {self._unrest()}"
        for client in self.clients:  # and now one more each: the cluster must be of use
            self._invoke(client)
        while world.now < chaos_ns + 2 * CALM_NS and any(client.operation for client in self.clients):
            world.run(world.now + STEP_NS)
            self._clients_act(new=False)
        assert not any(client.operation for client in self.clients), "clients wait in vain after the chaos"
        verdict = check(self.history, AppendLog())
        assert verdict.ok, str(verdict)
        transcript = world.transcript
        return ReplicasOutcome(
            self.seed,
            transcript.digest,
            transcript.count,
            len(self.history),
            self.invariants.highest_term,
            world.now,
            sum((machine.disk.counts for machine in world.machines.values()), world.counts),
        )

    def _at_rest(self) -> bool:
        return not any(client.operation for client in self.clients) and self._leader() is not None

    def _unrest(self) -> str:
        waiting = [
            f"{client.name} waits for {client.operation}" for client in self.clients if client.operation
        ]
        roles = [f"{name} {member.replica.role} of {member.replica.term}" for name, member in self._members()]
        return "; ".join(waiting + roles)

    def _members(self) -> list[tuple[NodeId, Member]]:
        return [
            (name, machine.node)
            for name, machine in self.world.machines.items()
            if isinstance(machine.node, Member)
        ]

    def _leader(self) -> NodeId | None:
        leading = [(member.replica.term, name) for name, member in self._members() if member.replica.leader]
        return max(leading)[1] if leading else None

    def _maybe_strike(self, name: NodeId) -> None:
        """In some worlds a leader dies just when it has committed something: as in figure 3.7 of the thesis."""
        machine = self.world.machines[name]
        leads = isinstance(machine.node, Member) and machine.node.replica.leader is not None
        if self.world.weather is not None and leads and self._dice.random() < self._strikes:
            self.world.call(self.world.now, name, lambda _node, _now: self.world.crash(machine) or [])  # type: ignore[func-returns-value]

    def _disturb(self) -> None:
        """Now and then, a change of the configuration, a hand-over, a cut of the log."""
        if self._dice.random() > self.weather.leaves:
            return
        leader, other = self._leader(), self._dice.choice(self.names)
        if leader is None:
            return
        what = self._dice.choice(self._disturbances)
        if what == "add":  # others are voters already
            other = self._dice.choice(self._outside(leader) or self.names)
        if what == "kill":
            self.world.crash(self.world.machines[leader])
            return
        if what == "isolate":  # it goes on for a while, and so may others without it
            until = self.world.now + self._dice.randint(0, MUTE_NS_MAX)
            self.partitions.mute(leader, until)
            self.partitions.deafen(leader, until)
            if self.weather.jumps:
                self._jump(leader)
            return

        def step(member: Member, now: int) -> list[Effect]:
            replica, local = member.replica, member.clock.read(now)
            match what:
                case "add":
                    self._changing(replica.add(local, other))
                case "remove" if len(replica.configuration.voters) > 2:
                    self._changing(replica.remove(local, other))
                case "transfer":
                    replica.transfer(local, other)
                case "cut" if replica.committed:
                    return member.dialled(replica.cut())
            return []

        self.world.call(self.world.now, leader, step)

    def _outside(self, leader: NodeId) -> list[NodeId]:
        """Who is no voter, as that leader has it."""
        member = self.world.machines[leader].node
        assert isinstance(member, Member)
        return [name for name in self.names if name not in member.replica.configuration.voters]

    def _changing(self, placed: int | Refusal) -> None:
        """A leader has begun to change the configuration, or refused to: often the network fails just then."""
        if isinstance(placed, Refusal) or self.world.weather is None:
            return
        if self._dice.random() < STRUCK:
            self.partitions.strike(self.world.now)
        self.world.counts["changes"] += 1
        self.world.counts["changes in a partition"] += self.partitions.active

    def _shake_clocks(self) -> None:
        """Now and then a clock jumps."""
        if self._clock_dice.random() < self.weather.jumps:
            self._jump(self._clock_dice.choice(self.names))

    def _jump(self, name: NodeId) -> None:
        by = self._clock_dice.randint(self.weather.jump_ns_min, self.weather.jump_ns_max)
        self.world.counts["jumps back" if by < 0 else "jumps forward"] += 1
        self.clocks[name].jump(by)

    # -- clients

    def _clients_act(self, new: bool) -> None:
        for client in self.clients:
            if client.operation is None:
                if new and self._dice.random() < 0.2:
                    self._invoke(client)
            elif self.world.now - client.asked_at >= PATIENCE_NS:
                self._ask(client)

    def _invoke(self, client: Client) -> None:
        key = f"k{self._dice.randrange(KEYS)}"
        client.invoked_at = self.world.now
        client.number += 1
        if self._dice.random() < 0.4:
            client.operation = "read", key, 0
        else:
            client.sequence += 1
            self._values += 1
            client.operation = "append", key, self._values
        self._ask(client)

    def _ask(self, client: Client) -> None:
        """Ask some replica, preferably one that leads or still believes to: whoever led longest ago to read."""
        assert client.operation is not None
        operation, key, value = client.operation
        leading = sorted(
            (member.replica.term, name) for name, member in self._members() if member.replica.leader
        )
        name = self._dice.choice(self.names)
        if leading and self._dice.random() < 0.7:
            oldest_or_latest = leading[0 if operation == "read" else -1]
            _, name = self._dice.choice(leading) if self._fierce else oldest_or_latest
        client.asked, client.asked_at = name, self.world.now
        self._tokens += 1
        token, number = self._tokens, client.number
        opens = client.session is None
        asked = open_session()
        if client.session is not None:
            asked = command(client.session, client.sequence, msgspec.msgpack.encode((key, value)))

        def step(member: Member, now: int) -> list[Effect]:
            replica, local = member.replica, member.clock.read(now)
            if operation == "read":
                self._reading[token] = client, number
                return member.dialled(replica.read(local, token))
            placed = replica.propose(local, asked)
            if not isinstance(placed, Refusal):
                self._waiting[(name, *placed)] = client, number, opens
            return []

        self.world.call(self.world.now, name, step)

    def _on_event(self, name: NodeId, event: Event) -> None:
        self.invariants.on_event(name, event)
        match event:
            case RoleChanged("leader") if self.world.weather is not None:
                self._greet(name)
            case CommandApplied(log_index, term, result):
                self._maybe_strike(name)
                waiting = self._waiting.pop((name, log_index, term), None)
                if waiting is not None:
                    self._applied(*waiting, result)
            case ReadConfirmed(token):
                client, number = self._reading.pop(token, (None, 0))
                if client is not None and client.asks(number):
                    assert client.operation is not None
                    member = self.world.machines[name].node
                    assert isinstance(member, Member)
                    self._answer(client, member.shown[token].get(client.operation[1], ()))

    def _greet(self, name: NodeId) -> None:
        """A new leader: its first words may be lost, and one who led before may not hear of it."""
        dice, until = self._dice, self.world.now + self._dice.randint(0, MUTE_NS_MAX)
        if dice.random() < self._strikes:
            self.partitions.mute(name, until)
        for other, member in self._members():
            if other != name and member.replica.leader is not None:
                self.world.counts["two leaders"] += 1
                if dice.random() < self._deafens:
                    self.partitions.deafen(other, until)

    def _applied(self, client: Client, number: int, opens: bool, result: object) -> None:
        """A command has had its result: a session, or the length of a list."""
        if not client.asks(number):
            return
        assert isinstance(result, bytes), result
        if not opens:
            self._answer(client, msgspec.msgpack.decode(result, type=int))
        elif client.session is None:
            client.session = opened(result)
            self._ask(client)

    def _answer(self, client: Client, result: object) -> None:
        assert client.operation is not None
        operation, key, value = client.operation
        arguments = (key, value) if operation == "append" else (key,)
        self.history.append(
            Operation(client.name, operation, arguments, result, client.invoked_at, self.world.now)
        )
        client.operation = None
