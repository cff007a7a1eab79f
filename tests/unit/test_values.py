"""What users put into messages: round trips, the limits of size, depth and kind, and hostile MessagePack."""

import math
from enum import IntEnum

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.core.errors import ErrorCode, RemoteProtocolError
from zlb.core.limits import PARAMS_BYTES_MAX
from zlb.wire.values import BIG_INTEGER_BYTES_MAX, DEPTH_MAX, pack, unpack

BIG = 1 << (8 * BIG_INTEGER_BYTES_MAX)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.binary(max_size=10)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


def nested(levels: int) -> dict[str, object]:
    """A map `levels` deep with a number at the bottom."""
    value: dict[str, object] = {"x": 1}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


def refused(packed: bytes) -> bool:
    with pytest.raises(RemoteProtocolError) as caught:
        unpack(packed)
    return caught.value.code is ErrorCode.MALFORMED


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_round_trip(params: dict[str, object]) -> None:
    if depth(params) <= DEPTH_MAX:
        again = unpack(pack(params))
        assert again == params and repr(again) == repr(params)  # repr tells True from 1, and b"" from ""


def test_tuples_come_back_as_lists() -> None:
    assert unpack(pack({"t": (1, (2,))})) == {"t": [1, [2]]}


@pytest.mark.parametrize("n", [BIG - 1, 1 - BIG, (1 << 64) - 1, 1 << 64, -(1 << 63), -(1 << 63) - 1, 0])
def test_big_integers(n: int) -> None:
    assert unpack(pack({"n": n})) == {"n": n}


@pytest.mark.parametrize("n", [BIG, -BIG])
def test_integers_too_big(n: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        pack({"n": n})


def test_depth() -> None:
    assert unpack(pack(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    with pytest.raises(ValueError, match="deeper"):
        pack(nested(DEPTH_MAX + 1))
    assert refused(msgpack.packb(nested(DEPTH_MAX + 1)))


def test_a_value_within_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="deeper"):
        pack({"loop": loop})


def test_size() -> None:
    room = PARAMS_BYTES_MAX - len(pack({"x": bytes(1 << 16)})) + (1 << 16)
    assert len(pack({"x": bytes(room)})) == PARAMS_BYTES_MAX
    assert unpack(pack({"x": bytes(room)})) == {"x": bytes(room)}
    with pytest.raises(ValueError, match="at most"):
        pack({"x": bytes(room + 1)})
    assert refused(msgpack.packb({"x": bytes(room + 1)}))


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j, bytearray(b"x"), range(3)])
def test_other_kinds_are_not_packed(value: object) -> None:
    with pytest.raises(ValueError, match="plain value"):
        pack({"x": value})


@pytest.mark.parametrize("value", [msgpack.ExtType(2, b"\0\1"), IntEnum("Zero", {"ZERO": 0})(0)])
def test_what_is_packed_can_be_unpacked(value: object) -> None:
    try:
        packed = pack({"x": value})
    except ValueError:
        return
    unpack(packed)


@pytest.mark.parametrize("key", [1, b"x", None, (1,)])
def test_keys_are_strings(key: object) -> None:
    with pytest.raises(ValueError, match="keys"):
        pack({key: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\x81\xa1x",  # cut short
        b"\x80\x80",  # two of them
        b"\x90",  # no map
        b"\x01",
        b"\x81\x01\x01",  # key 1
        b"\x81\xc4\x01x\x01",  # key b"x"
        b"\x81\x90\x01",  # key []
        b"\x81\xa1\xff\x01",  # not UTF-8
        b"\xdf\xff\xff\xff\xff",  # huge map
        b"\x81\xa1x\xdd\xff\xff\xff\xff",  # huge array
        b"\x81\xa1x\xc6\xff\xff\xff\xff",  # huge bytes
        b"\x81\xa1x" + b"\x91" * 100_000,  # deep
        b"\x81\xa1x\xd4\x02\x00",  # extension 2
        b"\x81\xa1x\xd4\x01\x00",  # a big integer without magnitude
        b"\x81\xa1x\xd5\x01\x02\x01",  # sign 2
        b"\x81\xa1x\xc7\x00\x01",  # empty
        b"\x81\xa1x\xc8\x02\x02\x01" + b"\0" * 514,  # 513 octets
        b"\x81\xa1x\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x81\xa1x\xd7\xff" + b"\xff" * 8,  # a broken one
    ],
)
def test_hostile_bytes_are_malformed(packed: bytes) -> None:
    assert refused(packed)


@given(st.binary(max_size=100))
def test_garbage_unpacks_to_plain_values_or_is_malformed(packed: bytes) -> None:
    try:
        value = unpack(packed)
    except RemoteProtocolError as error:
        assert error.code is ErrorCode.MALFORMED  # noqa: PT017
    else:
        assert isinstance(value, dict)
        assert "nan" in repr(value) or unpack(pack(value)) == value


def test_floats_keep_their_edges() -> None:
    again = unpack(pack({"i": math.inf, "z": -0.0, "n": math.nan}))
    assert again["i"] == math.inf and math.copysign(1, again["z"]) == -1 and math.isnan(again["n"])
