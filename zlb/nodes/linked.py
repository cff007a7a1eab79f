"""What all nodes share: links to neighbours, and that only neighbours are listened to."""

from __future__ import annotations

from zlb.core.effects import Effect
from zlb.core.errors import ErrorCode
from zlb.core.ids import NodeId, RunId
from zlb.core.message import Message
from zlb.core.node import Core
from zlb.core.work import Outcome
from zlb.protocols.neighbours import Neighbours
from zlb.wire.messages import Goodbye, Hello, Refused, Welcome


class LinkedNode(Core):
    """Routes what is about links to `neighbours`, and what neighbours say beyond that to `_on_linked`."""

    neighbours: Neighbours

    def __init__(self) -> None:
        super().__init__()
        self.unexpected = 0
        """Messages a node of this kind should not get."""

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        """Route a message to the part it concerns."""
        match message:
            case Hello():
                self._absorb(now, self.neighbours.on_hello(now, src, message))
            case Welcome():
                self._absorb(now, self.neighbours.on_welcome(now, src, message))
            case Refused():
                self._on_refused(now, src, message)
            case _ if not self.neighbours.is_linked(src):
                self.unexpected += 1
                self._send(src, Refused(ErrorCode.NOT_LINKED, "say HELLO first"))
            case Goodbye():
                self._on_goodbye(now, src)
                self._absorb(now, self.neighbours.on_goodbye(now, src, message))
            case _:
                self.neighbours.on_heard(now, src, message)
                self._on_linked(now, src, message)
        self._settle(now)
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """Most nodes run nothing; those that do say what follows."""
        raise AssertionError(f"{type(self).__name__} started no run {run_id}")

    def _on_linked(self, now: int, src: NodeId, message: Message) -> None:
        """A neighbour says something that is not about the link."""
        raise NotImplementedError

    def _on_refused(self, now: int, src: NodeId, message: Refused) -> None:
        self._absorb(now, self.neighbours.on_refused(now, src, message))

    def _on_goodbye(self, now: int, src: NodeId) -> None:
        """A neighbour leaves, which `neighbours` is told next."""

    def _settle(self, now: int) -> None:
        """Every step ends with this: what follows from it for the node as a whole."""

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        """Pass the effects of a part on; what concerns another part goes there too."""
        raise NotImplementedError
