"""What a worker holds of one job: leases cut into slices, finished pieces, and reports until they are acknowledged."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from zlb.core.ids import NO_LEASE, JobId, LeaseId, NodeId, Span
from zlb.core.limits import (
    COMMITMENTS_MAX,
    HITS_PER_REPORT_MAX,
    INTEGERS_MAX,
    LEASES_PER_MESSAGE_MAX,
    LOAD_NS_MAX,
    PRIORITY_DEFAULT,
    SPANS_PER_PART_MAX,
)
from zlb.core.work import Hit, Pattern
from zlb.protocols.checkpoints import Received
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.merkle import Commitment
from zlb.wire.messages import Done, Grant, Part, Reported, Spec, TaskReport, TaskRequest

FOR_YOU = "for you"
"""How the reason of a JOB_CLOSED begins if the job goes on without us."""
RTTS = 3
"""Round trips of which the shortest counts: a single slow answer says little."""
SETTLED_MAX = 256
"""Reports of peers below us that are remembered when nothing more of them has to be kept: a few seconds' worth."""
M = TypeVar("M", TaskRequest, TaskReport)


@dataclass(slots=True)
class Receipt:
    """Of a report of a peer that works for us: it may be forgotten when all that came with it is kept above us."""

    report: Received
    pieces: int = 0
    """Not yet kept."""
    orphans: bool = False
    """It brought integers that were searched for somebody else, or they have become so."""
    complete: bool = False
    """Whether all of the report has been entered."""


@dataclass(slots=True)
class Piece:
    """A finished run: `[start, stop)` is searched and holds exactly `hits`."""

    start: int
    stop: int
    hits: tuple[Hit, ...]
    busy_ns: int
    samples: tuple[tuple[int, ...], ...] = ()
    """By pattern of the lease."""
    receipt: Receipt | None = None
    """Of the report that brought it, if it was searched by another peer for us."""


@dataclass(slots=True)
class HeldLease:
    """A lease in a worker's hands: what is still to be started, how many runs are out, what is not yet reported."""

    id: LeaseId
    span: Span
    patterns: tuple[Pattern, ...] = ()
    blocks: int = 0
    """If any: what matches the last pattern is only committed to, over so many blocks."""
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
    returned: list[Span] = field(default_factory=list)
    """Given back on demand, not yet in a report."""
    searched: int = 0
    traces: list[int] = field(default_factory=list)
    """Samples to commit to."""

    def __post_init__(self) -> None:
        self.todo = IntervalSet([self.span])

    @property
    def finished(self) -> bool:
        """Nothing of it is left to start or to wait for."""
        return not self.todo and not self.running

    @property
    def samples_expected(self) -> int:
        """Of the pattern with most samples."""
        count = self.span[1] - self.span[0]
        return max((count >> pattern.mask.bit_count() for pattern in self.patterns), default=0)

    def shrink(self, stop: int) -> None:
        """Give back what is not begun from `stop` on."""
        top = max(self.todo.stop, stop + 1)
        self.returned += self.todo.remove(stop, top)

    def commitment(self) -> Commitment | None:
        """To the samples of the whole lease, if they are to be committed to and all of it was searched."""
        if not self.blocks or self.searched < self.span[1] - self.span[0]:
            return None
        return Commitment(self.span, self.blocks, sorted(self.traces))


