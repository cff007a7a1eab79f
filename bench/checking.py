"""What does checking cost, and whom does it accuse?

Two questions:

* honest: a million subjobs of honest workers, of all sizes, judged as a coordinator judges them: how many are accused?
  Words of integers are those of the simulator (SplitMix64); each worker does a thousand subjobs. At 64 shares a subjob
  the count test alone is also asked about a hundred million (`counts`), with shares drawn by Poisson's law.
* cost: `zlb-submit --all` on a peer of its own, all cores, with `--verify none`, `shares` and `spot`, interleaved: the
  throughput of each over that of `none`. `new` is a job of strangers; `known` one of peers that have passed a thousand
  checks, which matters for `spot` only. What a coordinator spends on one subjob is told in microseconds.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import common
import numpy as np

from zlb.core.config import Method
from zlb.kernels import load_kernel
from zlb.kernels.interface import Pattern
from zlb.protocols.examiner import SHARES, CountTest, Examiner
from zlb.sim.truth import samples, word

SIZES = (16, 300, 4_096, 20_000)
"""Integers in a subjob; half of them are reported in two pieces."""
A_WORKER = 1_000
"""Subjobs of one worker."""


def honest(subjobs: int, seed: int) -> dict[str, int]:
    """Accusations, of so many subjobs."""
    dice = random.Random(seed)
    examiner = Examiner(word, Method.SHARES, dice)
    accused, at = 0, 0
    test = CountTest()
    for number in range(subjobs):
        if number % A_WORKER == 0:
            test = CountTest()
        size = SIZES[number % len(SIZES)]
        span = (at, at + size)
        at += size
        terms = examiner.terms([span], dice.choice([0.0, size, size / 3]))
        cut = dice.randrange(*span) if number % 2 else span[1]
        for piece in ((span[0], cut), (cut, span[1])):
            if piece[0] < piece[1]:
                found = samples(terms.patterns, *piece)
                accused += bool(examiner.wrong(terms, test, [piece], found))
    return {"subjobs": subjobs, "accused": accused}


def counts(subjobs: int, seed: int) -> dict[str, int]:
    """How many of so many subjobs with `SHARES` expected shares the count test would accuse their workers of."""
    generator = np.random.default_rng(seed)
    accused = 0
    for _ in range(subjobs // A_WORKER):
        test = CountTest()
        for shares in generator.poisson(SHARES, A_WORKER).tolist():
            if test.count(shares, SHARES):
                accused += 1
                break
    return {"subjobs": subjobs, "accused": accused}


def spent_us() -> dict[str, float]:
    """What a coordinator spends on the terms of a subjob and on judging it, with the samples of a second's work."""
    kernel = load_kernel("sha256")
    examiner = Examiner(kernel.sampler({"difficulty": 32}), Method.SHARES, random.SystemRandom())
    size = 1 << 22
    terms = examiner.terms([(0, size)], size)
    prepared, flag = kernel.prepare({"difficulty": 32}), np.zeros(1, dtype=np.uint8)
    found = prepared.search(0, size, flag, 4096, [Pattern(*one) for one in terms.patterns])  # type: ignore[call-arg]
    return {
        "terms": microseconds(lambda: examiner.terms([(0, size)], size)),
        "judging": microseconds(lambda: examiner.wrong(terms, CountTest(), [(0, size)], found.samples)),
        "samples": float(sum(map(len, found.samples))),
    }


def microseconds(act: Callable[[], object], rounds: int = 200) -> float:
    """Microseconds of one call, the median of many."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def throughput(verify: str, size: str, peers: list[str], state: Path) -> float:
    """Integers a second of one job."""
    where = [part for peer in peers for part in ("--peer", peer)] if peers else ["--local"]
    command = [
        sys.executable,
        "-m",
        "zlb.cli.submit",
        "-d",
        "40",
        "--all",
        "-r",
        size,
        "--json",
        "--verify",
        verify,
    ]
    done = subprocess.run(
        [*command, *where],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ZLB_STATE_DIR": str(state)},
    )
    return float(json.loads(done.stdout.splitlines()[-1])["hashrate"])


def cost(rounds: int, size: str, peers: list[str]) -> dict[str, list[float]]:
    """Throughputs by way of checking, interleaved. `known`: the submitter remembers that its peers are right."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        known, rates = Path(folder) / "known", Path(folder) / "new"
        for state in (known, rates):
            throughput("none", ":2^24", peers, state)  # kernels are compiled once
        ways = ["none", "shares", *(["spot new", "spot known"] if peers else [])]
        for number in range(rounds):
            for way in ways:
                verify, _, trust = way.partition(" ")
                state = known if trust == "known" else rates
                for forgotten in [] if trust == "known" else [state / "trust.json"]:
                    forgotten.unlink(missing_ok=True)
                if trust == "known" and number == 0:
                    for _ in range(3):
                        throughput("shares", size, peers, state)
                found.setdefault(way, []).append(throughput(verify, size, peers, state))
    return found


@click.command(context_settings={"show_default": True})
@click.option("--subjobs", default=1_000_000, help="Of honest workers.")
@click.option("--rounds", default=5, help="Of the question of cost; 0: it is not asked.")
@click.option("--range", "size", default=":2^30", help="Of each job.")
@click.option("--peer", "peers", multiple=True, help="Peers that run; without any, one in each process.")
def main(subjobs: int, rounds: int, size: str, peers: tuple[str, ...]) -> None:
    """Judge honest workers, and time jobs with and without checks."""
    result: dict[str, object] = {}
    if subjobs:
        result["honest"], result["counts"] = honest(subjobs, 1), counts(100 * subjobs, 1)
        print(result["honest"], result["counts"])
    result["us"] = spent_us()
    print({name: round(value, 1) for name, value in result["us"].items()})  # type: ignore[attr-defined]
    if rounds:
        found = cost(rounds, size, list(peers))
        base = statistics.median(found["none"])
        for way, rates in found.items():
            print(
                f"{way:12} {statistics.median(rates) / 1e6:8.2f} M/s  {statistics.median(rates) / base:6.3f}"
            )
        result["cost"] = found
    common.record("checking", {"range": size, "peers": len(peers)}, result)


if __name__ == "__main__":
    main()
