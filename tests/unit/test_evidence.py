"""Rows of a certificate: who searched what and which shares show it, never twice, as few rows as can be."""

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import NodeId, Span
from zlb.core.limits import ROW_SHARES_MAX, SHARES_PER_JOB
from zlb.core.work import Pattern, Row
from zlb.protocols.evidence import ROW_BYTES, SHARE_BYTES, Evidence, thinner
from zlb.protocols.examiner import is_share_pattern, share_pattern
from zlb.protocols.intervals import IntervalSet

A, B = NodeId("a"), NodeId("b")
ONE, TWO = Pattern(7, 1), Pattern(7, 2)
ALL = IntervalSet([(0, 1 << 64)])


def shares(pattern: Pattern, start: int, stop: int) -> tuple[int, ...]:
    return tuple(n for n in range(start, stop) if n & pattern.mask == pattern.value)


def add(evidence: Evidence, worker: NodeId, pattern: Pattern | None, *spans: Span, at_ns: int = 5) -> None:
    told = [n for span in spans for n in shares(pattern, *span)] if pattern else []
    evidence.add(worker, pattern, spans, told, at_ns)


def test_a_row_says_who_searched_what_when_and_which_shares_show_it() -> None:
    evidence = Evidence()
    add(evidence, A, ONE, (0, 20))
    assert evidence.rows(ALL) == (Row(0, 20, A, ONE, (1, 9, 17), 5),)


def test_each_span_of_a_report_has_its_own_shares() -> None:
    evidence = Evidence()
    evidence.add(A, ONE, [(0, 5), (9, 20)], [1, 7, 9, 17], 5)
    assert [(row.start, row.stop, row.shares) for row in evidence.rows(ALL)] == [
        (0, 5, (1,)),
        (9, 20, (9, 17)),
    ]


def test_neighbours_that_differ_in_nothing_else_become_one_in_any_order() -> None:
    for order in ([(0, 8), (8, 16), (16, 32)], [(16, 32), (8, 16), (0, 8)], [(0, 8), (16, 32), (8, 16)]):
        evidence = Evidence()
        for span in order:
            add(evidence, A, ONE, span)
        assert evidence.rows(ALL) == (Row(0, 32, A, ONE, shares(ONE, 0, 32), 5),), order


def test_neighbours_of_another_worker_or_pattern_stay_apart() -> None:
    evidence = Evidence()
    add(evidence, A, ONE, (0, 8))
    add(evidence, B, ONE, (8, 16))
    add(evidence, B, TWO, (16, 24))
    add(evidence, B, None, (24, 32))
    assert [(row.worker, row.pattern) for row in evidence.rows(ALL)] == [
        (A, ONE),
        (B, ONE),
        (B, TWO),
        (B, None),
    ]


def test_a_worker_whose_word_is_all_there_is_has_no_shares() -> None:
    evidence = Evidence()
    evidence.add(A, None, [(0, 8)], [1, 2], 5)
    assert evidence.rows(ALL) == (Row(0, 8, A, None, (), 5),)


def test_what_is_to_be_searched_anew_is_shown_by_nobody() -> None:
    evidence = Evidence()
    add(evidence, A, ONE, (0, 32))
    evidence.remove([(8, 16), (30, 40)])
    assert [(*row[:2], row.shares) for row in evidence.rows(ALL)] == [(0, 8, (1,)), (16, 30, (17, 25))]
    add(evidence, B, TWO, (8, 16))
    assert [row.worker for row in evidence.rows(ALL)] == [A, B, A]


def test_rows_end_where_what_is_wanted_ends() -> None:
    evidence = Evidence()
    add(evidence, A, ONE, (0, 32))
    rows = evidence.rows(IntervalSet([(2, 10), (20, 99)]))
    assert [(*row[:2], row.shares) for row in rows] == [(2, 10, (9,)), (20, 32, (25,))]
    assert evidence.rows(IntervalSet()) == ()


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 90), st.integers(1, 20), st.integers(0, 3)),
    max_size=25,
)


