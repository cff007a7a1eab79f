"""Real blocks are mined again; and compact targets as `arith_uint256_tests.cpp` of Bitcoin Core has them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.kernels.bitcoin import VERSIONS_MAX, Versions, header_params, nbits_to_target, read_versions
from zlb.kernels.hashes import SHA256D
from zlb.kernels.interface import Found, Hit, KernelError

LINES = (Path(__file__).parent.parent / "golden" / "headers.txt").read_text().splitlines()
HEADERS = {
    int(height): bytes.fromhex(header)
    for height, header in (line.split() for line in LINES if not line.startswith("#"))
}
BIP_320 = 0x1FFFE000
ROLLED = {
    height: header for height, header in HEADERS.items() if int.from_bytes(header[:4], "little") & BIP_320
}
AROUND = 50_000

BLOCK_0, BLOCK_125552 = HEADERS[0], HEADERS[125552]


@pytest.mark.parametrize(
    ("header", "nonce", "bits"), [(BLOCK_0, 2083236893, 43), (BLOCK_125552, 2504433986, 67)]
)
def test_the_nonce_of_a_block_is_a_hit(header: bytes, nonce: int, bits: int) -> None:
    params = header_params(header)
    digest = SHA256D.checker(params)(nonce)
    assert digest is not None
    assert 256 - int.from_bytes(digest, "little").bit_length() == bits
    assert SHA256D.checker(params)(nonce + 1) is None
    assert header[76:] == nonce.to_bytes(4, "little")


def test_difficulty_one_takes_two_to_the_32_tests() -> None:
    assert SHA256D.tests_per_hit(header_params(BLOCK_0)) == pytest.approx(2**32 * 65536 / 65535)


@pytest.mark.parametrize("header", [b"", BLOCK_0[:79], BLOCK_0 + b"\0", "text", None])
def test_other_headers_are_refused(header: object) -> None:
    with pytest.raises(KernelError, match="80 bytes"):
        header_params(header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nbits", "target"),
    [
        (0x1D00FFFF, 0xFFFF << 208),
        (0x1A44B9F2, 0x44B9F2 << 184),
        (0x01123456, 0x12),
        (0x02123456, 0x1234),
        (0x03123456, 0x123456),
        (0x04123456, 0x12345600),
        (0x05009234, 0x92340000),
        (0x20123456, 0x123456 << 232),
        (0x2100FFFF, 0xFFFF << 240),
        (0x220000FF, 0xFF << 248),
    ],
)
def test_compact_targets(nbits: int, target: int) -> None:
    assert int.from_bytes(nbits_to_target(nbits), "big") == target


@pytest.mark.parametrize(
    ("nbits", "what"),
    [
        (0, "zero"),
        (0x00123456, "zero"),
        (0x01003456, "zero"),
        (0x02000056, "zero"),
        (0x03000000, "zero"),
        (0x00923456, "zero"),
        (0x01803456, "zero"),
        (0x04800000, "zero"),
        (0x01FEDCBA, "negative"),
        (0x04923456, "negative"),
        (0x21010000, "256 bits"),
        (0x22000100, "256 bits"),
        (0x23000001, "256 bits"),
        (0xFF123456, "256 bits"),
        (-1, "32 bits"),
        (2**32, "32 bits"),
        (True, "32 bits"),
        (1.0, "32 bits"),
    ],
)
def test_targets_nobody_can_mine_are_refused(nbits: int, what: str) -> None:
    with pytest.raises(KernelError, match=what):
        nbits_to_target(nbits)


# --- mining --------------------------------------------------------------------------------------------------------


def search(params: dict[str, object], middle: int) -> Found:
    """What there is within some 50,000 integers of `middle`."""
    capacity = SHA256D.puzzle(params).capacity
    start, stop = max(0, middle - AROUND), min(capacity, middle + AROUND)
    found = SHA256D.prepare(params).search(start, stop, np.zeros(1, np.uint8), 2)
    assert found.stopped_at == stop
    return found


def sha256d(header: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()


def test_the_headers_are_those_of_twenty_blocks_of_all_ages() -> None:
    assert len(HEADERS) == 20
    assert list(HEADERS) == sorted(HEADERS)
    assert len(ROLLED) >= 4


@pytest.mark.parametrize("height", HEADERS)
def test_a_block_is_mined_again(height: int) -> None:
    header = HEADERS[height]
    nonce = int.from_bytes(header[76:], "little")
    assert search(header_params(header), nonce).hits == (Hit(nonce, sha256d(header)),)


@pytest.mark.parametrize("height", ROLLED)
def test_a_rolled_version_is_found_from_one_with_all_its_bits_clear(height: int) -> None:
    header = ROLLED[height]
    field, nonce = int.from_bytes(header[:4], "little"), int.from_bytes(header[76:], "little")
    clear = (field & ~BIP_320).to_bytes(4, "little") + header[4:]
    params = {**header_params(clear), "versions": VERSIONS_MAX}
    n = read_versions(clear[:76], VERSIONS_MAX).join((field & BIP_320) >> 13, nonce)
    assert search(params, n).hits == (Hit(n, sha256d(header)),)
    assert not search(header_params(clear), nonce).hits


@pytest.mark.parametrize("height", ROLLED)
@pytest.mark.parametrize(
    ("version", "count"),
    [(0, 1), (0, 2), (1, 2), (1, 4), (3, 4), (2, 8), (5, 8), (2**15, 2**16), (2**16 - 1, 2**16)],
)
def test_a_block_is_mined_again_as_any_version_of_another_header(
    height: int, version: int, count: int
) -> None:
    header = ROLLED[height]
    field, nonce = int.from_bytes(header[:4], "little"), int.from_bytes(header[76:], "little")
    other = (field ^ version << 13).to_bytes(4, "little") + header[4:]
    n = read_versions(other[:76], count).join(version, nonce)
    found = search({**header_params(other), "versions": count}, n)
    assert found.hits == (Hit(n, sha256d(header)),)


# --- versions ------------------------------------------------------------------------------------------------------

counts = st.sampled_from([2**k for k in range(17)])


@given(count=counts, data=st.data())
def test_integers_stand_for_a_version_and_a_nonce(count: int, data: st.DataObject) -> None:
    versions = Versions(bytes(76), count)
    n = data.draw(st.integers(0, count * 2**32 - 1))
    version, nonce = versions.split(n)
    assert 0 <= version < count
    assert 0 <= nonce < 2**32
    assert versions.join(version, nonce) == n


@given(count=counts, data=st.data())
def test_a_version_and_a_nonce_have_an_integer(count: int, data: st.DataObject) -> None:
    versions = Versions(bytes(76), count)
    pair = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, 2**32 - 1))
    n = versions.join(*pair)
    assert 0 <= n < count * 2**32
    assert versions.split(n) == pair


@pytest.mark.parametrize(("count", "shared"), [(1, 1), (2, 2), (4, 4), (8, 4), (2**16, 4)])
def test_versions_that_share_a_schedule_are_neighbours(count: int, shared: int) -> None:
    versions = Versions(bytes(76), count)
    assert versions.shared == shared
    pairs = [versions.split(n) for n in range(3 * shared)]
    assert pairs == [(version, nonce) for nonce in range(3) for version in range(shared)]


@given(field=st.integers(0, 2**32 - 1), count=counts, data=st.data())
def test_versions_differ_in_the_bits_of_bip_320_only(field: int, count: int, data: st.DataObject) -> None:
    header = field.to_bytes(4, "little") + bytes(range(72))
    versions = Versions(header, count)
    number = data.draw(st.integers(0, count - 1))
    rolled = versions.field(number)
    assert versions.field(0) == field
    assert rolled & ~BIP_320 == field & ~BIP_320
    assert (rolled ^ field) >> 13 == number
    assert versions.prefix(number) == rolled.to_bytes(4, "little") + header[4:]


def test_all_versions_together_have_each_field_once() -> None:
    versions = Versions(HEADERS[840000][:76], VERSIONS_MAX)
    assert len({versions.field(number) for number in range(VERSIONS_MAX)}) == VERSIONS_MAX


@pytest.mark.parametrize(
    "count",
    [
        0,
        -1,
        3,
        6,
        2**16 - 1,
        2**16 + 1,
        2**17,
        True,
        1.0,
        "2",
        None,
        b"2",
        pytest.param(2**100_000, id="huge"),
    ],
)
def test_other_numbers_of_versions_are_refused(count: object) -> None:
    with pytest.raises(KernelError, match="versions is a power of two from 1 to 65536"):
        read_versions(bytes(76), count)


@pytest.mark.parametrize("length", [0, 75, 77, 80])
def test_versions_of_what_is_no_header_are_refused(length: int) -> None:
    with pytest.raises(KernelError, match="a prefix of 76 bytes"):
        read_versions(bytes(length), 2)
