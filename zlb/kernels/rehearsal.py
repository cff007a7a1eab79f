"""The kernels `spin` and `sleep`: integers that take a given time and do what was asked of them, to try a grid with.

    {"seconds": 0.001, "every": 1000, "fail": [17]}

Nothing is computed: what is a hit, what fails and what is sampled follows from the integer itself, and is as certain
before the search as after it. `spin` keeps a core busy meanwhile, `sleep` only waits.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn, Protocol

from zlb.kernels.interface import Found, Hit, KernelError, Pattern
from zlb.kernels.matching import PATTERNS_MAX, require_askable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CAPACITY = 1 << 64
"""Integers below this can be searched: all that zlb has."""
SECONDS_DEFAULT = 1e-6
"""What an integer takes if nothing is said: about a hash of a slow machine."""
SECONDS_MIN, SECONDS_MAX = 1e-12, 86_400.0
"""Of one integer. Less is faster than any machine there is, and a day is longer than anyone's patience."""
FACTOR_MIN, FACTOR_MAX = 1e-6, 1e6
"""How much longer slow integers take: far enough either way for any experiment, and no float overflows."""
LISTED_MAX = 10_000
"""Integers of one list: in 9 bytes each they travel with the parameters, which have 160 KiB."""
NUMBER_CHARACTERS_MAX = 40
"""A number written as text: twice what a float needs."""

WORD_MAX = (1 << 32) - 1
BLOCK = 1 << 14
"""Integers between two collections of hits and samples: at most some 30 ms of collecting, when all of them hit."""
WAIT_S = 0.02
"""Between two looks at the stop flag while waiting: 50 ms are allowed, and a loaded machine wakes threads late."""
SPIN_S = 0.005
"""The same while spinning, in time of the core: whoever has a tenth of a core is still in time."""
CALIBRATION_ROUNDS = 10_000
"""Some 2 ms of hashing: enough to know its rate within a few percent."""

MAY_CRASH_VARIABLE = "ZLB_MAY_CRASH"
"""Parameters come from strangers: only a peer with this variable at 1 can be crashed by them."""
CRASH_EXIT = 70
"""How a process ends that crashes as asked: none of zlb's own exit codes."""

_ORDEALS = ("crash", "fail", "hang")
_KEYS = frozenset({"seconds", "slow", "hits", "every", *_ORDEALS})


@dataclass(frozen=True, slots=True)
class RehearsalKernel:
    """Integers that take their time, on the processor (`spins`) or not; implements `SamplingKernel`."""

    name: str
    spins: bool

    def validate(self, params: Mapping[str, object], ranges: Sequence[tuple[int, int]]) -> None:
        """See `Kernel.validate`."""
        read_part(params)
        for start, stop in ranges:
            _require_fit(start, stop)

    def tests_per_hit(self, params: Mapping[str, object]) -> float:
        """See `Kernel.tests_per_hit`; infinite unless hits are regular: a list knows nothing of chance."""
        every = read_part(params).every
        return float(every) if every else math.inf

    def slot_per_s(self, params: Mapping[str, object]) -> float:
        """Integers a second of one slot, which nobody has to measure; slow ones are not reckoned with."""
        return 1 / read_part(params).seconds

    def checker(self, params: Mapping[str, object]) -> Callable[[int], bytes | None]:
        """See `Kernel.checker`."""
        part = read_part(params)
        return lambda n: digest(n) if part.is_hit(n) else None

    def sampler(self, params: Mapping[str, object]) -> Callable[[int], int]:
        """See `SamplingKernel.sampler`."""
        read_part(params)
        return sampled_word

    def prepare(self, params: Mapping[str, object]) -> RehearsalSearch:
        """See `Kernel.prepare`; `spin` measures the core it is on, once a process, some 10 ms."""
        part = read_part(params)
        if self.spins:
            rounds_per_s()
        return RehearsalSearch(part, Spinning if self.spins else Waiting)


@dataclass(frozen=True, slots=True)
class Part:
    """What integers are to do: validated parameters. Lists are ascending."""

    seconds: float
    slow_from: int
    """From here on integers take `factor` times as long."""
    factor: float
    hits: tuple[int, ...]
    every: int
    """Multiples of it hit; 0: none but `hits`."""
    ordeals: tuple[tuple[int, str], ...]
    """Integers that do not end well, and how: `crash`, `fail` or `hang`."""

    def cost_s(self, start: int, stop: int) -> float:
        """What [start, stop) takes."""
        slow = max(0, stop - max(start, self.slow_from))
        return self.seconds * ((stop - start - slow) + self.factor * slow)

    def reached(self, start: int, spent_s: float) -> int:
        """One past the last integer that was tested `spent_s` after `start` was begun with."""
        quick = max(0, self.slow_from - start)
        tested = int(spent_s / self.seconds)
        if tested >= quick:
            tested = quick + int((spent_s - quick * self.seconds) / (self.seconds * self.factor))
        return start + tested

    def is_hit(self, n: int) -> bool:
        """Whether `n`, which may be any integer, is a hit."""
        return 0 <= n < CAPACITY and n in self.hits_between(n, n + 1)

    def hits_between(self, start: int, stop: int) -> Sequence[int]:
        """All hits in [start, stop), ascending."""
        if self.every:
            return range(start + -start % self.every, stop, self.every)
        return self.hits[bisect_left(self.hits, start) : bisect_left(self.hits, stop)]

    def ordeal_between(self, start: int, stop: int) -> tuple[int, str] | None:
        """The first integer in [start, stop) that does not end well, and how."""
        at = bisect_left(self.ordeals, (start, ""))
        return self.ordeals[at] if at < len(self.ordeals) and self.ordeals[at][0] < stop else None


