"""What a replica of a log keeps through crashes: term and vote, entries, a snapshot. Terms as in Raft (Ongaro 2014)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import astuple

from zlb.core.ids import NodeId
from zlb.core.message import Count

Index = int
"""Of an entry in the log, from 1; 0 is before the first."""
Term = int
"""Logical time, from 1; at most one leader each."""


class EntryKind(IntEnum):
    """What an entry is for."""

    NOOP = 0
    """First of every leader's term: it commits what terms before left behind (§3.6.2, §6.4 of the thesis)."""
    COMMAND = 1
    """For the state machine."""
    CONFIGURATION = 2
    """For the log itself: who has a copy of it (§4.1)."""


class Entry(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One entry of the log. `time_ns` is the leader's clock when it appended it, made to never go back: log time.

    It travels as it is, as a MessagePack array: taking entries apart costs more than sending them.
    """

    term: Count
    kind: EntryKind
    time_ns: Count
    data: bytes

    def __iter__(self) -> Iterator[Any]:
        """Taken apart like the tuple it was; slow."""
        return iter(astuple(self))


class Configuration(NamedTuple):
    """Who has a copy of the log, sorted. Voters elect and commit; learners only receive (§4.2.1)."""

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()


class Vote(NamedTuple):
    """Record: the current term, and whom we voted for in it."""

    term: Term
    voted_for: NodeId | None


class Append(NamedTuple):
    """Record: the log from `first` on is `entries` and nothing else."""

    first: Index
    entries: tuple[Entry, ...]


class Snapshot(NamedTuple):
    """Record: the state after entry `last_index`, of `last_term` and that log time; the log up to `trimmed` may go.

    `configuration` is the latest at `last_index`. After a snapshot that the log does not reach was installed, the whole
    log is gone: `trimmed` is then `last_index`, and `replaces_log` is true.
    """

    last_index: Index
    last_term: Term
    last_time_ns: int
    configuration: Configuration
    data: bytes
    trimmed: Index
    replaces_log: bool


class Saved(NamedTuple):
    """All that was kept: records, folded. The log's first entry has index `first`."""

    vote: Vote = Vote(0, None)
    snapshot: Snapshot | None = None
    first: Index = 1
    entries: tuple[Entry, ...] = ()


ReplicaRecord = Vote | Append | Snapshot


def fold(saved: Saved, record: ReplicaRecord) -> Saved:
    """What is kept once `record` is durable too: the meaning of records, for stores and the simulator alike."""
    match record:
        case Vote():
            return saved._replace(vote=record)
        case Append(first, entries):
            kept = saved.entries[: first - saved.first]
            assert first >= saved.first and len(kept) == first - saved.first, "a gap in the log"
            return saved._replace(entries=kept + entries)
        case Snapshot():
            trimmed = record.last_index if record.replaces_log else record.trimmed
            entries = () if record.replaces_log else saved.entries[max(0, trimmed + 1 - saved.first) :]
            return saved._replace(snapshot=record, first=trimmed + 1, entries=entries)
