"""A hash puzzle: messages of prefix + encoded integer + suffix, one of which is to hash to a digest that wins.

This half says what a puzzle is and decides single integers with hashlib. Searching ranges is in `hash_search`, imported
on demand.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from zlb.kernels.bitcoin import Versions, read_versions
from zlb.kernels.encoding import ENCODINGS, Encoding
from zlb.kernels.interface import KernelError
from zlb.kernels.matching import MATCHES, Rule, rule_for_difficulty, rule_for_digest, rule_for_target

# A puzzle travels to every peer in one message; each further block of suffix also costs every single test.
AFFIX_BYTES_MAX = 64 * 1024

# From here on copying the state of a hash costs less than hashing the prefix again.
LONG_PREFIX_BYTES = 512

_KEYS = frozenset({"prefix", "suffix", "encoding", "match", "difficulty", "target", "digest", "versions"})
_GOALS = ("difficulty", "target", "digest")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A function of hashlib, applied once or twice."""

    function: str
    twice: bool
    digest_bits: int

    def digests(self, prefix: bytes, rests: Iterable[bytes]) -> list[bytes]:
        """The hashes of messages that begin alike."""
        function = getattr(hashlib, self.function)
        if len(prefix) < LONG_PREFIX_BYTES:
            digests = [function(prefix + rest).digest() for rest in rests]
        else:
            begun, digests = function(prefix), []
            for rest in rests:
                message = begun.copy()
                message.update(rest)
                digests.append(message.digest())
        return [function(digest).digest() for digest in digests] if self.twice else digests


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Validated parameters."""

    algorithm: Algorithm
    prefix: bytes
    suffix: bytes
    encoding: Encoding
    rule: Rule
    versions: Versions | None = None
    """If given, messages are block headers, and integers tell their versions too."""

    @property
    def capacity(self) -> int:
        """One more than the largest integer there is a message for."""
        return self.encoding.capacity * (self.versions.count if self.versions else 1)

    def digests(self, numbers: Iterable[int]) -> list[bytes]:
        """The hashes of the messages for numbers, which must lie in [0, capacity)."""
        encode, suffix = self.encoding.encode, self.suffix
        if self.versions is None:
            return self.algorithm.digests(self.prefix, (encode(n) + suffix for n in numbers))
        split = (self.versions.split(n) for n in numbers)
        headers = (self.versions.prefix(version) + encode(nonce) for version, nonce in split)
        return self.algorithm.digests(b"", headers)

    def check(self, n: int) -> bytes | None:
        """The digest if `n` is a hit, else None."""
        if not 0 <= n < self.capacity:
            return None
        (digest,) = self.digests((n,))
        return digest if self.rule.accepts(digest) else None

    def sampler(self) -> Callable[[int], int]:
        """A function that tells the word of an integer's digest that patterns are about."""
        word_of = self.rule.word_test().word_of

        def sampled_word(n: int) -> int:
            self.require_fit(n, n + 1)
            (digest,) = self.digests((n,))
            return word_of(digest)

        return sampled_word

    def require_fit(self, start: int, stop: int) -> None:
        """Raise KernelError unless 0 <= start <= stop <= capacity."""
        # The offending number is never printed: a stranger's may have more digits than Python agrees to convert.
        if not (_is_int(start) and _is_int(stop)):
            raise KernelError("the ends of a range are integers")
        if start > stop:
            raise KernelError("a range ends before it starts")
        if start < 0 or stop > self.capacity:
            bits = self.capacity.bit_length() - 1
            what = "these versions" if self.versions else f'encoding "{self.encoding.name}"'
            raise KernelError(f"a range leaves what {what} can express: 0 to 2**{bits}")


def read_puzzle(algorithm: Algorithm, params: object) -> Puzzle:
    """The puzzle that `params` describe, with defaults filled in, or KernelError."""
    if not isinstance(params, Mapping):
        raise KernelError("parameters are a map from names to values")
    _refuse_unknown(params)
    encoding = ENCODINGS[_choice(params, "encoding", tuple(ENCODINGS), "dec")]
    prefix, suffix = _affix(params, "prefix"), _affix(params, "suffix")
    rule = _rule(params, algorithm.digest_bits)
    versions = None
    if "versions" in params:
        if not (
            algorithm.function == "sha256" and algorithm.twice and encoding.name == "u32le" and not suffix
        ):
            raise KernelError('versions go with block headers: sha256d, encoding "u32le", no suffix')
        versions = read_versions(prefix, params["versions"])
    return Puzzle(algorithm, prefix, suffix, encoding, rule, versions)


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


def _rule(params: Mapping[str, object], bits: int) -> Rule:
    match = _choice(params, "match", MATCHES, "trailing")
    goals = [goal for goal in _GOALS if goal in params]
    if len(goals) != 1:
        raise KernelError("exactly one of difficulty, target and digest is needed")
    goal, value = goals[0], params[goals[0]]
    if goal == "difficulty":
        if not _is_int(value) or not 0 <= value <= bits:  # type: ignore[operator]
            raise KernelError(f"difficulty is an integer from 0 to {bits}")
        return rule_for_difficulty(match, value, bits)  # type: ignore[arg-type]
    if not isinstance(value, bytes) or len(value) != bits // 8:
        raise KernelError(f"{goal} is {bits // 8} bytes, most significant first")
    if goal == "target":
        return rule_for_target(match, value)
    if "match" in params:
        raise KernelError("match cannot go with digest: all of it must be equal")
    return rule_for_digest(value)
