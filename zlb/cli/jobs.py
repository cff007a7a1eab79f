"""`zlb jobs`, `zlb wait JOB` and the like: jobs at the trackers, to come back to, and who works there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import types
from zlb.cli.command import option
from zlb.cli.live_ids import JobType
from zlb.core.ids import Endpoint, JobId

if TYPE_CHECKING:
    from zlb.cli.tracked import Manner
    from zlb.cli.trackers import Trackers
    from zlb.protocols.commands import Command
    from zlb.protocols.queries import JobLine

AT, OUTPUT = "Trackers", "Output"
AS_SUBMIT = "The same JSON lines as zlb-submit."


def _job(open_only: bool) -> Callable[[shared.Function], shared.Function]:
    return click.argument("job", type=JobType(open_only), metavar="JOB")


@shared.subcommand("jobs")
@option("--open", heading="Which", is_flag=True, help="Only those that have not ended.")
@shared.asking(AT, "One JSON object per job.")
@shared.version_option("zlb jobs")
def jobs(**given: Any) -> None:
    """List the jobs the trackers know, the newest last."""
    from zlb.cli import listing
    from zlb.protocols import commands, queries

    with _trackers(given) as trackers:
        lines = trackers.ask(queries.ListJobs(), list[queries.JobLine])
    assert not isinstance(lines, commands.Denied)
    shown = [line for line in lines if not given["open"] or line.status in commands.OPEN]
    if given["json"]:
        _echo([listing.job_json(line) for line in shown])
    elif shown:
        _echo(listing.jobs_lines(shown))
    else:
        click.echo("no open jobs" if given["open"] else "no jobs", err=True)


@shared.subcommand("peers")
@shared.asking(AT, "One JSON object per peer.")
@shared.version_option("zlb peers")
def peers(**given: Any) -> None:
    """List the peers on the trackers' roster, and the jobs each coordinates."""
    from zlb.cli import listing
    from zlb.protocols import commands, queries

    with _trackers(given) as trackers:
        lines = trackers.ask(queries.ListPeers(), list[queries.PeerLine])
    assert not isinstance(lines, commands.Denied)
    if given["json"]:
        _echo([listing.peer_json(line) for line in lines])
    elif lines:
        _echo(listing.peers_lines(lines))
    else:
        click.echo("no peers", err=True)


@shared.subcommand("status")
@_job(open_only=False)
@shared.asking(AT, "One JSON object.")
@shared.version_option("zlb status")
def status(**given: Any) -> None:
    """Tell all about one job, once."""
    from zlb.cli import listing
    from zlb.cli.follow import describe
    from zlb.cli.recalled import recalled

    with _trackers(given) as trackers:
        spec = describe(trackers, given["job"])
        line = _line(trackers, given["job"])
    asked = recalled(spec)
    _echo([listing.job_json(line, spec, asked)] if given["json"] else listing.job_lines(line, spec, asked))


@shared.subcommand("wait")
@_job(open_only=True)
@option(
    "--timeout",
    heading=AT,
    type=types.DurationType(),
    metavar="DUR",
    help="Leave after 90, 90s, 5m or 1h30m; the job goes on.",
)
@shared.asking(AT, AS_SUBMIT)
@option(
    "--progress",
    heading=OUTPUT,
    type=click.Choice(["auto", "bar", "plain", "none"]),
    default="auto",
    help="On stderr; auto is a bar on a terminal, else none.",
)
@shared.common_options(OUTPUT, quiet="No summary, no progress.", verbose="Say what happens, on stderr.")
@shared.version_option("zlb wait")
@click.pass_context
def wait(ctx: click.Context, /, **given: Any) -> None:
    """Follow a job to its end, all its hits from the first on; it ends as zlb-submit would.

    Ctrl-C leaves, and the job goes on.
    """
    from zlb.cli import tracked

    ctx.exit(tracked.wait(given["job"], _endpoints(given), _manner(given), given["timeout"]))


@shared.subcommand("result")
@_job(open_only=False)
@option(
    "--certificate",
    heading=OUTPUT,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write who searched what, signed, for zlb verify, of a job submitted with --certificate.",
)
@shared.asking(AT, AS_SUBMIT)
@shared.state_dir_option(OUTPUT, "The key of this machine, for --certificate.")
@shared.common_options(OUTPUT, quiet="No summary.", verbose="Say what happens, on stderr.")
@shared.version_option("zlb result")
@click.pass_context
def result(ctx: click.Context, /, **given: Any) -> None:
    """Print the hits a job has brought, and how it ended; exit code 4 if it has not ended."""
    from zlb.cli import tracked

    to = given["certificate"], given["state_dir"]
    ctx.exit(tracked.result(given["job"], _endpoints(given), _manner(given | {"progress": "none"}), *to))


@shared.subcommand("cancel")
@_job(open_only=True)
@shared.asking(AT, "The job as a JSON object.")
@shared.version_option("zlb cancel")
def cancel(**given: Any) -> None:
    """End a job; the hits it has brought stay."""
    _steer(given, "cancelled")


@shared.subcommand("pause")
@_job(open_only=True)
@shared.asking(AT, "The job as a JSON object.")
@shared.version_option("zlb pause")
def pause(**given: Any) -> None:
    """Let a job rest: nothing of it is searched until zlb resume."""
    _steer(given, "paused")


@shared.subcommand("resume")
@_job(open_only=True)
@shared.asking(AT, "The job as a JSON object.")
@shared.version_option("zlb resume")
def resume(**given: Any) -> None:
    """Let a paused job go on."""
    _steer(given, "running")


@shared.subcommand("priority")
@_job(open_only=True)
@click.argument("priority", type=types.PriorityType(), metavar="N")
@shared.asking(AT, "The job as a JSON object.")
@shared.version_option("zlb priority")
def priority(**given: Any) -> None:
    """Give a job another priority, 0 to 9: jobs of a higher one go first."""
    from zlb.protocols import commands

    told = commands.Prioritise(given["job"], given["priority"])
    _told(given, told, f"{given['job']} has priority {given['priority']}")


ALL = (jobs, wait, status, result, cancel, pause, resume, priority, peers)


def _steer(given: dict[str, Any], status: str) -> None:
    from zlb.protocols import commands

    told = commands.Steer(given["job"], commands.Status(status))
    _told(given, told, f"{given['job']} is {status}")


def _told(given: dict[str, Any], command: Command, words: str) -> None:
    """Tell the trackers, then people that it is done, or programs how the job is now."""
    from zlb.cli import listing
    from zlb.cli.trackers import denied
    from zlb.protocols import commands

    with _trackers(given) as trackers:
        value = trackers.tell(command, once=True)
        if isinstance(value, commands.Denied):
            raise denied(value, given["job"])
        if given["json"]:
            words = listing.job_json(_line(trackers, given["job"]))
    click.echo(words)


def _line(trackers: Trackers, job: JobId) -> JobLine:
    from zlb.cli.trackers import denied
    from zlb.protocols import commands, queries

    view = trackers.ask(queries.WatchJob(job, 0), queries.JobView)
    if isinstance(view, commands.Denied):
        raise denied(view, job)
    return view.line


def _endpoints(given: dict[str, Any]) -> tuple[Endpoint, ...]:
    return tuple(dict.fromkeys(given["tracker"]))


def _trackers(given: dict[str, Any]) -> Trackers:
    from zlb.cli import trackers

    return trackers.Trackers(_endpoints(given))


def _manner(given: dict[str, Any]) -> Manner:
    from zlb.cli.tracked import Manner

    return Manner(given["json"], given["progress"], given["quiet"], given["verbose"])


def _echo(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)
