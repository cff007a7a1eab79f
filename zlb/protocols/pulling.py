"""Asking coordinators for leases: how many, and whose first.

One lease is held per slot and one more is prefetched, or several if they are short, whatever the number of jobs. The
job held least of is asked first, of those that matter most; a few jobs may be begun although others fill all slots, so
that none waits for the end of another's leases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from zlb.core.config import WorkerConfig
from zlb.core.limits import LEASES_PER_MESSAGE_MAX, SECOND, SLOTS_MAX
from zlb.core.node import Core
from zlb.protocols.holdings import Holding, M, Outstanding
from zlb.wire.messages import TaskRequest

AHEAD_MAX = 64
"""Leases held ahead of a slot, however short: a request for more would name too many."""
AT_ONCE = 4
"""Jobs that are worked on at the same time though their leases be more than there is room for."""


class Pull(Core):
    """Keeps requests out for `jobs`; `slots_below` tells how many slots of others work for a job through us."""

    def __init__(
        self,
        incarnation: int,
        config: WorkerConfig,
        rates: dict[str, float],
        sequence: Iterator[int],
        slots_below: Callable[[Holding], int],
    ) -> None:
        super().__init__()
        self.incarnation, self.config, self.rates = incarnation, config, rates
        self._sequence, self._slots_below = sequence, slots_below
        self._ahead = 1
        """Leases held ahead of each slot."""

    def rate(self, job: Holding) -> float:
        """Integers a second and slot; 0 if nothing is known."""
        return job.rate or self.rates.get(job.kernel, 0.0)

    def ask(self, now: int, jobs: Iterable[Holding]) -> None:
        """Ask for as many leases as there is room for."""
        jobs = list(jobs)
        slots = self.config.slots + sum(map(self._slots_below, jobs))
        room = (1 + self._ahead) * slots - sum(job.unfinished for job in jobs)
        for job in jobs:  # a coordinator that had to be asked twice holds up no other
            if job.request is not None and job.request.wait_ns == self.config.retry_ns_min:
                room -= job.request.message.want
        room = min(room, LEASES_PER_MESSAGE_MAX)
        wanted = [
            job
            for job in jobs
            if job.unleased and job.request is None and not (job.silent or job.orphans or job.far)
        ]
        first = max((job.priority for job in wanted), default=0)
        wanted = [job for job in wanted if job.priority == first]
        wanted.sort(key=lambda job: (job.unfinished, job.job))
        begun = sum(job.unfinished > 0 or job.request is not None for job in jobs)
        for left, job in zip(range(len(wanted), 0, -1), wanted, strict=True):
            want = -(-room // left)
            if want <= 0 and not job.unfinished and begun < AT_ONCE:
                want = min(self.config.slots, LEASES_PER_MESSAGE_MAX)
            if want <= 0:
                return
            begun += not job.unfinished
            room -= want
            self._request(now, job, want)

    def look_ahead(self, job: Holding, count: int) -> None:
        """Prefetch one lease per slot, or as many as last `ahead_ns` now that they hold `count` integers.

        At most twice as many as before: one short lease, the rest of something, says little about the next.
        """
        lasts_ns = count * SECOND / (self.rate(job) or 1.0)
        fitting = int(self.config.ahead_ns / max(lasts_ns, 1.0))
        self._ahead = max(1, min(AHEAD_MAX, 2 * self._ahead, fitting))

    def is_worth_asking(self, queued: int) -> bool:
        """Long leases are asked for one by one, short ones when half of those held ahead are gone."""
        return self._ahead == 1 or 2 * queued <= self._ahead * self.config.slots

    def until_answered(self, now: int, job: Holding, message: M) -> Outstanding[M]:
        """Send it, to be repeated."""
        self._send(job.coordinator, message)
        return Outstanding(message, now, now + self.config.retry_ns_min, self.config.retry_ns_min)

    def _request(self, now: int, job: Holding, want: int) -> None:
        slots = min(self.config.slots + self._slots_below(job), SLOTS_MAX)
        rate, knows = self.rate(job), job.spec is not None
        about = next(self._sequence), want, rate, knows, job.epoch, slots, job.rtt_ns
        job.request = self.until_answered(now, job, TaskRequest(job.job, self.incarnation, *about))
