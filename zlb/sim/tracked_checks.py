"""What must hold whatever happens to trackers, coordinators and workers, looked at after every step.

* Work that a worker was told is kept is in the log, stays there, and is never leased again by a coordinator of that
  epoch or a later one; unless results are checked, and it is doubted later.
* A job has at most one coordinator in each epoch, the one that the log names, and no other changes it.
* Trackers that have applied the same entries have the same registry; ledgers are partitions of their jobs.
* In mild weather, work that a living worker has finished is not leased again, kept or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from zlb.core.effects import Effect, Persist, Run, Send
from zlb.core.ids import JobId, LeaseId, NodeId, RunId, Span
from zlb.core.message import Message
from zlb.core.work import Outcome, Search, Searched, StopRule
from zlb.nodes.peer import Peer
from zlb.nodes.tracker import Tracker
from zlb.protocols.commands import Assign, Checkpoint, Command, Commands, Finish, unpack_result
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.registry import Registry
from zlb.sim.tracked_jobs import DrawnJob
from zlb.sim.world import Machine, Onlooker, World
from zlb.wire.messages import TaskAck, TaskReport, TaskTransfer

Incarnation = tuple[NodeId, int]


class SeenPeer(Peer):
    """A peer that tells `checks` what its parts do and hear, also from each other; it does nothing else."""

    checks: Checks

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """See `Peer`."""
        if isinstance(outcome, Searched):
            self.checks.on_searched(self._who, run_id, outcome.stopped_at)
        return super().on_done(now, run_id, outcome)

    def _on_linked(self, now: int, src: NodeId, message: Message) -> None:
        if isinstance(message, TaskAck) and message.kept:
            job = self.worker._jobs.get(JobId(message.job))
            if job is not None and job.coordinator == src and message.sequence in job.reports:
                self.checks.on_kept(job.reports[message.sequence].message)
        super()._on_linked(now, src, message)

    def _absorb(self, now: int, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(_, TaskTransfer() as transfer) if transfer.leases:
                    coordinator = self.coordinators.coordinator(JobId(transfer.job))
                    if coordinator is not None:  # else it passes on what was leased to it
                        self.checks.on_transfer(self._who, coordinator.epoch, transfer)
                case Run(run_id, Search() as search):
                    self.checks.on_run(self._who, run_id, search)
        super()._absorb(now, effects)

    @property
    def _who(self) -> Incarnation:
        return self.me, self.worker.incarnation


class Checks(Onlooker):
    """Looks at everything in `world`; `mild` if no message is lost and nobody is cut off or stands still."""

    def __init__(self, world: World, jobs: dict[JobId, DrawnJob], mild: bool) -> None:
        self.world, self.jobs, self.mild = world, jobs, mild
        self.searched: dict[JobId, int] = dict.fromkeys(jobs, 0)
        """Integers that came out of slots, doubled work included."""
        self.epochs: dict[JobId, int] = dict.fromkeys(jobs, 0)
        self.kept: dict[tuple[JobId, int], IntervalSet] = {}
        """By job and epoch, what workers were told is kept."""
        self._owners: dict[tuple[JobId, int], Incarnation] = {}
        self._assigned: dict[tuple[JobId, int], str] = {}
        self._logged: dict[JobId, IntervalSet] = {job: IntervalSet() for job in jobs}
        self._lowest: dict[JobId, int] = {}
        self._leased: set[tuple[JobId, int, LeaseId]] = set()
        self._runs: dict[tuple[Incarnation, RunId], Search] = {}
        self._finished: dict[tuple[Incarnation, JobId], IntervalSet] = {}
        self._fresh: dict[NodeId, list[Command]] = {}
        """What a tracker has applied in the step it takes."""
        self._pending: dict[NodeId, list[tuple[Persist, list[Command]]]] = {}
        """What it has applied, behind the record that must be durable first."""
        self._digests: dict[int, bytes] = {}
        self._looked: dict[tuple[NodeId, int], int] = {}
        self._term = 0
        self._by_params = {drawn.spec.params: job for job, drawn in jobs.items()}

    # -- what peers tell

    def on_run(self, who: Incarnation, run_id: RunId, search: Search) -> None:
        """A slot gets work."""
        self._runs[who, run_id] = search

    def on_searched(self, who: Incarnation, run_id: RunId, stopped_at: int) -> None:
        """A slot has done work."""
        search = self._runs.pop((who, run_id))
        job = self._by_params[search.params]
        self.searched[job] += stopped_at - search.start
        if stopped_at > search.start:
            self._finished.setdefault((who, job), IntervalSet()).add(search.start, stopped_at)

    def on_transfer(self, who: Incarnation, epoch: int, transfer: TaskTransfer) -> None:
        """A coordinator grants leases, those of a repeated answer again."""
        job = JobId(transfer.job)
        for grant in transfer.leases if self.jobs[job].believed else ():
            if (job, epoch, grant.lease) in self._leased:
                continue
            self._leased.add((job, epoch, LeaseId(grant.lease)))
            for (other, kept_in), kept in self.kept.items():
                if other == job and kept_in <= epoch:
                    again = kept.overlap(*grant.span)
                    assert not again, (
                        f"{who} leases {again} of {job} in epoch {epoch}, kept in epoch {kept_in}"
                    )
            if self.mild:
                self._check_not_finished(job, epoch, grant.span)

    def _check_not_finished(self, job: JobId, epoch: int, span: Span) -> None:
        for ((node, incarnation), other), finished in self._finished.items():
            machine = self.world.machines[node]
            if other == job and machine.node is not None and machine.boots == incarnation:
                again = finished.overlap(*span)
                assert not again, (
                    f"{again} of {job} are leased in epoch {epoch}, though {node} has finished them"
                )

    def on_kept(self, report: TaskReport) -> None:
        """A worker hears that what it reported is kept."""
        job = JobId(report.job)
        if not self.jobs[job].believed:
            return
        kept = self.kept.setdefault((job, report.epoch), IntervalSet())
        for start, stop in self._clipped(job, [done.span for part in report.parts for done in part.done]):
            assert self._logged[job].covers(start, stop), (
                f"{start} to {stop} of {job} are kept, but not in the log"
            )
            kept.add(start, stop)

    def _clipped(self, job: JobId, spans: list[Span]) -> list[Span]:
        """Above the lowest hit nothing is wanted if the lowest is."""
        top = self._lowest.get(job, 1 << 64)
        return [(start, min(stop, top)) for start, stop in spans if start < top]

    # -- what trackers do

    def see(self, tracker: Tracker) -> None:
        """Look at all that a tracker just started will apply."""
        self._fresh[tracker.me], self._pending[tracker.me] = [], []
        registry, apply = tracker.registry, tracker.registry.apply
        registry.apply = lambda time_ns, data: self._on_apply(tracker, apply, time_ns, data)  # type: ignore[assignment,method-assign]

    def _on_apply(
        self, tracker: Tracker, apply: Callable[[int, bytes], bytes], time_ns: int, data: bytes
    ) -> bytes:
        command: Command = msgspec.msgpack.decode(data, type=Commands)
        before = _job_as_is(tracker.registry, command)
        result = apply(time_ns, data)
        ok, _ = unpack_result(result)
        if isinstance(command, Checkpoint | Finish) and before is not None:
            epoch, coordinator, _ = before
            stale = epoch != command.epoch or not coordinator
            after = _job_as_is(tracker.registry, command)
            assert not stale or after == before, f"{command} changed {command.job}, which is in epoch {epoch}"
        if ok and isinstance(command, Checkpoint | Assign):
            self._fresh[tracker.me].append(command)
        return result

    def _is_durable(self, command: Command) -> None:
        """A tracker has applied it, and what says so is on its disk."""
        match command:
            case Assign(name, node, epoch):
                known = self._assigned.setdefault((JobId(name), epoch), node)
                assert known == node, f"{name} has two coordinators in epoch {epoch}: {known} and {node}"
            case Checkpoint():
                job = JobId(command.job)
                for start, count in command.done:
                    self._logged[job].add(start, start + count)
                if self.jobs[job].spec.rule is StopRule.LOWEST:
                    for n, _ in command.hits:
                        self._lowest[job] = min(n + 1, self._lowest.get(job, n + 1))

    # -- Onlooker

    def returned(self, machine: Machine, effects: list[Effect]) -> None:
        """See `Onlooker`: what the step applied counts once its last record, or one before, is durable."""
        fresh = self._fresh.get(machine.name)
        if not fresh:
            return
        self._fresh[machine.name] = []
        records = [effect for effect in effects if isinstance(effect, Persist)]
        pending = self._pending[machine.name]
        if records:
            pending.append((records[-1], fresh))
        elif pending:
            pending[-1][1].extend(fresh)
        else:
            for command in fresh:
                self._is_durable(command)

    def before(self, machine: Machine, effect: Effect) -> None:
        """See `Onlooker`."""
        pending = self._pending.get(machine.name)
        if pending and effect is pending[0][0]:
            for command in pending.pop(0)[1]:
                self._is_durable(command)

    def after(self, machine: Machine) -> None:
        """See `Onlooker`."""
        match machine.node:
            case Tracker() as tracker if not machine.held:
                self._look_at_tracker(machine, tracker)
            case Peer() as peer:
                self._look_at_coordinators(machine, peer)

    def _look_at_tracker(self, machine: Machine, tracker: Tracker) -> None:
        replica = tracker.replica
        if self._looked.get((machine.name, machine.boots)) == replica.committed:
            return
        self._looked[machine.name, machine.boots] = replica.committed
        digest = hashlib.blake2b(tracker.registry.snapshot(), digest_size=8).digest()
        known = self._digests.setdefault(replica.committed, digest)
        assert known == digest, f"{machine.name} has another registry at {replica.committed} than others had"
        if (
            replica.leader is not None
            and replica.term >= self._term
            and replica.committed >= replica.leader.noop
        ):
            self._term = replica.term
            for job, epoch in self.kept:
                self._check_still_kept(tracker, job, epoch)

    def _check_still_kept(self, tracker: Tracker, job: JobId, epoch: int) -> None:
        entry = tracker.registry.jobs[job]
        done = IntervalSet((start, start + count) for start, count in entry.done)
        for start, stop in self._clipped(job, list(self.kept[job, epoch])):
            assert done.covers(start, stop), f"{start} to {stop} of {job} are not kept any more"

    def _look_at_coordinators(self, machine: Machine, peer: Peer) -> None:
        for job in peer.coordinators.jobs:
            coordinator = peer.coordinators.coordinator(job)
            if coordinator is None:
                continue
            epoch, who = coordinator.epoch, (machine.name, machine.boots)
            self.epochs[job] = max(self.epochs[job], epoch)
            known = self._owners.setdefault((job, epoch), who)
            assert known == who, f"{known} and {who} both coordinate {job} in epoch {epoch}"
            assert self._assigned.get((job, epoch)) == machine.name, (
                f"{who} was not given {job} in epoch {epoch}"
            )

    def check_ledgers(self) -> None:
        """Each is a partition of its job."""
        for machine in self.world.machines.values():
            if isinstance(machine.node, Peer):
                for job in machine.node.coordinators.jobs:
                    coordinator = machine.node.coordinators.coordinator(job)
                    if coordinator is not None:
                        coordinator.ledger.check()


def _job_as_is(registry: Registry, command: Command) -> tuple[int, str, bytes] | None:
    """The epoch, the coordinator, and all that is known of the job of a command."""
    entry = registry.jobs.get(JobId(getattr(command, "job", "")))
    return None if entry is None else (entry.epoch, entry.coordinator, msgspec.msgpack.encode(entry))
