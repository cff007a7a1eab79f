"""`zlb submit --tracker`, on a registry in this process: what is put into the log, and how it is followed."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.work import StopRule
from zlb.protocols import commands
from zlb.wire import values

Call = Callable[..., Result]

DIGEST = "d95f19b5269418c0d4479fa61b8e7696aa8df197082b431a65ff37595c100000"
HEADER = "01000000" + "00" * 64 + "29ab5f49" + "ffff001d" + "1dac2b7c"
AT = ("--tracker", "ipc://t")


@pytest.fixture
def tracked(tracked: Any) -> Any:
    """Trackers one of whose peers does the job as soon as it is looked at."""

    def work() -> None:
        (job,) = tracked.registry.open_jobs
        tracked.work(job)
        tracked.finish(job)

    tracked.join()
    tracked.script = [lambda: None, work]
    return tracked


def submitted(tracked: Any) -> commands.Submit:
    (command, once), *_ = tracked.told
    assert isinstance(command, commands.Submit)
    assert not once
    return command


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.split("Error: ", 1)[1].strip()


def test_plain(call: Call, tracked: Any) -> None:
    result = call("submit", "-d", "20", "-r", ":2^20", "--all", *AT)
    assert (result.exit_code, result.stdout) == (0, f"828028\t{DIGEST}\n")
    job = submitted(tracked)
    assert result.stderr.startswith(f"{job.job}: complete, 1 hit; 1.05 M integers in ")
    assert result.stderr.endswith("/s, 100 % of the range\n")
    assert tracked.endpoints == ("ipc://t",)
    assert (job.key, job.name, job.kernel) == (job.job, "", "sha256")
    assert (job.spans, job.rule, job.hits_wanted) == (((0, 1 << 20),), StopRule.ALL, 0)
    assert values.unpack(job.params) == {"difficulty": 20}
    assert (job.priority, job.within_ns, job.chunk_ns, job.chunk_count) == (5, 0, 0, 0)
    assert job.submitted_wall_ns > 0


def test_options(call: Call, tracked: Any) -> None:
    more = "--priority 9 --deadline 5m --chunk 250ms --name scan -r 5:7 -r 9:12 -n 3"
    assert call("submit", "-d", "20", *more.split(), *AT).exit_code == 0
    job = submitted(tracked)
    assert (job.priority, job.within_ns, job.chunk_ns, job.chunk_count) == (9, 300 * 10**9, 250 * 10**6, 0)
    assert (job.name, job.spans, job.rule, job.hits_wanted) == ("scan", ((5, 2), (9, 3)), StopRule.COUNT, 3)


@pytest.mark.parametrize(("chunk", "expected"), [("1s", (10**9, 0)), ("4Mi", (0, 1 << 22))])
def test_a_chunk_that_was_named(call: Call, tracked: Any, chunk: str, expected: tuple[int, int]) -> None:
    call("submit", "-d", "20", "--chunk", chunk, *AT)
    assert (submitted(tracked).chunk_ns, submitted(tracked).chunk_count) == expected


def test_json(call: Call, tracked: Any) -> None:
    result = call("submit", "-d", "20", "-r", ":2^20", "--all", "--json", *AT)
    accepted, hit, done = map(json.loads, result.stdout.splitlines())
    job = submitted(tracked).job
    size = {"range": ["0", "1048576"], "expected_hits": 1.0}
    assert accepted == {"event": "accepted", "job": job, **size, "peers": 1}
    assert hit == {"event": "hit", "job": job, "n": "828028", "digest": DIGEST, "bits": 20}
    assert (done["status"], done["tested"], done["recomputed"]) == ("complete", "1048576", "0")


def test_detach(call: Call, tracked: Any) -> None:
    result = call("submit", "-d", "20", "--detach", *AT)
    job = submitted(tracked).job
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{job}\n", "")
    (accepted,) = map(json.loads, call("submit", "-d", "20", "--detach", "--json", *AT).stdout.splitlines())
    assert (accepted["event"], accepted["peers"]) == ("accepted", 1)
    assert len(tracked.registry.open_jobs) == 2


def test_no_peer_has_joined(call: Call, tracked: Any) -> None:
    tracked.apply(commands.Leave(("p-3f",)))
    said = "no peer has joined yet: the job waits for one\n"
    assert call("submit", "-d", "20", "--detach", *AT).stderr == said
    assert call("submit", "-d", "20", "--detach", "-q", *AT).stderr == ""


def test_timeout_cancels(call: Call, tracked: Any) -> None:
    tracked.script = []
    result = call("submit", "-d", "20", "--timeout", "50ms", *AT)
    assert (result.exit_code, result.stdout) == (4, "")
    assert ": timeout, 0 hits;" in result.stderr
    command, once = tracked.told[-1]
    assert (command, once) == (commands.Steer(submitted(tracked).job, commands.Status.CANCELLED), True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels(call: Call, tracked: Any, number: signal.Signals) -> None:
    tracked.script = [lambda: signal.raise_signal(number)]
    result = call("submit", "-d", "20", *AT)
    assert (result.exit_code, result.stdout) == (130, "")
    assert ": cancelled (interrupted), 0 hits;" in result.stderr
    assert not tracked.registry.open_jobs


def test_what_ended_meanwhile_is_not_cancelled(call: Call, tracked: Any) -> None:
    tell = tracked.tell

    def late(command: commands.Command, once: bool = False) -> object:
        if once:
            (job,) = tracked.registry.open_jobs
            tracked.work(job)
            tracked.finish(job, "found")
        return tell(command, once)

    tracked.tell = late
    tracked.script = [lambda: signal.raise_signal(signal.SIGINT)]
    result = call("submit", "-d", "20", "-r", ":2^20", *AT)
    assert (result.exit_code, result.stdout) == (0, f"828028\t{DIGEST}\n")


def test_a_job_that_cannot_be_cancelled(call: Call, tracked: Any) -> None:
    why = ZlbError("no tracker answers at ipc://t", ExitCode.UNREACHABLE)

    def leave() -> None:
        signal.raise_signal(signal.SIGINT)
        tracked.errors = [why]

    tracked.script = [leave]
    result = call("submit", "-d", "20", *AT)
    job = submitted(tracked).job
    assert result.exit_code == 5
    assert result.stderr == f"zlb submit: {why}; {job} could not be cancelled and goes on: zlb cancel {job}\n"


def test_nobody_takes_it(call: Call, tracked: Any) -> None:
    tracked.errors = [ZlbError("no tracker answers at ipc://t", ExitCode.UNREACHABLE)]
    result = call("submit", "-d", "20", "--json", *AT)
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == "zlb submit: no tracker answers at ipc://t\n"
    tracked.errors, tracked.linked = [ZlbError("no majority", ExitCode.UNREACHABLE)], True
    said = call("submit", "-d", "20", *AT).stderr
    assert said.startswith("zlb submit: no majority; should it have got through, zlb cancel j-")


def test_a_refusal(call: Call, tracked: Any) -> None:
    tracked.errors = [ZlbError("it is too large", ExitCode.FAILED)]
    result = call("submit", "-d", "20", *AT)
    assert (result.exit_code, result.stderr) == (6, "zlb submit: it is too large\n")


def test_too_many_spans_for_one_entry(call: Call, tracked: Any) -> None:
    ranges = [word for n in range(4) for word in ("-r", f"{20 * n}:+10")]
    result = call("submit", "--header", HEADER, "--roll-version", "64Ki", "-d", "9", *ranges, *AT)
    assert (result.exit_code, result.stdout) == (6, "")
    limit = "ranges and parameters together take 256 KiB at most, these "
    assert result.stderr.startswith(f"zlb submit: it is too large: {limit}")
    assert not tracked.told


# -- where


@pytest.mark.parametrize(
    ("arguments", "env", "where"),
    [
        ("--tracker ipc://t --tracker ipc://u", {}, "trackers ipc://t ipc://u"),
        ("", {"ZLB_TRACKERS": "ipc://t,ipc://u"}, "trackers ipc://t ipc://u"),
        ("", {"ZLB_TRACKERS": "ipc://t", "ZLB_PEERS": "ipc://p"}, "trackers ipc://t"),
        ("--tracker ipc://u", {"ZLB_PEERS": "ipc://p"}, "trackers ipc://u"),
        ("--peer ipc://q", {"ZLB_TRACKERS": "ipc://t"}, "peers ipc://q"),
        ("--local 2", {"ZLB_TRACKERS": "ipc://t"}, "this process, 2 threads"),
    ],
)
def test_where_it_runs(call: Call, arguments: str, env: dict[str, str], where: str) -> None:
    said = call("submit", "-d", "20", "--dry-run", *arguments.split(), env=env).stdout
    assert f"grid    {where}\n" in said


def test_the_plan_as_json(call: Call) -> None:
    plan = json.loads(call("submit", "-d", "20", "--dry-run", "--json", *AT).stdout)
    assert (plan["trackers"], plan["peers"]) == (["ipc://t"], [])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--tracker ipc://t --peer ipc://p", "--tracker has its own peers: it cannot go with --peer"),
        ("--tracker ipc://t --local", "--tracker has its own peers: it cannot go with --local"),
        ("--detach", "--detach goes with --tracker only"),
        ("--priority 0", "--priority goes with --tracker only"),
        ("--deadline 5s", "--deadline goes with --tracker only"),
        ("--tracker ipc://t --detach --timeout 5", "--timeout cannot go with --detach"),
        ("--tracker ipc://t --priority 10", "'10' is no priority: 0 to 9"),
        ("--tracker ipc://t --priority -1", "'-1' is no priority: 0 to 9"),
        (f"--tracker ipc://t --name {'x' * 513}", "--name has at most 512 characters"),
        ("--tracker ipc://t --name \x1b[31m", "is to be printable"),
        ("--tracker ipc://t -e u64le -r 0:2^64", "--range: a job at trackers has fewer than 2**64 integers"),
        ("--tracker nonsense", "is no endpoint"),
    ],
)
def test_usage_errors(call: Call, tracked: Any, arguments: str, error: str) -> None:
    assert error in refused(call("submit", "-d", "20", *arguments.split(" ")))
    assert not tracked.told
