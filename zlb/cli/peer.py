"""`zlb-peer`: lends this machine's cores to whoever submits a job, until it is told to stop."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from zlb.cli import command as shared
from zlb.cli import human, types
from zlb.cli.command import option
from zlb.cli.journal import Journal
from zlb.core.events import Event, WorkerAccused
from zlb.drivers.manners import NICE_DEFAULT, Manners

WHERE, LENT, WHEN, OUTPUT = "Where", "What is lent", "When", "Output"

EPILOG = """\b
Examples:
  zlb-peer
  zlb-peer --listen tcp://127.0.0.1:7002 --peer tcp://127.0.0.1:7001 --slots 2
  zlb-peer --tracker tcp://127.0.0.1:7101 --tracker tcp://127.0.0.1:7102
  zlb-peer --idle-only --max-cpu 50 --quiet-hours 22:00-07:00

Ctrl-C or SIGTERM hands back what is half done and says goodbye.
"""


@click.command("peer", cls=shared.Command, context_settings=shared.CONTEXT_SETTINGS, epilog=EPILOG)
@shared.listen_options(WHERE, types.DEFAULT_PEER, "Where others reach this peer; port * takes a free one.")
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
@shared.tracker_option(WHERE, "A tracker to enrol with; repeatable: any of them will do.")
@option(
    "--slots",
    heading=LENT,
    type=types.SlotsType(),
    metavar="N",
    show_default="one per core",
    help="Worker threads.",
)
@option(
    "--max-cpu",
    heading=LENT,
    type=types.PercentType(),
    metavar="PERCENT",
    default=100,
    help="How much of the time each slot may compute.",
)
@option(
    "--nice",
    heading=LENT,
    type=types.NiceType(),
    metavar="N",
    default=NICE_DEFAULT,
    help="How far computing stands back, 0 to 19.",
)
@option(
    "--max-rtt",
    heading=LENT,
    type=types.DurationType(),
    metavar="DUR",
    show_default="any",
    help="Work for nobody whose answers take longer.",
)
@option(
    "--idle-only",
    heading=WHEN,
    is_flag=True,
    help="Rest while somebody uses this machine, or it runs on its battery.",
)
@option(
    "--quiet-hours",
    heading=WHEN,
    type=types.QuietType(),
    multiple=True,
    metavar="HH:MM-HH:MM",
    help="Rest then, in local time, across midnight perhaps; repeatable.",
)
@shared.state_dir_option(LENT, "Identity, measured rates, compiled kernels.")
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

    manners = Manners(
        share=given["max_cpu"] / 100,
        nice=given["nice"],
        idle_only=given["idle_only"],
        quiet=tuple(dict.fromkeys(given["quiet_hours"])),
    )
    journal = PeerJournal(given["json"], given["quiet"], given["verbose"])
    with shared.kernel_notes(partial(click.echo, err=True), given["quiet"] or given["json"]):
        run.serve(
            run.Serving(
                listen=given["listen"],
                publish=given["publish"],
                peers=tuple(dict.fromkeys(given["peer"])),
                trackers=tuple(dict.fromkeys(given["tracker"])),
                slots=given["slots"] or None,
                state_dir=run.state_dir(given["state_dir"]),
                insecure=given["insecure"],
                manners=manners,
                rtt_ns_max=given["max_rtt"],
            ),
            journal.on_event,
        )
    journal.bye()


class PeerJournal(Journal):
    """A peer's life."""

    def on_event(self, event: Event | Any) -> None:
        """Write what people or programs may want to know."""
        from zlb.cli.run import Listening

        match event:
            case Listening():
                slots = human.count(event.slots, "slot")
                line = f"{event.node} listening on {event.endpoint}, {slots}"
                self.write("listening", line, node=event.node, endpoint=event.endpoint, slots=event.slots)
            case WorkerAccused(job, node, why, again):  # of a job that it coordinates
                line = human.accusation(node, why, f"job {job}", again)
                self.write("accused", line, job=job, peer=node, why=why, again=str(again))
            case _:
                super().on_event(event)


def main() -> None:
    """The command `zlb-peer`."""
    peer(prog_name="zlb-peer")


if __name__ == "__main__":
    main()
