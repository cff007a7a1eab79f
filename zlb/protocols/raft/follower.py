"""What a follower makes of a leader's messages: entries behind those it has (§3.5), a snapshot out of chunks (§5.3)."""

from __future__ import annotations

import zlib

import msgspec

from zlb.core.limits import SNAPSHOT_BYTES_MAX
from zlb.core.replica import Append, Entry, Index, Term
from zlb.protocols.raft.log import CONFIGURATION, Log, unpack_configuration
from zlb.wire.replication import AppendEntries, AppendEntriesReply, InstallSnapshot


def accept(
    log: Log, committed: Index, term: Term, append: AppendEntries
) -> tuple[AppendEntriesReply, Append | None]:
    """Put a leader's entries into the log, if it has what comes before: the reply, and what is to be durable first.

    What is committed is the same everywhere, and is neither compared nor taken back.
    """
    previous, skipped = append.previous_index, 0
    if previous < committed:
        skipped = min(len(append.entries), committed - previous)
        previous += skipped
    elif previous > log.last:
        return AppendEntriesReply(term, False, log.last + 1, 0, append.round), None
    elif previous > committed and log.term_at(previous) != append.previous_term:
        first = max(log.first_of_term(previous), committed + 1)
        return AppendEntriesReply(term, False, first, log.term_at(previous) or 0, append.round), None
    record = _take(log, committed, append.entries[skipped:], previous)
    match = append.previous_index + len(append.entries)
    return AppendEntriesReply(term, True, match, 0, append.round), record


def well_formed(append: AppendEntries) -> bool:
    """Whether the configurations among the entries can be read: what cannot must not get into the log."""
    for entry in append.entries:
        if entry.kind is CONFIGURATION:
            try:
                unpack_configuration(entry.data)
            except msgspec.MsgspecError:
                return False
    return True


def _take(log: Log, committed: Index, entries: tuple[Entry, ...], previous: Index) -> Append | None:
    """Put entries behind `previous`, and take back what conflicts with them."""
    known = 0
    while known < len(entries) and log.term_at(previous + 1 + known) == entries[known].term:
        known += 1
    if known == len(entries):
        return None
    first = previous + 1 + known
    assert first > committed, "a leader contradicts what is committed"
    log.truncate(first)
    log.append(entries[known:])
    return Append(first, entries[known:])


class Incoming:
    """Gathers the chunks of one snapshot."""

    def __init__(self) -> None:
        self._last_index: Index = 0
        self._data = bytearray()

    def add(self, install: InstallSnapshot) -> tuple[int, bytes | None]:
        """How many bytes of the snapshot are here now; and all of them, once they are and their checksum agrees."""
        if install.size > SNAPSHOT_BYTES_MAX:
            return 0, None
        if install.last_index != self._last_index:
            self._last_index, self._data = install.last_index, bytearray()
        if install.offset == len(self._data):
            self._data += install.chunk
        received = len(self._data)
        if received < install.size:
            return received, None
        data, self._last_index, self._data = bytes(self._data), 0, bytearray()
        return (received, data) if zlib.crc32(data) == install.checksum else (0, None)
