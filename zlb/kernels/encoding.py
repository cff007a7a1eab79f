"""Six ways to write an integer into a message, all seen as one odometer.

Each encoding is a row of wheels. A wheel is one byte running through the digits of its base; when it comes round to
the first digit, the next wheel moves by one. What differs is the digits (ASCII 0-9, ASCII 0-9a-f, or all 256 bytes),
whether wheels are added as numbers grow, and on which side the fastest wheel sits. Counting by bytes is what lets a
compiled loop go from one message to the next without dividing.
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
    """Wheels of every integer, or None: as many as it needs, without leading zeros."""
    capacity: int
    """One more than the largest integer that can be written."""
    fastest_first: bool = False
    """Whether the least significant digit is the first byte, i.e. little-endian."""

    def encode(self, n: int) -> bytes:
        """The bytes for `n`, which must lie in [0, capacity)."""
        if self.width is not None:
            return n.to_bytes(self.width, "little" if self.fastest_first else "big")
        return b"%d" % n if len(self.digits) == 10 else b"%x" % n

    def segments(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut [start, stop) where the number of wheels changes; yields [first, end) pieces in order."""
        if self.width is not None:
            if start < stop:
                yield start, stop
            return
        first = start
        while first < stop:
            end = min(stop, len(self.digits) ** len(self.encode(first)))
            yield first, end
            first = end

    def fastest_wheel(self, wheels: int) -> tuple[int, int]:
        """Of a number of so many wheels: the index of the one that always moves, and the step (-1, 1) to the next."""
        return (0, 1) if self.fastest_first else (wheels - 1, -1)

    def successors(self) -> bytes:
        """256 bytes: at each digit's place the digit that follows it, round to the first after the last.

        What stands at bytes that are no digits is never looked at.
        """
        table = bytearray(256)
        for digit, after in zip(self.digits, self.digits[1:] + self.digits[:1], strict=True):
            table[digit] = after
        return bytes(table)


_ALL_BYTES = bytes(range(256))

ENCODINGS = MappingProxyType(
    {
        encoding.name: encoding
        for encoding in (
            Encoding("dec", b"0123456789", None, 2**64),
            Encoding("hex", b"0123456789abcdef", None, 2**64),
            Encoding("u32le", _ALL_BYTES, 4, 2**32, fastest_first=True),
            Encoding("u32be", _ALL_BYTES, 4, 2**32),
            Encoding("u64le", _ALL_BYTES, 8, 2**64, fastest_first=True),
            Encoding("u64be", _ALL_BYTES, 8, 2**64),
        )
    }
)
