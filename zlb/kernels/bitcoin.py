"""Bitcoin's block headers as puzzles for the `sha256d` kernel.

A header is 80 bytes: version (4), previous block (32), Merkle root (32), time (4), nBits (4), nonce (4), integers
little-endian. Mining is the search for a nonce that brings SHA-256d of it, as a little-endian number, to at most the
target that nBits abbreviates. The abbreviation is `arith_uint256::SetCompact` in Bitcoin Core.

When 2^32 nonces are not enough, BIP 320 leaves 16 bits of the version to the miner. Headers that differ in them only
have the second block in common, hence its message schedule: hashing several versions of one nonce is cheaper than as
many nonces.
"""

from dataclasses import dataclass

from zlb.kernels.interface import KernelError

HEADER_BYTES = 80
NONCES = 2**32

VERSION_SHIFT = 13
"""Where the 16 bits of BIP 320 begin."""
VERSIONS_MAX = 2**16
SHARED_VERSIONS_MAX = 4
"""Versions that share a schedule. More would share it further, for 16 % fewer operations at most instead of 12, but
their midstates no longer fit the registers."""

NONCE_AT = 76
_NBITS_AT = 72
_VERSION_BYTES = 4
_SIGN_BIT = 0x00800000
_MANTISSA_BITS = 0x007FFFFF


@dataclass(frozen=True, slots=True)
class Versions:
    """`count` versions of one block header, and how integers name a version and a nonce.

    Version i is the header's own with the bits of i flipped in those of BIP 320, so version 0 is the header's own. The
    integers of one nonce and the versions that share a schedule follow each other.
    """

    header: bytes
    """All of it but the nonce."""
    count: int
    """A power of two."""

    @property
    def shared(self) -> int:
        """How many versions share a schedule."""
        return min(self.count, SHARED_VERSIONS_MAX)

    def split(self, n: int) -> tuple[int, int]:
        """The version's number and the nonce that `n` stands for."""
        rest, within = divmod(n, self.shared)
        group, nonce = divmod(rest, NONCES)
        return group * self.shared + within, nonce

    def join(self, version: int, nonce: int) -> int:
        """The integer that stands for a version's number and a nonce."""
        group, within = divmod(version, self.shared)
        return (group * NONCES + nonce) * self.shared + within

    def field(self, version: int) -> int:
        """The version field of a header, by the version's number."""
        return int.from_bytes(self.header[:_VERSION_BYTES], "little") ^ version << VERSION_SHIFT

    def prefix(self, version: int) -> bytes:
        """The header up to its nonce, by the version's number."""
        return self.field(version).to_bytes(_VERSION_BYTES, "little") + self.header[_VERSION_BYTES:]


def read_versions(header: bytes, count: object) -> Versions:
    """`count` versions of a header without its nonce, or KernelError."""
    if len(header) != NONCE_AT:
        raise KernelError(f"versions go with block headers: a prefix of {NONCE_AT} bytes")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= VERSIONS_MAX:
        raise KernelError(f"versions is a power of two from 1 to {VERSIONS_MAX}")
    if count & (count - 1):
        raise KernelError(f"versions is a power of two from 1 to {VERSIONS_MAX}, not {count}")
    return Versions(header, count)


def header_params(header: bytes) -> dict[str, object]:
    """Parameters for `sha256d` that search the nonce of an 80-byte header against the target in its nBits.

    The nonce already in the header is ignored. Raises KernelError for another length or an impossible nBits.
    """
    if not isinstance(header, bytes) or len(header) != HEADER_BYTES:
        raise KernelError(f"a block header is {HEADER_BYTES} bytes")
    return {
        "prefix": header[:NONCE_AT],
        "encoding": "u32le",
        "match": "bitcoin",
        "target": nbits_to_target(int.from_bytes(header[_NBITS_AT:NONCE_AT], "little")),
    }


def nbits_to_target(nbits: int) -> bytes:
    """The 32-byte big-endian target a compact form stands for: 23 bits of mantissa times 256^(size - 3).

    Raises KernelError where Bitcoin Core sees a negative number, one past 256 bits, or zero: nothing can be mined.
    """
    if isinstance(nbits, bool) or not isinstance(nbits, int) or not 0 <= nbits < 2**32:
        raise KernelError("nBits is an integer of 32 bits")
    size, mantissa = nbits >> 24, nbits & _MANTISSA_BITS
    target = mantissa << 8 * (size - 3) if size > 3 else mantissa >> 8 * (3 - size)
    if target == 0:
        raise KernelError(f"nBits {nbits:#010x} stands for zero")
    if nbits & _SIGN_BIT:
        raise KernelError(f"nBits {nbits:#010x} stands for a negative number")
    if target >= 2**256:
        raise KernelError(f"nBits {nbits:#010x} stands for a number above 256 bits")
    return target.to_bytes(32, "big")
