"""Bitcoin's block headers as puzzles for the `sha256d` kernel.

A header is 80 bytes: version (4), previous block (32), Merkle root (32), time (4), nBits (4), nonce (4), integers
little-endian. Mining is the search for a nonce that brings SHA-256d of it, as a little-endian number, to at most the
target that nBits abbreviates. The abbreviation is `arith_uint256::SetCompact` in Bitcoin Core.
"""

from zlb.kernels.interface import KernelError

HEADER_BYTES = 80

_NONCE_AT = 76
_NBITS_AT = 72
_SIGN_BIT = 0x00800000
_MANTISSA_BITS = 0x007FFFFF


def header_params(header: bytes) -> dict[str, object]:
    """Parameters for `sha256d` that search the nonce of an 80-byte header against the target in its nBits.

    The nonce already in the header is ignored. Raises KernelError for another length or an impossible nBits.
    """
    if not isinstance(header, bytes) or len(header) != HEADER_BYTES:
        raise KernelError(f"a block header is {HEADER_BYTES} bytes")
    return {
        "prefix": header[:_NONCE_AT],
        "encoding": "u32le",
        "match": "bitcoin",
        "target": nbits_to_target(int.from_bytes(header[_NBITS_AT:_NONCE_AT], "little")),
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
