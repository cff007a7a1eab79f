"""A peer: keeps links, tells its load, hears of jobs, and works on them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

from zlb.core.config import PeerConfig
from zlb.core.effects import Effect, Emit
from zlb.core.errors import ErrorCode
from zlb.core.events import NeighbourLost, Notice, Stopped
from zlb.core.ids import Endpoint, NodeId, RunId
from zlb.core.limits import SECOND, SUBSCRIPTIONS_MAX
from zlb.core.message import Message
from zlb.core.node import Core, Statistics
from zlb.core.timers import NEVER
from zlb.core.work import Failed, Measure, Measured, Outcome, Rate
from zlb.protocols.gossip import Freshness, Gossip
from zlb.protocols.neighbours import Neighbours
from zlb.protocols.worker import Worker
from zlb.wire import values
from zlb.wire.messages import (
    Goodbye,
    Hello,
    JobAdvert,
    JobClosed,
    LoadUpdate,
    Refused,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
    Welcome,
)

NO_HIT = values.pack({"difficulty": 256})
"""Parameters of a search that finds nothing: its rate is the kernel's."""


class Peer(Core):
    """Neighbours, gossip and a worker, which pulls only once its rate was measured, now or by an earlier process.

    `rates` are what an earlier run of this machine measured, by kernel; `listen` and `publish` are where we can be
    dialled and subscribed to, or empty.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        listen: str,
        publish: str,
        endpoints: Iterable[Endpoint],
        config: PeerConfig,
        rng: random.Random,
        rates: dict[str, float],
    ) -> None:
        super().__init__()
        self.me, self.config = me, config
        run_ids = itertools.count(1)
        self.neighbours = Neighbours(me, incarnation, listen, publish, endpoints, config.neighbours, rng)
        self.gossip = Gossip(me, incarnation, config.gossip)
        self.worker = Worker(me, incarnation, config.worker, run_ids)
        self.worker.rates.update(rates)
        self.worker.ready = config.measure_kernel in rates or not config.measure_kernel
        self._run_ids = run_ids
        self._measuring: RunId | None = None
        self.unexpected = 0
        """Messages no peer should get."""
        self._adverts = Freshness(SUBSCRIPTIONS_MAX)
        self._stop_at = NEVER
        self._stopped = False

    def deadline(self) -> int:
        """ns; the earliest of the parts."""
        return min(self.neighbours.deadline(), self.gossip.deadline(), self.worker.deadline(), self._stop_at)

    def on_start(self, now: int) -> list[Effect]:
        """Call the neighbours, measure."""
        self._absorb(now, self.neighbours.on_start(now))
        self._absorb(now, self.gossip.on_start(now))
        if self.config.measure_kernel:
            self._measuring = RunId(next(self._run_ids))
            slots, aim_ns = self.config.worker.slots, self.config.measure_ns
            self._run(self._measuring, Measure(self.config.measure_kernel, NO_HIT, slots, aim_ns))
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Whatever is due."""
        self._absorb(now, self.worker.on_tick(now))
        self._absorb(now, self.neighbours.on_tick(now))
        if now >= self.gossip.deadline():
            self._absorb(now, self.gossip.on_tick(now, self.worker.load()))
        self._stop_if_drained(now)
        return self._flush()

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        """Route a message to the part it concerns."""
        match message:
            case Hello():
                self._absorb(now, self.neighbours.on_hello(now, src, message))
            case Welcome():
                self._absorb(now, self.neighbours.on_welcome(now, src, message))
            case Refused():
                self._absorb(now, self.neighbours.on_refused(now, src, message))
            case _ if not self.neighbours.is_linked(src):
                self.unexpected += 1
                self._send(src, Refused(ErrorCode.NOT_LINKED, "say HELLO first"))
            case _:
                self.neighbours.on_heard(now, src, message)
                self._on_neighbours_message(now, src, message)
        self._stop_if_drained(now)
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """A run is over: the worker's, or the measurement's."""
        if run_id == self._measuring:
            self._measuring = None
            self._on_measured(now, outcome)
        else:
            self._absorb(now, self.worker.on_done(now, run_id, outcome))
        self._stop_if_drained(now)
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Give leases back, say goodbye, emit `Stopped`: within a second, acknowledged or not."""
        self._stop_at = min(self._stop_at, now + SECOND)
        self._absorb(now, self.worker.on_stop(now))
        if self._measuring is not None:
            self._stop(self._measuring)
        self._stop_if_drained(now)
        return self._flush()

    def statistics(self) -> Statistics:
        """Counters of this node."""
        return {
            "neighbours": len(self.neighbours.linked),
            "jobs": len(self.worker.jobs),
            "tested": self.worker.tested,
            "rate": self.worker.rates.get(self.config.measure_kernel, 0.0),
            "unexpected": self.unexpected,
        }

    def _on_neighbours_message(self, now: int, src: NodeId, message: Message) -> None:
        worker = self.worker
        match message:
            case TaskTransfer():
                self._absorb(now, worker.on_task_transfer(now, src, message))
            case TaskAck():
                self._absorb(now, worker.on_task_ack(now, src, message))
            case TaskCancel():
                self._absorb(now, worker.on_task_cancel(now, src, message))
            case JobClosed():
                self._absorb(now, worker.on_job_closed(now, src, message))
            case JobAdvert() | LoadUpdate() if message.node != src:
                self.unexpected += 1  # a claim to be somebody else
            case JobAdvert():
                if self._adverts.is_new(message):
                    self._absorb(now, worker.on_job_advert(now, message))
            case LoadUpdate():
                self.gossip.on_load_update(now, message)
            case Goodbye():
                self._absorb(now, worker.on_goodbye(now, src))
                self._absorb(now, self.neighbours.on_goodbye(now, src, message))
            case TaskRequest() | TaskReport():
                self.unexpected += 1
                self._send(src, Refused(ErrorCode.NOT_A_COORDINATOR, f"of job {message.job}"))
            case _:
                self.unexpected += 1

    def _on_measured(self, now: int, outcome: Outcome) -> None:
        """Believe the rate, and remember it; without one, work all the same: leases then start small."""
        kernel = self.config.measure_kernel
        match outcome:
            case Measured(per_s):
                self.worker.rates[kernel] = per_s
                self._persist(Rate(kernel, per_s))
                self._emit(
                    Notice(f"{per_s / 1e6:.1f} million integers a second and slot with kernel {kernel}")
                )
            case Failed(detail):
                self._emit(Notice(f"rate of kernel {kernel} not measured: {detail}"))
        self._absorb(now, self.worker.on_ready(now))

    def _stop_if_drained(self, now: int) -> None:
        """Once asked to stop: end when everything handed over is acknowledged, or when time is up."""
        if self._stop_at == NEVER or self._stopped:
            return
        if self.worker.drained or now >= self._stop_at:
            self._stopped = True
            self._stop_at = NEVER
            self._absorb(now, self.neighbours.on_stop(now))
            self._emit(Stopped())

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        """Pass the effects of a part on; what concerns another part goes there too."""
        self._out += effects
        for effect in effects:
            if isinstance(effect, Emit) and isinstance(effect.event, NeighbourLost):
                self.gossip.on_lost(effect.event.node)
                self._adverts.forget(effect.event.node)
