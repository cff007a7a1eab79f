"""Messages that decode and make no sense, from anybody: nothing raises, books stay in order, honest work is done."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.test_foreman import A, B, Bench, C, D, digest
from zlb.core.config import Method, PeerConfig, WorkerConfig
from zlb.core.effects import Effect, Run, Send
from zlb.core.ids import NodeId
from zlb.core.limits import LOAD_NS_MAX, RATE_MAX, SECOND
from zlb.core.message import Message
from zlb.core.work import Failed, Hit, Oracle, Search, Searched, StopRule
from zlb.nodes.peer import Peer
from zlb.wire.codec import decode, encode
from zlb.wire.messages import (
    Done,
    Grant,
    Hello,
    JobAdvert,
    JobClosed,
    Part,
    Reported,
    Sampled,
    Spec,
    TaskAck,
    TaskCancel,
    TaskProof,
    TaskProve,
    TaskReport,
    TaskRequest,
    TaskShrink,
    TaskTransfer,
)

SIZE = 1000
small = st.integers(0, 9)
numbers = st.one_of(small, st.integers(0, SIZE), st.sampled_from([2**32, 2**63, 2**64 - 1]))
flags = st.booleans()
jobs = st.sampled_from(["j", "j", "j", "j", "other"])
epochs = st.sampled_from([0, 0, 0, 1, 2, 2**64 - 1])
some_bytes = st.sampled_from([b"", b"?", bytes(32), digest(25) or b""])
samples = st.lists(numbers, max_size=5).map(tuple)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    start = draw(numbers)
    return start, min(draw(st.sampled_from([1, 5, 100, SIZE, 2**64 - 1])), 2**64 - start)


dones = ranges().map(lambda drawn: Done(*drawn))
spans = st.lists(dones, max_size=3).map(tuple)
hits = st.lists(st.builds(Reported, st.one_of(st.just(25), numbers), some_bytes), max_size=3).map(tuple)
patterns = st.lists(st.builds(Sampled, st.sampled_from([0, 1, 7, 2**32 - 1]), small), max_size=4).map(tuple)
parts = st.builds(
    Part,
    st.one_of(small, st.integers(0, 40)),
    flags,
    spans,
    hits,
    st.sampled_from([0, 1, 10**6, LOAD_NS_MAX]),
    st.sampled_from(["", "", "boom"]),
    st.lists(samples, max_size=4).map(tuple),
    some_bytes,
    spans,
)
requests = st.builds(
    TaskRequest,
    jobs,
    small,
    numbers,
    st.sampled_from([1, 2, 1024]),
    st.sampled_from([0.0, 1.0, 1e-300, RATE_MAX]),
    flags,
    epochs,
    st.sampled_from([1, 512]),
    st.sampled_from([0, 10**6, 2**64 - 1]),
)
reports = st.builds(TaskReport, jobs, small, numbers, st.lists(parts, max_size=3).map(tuple), epochs)
digests = st.lists(some_bytes, max_size=6).map(tuple)
proofs = st.builds(TaskProof, jobs, st.integers(0, 40), st.integers(0, 70), samples, digests)
grants = st.builds(
    lambda drawn, *rest: Grant(*drawn, *rest), ranges(), small, patterns, st.sampled_from([0, 0, 1, 64, 4096])
)
specs = st.one_of(
    st.none(), st.builds(Spec, st.just("k"), st.sampled_from([b"", b"?"]), st.sampled_from([0, 1, 4096]))
)
transfers = st.builds(TaskTransfer, jobs, small, st.lists(grants, max_size=3).map(tuple), specs)
adverts = st.builds(
    JobAdvert,
    st.sampled_from(["a", "b", "c", "w"]),
    small,
    numbers,
    jobs,
    st.just("k"),
    numbers,
    epochs,
    small,
    st.lists(st.sampled_from(["a", "b", "c", "w"]), max_size=3).map(tuple),
)
orders = st.one_of(
    st.builds(TaskAck, jobs, small, flags),
    st.builds(TaskCancel, jobs, st.lists(small, max_size=3).map(tuple)),
    st.builds(TaskShrink, jobs, small, numbers),
    st.builds(TaskProve, jobs, small, numbers),
    st.builds(JobClosed, jobs, st.sampled_from(["", "for you: no", "found"])),
)

# -- whoever coordinates

to_coordinator = st.one_of(requests, requests, reports, reports, proofs)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from([C, D]), to_coordinator),
        st.tuples(st.just("hear"), st.sampled_from([C, D]), to_coordinator),
        st.tuples(st.just("work"), st.sampled_from([A, B]), st.integers(1, 3)),
        st.tuples(st.just("begin"), st.sampled_from([A, B, C, D]), st.integers(1, 3)),
        st.tuples(st.just("tick"), st.none(), st.integers(1, 4 * SECOND)),
        st.tuples(st.just("lost"), st.sampled_from([A, B, C, D]), st.just(0)),
        st.tuples(st.just("back"), st.sampled_from([A, B, C, D]), st.just(0)),
    ),
    min_size=5,
    max_size=30,
)


class Honest:
    """Two workers do what they are asked, whatever two others say."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.asked = 0

    def work(self, node: NodeId, want: int) -> None:
        for lease in self.bench.lease(node, want):
            if lease.id in self.bench.core.ledger.leases:
                self.bench.report(node, self.bench.part(lease))
            self.prove()

    def prove(self) -> None:
        """Open what is asked of those two."""
        bench = self.bench
        asked = [e for e in bench.effects if isinstance(e, Send) and isinstance(e.message, TaskProve)]
        asked, self.asked = asked[self.asked :], len(asked)
        for effect in asked:
            prove, lease = effect.message, bench.core.ledger.find(effect.message.lease)
            if effect.to in (A, B) and lease is not None:
                tree = bench.tree(lease)
                proof = TaskProof(
                    "j", prove.lease, prove.block, tree.block(prove.block), tree.path(prove.block)
                )
                bench.do(bench.core.on_task_proof(bench.now, effect.to, proof))

    def tick(self, after_ns: int) -> None:
        bench = self.bench
        bench.now += after_ns
        bench.do(bench.core.on_tick(bench.now))
        assert bench.core.deadline() > bench.now, "what was due is done"


