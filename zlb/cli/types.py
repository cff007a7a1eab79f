"""What options take: text in, values out, and one clear line when the text is wrong."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from zlb.cli.integers import RangeError, parse_integer, parse_range
from zlb.core import endpoints
from zlb.core.config import Method, Scheme
from zlb.core.ids import Endpoint, NodeId, Span
from zlb.core.limits import COPIES_MAX, MS, PARAMS_BYTES_MAX, PRIORITY_MAX, SECOND, SLOTS_MAX
from zlb.drivers.manners import DAY_MINUTES, NICE_MAX, Quiet
from zlb.kernels.bitcoin import VERSIONS_MAX

DEFAULT_PEER = "tcp://127.0.0.1:7001"
DEFAULT_TRACKER = "tcp://127.0.0.1:7101"
SEED_FACTOR_MAX = 4.0

_UNITS = {
    "ns": 1,
    "us": MS // 1000,
    "ms": MS,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86_400 * SECOND,
}
_PIECE = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ns|us|ms|s|m|h|d)")
_PLAIN_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION_TEXT_MAX = 60
DURATION_NS_MAX = 3650 * _UNITS["d"]
"""Ten years: below every deadline the timers know, and no person waits longer."""

_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_HEX = re.compile(r"[0-9a-fA-F]*")


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """The size of subjobs: one of a time and a number of integers."""

    time_ns: int | None
    count: int | None


class RangeType(click.ParamType[Span]):
    """`A:B`, `A:+N` or `:B`, see `zlb.cli.integers`."""

    name = "spec"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Span:
        """The half-open range."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_range(str(value))
        except RangeError as error:
            self.fail(_pointed_out(error), param, ctx)


class DurationType(click.ParamType[int]):
    """`90` (seconds), `90s`, `250ms`, `5m`, `1h30m` as ns."""

    name = "dur"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """ns, more than none."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        duration_ns = duration_of(f"{text}s" if _PLAIN_SECONDS.fullmatch(text) else text)
        if duration_ns is None:
            self.fail(f"{value!r} is no duration: 90, 90s, 250ms, 5m or 1h30m", param, ctx)
        _bounded(self, duration_ns, param, ctx)
        return duration_ns


class Verification(NamedTuple):
    """How results are checked, and by how many each integer is searched."""

    method: Method
    copies: int

    @property
    def text(self) -> str:
        """As `--verify` takes it."""
        return f"{self.method}:{self.copies}" if self.method is Method.QUORUM else str(self.method)


class ChunkType(click.ParamType[ChunkSize]):
    """A duration with its unit (`250ms`) or a number of integers (`1e6`, `4Mi`)."""

    name = "dur|n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ChunkSize:
        """The one that was meant."""
        if isinstance(value, ChunkSize):
            return value
        text = str(value).strip()
        duration_ns = duration_of(text)
        if duration_ns is not None:
            _bounded(self, duration_ns, param, ctx)
            return ChunkSize(duration_ns, None)
        try:
            count = parse_integer(text)
        except RangeError as error:
            hint = "neither a duration (250ms, 2s) nor a number of integers (1e6, 4Mi)"
            self.fail(f"{hint}: {_pointed_out(error)}", param, ctx)
        if count == 0:
            self.fail("a subjob holds at least one integer", param, ctx)
        return ChunkSize(None, count)


class HexType(click.ParamType[bytes]):
    """So many bytes, or any number, as hexadecimal digits, most significant first, `0x` allowed."""

    name = "hex"

    def __init__(self, length: int | None = None) -> None:
        self.length = length

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The bytes."""
        if isinstance(value, bytes):
            return value
        text = str(value)
        found = hex_bytes(text[2:] if text[:2].lower() == "0x" else text)
        if isinstance(found, str):
            self.fail(found, param, ctx)
        if self.length is not None and len(found) != self.length:
            wanted = f"{2 * self.length} hex digits ({self.length} bytes)"
            self.fail(f"{wanted} are needed, these are {2 * len(found)}", param, ctx)
        return found


