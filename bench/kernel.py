"""How fast kernels hash, next to hashlib, OpenSSL, the CPU's own limit, and a native miner if there is one.

    .venv/bin/python bench/kernel.py                       all figures: 5 rounds, a minute
    .venv/bin/python bench/kernel.py --rounds 9 --only sha256d
    .venv/bin/python bench/kernel.py --native PATH         a cpuminer, run with --benchmark

Every round measures everything once, and a ratio is taken within a round: what slows the machine slows both. Figures
are medians.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
import numpy as np
from common import median_spread, print_table, record
from vector_bound import operations_a_hash, operations_a_second

from zlb.kernels import load_kernel, paths
from zlb.kernels.compiled import best_path
from zlb.kernels.fips180 import SHA256
from zlb.kernels.interface import Pattern

HEADER = bytes(range(76))
FIRST = 2**31
NO_HIT = 1 << 40
SEARCH_S = 0.25
"""Seconds a measurement of a search takes, about."""
HASHLIB_COUNT = 400_000
OPENSSL_BYTES = 16384
BLOCK_BYTES = 64
NATIVE_S = 5

HEADER_PUZZLE = {"prefix": HEADER, "encoding": "u32le", "match": "bitcoin", "difficulty": 120}
ENCODINGS = ("u32be", "u32le", "u64be", "u64le", "dec", "hex")

Measure = Callable[[], float]
"""One measurement: hashes (or compressions) a second."""


@dataclass(frozen=True)
class Figure:
    """A line of the table: one measure over another."""

    name: str
    of: str
    over: str
    factor: float = 1.0
    goal: float | None = None


class Searching:
    """Measures one kernel on one puzzle, on one or more threads."""

    def __init__(
        self,
        kernel: str,
        params: dict[str, object],
        *,
        path: str | None = None,
        threads: int = 1,
        patterns: tuple[Pattern, ...] = (),
        first: int = FIRST,
    ) -> None:
        before = os.environ.get(paths.VARIABLE)
        if path:
            os.environ[paths.VARIABLE] = path
        try:
            self._search = load_kernel(kernel).prepare(params)
        finally:
            if path:
                del os.environ[paths.VARIABLE]
            if before is not None:
                os.environ[paths.VARIABLE] = before
        self._first, self._threads, self._patterns = first, threads, patterns
        self._pool = ThreadPoolExecutor(threads)
        self._count = 1 << 18
        self._rate()  # compiles
        self._count = int(max(self._rate() for _ in range(3)) * SEARCH_S / threads)

    def __call__(self) -> float:
        """Integers a second; a CPU that has idled takes some time to be itself again, which does not count."""
        list(self._pool.map(lambda thread: self._run(thread, self._count // 4), range(self._threads)))
        return self._rate()

    def _rate(self) -> float:
        started = time.perf_counter()
        list(self._pool.map(lambda thread: self._run(thread, self._count), range(self._threads)))
        return self._count * self._threads / (time.perf_counter() - started)

    def _run(self, thread: int, count: int) -> None:
        first = self._first + thread * self._count
        flag = np.zeros(1, np.uint8)
        if self._patterns:
            self._search.search(first, first + count, flag, NO_HIT, self._patterns)
        else:
            self._search.search(first, first + count, flag, NO_HIT)


def hashlib_loop() -> float:
    """SHA-256 of four bytes, as a Python programmer would write it."""
    sha256 = hashlib.sha256
    started = time.perf_counter()
    for n in range(FIRST, FIRST + HASHLIB_COUNT):
        sha256(n.to_bytes(4, "big")).digest()
    return HASHLIB_COUNT / (time.perf_counter() - started)


def hashlib_header_loop() -> float:
    """SHA-256d of a block header, likewise."""
    sha256 = hashlib.sha256
    started = time.perf_counter()
    for n in range(FIRST, FIRST + HASHLIB_COUNT):
        sha256(sha256(HEADER + n.to_bytes(4, "little")).digest()).digest()
    return HASHLIB_COUNT / (time.perf_counter() - started)


def openssl() -> float:
    """Compressions a second of `openssl speed`, which is what a C program gets."""
    command = ["openssl", "speed", "-seconds", "1", "-bytes", str(OPENSSL_BYTES), "-evp", "sha256"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"sha256\s+([\d.]+)k", told.stdout)
    assert found, told.stdout
    return float(found[1]) * 1000 / BLOCK_BYTES


def native(path: str) -> float:
    """Hashes a second that a cpuminer reports of itself for sha256d on one thread."""
    command = [path, "--benchmark", "-a", "sha256d", "-t", "1", "--time-limit", str(NATIVE_S)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60 * NATIVE_S, check=False)
    rates = re.findall(r"([\d.]+) ([kMG]?)H/s", told.stdout + told.stderr)
    if not rates:
        raise click.UsageError(f"{path} reported no rate: {(told.stdout + told.stderr)[-200:]!a}")
    number, scale = rates[-1]
    return float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[scale]


def measures(native_path: str | None) -> dict[str, Measure]:
    """Everything that is measured in a round, by name."""
    found: dict[str, Measure] = {
        "hashlib sha256": hashlib_loop,
        "hashlib sha256d": hashlib_header_loop,
        "sha256d": Searching("sha256d", HEADER_PUZZLE),
        "sha256d, 2 threads": Searching("sha256d", HEADER_PUZZLE, threads=2),
        "sha256, 2 threads": Searching("sha256", {"encoding": "u32be", "difficulty": 120}, threads=2),
        "sha256 all at 8 bits": Searching("sha256", {"encoding": "u32be", "difficulty": 8}),
        "sha256, 4 patterns": Searching(
            "sha256",
            {"encoding": "u32be", "difficulty": 120},
            patterns=tuple(Pattern(0xFFFFFFFF, n) for n in range(4)),
        ),
        "sha1": Searching(
            "sha1", {"prefix": b"1:20:261121:a@b::0123456789abcdef:", "match": "leading", "difficulty": 120}
        ),
    }
    for versions in (2, 4):
        found[f"sha256d, {versions} versions"] = Searching("sha256d", {**HEADER_PUZZLE, "versions": versions})
    for encoding in ENCODINGS:
        found[f"sha256 {encoding}"] = Searching("sha256", {"encoding": encoding, "difficulty": 120})
    found["sha256 u32be behind 32 bytes"] = Searching(
        "sha256", {"prefix": bytes(32), "encoding": "u32be", "difficulty": 120}
    )
    for path in paths.possible():
        found[f"sha256d by {path.name}"] = Searching("sha256d", HEADER_PUZZLE, path=path.name)
        found[f"sha256 by {path.name}"] = Searching(
            "sha256", {"encoding": "u32be", "difficulty": 120}, path=path.name
        )
    path = best_path(SHA256)
    if not path.sha:
        found["vector operations"] = lambda: operations_a_second(path) * path.lanes
    if shutil.which("openssl"):
        found["openssl"] = openssl
    if native_path:
        found["native sha256d"] = lambda: native(native_path)
    return found


def figures(names: Iterable[str]) -> list[Figure]:
    """What the measures are compared for: goals are those for a CPU with 512-bit vector units."""
    header = sum(operations_a_hash(True, 3, 7).values())
    first = sum(operations_a_hash(False, 0, 7).values())
    ninth = sum(operations_a_hash(False, 8, 7).values())
    wanted = [
        Figure("sha256d header / hashlib loop", "sha256d", "hashlib sha256d", goal=45),
        Figure("sha256d header / openssl halved", "sha256d", "openssl", 2, 4.4),
        Figure("2 versions / sha256d", "sha256d, 2 versions", "sha256d", goal=1.06),
        Figure("4 versions / sha256d", "sha256d, 4 versions", "sha256d", goal=1.10),
        Figure("sha256 u32be / hashlib loop", "sha256 u32be", "hashlib sha256", goal=55),
        Figure("sha256 u64be / hashlib loop", "sha256 u64be", "hashlib sha256", goal=55),
        Figure("sha256 u32be / openssl", "sha256 u32be", "openssl", goal=4.6),
        Figure("sha256 u64be / openssl", "sha256 u64be", "openssl", goal=4.6),
        Figure("sha256d: share of the vector bound", "sha256d", "vector operations", header, 0.80),
        Figure("sha256 u32be: share of the vector bound", "sha256 u32be", "vector operations", first, 0.80),
        Figure("... behind 32 bytes", "sha256 u32be behind 32 bytes", "vector operations", ninth, 0.80),
        Figure("2 threads / 1, sha256d", "sha256d, 2 threads", "sha256d", goal=1.9),
        Figure("2 threads / 1, sha256", "sha256, 2 threads", "sha256 u32be", goal=1.9),
        Figure("4 patterns / none", "sha256, 4 patterns", "sha256 u32be", goal=0.98),
        Figure("all hits at 8 bits / none", "sha256 all at 8 bits", "sha256 u32be", goal=0.5),
        Figure("sha256d / native miner", "sha256d", "native sha256d"),
    ]
    wanted += [
        Figure(f"{name} / u32be", f"sha256 {name}", "sha256 u32be", goal=0.85) for name in ENCODINGS[1:]
    ]
    widest = next(path.name for path in paths.possible() if not path.sha)
    for path in paths.possible():
        goal = {"sse2": 0.10, "avx2": 0.30, "shani": 0.30}.get(path.name)
        for kernel in ("sha256d", "sha256"):
            name = f"{kernel} by {path.name}"
            wanted.append(Figure(f"{name} / {widest}", name, f"{kernel} by {widest}", goal=goal))
    known = set(names)
    return [figure for figure in wanted if {figure.of, figure.over} <= known and figure.of != figure.over]


def start_up() -> dict[str, list[float]]:
    """Seconds until a fresh process has searched: with nothing compiled yet, and with everything."""
    code = (
        "import time; t = time.perf_counter(); import numpy as np; from zlb.kernels import load_kernel\n"
        "search = load_kernel('sha256').prepare({'encoding': 'u32be', 'difficulty': 8})\n"
        "search.search(0, 100, np.zeros(1, np.uint8), 1); print(time.perf_counter() - t)"
    )
    seconds: dict[str, list[float]] = {"first start, compiling": [], "later starts": []}
    for _ in range(5):
        with tempfile.TemporaryDirectory() as directory:
            for values in seconds.values():
                environment = {**os.environ, "ZLB_KERNEL_DIR": directory}
                told = subprocess.run(
                    [sys.executable, "-c", code], env=environment, capture_output=True, check=True
                )
                values.append(float(told.stdout))
    return seconds


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--only", default="", help="Measure only what has this in its name.")
@click.option("--native", "native_path", type=click.Path(exists=True), help="A native miner to compare with.")
def main(rounds: int, only: str, native_path: str | None) -> None:
    """Measure, print, record."""
    chosen = {name: measure for name, measure in measures(native_path).items() if only in name}
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for name, measure in chosen.items():
            rates[name].append(measure())
    rows = []
    for name, values in rates.items():
        spread = median_spread([value / 1e6 for value in values])
        rows.append((name, f"{spread['median']:.2f} ({spread['min']:.2f} - {spread['max']:.2f})"))
        record("kernel", {"rounds": rounds}, {"measure": name, "million_per_s": spread, "rounds": values})
    print_table(("one thread unless said", "million a second"), rows)
    print()
    rows = []
    for figure in figures(rates):
        ratios = [
            figure.factor * of / over for of, over in zip(rates[figure.of], rates[figure.over], strict=True)
        ]
        goal = "" if figure.goal is None else f"{figure.goal:g}"
        rows.append(
            (figure.name, f"{statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})", goal)
        )
        record(
            "kernel",
            {"rounds": rounds},
            {"figure": figure.name, "ratio": median_spread(ratios), "goal": figure.goal, "rounds": ratios},
        )
    print_table(("figure", "ratio", "goal"), rows)
    if not native_path:
        print("\nno native miner was given (--native PATH): not compared with one")
    if not only:
        print()
        for name, values in start_up().items():
            record(
                "kernel", {"rounds": 5}, {"start": name, "seconds": median_spread(values), "rounds": values}
            )
            print(f"{name}: {statistics.median(values):.2f} s ({min(values):.2f} - {max(values):.2f})")


if __name__ == "__main__":
    main()
