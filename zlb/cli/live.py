"""The progress display of a terminal: a bar, and a line per worker, redrawn in place on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from zlb.cli import human
from zlb.cli.asked import Asked
from zlb.cli.screen import Screen
from zlb.core.events import JobProgress, WorkerView
from zlb.core.ids import NodeId
from zlb.core.limits import MS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

QUIET_NS = 500 * MS
"""Shorter jobs show nothing but their result, and never load rich."""
WORKERS_SHOWN_MAX = 12
BAR_COLUMNS = 32

Row = tuple[str, ...]


class LiveScreen(Screen):
    """Draws once a job has run for a moment. Lines that come meanwhile go above the display, never through it."""

    def __init__(self, on_closed: Callable[[], None], asked: Asked) -> None:
        super().__init__(on_closed)
        self._asked = asked
        self._speed = human.Speed()
        self._speeds: dict[NodeId, human.Speed] = {}
        self._live: Live | None = None
        self._held: list[str] = []
        self._closed = False

    def write(self, line: str) -> None:
        """A result; one that would go through the display waits for the next redraw, a tenth of a second at most."""
        if self._live is not None and sys.stdout.isatty():
            self._held.append(line)
        else:
            super().write(line)

    def say(self, line: str) -> None:
        """A line above the display, from any thread."""
        live = self._live  # which another thread may take away at any time
        if live is None:
            super().say(line)
        else:
            live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, progress: JobProgress) -> None:
        """Redraw."""
        per_s = self._speed.after(progress.elapsed_ns, progress.done)
        rows = [self._row(worker, progress.elapsed_ns) for worker in progress.workers]
        if self._closed or progress.elapsed_ns < QUIET_NS:
            return
        if self._held:
            self._clear()
            self._write_held()
        if self._live is None:
            self._live = _new_live()
            self._live.start()
        self._live.update(_drawing(self._asked, progress, per_s, rows, self.standing), refresh=True)

    def close(self) -> None:
        """Take the display away."""
        self._closed = True
        self._clear()
        self._write_held()

    def _row(self, worker: WorkerView, elapsed_ns: int) -> Row:
        speed = self._speeds.setdefault(worker.node, human.Speed())
        return (
            f"  {worker.node}",
            human.rate(speed.after(elapsed_ns, worker.tested)),
            f"{human.number(worker.tested)} tested",
            human.count(worker.leases, "lease"),
        )

    def _clear(self) -> None:
        """Take the display off the terminal, so that stdout can use it; a stopped `Live` would misplace its next."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _write_held(self) -> None:
        held, self._held = self._held, []
        for line in held:
            super().write(line)


def _new_live() -> Live:
    from rich.console import Console
    from rich.live import Live

    context = click.get_current_context(silent=True)
    color = context.color if context is not None else None
    console = Console(stderr=True, no_color=None if color is None else not color)
    return Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )


def _drawing(
    asked: Asked, progress: JobProgress, per_s: float, rows: list[Row], standing: str
) -> RenderableType:
    """Nothing wraps, however narrow the terminal; names are text, whatever brackets they have."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def text(line: str) -> Text:
        return Text(line, no_wrap=True, overflow="ellipsis")

    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(progress.size, 1), completed=progress.done, width=BAR_COLUMNS)
    head.add_row(bar, text(human.share(progress.done, progress.size)), text(asked.title))
    left = asked.seconds_left(progress, per_s)
    facts = [human.count(progress.hits, "hit"), human.rate(per_s)]
    if left is not None:
        facts.append(f"about {human.seconds(left)} left")
    lines: list[RenderableType] = [head, text(", ".join(facts))]
    if not rows:
        return Group(*lines, text(standing))
    workers = Table.grid(padding=(0, 2))
    for row in rows[:WORKERS_SHOWN_MAX]:
        workers.add_row(*map(text, row))
    lines.append(workers)
    if len(rows) > WORKERS_SHOWN_MAX:
        lines.append(text(f"  and {len(rows) - WORKERS_SHOWN_MAX} more"))
    return Group(*lines)
