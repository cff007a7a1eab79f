"""When a peer rests, by table; and how it is told, with clocks that only go when they are told to."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zlb.core.limits import SECOND
from zlb.drivers.machine import Machine, Reading
from zlb.drivers.manners import (
    CALM_NS,
    FIRST_NS,
    PLUGGED_NS,
    PRESENT_NS,
    Judge,
    Manners,
    Quiet,
    Watch,
    listed,
    minute_of_day,
    stand_back,
    stand_back_among_sessions,
    told_text,
)

IDLE = Reading(0.02, None, False)
NOON, NIGHT = 12 * 60, 23 * 60
LONGEST_CALM_S = 3 * CALM_NS // 2 // SECOND


class Low(random.Random):
    """The shortest calm that the lot can draw."""

    def random(self) -> float:
        return 0.0


def judge(idle_only: bool = True, quiet: tuple[Quiet, ...] = ()) -> Judge:
    return Judge(Manners(idle_only=idle_only, quiet=quiet), Low())


def looked(judge: Judge, *looks: tuple[int, Reading]) -> list[str]:
    """The kinds of rest, "" for none, at these seconds after the start."""
    found = [judge.look(second * SECOND, NOON, reading) for second, reading in looks]
    return ["" if rest is None else rest.kind for rest in found]


def busy(share: float) -> Reading:
    return IDLE._replace(cpu_share=share)


def used(ago_ns: int) -> Reading:
    return IDLE._replace(input_ns=ago_ns)


UNPLUGGED = IDLE._replace(on_battery=True)
FIRST_S, CALM_S, PLUGGED_S = FIRST_NS // SECOND, CALM_NS // SECOND, PLUGGED_NS // SECOND


@pytest.mark.parametrize(
    ("quiet", "minutes", "others"),
    [
        (Quiet(540, 1050), (540, 700, 1049), (0, 539, 1050, 1439)),
        (Quiet(1320, 420), (1320, 1439, 0, 419), (420, 700, 1319)),
        (Quiet(1320, 1440), (1320, 1439), (0, 1319)),
        (Quiet(0, 420), (0, 419), (420, 1439)),
        (Quiet(0, 1440), (0, 700, 1439), ()),
    ],
)
def test_quiet_hours(quiet: Quiet, minutes: tuple[int, ...], others: tuple[int, ...]) -> None:
    assert all(quiet.holds(minute) for minute in minutes)
    assert not any(quiet.holds(minute) for minute in others)


def test_quiet_hours_need_no_machine_and_no_look_before() -> None:
    night = judge(idle_only=False, quiet=(Quiet(720, 780), Quiet(1320, 420)))
    rests = [night.look(0, minute, Reading(1.0, 0, True)) for minute in (700, 720, 780, 1400, 419, 420)]
    said = [rest and rest.why for rest in rests]
    first, second = "quiet hours until 13:00", "quiet hours until 07:00"
    assert said == [None, first, None, second, second, None]


@pytest.mark.parametrize(
    ("quiet", "minute", "until"),
    [
        ((Quiet(720, 780), Quiet(780, 840)), 730, "14:00"),
        ((Quiet(780, 840), Quiet(720, 780)), 730, "14:00"),
        ((Quiet(720, 780), Quiet(781, 840)), 730, "13:00"),
        ((Quiet(1320, 1440), Quiet(0, 420)), 1400, "07:00"),
        ((Quiet(1320, 420), Quiet(400, 480)), 1400, "08:00"),
        ((Quiet(720, 740), Quiet(700, 800)), 730, "13:20"),
        ((Quiet(0, 1440),), 730, "24:00"),
    ],
)
def test_quiet_hours_that_follow_each_other_are_told_as_one(
    quiet: tuple[Quiet, ...], minute: int, until: str
) -> None:
    rest = judge(idle_only=False, quiet=quiet).look(0, minute, IDLE)
    assert rest is not None and rest.why == f"quiet hours until {until}"


def test_it_looks_before_it_works() -> None:
    seconds = [(second, IDLE) for second in range(FIRST_S + 1)]
    assert looked(judge(), *seconds) == ["first"] * FIRST_S + [""]


def test_without_idle_only_nothing_is_looked_at() -> None:
    assert looked(judge(idle_only=False), (0, Reading(1.0, 0, True))) == [""]


def test_nothing_told_is_nothing_against_working() -> None:
    nothing = Reading(None, None, None)
    assert looked(judge(), (0, nothing), (FIRST_S, nothing)) == ["first", ""]


@pytest.mark.parametrize(
    ("looks", "kinds"),
    [
        # what begins it
        ([(10, busy(0.24))], [""]),
        ([(10, busy(0.25))], ["others"]),
        # what ends it: less than 15 % for a minute, without a break
        ([(10, busy(0.9)), (11, busy(0.2)), (11 + 10 * CALM_S, busy(0.2))], ["others"] * 3),
        (
            [(10, busy(0.9)), (11, busy(0.1)), (10 + CALM_S, busy(0.1)), (11 + CALM_S, busy(0.1))],
            ["others", "others", "others", ""],
        ),
        (
            [(10, busy(0.9)), (11, busy(0.1)), (40, busy(0.16)), (41, busy(0.1)), (40 + CALM_S, busy(0.1))],
            ["others"] * 5,
        ),
        # work goes on at what would not end a rest
        ([(10, busy(0.1)), (11, busy(0.2)), (12, busy(0.24)), (13, busy(0.1))], [""] * 4),
        # what is not told any more counts as calm
        ([(10, busy(0.9)), (11, busy(None)), (11 + CALM_S, busy(None))], ["others", "others", ""]),  # type: ignore[arg-type]
    ],
)
def test_others(looks: list[tuple[int, Reading]], kinds: list[str]) -> None:
    one = judge()
    looked(one, (0, IDLE), (FIRST_S, IDLE))
    assert looked(one, *looks) == kinds


@pytest.mark.parametrize(
    ("looks", "kinds"),
    [
        ([(10, used(0)), (11, used(SECOND)), (12, used(PRESENT_NS - 1))], ["input"] * 3),
        ([(10, used(0)), (11, used(PRESENT_NS))], ["input", ""]),
        (
            [(10, UNPLUGGED), (11, IDLE), (10 + PLUGGED_S, IDLE), (11 + PLUGGED_S, IDLE)],
            ["battery"] * 3 + [""],
        ),
        ([(10, UNPLUGGED), (11, IDLE), (12, UNPLUGGED), (11 + PLUGGED_S, IDLE)], ["battery"] * 4),
        # several at once
        ([(10, Reading(0.9, 0, True)), (11, Reading(0.9, 0, False))], ["battery", "battery"]),
        ([(10, Reading(0.9, 0, False)), (11, Reading(0.9, PRESENT_NS, False))], ["input", "others"]),
    ],
)
def test_input_and_battery(looks: list[tuple[int, Reading]], kinds: list[str]) -> None:
    one = judge()
    looked(one, (0, IDLE), (FIRST_S, IDLE))
    assert looked(one, *looks) == kinds


def test_others_are_watched_while_there_are_other_reasons() -> None:
    one = judge(quiet=(Quiet(NIGHT, NIGHT + 1),))
    one.look(0, NOON, IDLE)
    rest = one.look(10 * SECOND, NIGHT, busy(0.62))
    assert rest is not None and rest.kind == "quiet"
    assert one.look(11 * SECOND, NOON, busy(0.62)) == ("others", "others use 62 % of the processor")
    assert one.look(12 * SECOND, NOON, busy(0.2)) == ("others", "others have just used the processor")


def test_two_peers_of_a_machine_do_not_rest_and_wake_in_step() -> None:
    """Each sees the other as somebody else. Whoever wakes first keeps the machine."""
    judges = [Judge(Manners(idle_only=True), random.Random(seed)) for seed in (1, 2)]
    works = [True, True]
    for second in range(3 * LONGEST_CALM_S):
        shares = [0.9 if works[1 - me] else 0.0 for me in (0, 1)]
        works = [judges[me].look(second * SECOND, NOON, busy(shares[me])) is None for me in (0, 1)]
    assert works.count(True) == 1


class Play:
    """A machine made of files, clocks that stand still, and what was told."""

    def __init__(self, path: Path, manners: Manners) -> None:
        self.path, self.now, self.wall_s = path, 0, 1e6
        self.told: list[str] = []
        self.terminal = path / "pts" / "0"
        self.terminal.parent.mkdir()
        self.terminal.touch()
        os.utime(self.terminal, (0.0, 0.0))
        machine = Machine(proc=path, sys=path, dev=path) if manners.idle_only else None
        self.watch = Watch(
            Judge(manners, Low()),
            machine,
            self.told.append,
            lambda: self.told.append("resume"),
            lambda: self.now,
            lambda: self.wall_s,
        )

    def at(self, second: int) -> list[str]:
        """What is told for a look so long after the start."""
        self.now, self.wall_s = second * SECOND, 1e6 + second
        before = len(self.told)
        self.watch.look()
        return self.told[before:]


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock on the wall that shows UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_each_change_is_told_once(tmp_path: Path, utc: None) -> None:
    play = Play(tmp_path, Manners(idle_only=True))
    assert play.at(0) == ["looking whether the machine is idle"]
    assert [play.at(1), play.at(FIRST_S), play.at(FIRST_S + 1)] == [[], ["resume"], []]
    os.utime(play.terminal, (1e6 + 100, 1e6 + 100))
    assert play.at(100) == ["somebody uses the keyboard, the mouse or a terminal"]
    assert [play.at(101), play.at(280)] == [[], ["resume"]]


def test_another_reason_is_told(tmp_path: Path, utc: None) -> None:
    at = minute_of_day(1e6 + 120)
    play = Play(tmp_path, Manners(idle_only=True, quiet=(Quiet(at, at + 1),)))
    os.utime(play.terminal, (1e6, 1e6))
    assert play.at(0) == ["somebody uses the keyboard, the mouse or a terminal"]
    assert play.at(120)[0].startswith("quiet hours until")


@pytest.mark.parametrize(("zone", "minute"), [("UTC", 13 * 60 + 46), ("UTC-2", 15 * 60 + 46)])
def test_minutes_are_of_the_local_day(
    monkeypatch: pytest.MonkeyPatch, utc: None, zone: str, minute: int
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    assert minute_of_day(1e6) == minute


def test_a_watch_looks_before_its_block_and_ends_with_it(tmp_path: Path) -> None:
    play = Play(tmp_path, Manners(idle_only=True))
    with play.watch as watch:
        assert play.told == ["looking whether the machine is idle"]
        assert watch._thread.is_alive()
    assert not watch._thread.is_alive()


def test_what_is_watched_is_told(tmp_path: Path) -> None:
    nothing = Machine(proc=tmp_path, sys=tmp_path, dev=tmp_path)
    assert told_text(nothing).startswith("idle only: this system tells nothing of who else uses it")
    (tmp_path / "tty1").touch()
    assert told_text(nothing) == (
        "idle only: watching terminals; "
        "this system does not tell of processor use, input devices and batteries"
    )
    assert listed(["a", "b"]) == "a and b"


@pytest.mark.parametrize(
    ("leads", "before", "after"),
    [
        (True, "/autogroup-31 nice 0\n", "10"),
        (True, "/autogroup-31 nice 15\n", "/autogroup-31 nice 15\n"),
        (False, "/autogroup-31 nice 0\n", "/autogroup-31 nice 0\n"),
        (True, "\n", "\n"),
    ],
)
def test_only_a_session_of_our_own_stands_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads: bool, before: str, after: str
) -> None:
    monkeypatch.setattr(os, "getsid", lambda _process: os.getpid() if leads else 1)
    file = tmp_path / "self" / "autogroup"
    stand_back_among_sessions(10, tmp_path)  # there is none here: not Linux, or a kernel without
    file.parent.mkdir()
    file.write_text(before)
    stand_back_among_sessions(10, tmp_path)
    assert file.read_text() == after


def test_threads_stand_back_and_never_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(os, "setpriority", lambda _which, _who, nice: made.append(nice))
    for own, asked in ((0, 10), (0, 0), (15, 10), (5, 19)):
        monkeypatch.setattr(os, "getpriority", lambda _which, _who, own=own: own)
        stand_back(asked)
    assert made == [10, 0, 15, 19]
