"""What a machine tells, read from folders that look like /proc, /sys and /dev."""

import os
from pathlib import Path

import pytest

from zlb.core.limits import SECOND
from zlb.drivers import machine as module
from zlb.drivers.machine import (
    FIND_LOOKS,
    WINDOW_LOOKS,
    CpuTicks,
    Machine,
    Meter,
    counted,
    cpu_ticks,
    input_counters,
    on_battery,
    process_ticks,
    terminal_used_at,
)

STAT = "cpu  100 20 30 800 40 5 6 999 7 8\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1 2 3\n"
PROCESS = "42 (a (b) c) R 1 1 1 0 -1 4194304 1 2 3 4 {} {} {} {} 20 0 1 0 2310080 3133440 416 1 2 3\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def supply(sys: Path, name: str, **files: str) -> None:
    for file, text in files.items():
        write(sys / "class/power_supply" / name / file, text + "\n")


def terminal(dev: Path, name: str, used_at: float) -> None:
    os.utime(write(dev / name, ""), (used_at, used_at))


def usb(sys: Path, device: str, kind: str, protocol: str, urbs: int) -> Path:
    interface = sys / "bus/usb/devices" / f"{device}:1.0"
    write(interface / "bInterfaceClass", kind + "\n")
    write(interface / "bInterfaceProtocol", protocol + "\n")
    return write(sys / "bus/usb/devices" / device / "urbnum", f"{urbs}\n")


def ps2(sys: Path, number: int, actions: str, counts: str) -> Path:
    write(sys / f"kernel/irq/{number}/actions", actions + "\n")
    return write(sys / f"kernel/irq/{number}/per_cpu_count", counts + "\n")


def test_time_stolen_by_a_hypervisor_counts_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "stat", STAT)
    assert cpu_ticks(tmp_path) == CpuTicks(busy=161, total=1001)


@pytest.mark.parametrize("text", [None, "", "cpu\n", "cpu 1 2 3\n", "cpu a b c d e f g\n"])
def test_no_processor_use_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path / "stat", text)
    assert cpu_ticks(tmp_path) is None


def test_a_process_is_told_with_its_ended_children_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path / "42/stat", PROCESS.format(1, 20, 300, 4000))
    assert process_ticks(tmp_path, 42) == 4321
    assert process_ticks(tmp_path, "self") == 0


def test_the_terminal_used_last_counts(tmp_path: Path) -> None:
    assert terminal_used_at(tmp_path) is None
    terminal(tmp_path, "tty1", 100.0)
    terminal(tmp_path, "pts/3", 200.0)
    terminal(tmp_path, "pts/ptmx", 900.0)  # opened by every terminal program
    terminal(tmp_path, "ttyS0", 900.0)  # a serial line: a modem, say
    terminal(tmp_path, "tty", 900.0)
    assert terminal_used_at(tmp_path) == 200.0


def test_keyboards_and_mice_are_found(tmp_path: Path) -> None:
    assert input_counters(tmp_path) == ()
    keyboard, mouse = usb(tmp_path, "1-3", "03", "01", 7), usb(tmp_path, "2-1.4", "03", "02", 5)
    usb(tmp_path, "1-4", "08", "50", 9)  # a disk
    usb(tmp_path, "1-5", "03", "00", 9)  # a UPS
    laptop = ps2(tmp_path, 1, "i8042", "10,20,0,3")
    ps2(tmp_path, 9, "acpi", "1,1,1,1")
    assert input_counters(tmp_path) == (keyboard, mouse, laptop)
    assert counted((keyboard, mouse, laptop, tmp_path / "gone")) == (7, 5, 33, 0)


AC = {"type": "Mains", "online": "1"}
NO_AC = {"type": "Mains", "online": "0"}
FALLING = {"type": "Battery", "status": "Discharging"}
FULL = {"type": "Battery", "status": "Full"}
MOUSE = {**FALLING, "scope": "Device"}
UPS = {"type": "UPS", "status": "Discharging"}


@pytest.mark.parametrize(
    ("supplies", "verdict"),
    [
        ((), False),
        ((AC,), False),
        ((NO_AC, FALLING), True),
        ((FALLING, NO_AC), True),
        ((FULL, FALLING), True),
        ((FALLING,), True),
        ((FULL,), False),
        ((AC, FALLING), False),  # a charger that is too weak, or a battery that is being exercised
        ((FALLING, AC), False),
        ((AC, MOUSE), False),
        ((MOUSE,), False),
        ((UPS,), True),
        (({"type": "USB"}, {}), False),
    ],
)
def test_batteries(tmp_path: Path, supplies: tuple[dict[str, str], ...], verdict: bool) -> None:
    (tmp_path / "class/power_supply").mkdir(parents=True)
    for number, files in enumerate(supplies):
        supply(tmp_path, f"S{number}", **files)
    assert on_battery(tmp_path) is verdict


