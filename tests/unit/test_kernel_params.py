"""What strangers may and may not ask of the SHA-256 kernels, and single integers decided by hashlib."""

import contextlib
import subprocess
import sys
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.kernels.hashes import SHA256, SHA256D
from zlb.kernels.interface import KernelError
from zlb.kernels.puzzle import AFFIX_BYTES_MAX

NESTED: list[Any] = []
for _ in range(100_000):
    NESTED = [NESTED]

REFUSED: list[tuple[Any, str]] = [
    ([], "map"),
    (None, "map"),
    ({}, "exactly one"),
    ({"difficulty": 1, "target": bytes(32), "match": "leading"}, "exactly one"),
    ({"difficulty": -1}, "0 to 256"),
    ({"difficulty": 257}, "0 to 256"),
    ({"difficulty": 10**5000}, "0 to 256"),
    ({"difficulty": True}, "0 to 256"),
    ({"difficulty": 1.0}, "0 to 256"),
    ({"difficulty": "1"}, "0 to 256"),
    ({"difficulty": None}, "0 to 256"),
    ({"target": bytes(32)}, "trailing"),
    ({"target": bytes(32), "match": "trailing"}, "trailing"),
    ({"target": bytes(31), "match": "leading"}, "32 bytes"),
    ({"target": bytes(33), "match": "bitcoin"}, "32 bytes"),
    ({"target": 5, "match": "leading"}, "32 bytes"),
    ({"digest": bytes(31)}, "32 bytes"),
    ({"digest": bytes(32), "match": "leading"}, "match cannot go with digest"),
    ({"digest": bytes(32), "difficulty": 1}, "exactly one"),
    ({"difficulty": 1, "versions": 2}, "block headers"),
    ({"difficulty": 1, "match": "most"}, "match is one of trailing"),
    ({"difficulty": 1, "match": None}, "match is one of"),
    ({"difficulty": 1, "encoding": "u16le"}, "encoding is one of dec"),
    ({"difficulty": 1, "encoding": ["dec"]}, "encoding is one of"),
    ({"difficulty": 1, "prefix": "text"}, "prefix is bytes, not str"),
    ({"difficulty": 1, "suffix": None}, "suffix is bytes, not NoneType"),
    ({"difficulty": 1, "suffix": bytes(AFFIX_BYTES_MAX + 1)}, "suffix is 65537 bytes"),
    ({"difficulty": 1, "Prefix": b""}, "unknown parameter 'Prefix'"),
    ({"difficulty": 1, "\x1b[2J" * 1000: b""}, r"unknown parameter '\\x1b"),
    ({"difficulty": 1, 10**5000: b""}, "not int"),
    ({"difficulty": 1, b"prefix": b""}, "not bytes"),
    ({"difficulty": NESTED}, "0 to 256"),
    ({"difficulty": 1, "match": NESTED}, "match is one of"),
]


@pytest.mark.parametrize(("params", "why"), REFUSED, ids=range(len(REFUSED)))
def test_bad_parameters_are_refused_in_one_line(params: Any, why: str) -> None:
    for ask in (
        lambda: SHA256.validate(params, []),
        lambda: SHA256.tests_per_hit(params),
        lambda: SHA256.checker(params)(1),
        lambda: SHA256.prepare(params),
    ):
        with pytest.raises(KernelError, match=why) as refusal:
            ask()
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 300


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["prefix", "suffix", "encoding", "match", "difficulty", "target"]) | VALUES.filter(
    lambda value: not isinstance(value, list | dict)
)


@given(
    params=st.dictionaries(KEYS, VALUES, max_size=6), ranges=st.lists(st.tuples(VALUES, VALUES), max_size=2)
)
def test_strangers_see_no_other_exception(params: Any, ranges: Any) -> None:
    for ask in (lambda: SHA256.validate(params, ranges), lambda: SHA256.tests_per_hit(params)):
        with contextlib.suppress(KernelError):
            ask()


@pytest.mark.parametrize(
    ("encoding", "start", "stop"),
    [
        ("dec", 0, 2**64),
        ("hex", 2**64, 2**64),
        ("u64le", 2**64 - 1, 2**64),
        ("u32be", 0, 2**32),
        ("u32le", 0, 0),
    ],
)
def test_ranges_up_to_the_capacity_fit(encoding: str, start: int, stop: int) -> None:
    SHA256.validate({"difficulty": 1, "encoding": encoding}, [(0, 1), (start, stop)])


@pytest.mark.parametrize(
    ("encoding", "start", "stop", "why"),
    [
        ("dec", 0, 2**64 + 1, r"0 to 2\*\*64"),
        ("dec", -1, 5, r"0 to 2\*\*64"),
        pytest.param("dec", 0, 10**5000, r"0 to 2\*\*64", id="huge"),
        ("u32be", 0, 2**32 + 1, r"u32be.*0 to 2\*\*32"),
        ("u32le", 2**33, 2**33, r"0 to 2\*\*32"),
        ("dec", 5, 4, "before it starts"),
        ("dec", 0.0, 4, "integers"),
        ("dec", 0, True, "integers"),
        ("dec", 0, "9", "integers"),
    ],
)
def test_other_ranges_are_refused(encoding: str, start: Any, stop: Any, why: str) -> None:
    with pytest.raises(KernelError, match=why):
        SHA256.validate({"difficulty": 1, "encoding": encoding}, [(0, 1), (start, stop)])


def test_check_hashes_prefix_integer_suffix() -> None:
    params = {"difficulty": 0, "prefix": b"<", "suffix": b">", "encoding": "hex"}
    assert SHA256.checker(params)(255) == sha256(b"<ff>").digest()
    assert SHA256D.checker(params)(255) == sha256(sha256(b"<ff>").digest()).digest()


def test_check_tells_hits_from_others() -> None:
    assert SHA256.checker({"difficulty": 20})(828028) == sha256(b"828028").digest()
    assert SHA256.checker({"difficulty": 21})(828028) is None


@pytest.mark.parametrize("n", [-1, 2**32, 10**5000], ids=["negative", "wide", "huge"])
def test_what_cannot_be_written_is_no_hit(n: int) -> None:
    assert SHA256.checker({"difficulty": 0, "encoding": "u32le"})(n) is None


def test_affixes_may_reach_their_limit() -> None:
    affix = bytes(AFFIX_BYTES_MAX)
    digest = SHA256.checker({"difficulty": 0, "prefix": affix, "suffix": affix})(7)
    assert digest == sha256(affix + b"7" + affix).digest()


def test_describing_and_checking_need_no_numba() -> None:
    program = (
        "import sys, zlb.kernels, zlb.kernels.bitcoin, zlb.kernels.hashes as s\n"
        "s.SHA256.validate({'difficulty': 1}, [(0, 9)])\n"
        "s.SHA256.checker({'difficulty': 1})(5)\n"
        "sys.exit(' '.join({'numba', 'numpy', 'llvmlite'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
