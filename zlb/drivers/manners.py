"""Manners of a volunteer: when a peer rests because the machine is its owner's, and how much of it is lent at all.

`Judge` decides, without a clock or a file: readings in, a reason to rest out. `Watch` looks once a second and tells.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from zlb.core.limits import SECOND
from zlb.drivers.machine import PROC, Machine, Reading

LOOK_S = 1.0
"""Between two looks. A look costs some 0.5 ms; a person who comes back notices a second, hardly less."""
FIRST_NS = 3 * SECOND
"""`idle_only` begins with looking: after so long CPU use is known well enough to begin work."""
BUSY_SHARE = 0.25
"""Others that use more of all cores are at work, and we rest: what BOINC takes, too."""
CALM_SHARE = 0.15
"""Others that use less are in the background: mail, a clock, an open page. Between the two nothing changes."""
CALM_NS = 60 * SECOND
"""So long must others be calm before we work again; up to half as long again is added by lot, each time, so that two
peers of one machine do not rest and wake in step for ever."""
PLUGGED_NS = 10 * SECOND
"""So long must the machine be plugged in before we work again: a loose plug makes us go to and fro no faster."""
PRESENT_NS = 180 * SECOND
"""So long after the last key or movement somebody is still there, reading perhaps: what BOINC takes, too."""
NOTHING_TOLD = Reading(None, None, None)
DAY_MINUTES = 24 * 60
NICE_DEFAULT = 10
"""Kernel threads stand back behind the reactor, and behind whatever else the owner of the machine does."""
NICE_MAX = 19
"""The most that Unix knows."""


class Quiet(NamedTuple):
    """No work from `start` to before `stop`, minutes of the local day; a `stop` before `start` is the next day's."""

    start: int
    stop: int

    def holds(self, minute: int) -> bool:
        """Whether that minute of the day is in it."""
        if self.start < self.stop:
            return self.start <= minute < self.stop
        return minute >= self.start or minute < self.stop


@dataclass(frozen=True, slots=True)
class Manners:
    """How a peer behaves towards the owner of its machine.

    `share` of the time of each slot may be used. `nice`: of kernel threads. Work is done outside of `quiet` hours, and
    with `idle_only` only while nobody else uses the machine.
    """

    share: float = 1.0
    nice: int = NICE_DEFAULT
    idle_only: bool = False
    quiet: tuple[Quiet, ...] = ()


DEFAULT_MANNERS = Manners()
"""All of every slot, at any hour."""


class Rest(NamedTuple):
    """A reason to rest: one of a few kinds, and a line for a person."""

    kind: str
    why: str


class Lasting:
    """On at once, off only after it could have been off for a while: what keeps a peer from going to and fro."""

    def __init__(self) -> None:
        self.is_on = False
        self._off_since: int | None = None

    def update(self, now: int, on: bool, off: bool, off_ns: int) -> bool:
        """Whether it is on, now that there is reason for that, or for it to be off, or for neither."""
        if not off:
            self._off_since = None
        elif self._off_since is None:
            self._off_since = now
        if on:
            self.is_on = True
        elif self._off_since is not None and now - self._off_since >= off_ns:
            self.is_on = False
        return self.is_on


