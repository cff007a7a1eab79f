"""Which integers the next worker gets: spot checks first, then its share of the pool, and when that is empty what
stragglers give back, or a copy of what a suspected worker holds.
"""

from __future__ import annotations

from statistics import median

from zlb.core.config import CoordinatorConfig, Scheme
from zlb.core.ids import JobId, LeaseId, NodeId
from zlb.core.limits import LEASES_PER_MESSAGE_MAX, MS, SECOND
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.protocols.crew import Crew, Hand
from zlb.protocols.examiner import Examiner
from zlb.protocols.ledger import Lease, Ledger
from zlb.protocols.pulling import AHEAD_MAX
from zlb.protocols.spots import Spots
from zlb.wire.messages import TaskShrink

SPLIT_RTTS = 4
"""A straggler is split if it is busy for longer than so many round trips with it and with whoever is idle."""
ASK_AGAIN_NS = 200 * MS
"""Before the same straggler is asked for more of the same lease."""
MANY = 256
"""Of more workers stragglers are looked for less often: a look at 10,000 takes some 10 ms."""
VICTIMS = 64
"""Stragglers that are asked to give back in one look: the next is soon."""
LEASES_OF_ONE_MAX = 2 * LEASES_PER_MESSAGE_MAX
"""Leases one worker may hold, however many slots it says it has: those it can name in two reports."""
PLENTY_NS = 200 * MS
"""A request is answered with no more than this for each slot, once there are two leases for each."""
BACKUP_FACTOR = 2
"""A lease that takes so many times as long as the median one, or its worker's rate lets expect, is given to another
too."""


