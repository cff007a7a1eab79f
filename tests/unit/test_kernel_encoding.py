"""Six encodings against Python's own conversions, and where numbers grow by a digit."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.kernels.encoding import ENCODINGS, Encoding

OWN_WORDS: dict[str, Callable[[int], bytes]] = {
    "dec": lambda n: str(n).encode(),
    "hex": lambda n: f"{n:x}".encode(),
    "u32le": lambda n: n.to_bytes(4, "little"),
    "u32be": lambda n: n.to_bytes(4, "big"),
    "u64le": lambda n: n.to_bytes(8, "little"),
    "u64be": lambda n: n.to_bytes(8, "big"),
}

EDGES = sorted(
    {0, 1, 2**64 - 1, 2**32 - 1, 2**32}
    | {10**k + d for k in range(1, 20) for d in (-1, 0, 1)}
    | {16**k + d for k in range(1, 16) for d in (-1, 0, 1)}
)


@pytest.fixture(params=sorted(ENCODINGS))
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return ENCODINGS[request.param]


def test_there_are_six() -> None:
    assert set(ENCODINGS) == set(OWN_WORDS)


def test_encodes_edges_like_python(encoding: Encoding) -> None:
    for n in EDGES:
        if n < encoding.capacity:
            assert encoding.encode(n) == OWN_WORDS[encoding.name](n), n


@given(name=st.sampled_from(sorted(ENCODINGS)), n=st.integers(0, 2**64 - 1))
def test_encodes_like_python(name: str, n: int) -> None:
    n %= ENCODINGS[name].capacity
    assert ENCODINGS[name].encode(n) == OWN_WORDS[name](n)


@pytest.mark.parametrize(
    ("name", "start", "stop", "pieces"),
    [
        ("dec", 0, 10, [(0, 10)]),
        ("dec", 0, 11, [(0, 10), (10, 11)]),
        ("dec", 9, 1001, [(9, 10), (10, 100), (100, 1000), (1000, 1001)]),
        ("dec", 10**19 - 1, 2**64, [(10**19 - 1, 10**19), (10**19, 2**64)]),
        ("hex", 0, 17, [(0, 16), (16, 17)]),
        ("hex", 16**15 - 2, 2**64, [(16**15 - 2, 16**15), (16**15, 2**64)]),
        ("u32le", 5, 2**32, [(5, 2**32)]),
        ("u64be", 0, 2**64, [(0, 2**64)]),
        ("dec", 7, 7, []),
        ("u32be", 7, 7, []),
        ("dec", 2**64, 2**64, []),
    ],
)
def test_segments_are_cut_where_numbers_grow(
    name: str, start: int, stop: int, pieces: list[tuple[int, int]]
) -> None:
    assert list(ENCODINGS[name].segments(start, stop)) == pieces
