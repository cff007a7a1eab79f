"""The workers of a job: who they are, which leases they hold, whether what they report can be true, and what is done
about those who fail, fall silent or cheat.

A lease that its worker fails on is given to others, alone: if they fail too, it is the integers, else it is the worker.
Whoever is found to have told what cannot be true gets nothing more of the job, and what was done by its word alone is
searched again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from zlb.core.config import CoordinatorConfig, Method
from zlb.core.effects import Effect
from zlb.core.errors import ErrorCode
from zlb.core.events import Notice, WorkerAccused
from zlb.core.ids import NO_LEASE, LeaseId, NodeId, Span
from zlb.core.limits import INTEGERS_MAX, TEXT_BYTES_MAX, WORKERS_PER_JOB_MAX
from zlb.core.node import Core
from zlb.core.work import Hit, Job, Oracle, StopRule
from zlb.protocols.checkpoints import Checkpoints
from zlb.protocols.crew import Crew, Hand
from zlb.protocols.evidence import Evidence, thinner
from zlb.protocols.examiner import Examiner, share_word
from zlb.protocols.holdings import FOR_YOU
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.leasing import Lessor
from zlb.protocols.ledger import Lease, Ledger, News
from zlb.protocols.sizing import Sizer
from zlb.protocols.spots import GIVEN_UP, Spots, Verdict
from zlb.protocols.trust import PROBATION, STRANGER, Trust
from zlb.wire.messages import JobClosed, Part, Refused, TaskCancel, TaskProof

UNFIT_TOLD = 4
"""Of peers that were found out before, so many are named."""


REPORTS = 3
"""Of a worker that lives within `silence_ns`."""
ADOPTED_KEPT = 64
"""Reports of work for others that are remembered of one worker: it has 16 out at a time."""


class Entered(NamedTuple):
    """What a part of a report has changed, and the hits it tells of."""

    news: News
    found: list[Hit]


class Foreman(Core):
    """Looks after the workers of `job`. What is drawn from `rng` must not be guessed by them; `trust` is what earlier
    jobs have told of them. `hopeless` says why the job cannot be done, once it cannot.
    """

    def __init__(
        self,
        job: Job,
        oracle: Oracle,
        config: CoordinatorConfig,
        rng: random.Random,
        ledger: Ledger,
        checkpoints: Checkpoints | None,
        epoch: int,
        trust: Mapping[NodeId, Trust],
    ) -> None:
        super().__init__()
        self.job, self.config, self.ledger, self.checkpoints = job, config, ledger, checkpoints
        self.crew = Crew()
        share = share_word(job.id, job.params)
        self.examiner = Examiner(oracle.word, config.verify, rng, share)
        self.spots = Spots(job.id, config, self.examiner, rng)
        self.lessor = Lessor(job.id, config, ledger, self.crew, self.examiner, self.spots)
        self.evidence = Evidence() if config.rows else None
        if config.rows and checkpoints is not None:
            thin = thinner(lambda: ledger.done.measure, share, oracle.word)
            self.evidence = checkpoints.evidence = Evidence(thin=thin)
        self.neighbours: dict[NodeId, None] = {}
        """Who may work for the job."""
        self.hopeless = ""
        self.returned = False
        """Whether something has come back to the pool since that was asked last."""
        self.bad_hits = 0
        self.retold: set[int] = set()
        """Hits already told of, in integers that are searched again."""
        self.epoch = epoch
        self._last_failure = "failed"
        self._oracle, self._rng, self._trust = oracle, rng, trust

    def deadline(self) -> int:
        """ns; the next look at stragglers and spot checks."""
        return min(self.lessor.deadline(), self.spots.deadline())

    def on_tick(self, now: int, leases: bool) -> None:
        """Look after spot checks, and, if any `leases` are given now, after stragglers."""
        if now >= self.spots.deadline():
            self._judge(now, self.spots.on_tick(now))
        if now >= self.lessor.deadline():
            self.lessor.on_tick(now, leases)

    def flush(self) -> list[Effect]:
        """What has come together since it was asked last."""
        return self._flush() + self.spots.flush() + self.lessor.flush()

    # -- who they are

    def hand(self, now: int, src: NodeId, incarnation: int) -> Hand | None:
        """The worker `src`; None for a message of a former incarnation, or if it gets nothing more of this job.

        A new incarnation ends the leases of the old one.
        """
        hand = self.crew.get(src)
        if hand is None and len(self.crew) >= WORKERS_PER_JOB_MAX:
            self._forget_one_that_left()
        if hand is None and len(self.crew) >= WORKERS_PER_JOB_MAX:
            self._send(src, Refused(ErrorCode.FULL, f"job {self.job.id} has {WORKERS_PER_JOB_MAX} workers"))
            return None
        if hand is None:
            trust = self._trust.get(src, STRANGER)
            hand = self.crew.add(Hand(src, incarnation, Sizer(self.config), trust))
            hand.accused = not trust.accepted
            hand.benched = "were found out before" if hand.accused else ""
            if hand.accused:
                self._emit(
                    Notice(f"{src} gets nothing of job {self.job.id}: was found out in an earlier one")
                )
        elif incarnation > hand.incarnation:
            self.gone(now, src)
            hand.restarted(incarnation)
        if hand.benched:
            self._dismiss(hand)
            return None
        if hand.incarnation != incarnation:
            return None
        hand.heard_at = now
        return hand

    def gone(self, now: int, node: NodeId) -> None:
        """A worker left or fell silent: its leases are over."""
        if node in self.crew:
            self.lessor.on_lost(node)
            self._forget_spots(node)
            self._expire(now, self._leases_of(self.crew[node]))
        self._give_up_suspects()

    def fit(self) -> list[NodeId]:
        """Those there are who may work for the job."""
        return [node for node in self.neighbours if not self.is_benched(node)]

    def give_up_if_unfit(self) -> None:
        """Nobody else has come by now: if all there are were found out in earlier jobs, this one cannot be done."""
        strangers = [hand.node for hand in self.crew if not hand.trust.accepted and not hand.tested]
        if self.neighbours and strangers and not self.fit():
            who = ", ".join(sorted(strangers)[:UNFIT_TOLD])
            self.hopeless = self.hopeless or f"no peer is left that does it: found out in earlier jobs: {who}"

    def learned(self) -> list[tuple[NodeId, Trust]]:
        """Those of whom more is known than before this job."""
        return [
            (hand.node, hand.trust)
            for hand in self.crew
            if hand.trust != self._trust.get(hand.node, STRANGER)
        ]

    def _forget_one_that_left(self) -> None:
        for hand in self.crew:
            if hand.node not in self.neighbours and not (hand.leases or hand.benched):
                self.crew.remove(hand.node)
                return

    # -- their leases

    def expire(self, now: int) -> None:
        """Leases that were not mentioned for too long are over."""
        leases = self.ledger.leases.values()
        self._expire(now, [lease for lease in leases if now - lease.heard_at >= self.config.silence_ns])
        self._give_up_suspects()

    def end_lease(self, lease: Lease, silent: bool, hashed: int = INTEGERS_MAX) -> int:
        """End a live lease; returns how many integers go back to the pool."""
        self.crew[lease.worker].leases.discard(lease.id)
        if lease.recheck:
            self.spots.on_expired(lease)
        returned = self.ledger.end(lease, silent, hashed)
        self.returned |= returned > 0
        return returned

    def _leases_of(self, hand: Hand) -> list[Lease]:
        return [self.ledger.leases[lease_id] for lease_id in sorted(hand.leases)]

    def _unseen(self, now: int, hand: Hand) -> int:
        """Integers it may have searched, and not told of, until it should have reported again."""
        leased_at = min((lease.granted_at for lease in self._leases_of(hand)), default=now)
        since_ns = now - max(hand.reported_at, leased_at)
        return hand.unseen(min(since_ns, self.config.silence_ns // REPORTS))

    def _expire(self, now: int, leases: list[Lease]) -> None:
        """The workers of these leases are silent: what they did not report is leased again."""
        returned: dict[NodeId, int] = {}
        unseen = {lease.worker: self._unseen(now, self.crew[lease.worker]) for lease in leases}
        for lease in leases:
            hand = self.crew[lease.worker]
            hand.trust = hand.trust.late()
            self._leave(hand, lease)
            self.ledger.abandon(lease)
            count = self.end_lease(lease, True, unseen[lease.worker])
            unseen[lease.worker] -= max(lease.vanished, 0)
            returned[lease.worker] = returned.get(lease.worker, 0) + count
        for worker, count in returned.items():
            self.lessor.on_lost(worker)
            self._emit(Notice(f"{worker} is silent: {count} integers are leased again"))
            self.returned = True

    # -- what they report

    def enter(self, hand: Hand, lease: Lease, part: Part, elapsed_ns: int) -> Entered | None:
        """Take in what a part says was done under a lease; None if that cannot be true, and its worker is accused.

        What it has told of before, or given back, is not looked at again: it could not be judged, either.
        """
        spans = IntervalSet(done.span for done in part.done)
        new = [piece for span in spans for piece in lease.unreported.overlap(*span)]
        hand.reported_at = hand.heard_at if new else hand.reported_at
        found = self._checked(hand, part) if new else []
        if found is None:
            return None
        if why := self.examiner.wrong(lease.terms, hand.count_test, new, part.samples):
            self._accuse(hand, why)
            return None
        news = self.ledger.report(lease, new, [hit.n for hit in found])
        count = sum(stop - start for start, stop in new)
        hand.tested += count
        hand.sizer.measured(count, part.busy_ns)
        if lease.recheck:
            samples = part.samples[0] if part.samples else ()
            verdict = self.spots.on_searched(lease, samples, [hit.n for hit in found], part.ended)
            self._judge(hand.heard_at, [] if verdict is None else [verdict])
        else:
            self._take_credit()
            self._credit(hand, news.first, lease, part, elapsed_ns)
        for node, n in news.withheld:
            if node in self.crew:
                self._accuse(self.crew[node], f"did not tell of the hit {n}")
        return Entered(news, found)

    def adopt(self, hand: Hand, sequence: int, part: Part, elapsed_ns: int) -> Entered | None:
        """Take in what a worker has finished for somebody who is gone; nothing if that was done before.

        Before the second epoch only what was lost with another worker of ours: there nobody else can have had work to
        give. Nothing was planted in it, so it is only believed for good when the worker has passed as many checks as
        `settle` wants.
        """
        if sequence in hand.adopted or hand.doubted:
            return None
        hand.adopted.add(sequence)
        if len(hand.adopted) > ADOPTED_KEPT:
            hand.adopted.discard(min(hand.adopted))
        spans = list(IntervalSet(done.span for done in part.done))
        found = self._checked(hand, part)
        if found is None:
            return None
        hand.tested += sum(stop - start for start, stop in spans)
        if self.epoch <= 1:
            spans = self.ledger.lost_by_others(hand.node, spans)
        fresh = self.ledger.adopt(hand.node, spans, [hit.n for hit in found])
        self._credit(hand, fresh, None, part, elapsed_ns)
        inside = IntervalSet(fresh)
        return Entered(News(fresh, fresh, [hit.n for hit in found if hit.n in inside], []), found)

    def on_task_proof(self, now: int, src: NodeId, message: TaskProof) -> None:
        """A worker opens what it has committed to."""
        verdict = self.spots.on_task_proof(src, message)
        self._judge(now, [] if verdict is None else [verdict])

    def go_on(self, now: int, hand: Hand, lease: Lease, part: Part) -> None:
        """What a part says about its lease as a whole: that some of it is given back, or that it has ended."""
        if self.ledger.give_back(lease, [returned.span for returned in part.returned]):
            self.returned = True
        if lease.twin is not None and not lease.remaining:
            twin = self.ledger.leases[lease.twin]
            self.end_lease(twin, silent=False)
            self._send(twin.worker, TaskCancel(self.job.id, (twin.id,)))
        if lease.id not in self.ledger.leases:
            self._late(now, hand, lease, part)
        elif part.error:
            self._failed(hand, lease, part.error)
        elif part.ended:
            self._finished(now, hand, lease, part.root)

    def _finished(self, now: int, hand: Hand, lease: Lease, root: bytes) -> None:
        """A lease was given up, or is done: then that counts for its worker, once it was checked as it is to be."""
        if not (lease.unreported or lease.gave_back or lease.recheck):
            if lease.terms.blocks and not root:
                self._accuse(hand, "does not commit to what it says it has searched")
                return
            hand.sizer.clean(lease.size)
            hand.failures = 0
            self._passed(now, hand, lease, root)
        else:
            self._leave(hand, lease)
        self.end_lease(lease, silent=False)

    def _late(self, now: int, hand: Hand, lease: Lease, part: Part) -> None:
        """News of a lease that is over: whoever was to commit to it has to be in time with that, or does it now."""
        if not self.ledger.has_word(hand.node, lease.id) or lease.committed or not lease.terms.blocks:
            return
        if part.ended and part.root and not (lease.unreported or lease.gave_back):
            self._passed(now, hand, lease, part.root)
        else:
            self._leave(hand, lease)

    def _passed(self, now: int, hand: Hand, lease: Lease, root: bytes) -> None:
        """A lease is done, and its worker has committed to it, if it was to: that is checked, or believed."""
        lease.committed = True
        if root and lease.terms.blocks and self._rng.random() < hand.trust.checked:
            self.ledger.pinned.add(lease.id)
            self.spots.begin(now, lease, root, lease.told)
        elif bool(root) == bool(lease.terms.blocks):
            self._trust_more(hand)

    def _leave(self, hand: Hand, lease: Lease) -> None:
        """A lease is over before all of it was searched. If its worker was to commit to it, and we did not ask for an
        end, it has to do without what it says it has done as often as it would have been checked: or else whoever does
        not want to be checked would never quite finish."""
        hits_max = 0 if self.job.rule is StopRule.ALL else self.job.hits_wanted
        asked = lease.split_at >= 0 or 0 < hits_max <= len(lease.told)
        if asked or not lease.terms.blocks or not self.ledger.has_word(hand.node, lease.id):
            return
        if self._rng.random() < hand.trust.checked:
            self._doubt(hand, lease.id, "did not finish, and cannot be checked about, a subjob")

    def _trust_more(self, hand: Hand) -> None:
        hand.trust = hand.trust.passed()
        if hand.trust.in_a_row >= PROBATION:
            hand.refusals = 0

    def _checked(self, hand: Hand, part: Part) -> list[Hit] | None:
        """The hits of a part, lowest first; None if one of them is none, or lies elsewhere."""
        found = sorted({Hit(hit.n, hit.digest) for hit in part.hits})
        done = IntervalSet(done.span for done in part.done)
        if all(hit.n in done and self._oracle.check(hit.n) == hit.digest for hit in found):
            return found
        self.bad_hits += 1
        self._accuse(hand, "reported a hit that is none")
        return None

    def _credit(
        self, hand: Hand, fresh: list[Span], lease: Lease | None, part: Part, elapsed_ns: int
    ) -> None:
        hand.credit += sum(stop - start for start, stop in fresh)
        if self.evidence is not None:
            share = None if lease is None else lease.terms.share
            shares = part.samples[0] if share is not None and part.samples else ()
            self.evidence.add(hand.node, share, fresh, shares, elapsed_ns)

    def _take_credit(self) -> None:
        """What others have searched after somebody who lied about it is theirs."""
        taken, self.ledger.taken = self.ledger.taken, []
        for node, span in taken:
            if node in self.crew:
                self.crew[node].credit -= span[1] - span[0]
            if self.evidence is not None:
                self.evidence.remove([span])

    # -- those who fail and those who cheat

    def is_benched(self, node: NodeId) -> bool:
        """Whether it gets no more of the job."""
        hand = self.crew.get(node)
        return hand is not None and bool(hand.benched)

    def _failed(self, hand: Hand, lease: Lease, why: str) -> None:
        """A worker could not do its lease: whose fault that is, other workers will show."""
        hand.failures += 1
        span = next(iter(lease.remaining), lease.span)
        needed = bool(lease.remaining) and not lease.recheck
        left = [node for node in self.fit() if self.ledger.may_search(node, lease)]
        self._last_failure = why
        self._leave(hand, lease)
        workers = self.ledger.suspect(lease)
        hand.leases.discard(lease.id)
        if lease.recheck:
            self.spots.on_expired(lease)
        self.returned = True
        where = f"integers {span[0]} to {span[1]}"
        self._emit(Notice(f"{hand.node} failed on {where} of job {self.job.id}: {why}"))
        if needed and (len(workers) >= self.config.failures_max or not left):
            who = f"{len(workers)} of {len(workers) + len(left)} peers failed on it"
            self.hopeless = f"{why} ({where}: {who})"
        elif hand.failures >= self.config.failures_max:
            self._bench(hand, f"failed {hand.failures} times in a row, at last: {why}")

    def _give_up_suspects(self) -> None:
        """When all there are have failed on the same integers, nobody is left who could do them."""
        fit = self.fit()
        stuck = self.ledger.stuck(fit) if fit and not self.ledger.leases else None
        if stuck is not None:
            who = f"integers {stuck[0]} to {stuck[1]}: all {len(fit)} peers that are left failed on it"
            self.hopeless = self.hopeless or f"{self._last_failure} ({who})"

    def settle(self) -> bool:
        """Before the job ends: what somebody searched for others who are gone is done anew if it has not shown since
        that it does what it says. Whether there is nothing of the kind."""
        if self.examiner.method is Method.NONE:
            return True
        doubted = [
            hand
            for hand in self.crew
            if hand.trust.in_a_row < PROBATION and self.ledger.has_word(hand.node, NO_LEASE)
        ]
        for hand in doubted:
            hand.doubted, again = True, self._disbelieve(hand, NO_LEASE)
            self._emit(
                Notice(
                    f"{hand.node} has not shown enough to be believed: {again} integers are searched again"
                )
            )
        return not doubted

    def _accuse(self, hand: Hand, why: str) -> None:
        """What a worker reported cannot be true: nothing that it alone has done counts any more."""
        if hand.accused:
            return
        hand.trust, hand.accused = hand.trust.failed(), True
        again = self._disbelieve(hand)
        self._emit(WorkerAccused(self.job.id, hand.node, why, again))
        self._bench(hand, why)

    def _disbelieve(self, hand: Hand, lease: LeaseId | None = None) -> int:
        """What the worker alone has done, under that lease or at all, is to be done anew; how many integers."""
        lost = self.ledger.disbelieve(hand.node, lease)
        self.retold.update(lost.hits)
        hand.credit -= lost.spans.measure
        if self.checkpoints is not None:
            self.checkpoints.undo(lost.spans)
        if self.evidence is not None:
            self.evidence.remove(lost.spans)
        self.returned = True
        return lost.spans.measure

    def _bench(self, hand: Hand, why: str) -> None:
        """The worker gets no more of this job; when none is left that does, the job cannot be done."""
        hand.benched = why
        if not hand.accused:  # else that has been said
            self._emit(Notice(f"{hand.node} gets no more of job {self.job.id}: {why}"))
        self._forget_spots(hand.node)
        for held in self._leases_of(hand):
            self.end_lease(held, silent=True)
        self._dismiss(hand)
        self.returned = True
        if not self.fit():
            self.hopeless = self.hopeless or f"no peer is left that does it: {hand.node} {why}"

    def _doubt(self, hand: Hand, lease: LeaseId, why: str) -> None:
        """What it has done under that lease cannot be checked: that is done anew, and it has to show again that it does
        what it says."""
        self.ledger.pinned.discard(lease)
        self._disbelieve(hand, lease)
        hand.trust = hand.trust._replace(in_a_row=0)
        self._emit(Notice(f"{hand.node} {why}: that is searched again"))

    def _refused(self, now: int, hand: Hand, lease_id: LeaseId) -> None:
        """It does not show what it has committed to; who does so again and again gets no more."""
        lease = self.ledger.find(lease_id)
        self._doubt(hand, lease_id, GIVEN_UP)
        if lease is not None and lease.granted_at <= hand.refused_at:
            return
        hand.refused_at = now
        hand.refusals += 1
        if hand.refusals >= self.config.failures_max and not hand.benched:
            self._bench(hand, f"{hand.refusals} times did not show what it has committed to")

    def _forget_spots(self, node: NodeId) -> None:
        """What it has done cannot be checked any more, so it does not count."""
        lost, searched_again = self.spots.on_lost(node)
        for one in lost if node in self.crew else ():
            self._doubt(
                self.crew[node], one, "is gone or has started anew and cannot be checked about a subjob"
            )
        for again in searched_again:
            lease = self.ledger.leases.get(again)
            if lease is not None:
                self.end_lease(lease, silent=False)
                self._send(lease.worker, TaskCancel(self.job.id, (again,)))

    def _dismiss(self, hand: Hand) -> None:
        self._send(hand.node, JobClosed(self.job.id, f"{FOR_YOU}: you {hand.benched}"[:TEXT_BYTES_MAX]))

    def _judge(self, now: int, verdicts: list[Verdict]) -> None:
        """Spot checks have come to an end."""
        for worker, lease, accused, why in verdicts:
            self.ledger.pinned.discard(lease)
            if accused is not None and accused in self.crew:
                self._accuse(self.crew[accused], why)
            elif worker in self.crew and why == GIVEN_UP:
                self._refused(now, self.crew[worker], lease)
            elif worker in self.crew:
                self._trust_more(self.crew[worker])
