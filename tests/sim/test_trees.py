"""Peers that pass jobs on to each other, without faults but those a test makes: who works, and what is lost."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from zlb.core.config import CoordinatorConfig, PeerConfig, SubmitterConfig, WorkerConfig
from zlb.core.events import Event, JobEnded
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.limits import MS, SECOND, SLICE_NS
from zlb.core.node import Node
from zlb.core.timers import NEVER
from zlb.core.work import Job, Record, StopRule
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import Submitter
from zlb.protocols.intervals import IntervalSet
from zlb.sim.cpu import Cpu
from zlb.sim.truth import Truth
from zlb.sim.world import World

RATE = 1000.0
SLICE = int(RATE * SLICE_NS / SECOND)
S = NodeId("s")


class Room:
    """One job, and peers with the roads between them: `known[i]` are those that peer i dials. All slots are alike."""

    def __init__(
        self,
        known: list[list[int]],
        reached: Iterable[int],
        size: int,
        offers_ns: dict[int, int] | None = None,
        sublet_ns: int = 2 * SECOND,
    ) -> None:
        self.truth = Truth([size // 3, size - 1])
        self.ended: JobEnded | None = None
        self.world = World(1, None, self._on_event)
        self.lost = 0
        """Integers that were searched by machines that died."""
        ends = [Endpoint(f"tcp://127.0.0.1:{7001 + i}") for i in range(len(known))]
        for i, others in enumerate(known):
            offer_ns = (offers_ns or {}).get(i, 2 * SECOND)
            self._add_peer(i, ends, others, WorkerConfig(offer_ns=offer_ns, sublet_ns=sublet_ns))
        job = Job(JobId("j"), "sha256", b"j", ((0, size),), StopRule.ALL, 0)
        self.size = size
        config = SubmitterConfig(
            coordinator=CoordinatorConfig(chunk_ns=5 * SECOND), explore=False, connect_ns=NEVER
        )

        def boot(incarnation: int, _disk: list[Record], dice: random.Random) -> Node:
            called = [ends[i] for i in reached]
            return Submitter(S, incarnation, "", called, job, self.truth.oracle, config, dice)

        self.world.add(S, boot, lambda: Cpu(0, 1.0, {}))

    def _add_peer(self, i: int, ends: list[Endpoint], others: list[int], config: WorkerConfig) -> None:
        name, known = NodeId(f"p{i}"), [ends[other] for other in others]

        def boot(incarnation: int, _disk: list[Record], dice: random.Random) -> Node:
            about = (
                name,
                incarnation,
                ends[i],
                ends[i],
                known,
                PeerConfig(worker=config),
                dice,
                {"sha256": RATE},
            )
            return Peer(*about, lambda _kernel, _params: self.truth.oracle)

        self.world.add(name, boot, lambda: Cpu(1, RATE, {b"j": self.truth}), listen=ends[i], returns=False)

    def _on_event(self, _node: NodeId, event: Event) -> None:
        if isinstance(event, JobEnded):
            self.ended = event

    def peer(self, i: int) -> Peer:
        node = self.world.machines[NodeId(f"p{i}")].node
        assert isinstance(node, Peer)
        return node

    @property
    def submitter(self) -> Submitter:
        node = self.world.machines[S].node
        assert isinstance(node, Submitter)
        return node

    @property
    def hashed(self) -> int:
        cpus = [machine.cpu for machine in self.world.machines.values()]
        return self.lost + sum(cpu.hashed(self.world.now) for cpu in cpus if cpu is not None)

    def kill(self, i: int) -> None:
        machine = self.world.machines[NodeId(f"p{i}")]
        assert machine.cpu is not None
        self.lost += machine.cpu.hashed(self.world.now)
        self.world.crash(machine)

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + int(seconds * SECOND))

    def finish(self, seconds: int = 600) -> JobEnded:
        until = self.world.now + seconds * SECOND
        while self.ended is None and self.world.now < until:
            self.run(0.25)
        assert self.ended is not None, "not done in time"
        return self.ended


def finished(peer: Peer) -> IntervalSet:
    """What a peer has finished, and not been told is kept."""
    done = IntervalSet()
    for job in peer.worker._jobs.values():
        spans = [
            span.span for out in job.reports.values() for part in out.message.parts for span in part.done
        ]
        spans += [(piece.start, piece.stop) for lease in job.leases.values() for piece in lease.pieces]
        for start, stop in [*spans, *job.orphans]:
            done.add(start, stop)
    return done


@pytest.mark.parametrize("length", [2, 3, 5, 8])
def test_in_a_chain_everybody_works_and_nothing_is_searched_twice(length: int) -> None:
    room = Room([[i - 1] if i else [] for i in range(length)], [0], length * 60_000)
    ended = room.finish()
    assert (ended.status, ended.hits, ended.done) == ("complete", 2, room.size)
    assert room.hashed == ended.tested == room.size and not ended.recomputed
    assert all(room.peer(i).worker.tested > 0 for i in range(length))
    assert [view.node for view in ended.workers] == ["p0"], "it is one fast worker to the submitter"


def test_a_tree_is_nearly_as_fast_as_if_all_were_reached() -> None:
    tree = Room([[], [0], [0], [1], [1], [2]], [0], 600_000).finish()
    full = Room([[]] * 6, range(6), 600_000).finish()
    assert tree.elapsed_ns < 1.25 * full.elapsed_ns


def test_nobody_is_offered_what_it_gets_from_the_submitter() -> None:
    room = Room([[], [0], [0, 1]], [0, 1, 2], 90_000)
    ended = room.finish()
    assert sorted(view.node for view in ended.workers) == ["p0", "p1", "p2"]
    assert all(not room.peer(i).worker.redistribution._children for i in range(3))


@pytest.mark.parametrize("dies_at", [7.0, 7.4, 8.3, 9.0, 9.75, 12.0])
def test_a_peer_in_the_middle_dies_and_only_what_it_had_searched_itself_is_lost(dies_at: float) -> None:
    # p1 is known to the submitter and passes the job on to p2 and p3, who know p0, too, which offers it later.
    room = Room([[], [], [1, 0], [1, 0]], [0, 1], 100_000, {0: 5 * SECOND, 1: 0})
    room.run(dies_at)
    parents = [room.peer(i).worker._jobs[JobId("j")].coordinator for i in (2, 3)]
    assert parents == ["p1", "p1"]
    leases = room.peer(1).worker._jobs[JobId("j")].leases.values()
    mine = [piece for lease in leases for piece in lease.pieces if piece.receipt is None]
    lost = sum(piece.stop - piece.start for piece in mine) + SLICE  # and what is in its slot
    assert finished(room.peer(2)) or finished(room.peer(3)), "there is something that may be lost"
    room.kill(1)
    ended = room.finish()
    assert (ended.status, ended.hits, ended.done) == ("complete", 2, room.size)
    assert room.hashed - room.size <= lost, "children keep what they have finished, and hand it over"
    assert room.peer(2).worker.tested > 20_000 and room.peer(3).worker.tested > 20_000, "they went on"


def test_orphans_that_reach_nobody_else_let_go_and_the_job_ends_without_them() -> None:
    room = Room([[], [0], [1]], [0], 120_000)
    room.run(12)
    assert room.peer(2).worker.tested
    room.kill(1)
    ended = room.finish()
    assert (ended.status, ended.done) == ("complete", room.size)
    room.run(30)
    assert room.peer(2).worker.jobs == []


def test_a_parent_that_is_asked_to_stop_loses_nothing_that_was_reported() -> None:
    room = Room([[], [0], [1, 0]], [0], 120_000, {0: 3 * SECOND, 1: 0})
    room.run(12)
    hashed = room.hashed
    room.world.call(room.world.now, NodeId("p1"), lambda node, now: node.on_stop(now))
    room.run(0.1)
    ended = room.finish()
    assert (ended.status, ended.done) == ("complete", room.size)
    # a slice of each slot below, and what was finished since the last report
    assert room.hashed - room.size <= 3 * RATE and hashed < room.hashed


def test_a_child_is_soon_idle_when_the_job_is_over() -> None:
    room = Room([[], [0], [1]], [0], 60_000, sublet_ns=200 * MS)
    room.finish()
    room.run(2)
    assert [room.peer(i).worker.jobs for i in range(3)] == [[], [], []]
