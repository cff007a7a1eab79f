"""The compiled search against a loop over hashlib: same hits, at every edge of ranges, numbers and blocks."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise, product
from math import isqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.kernels import fips180, hash_search
from zlb.kernels.bitcoin import header_params
from zlb.kernels.encoding import ENCODINGS
from zlb.kernels.hash_search import HashSearch
from zlb.kernels.hashes import SHA1, SHA256, SHA256D, HashKernel
from zlb.kernels.interface import Found, KernelError, Pattern
from zlb.kernels.matching import Rule
from zlb.kernels.paths import NUMPY, PATHS, VARIABLE, possible
from zlb.kernels.puzzle import AFFIX_BYTES_MAX, Puzzle


@pytest.fixture(params=["chosen", *PATHS, NUMPY])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has all searches go one way through the CPU, short numbers included."""
    name: str = request.param
    if name not in ("chosen", NUMPY):
        if PATHS[name] not in possible():
            pytest.skip(f"this CPU has no {name}")
        monkeypatch.setattr(hash_search, "SHORT", 0)
    if name != "chosen":
        monkeypatch.setenv(VARIABLE, name)
    return name


def search(
    kernel: HashKernel, params: Mapping[str, object], start: int, stop: int, hits_max: int = 2**40
) -> Found:
    return kernel.prepare(params).search(start, stop, np.zeros(1, np.uint8), hits_max)


def hits_by_hashlib(kernel: HashKernel, params: Mapping[str, object], start: int, stop: int) -> list[int]:
    check = kernel.checker(params)
    return [n for n in range(start, stop) if check(n) is not None]


def assert_same(kernel: HashKernel, params: Mapping[str, object], start: int, stop: int) -> None:
    found = search(kernel, params, start, stop)
    assert found.stopped_at == stop
    assert [hit.n for hit in found.hits] == hits_by_hashlib(kernel, params, start, stop)
    assert all(hit.digest == kernel.checker(params)(hit.n) for hit in found.hits)


# --- known answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "trailing", "leading"),
    [
        ("dec", 31214, 88484),
        ("hex", 7562, 191101),
        ("u32be", 18656, 129544),
        ("u32le", 10361, 21462),
        ("u64be", 30366, 30556),
        ("u64le", 6057, 31429),
    ],
)
def test_first_hits_at_16_bits(path: str, encoding: str, trailing: int, leading: int) -> None:
    for match, n in (("trailing", trailing), ("bitcoin", trailing), ("leading", leading)):
        found = search(
            SHA256, {"encoding": encoding, "match": match, "difficulty": 16}, 0, n + 1000, hits_max=1
        )
        assert [hit.n for hit in found.hits] == [n]
        assert found.stopped_at == n + 1


@pytest.mark.parametrize(("match", "n"), [("trailing", 828028), ("bitcoin", 2602835)])
def test_first_hits_at_20_bits(match: str, n: int) -> None:
    found = search(SHA256, {"match": match, "difficulty": 20}, 0, n + 1000, hits_max=1)
    assert [hit.n for hit in found.hits] == [n]


@pytest.mark.parametrize(
    ("header", "nonce"),
    [
        (
            "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
            "29ab5f49ffff001d00000000",
            2083236893,
        ),
        (
            "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000"
            "e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a00000000",
            2504433986,
        ),
    ],
)
def test_nonces_of_bitcoin_blocks(path: str, header: str, nonce: int) -> None:
    found = search(SHA256D, header_params(bytes.fromhex(header)), nonce - 50_000, nonce + 50_000)
    assert [hit.n for hit in found.hits] == [nonce]


def root(number: int, degree: int) -> int:
    low, high = 0, 2**64
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= number else (low, middle)
    return low


def test_fips_180_4_section_4_2_2_and_5_3_3_constants_come_from_primes() -> None:
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, isqrt(n) + 1))]
    assert list(fips180.SHA256_K) == [root(p << 96, 3) % 2**32 for p in primes]
    assert list(fips180.SHA256_H) == [root(p << 64, 2) % 2**32 for p in primes[:8]]


# --- against hashlib -----------------------------------------------------------------------------------------------


