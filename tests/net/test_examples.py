"""The scripts of examples/, as a user would run them."""

import hashlib
import subprocess
from pathlib import Path

import pytest


def ends_in_14_zero_bits(n: int) -> bool:
    return int.from_bytes(hashlib.sha256(b"%d" % n).digest()[-2:], "big") & 0x3FFF == 0


def run(root: Path, environment: dict[str, str], name: str, *arguments: str) -> list[str]:
    """The lines an example prints."""
    script = root / "examples" / name
    command = ["python3", script] if script.suffix == ".py" else [script]
    said = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    return said.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "integers"),
    [
        ("two_peers.sh", [828028]),
        ("block_header.sh", [2083236893]),
        ("read_json.py", [n for n in range(200_000) if ends_in_14_zero_bits(n)][:3]),
    ],
)
def test_example(root: Path, environment: dict[str, str], name: str, integers: list[int]) -> None:
    assert [int(line.split("\t")[0]) for line in run(root, environment, name)] == integers


def test_hashcash(root: Path, environment: dict[str, str]) -> None:
    resource = "somebody@example.org"
    (stamp,) = run(root, environment, "hashcash.sh", resource)
    assert hashlib.sha1(stamp.encode()).hexdigest().startswith("00000")
    version, bits, day, minted_for, extension, random, counter = stamp.split(":")
    assert (version, bits, len(day), minted_for, extension) == ("1", "20", 6, resource, "")
    assert len(random) == 16 and counter.isdecimal()


def test_every_example_is_tested(root: Path) -> None:
    # three above, hashcash.sh, collatz/ in tests/unit/test_example_kernel.py, the unit in tests/cli/test_service.py
    assert len(list((root / "examples").iterdir())) == 6
