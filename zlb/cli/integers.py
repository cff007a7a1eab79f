"""Ranges of integers as people write them: `0:2**32`, `1e6:+64k`, `:4Gi`.

    range   = [sum] ":" ["+"] sum                   A:B and :B end before B, A:+N holds N integers
    sum     = power *(("+" | "-") power)
    power   = number [("**" | "^") number]          exponent at most 256
    number  = decimal [suffix] | "0x" hex | "0o" octal | "0b" binary
    decimal = digits ["." digits] [("e" | "E") ["+"] digits]        whole in the end, suffix included
    suffix  = "k" | "M" | "G" | "T" | "Ki" | "Mi" | "Gi" | "Ti"

`_` may stand between digits, blanks between the parts. Nothing is evaluated by Python.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zlb.core.ids import Span
from zlb.core.limits import INTEGERS_MAX

TEXT_MAX = 200
"""Characters of a range; the longest anybody needs is about 50."""
EXPONENT_MAX = 256
"""Of a power and of a decimal: bounds every number on the way at a few thousand digits."""

SUFFIXES = {
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_BASES = {"0x": 16, "0o": 8, "0b": 2}

_TOKEN = re.compile(
    r"""(?P<based>0[xX][0-9a-fA-F]+(_[0-9a-fA-F]+)*|0[oO][0-7]+(_[0-7]+)*|0[bB][01]+(_[01]+)*)
    |(?P<whole>[0-9]+(_[0-9]+)*)(\.(?P<part>[0-9]+(_[0-9]+)*))?([eE]\+?(?P<exponent>[0-9]+))?(?P<suffix>[KMGT]i|[kMGT])?
    |(?P<sign>\*\*|[-+^:])""",
    re.VERBOSE,
)
# What may follow a number without a blank; anything else is a digit or suffix that does not belong there.
_AFTER_NUMBER = re.compile(r"[-+*^:\s]|\Z")


class RangeError(ValueError):
    """A text is no range: what is wrong (`reason`, one line), in which `text`, at which character (`position`)."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.text = text
        self.position = position

    def pointed_out(self) -> str:
        """The text around the place, and a caret on the line below it."""
        first = max(0, self.position - 40)
        shown = "".join(char if char.isprintable() else "?" for char in self.text[first : first + 80])
        return f"{shown}\n{' ' * (self.position - first)}^"


class Token(NamedTuple):
    """A number (`sign` empty) or a sign, and where it stands."""

    sign: str
    value: int
    position: int


END = "the end"


def parse_range(text: str) -> Span:
    """The half-open range that `text` means, not empty and within 0..2^64; raises `RangeError` and nothing else."""
    parser = _Parser(text)
    start_at = parser.next.position
    start = 0 if parser.next.sign == ":" else parser.sum("start")
    _within_64_bits(start, "start", text, start_at)
    if parser.next.sign != ":":
        raise parser.error("a range needs a colon: A:B, A:+N or :B")
    parser.take()
    counted = parser.next.sign == "+"
    if counted:
        parser.take()
    stop_at = parser.next.position
    stop = parser.sum("count" if counted else "end") + (start if counted else 0)
    if parser.next.sign != END:
        raise parser.error("the range should end here")
    _within_64_bits(stop, "end", text, stop_at)
    if start == stop:
        raise RangeError("the range is empty: its end is not part of it", text, stop_at)
    if start > stop:
        raise RangeError(f"the range is reversed: it starts at {start} and ends at {stop}", text, stop_at)
    return start, stop


def parse_integer(text: str) -> int:
    """The single integer 0..2^64 that `text` means, in the same grammar; raises `RangeError` and nothing else."""
    parser = _Parser(text)
    value_at = parser.next.position
    value = parser.sum("integer")
    if parser.next.sign != END:
        raise parser.error("the integer should end here")
    _within_64_bits(value, "integer", text, value_at)
    return value


def merge(spans: Iterable[Span]) -> tuple[tuple[Span, ...], bool]:
    """The same integers as sorted disjoint spans, and whether any two of the given ones overlapped."""
    merged: list[Span] = []
    overlapped = False
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            overlapped = overlapped or start < merged[-1][1]
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return tuple(merged), overlapped


def _within_64_bits(value: int, what: str, text: str, position: int) -> None:
    if value < 0:
        raise RangeError(f"the {what} is below 0", text, position)
    if value > INTEGERS_MAX:
        raise RangeError(f"the {what} is above 2^64", text, position)


class _Parser:
    """One token of look-ahead; `sum` reads as far as a sum goes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = _tokens(text)
        self.next = next(self._tokens)

    def take(self) -> Token:
        """The next token, and move on."""
        taken = self.next
        self.next = next(self._tokens, taken)
        return taken

    def error(self, reason: str) -> RangeError:
        """An error at the next token."""
        return RangeError(reason, self.text, self.next.position)

    def sum(self, what: str) -> int:
        """Powers added and subtracted, from left to right."""
        value = self._power(what)
        while self.next.sign in ("+", "-"):
            sign = self.take().sign
            term = self._power("")
            value = value + term if sign == "+" else value - term
        return value

    def _power(self, what: str) -> int:
        base = self._number(what)
        if self.next.sign not in ("**", "^"):
            return base
        self.take()
        if self.next.value > EXPONENT_MAX:
            raise self.error(f"an exponent is at most {EXPONENT_MAX}")
        value: int = base ** self._number("exponent")
        if self.next.sign in ("**", "^"):
            raise self.error("a power of a power: write one")
        return value

    def _number(self, what: str) -> int:
        if self.next.sign == "-":
            raise self.error("there are no negative numbers here")
        if self.next.sign:
            raise self.error(f"here should be a number, the {what}" if what else "here should be a number")
        return self.take().value


def _tokens(text: str) -> Iterator[Token]:
    if len(text) > TEXT_MAX:
        raise RangeError(f"longer than {TEXT_MAX} characters", text, TEXT_MAX)
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position == len(text):
            yield Token(END, 0, position)
            return
        found = _TOKEN.match(text, position)
        if found is None:
            raise RangeError(f"{_shown(text[position])} belongs to no number", text, position)
        if found["sign"]:
            yield Token(found["sign"], 0, position)
        else:
            yield Token("", _value(found, text, position), position)
            if not _AFTER_NUMBER.match(text, found.end()):
                raise RangeError(_misplaced(text[found.end()]), text, found.end())
        position = found.end()


def _value(found: re.Match[str], text: str, position: int) -> int:
    if found["based"]:
        return int(found["based"].replace("_", ""), _BASES[found["based"][:2].lower()])
    part = (found["part"] or "").replace("_", "")
    exponent = int(found["exponent"] or 0)
    if exponent > EXPONENT_MAX:
        raise RangeError(f"an exponent is at most {EXPONENT_MAX}", text, found.start("exponent"))
    factor = SUFFIXES[found["suffix"]] if found["suffix"] else 1
    scaled: int = int(found["whole"].replace("_", "") + part) * 10**exponent * factor
    if scaled % 10 ** len(part):
        raise RangeError(f"{found[0]} is no whole number", text, position)
    return scaled // int(10 ** len(part))


def _misplaced(char: str) -> str:
    if char.isalpha():
        return f"{_shown(char)} is neither a digit here nor one of the suffixes {', '.join(SUFFIXES)}"
    return f"{_shown(char)} does not belong in a number"


def _shown(char: str) -> str:
    return repr(char) if char.isprintable() else ascii(char)
