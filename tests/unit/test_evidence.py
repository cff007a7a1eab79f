"""Rows of a certificate: who searched what and which shares show it, never twice, as few rows as can be."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import NodeId, Span
from zlb.core.work import Pattern, Row
from zlb.protocols.evidence import Evidence
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
