"""Replicas of a log under many seeds; and bugs planted in them, each of which some seed must find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from tests.sim.processes import told_by_all
from zlb.core.effects import Effect, Persist
from zlb.core.ids import NodeId
from zlb.core.node import Core
from zlb.core.replica import Vote
from zlb.core.work import Record
from zlb.protocols.raft import replica as replica_module
from zlb.protocols.raft.leader import Leader, Progress
from zlb.protocols.raft.quorum import majority_match
from zlb.protocols.raft.replica import Replica
from zlb.protocols.raft.sessions import Sessions, command
from zlb.sim import replicas
from zlb.sim.disk import Disk
from zlb.sim.weather import Weather
from zlb.sim.world import Machine, World

SEEDS = 200
SEEDS_TO_FIND_A_BUG = 1000


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_seeds(first: int) -> None:
    for seed in range(first, first + 25):
        replicas.run(seed)


def test_a_seed_is_the_same_world_in_any_process() -> None:
    code = "from zlb.sim import replicas; print([replicas.run(seed) for seed in (7, 21, 148)])"
    told = told_by_all(code)
    assert len(told) == 1


def test_everything_befalls_them() -> None:
    counts = sum((replicas.run(seed).faults for seed in range(60, 100)), Counter[str]())
    for fault in (
        "crashes",
        "pauses",
        "jumps back",
        "jumps forward",
        "two leaders",
        "changes in a partition",
        "group syncs",
        "failed syncs",
        "transactions in doubt",
        "transactions found again",
        "unsynced suffixes lost",
    ):
        assert counts[fault], f"{fault}: {counts[fault]} in 40 seeds"


# Seeds that found something, in the words of what was wrong; found again by planting it anew when their dice changed.
FOUND = {
    67: "a leader of an old term, elected by a delayed vote, was blamed for lacking what later terms committed",
    37: "a read was answered from entries that the leader had applied but not yet made durable, and then lost",
}


@pytest.mark.parametrize("seed", FOUND)
def test_found_seeds_stay_mended(seed: int) -> None:
    replicas.run(seed)


# --- planted bugs --------------------------------------------------------------------------------------------------


def no_vote_is_durable(patch: pytest.MonkeyPatch) -> None:
    """§3.8: term and vote are kept through crashes."""
    persist = Core._persist
    patch.setattr(Replica, "_persist", lambda self, record: isinstance(record, Vote) or persist(self, record))


def votes_are_counted(patch: pytest.MonkeyPatch) -> None:
    """§3.4: a voter counts once, however often its answer arrives."""
    patch.setattr(replica_module, "majority", lambda voters, agreed: 2 * len(agreed) > len(voters))

    class Counted(list[str]):
        add = list.append

    stand = Replica._stand

    def counting(self: Replica, now: int, pre: bool, transfer: bool) -> None:
        stand(self, now, pre, transfer)
        if isinstance(self._votes, set):
            self._votes = Counted(self._votes)  # type: ignore[assignment]

    patch.setattr(Replica, "_stand", counting)


def old_terms_commit_by_counting(patch: pytest.MonkeyPatch) -> None:
    """§3.6.2: only entries of the leader's own term are committed by counting replicas."""

    def majority_holds(self: Leader) -> int:
        _, configuration = self.log.configuration
        match = {node: progress.match for node, progress in self.progress.items()}
        return majority_match(configuration.voters, match | {self.me: self.persisted})

    patch.setattr(Leader, "majority_holds", majority_holds)


def configurations_change_before_the_noop(patch: pytest.MonkeyPatch) -> None:
    """The bug of 2015: a new leader changes the configuration before an entry of its term is committed."""
    patch.setattr(Leader, "may_change", lambda self: True)


def commands_are_repeated(patch: pytest.MonkeyPatch) -> None:
    """§6.3: a repeated command is answered, not executed again."""

    apply = Sessions.apply

    def renumbered(self: Sessions, time_ns: int, asked: bytes) -> object:
        number, _, payload = msgspec.msgpack.decode(asked, type=tuple[int, int, bytes])
        if number in self.sessions:
            asked = command(number, self.sessions[number].sequence + 1, payload)
        return apply(self, time_ns, asked)

    patch.setattr(Sessions, "apply", renumbered)


