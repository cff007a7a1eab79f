"""The rate of a kernel, measured in a process of its own: `python -m zlb.drivers.gauge` does what `Gauge` asks for.

A process that has loaded a compiler keeps tens of megabytes for good, with numba some 120. A peer that waits for work
should not, so the measurement happens beside it, and leaves the compiled kernel in the cache for the day work comes.
"""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zlb.core.limits import SECOND
from zlb.core.work import Failed, Measure, Measured, Outcome
from zlb.drivers.manners import stand_back
from zlb.wire import values

log = logging.getLogger("zlb.kernels")

NOTE = "note: "
"""Begins lines of the child that are for the parent's log; the last other one says why it failed."""
FIRST = 10**9
"""The first integer searched: one with as many digits as those of most jobs, for kernels may take shorter ones another
way. Whatever it needs compiled is then compiled beforehand."""
FIRST_COUNT = 1 << 14
GROWTH_MAX = 64
"""The first, short round may be all overhead: never believe it by more than this."""
GAUGE_S_MAX = 300
"""A kernel that is not measured by then, compilation included, never will be."""

SHOWN_MAX = 60
"""Characters of an answer that is none."""


class Gauge:
    """Measures in a child process of that niceness; calls `on_done` once, from a thread, also after `stop`."""

    def __init__(self, work: Measure, on_done: Callable[[Outcome], None], nice: int) -> None:
        ask = json.dumps([work.kernel, work.params.hex(), work.slots, work.aim_ns, nice])
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, ask],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._wait, args=(on_done,), name="gauge", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The child's process id, while it lives."""
        return self._child.pid if self._child.returncode is None else None

    def stop(self) -> None:
        """End the child; the outcome is then a failure, unless it was quicker."""
        self._child.terminate()

    def join(self) -> None:
        """Wait until the child has ended."""
        self._thread.join()

    def _wait(self, on_done: Callable[[Outcome], None]) -> None:
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        alarm = threading.Timer(GAUGE_S_MAX, self._child.kill)
        alarm.start()
        complaint = "no reason given"
        with self._child:
            for line in self._child.stderr:
                if line.startswith(NOTE):
                    log.info(line.removeprefix(NOTE).strip())
                else:
                    complaint = line.strip() or complaint
            answer = self._child.stdout.read()
            returncode = self._child.wait()
        alarm.cancel()
        if returncode == 0:
            on_done(_understood(answer))
        elif returncode < 0:
            on_done(Failed("stopped"))
        else:
            on_done(Failed(complaint))


def _understood(answer: str) -> Outcome:
    """The rate that a child has told, if it is one: what kernels print comes the same way."""
    try:
        per_s = float(answer)
    except ValueError:
        per_s = 0.0
    if 0 < per_s < math.inf:
        return Measured(per_s)
    return Failed(f"{answer.strip()[:SHOWN_MAX]!a} is no rate")


def measure(kernel: str, params: bytes, slots: int, aim_ns: int) -> float:
    """Integers a second of one slot while `slots` threads search at once: rounds grow until one takes `aim_ns`.

    The first round warms the kernel up and never counts.
    """
    import numpy as np

    from zlb.kernels import load_kernel

    search = load_kernel(kernel).prepare(values.unpack(params)).search
    flag = np.zeros(1, dtype=np.uint8)

    def timed(count: int) -> int:
        started_ns = time.perf_counter_ns()
        search(FIRST, FIRST + count, flag, 1)
        return time.perf_counter_ns() - started_ns

    count, warm = FIRST_COUNT, False
    with ThreadPoolExecutor(slots) as threads:
        while True:
            mean_ns = sum(threads.map(timed, [count] * slots)) // slots
            if warm and 2 * mean_ns >= aim_ns:
                return count * SECOND / mean_ns
            warm = True
            count = max(1, int(count * min(GROWTH_MAX, aim_ns / mean_ns)))


if __name__ == "__main__":
    logging.basicConfig(format=f"{NOTE}%(message)s", level=logging.INFO)
    _kernel, _params, _slots, _aim_ns, _nice = json.loads(sys.argv[1])
    stand_back(_nice)  # all its threads, too: they are born as nice as this one
    print(measure(_kernel, bytes.fromhex(_params), _slots, _aim_ns))
