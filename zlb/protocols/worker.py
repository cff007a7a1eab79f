"""The computing half of a peer: pulls leases, has them hashed in slices, reports, keeps a report until acknowledged.

```
 advert ─► request ─► transfer ─► lease: todo ─► running ─► pieces ─► report ─► acknowledged
              ▲ repeated until answered                          ▲ repeated until acknowledged
```

It holds one lease per slot and one prefetched, whatever the number of jobs, and asks the job it holds least of first.
Reports and requests wait for the next tick, so that all that happened in one wake-up shares a message.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from zlb.core.config import WorkerConfig
from zlb.core.effects import Effect
from zlb.core.events import Notice
from zlb.core.ids import JobId, LeaseId, NodeId, RunId
from zlb.core.limits import (
    ENDED_JOBS_MAX,
    HITS_PER_REPORT_MAX,
    JOBS_PER_WORKER_MAX,
    LEASES_PER_MESSAGE_MAX,
    LOAD_NS_MAX,
    MS,
    PIECES_UNREPORTED_MAX,
    REPORTS_UNACKED_MAX,
    SECOND,
    TEXT_BYTES_MAX,
)
from zlb.core.load import Load
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Failed, Outcome, Search, Searched
from zlb.protocols.holdings import HeldLease, Holding, Outstanding, Piece
from zlb.protocols.sizing import SMOOTHING
from zlb.wire.messages import (
    JobAdvert,
    JobClosed,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

MEASURED_NS_MIN = MS // 4
"""A shorter run says more about the clock than about the rate."""


class _Running(NamedTuple):
    """A run that is out, and whose it is."""

    holding: Holding
    lease: HeldLease
    start: int
    stop: int


class Worker(Core):
    """Keeps `config.slots` slots busy with leases of whatever jobs are advertised.

    `rates` are integers a second and slot, by kernel, as far as known; `run_ids` numbers the runs of this process.
    """

    def __init__(self, me: NodeId, incarnation: int, config: WorkerConfig, run_ids: Iterator[int]) -> None:
        super().__init__()
        self.me, self.incarnation, self.config = me, incarnation, config
        self.rates: dict[str, float] = {}
        self.tested = 0
        self.ready = True
        """Whether to ask for leases; what adverts say is remembered all the same."""
        self._run_ids = run_ids
        self._jobs: dict[JobId, Holding] = {}
        self._queue: list[tuple[Holding, HeldLease]] = []
        self._running: dict[RunId, _Running] = {}
        self._ended: OrderedDict[tuple[NodeId, JobId], None] = OrderedDict()
        self._sequence = 0
        """Of requests and reports alike; never starts anew in this incarnation, even for a job taken up again."""
        self._ask_at = NEVER
        self._stopping = False

    # -- what others see

    @property
    def jobs(self) -> list[JobId]:
        """Jobs held, in the order they came."""
        return list(self._jobs)

    @property
    def drained(self) -> bool:
        """Nothing runs, and everything reported is acknowledged."""
        return not self._running and not any(job.leases or job.reports for job in self._jobs.values())

    def load(self) -> Load:
        """Time left for what is held, at the measured rates."""
        rate = max(self.rates.values(), default=0.0)
        left = sum(job.left / (self.rates.get(job.kernel) or rate or 1.0) for job in self._jobs.values())
        left += sum((run.stop - run.start) / (rate or 1.0) for run in self._running.values())
        left_ns = min(int(left * SECOND / self.config.slots), LOAD_NS_MAX)
        return Load(left_ns, rate, self._held(), self.config.slots)

    # -- events

    def deadline(self) -> int:
        """ns; the next report, repetition or silence."""
        at = self._ask_at
        for job in self._jobs.values():
            at = min(at, job.heard_at + self.config.silence_ns, job.report_at)
            if job.request is not None:
                at = min(at, job.request.resend_at)
            for report in job.reports.values():
                at = min(at, report.resend_at)
        return at

    def on_tick(self, now: int) -> list[Effect]:
        """Report and ask where it is due; give up jobs whose coordinator is silent."""
        for job in list(self._jobs.values()):
            if now - job.heard_at >= self.config.silence_ns:
                self._drop(job, f"no word from {job.coordinator}")
                continue
            if now >= job.report_at:
                self._report(now, job)
            for again in (job.request, *job.reports.values()):
                if again is not None and now >= again.resend_at:
                    again.wait_ns = min(2 * again.wait_ns, self.config.retry_ns_max)
                    again.resend_at = now + again.wait_ns
                    self._send(job.coordinator, again.message)
                    self._ask_at = now
        if now >= self._ask_at:
            self._ask_at = NEVER
            if self.ready:
                self._ask(now)
        return self._flush()

    def on_ready(self, now: int) -> list[Effect]:
        """From now on ask for leases."""
        self.ready, self._ask_at = True, now
        return self._flush()

    def on_job_advert(self, now: int, message: JobAdvert) -> list[Effect]:
        """A coordinator has work: ask for some, if there is room."""
        job_id = JobId(message.job)
        job = self._jobs.get(job_id)
        if job is None:
            ended = (NodeId(message.node), job_id) in self._ended
            if self._stopping or ended or len(self._jobs) >= JOBS_PER_WORKER_MAX:
                return self._flush()
            job = self._jobs[job_id] = Holding(job_id, NodeId(message.node), message.kernel, now, NEVER)
        if job.coordinator == message.node:
            job.heard_at = now
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
        job.request = None
        job.unleased = bool(message.leases)
        for lease in job.take(message.leases):
            self._queue.append((job, lease))
        if message.leases and job.report_at == NEVER:
            job.report_at = now + self.config.report_ns
        if self._stopping:
            self._give_back(now)
        self._start_runs()
        self._ask_at = now
        return self._flush()

    def on_task_ack(self, now: int, src: NodeId, message: TaskAck) -> list[Effect]:
        """A report is in the ledger: keep it no longer."""
        job = self._job_of(now, src, message.job)
        if job is not None:
            self._acknowledged(now, job, message.sequence)
            self._start_runs()
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
        """The job is over: stop everything of it and remember that it ended."""
        job = self._job_of(now, src, message.job)
        if job is not None:
            self._ended[job.coordinator, job.job] = None
            if len(self._ended) > ENDED_JOBS_MAX:
                self._ended.popitem(last=False)
            self._drop(job, "")
            self._start_runs()
            self._ask_at = now
        return self._flush()

    def on_goodbye(self, now: int, src: NodeId) -> list[Effect]:
        """A coordinator leaves: its jobs end with it."""
        for job in list(self._jobs.values()):
            if job.coordinator == src:
                self._drop(job, f"{src} left")
        self._start_runs()
        self._ask_at = now
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """A slice has come back: note what it found, start the next, report soon if there is news."""
        holding, lease, start, stop = self._running.pop(run_id)
        lease.running -= 1
        held = holding.leases.get(lease.id) is lease
        match outcome:
            case Searched(stopped_at, hits, busy_ns):
                self.tested += stopped_at - start
                self._measure(holding.kernel, stopped_at - start, busy_ns)
                if held:
                    self._searched(holding, lease, Piece(start, stopped_at, hits, busy_ns), stop)
            case Failed(detail):
                lease.error = detail[:TEXT_BYTES_MAX] or "failed"
                self._unqueue(lease)
                lease.todo.clear()
                if held:
                    self._emit(Notice(f"job {holding.job}: {detail}"))
        if held and (lease.finished or lease.pieces and lease.pieces[-1].hits):
            self._report_soon(now, holding)
        self._start_runs()
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Take nothing more, stop what runs, give back what is left."""
        self._stopping = True
        for run_id in self._running:
            self._stop(run_id)
        self._give_back(now)
        return self._flush()

    # -- helpers

    def _held(self) -> int:
        return sum(job.unfinished for job in self._jobs.values())

    def _job_of(self, now: int, src: NodeId, job_id: str) -> Holding | None:
        job = self._jobs.get(JobId(job_id))
        if job is None or job.coordinator != src:
            return None
        job.heard_at = now
        return job

    def _acknowledged(self, now: int, job: Holding, sequence: int) -> None:
        was_full = len(job.reports) >= REPORTS_UNACKED_MAX
        report = job.reports.pop(sequence, None)
        if report is None:
            return
        for (
            later,
            waiting,
        ) in job.reports.items():  # links are in order: these are under way, older ones may be lost
            if later > sequence:
                waiting.resend_at = max(waiting.resend_at, now + waiting.wait_ns)
        if job.acknowledged(report.message) or (was_full and job.unreported):
            self._report_soon(now, job)
        elif job.report_at == NEVER and job.leases:
            job.report_at = now + self.config.report_ns

    def _ask(self, now: int) -> None:
        """Ask for as many leases as there is room for, the job held least of first."""
        room = 2 * self.config.slots - self._held()
        for job in self._jobs.values():  # a coordinator that had to be asked twice holds up no other
            if job.request is not None and job.request.wait_ns == self.config.retry_ns_min:
                room -= job.request.message.want
        room = min(room, LEASES_PER_MESSAGE_MAX)
        open_jobs = [job for job in self._jobs.values() if job.unleased and job.request is None]
        open_jobs.sort(key=lambda job: (job.unfinished, job.job))
        for left, job in zip(range(len(open_jobs), 0, -1), open_jobs, strict=True):
            want = -(-room // left)
            if want <= 0 or self._stopping:
                return
            room -= want
            self._sequence += 1
            rate, knows = self.rates.get(job.kernel, 0.0), job.spec is not None
            request = TaskRequest(job.job, self.incarnation, self._sequence, want, rate, knows)
            job.request = Outstanding(request, now + self.config.retry_ns_min, self.config.retry_ns_min)
            self._send(job.coordinator, request)

    def _report_soon(self, now: int, job: Holding) -> None:
        if len(job.reports) < REPORTS_UNACKED_MAX:
            job.report_at = now
            self._ask_at = now

    def _report(self, now: int, job: Holding) -> None:
        """Say what is new, and that we are alive; while too many reports are unacknowledged, wait for one to be."""
        job.report_at = NEVER
        if not job.leases or len(job.reports) >= REPORTS_UNACKED_MAX:
            return
        self._sequence += 1
        report = TaskReport(job.job, self.incarnation, self._sequence, job.next_parts())
        job.reports[self._sequence] = Outstanding(
            report, now + self.config.retry_ns_min, self.config.retry_ns_min
        )
        self._send(job.coordinator, report)
        if job.leases:
            job.report_at = now if job.unreported else now + self.config.report_ns
        self._start_runs()

    def _start_runs(self) -> None:
        """Keep one run per slot going and one waiting, from at most one lease per slot, oldest first."""
        while len(self._running) < 2 * self.config.slots and self._queue and not self._stopping:
            front = [
                (job, lease)
                for job, lease in self._queue[: self.config.slots]
                if job.unreported < PIECES_UNREPORTED_MAX
            ]
            if not front:
                return
            job, lease = min(front, key=lambda pair: pair[1].running)
            spec = job.spec
            assert spec is not None, "leases come with a spec"
            count = (
                int(self.rates.get(spec.kernel, 0.0) * self.config.slice_ns / SECOND) or lease.todo.measure
            )
            span = lease.todo.take_lowest(max(count, 1))
            assert span is not None, "a queued lease has something to do"
            if not lease.todo:
                self._queue.remove((job, lease))
            hits_max = spec.hits_max - lease.hits if spec.hits_max else HITS_PER_REPORT_MAX
            run_id = RunId(next(self._run_ids))
            self._running[run_id] = _Running(job, lease, *span)
            lease.running += 1
            self._run(run_id, Search(spec.kernel, spec.params, *span, max(hits_max, 1)))

    def _searched(self, job: Holding, lease: HeldLease, piece: Piece, stop: int) -> None:
        if piece.start < piece.stop:
            job.add_piece(lease, piece)
        if job.spec is not None and job.spec.hits_max and lease.hits >= job.spec.hits_max:
            self._unqueue(lease)  # enough: the rest of the lease goes back to the pool
            lease.todo.clear()
        elif piece.stop < stop and not self._stopping and not lease.error:
            if not lease.todo:
                self._queue.insert(0, (job, lease))
            lease.todo.add(piece.stop, stop)

    def _measure(self, kernel: str, count: int, busy_ns: int) -> None:
        if busy_ns >= MEASURED_NS_MIN and count:
            rate, known = count * SECOND / busy_ns, self.rates.get(kernel)
            self.rates[kernel] = rate if known is None else (1 - SMOOTHING) * known + SMOOTHING * rate

    def _give_back(self, now: int) -> None:
        for job in self._jobs.values():
            for lease in job.leases.values():
                lease.todo.clear()
            self._report_soon(now, job)
        self._queue.clear()

    def _drop(self, job: Holding, why: str) -> None:
        del self._jobs[job.job]
        for lease in job.leases.values():
            self._abandon(job, lease)
        job.leases.clear()
        if why:
            self._emit(Notice(f"job {job.job} dropped: {why}"))

    def _abandon(self, job: Holding, lease: HeldLease) -> None:
        """Stop the runs of a lease; they still come back, and are ignored."""
        self._unqueue(lease)
        lease.todo.clear()
        job.unreported -= len(lease.pieces)
        for run_id, run in self._running.items():
            if run.lease is lease:
                self._stop(run_id)

    def _unqueue(self, lease: HeldLease) -> None:
        self._queue = [pair for pair in self._queue if pair[1] is not lease]
