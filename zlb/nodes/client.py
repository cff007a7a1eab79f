"""A client: asks the trackers for whoever sits in front of it, and does nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterable

from zlb.core.config import ClientConfig
from zlb.core.effects import Effect, Emit
from zlb.core.events import NeighbourLost, NeighbourUp, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.message import Message
from zlb.core.node import Statistics
from zlb.nodes.linked import LinkedNode
from zlb.protocols.neighbours import Neighbours
from zlb.protocols.patron import Patron
from zlb.wire.tracking import TrackerReply


class Client(LinkedNode):
    """Keeps links with the trackers at `endpoints` and those they tell of. Whoever runs it asks `patron`, and hears
    `Answered`."""

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        endpoints: Iterable[Endpoint],
        config: ClientConfig,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.me = me
        self.neighbours = Neighbours(me, incarnation, "", "", endpoints, config.neighbours, rng)
        self.patron = Patron(config.patron)

    def deadline(self) -> int:
        """ns; the earliest of the parts."""
        return min(self.neighbours.deadline(), self.patron.deadline())

    def on_start(self, now: int) -> list[Effect]:
        """Call the trackers."""
        self._absorb(now, self.neighbours.on_start(now))
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Whatever is due."""
        self._absorb(now, self.neighbours.on_tick(now))
        self._absorb(now, self.patron.on_tick(now))
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Leave."""
        self._absorb(now, self.neighbours.on_stop(now))
        self._emit(Stopped())
        return self._flush()

    def statistics(self) -> Statistics:
        """Counters of this node."""
        return {"neighbours": len(self.neighbours.linked), "unexpected": self.unexpected}

    def _on_linked(self, now: int, src: NodeId, message: Message) -> None:
        match message:
            case TrackerReply(_, where) if src in self.patron.trackers:
                if where:
                    self._absorb(now, self.neighbours.call(now, Endpoint(where)))
                self._absorb(now, self.patron.on_tracker_reply(now, src, message))
            case _:
                self.unexpected += 1

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        for effect in effects:
            self._out.append(effect)
            if not isinstance(effect, Emit):
                continue
            match effect.event:
                case NeighbourUp(node) if cluster := self.neighbours.cluster_of(node):
                    self._absorb(now, self.patron.on_tracker(now, node, cluster))
                case NeighbourLost(node, _):
                    self._absorb(now, self.patron.on_lost(now, node))
