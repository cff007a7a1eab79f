"""Many seeds of the simulator, one line each when asked; stops at the first failure. `bin/sweep --help`."""

from __future__ import annotations

import sys

import click

from zlb.sim import grid


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--first", default=0, help="First seed.")
@click.option("--seeds", default=1000, help="How many seeds.")
@click.option("-v", "--verbose", is_flag=True, help="One line a seed: digest, effects, how the jobs ended.")
def main(first: int, seeds: int, verbose: bool) -> None:
    """Run the simulated grid under SEEDS different weathers and check everything."""
    for seed in range(first, first + seeds):
        try:
            outcome = grid.run(seed)
        except grid.GridFailure as failure:
            click.echo(str(failure), err=True)
            sys.exit(6)
        if verbose:
            ended = " ".join(f"{job}={status}" for job, status in outcome.ended.items())
            click.echo(f"{seed} {outcome.digest} {outcome.effects} {ended} {outcome.virtual_ns / 1e9:.1f}s")
    click.echo(f"{seeds} seeds passed")


if __name__ == "__main__":
    main()
