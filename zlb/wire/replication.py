"""What replicas of a log say to each other: Raft's messages under the names of the paper and the thesis."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from zlb.core.limits import (
    ENTRIES_PER_MESSAGE_MAX,
    REPLICAS_MAX,
    SNAPSHOT_CHUNK_BYTES_MAX,
)
from zlb.core.message import Count, Key, Message
from zlb.core.replica import Entry

Chunk = Annotated[bytes, Meta(max_length=SNAPSHOT_CHUNK_BYTES_MAX)]
Nodes = Annotated[tuple[Key, ...], Meta(max_length=REPLICAS_MAX)]


class RequestVote(Message, frozen=True):
    """Vote for me in `term`; with `pre` only: would you? (§9.6 of the thesis.) `transfer`: my leader asked me to."""

    term: Count
    pre: bool
    transfer: bool
    last_index: Count
    last_term: Count


class RequestVoteReply(Message, frozen=True):
    """I do, or do not. `term` is the one asked about if granted, else the sender's."""

    term: Count
    pre: bool
    granted: bool


class AppendEntries(Message, frozen=True):
    """Put these behind the entry before them; with no entries a heartbeat. `round` numbers the leader's broadcasts."""

    term: Count
    previous_index: Count
    previous_term: Count
    commit: Count
    round: Count
    entries: Annotated[tuple[Entry, ...], Meta(max_length=ENTRIES_PER_MESSAGE_MAX)]


class AppendEntriesReply(Message, frozen=True):
    """My log matches yours up to `index`; or it does not, and its first entry of `conflict_term` is at `index`."""

    term: Count
    success: bool
    index: Count
    conflict_term: Count
    round: Count


class InstallSnapshot(Message, frozen=True):
    """Your log ends before mine begins: `chunk` is what stands at `offset` of the `size` bytes of the state."""

    term: Count
    last_index: Count
    last_term: Count
    last_time_ns: Count
    voters: Nodes
    learners: Nodes
    offset: Count
    size: Count
    checksum: Count
    round: Count
    chunk: Chunk


class InstallSnapshotReply(Message, frozen=True):
    """I have the first `received` bytes of the snapshot of `last_index`."""

    term: Count
    last_index: Count
    received: Count
    round: Count


class TimeoutNow(Message, frozen=True):
    """Stand for election at once; your log is as good as mine (§3.10 of the thesis)."""

    term: Count


class ReadIndex(Message, frozen=True):
    """Up to which index must I have applied to answer a read that is asked now? `token` comes back."""

    token: Count


class ReadIndexReply(Message, frozen=True):
    """Up to `index`."""

    token: Count
    index: Count
