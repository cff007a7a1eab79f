"""The examples of docs/kernels.md do what the page says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zlb.kernels import KernelError


def example(root: Path, containing: str) -> dict[str, Any]:
    """The names after running the one Python example with this text in it."""
    page = (root / "docs" / "kernels.md").read_text()
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if containing in code)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/kernels.md", "exec"), names)
    return names


def test_first_example(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example(root, "load_kernel(")
    n, digest = capsys.readouterr().out.split()
    assert n == "828028"
    assert digest.startswith("d95f19b5")
    assert digest.endswith("5c100000")


def test_kernel_of_ones_own(root: Path) -> None:
    kernel = example(root, "class Crc32Kernel")["CRC32"]
    params, flag = {"zero_bits": 6}, np.zeros(1, np.uint8)
    found = kernel.prepare(params).search(0, 5000, flag, 10**6)
    assert found.stopped_at == 5000
    assert [hit.n for hit in found.hits] == [n for n in range(5000) if kernel.checker(params)(n)]
    assert len(found.hits) == pytest.approx(5000 / kernel.tests_per_hit(params), rel=0.5)
    assert kernel.prepare(params).search(0, 5000, flag, 3).stopped_at == found.hits[2].n + 1
    assert kernel.prepare(params).search(7, 5000, np.ones(1, np.uint8), 3).stopped_at == 7
    for bad in ({}, {"zero_bits": True}, {"zero_bits": 33}, {"zero_bits": 1, "more": 2}):
        with pytest.raises(KernelError):
            kernel.validate(bad, [])
