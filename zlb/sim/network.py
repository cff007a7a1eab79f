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

Deliver = Callable[[int, NodeId, NodeId, Message], None]
"""Called with delay in ns, sender, receiver, message."""


class Network:
    """Decides what arrives, where, how late and how often. Calm once `weather` is None."""

    def __init__(self, weather: Weather | None, rng: random.Random, deliver: Deliver) -> None:
        self.weather = weather
        self.listeners: dict[Endpoint, NodeId] = {}
        self.lost = 0
        self.cut: Callable[[NodeId, NodeId], bool] = lambda _src, _receiver: False
        """Whether nothing gets from one node to another: a partition, perhaps in one direction only."""
        self._rng = rng
        self._deliver = deliver
        self._dialled: dict[tuple[NodeId, NodeId], None] = {}
        self._subscribed: dict[tuple[NodeId, NodeId], None] = {}
        """(publisher, subscriber): made by HELLO and WELCOME, as the bus does."""

    def send(self, src: NodeId, to: Address, message: Message) -> None:
        """`src` sends to a node it has a link with, or dials an endpoint."""
        receiver = self.listeners.get(Endpoint(to)) if is_endpoint(to) else NodeId(to)
        if receiver is None:
            self.lost += 1
            return
        if is_endpoint(to):
            self._dialled[src, receiver] = None
        if (src, receiver) in self._dialled or (receiver, src) in self._dialled:
            self._carry(src, receiver, message)
        else:
            self.lost += 1

    def publish(self, src: NodeId, message: Message) -> None:
        """To everyone who has heard HELLO or WELCOME from `src`, and lives."""
        for publisher, subscriber in list(self._subscribed):
            if publisher == src:
                self._carry(src, subscriber, message)

    def heard(self, src: NodeId, receiver: NodeId, message: Message) -> None:
        """A message has arrived: HELLO and WELCOME make the receiver subscribe."""
        if isinstance(message, Hello | Welcome):
            self._subscribed[src, receiver] = None

    def forget(self, subscriber: NodeId, publisher: NodeId) -> None:
        """`subscriber` has lost `publisher`, and unsubscribes."""
        self._subscribed.pop((publisher, subscriber), None)

    def crashed(self, node: NodeId) -> None:
        """The sockets `node` dialled with are gone; those that dialled it reconnect."""
        for pair in [pair for pair in self._dialled if pair[0] == node]:
            del self._dialled[pair]
        for pair in [pair for pair in self._subscribed if pair[1] == node]:
            del self._subscribed[pair]

    def _carry(self, src: NodeId, receiver: NodeId, message: Message) -> None:
        weather, rng = self.weather, self._rng
        message = decode(encode(message))  # what does not survive the wire must not survive here
        if self.cut(src, receiver):
            self.lost += 1
            return
        if weather is None:
            self._deliver(100_000, src, receiver, message)
            return
        copies = 0 if rng.random() < weather.loss else 1 + (rng.random() < weather.double)
        self.lost += copies == 0
        for _ in range(copies):
            self._deliver(rng.randint(weather.delay_ns_min, weather.delay_ns_max), src, receiver, message)
