"""Where lines go: results to stdout at once, words to stderr, and perhaps a progress display between the two."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

from zlb.cli import human
from zlb.cli.asked import Asked
from zlb.cli.command import silence
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import JobProgress
from zlb.core.limits import SECOND

PLAIN_EVERY_NS = 5 * SECOND


class Screen:
    """Shows no progress. When stdout cannot be written any more, calls `on_closed` once and drops what follows."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self.failure: OSError | None = None
        self.standing = "waiting for workers"
        """What is said of a job nobody works for, as far as is known."""
        self._on_closed = on_closed

    def write(self, line: str) -> None:
        """A result, for stdout."""
        if self.failure is not None:
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError as error:
            self.failure = error
            silence(sys.stdout)
            self._on_closed()

    def say(self, line: str) -> None:
        """A line for whoever watches, for stderr."""
        click.echo(line, err=True)

    def update(self, progress: JobProgress) -> None:
        """How far the job is now."""

    def close(self) -> None:
        """No progress any more; lines may still come."""

    def raise_failure(self) -> None:
        """Raise why stdout could not be written, if so: `BrokenPipeError`, or a `ZlbError` that says it."""
        if isinstance(self.failure, BrokenPipeError):
            raise self.failure
        if self.failure is not None:
            raise ZlbError(f"results cannot be written: {self.failure.strerror}", ExitCode.FAILED)


class PlainScreen(Screen):
    """A line about the progress every few seconds: for logs."""

    def __init__(self, on_closed: Callable[[], None], asked: Asked) -> None:
        super().__init__(on_closed)
        self._asked = asked
        self._speed = human.Speed()
        self._next_ns = PLAIN_EVERY_NS

    def update(self, progress: JobProgress) -> None:
        """A line, if it is time for one."""
        per_s = self._speed.after(progress.elapsed_ns, progress.done)
        if progress.elapsed_ns >= self._next_ns:
            self._next_ns = progress.elapsed_ns + PLAIN_EVERY_NS
            self.say(progress_line(self._asked, progress, per_s, self.standing))


def progress_line(asked: Asked, progress: JobProgress, per_s: float, standing: str) -> str:
    """One line: share, counts, speed, time left."""
    left = asked.seconds_left(progress, per_s)
    workers = [] if asked.tracked else [human.count(len(progress.workers), "worker")]
    parts = [
        human.share(progress.done, progress.size),
        f"{human.number(progress.done)} of {human.number(progress.size)}",
        human.count(progress.hits, "hit"),
        human.rate(per_s),
        *workers,
        f"about {human.seconds(left)} left" if left is not None else standing,
    ]
    return f"{asked.title}: {', '.join(parts)}"


def open_screen(kind: str, asked: Asked, quiet: bool, on_closed: Callable[[], None]) -> Screen:
    """The screen for `--progress KIND`: a bar needs a terminal, elsewhere it is plain lines."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if kind == "auto":
        kind = "bar" if terminal and not quiet else "none"
    if kind == "bar" and terminal:
        from zlb.cli.live import LiveScreen

        return LiveScreen(on_closed, asked)
    return Screen(on_closed) if kind == "none" else PlainScreen(on_closed, asked)
