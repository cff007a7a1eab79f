"""`zlb-peer`: lends this machine's cores to whoever submits a job, until it is told to stop."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import human, types
from zlb.cli.command import option
from zlb.core.events import Event, NeighbourLost, NeighbourRefused, NeighbourUp, Notice

if TYPE_CHECKING:
    from zlb.cli.run import Listening

WHERE, LENT, OUTPUT = "Where", "What is lent", "Output"

EPILOG = """\b
Examples:
  zlb-peer
  zlb-peer --listen tcp://127.0.0.1:7002 --peer tcp://127.0.0.1:7001 --slots 2

Ctrl-C or SIGTERM hands back what is half done and says goodbye.
"""


@click.command("peer", cls=shared.Command, context_settings=shared.CONTEXT_SETTINGS, epilog=EPILOG)
@option(
    "--listen",
    heading=WHERE,
    type=types.EndpointType(listening=True),
    metavar="ENDPOINT",
    default=types.DEFAULT_PEER,
    help="Where others reach this peer; port * takes a free one.",
)
@option(
    "--publish",
    heading=WHERE,
    type=types.EndpointType(listening=True),
    metavar="ENDPOINT",
    show_default="a free port of the same host",
    help="Where it publishes its load.",
)
@option(
    "--peer",
    heading=WHERE,
    type=types.EndpointType(),
    multiple=True,
    envvar="ZLB_PEERS",
    show_envvar=True,
    metavar="ENDPOINT",
    help="A neighbour to dial; repeatable.",
)
@option(
    "--insecure",
    heading=WHERE,
    is_flag=True,
    help="Listen beyond this machine although nothing is encrypted and anyone may come.",
)
@option(
    "--slots",
    heading=LENT,
    type=types.SlotsType(),
    metavar="N",
    show_default="one per core",
    help="Worker threads.",
)
@option(
    "--state-dir",
    heading=LENT,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    show_envvar=True,
    show_default="the platform's place",
    help="Identity, measured rates, compiled kernels.",
)
@option(
    "--json",
    heading=OUTPUT,
    is_flag=True,
    help="One JSON object per line.",
)
@shared.common_options(OUTPUT, quiet="Only say what went wrong.", verbose="Begin each line with the time.")
@shared.version_option("zlb-peer")
def peer(**given: Any) -> None:
    """Work for jobs that others submit, and tell neighbours how busy this machine is.

    Says on stdout when it listens, who comes and goes, and what it could not do.
    """
    from zlb.cli import run

    journal = Journal(given["json"], given["quiet"], given["verbose"])
    with shared.kernel_notes(partial(click.echo, err=True), given["quiet"] or given["json"]):
        run.serve(
            given["listen"],
            given["publish"],
            tuple(dict.fromkeys(given["peer"])),
            given["slots"] or None,
            given["state_dir"] or run.default_state_dir(),
            given["insecure"],
            journal.on_event,
        )
    journal.bye()


class Journal:
    """A peer's life on stdout, line by line."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self._json, self._quiet, self._verbose = as_json, quiet, verbose

    def on_event(self, event: Event | Listening) -> None:
        """Write what people or programs may want to know."""
        from zlb.cli.run import Listening

        match event:
            case Listening():
                slots = human.count(event.slots, "slot")
                line = f"{event.node} listening on {event.endpoint}, {slots}"
                self._write("listening", line, node=event.node, endpoint=event.endpoint, slots=event.slots)
            case NeighbourUp(node):
                self._write("joined", f"{node} joined", node=node)
            case NeighbourLost(node, reason):
                self._write("left", f"{node} left: {reason}", node=node, reason=reason)
            case NeighbourRefused(where, code, detail):
                line = f"{where} refused: {detail}"
                self._write("refused", line, where=where, code=int(code), detail=detail)
            case Notice(text):
                self._write("notice", text, text=text)

    def bye(self) -> None:
        """The last line."""
        self._write("stopped", "bye")

    def _write(self, event: str, line: str, **fields: int | str) -> None:
        if self._quiet:
            return
        if self._json:
            line = json.dumps({"event": event, **fields}, separators=(",", ":"))
        elif self._verbose:
            line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}"
        click.echo(line)


def main() -> None:
    """The command `zlb-peer`."""
    peer(prog_name="zlb-peer")


if __name__ == "__main__":
    main()
