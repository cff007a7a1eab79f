"""What nodes tell the process they live in (`Emit`): never sent over the bus."""

from typing import NamedTuple

from zlb.core.ids import JobId, NodeId
from zlb.core.work import Row

RESTARTED = "restarted"


class NeighbourUp(NamedTuple):
    """A link to `node` works in both directions."""

    node: NodeId


class NeighbourLost(NamedTuple):
    """`node` said goodbye, fell silent or was restarted; whatever it published may be forgotten."""

    node: NodeId
    reason: str

    @property
    def is_back(self) -> bool:
        """Whether it was restarted: its new process has said HELLO already."""
        return self.reason == RESTARTED


class NeighbourRefused(NamedTuple):
    """The listener at `endpoint` (or the node of that name) will not talk with us."""

    where: str
    code: int
    detail: str


class HitFound(NamedTuple):
    """A checked hit of the job, each exactly once."""

    job: JobId
    n: int
    digest: bytes
    worker: NodeId


class WorkerView(NamedTuple):
    """One line about a worker: integers tested for this job, their rate of late, leases it holds.

    `credit`: integers that were done by it first and are believed; `trust`: what it is at least, from 0 to 1.
    """

    node: NodeId
    tested: int
    per_s: float
    leases: int
    credit: int = 0
    trust: float = 0.0


class JobProgress(NamedTuple):
    """How far a job is; `done` and `size` in integers, times in ns."""

    job: JobId
    size: int
    done: int
    hits: int
    per_s: float
    elapsed_ns: int
    workers: tuple[WorkerView, ...]


class JobEnded(NamedTuple):
    """The one final word on a job.

    `status`: `found` (stop rule reached), `exhausted` (range searched, fewer hits than asked), `complete` (whole range
    searched as asked), `cancelled`, `failed`. `tested` counts reported integers, doubled work included; `recomputed`
    bounds from above how many were hashed more than once.
    """

    job: JobId
    status: str
    detail: str
    hits: int
    done: int
    tested: int
    recomputed: int
    elapsed_ns: int
    workers: tuple[WorkerView, ...]
    rows: tuple[Row, ...] = ()
    """Evidence for a certificate, if it was to be kept."""
    coordinator: NodeId = NodeId("")


class WorkerAccused(NamedTuple):
    """`node` gets no more of the job: what it reported cannot be true. `again` integers are searched once more."""

    job: JobId
    node: NodeId
    why: str
    again: int


class JobWaits(NamedTuple):
    """The job cannot go on until something changes, and why, in one line for a person."""

    job: JobId
    why: str


class RoleChanged(NamedTuple):
    """A replica is now what `role` (`raft.machine.Role`) says in `term`; `leader` is whom it follows, if known."""

    role: str
    term: int
    leader: NodeId | None


class CommandApplied(NamedTuple):
    """The command at `log_index`, which was appended in `term`, has had this result."""

    log_index: int
    term: int
    result: object


class ReadConfirmed(NamedTuple):
    """What this replica has applied by now answers the read of that token."""

    token: int


class Answered(NamedTuple):
    """What a tracker says to the ask of that number, once: `outcome` is a `wire.tracking.AskOutcome`."""

    number: int
    outcome: int
    payload: bytes


class NoTracker(NamedTuple):
    """Asks wait: no tracker answers, or none leads; `why` is one line for a person, said again when it changes."""

    why: str


class RosterKnown(NamedTuple):
    """The tracker has told who is where, as of that version."""

    version: int


class Notice(NamedTuple):
    """One line for a person who watches; nothing depends on it."""

    text: str


class Stopped(NamedTuple):
    """The node has finished its business; the driver may end."""


Event = (
    NeighbourUp
    | NeighbourLost
    | NeighbourRefused
    | HitFound
    | JobProgress
    | JobEnded
    | WorkerAccused
    | JobWaits
    | RoleChanged
    | CommandApplied
    | ReadConfirmed
    | Answered
    | NoTracker
    | RosterKnown
    | Notice
    | Stopped
)
