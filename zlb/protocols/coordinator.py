"""A job's owner: advertises it, leases subjobs to whoever pulls, keeps the ledger, ends the job by its stop rule.

```
 open ──stop rule reached | range done | cancel | failed──► closed      (JOB_CLOSED to all, and to whoever still asks)
```

Workers are not trusted to be alive: a lease nobody mentions expires, and only its unreported part is leased again. A
hit counts when one hash of our own confirms it (`check`), once, when its integer is first reported done.

A job that a tracker knows outlives its coordinators: each has an epoch, begins where the checkpoints of those before it
end, takes in what workers finished for them, and tells a worker that a report is kept only when it is in the log.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from zlb.core.config import CoordinatorConfig
from zlb.core.effects import Effect
from zlb.core.errors import ErrorCode
from zlb.core.events import HitFound, JobEnded, JobProgress, Notice, WorkerView
from zlb.core.ids import LeaseId, NodeId, Span
from zlb.core.limits import (
    HITS_PER_REPORT_MAX,
    LEASES_PER_MESSAGE_MAX,
    PRIORITY_DEFAULT,
    SECOND,
    WORKERS_PER_JOB_MAX,
)
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Hit, Job, Oracle, StopRule
from zlb.protocols.checkpoints import Checkpoints, Received, Resumed
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.ledger import Lease, Ledger
from zlb.protocols.sizing import Sizer
from zlb.wire.messages import (
    Grant,
    JobAdvert,
    JobClosed,
    Part,
    Refused,
    Spec,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

NO_LEASE = 0
"""In a part of a report: it is about integers searched under an earlier epoch."""
NEW = Resumed()
"""Nothing was done before."""
SWEEPS = 8
"""Looks at all leases within one silence: an expiry is noticed at most an eighth late, and a step costs O(1)."""


@dataclass(slots=True)
class _Worker:
    """What the coordinator knows of one worker."""

    incarnation: int
    sizer: Sizer
    request: int = -1
    granted: tuple[LeaseId, ...] = ()
    tested: int = 0
    benched: bool = False
    leases: set[LeaseId] = field(default_factory=set)
    adopted: set[int] = field(default_factory=set)
    """Reports with work of earlier epochs, by sequence: they may come twice."""


class Coordinator(Core):
    """Sees one job through. Emits `HitFound` for every hit once, `JobProgress` now and then, `JobEnded` once.

    In an `epoch` above 0, whoever composes it takes the news out of `checkpoints`, and calls `on_kept` when they are in
    the log, and `close` when the end of the job is. `sequence` numbers the adverts of all coordinators of a node.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        job: Job,
        oracle: Oracle,
        config: CoordinatorConfig,
        epoch: int = 0,
        resumed: Resumed = NEW,
        sequence: Iterator[int] | None = None,
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.job, self.config, self.epoch = me, incarnation, job, config, epoch
        self.checkpoints = Checkpoints() if epoch else None
        self.priority = PRIORITY_DEFAULT
        self.paused = False
        """While it is, nothing more is leased."""
        self.ledger = Ledger(job.spans, resumed.done)
        self.ledger.tested, self.ledger.released = resumed.tested, resumed.recomputed
        self.ended: JobEnded | None = None
        self.hits = 0 if resumed.lowest is not None and job.rule is StopRule.LOWEST else resumed.hits
        self.bad_hits = 0
        self.strange = 0
        """Messages about leases that are not their sender's."""
        self._oracle = oracle
        self._lowest: tuple[int, bytes, NodeId] | None = None
        if resumed.lowest is not None and job.rule is StopRule.LOWEST:
            self._lowest = *resumed.lowest, me
            self.ledger.truncate(resumed.lowest.n + 1)
        self._workers: dict[NodeId, _Worker] = {}
        self._sequence = itertools.count(1) if sequence is None else sequence
        self._neighbours: dict[NodeId, None] = {}
        self._advert_at = self._progress_at = self._sweep_at = NEVER
        self._started_at = self._lease_from = 0

    # -- events

    def deadline(self) -> int:
        """ns; the next advert, progress event or expiry."""
        return min(self._advert_at, self._progress_at, self._sweep_at)

    def on_start(self, now: int) -> list[Effect]:
        """Advertise the job."""
        self._started_at = now
        self._lease_from = now + self.config.adopt_ns if self.epoch > 1 else now
        self._advert_at = self._progress_at = now
        self._sweep_at = now + self.config.silence_ns // SWEEPS
        if self.job.rule in (StopRule.FIRST, StopRule.COUNT) and self.hits >= self.job.hits_wanted:
            self._end(now, "found", "")
        self._end_if_done(now)
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Expire silent leases, advertise, tell how far we are."""
        if now >= self._sweep_at:
            leases = self.ledger.leases.values()
            self._expire(now, [lease for lease in leases if now - lease.heard_at >= self.config.silence_ns])
            self._sweep_at = now + self.config.silence_ns // SWEEPS
        if now >= self._advert_at:
            self._advertise(now)
        if now >= self._progress_at:
            self._emit(self.progress(now))
            self._progress_at = now + self.config.progress_ns
        return self._flush()

    def on_neighbour(self, now: int, node: NodeId) -> list[Effect]:
        """A new neighbour may not have subscribed yet: hand it the advert."""
        self._neighbours[node] = None
        if self.ended is None:
            self._send(node, self._advert(now))
        return self._flush()

    def on_lost(self, now: int, node: NodeId) -> list[Effect]:
        """A worker left or fell silent: its leases are over."""
        self._neighbours.pop(node, None)
        if node in self._workers and self.ended is None:
            self._expire(now, self._leases_of(self._workers[node]))
        return self._flush()

    def on_task_request(self, now: int, src: NodeId, message: TaskRequest) -> list[Effect]:
        """Lease subjobs to `src`; a repeated request gets the same leases again, a stale one nothing."""
        if not self._is_ours(now, src, message):
            return self._flush()
        worker = self._worker(now, src, message.incarnation)
        if worker is None or message.sequence < worker.request:
            return self._flush()
        if worker.benched:
            self._send(src, JobClosed(self.job.id, "failed here"))
            return self._flush()
        if message.sequence > worker.request:
            worker.request = message.sequence
            worker.sizer.claim(message.rate)
            worker.granted = tuple(self._lease(now, src, worker, message.want)) if self._leases(now) else ()
        live = [self.ledger.leases[lease] for lease in worker.granted if lease in self.ledger.leases]
        grants = tuple(Grant(lease.span[0], lease.span[1] - lease.span[0], lease.id) for lease in live)
        spec = None if message.knows else self._spec()
        self._send(src, TaskTransfer(self.job.id, message.sequence, grants, spec))
        return self._flush()

    def on_task_report(self, now: int, src: NodeId, message: TaskReport) -> list[Effect]:
        """Enter what `src` has done into the ledger and acknowledge it; end the job when the stop rule is reached."""
        if not self._is_ours(now, src, message):
            return self._flush()
        worker = self._worker(now, src, message.incarnation)
        if worker is None:
            return self._flush()
        for part in message.parts:
            if part.lease == NO_LEASE and self.epoch:
                self._adopt(now, src, worker, message.sequence, part)
                if self.ended is not None:
                    return self._flush()
                continue
            lease = self.ledger.find(LeaseId(part.lease))
            if lease is None or lease.worker != src or not _fits(lease, part):
                self.strange += 1
                self._send(src, Refused(ErrorCode.NOT_YOURS, f"lease {part.lease} of job {self.job.id}"))
                continue
            lease.heard_at = now
            self._enter(now, src, worker, lease, part)
            if self.ended is not None:
                return self._flush()
        self._acknowledge(src, message)
        self._end_if_done(now)
        return self._flush()

    def on_kept(self, reports: Iterable[Received]) -> list[Effect]:
        """These reports are in the tracker's log: their workers need not keep them any longer."""
        for node, incarnation, sequence in reports:
            worker = self._workers.get(node)
            if worker is not None and worker.incarnation == incarnation:  # else it counts anew
                self._send(node, TaskAck(self.job.id, sequence))
        return self._flush()

    def on_steered(self, now: int, paused: bool, priority: int) -> list[Effect]:
        """People want the job to rest, or to go on, or to matter more or less."""
        if (paused, priority) != (self.paused, self.priority):
            self.paused, self.priority = paused, priority
            if self.ended is None:
                self._advert_at = now
        return self._flush()

    def close(self, status: str) -> list[Effect]:
        """The job is over for good: so the tracker says, or there is none."""
        self._close(status)
        return self._flush()

    def on_cancel(self, now: int, reason: str) -> list[Effect]:
        """Whoever wanted the job wants it no longer."""
        if self.ended is None:
            if self._lowest is not None:
                self._emit(Notice(f"lowest hit so far, not proven to be the lowest: {self._lowest[0]}"))
            self._end(now, "cancelled", reason)
        return self._flush()

    # -- views

    def progress(self, now: int) -> JobProgress:
        """How far the job is."""
        elapsed_ns = max(now - self._started_at, 1)
        return JobProgress(
            job=self.job.id,
            size=self.ledger.wanted.measure,
            done=self.ledger.done.measure,
            hits=self.hits + (self._lowest is not None),
            per_s=self.ledger.tested * SECOND / elapsed_ns,
            elapsed_ns=elapsed_ns,
            workers=self._views(),
        )

    def _views(self) -> tuple[WorkerView, ...]:
        return tuple(
            WorkerView(node, worker.tested, worker.sizer.rate, len(worker.leases))
            for node, worker in self._workers.items()
        )

    # -- leasing

    def _spec(self) -> Spec:
        wanted = 0 if self.job.rule is StopRule.ALL else self.job.hits_wanted
        return Spec(self.job.kernel, self.job.params, wanted if wanted <= HITS_PER_REPORT_MAX else 0)

    def _is_ours(self, now: int, src: NodeId, message: TaskRequest | TaskReport) -> bool:
        if message.job != self.job.id:
            self._send(src, Refused(ErrorCode.NOT_A_COORDINATOR, f"of job {message.job}"))
        elif message.epoch > self.epoch:
            self._send(src, Refused(ErrorCode.STALE_EPOCH, f"{self.epoch} of job {self.job.id}"))
        elif message.epoch < self.epoch:
            self._send(src, self._advert(now))  # from which it learns of our epoch
        elif self.ended is not None and self.checkpoints is None:
            self._send(src, JobClosed(self.job.id, self.ended.status))
        return (message.job, message.epoch) == (self.job.id, self.epoch) and self.ended is None

    def _leases(self, now: int) -> bool:
        """Whether any are given now."""
        return now >= self._lease_from and not self.paused

    def _worker(self, now: int, src: NodeId, incarnation: int) -> _Worker | None:
        """The worker `src`, or None for a message of a former incarnation; a new one ends the old one's leases."""
        worker = self._workers.get(src)
        if worker is None and len(self._workers) >= WORKERS_PER_JOB_MAX:
            self._forget_one_that_left()
        if worker is None and len(self._workers) >= WORKERS_PER_JOB_MAX:
            self._send(src, Refused(ErrorCode.FULL, f"job {self.job.id} has {WORKERS_PER_JOB_MAX} workers"))
            return None
        if worker is None:
            worker = self._workers[src] = _Worker(incarnation, Sizer(self.config))
        elif incarnation > worker.incarnation:
            self._expire(now, self._leases_of(worker))
            worker.incarnation, worker.request, worker.granted, worker.benched = incarnation, -1, (), False
            worker.adopted.clear()
        return worker if worker.incarnation == incarnation else None

    def _forget_one_that_left(self) -> None:
        for node, worker in self._workers.items():
            if node not in self._neighbours and not worker.leases:
                del self._workers[node]
                return

    def _lease(self, now: int, src: NodeId, worker: _Worker, want: int) -> list[LeaseId]:
        granted: list[LeaseId] = []
        for _ in range(min(want, LEASES_PER_MESSAGE_MAX)):
            lease = self.ledger.lease(src, self._next_count(worker), now)
            if lease is None:
                break
            worker.leases.add(lease.id)
            granted.append(lease.id)
        return granted

    def _next_count(self, worker: _Worker) -> int:
        """The size of the worker's next lease: near the end no more than its share, so that all finish together.

        Its share of what is unleased is its rate over that of all live leases: with one lease prefetched per slot
        this is weighted factoring (Hummel et al. 1992) with x = 2.
        """
        count = worker.sizer.next_count()
        left, live = self.ledger.unleased.measure, len(self.ledger.leases) + 1
        if self.config.chunk_count is not None or left >= count * live:
            return count
        rate = worker.sizer.rate
        total = rate + sum(len(other.leases) * other.sizer.rate for other in self._workers.values())
        if not rate:
            return count
        return max(1, min(count, max(int(left * rate / total), int(rate * self.config.tail_ns / SECOND))))

    def _leases_of(self, worker: _Worker) -> list[Lease]:
        return [self.ledger.leases[lease_id] for lease_id in sorted(worker.leases)]

    def _expire(self, now: int, leases: list[Lease]) -> None:
        """The workers of these leases are silent: what they did not report is leased again."""
        returned: dict[NodeId, int] = {}
        for lease in leases:
            returned[lease.worker] = returned.get(lease.worker, 0) + self._end_lease(lease, silent=True)
        for worker, count in returned.items():
            self._emit(Notice(f"{worker} is silent: {count} integers are leased again"))
            self._advert_at = now

    def _end_lease(self, lease: Lease, silent: bool) -> int:
        self._workers[lease.worker].leases.discard(lease.id)
        return self.ledger.end(lease, silent)

    # -- results

    def _enter(self, now: int, src: NodeId, worker: _Worker, lease: Lease, part: Part) -> None:
        spans = [done.span for done in part.done]
        news = any(lease.unreported.overlap(*span) for span in spans)  # else it is a repeated report
        found = self._checked(part) if news else []
        if found is None:
            self.bad_hits += 1
            self._fail(now, src, worker, lease.span, f"{src} reported a hit that is none")
            return
        before = lease.unreported.measure
        fresh = self.ledger.report(lease, spans)
        worker.tested += before - lease.unreported.measure
        worker.sizer.measured(before - lease.unreported.measure, part.busy_ns)
        self._learn(now, src, fresh, found)
        if self.ended is not None:
            return
        if part.error:
            self._fail(now, src, worker, lease.span, part.error)
        elif part.ended:
            start, stop = lease.span
            if not lease.unreported:
                worker.sizer.clean(stop - start)
            if self._end_lease(lease, silent=False):
                self._advert_at = now

    def _adopt(self, now: int, src: NodeId, worker: _Worker, sequence: int, part: Part) -> None:
        """Take in what a worker has finished under an earlier epoch."""
        if sequence in worker.adopted:
            return
        worker.adopted.add(sequence)
        spans = [done.span for done in part.done]
        found = self._checked(part)
        if found is None:
            self.bad_hits += 1
            self._fail(now, src, worker, (spans or [(0, 0)])[0], f"{src} reported a hit that is none")
            return
        worker.tested += sum(stop - start for start, stop in spans)
        self._learn(now, src, self.ledger.adopt(spans), found)

    def _checked(self, part: Part) -> list[Hit] | None:
        """The hits of a part, lowest first; None if one of them is none, or lies elsewhere."""
        found = sorted(Hit(hit.n, hit.digest) for hit in part.hits)
        done = IntervalSet(done.span for done in part.done)
        right = all(hit.n in done and self._oracle.check(hit.n) == hit.digest for hit in found)
        return found if right else None

    def _learn(self, now: int, src: NodeId, spans: list[Span], found: list[Hit]) -> None:
        """`spans` are done for the first time; of what was found only hits in them are new."""
        fresh = IntervalSet(spans)
        hits = [hit for hit in found if hit.n in fresh]
        if self.job.rule in (StopRule.FIRST, StopRule.COUNT):
            hits = hits[: self.job.hits_wanted - self.hits]  # with them the job is over
        if self.checkpoints is not None:
            self.checkpoints.add(spans, hits)
        for n, digest in hits:
            if n in self.ledger.wanted and self.ended is None:
                self._hit(now, src, n, digest)

    def _acknowledge(self, src: NodeId, report: TaskReport) -> None:
        kept = self.checkpoints is None or not any(part.done for part in report.parts)
        if self.checkpoints is not None and not kept:
            self.checkpoints.wait(Received(src, report.incarnation, report.sequence))
        self._send(src, TaskAck(self.job.id, report.sequence, kept))

    def _hit(self, now: int, src: NodeId, n: int, digest: bytes) -> None:
        if self.job.rule is StopRule.LOWEST:
            self._lowest = n, digest, src
            for lease in self.ledger.truncate(n + 1):
                self._workers[lease.worker].leases.discard(lease.id)
                self._send(lease.worker, TaskCancel(self.job.id, (lease.id,)))
            return
        self.hits += 1
        self._emit(HitFound(self.job.id, n, digest, src))
        if self.job.rule is not StopRule.ALL and self.hits >= self.job.hits_wanted:
            self._end(now, "found", "")

    def _fail(self, now: int, src: NodeId, worker: _Worker, span: Span, why: str) -> None:
        """A worker that cannot do the job gets no more of it; when none is left that can, the job has failed."""
        worker.benched = True
        self._emit(Notice(f"{src} gets no more of job {self.job.id}: {why}"))
        for held in self._leases_of(worker):
            self._end_lease(held, silent=True)
        self._send(src, JobClosed(self.job.id, "failed here"))
        self._advert_at = now
        benched = [node for node, other in self._workers.items() if other.benched]
        nobody_left = all(node in benched for node in self._neighbours)
        if nobody_left or len(benched) >= self.config.failures_max:
            start, stop = span
            self._end(now, "failed", f"{why} (integers {start} to {stop})")

    def _end_if_done(self, now: int) -> None:
        if self.ended is not None or not self.ledger.complete:
            return
        if self._lowest is not None:
            n, digest, src = self._lowest
            self.hits, self._lowest = 1, None
            self._emit(HitFound(self.job.id, n, digest, src))
            self._end(now, "found", "")
        else:
            self._end(now, "complete" if self.job.rule is StopRule.ALL else "exhausted", "")

    def _end(self, now: int, status: str, detail: str) -> None:
        self.ended = JobEnded(
            job=self.job.id,
            status=status,
            detail=detail,
            hits=self.hits,
            done=self.ledger.done.measure,
            tested=self.ledger.tested,
            recomputed=self.ledger.released,
            elapsed_ns=now - self._started_at,
            workers=self._views(),
        )
        if self.checkpoints is None:
            self._close(status)
        else:  # until that is in the log they keep what they have, and need not do more
            for lease in list(self.ledger.leases.values()):
                self._send(lease.worker, TaskCancel(self.job.id, (lease.id,)))
        self._emit(self.ended)
        self._advert_at, self._progress_at, self._sweep_at = now, NEVER, NEVER

    def _close(self, status: str) -> None:
        for node in self._workers:
            self._send(node, JobClosed(self.job.id, status))

    # -- adverts

    def _advertise(self, now: int) -> None:
        self._publish(self._advert(now))
        self._advert_at = now + self.config.period_ns if self.ended is None else NEVER
        if now < self._lease_from:
            self._advert_at = min(self._advert_at, self._lease_from)

    def _advert(self, now: int) -> JobAdvert:
        unleased = min(self.ledger.unleased.measure, (1 << 64) - 1)
        if self.ended is not None or not self._leases(now):
            unleased = 0
        about = self.job.id, self.job.kernel, unleased, self.epoch, self.priority
        return JobAdvert(self.me, self.incarnation, next(self._sequence), *about)


def _fits(lease: Lease, part: Part) -> bool:
    """Whether the part speaks of integers of its lease only, and its hits of integers it says are done."""
    start, stop = lease.span
    spans = [done.span for done in part.done]
    if not all(start <= low and high <= stop for low, high in spans):
        return False
    done = IntervalSet(spans)
    return all(hit.n in done for hit in part.hits)