def play(honest: Honest, what: str, node: NodeId, value: object) -> None:
    bench, core = honest.bench, honest.bench.core
    match what:
        case "hear":
            message = decode(encode(value))  # type: ignore[arg-type]
            on = {
                TaskRequest: core.on_task_request,
                TaskReport: core.on_task_report,
                TaskProof: core.on_task_proof,
            }
            for effect in bench.do(on[type(message)](bench.now, node, message)):  # type: ignore[index]
                if isinstance(effect, Send):
                    assert decode(encode(effect.message)) == effect.message
        case "work":
            honest.work(node, value)  # type: ignore[arg-type]
        case "begin":
            bench.lease(node, value)  # type: ignore[arg-type]
        case "tick":
            honest.tick(value)  # type: ignore[arg-type]
        case "lost":
            bench.do(core.on_lost(bench.now, node))
        case "back":
            bench.do(core.on_neighbour(bench.now, node))


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("verify", Method)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(steps=steps, rule=st.sampled_from(StopRule), chunk=st.sampled_from([None, 100]))
def test_a_coordinator_takes_no_harm(
    verify: Method, epoch: int, steps: list[tuple[str, NodeId, object]], rule: StopRule, chunk: int | None
) -> None:
    wanted = {StopRule.ALL: 0, StopRule.COUNT: 3}.get(rule, 1)
    bench = Bench(verify, rule=rule, wanted=wanted, epoch=epoch, chunk_count=chunk, copies=2)
    honest = Honest(bench)
    for what, node, value in steps:
        play(honest, what, node, value)
    for node in (C, D):
        bench.do(bench.core.on_lost(bench.now, node))
    for node in (A, B):
        bench.do(bench.core.on_neighbour(bench.now, node))
    for _ in range(400):
        if bench.ended() is not None:
            break
        honest.work(A, 2)
        honest.work(B, 2)
        honest.tick(SECOND // 2)
    end = bench.ended()
    assert end is not None, f"{bench.core.ledger.open} of {SIZE} are open"
    assert end.status != "failed", end.detail
    assert {A, B}.isdisjoint(bench.accused())
    assert all(hand.credit >= 0 for hand in bench.crew)
    assert len(set(bench.hits())) == len(bench.hits())


# -- whoever works

to_peer = st.one_of(orders, orders, transfers, adverts, requests, reports)
peer_steps = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from(["a", "b", "c"]), to_peer),
        st.tuples(st.just("hear"), st.sampled_from(["a", "b", "c"]), to_peer),
        st.tuples(st.just("answer"), st.just("a"), st.lists(grants, min_size=1, max_size=3).map(tuple)),
        st.tuples(st.just("done"), st.just(""), st.integers(0, 3)),
        st.tuples(st.just("tick"), st.just(""), st.integers(1, 4 * SECOND)),
        st.tuples(st.just("rest"), st.just(""), flags),
    ),
    min_size=5,
    max_size=30,
)


