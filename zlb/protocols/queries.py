"""What can be asked of a tracker, and its answers, read from the registry: MessagePack, as `commands` are."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Struct

from zlb.core.ids import JobId
from zlb.core.limits import HITS_PER_REPORT_MAX, ROWS_BYTES_MAX
from zlb.core.message import Count, Name
from zlb.core.work import StopRule
from zlb.protocols.commands import (
    Denied,
    Status,
    Submit,
    WireHit,
    WireRow,
    WireSpan,
    denied,
    done,
    wire_row,
)
from zlb.protocols.evidence import page
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.registry import JobEntry, Registry

T = TypeVar("T")


class Query(Struct, frozen=True, array_like=True, tag=True):
    """Base of all queries."""


class ListJobs(Query, frozen=True):
    """Every job, as `JobLine`s, oldest first."""


class ListPeers(Query, frozen=True):
    """Every peer of the roster, as `PeerLine`s."""


class WatchJob(Query, frozen=True):
    """A job as `JobView`, with some of its hits: those from position `hits_from` on, as they came."""

    job: Name
    hits_from: Count


class DescribeJob(Query, frozen=True):
    """What was asked for, as it was submitted: `commands.Submit`."""

    job: Name


class ResumeJob(Query, frozen=True):
    """All that the coordinator of that epoch needs, as `Resumption`."""

    job: Name
    epoch: Count


class ReadEvidence(Query, frozen=True):
    """Who searched what, as `Evidenced`: rows from position `rows_from` on, in ascending order."""

    job: Name
    rows_from: Count


Queries = ListJobs | ListPeers | WatchJob | DescribeJob | ResumeJob | ReadEvidence


class JobLine(Struct, frozen=True, array_like=True):
    """A job in short. Times are log time in ns, but `submitted_wall_ns`."""

    job: str
    name: str
    kernel: str
    status: Status
    detail: str
    priority: int
    coordinator: str
    epoch: int
    size: int
    done: int
    hits: int
    tested: int
    recomputed: int
    elapsed_ns: int
    submitted_wall_ns: int


class JobView(Struct, frozen=True, array_like=True):
    """A job, and those of its hits that were asked for."""

    line: JobLine
    rule: StopRule
    hits_wanted: int
    hits: tuple[WireHit, ...]


class PeerLine(Struct, frozen=True, array_like=True):
    """A peer of the roster; `member_ns` is how long it has been one, in log time."""

    node: str
    endpoint: str
    slots: int
    member_ns: int
    jobs: tuple[str, ...]
    """Those it coordinates."""


LOOSE_MAX = 10_000
"""Some 90 KB; there are few, unless a worker with many hits has just been found out."""


class Resumption(Struct, frozen=True, array_like=True):
    """Where a coordinator begins."""

    spec: Submit
    priority: int
    status: Status
    done: tuple[WireSpan, ...]
    hits: int
    lowest: WireHit | None
    tested: int
    recomputed: int
    loose: tuple[Count, ...] = ()
    """Hits whose integers are not done; at most `LOOSE_MAX`."""


class Evidenced(Struct, frozen=True, array_like=True):
    """Some rows of the evidence, of so many; the peer that coordinated the job last."""

    count: int
    rows: tuple[WireRow, ...]
    coordinator: str


def ask(query: Query) -> bytes:
    """A query as it travels."""
    return msgspec.msgpack.encode(query)


def answer(registry: Registry, query: bytes) -> bytes:
    """The answer, as `commands.unpack_result` and `read` read it."""
    try:
        known = msgspec.msgpack.decode(query, type=Queries)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return denied(Denied.MALFORMED)
    match known:
        case ListJobs():
            return done([_line(registry, job) for job in registry.jobs])
        case ListPeers():
            return done(_peers(registry))
        case WatchJob(job, hits_from) if (entry := registry.jobs.get(JobId(job))) is not None:
            return done(_view(registry, JobId(job), entry, hits_from))
        case DescribeJob(job) if (entry := registry.jobs.get(JobId(job))) is not None:
            return done(entry.spec)
        case ResumeJob(job, epoch) if (entry := registry.jobs.get(JobId(job))) is not None:
            return done(_resumption(entry)) if epoch == entry.epoch else denied(Denied.STALE)
        case ReadEvidence(job, rows_from) if (entry := registry.jobs.get(JobId(job))) is not None:
            return _evidence(registry, JobId(job), entry, rows_from)
    return denied(Denied.NO_SUCH_JOB)


def read(result: bytes, kind: type[T]) -> T | Denied:
    """The answer to a query, or why there is none."""
    ok, value = msgspec.msgpack.decode(result, type=tuple[bool, msgspec.Raw])
    if ok:
        return msgspec.msgpack.decode(value, type=kind)
    return Denied(msgspec.msgpack.decode(value, type=str))


def _line(registry: Registry, job: JobId) -> JobLine:
    entry = registry.jobs[job]
    spec = entry.spec
    until = registry.time_ns if entry.open else entry.ended_at
    return JobLine(
        job=job,
        name=spec.name,
        kernel=spec.kernel,
        status=entry.status,
        detail=entry.detail,
        priority=entry.priority,
        coordinator=entry.coordinator if entry.open else "",
        epoch=entry.epoch,
        size=sum(count for _, count in spec.spans),
        done=sum(count for _, count in entry.done),
        hits=len(_shown(entry)),
        tested=entry.tested,
        recomputed=entry.recomputed,
        elapsed_ns=max(0, until - entry.submitted_at),
        submitted_wall_ns=spec.submitted_wall_ns,
    )


def _view(registry: Registry, job: JobId, entry: JobEntry, hits_from: int) -> JobView:
    hits = tuple(islice(_shown(entry).items(), hits_from, hits_from + HITS_PER_REPORT_MAX))
    return JobView(_line(registry, job), entry.spec.rule, entry.spec.hits_wanted, hits)


def _shown(entry: JobEntry) -> dict[int, bytes]:
    """The hits that are results: no more than were asked for, though more were found; of a search for the lowest only
    the last, and only when it is proven to be so."""
    rule, wanted = entry.spec.rule, entry.spec.hits_wanted
    if rule is StopRule.ALL or (rule is not StopRule.LOWEST and len(entry.hits) <= wanted):
        return entry.hits
    if rule is not StopRule.LOWEST:
        return dict(islice(entry.hits.items(), wanted))
    lowest = _lowest(entry)
    return dict([lowest]) if lowest is not None and entry.status is Status.FOUND else {}


def _lowest(entry: JobEntry) -> WireHit | None:
    return min(entry.hits.items()) if entry.hits else None


def _peers(registry: Registry) -> list[PeerLine]:
    jobs: dict[str, list[str]] = {}
    for job, entry in registry.open_jobs.items():
        jobs.setdefault(entry.coordinator, []).append(job)
    return [
        PeerLine(
            node, peer.endpoint, peer.slots, registry.time_ns - peer.joined_at, tuple(jobs.get(node, ()))
        )
        for node, peer in registry.peers.items()
    ]


def _evidence(registry: Registry, job: JobId, entry: JobEntry, rows_from: int) -> bytes:
    if not entry.spec.certified:
        return denied(Denied.NO_EVIDENCE)
    if job not in registry.evidence:
        return denied(Denied.TOO_MUCH_EVIDENCE)
    rows = registry.evidence[job].rows()
    some = page(rows, rows_from, ROWS_BYTES_MAX)
    return done(Evidenced(len(rows), tuple(map(wire_row, some)), entry.last_coordinator))


def _resumption(entry: JobEntry) -> Resumption:
    finished = IntervalSet((start, start + count) for start, count in entry.done)
    loose = (n for n in entry.hits if n not in finished)
    return Resumption(
        spec=entry.spec,
        priority=entry.priority,
        status=entry.status,
        done=tuple(entry.done),
        hits=len(entry.hits),
        lowest=_lowest(entry),
        tested=entry.tested,
        recomputed=entry.recomputed,
        loose=tuple(islice(loose, LOOSE_MAX)),
    )