class Lessor(Core):
    """Leases the integers of `ledger` to `crew`; `hungry` are workers that got less than they asked for."""

    def __init__(
        self,
        job: JobId,
        config: CoordinatorConfig,
        ledger: Ledger,
        crew: Crew,
        examiner: Examiner,
        spots: Spots,
    ) -> None:
        super().__init__()
        self.job, self.config, self.ledger, self.crew = job, config, ledger, crew
        self.examiner, self.spots = examiner, spots
        self.hungry: dict[NodeId, int] = {}
        """And until when they need not be told that there is something."""
        self._wanted: dict[LeaseId, None] = {}
        """Leases that are to be backed up."""
        self._split_at = NEVER

    def deadline(self) -> int:
        """ns; the next look for stragglers."""
        return self._split_at if self.hungry else NEVER

    def available(self, node: NodeId | None = None) -> int:
        """Integers that could be leased now, to `node` or to somebody."""
        backups = (self.ledger.leases[one] for one in self._wanted if one in self.ledger.leases)
        copies = sum(lease.remaining.measure for lease in backups if lease.worker != node)
        return self.ledger.open + copies + self.spots.open(node or NodeId(""))

    def grant(self, now: int, hand: Hand, want: int) -> list[Lease]:
        """Lease up to `want` subjobs to `hand`."""
        granted: list[Lease] = []
        fresh: list[Lease] = []
        room = (1 + AHEAD_MAX) * hand.slots - len(hand.leases)
        for _ in range(min(want, room, LEASES_PER_MESSAGE_MAX, LEASES_OF_ONE_MAX - len(hand.leases))):
            lease = self._again(now, hand)
            if lease is None:
                lease = self.ledger.lease(hand.node, self._count(now, hand), now) or self._backup(now, hand)
                if lease is None:
                    break
                fresh.append(lease)
            hand.leases.add(lease.id)
            granted.append(lease)
            if self._is_plenty(hand, granted):
                want = len(granted)
                break
        self._draw_up(hand, fresh)
        if len(granted) == want:
            self.hungry.pop(hand.node, None)
        elif self.config.scheme is not Scheme.SEED:
            self.hungry.setdefault(hand.node, now)
            self._split_at = min(self._split_at, now + self.config.split_ns)
        return granted

    def fed(self, now: int) -> list[NodeId]:
        """Hungry workers for whom there is something now; each is named once in a while."""
        if not self.hungry or not self.available():
            return []
        told = [node for node, told_at in self.hungry.items() if now >= told_at and self.available(node)]
        for node in told:
            self.hungry[node] = now + ASK_AGAIN_NS
        return told

    def on_tick(self, now: int, leases: bool = True) -> None:
        """Let stragglers give back what the hungry could do, or have it done twice, if any `leases` are given now."""
        self._split_at = now + self.config.split_ns * (1 + len(self.crew) // MANY)
        for node in list(self.hungry):
            hand = self.crew.get(node)
            if hand is None or hand.benched:
                del self.hungry[node]
        if self.ledger.unleased or not leases:
            return
        busy = [(self._left_ns(now, hand), hand.node) for hand in self.crew if hand.leases]
        busy.sort(reverse=True)
        left = {node: left_ns for left_ns, node in busy}
        busiest = [node for _, node in busy[:VICTIMS]]
        for node in sorted(self.hungry, key=lambda node: max(left.get(node, 0), 0)):
            if not busiest or not self._split(now, self.crew[node], left, busiest):
                self._want_backup(now, node)
                if self.crew[node].power:
                    return  # who is not so idle will not be helped either

    def on_lost(self, node: NodeId) -> None:
        """A worker is gone."""
        self.hungry.pop(node, None)

    # -- sizes

    def _is_plenty(self, hand: Hand, granted: list[Lease]) -> bool:
        """Whether so much for one request is enough, whatever was asked for: sizes may have grown meanwhile."""
        enough = len(hand.leases) >= 2 * hand.slots and hand.power > 0
        return enough and sum(lease.size for lease in granted) * SECOND > hand.power * PLENTY_NS

    def _count(self, now: int, hand: Hand) -> int:
        power = self.crew.power(now) + (0.0 if hand.leases else hand.power)
        return hand.sizer.next_count(self.ledger.unleased.measure, power, hand.rtt_ns)

    def _draw_up(self, hand: Hand, leases: list[Lease]) -> None:
        """Ask for samples: the same ones of leases so short that they share a run."""
        if not leases:
            return
        rate = hand.sizer.rate
        if rate and max(lease.size for lease in leases) < rate * self.config.batch_ns / SECOND:
            terms = self.examiner.terms([lease.span for lease in leases], rate)
            for lease in leases:
                lease.terms = terms
            return
        for lease in leases:
            lease.terms = self.examiner.terms([lease.span], rate)

    # -- searching again

    def _again(self, now: int, hand: Hand) -> Lease | None:
        """A block of somebody else's lease to be checked."""
        spot = self.spots.take(hand.node)
        if spot is None:
            return None
        span, terms, checked = spot
        lease = self.ledger.recheck(hand.node, span, now)
        lease.terms = terms
        self.spots.given(checked, lease)
        return lease

    def _backup(self, now: int, hand: Hand) -> Lease | None:
        for one in list(self._wanted):
            lease = self.ledger.leases.get(one)
            if lease is None or lease.twin is not None:
                del self._wanted[one]
            elif lease.worker != hand.node and hand.node not in lease.said:
                del self._wanted[one]
                backup = self.ledger.back_up(lease, hand.node, now)
                if backup is not None:
                    return backup
        return None

    # -- stragglers

    def _left_ns(self, now: int, hand: Hand) -> int:
        """How long the worker will be busy with what it holds, if it goes on as before."""
        leases = (self.ledger.leases[one] for one in hand.leases)
        left = sum(lease.unreported.measure for lease in leases)
        return int(left * SECOND / max(hand.power, 1e-9)) - (now - hand.heard_at)

    def _split(self, now: int, thief: Hand, left: dict[NodeId, int], busiest: list[NodeId]) -> bool:
        """Ask the busiest worker for so much that both finish together; whether somebody was, or need not be."""
        if not thief.power:
            return False
        for node in busiest:
            victim = self.crew[node]
            if victim is thief:
                continue
            gap_ns = left[node] - max(left.get(thief.node, 0), 0)
            if gap_ns < SPLIT_RTTS * (victim.rtt_ns + thief.rtt_ns) + 2 * self.config.tail_ns:
                return False  # nor is anybody after it busier
            lease = self._splittable(now, victim)
            if lease is None:
                continue
            together = victim.power + thief.power
            share = int(gap_ns / SECOND * victim.power * thief.power / together)
            count = min(share, lease.remaining.measure)
            if count < 1:
                continue
            stop = max(lease.remaining.stop - count, lease.span[0])
            lease.split_at = now
            left[node] -= int(count * SECOND / victim.power)
            left[thief.node] = max(left.get(thief.node, 0), 0) + int(count * SECOND / thief.power)
            self._send(node, TaskShrink(self.job, lease.id, stop))
            return True
        return False

    def _splittable(self, now: int, victim: Hand) -> Lease | None:
        """Its newest lease, which it has begun last if at all, unless that was tried just now."""
        for one in sorted(victim.leases, reverse=True):
            lease = self.ledger.leases[one]
            asked = lease.split_at >= 0 and now - lease.split_at < max(
                ASK_AGAIN_NS, SPLIT_RTTS * victim.rtt_ns
            )
            if lease.remaining.measure > 1 and lease.twin is None and not (lease.recheck or asked):
                return lease
        return None

    def _want_backup(self, now: int, thief: NodeId) -> None:
        """Have a lease done twice whose worker is suspected, or far behind; one at a time."""
        if any(one in self.ledger.leases for one in self._wanted):
            return
        leases = [lease for lease in self.ledger.leases.values() if not lease.recheck and lease.remaining]
        if not leases:
            return
        usual_ns = median(self._expected_ns(lease) for lease in leases)
        for lease in leases:
            silent = now - lease.heard_at > self.config.silence_ns // 2
            patience_ns = BACKUP_FACTOR * max(2 * self._expected_ns(lease), usual_ns) + SECOND
            late = now - lease.granted_at > patience_ns
            other = thief not in (lease.worker, *lease.said)
            if (silent or late) and other and self.ledger.can_back_up(lease):
                self._wanted[lease.id] = None
                return

    def _expected_ns(self, lease: Lease) -> int:
        rate = self.crew[lease.worker].sizer.rate
        return int(lease.size * SECOND / rate) if rate else 0
