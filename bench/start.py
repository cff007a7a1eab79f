"""What does zlb cost before and between jobs: wall time of commands, CPU and memory of an idle peer?

Commands are run as a user runs them, from process start to exit, the whole set once a round: `--version`, `--help`, a
job of 20 bits (the lowest hit, 828028) embedded and on two running peers. "Warm": kernels are compiled and the state
directory knows the machine's rate, as on any but the first run. Idle: two peers linked with each other, watched for a
while after they have measured themselves; CPU from /proc/PID/stat, memory from /proc/PID/smaps_rollup (RSS: all pages;
PSS: shared pages divided among the processes that share them), for peers that never had a job and for peers that had.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import common
import grids

JOB = ("--range", "0:2**32", "-d", "20", "--lowest")
GOALS = {"--version": 0.2, "--help": 0.2, "embedded": 1.5, "2 peers": 0.6}
SCRIPTS = Path(sys.executable).parent


def wall_s(words: tuple[str, ...], environment: dict[str, str]) -> float:
    """From start to exit."""
    began = time.perf_counter()
    done = subprocess.run(
        (SCRIPTS / "zlb-submit", *words), env=environment, check=False, capture_output=True, text=True
    )
    took = time.perf_counter() - began
    if done.returncode or ("--lowest" in words and not done.stdout.startswith("828028")):
        raise RuntimeError(f"zlb-submit {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return took


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    """RSS, PSS and private pages, MB (10^6 bytes)."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024 / 1e6
    return {
        "rss_mb": found["Rss"],
        "pss_mb": found["Pss"],
        "private_mb": found["Private_Clean"] + found["Private_Dirty"],
    }


def idle(pids: list[int], seconds: float) -> list[dict[str, float]]:
    """What each process uses while nothing is to be done."""
    before, began = [cpu_s(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return [
        {"cpu_percent": 100 * (cpu_s(pid) - was) / took, **memory_mb(pid)}
        for pid, was in zip(pids, before, strict=True)
    ]


@click.command(help=__doc__)
@click.option("--rounds", default=9, show_default=True)
@click.option("--idle-seconds", default=20.0, show_default=True)
@click.option("--save/--no-save", default=True, show_default=True)
def main(rounds: int, idle_seconds: float, save: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        state_dir = Path(directory)
        environment = {**os.environ, "ZLB_STATE_DIR": directory}
        environment.pop("ZLB_PEERS", None)
        cold_s = wall_s(JOB, environment)  # compiles; every later one is warm
        with grids.running_peers(2, max(1, common.cores() // 2), state_dir, linked=True) as peers:
            words = tuple(word for peer in peers for word in ("--peer", peer.endpoint))
            commands = {
                "--version": ("--version",),
                "--help": ("--help",),
                "embedded": JOB,
                "2 peers": (*JOB, *words),
            }
            wall_s(commands["2 peers"], environment)
            found: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(rounds):
                for name, command in commands.items():
                    found[name].append(wall_s(command, environment))
            worked = [memory_mb(peer.process.pid) for peer in peers]
        with grids.running_peers(2, max(1, common.cores() // 2), state_dir, linked=True) as peers:
            time.sleep(3)  # they measure themselves
            idling = idle([peer.process.pid for peer in peers], idle_seconds)
    medians = {name: common.median_spread(times) for name, times in found.items()}
    rows = [
        (
            f"zlb-submit {name}",
            f"{one['median']:.3f} ({one['min']:.3f} - {one['max']:.3f}) s",
            f"{GOALS[name]} s",
        )
        for name, one in medians.items()
    ]
    rows.append(("zlb-submit embedded, the very first time", f"{cold_s:.2f} s", ""))
    for key, goal in (("cpu_percent", "1 %"), ("rss_mb", "120 MB"), ("pss_mb", ""), ("private_mb", "")):
        unit = "%" if key == "cpu_percent" else "MB"
        value = statistics.mean(one[key] for one in idling)
        rows.append((f"idle peer, {key.partition('_')[0]}", f"{value:.2f} {unit}", goal))
    for key in ("rss_mb", "pss_mb"):
        value = statistics.mean(one[key] for one in worked)
        rows.append((f"idle peer that has worked, {key.partition('_')[0]}", f"{value:.2f} MB", ""))
    common.print_table(("", "median (least - greatest)", "goal"), rows)
    if save:
        parameters = {"rounds": rounds, "idle_seconds": idle_seconds, "job": JOB}
        common.record(
            "start",
            parameters,
            {"medians": medians, "cold_s": cold_s, "rounds": found, "idle": idling, "worked": worked},
        )


if __name__ == "__main__":
    main()
