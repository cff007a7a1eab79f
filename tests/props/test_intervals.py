"""`IntervalSet` against a naive twin, a Python set of integers: every change, and every value it returns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import Span
from zlb.core.limits import INTEGERS_MAX
from zlb.protocols.intervals import IntervalSet

TOP = 40
SPANS = st.tuples(st.integers(0, TOP - 1), st.integers(1, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "overlap", "covers"]), SPANS)
    | st.tuples(st.just("take"), st.integers(1, 12).map(lambda count: (count, 0)))
    | st.just(("clear", (0, 0))),
    max_size=25,
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


@settings(max_examples=300)
@given(st.lists(SPANS, max_size=5), CHANGES)
def test_does_as_a_set_of_integers(first: list[Span], changes: list[tuple[str, Span]]) -> None:
    intervals = IntervalSet(first)
    twin = {n for start, stop in first for n in range(start, stop)}
    for what, (a, b) in changes:
        step(intervals, twin, what, a, b)
        assert list(intervals) == runs(twin)
        assert intervals.measure == len(twin) and len(intervals) == len(runs(twin))
        assert intervals.stop == max(twin, default=-1) + 1
    assert [n in intervals for n in range(-1, TOP + 14)] == [n in twin for n in range(-1, TOP + 14)]
    assert intervals == IntervalSet(runs(twin)) and bool(intervals) == bool(twin)


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
