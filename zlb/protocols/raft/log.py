"""The log of one replica: entries behind what a snapshot stands for, and which configuration is the latest."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from zlb.core.limits import ENTRIES_PER_MESSAGE_MAX
from zlb.core.replica import Configuration, Entry, EntryKind, Index, Saved, Snapshot, Term

CONFIGURATION = EntryKind.CONFIGURATION
"""A member of an `IntEnum` is slow to look up, for something asked of every entry."""


class Log:
    """Entries `first` to `last`; those before `first` are in `snapshot`."""

    def __init__(self, saved: Saved, initial: Configuration) -> None:
        self.snapshot = saved.snapshot
        self.first = saved.first
        self._entries = list(saved.entries)
        self._initial = initial
        self._configurations = _configurations(self._entries, self.first)
        """Those in the log, and where they stand."""

    @property
    def last(self) -> Index:
        """The index of the last entry."""
        return self.first + len(self._entries) - 1

    @property
    def last_term(self) -> Term:
        """The term of the last entry."""
        return self.term_at(self.last) or 0

    @property
    def last_time_ns(self) -> int:
        """The log time of the last entry."""
        if self._entries:
            return self._entries[-1].time_ns
        return self.snapshot.last_time_ns if self.snapshot is not None else 0

    @property
    def configuration(self) -> tuple[Index, Configuration]:
        """The latest configuration, committed or not (§4.1), and where it stands; 0 if it is the initial one."""
        if self._configurations:
            return self._configurations[-1]
        if self.snapshot is not None:
            return self.snapshot.last_index, self.snapshot.configuration
        return 0, self._initial

    def configuration_at(self, index: Index) -> Configuration:
        """The latest configuration at or before `index`, which is not before the snapshot."""
        for at, configuration in reversed(self._configurations):
            if at <= index:
                return configuration
        return self._initial if self.snapshot is None else self.snapshot.configuration

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry, or None if it is cut off or not there yet. Before the first entry the term is 0."""
        if self.first <= index <= self.last:
            return self._entries[index - self.first].term
        if index == 0 and self.first == 1:
            return 0
        if self.snapshot is not None and index == self.snapshot.last_index:
            return self.snapshot.last_term
        return None

    def entry(self, index: Index) -> Entry:
        """The entry at an index from `first` to `last`."""
        return self._entries[index - self.first]

    def entries(self, first: Index, last: Index) -> list[Entry]:
        """The entries at the indices from `first` to `last`."""
        return self._entries[first - self.first : last + 1 - self.first]

    def batch(self, first: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries from `first` on, as many as one message takes: at least one, and no more data than `bytes_max`."""
        taken: list[Entry] = []
        size = 0
        for entry in self._entries[first - self.first : first - self.first + ENTRIES_PER_MESSAGE_MAX]:
            size += len(entry.data)
            if taken and size > bytes_max:
                break
            taken.append(entry)
        return tuple(taken)

    def tail(self, first: Index) -> tuple[Entry, ...]:
        """All entries from `first` on."""
        return tuple(self._entries[first - self.first :])

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Put entries at the end."""
        self._configurations += _configurations(entries, self.last + 1)
        self._entries.extend(entries)

    def put(self, entry: Entry) -> Index:
        """Put one entry at the end: where it stands."""
        self._entries.append(entry)
        if entry.kind is CONFIGURATION:
            self._configurations.append((self.last, unpack_configuration(entry.data)))
        return self.last

    def truncate(self, first: Index) -> None:
        """Take back entries from `first` on, and with them their configurations."""
        del self._entries[first - self.first :]
        self._configurations = [known for known in self._configurations if known[0] < first]

    def first_of_term(self, index: Index) -> Index:
        """The first entry in the log that has the term of the one at `index`."""
        term = self.term_at(index)
        while index > self.first and self._entries[index - 1 - self.first].term == term:
            index -= 1
        return index

    def last_of_term(self, term: Term, before: Index) -> Index | None:
        """The last entry of `term` at or before an index, if the log has one there."""
        for index in range(min(before, self.last), self.first - 1, -1):
            found = self._entries[index - self.first].term
            if found <= term:
                return index if found == term else None
        return None

    def take(self, snapshot: Snapshot) -> None:
        """Let a snapshot stand for what the log holds up to `snapshot.trimmed`, or for all of it."""
        keep_from = snapshot.last_index + 1 if snapshot.replaces_log else snapshot.trimmed + 1
        kept = [] if snapshot.replaces_log else self._entries[max(0, keep_from - self.first) :]
        self._entries, self.first, self.snapshot = kept, keep_from, snapshot
        self._configurations = [known for known in self._configurations if kept and known[0] >= keep_from]


def _configurations(entries: Iterable[Entry], first: Index) -> list[tuple[Index, Configuration]]:
    return [
        (index, unpack_configuration(entry.data))
        for index, entry in enumerate(entries, first)
        if entry.kind is CONFIGURATION
    ]


def pack_configuration(configuration: Configuration) -> bytes:
    """A configuration as the data of an entry."""
    return msgspec.msgpack.encode(configuration)


def unpack_configuration(data: bytes) -> Configuration:
    """The configuration in the data of an entry."""
    return msgspec.msgpack.decode(data, type=Configuration)
