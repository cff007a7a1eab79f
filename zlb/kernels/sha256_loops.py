"""SHA-256 of many messages at once, compiled: the section numbers are those of FIPS 180-4.

Sixteen messages run side by side, one per lane. Every variable of the standard is a row of LANES words, and the
innermost loops run along rows, which is what LLVM turns into the widest vector instructions of the machine. All rows
of one array lie at distances known when compiling; LLVM could not prove otherwise that writing one row leaves
the others alone.

Every step is wrapped in `np.uint32`, because numba widens the sum, shift or union of two of them to 64 bits.
Importing this module compiles it, or loads it from numba's cache: only `Kernel.prepare` should.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

U32 = np.uint32
Words = npt.NDArray[np.uint32]
F = TypeVar("F", bound=Callable[..., object])

# Two of the 256-bit registers or one of 512 bits: enough independent work to hide latencies, small enough for L1.
LANES = 16

# §4.2.2: first 32 bits of the fractional parts of the cube roots of the first 64 primes.
K = np.array(
    [
        0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
        0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
        0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
        0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
        0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
        0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
        0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
        0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
    ],
    np.uint32,
)  # fmt: skip

# §5.3.3: first 32 bits of the fractional parts of the square roots of the first 8 primes.
H0 = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19],
    np.uint32,
)


def compiled(function: F) -> F:
    """Compile when first called from compiled code."""
    return cast(F, numba.njit(nogil=True)(function))


def compiled_now(signature: str) -> Callable[[F], F]:
    """Compile at once for one signature and keep the machine code in numba's cache."""

    def decorate(function: F) -> F:
        return cast(F, numba.njit(signature, nogil=True, cache=True)(function))

    return decorate


# --- SHA-256 along the lanes ---------------------------------------------------------------------------------------


@compiled
def rotr(x: U32, n: int) -> U32:
    """ROTR^n(x) of §3.2."""
    return U32(U32(x >> U32(n)) | U32(x << U32(32 - n)))


@compiled
def step(a: U32, b: U32, c: U32, d: U32, e: U32, f: U32, g: U32, h: U32, kw: U32) -> tuple[U32, U32]:
    """One round of §6.2.2 step 3, given K_t + W_t: the new e and the new a.

    The other six variables only change their names, which is left to the caller.
    """
    ch = U32((e & f) ^ (~e & g))
    maj = U32((a & b) ^ (a & c) ^ (b & c))
    sum0 = U32(rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22))
    sum1 = U32(rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25))
    t1 = U32(h + sum1 + ch + kw)
    return U32(d + t1), U32(t1 + sum0 + maj)


@compiled
def compress(state: Words, w: Words, work: Words) -> None:
    """Replace the hash values H by those after one more block (§6.2.2), in every lane.

    `state`: 8 rows; `w`: 64 rows, of which the first 16 hold the block and the rest are overwritten; `work`: 8 rows
    of scratch for the working variables.
    """
    for t in range(16, 64):  # step 1: the message schedule
        for i in range(LANES):
            x, y = w[(t - 15) * LANES + i], w[(t - 2) * LANES + i]
            sigma0 = U32(rotr(x, 7) ^ rotr(x, 18) ^ U32(x >> U32(3)))
            sigma1 = U32(rotr(y, 17) ^ rotr(y, 19) ^ U32(y >> U32(10)))
            w[t * LANES + i] = U32(sigma1 + w[(t - 7) * LANES + i] + sigma0 + w[(t - 16) * LANES + i])
    for i in range(8 * LANES):  # step 2
        work[i] = state[i]
    for t in range(0, 64, 8):  # step 3; after eight rounds each variable has its own name again
        for i in range(LANES):
            a, b, c, d = work[i], work[LANES + i], work[2 * LANES + i], work[3 * LANES + i]
            e, f, g, h = work[4 * LANES + i], work[5 * LANES + i], work[6 * LANES + i], work[7 * LANES + i]
            d, h = step(a, b, c, d, e, f, g, h, U32(K[t] + w[t * LANES + i]))
            c, g = step(h, a, b, c, d, e, f, g, U32(K[t + 1] + w[(t + 1) * LANES + i]))
            b, f = step(g, h, a, b, c, d, e, f, U32(K[t + 2] + w[(t + 2) * LANES + i]))
            a, e = step(f, g, h, a, b, c, d, e, U32(K[t + 3] + w[(t + 3) * LANES + i]))
            h, d = step(e, f, g, h, a, b, c, d, U32(K[t + 4] + w[(t + 4) * LANES + i]))
            g, c = step(d, e, f, g, h, a, b, c, U32(K[t + 5] + w[(t + 5) * LANES + i]))
            f, b = step(c, d, e, f, g, h, a, b, U32(K[t + 6] + w[(t + 6) * LANES + i]))
            e, a = step(b, c, d, e, f, g, h, a, U32(K[t + 7] + w[(t + 7) * LANES + i]))
            work[i], work[LANES + i], work[2 * LANES + i], work[3 * LANES + i] = a, b, c, d
            work[4 * LANES + i], work[5 * LANES + i], work[6 * LANES + i], work[7 * LANES + i] = e, f, g, h
    for i in range(8 * LANES):  # step 4
        state[i] = U32(state[i] + work[i])


