"""The coverage certificate of a finished job: who searched which integers when, and the shares that show it.

A text of JSON objects, one a line (docs/certificate.md): a header, a line per row, a line per hit, and the signature
over the exact bytes of all lines before it. There is one way to write a certificate: `decode` takes nothing that
`encode` would have written differently, so that no two readers of a file can understand two different things.

Nothing here knows about keys: whoever encodes hands in what signs, and whoever decodes checks the signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from zlb.core.config import Method
from zlb.core.ids import JobId, NodeId, Span
from zlb.core.limits import (
    COPIES_MAX,
    DIGEST_BYTES,
    INTEGERS_MAX,
    NODE_ID_BYTES_MAX,
    PARAMS_BYTES_MAX,
    SECOND,
)
from zlb.core.work import Hit, Job, Pattern, Row, StopRule

VERSION = 1
"""Of the format. Another one is refused by its number."""
CERTIFICATE_BYTES_MAX = 256 << 20
"""Largest certificate read: it is whole in memory, and this is a million rows of a share or two."""
KEY_BYTES, SIGNATURE_BYTES = 32, 64
"""Of Ed25519 (RFC 8032)."""
HIT_DIGEST_BYTES_MAX = 4 * DIGEST_BYTES
"""Twice the longest hash in use: digests of other packages' kernels are theirs to choose."""
TIME_NS_MAX = 253_402_300_800 * SECOND
"""The end of the year 9999, which has the last date that is written with four digits."""
WORD_HEX_DIGITS = 8
"""Of a pattern's 32 bits, as `--json` writes the version of a block header too."""

STATUSES = ("found", "complete", "exhausted", "timeout", "cancelled", "failed")
"""How a job ends (docs/cli.md)."""
CHECKS = (
    *(method.value for method in Method if method is not Method.QUORUM),
    *(f"{Method.QUORUM}:{copies}" for copies in range(2, COPIES_MAX + 1)),
)
"""How its results were checked, as `--verify` has it."""

_CUT_OFF = "cut off: a certificate ends with the line of its signature"
_NAME = re.compile(rf"[!-~]{{1,{NODE_ID_BYTES_MAX}}}")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")


class CertificateError(ValueError):
    """These bytes are no certificate; the text is one clear line that names the line: all that `decode` raises."""


class Certificate(NamedTuple):
    """What a coordinator says about a job that has ended with `status`; `key` is its public key.

    `verify` is one of `CHECKS`. Rows and hits come in any order. Times of rows are since `started_unix_ns`, by the
    coordinator's clock.
    """

    job: Job
    status: str
    verify: str
    hits: tuple[Hit, ...]
    rows: tuple[Row, ...]
    started_unix_ns: int
    coordinator: NodeId
    key: bytes


class Signed(NamedTuple):
    """A certificate as it was read: `signature` is said to be that of `body`, which nobody has checked yet."""

    certificate: Certificate
    body: bytes
    signature: bytes


def encode(certificate: Certificate, sign: Callable[[bytes], bytes]) -> bytes:
    """The certificate as text, signed: `sign` is handed all lines before the last."""
    body = b"".join(_lines(certificate))
    return body + _signature_line(sign(body))


def decode(data: bytes) -> Signed:
    """The certificate that `data` is, its signature not yet checked; raises `CertificateError` for anything else."""
    if len(data) > CERTIFICATE_BYTES_MAX:
        raise CertificateError(
            f"line 1: longer than the {CERTIFICATE_BYTES_MAX} bytes a certificate may have"
        )
    lines = data.splitlines(keepends=True)
    if not lines or not lines[-1].endswith(b"\n"):
        raise CertificateError(f"line {max(len(lines), 1)}: {_CUT_OFF}")
    read = _Reader()
    for number, line in enumerate(lines, 1):
        try:
            read(line, is_last=number == len(lines))
        except _Wrong as wrong:
            raise CertificateError(f"line {number}: {wrong}") from None
    return Signed(read.certificate(), data[: len(data) - len(lines[-1])], read.signature)


def time_text(unix_ns: int) -> str:
    """A time as certificates write it, in UTC, to the nanosecond."""
    assert 0 <= unix_ns < TIME_NS_MAX, "not a time between 1970 and 9999"
    second, ns = divmod(unix_ns, SECOND)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09}Z"


# -- the lines, as they are written


