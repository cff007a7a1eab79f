"""A peer that passes parts of its leases on to neighbours, and answers for them as one fast worker: a job's tree.

```
 coordinator ─ lease ─► peer ─ sublet ─► child ─ sublet ─► …          adverts name the ancestors of whoever passes on:
             ◄ report ─      ◄ report ─        ◄ report ─             nobody takes from its own descendant
```

To the rest of the peer a sublet is one more slice of a lease, searched elsewhere. A child is told that its report is
kept only when what it holds is kept above; should its parent vanish, it turns to whoever else passes the job on, first
with what it has finished. A report may come late, when its sublet was taken back: then what nobody has begun again
counts; or from a child of an earlier process of ours: that goes up as searched for somebody who is gone.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from zlb.core.config import CoordinatorConfig, Method, WorkerConfig
from zlb.core.errors import ErrorCode
from zlb.core.events import Notice
from zlb.core.ids import JobId, LeaseId, NodeId, Span
from zlb.core.limits import ANCESTORS_MAX, CHILDREN_MAX, INTEGERS_MAX, LATE_LEASES_MAX
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Checker, Hit, Oracle
from zlb.protocols.checkpoints import Received
from zlb.protocols.examiner import CountTest, Examiner, Terms
from zlb.protocols.holdings import FOR_YOU, HeldLease, Holding, Piece, Receipt
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.runs import Runs
from zlb.protocols.sizing import Sizer
from zlb.wire.messages import (
    Grant,
    JobAdvert,
    JobClosed,
    Part,
    Refused,
    Sampled,
    TaskAck,
    TaskCancel,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

SUBLETS = 1 << 20
"""Numbers between the first sublets of two incarnations: what one passed on is not taken for what the other did."""


@dataclass(slots=True)
class Sublet:
    """`span` of a lease of ours, in the hands of a child."""

    id: LeaseId
    child: NodeId
    job: Holding
    lease: HeldLease
    span: Span
    heard_at: int
    unreported: IntervalSet = field(init=False)

    def __post_init__(self) -> None:
        self.unreported = IntervalSet([self.span])


@dataclass(slots=True)
class _Child:
    """A worker below us, for one job."""

    incarnation: int
    sizer: Sizer
    slots: int = 1
    rtt_ns: int = 0
    request: int = -1
    granted: tuple[LeaseId, ...] = ()
    sublets: set[LeaseId] = field(default_factory=set)
    hungry: bool = False
    benched: bool = False
    count_test: CountTest = field(default_factory=CountTest)


class Redistribution(Core):
    """Passes on what `jobs` hold, beside the slots of `runs`. `sequence` numbers all adverts of this node."""

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        config: WorkerConfig,
        runs: Runs,
        jobs: Mapping[JobId, Holding],
        sequence: Iterator[int],
        checker: Checker,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.me, self.incarnation, self.config = me, incarnation, config
        self._runs, self._jobs, self._sequence = runs, jobs, sequence
        self._checker, self._rng = checker, rng
        self._oracles: dict[JobId, Oracle | None] = {}
        self._children: dict[JobId, dict[NodeId, _Child]] = {}
        self._sublets: dict[LeaseId, Sublet] = {}
        self._past: OrderedDict[LeaseId, Sublet] = OrderedDict()
        """Ended ones, for reports that come late; the oldest are forgotten."""
        self._next_id = incarnation * SUBLETS % INTEGERS_MAX
        self._advert_at = NEVER
        self._neighbours: dict[NodeId, None] = {}
        """Who could hear our adverts."""
        self._offer_at: dict[JobId, int] = {}

    def deadline(self) -> int:
        """ns; the next advert, which is when silent children are looked for, too."""
        return self._advert_at

    def slots(self, job: JobId) -> int:
        """Of all children."""
        return sum(child.slots for child in self._children.get(job, {}).values())

    def on_lease(self, now: int, job: Holding) -> None:
        """We hold something: after a while it is offered to neighbours, who may not hear of the job otherwise."""
        if self.config.redistributes and job.job not in self._offer_at:
            self._offer_at[job.job] = at = now + self.config.offer_ns
            self._advert_at = min(self._advert_at, at)

    def on_tick(self, now: int) -> None:
        """Take back what silent children hold; tell neighbours of our jobs."""
        if now < self._advert_at:
            return
        for sublet in list(self._sublets.values()):
            if now - sublet.heard_at >= self.config.sublet_silence_ns:
                self._emit(Notice(f"{sublet.child} is silent: what it was passed on is taken back"))
                self._end(sublet)
        later = [at for at in self._offer_at.values() if at > now]
        self._advert_at = min([now + self.config.offer_period_ns, *later]) if self._offer_at else NEVER
        for job in self._jobs.values():
            above = (job.coordinator, *job.ancestors)
            heard = any(node not in above for node in self._neighbours)
            if heard and self._offer_at.get(job.job, NEVER) <= now and self._advertises(job):
                self._publish(self._advert(job))

    def on_neighbour(self, now: int, node: NodeId) -> None:
        """It may not have subscribed yet."""
        self._neighbours[node] = None
        for job in self._jobs.values():
            if self._offer_at.get(job.job, NEVER) <= now and self._advertises(job):
                self._send(node, self._advert(job))

    def on_lost(self, node: NodeId) -> None:
        """A child is gone: what it did not report is ours again. Whoever is not believed is not forgotten."""
        self._neighbours.pop(node, None)
        for children in self._children.values():
            child = children.get(node)
            if child is not None and not child.benched:
                del children[node]
                for sublet in sorted(child.sublets):
                    self._end(self._sublets[sublet])

    def feed(self, job: Holding) -> None:
        """Leases have come: children that got nothing hear of it."""
        for node, child in self._children.get(job.job, {}).items():
            if child.hungry and job.left:
                child.hungry = False
                self._send(node, self._advert(job))

    def drop(self, job: Holding, over: bool) -> None:
        """We have nothing to do with it any more: because it is `over`, also for all below us, or else only we."""
        self._oracles.pop(job.job, None)
        self._offer_at.pop(job.job, None)
        self._past = OrderedDict((one, sublet) for one, sublet in self._past.items() if sublet.job is not job)
        for node, child in self._children.pop(job.job, {}).items():
            for sublet in sorted(child.sublets):
                self._sublets.pop(sublet, None)
            if over:
                self._send(node, JobClosed(job.job, "over"))

    def abandon(self, job: Holding, lease: HeldLease) -> None:
        """Nobody needs this lease any more, nor what was searched of it and not yet reported."""
        self.on_kept(job, [piece.receipt for piece in lease.pieces if piece.receipt is not None])
        for sublet in [one for one in self._sublets.values() if one.lease is lease]:
            self._send(sublet.child, TaskCancel(sublet.job.job, (sublet.id,)))
            self._forget(sublet)

    def take_back(self) -> None:
        """We are about to leave: children do no more for us."""
        for sublet in list(self._sublets.values()):
            self._send(sublet.child, TaskCancel(sublet.job.job, (sublet.id,)))
            self._end(sublet)

    # -- requests and reports of children

    def on_task_request(self, now: int, src: NodeId, message: TaskRequest) -> bool:
        """Whether it is about a job we pass on; then the child gets some of what we hold, or hears of it later."""
        job = self._jobs.get(JobId(message.job))
        if job is None or not self._offers(job) or message.epoch != job.epoch or job.spec is None:
            return False
        child = self._child(src, job, message)
        if child is None or message.sequence < child.request:
            return True
        if message.sequence > child.request:
            child.request, child.slots, child.rtt_ns = message.sequence, message.slots, message.rtt_ns
            child.sizer.claim(message.rate)
            child.granted = tuple(self._sublet(now, src, child, job, message.want))
            child.hungry = len(child.granted) < message.want
        live = [self._sublets[one] for one in child.granted if one in self._sublets]
        spec = None if message.knows else job.spec
        self._send(src, TaskTransfer(job.job, message.sequence, tuple(map(_grant, live)), spec))
        return True

    def on_task_report(self, now: int, src: NodeId, message: TaskReport) -> Holding | None:
        """The job it is about, if we pass that on; then what the child has done is entered as if we had."""
        job = self._jobs.get(JobId(message.job))
        children = self._children.get(JobId(message.job), {})
        if job is None or not self._offers(job) or message.epoch != job.epoch:
            return None
        child = children.get(src)
        if child is not None and child.benched:
            self._refuse(src, job)
            return job
        if child is not None and message.incarnation < child.incarnation:
            return job
        report = Received(src, message.incarnation, message.sequence)
        receipt = job.receive(report)
        if receipt is not None and (why := self._take_in(now, src, job, message, receipt)):
            del job.receipts[report]
            self._dismiss(src, job, why, message.incarnation)
            return job
        for one in job.kept([]):
            if one != report:
                self._send(one.worker, TaskAck(job.job, one.sequence))
        self._send(src, TaskAck(job.job, message.sequence, report not in job.receipts))
        return job

    def _take_in(self, now: int, src: NodeId, job: Holding, message: TaskReport, receipt: Receipt) -> str:
        """Enter all parts of a report, or say why one cannot be true."""
        for part in message.parts:
            lease = LeaseId(part.lease)
            sublet = self._sublets.get(lease) or self._past.get(lease)
            if sublet is None:  # searched for somebody who is gone: whoever is above us may judge
                why = self._adopt(job, part, receipt)
            elif sublet.child != src or sublet.job is not job:
                why = "reported what another was given"
            else:
                why = self._enter(now, sublet, part, receipt)
            if why:
                return why
        receipt.complete = True
        return ""

    def on_kept(self, job: Holding, receipts: list[Receipt]) -> None:
        """Pieces with these receipts are kept above: then their senders need not keep them any longer."""
        for node, _, sequence in job.kept(receipts):
            self._send(node, TaskAck(job.job, sequence))

    def _offers(self, job: Holding) -> bool:
        """Whether we pass it on: with a parent that lives, and not too far down."""
        mine = job.coordinator == self.me
        return self.config.redistributes and not (mine or job.silent) and len(job.ancestors) < ANCESTORS_MAX

    def _advertises(self, job: Holding) -> bool:
        """Whether others are to hear of it: not while the owner of the machine needs it."""
        return self._offers(job) and not self._runs.halted

    def _child(self, src: NodeId, job: Holding, message: TaskRequest) -> _Child | None:
        children = self._children.setdefault(job.job, {})
        child = children.get(src)
        if child is None and (src == job.coordinator or src in job.ancestors):
            return None  # it is above us
        if child is not None and child.benched:
            self._refuse(src, job)
            return None
        if child is not None and message.incarnation > child.incarnation:
            self.on_lost(src)
            child = None
        if child is None and len(children) >= CHILDREN_MAX:
            self._send(src, Refused(ErrorCode.FULL, f"{CHILDREN_MAX} peers work below for job {job.job}"))
            return None
        if child is None:
            child = children[src] = self._new_child(message.incarnation)
            self._emit(Notice(f"passes job {job.job} on to {src}"))
        return child if child.incarnation == message.incarnation else None

    def _new_child(self, incarnation: int) -> _Child:
        return _Child(incarnation, Sizer(CoordinatorConfig(chunk_ns=self.config.sublet_ns)))

    def _sublet(self, now: int, src: NodeId, child: _Child, job: Holding, want: int) -> Iterator[LeaseId]:
        """Hand over slices, of the leases that came last: our own slots begin with the first."""
        for _ in range(want):
            lease = next(
                (held for held in reversed(job.leases.values()) if held.todo and not held.alone), None
            )
            if lease is None:
                return
            power = job.rate * self.config.slots + sum(
                one.sizer.rate * one.slots for one in self._children[job.job].values()
            )
            span = lease.todo.take_lowest(child.sizer.next_count(job.left, power, child.rtt_ns))
            assert span is not None, "what has something to do has a lowest"
            if not lease.todo:
                self._runs.unqueue(lease)
            lease.running += 1
            self._next_id += 1
            sublet = Sublet(LeaseId(self._next_id), src, job, lease, span, now)
            self._sublets[sublet.id] = sublet
            child.sublets.add(sublet.id)
            yield sublet.id

    def _enter(self, now: int, sublet: Sublet, part: Part, receipt: Receipt) -> str:
        """Take in a part of a child's report, or say why it cannot be true."""
        lease, job, live = sublet.lease, sublet.job, sublet.id in self._sublets
        spans = [done.span for done in part.done]
        if not all(sublet.span[0] <= start and stop <= sublet.span[1] for start, stop in spans):
            return "reported what it was not given"
        nobodys = sublet.unreported if live else lease.todo  # what is late may have been begun again
        new = [piece for span in spans for piece in nobodys.overlap(*span)]
        child = self._children.get(job.job, {}).get(sublet.child)
        if why := self._wrong(job, lease, child, part, new):
            return why
        sublet.heard_at = now
        size = sum(stop - start for start, stop in spans)
        for start, stop in new:
            nobodys.remove(start, stop)
            hits = tuple(Hit(hit.n, hit.digest) for hit in part.hits if start <= hit.n < stop)
            samples = tuple(tuple(n for n in some if start <= n < stop) for some in part.samples)
            if job.leases.get(lease.id) is lease:
                busy_ns = part.busy_ns * (stop - start) // size
                job.add_piece(lease, Piece(start, stop, hits, busy_ns, samples, receipt))
                receipt.pieces += 1
            elif lease.orphaned:
                job.orphan([(start, stop)], hits)
                receipt.orphans = True
        if child is not None and live:
            child.sizer.measured(size, part.busy_ns)
            if part.ended and not sublet.unreported:
                child.sizer.clean(size)
        self._go_on(sublet, part)
        return ""

    def _go_on(self, sublet: Sublet, part: Part) -> None:
        """What a part says about its sublet as a whole: that it has ended, perhaps because it cannot be searched."""
        lease, job, live = sublet.lease, sublet.job, sublet.id in self._sublets
        if part.error and live:
            lease.error = lease.error or part.error
            lease.shrink(0)
        if not lease.todo:
            self._runs.unqueue(lease)
        if live and (part.ended or not sublet.unreported):
            self._end(sublet)
        self._runs.see_if_enough(job, lease)

    def _adopt(self, job: Holding, part: Part, receipt: Receipt) -> str:
        """Take in what a child has searched for somebody who is gone, or say why it cannot have found what it says."""
        spans = IntervalSet(done.span for done in part.done)
        oracle = self._oracle(job)
        hits = [Hit(hit.n, hit.digest) for hit in part.hits]
        if not all(n in spans and (oracle is None or oracle.check(n) == digest) for n, digest in hits):
            return "reported a hit that is none"
        job.orphan(spans, hits)
        receipt.orphans |= bool(spans)
        return ""

    def _wrong(
        self, job: Holding, lease: HeldLease, child: _Child | None, part: Part, new: list[Span]
    ) -> str:
        """Why a child's part cannot be true, as far as hashes of ours and its shares tell: we answer for it above."""
        oracle = self._oracle(job)
        if not new:  # a repeated report
            return ""
        if oracle is not None and not all(oracle.check(hit.n) == hit.digest for hit in part.hits):
            return "reported a hit that is none"
        examiner = Examiner(None if oracle is None else oracle.word, Method.SHARES, self._rng)
        test = CountTest() if child is None else child.count_test
        inside = IntervalSet(new)
        samples = [[n for n in some if n in inside] for some in part.samples]
        return examiner.wrong(Terms(lease.patterns), test, new, samples)

    def _oracle(self, job: Holding) -> Oracle | None:
        if job.job not in self._oracles and job.spec is not None:
            found = self._checker(job.spec.kernel, job.spec.params)
            self._oracles[job.job] = None if isinstance(found, str) else found
        return self._oracles.get(job.job)

    def _dismiss(self, node: NodeId, job: Holding, why: str, incarnation: int) -> None:
        """A child is not believed: it gets nothing more of this job from us, and what it holds is ours again."""
        self._emit(Notice(f"{node} gets no more of job {job.job} from us: {why}"))
        child = self._children.setdefault(job.job, {}).setdefault(node, self._new_child(incarnation))
        child.benched = True
        for sublet in sorted(child.sublets):
            self._end(self._sublets[sublet])
        self._send(node, JobClosed(job.job, f"{FOR_YOU}: you {why}"))

    def _refuse(self, node: NodeId, job: Holding) -> None:
        self._send(node, JobClosed(job.job, f"{FOR_YOU}: you are not believed"))

    def _end(self, sublet: Sublet) -> None:
        """What is left of it is ours again."""
        self._forget(sublet)
        lease, job = sublet.lease, sublet.job
        if job.leases.get(lease.id) is lease and not self._runs.halted and not lease.error:
            for start, stop in sublet.unreported:
                self._runs.put_back(job, lease, start, stop)

    def _forget(self, sublet: Sublet) -> None:
        self._sublets.pop(sublet.id, None)
        self._past[sublet.id] = sublet
        if len(self._past) > LATE_LEASES_MAX:
            self._past.popitem(last=False)
        child = self._children.get(sublet.job.job, {}).get(sublet.child)
        if child is not None:
            child.sublets.discard(sublet.id)
        sublet.lease.running -= 1

    def _advert(self, job: Holding) -> JobAdvert:
        unleased = job.left or int(job.unleased)
        about = job.job, job.kernel, unleased, job.epoch, job.priority, (*job.ancestors, job.coordinator)
        return JobAdvert(self.me, self.incarnation, next(self._sequence), *about)


def _grant(sublet: Sublet) -> Grant:
    span = sublet.span
    patterns = tuple(Sampled(pattern.mask, pattern.value) for pattern in sublet.lease.patterns)
    return Grant(span[0], span[1] - span[0], sublet.id, patterns)
