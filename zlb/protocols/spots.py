"""Spot checks: a block of a finished lease is searched again by another worker, and the samples are compared.

```
 root committed ─► block drawn ─► TASK_PROVE ─► TASK_PROOF ─► searched again ─► same samples and hits: passed
                                      ▲ repeated      └ opens to something else: accused; never: not believed about it
```

Whoever is wrong is known, for every sample and hit can be checked by one hash: one that is true and missing was
skipped, one that is not true was made up.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from zlb.core.config import CoordinatorConfig
from zlb.core.ids import JobId, LeaseId, NodeId, Span
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.core.work import Pattern
from zlb.protocols.examiner import Examiner, Terms
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.ledger import Lease
from zlb.protocols.merkle import block_span, opens
from zlb.wire.messages import TaskProof, TaskProve

GIVEN_UP = "does not show what it has committed to"
"""A verdict without an accused: it may have lost it, or not have heard; but about that lease it is not believed."""


class Verdict(NamedTuple):
    """What came of a spot check of `lease` of `worker`: nothing against anybody, or who is accused, and why."""

    worker: NodeId
    lease: LeaseId
    accused: NodeId | None
    why: str


@dataclass(slots=True)
class _Spot:
    """One check under way. `samples` is what was opened, `again` the lease under which it is searched once more."""

    lease: LeaseId
    worker: NodeId
    root: bytes
    blocks: int
    block: int
    span: Span
    pattern: Pattern
    hits: list[int]
    ask_at: int
    asks: int = 1
    samples: tuple[int, ...] | None = None
    again: LeaseId | None = None
    seen: list[int] = field(default_factory=list)
    hits_seen: list[int] = field(default_factory=list)


class Spots(Core):
    """The spot checks of a job."""

    def __init__(self, job: JobId, config: CoordinatorConfig, examiner: Examiner, rng: random.Random) -> None:
        super().__init__()
        self.job, self.config, self.examiner, self._rng = job, config, examiner, rng
        self._spots: dict[LeaseId, _Spot] = {}
        """By the lease that is checked."""

    def __len__(self) -> int:
        return len(self._spots)

    def deadline(self) -> int:
        """ns; when somebody is to be asked again."""
        return min((spot.ask_at for spot in self._spots.values() if spot.samples is None), default=NEVER)

    def open(self, worker: NodeId) -> int:
        """Integers that `worker` could search again."""
        return sum(spot.span[1] - spot.span[0] for spot in self._ready(worker))

    def begin(self, now: int, lease: Lease, root: bytes, hits: list[int]) -> None:
        """Check a block of a lease that has ended, whose worker has committed to `root` and told of `hits`."""
        trace, blocks = lease.terms.trace, lease.terms.blocks
        assert trace is not None, "without a trace there is nothing to compare"
        block = self._rng.randrange(blocks)
        span = block_span(lease.span, blocks, block)
        mine = [n for n in hits if span[0] <= n < span[1]]
        ask_at = now + self.config.proof_ns
        spot = _Spot(lease.id, lease.worker, root, blocks, block, span, trace, mine, ask_at)
        self._spots[lease.id] = spot
        self._ask(spot)

    def on_tick(self, now: int) -> list[Verdict]:
        """Ask those again that have not answered."""
        verdicts = []
        for spot in list(self._spots.values()):
            if spot.samples is not None or now < spot.ask_at:
                continue
            if spot.asks >= self.config.proofs_max:
                verdicts.append(self._end(spot, None, GIVEN_UP))
                continue
            spot.asks += 1
            spot.ask_at = now + self.config.proof_ns
            self._ask(spot)
        return verdicts

    def on_task_proof(self, src: NodeId, message: TaskProof) -> Verdict | None:
        """A block is opened; or it cannot be any more, and then the check is given up (`GIVEN_UP`)."""
        spot = self._spots.get(LeaseId(message.lease))
        if spot is None or spot.samples is not None or (spot.worker, spot.block) != (src, message.block):
            return None
        if not message.path:
            return self._end(spot, None, GIVEN_UP)
        if not opens(spot.root, spot.blocks, spot.block, message.samples, message.path):
            return self._end(spot, src, "shows other samples than it has committed to")
        spot.samples = message.samples
        return None

    def take(self, worker: NodeId) -> tuple[Span, Terms, LeaseId] | None:
        """A block for `worker` to search again; tell with `given` under which lease it does."""
        for spot in self._ready(worker):
            return spot.span, Terms((spot.pattern,)), spot.lease
        return None

    def given(self, checked: LeaseId, again: Lease) -> None:
        """The block of the lease `checked` is searched under the lease `again`."""
        self._spots[checked].again = again.id

    def on_searched(
        self, again: Lease, samples: Iterable[int], hits: Iterable[int], ended: bool
    ) -> Verdict | None:
        """News of a block that is searched again; judged when its worker is done."""
        spot = next((spot for spot in self._spots.values() if spot.again == again.id), None)
        if spot is None:
            return None
        spot.seen += samples
        spot.hits_seen += hits
        if again.unreported and not ended:
            return None
        done = IntervalSet([again.span])
        for start, stop in again.unreported:
            done.remove(start, stop)
        if not done:  # given up without having begun: for another
            self.on_expired(again)
            return None
        return self._judge(spot, again.worker, done)

    def on_lost(self, node: NodeId) -> tuple[list[LeaseId], list[LeaseId]]:
        """A worker is gone, or is another process now: what it committed to cannot be opened. Returns those leases, and
        leases under which they are searched again, in vain."""
        gone = [spot for spot in self._spots.values() if spot.worker == node]
        for spot in gone:
            del self._spots[spot.lease]
        return [spot.lease for spot in gone], [spot.again for spot in gone if spot.again is not None]

    def on_expired(self, again: Lease) -> None:
        """Whoever searched again has fallen silent: another may."""
        for spot in self._spots.values():
            if spot.again == again.id:
                spot.again, spot.seen, spot.hits_seen = None, [], []

    def _ready(self, worker: NodeId) -> list[_Spot]:
        return [
            spot
            for spot in self._spots.values()
            if spot.samples is not None and spot.again is None and spot.worker != worker
        ]

    def _ask(self, spot: _Spot) -> None:
        self._send(spot.worker, TaskProve(self.job, spot.lease, spot.block))

    def _judge(self, spot: _Spot, checker: NodeId, done: IntervalSet) -> Verdict:
        """Compare; of whatever only one has told, a hash says who is wrong."""
        assert spot.samples is not None
        first, second = ({n for n in told if n in done} for told in (spot.samples, spot.seen))
        for n in sorted(first ^ second):
            is_true = self.examiner.is_sample(spot.pattern, n)
            accused = checker if is_true == (n in first) else spot.worker
            return self._end(spot, accused, f"{'skipped' if is_true else 'made up'} the sample {n}")
        told, found = ({n for n in hits if n in done} for hits in (spot.hits, spot.hits_seen))
        for n in sorted(told ^ found):  # each of them is true: that was checked when it came
            return self._end(spot, checker if n in told else spot.worker, f"did not tell of the hit {n}")
        return self._end(spot, None, "")

    def _end(self, spot: _Spot, accused: NodeId | None, why: str) -> Verdict:
        del self._spots[spot.lease]
        return Verdict(spot.worker, spot.lease, accused, why)
