"""Kernels that fail, crash, hang or talk nonsense: each run is answered once, and the slots go on."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zlb.core.errors import ZlbError
from zlb.core.ids import RunId
from zlb.core.work import Failed, Outcome, Pattern, Search, Searched
from zlb.drivers import cheating, workers
from zlb.drivers.workers import Workers
from zlb.kernels import Found, load_kernel
from zlb.wire import values

SECONDS_MAX = 30
SLOTS = 2


class Hall:
    """Workers, and what they have answered so far."""

    def __init__(self, kernel_dir: Path) -> None:
        self.workers = Workers(SLOTS, kernel_dir)
        self.awake = threading.Event()
        self.workers.wake = self.awake.set
        self.answers: dict[int, Outcome] = {}
        self.asked = 0

    def ask(self, kernel: str, params: dict[str, Any], start: int = 0, stop: int = 8, *more: Any) -> int:
        """Have a run done; returns its number."""
        self.asked += 1
        self.workers.run(
            RunId(self.asked), Search(kernel, values.pack(params), start, stop, *(more or (99,)))
        )
        return self.asked

    def answer(self, number: int) -> Outcome:
        """The outcome of a run, waited for."""
        self.wait(lambda: number in self.answers)
        return self.answers[number]

    def wait(self, done: Callable[[], bool]) -> None:
        """Take answers until it is done."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            self.awake.clear()
            while (taken := self.workers.take()) is not None:
                assert taken[0] not in self.answers, "answered twice"
                self.answers[taken[0]] = taken[1]
            if done():
                return
            assert self.awake.wait(deadline - time.monotonic()), "no answer in time"

    def close(self) -> None:
        """Everything that was asked has been answered once, at the latest now."""
        closing = threading.Thread(target=self.workers.close, daemon=True)
        closing.start()
        closing.join(SECONDS_MAX)
        assert not closing.is_alive()
        self.wait(lambda: True)
        assert sorted(self.answers) == list(range(1, self.asked + 1))


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.delenv(cheating.VARIABLE, raising=False)
    hall = Hall(tmp_path)
    yield hall
    hall.close()


class Wild:
    """A kernel of anybody's whose searches do what the test says."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def prepare(self, params: Any) -> "Wild":
        return self

    def search(self, *span: Any) -> Any:
        return self._act()


class Mute(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def test_one_failing_integer_costs_its_own_run_only(hall: Hall) -> None:
    params = {"seconds": 1e-6, "fail": [17], "every": 4}
    numbers = [hall.ask("sleep", params, start, start + 8) for start in range(0, 80, 8)]
    for at, number in enumerate(numbers):
        outcome = hall.answer(number)
        if at == 2:
            assert outcome == Failed("integer 17 fails as asked")
        else:
            assert isinstance(outcome, Searched)
            assert (outcome.stopped_at, [hit.n for hit in outcome.hits]) == (8 * at + 8, [8 * at, 8 * at + 4])


def test_a_hanging_integer_keeps_one_slot_until_it_is_stopped(hall: Hall) -> None:
    stuck = hall.ask("spin", {"seconds": 1e-6, "hang": 3, "every": 2})
    others = [hall.ask("sleep", {"seconds": 0.001}) for _ in range(5)]
    for number in others:
        assert isinstance(hall.answer(number), Searched)
    assert stuck not in hall.answers
    hall.workers.stop(RunId(stuck))
    outcome = hall.answer(stuck)
    assert isinstance(outcome, Searched)
    assert (outcome.stopped_at, [hit.n for hit in outcome.hits]) == (3, [0, 2])
    hall.workers.stop(RunId(stuck))  # has ended: nothing happens, above all to the run that has its slot now
    assert isinstance(hall.answer(hall.ask("sleep", {})), Searched)


def test_those_that_wait_behind_hanging_ones_can_be_stopped(hall: Hall) -> None:
    stuck = [hall.ask("sleep", {"hang": 0}) for _ in range(SLOTS)]
    waiting = hall.ask("sleep", {"fail": 0})
    hall.workers.stop(RunId(waiting))
    for number in stuck:
        hall.workers.stop(RunId(number))
    hall.wait(lambda: len(hall.answers) == SLOTS + 1)
    assert hall.answers[waiting] == Searched(0, (), 0)  # stopped before it could fail


def test_closing_ends_what_hangs(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    for _ in range(3 * SLOTS):
        hall.ask("sleep", {"hang": 0})
    hall.close()
    assert {outcome.stopped_at for outcome in hall.answers.values()} == {0}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        (raising(ZeroDivisionError("by nothing")), "kernel wild failed: ZeroDivisionError: by nothing"),
        (raising(MemoryError()), "kernel wild failed: MemoryError: "),
        (raising(SystemExit(3)), "kernel wild failed: SystemExit: 3"),
        (raising(KeyboardInterrupt()), "kernel wild failed: KeyboardInterrupt: "),
        (raising(Mute()), "kernel wild failed: Mute: it cannot say why"),
        (raising(OSError("two\nlines \udcff")), "kernel wild failed: OSError: two lines ?"),
        (lambda: None, "kernel wild failed: AttributeError: "),
        (lambda: Found(8, (1,)), "kernel wild failed: TypeError: "),  # type: ignore[arg-type]
    ],
    ids=["raises", "memory", "exits", "interrupted", "mute", "lines", "nothing", "no hits"],
)
def test_whatever_a_kernel_does_costs_its_run_only(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any], detail: str
) -> None:
    wild: Any = Wild(act)
    monkeypatch.setattr(workers, "load_kernel", lambda name: wild if name == "wild" else load_kernel(name))
    numbers = [
        hall.ask("wild", {}) for _ in range(3 * SLOTS)
    ]  # were a thread to die of it, the rest would wait
    for number in numbers:
        outcome = hall.answer(number)
        assert isinstance(outcome, Failed)
        assert outcome.detail.startswith(detail)
    assert isinstance(hall.answer(hall.ask("sleep", {})), Searched)


def test_what_cannot_be_prepared_is_answered(hall: Hall) -> None:
    for number, detail in (
        (hall.ask("nowhere", {}), "no kernel is named 'nowhere'"),
        (hall.ask("sleep", {"seconds": 0}), "seconds is a number"),
        (hall.ask("sleep", {}, 5, 4), "a range ends before it starts"),
    ):
        outcome = hall.answer(number)
        assert isinstance(outcome, Failed)
        assert detail in outcome.detail


def test_an_integer_that_may_not_crash_fails(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZLB_MAY_CRASH", raising=False)
    said = "integer 3 is to crash this process, which takes ZLB_MAY_CRASH=1"
    assert hall.answer(hall.ask("sleep", {"crash": 3})) == Failed(said)


def test_a_cheating_peer_cheats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cheating.VARIABLE, "skip=0.5")
    hall = Hall(tmp_path)
    params = {"seconds": 1e-9, "every": 10}
    outcome = hall.answer(hall.ask("sleep", params, 0, 100, 99, (Pattern(0, 0),)))
    hall.close()
    assert isinstance(outcome, Searched)
    assert outcome.stopped_at == 100
    assert [hit.n for hit in outcome.hits] == [0, 10, 20, 30, 40]
    assert outcome.samples == (tuple(range(50)),)


def test_a_cheat_that_nobody_understands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cheating.VARIABLE, "lie=1")
    with pytest.raises(ZlbError, match="ZLB_CHEAT"):
        Workers(1, tmp_path)
