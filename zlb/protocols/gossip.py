"""Load adverts: publish our own, keep the freshest of each other node. The greatest (incarnation, sequence) wins."""

from __future__ import annotations

from zlb.core.config import GossipConfig
from zlb.core.effects import Effect
from zlb.core.ids import NodeId
from zlb.core.limits import SUBSCRIPTIONS_MAX
from zlb.core.load import Load
from zlb.core.message import Advert
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.wire.messages import LoadUpdate


class Freshness:
    """Tells new adverts from doubled, late and stale ones, for up to `bound` publishers."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._newest: dict[NodeId, tuple[int, int]] = {}

    def is_new(self, advert: Advert) -> bool:
        """Whether this advert is the newest of its node; it is from then on."""
        node, stamp = NodeId(advert.node), (advert.incarnation, advert.sequence)
        if node not in self._newest and len(self._newest) >= self.bound:
            return False
        if stamp <= self._newest.get(node, (-1, -1)):
            return False
        self._newest[node] = stamp
        return True

    def forget(self, node: NodeId) -> None:
        """The node left; should it return, it returns with a higher incarnation."""
        self._newest.pop(node, None)


class Gossip(Core):
    """Publishes this node's load every period and holds a view of the others', none older than `forget_ns`."""

    def __init__(self, me: NodeId, incarnation: int, config: GossipConfig) -> None:
        super().__init__()
        self.me, self.incarnation, self.config = me, incarnation, config
        self.sequence = 0
        self._publish_at = NEVER
        self._fresh = Freshness(SUBSCRIPTIONS_MAX)
        self._view: dict[NodeId, tuple[int, Load]] = {}

    def deadline(self) -> int:
        """ns; when the next advert is due."""
        return self._publish_at

    def on_start(self, now: int) -> list[Effect]:
        """The first advert is due at once."""
        self._publish_at = now
        return self._flush()

    def on_tick(self, now: int, load: Load) -> list[Effect]:
        """Publish `load` if it is time."""
        if now >= self._publish_at:
            self.sequence += 1
            self._publish(LoadUpdate(self.me, self.incarnation, self.sequence, *load))
            self._publish_at = now + self.config.period_ns
        return self._flush()

    def on_load_update(self, now: int, message: LoadUpdate) -> None:
        """Keep it, if it is the newest of its node."""
        if message.node != self.me and self._fresh.is_new(message):
            load = Load(message.load_ns, message.rate, message.queue, message.slots)
            self._view[NodeId(message.node)] = now, load

    def on_lost(self, node: NodeId) -> None:
        """The node left: its load says nothing any more."""
        self._view.pop(node, None)
        self._fresh.forget(node)

    def view(self, now: int) -> dict[NodeId, Load]:
        """The loads heard of within `forget_ns`."""
        return {node: load for node, (at, load) in self._view.items() if now - at <= self.config.forget_ns}
