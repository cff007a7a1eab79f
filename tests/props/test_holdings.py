"""Reports out of `Holding.next_parts`: nothing lost, nothing twice, never past a bound of the message."""

from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import JobId, NodeId
from zlb.core.limits import HITS_PER_REPORT_MAX, LEASES_PER_MESSAGE_MAX, PIECES_UNREPORTED_MAX
from zlb.core.timers import NEVER
from zlb.core.work import Hit
from zlb.protocols.holdings import Holding, Piece
from zlb.protocols.intervals import IntervalSet
from zlb.wire.codec import decode, encode
from zlb.wire.messages import Grant, Part, TaskReport

SIZE = 10_000


def holding(leases: int) -> Holding:
    held = Holding(JobId("j"), NodeId("c"), "k", 0, NEVER)
    held.take(tuple(Grant(i * SIZE, SIZE, i + 1) for i in range(leases)))
    return held


def finish(held: Holding, lease_id: int, count: int, hits: int) -> None:
    """The next `count` integers of a lease are searched; the first `hits` of them hit."""
    lease = held.leases[lease_id]  # type: ignore[index]
    span = lease.todo.take_lowest(count)
    if span is not None:
        found = tuple(Hit(n, bytes(32)) for n in range(span[0], min(span[0] + hits, span[1])))
        held.add_piece(lease, Piece(*span, found, 1))


def drain(held: Holding) -> list[tuple[Part, ...]]:
    reports = []
    while held.unreported:
        reports.append(held.next_parts(everything=True))
        assert len(reports) < 10_000, "reports that take nothing"
    return reports


@settings(max_examples=60)
@given(
    leases=st.integers(1, 4),
    pieces=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 6000), st.sampled_from([0, 1, 100, 4096])), max_size=20
    ),
)
def test_nothing_is_lost_or_told_twice(leases: int, pieces: list[tuple[int, int, int]]) -> None:
    held = holding(leases)
    for lease_id, count, hits in pieces:
        finish(held, (lease_id - 1) % leases + 1, count, hits)
    done = {lease.id: IntervalSet((p.start, p.stop) for p in lease.pieces) for lease in held.leases.values()}
    hits_left = sorted(hit for lease in held.leases.values() for p in lease.pieces for hit in p.hits)
    busy_ns = sum(piece.busy_ns for lease in held.leases.values() for piece in lease.pieces)
    told = []
    for parts in drain(held):
        assert sum(len(part.hits) for part in parts) < 2 * HITS_PER_REPORT_MAX
        assert len({part.lease for part in parts}) == len(parts)
        assert decode(encode(TaskReport("j", 1, 1, parts)))
        for part in parts:
            spans = IntervalSet(piece.span for piece in part.done)
            assert all(hit.n in spans for hit in part.hits)
            told += [(hit.n, hit.digest) for hit in part.hits]
            busy_ns -= part.busy_ns
            for start, stop in spans:
                gone = done[part.lease].remove(start, stop)  # type: ignore[index]
                assert gone == [(start, stop)], "told twice"
    assert not any(done.values()) and sorted(told) == hits_left and busy_ns == 0 and held.unreported == 0


def test_a_lease_is_held_until_its_last_piece_is_told() -> None:
    held = holding(1)
    finish(held, 1, SIZE // 2, HITS_PER_REPORT_MAX)
    finish(held, 1, SIZE // 2, HITS_PER_REPORT_MAX)
    first, second = (TaskReport("j", 1, sequence, held.next_parts(everything=True)) for sequence in (1, 2))
    assert [part.ended for part in (*first.parts, *second.parts)] == [False, False] and held.leases
    assert not held.acknowledged(second), "the first may be lost"
    assert [part.ended for part in held.next_parts(everything=True)] == [False]
    assert held.acknowledged(first)
    assert [part.ended for part in held.next_parts(everything=True)] == [True] and not held.leases


def test_what_still_runs_is_not_ended() -> None:
    held = holding(1)
    held.leases[1].running = 1  # type: ignore[index]
    finish(held, 1, SIZE, 0)
    assert [part.ended for part in held.next_parts(everything=True)] == [False]


def test_an_error_is_told_with_the_end_only() -> None:
    held = holding(1)
    lease = held.leases[1]  # type: ignore[index]
    lease.error, lease.running = "broken", 1
    lease.todo.clear()
    assert [(part.ended, part.error) for part in held.next_parts(everything=True)] == [(False, "")]
    lease.running = 0
    assert [(part.ended, part.error) for part in held.next_parts(everything=True)] == [(True, "broken")]


def test_the_fullest_reports_fit_a_message() -> None:
    held = holding(LEASES_PER_MESSAGE_MAX + 1)
    for i in range(PIECES_UNREPORTED_MAX):
        finish(held, i + 1, SIZE, HITS_PER_REPORT_MAX if i < 3 else 1)
    first, *rest = drain(held)
    assert HITS_PER_REPORT_MAX <= sum(len(part.hits) for part in first) < 2 * HITS_PER_REPORT_MAX
    for parts in (first, *rest):
        assert len(parts) <= LEASES_PER_MESSAGE_MAX
        assert decode(encode(TaskReport("j", 1, 1, parts)))
