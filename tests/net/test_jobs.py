"""Jobs at three real trackers: followed, left, found again, steered; and the cluster itself changed meanwhile."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from zlb.cli.main import zlb as command

LOWEST = ("-d", "20", "--lowest", "-r", ":4M")
ENDLESS = ("-d", "200", "--all", "-r", ":2**60", "--chunk", "100ms")


def test_submit_and_come_back(cluster: Any) -> None:
    answer = cluster("submit", *LOWEST, "--detach")
    assert (answer.code, answer.err) == (0, "no peer has joined yet: the job waits for one\n")
    job = answer.out.strip()
    peer = cluster.peer()
    waited = cluster("wait", job)
    assert (waited.code, waited.integers) == (0, [828028])
    assert f"{job}: found, 1 hit;" in waited.err
    again = cluster("result", job, "--json")
    assert [event["event"] for event in again.events] == ["accepted", "hit", "done"]
    assert (again.code, again.events[1]["n"], "peer" in again.events[1]) == (0, "828028", False)
    followed = cluster("submit", *LOWEST, "--json", "--name", "second")
    assert [event["event"] for event in followed.events] == ["accepted", "hit", "done"]
    assert (followed.code, followed.events[0]["peers"], followed.done["status"]) == (0, 1, "found")
    first, second = cluster("jobs", "--json").events
    assert (first["job"], first["status"], first["name"]) == (job, "found", "")
    assert (second["job"], second["name"]) == (followed.done["job"], "second")
    assert not cluster("jobs", "--open", "--json").events
    (line,) = cluster("peers", "--json").events
    assert (line["node"], line["endpoint"], line["slots"]) == (peer.node, peer.endpoint, 1)


def test_a_job_outlives_its_client(cluster: Any, client: Callable) -> None:
    cluster.peer()
    killed = client(*LOWEST, "--json", "--chunk", "50ms", *cluster.at)
    job = killed.wait_for_event("accepted")["job"]
    killed.end(signal.SIGKILL)
    assert cluster("wait", job).integers == [828028]
    stopped = client(*ENDLESS, "--json", *cluster.at)
    job = stopped.wait_for_event("accepted")["job"]
    assert stopped.end(signal.SIGINT) == 130
    assert cluster.job(job)["status"] == "cancelled"
    late = cluster("submit", *ENDLESS, "--timeout", "300ms")
    assert (late.code, ": timeout, " in late.err) == (4, True)
    assert not cluster("jobs", "--open", "--json").events


def test_steering(cluster: Any) -> None:
    cluster.peer()
    job = cluster.submit(*ENDLESS, "--priority", "2")
    while int(cluster.job(job)["done"]) == 0:
        pass
    assert cluster("pause", job).out == f"{job} is paused\n"
    still = cluster.job(job)
    while (paused := cluster.job(job))["done"] != still["done"]:  # what was being searched is still reported
        still = paused
    assert (paused["status"], paused["priority"], paused["epoch"]) == ("paused", 2, 1)
    assert cluster("priority", job, "7").code == 0
    assert cluster("resume", job).out == f"{job} is running\n"
    while int((running := cluster.job(job))["done"]) <= int(paused["done"]):
        pass
    assert (running["status"], running["priority"]) == ("running", 7)
    unfinished = cluster("result", job)
    assert (unfinished.code, unfinished.out) == (4, "")
    left = cluster("wait", job, "--timeout", "100ms")
    assert (left.code, left.err) == (4, f"{job} goes on: zlb wait {job}\n")
    offered = ShellComplete(command, {}, "zlb", "_ZLB_COMPLETE").get_completions
    assert [item.value for item in offered(["cancel", *cluster.at], "")] == [job]
    assert [item.value for item in offered(["tracker", "remove", *cluster.at], "")] == ["a", "b", "c"]
    assert cluster("cancel", job).out == f"{job} is cancelled\n"
    assert cluster("wait", job).code == 6
    assert not offered(["cancel", *cluster.at], "")
    missing = cluster("cancel", "j-XYZ")
    assert (missing.code, missing.err) == (6, "zlb cancel: there is no such job: j-XYZ\n")


def test_the_cluster_changes(cluster: Any) -> None:
    cluster.start("d")
    added = cluster("tracker", "add", f"d={cluster.endpoints['d']}")
    assert (added.code, added.out.splitlines()[-1]) == (0, "d votes: 4 voters, a, b, c, d")
    moved = cluster("tracker", "transfer", "a")
    assert (moved.code, cluster.state()["leader"]) == (0, "a")
    job = cluster.submit(*ENDLESS)
    said = cluster("tracker", "snapshot", "--json").events[-1]
    assert said["node"] == "a"
    assert int(said["entry"]) > 0
    removed = cluster("tracker", "remove", "b")
    assert (removed.code, removed.out.splitlines()[-1]) == (0, "b is out: 3 voters, a, c, d")
    assert cluster.trackers["b"].popen.wait(60) == 0
    assert [member["node"] for member in cluster.state()["members"]] == ["a", "c", "d"]
    assert cluster.job(job)["status"] == "running"


@pytest.mark.slow
def test_without_a_majority(cluster: Any, spawn: Callable, zlb: Callable) -> None:
    cluster.peer()
    job = cluster.submit(*LOWEST, "--chunk", "20ms")
    cluster.kill("b", "c")
    status = cluster("tracker", "status")
    while "b, c missing" not in status.err:  # a link is missed after a while
        status = cluster("tracker", "status")
    why = "no majority: a reaches 1 of 3 trackers, b, c missing"
    assert (status.code, status.err) == (5, f"zlb tracker status: {why}\n")
    jobs = cluster("jobs")
    assert (jobs.code, jobs.out, jobs.err) == (5, "", f"zlb jobs: {why}\n")
    cluster.start("b")
    assert cluster("wait", job).integers == [828028]


@pytest.mark.parametrize("command", ["jobs", "tracker status"])
def test_an_endpoint_that_is_a_peers(peer: Callable, zlb: Callable, command: str) -> None:
    only = peer()
    answer = zlb(*command.split(), "--tracker", only.endpoint)
    assert (answer.code, answer.out) == (5, "")
    assert answer.err == f"zlb {command}: {only.endpoint} is a peer, no tracker\n"
