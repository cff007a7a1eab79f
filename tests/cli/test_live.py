"""The progress display, seen through a terminal small enough to be read: hits stay, and the display goes."""

import logging
import re
import sys
import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from zlb.core.events import HitFound, NeighbourUp, Notice

Call = Callable[..., Result]

SECOND = 10**9
CONTROL = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal(StringIO):
    """Understands what rich and plain lines need: going up, to the left, and wiping lines."""

    columns = 100

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines as they are seen, without blank ones at the end."""
        rows, row, column = [""], 0, 0
        for number, letter, left, down, text in CONTROL.findall(self.getvalue()):
            if text:
                rows[row] = rows[row].ljust(column)[:column] + text + rows[row][column + len(text) :]
                column += len(text)
            elif left or down:
                row, column = row + bool(down), 0
                rows += [""] * (row + 1 - len(rows))
            elif letter == "A":
                row -= int(number or 1)
            elif letter == "K":
                rows[row] = ""
            else:
                assert letter in "mhl", f"unknown control {number}{letter}"
        while rows and not rows[-1].strip():
            rows.pop()
        return [line.rstrip() for line in rows]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr of the display, and stdout too once a test says so."""
    from rich import console

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(
        console,
        "Console",
        lambda stderr, no_color: Console(
            file=terminal,
            force_terminal=True,
            width=terminal.columns,
            no_color=no_color,
            legacy_windows=False,
        ),
    )
    return terminal


def test_hits_and_words_stay_above_the_display(submit: Call, grid: Any, terminal: Terminal) -> None:
    shown = []

    def script(job: Any) -> Any:
        sys.stdout = sys.stderr = terminal
        yield NeighbourUp("p-1")
        yield grid.progress(job, SECOND // 10)
        shown.append(terminal.screen())
        yield grid.progress(job, SECOND, 1 << 30, hits=2)
        shown.append(terminal.screen())
        yield HitFound(job, 1, b"\1", "p-1")
        yield Notice("something happened")
        yield HitFound(job, 2, b"\2", "p-1")
        yield grid.progress(job, 2 * SECOND, 1 << 31, hits=2, workers=14)
        shown.append(terminal.screen())
        yield HitFound(job, 3, b"\3", "p-1")

    grid.script = script
    result = submit_on_terminal(submit, terminal, "-d", "20", "-v", "-n", "3", "--name", "scan [7]")
    assert result.exit_code == 0
    job = grid.job.id
    early, first, second = shown
    assert early == ["p-1 is with us"]
    assert first[0] == "p-1 is with us"
    assert re.fullmatch(rf"━+╺━+  25.0 %  scan \[7\] \({job}\)", first[1])
    assert re.fullmatch(r"2 hits, .*/s, about .* left", first[2])
    assert re.fullmatch(r"  p-0  .*/s  1.07 G tested  1 lease", first[3])
    assert second[:4] == ["p-1 is with us", "something happened", "1\t01", "2\t02"]
    assert "50.0 %" in second[4]
    assert [line.split()[0] for line in second[6:18]] == [f"p-{n}" for n in range(12)]
    assert second[18:] == ["  and 2 more"]
    last = terminal.screen()
    assert last[:5] == [*second[:4], "3\t03"]
    assert last[5].startswith(f"scan [7] ({job}): found")
    assert len(last) == 6


def submit_on_terminal(submit: Call, terminal: Terminal, *arguments: str) -> Result:
    """With a stderr that says it is a terminal when the command looks."""
    from click import testing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing._NamedTextIOWrapper, "isatty", lambda self: True, raising=False)
        return submit(*arguments)


@pytest.mark.parametrize("columns", [100, 60, 30])
def test_nothing_wraps(
    submit: Call, grid: Any, terminal: Terminal, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def script(job: Any) -> Any:
        yield grid.progress(job, SECOND, 1 << 30, workers=3)
        shown.extend(terminal.screen())

    grid.script = script
    monkeypatch.setattr(terminal, "columns", columns)
    submit_on_terminal(submit, terminal, "-d", "20", "--name", "a name that is rather long " * 3)
    assert len(shown) == 5


def test_a_quick_job_draws_nothing(submit: Call, grid: Any, terminal: Terminal) -> None:
    grid.script = lambda job: [*grid.found(job), grid.progress(job, SECOND // 10)]
    result = submit_on_terminal(submit, terminal, "-d", "20")
    assert terminal.getvalue() == ""
    assert result.stdout.startswith("828028\t")


def test_words_of_kernels_stay_above_the_display(submit: Call, grid: Any, terminal: Terminal) -> None:
    shown = []

    def script(job: Any) -> Any:
        yield grid.progress(job, SECOND)
        thread = threading.Thread(target=logging.getLogger("zlb.kernels").info, args=("compiling",))
        thread.start()
        thread.join()
        yield grid.progress(job, 2 * SECOND, 1 << 30)
        shown.extend(terminal.screen())

    grid.script = script
    submit_on_terminal(submit, terminal, "-d", "20")
    assert shown[0] == "zlb: compiling"
    assert "25.0 %" in shown[1]


def test_waiting_is_shown(submit: Call, grid: Any, terminal: Terminal) -> None:
    shown = []

    def script(job: Any) -> Any:
        yield grid.progress(job, SECOND, workers=0)
        shown.extend(terminal.screen())

    grid.script = script
    submit_on_terminal(submit, terminal, "-d", "20")
    assert shown[2] == "waiting for workers"


def test_hits_for_a_pipe_do_not_wait(submit: Call, grid: Any, terminal: Terminal) -> None:
    written = []

    def script(job: Any) -> Any:
        sys.stdout = pipe = StringIO()
        yield grid.progress(job, SECOND)
        yield HitFound(job, 1, b"\1", "p-1")
        written.append(pipe.getvalue())

    grid.script = script
    submit_on_terminal(submit, terminal, "-d", "20")
    assert written == ["1\t01\n"]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(("--progress", "none"), {}), (("-q",), {}), ((), {"TERM": "dumb"})],
)
def test_no_display(
    submit: Call, grid: Any, terminal: Terminal, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    grid.script = lambda job: [grid.progress(job, n * SECOND, n) for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        submit_on_terminal(submit, terminal, "-d", "20", *arguments)
    assert terminal.getvalue() == ""
