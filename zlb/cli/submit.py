"""`zlb-submit`: search ranges of integers for hits, on peers that run elsewhere or on an embedded one."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import types
from zlb.cli.asked import Asked, Options, new_job, understand
from zlb.cli.command import option
from zlb.cli.oracles import oracle_of
from zlb.cli.params import ParamType
from zlb.cli.place import Where, checked, placed, settled
from zlb.core.config import CoordinatorConfig
from zlb.core.errors import ZlbError
from zlb.core.limits import INTEGERS_MAX, PRIORITY_DEFAULT
from zlb.core.work import Oracle, StopRule

if TYPE_CHECKING:
    from zlb.cli.certify import Certifying

UNSAID = types.ChunkSize(None, None)
SEARCH, STOP, RUN, WHERE, OUTPUT = "What to search", "When to stop", "How to run", "Where", "Output"

EPILOG = """\b
Examples:
  zlb-submit --range '0:2**32' --difficulty 20
  zlb-submit -r :4Gi -d 24 --lowest --prefix 'hello '
  zlb-submit --digest 7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451
  zlb-submit -d 28 --all --json --peer tcp://127.0.0.1:7001 --peer tcp://127.0.0.1:7002
  zlb-submit -d 36 --tracker tcp://127.0.0.1:7101 --detach
  printf %s 828028 | sha256sum             checks a hit of the default encoding

