"""Two real blocks, and compact targets as `arith_uint256_tests.cpp` of Bitcoin Core has them."""

import pytest

from zlb.kernels.bitcoin import header_params, nbits_to_target
from zlb.kernels.hashes import SHA256D
from zlb.kernels.interface import KernelError

BLOCK_0 = bytes.fromhex(
    "01000000"
    + "00" * 32
    + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
BLOCK_125552 = bytes.fromhex(
    "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000"
    "e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
)


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
