"""What can be put into the tracker's log, and its results, as MessagePack: a command is its name and its fields."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from zlb.core.config import Method
from zlb.core.ids import NodeId
from zlb.core.limits import (
    COPIES_MAX,
    ENDPOINT_BYTES_MAX,
    PARAMS_BYTES_MAX,
    PRIORITY_DEFAULT,
    PRIORITY_MAX,
    TEXT_BYTES_MAX,
)
from zlb.core.message import Count, Name
from zlb.core.work import Pattern, Row, StopRule

WireSpan = tuple[Count, Annotated[int, Meta(ge=1)]]
"""Start and count: an end of 2^64 would not fit."""
WireHit = tuple[Count, bytes]
Word = Annotated[int, Meta(ge=0, lt=1 << 32)]
Text = Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
Where = Annotated[str, Meta(max_length=ENDPOINT_BYTES_MAX)]
Priority = Annotated[int, Meta(ge=0, le=PRIORITY_MAX)]


class Status(StrEnum):
    """Of a job. The first two are open: integers of it may still be searched."""

    RUNNING = "running"
    PAUSED = "paused"
    FOUND = "found"
    COMPLETE = "complete"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    FAILED = "failed"


OPEN = (Status.RUNNING, Status.PAUSED)


class Denied(StrEnum):
    """Why a command changed nothing, or a query has no answer."""

    NO_SUCH_JOB = "there is no such job"
    JOB_EXISTS = "there is a job of that id already"
    ENDED = "the job has ended"
    STALE = "another coordinator has taken over"
    NO_SUCH_PEER = "there is no such peer"
    MALFORMED = "not a command of the registry"
    TOO_MANY_HITS = "a job has no more hits than that"
    TOO_MANY_JOBS = "there are as many open jobs as there can be"
    NO_EVIDENCE = "the job was submitted without --certificate"
    TOO_MUCH_EVIDENCE = "the job has more evidence than trackers keep"


class Command(Struct, frozen=True, array_like=True, tag=True):
    """Base of all commands."""


class Join(Command, frozen=True):
    """A peer is there, at an endpoint unless it only dials out. Restarted, it coordinates nothing any more."""

    node: Name
    endpoint: Where
    slots: Annotated[int, Meta(ge=0, le=1 << 16)]
    incarnation: Count


class Leave(Command, frozen=True):
    """Peers are gone: they said so, or fell silent."""

    nodes: tuple[Name, ...]


class Listen(Command, frozen=True):
    """A tracker listens there; empty: it is no member any more."""

    node: Name
    endpoint: Where


class Tick(Command, frozen=True):
    """Time goes on, and jobs whose deadline has passed fail."""


class Submit(Command, frozen=True):
    """A new job. With a `key` that was used before, the job of then is meant."""

    job: Name
    key: Text
    name: Text
    kernel: Name
    params: Annotated[bytes, Meta(max_length=PARAMS_BYTES_MAX)]
    spans: Annotated[tuple[WireSpan, ...], Meta(min_length=1)]
    rule: StopRule
    hits_wanted: Count
    priority: Priority = PRIORITY_DEFAULT
    within_ns: Count = 0
    """Log time from its submission after which the job has failed; 0: none."""
    chunk_ns: Count = 0
    chunk_count: Count = 0
    """Size of a subjob, as a time or as a number of integers; both 0: the coordinator's default."""
    submitted_wall_ns: Count = 0
    """By the submitter's wall clock: for people only."""
    verify: Method = Method.SHARES
    copies: Annotated[int, Meta(ge=1, le=COPIES_MAX)] = 1
    """How its results are checked, and how many peers search each integer."""
    certified: bool = False
    """Whether evidence is kept, for a certificate."""


class Steer(Command, frozen=True):
    """Pause, resume or cancel: the status the job is to have."""

    job: Name
    status: Status


class Prioritise(Command, frozen=True):
    """The job has another priority from now on."""

    job: Name
    priority: Priority


class Assign(Command, frozen=True):
    """`node` coordinates the job in `epoch`, which must be the next."""

    job: Name
    node: Name
    epoch: Count


class WireRow(Struct, frozen=True, array_like=True):
    """Evidence: `count` integers from `start` on were searched by `worker`; `shares` match the pattern, mask and value,
    if there is one. `at_ns` is log time since the job was submitted: the registry's, whatever a coordinator says."""

    start: Count
    count: Annotated[int, Meta(ge=1)]
    worker: Name
    pattern: tuple[Word, Word] | None
    shares: tuple[Count, ...]
    at_ns: Count = 0


class Checkpoint(Command, frozen=True):
    """What a coordinator knows to be done since its last one. The `number` of each is higher than that of the one
    before: a copy that comes late changes nothing."""

    job: Name
    epoch: Count
    done: tuple[WireSpan, ...]
    hits: tuple[WireHit, ...]
    tested: Count
    """Integers reported since the job began, doubled work included."""
    recomputed: Count
    """Of these at most so many were searched more than once."""
    undone: tuple[WireSpan, ...] = ()
    """Not done after all, whatever was said before: whoever did it is not believed."""
    number: Count = 0
    rows: tuple[WireRow, ...] = ()
    """Evidence for what is done, if the job is to be certified."""


class Finish(Command, frozen=True):
    """The coordinator says that the job is over."""

    job: Name
    epoch: Count
    status: Status
    detail: Text


Commands = Join | Leave | Listen | Tick | Submit | Steer | Prioritise | Assign | Checkpoint | Finish


def wire_row(row: Row) -> WireRow:
    """A row as it travels."""
    pattern = None if row.pattern is None else (row.pattern.mask, row.pattern.value)
    return WireRow(row.start, row.stop - row.start, row.worker, pattern, row.shares, row.at_ns)


def row_of(row: WireRow) -> Row:
    """A row that has travelled."""
    pattern = None if row.pattern is None else Pattern(*row.pattern)
    return Row(row.start, row.start + row.count, NodeId(row.worker), pattern, row.shares, row.at_ns)


_decode_result = msgspec.msgpack.Decoder(tuple[bool, Any]).decode
"""Made once: that costs as much as some dozen results."""


def pack(command: Command) -> bytes:
    """A command as the log holds it."""
    return msgspec.msgpack.encode(command)


def done(value: object) -> bytes:
    """The result of a command that had its effect, or of a query that has an answer."""
    return msgspec.msgpack.encode((True, value))


def denied(why: Denied) -> bytes:
    """The result of one that had none."""
    return msgspec.msgpack.encode((False, why.value))


def unpack_result(result: bytes) -> tuple[bool, Any]:
    """Whether a command had its effect, and its value, or why not."""
    ok, value = _decode_result(result)
    return ok, value if ok else Denied(value)
