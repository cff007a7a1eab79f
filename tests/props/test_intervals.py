"""`IntervalSet` against a naive twin, a Python set of integers: every change, and every value it returns.

Lists of a few edges stand for the long ones of a large set, so that they are cut and joined all the time.
"""

import random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import Span
from zlb.core.limits import INTEGERS_MAX
from zlb.protocols import intervals as module
from zlb.protocols.intervals import EDGES_MAX, IntervalSet

TOP = 40
SIZES = st.sampled_from([1, 1, 1, 2, 3, 5, 12, TOP])
SPANS = st.tuples(st.integers(0, TOP - 1), SIZES).map(lambda pair: (pair[0], pair[0] + pair[1]))
COMB = [(n, n + 1) for n in range(0, TOP, 2)]
"""As many intervals as there can be."""
CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "overlap", "covers"]), SPANS)
    | st.tuples(st.just("take"), st.integers(1, 12).map(lambda count: (count, 0)))
    | st.just(("clear", (0, 0))),
    max_size=40,
)


def runs(integers: set[int]) -> list[Span]:
    """A set of integers as sorted spans."""
    found: list[Span] = []
    for n in sorted(integers):
        if found and found[-1][1] == n:
            found[-1] = found[-1][0], n + 1
        else:
            found.append((n, n + 1))
    return found


def step(intervals: IntervalSet, twin: set[int], what: str, a: int, b: int) -> None:
    """Do the same to both and compare what they answer."""
    piece = set(range(a, b))
    match what:
        case "add":
            assert intervals.add(a, b) == runs(piece - twin)
            twin |= piece
        case "remove":
            assert intervals.remove(a, b) == runs(piece & twin)
            twin -= piece
        case "overlap":
            assert intervals.overlap(a, b) == runs(piece & twin)
        case "covers":
            assert intervals.covers(a, b) == (piece <= twin)
        case "take":
            lowest = runs(twin)[:1]
            taken = [(start, min(start + a, stop)) for start, stop in lowest]
            assert intervals.take_lowest(a) == (taken[0] if taken else None)
            twin -= {n for start, stop in taken for n in range(start, stop)}
        case "clear":
            intervals.clear()
            twin.clear()


def check(intervals: IntervalSet) -> None:
    """Assert what the lists of edges are to be like."""
    chunks = intervals._chunks
    lists = [intervals._edges] if chunks is None else chunks.lists
    edges = [edge for one in lists for edge in one]
    assert edges == sorted(set(edges)), "edges are not ascending"
    assert all(len(one) % 2 == 0 and len(one) <= module.EDGES_MAX for one in lists), (
        "a list is too long, or odd"
    )
    if chunks is not None:
        assert not intervals._edges and len(lists) > 1 and all(lists), "a list too few, or empty"
        assert chunks.firsts == [one[0] for one in lists], "the first edges are others"


@settings(max_examples=500)
@given(
    st.sampled_from([2, 4, 8, 16, EDGES_MAX]),
    st.lists(SPANS, max_size=5) | st.just(COMB),
    CHANGES,
    st.booleans(),
)
def test_does_as_a_set_of_integers(
    edges_max: int, first: list[Span], changes: list[tuple[str, Span]], looking: bool
) -> None:
    with patch.object(module, "EDGES_MAX", edges_max):
        intervals = IntervalSet(first)
        twin = {n for start, stop in first for n in range(start, stop)}
        for what, (a, b) in changes:
            step(intervals, twin, what, a, b)
            check(intervals)
            assert list(intervals) == runs(twin)
            assert intervals.measure == len(twin) and len(intervals) == len(runs(twin))
            assert intervals.stop == max(twin, default=-1) + 1
            if looking:
                some = range(-1, TOP + 14)
                assert [n in intervals for n in some] == [n in twin for n in some]
                assert [intervals.covers(n, n + 2) for n in some] == [{n, n + 1} <= twin for n in some]
        copy = IntervalSet(intervals)
    assert intervals == copy == IntervalSet(runs(twin)) and bool(intervals) == bool(twin)
    assert IntervalSet([*runs(twin), (TOP * 3, TOP * 3 + 1)]) != intervals


def test_a_large_set_does_as_a_small_one_and_becomes_one_again() -> None:
    count, rng = 20 * EDGES_MAX, random.Random(1)
    order = rng.sample(range(count), count)
    intervals = IntervalSet()
    for n in order:
        assert intervals.add(3 * n, 3 * n + 1) == [(3 * n, 3 * n + 1)]
    check(intervals)
    assert list(intervals) == [(3 * n, 3 * n + 1) for n in range(count)] and len(intervals) == count
    assert intervals._chunks is not None and len(intervals._chunks.lists) < 16 * count // EDGES_MAX
    assert intervals.overlap(1, 3 * count) == [(3 * n, 3 * n + 1) for n in range(1, count)]
    assert 3 * order[0] in intervals and 3 * order[0] + 1 not in intervals
    few = EDGES_MAX // 16
    for n in order[few:]:
        assert intervals.remove(3 * n - 1, 3 * n + 2) == [(3 * n, 3 * n + 1)]
    check(intervals)
    assert list(intervals) == [(3 * n, 3 * n + 1) for n in sorted(order[:few])]
    assert intervals._chunks is None, "short lists have not been joined"


def test_all_of_a_large_set_goes_at_once() -> None:
    intervals = IntervalSet((3 * n, 3 * n + 1) for n in range(2 * EDGES_MAX))
    assert intervals.add(0, 6 * EDGES_MAX) == [(3 * n + 1, 3 * n + 3) for n in range(2 * EDGES_MAX)]
    assert list(intervals) == [(0, 6 * EDGES_MAX)]
    assert intervals.remove(0, 6 * EDGES_MAX) == [(0, 6 * EDGES_MAX)]
    assert not intervals and intervals == IntervalSet() and intervals.take_lowest(1) is None


def test_reaches_to_the_last_integer() -> None:
    intervals = IntervalSet([(0, INTEGERS_MAX)])
    assert (
        intervals.measure == INTEGERS_MAX and INTEGERS_MAX - 1 in intervals and INTEGERS_MAX not in intervals
    )
    assert intervals.remove(INTEGERS_MAX - 1, INTEGERS_MAX) == [(INTEGERS_MAX - 1, INTEGERS_MAX)]
    assert intervals.take_lowest(INTEGERS_MAX) == (0, INTEGERS_MAX - 1) and not intervals


def test_an_iteration_sees_one_moment() -> None:
    intervals = IntervalSet([(0, 1), (2, 3), (4, 5)])
    for start, stop in intervals:
        intervals.remove(start, stop)
    assert not intervals


@pytest.mark.parametrize("change", ["add", "remove"])
def test_empty_and_reversed_intervals_are_a_bug_of_the_caller(change: str) -> None:
    for start, stop in ((3, 3), (4, 3)):
        with pytest.raises(AssertionError, match="empty or reversed"):
            getattr(IntervalSet(), change)(start, stop)


def test_is_mutable_and_so_not_hashable() -> None:
    with pytest.raises(TypeError):
        hash(IntervalSet())
    assert IntervalSet() != [] and repr(IntervalSet([(1, 2)])) == "IntervalSet([(1, 2)])"
