"""What a leader does and only a leader knows: how far each follower is, which reads wait, which change is under way."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from zlb.core.config import RaftConfig
from zlb.core.ids import NodeId
from zlb.core.limits import APPENDS_IN_FLIGHT_MAX, SNAPSHOT_CHUNK_BYTES_MAX
from zlb.core.message import Message
from zlb.core.replica import Configuration, Entry, EntryKind, Index, Snapshot, Term
from zlb.protocols.raft.log import Log
from zlb.protocols.raft.quorum import majority, majority_match, members
from zlb.wire.replication import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    TimeoutNow,
)


@dataclass(slots=True)
class Progress:
    """How far a follower is, as its replies tell."""

    next: Index
    heard_at: int
    match: Index = 0
    probing: bool = True
    """Whether its log may differ from ours before `next`: then one message at a time."""
    in_flight: int = 0
    """AppendEntries with entries that no reply has covered; a heartbeat starts the count anew."""
    acked_round: int = 0
    snapshot: Snapshot | None = None
    """What it is being sent instead of entries that are cut off."""
    checksum: int = 0
    received: int = 0


@dataclass(slots=True)
class Reading:
    """A read that waits until a majority has confirmed that we still lead (§6.4)."""

    round: int
    index: Index
    asker: NodeId
    token: int


@dataclass(slots=True)
class Leader:
    """Replicates the log of `term` to everyone in its configuration, and counts what a majority holds.

    `send` is best effort. `persisted` is how much of our own log is durable: only that counts as held by us.
    """

    me: NodeId
    term: Term
    log: Log
    config: RaftConfig
    send: Callable[[NodeId, Message], None]
    persisted: Index
    sendable: Index = 0
    """Entries up to here may be sent: durable, or about to be."""
    progress: dict[NodeId, Progress] = field(default_factory=dict)
    round: int = 0
    """Of the last broadcast to everyone."""
    reads: list[Reading] = field(default_factory=list)
    transfer_to: NodeId | None = None
    committed: Index = 0
    """The highest entry known to be held by a majority; the replica keeps it up to date."""
    noop: Index = 0
    """Our first entry."""
    clock: tuple[int, int] = (0, 0)
    """Our clock and the log's time when we began: log time goes on from where the leader before us left it."""

    def begin(self, now: int) -> None:
        """Take up leadership: a no-op of our own term is the first entry (§6.4, and the 2015 fix of §4.1)."""
        self.clock, self.sendable = (now, self.log.last_time_ns), self.persisted
        self.meet(now)
        self.noop = self.append(now, EntryKind.NOOP, b"")

    def meet(self, now: int) -> None:
        """Keep progress of exactly those who receive the log."""
        _, configuration = self.log.configuration
        others = [node for node in members(configuration) if node != self.me]
        for node in others:
            if node not in self.progress:
                self.progress[node] = Progress(self.log.last + 1, now)
        for node in [node for node in self.progress if node not in others]:
            del self.progress[node]

    def append(self, now: int, kind: EntryKind, data: bytes) -> Index:
        """Put an entry of our term at the end of the log; it travels with the next `replicate`."""
        began_at, log_time = self.clock
        time_ns = max(
            self.log.last_time_ns, log_time + now - began_at
        )  # our clock may go back, log time does not
        return self.log.put(Entry(self.term, kind, time_ns, data))

    # -- sending

    def broadcast(self) -> None:
        """A heartbeat to everyone, with entries where there are some, and a new round for reads."""
        self.round += 1
        for node, progress in self.progress.items():
            progress.in_flight = 0
            if progress.snapshot is not None:
                self._send_chunk(node, progress)
            elif not self._send_entries(node, progress):
                self._send_append(node, progress, progress.next - 1, ())

    def replicate(self) -> None:
        """Send what is new to those who can take it; the caller makes it durable in the same step."""
        self.sendable = self.log.last
        for node, progress in self.progress.items():
            if progress.snapshot is None and not (progress.probing and progress.in_flight):
                self._send_entries(node, progress)

    def _send_entries(self, node: NodeId, progress: Progress) -> bool:
        """Send batches until the window is full; false if there was nothing to send."""
        sent = False
        while progress.next <= self.sendable and progress.in_flight < APPENDS_IN_FLIGHT_MAX:
            previous = progress.next - 1
            if progress.next < self.log.first or self.log.term_at(previous) is None:
                return self._start_snapshot(node, progress) or sent
            entries = self.log.batch(progress.next, self.config.batch_bytes)[: self.sendable - previous]
            self._send_append(node, progress, previous, entries)
            sent = True
            progress.in_flight += 1
            if progress.probing:
                return True
            progress.next += len(entries)
        return sent

    def _send_append(
        self, node: NodeId, progress: Progress, previous: Index, entries: tuple[Entry, ...]
    ) -> None:
        term = self.log.term_at(previous)
        if term is None:
            self._start_snapshot(node, progress)
            return
        self.send(node, AppendEntries(self.term, previous, term, self.committed, self.round, entries))

    def _start_snapshot(self, node: NodeId, progress: Progress) -> bool:
        assert self.log.snapshot is not None, "entries are cut off but no snapshot stands for them"
        progress.snapshot, progress.received = self.log.snapshot, 0
        progress.checksum = zlib.crc32(self.log.snapshot.data)
        self._send_chunk(node, progress)
        return True

    def _send_chunk(self, node: NodeId, progress: Progress) -> None:
        snapshot = progress.snapshot
        assert snapshot is not None
        voters, learners = snapshot.configuration
        chunk = snapshot.data[progress.received : progress.received + SNAPSHOT_CHUNK_BYTES_MAX]
        self.send(
            node,
            InstallSnapshot(
                self.term,
                snapshot.last_index,
                snapshot.last_term,
                snapshot.last_time_ns,
                voters,
                learners,
                progress.received,
                len(snapshot.data),
                progress.checksum,
                self.round,
                chunk,
            ),
        )

    # -- hearing

    def on_append_reply(self, now: int, src: NodeId, reply: AppendEntriesReply) -> None:
        """A follower says how far its log matches, or where it begins to differ."""
        progress = self.progress.get(src)
        if progress is None:
            return
        self._heard(now, progress, reply.round)
        if reply.success:
            progress.match = max(progress.match, min(reply.index, self.log.last))
            progress.next = max(progress.next, progress.match + 1)
            progress.in_flight = max(0, progress.in_flight - 1)
            progress.probing = False
            if progress.snapshot is not None and progress.match >= progress.snapshot.last_index:
                progress.snapshot = None
        elif progress.snapshot is None:
            progress.next = max(progress.match + 1, min(self._agreed(reply), self.log.last + 1))
            progress.probing, progress.in_flight = True, 0
        if progress.snapshot is None and not (progress.probing and progress.in_flight):
            self._send_entries(src, progress)
        self._hand_over(src, progress)

    def _agreed(self, reply: AppendEntriesReply) -> Index:
        """Where the logs may part: behind our last entry of the conflicting term, or at its first one there (§3.3)."""
        if reply.conflict_term:
            ours = self.log.last_of_term(reply.conflict_term, reply.index + self.log.last)
            if ours is not None:
                return ours + 1
        return reply.index

    def on_snapshot_reply(self, now: int, src: NodeId, reply: InstallSnapshotReply) -> None:
        """A follower says how much of a snapshot it has."""
        progress = self.progress.get(src)
        if progress is None:
            return
        self._heard(now, progress, reply.round)
        snapshot = progress.snapshot
        if snapshot is None or reply.last_index != snapshot.last_index:
            return
        if reply.received >= len(snapshot.data):
            progress.snapshot, progress.match = None, max(progress.match, snapshot.last_index)
            progress.next, progress.probing, progress.in_flight = progress.match + 1, True, 0
            self._send_entries(src, progress)
        elif reply.received > progress.received:
            progress.received = reply.received
            self._send_chunk(src, progress)
        else:  # it was restarted, or this is an old reply: the next heartbeat goes on from there
            progress.received = reply.received

    def _heard(self, now: int, progress: Progress, round_: int) -> None:
        progress.heard_at = now
        progress.acked_round = max(progress.acked_round, min(round_, self.round))

    # -- counting

    def majority_holds(self) -> Index:
        """The highest entry of our own term that a majority holds, else 0: only those commit by counting (§3.6.2)."""
        _, configuration = self.log.configuration
        match = {node: progress.match for node, progress in self.progress.items()}
        match[self.me] = self.persisted
        index = majority_match(configuration.voters, match)
        return index if self.log.term_at(index) == self.term else 0

    def has_quorum(self, now: int) -> bool:
        """Whether a majority was heard within an election timeout (§6.2): if not, nobody may follow us any more."""
        since = now - self.config.election_ns_min
        heard = [node for node, progress in self.progress.items() if progress.heard_at >= since]
        _, configuration = self.log.configuration
        return majority(configuration.voters, [self.me, *heard])

    def confirmed_reads(self) -> list[Reading]:
        """Take out the reads that a majority has confirmed since they were asked."""
        if not self.reads or self.committed < self.noop:
            return []  # until then earlier leaders may have committed more than we know
        _, configuration = self.log.configuration
        acked = {node: progress.acked_round for node, progress in self.progress.items()}
        acked[self.me] = self.round
        confirmed = majority_match(configuration.voters, acked)
        ready = [read for read in self.reads if read.round <= confirmed]
        self.reads = [read for read in self.reads if read.round > confirmed]
        return ready

    # -- handing over

    def _hand_over(self, node: NodeId, progress: Progress) -> None:
        """Once the one to take over has all of our log, have it stand at once (§3.10)."""
        if node == self.transfer_to and progress.match == self.log.last == self.persisted:
            self.send(node, TimeoutNow(self.term))

    def may_change(self) -> bool:
        """Whether a new configuration may be appended: the one before is committed, and so is an entry of our term."""
        index, _ = self.log.configuration
        return index <= self.committed and self.noop <= self.committed

    def caught_up(self, node: NodeId) -> bool:
        """Whether a learner is close enough behind to vote."""
        progress = self.progress.get(node)
        if progress is None or not progress.match:  # nothing was ever heard of it
            return False
        return self.log.last - progress.match <= self.config.caught_up_entries

    def configure(self, now: int, configuration: Configuration, data: bytes) -> Index:
        """Append a configuration, which counts from now on (§4.1)."""
        index = self.append(now, EntryKind.CONFIGURATION, data)
        assert self.log.configuration == (index, configuration)
        self.meet(now)
        return index
