"""What must hold whatever happens, told from outside: exact results, hits once, ends as promised."""

from __future__ import annotations

from zlb.core.events import Event, HitFound, JobEnded
from zlb.core.ids import JobId, NodeId
from zlb.core.work import Job, StopRule
from zlb.sim.truth import Truth, digest


class JobChecker:
    """Watches one job: every hit is true, found once, and the end says exactly what its rule promises."""

    def __init__(self, job: Job, truth: Truth, copies: int = 1) -> None:
        self.job, self.truth, self.copies = job, truth, copies
        self.found: list[int] = []
        self.ended: JobEnded | None = None

    def on_event(self, event: Event) -> None:
        """Check one event of the job's coordinator."""
        match event:
            case HitFound(_, n, digest_, _):
                assert self.ended is None, f"hit {n} after the end"
                assert n not in self.found, f"hit {n} found twice"
                assert digest_ == digest(n) and self.truth.check(n), f"{n} is no hit"
                self.found.append(n)
            case JobEnded():
                assert self.ended is None, "ended twice"
                self.ended = event
                self._check_end(event)

    def _check_end(self, end: JobEnded) -> None:
        wanted = [n for start, stop in self.job.spans for n in self.truth.among(start, stop)]
        assert end.hits == len(self.found)
        if self.job.rule is not StopRule.LOWEST:  # there `done` shrinks with what is wanted
            again = end.tested - end.done  # or have not been searched by all of a quorum yet
            assert again >= 0 and (again <= end.recomputed or self.copies > 1), f"{again} were hashed twice"
        match self.job.rule, end.status:
            case _, "cancelled" | "failed":
                raise AssertionError(f"nobody cancelled the job, yet it is {end}")
            case StopRule.ALL, "complete":
                assert sorted(self.found) == wanted, f"found {len(self.found)} of {len(wanted)} hits"
                assert end.done == self.job.size
            case StopRule.LOWEST, "found":
                assert self.found == wanted[:1], f"lowest is {wanted[:1]}, not {self.found}"
            case ((StopRule.FIRST | StopRule.COUNT), "found"):
                assert len(self.found) == self.job.hits_wanted
            case _, "exhausted":
                assert len(wanted) < self.job.hits_wanted and sorted(self.found) == wanted
            case rule, status:
                raise AssertionError(f"{rule} cannot end {status}")


class Checkers:
    """All jobs of a world by id; used as its watcher."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, JobChecker] = {}

    def on_event(self, node: NodeId, event: Event) -> None:
        """Route an event to the job it is about."""
        if isinstance(event, HitFound | JobEnded):
            self.jobs[event.job].on_event(event)
