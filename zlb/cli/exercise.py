"""`zlb tracker exercise` and `judge`: do clients of a real cluster see one copy of the registry, whatever dies?"""

from __future__ import annotations

from pathlib import Path

import click

from zlb.cli import command as shared
from zlb.cli import human, types
from zlb.cli.command import option
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import Endpoint
from zlb.core.limits import PRIORITY_DEFAULT


@shared.subcommand("exercise")
@shared.tracker_option("Where", "A tracker of the cluster; repeatable.")
@option("--clients", heading="What to do", type=types.CountType(), metavar="N", default=4, help="At once.")
@option(
    "--duration",
    heading="What to do",
    type=types.DurationType(),
    metavar="DUR",
    default="10s",
    help="How long.",
)
@option(
    "--history",
    heading="Output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Where what they saw goes: JSON lines, see docs/history.md.",
)
@shared.version_option("zlb tracker exercise")
def exercise(tracker: tuple[Endpoint, ...], clients: int, duration: int, history: Path) -> None:
    """Use a cluster that nobody else uses from several clients at once, and write down what they see.

    Kill its trackers meanwhile; then let `judge` tell whether the clients saw one copy.
    """
    from zlb.cli.recorder import Exercise
    from zlb.sim.history import dump

    try:
        file = history.open("w")
    except OSError as error:
        raise ZlbError(f"file {history}: {error.strerror}", ExitCode.USAGE) from None
    with file:
        found = Exercise(tracker or (Endpoint(types.DEFAULT_TRACKER),), clients, duration).run()
        file.writelines(dump(found))
    unknown = sum(operation.returned_at is None for operation in found)
    click.echo(f"{human.count(len(found), 'operation')}, {unknown} of them with an unknown outcome")


@shared.subcommand("judge")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@shared.version_option("zlb tracker judge")
def judge(path: Path) -> None:
    """Tell whether a history is linearizable: as if there were one copy of everything, asked by one at a time."""
    from zlb.cli.recorder import LIST
    from zlb.sim import history, linearizability

    try:
        with path.open() as file:
            found = history.load(file)
        if any(not operation.arguments for operation in found):
            raise ValueError("an operation without a key")
        parts: dict[bool, list[history.Operation]] = {True: [], False: []}
        for operation in found:
            parts[str(operation.arguments[0]).startswith(LIST)].append(operation)
        verdicts = (
            linearizability.check(parts[True], linearizability.AppendLog()),
            linearizability.check(parts[False], linearizability.Register(PRIORITY_DEFAULT)),
        )
    except ValueError as error:
        raise ZlbError(f"{path}: {error}", ExitCode.USAGE) from None
    for verdict in verdicts:
        if not verdict.ok:
            raise ZlbError(str(verdict.violation), ExitCode.FAILED)
    click.echo(f"{human.count(len(found), 'operation')}: linearizable")
