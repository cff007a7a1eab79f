"""Ways around the checks that somebody has found, and that are closed: each is tried, and earns nothing."""

import random
from collections.abc import Iterable

import msgspec
import pytest

from tests.unit.test_coordinator import emitted, sent
from tests.unit.test_foreman import SIZE, A, B, Bench, C, D, digest, spot, word
from zlb.core.config import CoordinatorConfig, Method
from zlb.core.events import HitFound, Notice
from zlb.core.ids import JobId, NodeId, Span
from zlb.core.limits import SECOND, UNVERIFIED_LEASES_MAX
from zlb.core.work import Job, Oracle, StopRule
from zlb.protocols import queries
from zlb.protocols.checkpoints import Resumed
from zlb.protocols.commands import Submit
from zlb.protocols.coordinator import Coordinator
from zlb.protocols.ledger import Lease
from zlb.protocols.quorum import QuorumLedger
from zlb.protocols.registry import JobEntry
from zlb.protocols.trust import PROBATION, Trust
from zlb.wire.messages import (
    Done,
    Part,
    Reported,
    TaskProof,
    TaskProve,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

PROVEN = Trust(in_a_row=10**9)
"""Is checked once in two hundred subjobs."""


def bare(
    lease: int, *spans: Span, ended: bool = False, returned: Iterable[Span] = (), root: bytes = b""
) -> Part:
    """What somebody tells that has searched nothing."""
    done, back = (tuple(Done(start, stop - start) for start, stop in some) for some in (spans, returned))
    return Part(lease, ended, done, (), 10**6, "", (), root, back)


def refuse(bench: Bench, lease: Lease) -> None:
    """Do not open what was committed to."""
    block = [m.block for m in sent(bench.effects, TaskProve) if m.lease == lease.id][-1]
    bench.do(bench.core.on_task_proof(bench.now, lease.worker, TaskProof("j", lease.id, block, (), ())))


def earned(bench: Bench, node: NodeId = A) -> tuple[int, int]:
    """Credit of a worker, and what is done."""
    return bench.crew[node].credit, bench.core.ledger.done.measure


def spot_bench(size: int = 6400, chunk: int = 640, **config: object) -> Bench:
    return Bench(Method.SPOT, chunk_count=chunk, size=size, **config)  # type: ignore[arg-type]


# -- integers that were never searched


def test_what_was_given_back_cannot_be_told_to_be_done() -> None:
    bench = Bench()
    (lease,) = bench.lease(A)
    bench.report(A, bare(lease.id, returned=[lease.span]))
    bench.report(A, bare(lease.id, lease.span, ended=True))
    bench.report(A, bare(lease.id, lease.span, returned=[lease.span]))
    assert earned(bench) == (0, 0) and bench.core.ledger.unleased.measure == SIZE
    assert bench.crew[A].tested == 0 and not bench.accused()


def test_what_was_given_back_in_part_cannot_be_told_to_be_done_while_the_lease_lives() -> None:
    bench = Bench()
    (lease,) = bench.lease(A)
    bench.report(A, bare(lease.id, returned=[(50, 100)]))
    bench.report(A, bare(lease.id, (50, 100)))
    assert earned(bench) == (0, 0) and lease.id in bench.core.ledger.leases
    bench.report(A, bench.part(lease, (0, 50)))
    assert earned(bench) == (50, 50)


def test_what_was_not_believed_is_not_done_when_its_report_is_repeated() -> None:
    bench = spot_bench()
    (lease,) = bench.lease(A)
    part = bench.part(lease)
    bench.report(A, part)
    refuse(bench, lease)
    for again in (part, bare(lease.id, lease.span), bare(lease.id, lease.span, ended=True, root=bytes(32))):
        bench.report(A, again)
    assert earned(bench) == (0, 0) and not len(bench.core.foreman.spots)


@pytest.mark.parametrize("how", ["another incarnation", "goodbye", "silence"])
def test_in_the_first_epoch_nobody_searches_for_itself_what_it_vanished_with(how: str) -> None:
    for epoch in (0, 1):
        bench = Bench(epoch=epoch)
        (lease,) = bench.lease(A)
        incarnation = 1
        if how == "another incarnation":
            incarnation = 2
        elif how == "goodbye":
            bench.do(bench.core.on_lost(0, A))
        else:
            bench.now = 10 * SECOND
            bench.do(bench.core.on_tick(bench.now))
        bench.report(A, bare(0, lease.span), incarnation=incarnation)
        assert earned(bench) == (0, 0), epoch


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_what_a_stranger_says_it_has_searched_for_others_is_searched_again_in_the_end(epoch: int) -> None:
    bench = Bench(epoch=epoch)
    bench.now = 3 * SECOND
    (lease,) = bench.lease(A)
    bench.do(bench.core.on_lost(bench.now, A))
    bench.report(D, bare(0, lease.span))
    assert earned(bench, D) == (100, 100), "it may be true"
    assert bench.core.checkpoints is None or bench.core.checkpoints.take().done == ((0, 100),)
    while bench.ended() is None:
        bench.work(B)
        bench.report(D, bare(0, lease.span))  # and again
    assert bench.crew[D].credit == 0 and bench.crew[B].credit == SIZE and bench.crew[D].doubted
    assert sorted(bench.hits()) == list(range(0, SIZE, 25)) and not bench.accused()
    assert bench.core.checkpoints is None or bench.core.checkpoints.take().done == ((0, SIZE),)


def test_a_stranger_cannot_keep_a_job_from_its_end_by_saying_that_it_is_done() -> None:
    bench = Bench(epoch=2)
    bench.now = 3 * SECOND
    for _ in range(60):
        bench.report(D, bare(0, (0, SIZE)))
        bench.work(A)
        if bench.ended():
            break
    assert bench.ended() is not None and bench.crew[A].credit == SIZE


def test_whoever_has_passed_its_probation_is_believed_about_what_it_searched_for_others() -> None:
    bench = Bench(epoch=2, size=SIZE + 100)
    bench.now = 3 * SECOND
    bench.report(A, bare(0, (0, 100)))
    bench.work(A, PROBATION - 1)
    assert bench.ended() is None
    bench.work(A)
    assert bench.ended() is not None and bench.crew[A].credit == SIZE + 100


# -- checks that are not waited for


@pytest.mark.parametrize("missing", [1, 320])
@pytest.mark.parametrize(
    "how", ["ends", "returns and ends", "fails", "falls silent", "starts anew", "says goodbye"]
)
def test_whoever_does_not_finish_what_it_was_to_commit_to_has_done_nothing(how: str, missing: int) -> None:
    bench = spot_bench()
    (lease,) = bench.lease(A)
    start, stop = lease.span
    most, rest = (start, stop - missing), (stop - missing, stop)
    part = bench.part(lease, most, ended=False)
    match how:
        case "ends":
            bench.report(A, msgspec.structs.replace(part, ended=True))
        case "returns and ends":
            back = (Done(rest[0], missing),)
            bench.report(A, msgspec.structs.replace(part, ended=True, returned=back))
        case "fails":
            bench.report(A, part, Part(lease.id, True, (), (), 0, "boom"))
        case "falls silent":
            bench.report(A, part)
            bench.now = 10 * SECOND
            bench.do(bench.core.on_tick(bench.now))
        case "starts anew":
            bench.report(A, part)
            bench.lease(A, incarnation=2)
        case "says goodbye":
            bench.report(A, part)
            bench.do(bench.core.on_lost(0, A))
    assert earned(bench) == (0, 0) and not bench.accused()
    assert set(bench.hits()) == set(range(start, stop - missing, 25)), "hits are proven, and stay"


def test_half_a_subjob_costs_only_that_subjob_and_never_sends_anybody_away() -> None:
    bench = spot_bench(size=64_000)
    (good,) = bench.work(A)
    for _ in range(6):  # the owner of the machine comes back again and again
        (lease,) = bench.lease(A)
        bench.report(A, bench.part(lease, (lease.span[0], lease.span[0] + 300)))
    assert earned(bench) == (640, 640) and bench.core.ledger.done.covers(*good.span)
    assert len(bench.lease(A)) == 1 and not bench.crew[A].benched


def test_whoever_is_proven_keeps_half_a_subjob_as_often_as_it_would_not_be_checked() -> None:
    bench = spot_bench(size=640 * 40, trust={A: PROVEN})
    for _ in range(10):
        (lease,) = bench.lease(A)
        bench.report(A, bench.part(lease, (lease.span[0], lease.span[0] + 300)))
    assert bench.crew[A].credit == 3000


def test_what_is_asked_back_is_not_held_against_a_worker() -> None:
    bench = spot_bench()
    (lease,) = bench.lease(A)
    lease.split_at = 0
    bench.report(A, bench.part(lease, (0, 600), returned=(Done(600, 40),)))
    assert earned(bench) == (600, 600)


def test_enough_hits_end_a_subjob_early_and_are_not_held_against_a_worker() -> None:
    bench = spot_bench(rule=StopRule.COUNT, wanted=30)
    bench.work(B)  # 26 hits
    (lease,) = bench.lease(A)
    lease.told += range(30)  # as if others had told of these before
    bench.report(A, bench.part(lease, (lease.span[0], lease.span[0] + 10)))
    assert bench.crew[A].credit == 10


def test_whoever_tells_late_has_to_commit_all_the_same() -> None:
    bench = spot_bench()
    (lease,) = bench.lease(A)
    bench.now = 10 * SECOND
    bench.do(bench.core.on_tick(bench.now))
    for part in (bench.part(lease, (0, 639), ended=False), bench.part(lease, (639, 640), root=b"")):
        bench.report(A, part)
    assert earned(bench) == (0, 0) and not bench.accused()


def test_whoever_commits_late_is_checked_and_believed() -> None:
    bench = spot_bench()
    (lease,) = bench.lease(A)
    bench.now = 10 * SECOND
    bench.do(bench.core.on_tick(bench.now))
    part = bench.part(lease)
    bench.report(A, part)
    bench.report(A, part)
    assert earned(bench) == (640, 640) and len(bench.core.foreman.spots) == 1
    bench.prove(lease)
    (again,) = bench.lease(B)
    bench.report(B, bench.part(again))
    bench.report(A, part)
    assert earned(bench) == (640, 640) and bench.crew[A].trust.in_a_row == 1
    assert not len(bench.core.foreman.spots)


@pytest.mark.parametrize("how", ["starts anew", "says goodbye"])
def test_whoever_is_another_when_it_is_to_show_something_has_not_done_it(how: str) -> None:
    bench = spot_bench(trust={A: Trust(in_a_row=PROBATION - 1)})
    bench.work(A)
    assert earned(bench) == (640, 640)
    if how == "starts anew":
        bench.lease(A, incarnation=2)
    else:
        bench.do(bench.core.on_lost(0, A))
    assert earned(bench) == (0, 0) and not bench.accused()
    assert bench.crew[A].trust.in_a_row == 0, "and is checked again from now on"


def test_whoever_does_not_show_three_times_gets_no_more() -> None:
    bench = spot_bench()
    for times in range(1, 4):
        assert not bench.crew.get(A) or not bench.crew[A].benched
        bench.now += SECOND
        (lease,) = bench.work(A)
        refuse(bench, lease)
        assert bench.crew[A].refusals == times and bench.crew[A].trust.in_a_row == 0
    assert "3 times did not show" in bench.crew[A].benched
    assert bench.lease(A) == [] and earned(bench) == (0, 0) and not bench.accused()


def test_what_is_lost_at_once_is_one_refusal() -> None:
    bench = spot_bench()
    leases = bench.work(A, 5)
    for lease in leases:  # an honest worker has lost its memory, say
        refuse(bench, lease)
    assert bench.crew[A].refusals == 1 and not bench.crew[A].benched and earned(bench) == (0, 0)


def test_a_new_process_and_a_probation_passed_wipe_refusals_out() -> None:
    for how in ("new", "passed"):
        bench = spot_bench(trust={B: PROVEN}, size=64_000)
        for _ in range(2):
            bench.now += SECOND
            (lease,) = bench.work(A)
            refuse(bench, lease)
        if how == "new":
            bench.lease(A, incarnation=2)
        for _ in range(PROBATION if how == "passed" else 0):
            (lease,) = bench.work(A)
            bench.prove(lease)
            (again,) = bench.lease(B)
            bench.report(B, bench.part(again))
        assert bench.crew[A].refusals == 0, how


def test_a_check_that_is_drawn_out_is_no_longer_believed_meanwhile() -> None:
    bench = spot_bench(size=640 * 100)
    (lease,) = bench.work(A, hits=[])
    bench.crew[A].trust = PROVEN
    bench.core.foreman._rng.seed(5)
    for _ in range(UNVERIFIED_LEASES_MAX + 6):
        bench.work(A)
    assert bench.core.ledger.has_word(A, lease.id) and lease.id in bench.core.ledger.pinned
    before = earned(bench)
    refuse(bench, lease)
    assert earned(bench) == (before[0] - 640, before[1] - 640)
    assert lease.id not in bench.core.ledger.pinned and not bench.core.ledger.done.covers(*lease.span)
    assert len(bench.core.ledger.unverified[A]) <= UNVERIFIED_LEASES_MAX + 1


def test_a_block_that_is_searched_again_for_whoever_is_gone_is_nobodys() -> None:
    bench, lease, again = spot()
    bench.do(bench.core.on_lost(0, A))
    bench.report(B, bench.part(again, skips=True))
    assert not bench.accused() and not bench.core.ledger.done.covers(*lease.span)


# -- quorums


def test_what_one_of_two_has_searched_is_one_opinion_however_often_it_asks() -> None:
    bench = Bench(Method.QUORUM, nodes=[A], copies=2, size=20_000)
    for _ in range(200):
        bench.work(A)
    ledger = bench.core.ledger
    assert isinstance(ledger, QuorumLedger) and len(ledger.opinions) == 1
    assert ledger.opinions[0].hits == tuple(range(0, 20_000, 25))


def test_opinions_merge_from_both_sides() -> None:
    ledger = QuorumLedger([(0, 40)], [], 2)
    leases = [ledger.lease(A, 10, 0) for _ in range(4)]
    for number in (0, 2, 1, 3):
        lease = leases[number]
        assert lease is not None
        ledger.report(lease, [lease.span])
        ledger.end(lease, silent=False)
        ledger.check()
    assert [(one.start, one.stop) for one in ledger.opinions] == [(0, 20), (20, 40)] or len(
        ledger.opinions
    ) == 1


@pytest.mark.parametrize("first", [A, B])
def test_the_word_of_whoever_withholds_a_hit_does_not_count_about_that_piece(first: NodeId) -> None:
    bench = Bench(Method.QUORUM, nodes=[A, B, C], copies=2, size=100)
    second = B if first == A else A
    for node in (first, second):
        bench.work(node, **({"hits": []} if node == B else {}))
    assert bench.accused() == [B] and not bench.core.ledger.done and bench.ended() is None
    bench.work(C)
    assert bench.ended() is not None and bench.ended().status == "complete"  # type: ignore[union-attr]
    assert sorted(bench.hits()) == [0, 25, 50, 75] and bench.crew[B].credit == 0


# -- hits in the log whose integers are not done


def resumed(loose: tuple[int, ...], hits: int, wanted: int, size: int = 1000) -> Coordinator:
    job = Job(JobId("j"), "k", b"", ((0, size),), StopRule.COUNT, wanted)
    config = CoordinatorConfig(verify=Method.NONE, chunk_count=100)
    about = Resumed(hits=hits, loose=loose)
    core = Coordinator(NodeId("me"), 1, job, Oracle(digest, word), config, random.Random(1), 2, about)
    core.on_start(0)
    core.on_neighbour(0, A)
    return core


def test_a_hit_that_is_in_the_log_though_its_integer_is_not_done_is_counted_once() -> None:
    core = resumed((0, 25), 2, 4)
    now = core.config.adopt_ns
    (transfer,) = sent(core.on_task_request(now, A, TaskRequest("j", 1, 1, 1, 0.0, True, 2)), TaskTransfer)
    part = Part(
        transfer.leases[0].lease,
        False,
        (Done(0, 60),),
        tuple(Reported(n, digest(n) or b"") for n in (0, 25, 50)),
        1,
        "",
    )
    effects = core.on_task_report(now, A, TaskReport("j", 1, 2, (part,), 2))
    assert [hit.n for hit in emitted(effects, HitFound)] == [50] and core.hits == 3 and core.ended is None
    assert core.checkpoints is not None and [hit.n for hit in core.checkpoints.take().hits] == [50]


def test_a_resumption_tells_which_hits_are_loose() -> None:
    spec = Submit("j", "", "", "k", b"", ((0, 100),), StopRule.ALL, 0)
    entry = JobEntry(spec, 0, 5, done=[(0, 50)], hits={7: b"", 50: b"", 99: b""})
    assert queries._resumption(entry).loose == (50, 99)


def test_notices_say_what_cannot_be_checked() -> None:
    bench = spot_bench()
    (lease,) = bench.work(A)
    refuse(bench, lease)
    (notice,) = [event.text for event in emitted(bench.effects, Notice)]
    assert notice == "a does not show what it has committed to: that is searched again"
