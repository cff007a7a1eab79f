"""Operations on 32-bit words as FIPS 180-4 defines them (§2.2.2, §3.2, §4.1), for integers and uint32 arrays alike.

Hash functions (`zlb.kernels.fips180`) are written against this vocabulary and nothing else. Here it computes at once;
in `zlb.kernels.fold` the same names emit machine code.
"""

from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

WORD_BITS = 32
ALL_ONES = 0xFFFFFFFF

Words = npt.NDArray[np.uint32]
W = TypeVar("W")


class Operations(Protocol[W]):
    """The vocabulary; a `W` is whatever stands for a word. Plain integers may be mixed in everywhere."""

    def add(self, *terms: W | int) -> W:
        """The sum modulo 2^32, added up in the order given."""
        ...

    def rotr(self, x: W, n: int) -> W:
        """ROTR^n(x), with 0 < n < 32."""
        ...

    def shr(self, x: W, n: int) -> W:
        """SHR^n(x), with 0 < n < 32."""
        ...

    def parity(self, x: W, y: W, z: W) -> W:
        """x xor y xor z."""
        ...

    def ch(self, x: W, y: W, z: W) -> W:
        """Each bit of y where x has a one, else of z."""
        ...

    def maj(self, x: W, y: W, z: W) -> W:
        """Each bit as the majority has it."""
        ...


class Plain:
    """The operations on integers in [0, 2^32), and elementwise on arrays of uint32, which wrap by themselves."""

    def add(self, *terms: Any) -> Any:
        """See `Operations.add`."""
        total = terms[0]
        for term in terms[1:]:
            total = (total + term) & ALL_ONES
        return total

    def rotr(self, x: Any, n: int) -> Any:
        """See `Operations.rotr`."""
        return (x >> n | x << (WORD_BITS - n)) & ALL_ONES

    def shr(self, x: Any, n: int) -> Any:
        """See `Operations.shr`."""
        return x >> n

    def parity(self, x: Any, y: Any, z: Any) -> Any:
        """See `Operations.parity`."""
        return x ^ y ^ z

    def ch(self, x: Any, y: Any, z: Any) -> Any:
        """See `Operations.ch`."""
        return z ^ (x & (y ^ z))

    def maj(self, x: Any, y: Any, z: Any) -> Any:
        """See `Operations.maj`."""
        return (x & y) | (z & (x | y))


PLAIN = Plain()


def words_of(data: bytes) -> Words:
    """Bytes as big-endian words, the way both hash functions read messages (§3.1)."""
    return np.frombuffer(data, ">u4").astype(np.uint32)
