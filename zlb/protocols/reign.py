"""What a leader of the tracker sees to: who joins and who is gone, who coordinates which job, where trackers listen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zlb.core.ids import JobId, NodeId
from zlb.core.limits import SECOND
from zlb.core.timers import NEVER
from zlb.protocols.commands import Assign, Command, Join, Leave, Listen, Status, Tick
from zlb.protocols.heartbeats import Heartbeats
from zlb.protocols.registry import PeerEntry, Registry
from zlb.wire.tracking import Beat

TICK_NS = 1 * SECOND


class Reign:
    """One term of leadership. Proposes commands for the log through `see_to`; reads `registry`, which others change.

    What was put into the log is not proposed again: it is committed, or we lead no longer.
    """

    def __init__(self, me: NodeId, registry: Registry, lease_ns: int) -> None:
        self.me, self.registry = me, registry
        self.heartbeats = Heartbeats(lease_ns)
        self._began = False
        self._proposals: list[Command] = []
        self._joining: dict[NodeId, Beat] = {}
        self._assigned: dict[JobId, int] = {}
        """The epoch last proposed."""
        self._listens: dict[NodeId, str] = {}
        """Where trackers listen, as last proposed."""
        self._seen = -1, -1
        self._tick_at = NEVER

    def deadline(self) -> int:
        """ns; when the next peer will have been silent too long, or jobs that have a deadline are to be looked at."""
        return min(self.heartbeats.deadline(), self._tick_at)

    def on_beat(self, now: int, beat: Beat) -> None:
        """A peer was heard."""
        node = NodeId(beat.node)
        self.heartbeats.beat(now, node)
        known = self.registry.peers.get(node)
        if known is not None and _same(known, beat):
            if self._joining.pop(node, None) is not None:
                self._seen = -1, -1  # it is entered, and may coordinate
        elif self._joining.get(node) != beat:
            self._joining[node] = beat
            self._proposals.append(Join(beat.node, beat.listen, beat.slots, beat.incarnation))

    def on_members(self, listens: Mapping[NodeId, str]) -> None:
        """These are the members of the cluster that can be dialled, and where."""
        for node, endpoint in listens.items():
            if self.registry.trackers.get(node) != endpoint:
                self.announce(node, endpoint)
        for node in self.registry.trackers:
            if node not in listens:
                self.announce(node, "")

    def announce(self, node: NodeId, endpoint: str) -> None:
        """A tracker listens there; or, without an endpoint, is none any more."""
        if self._listens.get(node) != endpoint:
            self._listens[node] = endpoint
            self._proposals.append(Listen(node, endpoint))

    def see_to(self, now: int) -> list[Command]:
        """What is to be put into the log now. Called only once all of earlier terms is applied."""
        if not self._began:  # only now is it known who is on the roster: each gets a lease
            self._began = True
            self.heartbeats.begin(now, self.registry.peers)
        gone = self.heartbeats.silent(now)
        if gone:
            for node in gone:
                self.heartbeats.forget(node)
                self._joining.pop(node, None)
            self._proposals.append(Leave(tuple(gone)))
        self._let_time_go_on(now)
        seen = self.registry.version, len(self.registry.peers)
        if seen != self._seen:
            self._seen = seen
            self._assign()
        proposals, self._proposals = self._proposals, []
        return proposals

    def put_off(self, command: Command) -> None:
        """The log does not take it now."""
        self._proposals.append(command)

    def on_denied(self, command: Command) -> None:
        """It is in the log, and had no effect: who was to coordinate left meanwhile, say."""
        if isinstance(command, Assign):
            self._assigned.pop(JobId(command.job), None)
            self._seen = -1, -1

    def heir(self, linked: Iterable[NodeId]) -> NodeId | None:
        """A tracker that can be handed leadership to."""
        return next((node for node in linked if node in self.registry.trackers and node != self.me), None)

    def _let_time_go_on(self, now: int) -> None:
        """Log time stands still without commands: not while jobs have deadlines."""
        if now < self._tick_at < NEVER:
            return
        if self._tick_at < NEVER:
            self._proposals.append(Tick())
        waits = any(entry.spec.within_ns for entry in self.registry.open_jobs.values())
        self._tick_at = now + TICK_NS if waits else NEVER

    def _assign(self) -> None:
        """Give each running job without a coordinator to the peer that coordinates fewest."""
        registry = self.registry
        if not registry.peers:
            return
        coordinated = {node: 0 for node, peer in registry.peers.items() if peer.endpoint}
        self._assigned = {job: epoch for job, epoch in self._assigned.items() if job in registry.open_jobs}
        without = []
        for job, entry in registry.open_jobs.items():
            if entry.coordinator in coordinated:
                coordinated[NodeId(entry.coordinator)] += 1
            elif entry.status is Status.RUNNING and self._assigned.get(job) != entry.epoch + 1:
                without.append((job, entry.epoch + 1))
        for job, epoch in without:
            if not coordinated:
                return
            node = min(coordinated, key=lambda node: (coordinated[node], -registry.peers[node].joined_at))
            coordinated[node] += 1
            self._assigned[job] = epoch
            self._proposals.append(Assign(job, node, epoch))


def _same(known: PeerEntry, beat: Beat) -> bool:
    return (known.incarnation, known.endpoint, known.slots) == (beat.incarnation, beat.listen, beat.slots)
