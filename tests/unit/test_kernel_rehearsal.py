"""The kernels `spin` and `sleep`: integers take the time they are given, and hit, fail and are sampled as asked."""

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.kernels import KernelError, load_kernel
from zlb.kernels.interface import Found, Pattern
from zlb.kernels.rehearsal import (
    BLOCK,
    CAPACITY,
    CRASH_EXIT,
    LISTED_MAX,
    MAY_CRASH_VARIABLE,
    PATTERNS_MAX,
    SLEEP,
    SPIN,
    digest,
    hash_rounds,
    read_part,
    rounds_per_s,
    sampled_word,
)
from zlb.wire import values

BOTH = pytest.mark.parametrize("kernel", [SPIN, SLEEP], ids=lambda kernel: kernel.name)
QUICK = 1e-9
SECONDS_MAX = 30
STOP_S_MAX = 0.05
TRIES = 5
"""The machine may be busy: what is timed has to go well once."""


def flag(value: int = 0) -> npt.NDArray[np.uint8]:
    return np.array([value], np.uint8)


def searched(kernel: Any, params: dict[str, Any], start: int, stop: int, *more: Any) -> Found:
    return kernel.prepare(params).search(start, stop, flag(), *(more or (10**9,)))


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    return thread, answers


def test_they_are_installed() -> None:
    assert load_kernel("spin") is SPIN
    assert load_kernel("sleep") is SLEEP


REFUSED: list[tuple[Any, str]] = [
    (None, "a map"),
    ([], "a map"),
    ({1: 2}, "names are text, not int"),
    ({"second": 1}, "unknown parameter 'second'; known: crash, every, fail, hang, hits, seconds, slow"),
    ({"\x1b[2J" * 1000: 1}, r"unknown parameter '\\x1b"),
    ({"skip": 0.5}, "unknown parameter 'skip'"),
    *(
        ({"seconds": bad}, "seconds is a number from 1e-12 to 86400")
        for bad in (
            0,
            -1,
            0.0,
            90_000,
            math.nan,
            math.inf,
            True,
            None,
            "",
            "nan",
            "x",
            "1" * 99,
            [1],
            10**5000,
        )
    ),
    *(
        ({name: bad}, f"{name} is an integer from 0 to ")
        for name in ("hits", "fail", "crash", "hang")
        for bad in (-1, CAPACITY, True, 1.0, "7", None, [1, "2"], [[1]], {}, 10**5000, [10**5000])
    ),
    ({"fail": [1] * (LISTED_MAX + 1)}, "fail lists 10001 integers"),
    *(({"every": bad}, "every is an integer from 1") for bad in (0, -1, True, "2", 2.0, None, [1], 2**65)),
    ({"every": 3, "hits": [1]}, "only one of both"),
    ({"fail": [5, 17], "hang": 17}, "17 cannot both fail and hang"),
    *(
        ({"slow": bad}, "slow is a map of two")
        for bad in (1, [], {}, {"from": 1}, {"from": 1, "factor": 2, "more": 3})
    ),
    ({"slow": {"from": -1, "factor": 2}}, "slow: from is an integer"),
    ({"slow": {"from": 1, "factor": 0}}, "slow: factor is a number from 1e-06"),
]


@BOTH
@pytest.mark.parametrize(("params", "why"), REFUSED, ids=range(len(REFUSED)))
def test_bad_parameters_are_refused_in_one_line(kernel: Any, params: Any, why: str) -> None:
    asks: list[Callable[[Any], Any]] = [kernel.tests_per_hit, kernel.checker, kernel.sampler, kernel.prepare]
    for ask in (lambda params: kernel.validate(params, []), kernel.slot_per_s, *asks):
        with pytest.raises(KernelError, match=why) as refusal:
            ask(params)
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 300


@BOTH
@pytest.mark.parametrize("span", [(-1, 5), (5, 4), (0, CAPACITY + 1), (0, True), ("0", 5), (0, 10**5000)])
def test_bad_ranges_are_refused(kernel: Any, span: Any) -> None:
    with pytest.raises(KernelError):
        kernel.validate({}, [(0, 1), span])
    with pytest.raises(KernelError):
        searched(kernel, {}, *span)


