"""A job's owner: advertises it, leases subjobs to whoever pulls, keeps the ledger, ends the job by its stop rule.

```
 open ──stop rule reached | range done | cancel | failed──► closed      (JOB_CLOSED to all, and to whoever still asks)
```

Workers are not trusted to be alive: a lease nobody mentions expires, and only its unreported part is leased again. Nor
to be honest: a hit counts when one hash of our own confirms it, samples are judged by the `foreman`, and what
was done by whoever is found out is done again by others.

A job that a tracker knows outlives its coordinators: each has an epoch, begins where the checkpoints of those before it
end, takes in what workers finished for them, and tells a worker that a report is kept only when it is in the log.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping

from zlb.core.config import CoordinatorConfig
from zlb.core.effects import Effect
from zlb.core.errors import ErrorCode
from zlb.core.events import HitFound, JobEnded, JobProgress, JobWaits, Notice
from zlb.core.ids import NO_LEASE, LeaseId, NodeId
from zlb.core.limits import HITS_PER_REPORT_MAX, PRIORITY_DEFAULT, SECOND
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Job, Oracle, StopRule
from zlb.protocols.checkpoints import Checkpoints, Received, Resumed
from zlb.protocols.foreman import Entered, Foreman
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.ledger import Lease, Ledger
from zlb.protocols.quorum import new_ledger
from zlb.protocols.trust import Trust
from zlb.wire.messages import (
    Grant,
    JobAdvert,
    JobClosed,
    Part,
    Refused,
    Sampled,
    Spec,
    TaskAck,
    TaskCancel,
    TaskProof,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

NEW = Resumed()
"""Nothing was done before."""
SWEEPS = 8
"""Looks at all leases within one silence: an expiry is noticed at most an eighth late, and a step costs O(1)."""

IDLE_NS = 5 * SECOND
"""A job that nobody works for so long, though it could be worked for, is said to wait: peers that look for work ask
within two seconds."""
UNFIT_NS = 3 * SECOND
"""So long others may be on their way, if those who were found out before are the only ones there."""


class Coordinator(Core):
    """Sees one job through. Emits `HitFound` for every hit once, `JobProgress` now and then, `JobEnded` once.

    In an `epoch` above 0, whoever composes it takes the news out of `checkpoints`, and calls `on_kept` when they are in
    the log, and `close` when the end of the job is. `sequence` numbers the adverts of all coordinators of a node. What
    is drawn from `rng` must not be guessed by workers; `trust` is what earlier jobs have told of them.
    """

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        job: Job,
        oracle: Oracle,
        config: CoordinatorConfig,
        rng: random.Random,
        epoch: int = 0,
        resumed: Resumed = NEW,
        sequence: Iterator[int] | None = None,
        trust: Mapping[NodeId, Trust] | None = None,
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.job, self.config, self.epoch = me, incarnation, job, config, epoch
        self.checkpoints = Checkpoints() if epoch else None
        self.priority = PRIORITY_DEFAULT
        self.paused = False
        """While it is, nothing more is leased."""
        self.ledger: Ledger = new_ledger(config, job.spans, resumed.done)
        self.ledger.tested, self.ledger.released = resumed.tested, resumed.recomputed
        self.foreman = Foreman(job, oracle, config, rng, self.ledger, self.checkpoints, epoch, trust or {})
        self.foreman.retold.update(resumed.loose)
        self.ended: JobEnded | None = None
        self.hits = 0 if resumed.lowest is not None and job.rule is StopRule.LOWEST else resumed.hits
        self.strange = 0
        """Messages about leases that are not their sender's."""
        self._lowest: tuple[int, bytes, NodeId] | None = None
        if resumed.lowest is not None and job.rule is StopRule.LOWEST:
            self._lowest = *resumed.lowest, me
            self.ledger.truncate(resumed.lowest.n + 1)
        self._sequence = itertools.count(1) if sequence is None else sequence
        self._advert_at = self._progress_at = self._sweep_at = self._spots_until = NEVER
        self._started_at = self._lease_from = self._busy_at = 0
        self._waits = ""

    # -- events

    def deadline(self) -> int:
        """ns; the next advert, progress event, expiry, or look at stragglers and spot checks."""
        if self.ended is not None:
            return self._advert_at
        mine = min(self._advert_at, self._progress_at, self._sweep_at, self._spots_until)
        return min(mine, self.foreman.deadline())

    def on_start(self, now: int) -> list[Effect]:
        """Advertise the job."""
        self._started_at = now
        self._lease_from = now + self.config.adopt_ns if self.epoch > 1 else now
        self._advert_at = self._progress_at = self._busy_at = now
        self._sweep_at = now + self.config.silence_ns // SWEEPS
        if self.job.rule in (StopRule.FIRST, StopRule.COUNT) and self.hits >= self.job.hits_wanted:
            self._end(now, "found", "")
        self._end_if_done(now)
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Expire silent leases, advertise, tell how far we are, look after stragglers and spot checks."""
        if self.ended is None:
            if now >= self._sweep_at:
                self.foreman.expire(now)
                if now - self._started_at >= UNFIT_NS:
                    self.foreman.give_up_if_unfit()
                self._sweep_at = now + self.config.silence_ns // SWEEPS
            self.foreman.on_tick(now, self._leases(now))
            self._settle(now)
        if now >= self._advert_at:
            self._advertise(now)
        if now >= self._progress_at:
            self._emit(self.progress(now))
            self._progress_at = now + self.config.progress_ns
        return self._flush()

    def on_neighbour(self, now: int, node: NodeId) -> list[Effect]:
        """A new neighbour may not have subscribed yet: hand it the advert."""
        self.foreman.neighbours[node] = None
        if self.ended is None:
            self._send(node, self._advert(now))
        return self._flush()

    def on_lost(self, now: int, node: NodeId) -> list[Effect]:
        """A worker left or fell silent: its leases are over."""
        self.foreman.neighbours.pop(node, None)
        if self.ended is None:
            self.foreman.gone(now, node)
            self._settle(now)
        return self._flush()

    def on_task_request(self, now: int, src: NodeId, message: TaskRequest) -> list[Effect]:
        """Lease subjobs to `src`; a repeated request gets the same leases again, a stale one nothing."""
        if not self._is_ours(now, src, message):
            return self._flush()
        hand = self.foreman.hand(now, src, message.incarnation)
        if hand is None or message.sequence < hand.request:
            return self._settled(now)
        if message.sequence > hand.request:
            hand.request, hand.slots, hand.rtt_ns = message.sequence, message.slots, message.rtt_ns
            hand.sizer.claim(message.rate)
            leases = self.foreman.lessor.grant(now, hand, message.want) if self._leases(now) else []
            hand.granted = tuple(lease.id for lease in leases)
            self._busy_at = now if leases else self._busy_at
        live = [self.ledger.leases[lease] for lease in hand.granted if lease in self.ledger.leases]
        spec = None if message.knows else self._spec()
        self._send(src, TaskTransfer(self.job.id, message.sequence, tuple(map(_grant, live)), spec))
        return self._settled(now)

    def on_task_report(self, now: int, src: NodeId, message: TaskReport) -> list[Effect]:
        """Enter what `src` has done into the ledger and acknowledge it; end the job when the stop rule is reached."""
        if not self._is_ours(now, src, message):
            return self._flush()
        hand = self.foreman.hand(now, src, message.incarnation)
        if hand is None:
            return self._settled(now)
        for part in message.parts:
            lease = self.ledger.find(LeaseId(part.lease))
            if part.lease == NO_LEASE:
                entered = self.foreman.adopt(hand, message.sequence, part, now - self._started_at)
            elif lease is None or lease.worker != src or not _fits(lease, part):
                self.strange += 1
                self._send(src, Refused(ErrorCode.NOT_YOURS, f"lease {part.lease} of job {self.job.id}"))
                continue
            else:
                lease.heard_at = now
                entered = self.foreman.enter(hand, lease, part, now - self._started_at)
            if entered is not None:
                self._learn(now, src, entered)
            if self.ended is not None or hand.benched:
                return self._settled(now)
            if lease is not None:
                self.foreman.go_on(now, hand, lease, part)
        self._acknowledge(src, message)
        return self._settled(now)

    def forget_evidence(self) -> None:
        """Nobody keeps it: there will be no certificate."""
        self.foreman.evidence = None
        if self.checkpoints is not None:
            self.checkpoints.evidence = None

    def on_task_proof(self, now: int, src: NodeId, message: TaskProof) -> list[Effect]:
        """A worker opens what it has committed to: the block can be searched again now."""
        if self.ended is None and message.job == self.job.id:
            self.foreman.on_task_proof(now, src, message)
            self._settle(now)
        return self._flush()

    def on_kept(self, reports: Iterable[Received]) -> list[Effect]:
        """These reports are in the tracker's log: their workers need not keep them any longer."""
        for node, incarnation, sequence in reports:
            hand = self.foreman.crew.get(node)
            if hand is not None and hand.incarnation == incarnation:  # else it counts anew
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
            workers=self.foreman.crew.views(),
        )

    # -- workers and their leases

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

    # -- results

    def _learn(self, now: int, src: NodeId, entered: Entered) -> None:
        """Integers are told of for the first time; of what was found only hits in them are new."""
        news, retold = entered.news, self.foreman.retold
        new = set(news.hits) - retold
        retold.difference_update(news.hits)
        hits = [hit for hit in entered.found if hit.n in new]
        if self.job.rule in (StopRule.FIRST, StopRule.COUNT):
            hits = hits[: self.job.hits_wanted - self.hits]  # with them the job is over
        if self.checkpoints is not None:
            self.checkpoints.add(news.done, hits)
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
                self.foreman.crew[lease.worker].leases.discard(lease.id)
                self._send(lease.worker, TaskCancel(self.job.id, (lease.id,)))
            return
        self.hits += 1
        self._emit(HitFound(self.job.id, n, digest, src))
        if self.job.rule is not StopRule.ALL and self.hits >= self.job.hits_wanted:
            self._end(now, "found", "")

    # -- the end

    def _settle(self, now: int) -> None:
        """Every step ends with this: those who wait for work hear of some, or the job is over."""
        foreman = self.foreman
        self._out += foreman.flush()
        if self.ended is None and foreman.hopeless:
            self._end(now, "failed", foreman.hopeless)
        if self.ended is not None:
            return
        if foreman.returned:
            foreman.returned, self._advert_at = False, now
        for node in foreman.lessor.fed(now) if self._leases(now) else ():
            self._send(node, self._advert(now))
        self._end_if_done(now)

    def _settled(self, now: int) -> list[Effect]:
        self._settle(now)
        return self._flush()

    def _end_if_done(self, now: int) -> None:
        if self.ended is not None or not self.ledger.complete:
            self._spots_until = NEVER
            return
        if len(self.foreman.spots) and len(self.foreman.fit()) > 1:
            self._spots_until = min(self._spots_until, now + self.config.spot_ns)
            if now < self._spots_until:
                return
        if not self.foreman.settle():
            return
        if self._lowest is not None:
            n, digest, src = self._lowest
            self.hits, self._lowest = 1, None
            self._emit(HitFound(self.job.id, n, digest, src))
            self._end(now, "found", "")
        else:
            self._end(now, "complete" if self.job.rule is StopRule.ALL else "exhausted", "")

    def _end(self, now: int, status: str, detail: str) -> None:
        evidence = self.foreman.evidence
        self.ended = JobEnded(
            job=self.job.id,
            status=status,
            detail=detail,
            hits=self.hits,
            done=self.ledger.done.measure,
            tested=self.ledger.tested,
            recomputed=self.ledger.released,
            elapsed_ns=now - self._started_at,
            workers=self.foreman.crew.views(),
            rows=() if evidence is None else evidence.rows(self.ledger.done),
            coordinator=self.me,
        )
        if self.config.remembers:
            for node, trust in self.foreman.learned():
                self._persist(trust.standing(node))
        if self.checkpoints is None:
            self._close(status)
        else:  # until that is in the log they keep what they have, and need not do more
            for lease in list(self.ledger.leases.values()):
                self._send(lease.worker, TaskCancel(self.job.id, (lease.id,)))
        self._emit(self.ended)
        self._advert_at, self._progress_at, self._sweep_at = now, NEVER, NEVER

    def _close(self, status: str) -> None:
        for hand in self.foreman.crew:
            self._send(hand.node, JobClosed(self.job.id, status))

    # -- adverts

    def _advertise(self, now: int) -> None:
        waits = self._why_waits(now)
        if waits != self._waits:
            self._waits = waits
            if waits:
                self._emit(JobWaits(self.job.id, waits))
        self._publish(self._advert(now))
        self._advert_at = now + self.config.period_ns if self.ended is None else NEVER
        if now < self._lease_from:
            self._advert_at = min(self._advert_at, self._lease_from)

    def _why_waits(self, now: int) -> str:
        """Why nobody works for the job, though there are peers and something to do; empty if it does not wait."""
        if self.ended is not None:
            return ""
        fit = self.foreman.fit()
        if waits := self.ledger.waits(fit):
            return waits
        if self.ledger.leases or not (fit and self.ledger.open and self._leases(now)):
            self._busy_at = now
        if now - self._busy_at < IDLE_NS:
            return ""
        return "no peer takes any of it: those that could are resting, too far away, or busy with other work"

    def _advert(self, now: int) -> JobAdvert:
        unleased = min(self.foreman.lessor.available(), (1 << 64) - 1)
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


def _grant(lease: Lease) -> Grant:
    patterns = tuple(Sampled(pattern.mask, pattern.value) for pattern in lease.terms.patterns)
    return Grant(lease.span[0], lease.size, lease.id, patterns, lease.terms.blocks)
