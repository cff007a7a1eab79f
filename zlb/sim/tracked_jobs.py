"""Jobs for the room with trackers: what clients ask for, what is true of it, and what its end must look like."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

from zlb.core.config import Method
from zlb.core.ids import JobId, Span
from zlb.core.limits import INTEGERS_MAX, MS, SECOND
from zlb.core.work import Oracle, StopRule
from zlb.protocols.commands import Command, Prioritise, Status, Steer, Submit
from zlb.protocols.evidence import Evidence
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.registry import JobEntry
from zlb.sim.truth import Truth, digest, samples

UNCHECKABLE = b"?"
"""Parameters that begin like this are of a kernel that no peer has."""
CHUNKS: tuple[dict[str, int], ...] = (
    {"chunk_ns": 20 * MS},
    {"chunk_ns": 200 * MS},
    {"chunk_ns": 5 * SECOND},
    {"chunk_count": 1000},
    {},
)


@dataclass(slots=True)
class DrawnJob:
    """A job, the hits it has, and what its client will do with it: what and when, after it was submitted."""

    spec: Submit
    truth: Truth
    submit_at: int
    script: list[tuple[int, Command]]
    cancelled: bool = False
    """Somebody has asked for that."""
    statuses: list[Status] = field(default_factory=list)

    @property
    def spans(self) -> tuple[Span, ...]:
        """What is to be searched."""
        return tuple((start, start + count) for start, count in self.spec.spans)

    @property
    def size(self) -> int:
        """Integers to search."""
        return sum(count for _, count in self.spec.spans)

    @property
    def believed(self) -> bool:
        """Whether what a worker has finished is never searched again: where results are checked, what it did for a
        coordinator that is gone is, if it has not shown since that it can be trusted."""
        return self.spec.verify is Method.NONE

    def checker(self) -> Oracle | str:
        """How peers check its hits."""
        if self.spec.params.startswith(UNCHECKABLE):
            return "no such kernel here"
        return self.truth.oracle

    def hits(self) -> list[int]:
        """All there are, ascending."""
        return [n for start, stop in self.spans for n in self.truth.among(start, stop)]

    def check_entry(self, entry: JobEntry) -> None:
        """At any time: every hit is one, and lies in the job, as all that is done does."""
        wanted = set(self.hits())
        for n, shown in entry.hits.items():
            assert n in wanted and shown == digest(n), f"{n} is no hit of {self.spec.job}"
        inside = IntervalSet(self.spans)
        for start, count in entry.done:
            assert inside.covers(start, start + count), f"{start}+{count} is not in {self.spec.job}"

    def check_evidence(self, entry: JobEntry, evidence: Evidence) -> None:
        """What is done and wanted has rows, nothing else has, and each row has all the shares there are."""
        rows, done = evidence.rows(), IntervalSet()
        for before, row in pairwise(rows):
            assert before.stop <= row.start, f"{before} and {row} overlap"
        for row in rows:
            done.add(row.start, row.stop)
            if row.pattern is not None:
                (shares,) = samples((row.pattern,), row.start, row.stop)
                assert row.shares == shares, f"{row} has not the shares that are there"
        wanted = IntervalSet((start, start + count) for start, count in entry.done)
        if self.spec.rule is StopRule.LOWEST and entry.hits:
            wanted.remove(min(entry.hits) + 1, INTEGERS_MAX)
        assert done == wanted, f"rows of {self.spec.job} are about {done}, and wanted and done is {wanted}"

    def check_end(self, entry: JobEntry) -> None:
        """The job has ended as its rule promises, and its hits are exactly what they must be."""
        self.check_entry(entry)
        wanted, found = self.hits(), sorted(entry.hits)
        done = IntervalSet((start, start + count) for start, count in entry.done)
        rule, job = self.spec.rule, self.spec.job
        if entry.status in (Status.COMPLETE, Status.EXHAUSTED):
            assert done == IntervalSet(self.spans), f"{job} is {entry.status}, but only {done} is done"
            assert found == wanted, f"{job}: {len(found)} of {len(wanted)} hits"
            assert entry.tested >= self.size, f"{job} says {entry.tested} of {self.size} tested"
        match rule, entry.status:
            case _, Status.CANCELLED:
                assert self.cancelled, f"nobody cancelled {job}"
            case _, Status.FAILED if self.spec.params.startswith(UNCHECKABLE):
                assert not found
            case _, Status.FAILED if self.spec.within_ns:
                lasted = entry.ended_at - entry.submitted_at
                assert lasted > self.spec.within_ns, f"{job} failed {lasted} ns after its submission"
            case StopRule.ALL, Status.COMPLETE:
                pass
            case StopRule.LOWEST, Status.FOUND:
                assert wanted and min(found) == wanted[0], f"lowest of {job} is {wanted[:1]}, not {found[:1]}"
                below = IntervalSet(self.spans)
                below.remove(wanted[0] + 1, (1 << 64) + 1)
                assert all(done.covers(*span) for span in below), f"{job}: not all below {wanted[0]} is done"
            case ((StopRule.FIRST | StopRule.COUNT), Status.FOUND):
                assert len(found) >= self.spec.hits_wanted, f"{job} is found with {len(found)} hits"
            case ((StopRule.FIRST | StopRule.COUNT | StopRule.LOWEST), Status.EXHAUSTED):
                assert len(wanted) < self.spec.hits_wanted
            case _:
                raise AssertionError(f"{rule} cannot end {entry.status}: {entry.detail}")


def draw_job(job: JobId, rng: random.Random, chaos_ns: int) -> DrawnJob:
    """A job as its client will submit it."""
    base = rng.choice([0, 1000, (1 << 32) - 5000, (1 << 64) - 400_000])
    size = rng.choice([1, 100, 20_000, 200_000, 200_000, 200_000, 200_000])
    spans: list[Span] = [(base, base + size)]
    for _ in range(rng.choice([0, 0, 0, 1, 3]) if size > 1000 else 0):
        start, stop = spans.pop()
        if stop - start > 400:
            cut = rng.randrange(start + 100, stop - 100)
            spans += [(start, cut), (cut + 50, stop)]
        else:
            spans.append((start, stop))
    hits = sorted({base + rng.randrange(size) for _ in range(rng.choice([0, 0, 1, 5, 50, 2000]))})
    if rng.random() < 0.05:
        hits = list(range(base, base + min(size, 10_000)))
    rule = rng.choice(list(StopRule))
    wanted = {StopRule.ALL: 0, StopRule.COUNT: rng.choice([2, 5])}.get(rule, 1)
    spec = Submit(
        job=job,
        key=job if rng.random() < 0.5 else "",
        name=f"the {rule} of {len(hits)}",
        kernel="sha256",
        params=(UNCHECKABLE if rng.random() < 0.03 else b"") + job.encode(),
        spans=tuple((start, stop - start) for start, stop in spans),
        rule=rule,
        hits_wanted=wanted,
        priority=rng.randrange(10),
        within_ns=rng.choice([SECOND, 5 * SECOND]) if rng.random() < 0.05 else 0,
        verify=rng.choice([Method.NONE, Method.SHARES]),
        certified=len(hits) % 2 == 0,
        **rng.choice(CHUNKS),
    )
    submit_at = rng.randint(0, chaos_ns // 2)
    return DrawnJob(spec, Truth(hits), submit_at, _draw_script(job, rng, submit_at))


def _draw_script(job: JobId, rng: random.Random, submit_at: int) -> list[tuple[int, Command]]:
    """Pauses are followed by a resumption, and a cancellation is the end."""
    at, script = submit_at, list[tuple[int, Command]]()
    for what in rng.choice([[], [], ["pause"], ["priority"], ["pause", "priority"], ["cancel"]]):
        at += rng.randint(0, 4 * SECOND)
        match what:
            case "pause":
                script.append((at, Steer(job, Status.PAUSED)))
                at += rng.randint(0, 3 * SECOND)
                script.append((at, Steer(job, Status.RUNNING)))
            case "priority":
                script.append((at, Prioritise(job, rng.randrange(10))))
            case "cancel":
                script.append((at, Steer(job, Status.CANCELLED)))
    return script
