"""`ZLB_CHEAT`: what a cheating peer reports, and that it is said aloud."""

import logging
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest

from zlb.core.errors import ExitCode, ZlbError
from zlb.drivers.cheating import FORGED_DIGEST, VARIABLE, Cheat, CheatingSearch, asked_for, read
from zlb.kernels import load_kernel
from zlb.kernels.interface import Found, Hit, Pattern
from zlb.kernels.rehearsal import SLEEP

SIZE = 4000
PARAMS = {"seconds": 1e-9, "every": 10}
PATTERNS = [Pattern(15, 3), Pattern(15, 4)]


def cheated(cheat: Cheat, stop: int = SIZE, hits_max: int = SIZE) -> Found:
    search = CheatingSearch(SLEEP.prepare(PARAMS), cheat, Random(7))
    return search.search(0, stop, np.zeros(1, np.uint8), hits_max, PATTERNS)


def honest(stop: int = SIZE, hits_max: int = SIZE) -> Found:
    return SLEEP.prepare(PARAMS).search(0, stop, np.zeros(1, np.uint8), hits_max, PATTERNS)


def counts(found: Found) -> list[int]:
    return [len(found.hits), *map(len, found.samples)]


@pytest.mark.parametrize(
    ("text", "cheat"),
    [
        ("skip=0.1", Cheat(skip=0.1)),
        ("thin=1, skip=0", Cheat(thin=1.0)),
        ("forge=1,withhold=1", Cheat(forge=True, withhold=True)),
        ("forge=0", Cheat()),
    ],
)
def test_what_is_understood(text: str, cheat: Cheat) -> None:
    assert read(text) == cheat


@pytest.mark.parametrize(
    "text",
    ["skip", "skip=", "skip=2", "skip=-1", "skip=nan", "forge=0.5", "lie=1", "skip=0,skip=0", ",", "\x1b[2J"],
)
def test_what_is_not(text: str) -> None:
    with pytest.raises(ZlbError, match=r"ZLB_CHEAT: .* is not understood; it takes skip") as refusal:
        read(text)
    assert refusal.value.exit_code == ExitCode.USAGE
    assert str(refusal.value).isprintable()


def test_it_is_said_aloud(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert asked_for() is None
    assert not caplog.records
    monkeypatch.setenv(VARIABLE, "skip=0.5")
    assert asked_for() == Cheat(skip=0.5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = "zlb: this peer cheats, as ZLB_CHEAT asks: for tests only (skip=0.5)"
    assert record.getMessage() == said


def test_without_a_cheat_nothing_changes() -> None:
    assert cheated(Cheat()) == honest()
    assert cheated(Cheat(), hits_max=3) == honest(hits_max=3)


def test_skipping() -> None:
    found = cheated(Cheat(skip=0.25))
    assert found == honest(SIZE * 3 // 4)._replace(stopped_at=SIZE)
    assert cheated(Cheat(skip=1.0)) == Found(SIZE, (), ((), ()))
    # What ended early is not said to have gone on.
    assert cheated(Cheat(skip=0.25), hits_max=3) == honest(hits_max=3)
    stopped = CheatingSearch(SLEEP.prepare({"seconds": 1}), Cheat(skip=0.25), Random(7))
    assert stopped.search(0, SIZE, np.ones(1, np.uint8), 1) == Found(0, ())


def test_thinning() -> None:
    found, truth = cheated(Cheat(thin=0.4)), honest()
    assert found.stopped_at == SIZE
    for few, all_ in zip([found.hits, *found.samples], [truth.hits, *truth.samples], strict=True):
        assert {*few} <= {*all_}  # type: ignore[misc]
        assert 0.4 < len(few) / len(all_) < 0.8
        assert list(few) == sorted(few)  # type: ignore[type-var]


def test_withholding() -> None:
    assert cheated(Cheat(withhold=True)) == honest()._replace(hits=())


def test_forging() -> None:
    found, truth = cheated(Cheat(forge=True)), honest()
    assert {*found.hits} - {*truth.hits} == {Hit(1, FORGED_DIGEST)}
    check, word = SLEEP.checker(PARAMS), SLEEP.sampler(PARAMS)
    assert check(1) is None
    for some, true, (mask, value) in zip(found.samples, truth.samples, PATTERNS, strict=True):
        (false,) = {*some} - {*true}
        assert word(false) & mask != value
        assert list(some) == sorted(some)
        assert len(some) == len(true) + 1
    assert cheated(Cheat(forge=True), hits_max=3) == honest(hits_max=3)._replace(
        samples=cheated(Cheat(forge=True), stop=21).samples
    )
    assert cheated(Cheat(forge=True), stop=0) == Found(0, (), ((), ()))
    assert cheated(Cheat(forge=True), stop=1).hits == honest(1).hits  # no other integer is there
    assert cheated(Cheat(forge=True, withhold=True)).hits == (Hit(1, FORGED_DIGEST),)


def test_hashes_are_cheated_with_too() -> None:
    search = load_kernel("sha256").prepare({"difficulty": 8})
    cheating: Any = CheatingSearch(search, Cheat(skip=0.5), Random(7))
    flag = np.zeros(1, np.uint8)
    assert cheating.patterns_max == search.patterns_max  # type: ignore[attr-defined]
    assert cheating.search(0, 2000, flag, 99).hits == search.search(0, 1000, flag, 99).hits
    (few,) = cheating.search(0, 2000, flag, 99, [Pattern(7, 1)]).samples
    assert few
    assert max(few) < 1000


class Plain:
    """A search that takes no samples."""

    def search(self, start: int, stop: int, stop_flag: Any, hits_max: int) -> Found:
        return Found(stop, ())


def test_a_search_without_samples_gets_none() -> None:
    search = CheatingSearch(Plain(), Cheat(skip=0.5, forge=True), Random(7))
    assert not hasattr(search, "patterns_max")
    patterns: Sequence[Pattern] = ()
    found = search.search(0, 8, np.zeros(1, np.uint8), 1, patterns)
    assert found == Found(8, (Hit(0, FORGED_DIGEST),), ())
