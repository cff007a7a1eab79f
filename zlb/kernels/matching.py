"""When a digest wins: one inequality that covers zeros at either end, targets, and one given digest.

Read the digest as a number, compare it with a value in the bits of a mask, and see how far the difference goes:

    rule                     read as         value      mask       limit
    d trailing zero bits     big-endian      0          2^d - 1    0
    d leading zero bits      big-endian      0          all        2^(bits-d) - 1
    leading, target T        big-endian      0          all        T
    d bits, Bitcoin order    little-endian   0          all        2^(bits-d) - 1
    Bitcoin, target T        little-endian   0          all        T
    digest D                 big-endian      D          all        0

Searching tests a single word of 32 bits first, the last or the first one of the digest: `Rule.word_test`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from zlb.kernels.interface import KernelError, Pattern

PATTERNS_MAX = 4
"""Sample patterns that are tested besides a rule."""

MATCHES = ("trailing", "leading", "bitcoin")
WORD_BYTES = 4
ALL_ONES = 0xFFFFFFFF


class WordTest(NamedTuple):
    """A digest can only win if `(word ^ value) & mask <= limit`.

    `word` is the first word of the digest as a big-endian number, or, if `last`, the last one as a little-endian
    number.
    """

    last: bool
    value: int
    mask: int
    limit: int

    def passes(self, digest: bytes) -> bool:
        """Whether these bytes pass."""
        return (self.word_of(digest) ^ self.value) & self.mask <= self.limit

    def word_of(self, digest: bytes) -> int:
        """The word of the digest that is tested."""
        if self.last:
            return int.from_bytes(digest[-WORD_BYTES:], "little")
        return int.from_bytes(digest[:WORD_BYTES], "big")


@dataclass(frozen=True, slots=True)
class Rule:
    """A digest of `bits` bits wins if, as a number, it differs from `value` under `mask` by at most `limit`."""

    byteorder: Literal["big", "little"]
    mask: int
    limit: int
    value: int = 0
    bits: int = 256

    def accepts(self, digest: bytes) -> bool:
        """Whether these bytes win."""
        return (int.from_bytes(digest, self.byteorder) ^ self.value) & self.mask <= self.limit

    def tests_per_hit(self) -> float:
        """How many random digests it takes on average to see one win."""
        return 2.0 ** self.mask.bit_count() / (self.limit + 1)

    def word_test(self) -> WordTest:
        """The test of one word that turns away most digests and never a winner.

        With a limit of zero every word must be equal under the mask, and the mask of trailing zeros is filled from the
        last word. With any other limit no winner's most significant word exceeds the limit's.
        """
        if self.limit == 0:
            return WordTest(True, self._last_word(self.value), self._last_word(self.mask), 0)
        shift = self.bits - 32
        return WordTest(
            self.byteorder == "little",
            *(number >> shift & ALL_ONES for number in (self.value, self.mask, self.limit)),
        )

    def _last_word(self, number: int) -> int:
        return int.from_bytes(number.to_bytes(self.bits // 8, self.byteorder)[-WORD_BYTES:], "little")


def rule_for_difficulty(match: str, difficulty: int, bits: int = 256) -> Rule:
    """The rule asking for `difficulty` (0..bits) zero bits in the sense of `match`, one of MATCHES."""
    if match == "trailing":
        return Rule("big", mask=2**difficulty - 1, limit=0, bits=bits)
    return Rule(_byteorder(match), 2**bits - 1, limit=2 ** (bits - difficulty) - 1, bits=bits)


def rule_for_target(match: str, target: bytes) -> Rule:
    """The rule asking for a digest of at most `target`, as many big-endian bytes as the digest has.

    Raises KernelError for "trailing", under which digests have no order to compare by.
    """
    if match == "trailing":
        raise KernelError(
            'target cannot go with match "trailing": use difficulty, or match "leading" or "bitcoin"'
        )
    bits = 8 * len(target)
    return Rule(_byteorder(match), 2**bits - 1, limit=int.from_bytes(target, "big"), bits=bits)


def rule_for_digest(digest: bytes) -> Rule:
    """The rule asking for exactly this digest."""
    bits = 8 * len(digest)
    return Rule("big", 2**bits - 1, limit=0, value=int.from_bytes(digest, "big"), bits=bits)


def _byteorder(match: str) -> Literal["big", "little"]:
    return "little" if match == "bitcoin" else "big"


def require_askable(hits_max: int, patterns: Sequence[Pattern]) -> None:
    """Raise KernelError for what no search can be asked: see `SamplingSearch.search`."""
    if hits_max < 1:
        raise KernelError("hits_max is at least 1")
    if len(patterns) > PATTERNS_MAX:
        raise KernelError(f"at most {PATTERNS_MAX} patterns")
    if not all(0 <= word <= ALL_ONES for pattern in patterns for word in pattern):
        raise KernelError("patterns are of 32 bits")
