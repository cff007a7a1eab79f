"""Subjob sizes: small at first, at most doubling with each clean one, aimed at a time and not at a count."""

import itertools

from zlb.core.config import CoordinatorConfig
from zlb.core.limits import SECOND
from zlb.protocols.sizing import Sizer


def test_first_subjob_of_an_unknown_worker_is_small() -> None:
    assert Sizer(CoordinatorConfig()).next_count() == 16


def test_first_subjob_of_a_measured_worker_is_fifty_milliseconds() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.claim(1e6)
    assert sizer.next_count() == 50_000


def test_sizes_at_most_double_with_each_clean_subjob_up_to_a_chunk() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.claim(1e6)
    sizes = []
    for _ in range(8):
        sizes.append(sizer.next_count())
        sizer.measured(sizes[-1], sizes[-1] * SECOND // 1_000_000)
        sizer.clean(sizes[-1])
    assert all(b <= 2 * a for a, b in itertools.pairwise(sizes))
    assert sizes[-1] in range(999_990, 1_000_001)


def test_sizes_do_not_grow_without_a_clean_subjob() -> None:
    sizer = Sizer(CoordinatorConfig())
    first = sizer.next_count()
    for _ in range(10):
        sizer.measured(first, 1000)
        assert sizer.next_count() == first


def test_a_claim_is_believed_until_something_was_measured() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.measured(100, SECOND)
    sizer.claim(1e9)
    assert sizer.rate == 100


def test_a_slowed_worker_gets_less() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.clean(1 << 40)
    sizer.measured(1000, SECOND)
    before = sizer.next_count()
    for _ in range(20):
        sizer.measured(10, SECOND)
    assert before == 1000 and sizer.next_count() in range(10, 12)


def test_a_slow_worker_gets_at_least_one() -> None:
    sizer = Sizer(CoordinatorConfig())
    sizer.measured(1, 1000 * SECOND)
    assert sizer.next_count() == 1


def test_a_fixed_size_is_kept() -> None:
    sizer = Sizer(CoordinatorConfig(chunk_count=7))
    sizer.claim(1e9)
    sizer.clean(7)
    assert sizer.next_count() == 7
