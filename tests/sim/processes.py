"""The same code in processes that hash strings differently: what depends on the order of a set shows."""

import os
import subprocess
import sys


def told_by_all(code: str, timeout_s: int = 60) -> set[str]:
    """What `code` prints under two hash seeds: one text if it is the same."""
    return {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        ).stdout
        for seed in ("1", "2")
    }