@compiled
def set_rows(rows: Words, values: Words) -> None:
    """Put `values[r]` into all lanes of row r."""
    for r in range(values.size):
        value = values[r]
        for i in range(LANES):
            rows[r * LANES + i] = value


@compiled
def hash_lanes(midstate: Words, blocks: Words, twice: bool, state: Words, w: Words, work: Words) -> None:
    """Leave in `state` the digest of each lane's message: `midstate`, then `blocks` (rows), then again if `twice`."""
    set_rows(state, midstate)
    for block in range(blocks.size // (16 * LANES)):
        for i in range(16 * LANES):
            w[i] = blocks[block * 16 * LANES + i]
        compress(state, w, work)
    if twice:
        for i in range(8 * LANES):
            w[i] = state[i]
        for i in range(8 * LANES, 16 * LANES):  # the padding of a 256-bit message (§5.1.1)
            w[i] = U32(0)
        for i in range(LANES):
            w[8 * LANES + i] = U32(0x80000000)
            w[15 * LANES + i] = U32(256)
        set_rows(state, H0)
        compress(state, w, work)


# --- the odometer --------------------------------------------------------------------------------------------------


@compiled
def count_up(tail: Words, fastest: int, towards: int, wheels: int, successors: npt.NDArray[np.uint8]) -> None:
    """Add one to the integer written in `tail`, bytes in words as SHA-256 reads them.

    Its fastest wheel is byte `fastest`, the next ones follow in direction `towards` (zlb.kernels.encoding). Past the
    largest number of so many wheels it starts over, touching nothing outside.
    """
    at = fastest
    for _ in range(wheels):
        shift = U32(24 - 8 * (at & 3))
        word = tail[at >> 2]
        digit = U32(word >> shift) & U32(255)
        after = U32(successors[digit])
        tail[at >> 2] = U32(word + U32(U32(after - digit) << shift))
        # Digits stand in ascending order in all encodings, so the only step down is the one round to the first.
        if after > digit:
            return
        at += towards


@compiled
def fill_lanes(
    blocks: Words, tail: Words, fastest: int, towards: int, wheels: int, successors: npt.NDArray[np.uint8]
) -> None:
    """Give each lane of `blocks` the integer of `tail` and count it up by one from lane to lane."""
    slowest = fastest + towards * (wheels - 1)
    for i in range(LANES):
        for word in range(min(fastest, slowest) >> 2, (max(fastest, slowest) >> 2) + 1):
            blocks[word * LANES + i] = tail[word]
        count_up(tail, fastest, towards, wheels, successors)


# --- the two tests -------------------------------------------------------------------------------------------------


@compiled
def number_word(state: Words, word: int, lane: int, little: bool) -> U32:
    """Word `word`, most significant first, of a lane's digest read as a big- or little-endian number."""
    if little:
        x = state[(7 - word) * LANES + lane]
        return U32((x >> U32(24)) | (x >> U32(8)) & U32(0xFF00) | (x & U32(0xFF00)) << U32(8) | x << U32(24))
    return state[word * LANES + lane]


@compiled
def any_survivor(state: Words, bounds: Words, little: bool, telling: int) -> bool:
    """Whether any lane passes the test on the one telling word (zlb.kernels.matching)."""
    mask, limit = bounds[0, telling], bounds[1, telling]
    survivors = 0
    for i in range(LANES):
        survivors += U32(number_word(state, telling, i, little) & mask) <= limit
    return survivors > 0


@compiled
def is_hit(state: Words, bounds: Words, little: bool, lane: int) -> bool:
    """Whether a lane's whole digest passes: its number under `bounds[0]` is at most `bounds[1]`."""
    for word in range(8):
        x = U32(number_word(state, word, lane, little) & bounds[0, word])
        if x != bounds[1, word]:
            return x < bounds[1, word]
    return True


# --- the search ----------------------------------------------------------------------------------------------------


def _peek(typing_context, flag):  # type: ignore[no-untyped-def]
    """Read `flag[0]` anew at every call.

    A plain load of memory that this thread never writes may be moved out of the loop; an atomic one may not.
    """

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, "monotonic", 1)

    return numba.types.uint8(flag), emit