@dataclass(slots=True)
class Outstanding(Generic[M]):
    """A message that is repeated unchanged until it is answered."""

    message: M
    sent_at: int
    resend_at: int
    wait_ns: int
    arrived: bool = False
    """A report that the coordinator has, but not yet the tracker."""
    receipts: list[Receipt] = field(default_factory=list)
    """One for each piece in it that others have searched."""


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
    ancestors: tuple[NodeId, ...] = ()
    """Through whom the one we call coordinator gets it, if it only passes it on: the true one first."""
    priority: int = PRIORITY_DEFAULT
    silent: bool = False
    """The coordinator says nothing any more; the tracker will name another."""
    beat_at: int = 0
    """When every lease is to be named again, news or not: else it expires."""
    unleased: bool = True
    far: bool = False
    """Its coordinator takes longer to answer than we want to wait."""
    rate: float = 0.0
    """Integers a second and slot, once some were searched."""
    rtts: deque[int] = field(default_factory=lambda: deque(maxlen=RTTS))
    spec: Spec | None = None
    leases: dict[LeaseId, HeldLease] = field(default_factory=dict)
    request: Outstanding[TaskRequest] | None = None
    reports: dict[int, Outstanding[TaskReport]] = field(default_factory=dict)
    unreported: int = 0
    """Pieces not yet in a report."""
    orphans: IntervalSet = field(default_factory=IntervalSet)
    """Searched for an earlier coordinator, who never said that it was kept; not yet in a report to this one."""
    orphan_hits: dict[int, bytes] = field(default_factory=dict)
    receipts: dict[Received, Receipt] = field(default_factory=dict)
    """Of reports of peers below us that may not be forgotten yet."""
    settled: deque[Received] = field(default_factory=lambda: deque(maxlen=SETTLED_MAX))
    """The last that may, should they be repeated."""
    taken: list[Receipt] = field(default_factory=list)
    """Of pieces in the report that was put together last."""
    commitments: OrderedDict[LeaseId, Commitment] = field(default_factory=OrderedDict)
    """Of leases that have ended, the latest last."""

    @property
    def rtt_ns(self) -> int:
        """The shortest of the last round trips with its coordinator, once there were some: 0 until then."""
        return min(self.rtts) if len(self.rtts) == RTTS else 0

    def note_rtt(self, rtt_ns: int) -> None:
        """A request was answered after so long."""
        self.rtts.append(rtt_ns)

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
        leases = [
            HeldLease(
                LeaseId(grant.lease),
                grant.span,
                tuple(Pattern(asked.mask, asked.value) for asked in grant.patterns),
                grant.blocks if grant.patterns else 0,
            )
            for grant in grants
        ]
        self.leases.update((lease.id, lease) for lease in leases)
        return leases

    def add_piece(self, lease: HeldLease, piece: Piece) -> None:
        """A run of `lease` has finished."""
        lease.pieces.append(piece)
        lease.hits += len(piece.hits)
        lease.searched += piece.stop - piece.start
        if lease.blocks:
            lease.traces += piece.samples[-1]
        self.unreported += 1

    def next_parts(self, everything: bool) -> tuple[Part, ...]:
        """The news of all leases as parts of one report, as many hits as fit; leases given up are held no longer.

        With `everything`, leases without news are named too.
        """
        parts: list[Part] = []
        self.taken = []
        room = HITS_PER_REPORT_MAX
        if self.orphans:
            parts.append(self._take_orphans(room))
            room -= len(parts[0].hits)
        for lease in list(self.leases.values())[:LEASES_PER_MESSAGE_MAX]:
            pieces = self._take_pieces(lease, room) if room > 0 else []
            room -= sum(len(piece.hits) for piece in pieces)
            returned = lease.returned[:SPANS_PER_PART_MAX]
            del lease.returned[: len(returned)]
            news = bool(pieces or returned)
            ended = lease.finished and not (lease.pieces or lease.returned or lease.unacknowledged)
            if ended:
                del self.leases[lease.id]
            lease.unacknowledged += news
            if news or ended or everything:
                parts.append(_part(lease, pieces, returned, ended, self._commit(lease) if ended else b""))
            if room <= 0 and not everything:
                break
        return tuple(parts)

    def hand_over(self, coordinator: NodeId, epoch: int, ancestors: tuple[NodeId, ...]) -> None:
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
        for receipt in self.receipts.values():
            receipt.pieces, receipt.orphans = 0, True
        self.coordinator, self.epoch, self.ancestors, self.silent = coordinator, epoch, ancestors, False

    def orphan(self, spans: Iterable[Span], hits: Iterable[Hit]) -> None:
        """These were searched for a coordinator that was replaced."""
        for start, stop in spans:
            self.orphans.add(start, stop)
        self.orphan_hits.update(hits)

    def receive(self, report: Received) -> Receipt | None:
        """The receipt of a report that a peer sends us; None if we have it already."""
        if report in self.receipts or report in self.settled:
            return None
        receipt = self.receipts[report] = Receipt(report)
        return receipt

    def kept(self, receipts: Iterable[Receipt]) -> list[Received]:
        """Pieces with these receipts are kept above us; returns reports of which nothing more has to be kept."""
        for receipt in receipts:
            receipt.pieces -= 1
        quiet = not (self.reports or self.unreported or self.orphans)
        done = [
            receipt.report
            for receipt in self.receipts.values()
            if receipt.complete and receipt.pieces <= 0 and (quiet or not receipt.orphans)
        ]
        for report in done:
            del self.receipts[report]
        self.settled += done
        return done

    def acknowledged(self, report: TaskReport) -> bool:
        """A report is in the ledger; whether a lease can now be said to have ended that could not before."""
        may_end = False
        for part in report.parts:
            lease = self.leases.get(LeaseId(part.lease))
            if lease is not None and (part.done or part.returned):
                lease.unacknowledged -= 1
                may_end |= lease.finished and not lease.unacknowledged
        return may_end

    def _commit(self, lease: HeldLease) -> bytes:
        """The root over a lease that has ended, to be opened later; empty if there is nothing to commit to."""
        commitment = lease.commitment()
        if commitment is None:
            return b""
        self.commitments[lease.id] = commitment
        if len(self.commitments) > COMMITMENTS_MAX:
            self.commitments.popitem(last=False)
        return commitment.root

    def _take_orphans(self, room: int) -> Part:
        """The lowest orphans with at most `room` hits, as a part of no lease."""
        hits = sorted(self.orphan_hits)[: room + 1]
        stop = hits[room] if len(hits) > room else self.orphans.stop  # the first hit that is left for later
        spans = self.orphans.overlap(0, stop)[:SPANS_PER_PART_MAX]
        if spans == [(0, INTEGERS_MAX)]:  # so many would not fit the wire
            spans = [(0, INTEGERS_MAX - 1)]
        for start, end in spans:
            self.orphans.remove(start, end)
        mine = [n for n in hits if n < spans[-1][1]]
        return Part(
            lease=NO_LEASE,
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
            receipt = taken[-1].receipt
            if receipt is not None:
                self.taken.append(receipt)
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


def _part(lease: HeldLease, pieces: list[Piece], returned: list[Span], ended: bool, root: bytes) -> Part:
    done = IntervalSet((piece.start, piece.stop) for piece in pieces)
    reported = len(lease.patterns) - bool(lease.blocks) if pieces else 0
    return Part(
        lease=lease.id,
        ended=ended,
        done=tuple(Done(start, stop - start) for start, stop in done),
        hits=tuple(Reported(hit.n, hit.digest) for piece in pieces for hit in piece.hits),
        busy_ns=min(sum(piece.busy_ns for piece in pieces), LOAD_NS_MAX),
        error=lease.error if ended else "",
        samples=tuple(
            tuple(sorted(n for piece in pieces for n in piece.samples[i])) for i in range(reported)
        ),
        root=root,
        returned=tuple(Done(start, stop - start) for start, stop in returned),
    )
