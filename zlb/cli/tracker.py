"""`zlb-tracker`: a member of the replicated tracker, and what people do with the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from zlb.cli import command as shared
from zlb.cli import human, members, types
from zlb.cli.command import option
from zlb.cli.exercise import exercise, judge
from zlb.cli.journal import Journal
from zlb.core.events import Event, NeighbourLost, NeighbourUp, RoleChanged
from zlb.core.ids import Endpoint, NodeId

if TYPE_CHECKING:
    from zlb.core.replica import Configuration

WHERE, CLUSTER, OUTPUT = "Where", "Its cluster", "Output"
DEFAULT_ID = NodeId("t1")

EPILOG = """\b
Examples:
  zlb-tracker --data t1 --bootstrap
  zlb-tracker --data a --listen tcp://127.0.0.1:7101 --cluster a=tcp://127.0.0.1:7101,b=tcp://127.0.0.1:7102,c=tcp://127.0.0.1:7103
  zlb tracker status --tracker tcp://127.0.0.1:7101
  zlb tracker add d=tcp://127.0.0.1:7104 --tracker tcp://127.0.0.1:7101

Ctrl-C or SIGTERM stops it, and leaves it a member: start it again with the same directory.
"""


class Group(shared.Command, click.Group):
    """Commands with a command in front of them: without a name it is the tracker itself."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under their headings, then the commands."""
        shared.Command.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(
    "tracker",
    cls=Group,
    invoke_without_command=True,
    context_settings=shared.CONTEXT_SETTINGS,
    epilog=EPILOG,
)
@option(
    "--data",
    heading=WHERE,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the log is kept; needed to start a tracker.",
)
@shared.listen_options(WHERE, types.DEFAULT_TRACKER, "Where peers, clients and the other trackers reach it.")
@option(
    "--cluster",
    heading=CLUSTER,
    type=types.MembersType(),
    metavar="ID=ENDPOINT,…",
    help="The founders, the same for all of them; for one that joins, who is there already.",
)
@option("--bootstrap", heading=CLUSTER, is_flag=True, help="A cluster of this tracker alone; more may join.")
@option(
    "--id",
    heading=CLUSTER,
    type=types.NodeNameType(),
    metavar="ID",
    show_default=f"who listens there in --cluster; alone {DEFAULT_ID}",
    help="Its name.",
)
@option(
    "--name",
    heading=CLUSTER,
    envvar="ZLB_CLUSTER_NAME",
    type=types.NodeNameType(),
    metavar="NAME",
    default="zlb",
    help="The cluster's name: trackers of another are refused.",
)
@option(
    "--election-timeout",
    heading=CLUSTER,
    type=types.DurationType(),
    metavar="DUR",
    default="500ms",
    help="Without a leader for so long, up to twice as long, another is elected; 150ms on a fast network.",
)
@option(
    "--adopt",
    heading=CLUSTER,
    is_flag=True,
    help="Take a directory that was moved or restored: its latest state, of which no other copy will ever run.",
)
@option("--json", heading=OUTPUT, is_flag=True, help="One JSON object per line.")
@shared.common_options(OUTPUT, quiet="Only say what went wrong.", verbose="Begin each line with the time.")
@shared.version_option("zlb-tracker")
@click.pass_context
def tracker(ctx: click.Context, /, **given: Any) -> None:
    """Keep the roster and the jobs, alone or as one of several: a majority of them must live.

    Jobs submitted with --tracker outlive any process. To talk about a running cluster, name a command.
    """
    if ctx.invoked_subcommand is not None:
        said = [name for name in given if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if said:
            option_name = "--" + said[0].replace("_", "-")
            raise click.UsageError(f"{option_name} starts a tracker; options of a command go behind it")
        return
    if given["data"] is None:
        raise click.UsageError("where is the log kept? Give --data DIR; or a command, see --help")
    from zlb.cli import run

    journal = TrackerJournal(given["json"], given["quiet"], given["verbose"])
    founders, endpoints = _cluster(given)
    run.track(
        run.Tracking(
            me=_name(given),
            cluster=given["name"],
            founders=founders,
            endpoints=endpoints,
            data=given["data"],
            adopt=given["adopt"],
            listen=given["listen"],
            insecure=given["insecure"],
            election_ns=given["election_timeout"],
        ),
        journal.on_event,
    )
    journal.bye()


def _cluster(given: dict[str, Any]) -> tuple[Configuration, dict[NodeId, Endpoint]]:
    """The founders, empty for one that joins, and where the others are."""
    from zlb.core.replica import Configuration

    others: dict[NodeId, Endpoint] = given["cluster"] or {}
    if given["bootstrap"] and others:
        raise click.UsageError("--bootstrap founds a cluster of one: it cannot go with --cluster")
    me = _name(given)
    if given["bootstrap"]:
        return Configuration((me,)), {}
    return Configuration(tuple(sorted(others)) if me in others else ()), others


def _name(given: dict[str, Any]) -> NodeId:
    if given["id"] is not None:
        return NodeId(given["id"])
    others: dict[NodeId, Endpoint] = given["cluster"] or {}
    if not others:
        return DEFAULT_ID
    for node, endpoint in others.items():
        if endpoint == given["listen"]:
            return node
    raise click.UsageError(
        f"nobody in --cluster listens on {given['listen']}: name this tracker's own --listen, or its --id"
    )


for each in (*members.ALL, exercise, judge):
    tracker.add_command(each)


class TrackerJournal(Journal):
    """A tracker's life: who leads, above all. Clients come and go every moment: that only with `verbose`."""

    _me = ""
    _last = ""

    def on_event(self, event: Event | Any) -> None:
        """Write what people or programs may want to know."""
        from zlb.cli.run import TrackerUp

        match event:
            case TrackerUp(node, endpoint, cluster, founders):
                self._me = node
                line = f"{node} listening on {endpoint}, cluster {cluster}"
                if founders:
                    line += f" of {human.count(founders, 'tracker')}"
                self.write("listening", line, node=node, endpoint=endpoint, cluster=cluster)
            case RoleChanged(role, term, leader):
                self._on_role(role, term, leader)
            case NeighbourUp() | NeighbourLost() if not (self.verbose or self.as_json):
                pass
            case _:
                super().on_event(event)

    def _on_role(self, role: str, term: int, leader: NodeId | None) -> None:
        """Who leads; that an election goes on is nobody's concern."""
        if role == "leader":
            line = f"{self._me} leads, term {term}"
        elif role == "follower" and leader is not None:
            line = f"{self._me} follows {leader}, term {term}"
        else:
            return
        if line != self._last:
            self._last = line
            self.write("role", line, role=role, term=term, leader=leader or self._me)


def main() -> None:
    """The command `zlb-tracker`."""
    tracker(prog_name="zlb-tracker")


if __name__ == "__main__":
    main()
