"""The world's order of events against a naive twin, and what the network remembers of who is linked with whom."""

import heapq
import random

import pytest

from zlb.core.effects import Effect
from zlb.core.ids import Endpoint, NodeId, RunId
from zlb.core.message import Message
from zlb.core.node import Statistics
from zlb.core.work import Outcome, Record
from zlb.sim import grid, replicas
from zlb.sim.cpu import Cpu
from zlb.sim.network import Network
from zlb.sim.world import RUN, TICK, Due, Machine, World
from zlb.wire.messages import Goodbye, Hello, Welcome


class NaiveWorld(World):
    """Looks at all machines for each event: the earliest message, run or deadline; ties in that order."""

    def _first_due(self) -> Due | None:
        found: list[Due] = []
        for machine in self.machines.values():
            if machine.node is None or machine.cpu is None:
                continue
            ended_at = machine.cpu.next_at()
            if ended_at is not None:
                found.append((max(ended_at, machine.paused_until, self.now), machine.number, RUN))
            found.append((max(machine.node.deadline(), machine.paused_until), machine.number, TICK))
        first = min(found, default=None)
        self._due = [first] if first is not None else []
        heapq.heapify(self._due)
        return first

    def _look(self, machine: Machine) -> None:
        pass


@pytest.mark.parametrize("seed", [1, 7, 10, 25])
def test_the_order_of_the_grid_is_that_of_a_naive_twin(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = grid.run(seed).digest
    monkeypatch.setattr(grid, "World", NaiveWorld)
    assert grid.run(seed).digest == digest


@pytest.mark.parametrize("seed", [3, 8])
def test_the_order_of_replicas_whose_clocks_jump_is_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = replicas.run(seed).digest
    monkeypatch.setattr(replicas, "World", NaiveWorld)
    assert replicas.run(seed).digest == digest


class Ticker:
    """Ticks every `period`, and writes down when."""

    def __init__(self, name: str, period: int, log: list[tuple[int, str]]) -> None:
        self.name, self.period, self.log = name, period, log
        self.at = period

    def deadline(self) -> int:
        return self.at

    def on_start(self, now: int) -> list[Effect]:
        return []

    def on_tick(self, now: int) -> list[Effect]:
        self.log.append((now, self.name))
        self.at = now + self.period
        return []

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        return []

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        return []

    def on_stop(self, now: int) -> list[Effect]:
        return []

    def statistics(self) -> Statistics:
        return {}


def ticking(log: list[tuple[int, str]]) -> World:
    world = World(1, None, lambda _node, _event: None)
    for name, period in (("b", 3), ("a", 2)):

        def boot(
            _n: int, _disk: list[Record], _rng: random.Random, name: str = name, period: int = period
        ) -> Ticker:
            return Ticker(name, period, log)

        world.add(NodeId(name), boot, lambda: Cpu(0, 1.0, {}))
    return world


def test_equal_deadlines_go_by_who_came_first() -> None:
    log: list[tuple[int, str]] = []
    ticking(log).run(6)
    assert log == [(2, "a"), (3, "b"), (4, "a"), (6, "b"), (6, "a")]


def test_a_deadline_may_be_moved_from_outside_between_runs() -> None:
    log: list[tuple[int, str]] = []
    world = ticking(log)
    world.run(1)
    for name, at in (("a", 9), ("b", 2)):  # later, and earlier
        node = world.machines[NodeId(name)].node
        assert isinstance(node, Ticker)
        node.at = at
    world.run(9)
    assert log == [(2, "b"), (5, "b"), (8, "b"), (9, "a")]


def test_a_step_may_move_a_deadline_either_way() -> None:
    log: list[tuple[int, str]] = []
    world = ticking(log)

    def move(at: int) -> object:
        def step(node: Ticker, _now: int) -> list[Effect]:
            node.at = at
            return []

        return step

    world.call(1, NodeId("a"), move(8))  # type: ignore[arg-type]
    world.call(2, NodeId("a"), move(7))  # type: ignore[arg-type]
    world.call(2, NodeId("b"), move(4))  # type: ignore[arg-type]
    world.run(8)
    assert log == [(4, "b"), (7, "b"), (7, "a")]


def test_a_machine_that_is_down_does_nothing_and_may_be_started_again() -> None:
    log: list[tuple[int, str]] = []
    world = ticking(log)
    world.run(2)
    world.crash(world.machines[NodeId("a")])
    world.start(5, NodeId("a"))
    world.run(7)
    assert log == [(2, "a"), (3, "b"), (5, "a"), (6, "b"), (7, "a")]


@pytest.fixture
def carried() -> list[tuple[str, str, Message]]:
    return []


@pytest.fixture
def network(carried: list[tuple[str, str, Message]]) -> Network:
    def deliver(_delay: int, src: NodeId, to: NodeId, message: Message) -> None:
        carried.append((src, to, message))

    return Network(None, random.Random(1), deliver)


HELLO = Hello("x", 1, "", "", "")
WELCOME = Welcome("x", 1, "", "", "", ())
BYE = Goodbye("")


def test_publications_go_to_subscribers_in_the_order_they_came(
    network: Network, carried: list[tuple[str, str, Message]]
) -> None:
    hub = NodeId("hub")
    for name in ("c", "a", "b"):
        network.heard(hub, NodeId(name), WELCOME)
    network.heard(NodeId("a"), hub, HELLO)
    network.publish(hub, BYE)
    network.crashed(NodeId("a"))
    network.forget(NodeId("b"), hub)
    network.publish(hub, BYE)
    network.heard(hub, NodeId("a"), WELCOME)
    network.publish(hub, BYE)
    assert [to for _, to, _ in carried] == ["c", "a", "b", "c", "c", "a"]


def test_a_dead_node_s_links_are_gone_and_those_with_who_dialled_it_are_not(
    network: Network, carried: list[tuple[str, str, Message]]
) -> None:
    hub, a = NodeId("hub"), NodeId("a")
    network.listeners[Endpoint("tcp://h:1")] = hub
    network.send(hub, a, BYE)
    assert network.lost == 1
    network.send(a, Endpoint("tcp://h:1"), BYE)
    network.send(hub, a, BYE)
    network.crashed(hub)
    network.send(hub, a, BYE)
    network.crashed(a)
    network.send(hub, a, BYE)
    assert (len(carried), network.lost) == (3, 2)


@pytest.mark.parametrize(("every", "coded"), [(1, 6), (3, 2), (100, 1)])
def test_messages_go_through_the_codec_as_often_as_asked(
    every: int, coded: int, carried: list[tuple[str, str, Message]]
) -> None:
    network = Network(None, random.Random(1), lambda _d, s, t, m: carried.append((s, t, m)), every)
    network.listeners[Endpoint("tcp://h:1")] = NodeId("hub")
    for _ in range(6):
        network.send(NodeId("a"), Endpoint("tcp://h:1"), BYE)
    assert sum(message is not BYE for _, _, message in carried) == coded
    assert all(message == BYE for _, _, message in carried)