class BytesType(click.ParamType[bytes]):
    """Bytes as text, as `0x` and hex digits, or as `@` and the name of a file that holds them."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The bytes; text as the terminal sent it."""
        if isinstance(value, bytes):
            return value
        text = str(value)
        if text.startswith("@"):
            return self._content(text[1:], param, ctx)
        if not text.startswith("0x"):
            return os.fsencode(text)
        found = hex_bytes(text[2:])
        if isinstance(found, str):
            self.fail(f"{found} (0x starts hexadecimal)", param, ctx)
        return found

    def _content(self, name: str, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            with Path(name).open("rb") as file:
                content = file.read(PARAMS_BYTES_MAX + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no file has such a name"
            self.fail(f"file {name!r}: {why}", param, ctx)
        if len(content) > PARAMS_BYTES_MAX:
            self.fail(f"file {name!r} is longer than {PARAMS_BYTES_MAX} bytes", param, ctx)
        return content


class EndpointType(click.ParamType[Endpoint]):
    """`tcp://HOST:PORT`, `ipc://PATH` or `inproc://NAME`; `*` for host or port only where one listens."""

    name = "endpoint"

    def __init__(self, listening: bool = False, usual: str = DEFAULT_PEER) -> None:
        self.listening, self.usual = listening, usual

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """The endpoint as it was written."""
        text = str(value)
        try:
            parts = endpoints.parse(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if "*" in (parts.host, parts.port) and not self.listening:
            self.fail(f"{text!r}: to dial, name the host and the port", param, ctx)
        return Endpoint(text)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Several endpoints in one variable, between blanks or commas."""
        return [text for text in re.split(r"[\s,]+", rv) if text]

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The transports, and where one of its kind listens unless told otherwise."""
        return [CompletionItem(text) for text in (self.usual, "ipc://") if text.startswith(incomplete)]


class MembersType(click.ParamType[dict[NodeId, Endpoint]]):
    """`a=tcp://HOST:PORT,b=…`: who is where."""

    name = "id=endpoint,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[NodeId, Endpoint]:
        """The members, each once."""
        if isinstance(value, dict):
            return value
        members: dict[NodeId, Endpoint] = {}
        for piece in filter(None, re.split(r"[\s,]+", str(value))):
            name, mark, endpoint = piece.partition("=")
            if not mark:
                self.fail(f"{piece!r} is not ID=ENDPOINT, like a=tcp://127.0.0.1:7101", param, ctx)
            node = NodeNameType().convert(name, param, ctx)
            if node in members:
                self.fail(f"{name} is named twice", param, ctx)
            members[node] = EndpointType().convert(endpoint, param, ctx)
        if not members:
            self.fail("nobody is named", param, ctx)
        if len(set(members.values())) < len(members):
            self.fail("two of them have the same endpoint", param, ctx)
        return members


class NodeNameType(click.ParamType[NodeId]):
    """The name of a node, or of a cluster: printable ASCII without blanks."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> NodeId:
        """The name."""
        text = str(value)
        if not re.fullmatch(r"[!-~]{1,64}", text) or re.search(r"://|[=,]", text):
            self.fail(
                f"{text!r} is no name: 1 to 64 letters, digits and signs, none of them = or ,", param, ctx
            )
        return NodeId(text)


class PriorityType(click.ParamType[int]):
    """How much a job matters among others, from 0 to 9."""

    name = "n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if not re.fullmatch(r"[0-9]{1,9}", str(value)) or int(str(value)) > PRIORITY_MAX:
            self.fail(f"{str(value)!r} is no priority: 0 to {PRIORITY_MAX}", param, ctx)
        return int(str(value))


class VerifyType(click.ParamType[Verification]):
    """How results are checked: `none`, `shares`, `spot`, or `quorum:N`."""

    name = "level"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Verification:
        """The method, and how many search each integer."""
        if isinstance(value, Verification):
            return value
        method, colon, copies = str(value).partition(":")
        if method not in [one.value for one in Method] or bool(colon) != (method == Method.QUORUM):
            self.fail(f"{str(value)!r} is not none, shares, spot or quorum:N, like quorum:2", param, ctx)
        if not colon:
            return Verification(Method(method), 1)
        if not re.fullmatch(r"[0-9]{1,9}", copies) or not 2 <= int(copies) <= COPIES_MAX:
            self.fail(f"a quorum has 2 to {COPIES_MAX} members, not {copies!r}", param, ctx)
        return Verification(Method.QUORUM, int(copies))


class SchemeType(click.ParamType[tuple[Scheme, float]]):
    """How subjobs are sized: `factoring`, or `seed` with a factor from 1 to 4 (`seed:2.5`)."""

    name = "scheme"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Scheme, float]:
        """The scheme, and its factor."""
        if isinstance(value, tuple):
            return value
        scheme, colon, factor = str(value).partition(":")
        if scheme not in [one.value for one in Scheme] or (colon and scheme != Scheme.SEED):
            self.fail(f"{str(value)!r} is not factoring, seed or seed:FACTOR", param, ctx)
        if not colon:
            return Scheme(scheme), 1.0
        if not re.fullmatch(r"[0-9](\.[0-9]{1,9})?", factor) or not 1 <= float(factor) <= SEED_FACTOR_MAX:
            self.fail(
                f"the factor of the seed's scheme is 1 to {SEED_FACTOR_MAX:g}, not {factor!r}", param, ctx
            )
        return Scheme(scheme), float(factor)


class CountType(click.ParamType[int]):
    """A number of things, at least one, written like the integers of a range."""

    name = "n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        try:
            count = parse_integer(str(value))
        except RangeError as error:
            self.fail(_pointed_out(error), param, ctx)
        if count == 0:
            self.fail("at least 1", param, ctx)
        return count


class VersionsType(click.ParamType[int]):
    """How many versions of a block header are tried: a power of two, as far as BIP 320 goes."""

    name = "n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        try:
            count = parse_integer(str(value))
        except RangeError as error:
            self.fail(_pointed_out(error), param, ctx)
        if not 1 <= count <= VERSIONS_MAX or count & (count - 1):
            self.fail(f"{str(value)!r} is no power of two from 1 to {VERSIONS_MAX}", param, ctx)
        return count


class KernelType(click.ParamType[str]):
    """The name of a kernel; whether it is installed is found out when it is loaded."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The installed kernels."""
        from zlb.kernels import kernel_names

        return [CompletionItem(name) for name in kernel_names() if name.startswith(incomplete)]


ONE_PER_CORE = 0


class SlotsType(click.ParamType[int]):
    """A number of worker threads, or `cores` (`ONE_PER_CORE`)."""

    name = "n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; `ONE_PER_CORE` for as many as there are cores."""
        if value in ("cores", ONE_PER_CORE):
            return ONE_PER_CORE
        text = str(value)
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= SLOTS_MAX:
            self.fail(f"{text!r} is no number of threads from 1 to {SLOTS_MAX}", param, ctx)
        return int(text)


class PercentType(click.ParamType[int]):
    """A share of something, from 1 to 100 percent; the sign may be written."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        text = str(value).strip()
        if not re.fullmatch(r"[0-9]{1,9} ?%?", text) or not 1 <= int(text.rstrip(" %")) <= 100:
            self.fail(f"{text!r} is no whole percentage from 1 to 100", param, ctx)
        return int(text.rstrip(" %"))


class NiceType(click.ParamType[int]):
    """How far threads stand back, as `nice` has it; what takes more than its share needs other rights than ours."""

    name = "n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        text = str(value).strip()
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > NICE_MAX:
            self.fail(f"{text!r} is no niceness from 0 to {NICE_MAX}", param, ctx)
        return int(text)


class QuietType(click.ParamType[Quiet]):
    """`HH:MM-HH:MM`, hours of the local day; across midnight if the first is the later one."""

    name = "hh:mm-hh:mm"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Quiet:
        """The hours in minutes."""
        if isinstance(value, Quiet):
            return value
        text = str(value).strip()
        found = _HOURS.fullmatch(text)
        if found is None:
            self.fail(f"{text!r} is not HH:MM-HH:MM, like 09:00-17:30 or 22:00-07:00", param, ctx)
        for hour, minute in ((found[1], found[2]), (found[3], found[4])):
            if int(minute) > 59 or int(hour) * 60 + int(minute) > DAY_MINUTES:
                self.fail(f"{text!r}: a day has no {hour}:{minute}", param, ctx)
        start, stop = (int(found[at]) * 60 + int(found[at + 1]) for at in (1, 3))
        if start in (stop, stop + DAY_MINUTES):
            self.fail(f"{text!r} ends when it begins; all day is 00:00-24:00", param, ctx)
        return Quiet(start % DAY_MINUTES, stop or DAY_MINUTES)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Several in one variable, between blanks or commas."""
        return [text for text in re.split(r"[\s,]+", rv) if text]


def duration_of(text: str) -> int | None:
    """ns of a duration in which every number has its unit, or None if `text` is none."""
    if not text or len(text) > _DURATION_TEXT_MAX:
        return None
    total_ns, position = 0, 0
    while position < len(text):
        found = _PIECE.match(text, position)
        if found is None:
            return None
        whole, part, unit = found[1], found[2] or "", found[3]
        total_ns += int(whole + part) * _UNITS[unit] // 10 ** len(part)
        position = found.end()
    return total_ns


def hex_bytes(digits: str) -> bytes | str:
    """The bytes, or one line about what is wrong."""
    good = _HEX.match(digits)
    assert good is not None
    if good.end() < len(digits):
        return f"{digits[good.end()]!a} (digit {good.end() + 1}) is not hexadecimal"
    if len(digits) % 2:
        return f"an odd number of hex digits ({len(digits)})"
    return bytes.fromhex(digits)


def _bounded(
    kind: click.ParamType[Any], duration_ns: int, param: click.Parameter | None, ctx: click.Context | None
) -> None:
    if duration_ns <= 0:
        kind.fail("a duration of nothing", param, ctx)
    if duration_ns > DURATION_NS_MAX:
        kind.fail("longer than ten years", param, ctx)


def _pointed_out(error: RangeError) -> str:
    picture = error.pointed_out().replace("\n", "\n    ")
    return f"{error.reason}\n\n    {picture}"