def test_no_batteries_are_told(tmp_path: Path) -> None:
    assert on_battery(tmp_path) is None


def test_what_we_use_is_not_use_by_others() -> None:
    meter = Meter()
    assert meter.share(CpuTicks(1000, 5000), 300) is None
    assert meter.share(CpuTicks(1150, 5200), 400) == 0.25
    assert meter.share(CpuTicks(1300, 5400), 700) == 0.0  # more than all: the two are not read at once
    assert meter.share(None, 0) is None


def test_use_is_that_of_the_last_looks() -> None:
    meter = Meter()
    busy = total = 0
    for _ in range(10):
        busy, total = busy + 200, total + 200
        meter.share(CpuTicks(busy, total), 0)
    shares = []
    for _ in range(WINDOW_LOOKS + 1):
        total += 200
        shares.append(meter.share(CpuTicks(busy, total), 0))
    assert shares == [0.8, 0.6, 0.4, 0.2, 0.0, 0.0]


@pytest.mark.parametrize("again", [CpuTicks(10, 100), CpuTicks(5, 50)])
def test_counters_that_stand_still_or_go_back_tell_nothing(again: CpuTicks) -> None:
    meter = Meter()
    meter.share(CpuTicks(10, 100), 0)
    assert meter.share(again, 0) is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    nothing = Machine(proc=tmp_path, sys=tmp_path, dev=tmp_path)
    assert nothing.look(SECOND, 1.0) == (None, None, None)
    assert nothing.told() == ([], ["processor use", "terminals", "input devices", "batteries"])


def test_children_are_ours_too(tmp_path: Path) -> None:
    children = [7]
    machine = Machine(lambda: children, proc=tmp_path, sys=tmp_path, dev=tmp_path)
    for busy, total, ours, childs in ((0, 0, 0, 0), (100, 200, 20, 30)):
        write(tmp_path / "stat", f"cpu {busy} 0 0 {total - busy} 0 0 0\n")
        write(tmp_path / "self/stat", PROCESS.format(ours, 0, 0, 0))
        write(tmp_path / "7/stat", PROCESS.format(0, childs, 0, 0))
        reading = machine.look(0, 0.0)
    assert reading.cpu_share == 0.25


def test_a_key_is_noticed_on_terminals_and_on_keyboards(tmp_path: Path) -> None:
    keyboard = ps2(tmp_path, 1, "i8042", "5,5")
    terminal(tmp_path, "pts/0", 1000.0)
    machine = Machine(proc=tmp_path, sys=tmp_path, dev=tmp_path)

    def input_s(now_s: int) -> float:
        reading = machine.look(now_s * SECOND, 1100.0 + now_s)
        assert reading.input_ns is not None
        return reading.input_ns / SECOND

    assert [input_s(0), input_s(1)] == [100.0, 101.0]  # counters say nothing yet
    keyboard.write_text("5,6\n")
    assert [input_s(2), input_s(3), input_s(4)] == [0.0, 1.0, 2.0]
    terminal(tmp_path, "pts/1", 1104.5)
    assert input_s(5) == 0.5
    terminal(tmp_path, "pts/1", 5000.0)  # the clock was set back
    assert input_s(6) == 4.0


def test_a_keyboard_plugged_in_later_is_found(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path, sys=tmp_path, dev=tmp_path)
    assert machine.look(0, 0.0).input_ns is None
    keyboard = usb(tmp_path, "1-3", "03", "01", 7)
    for second in range(1, FIND_LOOKS + 1):
        assert machine.look(second * SECOND, 0.0).input_ns is None
    keyboard.write_text("8\n")
    assert machine.look(100 * SECOND, 0.0).input_ns == 0
    keyboard.unlink()
    assert machine.look(101 * SECOND, 0.0).input_ns == 0  # unplugging takes a hand, too


def test_this_machine_is_read_without_failing() -> None:
    machine = module.Machine()
    machine.look(0, 0.0)
    assert len([*machine.told()[0], *machine.told()[1]]) == 4
