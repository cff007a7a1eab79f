"""A tracker: a member of the cluster that replicates the registry, and what peers and clients see of it.

```
 TRACKER_REQUEST ─► log (leader) ─► applied ─► TRACKER_REPLY         HEARTBEAT ─► Heartbeats (leader) ─► Join, Leave
                 └► ReadIndex ─► answered here                       open jobs without a coordinator ─► Assign
```
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from zlb.core.config import TrackerConfig
from zlb.core.effects import Effect, Emit
from zlb.core.errors import ErrorCode
from zlb.core.events import CommandApplied, NeighbourLost, Notice, ReadConfirmed, RoleChanged, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import SECOND
from zlb.core.message import Message
from zlb.core.node import Statistics
from zlb.core.replica import Configuration, Saved, Snapshot
from zlb.core.timers import Timers
from zlb.nodes.linked import LinkedNode
from zlb.protocols import steering
from zlb.protocols.commands import Command, pack, unpack_result
from zlb.protocols.desk import Desk
from zlb.protocols.neighbours import Neighbours
from zlb.protocols.raft.machine import Refusal, Role
from zlb.protocols.raft.quorum import members
from zlb.protocols.raft.replica import Replica
from zlb.protocols.raft.sessions import Sessions, repeatable
from zlb.protocols.registry import Registry
from zlb.protocols.reign import Reign
from zlb.wire.messages import KINDS, Refused
from zlb.wire.replication import RequestVote
from zlb.wire.tracking import (
    Ask,
    AskOutcome,
    Beat,
    Heartbeat,
    HeartbeatAck,
    Heartbeats,
    Roster,
    RosterJob,
    TrackerRequest,
)

REPLICATION = tuple(kind for kind in KINDS.values() if kind.__module__ == RequestVote.__module__)
"""The messages for the replica."""
LOOK_NS = SECOND // 4
"""Between two looks of a leader at its cluster."""
ROSTER_NS = SECOND // 20
"""Changes within so long share a roster."""


def founded(founders: Configuration) -> Snapshot:
    """What each founder of a cluster keeps first: who they are, and a registry without anything in it."""
    return Snapshot(0, 0, 0, founders, Sessions(Registry(), 0).snapshot(), 0, False)


class Tracker(LinkedNode):
    """A member of `cluster`, or one that is to become one.

    `saved` is what it persisted before, beginning with `founded` if it is a founder; `endpoints` is where others
    of the cluster listen, as far as it was told.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        listen: str,
        cluster: str,
        endpoints: Mapping[NodeId, Endpoint],
        saved: Saved,
        config: TrackerConfig,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.me, self.listen, self.config = me, listen, config
        self.registry = Registry()
        sessions = Sessions(self.registry, config.session_ns)
        self.replica = Replica(me, saved, Configuration(()), sessions, config.raft, rng)
        known = [*endpoints.values(), *self.registry.trackers.values()]
        others = [endpoint for endpoint in dict.fromkeys(known) if endpoint != listen]
        self.neighbours = Neighbours(
            me, incarnation, listen, "", others, config.neighbours, rng, cluster=cluster
        )
        self.reign: Reign | None = None
        """What a leader sees to; only while we lead."""
        self._desk = Desk(self.replica, self.registry, self._on_steering, self._why_no_leader)
        self._timers = Timers()
        self._own: dict[int, Command] = {}
        """Commands of our reign, by index in the log."""
        self._beats: dict[NodeId, Beat] = {}
        """Heartbeats for the leader."""
        self._here: dict[NodeId, None] = {}
        """Peers that send their heartbeats here."""
        self._told = self.registry.version
        self._led = False
        """A leader that removed itself knows that it is no member, but has been one."""
        self._stopped = False

    # -- events

    def deadline(self) -> int:
        """ns; the earliest of the parts."""
        return min(self.neighbours.deadline(), self.replica.deadline(), self._timers.next())

    def on_start(self, now: int) -> list[Effect]:
        """Call the others, and follow until somebody leads."""
        self._absorb(now, self.neighbours.on_start(now))
        self._absorb(now, self.replica.on_start(now))
        self._settle(now)
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Whatever is due."""
        for name in self._timers.due(now):
            match name:
                case "look":
                    self._look(now)
                case "roster":
                    self._tell_roster()
                case "beats":
                    self._hand_over_beats()
                case "patience":
                    if self._desk.forget(now - self.config.patience_ns):
                        self._timers.set("patience", now + self.config.patience_ns)
                case "stop":
                    self._end(now)
        self._absorb(now, self.neighbours.on_tick(now))
        self._absorb(now, self.replica.on_tick(now))
        self._settle(now)
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Hand leadership over, if there is anyone to take it, and leave; a second later at the latest."""
        linked, voters = self.neighbours.linked, self.replica.configuration.voters
        heir = self.reign.heir(node for node in linked if node in voters) if self.reign is not None else None
        if heir is None or self.replica.transfer(now, heir) is not None:
            self._end(now)
        else:
            self._timers.set("stop", now + SECOND)
        return self._flush()

    def statistics(self) -> Statistics:
        """Counters of this node."""
        return {
            "neighbours": len(self.neighbours.linked),
            "term": self.replica.term,
            "committed": self.replica.committed,
            "peers": len(self.registry.peers),
            "jobs": len(self.registry.jobs),
            "unexpected": self.unexpected,
        }

    # -- messages

    def _on_linked(self, now: int, src: NodeId, message: Message) -> None:
        match message:
            case TrackerRequest():
                self._absorb(now, self._desk.on_tracker_request(now, src, message))
                if "patience" not in self._timers:
                    self._timers.set("patience", now + self.config.patience_ns)
            case Heartbeat():
                self._on_heartbeat(now, src, message)
            case _ if not self.neighbours.cluster_of(src):
                self.unexpected += 1
            case Heartbeats():
                if self.reign is not None:
                    for beat in message.beats:
                        self.reign.on_beat(now, beat)
            case _ if isinstance(message, REPLICATION):
                self._absorb(now, self.replica.on_message(now, src, message))
            case _:
                self.unexpected += 1

    def _on_refused(self, now: int, src: NodeId, message: Refused) -> None:
        if message.code != ErrorCode.REMOVED or not self.neighbours.cluster_of(src):
            super()._on_refused(now, src, message)
        elif self._led or self.me in members(self.replica.configuration):  # else we are to be added yet
            self._emit(Notice(f"{self.me} is no member of the cluster any more: {message.detail}"))
            self._end(now)

    # -- the cluster itself

    def _on_steering(self, now: int, src: NodeId, ask: Ask) -> None:
        try:
            asked = steering.unpack(ask.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._desk.reply(src, ask.number, AskOutcome.MALFORMED)
            return
        refusal: object = None
        payload = b""
        match asked:
            case steering.Tell():
                payload = msgspec.msgpack.encode(self._state())
            case steering.Cut():
                self._absorb(now, self.replica.cut())
            case steering.Add(node, endpoint):
                refusal = self.replica.add(now, NodeId(node))
                if not isinstance(refusal, Refusal) and self.reign is not None:
                    self.reign.announce(NodeId(node), endpoint)
                    self._absorb(now, self.neighbours.call(now, Endpoint(endpoint)))
            case steering.Remove(node):
                refusal = self.replica.remove(now, NodeId(node))
            case steering.Transfer(node):
                refusal = self.replica.transfer(now, NodeId(node))
        if isinstance(refusal, Refusal):
            self._desk.refuse(src, ask.number, refusal)
        else:
            self._desk.reply(src, ask.number, AskOutcome.DONE, payload)

    def _why_no_leader(self) -> str:
        """Who is missing, in words."""
        voters = self.replica.configuration.voters
        if not voters:
            return f"{self.me} is no member of the cluster yet"
        there = [voter for voter in voters if voter == self.me or self.neighbours.is_linked(voter)]
        missing = [voter for voter in voters if voter not in there]
        if 2 * len(there) > len(voters):
            return f"no leader yet: {self.me} reaches {len(there)} of {len(voters)} trackers"
        return f"no majority: {self.me} reaches {len(there)} of {len(voters)} trackers, {', '.join(missing)} missing"

    def _state(self) -> steering.TrackerState:
        replica, log = self.replica, self.replica.log
        configuration = replica.configuration
        progress = {} if replica.leader is None else replica.leader.progress
        return steering.TrackerState(
            node=self.me,
            cluster=self.neighbours.cluster,
            role=replica.role.value,
            term=replica.term,
            leader=replica.known_leader or "",
            members=tuple(
                steering.Member(
                    node=node,
                    endpoint=self._where(node),
                    votes=node in configuration.voters,
                    linked=node == self.me or self.neighbours.is_linked(node),
                    match=log.last if node == self.me else progress[node].match if node in progress else 0,
                )
                for node in members(configuration)
            ),
            first=log.first,
            last=log.last,
            committed=replica.committed,
            snapshot=0 if log.snapshot is None else log.snapshot.last_index,
            peers=len(self.registry.peers),
            open_jobs=len(self.registry.open_jobs),
            jobs=len(self.registry.jobs),
            waiting=self._desk.waiting,
        )

    def _where(self, node: NodeId) -> str:
        says = self.neighbours.listen_of(node) if self.neighbours.is_linked(node) else ""
        return self.listen if node == self.me else says or self.registry.trackers.get(node, "")

    # -- peers

    def _on_heartbeat(self, now: int, src: NodeId, heartbeat: Heartbeat) -> None:
        beat = Beat(src, heartbeat.incarnation, heartbeat.listen, heartbeat.slots)
        self._here[src] = None
        if self.reign is not None:
            self.reign.on_beat(now, beat)
        else:
            if not self._beats:
                self._timers.set("beats", now + self.config.beats_ns)
            self._beats[src] = beat
        if heartbeat.version != self.registry.version:
            self._send(src, self._roster())
        if self.replica.known_leader is not None:  # else nobody hears of it, and it had better go elsewhere
            self._send(src, HeartbeatAck(self.registry.version))

    def _hand_over_beats(self) -> None:
        beats, self._beats = tuple(self._beats.values()), {}
        if self.replica.known_leader not in (None, self.me):
            self._send(NodeId(str(self.replica.known_leader)), Heartbeats(beats))

    def _roster(self) -> Roster:
        registry = self.registry
        jobs = []
        for job, entry in registry.open_jobs.items():
            peer = registry.peers.get(NodeId(entry.coordinator))
            node, incarnation, listen = (
                ("", 0, "") if peer is None else (entry.coordinator, peer.incarnation, peer.endpoint)
            )
            jobs.append(RosterJob(job, entry.status, entry.epoch, entry.priority, node, incarnation, listen))
        return Roster(registry.version, tuple(registry.trackers.values()), tuple(jobs))

    def _tell_roster(self) -> None:
        roster = self._roster()
        for node in self._here:
            self._send(node, roster)

    # -- leading

    def _look(self, now: int) -> None:
        """A leader sees to its cluster: members, who listens where, learners that may vote."""
        if self.reign is None or self.replica.leader is None:
            return
        self._timers.set("look", now + LOOK_NS)
        replica, (at, configuration) = self.replica, self.replica.log.configuration
        listens = {node: where for node in members(configuration) if (where := self._where(node))}
        self.reign.on_members(listens | {self.me: self.listen})
        for learner in configuration.learners:
            replica.add(now, learner)  # to vote, if it has the log by now
        if at <= replica.committed:
            for node in self.neighbours.linked:
                if self.neighbours.cluster_of(node) and node not in members(configuration):
                    self._send(node, Refused(ErrorCode.REMOVED, f"{self.me} leads without it"))

    def _settle(self, now: int) -> None:
        """After each step: what it makes the leader propose, what the roster tells, replies."""
        leader = self.replica.leader
        if self.reign is not None and leader is not None and self.replica.committed >= leader.noop:
            self._propose(now, self.reign.see_to(now))
            self._timers.set("reign", self.reign.deadline())
        if self._told != self.registry.version:
            self._told = self.registry.version
            if "roster" not in self._timers:
                self._timers.set("roster", now + ROSTER_NS)
            for endpoint in self.registry.trackers.values():
                if endpoint != self.listen:
                    self._absorb(now, self.neighbours.call(now, endpoint))
        followed = self.replica.known_leader
        self._out += self._desk.settle("" if followed is None else self._where(followed))

    def _propose(self, now: int, commands: list[Command]) -> None:
        assert self.reign is not None
        for command in commands:
            placed = self.replica.propose(now, repeatable(pack(command)))
            if isinstance(placed, Refusal):
                self.reign.put_off(command)
            else:
                self._own[placed[0]] = command

    # -- what the parts tell

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Emit):
                self._out.append(effect)
                continue
            match effect.event:
                case CommandApplied(log_index, term, result):
                    self._on_applied(log_index, result)
                    self._desk.on_applied(log_index, term, result)
                case ReadConfirmed(token):
                    self._desk.on_confirmed(token)
                case RoleChanged(role, _, leader):
                    self._on_role(now, role)
                    self._desk.on_leader(leader, self._clients())
                    self._out.append(effect)
                case NeighbourLost(node, _):
                    self._here.pop(node, None)
                    self._beats.pop(node, None)
                    self._out.append(effect)
                case _:
                    self._out.append(effect)

    def _on_applied(self, log_index: int, result: object) -> None:
        """A command of our reign may have come too late."""
        own = self._own.pop(log_index, None)
        if own is not None and self.reign is not None:
            assert isinstance(result, bytes), "what a reign proposes needs no session"
            if not unpack_result(result)[0]:
                self.reign.on_denied(own)

    def _clients(self) -> list[NodeId]:
        """Whoever is linked with us and is no tracker."""
        return [node for node in self.neighbours.linked if not self.neighbours.cluster_of(node)]

    def _on_role(self, now: int, role: str) -> None:
        if role == Role.LEADER:
            self._led = True
            self.reign = Reign(self.me, self.registry, self.config.lease_ns)
            self._timers.set("look", now)
            return
        self.reign = None
        self._timers.cancel("reign")
        self._desk.on_deposed()
        self._own.clear()
        if role == Role.FOLLOWER and "stop" in self._timers:
            self._end(now)

    def _end(self, now: int) -> None:
        if not self._stopped:
            self._stopped = True
            self._absorb(now, self.neighbours.on_stop(now))
            self._emit(Stopped())
