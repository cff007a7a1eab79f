"""Stamps minted by `zlb-submit` are worth their 20 bits to Debian's `hashcash`, which has counted bits since 1997."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

RESOURCE = "somebody@example.org"
DAY = "260102"
PREFIX = f"1:20:{DAY}:{RESOURCE}::zLbTests:"

if shutil.which("hashcash") is None:
    pytest.skip("needs hashcash (Debian has a package of that name)", allow_module_level=True)


def is_accepted(stamp: str, resource: str = RESOURCE) -> bool:
    """What `hashcash` says of a stamp on the day it was minted."""
    check = ["hashcash", "-cyq", "-u", "-t", DAY, "-b", "20", "-r", resource, stamp]
    ended = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode == 0


@pytest.mark.parametrize("encoding", ["dec", "hex"])
def test_a_minted_stamp_is_accepted(submit: Callable, encoding: str) -> None:
    goal = ("--match", "leading", "--difficulty", "20")
    answer = submit("-q", "--algo", "sha1", *goal, "--encoding", encoding, "--prefix", PREFIX, "--lowest")
    assert answer.code == 0, answer.err
    (n,) = answer.integers

    def stamp(counter: int) -> str:
        return PREFIX + format(counter, "d" if encoding == "dec" else "x")

    assert is_accepted(stamp(n))
    assert not any(is_accepted(stamp(wrong)) for wrong in (n - 1, n + 1, 10 * n))
    assert not is_accepted(stamp(n), resource="somebody.else@example.org")
