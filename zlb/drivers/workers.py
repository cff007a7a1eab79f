"""Kernel threads: each takes one run at a time, hashes without the interpreter lock, and hands the outcome back."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import TYPE_CHECKING, Any, cast

from zlb.core.errors import RemoteProtocolError
from zlb.core.ids import RunId
from zlb.core.limits import SECOND
from zlb.core.work import Failed, Hit, Measure, Measured, Outcome, Search, Searched, Work
from zlb.drivers import cheating
from zlb.drivers.gauge import Gauge
from zlb.drivers.manners import DEFAULT_MANNERS, Manners, stand_back
from zlb.kernels import UnknownKernel, load_kernel
from zlb.kernels.interface import KernelError, Pattern
from zlb.wire import values

if TYPE_CHECKING:
    from zlb.kernels.interface import Found, SamplingSearch
    from zlb.kernels.interface import Search as Prepared

SWITCH_S = 0.0002
"""A slot that comes back from its kernel waits no longer than this for the interpreter; Python's 5 ms would be long
beside subjobs of 1 ms (4 % more throughput there, measured by bench/subjob_size.py)."""
KERNEL_DIR_VARIABLES = ("ZLB_KERNEL_DIR", "NUMBA_CACHE_DIR")
"""What zlb's own kernels, and those written in numba, look at to know where compiled code is kept."""
COMPILED_IDLE_NS_MAX = 30 * SECOND
"""A slot of which little is lent idles no longer than this for having compiled a kernel, which is done once on a
machine: at 1 % the 2 s it takes would be three minutes without work."""
PREPARED_MAX = 64
"""Jobs whose kernels are kept ready; a prepared search is a few KiB."""


