"""Links to endpoints, given or told of: say HELLO until WELCOME comes, and now and then, notice silence, say GOODBYE.

```
 endpoint:   calling ──WELCOME──► linked ──silence, GOODBYE, REFUSED──► calling      (HELLO backs off, with jitter)
 dialled us: ──HELLO──► linked ──silence, GOODBYE──► forgotten                  (until the next HELLO)
```
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice

from zlb.core.config import NeighboursConfig
from zlb.core.effects import Effect
from zlb.core.errors import ErrorCode
from zlb.core.events import RESTARTED, NeighbourLost, NeighbourRefused, NeighbourUp
from zlb.core.ids import Endpoint, NodeId, is_endpoint
from zlb.core.limits import LINKS_MAX, NEIGHBOURS_TOLD_MAX
from zlb.core.message import Advert, Message
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.wire.messages import Goodbye, Hello, Refused, Welcome

EXPLORE_TRIES = 8
"""HELLOs to an endpoint we were only told of before it is given up: about ten seconds."""
ABOUT_JOBS = (ErrorCode.NOT_YOURS, ErrorCode.NOT_A_COORDINATOR, ErrorCode.STALE_EPOCH)
KEEP_ALIVES = 3
"""HELLOs to a tracker within one silence: neither side may have anything else to say for long. Others get one, so that
a link that only its dialler still believes in is mended."""
SWEEPS = 8
"""Looks at all neighbours within one silence: it is noticed at most an eighth late, and a step costs O(1)."""


@dataclass(slots=True)
class _Call:
    """An endpoint we want a link with; one we were only told of is given up after `tries` HELLOs without an answer."""

    hello_at: int
    wait_ns: int
    tries: int
    node: NodeId | None = None
    sought: bool = False
    """It is only called while there is reason to: not for ever."""


@dataclass(slots=True)
class _Neighbour:
    """A node we are linked with, its incarnation, where it can be dialled (or empty), its cluster (or empty)."""

    heard_at: int
    incarnation: int
    listen: str
    cluster: str


class Neighbours(Core):
    """Keeps links to `endpoints` and to whoever dials us.

    `listen` is where we can be dialled, `publish` where we can be subscribed to; either may be empty. With `explore`,
    endpoints that neighbours tell of are dialled too, up to `limits.LINKS_MAX` in all. A tracker names its
    `cluster`, and keeps no link with trackers of another.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        listen: str,
        publish: str,
        endpoints: Iterable[Endpoint],
        config: NeighboursConfig,
        rng: random.Random,
        explore: bool = False,
        cluster: str = "",
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.config = me, incarnation, config
        self.listen, self.publish, self.explore, self.cluster = listen, publish, explore, cluster
        self._rng = rng
        self._calls = {endpoint: _Call(NEVER, config.hello_ns_min, NEVER) for endpoint in endpoints}
        self._linked: dict[NodeId, _Neighbour] = {}
        self._dialable: dict[NodeId, str] = {}
        """Where others may dial our neighbours; `inproc` names mean nothing outside this process."""
        self._sweep_at = NEVER

    @property
    def linked(self) -> list[NodeId]:
        """Nodes the link to which works, in the order they came."""
        return list(self._linked)

    def is_linked(self, node: NodeId) -> bool:
        """Whether `node` has been welcomed, by either side."""
        return node in self._linked

    def listen_of(self, node: NodeId) -> str:
        """Where a neighbour can be dialled; empty if nowhere."""
        return self._linked[node].listen

    def cluster_of(self, node: NodeId) -> str:
        """The cluster that a neighbour is a tracker of; empty if it is none, or no neighbour."""
        return self._linked[node].cluster if node in self._linked else ""

    def call(self, now: int, endpoint: Endpoint) -> list[Effect]:
        """Keep a link with whoever listens there, too."""
        if endpoint in self._calls:
            self._calls[endpoint].tries, self._calls[endpoint].sought = NEVER, False
        elif not self._is_linked_at(endpoint):
            self._calls[endpoint] = call = _Call(now, self.config.hello_ns_min, NEVER)
            self._say_hello(now, endpoint, call)
        return self._flush()

    def seek(self, now: int, endpoint: Endpoint) -> list[Effect]:
        """Try to have a link with whoever listens there: not for ever, nor with more than `limits.LINKS_MAX`."""
        call = self._calls.get(endpoint)
        if (
            call is not None and call.node is None
        ):  # there is news of it: do not wait until the next call is due
            call.wait_ns, call.tries = self.config.hello_ns_min, max(call.tries, EXPLORE_TRIES)
            self._say_hello(now, endpoint, call)
        self._explore(now, endpoint)
        return self._flush()

    def release(self, wanted: Collection[Endpoint]) -> None:
        """Of those who were sought only these are still wanted; links with others stay as long as they last."""
        for endpoint in [at for at, call in self._calls.items() if call.sought and at not in wanted]:
            del self._calls[endpoint]

    def deadline(self) -> int:
        """ns; the next HELLO, or the next silence to be noticed."""
        hello_at = min((call.hello_at for call in self._calls.values()), default=NEVER)
        return min(hello_at, self._sweep_at)

    def on_start(self, now: int) -> list[Effect]:
        """Call every endpoint at once."""
        for endpoint, call in self._calls.items():
            self._say_hello(now, endpoint, call)
        self._sweep_at = now + self.config.silence_ns // SWEEPS
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Repeat HELLO where it is due; drop who fell silent."""
        if now >= self._sweep_at:
            self._sweep_at = now + self.config.silence_ns // SWEEPS
            for node, neighbour in list(self._linked.items()):
                if now - neighbour.heard_at >= self.config.silence_ns:
                    self._lose(now, node, "silent")
        for endpoint, call in list(self._calls.items()):
            if now >= call.hello_at and not call.tries:
                del self._calls[endpoint]
            elif now >= call.hello_at:
                self._say_hello(now, endpoint, call)
        return self._flush()

    def on_heard(self, now: int, node: NodeId, message: Message) -> None:
        """`message` came from `node`, whatever it says; an advert also tells whether the node was restarted."""
        neighbour = self._linked.get(node)
        if neighbour is not None:
            neighbour.heard_at = now
            if isinstance(message, Advert) and message.incarnation > neighbour.incarnation:
                self._call_again(now, node)

    def on_hello(self, now: int, src: NodeId, message: Hello) -> list[Effect]:
        """Welcome whoever dials us, as long as there is room."""
        if self._is_late(src, message.incarnation):
            return self._flush()
        if src != message.node:
            self._send(src, Refused(ErrorCode.MALFORMED, f"HELLO of {message.node} over the link of {src}"))
        elif why := self._wrong_cluster(message.cluster):
            self._send(src, Refused(ErrorCode.WRONG_CLUSTER, why))
        elif src not in self._linked and len(self._linked) >= self.config.neighbours_max:
            self._send(src, Refused(ErrorCode.FULL, f"{self.config.neighbours_max} neighbours already"))
        else:
            others = (listen for node, listen in self._dialable.items() if node != src)
            told = tuple(islice(others, NEIGHBOURS_TOLD_MAX))
            mine = self.me, self.incarnation, message.dialled, self.listen, self.publish
            self._send(src, Welcome(*mine, told, self.cluster))
            self._gain(now, src, message.incarnation, message.listen, message.cluster)
        return self._flush()

    def on_welcome(self, now: int, src: NodeId, message: Welcome) -> list[Effect]:
        """The listener at the endpoint `message.dialled` is `src`."""
        endpoint = Endpoint(message.dialled)
        call = self._calls.get(endpoint)
        if call is None or self._is_late(src, message.incarnation):
            return self._flush()
        if src == self.me:  # we dialled ourselves, by another name perhaps: not worth a link
            del self._calls[endpoint]
            return self._flush()
        if why := self._wrong_cluster(message.cluster):
            self._emit(NeighbourRefused(endpoint, ErrorCode.WRONG_CLUSTER, why))
            return self._flush()
        self._gain(now, src, message.incarnation, message.listen or endpoint, message.cluster)
        call.node, call.wait_ns, call.tries = src, self.config.hello_ns_min, NEVER
        call.hello_at = now + self.config.silence_ns // (KEEP_ALIVES if message.cluster else 1)
        if self.explore:
            for told in message.neighbours:
                self._explore(now, Endpoint(told))
        return self._flush()

    def on_goodbye(self, now: int, src: NodeId, message: Goodbye) -> list[Effect]:
        """`src` leaves."""
        if src in self._linked:
            self._lose(now, src, message.reason or "left")
        return self._flush()

    def on_refused(self, now: int, where: str, message: Refused) -> list[Effect]:
        """The listener at the endpoint `where`, or the node so called, refused us: tell, and keep calling slowly."""
        if message.code == ErrorCode.NOT_LINKED:
            self._call_again(now, NodeId(where))
            return self._flush()
        if message.code in ABOUT_JOBS:  # they happen when jobs change hands, and mend themselves
            return self._flush()
        self._emit(NeighbourRefused(where, message.code, message.detail))
        for endpoint, call in self._calls.items():
            if where == endpoint and call.node is None:
                call.hello_at = now + self.config.hello_ns_max
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Say goodbye to everyone, and call nobody any more."""
        for node in self._linked:
            self._send(node, Goodbye("stopped"))
        self._linked.clear()
        self._dialable.clear()
        self._calls.clear()
        self._sweep_at = NEVER
        return self._flush()

    def _call_again(self, now: int, node: NodeId) -> None:
        """It has forgotten us, or was restarted: its WELCOME will tell; if it was it that dialled us, we dial now."""
        soon = now + self.config.hello_ns_min
        calls = [call for call in self._calls.values() if call.node == node]
        for call in calls:
            call.hello_at = min(call.hello_at, soon)
        listen = Endpoint(self._linked[node].listen if node in self._linked else "")
        if not calls and listen and listen not in self._calls and len(self._calls) < LINKS_MAX:
            self._calls[listen] = _Call(soon, self.config.hello_ns_min, EXPLORE_TRIES, sought=True)

    def _say_hello(self, now: int, endpoint: Endpoint, call: _Call) -> None:
        mine = self.me, self.incarnation, endpoint, self.listen, self.publish
        self._send(endpoint, Hello(*mine, self.cluster))
        call.hello_at = now + call.wait_ns + self._rng.randrange(call.wait_ns)
        call.wait_ns = min(2 * call.wait_ns, self.config.hello_ns_max)
        call.tries -= 1

    def _wrong_cluster(self, theirs: str) -> str:
        """Why we do not belong together, in words; empty if nothing speaks against it."""
        if not self.cluster or not theirs or theirs == self.cluster:
            return ""
        return f"a tracker of cluster {theirs!r}, and this is one of cluster {self.cluster!r}"

    def _is_late(self, node: NodeId, incarnation: int) -> bool:
        """Whether it is of a process that another has followed."""
        return node in self._linked and incarnation < self._linked[node].incarnation

    def _gain(self, now: int, node: NodeId, incarnation: int, listen: str, cluster: str) -> None:
        known = self._linked.get(node)
        if known is not None and incarnation > known.incarnation:
            self._lose(now, node, RESTARTED)
        if node not in self._linked:
            self._emit(NeighbourUp(node))
        self._linked[node] = _Neighbour(now, incarnation, listen, cluster)
        if listen.startswith(("tcp://", "ipc://")):
            self._dialable[node] = listen
        else:
            self._dialable.pop(node, None)

    def _explore(self, now: int, endpoint: Endpoint) -> None:
        known = endpoint in self._calls or self._is_linked_at(endpoint)
        if is_endpoint(endpoint) and not known and len(self._calls) < LINKS_MAX:
            self._calls[endpoint] = call = _Call(now, self.config.hello_ns_min, EXPLORE_TRIES, sought=True)
            self._say_hello(now, endpoint, call)

    def _is_linked_at(self, endpoint: Endpoint) -> bool:
        return any(neighbour.listen == endpoint for neighbour in self._linked.values())

    def _lose(self, now: int, node: NodeId, reason: str) -> None:
        del self._linked[node]
        self._dialable.pop(node, None)
        self._emit(NeighbourLost(node, reason))
        for call in self._calls.values():
            if call.node == node:
                call.node, call.wait_ns = None, self.config.hello_ns_min
                call.tries = EXPLORE_TRIES if call.sought else NEVER
                call.hello_at = now + call.wait_ns
