"""The examiner: no honest worker is ever accused, and each way to skip or to make up samples is found out."""

import itertools
import random
from hashlib import sha256

import pytest

from zlb.core.config import Method
from zlb.core.ids import Span
from zlb.core.limits import PATTERNS_MAX, SAMPLES_PER_PART_MAX
from zlb.core.work import Pattern
from zlb.protocols.examiner import (
    BLOCKS,
    DENSE_BITS,
    DOUBT_MAX,
    NO_TERMS,
    SHARES,
    TRACES,
    CountTest,
    Examiner,
    Terms,
    chance,
)
from zlb.protocols.intervals import IntervalSet

SEEDS = range(40)


def word_of(seed: int) -> "dict[int, int]":
    class Words(dict):  # type: ignore[type-arg]
        def __missing__(self, n: int) -> int:
            self[n] = int.from_bytes(sha256(b"%d %d" % (seed, n)).digest()[:4], "big")
            return self[n]

    return Words()


def examiner(seed: int = 1, method: Method = Method.SHARES) -> Examiner:
    return Examiner(word_of(seed).__getitem__, method, random.Random(seed))


def samples(judge: Examiner, patterns: tuple[Pattern, ...], spans: list[Span]) -> list[list[int]]:
    """What an honest worker reports."""
    return [
        [n for start, stop in spans for n in range(start, stop) if judge.is_sample(pattern, n)]
        for pattern in patterns
    ]


def cut(span: Span, rng: random.Random) -> list[Span]:
    """A lease in pieces as they may be reported, in any order."""
    edges = sorted({*span, *(rng.randint(*span) for _ in range(rng.randrange(5)))})
    pieces = list(itertools.pairwise(edges))
    rng.shuffle(pieces)
    return pieces