class Laboratory:
    """A peer that holds leases of `a`, and knows strangers `b` and `c`, who may be its children."""

    def __init__(self, checks: bool) -> None:
        oracle = Oracle(lambda n: b"d" if n % 25 == 0 else None, lambda n: n)
        worker = WorkerConfig(offer_ns=0)
        config = PeerConfig(measure_kernel="", worker=worker)
        about = NodeId("w"), 1, "", "", [], config, random.Random(1), {"k": 1000.0}
        self.peer = Peer(*about, lambda _k, params: oracle if checks and not params else "unknown")
        self.now, self.runs, self.requests = 0, dict[int, Search](), list[TaskRequest]()
        self.numbers = itertools.count(1)
        self.do(self.peer.on_start(0))
        for node in "abc":
            self.do(self.peer.on_message(0, NodeId(node), Hello(node, 1, "", "", "")))
        self.hear("a", JobAdvert("a", 1, 1, "j", "k", 10**6, 0))
        self.tick(1)
        self.answer((Grant(1000, 400, 1), Grant(1400, 400, 2, (Sampled(7, 3), Sampled(1, 1)), 64)))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Run(run_id, Search() as search):
                    self.runs[run_id] = search
                case Send("a", TaskRequest() as request):
                    self.requests.append(request)
                case Send(_, message):
                    assert decode(encode(message)) == message

    def hear(self, src: str, message: Message) -> None:
        self.do(self.peer.on_message(self.now, NodeId(src), decode(encode(message))))

    def answer(self, leases: tuple[Grant, ...]) -> None:
        """The coordinator leases something, at last."""
        if self.requests:
            request = self.requests.pop()
            self.hear("a", TaskTransfer(request.job, request.sequence, leases, Spec("k", b"", 0)))

    def tick(self, after_ns: int) -> None:
        self.now += after_ns
        self.do(self.peer.on_tick(self.now))
        for _ in range(9):  # what a tick asks for may be due at once
            if self.peer.deadline() > self.now:
                return
            self.do(self.peer.on_tick(self.now))
        raise AssertionError(f"{self.peer.deadline()} is due for ever at {self.now}")

    def done(self, how: int) -> None:
        """The oldest run comes back: whole, in part, with nothing, or it failed."""
        for run_id in list(self.runs)[:1]:
            search = self.runs.pop(run_id)
            stop = {0: search.stop, 1: search.start + 1, 2: search.start}.get(how, 0)
            found = tuple(tuple(n for n in range(search.start, min(stop, search.start + 50)) if n % 9 == 3)
                          for _ in search.patterns)  # fmt: skip
            hits = (Hit(search.start, b"d"),) if search.start % 25 == 0 and stop > search.start else ()
            outcome = Searched(stop, hits, 10**6, found) if how < 3 else Failed("boom")
            self.do(self.peer.on_done(self.now, run_id, outcome))


@pytest.mark.parametrize("checks", [True, False])
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(steps=peer_steps)
def test_a_peer_takes_no_harm(checks: bool, steps: list[tuple[str, str, object]]) -> None:
    lab = Laboratory(checks)
    for what, src, value in steps:
        match what:
            case "hear":
                lab.hear(src, value)  # type: ignore[arg-type]
            case "answer":
                lab.answer(value)  # type: ignore[arg-type]
            case "done":
                lab.done(value)  # type: ignore[arg-type]
            case "tick":
                lab.tick(value)  # type: ignore[arg-type]
            case "rest":
                node = lab.peer
                lab.do(node.worker.on_rest(lab.now) if value else node.worker.on_resume(lab.now))
    lab.tick(SECOND)
