"""`zlb-sim`: whole production nodes in virtual time, thousands of them, and studies of what they do."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import human, types
from zlb.cli.command import option
from zlb.core.config import Method
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.limits import MS, SECOND, WORKERS_PER_JOB_MAX

if TYPE_CHECKING:
    from zlb.sim.studies.rows import Row, Study
    from zlb.sim.volunteers import Run

FLEET, JOB, OUTPUT = "Who is there", "Their job", "Output"
STUDIES = ("loss", "chunks", "churn", "cheats")
PATIENCE = 3
"""A job that takes so many times as long as it should is told as it is then."""
FIGURE_INCHES, FIGURE_DPI = (9, 6), 120

EPILOG = """\b
Examples:
  zlb-sim jobs --peers 1000 --hours 1
  zlb-sim jobs --peers 100 --churn seti --disturbed --verify shares --json
  zlb-sim study loss
  zlb-sim study chunks --out studies

The same seed gives the same digest on any machine.
"""


@click.group("zlb-sim", context_settings=shared.CONTEXT_SETTINGS, epilog=EPILOG)
@shared.version_option("zlb-sim")
def sim() -> None:
    """Run peers and submitters, the code that runs elsewhere, on a modelled network and in virtual time."""


@sim.command("jobs", cls=shared.Command)
@option("--peers", heading=FLEET, type=types.CountType(), metavar="N", default=100, help="How many.")
@option("--seed", heading=FLEET, type=int, default=1, help="Decides all that is left to chance.")
@option(
    "--rate",
    heading=FLEET,
    type=click.FloatRange(min=0, min_open=True),
    metavar="PER_S",
    default=1000.0,
    help="Integers a second and slot of the median machine.",
)
@option(
    "--speed-sigma",
    heading=FLEET,
    type=click.FloatRange(min=0, max=3),
    metavar="SIGMA",
    default=0.8,
    help="Of their speeds, which are lognormal; 0: all are equal.",
)
@option("--slots", heading=FLEET, type=types.CountType(), metavar="N", default=1, help="Of each.")
@option(
    "--rtt",
    heading=FLEET,
    type=types.DurationType(),
    metavar="DUR",
    default="50ms",
    help="Median of the round trips with the submitter, lognormal too.",
)
@option("--disturbed", heading=FLEET, is_flag=True, help="Slow each to a quarter for 10 s every 200 s or so.")
@option(
    "--churn",
    heading=FLEET,
    type=click.Choice(["none", "seti"]),
    default="none",
    help="How they come and go: not at all, or as hosts of SETI@home did.",
)
@option(
    "--hours",
    heading=JOB,
    type=click.FloatRange(min=0, min_open=True, max=1000),
    metavar="H",
    default=1.0,
    help="How long it should take them, in virtual time.",
)
@option(
    "--verify",
    heading=JOB,
    type=click.Choice([str(method) for method in Method if method is not Method.QUORUM]),
    default=str(Method.NONE),
    help="How results are checked; samples are exact, so that each modelled integer then costs some 5 ns.",
)
@option(
    "--report",
    heading=JOB,
    type=types.DurationType(),
    metavar="DUR",
    show_default="1s, and above 100 peers N/100 times as long",
    help="Between a worker's reports.",
)
@option("--json", heading=OUTPUT, is_flag=True, help="One JSON object.")
@shared.version_option("zlb-sim jobs")
def jobs(churn: str, verify: str, hours: float, rtt: int, report: int | None, **given: Any) -> None:
    """Have one job done by many volunteers.

    Above 100 peers all that nodes do by the clock is done N/100 times as rarely, so that an hour takes minutes.
    """
    if given["peers"] > WORKERS_PER_JOB_MAX:
        raise click.UsageError(f"a job has at most {WORKERS_PER_JOB_MAX} workers")
    from zlb.sim.churn import SETI
    from zlb.sim.volunteers import Fleet, Volunteers

    fleet = Fleet(
        peers=given["peers"],
        seed=given["seed"],
        rate=given["rate"],
        sigma=given["speed_sigma"],
        slots=given["slots"],
        disturbed=given["disturbed"],
        churn=SETI if churn == "seti" else None,
        rtt_ns=max(rtt, MS // 1000),
        verify=Method(verify),
        report_ns=report,
    )
    began = time.perf_counter()
    run = Volunteers(fleet, fleet.expected(hours)).run(int(PATIENCE * hours * 3600 * SECOND))
    wall_s = time.perf_counter() - began
    click.echo(_as_json(run, wall_s) if given["json"] else "\n".join(_as_table(run, wall_s)))
    if run.status != "complete":
        raise ZlbError(f"the job is not complete after {PATIENCE} times {hours:g} h", ExitCode.FAILED)


@sim.command("study", cls=shared.Command)
@click.argument("name", metavar="[" + "|".join(STUDIES) + "]", type=click.Choice(STUDIES))
@option(
    "--out",
    heading=OUTPUT,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where NAME.csv and, with matplotlib, NAME.png go; without, there is only the table.",
)
@option("-q", "--quiet", heading=OUTPUT, is_flag=True, help="Do not say how far it is.")
@shared.version_option("zlb-sim study")
def study(name: str, out: Path | None, quiet: bool) -> None:
    """Answer one question with the simulator, the published or calculated answer beside it.

    loss: what does the death of one device cost? chunks: how large should subjobs be? churn: how much of what
    volunteers offer is used? cheats: how soon are they found out? Each takes minutes.
    """
    from importlib import import_module

    asked: Study = import_module(f"zlb.sim.studies.{name}").STUDY
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ZlbError(f"directory {out}: {error.strerror}", ExitCode.USAGE) from None
    rows = asked.run((lambda _line: None) if quiet else lambda line: click.echo(line, err=True))
    _show(asked, rows)
    if out is not None:
        _keep(asked, rows, out)


def _as_json(run: Run, wall_s: float) -> str:
    fields = {
        "peers": run.fleet.peers,
        "seed": run.fleet.seed,
        "status": run.status,
        "size": run.size,
        "done": run.done,
        "efficiency": run.efficiency,
        "recomputed": run.recomputed,
        "departures": run.departures,
        "messages": run.messages,
        "events": run.steps,
        "virtual_s": run.elapsed_ns / SECOND,
        "wall_s": wall_s,
        "digest": run.digest,
    }
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _as_table(run: Run, wall_s: float) -> list[str]:
    rows = [
        ("job", f"{run.status} after {human.seconds(run.elapsed_ns / SECOND)}"),
        ("done", f"{human.number(run.done)} of {human.number(run.size)}"),
        ("efficiency", f"{100 * run.efficiency:.2f} % of the available capacity"),
        ("recomputed", f"{human.number(run.recomputed)} ({human.share(run.recomputed, run.size)})"),
        ("departures", human.number(run.departures)),
        ("messages", human.number(run.messages)),
        ("events", f"{human.number(run.steps)}, {human.rate(run.steps / wall_s)}"),
        ("wall time", human.seconds(wall_s)),
        ("digest", run.digest),
    ]
    return [f"{name:<12}{value}" for name, value in rows]


def _show(asked: Study, rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=asked.question)
    for shown in asked.columns.values():
        table.add_column(shown.heading)
    for row in rows:
        table.add_row(*asked.cells(row))
    Console().print(table)


def _keep(asked: Study, rows: Sequence[Row], out: Path) -> None:
    """Write the rows as CSV, and the figure if there is something to draw it with."""
    from zlb.sim.studies.rows import as_csv

    try:
        (out / f"{asked.name}.csv").write_text(as_csv(rows))
    except OSError as error:
        raise ZlbError(f"file {out / asked.name}.csv: {error.strerror}", ExitCode.FAILED) from None
    try:
        import matplotlib as mpl
    except ImportError:
        click.echo("no figure: matplotlib is not installed (pip install 'zlb[bench]')", err=True)
        return
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=FIGURE_INCHES, layout="constrained")
    axes.set_title(asked.question)
    asked.draw(rows, axes)
    figure.savefig(out / f"{asked.name}.png", dpi=FIGURE_DPI)
    pyplot.close(figure)


def main() -> None:
    """The command `zlb-sim`."""
    sim(prog_name="zlb-sim")


if __name__ == "__main__":
    main()
