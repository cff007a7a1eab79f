"""What all benchmarks share: the machine in words, medians with their spread, tables, one JSON line a run."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from zlb.cli.run import cores

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FIGURES = HERE / "figures"
LIBRARIES = ("pyzmq", "msgpack", "msgspec", "numpy", "numba", "llvmlite")


def commit() -> str:
    """The commit measured; `+` behind it: with changes to zlb/ that are in no commit."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD").strip()
        return name + ("+" if _git("status", "--porcelain", "--", "zlb").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """What a number means nothing without."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def median_spread(rounds: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(rounds), "min": min(rounds), "max": max(rounds)}


def record(name: str, parameters: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Append one line to results/NAME.jsonl: when, what, where, how, and every round."""
    RESULTS.mkdir(exist_ok=True)
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "parameters": dict(parameters),
        **result,
    }
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table that lines up: fit for a terminal and for RESULTS.md alike."""
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    table.insert(1, tuple("-" * width for width in widths))
    for row in table:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def _git(*words: str) -> str:
    return subprocess.run(("git", *words), cwd=HERE, check=True, capture_output=True, text=True).stdout


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
