"""One poll loop that drives one node: drains messages and finished runs, ticks in time, performs the effects."""

from __future__ import annotations

import socket as posix
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import zmq

from zlb.core.effects import Effect, Emit, Persist, Publish, Run, Send, Stop
from zlb.core.events import Event, NeighbourLost, Stopped
from zlb.core.limits import MS, SHUTDOWN_NS_MAX
from zlb.core.node import Node
from zlb.core.timers import NEVER
from zlb.core.work import Record
from zlb.drivers.bus import Bus
from zlb.drivers.workers import Workers

POLL_MS_MAX = 60_000
Step = Callable[[int], list[Effect]]


class Wakeup:
    """Lets other threads, and signal handlers, wake the poll: one byte in a socket pair however often it is rung."""

    def __init__(self) -> None:
        self.receiver, self._sender = posix.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        self._rung = False

    def ring(self) -> None:
        """Wake the reactor, soon."""
        if not self._rung:
            self._rung = True
            with suppress(OSError):  # full, so it will wake anyway; or closed, and nobody is to be woken
                self._sender.send(b"\0")

    def answer(self) -> None:
        """The reactor is awake: whoever rings from now on wakes it again.

        In this order: a ring between the two lines has left its work before, which is looked for next, while the
        other way round its byte would be eaten and every later ring be taken for rung already.
        """
        with suppress(BlockingIOError):
            self.receiver.recv(4096)
        self._rung = False

    def close(self) -> None:
        """Close both ends."""
        self.receiver.close()
        self._sender.close()


class Reactor:
    """Runs `node` over `bus` until it emits `Stopped`, or for `SHUTDOWN_NS_MAX` after `stop`.

    `on_event` gets every event the node emits, in this thread; `workers` performs runs; `save` makes records durable
    before it returns. Records of all that came in at once are saved at once: what follows the first of them in the
    effects, also of later steps, waits until then.
    """

    def __init__(
        self,
        node: Node,
        bus: Bus,
        on_event: Callable[[Event], None],
        workers: Workers | None = None,
        save: Callable[[Sequence[Record]], None] | None = None,
    ) -> None:
        self.node, self.bus, self.on_event, self.workers, self.save = node, bus, on_event, workers, save
        self._wakeup = Wakeup()
        self._steps: deque[Step] = deque()
        self._held: list[Effect] = []
        """Effects from the first `Persist` on that is not durable yet."""
        self._stopped = False
        self._stop_by = NEVER
        if workers is not None:
            workers.wake = self._wakeup.ring

    def call(self, step: Step) -> None:
        """From any thread or signal handler: let the node take a step, `step(now) -> effects`, soon."""
        self._steps.append(step)
        self._wakeup.ring()

    def stop(self) -> None:
        """From any thread or signal handler: let the node wind up and end."""
        self.call(self._on_stop)

    def run(self) -> None:
        """Drive the node to its end; then close the bus and the workers."""
        poller, wakeup_fd = self.bus.poller, self._wakeup.receiver.fileno()
        poller.register(wakeup_fd, zmq.POLLIN)
        try:
            self._perform(self.node.on_start(time.monotonic_ns()))
            self._make_durable()
            deadline = self.node.deadline()
            while not self._stopped:
                for socket, _ in poller.poll(self._wait_ms(deadline)):
                    if socket == wakeup_fd:
                        self._wakeup.answer()
                    else:
                        for src, message in self.bus.receive(socket):
                            self._perform(self.node.on_message(time.monotonic_ns(), src, message))
                self._take_steps()
                now, deadline = time.monotonic_ns(), self.node.deadline()
                if now >= deadline:
                    self._perform(self.node.on_tick(now))
                    deadline = self.node.deadline()
                if self._held:
                    self._make_durable()
                self._stopped = self._stopped or now >= self._stop_by
        finally:
            if self.workers is not None:
                self.workers.close()
            self.bus.close()
            self._wakeup.close()

    def _wait_ms(self, deadline: int) -> int:
        if self._steps:
            return 0
        wait_ns = min(deadline, self._stop_by) - time.monotonic_ns()
        return max(0, min(-(-wait_ns // MS), POLL_MS_MAX))

    def _take_steps(self) -> None:
        while self._steps:
            self._perform(self._steps.popleft()(time.monotonic_ns()))
        if self.workers is not None:
            while (done := self.workers.take()) is not None:
                self._perform(self.node.on_done(time.monotonic_ns(), *done))

    def _on_stop(self, now: int) -> list[Effect]:
        self._stop_by = min(self._stop_by, now + SHUTDOWN_NS_MAX)
        return self.node.on_stop(now)

    def _perform(self, effects: list[Effect]) -> None:
        """Perform effects in order, up to the first `Persist`; what follows it waits for `_make_durable`."""
        if self._held:
            self._held += effects
            return
        for number, effect in enumerate(effects):
            if type(effect) is Persist:
                self._held = effects[number:]
                return
            self._act(effect)

    def _make_durable(self) -> None:
        """Save all records that are held, together; then perform what waited for them."""
        held, self._held = self._held, []
        records = [effect.record for effect in held if type(effect) is Persist]
        if records:
            assert self.save is not None, "a node that persists needs a store"
            self.save(records)
        for effect in held:
            if type(effect) is not Persist:
                self._act(effect)

    def _act(self, effect: Effect) -> None:
        if type(effect) is Send:  # most are: worth not going through the cases below
            self.bus.send(effect.to, effect.message)
            return
        match effect:
            case Publish(message):
                self.bus.publish(message)
            case Run(run_id, work):
                assert self.workers is not None, "a node that runs work needs workers"
                self.workers.run(run_id, work)
            case Stop(run_id):
                assert self.workers is not None
                self.workers.stop(run_id)
            case Emit(event):
                self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case NeighbourLost(node, _) if not event.is_back:
                self.bus.forget(node)
            case Stopped():
                self._stopped = True
        self.on_event(event)


class ReactorThread:
    """A reactor in a thread of its own, as an embedded peer needs; its failure is raised by `join`."""

    def __init__(self, reactor: Reactor, name: str) -> None:
        self.reactor = reactor
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Stop the node, wait for its end, raise what ended it early."""
        self.reactor.stop()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            self.reactor.run()
        except BaseException as error:  # noqa: BLE001 - handed over to whoever joins
            self.failure = error
