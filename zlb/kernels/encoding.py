"""Six ways to write an integer into a message.

What differs is the digits (ASCII 0-9, ASCII 0-9a-f, or all 256 bytes), whether there is always the same number of
them, and on which side the least significant one stands. `zlb.kernels.layout` makes use of what is the same in all of
them: integers that differ in their last few digits only differ in as many bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to write integers in [0, capacity)."""

    name: str
    digits: bytes
    """The digits in counting order; the base is their number."""
    width: int | None
    """Digits of every integer, or None: as many as it needs, without leading zeros."""
    capacity: int
    """One more than the largest integer that can be written."""
    little: bool = False
    """Whether the least significant digit comes first."""

    @property
    def base(self) -> int:
        """Integers a digit tells apart."""
        return len(self.digits)

    def encode(self, n: int) -> bytes:
        """The bytes for `n`, which must lie in [0, capacity)."""
        if self.width is not None:
            return n.to_bytes(self.width, "little" if self.little else "big")
        return b"%d" % n if self.base == 10 else b"%x" % n

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut [start, stop) where the number of digits changes; yields [first, end) pieces in order."""
        if self.width is not None:
            if start < stop:
                yield start, stop
            return
        first = start
        while first < stop:
            end = min(stop, self.base ** len(self.encode(first)))
            yield first, end
            first = end


_ALL_BYTES = bytes(range(256))

ENCODINGS = MappingProxyType(
    {
        encoding.name: encoding
        for encoding in (
            Encoding("dec", b"0123456789", None, 2**64),
            Encoding("hex", b"0123456789abcdef", None, 2**64),
            Encoding("u32le", _ALL_BYTES, 4, 2**32, little=True),
            Encoding("u32be", _ALL_BYTES, 4, 2**32),
            Encoding("u64le", _ALL_BYTES, 8, 2**64, little=True),
            Encoding("u64be", _ALL_BYTES, 8, 2**64),
        )
    }
)
