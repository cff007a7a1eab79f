"""What a machine tells about how busy its owner is: looked at once a second, in plain files, without any rights.

Each function takes the folder it looks into and gives None where the system does not tell. Linux tells most; elsewhere
only terminals do. docs/cli.md says the same to people.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from zlb.core.limits import SECOND

PROC, SYS, DEV = Path("/proc"), Path("/sys"), Path("/dev")
WINDOW_LOOKS = 5
"""CPU use is that of the last so many looks. One alone is 100 clock ticks a core, which a browser's page fills."""
FIND_LOOKS = 60
"""Keyboards and mice are searched for once in so many looks: they are plugged in rarely, and finding them reads some
50 files."""
TERMINALS = ("pts/[0-9]*", "tty[0-9]*", "ttys[0-9]*")
"""Pseudo terminals, virtual consoles, and what macOS calls them. No serial lines: what reads a thermometer there would
be taken for a person. Their access time is that of the last key read, as `w` has it, within 8 seconds."""
HID_CLASS, HID_KEYBOARD, HID_MOUSE = "03", "01", "02"
"""bInterfaceClass and bInterfaceProtocol of USB. Other HID devices, like a UPS, talk by themselves."""


class CpuTicks(NamedTuple):
    """Clock ticks since boot, of all cores together."""

    busy: int
    total: int


class Reading(NamedTuple):
    """One look; None: not told. `cpu_share`: of all cores, used by others. `input_ns`: since the last key or move."""

    cpu_share: float | None
    input_ns: int | None
    on_battery: bool | None


def cpu_ticks(proc: Path) -> CpuTicks | None:
    """What all processes have used, and could have: time stolen by a hypervisor counts for neither."""
    try:
        with (proc / "stat").open() as file:
            user, nice, system, idle, iowait, irq, softirq = (
                int(word) for word in file.readline().split()[1:8]
            )
    except (OSError, ValueError):
        return None
    busy = user + nice + system + irq + softirq
    return CpuTicks(busy, busy + idle + iowait)


def process_ticks(proc: Path, process: int | str) -> int:
    """What a process and its ended children have used; nothing if there is no such process."""
    try:
        words = (proc / str(process) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return sum(int(word) for word in words[11:15])  # utime, stime, cutime, cstime: fields 14 to 17
    except (OSError, ValueError):
        return 0


def terminal_used_at(dev: Path) -> float | None:
    """When a terminal was last typed into, in seconds since 1970."""
    latest = None
    for pattern in TERMINALS:
        for path in _found(dev, pattern):
            with suppress(OSError):  # closed meanwhile
                latest = max(latest or 0.0, path.stat().st_atime)
    return latest


def input_counters(sys: Path) -> tuple[Path, ...]:
    """Files of numbers that grow when a person types or moves a mouse: PS/2 (most laptops) and USB."""
    irqs = _found(sys, "kernel/irq/[0-9]*/actions")
    found = [actions.with_name("per_cpu_count") for actions in irqs if "i8042" in _text(actions)]
    for kind in _found(sys, "bus/usb/devices/*:*/bInterfaceProtocol"):
        is_hid = _text(kind.with_name("bInterfaceClass")) == HID_CLASS
        if is_hid and _text(kind) in (HID_KEYBOARD, HID_MOUSE):
            device = kind.parent.name.partition(":")[0]
            found.append(sys / "bus/usb/devices" / device / "urbnum")
    return tuple(sorted(dict.fromkeys(found)))


def counted(counters: Iterable[Path]) -> tuple[int, ...]:
    """What the counters say, each the sum of the numbers in its file; 0 for one that is gone."""
    texts = [_text(counter).replace(",", " ") for counter in counters]
    return tuple(sum(int(word) for word in text.split() if word.isdecimal()) for text in texts)


def on_battery(sys: Path) -> bool | None:
    """Whether this machine runs on its battery or UPS; a mouse's own battery says nothing about that."""
    folder = sys / "class" / "power_supply"
    if not folder.is_dir():
        return None
    discharging = False
    for supply in _found(folder, "*"):
        match _text(supply / "type"):
            case "Mains" if _text(supply / "online") == "1":
                return False
            case "Battery" | "UPS" if _text(supply / "scope") != "Device":
                discharging = discharging or _text(supply / "status") == "Discharging"
    return discharging


class Meter:
    """CPU use of others, as a share of all cores, over the last `WINDOW_LOOKS` looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[CpuTicks, int]] = deque(maxlen=WINDOW_LOOKS + 1)

    def share(self, all_ticks: CpuTicks | None, our_ticks: int) -> float | None:
        """With what all processes and our own have used by now; None at the first look."""
        if all_ticks is None:
            return None
        self._seen.append((all_ticks, our_ticks))
        then, ours_then = self._seen[0]
        passed = all_ticks.total - then.total
        if passed <= 0:
            return None
        others = (all_ticks.busy - then.busy) - (our_ticks - ours_then)
        return min(1.0, max(0.0, others / passed))


class Machine:
    """Looks at this machine; `children` are our processes besides this one, whose work is ours too."""

    def __init__(
        self,
        children: Callable[[], Iterable[int]] = tuple,
        proc: Path = PROC,
        sys: Path = SYS,
        dev: Path = DEV,
    ) -> None:
        self.proc, self.sys, self.dev = proc, sys, dev
        self._children = children
        self._meter = Meter()
        self._looks = 0
        self._counters: tuple[Path, ...] = ()
        self._counts: dict[Path, int] = {}
        self._input_at: int | None = None
        """When a counter was last seen to grow, by the clock of `look`."""

    def look(self, now: int, wall_s: float) -> Reading:
        """What it tells, at `now` of a clock that only goes forward and `wall_s` of the one on the wall."""
        ours = process_ticks(self.proc, "self")
        ours += sum(process_ticks(self.proc, child) for child in self._children())
        share = self._meter.share(cpu_ticks(self.proc), ours)
        return Reading(share, self._input_ns(now, wall_s), on_battery(self.sys))

    def told(self) -> tuple[list[str], list[str]]:
        """What this system tells of, and what it does not, in words for a person."""
        tells = {
            "processor use": cpu_ticks(self.proc) is not None,
            "terminals": terminal_used_at(self.dev) is not None,
            "input devices": bool(input_counters(self.sys)),
            "batteries": on_battery(self.sys) is not None,
        }
        told = [what for what, is_told in tells.items() if is_told]
        return told, [what for what in tells if what not in told]

    def _input_ns(self, now: int, wall_s: float) -> int | None:
        """Since the last key or movement; a terminal that was used in the future says nothing."""
        if self._looks % FIND_LOOKS == 0:
            self._counters = input_counters(self.sys)
        self._looks += 1
        counts = dict(zip(self._counters, counted(self._counters), strict=True))
        if any(counts[one] != self._counts.get(one, counts[one]) for one in self._counters):
            self._input_at = now
        self._counts = counts
        ages = [] if self._input_at is None else [now - self._input_at]
        used_at = terminal_used_at(self.dev)
        if used_at is not None and used_at <= wall_s:
            ages.append(int((wall_s - used_at) * SECOND))
        return min(ages, default=None)


def _found(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except OSError:  # something was unplugged just now
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