\b
Quote ranges with *: zsh takes them for file names. ^ and Gi need no quotes.
Exit codes: 0 found or --all done, 2 usage, 3 range exhausted, 4 timeout,
5 no peer or tracker answers, 6 cancelled or failed, 130 interrupted.
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
    help="A parameter of a kernel without options: 100, 0xff, hex:00ff, json:[1], @FILE or text; repeatable.",
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
    show_default="a share of what is left, 10s at most",
    help="Size of a subjob: the longest time, with its unit (250ms), or a number of integers (1e6).",
)
@option(
    "--verify",
    heading=RUN,
    type=types.VerifyType(),
    metavar="LEVEL",
    default="shares",
    help="How results are checked: none, shares, spot (slices are searched again), quorum:N (all by N peers).",
)
@option(
    "--certificate",
    heading=RUN,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write who searched what, signed, for zlb verify; with --detach zlb result does.",
)
@option(
    "--scheme",
    heading=RUN,
    type=types.SchemeType(),
    metavar="NAME",
    default="factoring",
    help="How subjobs are sized: factoring, or seed[:1-4], fixed capacities, to be compared with.",
)
@option(
    "--local",
    heading=RUN,
    type=types.SlotsType(),
    is_flag=False,
    flag_value="cores",
    metavar="[N]",
    help="No peers: N threads here, one per core unless told. This is what happens without --peer and --tracker.",
)
@option("--name", heading=RUN, metavar="TEXT", help="A label for the job.")
@option(
    "--detach",
    heading=RUN,
    is_flag=True,
    help="With --tracker: print the job's id once it is safe, and leave; see zlb wait.",
)
@option(
    "--priority",
    heading=RUN,
    type=types.PriorityType(),
    metavar="N",
    show_default="5",
    help="With --tracker: 0 to 9; jobs of a higher one go first.",
)
@option(
    "--deadline",
    heading=RUN,
    type=types.DurationType(),
    metavar="DUR",
    help="With --tracker: the job fails if it is not done by then, whether anybody waits or not.",
)
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
@shared.tracker_option(WHERE, "A tracker, whose peers do it: the job outlives this process; repeatable.")
@shared.state_dir_option(WHERE, "Measured rates, compiled kernels, trust in peers, the key that signs.")
@option(
    "--json",
    heading=OUTPUT,
    is_flag=True,
    help="One JSON object per line on stdout: accepted, hit, accused, done; with -v also progress.",
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
    place = placed(ctx, given)
    warnings = settled(ctx, place, given)
    asked, warning = _asked(given)
    given["verify"], note = checked(ctx, place, asked, given["verify"])
    for line in (*warnings, *filter(None, [warning])):
        shared.complain(ctx, f"warning: {line}")
    if note and not given["quiet"]:
        shared.complain(ctx, note)
    if given["dry_run"]:
        _print_plan(asked, place, given)
    elif place.trackers:
        if asked.puzzle.size >= INTEGERS_MAX:  # what travels are counts, of 64 bits
            raise click.UsageError("--range: a job at trackers has fewer than 2**64 integers")
        ctx.exit(_run_tracked(asked, place, given))
    else:
        ctx.exit(_run(asked, place, given))


def main() -> None:
    """The command `zlb-submit`."""
    submit(prog_name="zlb-submit")


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


def _print_plan(asked: Asked, place: Where, given: dict[str, Any]) -> None:
    """Tell what is to be expected; raises what the job would, if its certificate could not be written."""
    from zlb.cli import plan, run

    if given["certificate"] is not None:
        from zlb.cli.certify import writable

        writable(given["certificate"])
    slots = place.slots or run.cores()
    slot_per_s = run.remembered_rate(run.state_dir(place.state_dir), asked.puzzle.kernel_name)
    there = plan.Place(place.peers, slots, slot_per_s, place.trackers)
    plan_of = asked, there, given["verify"]
    for line in [plan.plan_json(*plan_of)] if given["json"] else plan.plan_lines(*plan_of):
        click.echo(line)


def _run_tracked(asked: Asked, place: Where, given: dict[str, Any]) -> int:
    """Hand the job to the trackers; returns the exit code."""
    from zlb.cli import run, tracked

    chunk, verification = given["chunk"] or UNSAID, given["verify"]
    order = tracked.Order(
        priority=PRIORITY_DEFAULT if given["priority"] is None else given["priority"],
        within_ns=given["deadline"] or 0,
        chunk_ns=chunk.time_ns or 0,
        chunk_count=chunk.count or 0,
        verify=verification.method,
        copies=verification.copies,
        certified=given["certificate"] is not None,
    )
    manner = tracked.Manner(given["json"], given["progress"], given["quiet"], given["verbose"])
    certificate = _certifying(asked, run.state_dir(place.state_dir), given)
    until = given["detach"], given["timeout"]
    return tracked.submit(asked, place.trackers, order, manner, *until, certificate)


def _run(asked: Asked, place: Where, given: dict[str, Any]) -> int:
    """Run the job to its end and say how it went; returns the exit code."""
    from zlb.cli import run
    from zlb.cli.report import JsonResults, Report, Results, exit_code
    from zlb.cli.screen import open_screen

    quiet, verbose = given["quiet"], given["verbose"]
    grid = run.Grid(place.peers, place.slots, run.state_dir(place.state_dir))
    oracle, certificate = _oracle(asked), _certifying(asked, grid.state_dir, given)
    screen = open_screen(given["progress"], asked, quiet, _cancel)
    results = JsonResults(asked, screen, verbose) if given["json"] else Results(asked, screen)
    report = Report(results, max(len(place.peers), 1), quiet, verbose)
    listen = report.on_event if certificate is None else certificate.heard(report.on_event)
    try:
        with shared.kernel_notes(screen.say, quiet or given["json"]):
            ended = run.submit(asked.job, oracle, grid, _config(given), given["timeout"], listen)
        report.end(ended)
        if certificate is not None:
            certificate.write(ended)
            if not quiet:
                screen.say(f"certificate: zlb verify {certificate.path}")
    except ZlbError as error:
        if str(error) in report.refusals:  # has been said already
            return error.exit_code
        raise
    finally:
        screen.close()
        screen.raise_failure()
    return exit_code(ended)


def _oracle(asked: Asked) -> Oracle:
    assert asked.puzzle.kernel is not None, "who submits a job has its kernel"
    return oracle_of(asked.puzzle.kernel, asked.puzzle.params)


def _certifying(asked: Asked, state_dir: Path, given: dict[str, Any]) -> Certifying | None:
    """What will write the certificate, if one is asked for."""
    if given["certificate"] is None:
        return None
    from zlb.cli.certify import Certifying

    return Certifying(given["certificate"], asked.job, given["verify"].text, _oracle(asked).word, state_dir)


def _config(given: dict[str, Any]) -> CoordinatorConfig:
    """How the job is to be coordinated."""
    chunk, (method, copies), (scheme, factor) = given["chunk"] or UNSAID, given["verify"], given["scheme"]
    config = CoordinatorConfig(
        verify=method,
        copies=copies,
        rows=given["certificate"] is not None,
        scheme=scheme,
        seed_factor=factor,
        chunk_count=chunk.count,
    )
    return config if chunk.time_ns is None else replace(config, chunk_ns=chunk.time_ns)


def _cancel() -> None:
    """Nobody reads the hits any more: end the job like Ctrl-C does, so that its peers hear of it."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
