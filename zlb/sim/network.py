"""Links and publications between simulated nodes: loss, delay, doubling, reordering; who can reach whom.

As with ZeroMQ, a dialler's socket reconnects by itself when its listener returns, while a listener can answer only
those who have dialled it since both last started.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zlb.core.ids import Address, Endpoint, NodeId, is_endpoint
from zlb.core.message import Message
from zlb.sim.weather import Weather
from zlb.wire.codec import decode, encode
from zlb.wire.messages import Hello, Welcome

CALM_DELAY_NS = 100_000
"""What a message takes in the calm: as in one room."""
Deliver = Callable[[int, NodeId, NodeId, Message], None]
"""Called with delay in ns, sender, receiver, message."""


class Network:
    """Decides what arrives, where, how late and how often. Calm once `weather` is None."""

    def __init__(
        self, weather: Weather | None, rng: random.Random, deliver: Deliver, coded_every: int = 1
    ) -> None:
        self.weather = weather
        self.sent = 0
        """Messages on their way, each publication once for each subscriber."""
        self.listeners: dict[Endpoint, NodeId] = {}
        self.lost = 0
        self.cut: Callable[[NodeId, NodeId], bool] = lambda _src, _receiver: False
        """Whether nothing gets from one node to another: a partition, perhaps in one direction only."""
        self.takes: Callable[[NodeId, NodeId], int] = lambda _src, _receiver: CALM_DELAY_NS
        """ns from one node to another when there is no weather."""
        self._rng = rng
        self._deliver = deliver
        self._to_code = 0
        self._coded_every = coded_every
        """Of so many messages one is encoded and decoded: all, unless speed matters more."""
        self._dialled: dict[NodeId, dict[NodeId, None]] = {}
        """Whom a node has dialled."""
        self._subscribers: dict[NodeId, dict[NodeId, None]] = {}
        """Of a publisher, in the order they came: made by HELLO and WELCOME, as the bus does."""
        self._subscriptions: dict[NodeId, dict[NodeId, None]] = {}
        """The same the other way round: the publishers of a subscriber."""

    def send(self, src: NodeId, to: Address, message: Message) -> None:
        """`src` sends to a node it has a link with, or dials an endpoint."""
        receiver = self.listeners.get(Endpoint(to)) if is_endpoint(to) else NodeId(to)
        if receiver is None:
            self.lost += 1
            return
        if is_endpoint(to):
            self._dialled.setdefault(src, {})[receiver] = None
        if receiver in self._dialled.get(src, ()) or src in self._dialled.get(receiver, ()):
            self._carry(src, receiver, self._coded(message))
        else:
            self.lost += 1

    def publish(self, src: NodeId, message: Message) -> None:
        """To everyone who has heard HELLO or WELCOME from `src`, and lives."""
        message = self._coded(message)
        for subscriber in self._subscribers.get(src, ()):
            self._carry(src, subscriber, message)

    def heard(self, src: NodeId, receiver: NodeId, message: Message) -> None:
        """A message has arrived: HELLO and WELCOME make the receiver subscribe."""
        if isinstance(message, Hello | Welcome):
            self._subscribers.setdefault(src, {})[receiver] = None
            self._subscriptions.setdefault(receiver, {})[src] = None

    def forget(self, subscriber: NodeId, publisher: NodeId) -> None:
        """`subscriber` has lost `publisher`, and unsubscribes."""
        self._subscribers.get(publisher, {}).pop(subscriber, None)
        self._subscriptions.get(subscriber, {}).pop(publisher, None)

    def crashed(self, node: NodeId) -> None:
        """The sockets `node` dialled with are gone; those that dialled it reconnect."""
        self._dialled.pop(node, None)
        for publisher in self._subscriptions.pop(node, ()):
            del self._subscribers[publisher][node]

    def _coded(self, message: Message) -> Message:
        """`message` as it comes out of the codec: what does not survive the wire must not survive here."""
        self._to_code -= 1
        if self._to_code > 0:
            return message
        self._to_code = self._coded_every
        return decode(encode(message))

    def _carry(self, src: NodeId, receiver: NodeId, message: Message) -> None:
        weather, rng = self.weather, self._rng
        self.sent += 1
        if self.cut(src, receiver):
            self.lost += 1
            return
        if weather is None:
            self._deliver(self.takes(src, receiver), src, receiver, message)
            return
        copies = 0 if rng.random() < weather.loss else 1 + (rng.random() < weather.double)
        self.lost += copies == 0
        for _ in range(copies):
            self._deliver(rng.randint(weather.delay_ns_min, weather.delay_ns_max), src, receiver, message)