class Pastime(Protocol):
    """A way to spend time, beginning when it is made, for one thread."""

    def spent_s(self) -> float:
        """What was spent so far."""
        ...

    def spend(self, seconds: float) -> None:
        """Spend about that much more, or less if it is longer than one may be away from the stop flag."""
        ...


class Waiting:
    """Time on the wall, for which nobody has to work; implements `Pastime`."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._never = threading.Event()

    def spent_s(self) -> float:
        """See `Pastime.spent_s`."""
        return time.perf_counter() - self._begun

    def spend(self, seconds: float) -> None:
        """See `Pastime.spend`."""
        self._never.wait(min(seconds, WAIT_S))


class Spinning:
    """Time of a core, as this thread gets it, without the interpreter lock; implements `Pastime`."""

    def __init__(self) -> None:
        self._begun = time.thread_time()
        self._rounds_per_s = rounds_per_s()

    def spent_s(self) -> float:
        """See `Pastime.spent_s`."""
        return time.thread_time() - self._begun

    def spend(self, seconds: float) -> None:
        """See `Pastime.spend`."""
        hash_rounds(max(1, int(min(seconds, SPIN_S) * self._rounds_per_s)))


class RehearsalSearch:
    """Implements `SamplingSearch`: all it takes is time."""

    patterns_max = PATTERNS_MAX

    def __init__(self, part: Part, pastime: Callable[[], Pastime]) -> None:
        self._part = part
        self._pastime = pastime

    def sampled_word(self, digest: bytes) -> int:
        """See `SamplingSearch.sampled_word`."""
        return int.from_bytes(digest[-4:], "big")

    def search(
        self,
        start: int,
        stop: int,
        stop_flag: npt.NDArray[np.uint8],
        hits_max: int,
        patterns: Sequence[Pattern] = (),
    ) -> Found:
        """See `SamplingSearch.search`; raises KernelError too where an integer is to fail."""
        _require_fit(start, stop)
        require_askable(hits_max, patterns)
        part, pastime = self._part, self._pastime()
        wanted = part.hits_between(start, stop)
        with suppress(IndexError):  # fewer are there
            stop = wanted[hits_max - 1] + 1
        ordeal = part.ordeal_between(start, stop)
        end = ordeal[0] if ordeal else stop
        block = BLOCK if wanted or patterns else max(end - start, 1)
        hits: list[Hit] = []
        samples: list[list[int]] = [[] for _ in patterns]
        at = start
        while at < end:
            goal = min(end, at + block)
            in_time = _spend(pastime, part.cost_s(start, goal), stop_flag)
            reached = goal if in_time else min(max(part.reached(start, pastime.spent_s()), at), goal)
            hits += [Hit(n, digest(n)) for n in part.hits_between(at, reached)]
            for some, more in zip(samples, _matching(at, reached, patterns), strict=True):
                some += more
            at = reached
            if not in_time:
                break
        else:
            if ordeal:
                _undergo(*ordeal, pastime, stop_flag)
        return Found(at, tuple(hits), tuple(tuple(some) for some in samples))


def digest(n: int) -> bytes:
    """What shows that `n` was looked at: 28 bytes of the SHA-256 of its decimal text, then its sampled word."""
    return hashlib.sha256(b"%d" % n).digest()[:-4] + sampled_word(n).to_bytes(4, "big")


def sampled_word(n: int) -> int:
    """32 bits that depend on all of `n`: the low half of SplitMix64's finalizer (Steele, Lea and Flood 2014).

    Raises KernelError for an integer that cannot be searched.
    """
    _require_fit(n, n + 1)
    n = (n + 0x9E3779B97F4A7C15) % CAPACITY
    n = (n ^ n >> 30) * 0xBF58476D1CE4E5B9 % CAPACITY
    n = (n ^ n >> 27) * 0x94D049BB133111EB % CAPACITY
    return (n ^ n >> 31) & WORD_MAX


@cache
def rounds_per_s() -> float:
    """How many rounds of hashing a core of this machine does in a second: measured at the first call."""
    best_s = math.inf
    for _ in range(3):
        begun = time.thread_time()
        hash_rounds(CALIBRATION_ROUNDS)
        best_s = min(best_s, time.thread_time() - begun)
    return CALIBRATION_ROUNDS / max(best_s, 1e-6)


def read_part(params: object) -> Part:
    """What `params` ask for, with defaults filled in, or KernelError."""
    if not isinstance(params, Mapping):
        raise KernelError("parameters are a map from names to values")
    for key in params:
        if not isinstance(key, str):
            raise KernelError(f"parameter names are text, not {type(key).__name__}")
        if key not in _KEYS:
            raise KernelError(f"unknown parameter {key[:60]!a}; known: {', '.join(sorted(_KEYS))}")
    if "hits" in params and "every" in params:
        raise KernelError("hits lists them, every says how far apart they are: only one of both")
    every = params.get("every", 0)
    if "every" in params and not _is_integer(every, 1, CAPACITY):
        raise KernelError("every is an integer from 1 to 2**64")
    seconds = _number("seconds", params.get("seconds", SECONDS_DEFAULT), SECONDS_MIN, SECONDS_MAX)
    ordeals = sorted((n, how) for how in _ORDEALS for n in _listed(params, how))
    for (n, how), (other, also) in pairwise(ordeals):
        if n == other:
            raise KernelError(f"{n} cannot both {how} and {also}")
    slow_from, factor = _slow(params.get("slow"))
    return Part(seconds, slow_from, factor, _listed(params, "hits"), every, tuple(ordeals))


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(name: str, value: object, least: float, most: float) -> float:
    """A number, or one as text, which is how a command line has fractions."""
    wrong = KernelError(f"{name} is a number from {least:g} to {most:g}")
    if isinstance(value, str) and len(value) <= NUMBER_CHARACTERS_MAX:
        try:
            value = float(value)
        except ValueError:
            raise wrong from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise wrong
    return float(value)


def _listed(params: Mapping[str, object], name: str) -> tuple[int, ...]:
    """The integers of a list, ascending and each once; a single one needs no list."""
    value = params.get(name, ())
    numbers = value if isinstance(value, list | tuple) else [value]
    if len(numbers) > LISTED_MAX:
        raise KernelError(f"{name} lists {len(numbers)} integers, the limit is {LISTED_MAX}")
    if not all(_is_integer(n, 0, CAPACITY - 1) for n in numbers):
        raise KernelError(f"{name} is an integer from 0 to 2**64 - 1, or a list of such")
    return tuple(sorted(set(numbers)))


def _slow(value: object) -> tuple[int, float]:
    if value is None:
        return CAPACITY, 1.0
    if not isinstance(value, Mapping) or {*value} != {"from", "factor"}:
        raise KernelError("slow is a map of two: from (an integer) and factor (a number)")
    if not _is_integer(value["from"], 0, CAPACITY - 1):
        raise KernelError("slow: from is an integer from 0 to 2**64 - 1")
    return value["from"], _number("slow: factor", value["factor"], FACTOR_MIN, FACTOR_MAX)


def _require_fit(start: int, stop: int) -> None:
    # The offending number is never printed: a stranger's may have more digits than Python agrees to convert.
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in (start, stop)):
        raise KernelError("the ends of a range are integers")
    if start > stop:
        raise KernelError("a range ends before it starts")
    if start < 0 or stop > CAPACITY:
        raise KernelError("integers from 0 to 2**64 can be searched")


def _spend(pastime: Pastime, until_s: float, stop_flag: npt.NDArray[np.uint8]) -> bool:
    """Spend time until that much is spent; False if told to stop before."""
    while not stop_flag[0]:
        left_s = until_s - pastime.spent_s()
        if left_s <= 0:
            return True
        pastime.spend(left_s)
    return False


def _undergo(n: int, how: str, pastime: Pastime, stop_flag: npt.NDArray[np.uint8]) -> None:
    """Fail or crash; or hang until told to stop, with `n` untested."""
    if how == "hang":
        _spend(pastime, math.inf, stop_flag)
    elif how == "crash":
        _crash(n)
    else:
        raise KernelError(f"integer {n} fails as asked")


def _crash(n: int) -> NoReturn:
    if os.environ.get(MAY_CRASH_VARIABLE) != "1":
        raise KernelError(f"integer {n} is to crash this process, which takes {MAY_CRASH_VARIABLE}=1")
    print(f"zlb: integer {n} crashes this process as asked", file=sys.stderr, flush=True)
    os._exit(CRASH_EXIT)


def hash_rounds(rounds: int) -> None:
    """Keep a core busy for so many rounds of hashing, without the interpreter lock."""
    hashlib.pbkdf2_hmac("sha256", b"zlb", b"", rounds)


def _matching(start: int, stop: int, patterns: Sequence[Pattern]) -> list[list[int]]:
    """All integers in [start, stop) that match, a list for each pattern; `sampled_word` of many at once."""
    if not patterns:
        return []
    import numpy as np  # whoever holds a stop flag has it

    words = np.arange(stop - start, dtype=np.uint64) + np.uint64(start)
    words += np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    words = (words ^ words >> np.uint64(31)) & np.uint64(WORD_MAX)
    return [
        [start + at for at in np.flatnonzero((words & np.uint64(mask)) == np.uint64(value)).tolist()]
        for mask, value in patterns
    ]


SPIN = RehearsalKernel("spin", spins=True)
SLEEP = RehearsalKernel("sleep", spins=False)
