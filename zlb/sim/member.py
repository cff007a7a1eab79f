"""A replica as a node of the simulated world: a state machine that shows doubled commands, and a clock of its own."""

from __future__ import annotations

import msgspec

from zlb.core.effects import Effect, Emit, Send
from zlb.core.events import ReadConfirmed
from zlb.core.ids import Endpoint, NodeId, RunId
from zlb.core.message import Message
from zlb.core.node import Statistics
from zlb.core.work import Outcome
from zlb.protocols.raft.replica import Replica

State = dict[str, tuple[int, ...]]


class Lists:
    """The state machine of the simulator: lists under keys. A doubled command shows, for lists grow."""

    def __init__(self) -> None:
        self.lists: State = {}

    def apply(self, _time_ns: int, payload: bytes) -> bytes:
        """Append a value to the list of a key; the result is its length."""
        key, value = msgspec.msgpack.decode(payload, type=tuple[str, int])
        self.lists[key] = (*self.lists.get(key, ()), value)
        return msgspec.msgpack.encode(len(self.lists[key]))

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return msgspec.msgpack.encode(self.lists)

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        self.lists = msgspec.msgpack.decode(data, type=State)


class Clock:
    """What a machine takes for the time. It outlives the processes there."""

    def __init__(self, rate: float, offset: int) -> None:
        self._rate, self._offset = rate, offset

    def read(self, now: int) -> int:
        """What it says at `now`, the world's time."""
        return int(now * self._rate) + self._offset

    def when(self, local: int) -> int:
        """When it will say `local`, unless it jumps."""
        return int((local - self._offset) / self._rate) + 1

    def jump(self, by: int) -> None:
        """Go forward at once, as that of a virtual machine that slept; or back."""
        self._offset += by


class Member:
    """A replica that dials by endpoint and has a clock of its own."""

    def __init__(self, replica: Replica, lists: Lists, clock: Clock) -> None:
        self.replica, self.lists, self.clock = replica, lists, clock
        self.shown: dict[int, State] = {}
        """What a read saw, by token: the state after the step that confirmed it, which may still wait for a sync."""

    def deadline(self) -> int:
        """See `Node.deadline`."""
        return self.clock.when(self.replica.deadline())

    def on_start(self, now: int) -> list[Effect]:
        """See `Node.on_start`."""
        return self.dialled(self.replica.on_start(self.clock.read(now)))

    def on_tick(self, now: int) -> list[Effect]:
        """See `Node.on_tick`."""
        return self.dialled(self.replica.on_tick(self.clock.read(now)))

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        """See `Node.on_message`."""
        return self.dialled(self.replica.on_message(self.clock.read(now), src, message))

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """See `Node.on_done`; a replica runs nothing."""
        raise AssertionError("nothing was run")

    def on_stop(self, now: int) -> list[Effect]:
        """See `Node.on_stop`."""
        return []

    def statistics(self) -> Statistics:
        """See `Node.statistics`."""
        return {}

    def dialled(self, effects: list[Effect]) -> list[Effect]:
        """The effects of a step just taken, sent to endpoints instead of names."""
        for effect in effects:
            if isinstance(effect, Emit) and isinstance(effect.event, ReadConfirmed):
                self.shown.setdefault(effect.event.token, dict(self.lists.lists))
        return [
            Send(endpoint_of(effect.to), effect.message) if isinstance(effect, Send) else effect
            for effect in effects
        ]


def endpoint_of(name: str) -> Endpoint:
    """Where a replica of the simulation listens."""
    return Endpoint(f"inproc://{name}")
