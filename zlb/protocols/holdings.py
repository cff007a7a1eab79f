"""What a worker holds of one job: leases cut into slices, finished pieces, and reports until they are acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from zlb.core.ids import JobId, LeaseId, NodeId, Span
from zlb.core.limits import (
    HITS_PER_REPORT_MAX,
    LEASES_PER_MESSAGE_MAX,
    PRIORITY_DEFAULT,
    SPANS_PER_PART_MAX,
)
from zlb.core.work import Hit
from zlb.protocols.intervals import IntervalSet
from zlb.wire.messages import Done, Grant, Part, Reported, Spec, TaskReport, TaskRequest

M = TypeVar("M", TaskRequest, TaskReport)


@dataclass(slots=True)
class Piece:
    """A finished run: `[start, stop)` is searched and holds exactly `hits`."""

    start: int
    stop: int
    hits: tuple[Hit, ...]
    busy_ns: int


@dataclass(slots=True)
class HeldLease:
    """A lease in a worker's hands: what is still to be started, how many runs are out, what is not yet reported."""

    id: LeaseId
    span: Span
    todo: IntervalSet = field(init=False)
    running: int = 0
    unacknowledged: int = 0
    """Reports with news of it that may still be lost: until they are acknowledged it must not be said to have ended."""
    hits: int = 0
    alone: bool = False
    """It shared a run that failed: whose fault that was is found out by running it alone."""
    orphaned: bool = False
    """Its coordinator was replaced: what its last runs find is for the next one."""
    error: str = ""
    pieces: deque[Piece] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.todo = IntervalSet([self.span])

    @property
    def finished(self) -> bool:
        """Nothing of it is left to start or to wait for."""
        return not self.todo and not self.running


@dataclass(slots=True)
class Outstanding(Generic[M]):
    """A message that is repeated unchanged until it is answered."""

    message: M
    resend_at: int
    wait_ns: int
    arrived: bool = False
    """A report that the coordinator has, but not yet the tracker."""


