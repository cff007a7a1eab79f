"""Messages of one length as the compiled loop takes them: rows of integers, and columns of last digits.

    | prefix              | high digits | low digits | suffix, padding                  |
    | midstate | uniform within a row   | columns    | uniform   | tail: same for all   |      blocks of 64 bytes
               |<-------- blocks of a row -------------------->|

Integers with the same high digits are a row, whose words are the same but for what the low digits add to one or two
of them. What they add is looked up in columns that all rows share. Numbers are thus never divided or counted up digit
by digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from zlb.kernels.encoding import Encoding
from zlb.kernels.fips180 import BLOCK_BYTES, BLOCK_WORDS, HashFunction, State, compress, padding
from zlb.kernels.words import PLAIN, Words, words_of

LOW_DIGITS = {10: 4, 16: 4, 256: 2}
"""By base: a row is long enough to make up for what its start costs, and its columns fit the second-level cache."""
ROW_MIN = 1000
"""Fewer low digits are taken, so that they stay within one block, if a row keeps this many integers: hashing two
blocks costs twice as much."""
COLUMN_SLACK = 64
"""Words behind each column: the last group of a row looks up lanes that are not in it."""


class Rows(NamedTuple):
    """Some rows as the compiled loop takes them (`zlb.kernels.scan.FRAME`), and the number at index 0 of the first."""

    table: Words
    base: int


class Layout:
    """How numbers of `digits` digits stand in the messages of a prefix, an encoding and a suffix.

    There are several prefixes if messages have several beginnings that differ in whole blocks only, as versions of a
    block header do: all are hashed with every number.
    """

    def __init__(
        self,
        function: HashFunction,
        prefixes: Sequence[bytes],
        encoding: Encoding,
        digits: int,
        suffix: bytes,
    ) -> None:
        self.function = function
        self.beginnings = len(prefixes)
        self._encoding = encoding
        self._digits = digits
        prefix_bytes = len(prefixes[0])
        end = padding(prefix_bytes + digits + len(suffix))
        self._low = low_digits(encoding, digits, prefix_bytes)
        self.span = encoding.base**self._low
        """Integers a whole row has."""
        low_at = prefix_bytes if encoding.little else prefix_bytes + digits - self._low
        first = low_at // BLOCK_BYTES
        beyond = (prefix_bytes + digits - 1) // BLOCK_BYTES + 1
        absorbed = min(first, prefix_bytes // BLOCK_BYTES)
        absorbed_bytes = absorbed * BLOCK_BYTES
        states = [absorb(function, prefix[:absorbed_bytes]) for prefix in prefixes]
        self._midstates = np.array(states, np.uint32).ravel()
        self._head = prefixes[0][absorbed_bytes:]
        self._leading = first - absorbed
        rest = suffix + end
        row_end = beyond * BLOCK_BYTES - (prefix_bytes + digits)
        self._rest, self.tail = rest[:row_end], words_of(rest[row_end:]).reshape(-1, BLOCK_WORDS)
        self.columns_at = column_words(low_at - first * BLOCK_BYTES, self._low)
        self.varying = tuple(
            tuple(at % BLOCK_WORDS for at in self.columns_at if at // BLOCK_WORDS == block)
            for block in range(beyond - first)
        )
        self.columns = columns(encoding, self._low, low_at % 4)

    @cached_property
    def prepared_tail(self) -> Words:
        """K_t + W_t of the blocks in `tail`, one row each."""
        function = self.function
        prepared = np.empty((len(self.tail), len(function.constants)), np.uint32)
        for block, row in zip(self.tail.tolist(), prepared, strict=True):
            w = block
            for t, k in enumerate(function.constants):
                if t >= BLOCK_WORDS:
                    w.append(function.schedule(PLAIN, w, t))
                row[t] = PLAIN.add(w[t], k)
        return prepared

    def rows(self, start: int, stop: int) -> Rows:
        """The rows of [start, stop), which is not empty and within numbers of this many digits."""
        highs = range(start // self.span, (stop - 1) // self.span + 1)
        text = b"".join([self._head + self._with_zeros(high) + self._rest for high in highs])
        words = words_of(text).reshape(len(highs), -1)
        blocks_at = self._midstates.size
        leading = BLOCK_WORDS * self._leading
        table = np.empty((len(highs), blocks_at + words.shape[1] - leading + 2), np.uint32)
        table[:, :blocks_at] = self._row_states(words[:, :leading])
        table[:, blocks_at:-2] = words[:, leading:]
        table[:, -2:] = 0, self.span
        table[0, -2:] = start % self.span, self.span - start % self.span
        table[-1, -1] -= self.span * highs.stop - stop
        return Rows(table, highs.start * self.span)

    def _with_zeros(self, high: int) -> bytes:
        """A number's digits with zero bytes for the low ones."""
        zeros, left = bytes(self._low), self._digits - self._low
        if self._encoding.little:
            return zeros + high.to_bytes(left, "little")
        if self._encoding.width is not None:
            return high.to_bytes(left, "big") + zeros
        return self._encoding.encode(high) + zeros if left else zeros

    def _row_states(self, leading: Words) -> Words:
        """Hash values after the leading blocks of each row, which have high digits but no low ones in them."""
        if not leading.size:
            return self._midstates
        after: list[Words] = []
        for midstate in self._midstates.reshape(self.beginnings, -1).tolist():
            state: State = tuple(midstate)
            for at in range(0, leading.shape[1], BLOCK_WORDS):
                state = compress(PLAIN, self.function, state, list(leading[:, at : at + BLOCK_WORDS].T))
            after += state
        return np.stack(after, axis=1)


def low_digits(encoding: Encoding, digits: int, prefix_bytes: int) -> int:
    """How many of the last digits vary within a row."""
    low = min(digits, LOW_DIGITS[encoding.base])
    in_last_block = (prefix_bytes + digits) % BLOCK_BYTES or BLOCK_BYTES
    in_first_block = BLOCK_BYTES - prefix_bytes % BLOCK_BYTES
    within = min(low, in_first_block if encoding.little else in_last_block)
    return within if encoding.base**within >= min(ROW_MIN, encoding.base**low) else low


def column_words(at: int, low: int) -> tuple[int, ...]:
    """Which words, counted from that of byte 0, `low` digits from byte `at` on lie in."""
    return tuple(range(at // 4, (at + low - 1) // 4 + 1))


@lru_cache(maxsize=32)
def columns(encoding: Encoding, low: int, at: int) -> Words:
    """What the low digits of 0, 1, 2 … add to each word they lie in, if the first of them is byte `at` (0..3)."""
    words = column_words(at, low)
    span = encoding.base**low
    numbers = np.arange(span)
    values = np.frombuffer(encoding.digits, np.uint8).astype(np.uint32)
    table = np.zeros((len(words), span + COLUMN_SLACK), np.uint32)
    for digit in range(low):
        weight = digit if encoding.little else low - 1 - digit
        place = at + digit
        table[place // 4, :span] |= values[numbers // encoding.base**weight % encoding.base] << 8 * (
            3 - place % 4
        )
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def absorb(function: HashFunction, data: bytes) -> State:
    """The midstate: hash values after whole blocks."""
    state: State = function.initial
    for block in words_of(data).reshape(-1, BLOCK_WORDS).tolist():
        state = compress(PLAIN, function, state, block)
    return state
