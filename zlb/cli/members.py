"""`zlb tracker status`, `add`, `remove`, `transfer`, `snapshot`: what people do with a running cluster of trackers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import human, types
from zlb.cli.command import option
from zlb.cli.live_ids import MemberType
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import MS, SECOND

if TYPE_CHECKING:
    from zlb.cli.trackers import Trackers
    from zlb.protocols.steering import Member, Steering, TrackerState

AT = "Trackers"
LOOK_NS = 100 * MS
"""Between two looks at a cluster that is changing."""
REPEAT_NS = 2 * SECOND
"""Before the same is asked for again: a leader that hands over takes no commands for an election timeout."""
HEAD = ("TRACKER", "ROLE", "LINK", "BEHIND", "ENDPOINT")


def _member() -> Callable[[shared.Function], shared.Function]:
    return click.argument("node", type=MemberType(), metavar="ID")


def _timeout(default: str = "60s") -> Callable[[shared.Function], shared.Function]:
    return option(
        "--timeout",
        heading=AT,
        type=types.DurationType(),
        metavar="DUR",
        default=default,
        help="Wait no longer than that; exit code 4.",
    )


@shared.subcommand("status")
@shared.asking(AT, "One JSON object.")
@shared.version_option("zlb tracker status")
def status(**given: Any) -> None:
    """Tell who is a member, who leads, how far the log is; without a majority, who is missing (exit code 5)."""
    with _trackers(given) as trackers:
        state = trackers.state()
    for line in [_state_json(state)] if given["json"] else _state_lines(state):
        click.echo(line)
    if not state.leader:
        raise ZlbError(_why_no_leader(state), ExitCode.UNREACHABLE)


@shared.subcommand("add")
@click.argument("member", type=types.MembersType(), metavar="ID=ENDPOINT")
@_timeout()
@shared.asking(AT, "One JSON object per step.")
@shared.version_option("zlb tracker add")
def add(**given: Any) -> None:
    """Make a tracker a member. Start it first, with --id ID, its --listen, and the others in --cluster.

    It gets the log, and votes once it has it.
    """
    from zlb.protocols import steering

    if len(given["member"]) > 1:
        raise click.UsageError("one at a time: a cluster changes step by step")
    ((node, endpoint),) = given["member"].items()
    with _trackers(given) as trackers:
        say = _Steps(node, given["json"])
        for state in _states(trackers, given["timeout"], lambda: _not_yet(node, endpoint, say.last)):
            member = _member_of(state, node)
            if member is None:
                say("added", f"{node} is to be a member")
                say.steer(trackers, steering.Add(node, endpoint))
            elif member.endpoint not in ("", endpoint):
                raise ZlbError(f"{node} is a member already, at {member.endpoint}", ExitCode.FAILED)
            elif not member.votes:
                say("learner", f"{node} is a member, and gets the log")
            else:
                say("voter", f"{node} votes: {_voters(state)}")
                return


@shared.subcommand("remove")
@_member()
@_timeout()
@shared.asking(AT, "One JSON object per step.")
@shared.version_option("zlb tracker remove")
def remove(**given: Any) -> None:
    """Let a tracker be a member no more; if it runs, it ends."""
    from zlb.protocols import steering

    node: NodeId = given["node"]
    with _trackers(given) as trackers:
        say = _Steps(node, given["json"])
        for state in _states(
            trackers,
            given["timeout"],
            lambda: f"{node} is still a member: is the cluster busy with another change",
        ):
            if _member_of(state, node) is not None:
                say("removing", f"{node} is to be no member")
                say.steer(trackers, steering.Remove(node))
            elif not say.last:
                raise _no_such(node, state)
            else:
                say("removed", f"{node} is out: {_voters(state)}")
                return


@shared.subcommand("transfer")
@_member()
@_timeout("10s")
@shared.asking(AT, "One JSON object per step.")
@shared.version_option("zlb tracker transfer")
def transfer(**given: Any) -> None:
    """Let another tracker lead."""
    from zlb.protocols import steering

    node: NodeId = given["node"]
    with _trackers(given) as trackers:
        say = _Steps(node, given["json"])
        for state in _states(trackers, given["timeout"], lambda: f"{node} does not lead: is it there"):
            member = _member_of(state, node)
            if member is None:
                raise _no_such(node, state)
            if not member.votes:
                raise ZlbError(f"{node} does not vote yet, so it cannot lead", ExitCode.FAILED)
            if state.leader == node:
                say("leads", f"{node} leads, term {state.term}")
                return
            say("transferring", f"{state.leader} is to hand over to {node}")
            say.steer(trackers, steering.Transfer(node))


@shared.subcommand("snapshot")
@shared.asking(AT, "One JSON object.")
@shared.version_option("zlb tracker snapshot")
def snapshot(**given: Any) -> None:
    """Have the leader make a snapshot now, and let go of the log before it."""
    from zlb.protocols import steering

    with _trackers(given) as trackers:
        _leading(trackers.state())
        trackers.steer(steering.Cut())
        state = trackers.state()
    say = _Steps(NodeId(state.node), given["json"])
    say("snapshot", f"{state.node} has a snapshot up to entry {state.snapshot}", entry=str(state.snapshot))


ALL = (status, add, remove, transfer, snapshot)


class _Steps:
    """Says each step once, and asks for it again only after a while."""

    def __init__(self, node: NodeId, as_json: bool) -> None:
        self.last = ""
        self._again_at = 0
        self._node, self._json = node, as_json

    def __call__(self, step: str, words: str, **fields: str) -> None:
        if step == self.last:
            return
        self.last = step
        line = {"event": step, "node": self._node, **fields}
        click.echo(json.dumps(line, separators=(",", ":")) if self._json else words)

    def steer(self, trackers: Trackers, asked: Steering) -> None:
        """Have it done, unless it is being done already, or the cluster is busy with another change."""
        from zlb.protocols.raft.machine import Refusal

        if time.monotonic_ns() < self._again_at:
            return
        try:
            trackers.steer(asked)
        except ZlbError as error:
            if str(error) not in (Refusal.CHANGE_PENDING, Refusal.NO_CHANGE, Refusal.NOT_CAUGHT_UP):
                raise
        else:
            self._again_at = time.monotonic_ns() + REPEAT_NS


def _states(trackers: Trackers, timeout_ns: int, why: Callable[[], str]) -> Iterator[TrackerState]:
    """How the leader is, again and again; in the end `ZlbError` (TIMEOUT) with `why`."""
    by = time.monotonic_ns() + timeout_ns
    state = _leading(trackers.state())
    while True:
        yield state
        if time.monotonic_ns() >= by:
            raise ZlbError(f"{why()}? Given up after {human.seconds(timeout_ns / SECOND)}", ExitCode.TIMEOUT)
        _pause()
        state = trackers.state()
        while not state.leader and time.monotonic_ns() < by:  # an election: who led may just have left
            _pause()
            state = trackers.state()
        _leading(state)


def _pause() -> None:
    """Between two looks; a signal ends it."""
    threading.Event().wait(LOOK_NS / SECOND)


def _leading(state: TrackerState) -> TrackerState:
    if not state.leader:
        raise ZlbError(_why_no_leader(state), ExitCode.UNREACHABLE)
    return state


def _not_yet(node: NodeId, endpoint: Endpoint, step: str) -> str:
    if step == "learner":
        return f"{node} is a member, but has not got the log: does it run, and listen on {endpoint}"
    return f"{node} is no member yet: is the cluster busy with another change"


def _no_such(node: NodeId, state: TrackerState) -> ZlbError:
    there = ", ".join(member.node for member in state.members)
    return ZlbError(f"there is no tracker {node}: the members are {there}", ExitCode.FAILED)


def _member_of(state: TrackerState, node: NodeId) -> Member | None:
    return next((member for member in state.members if member.node == node), None)


def _voters(state: TrackerState) -> str:
    voters = [member.node for member in state.members if member.votes]
    return f"{human.count(len(voters), 'voter')}, {', '.join(voters)}"


def _why_no_leader(state: TrackerState) -> str:
    """As a tracker itself says it."""
    voters = [member for member in state.members if member.votes]
    if not voters:
        return f"{state.node} is no member of the cluster yet"
    missing = [member.node for member in voters if not member.linked]
    reached = f"{state.node} reaches {len(voters) - len(missing)} of {len(voters)} trackers"
    if 2 * len(missing) < len(voters):
        return f"no leader yet: {reached}"
    return f"no majority: {reached}, {', '.join(missing)} missing"


def _state_lines(state: TrackerState) -> list[str]:
    log = f"entries {state.first} to {state.last}, {state.committed} committed, "
    log += f"snapshot up to {state.snapshot}" if state.snapshot else "no snapshot"
    rows = [
        ("cluster", f"{state.cluster}, as {state.node} sees it"),
        ("leader", f"{state.leader or 'nobody'}, term {state.term}"),
        ("log", log),
        ("peers", human.number(state.peers)),
        ("jobs", f"{state.jobs}, {state.open_jobs} open"),
        ("asks", f"{state.waiting} waiting"),
    ]
    return [f"{label:8} {text}" for label, text in rows] + human.table(
        HEAD, [_member_row(state, member) for member in state.members]
    )


def _member_row(state: TrackerState, member: Member) -> tuple[str, ...]:
    role = "leader" if member.node == state.leader else "voter" if member.votes else "learner"
    behind = _behind(state, member)
    return (
        member.node,
        role,
        "up" if member.linked else "down",
        "-" if behind is None else str(behind),
        human.text(member.endpoint) or "-",
    )


def _behind(state: TrackerState, member: Member) -> int | None:
    """Entries it lacks, which only the leader knows."""
    return max(state.last - member.match, 0) if state.leader == state.node else None


def _state_json(state: TrackerState) -> str:
    fields: dict[str, object] = {
        "event": "tracker",
        "node": state.node,
        "cluster": state.cluster,
        "role": state.role,
        "leader": state.leader or None,
        "term": state.term,
        "first": str(state.first),
        "last": str(state.last),
        "committed": str(state.committed),
        "snapshot": str(state.snapshot) if state.snapshot else None,
        "peers": state.peers,
        "jobs": state.jobs,
        "open_jobs": state.open_jobs,
        "waiting": state.waiting,
    }
    fields["members"] = [
        {
            "node": member.node,
            "endpoint": member.endpoint or None,
            "votes": member.votes,
            "linked": member.linked,
            "behind": None if (behind := _behind(state, member)) is None else str(behind),
        }
        for member in state.members
    ]
    if not state.leader:
        fields["why"] = _why_no_leader(state)
    return json.dumps(fields, separators=(",", ":"))


def _trackers(given: dict[str, Any]) -> Trackers:
    from zlb.cli import trackers

    return trackers.Trackers(tuple(dict.fromkeys(given["tracker"])))
