"""Ranges as people write them: the grammar, one clear error for everything else, and merging against naive sets."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zlb.cli.integers import SUFFIXES, RangeError, merge, parse_integer, parse_range
from zlb.core.limits import INTEGERS_MAX

INTEGERS = st.integers(0, INTEGERS_MAX)
ALPHABET = "0123456789_xobaefXOBkMGTi.:+-*^ "


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("007", 7),
        ("1_000_000", 10**6),
        ("0x1F", 31),
        ("0xff_ff", 65535),
        ("0o17", 15),
        ("0b1010", 10),
        ("1e6", 10**6),
        ("1E+6", 10**6),
        ("2.5e9", 2_500_000_000),
        ("1.50e1", 15),
        ("1.5M", 1_500_000),
        ("0.5Ki", 512),
        ("2**32", 2**32),
        ("2^32", 2**32),
        ("2 ** 32", 2**32),
        ("2**64", 2**64),
        ("0**0", 1),
        ("1**256", 1),
        ("64k", 64_000),
        ("4Gi", 2**32),
        ("2**32-1", 2**32 - 1),
        ("1e3+24", 1024),
        ("2**65-2**65+1", 1),
        ("1-2+3", 2),
    ],
)
def test_integers(text: str, value: int) -> None:
    assert parse_integer(text) == value


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_suffixes_are_powers_of_1000_or_1024(suffix: str) -> None:
    base = 1024 if suffix.endswith("i") else 1000
    assert parse_integer(f"3{suffix}") == 3 * base ** ("KMGT".index(suffix[0].upper()) + 1)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0:2**32", (0, 2**32)),
        ("5:6", (5, 6)),
        ("1e6:+64k", (10**6, 10**6 + 64_000)),
        (":4Gi", (0, 2**32)),
        (":+5", (0, 5)),
        (" 1 : 2 ", (1, 2)),
        ("2**64-1:2**64", (2**64 - 1, 2**64)),
        ("2**64-1:+1", (2**64 - 1, 2**64)),
    ],
)
def test_ranges(text: str, span: tuple[int, int]) -> None:
    assert parse_range(text) == span


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "a number, the start"),
        (":", 1, "a number, the end"),
        ("5:", 2, "a number, the end"),
        ("5:+", 3, "a number, the count"),
        ("5", 1, "needs a colon"),
        ("5:5", 2, "empty"),
        ("5:+0", 3, "empty"),
        ("9:5", 2, "reversed"),
        ("0:2**65", 2, "the end is above 2^64"),
        ("1:+2**64", 3, "the end is above 2^64"),
        ("2**65:0", 0, "the start is above 2^64"),
        ("1-2:5", 0, "the start is below 0"),
        ("0:5-7", 2, "the end is below 0"),
        ("-1:5", 0, "no negative numbers"),
        ("0:5:6", 3, "should end here"),
        ("0:5 6", 4, "should end here"),
        ("0:2**", 5, "a number, the exponent"),
        ("0:2**-1", 5, "no negative numbers"),
        ("0:2**257", 5, "an exponent is at most 256"),
        ("0:2**3**4", 6, "a power of a power"),
        ("0:1e257", 4, "an exponent is at most 256"),
        ("0:1.5", 2, "no whole number"),
        ("0:1.2345k", 2, "no whole number"),
        ("0:2x3", 3, "'x' is neither a digit here nor"),
        ("0:0x", 3, "'x' is neither a digit here nor"),
        ("0:0xfg", 5, "'g' is neither a digit here nor"),
        ("0:0b12", 5, "'2' does not belong"),
        ("0:1__0", 3, "'_' does not belong"),
        ("0:1_", 3, "'_' does not belong"),
        ("0:1K", 3, "'K' is neither"),
        ("0:1ki", 4, "'i' is neither"),
        ("0:0x1k", 5, "'k' is neither"),
        ("0:a", 2, "'a' belongs to no number"),
        ("0:\x07", 2, r"'\x07' belongs to no number"),
        ("0:٣", 2, "belongs to no number"),
        ("0:__import__('os')", 2, "belongs to no number"),
        ("0:" + "9" * 199, 200, "longer than 200"),
    ],
)
def test_errors_name_the_place(text: str, position: int, reason: str) -> None:
    with pytest.raises(RangeError) as caught:
        parse_range(text)
    assert reason in caught.value.reason
    assert (caught.value.text, caught.value.position) == (text, position)
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize("text", ["", "1:2", "1 2", "-1", "2**65", "1e"])
def test_what_is_no_single_integer(text: str) -> None:
    with pytest.raises(RangeError):
        parse_integer(text)


@pytest.mark.parametrize("text", ["0:2x", "1\t2:\n", "0:" + " " * 100 + "x" * 50, "9" * 500])
def test_the_caret_stands_below_the_character(text: str) -> None:
    with pytest.raises(RangeError) as caught:
        parse_range(text)
    shown, caret = caught.value.pointed_out().split("\n")
    assert caret.strip() == "^"
    assert len(shown) <= 80
    bad = text[caught.value.position]
    assert shown[len(caret) - 1] == (bad if bad.isprintable() else "?")


@given(
    INTEGERS, st.sampled_from(["{}", "{:_}", "{:#x}", "{:#o}", "{:#b}", "{:#_x}", "0X{:X}", "{} - 0", "1*{}"])
)
def test_written_integers_are_read_back(value: int, form: str) -> None:
    if form == "1*{}":  # as a power of itself
        assert parse_integer(f"{value}**1") == value
    else:
        assert parse_integer(form.format(value)) == value


@given(INTEGERS, INTEGERS)
def test_written_ranges_are_read_back(one: int, other: int) -> None:
    start, stop = sorted((one, other))
    if start == stop:
        with pytest.raises(RangeError):
            parse_range(f"{start}:{stop}")
    else:
        assert parse_range(f"{start}:{stop}") == parse_range(f"{start}:+{stop - start}") == (start, stop)


@given(st.one_of(st.text(), st.text(ALPHABET, max_size=30)))
@example("9" * 100 + "e256" + "**256:" + "9" * 50)
@example("\ud800:1")
@example("1:²")
def test_any_text_is_a_range_or_one_error(text: str) -> None:
    try:
        start, stop = parse_range(text)
    except RangeError as caught:
        error = caught
    else:
        assert 0 <= start < stop <= INTEGERS_MAX
        return
    assert 0 <= error.position <= len(text)
    assert error.pointed_out().endswith("^")


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10))))
def test_merging_keeps_the_integers(pieces: list[tuple[int, int]]) -> None:
    spans = [(start, start + count) for start, count in pieces]
    merged, overlapped = merge(spans)
    integers = [n for start, stop in spans for n in range(start, stop)]
    assert [n for start, stop in merged for n in range(start, stop)] == sorted({*integers})
    assert all(before[1] < after[0] for before, after in pairwise(merged))
    assert overlapped == (len(integers) > len({*integers}))
