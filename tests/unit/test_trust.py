"""How far a peer is believed: the table of Beta quantiles, BOINC's rule of checking, and what one lie costs."""

import itertools

import pytest

from zlb.core.ids import NodeId
from zlb.protocols.trust import (
    ACCEPTED_MIN,
    BATCH,
    CHECKED_MIN,
    PROBATION,
    STRANGER,
    Beta,
    Trust,
    quantile,
    remembered,
)

A = NodeId("a")


def after(passed: int, trust: Trust = STRANGER) -> Trust:
    for _ in range(passed):
        trust = trust.passed()
    return trust


@pytest.mark.parametrize(
    ("good", "bad", "lower"),
    [(0, 0, 0.05), (10, 0, 0.76), (50, 0, 0.94), (50, 1, 0.91), (200, 1, 0.977), (1000, 1, 0.995)],
)
def test_lower_bounds_are_those_of_the_table(good: int, bad: int, lower: float) -> None:
    assert Beta(good, bad).lower == pytest.approx(lower, abs=0.0051 if lower < 0.97 else 0.0006)


@pytest.mark.parametrize("n", [0, 1, 7, 100, 2500])
def test_a_quantile_without_evidence_against_is_a_power(n: int) -> None:
    for p in (0.001, 0.05, 0.5, 0.999):
        assert quantile(n + 1, 1, p) == pytest.approx(p ** (1 / (n + 1)), abs=1e-9)
        assert quantile(1, n + 1, p) == pytest.approx(1 - (1 - p) ** (1 / (n + 1)), abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 5), (21.5, 3.25), (1001, 21), (2500, 41), (2500, 2500)])
def test_a_quantile_is_one_less_that_of_the_complement(a: float, b: float) -> None:
    assert quantile(a, b, 0.05) == pytest.approx(1 - quantile(b, a, 0.95), abs=1e-8)
    assert 0 < quantile(a, b, 0.05) < a / (a + b) < quantile(a, b, 0.95) < 1


def test_a_quantile_is_what_adding_up_binomials_gives() -> None:
    """P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a), for integers."""
    x = quantile(3, 4, 0.05)
    assert 1 - (1 - x) ** 6 - 6 * x * (1 - x) ** 5 - 15 * x**2 * (1 - x) ** 4 == pytest.approx(0.05, abs=1e-8)


def test_lower_bounds_rise_with_good_and_fall_with_bad_evidence() -> None:
    for good, bad in itertools.product((0, 1, 10, 300), (0, 1, 20)):
        assert Beta(good + 1, bad).lower > Beta(good, bad).lower > Beta(good, bad + 1).lower


def test_a_stranger_is_accepted_and_one_that_was_found_out_is_not() -> None:
    assert STRANGER.accepted and STRANGER.correct.lower == pytest.approx(0.05, abs=1e-6)
    liar = STRANGER.failed()
    assert liar.correct.lower == pytest.approx(0.0024, abs=1e-4) and not liar.accepted


def test_one_failed_check_weighs_as_twenty_good_ones() -> None:
    assert after(3).failed().correct == Beta(3, 20)


def test_a_proven_peer_survives_one_failed_check() -> None:
    proven = after(100_000)
    assert proven.failed().accepted and proven.failed().correct.lower < proven.correct.lower


def test_old_evidence_fades_to_some_2500_results() -> None:
    assert after(BATCH).correct.good == pytest.approx(0.98 * BATCH) and after(BATCH).in_batch == 0
    assert after(100_000).correct.good == pytest.approx(BATCH / 0.02, rel=0.03)


def test_evidence_against_fades_too() -> None:
    assert after(BATCH, STRANGER.failed()).correct.bad == pytest.approx(0.98 * 20)


def test_boinc_the_first_ten_are_all_checked() -> None:
    assert [after(n).checked for n in range(PROBATION)] == [1.0] * PROBATION


def test_boinc_then_one_in_as_many_as_have_passed_and_never_less_than_the_floor() -> None:
    assert (after(10).checked, after(50).checked, after(1000).checked) == (0.1, 0.02, CHECKED_MIN)
    assert CHECKED_MIN == 0.005


def test_boinc_some_fifteen_of_the_first_thousand_are_checked_and_the_floor() -> None:
    """10 + ln(1000 / 10) = 14.6 by the rule alone; the floor adds what it is above 1/N from the 200th on."""
    checked = [after(n).checked for n in range(1000)]
    by_the_rule = [1.0 if n < 10 else 1 / n for n in range(1000)]
    assert sum(by_the_rule) == pytest.approx(14.6, abs=0.1)
    assert sum(checked) == pytest.approx(14.6 + 800 * 0.005 - 1.61, abs=0.1)


def test_boinc_a_failed_check_begins_it_anew() -> None:
    assert after(500).failed().checked == 1.0 and after(9, after(500).failed()).checked == 1.0


def test_a_late_lease_says_nothing_about_correctness() -> None:
    late = after(5).late()
    assert (late.correct, late.in_a_row) == (after(5).correct, 5) and late.timely == Beta(5, 1)


def test_what_is_remembered_is_what_was_known() -> None:
    for trust in (STRANGER, after(7), after(333).late().failed(), after(60, STRANGER.failed())):
        standing = trust.standing(A)
        assert standing.node == A and remembered(standing) == trust


def test_whoever_was_found_out_does_not_get_back_by_coming_again() -> None:
    assert not remembered(STRANGER.failed().standing(A)).accepted
    assert remembered(STRANGER.failed().standing(A)).correct.lower < ACCEPTED_MIN < STRANGER.correct.lower
