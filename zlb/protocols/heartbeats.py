"""Who of the roster still lives, as the leader of the tracker hears it. In memory: heartbeats never enter the log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from zlb.core.ids import NodeId
from zlb.core.timers import NEVER


class Heartbeats:
    """When each peer was heard last. A peer that is silent for `lease_ns` is to be taken off the roster.

    A new leader has heard nobody: it gives everyone on the roster one lease from when it began to lead.
    """

    def __init__(self, lease_ns: int) -> None:
        self.lease_ns = lease_ns
        self._heard: OrderedDict[NodeId, int] = OrderedDict()
        """The one that is silent longest comes first."""

    def begin(self, now: int, roster: Collection[NodeId]) -> None:
        """Everyone on the roster who was not heard yet gets a lease."""
        for node in sorted(roster):
            if node not in self._heard:
                self.beat(now, node)

    def beat(self, now: int, node: NodeId) -> None:
        """`node` was heard, itself or through another replica."""
        self._heard[node] = now
        self._heard.move_to_end(node)

    def forget(self, node: NodeId) -> None:
        """`node` is off the roster."""
        self._heard.pop(node, None)

    def deadline(self) -> int:
        """When the next one will have been silent too long."""
        first = next(iter(self._heard.values()), None)
        return NEVER if first is None else first + self.lease_ns

    def silent(self, now: int) -> list[NodeId]:
        """Who has been silent too long. They stay until they are forgotten: the log decides who is gone."""
        gone = []
        for node, heard_at in self._heard.items():
            if heard_at + self.lease_ns > now:
                break
            gone.append(node)
        return gone
