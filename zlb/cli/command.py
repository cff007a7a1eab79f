"""What all commands share: grouped help, exit codes for what goes wrong, colour, one vocabulary of common options."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from zlb import __version__
from zlb.cli import types
from zlb.core.errors import ExitCode, ZlbError

CONTEXT_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "auto_envvar_prefix": "ZLB",
    "max_content_width": 100,
}

PIPE_CLOSED = 141
"""What a shell reports for a program ended by SIGPIPE (128 + 13): nobody reads our output any more."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why stdout may not take what is written to it; files of our own that do not are told of where that is tried."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Option(click.Option):
    """An option that `--help` shows under `heading`; without one, under the last heading."""

    def __init__(self, *args: Any, heading: str = "", **attrs: Any) -> None:
        default = attrs.get("show_default")
        if isinstance(default, str):  # click would put it in brackets of its own
            attrs |= {"show_default": False, "help": f"{attrs['help']}  [default: {default}]"}
        super().__init__(*args, **attrs)
        self.heading = heading


class Command(click.Command):
    """A command whose help is grouped and whose `ZlbError`s become one line and an exit code."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, in the order they were declared."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):  # the usage line has these
                heading = getattr(param, "heading", "") or next(reversed(groups), "Options")
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; every expected failure ends as the exit code that docs/cli.md promises."""
        try:
            return super().invoke(ctx)
        except ZlbError as error:
            complain(ctx, str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            silence(sys.stdout)
            silence(sys.stderr)
            ctx.exit(PIPE_CLOSED)
        except OSError as error:
            if error.errno not in NO_ROOM or error.filename is not None:
                raise
            silence(sys.stdout)
            complain(ctx, f"output cannot be written: {error.strerror}")
            ctx.exit(ExitCode.FAILED)


def option(*names: str, heading: str = "", **attrs: Any) -> Callable[[Function], Function]:
    """Declare an option under a heading of the help."""
    return click.option(*names, cls=Option, heading=heading, **attrs)


def version_option(program: str) -> Callable[[Function], Function]:
    """`--version`."""
    return click.version_option(__version__, prog_name=program, cls=Option)


def common_options(heading: str, quiet: str, verbose: str) -> Callable[[Function], Function]:
    """`--quiet` and `--verbose`, with what they mean here, and `--color`."""
    color = option(
        "--color/--no-color",
        heading=heading,
        default=None,
        expose_value=False,
        callback=_set_color,
        is_eager=True,
        show_default="on a terminal",
        help="Colours or none; NO_COLOR is honoured.",
    )

    def declare(function: Function) -> Function:
        function = color(function)
        function = option("-v", "--verbose", heading=heading, is_flag=True, help=verbose)(function)
        return option("-q", "--quiet", heading=heading, is_flag=True, help=quiet)(function)

    return declare


def subcommand(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command of the group `zlb`, or of one in it."""
    return click.command(name, cls=Command, context_settings=CONTEXT_SETTINGS)


def listen_options(heading: str, default: str, help_text: str) -> Callable[[Function], Function]:
    """`--listen` and `--insecure`, of whatever serves others."""
    insecure = option(
        "--insecure",
        heading=heading,
        is_flag=True,
        help="Listen beyond this machine although nothing is encrypted and anyone may come.",
    )
    listen = option(
        "--listen",
        heading=heading,
        type=types.EndpointType(listening=True),
        metavar="ENDPOINT",
        default=default,
        help=help_text,
    )
    return lambda function: listen(insecure(function))


def tracker_option(heading: str, help_text: str, **attrs: Any) -> Callable[[Function], Function]:
    """`--tracker`, which all commands take that talk to one."""
    return option(
        "--tracker",
        heading=heading,
        type=types.EndpointType(usual=types.DEFAULT_TRACKER),
        multiple=True,
        envvar="ZLB_TRACKERS",
        show_envvar=True,
        metavar="ENDPOINT",
        help=help_text,
        **attrs,
    )


def asking(heading: str, json_help: str) -> Callable[[Function], Function]:
    """`--tracker` and `--json` of a command that asks the trackers one thing; one on this machine unless told."""
    where = tracker_option(heading, "Any of the trackers; repeatable.", default=(types.DEFAULT_TRACKER,))
    as_json = option("--json", heading=heading, is_flag=True, help=json_help)
    return lambda function: where(as_json(function))


def state_dir_option(heading: str, help_text: str) -> Callable[[Function], Function]:
    """`--state-dir`, of what needs something that this machine remembers."""
    return option(
        "--state-dir",
        heading=heading,
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        show_envvar=True,
        show_default="the platform's place",
        help=help_text,
    )


def complain(ctx: click.Context, text: str) -> None:
    """One line about what went wrong, on stderr, after the name of the command."""
    click.echo(f"{ctx.command_path}: {text}", err=True)


@contextlib.contextmanager
def kernel_notes(say: Callable[[str], None], warnings_only: bool) -> Iterator[None]:
    """Meanwhile `say` gets, from any thread, a line for what kernels log: that they compile, say."""
    log, handler = logging.getLogger("zlb.kernels"), _Notes(say)
    former = log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING if warnings_only else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(former)


class _Notes(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """A line, if it can be said: a closed stderr is no reason for a kernel to fail."""
        with contextlib.suppress(OSError, ValueError):
            self._say(f"zlb: {record.getMessage()}")


def silence(stream: Any) -> None:
    """Send what is still buffered for a closed pipe to nowhere, or Python would complain about it when it ends."""
    with contextlib.suppress(
        OSError, ValueError
    ):  # a stand-in without a file descriptor has nothing to complain of
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _set_color(ctx: click.Context, param: click.Parameter, value: bool | None) -> None:
    if value is None and os.environ.get("NO_COLOR"):
        value = False
    ctx.color = value
