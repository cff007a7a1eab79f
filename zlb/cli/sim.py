"""`zlb-sim`: whole production nodes in virtual time, thousands of them, and studies of what they do."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import human, types
from zlb.cli.command import option
from zlb.core.config import Method
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.limits import INTEGERS_MAX, MS, RATE_MAX, SECOND, SLOTS_MAX, WORKERS_PER_JOB_MAX

if TYPE_CHECKING:
    from zlb.sim.studies.rows import Row, Study
    from zlb.sim.volunteers import Fleet, Run, Volunteers

FLEET, JOB, OUTPUT = "Who is there", "Their job", "Output"
STUDIES = ("loss", "chunks", "churn", "cheats")
PATIENCE = 3
"""A job that takes so many times as long as it should is told as it is then."""
RATE_MIN = 1e-3
"""Of an integer that takes longer than a quarter of an hour, a second one is not waited for."""
HOURS_MIN = 1e-6
"""Some milliseconds: less than a message takes."""
SEED_MAX = (1 << 32) - 1
TOLD_EVERY_S = 0.5
"""Of a run, on a terminal."""
FILE_COLUMNS = 120
"""Of a table that does not go to a terminal."""
FIGURE_INCHES, FIGURE_DPI = (9, 6), 120
SETTINGS = {**shared.CONTEXT_SETTINGS, "auto_envvar_prefix": "ZLB_SIM"}
"""Of its own: `ZLB_PEERS` are endpoints, not a number."""

EPILOG = """\b
Examples:
  zlb-sim jobs --peers 1000 --hours 1
  zlb-sim jobs --peers 100 --churn seti --disturbed --verify shares --json
  zlb-sim study loss
  zlb-sim study chunks --out studies

The same seed gives the same digest, with the same Python and C library.
"""


class FiniteRange(click.FloatRange):
    """A number with bounds, and not one of those that are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return float(number)


@click.group("sim", context_settings=SETTINGS, epilog=EPILOG)
@shared.version_option("zlb-sim")
def sim() -> None:
    """Run peers and submitters on a modelled network and in virtual time: the code that runs elsewhere, unchanged."""


@sim.command("jobs", cls=shared.Command, context_settings=SETTINGS)
@option("--peers", heading=FLEET, type=types.CountType(), metavar="N", default=100, help="How many.")
@option(
    "--seed",
    heading=FLEET,
    type=click.IntRange(0, SEED_MAX),
    metavar="N",
    default=1,
    help="Decides all that is left to chance.",
)
@option(
    "--rate",
    heading=FLEET,
    type=FiniteRange(RATE_MIN, RATE_MAX),
    metavar="PER_S",
    default=1000.0,
    help="Integers a second and slot of the median machine.",
)
@option(
    "--speed-sigma",
    heading=FLEET,
    type=FiniteRange(0, 3),
    metavar="SIGMA",
    default=0.8,
    help="Of their speeds, which are lognormal; 0: all are equal.",
)
@option(
    "--slots",
    heading=FLEET,
    type=click.IntRange(1, SLOTS_MAX),
    metavar="N",
    default=1,
    help="Of each.",
)
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
    type=FiniteRange(HOURS_MIN, 1000),
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
@option("--json", heading=OUTPUT, is_flag=True, help="One JSON object; docs/simulator.md tells its fields.")
@option("-q", "--quiet", heading=OUTPUT, is_flag=True, help="Do not say how far it is, on a terminal.")
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
    _check(fleet, hours)
    began = time.perf_counter()
    look = _teller(given["quiet"])
    run = Volunteers(fleet, fleet.expected(hours)).run(int(PATIENCE * hours * 3600 * SECOND), look)
    look(None)
    wall_s = time.perf_counter() - began
    click.echo(_as_json(run, wall_s) if given["json"] else "\n".join(_as_table(run, wall_s)))
    if run.status != "complete":
        raise ZlbError(f"the job is not complete after {PATIENCE} times {hours:g} h", ExitCode.FAILED)


@sim.command("study", cls=shared.Command, context_settings=SETTINGS)
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
        _make_ready(out, name)
    rows = asked.run((lambda _line: None) if quiet else lambda line: click.echo(line, err=True))
    _show(asked, rows)
    if out is not None:
        _keep(asked, rows, out)


def _check(fleet: Fleet, hours: float) -> None:
    """Refuse what no job can be, or no peer may say."""
    fastest = max(map(fleet.rate_of, fleet.names))
    if fastest > RATE_MAX:
        raise click.UsageError(f"the fastest of them would test {fastest:.2g} integers a second")
    if (size := fleet.expected(hours)) >= INTEGERS_MAX:
        raise click.UsageError(f"that is a job of {size:.2g} integers, and they end at 2**64")


def _teller(quiet: bool) -> Callable[[Volunteers | None], None]:
    """What says how far a run is, in one line that it writes anew, and takes away when it is given none."""
    if quiet or not _is_terminal():
        return lambda _room: None
    told_at = 0.0

    def tell(room: Volunteers | None) -> None:
        nonlocal told_at
        now = time.perf_counter()
        if room is None:
            click.echo("\r\x1b[K", err=True, nl=False)
        elif now - told_at >= TOLD_EVERY_S:
            told_at = now
            done = human.share(room.submitter.coordinator.ledger.done.measure, room.job.size)
            virtual = human.seconds(room.world.now / SECOND)
            click.echo(f"\r\x1b[K{done} done after {virtual} of virtual time", err=True, nl=False)

    return tell


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _as_json(run: Run, wall_s: float) -> str:
    fields = {
        "event": "simulated",
        "peers": run.fleet.peers,
        "seed": run.fleet.seed,
        "status": run.status,
        "size": str(run.size),
        "done": str(run.done),
        "efficiency": run.efficiency,
        "recomputed": str(run.recomputed),
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
        table.add_column(shown.heading, overflow="fold")
    for row in rows:
        table.add_row(*asked.cells(row))
    Console(width=None if sys.stdout.isatty() else FILE_COLUMNS).print(table)


def _make_ready(out: Path, name: str) -> None:
    """Make the directory, and see that it can be written to: a study takes minutes."""
    from tempfile import TemporaryFile

    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
        for path in (out / f"{name}.csv", out / f"{name}.png"):
            if path.is_dir():
                raise IsADirectoryError(EISDIR, f"{path.name} is a directory")
    except OSError as error:
        raise ZlbError(f"directory {out}: {error.strerror or error}", ExitCode.USAGE) from None


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written whole or not at all: as a draft, which then gets its name."""
    path = Path(os.path.realpath(path))
    draft = path.with_name(f".zlb-{secrets.token_hex(6)}.tmp")
    try:
        try:
            write(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ZlbError(f"file {path}: {error.strerror or error}", ExitCode.FAILED) from None


def _keep(asked: Study, rows: Sequence[Row], out: Path) -> None:
    """Write the rows as CSV, and the figure if there is something to draw it with."""
    from zlb.sim.studies.rows import as_csv

    _write(out / f"{asked.name}.csv", lambda draft: draft.write_text(as_csv(rows)))
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
    try:
        _write(out / f"{asked.name}.png", lambda draft: figure.savefig(draft, dpi=FIGURE_DPI, format="png"))
    finally:
        pyplot.close(figure)


def main() -> None:
    """The command `zlb-sim`."""
    sim(prog_name="zlb-sim")


if __name__ == "__main__":
    main()
