"""A peer's place on the tracker's roster: heartbeats to one tracker at a time, and the roster that comes back."""

from __future__ import annotations

import random

from zlb.core.config import TrackedConfig
from zlb.core.effects import Effect
from zlb.core.events import Notice, NoTracker, RosterKnown
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import NEIGHBOURS_TOLD_MAX, SECOND
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Contacts
from zlb.wire.tracking import Heartbeat, HeartbeatAck, Roster

WAIT_NS = 3 * SECOND
"""After the start, before a missing tracker is worth a word."""


class Enrolment(Core):
    """Says every `heartbeat_ns` that this peer lives; `roster` is the newest it was told.

    Emits `RosterKnown` with each new roster, and persists whom to dial should no tracker answer at the next start.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        listen: str,
        slots: int,
        config: TrackedConfig,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.listen, self.slots, self.config = (
            me,
            incarnation,
            listen,
            slots,
            config,
        )
        self.roster: Roster | None = None
        self._rng = rng
        self._trackers: dict[NodeId, None] = {}
        self._tracker: NodeId | None = None
        """To whom heartbeats go."""
        self._unanswered = False
        self._beat_at = NEVER
        self._contacts: Contacts | None = None

    def deadline(self) -> int:
        """ns; when the next heartbeat is due."""
        return self._beat_at

    def on_start(self, now: int, expected: bool) -> list[Effect]:
        """If trackers are `expected`, it is worth a word when none answers."""
        if expected:
            self._beat_at = now + WAIT_NS
        return self._flush()

    def on_tracker(self, now: int, node: NodeId) -> None:
        """A link with a tracker works."""
        self._trackers[node] = None
        if self._tracker is None:
            self._beat_at = now

    def on_lost(self, now: int, node: NodeId) -> None:
        """A tracker is gone."""
        self._trackers.pop(node, None)
        if node == self._tracker:
            self._tracker = None
            self._beat_at = now if self._trackers else NEVER

    def on_tick(self, now: int) -> list[Effect]:
        """The next heartbeat, to another tracker if the last one was not acknowledged."""
        if now < self._beat_at:
            return self._flush()
        if self._tracker is None or self._unanswered:
            others = [node for node in self._trackers if node != self._tracker]
            self._tracker = self._rng.choice(others) if others else self._tracker
        self._beat_at = now + self.config.heartbeat_ns if self._trackers else NEVER
        if not self._trackers:
            self._emit(NoTracker("no tracker answers yet; we go on trying"))
        if self._tracker is not None:
            version = 0 if self.roster is None else self.roster.version
            self._send(self._tracker, Heartbeat(self.incarnation, self.listen, self.slots, version))
            self._unanswered = True
        return self._flush()

    def on_heartbeat_ack(self, src: NodeId, _message: HeartbeatAck) -> None:
        """We are heard."""
        if src == self._tracker:
            self._unanswered = False

    def on_roster(self, message: Roster) -> list[Effect]:
        """Who is where; one that is older than what we know comes from a tracker that lags behind."""
        if self.roster is not None and message.version <= self.roster.version:
            return self._flush()
        if self.roster is None:
            self._emit(Notice(f"enrolled with {self._tracker}"))
        self.roster = message
        peers = dict.fromkeys(job.listen for job in message.jobs if job.listen and job.node != self.me)
        contacts = Contacts(
            tuple(map(Endpoint, message.trackers)), tuple(map(Endpoint, peers))[:NEIGHBOURS_TOLD_MAX]
        )
        if contacts != self._contacts:
            self._contacts = contacts
            self._persist(contacts)
        self._emit(RosterKnown(message.version))
        return self._flush()
