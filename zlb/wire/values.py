"""Values that users put into messages (kernel parameters): plain data only, bounded in size, depth and kind.

A vocabulary of its own beside the messages: these bytes stay packed until the kernel they are meant for opens them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from zlb.core.errors import ErrorCode, RemoteProtocolError
from zlb.core.limits import PARAMS_BYTES_MAX

DEPTH_MAX = 8
PLAIN = (type(None), bool, int, float, str, bytes)
"""Exactly these types: a subclass would come back as something else, or not at all."""
BIG_INTEGER = 1
"""Extension type: an octet of sign, then the magnitude, big-endian."""
BIG_INTEGER_BYTES_MAX = 512


def pack(params: Mapping[str, Any]) -> bytes:
    """Pack a map of plain values; raises `ValueError` for what the vocabulary does not have."""
    _check(params, DEPTH_MAX)
    packed: bytes = msgpack.packb(params, default=_pack_big, strict_types=True)
    if len(packed) > PARAMS_BYTES_MAX:
        raise ValueError(f"parameters take {len(packed)} bytes, at most {PARAMS_BYTES_MAX} are allowed")
    return packed


def unpack(packed: bytes) -> dict[str, Any]:
    """The map that was packed; raises `RemoteProtocolError` (MALFORMED) for anything else."""
    try:
        if len(packed) > PARAMS_BYTES_MAX:
            raise ValueError("too long")
        value = msgpack.unpackb(packed, ext_hook=_unpack_big, strict_map_key=True)
        if not isinstance(value, dict):
            raise ValueError("not a map")
        _check(value, DEPTH_MAX)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, f"parameters are not plain values: {error}") from None
    return value


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"map keys are strings, not {type(key).__name__}")
            _check(inner, depth - 1)
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        for inner in value:
            _check(inner, depth - 1)
    elif type(value) not in PLAIN:
        raise ValueError(f"{type(value).__name__} is no plain value")


def _pack_big(value: object) -> msgpack.ExtType:
    """Called by msgpack for what it cannot pack itself: integers beyond 64 bits, and tuples under strict types."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, int):
        magnitude = abs(value).to_bytes((value.bit_length() + 7) // 8, "big")
        if len(magnitude) <= BIG_INTEGER_BYTES_MAX:
            return msgpack.ExtType(BIG_INTEGER, bytes([value < 0]) + magnitude)
        raise ValueError(f"integers have at most {8 * BIG_INTEGER_BYTES_MAX} bits")
    raise ValueError(f"{type(value).__name__} is no plain value")


def _unpack_big(code: int, data: bytes) -> int:
    if code != BIG_INTEGER or not 2 <= len(data) <= 1 + BIG_INTEGER_BYTES_MAX or data[0] > 1:
        raise ValueError(f"unknown extension type {code}")
    magnitude = int.from_bytes(data[1:], "big")
    return -magnitude if data[0] else magnitude
