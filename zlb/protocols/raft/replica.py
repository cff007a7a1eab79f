"""One replica of a log: follower, candidate or leader. § numbers are of Ongaro's thesis."""

from __future__ import annotations

import random

from zlb.core.config import RaftConfig
from zlb.core.effects import Effect
from zlb.core.events import CommandApplied, ReadConfirmed, RoleChanged
from zlb.core.ids import NodeId
from zlb.core.limits import ENTRY_BYTES_MAX, REPLICAS_MAX
from zlb.core.message import Message
from zlb.core.node import Core
from zlb.core.replica import Append, Configuration, EntryKind, Index, Saved, Snapshot, Term, Vote
from zlb.core.timers import Timers
from zlb.protocols.raft.follower import Incoming, accept, well_formed
from zlb.protocols.raft.leader import Leader, Reading
from zlb.protocols.raft.log import Log, pack_configuration
from zlb.protocols.raft.machine import Refusal, Role, StateMachine
from zlb.protocols.raft.quorum import majority, members, with_learner, with_voter, without
from zlb.wire.replication import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    InstallSnapshotReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)

COMMAND = EntryKind.COMMAND  # a member of an `IntEnum` is slow to look up


class Replica(Core):
    """A member of a cluster that agrees on a log, and applies it to `machine`.

    `saved` is what it persisted before; `initial` the configuration of a new cluster, the same for all its founders,
    and empty for one that joins.
    """

    def __init__(
        self,
        me: NodeId,
        saved: Saved,
        initial: Configuration,
        machine: StateMachine,
        config: RaftConfig,
        rng: random.Random,
    ) -> None:
        super().__init__()
        self.me, self.machine, self.config = me, machine, config
        self.term, self.voted_for = saved.vote
        self.log = Log(saved, initial)
        self.role = Role.FOLLOWER
        self.known_leader: NodeId | None = None
        self.leader: Leader | None = None
        """Only while we lead."""
        self.committed: Index = 0
        if saved.snapshot is not None:
            machine.restore(saved.snapshot.data)
            self.committed = saved.snapshot.last_index
        self._rng = rng
        self._timers = Timers()
        self._votes: set[NodeId] = set()
        self._heard_at: int | None = None
        self._incoming = Incoming()
        self._applied_bytes = 0
        self._applied_at = 0 if saved.snapshot is None else saved.snapshot.last_time_ns
        """Log time of the last entry applied."""
        self._tokens: list[tuple[Index, int]] = []
        """Reads of ours whose index is known but not applied yet."""

    # -- the outside

    def deadline(self) -> int:
        """ns; call `on_tick` no later than this."""
        return self._timers.next()

    def on_start(self, now: int) -> list[Effect]:
        """Called once, first."""
        self._arm(now)
        if self.configuration.voters == (self.me,):
            self._timers.set("election", now)  # nobody else could be leading
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """The deadline has come."""
        for name in self._timers.due(now):
            match name:
                case "election":
                    self._stand(now, pre=True, transfer=False)
                case _ if self.leader is None:
                    pass  # another one that was due has just deposed us
                case "flush":
                    self._replicate(now)
                case "heartbeat":
                    self._broadcast(now)
                    self._replicate(now)
                case "quorum":
                    self._check_quorum(now)
                case "transfer":  # it took too long
                    self.leader.transfer_to = None
        return self._flush()

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        """Another replica says something."""
        match message:
            case RequestVote():
                self._on_request_vote(now, src, message)
            case RequestVoteReply():
                self._on_vote_reply(now, src, message)
            case AppendEntries():
                self._on_append_entries(now, src, message)
            case AppendEntriesReply():
                if self._still_leads(now, message.term):
                    self.leader.on_append_reply(now, src, message)  # type: ignore[union-attr]
                    self._advance(now)
            case InstallSnapshot():
                self._on_install_snapshot(now, src, message)
            case InstallSnapshotReply():
                if self._still_leads(now, message.term):
                    self.leader.on_snapshot_reply(now, src, message)  # type: ignore[union-attr]
                    self._advance(now)
            case TimeoutNow(term):
                if term == self.term and self.role is Role.FOLLOWER and self.me in self.configuration.voters:
                    self._stand(now, pre=False, transfer=True)
            case ReadIndex(token):
                self._read(now, src, token)
            case ReadIndexReply(token, index):
                self._tokens.append((index, token))
                self._answer_reads()
        return self._flush()

    def propose(self, now: int, command: bytes) -> tuple[Index, Term] | Refusal:
        """Put a command into the log: where it stands, if it is ever committed, or why not.

        `CommandApplied` follows once it is; should another entry be committed at that index, it never will be.
        Entries proposed in one go travel together: they leave with the next tick, which is due at once.
        """
        if self.leader is None:
            return Refusal.NOT_LEADER
        if self.leader.transfer_to is not None:
            return Refusal.TRANSFERRING
        if len(command) > ENTRY_BYTES_MAX:
            return Refusal.TOO_LARGE
        index = self.leader.append(now, COMMAND, command)
        self._timers.set("flush", now)
        return index, self.term

    def read(self, now: int, token: int) -> list[Effect]:
        """Ask to read what is true now: `ReadConfirmed(token)` follows, or nothing if a message was lost (§6.4)."""
        self._read(now, self.me, token)
        return self._flush()

    def add(self, now: int, node: NodeId) -> Index | Refusal:
        """Have `node` receive the log, as a learner; or, if it is one, let it vote (§4.2.1)."""
        configuration = self.configuration
        if self.leader is None:
            return Refusal.NOT_LEADER
        if node in configuration.voters:
            return Refusal.NO_CHANGE
        if node not in configuration.learners:
            if len(members(configuration)) >= REPLICAS_MAX:
                return Refusal.FULL
            return self._change(now, with_learner(configuration, node))
        if not self.leader.caught_up(node):
            return Refusal.NOT_CAUGHT_UP
        return self._change(now, with_voter(configuration, node))

    def remove(self, now: int, node: NodeId) -> Index | Refusal:
        """Have `node` receive nothing any more; a leader may remove itself (§4.2.2)."""
        configuration = self.configuration
        if self.leader is not None and configuration.voters == (node,):
            return Refusal.LAST_VOTER
        return self._change(now, without(configuration, node))

    def transfer(self, now: int, node: NodeId) -> Refusal | None:
        """Hand leadership over to a voter; given up after an election timeout (§3.10)."""
        if self.leader is None:
            return Refusal.NOT_LEADER
        if node == self.me or node not in self.configuration.voters:
            return Refusal.NO_CHANGE
        self.leader.transfer_to = node
        self._timers.set("transfer", now + self.config.election_ns_min)
        self._timers.set("heartbeat", now)  # its reply tells whether the other has everything
        return None

    def cut(self) -> list[Effect]:
        """Let a snapshot stand for all that is applied, which is at least one entry."""
        self._cut()
        return self._flush()

    @property
    def configuration(self) -> Configuration:
        """The latest in the log, committed or not."""
        return self.log.configuration[1]

    # -- elections (§3.4)

    def _arm(self, now: int) -> None:
        least = self.config.election_ns_min
        self._timers.set("election", now + self._rng.randint(least, 2 * least - 1))

    def _stand(self, now: int, pre: bool, transfer: bool) -> None:
        self._arm(now)
        if self.leader is not None or self.me not in self.configuration.voters:
            return
        self.known_leader = None
        self._votes = {self.me}
        if pre:
            self._become(Role.PRE_CANDIDATE)
        else:
            self._adopt(self.term + 1, self.me)
            self._become(Role.CANDIDATE)
        term = self.term + 1 if pre else self.term
        for voter in self.configuration.voters:
            if voter != self.me:
                self._send(voter, RequestVote(term, pre, transfer, self.log.last, self.log.last_term))
        self._count_votes(now)

    def _on_request_vote(self, now: int, src: NodeId, ask: RequestVote) -> None:
        if self._has_leader(now) and not ask.transfer:
            # §4.2.3: whoever hears a leader does not help to depose it, and a removed member cannot disturb.
            if ask.term > self.term or ask.pre:
                self._send(src, RequestVoteReply(self.term, ask.pre, False))
            return
        up_to_date = (ask.last_term, ask.last_index) >= (self.log.last_term, self.log.last)
        if ask.pre:
            granted = up_to_date and ask.term > self.term
            self._send(src, RequestVoteReply(ask.term if granted else self.term, True, granted))
            return
        if ask.term > self.term:
            self._follow(now, ask.term, None)
        granted = ask.term == self.term and up_to_date and self.voted_for in (None, src)
        if granted and self.role is Role.FOLLOWER:
            if self.voted_for is None:
                self._adopt(self.term, src)
            self._arm(now)
        else:
            granted = False
        self._send(src, RequestVoteReply(self.term, False, granted))

    def _on_vote_reply(self, now: int, src: NodeId, reply: RequestVoteReply) -> None:
        if not reply.granted and reply.term > self.term:
            self._follow(now, reply.term, None)
            return
        wanted = Role.PRE_CANDIDATE if reply.pre else Role.CANDIDATE
        term = self.term + 1 if reply.pre else self.term
        if reply.granted and self.role is wanted and reply.term == term:
            self._votes.add(src)
            self._count_votes(now)

    def _count_votes(self, now: int) -> None:
        if not majority(self.configuration.voters, self._votes):
            return
        if self.role is Role.PRE_CANDIDATE:
            self._stand(now, pre=False, transfer=False)
        elif self.role is Role.CANDIDATE:
            self._lead(now)

    def _lead(self, now: int) -> None:
        self.leader = Leader(self.me, self.term, self.log, self.config, self._send, self.log.last)
        self.leader.committed = self.committed
        self.known_leader = self.me
        self._become(Role.LEADER)
        self.leader.begin(now)
        self._timers.cancel("election")
        self._timers.set("quorum", now + self.config.election_ns_min)
        self._broadcast(now)
        self._replicate(now)

    def _follow(self, now: int, term: Term, leader: NodeId | None) -> None:
        """Be a follower of `term`, of a leader if one is known."""
        if self.leader is not None:
            self._resign()
        if term > self.term:
            self._adopt(term, None)
        self.known_leader = leader
        self._become(Role.FOLLOWER)
        self._arm(now)

    def _resign(self) -> None:
        """No leader any more. What never left this process, nor reached its disk, was never in the log."""
        assert self.leader is not None
        if self.leader.persisted < self.log.last:
            self.log.truncate(self.leader.persisted + 1)
        self.leader = None
        for name in ("heartbeat", "quorum", "transfer", "flush"):
            self._timers.cancel(name)

    def _adopt(self, term: Term, voted_for: NodeId | None) -> None:
        self.term, self.voted_for = term, voted_for
        self._persist(Vote(term, voted_for))

    def _become(self, role: Role) -> None:
        self.role = role
        self._emit(RoleChanged(role.value, self.term, self.known_leader))

    def _has_leader(self, now: int) -> bool:
        """Whether we lead, or have heard our leader within the least election timeout."""
        if self.leader is not None:
            return True
        heard = self._heard_at is not None and now - self._heard_at < self.config.election_ns_min
        return heard and self.known_leader is not None

    # -- following (§3.5)

    def _on_append_entries(self, now: int, src: NodeId, append: AppendEntries) -> None:
        if append.term < self.term:
            self._send(src, AppendEntriesReply(self.term, False, 0, 0, append.round))
            return
        if not well_formed(append):
            return
        self._hear(now, src, append.term)
        reply, record = accept(self.log, self.committed, self.term, append)
        if record is not None:
            self._persist(record)
        self._send(src, reply)
        if reply.success:
            self._commit(now, min(append.commit, reply.index))

    def _on_install_snapshot(self, now: int, src: NodeId, install: InstallSnapshot) -> None:
        if install.term < self.term:
            self._send(src, InstallSnapshotReply(self.term, install.last_index, 0, install.round))
            return
        self._hear(now, src, install.term)
        received = install.size
        if install.last_index > self.committed:
            received, data = self._incoming.add(install)
            if data is not None:
                self._install(install, data)
        self._send(src, InstallSnapshotReply(self.term, install.last_index, received, install.round))

    def _install(self, install: InstallSnapshot, data: bytes) -> None:
        """Take over a leader's snapshot; the log behind it stays if it goes on from there (§5.3)."""
        replaces_log = self.log.term_at(install.last_index) != install.last_term
        snapshot = Snapshot(
            install.last_index,
            install.last_term,
            install.last_time_ns,
            Configuration(tuple(map(NodeId, install.voters)), tuple(map(NodeId, install.learners))),
            data,
            install.last_index,
            replaces_log,
        )
        self.log.take(snapshot)
        self._persist(snapshot)
        self.machine.restore(data)
        self.committed = install.last_index
        self._applied_bytes, self._applied_at = 0, install.last_time_ns
        self._answer_reads()

    def _hear(self, now: int, leader: NodeId, term: Term) -> None:
        """The leader of `term`, which is not below ours, lives."""
        assert self.role is not Role.LEADER or term > self.term, f"two leaders in term {term}"
        if term > self.term or self.role is not Role.FOLLOWER or self.known_leader != leader:
            self._follow(now, term, leader)
        self._heard_at = now
        self._arm(now)

    # -- leading

    def _still_leads(self, now: int, term: Term) -> bool:
        """Whether a reply of `term` is for us as leader; a higher one ends that."""
        if term > self.term:
            self._follow(now, term, None)
        return self.leader is not None and term == self.term

    def _broadcast(self, now: int) -> None:
        assert self.leader is not None
        self.leader.broadcast()
        self._timers.set("heartbeat", now + self.config.heartbeat_ns)

    def _replicate(self, now: int) -> None:
        """Send what is new, and make it durable meanwhile: it counts as held by us from there on (§10.2.1).

        Nothing is committed and no read is answered before that: whoever looks at the state then sees all of it.
        """
        leader = self.leader
        assert leader is not None
        if any(read.round > leader.round for read in leader.reads):
            self._broadcast(now)
        leader.replicate()
        if leader.persisted < self.log.last:
            self._persist(Append(leader.persisted + 1, self.log.tail(leader.persisted + 1)))
            leader.persisted = self.log.last
        self._advance(now)

    def _advance(self, now: int) -> None:
        """Commit what a majority holds, answer what a majority confirms."""
        leader = self.leader
        if leader is None:
            return
        self._commit(now, leader.majority_holds())
        if self.leader is None:
            return
        for read in leader.confirmed_reads():
            self._confirm(read.asker, read.token, read.index)

    def _check_quorum(self, now: int) -> None:
        assert self.leader is not None
        if self.leader.has_quorum(now):
            self._timers.set("quorum", now + self.config.election_ns_min)
        else:
            self._follow(now, self.term, None)

    def _change(self, now: int, configuration: Configuration) -> Index | Refusal:
        leader = self.leader
        if leader is None:
            return Refusal.NOT_LEADER
        if leader.transfer_to is not None:
            return Refusal.TRANSFERRING
        if configuration == self.configuration:
            return Refusal.NO_CHANGE
        if not leader.may_change():
            return Refusal.CHANGE_PENDING
        self._timers.set("flush", now)
        return leader.configure(now, configuration, pack_configuration(configuration))

    # -- reads (§6.4)

    def _read(self, now: int, asker: NodeId, token: int) -> None:
        if self.leader is not None:
            index = max(self.committed, self.leader.noop)
            self.leader.reads.append(Reading(self.leader.round + 1, index, asker, token))
            self._timers.set("flush", now)
        elif asker == self.me and self.known_leader is not None:
            self._send(self.known_leader, ReadIndex(token))

    def _confirm(self, asker: NodeId, token: int, index: Index) -> None:
        if asker == self.me:
            self._tokens.append((index, token))
            self._answer_reads()
        else:
            self._send(asker, ReadIndexReply(token, index))

    def _answer_reads(self) -> None:
        waiting = []
        for index, token in self._tokens:
            if index <= self.committed:
                self._emit(ReadConfirmed(token))
            else:
                waiting.append((index, token))
        self._tokens = waiting

    # -- applying (§3.5, §5)

    def _commit(self, now: int, index: Index) -> None:
        """Apply what is committed by now, up to `index`."""
        if index <= self.committed:
            return
        for at, entry in enumerate(self.log.entries(self.committed + 1, index), self.committed + 1):
            self.committed = at
            self._applied_bytes += len(entry.data)
            self._applied_at = entry.time_ns
            if entry.kind is COMMAND:
                result = self.machine.apply(entry.time_ns, entry.data)
                self._emit(CommandApplied(at, entry.term, result))
        if self.leader is not None:
            self.leader.committed = self.committed
        self._answer_reads()
        self._cut_if_long()
        self._leave_if_removed(now)

    def _leave_if_removed(self, now: int) -> None:
        """§4.2.2: a leader that is not a voter any more leads until that is committed."""
        at, configuration = self.log.configuration
        if self.leader is not None and at <= self.committed and self.me not in configuration.voters:
            self.leader.broadcast()  # so that the others learn of the commit
            self._follow(now, self.term, None)

    def _cut_if_long(self) -> None:
        """Let a snapshot stand for the log when it has grown (§5.1), and by more than the last snapshot takes."""
        last = self.log.snapshot
        at, size = (0, 0) if last is None else (last.last_index, len(last.data))
        grown = self.committed - at >= self.config.snapshot_entries
        if (grown or self._applied_bytes >= self.config.snapshot_bytes) and self._applied_bytes >= size:
            self._cut()

    def _cut(self) -> None:
        term = self.log.term_at(self.committed)
        assert term is not None
        trimmed = max(self.log.first - 1, self.committed - self.config.trailing_entries)
        snapshot = Snapshot(
            self.committed,
            term,
            self._applied_at,
            self.log.configuration_at(self.committed),
            self.machine.snapshot(),
            trimmed,
            False,
        )
        self.log.take(snapshot)
        self._persist(snapshot)
        self._applied_bytes = 0
