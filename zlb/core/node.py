"""The shape of a node and of the cores it is composed of: one event in, ordered effects out."""

from collections.abc import Mapping
from typing import Protocol

from zlb.core.effects import Effect, Emit, Persist, Publish, Run, Send, Stop
from zlb.core.events import Event
from zlb.core.ids import Address, NodeId, RunId
from zlb.core.message import Advert, Message
from zlb.core.work import Outcome, Record, Work

Statistics = Mapping[str, int | float | str]


class Node(Protocol):
    """What a driver drives. Each step runs to completion and returns its effects in order."""

    def deadline(self) -> int:
        """ns; the driver calls `on_tick` no later than this."""

    def on_start(self, now: int) -> list[Effect]:
        """Called once, before anything else."""

    def on_tick(self, now: int) -> list[Effect]:
        """Called when the deadline has come; harmless when called early."""

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        """A message came over the link with `src`, or was published by it."""

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """The one answer to the `Run` of that id."""

    def on_stop(self, now: int) -> list[Effect]:
        """Wind up: hand back what is half done, say goodbye, then emit `Stopped`."""

    def statistics(self) -> Statistics:
        """A frozen snapshot for people and tests."""


class Core:
    """Collects effects, so that protocol code reads as if it acted: `self._send(to, message)`."""

    def __init__(self) -> None:
        self._out: list[Effect] = []

    def _send(self, to: Address, message: Message) -> None:
        self._out.append(Send(to, message))

    def _publish(self, message: Advert) -> None:
        self._out.append(Publish(message))

    def _persist(self, record: Record) -> None:
        self._out.append(Persist(record))

    def _run(self, run_id: RunId, work: Work) -> None:
        self._out.append(Run(run_id, work))

    def _stop(self, run_id: RunId) -> None:
        self._out.append(Stop(run_id))

    def _emit(self, event: Event) -> None:
        self._out.append(Emit(event))

    def _flush(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def flush(self) -> list[Effect]:
        """What has come together since it was asked last, for whoever composes this core."""
        return self._flush()
