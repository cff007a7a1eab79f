"""How much of the bare kernel's speed is left, by the size of a subjob?

A job without hits (64 zero bits wanted, `--all`) is run with subjobs of a fixed number of integers, 2^10 ... 2^26, and
of a fixed time, 1 ms ... 1 s, on four grids: an embedded peer of 2 slots, 1 peer process of 2 slots, 2 of 1 slot, and 4
of 1 slot (on 2 cores that is one thread too many for each). The submitter computes on the same cores.

Efficiency = (integers / makespan) / bare rate. Peers are warm; the makespan is from the first request for a lease to
the end of the job, as the submitter sees it: connecting is left out, the tail, when slots run dry, is not. A job is a
whole number of subjobs for each slot. Bare rate: the same kernel and parameters on as many threads as the machine has
cores, measured right before and right after each job; their mean counts. Rounds are interleaved.

Marked: the knee, the smallest count within 2 % of the plateau (the median of the three best); and the seed's
point, capacity = rate x round trip of a message: a subjob as long as the exchange that fetches it.
"""

from __future__ import annotations

import math
import os
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("ZLB_KERNEL_DIR", f"{tempfile.gettempdir()}/zlb-bench-kernels-{os.getuid()}")

import bus as bus_bench
import click
import common
import grids
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import zmq

from zlb.cli.run import Grid, cores
from zlb.cli.run import _advertise_at as advertise_at
from zlb.cli.run import _embedded_peer as embedded_peer
from zlb.core.config import CoordinatorConfig, SubmitterConfig
from zlb.core.effects import Effect
from zlb.core.events import Event, JobEnded
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.limits import MS
from zlb.core.message import Message
from zlb.core.work import Job, Oracle, StopRule
from zlb.drivers.bus import Bus
from zlb.drivers.reactor import Reactor
from zlb.kernels import load_kernel
from zlb.nodes.submitter import Submitter
from zlb.wire import values
from zlb.wire.messages import TaskRequest

PARAMS = {"difficulty": 64}
FIRST = 10**9
"""All integers have ten digits, so that every one costs the same."""
SUBJOBS_MAX = 6_000
"""In a job, so that the smallest sizes take seconds, too."""
GOALS = {1: 0.85, 10: 0.95, 100: 0.98, 1000: 0.98}


class Shape(NamedTuple):
    """A grid: `peers` processes (0: embedded) of `slots` threads."""

    peers: int
    slots: int

    @property
    def name(self) -> str:
        """For tables and the legend."""
        if not self.peers:
            return f"embedded, {self.slots} slots"
        return f"{self.peers} peer{'s' * (self.peers > 1)} × {self.slots} slot{'s' * (self.slots > 1)}"


class Size(NamedTuple):
    """A subjob: so many integers, or so many ms."""

    count: int | None
    ms: int | None

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.ms} ms" if self.ms else f"2^{round(math.log2(self.count or 1))}"

    def integers(self, rate: float) -> float:
        """About how many, on a slot of that rate."""
        return self.count or rate * (self.ms or 0) / 1e3


class TimedSubmitter(Submitter):
    """Notes when the first worker asked for a lease: peers are warm, connecting is not what is measured."""

    first_ns = 0

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        if not self.first_ns and isinstance(message, TaskRequest):
            self.first_ns = now
        return super().on_message(now, src, message)


