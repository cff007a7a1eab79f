"""`zlb-submit`: search ranges of integers for hits, on peers that run elsewhere or on an embedded one."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from zlb.cli import command as shared
from zlb.cli import types
from zlb.cli.asked import Asked, Options, new_job, understand
from zlb.cli.command import option
from zlb.cli.params import ParamType
from zlb.core.errors import ZlbError
from zlb.core.ids import Endpoint
from zlb.core.work import StopRule

SEARCH, STOP, RUN, WHERE, OUTPUT = "What to search", "When to stop", "How to run", "Where", "Output"

EPILOG = """\b
Examples:
  zlb-submit --range '0:2**32' --difficulty 20
  zlb-submit -r :4Gi -d 24 --lowest --prefix 'hello '
  zlb-submit --digest 7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451
  zlb-submit -d 28 --all --json --peer tcp://127.0.0.1:7001 --peer tcp://127.0.0.1:7002
  printf %s 828028 | sha256sum             checks a hit of the default encoding

\b
Quote ranges with *: zsh takes them for file names. ^ and Gi need no quotes.
Exit codes: 0 found or --all done, 2 usage, 3 range exhausted, 4 timeout,
5 no peer answers, 6 cancelled or failed, 130 interrupted.
"""


@click.command("submit", cls=shared.Command, context_settings=shared.CONTEXT_SETTINGS, epilog=EPILOG)
@option(
    "-r",
    "--range",
    heading=SEARCH,
    type=types.RangeType(),
    multiple=True,
    metavar="SPEC",
    show_default="0:2**32",
    help="A:B, A:+N or :B, end exclusive, with 2**32, 2^32, 1e6, 4Gi, 0xff; repeatable.",
)
@option(
    "-d",
    "--difficulty",
    heading=SEARCH,
    type=click.IntRange(0, 256),
    metavar="BITS",
    help="0 to 256 zero bits. Hashes need one of --difficulty, --target, --nbits, --digest and --header.",
)
@option(
    "--target",
    heading=SEARCH,
    type=types.HexType(),
    metavar="HEX",
    help="Digest at most this (64 hex digits, 40 for sha1); means --match bitcoin unless told otherwise.",
)
@option(
    "--nbits",
    heading=SEARCH,
    type=types.HexType(4),
    metavar="HEX8",
    help="The same, as Bitcoin's compact form, like 1d00ffff.",
)
@option(
    "--digest",
    heading=SEARCH,
    type=types.HexType(),
    metavar="HEX",
    help="Exactly this digest, as sha256sum or sha1sum prints it: which integer has it?",
)
@option(
    "-m",
    "--match",
    heading=SEARCH,
    type=click.Choice(["trailing", "leading", "bitcoin"]),
    show_default="trailing",
    help="Where the zero bits are.",
)
@option(
    "-a",
    "--algo",
    heading=SEARCH,
    type=types.KernelType(),
    metavar="NAME",
    show_default="sha256",
    help="sha256, sha256d (twice), sha1 or another installed kernel.",
)
@option(
    "-e",
    "--encoding",
    heading=SEARCH,
    show_default="dec",
    help="How an integer becomes bytes.",
    type=click.Choice(["dec", "hex", "u32le", "u32be", "u64le", "u64be"]),
)
@option(
    "--prefix",
    heading=SEARCH,
    type=types.BytesType(),
    metavar="TEXT",
    help="Bytes before the integer: text, 0xHEX or @FILE.",
)
@option("--suffix", heading=SEARCH, type=types.BytesType(), metavar="TEXT", help="Bytes after it.")
@option(
    "--header",
    heading=SEARCH,
    type=types.HexType(80),
    metavar="HEX",
    help="An 80-byte block header: sha256d, its nonce searched, the target from its nBits.",
)
@option(
    "--roll-version",
    heading=SEARCH,
    type=types.VersionsType(),
    metavar="N",
    help="Try N versions of the header for each nonce (BIP 320): a power of two up to 65536.",
)
@option(
    "--param",
    heading=SEARCH,
    type=ParamType(),
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of a kernel without options: 100, 0xff, hex:00ff, @FILE or text; repeatable.",
)
@option("--first", heading=STOP, is_flag=True, help="Any hit, fastest; the default.")
@option("--lowest", heading=STOP, is_flag=True, help="The smallest hit, always the same.")
@option("-n", "--count", heading=STOP, type=types.CountType(), metavar="N", help="After N hits.")
@option("--all", heading=STOP, is_flag=True, help="Every hit of the range.")
@option(
    "--timeout",
    heading=STOP,
    type=types.DurationType(),
    metavar="DUR",
    help="Give up after 90, 90s, 5m or 1h30m; cancels the job.",
)
@option(
    "--chunk",
    heading=RUN,
    type=types.ChunkType(),
    metavar="DUR|N",
    default="1s",
    help="Size of a subjob: a time with its unit (250ms), or a number of integers (1e6).",
)
@option(
    "--local",
    heading=RUN,
    type=types.SlotsType(),
    is_flag=False,
    flag_value="cores",
    metavar="[N]",
    help="No peers: N threads here, one per core unless told. This is what happens without --peer.",
)
@option("--name", heading=RUN, metavar="TEXT", help="A label for the job.")
@option("--dry-run", heading=RUN, is_flag=True, help="Only tell what is to be expected.")
@option(
    "--peer",
    heading=WHERE,
    type=types.EndpointType(),
    multiple=True,
    envvar="ZLB_PEERS",
    show_envvar=True,
    metavar="ENDPOINT",
    help="A running peer, like tcp://127.0.0.1:7001; repeatable.",
)
@option(
    "--state-dir",
    heading=WHERE,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    show_envvar=True,
    show_default="the platform's place",
    help="Measured rates and compiled kernels.",
)
@option(
    "--json",
    heading=OUTPUT,
    is_flag=True,
    help="One JSON object per line on stdout: accepted, hit, done; with -v also progress.",
)
@option(
    "--progress",
    heading=OUTPUT,
    type=click.Choice(["auto", "bar", "plain", "none"]),
    default="auto",
    help="On stderr; auto is a bar on a terminal, else none.",
)
@shared.common_options(
    OUTPUT, quiet="No summary, no progress.", verbose="Say who joins and what happens, on stderr."
)
@shared.version_option("zlb-submit")
@click.pass_context
def submit(ctx: click.Context, /, **given: Any) -> None:
    """Search a range of integers for those whose hash has enough zero bits, or is a given one.

    Hits go to stdout as integer, tab, digest; everything else goes to stderr.
    """
    place = _place(ctx, given)
    asked, warning = _asked(given)
    if warning:
        shared.complain(ctx, f"warning: {warning}")
    if given["dry_run"]:
        _print_plan(asked, place, given["json"])
    else:
        ctx.exit(_run(asked, place, given))


def main() -> None:
    """The command `zlb-submit`."""
    submit(prog_name="zlb-submit")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the job is to run: on `peers`, or without any here on `slots` threads (None: one per core)."""

    peers: tuple[Endpoint, ...]
    slots: int | None
    state_dir: Path | None


