"""Frames to messages and back. Hostile bytes raise `RemoteProtocolError` while decoding, and nothing else."""

from __future__ import annotations

import msgspec

from zlb.core.errors import ErrorCode, RemoteProtocolError
from zlb.core.limits import MESSAGE_BYTES_MAX
from zlb.core.message import Message
from zlb.wire.messages import KINDS, Refused

SIGNATURE = b"\xc5z"
VERSION = 1
HEADER_BYTES = 4

_HEADERS = {kind: SIGNATURE + bytes((VERSION, number)) for number, kind in KINDS.items()}
_DECODERS = {header: msgspec.msgpack.Decoder(kind).decode for kind, header in _HEADERS.items()}
_encode_body = msgspec.msgpack.Encoder().encode


def topic(kind: type[Message]) -> bytes:
    """The four octets every message of that kind begins with; what a subscriber filters on."""
    return _HEADERS[kind]


def encode(message: Message) -> bytes:
    """One frame for `message`: header, then its fields as a MessagePack array."""
    return _HEADERS[type(message)] + _encode_body(message)


def decode(frame: bytes) -> Message:
    """The message in `frame`; raises `RemoteProtocolError` with the code a REFUSED would carry."""
    if len(frame) > MESSAGE_BYTES_MAX:
        raise RemoteProtocolError(
            ErrorCode.OVERSIZED, f"{len(frame)} bytes, at most {MESSAGE_BYTES_MAX} are taken"
        )
    decode_body = _DECODERS.get(frame[:HEADER_BYTES])
    if decode_body is None:
        if not is_refused(frame):
            raise _header_error(frame)
        decode_body = _DECODERS[_HEADERS[Refused]]
    try:
        return decode_body(frame[HEADER_BYTES:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, str(error)) from None


def is_ours(frame: bytes) -> bool:
    """Whether the sender speaks some version of this protocol, so that an answer makes sense."""
    return frame[:2] == SIGNATURE


def is_refused(frame: bytes) -> bool:
    """Whether it is a REFUSED, of whatever version: its layout never changes, and it is never answered."""
    return is_ours(frame) and frame[3:4] == _HEADERS[Refused][3:]


def _header_error(frame: bytes) -> RemoteProtocolError:
    if len(frame) < HEADER_BYTES or not is_ours(frame):
        return RemoteProtocolError(ErrorCode.MALFORMED, "not a zlb message")
    version, kind = frame[2], frame[3]
    if version != VERSION:
        return RemoteProtocolError(
            ErrorCode.VERSION,
            f"the message has protocol version {version}, this node speaks version {VERSION}",
        )
    return RemoteProtocolError(ErrorCode.KIND, f"protocol version {VERSION} has no message of kind {kind}")
