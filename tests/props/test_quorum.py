"""`QuorumLedger` against a naive twin that keeps, for every integer, who has searched it and what is known of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zlb.core.config import CoordinatorConfig, Method
from zlb.core.ids import LeaseId, NodeId, Span
from zlb.protocols.ledger import Lease, Ledger
from zlb.protocols.quorum import QuorumLedger, new_ledger

TOP = 40
JOBS = st.lists(
    st.tuples(st.integers(0, TOP - 1), st.integers(1, 15)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=3,
)
WORKERS = st.sampled_from([NodeId(name) for name in "abcde"])
PICK = st.integers(0, 99)
A, B, C, D = (NodeId(name) for name in "abcd")


def integers(spans: Iterable[Span]) -> set[int]:
    return {n for start, stop in spans for n in range(start, stop)}


def is_hit(n: int) -> bool:
    return n % 3 == 0


@dataclass
class Held:
    lease: Lease
    remaining: set[int]
    unreported: set[int]
    vanished: int = -1


@dataclass
class Twin:
    """`words` are the workers whose word an integer is, `known` the hits that have been told of."""

    wanted: set[int]
    done: set[int]
    copies: int
    words: dict[int, tuple[NodeId, ...]] = field(default_factory=dict)
    failed: dict[int, tuple[NodeId, ...]] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    live: dict[LeaseId, Held] = field(default_factory=dict)
    all: dict[LeaseId, Held] = field(default_factory=dict)
    tested: int = 0
    released: int = 0

    @property
    def waiting(self) -> set[int]:
        """Neither done nor in anybody's hands."""
        return self.wanted - self.done - set().union(*(held.remaining for held in self.live.values()))

    def may(self, worker: NodeId) -> set[int]:
        """What `worker` can search: it has not done so yet, nor failed on it."""
        return {
            n
            for n in self.waiting
            if worker not in self.words.get(n, ()) and worker not in self.failed.get(n, ())
        }

    def lease(self, lease: Lease, count: int) -> None:
        span = integers([lease.span])
        may = self.may(lease.worker)
        assert span <= may, "no worker gets an integer twice"
        about = {(self.words.get(n, ()), self.failed.get(n, ())) for n in span}
        assert len(about) == 1, "all of a lease is the word of the same workers"
        ((_, failed),) = about
        words = any(n in self.words for n in span)  # be it that all who told of it lied
        assert lease.said == failed
        assert len(span) <= count or (failed and not words)
        begun = {n for n in may if n in self.words}
        assert words or not begun, "what others have searched comes first"
        assert words or failed or not any(self.failed.get(n) for n in may)
        if words:
            self.released += len(span)
        elif not failed:
            assert lease.span[0] == min(may)
        self.live[lease.id] = self.all[lease.id] = Held(lease, set(span), set(span))

    def count_late(self, held: Held, new: int) -> None:
        if held.vanished >= 0:
            self.released += max(0, new - held.vanished)
            held.vanished = max(0, held.vanished - new)

    def report(self, held: Held, piece: set[int], told: set[int]) -> tuple[set[int], set[int], set[int], set]:  # type: ignore[type-arg]
        """(first, done, hits, withheld)."""
        self.tested += len(piece & held.unreported)
        self.count_late(held, len(piece & held.unreported))
        held.unreported -= piece
        worker = held.lease.worker
        late = held.lease.id not in self.live
        untouched = {n for n in self.waiting if not (n in self.words or self.failed.get(n))}
        mine = piece & (untouched if late else held.remaining)
        held.remaining -= mine
        first, done, withheld = set(), set(), set()
        for run in runs(mine):
            wrong = {(worker, n) for n in run & self.known - told}
            wrong |= {(other, n) for n in run & told - self.known for other in self.words.get(n, ())}
            withheld |= wrong
            liars = {node for node, _ in wrong}
            for n in run:
                before = self.words.get(n, ())
                if worker not in liars and (not before or before[0] in liars):
                    first.add(n)
                words = (*self.words.get(n, ()), worker)
                self.words[n] = tuple(node for node in words if node not in liars)
                if len(self.words[n]) >= self.copies:
                    done.add(n)
        hits = (told & mine) - self.known
        self.known |= hits
        self.done |= done
        return first, done, hits, withheld

    def end(self, held: Held, silent: bool, hashed: int = TOP) -> int:
        if self.live.pop(held.lease.id, None) is None:
            return 0
        returned, held.remaining = len(held.remaining), set()
        if silent:
            held.vanished = min(returned, hashed)
            self.released += held.vanished
        return returned

    def truncate(self, stop: int) -> list[LeaseId]:
        self.wanted = {n for n in self.wanted if n < stop}
        self.done &= self.wanted
        for held in self.live.values():
            held.remaining &= self.wanted
        idle = [held for held in self.live.values() if not held.remaining]
        for held in idle:
            self.end(held, silent=False)
        return [held.lease.id for held in idle]

    def disbelieve(self, worker: NodeId) -> tuple[set[int], set[int]]:
        lost = set()
        for n in self.wanted - self.done:
            if worker in self.words.get(n, ()):
                if self.words[n][0] == worker:
                    lost.add(n)
                    del self.words[n]
                else:
                    self.words[n] = tuple(node for node in self.words[n] if node != worker)
        hits = self.known & lost
        self.known -= lost
        self.released += len(lost)
        return lost, hits