def _place(ctx: click.Context, given: dict[str, Any]) -> _Place:
    peers: tuple[Endpoint, ...] = tuple(dict.fromkeys(given["peer"]))
    if given["local"] is None:
        return _Place(peers, None, given["state_dir"])
    if ctx.get_parameter_source("peer") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--local means no peers: it cannot go with --peer")
    return _Place((), given["local"] or None, given["state_dir"])


def _asked(given: dict[str, Any]) -> tuple[Asked, str | None]:
    """The job, and a warning if there is reason for one."""
    puzzle, warning = understand(
        Options(
            spans=given["range"],
            difficulty=given["difficulty"],
            target=given["target"],
            nbits=given["nbits"],
            digest=given["digest"],
            match=given["match"],
            algo=given["algo"],
            encoding=given["encoding"],
            prefix=given["prefix"],
            suffix=given["suffix"],
            header=given["header"],
            versions=given["roll_version"],
            params=given["param"],
        )
    )
    rule, wanted = _stop_rule(given)
    return Asked(new_job(puzzle, rule, wanted), puzzle, given["name"]), warning


def _stop_rule(given: dict[str, Any]) -> tuple[StopRule, int]:
    chosen = {
        "--first": given["first"],
        "--lowest": given["lowest"],
        "--count": given["count"],
        "--all": given["all"],
    }
    names = [name for name, value in chosen.items() if value]
    if len(names) > 1:
        raise click.UsageError(f"only one of {', '.join(names)}")
    if given["count"]:
        return StopRule.COUNT, given["count"]
    if given["all"]:
        return StopRule.ALL, 0
    return (StopRule.LOWEST if given["lowest"] else StopRule.FIRST), 1


def _print_plan(asked: Asked, place: _Place, as_json: bool) -> None:
    from zlb.cli import plan, run

    slots = place.slots or run.cores()
    slot_per_s = run.remembered_rate(place.state_dir or run.default_state_dir(), asked.puzzle.kernel_name)
    there = plan.Place(place.peers, slots, slot_per_s)
    lines = [plan.plan_json(asked, there)] if as_json else plan.plan_lines(asked, there)
    for line in lines:
        click.echo(line)


def _run(asked: Asked, place: _Place, given: dict[str, Any]) -> int:
    """Run the job to its end and say how it went; returns the exit code."""
    from zlb.cli import run
    from zlb.cli.report import JsonResults, Report, Results, exit_code
    from zlb.cli.screen import open_screen

    quiet, verbose = given["quiet"], given["verbose"]
    screen = open_screen(given["progress"], asked, quiet, _cancel)
    results = JsonResults(asked, screen, verbose) if given["json"] else Results(asked, screen)
    report = Report(results, max(len(place.peers), 1), quiet, verbose)
    grid = run.Grid(place.peers, place.slots, place.state_dir or run.default_state_dir())
    chunk = run.Chunk(given["chunk"].time_ns, given["chunk"].count)
    check = asked.puzzle.kernel.checker(asked.puzzle.params)
    try:
        with shared.kernel_notes(screen.say, quiet or given["json"]):
            ended = run.submit(asked.job, check, grid, chunk, given["timeout"], report.on_event)
        report.end(ended)
    except ZlbError as error:
        if str(error) in report.refusals:  # has been said already
            return error.exit_code
        raise
    finally:
        screen.close()
        screen.raise_failure()
    return exit_code(ended)


def _cancel() -> None:
    """Nobody reads the hits any more: end the job like Ctrl-C does, so that its peers hear of it."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
