"""Hostile frames: whatever a stranger sends is a message or a `RemoteProtocolError` with the code of its refusal."""

import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zlb.core.errors import ErrorCode, RemoteProtocolError
from zlb.core.limits import (
    ENTRIES_PER_MESSAGE_MAX,
    HITS_PER_REPORT_MAX,
    LEASES_PER_MESSAGE_MAX,
    MESSAGE_BYTES_MAX,
    NEIGHBOURS_TOLD_MAX,
    PARAMS_BYTES_MAX,
    REPLICAS_MAX,
    SNAPSHOT_CHUNK_BYTES_MAX,
    SPANS_PER_PART_MAX,
    TEXT_BYTES_MAX,
)
from zlb.core.message import Message
from zlb.wire import messages as m
from zlb.wire.codec import SIGNATURE, VERSION, decode, encode, is_ours, is_refused, topic

pack = msgspec.msgpack.encode
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


def code_of(frame: bytes) -> ErrorCode:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(frame)
    return caught.value.code


def frame_of(kind: type[Message], *fields: object) -> bytes:
    return topic(kind) + pack(fields)


@given(st.binary(max_size=300))
@example(b"")
@example(SIGNATURE)
def test_garbage_is_refused(frame: bytes) -> None:
    if frame[:2] != SIGNATURE:
        assert code_of(frame) is ErrorCode.MALFORMED and not is_ours(frame)


@given(kind=st.sampled_from(list(m.KINDS.values())), body=st.binary(max_size=200))
def test_garbage_after_a_good_header_decodes_or_is_malformed(kind: type[Message], body: bytes) -> None:
    try:
        assert isinstance(decode(topic(kind) + body), kind)
    except RemoteProtocolError as error:
        assert error.code is ErrorCode.MALFORMED  # noqa: PT017


@given(kind=st.sampled_from(list(m.KINDS.values())), fields=st.lists(ANYTHING, max_size=8))
def test_wrong_fields_decode_or_are_malformed(kind: type[Message], fields: list[object]) -> None:
    try:
        message = decode(frame_of(kind, *fields))
    except RemoteProtocolError as error:
        assert error.code is ErrorCode.MALFORMED  # noqa: PT017
    else:
        assert decode(encode(message)) == message


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_named_with_ours(version: int) -> None:
    frame = SIGNATURE + bytes([version, 10]) + pack(("j", 1))
    with pytest.raises(RemoteProtocolError, match=f"version {version}.*version {VERSION}") as caught:
        decode(frame)
    assert caught.value.code is ErrorCode.VERSION


@pytest.mark.parametrize("number", [0, max(m.KINDS) + 1, 255])
def test_an_unknown_kind_is_refused(number: int) -> None:
    assert code_of(SIGNATURE + bytes([VERSION, number]) + b"\x90") is ErrorCode.KIND


def test_refused_is_understood_in_every_version() -> None:
    frame = SIGNATURE + bytes([9, 4]) + pack((1, "no"))
    assert is_refused(frame) and decode(frame) == m.Refused(1, "no")


def test_the_size_limit_is_exact() -> None:
    frame = encode(m.TaskAck("j", 1))
    assert code_of(frame + bytes(MESSAGE_BYTES_MAX - len(frame))) is ErrorCode.MALFORMED
    assert code_of(frame + bytes(MESSAGE_BYTES_MAX - len(frame) + 1)) is ErrorCode.OVERSIZED


