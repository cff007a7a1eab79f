"""The examples of docs/kernels.md do what the page says."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from zlb.kernels import KernelError


def block(root: Path, language: str, containing: str) -> str:
    """The one example in a language with this text in it."""
    page = (root / "docs" / "kernels.md").read_text()
    (code,) = (
        code for code in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if containing in code
    )
    return code


def example(root: Path, containing: str) -> dict[str, Any]:
    """The names after running the one Python example with this text in it."""
    names: dict[str, Any] = {}
    exec(compile(block(root, "python", containing), "docs/kernels.md", "exec"), names)
    return names


def test_first_example(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example(root, "load_kernel(")
    n, digest = capsys.readouterr().out.split()
    assert n == "828028"
    assert digest.startswith("d95f19b5")
    assert digest.endswith("5c100000")


def test_kernel_of_ones_own(root: Path) -> None:
    kernel = example(root, "class Crc32Kernel")["CRC32"]
    params, flag = {"difficulty": 6}, np.zeros(1, np.uint8)
    found = kernel.prepare(params).search(0, 5000, flag, 10**6)
    assert found.stopped_at == 5000
    assert [hit.n for hit in found.hits] == [n for n in range(5000) if kernel.checker(params)(n)]
    assert len(found.hits) == pytest.approx(5000 / kernel.tests_per_hit(params), rel=0.5)
    assert kernel.prepare(params).search(0, 5000, flag, 3).stopped_at == found.hits[2].n + 1
    assert kernel.prepare(params).search(7, 5000, np.ones(1, np.uint8), 3).stopped_at == 7
    for bad in ({}, {"difficulty": True}, {"difficulty": 33}, {"difficulty": 1, "more": 2}):
        with pytest.raises(KernelError):
            kernel.validate(bad, [])


def test_a_kernel_of_ones_own_is_submitted_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "crc_kernel.py").write_text(block(root, "python", "class Crc32Kernel"))
    info = tmp_path / "crc-1.0.dist-info"
    info.mkdir()
    points = block(root, "ini", "crc32 = ").split("zlb.kernels =\n")[1].strip()
    (info / "entry_points.txt").write_text(f"[zlb.kernels]\n{points}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crc\nVersion: 1.0\n")

    job = ("--algo", "crc32", "--difficulty", "12", "--range", ":100k", "--lowest")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZLB_")}
    environment = kept | {"PYTHONPATH": str(tmp_path), "ZLB_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-P", "-m", "zlb.cli.submit", *job]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    lowest = next(n for n in range(100_000) if crc32(b"%d" % n) % 2**12 == 0)
    assert said.stdout == f"{lowest}\t{crc32(b'%d' % lowest):08x}\n", said.stderr


def test_the_compiled_example_is_quoted_as_it_is(root: Path) -> None:
    loop = (root / "examples" / "collatz" / "zlb_collatz_loop.py").read_text()
    code = re.sub(r' *""".*?"""\n+| *#.*?\n', "", loop, flags=re.DOTALL)
    for containing in ("def candidate", "def _peek"):
        assert re.sub(r"\n+", "\n", block(root, "python", containing)) in re.sub(r"\n+", "\n", code)


def test_what_the_compiled_example_is_said_to_find(root: Path) -> None:
    path = root / "examples" / "collatz" / "zlb_collatz.py"
    spec = importlib.util.spec_from_file_location("zlb_collatz", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said = ast.literal_eval(block(root, "console", 'load_kernel("collatz")').splitlines()[-1])
    check = module.COLLATZ.checker({"steps": 500})
    assert said == [(n, int.from_bytes(check(n), "big")) for n, _ in said]
