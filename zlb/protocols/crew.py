"""The workers of a job as its coordinator knows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from zlb.core.events import WorkerView
from zlb.core.ids import LeaseId, NodeId
from zlb.core.limits import INTEGERS_MAX, MS, SECOND, SLICE_NS
from zlb.protocols.examiner import CountTest
from zlb.protocols.sizing import Sizer
from zlb.protocols.trust import STRANGER, Trust

SMALL = 64
"""Of so many workers the power is added up anew each time it is asked for."""
POWER_NS = 200 * MS
"""Of more it is good for so long."""


OTHERS = NodeId("others")
"""Who did what those did that have left, when there were too many to be remembered one by one."""


@dataclass(slots=True)
class Hand:
    """One worker."""

    node: NodeId
    incarnation: int
    sizer: Sizer
    trust: Trust = STRANGER
    slots: int = 1
    rtt_ns: int = 0
    heard_at: int = 0
    reported_at: int = 0
    request: int = -1
    granted: tuple[LeaseId, ...] = ()
    """What its last request got."""
    tested: int = 0
    credit: int = 0
    """Integers that were done by it first, less those that have to be done again because it is not believed."""
    benched: str = ""
    """Why it gets no more leases of this job."""
    accused: bool = False
    """What it reported could not be true: that is not mended by starting anew."""
    failures: int = 0
    """Leases it could not do, since it did one."""
    leases: set[LeaseId] = field(default_factory=set)
    refusals: int = 0
    """Times it did not show what it had committed to, since it passed a probation."""
    refused_at: int = -1
    """When it was last asked in vain: what it held then was lost at once, and counts as one refusal."""
    doubted: bool = False
    """What it says it has searched for others was not believed in the end: more of it is not taken in."""
    adopted: set[int] = field(default_factory=set)
    """Reports with work of earlier epochs, by sequence: they may come twice."""
    count_test: CountTest = field(default_factory=CountTest)

    @property
    def power(self) -> float:
        """Integers a second of all its slots."""
        return self.sizer.rate * self.slots

    def unseen(self, until_ns: int) -> int:
        """Integers that it has searched and not told of, on average, if it has vanished at some time between its last
        report and so long after it: reports leave out the slices that are being searched."""
        return int(self.power * (until_ns + SLICE_NS) / 2 / SECOND) if self.sizer.rate else INTEGERS_MAX

    def restarted(self, incarnation: int) -> None:
        """A new process: it counts its requests anew, and what it failed at may be mended."""
        self.incarnation, self.request, self.granted, self.adopted = incarnation, -1, (), set()
        self.failures = self.refusals = 0
        self.benched = self.benched if self.accused else ""


class Crew:
    """All of them, by node."""

    def __init__(self) -> None:
        self._hands: dict[NodeId, Hand] = {}
        self._power = 0.0
        self._power_until = -1
        self._left_tested = self._left_credit = 0
        """Of those that are forgotten."""

    def __iter__(self) -> Iterator[Hand]:
        return iter(self._hands.values())

    def __len__(self) -> int:
        return len(self._hands)

    def __getitem__(self, node: NodeId) -> Hand:
        return self._hands[node]

    def __contains__(self, node: NodeId) -> bool:
        return node in self._hands

    def get(self, node: NodeId) -> Hand | None:
        """The worker of that name, if there is one."""
        return self._hands.get(node)

    def add(self, hand: Hand) -> Hand:
        """Take on a worker."""
        self._hands[hand.node] = hand
        return hand

    def remove(self, node: NodeId) -> None:
        """Forget one, but for what it has done."""
        hand = self._hands.pop(node)
        self._left_tested += hand.tested
        self._left_credit += hand.credit

    def power(self, now: int) -> float:
        """Integers a second of all who work now."""
        if now >= self._power_until or len(self) <= SMALL:
            self._power = sum(hand.power for hand in self if hand.leases)
            self._power_until = now + POWER_NS
        return self._power

    def views(self) -> tuple[WorkerView, ...]:
        """One line about each, and one about all that are forgotten."""
        views = [
            WorkerView(
                hand.node,
                hand.tested,
                hand.sizer.rate,
                len(hand.leases),
                hand.credit,
                hand.trust.correct.lower,
            )
            for hand in self
        ]
        if self._left_tested:
            views.append(WorkerView(OTHERS, self._left_tested, 0.0, 0, self._left_credit))
        return tuple(views)