@pytest.mark.parametrize(
    "frame",
    [
        frame_of(m.Hello, "", 1, "", "", ""),
        frame_of(m.Hello, "a b", 1, "", "", ""),
        frame_of(m.Hello, "a\n", 1, "", "", ""),
        frame_of(m.Hello, "ä", 1, "", "", ""),
        frame_of(m.Hello, "a" * 65, 1, "", "", ""),
        frame_of(m.Hello, "a", -1, "", "", ""),
        frame_of(m.Hello, "a", 1, "x" * 257, "", ""),
        frame_of(m.Welcome, "a", 1, "", "", "", ["x"] * (NEIGHBOURS_TOLD_MAX + 1)),
        frame_of(m.Goodbye, "x" * (TEXT_BYTES_MAX + 1)),
        frame_of(m.Refused, 256, ""),
        frame_of(m.LoadUpdate, "a", 1, 1, 1, -1.0, 0, 0),
        frame_of(m.LoadUpdate, "a", 1, 1, 1, math.nan, 0, 0),
        frame_of(m.TaskRequest, "j", 1, 1, 0, 0.0, True),
        frame_of(m.TaskRequest, "j", 1, 1, LEASES_PER_MESSAGE_MAX + 1, 0.0, True),
        frame_of(m.TaskTransfer, "j", 1, [[0, 0, 1]], None),
        frame_of(m.TaskTransfer, "j", 1, [[(1 << 64) - 1, 2, 1]], None),
        frame_of(m.TaskTransfer, "j", 1, [[0, 1, 1]] * (LEASES_PER_MESSAGE_MAX + 1), None),
        frame_of(m.TaskTransfer, "j", 1, [], ["k", bytes(PARAMS_BYTES_MAX + 1), 0]),
        frame_of(m.TaskTransfer, "j", 1, [], ["k", b"", HITS_PER_REPORT_MAX + 1]),
        frame_of(m.TaskReport, "j", 1, 1, [[1, True, [[0, 1]] * (SPANS_PER_PART_MAX + 1), [], 0, ""]]),
        frame_of(m.TaskReport, "j", 1, 1, [[1, True, [], [[0, bytes(65)]], 0, ""]]),
        frame_of(m.TaskReport, "j", 1, 1, [[1, False, [], [], 0, ""]] * (LEASES_PER_MESSAGE_MAX + 1)),
        frame_of(m.AppendEntries, 1, 0, 0, 0, 1, [[1, 3, 0, b""]]),
        frame_of(m.AppendEntries, 1, 0, 0, 0, 1, [[1, 0, -1, b""]]),
        frame_of(m.AppendEntries, 1, 0, 0, 0, 1, [[1, 0, 0, b""]] * (ENTRIES_PER_MESSAGE_MAX + 1)),
        frame_of(m.InstallSnapshot, 1, 1, 1, 0, ["a"] * (REPLICAS_MAX + 1), [], 0, 1, 0, 1, b""),
        frame_of(m.InstallSnapshot, 1, 1, 1, 0, [], ["a" * 65], 0, 1, 0, 1, b""),
        frame_of(m.InstallSnapshot, 1, 1, 1, 0, [], [], 0, 1, 0, 1, bytes(SNAPSHOT_CHUNK_BYTES_MAX + 1)),
        frame_of(m.TaskAck, "j", True),
        frame_of(m.TaskAck, "j", 1.0),
        frame_of(m.TaskAck, "j"),
        topic(m.TaskAck) + pack({"job": "j", "sequence": 1}),
        topic(m.TaskAck) + b"\xdd\xff\xff\xff\xff",
        topic(m.Goodbye) + b"\x91" * 100_000,
        topic(m.Goodbye) + b"\x91\xa2\xff\xff",
    ],
)
def test_fields_outside_their_bounds_are_malformed(frame: bytes) -> None:
    assert code_of(frame) is ErrorCode.MALFORMED


def test_frames_surplus_fields_are_ignored() -> None:
    assert decode(frame_of(m.TaskAck, "j", 1, True, "surplus")) == m.TaskAck("j", 1)


def test_frames_an_infinite_rate_is_malformed() -> None:
    assert code_of(frame_of(m.TaskRequest, "j", 1, 1, 1, math.inf, True)) is ErrorCode.MALFORMED


def test_links_a_node_id_is_no_endpoint() -> None:
    assert code_of(frame_of(m.Hello, "tcp://192.0.2.1:22", 1, "", "", "")) is ErrorCode.MALFORMED


def test_the_fullest_messages_fit() -> None:
    top = (1 << 64) - 1
    hits = tuple(m.Reported(top, bytes(64)) for _ in range(2 * HITS_PER_REPORT_MAX))
    spans = tuple(m.Done(top, 1) for _ in range(SPANS_PER_PART_MAX))
    report = m.TaskReport("j" * 64, top, top, (m.Part(top, True, spans, hits, top, "x" * TEXT_BYTES_MAX),))
    grants = tuple(m.Grant(top, 1, top) for _ in range(LEASES_PER_MESSAGE_MAX))
    transfer = m.TaskTransfer("j" * 64, top, grants, m.Spec("k" * 64, bytes(PARAMS_BYTES_MAX), 1))
    cancel = m.TaskCancel("j" * 64, (top,) * LEASES_PER_MESSAGE_MAX)
    for message in (report, transfer, cancel):
        assert decode(encode(message)) == message