@st.composite
def puzzles(draw: st.DrawFn) -> tuple[HashKernel, dict[str, object], int, int]:
    kernel = draw(st.sampled_from([SHA1, SHA256, SHA256D]))
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    match = draw(st.sampled_from(["trailing", "leading", "bitcoin"]))
    params: dict[str, object] = {"encoding": encoding, "match": match}
    if match == "trailing" or draw(st.booleans()):
        params["difficulty"] = draw(st.integers(0, 6))
    else:
        params["target"] = draw(st.integers(2**249, 2**256 - 1)).to_bytes(32, "big")[
            : kernel.algorithm.digest_bits // 8
        ]
    for affix in ("prefix", "suffix"):
        # Few lengths: each may be one more search loop to compile.
        if size := draw(st.sampled_from([0, 0, 1, 2, 3, 20, 50, 57, 62, 140])):
            params[affix] = b"%99d" % draw(st.integers(0, 99))
            params[affix] = (params[affix] * 2)[:size]  # type: ignore[operator]
    capacity = ENCODINGS[encoding].capacity
    bits = draw(st.integers(0, capacity.bit_length() - 1))
    start = draw(st.integers(0, 2**bits))
    return kernel, params, start, min(capacity, start + draw(st.integers(0, 100)))


@settings(max_examples=300)
@given(puzzle=puzzles())
def test_finds_what_hashlib_finds(puzzle: tuple[HashKernel, dict[str, object], int, int]) -> None:
    assert_same(*puzzle)


@pytest.mark.parametrize("length", [*range(54, 67), *range(118, 131)])
def test_message_lengths_around_the_ends_of_blocks(path: str, length: int) -> None:
    for kernel, prefix_bytes in product((SHA256, SHA256D), (0, 20, length - 4)):
        suffix_bytes = length - 4 - prefix_bytes
        params = {"prefix": b"p" * prefix_bytes, "suffix": b"s" * suffix_bytes, "difficulty": 2}
        assert_same(kernel, params, 5000, 5050)


@pytest.mark.parametrize("prefix_bytes", range(50, 66))
def test_numbers_across_the_end_of_a_block(path: str, prefix_bytes: int) -> None:
    for encoding in ("dec", "hex", "u64le", "u64be"):
        params = {"prefix": b"p" * prefix_bytes, "encoding": encoding, "difficulty": 2}
        for carry in (10**13, 2**48):
            assert_same(SHA256, params, carry - 20, carry + 20)


@pytest.mark.parametrize(
    ("encoding", "edges"),
    [
        ("dec", [10**k for k in range(1, 20)] + [2**32, 2**63]),
        ("hex", [16**k for k in range(1, 16)] + [0x1A, 2**63]),
        ("u32le", [2**8, 2**16, 2**24, 2**31]),
        ("u32be", [2**8, 2**16, 2**24, 2**31]),
        ("u64le", [2**k for k in (8, 16, 24, 31, 32, 40, 48, 56, 63)]),
        ("u64be", [2**k for k in (8, 16, 24, 31, 32, 40, 48, 56, 63)]),
    ],
)
def test_carries_and_new_digits(path: str, encoding: str, edges: list[int]) -> None:
    params = {"encoding": encoding, "difficulty": 2}
    for edge in edges:
        assert_same(SHA256, params, max(0, edge - 21), edge + 21)
        assert_same(SHA256, params, edge, edge + 1)
        assert_same(SHA256, params, edge - 1, edge)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_the_last_integers_there_are(path: str, encoding: str) -> None:
    capacity = ENCODINGS[encoding].capacity
    for size in (1, 15, 16, 17, 40):
        assert_same(SHA256, {"encoding": encoding, "difficulty": 2}, capacity - size, capacity)


def test_every_length_of_range(path: str) -> None:
    for start, size in product((0, 1, 95, 1000), range(50)):
        assert_same(SHA256, {"difficulty": 1}, start, start + size)


