"""The jobs a tracker has given to this peer to coordinate: from assignment to the end, checkpoint by checkpoint.

```
 roster names us ─► ResumeJob ─► Coordinator ─► Checkpoint (at most one a second, one at a time) ─► TASK_ACK kept
 roster names another, STALE ─► forgotten             job ended ─► last Checkpoint ─► Finish ─► JOB_CLOSED
```
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from zlb.core.config import CoordinatorConfig, TrackedConfig
from zlb.core.effects import Effect, Emit, Persist
from zlb.core.events import Answered, JobEnded, JobProgress, Notice
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import ENDED_JOBS_MAX, TEXT_BYTES_MAX
from zlb.core.message import Message
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Checker, Hit, Job, Standing
from zlb.protocols import commands, queries
from zlb.protocols.checkpoints import Delta, Resumed
from zlb.protocols.commands import Checkpoint, Command, Denied, Finish, Status
from zlb.protocols.coordinator import Coordinator
from zlb.protocols.patron import Patron
from zlb.protocols.trust import Trust, remembered
from zlb.wire.messages import JobClosed, TaskProof, TaskReport, TaskRequest
from zlb.wire.tracking import AskKind, AskOutcome, Roster


@dataclass(slots=True)
class _Office:
    """A job in our hands, in one epoch. `coordinator` is None until the tracker has told where to begin."""

    epoch: int
    status: str
    priority: int
    number: int
    """Of the ask that is out for it; 0: none."""
    coordinator: Coordinator | None = None
    delta: Delta | None = None
    """Of the checkpoint that is out."""
    checkpoint_at: int = NEVER
    finish: Finish | None = None
    """Once the job has ended: what remains to be said."""
    finishing: bool = False


class Coordinators(Core):
    """Coordinates what `on_roster` gives to `me` in this `incarnation`; asks the tracker through `patron`."""

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        checker: Checker,
        config: TrackedConfig,
        patron: Patron,
        rng: random.Random,
        sequence: Iterator[int] | None = None,
        trust: dict[NodeId, Trust] | None = None,
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.config, self.patron = me, incarnation, config, patron
        self._checker, self._rng = checker, rng
        self._trust = {} if trust is None else trust
        """What jobs here have told of workers."""
        self._offices: dict[JobId, _Office] = {}
        self._neighbours: dict[NodeId, None] = {me: None}
        """Who may work for us; ourselves, too."""
        self._over: OrderedDict[JobId, str] = OrderedDict()
        """How jobs of ours ended, for workers that have not heard of it."""
        self._sequence = itertools.count(1) if sequence is None else sequence
        """Of adverts, whatever the job and its epoch: whoever hears them knows only which of ours is the newest."""
        self._numbers = itertools.count(1)
        """Of all our checkpoints: a job that is taken up again in the same epoch goes on with higher ones."""
        self._stopping = False

    @property
    def jobs(self) -> list[JobId]:
        """Jobs in our hands."""
        return list(self._offices)

    @property
    def drained(self) -> bool:
        """Whether all that is known is in the tracker's log."""
        return not any(
            office.number or (office.coordinator is not None and office.coordinator.checkpoints)
            for office in self._offices.values()
        )

    def coordinator(self, job: JobId) -> Coordinator | None:
        """Of a job in our hands, if it has begun."""
        office = self._offices.get(job)
        return None if office is None else office.coordinator

    def deadline(self) -> int:
        """ns; the earliest of all coordinators and checkpoints."""
        at = NEVER
        for office in self._offices.values():
            if office.coordinator is not None:
                at = min(at, office.coordinator.deadline())
                if not office.number:
                    at = min(at, office.checkpoint_at)
        return at

    # -- events

    def on_roster(self, now: int, roster: Roster) -> list[Effect]:
        """Take up what is new, drop what is another's or over."""
        mine = {
            JobId(job.job): job
            for job in roster.jobs
            if (job.node, job.incarnation) == (self.me, self.incarnation)
        }
        open_jobs = {job.job for job in roster.jobs}
        for job, office in list(self._offices.items()):
            if job not in mine or mine[job].epoch != office.epoch:
                self._drop(job, office, over=job not in open_jobs)
        for job, told in mine.items():
            known = self._offices.get(job)
            if known is None and self._stopping:
                continue
            if known is None:
                number = self.patron.ask(now, AskKind.QUERY, queries.ask(queries.ResumeJob(job, told.epoch)))
                self._offices[job] = _Office(told.epoch, told.status, told.priority, number)
                continue
            known.status, known.priority = told.status, told.priority
            if known.coordinator is not None:
                self._steer(now, known, known.coordinator)
        return self._flush()

    def on_answered(self, now: int, answer: Answered) -> bool:
        """Whether it was an answer for us, and then what follows is in the next `flush`."""
        for job, office in self._offices.items():
            if office.number == answer.number:
                office.number = 0
                self._on_answer(now, job, office, answer)
                return True
        return False

    def on_tick(self, now: int) -> list[Effect]:
        """Adverts, expiries, checkpoints."""
        for job, office in list(self._offices.items()):
            coordinator = office.coordinator
            if coordinator is None:
                continue
            if now >= coordinator.deadline():
                self._absorb(now, job, office, coordinator.on_tick(now))
                self._schedule(now, office, coordinator)
            if now >= office.checkpoint_at and not office.number:
                self._checkpoint(now, job, office, coordinator)
        return self._flush()

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect] | None:
        """A worker's request or report; None if the job is not, and was not, in our hands."""
        assert isinstance(message, TaskRequest | TaskReport | TaskProof)
        job = JobId(message.job)
        office = self._offices.get(job)
        if office is None and job in self._over:
            self._send(src, JobClosed(message.job, self._over[job]))
            return self._flush()
        if office is None or office.coordinator is None:
            return None
        coordinator = office.coordinator
        match message:
            case TaskRequest():
                effects = coordinator.on_task_request(now, src, message)
            case TaskReport():
                effects = coordinator.on_task_report(now, src, message)
            case TaskProof():
                effects = coordinator.on_task_proof(now, src, message)
        self._absorb(now, job, office, effects)
        self._schedule(now, office, office.coordinator)
        return self._flush()

    def on_neighbour(self, now: int, node: NodeId) -> list[Effect]:
        """A new neighbour is to hear of all jobs."""
        self._neighbours[node] = None
        for job, office in self._offices.items():
            if office.coordinator is not None:
                self._absorb(now, job, office, office.coordinator.on_neighbour(now, node))
        return self._flush()

    def on_lost(self, now: int, node: NodeId) -> list[Effect]:
        """A neighbour is gone, and its leases with it."""
        self._neighbours.pop(node, None)
        for job, office in self._offices.items():
            if office.coordinator is not None:
                self._absorb(now, job, office, office.coordinator.on_lost(now, node))
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """We are about to leave: what we know, and still hear, is to be in the log, and nothing more is leased."""
        self._stopping = True
        for office in self._offices.values():
            if office.coordinator is not None:
                self._steer(now, office, office.coordinator)
                if office.coordinator.checkpoints:
                    office.checkpoint_at = now
        return self.on_tick(now)

    # -- asking the tracker

    def _on_answer(self, now: int, job: JobId, office: _Office, answer: Answered) -> None:
        if AskOutcome(answer.outcome) is not AskOutcome.DONE:
            self._emit(Notice(f"job {job}: the tracker says {AskOutcome(answer.outcome).name}"))
            del self._offices[job]
            return
        if office.coordinator is None and not office.finishing:
            resumed = queries.read(answer.payload, queries.Resumption)
            if isinstance(resumed, Denied) or resumed.status not in commands.OPEN:
                del self._offices[job]
            else:
                self._begin(now, job, office, resumed)
            return
        ok, why = commands.unpack_result(answer.payload)
        if why is Denied.TOO_MANY_HITS:
            office.finish = Finish(job, office.epoch, Status.FAILED, str(why))
            office.finishing = True
            office.number = self._tell(now, office.finish)
        elif not ok:
            self._emit(Notice(f"job {job} is ours no longer: {why}"))
            self._drop(job, office, over=why in (Denied.ENDED, Denied.NO_SUCH_JOB))
        elif office.finishing:
            self._drop(job, office, over=True)
        else:
            delta, office.delta = office.delta, None
            coordinator, has_evidence = office.coordinator, why
            assert delta is not None and coordinator is not None
            if not has_evidence:
                coordinator.forget_evidence()
            self._absorb(now, job, office, coordinator.on_kept(delta.reports))
            if delta.cut and coordinator.checkpoints:
                office.checkpoint_at = now
            self._schedule(now, office, coordinator)

    def _begin(self, now: int, job: JobId, office: _Office, resumed: queries.Resumption) -> None:
        spec = resumed.spec
        oracle = self._checker(spec.kernel, spec.params)
        if isinstance(oracle, str):
            finish = Finish(job, office.epoch, Status.FAILED, oracle[:TEXT_BYTES_MAX])
            office.finishing = True
            office.number = self._tell(now, finish)
            return
        spans = tuple((start, start + count) for start, count in spec.spans)
        lowest = None if resumed.lowest is None else Hit(*resumed.lowest)
        coordinator = Coordinator(
            self.me,
            self.incarnation,
            Job(job, spec.kernel, spec.params, spans, spec.rule, spec.hits_wanted),
            oracle,
            _config(spec),
            self._rng,
            office.epoch,
            Resumed(
                tuple((start, start + count) for start, count in resumed.done),
                resumed.hits,
                lowest,
                resumed.tested,
                resumed.recomputed,
                resumed.loose,
            ),
            self._sequence,
            self._trust,
        )
        office.coordinator = coordinator
        self._emit(Notice(f"coordinates job {job}, epoch {office.epoch}"))
        self._steer(now, office, coordinator)
        self._absorb(now, job, office, coordinator.on_start(now))
        for node in self._neighbours:
            self._absorb(now, job, office, coordinator.on_neighbour(now, node))

    def _checkpoint(self, now: int, job: JobId, office: _Office, coordinator: Coordinator) -> None:
        """Put what is new into the log; once the job has ended, that at last."""
        office.checkpoint_at = NEVER
        assert coordinator.checkpoints is not None
        if not coordinator.checkpoints:
            if office.finish is not None:
                office.finishing = True
                office.number = self._tell(now, office.finish)
            return
        delta = office.delta = coordinator.checkpoints.take()
        if not (delta.done or delta.hits or delta.undone):  # all of it is in the log already
            office.delta = None
            self._absorb(now, job, office, coordinator.on_kept(delta.reports))
            self._schedule(now, office, coordinator)
            return
        done = tuple((start, stop - start) for start, stop in delta.done)
        ledger = coordinator.ledger
        undone = tuple((start, stop - start) for start, stop in delta.undone)
        counts, rows = (ledger.tested, ledger.released), tuple(map(commands.wire_row, delta.rows))
        number = next(self._numbers)
        checkpoint = Checkpoint(job, office.epoch, done, delta.hits, *counts, undone, number, rows)
        office.number = self._tell(now, checkpoint)

    def _schedule(self, now: int, office: _Office, coordinator: Coordinator) -> None:
        """When the next checkpoint is due: at once at the end, or else with what comes in within a while."""
        if office.finish is not None or (self._stopping and coordinator.checkpoints):
            office.checkpoint_at = now
        elif coordinator.checkpoints and office.checkpoint_at == NEVER:
            office.checkpoint_at = now + self.config.checkpoint_ns

    def _tell(self, now: int, command: Command) -> int:
        return self.patron.ask(now, AskKind.COMMAND, commands.pack(command))

    # -- coordinators

    def _steer(self, now: int, office: _Office, coordinator: Coordinator) -> None:
        paused = office.status == Status.PAUSED or self._stopping
        self._out += coordinator.on_steered(now, paused, office.priority)

    def _drop(self, job: JobId, office: _Office, over: bool) -> None:
        """It is another's, or `over`: then its workers may forget it."""
        del self._offices[job]
        if office.number:
            self.patron.give_up(office.number)
        if over and office.coordinator is not None:
            ended = office.coordinator.ended
            self._over[job] = status = "over" if ended is None else ended.status
            if len(self._over) > ENDED_JOBS_MAX:
                self._over.popitem(last=False)
            self._out += office.coordinator.close(status)

    def _absorb(self, now: int, job: JobId, office: _Office, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Emit(JobEnded(_, status, detail)):
                    office.finish = Finish(job, office.epoch, Status(status), detail[:TEXT_BYTES_MAX])
                    office.checkpoint_at = now
                case Emit(JobProgress()):
                    pass
                case Persist(Standing() as standing):
                    self._trust[standing.node] = remembered(standing)
                    self._out.append(effect)
                case _:
                    self._out.append(effect)


def _config(spec: commands.Submit) -> CoordinatorConfig:
    config = CoordinatorConfig(
        progress_ns=NEVER, verify=spec.verify, copies=spec.copies, remembers=True, rows=spec.certified
    )
    if spec.chunk_count:
        return replace(config, chunk_count=spec.chunk_count)
    return replace(config, chunk_ns=spec.chunk_ns) if spec.chunk_ns else config
