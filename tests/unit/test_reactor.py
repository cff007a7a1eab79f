"""The law of the list, as the reactor keeps it: what follows a Persist waits for it, and records share a save."""

from typing import Any

import pytest
import zmq

from zlb.core.effects import Effect, Emit, Persist, Send
from zlb.core.events import Notice, Stopped
from zlb.core.ids import NodeId
from zlb.core.replica import Vote
from zlb.core.timers import NEVER
from zlb.drivers.reactor import Reactor

TO = NodeId("n-2")


class Recording:
    """Stands in for the bus, and for whoever saves and listens: what happened, in order."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.poller = zmq.Poller()

    def send(self, _to: NodeId, message: Any) -> None:
        self.happened.append(f"sent {message}")

    def save(self, records: list[Any]) -> None:
        self.happened.append([record.term for record in records])

    def on_event(self, event: Any) -> None:
        self.happened.append(type(event).__name__)

    def close(self) -> None:
        pass


class Still:
    """A node that does nothing by itself."""

    def deadline(self) -> int:
        return NEVER

    def on_start(self, _now: int) -> list[Effect]:
        return [Send(TO, "hello")]  # type: ignore[arg-type]


def drive(*steps: list[Effect]) -> list[Any]:
    """What happens when these steps are taken in one go."""
    world = Recording()
    reactor = Reactor(Still(), world, world.on_event, None, world.save)  # type: ignore[arg-type]
    for step in steps:
        reactor.call(lambda _now, step=step: step)  # type: ignore[misc]
    reactor.call(lambda _now: [Emit(Stopped())])
    reactor.run()
    return world.happened


def persist(term: int) -> Persist:
    return Persist(Vote(term, None))


def send(what: int) -> Send:
    return Send(TO, what)  # type: ignore[arg-type]


def test_what_follows_a_record_waits_for_it_and_records_are_saved_together() -> None:
    assert drive(
        [send(1), persist(1), send(2)], [Emit(Notice("")), persist(2), send(3), persist(3)], [send(4)]
    ) == ["sent hello", "sent 1", [1, 2, 3], "sent 2", "Notice", "sent 3", "sent 4", "Stopped"]


def test_without_records_nothing_waits_and_nothing_is_saved() -> None:
    assert drive([send(1)], [send(2)]) == ["sent hello", "sent 1", "sent 2", "Stopped"]


def test_what_could_not_be_saved_ends_the_process_with_nothing_said() -> None:
    world = Recording()

    def fail(_records: Any) -> None:
        raise OSError("no space left")

    reactor = Reactor(Still(), world, world.on_event, None, fail)  # type: ignore[arg-type]
    reactor.call(lambda _now: [persist(1), send(1)])
    with pytest.raises(OSError, match="no space"):
        reactor.run()
    assert world.happened == ["sent hello"]
