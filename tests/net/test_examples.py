"""The scripts of examples/, as a user would run them."""

import hashlib
import subprocess
from pathlib import Path

import pytest


def ends_in_14_zero_bits(n: int) -> bool:
    return int.from_bytes(hashlib.sha256(b"%d" % n).digest()[-2:], "big") & 0x3FFF == 0


@pytest.mark.parametrize(
    ("name", "integers"),
    [
        ("two_peers.sh", [828028]),
        ("block_header.sh", [2083236893]),
        ("read_json.py", [n for n in range(200_000) if ends_in_14_zero_bits(n)][:3]),
    ],
)
def test_example(root: Path, environment: dict[str, str], name: str, integers: list[int]) -> None:
    script = root / "examples" / name
    command = ["python3", script] if script.suffix == ".py" else [script]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    assert [int(line.split("\t")[0]) for line in said.stdout.splitlines()] == integers


def test_every_example_is_tested(root: Path) -> None:
    assert len(list((root / "examples").iterdir())) == 3