peek = cast(Callable[[npt.NDArray[np.uint8]], int], intrinsic(_peek))


@compiled_now("uint32[::1](uint32[::1])")
def absorb(blocks: Words) -> Words:
    """The hash values after whole 16-word blocks: the midstate all messages with this beginning share."""
    state, work = np.empty(8 * LANES, np.uint32), np.empty(8 * LANES, np.uint32)
    w = np.empty(64 * LANES, np.uint32)
    set_rows(state, H0)
    for block in range(0, blocks.size, 16):
        set_rows(w, blocks[block : block + 16])
        compress(state, w, work)
    return state[::LANES].copy()


@compiled_now(
    "UniTuple(int64, 2)(uint32[::1], uint32[::1], int64, int64, int64, Array(uint8, 1, 'C', readonly=True),"
    " boolean, uint32[:, ::1], boolean, int64, int64, int64[::1], uint8[::1])"
)
def search(
    midstate: Words,
    tail: Words,
    fastest: int,
    towards: int,
    wheels: int,
    successors: npt.NDArray[np.uint8],
    twice: bool,
    bounds: Words,
    little: bool,
    telling: int,
    count: int,
    offsets: npt.NDArray[np.int64],
    stop_flag: npt.NDArray[np.uint8],
) -> tuple[int, int]:
    """Test up to `count` messages in a row: how many were tested, and how many hits are now in `offsets`.

    Ends early when `offsets` is full, right after the hit that filled it, or at the next turn of the loop after
    `stop_flag[0]` became non-zero.

    Parameters
    ----------
    midstate : uint32[8]      hash values after the blocks before `tail`
    tail : uint32[16 * b]     the rest of the first message with its padding; overwritten
    fastest, towards, wheels  where in `tail`, counted in bytes, the integer stands (`count_up`)
    successors : uint8[256]   the digit after each digit
    bounds : uint32[2, 8]     mask and limit of the rule, most significant word first
    little                    whether digests are read as little-endian numbers
    telling                   which word of that number to test first
    """
    blocks = np.empty(tail.size * LANES, np.uint32)
    state, work = np.empty(8 * LANES, np.uint32), np.empty(8 * LANES, np.uint32)
    w = np.empty(64 * LANES, np.uint32)
    set_rows(blocks, tail)
    tested = found = 0
    while tested < count and peek(stop_flag) == 0:
        fill_lanes(blocks, tail, fastest, towards, wheels, successors)
        hash_lanes(midstate, blocks, twice, state, w, work)
        if any_survivor(state, bounds, little, telling):
            for i in range(min(LANES, count - tested)):
                if is_hit(state, bounds, little, i):
                    offsets[found] = tested + i
                    found += 1
                    if found == offsets.size:
                        return tested + i + 1, found
        tested += LANES
    return min(tested, count), found
