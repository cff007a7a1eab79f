"""One heap, one virtual clock, one seed: drives unmodified nodes, performs their effects, crashes in between."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zlb.core.effects import Effect, Emit, Persist, Publish, Run, Send, Stop
from zlb.core.events import Event, NeighbourLost, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.message import Message
from zlb.core.node import Node
from zlb.core.timers import NEVER
from zlb.core.work import Record
from zlb.sim.cpu import Cpu
from zlb.sim.disk import Disk
from zlb.sim.network import Network
from zlb.sim.transcript import Transcript
from zlb.sim.weather import Weather, stream

Boot = Callable[[int, list[Record], random.Random], Node]
"""Makes a node from its incarnation, what it has persisted, and its dice."""
Watch = Callable[[NodeId, Event], None]

Due = tuple[int, int, int]
"""When, the machine's number, and what it then does: a run that ends goes before a tick."""

TRANSCRIPT_KEPT = 200
RUN, TICK = 0, 1


class Onlooker:
    """Sees what happens in a world, as it happens; this one looks away."""

    def heard(self, machine: Machine, src: NodeId, message: Message) -> None:
        """A message has come to a node, which is told of it next."""

    def returned(self, machine: Machine, effects: list[Effect]) -> None:
        """A node has taken a step that came to `effects`; none is performed yet."""

    def before(self, machine: Machine, effect: Effect) -> None:
        """An effect is about to be performed."""

    def after(self, machine: Machine) -> None:
        """A machine has taken a step and lives; some of its effects may wait for its disk."""

    def syncing(self, machine: Machine, records: list[Record]) -> None:
        """A sync of `records` begins, of all that the machine has written since the one before."""

    def synced(self, machine: Machine) -> None:
        """The sync that began last has ended well; what waited for it is performed next."""


@dataclass(slots=True)
class Machine:
    """A place where a node lives, dies and returns. `disk` survives; `node` is None while it is down."""

    name: NodeId
    boot: Boot
    make_cpu: Callable[[], Cpu]
    crashes: bool
    returns: bool
    disk: Disk
    held: list[Effect] = field(default_factory=list)
    """Effects from the first `Persist` on that is not durable yet, also of later steps."""
    node: Node | None = None
    cpu: Cpu | None = None
    boots: int = 0
    paused_until: int = 0
    stopped: bool = False
    number: int = 0
    """Of all machines, in the order they came: the lowest goes first where times are equal."""
    due: Due | None = None
    """What it does next by itself, were nothing to come in between."""
    queued: Due | None = None
    """Its earliest entry in the world's heap, never later than `due`."""


