"""What trackers, their clients and peers say to each other. Payloads are of `zlb.protocols`: here they are bytes."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from zlb.core.limits import (
    ASKS_PER_MESSAGE_MAX,
    BEATS_PER_MESSAGE_MAX,
    ENDPOINT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    NODE_ID_BYTES_MAX,
    OPEN_JOBS_MAX,
    REPLICAS_MAX,
)
from zlb.core.message import Count, Key, Message, Name

Where = Annotated[str, Meta(max_length=ENDPOINT_BYTES_MAX)]
NodeOrNone = Annotated[str, Meta(max_length=NODE_ID_BYTES_MAX)]
Payload = Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
Slots = Annotated[int, Meta(ge=0, le=1 << 16)]


class AskKind(IntEnum):
    """What a client wants of a tracker."""

    COMMAND = 0
    """Put it into the log, and tell its result."""
    QUERY = 1
    """Tell what is true now."""
    STEERING = 2
    """About the cluster itself (`protocols.steering`)."""


class AskOutcome(IntEnum):
    """What became of an ask, see docs/protocol.md."""

    DONE = 0
    NOT_LEADER = 1
    UNKNOWN = 2
    TOO_LARGE = 3
    EXPIRED = 4
    STALE = 5
    MALFORMED = 6
    BUSY = 7
    IMPOSSIBLE = 8

    @property
    def final(self) -> bool:
        """Whether asking again is pointless."""
        return self not in (AskOutcome.NOT_LEADER, AskOutcome.UNKNOWN, AskOutcome.BUSY)


class Ask(Struct, array_like=True, frozen=True, gc=False):
    """One thing a client wants; `number` is its own."""

    number: Count
    kind: Annotated[int, Meta(ge=0, le=2)]
    payload: Payload


class TrackerRequest(Message, frozen=True):
    """Put this into the log; tell me this; do this."""

    asks: Annotated[tuple[Ask, ...], Meta(max_length=ASKS_PER_MESSAGE_MAX)]


class Reply(Struct, array_like=True, frozen=True, gc=False):
    """What became of the ask of that number."""

    number: Count
    outcome: Annotated[int, Meta(ge=0, le=8)]
    payload: Payload


class TrackerReply(Message, frozen=True):
    """It is done, or why not; `leader` leads, at `where`; empty if unknown."""

    leader: NodeOrNone
    where: Where
    replies: Annotated[tuple[Reply, ...], Meta(max_length=ASKS_PER_MESSAGE_MAX)]


class Heartbeat(Message, frozen=True):
    """I live, can be dialled there, and know the roster of that version."""

    incarnation: Count
    listen: Where
    slots: Slots
    version: Count


class HeartbeatAck(Message, frozen=True):
    """You are heard; the roster has that version."""

    version: Count


class Beat(Struct, array_like=True, frozen=True, gc=False):
    """A peer was heard."""

    node: Name
    incarnation: Count
    listen: Where
    slots: Slots


class Heartbeats(Message, frozen=True):
    """These peers were heard by me."""

    beats: Annotated[tuple[Beat, ...], Meta(max_length=BEATS_PER_MESSAGE_MAX)]


class RosterJob(Struct, array_like=True, frozen=True, gc=False):
    """An open job, and who coordinates it; `node` is empty while nobody does."""

    job: Key
    status: Key
    epoch: Count
    priority: Count
    node: NodeOrNone
    incarnation: Count
    listen: Where


class Roster(Message, frozen=True):
    """Where the trackers are; which jobs are open, and who coordinates each."""

    version: Count
    trackers: Annotated[tuple[Where, ...], Meta(max_length=REPLICAS_MAX)]
    jobs: Annotated[tuple[RosterJob, ...], Meta(max_length=OPEN_JOBS_MAX)]
