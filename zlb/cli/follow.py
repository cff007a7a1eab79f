"""Follows a job at the trackers to its end: polls them, and makes events of what is new, as if the job ran here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from zlb.cli import human
from zlb.cli.trackers import Trackers, denied
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import Event, HitFound, JobEnded, JobProgress, Notice
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.timers import NEVER
from zlb.protocols.commands import OPEN, Denied, Status, Steer, Submit
from zlb.protocols.queries import DescribeJob, JobLine, JobView, WatchJob

PERIOD_NS_MIN, PERIOD_NS_MAX = 20 * MS, 500 * MS
"""Between two looks: short at first, so that short jobs stay short; longer: less to do for the trackers."""
NOBODY = NodeId("")
"""Who found a hit: trackers do not know."""
INTERRUPTED, TIMEOUT = "interrupted", "timeout"
"""Why a job is left before its end."""


def describe(trackers: Trackers, job: JobId) -> Submit:
    """The job as it was submitted; raises `ZlbError` if there is none of that id."""
    spec = trackers.ask(DescribeJob(job), Submit)
    if isinstance(spec, Denied):
        raise denied(spec, job)
    return spec


def standing(line: JobLine) -> str:
    """Who sees to it, in words."""
    if line.status is Status.PAUSED:
        return "paused"
    return f"coordinated by {line.coordinator}" if line.coordinator else "no peer coordinates it yet"


class Follower:
    """Tells `on_event` what happens to a job: its hits from the first on, how far it is, how it ended.

    While no tracker answers it keeps asking, after one line to `say` on why: the job goes on without them.
    """

    def __init__(
        self,
        trackers: Trackers,
        job: JobId,
        on_event: Callable[[Event], None],
        say: Callable[[str], None],
        on_line: Callable[[JobLine], None] = lambda line: None,
        timeout_ns: int | None = None,
    ) -> None:
        self.left = ""
        """Why it is followed no longer, although it has not ended."""
        self._trackers, self._job = trackers, job
        self._on_event, self._say, self._on_line = on_event, say, on_line
        self._hits = 0
        self._began: int | None = None
        self._silence = ""
        self._coordinator = "", 0
        self._by = NEVER if timeout_ns is None else time.monotonic_ns() + timeout_ns
        self._woken: SimpleQueue[None] = SimpleQueue()

    def leave(self) -> None:
        """From a signal handler: `follow` ends soon."""
        self.left = self.left or INTERRUPTED
        self._woken.put(None)

    def over(self) -> bool:
        """Whether it is followed no longer: it was left, or time is over."""
        if not self.left and time.monotonic_ns() >= self._by:
            self.left = TIMEOUT
        return bool(self.left)

    def follow(self) -> JobEnded | None:
        """To its end; None when `left`. Raises `ZlbError` (FAILED) if there is no such job."""
        period_ns = PERIOD_NS_MIN
        self._trackers.unwanted = self.over
        while not self.over():
            if (ended := self._try_look()) is not None:
                return ended
            self._sleep(period_ns)
            period_ns = min(period_ns * 3 // 2, PERIOD_NS_MAX)
        return None

    def cancel(self) -> JobEnded:
        """Cancel the job, because it was left; if it had ended by then, that is how it ended."""
        self._trackers.unwanted = lambda: False
        refused = self._trackers.tell(Steer(self._job, Status.CANCELLED), once=True)
        if isinstance(refused, Denied) and refused is not Denied.ENDED:
            raise denied(refused, self._job)
        ended = self.look()
        assert ended is not None, "whatever was cancelled has ended"
        return ended._replace(detail=self.left) if ended.status == Status.CANCELLED else ended

    def look(self) -> JobEnded | None:
        """Tell what is new; how it ended, if so."""
        while True:
            view = self._trackers.ask(WatchJob(self._job, self._hits), JobView)
            if isinstance(view, Denied):
                raise denied(view, self._job)
            line = view.line
            self._on_coordinator(line)
            self._hits += len(view.hits)
            for n, digest in view.hits:
                self._on_event(HitFound(self._job, n, digest, NOBODY))
            if not view.hits or self._hits >= line.hits:
                break
        self._on_line(line)
        elapsed_ns = self._elapsed(line.elapsed_ns)
        self._on_event(JobProgress(self._job, line.size, line.done, line.hits, 0.0, elapsed_ns, ()))
        return None if line.status in OPEN else _ended(line)

    def _try_look(self) -> JobEnded | None:
        try:
            ended = self.look()
        except ZlbError as error:
            if error.exit_code is not ExitCode.UNREACHABLE:
                raise
            if str(error) != self._silence and not self.over():
                self._silence = str(error)
                self._say(f"{error}; {self._job} goes on, and is asked for again")
            return None
        if self._silence:
            self._silence = ""
            self._say("the trackers answer again")
        return ended

    def _on_coordinator(self, line: JobLine) -> None:
        if line.coordinator and self._coordinator != (line.coordinator, line.epoch):
            self._coordinator = line.coordinator, line.epoch
            self._on_event(Notice(f"{line.coordinator} coordinates it, epoch {line.epoch}"))

    def _elapsed(self, log_ns: int) -> int:
        """As `log_ns`, which stands still while nothing happens: here it goes on."""
        now = time.monotonic_ns()
        if self._began is None or now - self._began < log_ns:
            self._began = now - log_ns
        return now - self._began

    def _sleep(self, period_ns: int) -> None:
        wait_ns = max(0, min(period_ns, self._by - time.monotonic_ns()))
        with contextlib.suppress(Empty):
            self._woken.get(timeout=wait_ns / SECOND)


def _ended(line: JobLine) -> JobEnded:
    return JobEnded(
        job=JobId(line.job),
        status=line.status.value,
        detail=human.text(line.detail),
        hits=line.hits,
        done=line.done,
        tested=line.tested,
        recomputed=line.recomputed,
        elapsed_ns=line.elapsed_ns,
        workers=(),
    )
