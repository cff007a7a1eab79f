"""The kernels `sha256` and `sha256d`: find integers whose message hashes below a limit.

The message is prefix + encoded integer + suffix; its digest is SHA-256 once, or twice for `sha256d`. This half says
what a puzzle is and decides single integers with hashlib. Searching ranges is in `sha256_search`, imported on demand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from zlb.kernels.encoding import ENCODINGS, Encoding
from zlb.kernels.interface import KernelError, Search
from zlb.kernels.matching import DIGEST_BITS, MATCHES, Rule, rule_for_difficulty, rule_for_target

# A puzzle travels to every peer in one message; each further block of suffix also costs every single test.
AFFIX_BYTES_MAX = 64 * 1024

_KEYS = frozenset({"prefix", "suffix", "encoding", "match", "difficulty", "target"})


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Validated parameters."""

    prefix: bytes
    suffix: bytes
    encoding: Encoding
    rule: Rule
    twice: bool

    def digest(self, n: int) -> bytes:
        """The hash of the message for `n`, which must fit the encoding."""
        digest = sha256(self.prefix + self.encoding.encode(n) + self.suffix).digest()
        return sha256(digest).digest() if self.twice else digest

    def check(self, n: int) -> bytes | None:
        """The digest if `n` is a hit, else None."""
        if not 0 <= n < self.encoding.capacity:
            return None
        digest = self.digest(n)
        return digest if self.rule.accepts(digest) else None

    def require_fit(self, start: int, stop: int) -> None:
        """Raise KernelError unless 0 <= start <= stop <= capacity of the encoding."""
        # The offending number is never printed: a stranger's may have more digits than Python agrees to convert.
        if not (_is_int(start) and _is_int(stop)):
            raise KernelError("the ends of a range are integers")
        if start > stop:
            raise KernelError("a range ends before it starts")
        if start < 0 or stop > self.encoding.capacity:
            bits = self.encoding.capacity.bit_length() - 1
            raise KernelError(
                f'a range leaves what encoding "{self.encoding.name}" can express: 0 to 2**{bits}'
            )


@dataclass(frozen=True, slots=True)
class Sha256Kernel:
    """SHA-256 puzzles, hashed once or twice; implements `Kernel`."""

    name: str
    twice: bool

    def validate(self, params: Mapping[str, object], ranges: Sequence[tuple[int, int]]) -> None:
        """See `Kernel.validate`."""
        puzzle = self.puzzle(params)
        for start, stop in ranges:
            puzzle.require_fit(start, stop)

    def tests_per_hit(self, params: Mapping[str, object]) -> float:
        """See `Kernel.tests_per_hit`; here 2^difficulty, or 2^256 / (target + 1)."""
        return self.puzzle(params).rule.tests_per_hit()

    def checker(self, params: Mapping[str, object]) -> Callable[[int], bytes | None]:
        """See `Kernel.checker`."""
        return self.puzzle(params).check

    def prepare(self, params: Mapping[str, object]) -> Search:
        """See `Kernel.prepare`; seconds on a machine's first call, a fraction of one later."""
        puzzle = self.puzzle(params)
        from zlb.kernels.sha256_search import Sha256Search  # numba: only whoever searches pays for it

        return Sha256Search(puzzle)

    def puzzle(self, params: Mapping[str, object]) -> Puzzle:
        """`params` with defaults filled in, or KernelError."""
        if not isinstance(params, Mapping):
            raise KernelError("parameters are a map from names to values")
        _refuse_unknown(params)
        encoding = ENCODINGS[_choice(params, "encoding", tuple(ENCODINGS), "dec")]
        return Puzzle(_affix(params, "prefix"), _affix(params, "suffix"), encoding, _rule(params), self.twice)


SHA256 = Sha256Kernel("sha256", twice=False)
SHA256D = Sha256Kernel("sha256d", twice=True)


def _is_int(value: object) -> bool:
    # True and False are ints to Python, but never what somebody counting meant.
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_unknown(params: Mapping[str, object]) -> None:
    for key in params:
        if not isinstance(key, str):
            raise KernelError(f"parameter names are text, not {type(key).__name__}")
        if key not in _KEYS:
            raise KernelError(f"unknown parameter {key[:60]!a}; known: {', '.join(sorted(_KEYS))}")


def _affix(params: Mapping[str, object], key: str) -> bytes:
    value = params.get(key, b"")
    if not isinstance(value, bytes):
        raise KernelError(f"{key} is bytes, not {type(value).__name__}")
    if len(value) > AFFIX_BYTES_MAX:
        raise KernelError(f"{key} is {len(value)} bytes long, the limit is {AFFIX_BYTES_MAX}")
    return value


def _choice(params: Mapping[str, object], key: str, choices: tuple[str, ...], default: str) -> str:
    value = params.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise KernelError(f"{key} is one of {', '.join(choices)}")
    return value


def _rule(params: Mapping[str, object]) -> Rule:
    match = _choice(params, "match", MATCHES, "trailing")
    if ("difficulty" in params) == ("target" in params):
        raise KernelError("exactly one of difficulty and target is needed")
    if "target" in params:
        target = params["target"]
        if not isinstance(target, bytes) or len(target) != DIGEST_BITS // 8:
            raise KernelError(f"target is {DIGEST_BITS // 8} bytes, most significant first")
        return rule_for_target(match, target)
    difficulty = params["difficulty"]
    if isinstance(difficulty, bool) or not isinstance(difficulty, int) or not 0 <= difficulty <= DIGEST_BITS:
        raise KernelError(f"difficulty is an integer from 0 to {DIGEST_BITS}")
    return rule_for_difficulty(match, difficulty)