def sent_before_persisted(patch: pytest.MonkeyPatch) -> None:
    """The law of the list: what follows a Persist waits for it."""
    flush = Core._flush

    def reordered(self: Core) -> list[Effect]:
        return sorted(flush(self), key=lambda effect: isinstance(effect, Persist))

    patch.setattr(Replica, "_flush", reordered)


def answers_run_ahead_of_the_disk(patch: pytest.MonkeyPatch) -> None:
    """Nothing is committed, and no read answered, before the record of its step: it could be lost again."""
    send_entries, broadcast = Leader._send_entries, Replica._broadcast

    def send_all(self: Leader, node: NodeId, progress: Progress) -> bool:
        self.sendable = self.log.last
        return send_entries(self, node, progress)

    def advance(self: Replica, now: int) -> None:
        broadcast(self, now)
        self._advance(now)

    patch.setattr(Leader, "_send_entries", send_all)
    patch.setattr(Replica, "_broadcast", advance)


def reads_are_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """§6.4: a leader that was deposed without knowing answers from the past."""

    def confirmed(self: Leader) -> list[object]:
        ready, self.reads = self.reads, []
        return ready  # type: ignore[return-value]

    patch.setattr(Leader, "confirmed_reads", confirmed)


def logs_are_not_compared_before_voting(patch: pytest.MonkeyPatch) -> None:
    """§3.6.1: nobody votes for a candidate whose log is behind."""
    vote = Replica._on_request_vote

    def blind(self: Replica, now: int, src: str, ask: replica_module.RequestVote) -> None:
        vote(self, now, src, msgspec.structs.replace(ask, last_index=2**40, last_term=2**40))  # type: ignore[arg-type]

    patch.setattr(Replica, "_on_request_vote", blind)


# --- and in the driver, which the law of the list binds ---


def nothing_waits_for_a_sync(patch: pytest.MonkeyPatch) -> None:
    """A driver holds back what follows a record until that is durable."""
    sync = World._sync

    def eager(self: World, machine: Machine, held: list[Effect]) -> None:
        sync(self, machine, [effect for effect in held if isinstance(effect, Persist)])
        self._go_on(machine, [effect for effect in held if not isinstance(effect, Persist)], 0)

    patch.setattr(World, "_sync", eager)


def later_steps_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """What a step without records says may rest on a record of the step before."""
    wait = World._wait

    def overtake(self: World, machine: Machine, effects: list[Effect]) -> bool:
        persists = any(isinstance(effect, Persist) for effect in effects)
        return wait(self, machine, effects) if persists else self._go_on(machine, effects, 0)

    patch.setattr(World, "_wait", overtake)


def half_a_transaction_is_read(patch: pytest.MonkeyPatch) -> None:
    """A transaction that a crash tore is dropped whole."""

    def read(self: Disk) -> list[Record]:
        self.durable += self._doubtful[: len(self._doubtful) // 2]
        self._doubtful = []
        return list(self.durable)

    patch.setattr(Disk, "read", read)


def a_failed_sync_is_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """After a failed fsync a second one succeeds, though the pages of the first were dropped."""
    end = Disk.end

    def forgiving(self: Disk, weather: Weather | None) -> bool:
        if not end(self, weather):
            self._syncing = []
        return True

    patch.setattr(Disk, "end", forgiving)


def what_is_found_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """What a crashed process left may be readable, and yet not be there after the next crash."""
    read = Disk.read

    def trusting(self: Disk) -> list[Record]:
        doubtful, durable = self._doubtful, list(self.durable)
        found = read(self)
        self.durable, self._doubtful = durable, doubtful if len(found) > len(durable) else []
        return found

    patch.setattr(Disk, "read", trusting)


BUGS = [
    no_vote_is_durable,
    votes_are_counted,
    old_terms_commit_by_counting,
    configurations_change_before_the_noop,
    commands_are_repeated,
    sent_before_persisted,
    answers_run_ahead_of_the_disk,
    reads_are_not_confirmed,
    logs_are_not_compared_before_voting,
    nothing_waits_for_a_sync,
    later_steps_do_not_wait,
    half_a_transaction_is_read,
    a_failed_sync_is_taken_for_done,
    what_is_found_is_not_synced,
]


@pytest.mark.parametrize("plant", BUGS)
def test_planted_bugs_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(SEEDS_TO_FIND_A_BUG):
        try:
            replicas.run(seed)
        except AssertionError:
            return
    pytest.fail(f"{SEEDS_TO_FIND_A_BUG} seeds did not notice: {plant.__doc__}")
