"""Links and publications over ZeroMQ: one ROUTER for those who dial us, a DEALER per endpoint dialled, XPUB and SUB.

Both directions flow over a link, whoever dialled it. Nothing here blocks: what cannot be sent is a lost message,
counted. What strangers send is decoded or counted, never raised. See docs/protocol.md, "Links".
"""

from __future__ import annotations

import os
import socket as posix
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import zmq

from zlb.core import endpoints
from zlb.core.errors import ErrorCode, ExitCode, RemoteProtocolError, ZlbError
from zlb.core.ids import Address, Endpoint, NodeId, is_endpoint
from zlb.core.limits import (
    BACKLOG,
    DRAIN_MAX,
    FRAME_BYTES_MAX,
    LINKS_MAX,
    NODE_ID_BYTES_MAX,
    SEND_QUEUE_MAX,
    SUBSCRIPTIONS_MAX,
    TEXT_BYTES_MAX,
)
from zlb.core.message import Advert, Message
from zlb.wire import codec
from zlb.wire.messages import Goodbye, Hello, JobAdvert, LoadUpdate, Refused, Welcome

HEARTBEAT_MS = 2_000
"""ZMTP ping: finds connections that died without a word. Three go unanswered before one is cut."""
RECONNECT_MS = 100
RECONNECT_MS_MAX = 2_000
LINGER_MS = 300
"""How long a closing socket may still try to deliver a goodbye."""

DONTWAIT, SNDMORE = int(zmq.DONTWAIT), int(zmq.SNDMORE)
"""As plain integers: pyzmq's enum flags cost more than a microsecond a call."""
LINK_MESSAGES = (Hello, Welcome, Goodbye)
"""What the bus itself takes note of."""

Arrival = tuple[NodeId, Message]


class _Link(NamedTuple):
    """The way to a node: over our DEALER, or over the ROUTER under its routing id."""

    socket: zmq.Socket[bytes]
    routing_id: bytes | None


