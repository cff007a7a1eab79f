"""A submitter: keeps links to peers and coordinates one job. It does not compute; peers pull from it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from zlb.core.config import SubmitterConfig
from zlb.core.effects import Effect, Emit
from zlb.core.events import JobEnded, NeighbourLost, NeighbourUp, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.message import Message
from zlb.core.node import Statistics
from zlb.core.timers import Timers
from zlb.core.work import Job, Oracle
from zlb.nodes.linked import LinkedNode
from zlb.protocols.coordinator import Coordinator
from zlb.protocols.neighbours import Neighbours
from zlb.protocols.trust import Trust
from zlb.wire.messages import JobAdvert, LoadUpdate, TaskProof, TaskReport, TaskRequest

CONNECT = "unreachable"
TIMEOUT = "timeout"
INTERRUPTED = "interrupted"
"""Why a submitter cancels its own job: the `detail` of its `JobEnded`, and the names of its timers."""


class Submitter(LinkedNode):
    """Sees `job` through with the peers at `endpoints` and, if it explores, those they know; stops by itself when that
    has ended."""

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        publish: str,
        endpoints: Iterable[Endpoint],
        job: Job,
        oracle: Oracle,
        config: SubmitterConfig,
        rng: random.Random,
        trust: Mapping[NodeId, Trust] | None = None,
    ) -> None:
        super().__init__()
        self.me, self.config = me, config
        self.neighbours = Neighbours(
            me, incarnation, "", publish, endpoints, config.neighbours, rng, config.explore
        )
        self.coordinator = Coordinator(me, incarnation, job, oracle, config.coordinator, rng, trust=trust)
        self.timers = Timers()
        self._stopped = False

    def deadline(self) -> int:
        """ns; the earliest of the parts."""
        return min(self.neighbours.deadline(), self.coordinator.deadline(), self.timers.next())

    def on_start(self, now: int) -> list[Effect]:
        """Call the peers, advertise the job."""
        self.timers.set(CONNECT, now + self.config.connect_ns)
        if self.config.timeout_ns is not None:
            self.timers.set(TIMEOUT, now + self.config.timeout_ns)
        self._absorb(now, self.neighbours.on_start(now))
        self._absorb(now, self.coordinator.on_start(now))
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Whatever is due."""
        for name in self.timers.due(now):
            self._absorb(now, self.coordinator.on_cancel(now, name))
        self._absorb(now, self.neighbours.on_tick(now))
        self._absorb(now, self.coordinator.on_tick(now))
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Cancel the job, if it is still open, and leave."""
        self._absorb(now, self.coordinator.on_cancel(now, INTERRUPTED))
        return self._flush()

    def statistics(self) -> Statistics:
        """Counters of this node."""
        return {
            "neighbours": len(self.neighbours.linked),
            "hits": self.coordinator.hits,
            "bad_hits": self.coordinator.foreman.bad_hits,
            "strange": self.coordinator.strange,
            "unexpected": self.unexpected,
        }

    def _on_linked(self, now: int, src: NodeId, message: Message) -> None:
        match message:
            case LoadUpdate() | JobAdvert():
                pass
            case TaskRequest():
                self._absorb(now, self.coordinator.on_task_request(now, src, message))
            case TaskReport():
                self._absorb(now, self.coordinator.on_task_report(now, src, message))
            case TaskProof():
                self._absorb(now, self.coordinator.on_task_proof(now, src, message))
            case _:
                self.unexpected += 1

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        """Pass the effects of a part on; what concerns another part goes there too."""
        for effect in effects:
            self._out.append(effect)
            if not isinstance(effect, Emit):
                continue
            match effect.event:
                case NeighbourUp(node):
                    self.timers.cancel(CONNECT)
                    self._absorb(now, self.coordinator.on_neighbour(now, node))
                case NeighbourLost(node, _):
                    self._absorb(now, self.coordinator.on_lost(now, node))
                case JobEnded() if not self._stopped:
                    self._stopped = True
                    self._absorb(
                        now, self.coordinator.on_tick(now)
                    )  # the last advert: nothing to lease any more
                    self._absorb(now, self.neighbours.on_stop(now))
                    self._emit(Stopped())