@dataclass(slots=True)
class Holding:
    """One job as its worker sees it. `unleased`: whether the coordinator is believed to have more."""

    job: JobId
    coordinator: NodeId
    kernel: str
    heard_at: int
    report_at: int
    epoch: int = 0
    """Of the coordinator; 0 if no tracker knows the job."""
    priority: int = PRIORITY_DEFAULT
    silent: bool = False
    """The coordinator says nothing any more; the tracker will name another."""
    beat_at: int = 0
    """When every lease is to be named again, news or not: else it expires."""
    unleased: bool = True
    spec: Spec | None = None
    leases: dict[LeaseId, HeldLease] = field(default_factory=dict)
    request: Outstanding[TaskRequest] | None = None
    reports: dict[int, Outstanding[TaskReport]] = field(default_factory=dict)
    unreported: int = 0
    """Pieces not yet in a report."""
    orphans: IntervalSet = field(default_factory=IntervalSet)
    """Searched for an earlier coordinator, who never said that it was kept; not yet in a report to this one."""
    orphan_hits: dict[int, bytes] = field(default_factory=dict)

    @property
    def unfinished(self) -> int:
        """Leases with work left."""
        return sum(not lease.finished for lease in self.leases.values())

    @property
    def left(self) -> int:
        """Integers not yet started."""
        return sum(lease.todo.measure for lease in self.leases.values())

    @property
    def unacknowledged(self) -> int:
        """Reports that may not have arrived."""
        return sum(not report.arrived for report in self.reports.values())

    def take(self, grants: tuple[Grant, ...]) -> list[HeldLease]:
        """Hold the leases of a transfer."""
        leases = [HeldLease(LeaseId(grant.lease), grant.span) for grant in grants]
        self.leases.update((lease.id, lease) for lease in leases)
        return leases

    def add_piece(self, lease: HeldLease, piece: Piece) -> None:
        """A run of `lease` has finished."""
        lease.pieces.append(piece)
        lease.hits += len(piece.hits)
        self.unreported += 1

    def next_parts(self, everything: bool) -> tuple[Part, ...]:
        """The news of all leases as parts of one report, as many hits as fit; leases given up are held no longer.

        With `everything`, leases without news are named too.
        """
        parts: list[Part] = []
        room = HITS_PER_REPORT_MAX
        if self.orphans:
            parts.append(self._take_orphans(room))
            room -= len(parts[0].hits)
        for lease in list(self.leases.values())[:LEASES_PER_MESSAGE_MAX]:
            pieces = self._take_pieces(lease, room)
            room -= sum(len(piece.hits) for piece in pieces)
            ended = lease.finished and not lease.pieces and not lease.unacknowledged
            if ended:
                del self.leases[lease.id]
            lease.unacknowledged += bool(pieces)
            if pieces or ended or everything:
                parts.append(_part(lease, pieces, ended))
            if room <= 0:
                break
        return tuple(parts)

    def hand_over(self, coordinator: NodeId, epoch: int) -> None:
        """Another coordinates from now on: all that is finished and not kept is for that one, and leases are over."""
        for report in self.reports.values():
            for part in report.message.parts:
                self.orphan([done.span for done in part.done], [Hit(hit.n, hit.digest) for hit in part.hits])
        for lease in self.leases.values():
            for piece in lease.pieces:
                self.orphan([(piece.start, piece.stop)], piece.hits)
            lease.todo.clear()
            lease.orphaned = True
        self.leases.clear()
        self.reports.clear()
        self.unreported = 0
        self.request = None
        self.coordinator, self.epoch, self.silent = coordinator, epoch, False

    def orphan(self, spans: Iterable[Span], hits: Iterable[Hit]) -> None:
        """These were searched for a coordinator that was replaced."""
        for start, stop in spans:
            self.orphans.add(start, stop)
        self.orphan_hits.update(hits)

    def acknowledged(self, report: TaskReport) -> bool:
        """A report is in the ledger; whether a lease can now be said to have ended that could not before."""
        may_end = False
        for part in report.parts:
            lease = self.leases.get(LeaseId(part.lease))
            if lease is not None and part.done:
                lease.unacknowledged -= 1
                may_end |= lease.finished and not lease.unacknowledged
        return may_end

    def _take_orphans(self, room: int) -> Part:
        """The lowest orphans with at most `room` hits, as a part of no lease."""
        hits = sorted(self.orphan_hits)[: room + 1]
        stop = hits[room] if len(hits) > room else self.orphans.stop  # the first hit that is left for later
        spans = self.orphans.overlap(0, stop)[:SPANS_PER_PART_MAX]
        for start, end in spans:
            self.orphans.remove(start, end)
        mine = [n for n in hits if n < spans[-1][1]]
        return Part(
            lease=0,
            ended=False,
            done=tuple(Done(start, end - start) for start, end in spans),
            hits=tuple(Reported(n, self.orphan_hits.pop(n)) for n in mine),
            busy_ns=0,
            error="",
        )

    def _take_pieces(self, lease: HeldLease, room: int) -> list[Piece]:
        """The oldest pieces with at most `room` hits, though at least one piece while there is any room at all."""
        taken: list[Piece] = []
        while lease.pieces and len(taken) < SPANS_PER_PART_MAX:
            if taken and len(lease.pieces[0].hits) > room:
                break
            taken.append(lease.pieces.popleft())
            room -= len(taken[-1].hits)
        self.unreported -= len(taken)
        return taken


class Share(NamedTuple):
    """The part of a run that belongs to one lease: `[start, stop)`."""

    lease: HeldLease
    start: int
    stop: int


class Running(NamedTuple):
    """A run that is out, and whose it is: a slice of one lease, or several short leases that follow each other."""

    holding: Holding
    shares: tuple[Share, ...]

    @property
    def start(self) -> int:
        """Its first integer."""
        return self.shares[0].start

    @property
    def stop(self) -> int:
        """One past its last."""
        return self.shares[-1].stop


def _part(lease: HeldLease, pieces: list[Piece], ended: bool) -> Part:
    done = IntervalSet((piece.start, piece.stop) for piece in pieces)
    return Part(
        lease=lease.id,
        ended=ended,
        done=tuple(Done(start, stop - start) for start, stop in done),
        hits=tuple(Reported(hit.n, hit.digest) for piece in pieces for hit in piece.hits),
        busy_ns=sum(piece.busy_ns for piece in pieces),
        error=lease.error if ended else "",
    )