class Workers:
    """`slots` threads that perform `Run` effects. Every run is answered once through `take`, also when stopped.

    `kernel_dir` is where compiled kernels are kept between processes. With a share of less than 1 in `manners` each
    slot idles after a run, so that it is busy for no more than that share of the time; the outcome is told at once, and
    its `busy_ns`, like a measured rate, is that of a slot that is slower by as much. Raises `ZlbError` if the
    environment asks for cheating (`drivers.cheating`) in words that nobody understands.
    """

    def __init__(self, slots: int, kernel_dir: Path, manners: Manners = DEFAULT_MANNERS) -> None:
        self.wake: Callable[[], None] = lambda: None
        for variable in KERNEL_DIR_VARIABLES:
            os.environ.setdefault(variable, str(kernel_dir))
        sys.setswitchinterval(SWITCH_S)
        self._share, self._nice = manners.share, manners.nice
        self._cheat = cheating.asked_for()
        self._queue: SimpleQueue[tuple[RunId, Search] | None] = SimpleQueue()
        self._done: deque[tuple[RunId, Outcome]] = deque()
        self._closing = threading.Event()
        """What a slot waits for while it idles."""
        self._lock = threading.Lock()
        """Guards the three below: what runs, what waits and where it would begin, what is prepared."""
        self._flags: dict[RunId, Any] = {}
        self._waiting: dict[RunId, int] = {}
        self._prepared: OrderedDict[tuple[str, bytes], Prepared] = OrderedDict()
        self._preparing = threading.Lock()
        self._gauges: dict[RunId, Gauge] = {}
        self._put_off: dict[RunId, Measure] | None = None
        """Measurements that wait for `release`; None: none does."""
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
                    self._waiting[run_id] = work.start
                self._queue.put((run_id, work))
            case Measure() if self._put_off is not None:
                self._put_off[run_id] = work
            case Measure():
                on_done = partial(self._measured, run_id)
                self._gauges[run_id] = Gauge(work, on_done, self._nice)

    def stop(self, run_id: RunId) -> None:
        """Have a run end within `limits.STOP_NS_MAX`, at once if it waits; does nothing if it has ended already."""
        if run_id in self._gauges:
            self._gauges[run_id].stop()
            return
        if self._put_off and self._put_off.pop(run_id, None):
            self._end(run_id, Failed("stopped"))
            return
        with self._lock:
            flag = self._flags.get(run_id)
            start = self._waiting.pop(run_id, None)
            if flag is not None:
                flag[0] = 1
        if start is not None:  # not left to a slot: all of them may idle for long
            self._end(run_id, Searched(start, (), 0))

    def hold(self) -> None:
        """The machine is needed: measurements wait until `release`. Searches are the node's to stop."""
        if self._put_off is None:
            self._put_off = {}

    def release(self) -> None:
        """The machine may be used again."""
        held, self._put_off = self._put_off or {}, None
        for run_id, work in held.items():
            self.run(run_id, work)

    def children(self) -> list[int]:
        """The processes that measure now."""
        return [pid for gauge in list(self._gauges.values()) if (pid := gauge.pid) is not None]

    def take(self) -> tuple[RunId, Outcome] | None:
        """A finished run and its outcome, or None if there is none yet."""
        return self._done.popleft() if self._done else None

    def close(self) -> None:
        """Stop all runs and end the threads."""
        for run_id in list(self._put_off or {}):
            self.stop(run_id)
        for gauge in self._gauges.values():
            gauge.stop()
            gauge.join()
        self._closing.set()
        with self._lock:
            waiting = list(self._waiting)
            for flag in self._flags.values():
                flag[0] = 1
        for run_id in waiting:
            self.stop(run_id)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        stand_back(self._nice)
        flag = None
        while (item := self._queue.get()) is not None:
            run_id, search = item
            if flag is None:
                import numpy as np  # here, so that a process without work never pays for it

                flag = np.zeros(1, dtype=np.uint8)
            with self._lock:
                if self._waiting.pop(run_id, None) is None:
                    continue  # stopped, and answered
                flag[0] = 0
                self._flags[run_id] = flag
            began_ns = time.thread_time_ns()
            outcome = self._search(search, flag)
            used_ns = time.thread_time_ns() - began_ns
            with self._lock:
                del self._flags[run_id]
            if self._share == 1.0:
                self._end(run_id, outcome)
                continue
            busy_ns = outcome.busy_ns if isinstance(outcome, Searched) else 0
            compiling_ns = max(used_ns - busy_ns, 0)  # the latter may hold waiting for a core
            if isinstance(outcome, Searched):
                outcome = outcome._replace(busy_ns=int(busy_ns / self._share))
            self._end(run_id, outcome)
            factor = 1 / self._share - 1
            self._closing.wait((busy_ns * factor + min(compiling_ns * factor, COMPILED_IDLE_NS_MAX)) / SECOND)

    def _measured(self, run_id: RunId, outcome: Outcome) -> None:
        if isinstance(outcome, Measured):
            outcome = Measured(outcome.per_s * self._share)
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
            hits = tuple(Hit(n, digest) for n, digest in found.hits)
            return Searched(found.stopped_at, hits, busy_ns, found.samples)
        except (UnknownKernel, KernelError, RemoteProtocolError) as error:
            return Failed(_told(error))
        except BaseException as error:  # noqa: BLE001 - a kernel is anybody's code; its failure is the job's, not the peer's
            return Failed(f"kernel {search.kernel} failed: {type(error).__name__}: {_told(error)}")

    def _prepare(self, kernel: str, params: bytes) -> Prepared:
        with self._preparing:  # one thread compiles, the others wait for the same
            prepared = self._prepared.get((kernel, params))
            if prepared is None:
                prepared = load_kernel(kernel).prepare(values.unpack(params))
                if self._cheat is not None:
                    prepared = cheating.CheatingSearch(prepared, self._cheat, Random())
                self._prepared[kernel, params] = prepared
                if len(self._prepared) > PREPARED_MAX:
                    self._prepared.popitem(last=False)
            return prepared


def _told(error: BaseException) -> str:
    """What an error of a stranger's code says of itself, as one line that can travel."""
    try:
        return " ".join(str(error).encode(errors="replace").decode().split())
    except Exception:  # noqa: BLE001 - the same stranger's
        return "it cannot say why"


def _sampled(prepared: Prepared, search: Search, flag: Any) -> Found:
    """Search, with samples if they are wanted; a kernel that takes none is never asked for any by an honest job."""
    span = search.start, search.stop, flag, search.hits_max
    if not search.patterns:
        return prepared.search(*span)
    if not hasattr(prepared, "patterns_max"):
        raise KernelError(f"kernel {search.kernel} takes no samples")
    patterns = [Pattern(mask, value) for mask, value in search.patterns]
    return cast("SamplingSearch", prepared).search(*span, patterns)
