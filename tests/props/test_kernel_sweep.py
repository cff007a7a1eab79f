"""The hash kernels against hashlib, in many small cases: encodings, prefixes, suffixes, ranges and rules by chance.

Hypothesis draws seeds. Each makes a batch: a kind of messages, a way through the CPU to search them, and many cases.
What is expected of a case is worked out here, with nothing of zlb's, and once more by the kernel's own checker. A
failure says how to make its search again.

    pytest tests/props/test_kernel_sweep.py --kernel-cases 1000000 --kernel-seed 1          takes some 20 minutes
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from zlb.kernels import compiled_finder, hash_search, survivors
from zlb.kernels.hashes import SHA1, SHA256, SHA256D
from zlb.kernels.interface import Found, Hit, Pattern
from zlb.kernels.paths import NUMPY, VARIABLE, possible
from zlb.kernels.scan import BATCH_GROUPS

KERNELS = {kernel.name: kernel for kernel in (SHA1, SHA256, SHA256D)}
DIGEST: dict[str, Callable[[bytes], bytes]] = {
    "sha1": lambda message: hashlib.sha1(message).digest(),
    "sha256": lambda message: hashlib.sha256(message).digest(),
    "sha256d": lambda message: hashlib.sha256(hashlib.sha256(message).digest()).digest(),
}
ENCODE: dict[str, Callable[[int], bytes]] = {
    "dec": lambda n: str(n).encode(),
    "hex": lambda n: f"{n:x}".encode(),
    "u32le": struct.Struct("<I").pack,
    "u32be": struct.Struct(">I").pack,
    "u64le": struct.Struct("<Q").pack,
    "u64be": struct.Struct(">Q").pack,
}
BASE = {"dec": 10, "hex": 16}
ROW = {"dec": 10**4, "hex": 16**4}

WINDOWS = 4
"""Stretches of integers that the cases of a batch lie in, each with a prefix and a suffix of its own."""
WINDOW_CASES = (25, 200)
"""Cases of each, in a short run and in a long one, where compiling would otherwise take most of the time."""
SMALL = 60
"""Integers of most cases."""
FEW_LENGTHS = ((0, 20, 62), (0, 5, 70))
"""Lengths of prefixes and suffixes in a short run: others may each be some more search loops to compile."""
MANY_LENGTHS = ((0, 1, 7, 20, 43, 50, 57, 61, 62, 66, 110, 130), (0, 0, 1, 5, 35, 47, 52, 70))


# --- what is expected ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Messages:
    """What is hashed for an integer, spelled out."""

    kernel: str
    encoding: str
    prefix: bytes
    suffix: bytes
    versions: int
    """0 if messages are no block headers."""

    @property
    def capacity(self) -> int:
        numbers = 2**32 if "32" in self.encoding else 2**64
        return numbers * max(1, self.versions)

    @property
    def params(self) -> dict[str, object]:
        params: dict[str, object] = {"prefix": self.prefix, "suffix": self.suffix, "encoding": self.encoding}
        return {**params, "versions": self.versions} if self.versions else params

    def of(self, n: int) -> bytes:
        if not self.versions:
            return self.prefix + ENCODE[self.encoding](n) + self.suffix
        # Up to four versions share a schedule, so the integers of one nonce follow each other.
        shared = min(self.versions, 4)
        nonce, version = n // shared % 2**32, n // shared // 2**32 * shared + n % shared
        field = int.from_bytes(self.prefix[:4], "little") ^ version << 13
        return struct.pack("<I", field) + self.prefix[4:] + struct.pack("<I", nonce)


class Goal(NamedTuple):
    """A rule as parameters, and whether a digest, read as a number in both orders, is a hit."""

    params: dict[str, object]
    wins: Callable[[int, int], bool]


def goal(rng: Random, first: bool, digests: list[bytes]) -> Goal:
    """A rule that looks at the first word of a digest, or at the last, often with hits among `digests`."""
    bits = 8 * len(digests[0])
    kind = rng.choice(
        ("leading", "leading target") if first else ("trailing", "bitcoin", "bitcoin target", "digest")
    )
    match kind:
        case "trailing" | "leading" | "bitcoin":
            difficulty = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
            params = {"match": kind, "difficulty": difficulty}
            left = bits - difficulty
            if kind == "trailing":
                return Goal(params, lambda big, little: big % 2**difficulty == 0)
            if kind == "leading":
                return Goal(params, lambda big, little: big >> left == 0)
            return Goal(params, lambda big, little: little >> left == 0)
        case "digest":
            digest = bytearray(rng.choice(digests))
            if rng.randrange(3) == 0:
                digest[rng.randrange(len(digest))] ^= 1 << rng.randrange(8)
            wanted = int.from_bytes(digest, "big")
            return Goal({"digest": bytes(digest)}, lambda big, little: big == wanted)
    order = "big" if first else "little"
    # Near the digest of a number there, mostly the lowest one; the target differs in the last bit, or anywhere.
    values = [int.from_bytes(digest, order) for digest in digests]
    value = min(values) if rng.randrange(3) else rng.choice(values)
    value += rng.choice((-1, 0, 1, rng.randrange(2 ** rng.randrange(bits))))
    target = max(1, min(value, 2**bits - 1))
    params = {"match": "leading" if first else "bitcoin", "target": target.to_bytes(bits // 8, "big")}
    return Goal(params, lambda big, little: (big if first else little) <= target)


# --- batches of cases ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """What the cases of a batch have in common; `seed` decides the rest."""

    kernel: str
    way: str
    encoding: str
    versions: int
    prefix_bytes: int
    suffix_bytes: int
    first: bool
    patterns: bool
    piecemeal: bool
    """Whether a search is made in many short calls, which takes it through their seams."""
    seed: int


def batches(lengths: tuple[tuple[int, ...], tuple[int, ...]]) -> st.SearchStrategy[Batch]:
    def batch(seed: int) -> Batch:
        rng = Random(seed)
        kernel = rng.choice(sorted(KERNELS))
        header = kernel == "sha256d" and rng.randrange(2) == 0
        return Batch(
            kernel=kernel,
            way=rng.choice([*[path.name for path in possible()] * 2, NUMPY]),
            encoding="u32le" if header else rng.choice(sorted(ENCODE)),
            versions=rng.choice((1, 2, 4, 64, 2**16)) if header else 0,
            prefix_bytes=76 if header else rng.choice(lengths[0]),
            suffix_bytes=0 if header else rng.choice(lengths[1]),
            first=rng.randrange(2) == 0,
            patterns=rng.randrange(2) == 0,
            piecemeal=rng.randrange(4) == 0,
            seed=seed,
        )

    # Drawn one by one, these would hardly vary: hypothesis likes to repeat what it drew before.
    return st.integers(0, 2**64 - 1).map(batch)


class Window(NamedTuple):
    """Some neighbouring integers, and the digests of their messages."""

    messages: Messages
    numbers: range
    digests: list[bytes]
    values: list[tuple[int, int]]
    """The digests as big- and as little-endian numbers."""


def windows(rng: Random, batch: Batch) -> Iterator[Window]:
    for _ in range(WINDOWS):
        messages = Messages(
            batch.kernel,
            batch.encoding,
            rng.randbytes(batch.prefix_bytes),
            rng.randbytes(batch.suffix_bytes),
            batch.versions,
        )
        size = rng.randrange(1000, 4000) if rng.randrange(12) == 0 else rng.randrange(1, SMALL + 1)
        start = edge(rng, messages) - rng.randrange(size + 1)
        start = max(0, min(start, messages.capacity - size))
        numbers = range(start, start + size)
        digests = [DIGEST[batch.kernel](messages.of(n)) for n in numbers]
        values = [(int.from_bytes(digest, "big"), int.from_bytes(digest, "little")) for digest in digests]
        yield Window(messages, numbers, digests, values)


def edge(rng: Random, messages: Messages) -> int:
    """An integer where something begins: digits, rows, versions, the sign of a machine word; or any."""
    capacity = messages.capacity
    base, row = BASE.get(messages.encoding, 256), ROW.get(messages.encoding, 2**16)
    shared = min(messages.versions, 4) or 1
    groups = max(1, messages.versions // shared)
    row *= shared
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randrange(2 ** rng.randrange(capacity.bit_length()))
    if kind == 1:
        return rng.randrange(capacity // row) * row
    if kind == 2:
        return rng.randrange(1, 10 * base) * base ** rng.randrange(
            1, len(ENCODE[messages.encoding](2**32 - 1))
        )
    if kind == 3:
        return rng.choice((0, 0, 2**31, 2**32, 2**63, capacity, capacity))
    if kind > 3 and groups > 1:
        return rng.randrange(1, groups) * shared * 2**32
    return base ** rng.randrange(1, 20) * shared


def patterns(rng: Random, batch: Batch, window: Window) -> list[Pattern]:
    """One to four, most of which some digest matches."""
    chosen = []
    for _ in range(rng.randrange(1, 5)):
        word = sampled_word(rng.choice(window.digests), batch.first)
        mask = rng.choice((0, 2**32 - 1, 1 << rng.randrange(32), rng.getrandbits(32) & rng.getrandbits(32)))
        # A value with bits beyond its mask matches nothing.
        beyond = rng.randrange(10) == 0
        chosen.append(Pattern(mask, word if beyond else word & mask))
    return chosen


def sampled_word(digest: bytes, first: bool) -> int:
    return int.from_bytes(digest[:4], "big") if first else int.from_bytes(digest[-4:], "little")


def check_case(rng: Random, batch: Batch, window: Window, whole: bool) -> None:
    size = len(window.numbers)
    begin, end = 0, size
    if not whole:
        begin = rng.randrange(size)
        end = min(size, begin + rng.randrange(1, SMALL + 1))
    rule = goal(rng, batch.first, window.digests[begin:end])
    wanted = patterns(rng, batch, window) if batch.patterns else []
    hits = [
        Hit(window.numbers[at], window.digests[at])
        for at in range(begin, end)
        if rule.wins(*window.values[at])
    ]
    start, stop = window.numbers.start + begin, window.numbers.start + end
    params = {**window.messages.params, **rule.params}
    kernel = KERNELS[batch.kernel]
    check = kernel.checker(params)
    checked = [Hit(n, digest) for n in range(start, stop) if (digest := check(n)) is not None]
    hits_max, stopped_at = rng.choice((2**40, 2**40, 1, 2, rng.randrange(1, SMALL))), stop
    if len(hits) >= hits_max:
        stopped_at = hits[hits_max - 1].n + 1
    samples = tuple(
        tuple(
            n
            for n in range(start, stopped_at)
            if sampled_word(window.digests[n - window.numbers.start], batch.first) & mask == value
        )
        for mask, value in wanted
    )
    found = kernel.prepare(params).search(start, stop, np.zeros(1, np.uint8), hits_max, wanted)
    again = f"{VARIABLE}={batch.way} {batch} {kernel.name} {params} [{start}, {stop}) {hits_max=} {wanted}"
    assert checked == hits, f"checker: {again}"
    assert found == Found(stopped_at, tuple(hits[:hits_max]), samples), f"search: {again}"


def check_batch(batch: Batch, window_cases: int) -> int:
    """Check all cases of a batch, of which numpy gets fewer; their number."""
    # It takes ten times as long for ranges as short as these.
    cases = window_cases if batch.way != NUMPY else window_cases // 10
    rng = Random(repr(batch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, batch.way)
        if batch.way != NUMPY:
            patch.setattr(hash_search, "SHORT", 0)
        if batch.piecemeal:
            patch.setattr(hash_search, "CALL_NUMBERS", rng.choice((4, 20, 1000)))
            patch.setattr(compiled_finder, "RECORDS_MAX", rng.choice((BATCH_GROUPS, BATCH_GROUPS + 1)))
            patch.setattr(survivors, "ARRAY_INTEGERS", rng.choice((50, 1000)))
        for window in windows(rng, batch):
            for case in range(cases):
                check_case(rng, batch, window, whole=case < 2)
    return cases * WINDOWS


def test_hashlib_agrees(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    cases, chosen = request.config.getoption("--kernel-cases"), request.config.getoption("--kernel-seed")
    lengths, window_cases = (FEW_LENGTHS, MANY_LENGTHS)[chosen is not None], WINDOW_CASES[chosen is not None]
    done = 0

    # No shrinking: a failure names one search over some dozens of integers, and other seeds are not simpler.
    @settings(
        max_examples=2 * -(-cases // (WINDOWS * window_cases)),
        phases=[Phase.generate],
        derandomize=chosen is None,
        suppress_health_check=list(HealthCheck),
    )
    @given(batch=batches(lengths))
    def sweep(batch: Batch) -> None:
        nonlocal done
        if done < cases:
            done += check_batch(batch, window_cases)

    if chosen is not None:
        sweep = seed(chosen)(sweep)
    sweep()
    assert done >= cases
    if chosen is not None:
        with capsys.disabled():
            print(f"\n{done} cases, seed {chosen}: hashlib agrees")
