"""Slots with a share of the time: what they report, how long they idle, and that no idling holds anything up."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zlb.core.ids import RunId
from zlb.core.limits import SECOND
from zlb.core.work import Failed, Measure, Measured, Outcome, Search, Searched
from zlb.drivers import workers as module
from zlb.drivers.manners import Manners
from zlb.drivers.workers import COMPILED_IDLE_NS_MAX, Workers
from zlb.kernels.interface import Found, KernelError

ENOUGH_S = 60
RUN_NS = 10 * SECOND
"""What a run takes by the clock of `Clock`."""


class Clock:
    """Stands in for the module `time`: a run takes `RUN_NS`, and of a core `cpu_ns`."""

    def __init__(self, cpu_ns: int) -> None:
        self.wall = self.cpu = 0
        self.cpu_ns = cpu_ns

    def perf_counter_ns(self) -> int:
        self.wall += RUN_NS
        return self.wall

    def thread_time_ns(self) -> int:
        self.cpu += self.cpu_ns
        return self.cpu


class Kernel:
    """Finds nothing, at once; or fails."""

    error: Exception | None = None

    def prepare(self, _params: object) -> "Kernel":
        if self.error is not None:
            raise self.error
        return self

    def search(self, _start: int, stop: int, *_: object) -> Found:
        return Found(stop, (), ())


class Idling:
    """Stands in for the event that ends idling: says how long it would have been; `lasts` makes it last."""

    def __init__(self, lasts: bool) -> None:
        self.began = threading.Event()
        self.idled: list[float] = []
        self._lasts, self._ended = lasts, threading.Event()

    def wait(self, timeout: float) -> None:
        self.idled.append(timeout)
        self.began.set()
        if self._lasts:
            assert self._ended.wait(ENOUGH_S)

    def set(self) -> None:
        self._ended.set()


class Pool:
    """Workers, and the outcomes they have told."""

    def __init__(self, workers: Workers, idling: Idling) -> None:
        self.workers, self.idling = workers, idling
        self._rung = threading.Semaphore(0)
        workers.wake = self._rung.release

    def outcome(self) -> tuple[int, Outcome]:
        assert self._rung.acquire(timeout=ENOUGH_S)
        done = self.workers.take()
        assert done is not None
        return done


Make = Callable[..., Pool]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    fake = Kernel()
    monkeypatch.setattr(module, "load_kernel", lambda _name: fake)
    return fake


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernel: Kernel) -> Iterator[Make]:
    made: list[Workers] = []

    def start(share: float, cpu_ns: int = 0, lasts: bool = False) -> Pool:
        monkeypatch.setattr(module, "time", Clock(cpu_ns))
        workers, idling = Workers(1, tmp_path, Manners(share=share)), Idling(lasts)
        workers._closing = idling  # type: ignore[assignment]
        made.append(workers)
        return Pool(workers, idling)

    yield start
    for workers in made:
        workers.close()


def search(start: int = 0, stop: int = 100) -> Search:
    return Search("k", b"\x80", start, stop, 1)


def test_a_slot_that_is_lent_whole_never_idles(make: Make) -> None:
    pool = make(1.0)
    pool.workers.run(RunId(1), search())
    assert pool.outcome() == (1, Searched(100, (), RUN_NS))
    pool.workers.close()
    assert pool.idling.idled == []


@pytest.mark.parametrize(("share", "factor", "idle_s"), [(0.5, 2, 10.0), (0.25, 4, 30.0), (0.01, 100, 990.0)])
def test_a_slot_idles_and_reports_what_it_delivers(
    make: Make, share: float, factor: int, idle_s: float
) -> None:
    pool = make(share)
    pool.workers.run(RunId(1), search())
    assert pool.outcome() == (1, Searched(100, (), factor * RUN_NS))
    pool.workers.close()
    assert pool.idling.idled == [pytest.approx(idle_s)]


def test_compiling_is_paid_for_but_is_not_the_speed_of_a_kernel(make: Make) -> None:
    pool = make(0.5, cpu_ns=30 * SECOND)
    pool.workers.run(RunId(1), search())
    assert pool.outcome() == (1, Searched(100, (), 2 * RUN_NS))
    pool.workers.close()
    assert pool.idling.idled == [pytest.approx(30.0)]


def test_a_failure_is_paid_for(make: Make, kernel: Kernel) -> None:
    pool = make(0.5, cpu_ns=3 * SECOND)
    kernel.error = KernelError("no such puzzle")
    pool.workers.run(RunId(1), search())
    assert pool.outcome() == (1, Failed("no such puzzle"))
    pool.workers.close()
    assert pool.idling.idled == [pytest.approx(3.0)]


def test_what_waits_behind_an_idle_slot_is_stopped_at_once(make: Make) -> None:
    pool = make(0.01, lasts=True)
    pool.workers.run(RunId(1), search())
    assert pool.outcome()[0] == 1
    assert pool.idling.began.wait(ENOUGH_S)
    pool.workers.run(RunId(2), search(100, 200))
    pool.workers.run(RunId(3), search(200, 300))
    pool.workers.stop(RunId(3))
    pool.workers.stop(RunId(2))
    pool.workers.stop(RunId(2))
    assert pool.outcome() == (3, Searched(200, (), 0))
    assert pool.outcome() == (2, Searched(100, (), 0))
    pool.workers.close()
    assert pool.workers.take() is None  # each once


def test_closing_wakes_an_idle_slot_and_answers_what_waits(make: Make) -> None:
    pool = make(0.01, lasts=True)
    pool.workers.run(RunId(1), search())
    assert pool.outcome()[0] == 1
    assert pool.idling.began.wait(ENOUGH_S)
    pool.workers.run(RunId(2), search(100, 200))
    pool.workers.close()
    assert pool.outcome() == (2, Searched(100, (), 0))


def test_compiling_for_long_is_not_paid_for_with_hours(make: Make) -> None:
    pool = make(0.01, cpu_ns=100 * SECOND)
    pool.workers.run(RunId(1), search())
    assert pool.outcome() == (1, Searched(100, (), 100 * RUN_NS))
    pool.workers.close()
    assert pool.idling.idled == [pytest.approx(99 * RUN_NS / SECOND + COMPILED_IDLE_NS_MAX / SECOND)]


class FakeGauge:
    """Stands in for the process that measures."""

    made: list["FakeGauge"]

    def __init__(self, work: Measure, on_done: Callable[[Outcome], None], nice: int) -> None:
        self.work, self.on_done, self.nice = work, on_done, nice
        self.pid: int | None = 4711
        self.stopped = False
        FakeGauge.made.append(self)

    def stop(self) -> None:
        self.stopped = True

    def join(self) -> None:
        pass


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> list[FakeGauge]:
    FakeGauge.made = []
    monkeypatch.setattr(module, "Gauge", FakeGauge)
    return FakeGauge.made


MEASURE: Any = Measure("k", b"\x80", 1, 100)


def test_a_rate_is_that_of_the_share(make: Make, gauges: list[FakeGauge]) -> None:
    pool = make(0.25)
    pool.workers.run(RunId(1), MEASURE)
    assert pool.workers.children() == [4711] and gauges[0].nice == 10
    gauges[0].pid = None
    assert pool.workers.children() == []
    gauges[0].on_done(Measured(1000.0))
    assert pool.outcome() == (1, Measured(250.0))
    pool.workers.stop(RunId(1))
    assert gauges[0].stopped


def test_nothing_is_measured_while_the_machine_is_needed(make: Make, gauges: list[FakeGauge]) -> None:
    pool = make(1.0)
    pool.workers.hold()
    pool.workers.run(RunId(1), MEASURE)
    pool.workers.hold()
    assert gauges == []
    pool.workers.release()
    pool.workers.release()
    assert len(gauges) == 1
    pool.workers.run(RunId(2), MEASURE)
    assert len(gauges) == 2


def test_a_measurement_that_waits_is_stopped_like_any_run(make: Make, gauges: list[FakeGauge]) -> None:
    pool = make(1.0)
    pool.workers.hold()
    pool.workers.run(RunId(1), MEASURE)
    pool.workers.run(RunId(2), MEASURE)
    pool.workers.stop(RunId(1))
    assert pool.outcome() == (1, Failed("stopped"))
    pool.workers.close()
    assert pool.outcome() == (2, Failed("stopped"))
    assert gauges == []
