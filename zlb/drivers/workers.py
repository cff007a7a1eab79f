"""Kernel threads: each takes one run at a time, hashes without the interpreter lock, and hands the outcome back."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from zlb.core.errors import RemoteProtocolError
from zlb.core.ids import RunId
from zlb.core.work import Failed, Hit, Measure, Outcome, Search, Searched, Work
from zlb.drivers.gauge import Gauge
from zlb.kernels import UnknownKernel, load_kernel
from zlb.kernels.interface import KernelError, Pattern
from zlb.wire import values

if TYPE_CHECKING:
    from zlb.kernels.interface import Found, SamplingSearch
    from zlb.kernels.interface import Search as Prepared

NICE = 10
"""Kernel threads stand back behind the reactor, and behind whatever else the owner of the machine does."""
SWITCH_S = 0.0002
"""A slot that comes back from its kernel waits no longer than this for the interpreter; Python's 5 ms would be long
beside subjobs of 1 ms (4 % more throughput there, measured by bench/subjob_size.py)."""
KERNEL_DIR_VARIABLES = ("ZLB_KERNEL_DIR", "NUMBA_CACHE_DIR")
"""What zlb's own kernels, and those written in numba, look at to know where compiled code is kept."""
PREPARED_MAX = 64
"""Jobs whose kernels are kept ready; a prepared search is a few KiB."""


class Workers:
    """`slots` threads that perform `Run` effects. Every run is answered once through `take`, also when stopped.

    `kernel_dir` is where compiled kernels are kept between processes.
    """

    def __init__(self, slots: int, kernel_dir: Path) -> None:
        self.wake: Callable[[], None] = lambda: None
        for variable in KERNEL_DIR_VARIABLES:
            os.environ.setdefault(variable, str(kernel_dir))
        sys.setswitchinterval(SWITCH_S)
        self._queue: SimpleQueue[tuple[RunId, Search] | None] = SimpleQueue()
        self._done: deque[tuple[RunId, Outcome]] = deque()
        self._lock = threading.Lock()
        """Guards the three below: what runs, what is not to start, what is prepared."""
        self._flags: dict[RunId, Any] = {}
        self._unwanted: set[RunId] = set()
        self._prepared: OrderedDict[tuple[str, bytes], Prepared] = OrderedDict()
        self._preparing = threading.Lock()
        self._waiting: set[RunId] = set()
        self._gauges: dict[RunId, Gauge] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"slot-{slot}", daemon=True) for slot in range(slots)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, run_id: RunId, work: Work) -> None:
        """Have `work` done: a search by the next free slot, a measurement by a process of its own."""
        match work:
            case Search():
                with self._lock:
                    self._waiting.add(run_id)
                self._queue.put((run_id, work))
            case Measure():
                self._gauges[run_id] = Gauge(work, lambda outcome: self._end(run_id, outcome))

    def stop(self, run_id: RunId) -> None:
        """Have a run end within `limits.STOP_NS_MAX`; does nothing if it has ended already."""
        if run_id in self._gauges:
            self._gauges[run_id].stop()
            return
        with self._lock:
            flag = self._flags.get(run_id)
            if flag is not None:
                flag[0] = 1
            elif run_id in self._waiting:
                self._unwanted.add(run_id)

    def take(self) -> tuple[RunId, Outcome] | None:
        """A finished run and its outcome, or None if there is none yet."""
        return self._done.popleft() if self._done else None

    def close(self) -> None:
        """Stop all runs and end the threads."""
        for gauge in self._gauges.values():
            gauge.stop()
            gauge.join()
        with self._lock:
            self._unwanted |= self._waiting
            for flag in self._flags.values():
                flag[0] = 1
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        flag = None
        while (item := self._queue.get()) is not None:
            run_id, search = item
            if flag is None:
                import numpy as np  # here, so that a process without work never pays for it

                flag = np.zeros(1, dtype=np.uint8)
            with self._lock:
                self._waiting.discard(run_id)
                wanted = run_id not in self._unwanted
                self._unwanted.discard(run_id)
                flag[0] = 0
                self._flags[run_id] = flag
            outcome = self._search(search, flag) if wanted else Searched(search.start, (), 0)
            with self._lock:
                del self._flags[run_id]
            self._end(run_id, outcome)

    def _end(self, run_id: RunId, outcome: Outcome) -> None:
        self._done.append((run_id, outcome))
        self.wake()

    def _search(self, search: Search, flag: Any) -> Outcome:
        try:
            prepared = self._prepare(search.kernel, search.params)
            started_ns = time.perf_counter_ns()
            found = _sampled(prepared, search, flag)
            busy_ns = time.perf_counter_ns() - started_ns
        except (UnknownKernel, KernelError, RemoteProtocolError) as error:
            return Failed(str(error))
        except Exception as error:  # noqa: BLE001 - a kernel is anybody's code; its failure is the job's, not the peer's
            return Failed(f"kernel {search.kernel} failed: {type(error).__name__}: {error}")
        hits = tuple(Hit(n, digest) for n, digest in found.hits)
        return Searched(found.stopped_at, hits, busy_ns, found.samples)

    def _prepare(self, kernel: str, params: bytes) -> Prepared:
        with self._preparing:  # one thread compiles, the others wait for the same
            prepared = self._prepared.get((kernel, params))
            if prepared is None:
                prepared = load_kernel(kernel).prepare(values.unpack(params))
                self._prepared[kernel, params] = prepared
                if len(self._prepared) > PREPARED_MAX:
                    self._prepared.popitem(last=False)
            return prepared


def _sampled(prepared: Prepared, search: Search, flag: Any) -> Found:
    """Search, with samples if they are wanted; a kernel that takes none is never asked for any by an honest job."""
    span = search.start, search.stop, flag, search.hits_max
    if not search.patterns:
        return prepared.search(*span)
    if not hasattr(prepared, "patterns_max"):
        raise KernelError(f"kernel {search.kernel} takes no samples")
    patterns = [Pattern(mask, value) for mask, value in search.patterns]
    return cast("SamplingSearch", prepared).search(*span, patterns)
