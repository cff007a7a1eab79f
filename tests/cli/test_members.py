"""`zlb tracker status`, `add`, `remove`, `transfer`, `snapshot`: steps, refusals, and who is missing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result

from zlb.cli import members
from zlb.cli.main import zlb
from zlb.core.errors import ExitCode, ZlbError
from zlb.protocols import steering
from zlb.protocols.raft.machine import Refusal

Call = Callable[..., Result]


def state(leader: str = "a", *learners: str, voters: str = "abc", down: str = "") -> steering.TrackerState:
    """As the leader says it, or without one as `a` does."""
    known = [
        steering.Member(node, f"tcp://127.0.0.1:710{number}", node in voters, node not in down, 90 - number)
        for number, node in enumerate([*voters, *learners])
    ]
    node = leader or "a"
    role = "leader" if leader else "follower"
    return steering.TrackerState(node, "zlb", role, 3, leader, tuple(known), 1, 90, 88, 40, 2, 1, 5, 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "LOOK_NS", 1000)


def test_status(call: Call, tracked: Any) -> None:
    tracked.states = [state("a", "d", down="c")]
    result = call("tracker", "status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "cluster  zlb, as a sees it",
        "leader   a, term 3",
        "log      entries 1 to 90, 88 committed, snapshot up to 40",
        "peers    2",
        "jobs     5, 1 open",
        "asks     0 waiting",
        "TRACKER  ROLE     LINK  BEHIND  ENDPOINT",
        "a        leader   up    0       tcp://127.0.0.1:7100",
        "b        voter    up    1       tcp://127.0.0.1:7101",
        "c        voter    down  2       tcp://127.0.0.1:7102",
        "d        learner  up    3       tcp://127.0.0.1:7103",
    ]


def test_status_as_json(call: Call, tracked: Any) -> None:
    tracked.states = [state("a", voters="a")]
    said = json.loads(call("tracker", "status", "--json").stdout)
    (member,) = said.pop("members")
    where = "tcp://127.0.0.1:7100"
    assert member == {"node": "a", "endpoint": where, "votes": True, "linked": True, "behind": "0"}
    log = {"first": "1", "last": "90", "committed": "88", "snapshot": "40"}
    who = {"event": "tracker", "node": "a", "cluster": "zlb", "role": "leader", "leader": "a", "term": 3}
    assert said == {**who, **log, "peers": 2, "jobs": 5, "open_jobs": 1, "waiting": 0}


@pytest.mark.parametrize(
    ("down", "why"),
    [
        ("bc", "no majority: a reaches 1 of 3 trackers, b, c missing"),
        ("b", "no leader yet: a reaches 2 of 3 trackers"),
    ],
)
def test_status_without_a_leader(call: Call, tracked: Any, down: str, why: str) -> None:
    tracked.states = [state("", down=down)]
    result = call("tracker", "status")
    assert (result.exit_code, result.stderr) == (5, f"zlb tracker status: {why}\n")
    assert "leader   nobody, term 3\n" in result.stdout
    assert json.loads(call("tracker", "status", "--json").stdout)["why"] == why
    assert call("tracker", "remove", "b").stderr == f"zlb tracker remove: {why}\n"


def test_add(call: Call, tracked: Any) -> None:
    tracked.states = [state(), state("a", "d"), state("a", "d"), state(voters="abcd")]
    result = call("tracker", "add", "d=tcp://127.0.0.1:7103")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "d is to be a member",
        "d is a member, and gets the log",
        "d votes: 4 voters, a, b, c, d",
    ]
    assert tracked.steered == [steering.Add("d", "tcp://127.0.0.1:7103")]


def test_add_again(call: Call, tracked: Any) -> None:
    tracked.states = [state()]
    result = call("tracker", "add", "c=tcp://127.0.0.1:7102", "--json")
    assert (result.exit_code, result.stdout) == (0, '{"event":"voter","node":"c"}\n')
    assert not tracked.steered


def test_add_with_another_endpoint_than_the_member_has(call: Call, tracked: Any) -> None:
    tracked.states = [state()]
    result = call("tracker", "add", "c=tcp://127.0.0.1:7999")
    said = "zlb tracker add: c is a member already, at tcp://127.0.0.1:7102\n"
    assert (result.exit_code, result.stderr) == (6, said)


def test_add_somebody_who_is_not_there(call: Call, tracked: Any) -> None:
    tracked.states = [state(), state("a", "d", down="d")]
    result = call("tracker", "add", "d=tcp://127.0.0.1:7103", "--timeout", "50ms")
    assert result.exit_code == 4
    why = "d is a member, but has not got the log: does it run, and listen on tcp://127.0.0.1:7103?"
    assert result.stderr == f"zlb tracker add: {why} Given up after 50 ms\n"


def test_a_change_waits_for_another(call: Call, tracked: Any) -> None:
    tracked.states = [state(), state(), state(voters="ab")]
    tracked.errors = []
    busy = ZlbError(Refusal.CHANGE_PENDING.value, ExitCode.FAILED)
    refusals = iter([busy])

    def steer(asked: steering.Steering) -> bytes:
        if (error := next(refusals, None)) is not None:
            raise error
        tracked.steered.append(asked)
        return b""

    tracked.steer = steer
    result = call("tracker", "remove", "c")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["c is to be no member", "c is out: 2 voters, a, b"]
    assert tracked.steered == [steering.Remove("c")]


def test_remove_the_leader(call: Call, tracked: Any) -> None:
    tracked.states = [state("a"), state("", voters="bc", down="c"), state("b", voters="bc")]
    result = call("tracker", "remove", "a")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "a is out: 2 voters, b, c")


def test_transfer(call: Call, tracked: Any) -> None:
    tracked.states = [state("a"), state(""), state("b")]
    result = call("tracker", "transfer", "b")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "a is to hand over to b\nb leads, term 3\n"
    assert tracked.steered == [steering.Transfer("b")]
    assert call("tracker", "transfer", "b").stdout == "b leads, term 3\n"


def test_transfer_that_fails(call: Call, tracked: Any) -> None:
    tracked.states = [state("a", "d")]
    result = call("tracker", "transfer", "b", "--timeout", "20ms")
    assert result.exit_code == 4
    assert result.stderr == "zlb tracker transfer: b does not lead: is it there? Given up after 20 ms\n"
    assert "d does not vote yet" in call("tracker", "transfer", "d").stderr


@pytest.mark.parametrize("command", ["remove", "transfer"])
def test_there_is_no_such_tracker(call: Call, tracked: Any, command: str) -> None:
    tracked.states = [state()]
    result = call("tracker", command, "z")
    assert result.exit_code == 6
    assert result.stderr == f"zlb tracker {command}: there is no tracker z: the members are a, b, c\n"


def test_a_refusal(call: Call, tracked: Any) -> None:
    tracked.states = [state(voters="a")]
    tracked.steer = lambda asked: (_ for _ in ()).throw(ZlbError(Refusal.LAST_VOTER.value, ExitCode.FAILED))
    result = call("tracker", "remove", "a")
    assert (result.exit_code, result.stderr) == (6, "zlb tracker remove: the last voter cannot leave\n")


def test_snapshot(call: Call, tracked: Any) -> None:
    tracked.states = [state()]
    assert call("tracker", "snapshot").stdout == "a has a snapshot up to entry 40\n"
    said = call("tracker", "snapshot", "--json").stdout
    assert json.loads(said) == {"event": "snapshot", "node": "a", "entry": "40"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("add", "Missing argument 'ID=ENDPOINT'"),
        ("add d", "'d' is not ID=ENDPOINT"),
        ("add d=nonsense", "is no endpoint"),
        ("add d=ipc://d,e=ipc://e", "one at a time"),
        ("remove", "Missing argument 'ID'"),
        ("transfer a=b", "'a=b' is no name"),
        ("nonsense", "No such command 'nonsense'"),
    ],
)
def test_usage_errors(call: Call, tracked: Any, arguments: str, error: str) -> None:
    result = call("tracker", *arguments.split())
    assert result.exit_code == 2
    assert error in result.stderr


def test_completion(tracked: Any) -> None:
    tracked.states = [state("a", "d")]
    complete = ShellComplete(zlb, {}, "zlb", "_ZLB_COMPLETE")
    items = complete.get_completions(["tracker", "remove"], "")
    assert [item.value for item in items] == ["a", "b", "c", "d"]
    assert items[0].help == "tcp://127.0.0.1:7100"