@settings(max_examples=200)
@given(STEPS)
def test_whatever_the_order_each_integer_has_the_row_of_whoever_searched_it_last(
    steps: list[tuple[str, int, int, int]],
) -> None:
    evidence, truth = Evidence(), {}
    for what, start, count, who in steps:
        worker, pattern = (A, B)[who % 2], (ONE, TWO)[who // 2]
        if what == "remove":
            evidence.remove([(start, start + count)])
            for n in range(start, start + count):
                truth.pop(n, None)
        else:
            free = IntervalSet([(start, start + count)])
            for n in truth:
                free.remove(n, n + 1)
            spans = list(free)
            random.Random(count).shuffle(spans)
            evidence.add(worker, pattern, spans, sorted(n for s in spans for n in shares(pattern, *s)), 1)
            truth.update((n, (worker, pattern)) for span in spans for n in range(*span))
    rows = evidence.rows(ALL)
    assert {n: (row.worker, row.pattern) for row in rows for n in range(row.start, row.stop)} == truth
    assert sum(row.stop - row.start for row in rows) == len(truth)
    for row in rows:
        assert row.pattern is not None and row.shares == shares(row.pattern, row.start, row.stop)
    assert list(rows) == sorted(rows, key=lambda row: row.start)


def test_taken_rows_are_those_that_fit_and_are_forgotten() -> None:
    evidence = Evidence()
    for n in range(4):
        add(evidence, A, ONE, (10 * n, 10 * n + 8))
    (one,) = evidence.rows(IntervalSet([(0, 8)]))
    spans, rows = evidence.take([(0, 8), (9, 25), (30, 60)], 2 * (ROW_BYTES + SHARE_BYTES * len(one.shares)))
    assert [(row.start, row.stop) for row in rows] == [(0, 8), (10, 18)]
    assert spans == [(0, 8), (9, 20)]
    spans, rows = evidence.take([(20, 25), (30, 60)], 1)  # one at least
    assert [(row.start, row.stop) for row in rows] == [(20, 25)] and spans == [(20, 25)]
    spans, rows = evidence.take([(30, 60)], 1 << 20)
    assert [(row.start, row.stop) for row in rows] == [(30, 38)] and spans == [(30, 60)]
    assert [(row.start, row.stop) for row in evidence.rows()] == [(25, 28)]


@settings(max_examples=100)
@given(st.integers(0, (1 << 32) - 1), st.integers(1, 1 << 20), st.integers(0, 1000))
def test_thinned_rows_keep_about_as_many_shares_as_there_is_room_for(
    share: int, size: int, seed: int
) -> None:
    words = [random.Random(seed + n).getrandbits(32) for n in range(4096)]
    pattern = share_pattern(share, 7)
    all_of_them = tuple(n for n in range(4096) if words[n] & 7 == pattern.value)
    thin = thinner(lambda: size * SHARES_PER_JOB, share, words.__getitem__)
    evidence = Evidence(thin=thin)
    evidence.add(A, pattern, [(0, 4096)], all_of_them, 5)
    (row,) = evidence.rows()
    assert row.pattern is not None and is_share_pattern(share, row.pattern) and row.pattern.mask >= 7
    assert row.shares == tuple(n for n in range(4096) if words[n] & row.pattern.mask == row.pattern.value)
    assert 2**-0.51 < (row.pattern.mask + 1) / max(8, size) < 2**0.51


def test_the_word_of_a_worker_is_not_thinned() -> None:
    row = Row(0, 9, A, None, (), 5)
    for word in (None, int):
        assert thinner(lambda: 1 << 60, 0, word)(row) is row


def test_a_row_has_not_more_shares_than_fit() -> None:
    evidence, many = Evidence(), range(0, 20 * ROW_SHARES_MAX, 8)
    evidence.add(A, Pattern(7, 0), [(0, 20 * ROW_SHARES_MAX)], many, 5)
    rows = evidence.rows()
    assert max(len(row.shares) for row in rows) <= ROW_SHARES_MAX and [
        n for row in rows for n in row.shares
    ] == [*many]
    assert rows[0].start == 0 and rows[-1].stop == 20 * ROW_SHARES_MAX
    assert all(before.stop == row.start for before, row in pairwise(rows))
    assert evidence.size == sum(ROW_BYTES + SHARE_BYTES * len(row.shares) for row in rows)
