"""Clients of a real cluster that each do one thing after the other, and the history of what they saw."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from zlb.cli.trackers import Trackers
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import Endpoint
from zlb.core.limits import ENDED_JOBS_MAX, MS, PRIORITY_MAX, SECOND
from zlb.core.work import StopRule
from zlb.protocols.commands import Denied, Prioritise, Status, Steer, Submit
from zlb.protocols.queries import JobLine, JobView, ListJobs, ListPeers, PeerLine, WatchJob
from zlb.sim.history import Operation

NAMES = 3
"""Names that jobs are submitted under: each is a list."""
JOBS_MAX = ENDED_JOBS_MAX // 2
"""More would push ended ones out of the list."""
PAUSE_NS_MAX = 20 * MS
"""Between two operations of a client."""
LIST, REGISTER = "name:", "job:"
"""How keys of lists and of registers begin."""


class Exercise:
    """Clients that each do one thing after the other, and what all of them saw."""

    def __init__(self, trackers: tuple[Endpoint, ...], clients: int, duration_ns: int) -> None:
        self._trackers, self._clients, self._duration_ns = trackers, clients, duration_ns
        self._run = secrets.token_hex(3)
        """Part of the names of our jobs: those of another run are none of ours."""
        self._jobs: list[str] = []
        self._seen: list[Operation] = []
        self._lock = threading.Lock()
        self._until = 0
        self._failures: list[BaseException] = []

    def run(self) -> list[Operation]:
        """All that was seen, by when it was asked; Ctrl-C ends it early.

        Raises `ZlbError`: UNREACHABLE if no tracker leads, FAILED if peers have enrolled, who would end the jobs.
        """
        with Trackers(self._trackers) as trackers:
            if trackers.ask(ListPeers(), list[PeerLine]):
                raise ZlbError(
                    "peers have enrolled: exercise a cluster that nobody else uses", ExitCode.FAILED
                )
        self._until = time.monotonic_ns() + self._duration_ns
        threads = [
            threading.Thread(target=self._be_client, args=(number,)) for number in range(self._clients)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._until = 0
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]
        self._clean_up()
        return sorted(self._seen, key=lambda operation: operation.invoked_at)

    def _clean_up(self) -> None:
        """Cancel our jobs: they are no use to anybody."""
        with Trackers(self._trackers) as trackers:
            for job in self._jobs:
                trackers.tell(Steer(job, Status.CANCELLED))

    def _be_client(self, number: int) -> None:
        dice, lives = random.Random(), 0
        try:
            while time.monotonic_ns() < self._until:  # a new one after each unknown outcome
                lives += 1
                with Trackers(self._trackers) as trackers:
                    while time.monotonic_ns() < self._until:
                        if not self._do(f"c{number}.{lives}", trackers, dice):
                            break
                        threading.Event().wait(dice.randrange(PAUSE_NS_MAX) / SECOND)
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._failures.append(error)

    def _do(self, client: str, trackers: Any, dice: random.Random) -> bool:
        """One operation; whether its outcome is known."""
        with self._lock:
            jobs = list(self._jobs)
        name, job = f"{LIST}{self._run}.{dice.randrange(NAMES)}", dice.choice(jobs) if jobs else ""
        if len(jobs) < JOBS_MAX and (not jobs or dice.random() < 0.25):
            new = f"x-{secrets.token_hex(5)}"
            asked = Submit(new, "", name, "exercise", b"", ((0, 1),), StopRule.ALL, 0)
            known = self._see(client, "submit", (name, new), lambda: trackers.tell(asked, once=True))
            if known:
                with self._lock:
                    self._jobs.append(new)
            return known
        if dice.random() < 0.4:
            return self._see(
                client, "read", (name,), lambda: _named(trackers.ask(ListJobs(), list[JobLine]), name)
            )
        if dice.random() < 0.5:
            priority = dice.randint(0, PRIORITY_MAX)
            asked_of = (f"{REGISTER}{job}", priority)
            return self._see(
                client, "write", asked_of, lambda: trackers.tell(Prioritise(job, priority), once=True)
            )
        return self._see(
            client, "read", (f"{REGISTER}{job}",), lambda: _priority(trackers.ask(WatchJob(job, 0), JobView))
        )

    def _see(self, client: str, operation: str, arguments: tuple[Any, ...], ask: Callable[[], Any]) -> bool:
        invoked_at = time.monotonic_ns()
        result, returned_at = None, None
        try:
            result = ask()
            returned_at = time.monotonic_ns()
        except ZlbError:
            pass  # the outcome is unknown, and so it is written down
        if isinstance(result, Denied):
            result = result.value  # which no order of operations explains
        with self._lock:
            self._seen.append(Operation(client, operation, arguments, result, invoked_at, returned_at))
        return returned_at is not None


def _named(jobs: list[JobLine] | Denied, name: str) -> tuple[str, ...]:
    assert not isinstance(jobs, Denied)
    return tuple(job.job for job in jobs if job.name == name)


def _priority(view: JobView | Denied) -> int | Denied:
    return view if isinstance(view, Denied) else view.line.priority
