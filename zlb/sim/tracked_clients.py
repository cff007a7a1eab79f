"""People in front of clients: they submit jobs, steer some, and watch each until it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from zlb.core.effects import Effect
from zlb.core.events import Answered
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import MS
from zlb.core.work import StopRule
from zlb.nodes.client import Client
from zlb.protocols import commands, queries
from zlb.protocols.commands import OPEN, Command, Denied, Status, Steer, Submit, WireHit
from zlb.sim.tracked_jobs import DrawnJob
from zlb.wire.tracking import AskKind, AskOutcome

POLL_NS = 500 * MS

Step = Callable[[Client, int], list[Effect]]


@dataclass(slots=True)
class Watched:
    """A job as its client has seen it so far."""

    drawn: DrawnJob
    asked: bool = False
    submitted: bool = False
    polling: bool = False
    poll_at: int = 0
    line: queries.JobLine | None = None
    hits: list[WireHit] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """It has ended, and every hit was told."""
        line = self.line
        return line is not None and line.status not in OPEN and len(self.hits) == line.hits

    def on_view(self, view: queries.JobView) -> None:
        """A later answer never knows less than an earlier one: reads are linearizable. What is done may be doubted."""
        line, last = view.line, self.line
        if last is not None:
            believed = self.drawn.believed
            now, before = ((one.epoch, one.done * believed, one.tested, one.hits) for one in (line, last))
            grown = all(after >= known for after, known in zip(now, before, strict=True))
            assert grown and (last.status in OPEN or line.status == last.status), f"{last}, then {line}"
        self.line = line
        self.hits += view.hits
        self.poll_at += POLL_NS if not view.hits else 0

    def check(self) -> None:
        """At the end: what was told are the true hits, each once."""
        told, drawn = [n for n, _ in self.hits], self.drawn
        assert len(set(told)) == len(told), f"a hit of {drawn.spec.job} was told twice"
        assert self.line is not None
        match drawn.spec.rule, self.line.status:
            case StopRule.LOWEST, Status.FOUND:
                assert told == drawn.hits()[:1], f"the client was told that {told} is the lowest"
            case StopRule.ALL, Status.COMPLETE:
                assert sorted(told) == drawn.hits(), "the client was not told all hits"
            case ((StopRule.FIRST | StopRule.COUNT), Status.FOUND):
                assert len(told) == drawn.spec.hits_wanted, (
                    f"told {len(told)} hits of {drawn.spec.hits_wanted}"
                )


@dataclass(slots=True)
class Customer:
    """Whoever uses the client `name`; `mortal` ones may die in the chaos."""

    name: NodeId
    jobs: list[Watched]
    waiting: dict[int, Callable[[bytes], None]] = field(default_factory=dict)
    dead: bool = False

    def steps(self, now: int) -> Iterator[Step]:
        """What the client is to be told now."""
        for job in self.jobs:
            drawn = job.drawn
            if not job.asked and now >= drawn.submit_at:
                job.asked = True
                yield self._tell(drawn.spec, lambda result, job=job: self._on_submitted(job, result))  # type: ignore[misc]
            while job.submitted and drawn.script and now >= drawn.script[0][0]:
                _, command = drawn.script.pop(0)
                drawn.cancelled |= command == Steer(drawn.spec.job, Status.CANCELLED)
                yield self._tell(command, self._on_steered)
            if job.submitted and not job.polling and not job.over and now >= job.poll_at:
                job.polling, job.poll_at = True, now
                yield self._poll(job)

    def resume(self, job: JobId) -> Step:
        """Have a paused job go on, whoever paused it."""
        return self._tell(Steer(job, Status.RUNNING), self._on_steered)

    def on_answered(self, answer: Answered) -> None:
        """A tracker has answered."""
        assert AskOutcome(answer.outcome) is AskOutcome.DONE, (
            f"{self.name} hears {AskOutcome(answer.outcome).name}"
        )
        self.waiting.pop(answer.number)(answer.payload)

    def _tell(self, command: Command, then: Callable[[bytes], None]) -> Step:
        def step(client: Client, now: int) -> list[Effect]:
            payload = commands.pack(command)
            if isinstance(command, Submit) and command.key:
                number = client.patron.ask(now, AskKind.COMMAND, payload)
            else:
                number = client.patron.once(now, payload)
            self.waiting[number] = then
            return []

        return step

    def _poll(self, job: Watched) -> Step:
        def step(client: Client, now: int) -> list[Effect]:
            query = queries.ask(queries.WatchJob(job.drawn.spec.job, len(job.hits)))
            number = client.patron.ask(now, AskKind.QUERY, query)
            self.waiting[number] = lambda result: self._on_view(job, result)
            return []

        return step

    def _on_submitted(self, job: Watched, result: bytes) -> None:
        ok, value = commands.unpack_result(result)
        assert ok and value == job.drawn.spec.job, f"{job.drawn.spec.job} was not taken: {value}"
        job.submitted = True

    def _on_steered(self, result: bytes) -> None:
        ok, value = commands.unpack_result(result)
        assert ok or value is Denied.ENDED, f"{self.name} could not steer: {value}"

    def _on_view(self, job: Watched, result: bytes) -> None:
        job.polling = False
        view = queries.read(result, queries.JobView)
        assert not isinstance(view, Denied), f"{job.drawn.spec.job}: {view}"
        job.on_view(view)
