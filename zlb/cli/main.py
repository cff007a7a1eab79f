"""`zlb`: all commands under one name."""

from __future__ import annotations

import click

from zlb.cli import command as shared
from zlb.cli.peer import peer
from zlb.cli.submit import submit


@click.group("zlb", context_settings=shared.CONTEXT_SETTINGS)
@shared.version_option("zlb")
def zlb() -> None:
    """A volunteer compute grid: start peers, submit searches to them."""


@zlb.command("kernels", cls=shared.Command)
@shared.version_option("zlb kernels")
def kernels() -> None:
    """List the installed kernels, one name per line."""
    from zlb.kernels import kernel_names

    for name in kernel_names():
        click.echo(name)


zlb.add_command(submit)
zlb.add_command(peer)


def main() -> None:
    """The command `zlb`."""
    zlb(prog_name="zlb")


if __name__ == "__main__":
    main()
