"""The computing half of a peer: pulls leases, has them hashed in slices, reports, keeps a report until acknowledged.

```
 advert ─► request ─► transfer ─► lease: todo ─► running ─► pieces ─► report ─► acknowledged
              ▲ repeated until answered                          ▲ repeated until acknowledged
```

It holds one lease per slot and one prefetched, or several if they are short, whatever the number of jobs, and asks the
job it holds least of first, of those that matter most.
Reports and requests wait for the next tick, so that all that happened in one wake-up shares a message.
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator

from zlb.core.config import WorkerConfig
from zlb.core.effects import Effect
from zlb.core.events import Notice
from zlb.core.ids import JobId, LeaseId, NodeId, RunId
from zlb.core.limits import (
    ENDED_JOBS_MAX,
    JOBS_PER_WORKER_MAX,
    LOAD_NS_MAX,
    MS,
    REPORTS_UNACKED_MAX,
    SAMPLES_PER_PART_MAX,
    SECOND,
)
from zlb.core.load import Load
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Checker, Oracle, Outcome
from zlb.protocols.holdings import FOR_YOU, HeldLease, Holding
from zlb.protocols.pulling import Pull
from zlb.protocols.redistribution import Redistribution
from zlb.protocols.runs import Runs
from zlb.wire.messages import (
    JobAdvert,
    JobClosed,
    TaskAck,
    TaskCancel,
    TaskProof,
    TaskProve,
    TaskReport,
    TaskRequest,
    TaskShrink,
    TaskTransfer,
)

SAMPLES_MAX = SAMPLES_PER_PART_MAX // 2
"""Samples that may be expected of one pattern of a lease: so many still fit a report if chance has it."""


def cannot_check(kernel: str, _params: bytes) -> Oracle | str:
    """A `Checker` of who is given no jobs to coordinate, and believes those it passes work on to."""
    return f"hits of kernel {kernel} cannot be checked here"


class Worker(Core):
    """Keeps `config.slots` slots busy with leases of whatever jobs are advertised.

    `rates` are integers a second and slot, by kernel, as far as known; `run_ids` numbers the runs of this process.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        config: WorkerConfig,
        run_ids: Iterator[int],
        sequence: Iterator[int] | None = None,
        checker: Checker = cannot_check,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.config = me, incarnation, config
        self.rates: dict[str, float] = {}
        self.ready = True
        """Whether to ask for leases; what adverts say is remembered all the same."""
        self._jobs: dict[JobId, Holding] = {}
        self._runs = Runs(config, run_ids, self.rates)
        about = self._runs, self._jobs, sequence or itertools.count(1), checker
        dice = rng or random.Random(incarnation)
        self.redistribution = Redistribution(me, incarnation, config, *about, dice)
        self._ended: OrderedDict[tuple[NodeId, JobId], None] = OrderedDict()
        self._sequence = itertools.count(1)
        """Of requests and reports alike; never starts anew in this incarnation, even for a job taken up again."""
        self._pull = Pull(incarnation, config, self.rates, self._sequence, self._slots_below)
        self._ask_at = NEVER
        self._patience_ns = config.silence_ns + config.orphan_ns
        """After the last word of who passed a job on to us."""
        self._stopping = False
        self.resting = False
        """Whether the owner of the machine needs it: then nothing is searched, and nothing held."""

    # -- what others see

    @property
    def tested(self) -> int:
        """Integers searched by this process."""
        return self._runs.tested

    @property
    def jobs(self) -> list[JobId]:
        """Jobs held, in the order they came."""
        return list(self._jobs)

    @property
    def drained(self) -> bool:
        """Nothing runs, and everything reported is acknowledged."""
        busy = any(job.leases or job.unacknowledged or job.orphans for job in self._jobs.values())
        return not self._runs.running and not busy

    def load(self) -> Load:
        """Time left for what is held, at the measured rates."""
        rate = max(self.rates.values(), default=0.0)
        left = sum(job.left / (self._pull.rate(job) or rate or 1.0) for job in self._jobs.values())
        left += sum((run.stop - run.start) / (rate or 1.0) for run in self._runs.running.values())
        left_ns = min(int(left * SECOND / self.config.slots), LOAD_NS_MAX)
        return Load(left_ns, rate, self._held(), self.config.slots)

    # -- events

    def deadline(self) -> int:
        """ns; the next report, repetition or silence."""
        at = min(self._ask_at, self.redistribution.deadline())
        for job in self._jobs.values():
            at = min(at, job.report_at)
            if not job.silent:
                at = min(at, job.heard_at + self.config.silence_ns)
            elif not job.epoch:
                at = min(at, job.heard_at + self._patience_ns)
            if job.request is not None:
                at = min(at, job.request.resend_at)
            for report in job.reports.values():
                at = min(at, report.resend_at)
        return at

    def on_tick(self, now: int) -> list[Effect]:
        """Report and ask where it is due; give up jobs whose coordinator is silent."""
        for job in list(self._jobs.values()):
            if now - job.heard_at >= self.config.silence_ns and not job.silent:
                self._orphan(job, f"no word from {job.coordinator}")
            elif job.silent and not job.epoch and now - job.heard_at >= self._patience_ns:
                self._drop(job, f"{job.coordinator} is gone, and nobody else passes it on")
            if job.job not in self._jobs:
                continue
            if now >= job.report_at:
                self._report(now, job)
            for again in (job.request, *job.reports.values()):
                if again is not None and now >= again.resend_at:
                    longest = self.config.kept_ns if again.arrived else self.config.retry_ns_max
                    again.wait_ns = min(2 * again.wait_ns, longest)
                    again.resend_at = now + again.wait_ns
                    self._send(job.coordinator, again.message)
                    self._ask_at = now
        self.redistribution.on_tick(now)
        self._settle()
        if now >= self._ask_at:
            self._ask_at = NEVER
            if self.ready and not (self._stopping or self.resting):
                self._pull.ask(now, self._jobs.values())
                self._settle()
        return self._flush()

    def on_ready(self, now: int) -> list[Effect]:
        """From now on ask for leases."""
        self.ready, self._ask_at = True, now
        return self._flush()

    def on_job_advert(self, now: int, message: JobAdvert) -> list[Effect]:
        """A coordinator has work: ask for some, if there is room."""
        job_id = JobId(message.job)
        job = self._jobs.get(job_id)
        if message.ancestors and message.node == self.me:  # we pass it on, and nothing to ourselves
            return self._flush()
        if job is None:
            who = message.node, *message.ancestors[:1]
            ended = any((NodeId(node), job_id) in self._ended for node in who) or self.me in message.ancestors
            if self._stopping or ended or len(self._jobs) >= JOBS_PER_WORKER_MAX:
                return self._flush()
            job = Holding(job_id, NodeId(message.node), message.kernel, now, NEVER, message.epoch)
            job.ancestors = tuple(map(NodeId, message.ancestors))
            self._jobs[job_id] = job
        elif self._is_better(job, message):
            self._hand_over(now, job, message)
        if (job.coordinator, job.epoch) == (message.node, message.epoch):
            if self.me in message.ancestors:  # a circle of orphans: let go
                job.silent, job.heard_at = True, now - self.config.silence_ns
                return self._flush()
            job.ancestors = tuple(map(NodeId, message.ancestors))
            job.heard_at, job.silent, job.priority = now, False, message.priority
            job.unleased = message.unleased > 0
            if job.unleased:
                self._ask_at = now
        return self._flush()

    def on_task_transfer(self, now: int, src: NodeId, message: TaskTransfer) -> list[Effect]:
        """Leases have come; answers to anything but the open request are late or doubled, and ignored."""
        job = self._job_of(now, src, message.job)
        if job is None or job.request is None or job.request.message.sequence != message.sequence:
            return self._flush()
        job.spec = message.spec or job.spec
        if job.spec is None:  # cannot be: we said that we do not know it; ask once more
            return self._flush()
        if job.request.wait_ns == self.config.retry_ns_min:
            job.note_rtt(now - job.request.sent_at)
        job.request = None
        job.unleased = bool(message.leases)
        for lease in job.take(message.leases):
            if lease.samples_expected > SAMPLES_MAX:
                lease.todo.clear()
                lease.error = "more samples are asked for than a report holds"
                self._report_by(now, job)
            else:
                self._runs.queue.append((job, lease))
        if message.leases:
            self.redistribution.on_lease(now, job)
            self._pull.look_ahead(job, message.leases[-1].count)
            if job.report_at == NEVER:
                job.report_at = job.beat_at = now + self.config.report_ns
        limit_ns = self.config.rtt_ns_max
        if limit_ns is not None and not job.far and job.rtt_ns > limit_ns:
            job.far = True
            self._emit(Notice(f"{src} answers in {job.rtt_ns // MS} ms: not worked for"))
        if self._stopping or self.resting or job.far:
            self._give_back(now, [job] if job.far else self._jobs.values())
        self._start_runs()
        self.redistribution.feed(job)
        if self._pull.is_worth_asking(len(self._runs.queue)):
            self._ask_at = now
        self._settle()
        return self._flush()

    def on_child(self, now: int, src: NodeId, message: TaskRequest | TaskReport) -> list[Effect] | None:
        """A request or report about a job that we pass on; None if we do not."""
        if isinstance(message, TaskRequest):
            if not self.redistribution.on_task_request(now, src, message):
                return None
            if self._jobs[JobId(message.job)].unleased:
                self._ask_at = now
        else:
            job = self.redistribution.on_task_report(now, src, message)
            if job is None:
                return None
            self._report_by(now + self.config.batch_ns, job)
            self._start_runs()
        self._settle()
        return self._flush()

    def on_neighbour(self, now: int, node: NodeId) -> list[Effect]:
        """A new neighbour hears of what we pass on."""
        self.redistribution.on_neighbour(now, node)
        self._settle()
        return self._flush()

    def on_lost(self, node: NodeId) -> list[Effect]:
        """A neighbour is gone: what it was to do for us is ours again; if it passed a job on, another may."""
        self.redistribution.on_lost(node)
        for job in self._jobs.values():
            job.silent |= job.coordinator == node and bool(job.ancestors)
        self._start_runs()
        self._settle()
        return self._flush()

    def on_task_ack(self, now: int, src: NodeId, message: TaskAck) -> list[Effect]:
        """A report is in the ledger: repeat it no longer, and once it is kept there, forget it."""
        job = self._job_of(now, src, message.job)
        if job is not None:
            self._acknowledged(now, job, message.sequence, message.kept)
            self._start_runs()
            self._settle()
        return self._flush()

    def on_task_shrink(self, now: int, src: NodeId, message: TaskShrink) -> list[Effect]:
        """Others are idle: give back what is not begun of a lease from there on, and say so at once."""
        job = self._job_of(now, src, message.job)
        lease = None if job is None else job.leases.get(LeaseId(message.lease))
        if job is not None and lease is not None:
            lease.shrink(message.stop)
            if not lease.todo:
                self._runs.unqueue(lease)
            job.beat_at = now  # an answer is due though it be that there is nothing
            self._report_by(now, job)
        return self._flush()

    def on_task_prove(self, now: int, src: NodeId, message: TaskProve) -> list[Effect]:
        """Open one block of what we committed to; say so if we cannot, so that we are not asked again."""
        job = self._job_of(now, src, message.job)
        proof = None if job is None else job.commitments.get(LeaseId(message.lease))
        shown: tuple[tuple[int, ...], tuple[bytes, ...]] = (), ()
        if proof is not None and message.block < proof.blocks:
            shown = proof.block(message.block), proof.path(message.block)
        self._send(src, TaskProof(message.job, message.lease, message.block, *shown))
        return self._flush()

    def on_task_cancel(self, now: int, src: NodeId, message: TaskCancel) -> list[Effect]:
        """Stop these leases and forget them."""
        job = self._job_of(now, src, message.job)
        if job is not None:
            for lease_id in message.leases:
                lease = job.leases.pop(LeaseId(lease_id), None)
                if lease is not None:
                    self._abandon(job, lease)
            self._start_runs()
            self._ask_at = now
        return self._flush()

    def on_job_closed(self, now: int, src: NodeId, message: JobClosed) -> list[Effect]:
        """The job is over, or for us only: stop everything of it and remember that it ended."""
        job = self._job_of(now, src, message.job)
        if job is not None:
            over = not message.reason.startswith(FOR_YOU)
            owner = job.ancestors[0] if job.ancestors and over else job.coordinator
            for node in (job.coordinator, owner):  # others may not have heard of it yet, and pass it on
                self._ended[node, job.job] = None
            while len(self._ended) > ENDED_JOBS_MAX:
                self._ended.popitem(last=False)
            self._drop(job, "" if over else f"{src} gives us no more of it")
            self._start_runs()
            self._ask_at = now
        return self._flush()

    def on_goodbye(self, now: int, src: NodeId) -> list[Effect]:
        """A coordinator leaves: its jobs end with it, but those a tracker knows."""
        for job in list(self._jobs.values()):
            if job.coordinator == src:
                self._orphan(job, f"{src} left")
        self._start_runs()
        self._ask_at = now
        return self._flush()

    def on_open_jobs(self, now: int, jobs: Collection[JobId]) -> list[Effect]:
        """A tracker, which may lag behind, knows of these jobs only: others whose coordinator is silent have ended."""
        for job in list(self._jobs.values()):
            if job.epoch and job.job not in jobs and job.silent:
                self._drop(job, "")
                self._ask_at = now
        self._start_runs()
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """A run has come back: note what it found, start the next, report soon if there is news."""
        run = self._runs.on_done(run_id, outcome)
        job = run.holding
        self._start_runs()
        leases = [share.lease for share in run.shares if job.leases.get(share.lease.id) is share.lease]
        if any(share.lease.orphaned for share in run.shares) and job.orphans:
            self._report_by(now, job)
        hit = any(lease.pieces and lease.pieces[-1].hits for lease in leases)
        if hit or any(lease.finished for lease in leases):
            urgent = hit or not self._runs.queue or any(lease.error for lease in leases)
            self._report_by(now if urgent else now + self.config.batch_ns, job)
            if self._pull.is_worth_asking(len(self._runs.queue)):
                self._ask_at = now
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Take nothing more, stop what runs, give back what is left."""
        self._stopping = True
        self.redistribution.take_back()
        return self.on_rest(now)

    def on_rest(self, now: int) -> list[Effect]:
        """Until `on_resume`: stop what runs, give back what is left, ask for nothing."""
        self.resting = True
        self._runs.halt()
        self._settle()
        self._give_back(now, self._jobs.values())
        return self._flush()

    def on_resume(self, now: int) -> list[Effect]:
        """The machine may be used again."""
        self.resting = self._runs.halted = self._stopping
        self._ask_at = now
        return self._flush()

    # -- helpers

    def _held(self) -> int:
        return sum(job.unfinished for job in self._jobs.values())

    def _job_of(self, now: int, src: NodeId, job_id: str) -> Holding | None:
        job = self._jobs.get(JobId(job_id))
        if job is None or job.coordinator != src:
            return None
        if not job.ancestors:  # else only adverts count: they tell whom it has it from, and end with that
            job.heard_at = now
        return job

    def _acknowledged(self, now: int, job: Holding, sequence: int, kept: bool) -> None:
        was_full = job.unacknowledged >= REPORTS_UNACKED_MAX
        report = job.reports.get(sequence)
        if report is None:
            return
        known, report.arrived = report.arrived, True
        if kept:
            del job.reports[sequence]
            self.redistribution.on_kept(job, report.receipts)
        else:
            report.resend_at = now + self.config.kept_ns
            report.wait_ns = self.config.kept_ns // 2  # doubled when it is sent again
        if known:
            return
        for later, waiting in job.reports.items():
            if later > sequence and not waiting.arrived:  # under way: links are in order
                waiting.resend_at = max(waiting.resend_at, now + waiting.wait_ns)
        if job.acknowledged(report.message) or (was_full and (job.unreported or job.orphans)):
            self._report_by(now, job)
        elif job.report_at == NEVER and job.leases:
            job.report_at = job.beat_at

    def _report_by(self, at: int, job: Holding) -> None:
        if job.unacknowledged < REPORTS_UNACKED_MAX:
            job.report_at = min(job.report_at, at)

    def _report(self, now: int, job: Holding) -> None:
        """Say what is new, and that we are alive; while too many reports are unacknowledged, wait for one to be."""
        job.report_at = NEVER
        if not (job.leases or job.orphans) or job.unacknowledged >= REPORTS_UNACKED_MAX:
            return
        everything = now >= job.beat_at
        if everything:
            job.beat_at = now + self.config.report_ns
        if job.orphans:
            self._ask_at = now  # which has to wait until they are reported
        parts = job.next_parts(everything)
        if not parts:
            job.report_at = job.beat_at
            return
        number = next(self._sequence)
        report = TaskReport(job.job, self.incarnation, number, parts, job.epoch)
        job.reports[number] = waiting = self._pull.until_answered(now, job, report)
        waiting.receipts = job.taken
        self._settle()
        if job.leases or job.orphans:
            job.report_at = now if job.unreported or job.orphans else job.beat_at
        self._start_runs()

    def _start_runs(self) -> None:
        self._runs.start()
        self._settle()

    def _give_back(self, now: int, jobs: Iterable[Holding]) -> None:
        """What has not been begun of these jobs is for others."""
        for job in jobs:
            for lease in job.leases.values():
                lease.todo.clear()
                self._runs.unqueue(lease)
            self._report_by(now, job)

    def _orphan(self, job: Holding, why: str) -> None:
        """The coordinator is gone: so is the job, unless a tracker will name another, or somebody else passes it on."""
        if job.epoch or job.ancestors:
            job.silent = True
        else:
            self._drop(job, why)

    def _is_better(self, job: Holding, advert: JobAdvert) -> bool:
        """Whether to turn to whoever sends this advert instead of the one we work for."""
        if self.me in advert.ancestors or advert.epoch < job.epoch:
            return False
        if advert.epoch > job.epoch > 0:
            return True
        if advert.epoch != job.epoch or advert.node == job.coordinator:
            return False
        idle = not (job.leases or job.reports or job.request)
        return bool(job.ancestors) and (job.silent or (idle and len(advert.ancestors) < len(job.ancestors)))

    def _hand_over(self, now: int, job: Holding, advert: JobAdvert) -> None:
        """Another coordinator: what runs ends by itself, what is not started is for it to lease."""
        for lease in job.leases.values():
            self._runs.unqueue(lease)
        job.hand_over(NodeId(advert.node), advert.epoch, tuple(map(NodeId, advert.ancestors)))
        job.report_at = now if job.orphans else NEVER  # before we ask, so that it does not lease it anew

    def _drop(self, job: Holding, why: str) -> None:
        del self._jobs[job.job]
        self.redistribution.drop(job, over=not why)
        for lease in job.leases.values():
            self._abandon(job, lease)
        job.leases.clear()
        if why:
            self._emit(Notice(f"job {job.job} dropped: {why}"))

    def _abandon(self, job: Holding, lease: HeldLease) -> None:
        job.unreported -= len(lease.pieces)
        self._runs.abandon(lease)
        self.redistribution.abandon(job, lease)
        self._settle()

    def _settle(self) -> None:
        self._out += self._pull.flush() + self._runs.flush() + self.redistribution.flush()

    def _slots_below(self, job: Holding) -> int:
        return self.redistribution.slots(job.job)
