"""`zlb`: all commands under one name."""

from __future__ import annotations

from typing import Any

import click

from zlb.cli import command as shared
from zlb.cli.jobs import ALL as JOBS
from zlb.cli.keys import keys
from zlb.cli.peer import peer
from zlb.cli.submit import submit
from zlb.cli.tracker import tracker
from zlb.cli.verify import verify


@click.group("zlb", context_settings=shared.CONTEXT_SETTINGS)
@shared.version_option("zlb")
def zlb() -> None:
    """A volunteer compute grid: start peers and trackers, submit searches to them, come back to jobs."""


@zlb.command("kernels", cls=shared.Command)
@shared.version_option("zlb kernels")
def kernels() -> None:
    """List the installed kernels, one name per line."""
    from zlb.kernels import kernel_names

    for name in kernel_names():
        click.echo(name)


class _Simulator(click.Command):
    """`zlb-sim`, loaded when it is called: the others start without it."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Its own context, so that all else is its own too."""
        from zlb.cli.sim import sim

        return sim.make_context(*args, **extra)


zlb.add_command(_Simulator("sim", help="Run peers and submitters on a modelled network and in virtual time."))
for each in (submit, peer, tracker, *JOBS, keys, verify):
    zlb.add_command(each)


def main() -> None:
    """The command `zlb`."""
    zlb(prog_name="zlb")


if __name__ == "__main__":
    main()