def test_the_longest_messages(path: str) -> None:
    affix = bytes(range(256)) * (AFFIX_BYTES_MAX // 256)
    assert_same(SHA256, {"prefix": affix, "suffix": affix, "difficulty": 2}, 95, 115)


# --- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["leading", "bitcoin"])
@pytest.mark.parametrize("kernel", [SHA256, SHA256D])
def test_targets_are_compared_to_the_last_bit(match: str, kernel: HashKernel) -> None:
    order: Any = "big" if match == "leading" else "little"
    numbers = range(100, 400)
    digests = dict(zip(numbers, kernel.puzzle({"difficulty": 0}).digests(numbers), strict=True))
    lowest = min(digests, key=lambda n: int.from_bytes(digests[n], order))
    value = int.from_bytes(digests[lowest], order)
    for target, expected in ((value, [lowest]), (value - 1, []), (value + 1, [lowest])):
        params = {"match": match, "target": target.to_bytes(32, "big")}
        assert [hit.n for hit in search(kernel, params, 100, 400).hits] == expected


@pytest.mark.parametrize("word", range(7))
def test_every_masked_word_must_be_zero(word: int) -> None:
    # No trailing zeros beyond the last word can be met by chance, so a rule with holes stands in for them.
    rule = Rule("big", mask=(0x1F << 32 * (7 - word)) | 0x7, limit=0)
    puzzle = Puzzle(SHA256.algorithm, b"", b"", ENCODINGS["dec"], rule)
    found = HashSearch(puzzle).search(0, 2000, np.zeros(1, np.uint8), 2000)
    assert [hit.n for hit in found.hits] == [n for n in range(2000) if puzzle.check(n)]
    assert found.hits


@pytest.mark.parametrize("match", ["trailing", "leading", "bitcoin"])
def test_difficulty_0_takes_all_and_256_none(match: str) -> None:
    found = search(SHA256, {"match": match, "difficulty": 0}, 90, 140)
    assert [hit.n for hit in found.hits] == list(range(90, 140))
    assert search(SHA256, {"match": match, "difficulty": 256}, 0, 100_000) == Found(100_000, ())


# --- where a search ends -------------------------------------------------------------------------------------------


def test_empty_ranges_have_no_hits() -> None:
    for n in (0, 10, 2**64):
        assert search(SHA256, {"difficulty": 0}, n, n) == Found(n, ())


def test_stops_right_after_the_last_hit_asked_for() -> None:
    params = {"difficulty": 3}
    hits = hits_by_hashlib(SHA256, params, 0, 2000)
    for hits_max in range(1, len(hits)):
        found = search(SHA256, params, 0, 2000, hits_max)
        assert [hit.n for hit in found.hits] == hits[:hits_max]
        assert found.stopped_at == hits[hits_max - 1] + 1
    assert search(SHA256, params, 0, 2000, len(hits) + 1).stopped_at == 2000


def test_searches_resumed_where_they_stopped_miss_nothing() -> None:
    params, found_at = {"difficulty": 3, "encoding": "hex"}, [0]
    hits: list[int] = []
    while found_at[-1] < 3000:
        found = search(SHA256, params, found_at[-1], 3000, hits_max=5)
        hits += [hit.n for hit in found.hits]
        found_at.append(found.stopped_at)
    assert hits == hits_by_hashlib(SHA256, params, 0, 3000)
    assert all(a < b for a, b in pairwise(found_at))


@pytest.mark.parametrize("hits_max", [1, 31, 32, 33, 4095, 4096, 4097, 10_000])
def test_more_hits_than_one_batch(hits_max: int) -> None:
    found = search(SHA256, {"difficulty": 0}, 7, 10_000, hits_max)
    assert [hit.n for hit in found.hits] == list(range(7, min(10_000, 7 + hits_max)))
    assert found.stopped_at == min(10_000, 7 + hits_max)


def test_bad_calls_are_refused() -> None:
    for start, stop, hits_max in ((5, 4, 1), (-1, 4, 1), (0, 2**64 + 1, 1), (0, 5, 0), (0, 5, -1)):
        with pytest.raises(KernelError):
            search(SHA256, {"difficulty": 1}, start, stop, hits_max)


def test_a_flag_set_beforehand_stops_at_once() -> None:
    flag = np.ones(1, np.uint8)
    assert SHA256.prepare({"difficulty": 0}).search(5, 100, flag, 9) == Found(5, ())


@pytest.mark.parametrize("suffix_bytes", [0, AFFIX_BYTES_MAX])
def test_a_flag_set_by_another_thread_stops_within_50_ms(suffix_bytes: int) -> None:
    ready = SHA256.prepare({"difficulty": 256, "suffix": bytes(suffix_bytes)})
    ready.search(0, 1, np.zeros(1, np.uint8), 1)  # compiled beforehand
    delays_ms = []
    for _ in range(5):  # the machine may be busy; the search must manage once
        flag = np.zeros(1, np.uint8)
        found: list[Found] = []
        searcher = threading.Thread(
            target=lambda flag=flag, found=found: found.append(ready.search(0, 2**64, flag, 1)), daemon=True
        )
        searcher.start()
        searcher.join(timeout=0.05)
        assert searcher.is_alive()
        before = time.perf_counter()
        flag[0] = 1
        searcher.join(timeout=30)
        delays_ms.append(1000 * (time.perf_counter() - before))
        assert found
        assert 0 < found[0].stopped_at < 2**64
        assert not found[0].hits
        if delays_ms[-1] < 50:
            return
    pytest.fail(f"slow to stop: {delays_ms} ms")


def test_one_search_serves_many_threads() -> None:
    params = {"difficulty": 8, "encoding": "hex", "prefix": b"x" * 70}
    ready, flag, size = SHA256D.prepare(params), np.zeros(1, np.uint8), 20_000
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda k: ready.search(k * size, (k + 1) * size, flag, 2**30), range(16)))
    assert [hit for part in parts for hit in part.hits] == list(ready.search(0, 16 * size, flag, 2**30).hits)