def _lines(certificate: Certificate) -> Iterator[bytes]:
    yield _header_line(certificate)
    for row in certificate.rows:
        yield _row_line(row, certificate.job.kernel, certificate.started_unix_ns)
    for hit in certificate.hits:
        yield _hit_line(hit)


def _header_line(certificate: Certificate) -> bytes:
    job = certificate.job
    return _line(
        {
            "certificate": VERSION,
            "job": job.id,
            "kernel": job.kernel,
            "params": job.params.hex(),
            "spans": [[str(start), str(stop)] for start, stop in job.spans],
            "rule": job.rule.value,
            "hits_wanted": str(job.hits_wanted),
            "status": certificate.status,
            "verify": certificate.verify,
            "started": time_text(certificate.started_unix_ns),
            "coordinator": certificate.coordinator,
            "key": certificate.key.hex(),
        }
    )


def _row_line(row: Row, kernel: str, started_unix_ns: int) -> bytes:
    mask, value = (None, None) if row.pattern is None else map(_word_text, row.pattern)
    return _line(
        {
            "start": str(row.start),
            "stop": str(row.stop),
            "peer": row.worker,
            "kernel": kernel,
            "mask": mask,
            "value": value,
            "shares": [str(n) for n in row.shares],
            "time": time_text(started_unix_ns + row.at_ns),
        }
    )


def _hit_line(hit: Hit) -> bytes:
    return _line({"hit": str(hit.n), "digest": hit.digest.hex()})


def _signature_line(signature: bytes) -> bytes:
    return _line({"signature": signature.hex()})


def _word_text(word: int) -> str:
    return f"{word:0{WORD_HEX_DIGITS}x}"


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode() + b"\n"


# -- the lines, as they are read


class _Wrong(Exception):
    """What is wrong with a line."""


class _Reader:
    """Takes line by line; each must be what its content would be written as."""

    def __init__(self) -> None:
        self.signature = b""
        self._head: Certificate | None = None
        self._rows: list[Row] = []
        self._hits: list[Hit] = []

    def __call__(self, line: bytes, is_last: bool) -> None:
        fields = _fields(line)
        if self._head is None:
            self._head = _header(fields)
            written = _header_line(self._head)
        elif is_last:
            if "signature" not in fields:
                raise _Wrong(_CUT_OFF)
            self.signature = _bytes(fields, "signature", SIGNATURE_BYTES)
            written = _signature_line(self.signature)
        elif "signature" in fields:
            raise _Wrong("more comes after the signature")
        elif "hit" in fields:
            self._hits.append(_hit(fields))
            written = _hit_line(self._hits[-1])
        elif self._hits:
            raise _Wrong("hits come last, before the signature")
        else:
            started = self._head.started_unix_ns
            self._rows.append(_row(fields, self._head.job.kernel, started))
            written = _row_line(self._rows[-1], self._head.job.kernel, started)
        if written != line:
            raise _Wrong(
                "is not written as certificates are: other fields, order, blanks or forms of numbers"
            )

    def certificate(self) -> Certificate:
        """What was read, to the end."""
        if self._head is None or not self.signature:
            raise CertificateError(f"line 1: {_CUT_OFF}")
        return self._head._replace(rows=tuple(self._rows), hits=tuple(self._hits))


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise _Wrong("is no JSON object") from None
    if not isinstance(fields, dict):
        raise _Wrong("is no JSON object")
    return fields


def _header(fields: dict[str, Any]) -> Certificate:
    version = _get(fields, "certificate")
    if version != VERSION:
        shown = str(version) if isinstance(version, int) and abs(version) < INTEGERS_MAX else "?"
        raise _Wrong(f"certificates of version {shown} are not known here, only of version {VERSION}")
    params = _bytes(fields, "params")
    if len(params) > PARAMS_BYTES_MAX:
        raise _Wrong(f"params take more than {PARAMS_BYTES_MAX} bytes")
    job = Job(
        id=JobId(_name(fields, "job")),
        kernel=_name(fields, "kernel"),
        params=params,
        spans=_spans(fields),
        rule=StopRule(_choice(fields, "rule", tuple(StopRule))),
        hits_wanted=_integer(fields, "hits_wanted"),
    )
    return Certificate(
        job=job,
        status=_choice(fields, "status", STATUSES),
        verify=_choice(fields, "verify", CHECKS),
        hits=(),
        rows=(),
        started_unix_ns=_time(fields, "started"),
        coordinator=NodeId(_name(fields, "coordinator")),
        key=_bytes(fields, "key", KEY_BYTES),
    )