@pytest.mark.parametrize("method", [Method.SHARES, Method.SPOT, Method.QUORUM])
@pytest.mark.parametrize(
    ("size", "rate"), [(1, 0.0), (16, 0.0), (16, 1e3), (1000, 0.0), (1000, 1e5), (5000, 1e3)]
)
def test_an_honest_worker_is_never_accused(method: Method, size: int, rate: float) -> None:
    for seed in SEEDS:
        judge, test, rng = examiner(seed, method), CountTest(), random.Random(seed)
        for number in range(max(3, 3000 // size // len(SEEDS))):
            span = number * size, (number + 1) * size
            terms = judge.terms([span], rate)
            for piece in cut(span, rng):
                found = samples(judge, terms.reported, [piece])
                assert judge.wrong(terms, test, [piece], found) == ""


def test_an_honest_worker_is_never_accused_of_several_pieces_in_one_report() -> None:
    for seed in SEEDS:
        judge, test, rng = examiner(seed), CountTest(), random.Random(seed)
        terms = judge.terms([(0, 2000)], 0.0)
        pieces = cut((0, 2000), rng)
        for some in (pieces[::2], pieces[1::2]):
            assert judge.wrong(terms, test, some, samples(judge, terms.reported, sorted(some))) == ""


def test_an_honest_worker_is_hardly_ever_doubted_over_thousands_of_reports() -> None:
    """By Poisson's law itself, with the counts of 200 workers over 500 reports: none comes near."""
    rng, doubt = random.Random(5), 0.0
    for _ in range(200):
        test = CountTest()
        for _ in range(500):
            integers, p = rng.choice([(16, 1 / 8), (200, 1 / 16), (64, 1 / 64)])
            shares = sum(rng.random() < p for _ in range(integers)) if integers < 100 else _poisson(rng, 12.5)
            assert not test.count(shares, integers * p)
            doubt = max(doubt, *test.doubts)
    assert doubt < DOUBT_MAX / 1.3


def _poisson(rng: random.Random, mean: float) -> int:
    count, at = 0, rng.expovariate(1.0)
    while at < mean:
        count, at = count + 1, at + rng.expovariate(1.0)
    return count


@pytest.mark.parametrize(("size", "rate"), [(16, 0.0), (1000, 0.0), (1000, 1e5), (5000, 1e3)])
def test_whoever_does_nothing_is_found_out_in_its_first_lease(size: int, rate: float) -> None:
    for seed in SEEDS:
        judge = examiner(seed)
        terms = judge.terms([(0, size)], rate)
        assert judge.wrong(terms, CountTest(), [(0, size)], [[] for _ in terms.reported])


def test_whoever_does_nothing_is_found_out_by_the_count_alone() -> None:
    test = CountTest()
    assert test.count(0, SHARES), "64 are expected of a lease, and none is there"


@pytest.mark.parametrize(("skipped", "shares"), [(0.1, 6000), (0.25, 900), (0.5, 200), (0.9, 45)])
def test_whoever_skips_a_part_is_found_out_by_the_count_in_time(skipped: float, shares: int) -> None:
    """The more is skipped, the fewer shares have to be expected until that is beyond doubt."""
    rng = random.Random(1)
    for _ in range(20):
        test, expected = CountTest(), 0
        while not test.count(_poisson(rng, 30 * (1 - skipped)), 30):
            expected += 30
            assert expected < 2 * shares


def test_a_long_honest_past_is_no_shield() -> None:
    test = CountTest()
    for _ in range(1000):
        assert not test.count(SHARES + 20, SHARES)
    assert test.doubts == [0.0] * 3 and test.count(0, SHARES)


def test_whoever_leaves_out_a_planted_sample_is_found_out_and_nobody_else() -> None:
    for seed in SEEDS:
        judge = examiner(seed)
        terms = judge.terms([(0, 300)], 0.0)
        found = samples(judge, terms.reported, [(0, 300)])
        index, n = terms.planted[seed % len(terms.planted)]
        found[index].remove(n)
        assert judge.wrong(terms, CountTest(), [(0, 300)], found) == f"did not find {n}, which it had to"


def test_a_planted_sample_in_what_is_not_reported_yet_is_not_missed() -> None:
    judge = examiner()
    terms = judge.terms([(0, 300)], 0.0)
    _, n = terms.planted[0]
    done = [span for span in ((0, n), (n + 1, 300)) if span[0] < span[1]]
    others = [other for _, other in terms.planted if other != n]
    assert judge.wrong(terms, CountTest(), done, samples(judge, terms.reported, done)) == ""
    assert others, "of several"


def test_each_planted_sample_is_one_and_lies_in_the_lease() -> None:
    for seed in SEEDS:
        for spans in ([(5, 6)], [(100, 116)], [(7, 20), (20, 40), (90, 95)]):
            judge = examiner(seed)
            terms = judge.terms(spans, 0.0)
            assert len(terms.patterns) == PATTERNS_MAX and len(terms.planted) == PATTERNS_MAX - 1
            for index, n in terms.planted:
                assert judge.is_sample(terms.patterns[index], n) and n in IntervalSet(spans)
            assert all(pattern.value & ~pattern.mask == 0 for pattern in terms.patterns)


def test_planted_samples_are_everywhere_in_a_lease() -> None:
    planted = {
        n // 25 for seed in range(100) for _, n in examiner(seed).terms([(0, 50), (50, 100)], 0.0).planted
    }
    assert planted == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "change",
    [
        lambda some, fake: sorted([*some, fake]),
        lambda some, fake: some[::-1],
        lambda some, fake: sorted([*some, some[0]]),
        lambda some, fake: [*some, some[-1]],
        lambda some, fake: [some[1], some[0], *some[2:]],
    ],
    ids=["forged", "reversed", "doubled", "the last twice", "unsorted"],
)
def test_samples_that_are_none_or_not_in_order_are_found_out(change) -> None:  # type: ignore[no-untyped-def]
    judge = examiner()
    terms = judge.terms([(0, 2000)], 0.0)
    for index, pattern in enumerate(terms.reported):
        found = samples(judge, terms.reported, [(0, 2000)])
        if len(found[index]) < 2:
            continue
        fake = next(n for n in range(2000) if not judge.is_sample(pattern, n))
        found[index] = change(found[index], fake)
        assert "as a sample, which it is not" in judge.wrong(terms, CountTest(), [(0, 2000)], found)


def test_true_samples_of_what_is_not_reported_as_done_are_found_out() -> None:
    judge = examiner()
    terms = judge.terms([(0, 2000)], 0.0)
    found = samples(judge, terms.reported, [(0, 2000)])
    assert judge.wrong(terms, CountTest(), [(0, 1000)], found)


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_samples_of_another_number_of_patterns_are_found_out(number: int) -> None:
    judge = examiner()
    terms = judge.terms([(0, 16)], 0.0)
    why = judge.wrong(terms, CountTest(), [(0, 16)], [[]] * number)
    assert why == f"reported samples of {number} patterns, not of {len(terms.reported)}"


def test_a_report_without_news_is_not_judged() -> None:
    judge = examiner()
    assert judge.wrong(judge.terms([(0, 16)], 0.0), CountTest(), [], []) == ""


def test_a_batch_of_short_leases_is_asked_for_the_same_and_each_is_judged_alone() -> None:
    for seed in SEEDS:
        judge, test = examiner(seed, Method.SPOT), CountTest()
        spans = [(i * 20, i * 20 + 20) for i in range(10)]
        terms = judge.terms(spans, 1e5)
        assert not terms.blocks and len(terms.patterns) == PATTERNS_MAX, "nor is there a trace of several"
        for span in spans:
            assert judge.wrong(terms, test, [span], samples(judge, terms.reported, [span])) == ""
        skipped = next(span for span in spans for _, n in terms.planted if span[0] <= n < span[1])
        assert "did not find" in judge.wrong(terms, test, [skipped], [[] for _ in terms.reported])


@pytest.mark.parametrize("method", list(Method))
def test_of_a_kernel_without_samples_nothing_is_asked(method: Method) -> None:
    judge = Examiner(None, method, random.Random(1))
    assert judge.method is Method.NONE and judge.terms([(0, 10**6)], 1e6) is NO_TERMS
    assert judge.wrong(NO_TERMS, CountTest(), [(0, 10**6)], []) == ""


def test_without_checking_nothing_is_asked() -> None:
    assert examiner(method=Method.NONE).terms([(0, 10**6)], 1e6) is NO_TERMS


def test_spot_asks_for_a_trace_in_the_last_place_and_for_all_others_as_before() -> None:
    terms = examiner(method=Method.SPOT).terms([(0, 1 << 20)], 0.0)
    assert (terms.blocks, len(terms.patterns), len(terms.planted)) == (BLOCKS, PATTERNS_MAX, PATTERNS_MAX - 2)
    assert terms.trace == terms.patterns[-1] and terms.reported == terms.patterns[:-1]
    assert {index for index, _ in terms.planted} == {1, 2}, "none is planted in what is only committed to"
    assert (1 << 20) * chance(terms.patterns[-1]) == TRACES


def test_spot_asks_no_trace_of_a_lease_with_fewer_integers_than_blocks() -> None:
    terms = examiner(method=Method.SPOT).terms([(0, BLOCKS - 1)], 0.0)
    assert terms.blocks == 0 and terms.trace is None and terms.reported == terms.patterns
    assert examiner(method=Method.SPOT).terms([(0, BLOCKS)], 0.0).blocks == BLOCKS


def test_a_second_of_work_has_some_sixty_four_shares_and_so_has_a_longer_lease() -> None:
    for count, rate in ((1 << 20, float(1 << 20)), (1 << 24, float(1 << 20)), (1 << 24, 0.0)):
        share = examiner().terms([(0, count)], rate).share
        assert share is not None and max(count, rate) * chance(share) == SHARES
    share = examiner().terms([(0, 1 << 16)], float(1 << 20)).share
    assert share is not None and (1 << 16) * chance(share) == SHARES / 16, "a sixteenth of a second"


def test_of_few_integers_every_eighth_at_most_is_a_sample() -> None:
    for count in (1, 2, 16, 63, 500):
        terms = examiner(method=Method.SPOT).terms([(0, count)], 0.0)
        assert all(pattern.mask.bit_count() >= DENSE_BITS for pattern in terms.patterns)


def test_what_is_asked_of_the_longest_lease_fits_a_report() -> None:
    for rate in (0.0, 1e9, 1e18):
        terms = examiner(method=Method.SPOT).terms([(0, 1 << 63)], rate)
        assert all(0 < pattern.mask < 1 << 32 for pattern in terms.patterns)
    most = max((10**7 >> p.mask.bit_count()) for p in examiner().terms([(0, 10**7)], 1e6).patterns)
    assert most < SAMPLES_PER_PART_MAX // 2


def test_terms_of_nothing_have_neither_share_nor_trace() -> None:
    assert (Terms().share, Terms().trace, Terms().reported) == (None, None, ())
