"""When a digest wins: one inequality that covers trailing zeros, leading zeros and Bitcoin's targets.

Read the digest as a 256-bit number, keep the bits of a mask, compare with a limit:

    rule                     read as         mask       limit
    d trailing zero bits     big-endian      2^d - 1    0
    d leading zero bits      big-endian      all        2^(256-d) - 1
    leading, target T        big-endian      all        T
    d bits, Bitcoin order    little-endian   all        2^(256-d) - 1
    Bitcoin, target T        little-endian   all        T
"""

from dataclasses import dataclass
from typing import Literal

from zlb.kernels.interface import KernelError

MATCHES = ("trailing", "leading", "bitcoin")
DIGEST_BITS = 256

_ALL_BITS = 2**DIGEST_BITS - 1


@dataclass(frozen=True, slots=True)
class Rule:
    """A digest wins if, as a number with only the bits of `mask`, it is at most `limit`."""

    byteorder: Literal["big", "little"]
    mask: int
    limit: int

    def accepts(self, digest: bytes) -> bool:
        """Whether these 32 bytes win."""
        return int.from_bytes(digest, self.byteorder) & self.mask <= self.limit

    def tests_per_hit(self) -> float:
        """How many random digests it takes on average to see one win."""
        return 2.0 ** self.mask.bit_count() / (self.limit + 1)

    def telling_word(self) -> int:
        """Which 32-bit word of the number (0 = most significant) turns away most digests when tested alone.

        Testing `word & mask <= limit` on that word never turns away a winner: with a limit of zero every word
        must be zero under the mask, and the mask of trailing zeros is filled from the last word; with any other
        limit no winner's first word exceeds the limit's.
        """
        return 7 if self.limit == 0 else 0


def words(number: int) -> list[int]:
    """A 256-bit number as eight 32-bit words, most significant first."""
    return [number >> shift & 0xFFFFFFFF for shift in range(224, -1, -32)]


def rule_for_difficulty(match: str, difficulty: int) -> Rule:
    """The rule asking for `difficulty` (0..256) zero bits in the sense of `match`, one of MATCHES."""
    if match == "trailing":
        return Rule("big", mask=2**difficulty - 1, limit=0)
    return Rule(_byteorder(match), _ALL_BITS, limit=2 ** (DIGEST_BITS - difficulty) - 1)


def rule_for_target(match: str, target: bytes) -> Rule:
    """The rule asking for a digest of at most `target`, 32 big-endian bytes.

    Raises KernelError for "trailing", under which digests have no order to compare by.
    """
    if match == "trailing":
        raise KernelError(
            'target cannot go with match "trailing": use difficulty, or match "leading" or "bitcoin"'
        )
    return Rule(_byteorder(match), _ALL_BITS, limit=int.from_bytes(target, "big"))


def _byteorder(match: str) -> Literal["big", "little"]:
    return "little" if match == "bitcoin" else "big"