def _row(fields: dict[str, Any], kernel: str, started_unix_ns: int) -> Row:
    start, stop = _integer(fields, "start"), _integer(fields, "stop")
    if start >= stop:
        raise _Wrong(f"the row ends, at {stop}, before it starts, at {start}")
    if _name(fields, "kernel") != kernel:
        raise _Wrong(f"kernel is not {kernel}, as the job's is")
    at_ns = _time(fields, "time") - started_unix_ns
    if at_ns < 0:
        raise _Wrong("time is before the job began")
    pattern = None
    if _get(fields, "mask") is not None:
        pattern = Pattern(_word(fields, "mask"), _word(fields, "value"))
    shares = tuple(_decimal(text, "shares") for text in _list(fields, "shares"))
    if shares and pattern is None:
        raise _Wrong("shares without a mask and a value")
    return Row(start, stop, NodeId(_name(fields, "peer")), pattern, shares, at_ns)


def _hit(fields: dict[str, Any]) -> Hit:
    digest = _bytes(fields, "digest")
    if len(digest) > HIT_DIGEST_BYTES_MAX:
        raise _Wrong(f"digest takes more than {HIT_DIGEST_BYTES_MAX} bytes")
    return Hit(_integer(fields, "hit"), digest)


def _spans(fields: dict[str, Any]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for pair in _list(fields, "spans"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise _Wrong("spans are pairs of a start and a stop")
        start, stop = (_decimal(text, "spans") for text in pair)
        if start >= stop or (spans and start < spans[-1][1]):
            raise _Wrong("spans are not ascending")
        spans.append((start, stop))
    if not spans:
        raise _Wrong("spans are missing")
    return tuple(spans)


def _get(fields: dict[str, Any], key: str) -> object:
    if key not in fields:
        raise _Wrong(f"{key} is missing")
    return fields[key]


def _text(fields: dict[str, Any], key: str) -> str:
    value = _get(fields, key)
    if not isinstance(value, str):
        raise _Wrong(f"{key} is no text")
    return value


def _list(fields: dict[str, Any], key: str) -> list[Any]:
    value = _get(fields, key)
    if not isinstance(value, list):
        raise _Wrong(f"{key} is no list")
    return value


def _name(fields: dict[str, Any], key: str) -> str:
    name = _text(fields, key)
    if not _NAME.fullmatch(name):
        raise _Wrong(f"{key} is no name")
    return name


def _choice(fields: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = _text(fields, key)
    if value not in choices:
        raise _Wrong(f"{key} is none of {', '.join(choices)}")
    return value


def _integer(fields: dict[str, Any], key: str) -> int:
    return _decimal(_get(fields, key), key)


def _decimal(text: object, what: str) -> int:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text) or int(text) > INTEGERS_MAX:
        raise _Wrong(f"{what}: integers are written as texts of digits, from 0 to 2^64")
    return int(text)


def _bytes(fields: dict[str, Any], key: str, length: int | None = None) -> bytes:
    text = _text(fields, key)
    if not _HEX.fullmatch(text):
        raise _Wrong(f"{key} is not in hex digits, small ones, two a byte")
    if length is not None and len(text) != 2 * length:
        raise _Wrong(f"{key} has {2 * length} hex digits, not {len(text)}")
    return bytes.fromhex(text)


def _word(fields: dict[str, Any], key: str) -> int:
    return int.from_bytes(_bytes(fields, key, WORD_HEX_DIGITS // 2), "big")


def _time(fields: dict[str, Any], key: str) -> int:
    text = _text(fields, key)
    try:
        if not _TIME.fullmatch(text):
            raise ValueError(text)
        second = datetime.fromisoformat(f"{text[:19]}+00:00")
        ns = (second - _EPOCH).days * 86_400 * SECOND + (second - _EPOCH).seconds * SECOND + int(text[20:29])
    except ValueError:
        raise _Wrong(f"{key} is no time like 2026-11-21T18:21:11.000000000Z") from None
    if ns < 0:
        raise _Wrong(f"{key} is before 1970")
    return ns


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