def runs(piece: set[int]) -> list[set[int]]:
    """Neighbours together: what is one piece for the ledger, too."""
    found: list[set[int]] = []
    for n in sorted(piece):
        if found and n - 1 in found[-1]:
            found[-1].add(n)
        else:
            found.append({n})
    return found


class QuorumMachine(RuleBasedStateMachine):
    """Leases, reports, ends, failures, truncations and disbelief, in any order."""

    truncated = False

    @initialize(job=JOBS, before=st.one_of(st.just([]), JOBS), copies=st.integers(2, 4))
    def begin(self, job: list[Span], before: list[Span], copies: int) -> None:
        wanted = integers(job)
        done = integers(before) & wanted
        config = CoordinatorConfig(verify=Method.QUORUM, copies=copies)
        ledger = new_ledger(config, job, [(n, n + 1) for n in sorted(done)])
        assert isinstance(ledger, QuorumLedger)
        self.ledger = ledger
        self.twin = Twin(wanted, set(done), copies)

    def held(self, pick: int, live: bool = False) -> Held:
        among = list((self.twin.live if live else self.twin.all).values())
        return among[pick % len(among)]

    @rule(worker=WORKERS, count=st.integers(1, 15))
    def lease(self, worker: NodeId, count: int) -> None:
        lease = self.ledger.lease(worker, count, 0)
        assert (lease is None) == (not self.twin.may(worker))
        if lease is not None:
            self.twin.lease(lease, count)

    @precondition(lambda self: self.twin.all)
    @rule(pick=PICK, offset=st.integers(0, 20), count=st.integers(1, 20), tells=st.sampled_from([1, 2, 99]))
    def report(self, pick: int, offset: int, count: int, tells: int) -> None:
        """Of all hits, of every second, or of none."""
        held = self.held(pick)
        start, stop = held.lease.span
        low = start + offset % (stop - start)
        piece = integers([(low, min(low + count, stop))])
        told = sorted(filter(is_hit, piece))[::tells] if tells < 99 else []
        news = self.ledger.report(held.lease, [(low, min(low + count, stop))], told)
        first, done, hits, withheld = self.twin.report(held, piece, set(told))
        assert (integers(news.first), integers(news.done)) == (first, done)
        assert sorted(news.hits) == sorted(hits), "hits are new once"
        assert sorted(news.withheld) == sorted(withheld), "who has searched a hit and did not tell, once each"

    @precondition(lambda self: self.twin.all)
    @rule(pick=PICK, silent=st.booleans(), hashed=st.integers(0, 30))
    def end(self, pick: int, silent: bool, hashed: int) -> None:
        held = self.held(pick)
        assert self.ledger.end(held.lease, silent, hashed) == self.twin.end(held, silent, hashed)

    @precondition(lambda self: self.twin.live)
    @rule(pick=PICK, start=st.integers(0, TOP), count=st.integers(1, 30))
    def give_back(self, pick: int, start: int, count: int) -> None:
        held, gone = self.held(pick, live=True), integers([(start, start + count)])
        assert self.ledger.give_back(held.lease, [(start, start + count)]) == len(gone & held.remaining)
        held.remaining -= gone
        held.unreported -= gone

    @precondition(lambda self: self.twin.live)
    @rule(pick=PICK)
    def suspect(self, pick: int) -> None:
        held = self.held(pick, live=True)
        workers = (*held.lease.said, held.lease.worker)
        assert self.ledger.suspect(held.lease) == workers
        self.twin.failed.update(dict.fromkeys(held.remaining, workers))
        self.twin.end(held, silent=True)

    @precondition(lambda self: self.twin.live)
    @rule(pick=PICK, worker=WORKERS)
    def back_up(self, pick: int, worker: NodeId) -> None:
        assert self.ledger.back_up(self.held(pick, live=True).lease, worker, 0) is None

    @rule(stop=st.integers(1, TOP + 15))
    def truncate(self, stop: int) -> None:
        self.truncated = True
        assert [lease.id for lease in self.ledger.truncate(stop)] == self.twin.truncate(stop)

    @rule(start=st.integers(0, TOP), count=st.integers(1, 9))
    def adopt(self, start: int, count: int) -> None:
        assert self.ledger.adopt(A, [(start, start + count)]) == []
        self.twin.tested += count
        self.twin.released += count

    @rule(worker=WORKERS)
    def disbelieve(self, worker: NodeId) -> None:
        lost = self.ledger.disbelieve(worker)
        assert (integers(lost.spans), sorted(lost.hits)) == (
            (expected := self.twin.disbelieve(worker))[0],
            sorted(expected[1]),
        )

    @invariant()
    def same(self) -> None:
        ledger, twin = self.ledger, self.twin
        ledger.check()
        assert (integers(ledger.wanted), integers(ledger.done)) == (twin.wanted, twin.done)
        opinions = {n: one for one in ledger.opinions for n in range(one.start, one.stop)}
        assert sum(one.stop - one.start for one in ledger.opinions) == len(opinions)
        assert {n: one.workers for n, one in opinions.items()} == {
            n: twin.words[n] for n in twin.waiting if twin.words.get(n)
        }
        assert {n for one in ledger.opinions for n in one.hits} == twin.known & opinions.keys()
        assert ledger.leases.keys() == twin.live.keys()
        for held in twin.all.values():
            lease = held.lease
            assert (integers(lease.remaining), integers(lease.unreported)) == (
                held.remaining,
                held.unreported,
            )
        assert (ledger.tested, ledger.released) == (twin.tested, twin.released)
        assert ledger.open == len(twin.waiting)
        assert ledger.complete == (twin.done == twin.wanted) and ledger.verified == len(twin.done)


