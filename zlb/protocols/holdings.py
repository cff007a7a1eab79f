"""What a worker holds of one job: leases cut into slices, finished pieces, and reports until they are acknowledged."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from zlb.core.ids import JobId, LeaseId, NodeId, Span
from zlb.core.limits import HITS_PER_REPORT_MAX, LEASES_PER_MESSAGE_MAX, SPANS_PER_PART_MAX
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


@dataclass(slots=True)
class Holding:
    """One job as its worker sees it. `unleased`: whether the coordinator is believed to have more."""

    job: JobId
    coordinator: NodeId
    kernel: str
    heard_at: int
    report_at: int
    beat_at: int = 0
    """When every lease is to be named again, news or not: else it expires."""
    unleased: bool = True
    spec: Spec | None = None
    leases: dict[LeaseId, HeldLease] = field(default_factory=dict)
    request: Outstanding[TaskRequest] | None = None
    reports: dict[int, Outstanding[TaskReport]] = field(default_factory=dict)
    unreported: int = 0
    """Pieces not yet in a report."""

    @property
    def unfinished(self) -> int:
        """Leases with work left."""
        return sum(not lease.finished for lease in self.leases.values())

    @property
    def left(self) -> int:
        """Integers not yet started."""
        return sum(lease.todo.measure for lease in self.leases.values())

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

    def acknowledged(self, report: TaskReport) -> bool:
        """A report is in the ledger; whether a lease can now be said to have ended that could not before."""
        may_end = False
        for part in report.parts:
            lease = self.leases.get(LeaseId(part.lease))
            if lease is not None and part.done:
                lease.unacknowledged -= 1
                may_end |= lease.finished and not lease.unacknowledged
        return may_end

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