@BOTH
def test_bad_asks_are_refused(kernel: Any) -> None:
    for hits_max, patterns in (
        (0, ()),
        (1, [Pattern(1, 0)] * (PATTERNS_MAX + 1)),
        (1, [Pattern(1 << 32, 0)]),
    ):
        with pytest.raises(KernelError):
            searched(kernel, {}, 0, 9, hits_max, patterns)
    for n in (-1, CAPACITY):
        assert kernel.checker({"every": 1})(n) is None
        with pytest.raises(KernelError):
            kernel.sampler({})(n)


def test_what_a_command_line_can_say() -> None:
    part = read_part({"seconds": "1e-3", "fail": 17, "hits": [9, 3, 9], "slow": {"from": 5, "factor": 2}})
    assert (part.seconds, part.ordeals, part.hits) == (0.001, ((17, "fail"),), (3, 9))
    assert values.unpack(values.pack({"hits": [3, 9]})) == {"hits": [3, 9]}


def test_words_are_those_of_splitmix64() -> None:
    # The generator's first outputs for seed 0, as its author prints them; n is how far the state has gone.
    step = 0x9E3779B97F4A7C15
    first = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    words = [sampled_word(n * step % CAPACITY) for n in range(3)]
    assert words == [value & 0xFFFFFFFF for value in first]


def test_estimates() -> None:
    assert SLEEP.tests_per_hit({"every": 1000}) == 1000
    assert SLEEP.tests_per_hit({}) == SLEEP.tests_per_hit({"hits": [5]}) == math.inf
    assert SPIN.slot_per_s({"seconds": 0.25}) == 4


@BOTH
def test_a_digest_shows_integer_and_word(kernel: Any) -> None:
    shown = kernel.checker({"every": 1})(828028)
    assert shown == digest(828028)
    assert shown[:28] == sha256(b"828028").digest()[:28]
    assert kernel.prepare({}).sampled_word(shown) == kernel.sampler({})(828028)


def whole(part: dict[str, Any], start: int, stop: int, hits_max: int, patterns: list[Pattern]) -> Found:
    """What a search is to find, one integer at a time."""
    check, hits, n = SLEEP.checker(part), [], start
    while n < stop and len(hits) < hits_max:
        if (proof := check(n)) is not None:
            hits.append((n, proof))
        n += 1
    samples = ([m for m in range(start, n) if sampled_word(m) & mask == value] for mask, value in patterns)
    return Found(n, tuple(hits), tuple(tuple(some) for some in samples))  # type: ignore[arg-type]


EDGES = (0, BLOCK, 2**32, 2**63, CAPACITY)


@given(
    st.sampled_from(EDGES),
    st.integers(-60, 60),
    st.integers(0, 60),
    st.one_of(
        st.builds(lambda n: {"every": n}, st.integers(1, 20) | st.integers(1, CAPACITY)),
        st.builds(lambda n: {"hits": n}, st.lists(st.sampled_from(EDGES[:-1]))),
    ),
    st.integers(1, 10) | st.just(2**70),
    st.lists(st.builds(Pattern, st.integers(0, 15), st.integers(0, 15)), max_size=PATTERNS_MAX),
)
def test_searches_are_exact(
    edge: int, offset: int, size: int, part: dict[str, Any], hits_max: int, patterns: list[Pattern]
) -> None:
    start = min(max(edge + offset, 0), CAPACITY)
    stop = min(start + size, CAPACITY)
    found = searched(SLEEP, {"seconds": QUICK, **part}, start, stop, hits_max, patterns)
    assert found == whole(part, start, stop, hits_max, patterns)


@BOTH
def test_long_searches_are_exact(kernel: Any) -> None:
    patterns, size = [Pattern(255, 7), Pattern(0xFFFF0000, 0x12340000)], 5 * BLOCK + 3
    found = searched(kernel, {"seconds": QUICK, "every": 999}, 1, size, 10**6, patterns)
    assert found == whole({"every": 999}, 1, size, 10**6, patterns)


@BOTH
def test_integers_take_their_time(kernel: Any) -> None:
    clock = time.thread_time if kernel.spins else time.perf_counter
    search = kernel.prepare({"seconds": 0.001, "slow": {"from": 20, "factor": 4}})
    begun = clock()
    assert search.search(0, 25, flag(), 1).stopped_at == 25
    took = clock() - begun
    assert took >= 0.04
    assert took < SECONDS_MAX