class Bus:
    """The sockets of node `me`. `listen` and `publish` become the endpoints really bound, or stay None.

    Raises `ZlbError` (BIND) when an endpoint cannot be bound, (USAGE) when it may not: without keys, nothing but this
    machine may reach us, unless `insecure`.
    """

    def __init__(
        self,
        me: NodeId,
        context: zmq.Context[zmq.Socket[bytes]],
        listen: Endpoint | None,
        publish: Endpoint | None,
        insecure: bool = False,
    ) -> None:
        self.me, self.insecure = me, insecure
        self.sent = self.received = 0
        self.counts: Counter[str] = Counter()
        """What went wrong: messages `lost` (could not be sent), refused ones by their `ErrorCode`, and the like."""
        self._context = context
        self._links: dict[Address, _Link] = {}
        self._dealers: dict[Endpoint, zmq.Socket[bytes]] = {}
        self._dialled: dict[zmq.Socket[bytes], tuple[Endpoint, NodeId]] = {}
        """What each of our DEALERs dialled, and who answered: until WELCOME, the endpoint stands for the node."""
        self._names: dict[bytes | zmq.Socket[bytes], NodeId] = {}
        """Who is at the other end, by routing id or DEALER: spares a look at the id of every message."""
        self._publishers: dict[NodeId, str] = {}
        self._newest: dict[bytes, bytes] = {}
        self.poller = zmq.Poller()
        self._router = self._xpub = None
        self._sub = self._socket(zmq.SUB)
        for kind in (LoadUpdate, JobAdvert):
            self._sub.subscribe(codec.topic(kind))
        try:
            if listen is not None:
                self._router = self._socket(zmq.ROUTER)
                self._router.router_handover = 1
                self._router.router_mandatory = 1
                listen = self._bind(self._router, listen)
            if publish is not None:
                self._xpub = self._socket(zmq.XPUB)
                publish = self._bind(self._xpub, publish)
        except ZlbError:
            self.close()
            raise
        self.listen, self.publish_endpoint = listen, publish

    # -- sending

    def send(self, to: Address, message: Message) -> None:
        """Send over the link with `to`, dialling first if it is an endpoint without one."""
        link = self._links.get(to)
        if link is None and is_endpoint(to):
            dealer = self._dealers.get(Endpoint(to)) or self._dial(Endpoint(to))
            link = None if dealer is None else _Link(dealer, None)
        if link is None:
            self.counts["lost"] += 1
        else:
            self._send_frame(link, codec.encode(message))

    def publish(self, message: Advert) -> None:
        """Send to all subscribers; if we cannot be subscribed to, hand it to all links instead."""
        frame = codec.encode(message)
        if self._xpub is not None:
            self._newest[frame[: codec.HEADER_BYTES]] = frame
            self._xpub.send(frame, DONTWAIT)
            self.sent += 1
        else:
            for link in self._links.values():
                self._send_frame(link, frame)

    def forget(self, node: NodeId) -> None:
        """`node` is gone: unsubscribe. A link we dialled stays, and reconnects should its listener return."""
        endpoint = self._publishers.pop(node, None)
        if endpoint is not None:
            self._unsubscribe(endpoint)
        link = self._links.get(node)
        if link is not None and link.routing_id is not None:
            del self._links[node]
            self._names.pop(link.routing_id, None)

    def close(self) -> None:
        """Close all sockets; what is queued gets `LINGER_MS`."""
        for socket in (self._router, self._xpub, self._sub, *self._dealers.values()):
            if socket is not None:
                socket.close(LINGER_MS)
        self._dealers.clear()

    # -- receiving

    def receive(self, socket: zmq.Socket[bytes]) -> Iterator[Arrival]:
        """Drain a readable socket, at most `DRAIN_MAX` messages; what is no message is counted and left out."""
        routed = socket is self._router
        for _ in range(DRAIN_MAX):
            try:
                routing_id = socket.recv(DONTWAIT) if routed else None
                part = socket.recv(
                    DONTWAIT, copy=False
                )  # as a frame it knows, for nothing, whether more follow
            except zmq.Again:
                return
            frame = part.bytes
            if socket is self._xpub:
                self._on_subscription(frame)
                continue
            try:
                if part.more:
                    raise _surplus_frames(socket)
                message = codec.decode(frame)
                src = self._names.get(routing_id or socket)
                if src is None or type(message) in LINK_MESSAGES:
                    src = self._source(socket, routing_id, message)
            except RemoteProtocolError as error:
                self._refuse(socket, routing_id, frame, error)
                continue
            self.received += 1
            yield src, message

    def _source(self, socket: zmq.Socket[bytes], routing_id: bytes | None, message: Message) -> NodeId:
        """Who sent it; notes links and subscriptions on the way, as HELLO and WELCOME tell of them."""
        if socket is self._sub:
            if not isinstance(message, Advert) or message.node not in self._publishers:
                raise RemoteProtocolError(
                    ErrorCode.MALFORMED, "published, but no advert of a node we listen to"
                )
            return NodeId(message.node)
        if routing_id is not None:
            src = _node_id(routing_id)
            if isinstance(message, Hello):
                self._links[src] = _Link(socket, routing_id)
                self._names[routing_id] = src
                self._subscribe(src, message.publish)
            self._links.setdefault(src, _Link(socket, routing_id))
        else:
            endpoint, src = self._dialled[socket]
            if isinstance(message, Welcome):
                src = NodeId(message.node)
                self._dialled[socket] = endpoint, src
                self._names[socket] = src
                self._links[src] = _Link(socket, None)
                self._subscribe(src, message.publish)
        if isinstance(message, Goodbye):
            self.forget(src)
        return src

    def _refuse(
        self, socket: zmq.Socket[bytes], routing_id: bytes | None, frame: bytes, error: RemoteProtocolError
    ) -> None:
        self.counts[error.code.name] += 1
        if socket is not self._sub and codec.is_ours(frame) and not codec.is_refused(frame):
            self._send_frame(
                _Link(socket, routing_id),
                codec.encode(Refused(error.code, error.detail[: TEXT_BYTES_MAX // 4])),
            )

    def _on_subscription(self, frame: bytes) -> None:
        """Last-value cache: whoever subscribes late hears at once what was said last."""
        if frame[:1] == b"\x01" and frame[1:] in self._newest and self._xpub is not None:
            self._xpub.send(self._newest[frame[1:]], DONTWAIT)

    # -- sockets

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = LINGER_MS
        socket.sndhwm = socket.rcvhwm = SEND_QUEUE_MAX
        socket.maxmsgsize = FRAME_BYTES_MAX
        socket.backlog = BACKLOG
        socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT_MS, 3 * HEARTBEAT_MS
        socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS, RECONNECT_MS_MAX
        self.poller.register(socket, zmq.POLLIN)
        return socket

    def _bind(self, socket: zmq.Socket[bytes], endpoint: Endpoint) -> Endpoint:
        try:
            parts = endpoints.parse(endpoint)
        except ValueError as error:
            raise ZlbError(str(error), ExitCode.USAGE) from None
        if not self.insecure and not endpoints.is_local(endpoint):
            text = f"without keys only this machine may reach a peer, and {endpoint} is open to others: "
            raise ZlbError(text + "listen on 127.0.0.1, or say --insecure", ExitCode.USAGE)
        if parts.transport == "ipc" and _is_served(parts.address):  # libzmq would take the path over silently
            raise ZlbError(f"{endpoint} is in use: another process listens there", ExitCode.BIND)
        socket.ipv6 = "[" in endpoint  # else libzmq would name 127.0.0.1 as an IPv6 address
        try:
            socket.bind(endpoint.replace("//localhost:", "//127.0.0.1:"))
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE:
                text = f"{endpoint} is in use: another process listens there"
                if parts.transport == "tcp":
                    text += "; choose another port, or * for any that is free"
                raise ZlbError(text, ExitCode.BIND) from None
            raise ZlbError(f"cannot listen on {endpoint}: {error.strerror}", ExitCode.BIND) from None
        bound = socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        return Endpoint(bound.rstrip(b"\0").decode())

    def _dial(self, endpoint: Endpoint) -> zmq.Socket[bytes] | None:
        try:
            endpoints.parse(endpoint)
            if len(self._dealers) >= LINKS_MAX and not self._hang_up():
                return None
            dealer = self._socket(zmq.DEALER)
            dealer.routing_id = self.me.encode()
            dealer.ipv6 = "[" in endpoint
            dealer.connect(endpoint.replace("//localhost:", "//127.0.0.1:"))
        except (ValueError, zmq.ZMQError):
            self.counts["undialled"] += 1
            return None
        self._dealers[endpoint] = dealer
        self._dialled[dealer] = endpoint, NodeId(endpoint)
        return dealer

    def _hang_up(self) -> bool:
        """Close the oldest dealer that nobody ever answered, to make room for another; False if all were."""
        for endpoint, dealer in self._dealers.items():
            if self._dialled[dealer][1] not in self._links:
                self.poller.unregister(dealer)
                dealer.close(0)
                del self._dealers[endpoint], self._dialled[dealer]
                return True
        return False

    def _subscribe(self, node: NodeId, endpoint: str) -> None:
        if not endpoint or self._publishers.get(node) == endpoint:
            return
        try:
            allowed = self.insecure or endpoints.is_local(endpoint)
            if not allowed or (node not in self._publishers and len(self._publishers) >= SUBSCRIPTIONS_MAX):
                self.counts["unsubscribed"] += 1
                return
            self._sub.ipv6 = "[" in endpoint
            self._sub.connect(endpoint)
        except (ValueError, zmq.ZMQError):
            self.counts["unsubscribed"] += 1
            return
        former = self._publishers.get(node)
        if former is not None:
            self._unsubscribe(former)
        self._publishers[node] = endpoint

    def _unsubscribe(self, endpoint: str) -> None:
        with suppress(zmq.ZMQError):  # an inproc endpoint ends with its socket: nothing is left to disconnect
            self._sub.disconnect(endpoint)

    def _send_frame(self, link: _Link, frame: bytes) -> None:
        try:
            if link.routing_id is not None:
                link.socket.send(link.routing_id, DONTWAIT | SNDMORE)
            link.socket.send(frame, DONTWAIT)
            self.sent += 1
        except zmq.ZMQError:  # queue full, or the dialler is gone
            self.counts["lost"] += 1


def _surplus_frames(socket: zmq.Socket[bytes]) -> RemoteProtocolError:
    """Take the rest of a message of several frames out of the way."""
    while socket.getsockopt(zmq.RCVMORE):
        socket.recv(DONTWAIT)
    return RemoteProtocolError(ErrorCode.MALFORMED, "a message is one frame")


def _node_id(routing_id: bytes) -> NodeId:
    if not 1 <= len(routing_id) <= NODE_ID_BYTES_MAX or any(not 33 <= byte <= 126 for byte in routing_id):
        raise RemoteProtocolError(ErrorCode.MALFORMED, "the routing id is no node id")
    name = routing_id.decode("ascii")
    if is_endpoint(name):
        raise RemoteProtocolError(ErrorCode.MALFORMED, "the routing id is an endpoint")
    return NodeId(name)


def _is_served(path: str) -> bool:
    if not os.path.exists(path):
        return False
    with posix.socket(posix.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
