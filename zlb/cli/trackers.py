"""Marries a client to a driver: commands ask the trackers through it, one thing after the other."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

import zmq

from zlb.cli import human
from zlb.core.config import ClientConfig
from zlb.core.effects import Effect
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import Answered, Event, NeighbourRefused, NeighbourUp, NoTracker
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import ENTRY_BYTES_MAX, MS, SECOND
from zlb.drivers.bus import Bus
from zlb.drivers.names import resolved
from zlb.drivers.reactor import Reactor, ReactorThread
from zlb.nodes.client import Client
from zlb.protocols import commands, queries, steering
from zlb.protocols.commands import Denied
from zlb.protocols.patron import SILENCE
from zlb.wire.tracking import AskKind, AskOutcome

T = TypeVar("T")

PATIENCE_NS = 10 * SECOND
"""Twice what any election takes: whoever has no answer by then is told why."""
CONNECT_NS = 3 * SECOND
"""Where no tracker has answered the first call by then, none is waited for any longer, as with peers."""
LOOK_NS = 50 * MS
"""Between two looks whether an answer is still wanted."""
TOO_LARGE = "it is too large: ranges and parameters together take 256 KiB at most"
OUTCOMES = {
    AskOutcome.TOO_LARGE: TOO_LARGE,
    AskOutcome.EXPIRED: "our session has expired; try again",
    AskOutcome.STALE: "our session has gone on; try again",
    AskOutcome.MALFORMED: "the trackers do not know that: are they of another version?",
}


class Trackers:
    """The trackers at `endpoints`. Every method blocks until answered, or raises `ZlbError`: UNREACHABLE with why
    nobody answers, FAILED with why it cannot be."""

    def __init__(self, endpoints: tuple[Endpoint, ...], patience_ns: int = PATIENCE_NS) -> None:
        self.endpoints, self.patience_ns = endpoints, patience_ns
        self.unwanted: Callable[[], bool] = lambda: False
        """Looked at while an answer is awaited: once true, it is given up, as if nobody answered."""
        self._answers: SimpleQueue[Answered] = SimpleQueue()
        self._why = self._silence = f"no tracker answers at {', '.join(endpoints)}"
        self._strangers: dict[str, None] = {}
        """Who answered and is no tracker."""
        self.linked = False
        """Whether any has ever answered."""
        self._connect_by = time.monotonic_ns() + min(CONNECT_NS, patience_ns)
        me = NodeId(f"u-{secrets.token_hex(4)}")
        bus = Bus(me, zmq.Context.instance(), None, None)
        self._client = Client(me, time.time_ns(), resolved(endpoints), ClientConfig(), random.Random())
        self._reactor = Reactor(self._client, bus, self._on_event)
        self._thread = ReactorThread(self._reactor, "trackers")

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, ZlbError):
            self._thread.join()

    def tell(self, command: commands.Command, once: bool = False) -> object | Denied:
        """Put a command into the log; its value, or why it had no effect. `once`: twice would do harm."""
        payload = commands.pack(command)
        ok, value = commands.unpack_result(self._ask(AskKind.COMMAND, payload, once=once))
        assert ok or isinstance(value, Denied)
        return value  # type: ignore[no-any-return]

    def ask(self, query: queries.Query, kind: type[T]) -> T | Denied:
        """The answer to a query, or why there is none."""
        return queries.read(self._ask(AskKind.QUERY, queries.ask(query)), kind)

    def steer(self, asked: steering.Steering) -> bytes:
        """Have the leader do something with the cluster."""
        return self._ask(AskKind.STEERING, steering.pack(asked))

    def state(self) -> steering.TrackerState:
        """How the leader is, or without one some tracker that answers."""
        state = steering.unpack_state(self.steer(steering.Tell()))
        if state.leader not in ("", state.node):  # now it is known who that is
            state = steering.unpack_state(self.steer(steering.Tell()))
        return state

    # -- helpers

    def _ask(self, kind: AskKind, payload: bytes, once: bool = False) -> bytes:
        by = time.monotonic_ns() + self.patience_ns
        numbers: SimpleQueue[int] = SimpleQueue()

        def step(now: int) -> list[Effect]:
            patron = self._client.patron
            numbers.put(patron.once(now, payload) if once else patron.ask(now, kind, payload))
            return []

        self._reactor.call(step)
        try:
            number = numbers.get(timeout=self.patience_ns / SECOND)
        except Empty:
            raise self._failure() from None
        while (now := time.monotonic_ns()) < by and not self._pointless(now):
            try:
                answered = self._answers.get(timeout=min(by - now, LOOK_NS) / SECOND)
            except Empty:
                continue
            if answered.number == number:
                return _unwrapped(answered)
        self._reactor.call(lambda now: self._client.patron.give_up(number) or [])  # type: ignore[func-returns-value]
        raise self._failure()

    def _pointless(self, now: int) -> bool:
        """Whether no answer will come, or nobody wants it."""
        if self.unwanted() or self._thread.failure is not None:
            return True
        all_strange = len(self._strangers) >= len(self.endpoints)
        return not self.linked and (all_strange or now >= self._connect_by)

    def _failure(self) -> BaseException:
        """Why there is no answer."""
        return self._thread.failure or ZlbError(self._why, ExitCode.UNREACHABLE)

    def _on_event(self, event: Event) -> None:
        """In the reactor's thread."""
        match event:
            case Answered():
                self._answers.put(event)
            case NeighbourUp(node) if self._client.neighbours.cluster_of(node):
                self.linked = True
            case NeighbourUp(node):
                self._strangers[node] = None
                self._why = f"{self._client.neighbours.listen_of(node) or node} is a peer, no tracker"
            case NoTracker(why) if why != SILENCE:
                self._why = why
            case NoTracker() if self.linked:
                self._why = self._silence
            case NeighbourRefused(where, _, detail):
                self._why = f"{where} refused: {detail}"


def require_fit(command: commands.Command) -> None:
    """Raise `ZlbError` (FAILED) for what no log takes, and perhaps not even a message."""
    size = len(commands.pack(command))
    if size > ENTRY_BYTES_MAX:
        raise ZlbError(f"{TOO_LARGE}, these {human.number(size / 1024)}", ExitCode.FAILED)


def denied(why: Denied, subject: str) -> ZlbError:
    """The trackers answer, and the answer is no."""
    return ZlbError(f"{why.value}: {subject}", ExitCode.FAILED)


def _unwrapped(answered: Answered) -> bytes:
    outcome = AskOutcome(answered.outcome)
    if outcome is AskOutcome.DONE:
        return answered.payload
    why = OUTCOMES.get(outcome) or answered.payload.decode(errors="replace")
    raise ZlbError(why, ExitCode.FAILED)
