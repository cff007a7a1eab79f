"""Rows and columns, put together again, are the padded messages, whatever their prefix, digits and suffix."""

import hashlib
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.kernels.encoding import ENCODINGS, Encoding
from zlb.kernels.fips180 import BLOCK_WORDS, SHA1, SHA256, HashFunction, compress, padding
from zlb.kernels.layout import COLUMN_SLACK, LOW_DIGITS, Layout, Rows, absorb, low_digits
from zlb.kernels.words import PLAIN, words_of

BLOCK = 64


class Case(NamedTuple):
    """Numbers [start, stop) of `digits` digits in messages of one or more beginnings."""

    function: HashFunction
    prefixes: list[bytes]
    encoding: Encoding
    digits: int
    suffix: bytes
    start: int
    stop: int

    def message(self, beginning: int, n: int) -> bytes:
        return self.prefixes[beginning] + self.encoding.encode(n) + self.suffix

    def layout(self) -> Layout:
        return Layout(self.function, self.prefixes, self.encoding, self.digits, self.suffix)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    encoding = ENCODINGS[draw(st.sampled_from(sorted(ENCODINGS)))]
    if encoding.width is not None:
        digits, lowest, end = encoding.width, 0, encoding.capacity
    else:
        digits = draw(st.integers(1, len(encoding.encode(encoding.capacity - 1))))
        lowest = encoding.base ** (digits - 1) if digits > 1 else 0
        end = min(encoding.capacity, encoding.base**digits)
    # Several beginnings differ in whole blocks only, as those of a block header do.
    beginnings = draw(st.sampled_from([1, 1, 1, 2, 4]))
    common = draw(st.binary(max_size=70 if beginnings > 1 else 200))
    blocks = [draw(st.binary(min_size=BLOCK, max_size=BLOCK)) for _ in range(beginnings)]
    prefixes = [block + common for block in blocks] if beginnings > 1 else [common]
    start = draw(st.integers(lowest, end - 1) | st.integers(lowest, min(end - 1, lowest + 10**6)))
    stop = min(end, start + draw(st.integers(1, 200) | st.integers(1, 200_000)))
    function = draw(st.sampled_from([SHA1, SHA256]))
    return Case(function, prefixes, encoding, digits, draw(st.binary(max_size=200)), start, stop)


def rebuilt(layout: Layout, rows: Rows, beginning: int, n: int) -> tuple[list[int], list[int]]:
    """The hash values a number's message is hashed on from, and the words that are then hashed."""
    row, index = divmod(n - rows.base, layout.span)
    words = rows.table[row].tolist()
    hashes = len(layout.function.initial)
    state = words[beginning * hashes : (beginning + 1) * hashes]
    blocks = words[layout.beginnings * hashes : -2]
    column = 0
    for block, varying in enumerate(layout.varying):
        for word in varying:
            assert blocks[block * BLOCK_WORDS + word] & int(layout.columns[column, index]) == 0
            blocks[block * BLOCK_WORDS + word] += int(layout.columns[column, index])
            column += 1
    assert column == len(layout.columns)
    return state, [*blocks, *layout.tail.ravel().tolist()]


@settings(max_examples=300)
@given(case=cases(), data=st.data())
def test_rows_and_columns_are_the_padded_messages(case: Case, data: st.DataObject) -> None:
    layout, start, stop = case.layout(), case.start, case.stop
    rows = layout.rows(start, stop)
    edges = [n for row in range(1, len(rows.table)) for n in (row * layout.span - 1, row * layout.span)]
    inside = data.draw(st.lists(st.integers(start, stop - 1), max_size=5))
    for n in (start, stop - 1, *(rows.base + at for at in edges[:4]), *inside):
        for beginning in range(layout.beginnings):
            message = case.message(beginning, n)
            state, words = rebuilt(layout, rows, beginning, n)
            padded = words_of(message + padding(len(message))).tolist()
            before, hashed = padded[: -len(words)], padded[-len(words) :]
            assert words == hashed
            after: tuple[int, ...] = case.function.initial
            for at in range(0, len(before), BLOCK_WORDS):
                after = compress(PLAIN, case.function, after, before[at : at + BLOCK_WORDS])
            assert tuple(state) == after


@given(case=cases())
def test_what_is_laid_out_hashes_as_hashlib_does(case: Case) -> None:
    layout, n = case.layout(), case.start
    rows = layout.rows(n, case.stop)
    for beginning in range(layout.beginnings):
        state, words = rebuilt(layout, rows, beginning, n)
        for at in range(0, len(words), BLOCK_WORDS):
            state = list(compress(PLAIN, case.function, state, words[at : at + BLOCK_WORDS]))
        digest = hashlib.new(case.function.name, case.message(beginning, n)).digest()
        assert state == words_of(digest).tolist()


@given(case=cases())
def test_rows_cover_the_range_and_nothing_else(case: Case) -> None:
    layout = case.layout()
    rows = layout.rows(case.start, case.stop)
    assert rows.base % layout.span == 0
    firsts, counts = rows.table[:, -2].tolist(), rows.table[:, -1].tolist()
    at = case.start
    for row, (first, count) in enumerate(zip(firsts, counts, strict=True)):
        assert count > 0
        assert first + count <= layout.span
        assert rows.base + row * layout.span + first == at
        at += count
    assert at == case.stop


@given(case=cases())
def test_columns_have_room_for_the_last_group_of_a_row(case: Case) -> None:
    layout = case.layout()
    assert layout.columns.shape[1] == layout.span + COLUMN_SLACK
    assert not layout.columns[:, layout.span :].any()
    assert not layout.columns.flags.writeable
    assert layout.varying[0]


@given(case=cases())
def test_a_prepared_tail_is_the_schedule_with_its_constants(case: Case) -> None:
    layout, function = case.layout(), case.function
    assert layout.prepared_tail.shape == (len(layout.tail), len(function.constants))
    for block, prepared in zip(layout.tail.tolist(), layout.prepared_tail.tolist(), strict=True):
        assert prepared[:BLOCK_WORDS] == [
            (word + k) % 2**32 for word, k in zip(block, function.constants[:BLOCK_WORDS], strict=True)
        ]
        variables: tuple[int, ...] = function.initial
        for t, word in enumerate(prepared):
            variables = function.round(PLAIN, variables, word, t)
        sums = tuple((h + v) % 2**32 for h, v in zip(function.initial, variables, strict=True))
        assert sums == compress(PLAIN, function, function.initial, block)


@given(data=st.binary(max_size=300))
def test_a_midstate_is_where_hashlib_goes_on_from(data: bytes) -> None:
    whole = data[: len(data) // BLOCK * BLOCK]
    last = words_of(padding(len(whole))).tolist()
    state = compress(PLAIN, SHA256, absorb(SHA256, whole), last)
    assert np.array(state, ">u4").tobytes() == hashlib.sha256(whole).digest()


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_low_digits_stay_in_one_block_if_rows_stay_long(name: str) -> None:
    encoding = ENCODINGS[name]
    for prefix_bytes, digits in product(
        range(2 * BLOCK), (encoding.width,) if encoding.width else range(1, 17)
    ):
        low, most = low_digits(encoding, digits, prefix_bytes), min(digits, LOW_DIGITS[encoding.base])
        assert 1 <= low <= most
        first = prefix_bytes if encoding.little else prefix_bytes + digits - low
        if low < most:
            assert encoding.base**low >= 1000
            assert first // BLOCK == (first + low - 1) // BLOCK
