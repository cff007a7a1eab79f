"""`--param NAME=VALUE`: parameters of kernels that have no options of their own, as they are written and shown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

import click

from zlb.cli.types import BytesType, hex_bytes

NAME_MAX = 64
SHOWN_MAX = 60
"""Characters of a value that a plan shows to people."""

_INTEGER = re.compile(r"(-?)(?:0[xX]([0-9a-fA-F]+)|([0-9]+))")
_HEX, _JSON = "hex:", "json:"

Value = object
"""A plain value of `wire.values`."""
Given = tuple[str, Value]


class ParamType(click.ParamType[Given]):
    """`NAME=VALUE`, where VALUE is an integer (100, -1, 0xff), bytes (`hex:00ff` or `@FILE`), JSON (`json:[1, 2]`)
    or else text."""

    name = "name=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Given:
        """The name and its value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{name[:NAME_MAX]!a} is no NAME=VALUE", param, ctx)
        if len(name) > NAME_MAX:
            self.fail(f"a name has at most {NAME_MAX} characters, this one {len(name)}", param, ctx)
        if not name.strip() or not name.isprintable():
            self.fail(f"{name!a} is no name: it has to be printable", param, ctx)
        return name, self._value(name, text, param, ctx)

    def _value(self, name: str, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Value:
        if text.startswith("@"):
            return BytesType().convert(text, param, ctx)
        if text.startswith(_HEX):
            digits = hex_bytes(text[len(_HEX) :])
            if isinstance(digits, str):
                self.fail(f"{name}: {digits} ({_HEX} starts hexadecimal)", param, ctx)
            return digits
        if text.startswith(_JSON):
            try:
                return _from_json(text[len(_JSON) :])
            except ValueError as error:
                self.fail(f"{name}: {_line(error)} ({_JSON} starts JSON)", param, ctx)
        if integer := _INTEGER.fullmatch(text):
            found = _integer(integer)
            if found is None:
                self.fail(f"{name}: integers have at most {_bits_max()} bits", param, ctx)
            return found
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{name}: this text is not UTF-8; bytes are written {_HEX}00ff", param, ctx)
        return text


def gathered(params: dict[str, object], given: tuple[Given, ...]) -> dict[str, object]:
    """What options said and what `--param` said; raises `click.UsageError` for a name that was given twice."""
    everything = dict(params)
    for name, value in given:
        if name in params:
            raise click.UsageError(f"--param {name}: another option has said it already")
        if name in everything:
            raise click.UsageError(f"--param {name}: given twice")
        everything[name] = value
    return everything


def written(params: Mapping[str, object]) -> dict[str, str]:
    """All values as `--param` takes them."""
    return {name: _written(value) for name, value in params.items()}


def shown(params: Mapping[str, object]) -> list[str]:
    """`NAME=VALUE` for people: a line each, shortened if long, nothing in it that a terminal would obey."""
    lines = []
    for name, value in written(params).items():
        text = value if value.isprintable() else ascii(value)
        cut = text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}... ({len(text)} characters)"
        lines.append(f"{name}={cut}")
    return lines


def _written(value: object) -> str:
    if isinstance(value, bytes):
        return f"{_HEX}{value.hex()}"
    if isinstance(value, str) or type(value) is int:
        return str(value)
    try:
        return _JSON + json.dumps(value)
    except (TypeError, ValueError):  # bytes in a list, which only programs can put there
        return str(value)


def _from_json(text: str) -> object:
    """The value, or ValueError if it is none or cannot travel."""
    from zlb.wire import values

    try:
        value = json.loads(text, parse_constant=_no_constant, parse_int=_whole, parse_float=_finite)
        values.pack({"": value})
    except RecursionError:
        raise ValueError(f"nested deeper than {values.DEPTH_MAX} levels") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it is not UTF-8") from None
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    found = _INTEGER.fullmatch(digits)
    value = None if found is None else _integer(found)
    if value is None:
        raise ValueError(f"integers have at most {_bits_max()} bits")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number in it is too large")
    return value


def _line(error: ValueError) -> str:
    """What is wrong, as one printable line."""
    said = str(error)
    return said if said.isprintable() else ascii(said)


def _bits_max() -> int:
    from zlb.wire import values

    return 8 * values.BIG_INTEGER_BYTES_MAX


def _integer(found: re.Match[str]) -> int | None:
    """The integer, or None if it cannot travel; Python itself refuses to read very long decimals."""
    sign, as_hex, as_decimal = found.groups()
    digits = (as_hex or as_decimal).lstrip("0") or "0"
    bits_max = _bits_max()
    if len(digits) > bits_max // 3:  # a decimal digit is 3.3 bits
        return None
    magnitude = int(digits, 16 if as_hex else 10)
    if magnitude.bit_length() > bits_max:
        return None
    return -magnitude if sign else magnitude