def test_costs_and_progress_agree() -> None:
    part = read_part({"seconds": 2, "slow": {"from": 10, "factor": 0.5}})
    for stop in range(4, 20):
        cost = part.cost_s(4, stop)
        assert cost == sum(2.0 if n < 10 else 1.0 for n in range(4, stop))
        assert part.reached(4, cost + 0.1) == stop
    assert part.reached(12, 3.5) == 15


@BOTH
def test_a_set_flag_stops_at_once(kernel: Any) -> None:
    params = {"seconds": 1, "hang": 7, "fail": 8}
    for start in (5, 7):
        assert kernel.prepare(params).search(start, 10**6, flag(1), 1) == Found(start, (), ())


@BOTH
@pytest.mark.parametrize("params", [{"seconds": 0.001, "every": 10}, {"seconds": QUICK, "hang": 0}], ids=str)
def test_the_flag_stops_in_time(kernel: Any, params: dict[str, Any]) -> None:
    search, delays = kernel.prepare(params), []
    for _ in range(TRIES):
        raised = flag()
        thread, answers = in_thread(
            lambda raised=raised: search.search(0, 2**40, raised, 10**9, [Pattern(3, 1)])
        )
        thread.join(timeout=0.1)
        assert thread.is_alive()
        raised[0] = 1
        begun = time.perf_counter()
        thread.join(timeout=SECONDS_MAX)
        delays.append(time.perf_counter() - begun)
        (found,) = answers
        if "hang" in params:
            assert found == Found(0, (), ((),))
        else:
            assert 0 < found.stopped_at < 2**30
            assert found == whole(params, 0, found.stopped_at, 10**9, [Pattern(3, 1)])
    assert min(delays) < STOP_S_MAX


def test_hashing_leaves_the_interpreter_to_others() -> None:
    rounds, gaps = int(0.3 * rounds_per_s()), []
    for _ in range(TRIES):
        thread, _ = in_thread(lambda: hash_rounds(rounds))
        longest, last = 0.0, time.perf_counter()
        while thread.is_alive():
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        gaps.append(max(longest, time.perf_counter() - last))
    assert min(gaps) < 0.1  # one that kept the lock would have had it for 0.3 s


@BOTH
def test_failures_come_where_they_are_asked_for(kernel: Any) -> None:
    params = {"seconds": QUICK, "fail": [40, 17], "hits": [3, 16]}
    assert searched(kernel, params, 0, 17, 99).stopped_at == 17
    assert searched(kernel, params, 0, 99, 2).stopped_at == 17
    for start in (0, 17):
        with pytest.raises(KernelError, match=r"^integer 17 fails as asked$"):
            searched(kernel, params, start, 99, 99)
    assert searched(kernel, params, 18, 40, 1).stopped_at == 40


CRASHES = """
import sys, numpy as np
from zlb.kernels import KernelError, load_kernel
try:
    load_kernel(sys.argv[1]).prepare({"crash": [17]}).search(0, 99, np.zeros(1, np.uint8), 1)
except KernelError as error:
    print(error)
"""


@BOTH
def test_only_who_allows_it_is_crashed(kernel: Any, root: Path) -> None:
    def crash(allowed: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, MAY_CRASH_VARIABLE: allowed}
        command = [sys.executable, "-c", CRASHES, kernel.name]
        return subprocess.run(
            command, cwd=root, env=env, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )

    done = crash("1")
    assert (done.returncode, done.stdout) == (CRASH_EXIT, "")
    assert done.stderr == "zlb: integer 17 crashes this process as asked\n"
    done = crash("")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "integer 17 is to crash this process, which takes ZLB_MAY_CRASH=1\n"


def test_describing_a_job_needs_no_numpy(root: Path) -> None:
    code = (
        "import sys; from zlb.kernels import load_kernel as load; k = load('spin');"
        "k.validate({'every': 2}, [(0, 9)]); k.checker({'every': 2})(4); k.sampler({})(4);"
        "assert not {'numpy', 'numba', 'llvmlite'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=SECONDS_MAX)
