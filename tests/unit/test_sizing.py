"""Subjob sizes: small at first, at most doubling with each clean one, aimed at a time and not at a count."""

import itertools

from zlb.core.config import CoordinatorConfig, Scheme
from zlb.core.limits import MS, SECOND
from zlb.protocols.sizing import Sizer

PLENTY = 1 << 50


def test_first_subjob_of_an_unknown_worker_is_small() -> None:
    assert Sizer(CoordinatorConfig()).next_count(PLENTY, 1.0, 0) == 16


def test_first_subjob_of_a_measured_worker_is_fifty_milliseconds() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.claim(1e6)
    assert sizer.next_count(PLENTY, 1.0, 0) == 50_000


def test_sizes_at_most_double_with_each_clean_subjob() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.claim(1e6)
    sizes = []
    for _ in range(8):
        sizes.append(sizer.next_count(PLENTY, 1.0, 0))
        sizer.measured(sizes[-1], sizes[-1] * SECOND // 1_000_000)
        sizer.clean(sizes[-1])
    assert all(b <= 2 * a for a, b in itertools.pairwise(sizes))
    assert sizes[-1] in range(6_300_000, 6_400_001)


def test_sizes_do_not_grow_without_a_clean_subjob() -> None:
    sizer = Sizer(CoordinatorConfig())
    first = sizer.next_count(PLENTY, 1.0, 0)
    for _ in range(10):
        sizer.measured(first, 1000)
        assert sizer.next_count(PLENTY, 1.0, 0) == first


def test_a_claim_is_believed_until_something_was_measured() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.measured(100, SECOND)
    sizer.claim(1e9)
    assert sizer.rate == 100


def test_a_slowed_worker_gets_less() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.clean(1 << 40)
    sizer.measured(1000, SECOND)
    before = sizer.next_count(PLENTY, 1.0, 0)
    for _ in range(20):
        sizer.measured(10, SECOND)
    assert before == 10_000 and sizer.next_count(PLENTY, 1.0, 0) in range(100, 110)


def test_a_slow_worker_gets_at_least_one() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.measured(1, 1000 * SECOND)
    assert sizer.next_count(PLENTY, 1.0, 0) == 1


def test_a_fixed_size_is_kept() -> None:
    sizer = Sizer(CoordinatorConfig(chunk_count=7))
    sizer.claim(1e9)
    sizer.clean(7)
    assert sizer.next_count(PLENTY, 1.0, 0) == 7


def proven(rate: float = 1e6, **config: float) -> Sizer:
    """Of a worker that has done large subjobs."""
    sizer = Sizer(CoordinatorConfig(**config))  # type: ignore[arg-type]
    sizer.measured(int(rate), SECOND)
    sizer.clean(1 << 60)
    return sizer


def test_a_slot_gets_its_share_of_what_is_left_by_x() -> None:
    assert proven().next_count(9_000_000, 3e6, 0) == 1_000_000  # a third of the power, x = 3
    assert proven(batches=2).next_count(9_000_000, 3e6, 0) == 1_500_000


def test_no_subjob_is_longer_than_a_chunk() -> None:
    assert proven().next_count(PLENTY, 1e6, 0) == 10_000_000


def test_at_the_end_subjobs_last_two_round_trips_or_the_smallest_time() -> None:
    assert proven().next_count(100, 3e6, 0) == 20_000
    assert proven().next_count(100, 3e6, 50 * MS) == 100_000


def test_the_first_subjob_lasts_four_round_trips_at_least() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.claim(1e6)
    assert sizer.next_count(PLENTY, 1e6, 100 * MS) == 400_000


def test_the_seeds_scheme_is_a_fixed_number_of_round_trips() -> None:
    sizer = proven(scheme=Scheme.SEED, seed_factor=2.5)  # type: ignore[arg-type]
    assert [sizer.next_count(left, 3e6, 40 * MS) for left in (100, PLENTY)] == [100_000, 100_000]
    assert sizer.next_count(PLENTY, 3e6, 0) == 16, "until a round trip is known"
