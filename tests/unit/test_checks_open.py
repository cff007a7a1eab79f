"""Ways around the checks that were open for a while."""

import random

from tests.unit.test_coordinator import digest, emitted, sent
from tests.unit.test_foreman import A, B, Bench, spot
from zlb.core.config import CoordinatorConfig, Method
from zlb.core.events import HitFound
from zlb.core.ids import JobId, NodeId
from zlb.core.work import Job, Oracle, StopRule
from zlb.protocols.checkpoints import Resumed
from zlb.protocols.coordinator import Coordinator
from zlb.protocols.quorum import QuorumLedger
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


def test_a_hit_that_is_in_the_log_though_its_integer_is_to_be_searched_again_is_counted_once() -> None:
    job = Job(JobId("j"), "k", b"", ((1, 101),), StopRule.COUNT, 2)
    config = CoordinatorConfig(verify=Method.NONE, chunk_count=100)
    resumed = Resumed(
        hits=1, loose=(7,)
    )  # 7 was found by somebody who was found out, and its integers were undone
    core = Coordinator(NodeId("me"), 1, job, Oracle(digest), config, random.Random(1), 2, resumed)
    core.on_start(0)
    now = config.adopt_ns
    (transfer,) = sent(core.on_task_request(now, A, TaskRequest("j", 1, 1, 1, 0.0, True, 2)), TaskTransfer)
    part = Part(transfer.leases[0].lease, False, (Done(1, 10),), (Reported(7, b"\x07"),), 1, "")
    effects = core.on_task_report(now, A, TaskReport("j", 1, 2, (part,), 2))
    assert not emitted(effects, HitFound) and core.ended is None


def test_whoever_does_not_commit_to_a_lease_it_has_done_is_found_out() -> None:
    bench = Bench(Method.SPOT, chunk_count=640, size=6400)
    bench.work(A, 5, root=b"")
    assert bench.accused() == [A]


def test_whoever_cannot_show_what_it_has_committed_to_is_not_believed_about_that_lease() -> None:
    bench = Bench(Method.SPOT, chunk_count=640, size=6400)
    (lease,) = bench.work(A)
    (asked,) = sent(bench.effects, TaskProve)
    bench.do(bench.core.on_task_proof(0, A, TaskProof("j", lease.id, asked.block, (), ())))
    assert not bench.accused() and not bench.core.ledger.done and bench.core.foreman.crew[A].credit == 0


def test_a_piece_about_which_one_of_two_has_lied_is_searched_by_a_third() -> None:
    ledger = QuorumLedger([(0, 10)], [], 2)
    for worker, hits in ((A, [3]), (B, [])):
        lease = ledger.lease(worker, 10, 0)
        assert lease is not None
        news = ledger.report(lease, [(0, 10)], hits)
    assert news.withheld == [(B, 3)] and not ledger.done


def test_in_the_first_epoch_nobody_can_have_searched_for_an_earlier_one() -> None:
    bench = Bench(epoch=1)
    bench.lease(A)
    bench.report(A, Part(0, False, (Done(500, 100),), (), 0, ""))
    assert not bench.core.ledger.done


def test_a_block_of_whoever_is_gone_is_not_searched_on() -> None:
    bench, _, again = spot()
    bench.do(bench.core.on_lost(0, A))
    assert again.id not in bench.core.ledger.leases