def bare_rate(threads: int, seconds: float) -> float:
    """Integers a second of all threads together, hashing side by side with nothing else going on."""
    search = load_kernel("sha256").prepare(PARAMS)
    flags = [np.zeros(1, np.uint8) for _ in range(threads)]
    tested = [0] * threads

    def work(slot: int) -> None:
        start = FIRST + slot * 10**9
        tested[slot] = search.search(start, start + 10**9, flags[slot], 1).stopped_at - start

    workers = [threading.Thread(target=work, args=(slot,)) for slot in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    for flag in flags:
        flag[0] = 1
    for worker in workers:
        worker.join()
    return sum(tested) / (time.perf_counter() - began)


def run_job(size: int, endpoints: tuple[Endpoint, ...], chunk: Size) -> dict[str, float]:
    """Integers a second from the first request for a lease to the end of the job, and what it cost the submitter."""
    job_id = JobId(f"bench-{secrets.token_hex(4)}")  # peers remember ended jobs
    job = Job(job_id, "sha256", values.pack(PARAMS), ((FIRST, FIRST + size),), StopRule.ALL, 0)
    kernel = load_kernel("sha256")
    me = NodeId(f"c-{time.monotonic_ns() % 10**9}")
    bus = Bus(me, zmq.Context.instance(), None, advertise_at(me, endpoints))
    coordinator = CoordinatorConfig(chunk_count=chunk.count)
    if chunk.ms is not None:
        coordinator = CoordinatorConfig(chunk_ns=chunk.ms * MS)
    node = TimedSubmitter(
        me,
        time.time_ns(),
        bus.publish_endpoint or "",
        endpoints,
        job,
        Oracle(kernel.checker(PARAMS), kernel.sampler(PARAMS)),
        SubmitterConfig(coordinator=coordinator),
        random.Random(1),
    )
    cpu_s, ended_ns = time.process_time(), 0

    def watch(event: Event) -> None:
        nonlocal ended_ns
        if isinstance(event, JobEnded):
            ended_ns = time.monotonic_ns()

    Reactor(node, bus, watch).run()
    ended = node.coordinator.ended
    if ended is None or ended.status != "complete" or ended.done != size or ended.recomputed:
        raise RuntimeError(f"the job did not end as it should: {ended}")
    makespan_s = (ended_ns - node.first_ns) / 1e9
    return {
        "per_s": size / makespan_s,
        "makespan_s": makespan_s,
        "subjobs": node.coordinator.ledger._next_id,
        "submitter_cpu": (time.process_time() - cpu_s) / makespan_s,
    }


def job_size(size: Size, shape: Shape, rate: float, seconds: float) -> int:
    """About `seconds` of work, a whole number of subjobs for each slot: 2 at least, `SUBJOBS_MAX` in all at most."""
    slots = max(shape.peers, 1) * shape.slots
    count = size.integers(rate / slots)
    each = max(round(rate * seconds / count / slots), 8 if size.ms else 2 if count < 2**26 else 1)
    return int(count) * slots * min(each, SUBJOBS_MAX // slots)


def measure(
    shapes: list[Shape], sizes: list[Size], rounds: int, seconds: float, state_dir: Path
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Every point once a round; a bare rate before and after each."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {shape.name: {} for shape in shapes}
    for number in range(rounds):
        for shape in shapes:
            with _endpoints(shape, state_dir) as endpoints:
                rate = bare_rate(cores(), seconds / 3)
                run_job(int(rate / 2), endpoints, Size(None, 50))  # warm
                for size in sizes:
                    before = bare_rate(cores(), seconds / 3)
                    one = run_job(job_size(size, shape, before, seconds), endpoints, size)
                    after = bare_rate(cores(), seconds / 3)
                    one |= {"bare_per_s": (before + after) / 2}
                    one |= {"efficiency": one["per_s"] / one["bare_per_s"]}
                    found[shape.name].setdefault(size.name, []).append(one)
                    text = f"round {number + 1}, {shape.name}, {size.name}: {one['efficiency']:.3f}"
                    text += f"  ({one['subjobs']} subjobs, submitter {one['submitter_cpu']:.0%} of a core)"
                    print(text, file=sys.stderr, flush=True)
    return found


@contextmanager
def _endpoints(shape: Shape, state_dir: Path) -> Iterator[tuple[Endpoint, ...]]:
    if shape.peers:
        with grids.running_peers(shape.peers, shape.slots, state_dir) as peers:
            yield tuple(peer.endpoint for peer in peers)
        return
    thread, endpoint = embedded_peer(zmq.Context.instance(), Grid((), shape.slots, state_dir))
    try:
        yield (endpoint,)
    finally:
        thread.join()


def knee(points: dict[str, float], sizes: list[Size]) -> str:
    """The smallest size by count within 2 % of the plateau, which is the median of the best three."""
    counted = [size.name for size in sizes if size.count]
    plateau = statistics.median(sorted(points[name] for name in counted)[-3:])
    return next(name for name in counted if points[name] >= 0.98 * plateau)


def draw(
    medians: dict[str, dict[str, float]],
    shapes: list[Shape],
    sizes: list[Size],
    knees: dict[str, str],
    rate: float,
    seed: float,
    path: Path,
) -> None:
    """One line per grid: filled by count, hollow by time."""
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(9, 5.5))
    by_name = {size.name: size for size in sizes}
    for shape in shapes:
        slot_rate = rate / (max(shape.peers, 1) * shape.slots)
        points = medians[shape.name]
        counted = [size for size in sizes if size.count]
        (line,) = axes.plot(
            [size.count for size in counted],
            [points[size.name] for size in counted],
            "o-",
            ms=4,
            label=shape.name,
        )
        timed = [size for size in sizes if size.ms]
        xs, ys = [size.integers(slot_rate) for size in timed], [points[size.name] for size in timed]
        axes.plot(xs, ys, "s", ms=7, mfc="none", color=line.get_color())
        if shape.name in knees:
            name = knees[shape.name]
            axes.plot(by_name[name].count, points[name], "*", ms=15, color=line.get_color(), zorder=5)
    axes.axvline(seed, color="grey", ls=":")
    axes.text(seed, 0.02, " seed: rate × round trip", rotation=90, va="bottom", color="grey", fontsize=8)
    axes.axhline(1, color="grey", lw=0.5)
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("integers in a subjob   (● fixed count   □ sized in time: 1, 10, 100, 1000 ms   ★ knee)")
    axes.set_ylabel("fraction of the bare kernel's rate")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.5, show_default=True, help="of a job")
@click.option("--powers", default="10:27:2", show_default=True, help="of two, START:STOP:STEP; empty: none")
@click.option("--times", default="1,10,100,1000", show_default=True, help="ms")
@click.option("--peers", default="0,1,2,4", show_default=True, help="0: embedded")
@click.option("--save/--no-save", default=True, show_default=True)
def main(rounds: int, seconds: float, powers: str, times: str, peers: str, save: bool) -> None:
    numbers = range(*(int(word) for word in powers.split(":"))) if powers else range(0)
    sizes = [Size(2**power, None) for power in numbers] + [
        Size(None, int(ms)) for ms in times.split(",") if ms
    ]
    shapes = [Shape(number, cores() if number < 2 else 1) for number in map(int, peers.split(","))]
    with tempfile.TemporaryDirectory() as directory:
        found = measure(shapes, sizes, rounds, seconds, Path(directory))
    medians = {
        grid: {size: statistics.median(one["efficiency"] for one in ones) for size, ones in points.items()}
        for grid, points in found.items()
    }
    spreads = {
        grid: {
            size: common.median_spread([one["efficiency"] for one in ones]) for size, ones in points.items()
        }
        for grid, points in found.items()
    }
    rate = statistics.median(
        one["bare_per_s"] for points in found.values() for ones in points.values() for one in ones
    )
    round_trip_us = bus_bench.measure("zlb", "ping-pong", 1.0)["p50_us"]
    seed = rate / cores() * round_trip_us / 1e6
    knees = {shape.name: knee(medians[shape.name], sizes) for shape in shapes} if len(numbers) > 3 else {}
    print(
        f"bare kernel on {cores()} threads: {rate:,.0f}/s; round trip {round_trip_us:.0f} us: seed's point {seed:,.0f}"
    )
    rows = []
    for size in sizes:
        row = [f"{size.name}" + (f" (goal {GOALS[size.ms]})" if size.ms in GOALS else "")]
        for shape in shapes:
            spread = spreads[shape.name][size.name]
            row.append(f"{spread['median']:.3f} ({spread['min']:.3f} - {spread['max']:.3f})")
        rows.append(row)
    if knees:
        rows.append(["knee", *(knees[shape.name] for shape in shapes)])
    common.print_table(("subjob", *(shape.name for shape in shapes)), rows)
    if not save:
        return
    common.FIGURES.mkdir(exist_ok=True)
    draw(medians, shapes, sizes, knees, rate, seed, common.FIGURES / "subjob_size.png")
    parameters = {
        "rounds": rounds,
        "seconds": seconds,
        "threads": cores(),
        "kernel": "sha256",
        "first": FIRST,
    }
    result = {
        "bare_per_s": rate,
        "round_trip_us": round_trip_us,
        "seed_integers": seed,
        "knees": knees,
        "medians": medians,
        "spreads": spreads,
        "rounds": found,
    }
    common.record("subjob_size", parameters, result)


if __name__ == "__main__":
    main()
