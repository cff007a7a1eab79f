"""SHA-1 and SHA-256 as FIPS 180-4 prints them: section numbers and letters are those of the standard.

Each function is a few expressions over `zlb.kernels.words.Operations`. Evaluated over integers they hash; over arrays
they hash many messages at once; over the values of `zlb.kernels.fold` they become machine code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zlb.kernels.words import WORD_BITS

# §4.2.2: first 32 bits of the fractional parts of the cube roots of the first 64 primes.
SHA256_K = (
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
)  # fmt: skip

# §5.3.3: first 32 bits of the fractional parts of the square roots of the first 8 primes.
SHA256_H = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip

# §4.2.1 and §5.3.1.
SHA1_K = (0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6)
SHA1_H = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)

BLOCK_BYTES = 64
BLOCK_WORDS = 16

State = tuple[Any, ...]
"""The working variables a, b, c … or the hash values H_0, H_1 …"""


@dataclass(frozen=True, slots=True)
class HashFunction:
    """One of the two standards: everything `compress` and the emitters need to know of it."""

    name: str
    initial: tuple[int, ...]
    """H^(0)."""
    constants: tuple[int, ...]
    """K_t of each round; their number is the number of rounds."""
    schedule: Callable[[Any, Any, int], Any] = field(repr=False)
    """`schedule(ops, w, t)`: W_t for t >= 16, out of the earlier words `w[t - 16]` to `w[t - 2]`."""
    round: Callable[[Any, State, Any, int], State] = field(repr=False)
    """`round(ops, state, kw, t)`: the working variables after round t, given K_t + W_t."""
    repeats: bool
    """Whether all rounds are alike but for their constant."""


def sha256_schedule(ops: Any, w: Any, t: int) -> Any:
    """W_t of §6.2.2 step 1."""
    x, y = w[t - 15], w[t - 2]
    sigma0 = ops.parity(ops.rotr(x, 7), ops.rotr(x, 18), ops.shr(x, 3))
    sigma1 = ops.parity(ops.rotr(y, 17), ops.rotr(y, 19), ops.shr(y, 10))
    return ops.add(w[t - 16], w[t - 7], sigma0, sigma1)


def sha256_round(ops: Any, state: State, kw: Any, _t: int) -> State:
    """§6.2.2 step 3. Terms stand in the order in which they become known, the last one closes the chain over e."""
    a, b, c, d, e, f, g, h = state
    sum0 = ops.parity(ops.rotr(a, 2), ops.rotr(a, 13), ops.rotr(a, 22))
    sum1 = ops.parity(ops.rotr(e, 6), ops.rotr(e, 11), ops.rotr(e, 25))
    t1 = ops.add(h, kw, ops.ch(e, f, g), sum1)
    t2 = ops.add(sum0, ops.maj(a, b, c))
    return ops.add(t1, t2), a, b, c, ops.add(d, t1), e, f, g


def sha1_schedule(ops: Any, w: Any, t: int) -> Any:
    """W_t of §6.1.2 step 1."""
    return rotl(ops, ops.parity(ops.parity(w[t - 16], w[t - 14], w[t - 8]), w[t - 3], 0), 1)


def sha1_round(ops: Any, state: State, kw: Any, t: int) -> State:
    """§6.1.2 step 3, with f_t of §4.1.1."""
    a, b, c, d, e = state
    f = (ops.ch, ops.parity, ops.maj, ops.parity)[t // 20](b, c, d)
    return ops.add(e, kw, f, rotl(ops, a, 5)), a, rotl(ops, b, 30), c, d


def rotl(ops: Any, x: Any, n: int) -> Any:
    """ROTL^n(x) of §3.2."""
    return ops.rotr(x, WORD_BITS - n)


SHA256 = HashFunction("sha256", SHA256_H, SHA256_K, sha256_schedule, sha256_round, repeats=True)
SHA1 = HashFunction(
    "sha1", SHA1_H, tuple(k for k in SHA1_K for _ in range(20)), sha1_schedule, sha1_round, repeats=False
)


def compress(ops: Any, function: HashFunction, state: Sequence[Any], block: Sequence[Any]) -> State:
    """The hash values after one more block of 16 words (§6.1.2, §6.2.2)."""
    w, variables = list(block), tuple(state)
    for t, k in enumerate(function.constants):
        if t >= BLOCK_WORDS:
            w.append(function.schedule(ops, w, t))
        variables = function.round(ops, variables, ops.add(w[t], k), t)
    return tuple(ops.add(h, variable) for h, variable in zip(state, variables, strict=True))


def padding(message_bytes: int) -> bytes:
    """What §5.1.1 appends to a message: a one bit, zeros, the length in bits as 64-bit integer."""
    zeros = -(message_bytes + 1 + 8) % BLOCK_BYTES
    return b"\x80" + bytes(zeros) + (8 * message_bytes).to_bytes(8, "big")
