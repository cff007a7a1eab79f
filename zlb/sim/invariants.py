"""What must hold of replicas whatever happens, looked at from outside after every step (thesis, figure 3.2)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from zlb.core.effects import Effect, Emit, Persist, Send
from zlb.core.events import CommandApplied, Event, ReadConfirmed, RoleChanged
from zlb.core.ids import NodeId
from zlb.core.replica import (
    Append,
    Configuration,
    Entry,
    EntryKind,
    Index,
    ReplicaRecord,
    Saved,
    Snapshot,
    Term,
    Vote,
    fold,
)
from zlb.core.work import Record
from zlb.protocols.raft.log import unpack_configuration
from zlb.protocols.raft.replica import Replica
from zlb.sim.member import Member
from zlb.sim.world import Machine, Onlooker
from zlb.wire.replication import AppendEntriesReply, RequestVote, RequestVoteReply


class Kept:
    """What a replica keeps, record by record."""

    def __init__(self, saved: Saved, entries: dict[Index, Entry]) -> None:
        self.saved, self.entries = saved, dict(entries)
        """`entries` is what it has appended and not taken back, also where a snapshot stands for it."""

    def add(self, record: ReplicaRecord) -> None:
        """One record more."""
        if isinstance(record, Append):
            for index in [index for index in self.entries if index >= record.first]:
                del self.entries[index]
            self.entries.update(enumerate(record.entries, record.first))
        if isinstance(record, Snapshot) and record.replaces_log:
            self.entries.clear()
        self.saved = fold(self.saved, record)


class Commit(NamedTuple):
    """A replica holds an entry for committed; that is a fact once all it has written by then is durable."""

    written: int
    at: Index
    entry: Entry | None
    term: Term


@dataclass(slots=True)
class Seen:
    """What was seen of one replica before; `disk` outlives its crashes."""

    disk: Kept = field(default_factory=lambda: Kept(Saved(), {}))
    """What is durable."""
    log: Kept = field(default_factory=lambda: Kept(Saved(), {}))
    """The same, and what was written since."""
    unsynced: list[ReplicaRecord] = field(default_factory=list)
    """Written and not durable yet; a sync of the first `syncing` of them is under way, or ended in doubt."""
    syncing: int = 0
    written: int = 0
    """Records since the last start."""
    performed: int = 0
    """Of these, how many stood before what the replica does now."""
    said: Saved = field(default_factory=Saved)
    """What may be said now: what is kept, up to there."""
    commits: deque[Commit] = field(default_factory=deque)
    answers: deque[Index] = field(default_factory=deque)
    """For each answer that was not given yet, in order: up to where entries are applied in the state it is from."""
    committed: Index = 0
    term: Term = 0
    led: tuple[Term, Index] = (0, 0)
    """The term it led last, and how long its log was."""


class Invariants(Onlooker):
    """Election safety, leader append-only, log matching, leader completeness, state-machine safety, and their kin."""

    def __init__(self) -> None:
        self.highest_term: Term = 0
        self._leaders: dict[Term, NodeId] = {}
        self._committed: list[Entry | None] = []
        """What any replica ever committed, by index from 1; None where only a snapshot was seen of it."""
        self._committed_in: list[Term] = []
        """The term each was first seen committed in."""
        self._seen: dict[NodeId, Seen] = {}

    def booted(self, name: NodeId, saved: Saved) -> None:
        """A replica starts from all that was durable, and the transaction in doubt, all of it or nothing."""
        seen = self._seen.setdefault(name, Seen())
        if seen.disk.saved != saved:
            for record in seen.unsynced[: seen.syncing]:
                seen.disk.add(record)
        assert seen.disk.saved == saved, f"{name} starts from {saved}, its disk holds {seen.disk.saved}"
        assert not saved.entries or saved.entries[-1].term <= saved.vote.term, f"{name} lost its term"
        # Alone in its configuration it leads before its vote is durable, and may lead that term once more.
        led = seen.led if seen.led[0] <= saved.vote.term else (0, 0)
        log = Kept(saved, seen.disk.entries)
        self._seen[name] = Seen(disk=seen.disk, log=log, said=saved, term=saved.vote.term, led=led)

    def on_event(self, name: NodeId, event: Event) -> None:
        """Election safety: at most one leader in a term."""
        if isinstance(event, RoleChanged):
            self.highest_term = max(self.highest_term, event.term)
            if event.role == "leader":
                first = self._leaders.setdefault(event.term, name)
                assert first == name, f"{first} and {name} both lead term {event.term}"

    def returned(self, machine: Machine, effects: list[Effect]) -> None:
        """Votes are given once; log time does not go back."""
        seen = self._seen[machine.name]
        for effect in effects:
            match effect:
                case Persist(record):
                    assert isinstance(record, ReplicaRecord)
                    self._check_record(machine.name, seen.log, record)
                    seen.log.add(record)
                    seen.unsynced.append(record)
                    seen.written += 1
                case Emit(CommandApplied() | ReadConfirmed()):
                    assert isinstance(machine.node, Member)
                    seen.answers.append(machine.node.replica.committed)

    def _check_record(self, name: NodeId, log: Kept, record: ReplicaRecord) -> None:
        if isinstance(record, Vote):
            before = log.saved.vote
            assert record.term >= before.term, f"{name} goes back to term {record.term}"
            again = record.term > before.term or before.voted_for in (None, record.voted_for)
            assert again, f"{name} votes twice in term {record.term}"
        if isinstance(record, Append):
            times = [entry.time_ns for entry in record.entries]
            if record.first - 1 in log.entries:
                times.insert(0, log.entries[record.first - 1].time_ns)
            assert times == sorted(times), f"log time goes back in {times}"

    def before(self, machine: Machine, effect: Effect) -> None:
        """Nothing is said before what it rests on is durable."""
        name, seen = machine.name, self._seen[machine.name]
        vote, last = seen.said.vote, seen.said.first + len(seen.said.entries) - 1
        match effect:
            case Persist(record):
                assert isinstance(record, ReplicaRecord)
                seen.performed += 1
                seen.said = fold(seen.said, record)
                durable = seen.written - len(seen.unsynced)
                assert seen.performed <= durable, f"{name} goes on before {record} is durable"
            case Send(_, RequestVote(term, False)):
                assert vote == Vote(term, name), f"{name} stands before its vote is durable"
            case Send(to, RequestVoteReply(term, False, True)):
                voted = vote.term == term and to.endswith(f"//{vote.voted_for}")
                assert voted, f"{name} votes for {to} before that is durable"
            case Send(_, AppendEntriesReply(term, True, index)):
                assert vote.term == term, f"{name} acknowledges in a term that is not durable"
                assert index <= last, f"{name} acknowledges {index}, {last} is durable"
            case Emit(CommandApplied() | ReadConfirmed()):
                applied = seen.answers.popleft()
                assert applied <= last, f"{name} answers from entry {applied}, {last} is durable"

    def syncing(self, machine: Machine, records: list[Record]) -> None:
        """A driver syncs all that was written, in order."""
        seen = self._seen[machine.name]
        assert records == seen.unsynced, f"{machine.name} syncs {records}, it wrote {seen.unsynced}"
        seen.syncing = len(records)

    def synced(self, machine: Machine) -> None:
        """What was synced is durable, and with it what was committed by then."""
        seen = self._seen[machine.name]
        for record in seen.unsynced[: seen.syncing]:
            seen.disk.add(record)
        del seen.unsynced[: seen.syncing]
        seen.syncing = 0
        self._commit(machine.name, seen)

    def after(self, machine: Machine) -> None:
        """Look at a replica that has just taken a step."""
        if not isinstance(machine.node, Member):
            return
        name, replica, seen = machine.name, machine.node.replica, self._seen[machine.name]
        assert replica.term >= seen.term, f"{name} forgot its term"
        assert replica.term == seen.log.saved.vote.term, f"{name} does not keep its term"
        assert seen.committed <= replica.committed <= replica.log.last, f"{name} takes back what is committed"
        for index in range(seen.committed + 1, replica.committed + 1):
            entry = seen.log.entries.get(index)  # None: it came in a snapshot
            seen.commits.append(Commit(seen.written, index, entry, replica.term))
        self._commit(name, seen)
        seen.term, seen.committed = replica.term, replica.committed
        if replica.leader is not None:
            self._check_leader(name, replica, seen)

    def _commit(self, name: NodeId, seen: Seen) -> None:
        """State-machine safety: nobody commits another entry where one was committed."""
        durable = seen.written - len(seen.unsynced)
        while seen.commits and seen.commits[0].written <= durable:
            _, index, entry, term = seen.commits.popleft()
            if index > len(self._committed):
                self._committed.append(entry)
                self._committed_in.append(term)
            known = self._committed[index - 1]
            if known is None:
                self._committed[index - 1] = entry
            assert known is None or entry in (None, known), (
                f"{name} commits {entry} at {index}, it was {known}"
            )

    def _check_leader(self, name: NodeId, replica: Replica, seen: Seen) -> None:
        """Leader append-only, leader completeness, and configurations one step apart."""
        log, (term, length) = replica.log, seen.led
        assert term != replica.term or log.last >= length, f"leader {name} shortens its log"
        if term != replica.term:
            for index, (entry, in_term) in enumerate(
                zip(self._committed, self._committed_in, strict=True), 1
            ):
                if in_term < replica.term and index >= log.first and entry is not None:
                    assert index <= log.last, f"leader {name} of {replica.term} lacks entry {index}"
                    assert log.entry(index) == entry, (
                        f"leader {name} of {replica.term} has another entry {index}"
                    )
        seen.led = replica.term, log.last
        configurations = [
            (index, unpack_configuration(log.entry(index).data))
            for index in range(max(log.first, replica.committed - 50), log.last + 1)
            if log.entry(index).kind is EntryKind.CONFIGURATION
        ]
        # What is committed is not always known to a leader that has just begun.
        known = max(len(self._committed), replica.committed)
        pending = [index for index, _ in configurations if index > known]
        assert len(pending) <= 1, f"{name} has uncommitted configurations at {pending}"
        for (_, one), (_, other) in pairwise(configurations):
            _check_step(one, other)


def _check_step(one: Configuration, other: Configuration) -> None:
    differ = set(one.voters) ^ set(other.voters)
    assert len(differ) <= 1, f"from voters {one.voters} to {other.voters} in one step"
