"""Many seeds of the simulator, one line each when asked; stops at the first failure. `bin/sweep --help`."""

from __future__ import annotations

import sys

import click

from zlb.sim import grid, replicas, tracked
from zlb.sim.weather import FAULT_MIX


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--first", default=0, help="First seed.")
@click.option("--seeds", default=1000, help="How many seeds.")
@click.option(
    "--room", type=click.Choice(["grid", "replicas", "tracked"]), default="grid", help="What is simulated."
)
@click.option(
    "--faults",
    type=click.Choice(["seed", "mix"]),
    default="seed",
    help="In the grid: the seed's weather, or every message lost, doubled and overtaken with 20 % each.",
)
@click.option("-v", "--verbose", is_flag=True, help="One line a seed: digest, effects, what it came to.")
def main(first: int, seeds: int, room: str, faults: str, verbose: bool) -> None:
    """Run simulated peers and jobs, replicas of a log, or both, under SEEDS different weathers and check everything."""
    if faults != "seed" and room != "grid":
        raise click.UsageError("only the grid takes --faults")
    run = {"grid": _mixed if faults == "mix" else _grid, "replicas": _replicas, "tracked": _tracked}[room]
    for seed in range(first, first + seeds):
        try:
            line = run(seed)
        except (grid.GridFailure, replicas.ReplicasFailure, tracked.TrackedFailure) as failure:
            click.echo(str(failure), err=True)
            sys.exit(6)
        if verbose:
            click.echo(line)
    click.echo(f"{seeds} seeds passed")


def _grid(seed: int) -> str:
    return _told(grid.run(seed))


def _mixed(seed: int) -> str:
    return _told(grid.run(seed, weather=FAULT_MIX))


def _told(outcome: grid.Outcome) -> str:
    ended = " ".join(f"{job}={status}" for job, status in outcome.ended.items())
    sent = f"{outcome.topology} {outcome.sent} sent {outcome.lost} lost {outcome.late} late"
    did = f"{outcome.digest} {outcome.effects} {ended} {sent} {outcome.recomputed} again"
    return f"{outcome.seed} {did} {outcome.virtual_ns / 1e9:.1f}s"


def _replicas(seed: int) -> str:
    outcome = replicas.run(seed)
    did = f"{outcome.operations} operations, {outcome.terms} terms"
    return f"{seed} {outcome.digest} {outcome.effects} {did} {outcome.virtual_ns / 1e9:.1f}s"


def _tracked(seed: int) -> str:
    outcome = tracked.run(seed)
    ended = " ".join(f"{job}={status}" for job, status in outcome.ended.items())
    did = f"{outcome.epochs} epochs, {outcome.again} again"
    return f"{seed} {outcome.digest} {outcome.effects} {ended} {did} {outcome.virtual_ns / 1e9:.1f}s"


if __name__ == "__main__":
    main()
