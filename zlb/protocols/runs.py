"""Leases in slices on slots: what is started next, what has come back and whose it is.

One run a slot is going and one is waiting, each a slice of about `slice_ns` of one lease, or several short leases that
follow each other and are asked for the same samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from zlb.core.config import WorkerConfig
from zlb.core.events import Notice
from zlb.core.ids import JobId, RunId
from zlb.core.limits import HITS_PER_REPORT_MAX, MS, PIECES_UNREPORTED_MAX, SECOND, TEXT_BYTES_MAX
from zlb.core.node import Core
from zlb.core.work import Failed, Outcome, Search, Searched
from zlb.protocols.holdings import HeldLease, Holding, Piece, Running, Share
from zlb.protocols.sizing import SMOOTHING

MEASURED_NS_MIN = MS // 4
"""A shorter run says more about the clock than about the rate."""

USUAL = 4.0
"""A job whose rate is less than so many times the kernel's, and more than that part of it, is as usual."""


class Runs(Core):
    """Keeps `config.slots` slots busy with `queue`. `rates` are integers a second and slot, by kernel."""

    def __init__(self, config: WorkerConfig, run_ids: Iterator[int], rates: dict[str, float]) -> None:
        super().__init__()
        self.config, self.rates = config, rates
        self.queue: list[tuple[Holding, HeldLease]] = []
        """Leases with something to start, oldest first."""
        self.running: dict[RunId, Running] = {}
        self.tested = 0
        self.halted = False
        """Whether nothing is to be started, nor kept for later."""
        self._run_ids = run_ids

    def start(self) -> None:
        """Start what there is room for, from at most one lease per slot, oldest first."""
        while len(self.running) < 2 * self.config.slots and self.queue and not self.halted:
            front = self._front()
            if not front:
                return
            job, lease = front[0]
            spec = job.spec
            assert spec is not None, "leases come with a spec"
            rate = job.rate or self.rates.get(spec.kernel, 0.0)
            shares = [self._take(job, lease, int(rate * self.config.slice_ns / SECOND))]
            self._take_neighbours(job, shares, int(rate * self.config.run_ns / SECOND))
            hits_max = spec.hits_max - lease.hits if spec.hits_max else HITS_PER_REPORT_MAX
            run_id = RunId(next(self._run_ids))
            self.running[run_id] = run = Running(job, tuple(shares))
            span = run.start, run.stop
            self._run(run_id, Search(spec.kernel, spec.params, *span, max(hits_max, 1), lease.patterns))

    def _front(self) -> list[tuple[Holding, HeldLease]]:
        """What may be started next, best first: of the jobs that matter most, whichever has least going; of each job
        its oldest leases, one per slot."""
        by_job: dict[JobId, list[tuple[Holding, HeldLease]]] = {}
        for job, lease in self.queue:
            mine = by_job.setdefault(job.job, [])
            if job.unreported < PIECES_UNREPORTED_MAX and len(mine) < self.config.slots:
                mine.append((job, lease))
        front = [pair for mine in by_job.values() for pair in mine]
        going = Counter(run.holding.job for run in self.running.values())
        front.sort(key=lambda pair: (-pair[0].priority, going[pair[0].job], pair[1].running))
        return front

    def on_done(self, run_id: RunId, outcome: Outcome) -> Running:
        """A run has come back: give each lease its share of it; returns whose it was."""
        run = self.running.pop(run_id)
        for share in run.shares:
            share.lease.running -= 1
        match outcome:
            case Searched(stopped_at, _, busy_ns):
                self.tested += stopped_at - run.start
                self._measure(run.holding, stopped_at - run.start, busy_ns)
                self._searched(run, outcome)
            case Failed(detail):
                self._failed(run, detail)
        return run

    def halt(self) -> None:
        """Stop all runs; nothing more is started until `halted` is false again."""
        self.halted = True
        for run_id in self.running:
            self._stop(run_id)

    def abandon(self, lease: HeldLease) -> None:
        """Stop the runs of a lease; they still come back, and are ignored."""
        self.unqueue(lease)
        lease.todo.clear()
        for run_id, run in self.running.items():
            if any(share.lease is lease for share in run.shares):
                self._stop(run_id)

    def unqueue(self, lease: HeldLease) -> None:
        """Start nothing more of it."""
        self.queue = [pair for pair in self.queue if pair[1] is not lease]

    def see_if_enough(self, job: Holding, lease: HeldLease) -> bool:
        """Whether a lease has all the hits that are wanted of it: then the rest of it goes back to the pool."""
        enough = job.spec is not None and 0 < job.spec.hits_max <= lease.hits
        if enough:
            self.unqueue(lease)
            lease.todo.clear()
        return enough

    def _take(self, job: Holding, lease: HeldLease, count: int) -> Share:
        """The next at most `count` integers of a queued lease, all of them if the rate is unknown (0)."""
        span = lease.todo.take_lowest(count or lease.todo.measure)
        assert span is not None, "a queued lease has something to do"
        if not lease.todo:
            self.queue.remove((job, lease))
        lease.running += 1
        return Share(lease, *span)

    def _take_neighbours(self, job: Holding, shares: list[Share], count: int) -> None:
        """Let short leases that follow each other share a run of about `count` integers: each run costs 0.3 ms."""
        first = shares[0].lease
        count -= shares[0].stop - shares[0].start
        for other, lease in list(self.queue):
            size = lease.todo.measure
            fresh = size == lease.span[1] - lease.span[0]
            follows = other is job and fresh and lease.span[0] == shares[-1].stop
            alike = lease.patterns == first.patterns
            if count < size or not follows or not alike or lease.alone or first.alone:
                return
            count -= size
            shares.append(self._take(job, lease, size))

    def _searched(self, run: Running, outcome: Searched) -> None:
        """Give each lease its share of what was searched, and what was not back to be started again."""
        job, hits = run.holding, outcome.hits
        tested = max(outcome.stopped_at - run.start, 1)
        for lease, start, stop in run.shares:
            done_to = min(max(outcome.stopped_at, start), stop)
            mine = tuple(hit for hit in hits if start <= hit.n < done_to) if hits else ()
            if lease.orphaned and start < done_to:
                job.orphan([(start, done_to)], mine)
            if job.leases.get(lease.id) is not lease:
                continue
            if start < done_to:
                samples = tuple(
                    tuple(n for n in some if start <= n < done_to)
                    for some in outcome.samples or ((),) * len(lease.patterns)
                )
                busy_ns = outcome.busy_ns * (done_to - start) // tested
                job.add_piece(lease, Piece(start, done_to, mine, busy_ns, samples))
            goes_on = not (self.see_if_enough(job, lease) or self.halted or lease.error)
            if goes_on and done_to < stop:
                self.put_back(job, lease, done_to, stop)

    def _failed(self, run: Running, detail: str) -> None:
        """Fail the lease, and give back what it has not begun. Of several that shared a run each is run alone first, to
        find out which it was."""
        job = run.holding
        for lease, start, stop in run.shares:
            if job.leases.get(lease.id) is not lease:
                continue
            if len(run.shares) > 1 and not self.halted:
                lease.alone = True
                self.put_back(job, lease, start, stop)
                continue
            lease.error = detail[:TEXT_BYTES_MAX] or "failed"
            self.unqueue(lease)
            lease.shrink(0)
            self._emit(Notice(f"job {job.job}: {detail}"))

    def put_back(self, job: Holding, lease: HeldLease, start: int, stop: int) -> None:
        """These integers of a lease have to be started after all."""
        if not lease.todo:
            self.queue.insert(0, (job, lease))
        lease.todo.add(start, stop)

    def _measure(self, job: Holding, count: int, busy_ns: int) -> None:
        """What integers cost is a matter of the job; only if it is as usual does it say something about the kernel."""
        if busy_ns < MEASURED_NS_MIN or not count:
            return
        rate = count * SECOND / busy_ns
        job.rate = (1 - SMOOTHING) * job.rate + SMOOTHING * rate if job.rate else rate
        known = self.rates.get(job.kernel)
        if known is not None and known < USUAL * rate < USUAL * USUAL * known:
            self.rates[job.kernel] = (1 - SMOOTHING) * known + SMOOTHING * rate
