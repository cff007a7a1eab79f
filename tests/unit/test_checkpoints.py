"""News on its way into the log: hits before the integers they lie in, reports once all of theirs is out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import NodeId, Span
from zlb.core.limits import (
    ENTRY_BYTES_MAX,
    HIT_BYTES,
    HITS_PER_CHECKPOINT_MAX,
    ROW_SHARES_MAX,
    ROWS_BYTES_MAX,
    SPANS_PER_CHECKPOINT_MAX,
)
from zlb.core.work import Hit, Pattern, Row
from zlb.protocols.checkpoints import Checkpoints, Delta, Received
from zlb.protocols.commands import Checkpoint, WireRow, pack
from zlb.protocols.evidence import ROW_BYTES, ROW_BYTES_MAX, SHARE_BYTES, Evidence
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.raft.sessions import repeatable

A, B = NodeId("a"), NodeId("b")
ONE = Pattern(7, 1)
HALF = SPANS_PER_CHECKPOINT_MAX // 2


def hits(count: int) -> list[Hit]:
    return [Hit(n, b"d") for n in range(count)]


def scattered(count: int) -> list[Span]:
    """Spans that never touch."""
    return [(2 * n, 2 * n + 1) for n in range(count)]


def test_without_news_there_is_nothing_to_take() -> None:
    news = Checkpoints()
    assert not news and news.take() == Delta((), (), ())
    news.add([], [])
    assert not news


def test_spans_are_coalesced_and_taken_once_with_their_hits_and_reports() -> None:
    news = Checkpoints()
    news.add([(0, 5)], [Hit(3, b"d")])
    news.add([(5, 9), (20, 21)], [])
    news.wait(Received(A, 1, 7))
    assert news
    assert news.take() == Delta(((0, 9), (20, 21)), (Hit(3, b"d"),), (Received(A, 1, 7),))
    assert not news


def test_what_the_log_has_and_is_undone_stays_undone_though_it_was_done_and_undone_again_since() -> None:
    news = Checkpoints()
    news.add([(0, 10)], [])
    assert news.take().done == ((0, 10),)
    news.undo([(0, 10)])
    news.add([(2, 8)], [])
    news.undo([(4, 6)])
    delta = news.take()
    assert (delta.done, delta.undone) == (((2, 4), (6, 8)), ((0, 2), (4, 6), (8, 10)))


def test_a_report_that_waits_is_news_by_itself() -> None:
    news = Checkpoints()
    news.wait(Received(A, 1, 7))
    assert news and news.take() == Delta((), (), (Received(A, 1, 7),))


def test_a_report_that_comes_twice_waits_once() -> None:
    news = Checkpoints()
    news.wait(Received(A, 1, 7))
    news.wait(Received(A, 1, 7))
    news.wait(Received(B, 1, 7))
    assert news.take().reports == (Received(A, 1, 7), Received(B, 1, 7))


def test_reports_of_a_restarted_worker_are_others_though_they_have_the_same_number() -> None:
    news = Checkpoints()
    for incarnation in (1, 2):
        news.wait(Received(A, incarnation, 7))
    assert len(news.take().reports) == 2


def test_hits_beyond_the_bound_come_before_all_integers() -> None:
    news = Checkpoints()
    news.add([(0, 10 * HITS_PER_CHECKPOINT_MAX)], hits(2 * HITS_PER_CHECKPOINT_MAX + 5))
    news.wait(Received(A, 1, 1))
    first, second, third = news.take(), news.take(), news.take()
    assert [len(delta.hits) for delta in (first, second, third)] == [HITS_PER_CHECKPOINT_MAX] * 2 + [5]
    assert first == Delta((), first.hits, (), cut=True) and second == Delta((), second.hits, (), cut=True)
    assert (
        third.done == ((0, 10 * HITS_PER_CHECKPOINT_MAX),)
        and third.reports == (Received(A, 1, 1),)
        and not news
    )


def test_hits_that_just_fit_go_with_their_integers() -> None:
    news = Checkpoints()
    news.add([(0, 10 * HITS_PER_CHECKPOINT_MAX)], hits(HITS_PER_CHECKPOINT_MAX))
    assert news.take().done and not news


def test_spans_beyond_the_bound_wait_and_so_do_the_reports() -> None:
    news = Checkpoints()
    news.add(scattered(SPANS_PER_CHECKPOINT_MAX + 1), [])
    news.wait(Received(A, 1, 1))
    first = news.take()
    assert len(first.done) == SPANS_PER_CHECKPOINT_MAX and first.reports == () and news
    assert news.take() == Delta(tuple(scattered(SPANS_PER_CHECKPOINT_MAX + 1)[-1:]), (), (Received(A, 1, 1),))


def test_the_fullest_checkpoint_fits_an_entry_of_the_log() -> None:
    top = (1 << 64) - 1
    done = tuple((top - 1, 1) for _ in range(SPANS_PER_CHECKPOINT_MAX))
    found = tuple((top, bytes(32)) for _ in range(HITS_PER_CHECKPOINT_MAX))
    assert len(repeatable(pack(Checkpoint("j" * 64, top, done, found, top, top)))) <= ENTRY_BYTES_MAX


def test_what_is_undone_waits_until_there_is_room_for_it() -> None:
    news = Checkpoints()
    news.add(scattered(SPANS_PER_CHECKPOINT_MAX), [])
    news.take()
    news.undo(scattered(SPANS_PER_CHECKPOINT_MAX))
    news.add([(10**9 + start, 10**9 + stop) for start, stop in scattered(HALF)], [])
    deltas = [news.take(), news.take()]
    assert [(len(delta.done), len(delta.undone)) for delta in deltas] == [
        (HALF, HALF),
        (0, HALF),
    ] and not news


def told_of(spans: list[Span], evidence: Evidence, count: int = 0) -> None:
    for start, stop in spans:
        evidence.add(A, ONE, [(start, stop)], range(start, start + count), 5)


def test_rows_go_with_the_integers_they_are_about_and_are_forgotten() -> None:
    news = Checkpoints()
    news.evidence = evidence = Evidence()
    told_of([(0, 5), (7, 9), (20, 30)], evidence, 2)
    news.add([(0, 5), (7, 9)], [Hit(3, b"d")])
    delta = news.take()
    assert delta.done == ((0, 5), (7, 9)) and delta.hits == (Hit(3, b"d"),)
    assert delta.rows == (Row(0, 5, A, ONE, (0, 1), 5), Row(7, 9, A, ONE, (7, 8), 5))
    assert [row.start for row in evidence.rows()] == [20]


def test_rows_that_do_not_fit_wait_with_their_integers_and_so_do_the_reports() -> None:
    news = Checkpoints()
    news.evidence = evidence = Evidence()
    many = 2 * ROWS_BYTES_MAX // (ROW_BYTES + 100 * SHARE_BYTES)
    told_of([(200 * n, 200 * n + 100) for n in range(many)], evidence, 100)
    news.add([(0, 200 * many)], [])  # what has no rows goes along
    news.wait(Received(A, 1, 1))
    deltas = []
    while news:
        deltas.append(news.take())
        assert sum(ROW_BYTES + SHARE_BYTES * len(row.shares) for row in deltas[-1].rows) <= ROWS_BYTES_MAX
    assert [delta.cut for delta in deltas] == [True, True, False]
    assert [delta.reports for delta in deltas] == [()] * (len(deltas) - 1) + [(Received(A, 1, 1),)]
    assert len(deltas) == 3 and sum(len(delta.rows) for delta in deltas) == many
    assert IntervalSet(span for delta in deltas for span in delta.done) == IntervalSet([(0, 200 * many)])
    for delta in deltas:
        assert all(
            start <= row.start and row.stop <= stop for (start, stop) in delta.done for row in delta.rows
        )


def test_many_hits_go_before_rows() -> None:
    news = Checkpoints()
    news.evidence = evidence = Evidence()
    told_of([(0, 10**6)], evidence)
    news.add([(0, 10**6)], hits(HITS_PER_CHECKPOINT_MAX - 50))
    first, second = news.take(), news.take()
    assert first == Delta((), first.hits, (), cut=True) and len(first.hits) == HITS_PER_CHECKPOINT_MAX - 50
    assert second.done == ((0, 10**6),) and len(second.rows) == 1 and not news


def test_the_fullest_checkpoint_with_rows_fits_an_entry_of_the_log() -> None:
    top = (1 << 64) - 1
    done = tuple((top - 1, 1) for _ in range(SPANS_PER_CHECKPOINT_MAX))
    row = WireRow(top, 1, "w" * 64, ((1 << 32) - 1, (1 << 32) - 1), (), top)
    for count in (0, 900, HITS_PER_CHECKPOINT_MAX - ROW_BYTES_MAX // HIT_BYTES - 1):
        found = tuple((top, bytes(32)) for _ in range(count))
        room = min(ROWS_BYTES_MAX, HIT_BYTES * (HITS_PER_CHECKPOINT_MAX - count))
        rows = (row,) * (room // ROW_BYTES)
        whole = Checkpoint("j" * 64, top, done, found, top, top, (), top, rows)
        assert len(repeatable(pack(whole))) <= ENTRY_BYTES_MAX
    shares = WireRow(top, 1, "w" * 64, ((1 << 32) - 1,) * 2, (top,) * ROW_SHARES_MAX, top)
    assert len(pack(Checkpoint("j", 1, (), (), 0, 0, (), 0, (shares,)))) <= ROW_BYTES_MAX + 64


STARTS = st.integers(0, 4 * SPANS_PER_CHECKPOINT_MAX)
STEPS = st.lists(
    st.tuples(st.just("add"), st.lists(st.tuples(STARTS, st.integers(1, 50)), max_size=4), STARTS)
    | st.tuples(st.just("many"), st.just([]), st.sampled_from([0, HALF, SPANS_PER_CHECKPOINT_MAX]))
    | st.tuples(st.just("hits"), st.just([]), st.sampled_from([1, HITS_PER_CHECKPOINT_MAX]))
    | st.tuples(st.just("take"), st.just([]), st.just(0)),
    max_size=12,
)


@settings(max_examples=100)
@given(STEPS)
def test_whatever_the_order_all_news_come_out_once(
    steps: list[tuple[str, list[tuple[int, int]], int]],
) -> None:
    news = Checkpoints()
    added, out = IntervalSet(), IntervalSet()
    found: list[Hit] = []
    told: list[Hit] = []
    waiting: dict[Received, IntervalSet] = {}
    kept: list[Received] = []

    def take() -> None:
        delta = news.take()
        assert len(delta.done) <= SPANS_PER_CHECKPOINT_MAX and len(delta.hits) <= HITS_PER_CHECKPOINT_MAX
        told.extend(delta.hits)
        for start, stop in delta.done:
            out.add(start, stop)
            assert all(hit in told for hit in found if start <= hit.n < stop)
        for report in delta.reports:
            assert all(out.overlap(start, stop) == [(start, stop)] for start, stop in waiting[report])
        kept.extend(delta.reports)

    for number, (what, spans, size) in enumerate(steps):
        if what == "take":
            take()
            continue
        mine = [(start, start + count) for start, count in spans]
        if what == "many":
            mine = [(start + size, stop + size) for start, stop in scattered(size + 1)]
        fresh = [piece for start, stop in mine for piece in added.add(start, stop)]  # as the ledger tells
        hit = [Hit(n, b"%d" % number) for start, stop in fresh for n in range(start, stop)]
        hit = hit[: size if what == "hits" else 3]
        found += hit
        news.add(fresh, hit)
        waiting[Received(A, 1, number)] = IntervalSet(fresh)
        news.wait(Received(A, 1, number))
    while news:
        take()
    assert out == added and sorted(told) == sorted(found)
    assert kept == sorted(waiting)