class Judge:
    """Decides, look by look, whether to rest, and why."""

    def __init__(self, manners: Manners, rng: random.Random) -> None:
        self.manners, self._rng = manners, rng
        self._began: int | None = None
        self._busy, self._unplugged = Lasting(), Lasting()
        self._calm_ns = CALM_NS

    def look(self, now: int, minute: int, reading: Reading) -> Rest | None:
        """The reason to rest, the one that will last longest first; None: work. `minute` is of the local day."""
        begun = now if self._began is None else self._began
        self._began = begun
        idle_only = self.manners.idle_only
        others = self._others(now, reading.cpu_share) if idle_only else None
        unplugged = idle_only and self._unplugged.update(
            now, reading.on_battery is True, reading.on_battery is not True, PLUGGED_NS
        )
        if (stop := self._quiet_until(minute)) is not None:
            return Rest("quiet", f"quiet hours until {clock_text(stop)}")
        if unplugged:
            return Rest("battery", "the machine runs on its battery")
        if idle_only and reading.input_ns is not None and reading.input_ns < PRESENT_NS:
            return Rest("input", "somebody uses the keyboard, the mouse or a terminal")
        if others is not None:
            return others
        if idle_only and now - begun < FIRST_NS:
            return Rest("first", "looking whether the machine is idle")
        return None

    def _quiet_until(self, minute: int) -> int | None:
        """When the quiet hours of that minute end, with those that follow at once; None: it has none."""
        stop = None
        for _ in self.manners.quiet:  # each of them moves the end on once at most
            at = minute if stop is None else stop % DAY_MINUTES
            stop = next((quiet.stop for quiet in self.manners.quiet if quiet.holds(at)), stop)
        return stop

    def _others(self, now: int, share: float | None) -> Rest | None:
        was_busy = self._busy.is_on
        busy = share is not None and share >= BUSY_SHARE
        calm = share is None or share < CALM_SHARE
        if not self._busy.update(now, busy, calm, self._calm_ns):
            return None
        if not was_busy:
            self._calm_ns = CALM_NS + int(self._rng.random() * CALM_NS / 2)
        if not busy:
            return Rest("others", "others have just used the processor")
        return Rest("others", f"others use {share:.0%} of the processor".replace("%", " %"))


class Watch:
    """While entered, looks every `LOOK_S` from a thread of its own; the first look is over before `with` begins.

    `rest(why)` is called when rest is due, and again when its reason becomes another one; `resume()` when it is over.
    Both from any thread. A judge without a machine, `None`, only knows quiet hours.
    """

    def __init__(
        self,
        judge: Judge,
        machine: Machine | None,
        rest: Callable[[str], None],
        resume: Callable[[], None],
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._judge, self._machine = judge, machine
        self._rest, self._resume = rest, resume
        self._clock, self._wall_clock = clock, wall_clock
        self._kind = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="manners", daemon=True)

    def __enter__(self) -> Watch:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Look once, and tell if that changes anything."""
        now, wall_s = self._clock(), self._wall_clock()
        reading = NOTHING_TOLD if self._machine is None else self._machine.look(now, wall_s)
        rest = self._judge.look(now, minute_of_day(wall_s), reading)
        before, self._kind = self._kind, "" if rest is None else rest.kind
        if rest is None and before:
            self._resume()
        elif rest is not None and before != rest.kind:
            self._rest(rest.why)

    def _work(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()


def stand_back(nice: int) -> None:
    """Make this thread, and those it will start, that nice, unless they are nicer already."""
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))


def stand_back_among_sessions(nice: int, proc: Path = PROC) -> None:
    """Where each session has an equal share of the cores (Linux: autogroup), let ours take less, if it is our own.

    A shell's session is not: what else it runs stays as it is.
    """
    file = proc / "self" / "autogroup"
    with suppress(OSError, ValueError, IndexError):
        if os.getsid(0) == os.getpid() and int(file.read_text().split()[-1]) < nice:
            file.write_text(str(nice))


def minute_of_day(wall_s: float) -> int:
    """Of the local day."""
    local = time.localtime(wall_s)
    return local.tm_hour * 60 + local.tm_min


def clock_text(minute: int) -> str:
    """A minute of the day as people write it."""
    return f"{minute // 60:02}:{minute % 60:02}"


def told_text(machine: Machine) -> str:
    """One line on what `idle_only` goes by on this machine, and what it cannot know."""
    tells, silent = machine.told()
    if not tells:
        return "idle only: this system tells nothing of who else uses it, so nothing but quiet hours counts"
    line = f"idle only: watching {listed(tells)}"
    return line + (f"; this system does not tell of {listed(silent)}" if silent else "")


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
