"""A peer: keeps links, tells its load, hears of jobs, works on them, and coordinates those a tracker gives it."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterable

from zlb.core.config import PeerConfig
from zlb.core.effects import Effect, Emit, Publish, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import Answered, Event, NeighbourLost, NeighbourUp, Notice, RosterKnown, Stopped
from zlb.core.ids import Endpoint, JobId, NodeId, RunId
from zlb.core.limits import SECOND, SUBSCRIPTIONS_MAX
from zlb.core.message import Message
from zlb.core.node import Statistics
from zlb.core.timers import NEVER
from zlb.core.work import Checker, Failed, Measure, Measured, Outcome, Rate
from zlb.nodes.linked import LinkedNode
from zlb.protocols import commands
from zlb.protocols.coordinators import Coordinators
from zlb.protocols.enrolment import Enrolment
from zlb.protocols.gossip import Freshness, Gossip
from zlb.protocols.neighbours import Neighbours
from zlb.protocols.patron import Patron
from zlb.protocols.trust import Trust
from zlb.protocols.worker import Worker, cannot_check
from zlb.wire import values
from zlb.wire.messages import (
    JobAdvert,
    JobClosed,
    LoadUpdate,
    Refused,
    TaskAck,
    TaskCancel,
    TaskProof,
    TaskProve,
    TaskReport,
    TaskRequest,
    TaskShrink,
    TaskTransfer,
)
from zlb.wire.tracking import AskKind, HeartbeatAck, Roster, TrackerReply

NO_HIT = values.pack({"difficulty": 256})
"""Parameters of a search that finds nothing: its rate is the kernel's."""