def test_a_fault_of_the_compiled_code_cannot_become_a_hit() -> None:
    ready = HashSearch(SHA256.puzzle({"difficulty": 4}))
    ready._function = replace(ready._function, initial=(1, *ready._function.initial[1:]))
    with pytest.raises(RuntimeError, match="hashlib does not confirm"):
        ready.search(0, 10_000, np.zeros(1, np.uint8), 1000)


@given(st.binary(max_size=200))
def test_absorbed_blocks_are_what_hashlib_would_go_on_from(prefix: bytes) -> None:
    assert_same(SHA256, {"difficulty": 1, "prefix": prefix}, 0, 20)


# --- versions of a block header ------------------------------------------------------------------------------------

HEADER = bytes(range(76))


def header_of(n: int, versions: int) -> bytes:
    """The header that `n` stands for, spelled out: four versions share a schedule, so their integers are neighbours."""
    shared = min(versions, 4)
    nonce, version = n // shared % 2**32, n // (shared * 2**32) * shared + n % shared
    field = int.from_bytes(HEADER[:4], "little") ^ version << 13
    return field.to_bytes(4, "little") + HEADER[4:] + nonce.to_bytes(4, "little")


@pytest.mark.parametrize("versions", [1, 2, 4, 8, 2**16])
def test_versions_of_a_header(path: str, versions: int) -> None:
    params = {
        "prefix": HEADER,
        "encoding": "u32le",
        "match": "bitcoin",
        "difficulty": 5,
        "versions": versions,
    }
    size = min(versions, 4) * 2**32
    for start in (0, 7, 1001, size - 150, versions * 2**32 - 201):
        stop = min(start + 201, versions * 2**32)
        expected = [
            n
            for n in range(start, stop)
            if int.from_bytes(sha256(sha256(header_of(n, versions)).digest()).digest(), "little") < 2**251
        ]
        assert hits_by_hashlib(SHA256D, params, start, stop) == expected
        assert_same(SHA256D, params, start, stop)


def test_a_search_of_versions_stops_right_after_the_last_hit_asked_for() -> None:
    params = {"prefix": HEADER, "encoding": "u32le", "match": "bitcoin", "difficulty": 6, "versions": 4}
    hits = hits_by_hashlib(SHA256D, params, 3, 3000)
    for hits_max in range(1, len(hits)):
        found = search(SHA256D, params, 3, 3000, hits_max)
        assert [hit.n for hit in found.hits] == hits[:hits_max]
        assert found.stopped_at == hits[hits_max - 1] + 1


# --- samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["trailing", "leading", "bitcoin"])
@pytest.mark.parametrize("count", range(1, 5))
def test_samples_are_all_integers_that_match_a_pattern(path: str, match: str, count: int) -> None:
    params = {"match": match, "difficulty": 7, "encoding": "u32le"}
    ready = SHA256.prepare(params)
    patterns = [
        Pattern(0x3F, 5),
        Pattern(0xFF0, 0x120),
        Pattern(0xFFFFFFFF, 1),
        Pattern(0x80000007, 0x80000001),
    ][:count]
    found = ready.search(65_000, 66_000, np.zeros(1, np.uint8), 2**20, patterns)
    numbers = range(65_000, 66_000)
    digests = SHA256.puzzle(params).digests(numbers)
    words = {n: ready.sampled_word(digest) for n, digest in zip(numbers, digests, strict=True)}
    for pattern, sample in zip(patterns, found.samples, strict=True):
        assert list(sample) == [n for n, word in words.items() if word & pattern.mask == pattern.value]
    assert found.samples[0]
    assert [hit.n for hit in found.hits] == hits_by_hashlib(SHA256, params, 65_000, 66_000)


def test_samples_end_where_the_search_ends() -> None:
    ready = SHA256.prepare({"difficulty": 5})
    found = ready.search(0, 1000, np.zeros(1, np.uint8), 3, [Pattern(1, 0)])
    assert found.stopped_at == found.hits[-1].n + 1
    assert found.samples[0] == tuple(
        n for n in range(found.stopped_at) if ready.sampled_word(sha256(b"%d" % n).digest()) % 2 == 0
    )


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(KernelError, match="4 patterns"):
        SHA256.prepare({"difficulty": 5}).search(0, 9, np.zeros(1, np.uint8), 3, [Pattern(1, 0)] * 5)


# --- one digest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [SHA1, SHA256, SHA256D])
def test_finds_whose_digest_it_is(path: str, kernel: HashKernel) -> None:
    (digest,) = kernel.puzzle({"difficulty": 0}).digests((123_456,))
    found = search(kernel, {"digest": digest}, 100_000, 200_000)
    assert [tuple(hit) for hit in found.hits] == [(123_456, digest)]
    nearly = bytes([digest[0] ^ 1]) + digest[1:]
    assert search(kernel, {"digest": nearly}, 123_000, 124_000).hits == ()
