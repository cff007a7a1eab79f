"""What must hold of replicas whatever happens, looked at from outside after every step (thesis, figure 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from zlb.core.effects import Effect, Emit, Persist, Send
from zlb.core.events import CommandApplied, Event, ReadConfirmed, RoleChanged
from zlb.core.ids import NodeId
from zlb.core.replica import Append, Configuration, Entry, EntryKind, Index, Saved, Snapshot, Term, Vote, fold
from zlb.core.work import Rate
from zlb.protocols.raft.log import unpack_configuration
from zlb.protocols.raft.replica import Replica
from zlb.sim.world import Machine
from zlb.wire.replication import AppendEntriesReply, RequestVote, RequestVoteReply


@dataclass(slots=True)
class Seen:
    """What was seen of one replica before; `disk` outlives its crashes."""

    disk: Saved = field(default_factory=Saved)
    entries: dict[Index, Entry] = field(default_factory=dict)
    """What it has appended and not taken back, also where a snapshot stands for it."""
    incarnation: Replica | None = None
    committed: Index = 0
    term: Term = 0
    led: tuple[Term, Index] = (0, 0)
    """The term it led last, and how long its log was."""


class Invariants:
    """Election safety, leader append-only, log matching, leader completeness, state-machine safety, and their kin."""

    def __init__(self) -> None:
        self.highest_term: Term = 0
        self._leaders: dict[Term, NodeId] = {}
        self._committed: list[Entry | None] = []
        """What any replica ever committed, by index from 1; None where only a snapshot was seen of it."""
        self._committed_in: list[Term] = []
        """The term each was first seen committed in."""
        self._seen: dict[NodeId, Seen] = {}

    def on_event(self, name: NodeId, event: Event) -> None:
        """Election safety: at most one leader in a term."""
        if isinstance(event, RoleChanged):
            self.highest_term = max(self.highest_term, event.term)
            if event.role == "leader":
                first = self._leaders.setdefault(event.term, name)
                assert first == name, f"{first} and {name} both lead term {event.term}"

    def before(self, machine: Machine, replica: Replica, effect: Effect) -> None:
        """Votes are kept and given once; nothing is said before what it rests on is durable."""
        seen = self._seen.setdefault(machine.name, Seen())
        disk = seen.disk
        match effect:
            case Persist(record):
                assert not isinstance(record, Rate)
                if isinstance(record, Vote):
                    before = disk.vote
                    assert record.term >= before.term, f"{machine.name} goes back to term {record.term}"
                    again = record.term > before.term or before.voted_for in (None, record.voted_for)
                    assert again, f"{machine.name} votes twice in term {record.term}"
                if isinstance(record, Append):
                    for index in [index for index in seen.entries if index >= record.first]:
                        del seen.entries[index]
                    seen.entries.update(enumerate(record.entries, record.first))
                    times = [entry.time_ns for entry in record.entries]
                    assert times == sorted(times), f"log time goes back in {times}"
                if isinstance(record, Snapshot) and record.replaces_log:
                    seen.entries.clear()
                seen.disk = fold(disk, record)
            case Send(to, RequestVote(term, False)):
                assert disk.vote == Vote(term, machine.name), (
                    f"{machine.name} stands before its vote is durable"
                )
            case Send(to, RequestVoteReply(term, False, True)):
                voted = disk.vote.term == term and to.endswith(f"//{disk.vote.voted_for}")
                assert voted, f"{machine.name} votes for {to} before that is durable"
            case Send(_, AppendEntriesReply(term, True, index)):
                assert disk.vote.term == term, f"{machine.name} acknowledges in a term that is not durable"
                last = disk.first + len(disk.entries) - 1
                assert index <= last, f"{machine.name} acknowledges {index}, {last} is durable"
            case Emit(CommandApplied() | ReadConfirmed()):
                last = disk.first + len(disk.entries) - 1
                applied = replica.committed
                assert applied <= last, f"{machine.name} answers from entry {applied}, {last} is durable"

    def after(self, name: NodeId, replica: Replica) -> None:
        """Look at a replica that has just taken a step."""
        seen = self._seen.setdefault(name, Seen())
        if seen.incarnation is not replica:
            seen.incarnation, seen.committed = replica, 0
        assert replica.term >= seen.term, f"{name} forgot its term"
        assert replica.term == seen.disk.vote.term, f"the term of {name} is not durable"
        assert seen.committed <= replica.committed <= replica.log.last, f"{name} takes back what is committed"
        self._check_committed(name, replica, seen)
        seen.term, seen.committed = replica.term, replica.committed
        if replica.leader is not None:
            self._check_leader(name, replica, seen)

    def _check_committed(self, name: NodeId, replica: Replica, seen: Seen) -> None:
        """State-machine safety: nobody commits another entry where one was committed."""
        for index in range(seen.committed + 1, replica.committed + 1):
            entry = seen.entries.get(index)  # None: it came in a snapshot
            if index > len(self._committed):
                self._committed.append(entry)
                self._committed_in.append(replica.term)
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
        pending = [index for index, _ in configurations if index > len(self._committed)]
        assert len(pending) <= 1, f"{name} has uncommitted configurations at {pending}"
        for (_, one), (_, other) in pairwise(configurations):
            _check_step(one, other)


def _check_step(one: Configuration, other: Configuration) -> None:
    differ = set(one.voters) ^ set(other.voters)
    assert len(differ) <= 1, f"from voters {one.voters} to {other.voters} in one step"
