"""Every message once, as docs/protocol.md has it: class names are its message names, fields its fields, in order."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from zlb.core.ids import Span
from zlb.core.limits import (
    ANCESTORS_MAX,
    BLOCKS_MAX,
    DIGEST_BYTES,
    HITS_PER_REPORT_MAX,
    INTEGERS_MAX,
    LEASES_PER_MESSAGE_MAX,
    NEIGHBOURS_TOLD_MAX,
    PARAMS_BYTES_MAX,
    PATTERNS_MAX,
    PRIORITY_DEFAULT,
    PRIORITY_MAX,
    RATE_MAX,
    SAMPLES_PER_PART_MAX,
    SLOTS_MAX,
    SPANS_PER_PART_MAX,
    TEXT_BYTES_MAX,
)
from zlb.core.message import Advert, Count, Key, Message, Name
from zlb.wire.replication import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from zlb.wire.tracking import (
    Heartbeat,
    HeartbeatAck,
    Heartbeats,
    NodeOrNone,
    Roster,
    TrackerReply,
    TrackerRequest,
    Where,
)

Text = Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
Word = Annotated[int, Meta(ge=0, lt=1 << 32)]
Samples = Annotated[tuple[Count, ...], Meta(max_length=SAMPLES_PER_PART_MAX)]
PerSecond = Annotated[float, Meta(ge=0, le=RATE_MAX)]


class Hello(Message, frozen=True):
    """I am here and would be your neighbour."""

    node: Name
    incarnation: Count
    dialled: Where
    listen: Where
    publish: Where
    cluster: NodeOrNone = ""


class Welcome(Message, frozen=True):
    """So be it; these are endpoints I am linked with."""

    node: Name
    incarnation: Count
    dialled: Where
    listen: Where
    publish: Where
    neighbours: Annotated[tuple[Where, ...], Meta(max_length=NEIGHBOURS_TOLD_MAX)]
    cluster: NodeOrNone = ""


class Goodbye(Message, frozen=True):
    """I am leaving; forget me."""

    reason: Text


class Refused(Message, frozen=True):
    """Your message had no effect, and why. `code` is a `core.errors.ErrorCode`, of this version or a later one."""

    code: Annotated[int, Meta(ge=0, le=255)]
    detail: Text


class LoadUpdate(Advert, frozen=True):
    """How busy I am: `load_ns` of work left at `rate` integers a second and slot."""

    load_ns: Count
    rate: PerSecond
    queue: Count
    slots: Count


class JobAdvert(Advert, frozen=True):
    """I coordinate `job` and have `unleased` integers to lease."""

    job: Name
    kernel: Name
    unleased: Count
    epoch: Count = 0
    priority: Annotated[int, Meta(ge=0, le=PRIORITY_MAX)] = PRIORITY_DEFAULT
    ancestors: Annotated[tuple[Name, ...], Meta(max_length=ANCESTORS_MAX)] = ()


class TaskRequest(Message, frozen=True):
    """Give me up to `want` leases of `job`; repeated unchanged until the transfer of its sequence comes."""

    job: Key
    incarnation: Count
    sequence: Count
    want: Annotated[int, Meta(ge=1, le=LEASES_PER_MESSAGE_MAX)]
    rate: PerSecond
    knows: bool
    epoch: Count = 0
    slots: Annotated[int, Meta(ge=1, le=SLOTS_MAX)] = 1
    rtt_ns: Count = 0


class Done(Struct, array_like=True, frozen=True, gc=False):
    """Integers that were searched: `count` from `start` on (a `stop` of 2**64 would not fit the wire)."""

    start: Count
    count: Annotated[int, Meta(ge=1)]

    def __post_init__(self) -> None:
        if self.start + self.count > INTEGERS_MAX:
            raise ValueError("range passes 2**64")

    @property
    def span(self) -> Span:
        """The same as `(start, stop)`."""
        return self.start, self.start + self.count


class Sampled(Struct, array_like=True, frozen=True, gc=False):
    """A pattern: integers are wanted whose sampled word has `word & mask == value`."""

    mask: Word
    value: Word


class Grant(Done, frozen=True):
    """One lease: its integers, its id, and of which of them to tell besides hits.

    With `blocks`, what matches the last pattern is only committed to, as the root over so many blocks of the lease.
    """

    lease: Count
    patterns: Annotated[tuple[Sampled, ...], Meta(max_length=PATTERNS_MAX)] = ()
    blocks: Annotated[int, Meta(ge=0, le=BLOCKS_MAX)] = 0


class Spec(Struct, array_like=True, frozen=True, gc=False):
    """What a worker has to know of a job. `params` are `wire.values`; `hits_max` hits end a lease (0: none do)."""

    kernel: Name
    params: Annotated[bytes, Meta(max_length=PARAMS_BYTES_MAX)]
    hits_max: Annotated[int, Meta(ge=0, le=HITS_PER_REPORT_MAX)]


class TaskTransfer(Message, frozen=True):
    """The leases asked for in the request of that sequence; none: nothing to lease now."""

    job: Key
    sequence: Count
    leases: Annotated[tuple[Grant, ...], Meta(max_length=LEASES_PER_MESSAGE_MAX)]
    spec: Spec | None


class Reported(Struct, array_like=True, frozen=True, gc=False):
    """A hit as a worker reports it."""

    n: Count
    digest: Annotated[bytes, Meta(max_length=64)]


class Part(Struct, array_like=True, frozen=True, gc=False):
    """News about one lease: what is done since the last report, the hits in it, whether the worker gives it up.

    Lease 0 is none: integers searched under an earlier epoch.
    """

    lease: Count
    ended: bool
    done: Annotated[tuple[Done, ...], Meta(max_length=SPANS_PER_PART_MAX)]
    hits: Annotated[tuple[Reported, ...], Meta(max_length=2 * HITS_PER_REPORT_MAX)]
    busy_ns: Count
    error: Text
    samples: Annotated[tuple[Samples, ...], Meta(max_length=PATTERNS_MAX)] = ()
    root: Annotated[bytes, Meta(max_length=DIGEST_BYTES)] = b""
    returned: Annotated[tuple[Done, ...], Meta(max_length=SPANS_PER_PART_MAX)] = ()


class TaskReport(Message, frozen=True):
    """What a worker has done with its leases; repeated unchanged until acknowledged."""

    job: Key
    incarnation: Count
    sequence: Count
    parts: Annotated[tuple[Part, ...], Meta(max_length=LEASES_PER_MESSAGE_MAX)]
    epoch: Count = 0


class TaskAck(Message, frozen=True):
    """The report of that sequence is in the ledger; if it is `kept`, also should the coordinator die."""

    job: Key
    sequence: Count
    kept: bool = True


class TaskCancel(Message, frozen=True):
    """Stop these leases; nobody needs them."""

    job: Key
    leases: Annotated[tuple[Count, ...], Meta(max_length=LEASES_PER_MESSAGE_MAX)]


class TaskShrink(Message, frozen=True):
    """Give back what you have not begun of this lease from `stop` on: others are idle."""

    job: Key
    lease: Count
    stop: Count


class TaskProve(Message, frozen=True):
    """Show what you committed to about that block of a finished lease."""

    job: Key
    lease: Count
    block: Count


class TaskProof(Message, frozen=True):
    """All samples of that block, and the path from its leaf to the root you have; no path: I cannot tell any more."""

    job: Key
    lease: Count
    block: Count
    samples: Samples
    path: Annotated[tuple[Annotated[bytes, Meta(max_length=DIGEST_BYTES)], ...], Meta(max_length=16)]


class JobClosed(Message, frozen=True):
    """The job is over."""

    job: Key
    reason: Text


KINDS: dict[int, type[Message]] = {
    1: Hello,
    2: Welcome,
    3: Goodbye,
    4: Refused,
    5: LoadUpdate,
    6: JobAdvert,
    7: TaskRequest,
    8: TaskTransfer,
    9: TaskReport,
    10: TaskAck,
    11: TaskCancel,
    12: JobClosed,
    13: TaskShrink,
    14: TaskProve,
    15: TaskProof,
    16: TrackerRequest,
    17: TrackerReply,
    18: Heartbeat,
    19: HeartbeatAck,
    20: Heartbeats,
    21: Roster,
    32: RequestVote,
    33: RequestVoteReply,
    34: AppendEntries,
    35: AppendEntriesReply,
    36: InstallSnapshot,
    37: InstallSnapshotReply,
    38: TimeoutNow,
    39: ReadIndex,
    40: ReadIndexReply,
}
"""The octet that names a message, and its class."""