TestDoesAsWordsOfWorkers = QuorumMachine.TestCase
TestDoesAsWordsOfWorkers.settings = settings(max_examples=300, stateful_step_count=40)


def leased(ledger: Ledger, worker: NodeId, count: int = 10) -> Lease:
    lease = ledger.lease(worker, count, 0)
    assert lease is not None
    return lease


def test_an_ordinary_ledger_is_what_other_methods_and_one_copy_get() -> None:
    for config in (CoordinatorConfig(copies=3), CoordinatorConfig(verify=Method.QUORUM)):
        assert type(new_ledger(config, [(0, 5)], [])) is Ledger


def test_what_was_searched_more_than_once_bounds_what_was_tested_more_than_once() -> None:
    ledger = QuorumLedger([(0, 10)], [], 3)
    for worker in (A, B, C):
        ledger.report(leased(ledger, worker), [(0, 10)])
    assert ledger.complete and ledger.tested - ledger.done.measure == ledger.released == 20


def test_whoever_fails_does_not_take_the_word_of_others_with_it() -> None:
    ledger = QuorumLedger([(0, 10)], [], 2)
    assert ledger.report(leased(ledger, A), [(0, 10)], [3]).hits == [3]
    ledger.suspect(leased(ledger, B))
    assert ledger.lease(A, 10, 0) is None and ledger.lease(B, 10, 0) is None
    assert ledger.report(leased(ledger, C), [(0, 10)], [3]) == ([], [(0, 10)], [], [])


def test_of_integers_that_made_one_fail_a_copy_is_not_given_to_that_one() -> None:
    ledger = QuorumLedger([(0, 10)], [], 2)
    ledger.suspect(leased(ledger, A))
    ledger.report(leased(ledger, B), [(0, 10)])
    assert ledger.lease(A, 10, 0) is None and leased(ledger, C).said == (A,)


def test_two_who_tell_of_different_hits_have_both_withheld_one() -> None:
    ledger = QuorumLedger([(0, 10)], [], 2)
    ledger.report(leased(ledger, A), [(0, 10)], [3])
    news = ledger.report(leased(ledger, B), [(0, 10)], [6])
    assert (news.hits, sorted(news.withheld)) == ([6], [(A, 6), (B, 3)])


def test_what_the_disbelieved_alone_has_told_is_new_when_another_tells_it() -> None:
    ledger = QuorumLedger([(0, 10)], [], 2)
    ledger.report(leased(ledger, A), [(0, 10)], [3])
    other = leased(ledger, B)
    lost = ledger.disbelieve(A)
    assert list(lost.spans) == [(0, 10)] and list(lost.hits) == [3]
    news = ledger.report(other, [(0, 10)], [3])
    assert (news.first, news.done, news.hits, news.withheld) == ([(0, 10)], [], [3], [])
