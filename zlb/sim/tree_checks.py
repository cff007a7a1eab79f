"""What must hold whoever passes a job on to whom, told from outside.

* Whoever is told that its report is kept can forget it: what it says is done in the ledger of the job's owner,
  or waits for the others of a quorum.
* Nobody here cheats: nobody is accused, by an owner or by whoever passes a job on, nor benched.
"""

from __future__ import annotations

from zlb.core.events import Event, Notice, WorkerAccused
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import MS
from zlb.core.message import Message
from zlb.core.work import StopRule
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import Submitter
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.quorum import QuorumLedger
from zlb.sim.checkers import Checkers
from zlb.sim.weather import Weather
from zlb.sim.world import Machine, Onlooker, World
from zlb.wire.messages import TaskAck, TaskReport

BENCHED = "gets no more of job"
"""What a notice says of a worker that is not believed, or fails."""


class TreeChecks(Onlooker):
    """Looks at what peers are told in `world`; `mild` if nobody there is silent for so long that its leases are over:
    then what it finished is done again by others, and it is told all the same that it may forget it."""

    def __init__(self, world: World, checkers: Checkers, weather: Weather, honest: bool) -> None:
        self.world, self.checkers, self.honest = world, checkers, honest
        faults = weather.crash or weather.pause or weather.leaves or weather.submitter_dies
        self.mild = not faults and weather.loss <= 0.1 and weather.delay_ns_max <= 200 * MS
        self.kept = 0
        """Reports that their senders were told are kept."""
        self.hashed: dict[NodeId, int] = {}
        """Integers that came out of slots, by machine, also of those that died."""

    def on_event(self, node: NodeId, event: Event) -> None:
        """Check one event of a node."""
        self.checkers.on_event(node, event)
        if not self.honest:
            return
        match event:
            case WorkerAccused():
                raise AssertionError(f"{node} accuses an honest worker: {event}")
            case Notice(text):
                assert BENCHED not in text, f"{node}: {text}"

    def heard(self, machine: Machine, src: NodeId, message: Message) -> None:
        """See `Onlooker`."""
        if isinstance(message, TaskAck) and message.kept and isinstance(machine.node, Peer):
            job = machine.node.worker._jobs.get(JobId(message.job))
            report = None if job is None else job.reports.get(message.sequence)
            if job is not None and job.coordinator == src and report is not None:
                self.kept += 1
                if self.mild and self.honest:
                    self._check_kept(machine.name, src, report.message)

    def _check_kept(self, name: NodeId, src: NodeId, report: TaskReport) -> None:
        for machine in self.world.machines.values():
            if not isinstance(machine.node, Submitter) or machine.node.coordinator.job.id != report.job:
                continue
            ledger, job = machine.node.coordinator.ledger, machine.node.coordinator.job
            known = IntervalSet(ledger.wanted) if job.rule is StopRule.LOWEST else IntervalSet(job.spans)
            for done in (done for part in report.parts for done in part.done):
                for start, stop in known.overlap(*done.span):
                    waits = isinstance(ledger, QuorumLedger) and not ledger.unleased.overlap(start, stop)
                    assert waits or ledger.done.covers(start, stop), (
                        f"{src} told {name} that {start} to {stop} of {job.id} are kept, and they are not done"
                    )