class Peer(LinkedNode):
    """Neighbours, gossip and a worker, which pulls only once its rate was measured, now or by an earlier process; and,
    where there are trackers, a place on their roster and the jobs they give us to coordinate.

    `rates` are what an earlier run of this machine measured, by kernel; `listen` and `publish` are where we can be
    dialled and subscribed to, or empty. `endpoints` are of peers and trackers alike: which is which they tell.
    `checker` knows how results of jobs we coordinate are checked, `trust` what earlier jobs have told of workers.
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
        checker: Checker = cannot_check,
        trust: dict[NodeId, Trust] | None = None,
    ) -> None:
        super().__init__()
        self.me, self.config = me, config
        run_ids = itertools.count(1)
        slots = config.worker.slots
        self.neighbours = Neighbours(me, incarnation, listen, publish, endpoints, config.neighbours, rng)
        self.gossip = Gossip(me, incarnation, config.gossip)
        adverts = itertools.count(1)
        """Of jobs, our own and those we pass on: whoever hears them knows only which of ours is the newest."""
        self.worker = Worker(me, incarnation, config.worker, run_ids, adverts, checker, rng)
        self.worker.rates.update(rates)
        self.worker.ready = config.measure_kernel in rates or not config.measure_kernel
        self.patron = Patron(config.tracked.patron)
        self.enrolment = Enrolment(me, incarnation, listen, slots, config.tracked, rng)
        self.coordinators = Coordinators(
            me, incarnation, checker, config.tracked, self.patron, rng, adverts, trust
        )
        self._run_ids = run_ids
        self._measuring: RunId | None = None
        self._adverts = Freshness(SUBSCRIPTIONS_MAX)
        self._to_me: deque[Message] = deque()
        """What our coordinators and our worker say to each other."""
        self._leaving = 0
        """The ask that takes us off the roster."""
        self._stop_at = NEVER
        self._stopped = False

    def deadline(self) -> int:
        """ns; the earliest of the parts."""
        return min(self._stop_at, *(part.deadline() for part in self._parts))

    def on_start(self, now: int) -> list[Effect]:
        """Call the neighbours, measure."""
        self._absorb(now, self.neighbours.on_start(now))
        self._absorb(now, self.gossip.on_start(now))
        self._absorb(now, self.enrolment.on_start(now, self.config.expects_tracker))
        if self.config.measure_kernel:
            self._measuring = RunId(next(self._run_ids))
            slots, aim_ns = self.config.worker.slots, self.config.measure_ns
            self._run(self._measuring, Measure(self.config.measure_kernel, NO_HIT, slots, aim_ns))
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Whatever is due."""
        self._absorb(now, self.worker.on_tick(now))
        self._absorb(now, self.coordinators.on_tick(now))
        self._absorb(now, self.enrolment.on_tick(now))
        self._absorb(now, self.patron.on_tick(now))
        self._absorb(now, self.neighbours.on_tick(now))
        if now >= self.gossip.deadline():
            self._absorb(now, self.gossip.on_tick(now, self.worker.load()))
        self._settle(now)
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """A run is over: the worker's, or the measurement's."""
        if run_id == self._measuring:
            self._measuring = None
            self._on_measured(now, outcome)
        else:
            self._absorb(now, self.worker.on_done(now, run_id, outcome))
        self._settle(now)
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Give leases back, say goodbye, emit `Stopped`: within a second, acknowledged or not."""
        self._stop_at = min(self._stop_at, now + SECOND)
        self._absorb(now, self.worker.on_stop(now))
        self._absorb(now, self.coordinators.on_stop(now))
        if self._measuring is not None:
            self._stop(self._measuring)
        self._settle(now)
        return self._flush()

    def on_rest(self, now: int, why: str) -> list[Effect]:
        """The owner of the machine needs it: give leases back, and take none until `on_resume`."""
        if not self.worker.resting:
            self._emit(Notice(f"resting: {why}"))
            self._absorb(now, self.worker.on_rest(now))
        self._settle(now)
        return self._flush()

    def on_resume(self, now: int) -> list[Effect]:
        """The machine may be used again."""
        if self.worker.resting and self._stop_at == NEVER:
            self._emit(Notice("working again"))
            self._absorb(now, self.worker.on_resume(now))
        self._settle(now)
        return self._flush()

    def statistics(self) -> Statistics:
        """Counters of this node."""
        return {
            "neighbours": len(self.neighbours.linked),
            "jobs": len(self.worker.jobs),
            "coordinates": len(self.coordinators.jobs),
            "tested": self.worker.tested,
            "rate": self.worker.rates.get(self.config.measure_kernel, 0.0),
            "unexpected": self.unexpected,
        }

    @property
    def _parts(self) -> tuple[Neighbours, Gossip, Worker, Patron, Enrolment, Coordinators]:
        return (
            self.neighbours,
            self.gossip,
            self.worker,
            self.patron,
            self.enrolment,
            self.coordinators,
        )

    def _on_linked(self, now: int, src: NodeId, message: Message) -> None:
        worker = self.worker
        match message:
            case TaskTransfer():
                self._absorb(now, worker.on_task_transfer(now, src, message))
            case TaskAck():
                self._absorb(now, worker.on_task_ack(now, src, message))
            case TaskShrink():
                self._absorb(now, worker.on_task_shrink(now, src, message))
            case TaskProve():
                self._absorb(now, worker.on_task_prove(now, src, message))
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
            case TaskRequest() | TaskReport() | TaskProof():
                effects = self.coordinators.on_message(now, src, message)
                if effects is None and not isinstance(message, TaskProof):
                    effects = worker.on_child(now, src, message)
                if effects is None:
                    self.unexpected += 1
                    self._send(src, Refused(ErrorCode.NOT_A_COORDINATOR, f"of job {message.job}"))
                else:
                    self._absorb(now, effects)
            case _:
                self._on_tracker(now, src, message)

    def _on_tracker(self, now: int, src: NodeId, message: Message) -> None:
        match message:
            case _ if src not in self.patron.trackers:
                self.unexpected += 1
            case TrackerReply(_, where):
                if where:
                    self._absorb(now, self.neighbours.call(now, Endpoint(where)))
                self._absorb(now, self.patron.on_tracker_reply(now, src, message))
            case HeartbeatAck(version):
                self.enrolment.on_heartbeat_ack(src, message)
                roster = self.enrolment.roster
                if roster is not None and roster.version == version:
                    # An advert may have come after the roster that has the job no more.
                    open_jobs = {JobId(job.job) for job in roster.jobs}
                    self._absorb(now, self.worker.on_open_jobs(now, open_jobs))
            case Roster():
                self._absorb(now, self.enrolment.on_roster(message))
            case _:
                self.unexpected += 1

    def _on_goodbye(self, now: int, src: NodeId) -> None:
        self._absorb(now, self.worker.on_goodbye(now, src))

    def _on_roster(self, now: int, roster: Roster) -> None:
        """Turn to those who coordinate now, and forget jobs that are over."""
        self._absorb(now, self.coordinators.on_roster(now, roster))
        self._absorb(now, self.worker.on_open_jobs(now, {JobId(job.job) for job in roster.jobs}))
        for endpoint in roster.trackers:
            self._absorb(now, self.neighbours.call(now, Endpoint(endpoint)))
        held = self.worker.jobs  # whose results we may have: their coordinators come first
        first = sorted(roster.jobs, key=lambda job: (job.job not in held, -job.priority))
        wanted = [
            Endpoint(job.listen) for job in first[:SUBSCRIPTIONS_MAX] if job.listen and job.node != self.me
        ]
        self.neighbours.release(wanted)
        for endpoint in wanted:
            self._absorb(now, self.neighbours.seek(now, endpoint))

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
            case Failed(detail) if self._stop_at == NEVER and not self._stopped:  # else that is why
                self._emit(Notice(f"rate of kernel {kernel} not measured: {detail}"))
        self._absorb(now, self.worker.on_ready(now))

    def _settle(self, now: int) -> None:
        """Deliver what our own parts say to each other. Once asked to stop: end when everything handed over is
        acknowledged, or when time is up."""
        while self._to_me:
            message = self._to_me.popleft()
            if isinstance(message, JobAdvert):
                self._absorb(now, self.worker.on_job_advert(now, message))
            else:
                self._on_linked(now, self.me, message)
        if self._stop_at == NEVER or self._stopped:
            return
        if now < self._stop_at and not (self.worker.drained and self.coordinators.drained):
            return
        if now < self._stop_at and self.enrolment.roster is not None and self._leaving >= 0:
            if not self._leaving:
                leave = commands.pack(commands.Leave((self.me,)))
                self._leaving = self.patron.ask(now, AskKind.COMMAND, leave)
            return
        self._stopped = True
        self._stop_at = NEVER
        self._absorb(now, self.neighbours.on_stop(now))
        self._emit(Stopped())

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        """Pass the effects of a part on; what concerns another part goes there too."""
        for effect in effects:
            match effect:
                case Send(to, message) if to == self.me:
                    self._to_me.append(message)
                    continue
                case Publish(JobAdvert() as advert) if advert.node == self.me:
                    self._to_me.append(advert)
                case Emit(event):
                    self._on_event(now, event)
            self._out.append(effect)

    def _on_event(self, now: int, event: Event) -> None:
        match event:
            case NeighbourUp(node) if cluster := self.neighbours.cluster_of(node):
                self._absorb(now, self.patron.on_tracker(now, node, cluster))
                if cluster == self.patron.cluster:
                    self.enrolment.on_tracker(now, node)
            case NeighbourUp(node):
                self._absorb(now, self.coordinators.on_neighbour(now, node))
                self._absorb(now, self.worker.on_neighbour(now, node))
            case NeighbourLost(node):
                self.gossip.on_lost(node)
                self._adverts.forget(node)
                self.enrolment.on_lost(now, node)
                self._absorb(now, self.patron.on_lost(now, node))
                self._absorb(now, self.coordinators.on_lost(now, node))
                self._absorb(now, self.worker.on_lost(node))
            case RosterKnown() if self.enrolment.roster is not None:
                self._on_roster(now, self.enrolment.roster)
            case Answered(number):
                if number == self._leaving:
                    self._leaving = -1
                elif self.coordinators.on_answered(now, event):
                    self._absorb(now, self.coordinators.flush())