class World:
    """Machines, their network, and what happens to them."""

    def __init__(self, seed: int, weather: Weather | None, watch: Watch, coded_every: int = 1) -> None:
        self.seed, self.weather, self.watch = seed, weather, watch
        self.onlooker = Onlooker()
        self.counts: Counter[str] = Counter()
        """Faults that occurred, by name."""
        self.now = 0
        self.machines: dict[NodeId, Machine] = {}
        self.steps = 0
        """Events that nodes were given."""
        self.transcript = Transcript(TRANSCRIPT_KEPT)
        self.network = Network(weather, stream(seed, "network"), self._deliver, coded_every)
        self._faults = stream(seed, "faults")
        self._heap: list[tuple[int, int, NodeId, Callable[[Machine], None]]] = []
        self._count = 0
        self._numbered: list[Machine] = []
        self._halted = False
        self._due: list[Due] = []
        """A heap of what machines do by themselves. One entry a machine counts, `Machine.queued`: steps move deadlines
        both ways all the time, so an entry is found to be outdated only when its time has come."""

    def add(
        self,
        name: NodeId,
        boot: Boot,
        make_cpu: Callable[[], Cpu],
        listen: Endpoint | None = None,
        crashes: bool = True,
        returns: bool = True,
        syncs: bool = False,
        starts: bool = True,
    ) -> Machine:
        """Put a machine into the world; it starts at once, unless `starts` is false.

        Without `syncs`, what it persists is durable at once.
        """
        assert name not in self.machines, f"two machines called {name}"
        disk = Disk(stream(self.seed, f"disk/{name}")) if syncs else Disk()
        machine = Machine(name, boot, make_cpu, crashes, returns, disk, number=len(self._numbered))
        self.machines[name] = machine
        self._numbered.append(machine)
        if listen is not None:
            self.network.listeners[listen] = name
        if starts:
            self.start(self.now, name)
        return machine

    def start(self, at: int, name: NodeId) -> None:
        """At `at`, let a machine that is down start."""
        self._at(at, name, self._start)

    def call(self, at: int, name: NodeId, step: Callable[[Any, int], list[Effect]]) -> None:
        """At `at`, let the node of `name` take a step: `step(node, now)`; nothing if it is down then."""

        def act(machine: Machine) -> None:
            if machine.node is not None:
                self._perform(machine, step(machine.node, self.now))

        self._at(at, name, act)

    def calm(self) -> None:
        """The faults end: nobody crashes, nothing is lost, whoever is to return returns now."""
        self.weather = self.network.weather = None
        for machine in self.machines.values():
            machine.paused_until = 0
            if machine.node is None and machine.returns and not machine.stopped:
                self._at(self.now, machine.name, self._start)
            self._look(machine)

    def crash(self, machine: Machine) -> None:
        """The process is gone; its disk stays, its sockets don't."""
        self.transcript.add(self.now, machine.name, "crash")
        self.counts["crashes"] += 1
        machine.node = machine.cpu = None
        machine.disk.crash(sum(isinstance(effect, Persist) for effect in machine.held))
        machine.held = []
        machine.due = None
        self.network.crashed(machine.name)
        if machine.returns and self.weather is not None:
            delay = self._faults.randint(1_000_000, self.weather.restart_ns_max)
            self._at(self.now + delay, machine.name, self._start)

    def run(self, until: int) -> None:
        """Let everything happen that happens up to and including `until`; between calls anything may be changed.

        It returns earlier if it is told to `halt`: right after the step in which it is.
        """
        self._halted = False
        for machine in self._numbered:
            self._look(machine)
        while not self._halted:
            due = self._first_due()
            at = self._heap[0][0] if self._heap else NEVER
            if due is not None and due[0] < at:  # ties go to messages, then to the machine that came first
                at = due[0]
            else:
                due = None
            if at > until or at >= NEVER:
                self.now = until
                return
            self.now = max(self.now, at)
            self._look(self._pop() if due is None else self._act_by_itself(due))

    def halt(self) -> None:
        """Let `run` return after this step, at the time that it is; what was to happen later still is."""
        self._halted = True

    # -- what happens next

    def _look(self, machine: Machine) -> None:
        """See what `machine` does next by itself: to be called whenever it may have changed."""
        node, cpu = machine.node, machine.cpu
        if node is None or cpu is None:
            machine.due = None
            return
        paused_until, number = machine.paused_until, machine.number
        due = (max(node.deadline(), paused_until), number, TICK)
        ended_at = cpu.next_at()
        if ended_at is not None:
            due = min(due, (max(ended_at, paused_until, self.now), number, RUN))
        machine.due = due
        if machine.queued is None or due < machine.queued:
            machine.queued = due
            heapq.heappush(self._due, due)

    def _first_due(self) -> Due | None:
        """The earliest of what machines do by themselves; entries that are outdated are put right, or dropped."""
        heap = self._due
        while heap:
            first = heap[0]
            machine = self._numbered[first[1]]
            if first == machine.queued:
                if first == machine.due:
                    return first
                machine.queued = machine.due
                if machine.due is not None:
                    heapq.heapreplace(heap, machine.due)
                    continue
            heapq.heappop(heap)
        return None

    def _pop(self) -> Machine:
        at, _, name, act = heapq.heappop(self._heap)
        machine = self.machines[name]
        if machine.paused_until > at:
            self._at(machine.paused_until, name, act)
        else:
            act(machine)
        return machine

    def _act_by_itself(self, due: Due) -> Machine:
        _, number, what = due
        machine = self._numbered[number]
        heapq.heappop(self._due)
        machine.queued = None
        if what == RUN:
            self._finish(machine)
        else:
            self._tick(machine)
        return machine

    def _finish(self, machine: Machine) -> None:
        assert machine.cpu is not None and machine.node is not None
        run_id, outcome = machine.cpu.finish(self.now)
        self._perform(machine, machine.node.on_done(self.now, run_id, outcome))

    def _tick(self, machine: Machine) -> None:
        assert machine.node is not None
        self._perform(machine, machine.node.on_tick(self.now))

    def _start(self, machine: Machine) -> None:
        if machine.node is not None or machine.stopped:
            return
        machine.boots += 1
        rng = stream(self.seed, f"{machine.name}/{machine.boots}")
        machine.cpu = machine.make_cpu()
        machine.node = machine.boot(machine.boots, machine.disk.read(), rng)
        self.transcript.add(self.now, machine.name, "start")
        self._perform(machine, machine.node.on_start(self.now))

    def _deliver(self, delay: int, src: NodeId, receiver: NodeId, message: Message) -> None:
        def arrive(machine: Machine) -> None:
            if machine.node is not None:
                self.network.heard(src, receiver, message)
                self.onlooker.heard(machine, src, message)
                self._perform(machine, machine.node.on_message(self.now, src, message))

        self._at(self.now + delay, receiver, arrive)

    def _at(self, at: int, name: NodeId, act: Callable[[Machine], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, name, act))

    # -- effects

    def _perform(self, machine: Machine, effects: list[Effect]) -> None:
        """The node has taken a step: perform what it came to, or let it wait behind what waits already."""
        self.steps += 1
        self.onlooker.returned(machine, effects)
        if not (self._wait(machine, effects) if machine.held else self._go_on(machine, effects, 0)):
            return
        self.onlooker.after(machine)
        if self.weather is not None and self._faults.random() < self.weather.pause:
            self.counts["pauses"] += 1
            machine.paused_until = self.now + self._faults.randint(0, self.weather.pause_ns_max)

    def _wait(self, machine: Machine, effects: list[Effect]) -> bool:
        """Have effects wait for the sync that is under way; false if the machine goes down."""
        machine.held += effects
        for _ in effects:
            if self._crashes(machine):
                self.crash(machine)
                return False
        return True

    def _go_on(self, machine: Machine, effects: list[Effect], durable: int) -> bool:
        """Perform effects in order up to the first record that is not durable: the first `durable` ones are.

        False if the machine goes down.
        """
        for number, effect in enumerate(effects):
            if self._crashes(machine):
                self.crash(machine)
                return False
            if isinstance(effect, Persist) and not machine.disk.at_once:
                if durable == 0:
                    self._sync(machine, effects[number:])
                    return True
                durable -= 1
            self.transcript.add(self.now, machine.name, effect)
            self.onlooker.before(machine, effect)
            self._act(machine, effect)
            if machine.node is None:
                return False
        return True

    def _crashes(self, machine: Machine) -> bool:
        return self.weather is not None and machine.crashes and self._faults.random() < self.weather.crash

    def _sync(self, machine: Machine, held: list[Effect]) -> None:
        """Make all records that wait durable, together; what follows the first of them waits until then."""
        records = [effect.record for effect in held if isinstance(effect, Persist)]
        machine.held = held
        boots, ends_at = machine.boots, self.now + machine.disk.begin(records, self.weather)
        self.transcript.add(self.now, machine.name, f"sync {len(records)}")
        self.onlooker.syncing(machine, records)

        def end(machine: Machine) -> None:
            if machine.node is not None and machine.boots == boots:
                self._synced(machine, len(records))

        self._at(ends_at, machine.name, end)
        if self.weather is not None and self.weather.sync_blocks:
            machine.paused_until = max(machine.paused_until, ends_at)

    def _synced(self, machine: Machine, count: int) -> None:
        if not machine.disk.end(self.weather):
            self.crash(machine)  # as a process that does not know what is on its disk must
            return
        self.transcript.add(self.now, machine.name, "synced")
        self.onlooker.synced(machine)
        held, machine.held = machine.held, []
        self._go_on(machine, held, count)

    def _act(self, machine: Machine, effect: Effect) -> None:
        cpu = machine.cpu
        assert cpu is not None
        match effect:
            case Send(to, message):
                self.network.send(machine.name, to, message)
            case Publish(message):
                self.network.publish(machine.name, message)
            case Persist(record):
                if machine.disk.at_once:
                    machine.disk.write(record)
            case Run(run_id, work):
                cpu.run(self.now, run_id, work)
            case Stop(run_id):
                cpu.stop(self.now, run_id)
            case Emit(event):
                self.watch(machine.name, event)
                if isinstance(event, NeighbourLost) and not event.is_back:
                    self.network.forget(machine.name, event.node)
                if isinstance(event, Stopped):
                    machine.node = machine.cpu = None
                    machine.stopped = True
