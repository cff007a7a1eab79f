"""What people ask of the tracker itself: how it is, who is a member, who leads. MessagePack, as `commands` are."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from zlb.core.message import Name
from zlb.protocols.commands import Where


class Steering(Struct, frozen=True, array_like=True, tag=True):
    """Base of all of them."""


class Tell(Steering, frozen=True):
    """How this tracker is: answered without anybody else, as `TrackerState`."""


class Add(Steering, frozen=True):
    """`node`, which listens at `endpoint`, is to be a member: first a learner, and a voter once it has the log."""

    node: Name
    endpoint: Where


class Remove(Steering, frozen=True):
    """`node` is to be no member any more."""

    node: Name


class Transfer(Steering, frozen=True):
    """`node` is to lead."""

    node: Name


class Cut(Steering, frozen=True):
    """Make a snapshot of the state now, and let go of the log before it."""


Steerings = Tell | Add | Remove | Transfer | Cut


class Member(Struct, frozen=True, array_like=True):
    """A member as another one sees it."""

    node: str
    endpoint: str
    votes: bool
    linked: bool
    """Whether there is a link with it now."""
    match: int
    """Entries it is known to hold; only the leader knows, others say 0."""


class TrackerState(Struct, frozen=True, array_like=True):
    """How a tracker is."""

    node: str
    cluster: str
    role: str
    term: int
    leader: str
    members: tuple[Member, ...]
    first: int
    last: int
    committed: int
    snapshot: int
    """The last entry its snapshot stands for; 0 without one."""
    peers: int
    open_jobs: int
    jobs: int
    waiting: int
    """Asks it has not answered yet."""


def pack(steering: Steering) -> bytes:
    """As it travels."""
    return msgspec.msgpack.encode(steering)


def unpack(payload: bytes) -> Steerings:
    """Raises `msgspec.MsgspecError` for anything else."""
    known: Steerings = msgspec.msgpack.decode(payload, type=Steerings)
    return known


def unpack_state(payload: bytes) -> TrackerState:
    """The answer to `Tell`."""
    return msgspec.msgpack.decode(payload, type=TrackerState)
