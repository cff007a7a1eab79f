"""`zlb jobs`, `zlb wait JOB` and the like, on a registry in this process: what they print, and how they end."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result

from zlb.cli.main import zlb
from zlb.cli.oracles import checker
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import JobId
from zlb.core.limits import HITS_PER_REPORT_MAX, MS
from zlb.core.work import StopRule
from zlb.protocols import commands
from zlb.protocols.examiner import share_pattern, share_word
from zlb.wire import values

Call = Callable[..., Result]

HIT = "828028\td95f19b5269418c0d4479fa61b8e7696aa8df197082b431a65ff37595c100000\n"
DIGEST = bytes.fromhex(HIT.split()[1])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- lists


def test_jobs(call: Call, tracked: Any) -> None:
    tracked.job("j-1", name="scan 7")
    tracked.work("j-1", count=1 << 18)
    tracked.job("j-2")
    tracked.apply(commands.Steer("j-2", commands.Status.CANCELLED))
    result = call("jobs")
    assert (result.exit_code, result.stderr) == (0, "")
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["JOB", "STATUS", "DONE", "HITS", "PRIORITY", "COORDINATOR", "AGE", "NAME"]
    assert re.fullmatch(r"j-1  running    25.0 %  1     5         p-3f         0\.\d+ s  scan 7", first)
    assert re.fullmatch(r"j-2  cancelled  0 %     0     5         -            .* s", second)
    assert tracked.endpoints == ("tcp://127.0.0.1:7101",)


def test_open_jobs_as_json(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    tracked.work("j-1", hits=())
    tracked.finish("j-1")
    tracked.job("j-2", name="x", spans=((0, 1 << 62), (1 << 63, 1 << 62)), submitted_wall_ns=10**18)
    (job,) = lines(call("jobs", "--open", "--json", "--tracker", "ipc://a", "--tracker", "ipc://b"))
    assert tracked.endpoints == ("ipc://a", "ipc://b")
    assert job == {
        "event": "job",
        "job": "j-2",
        "name": "x",
        "kernel": "sha256",
        "status": "running",
        "detail": "",
        "priority": 5,
        "coordinator": None,
        "epoch": 0,
        "size": str(1 << 63),
        "done": "0",
        "hits": "0",
        "tested": "0",
        "recomputed": "0",
        "elapsed_s": 0.0,
        "submitted": "2001-09-09T01:46:40Z",
    }


def test_nothing_to_list(call: Call, tracked: Any) -> None:
    for command, said in (("jobs", "no jobs\n"), ("jobs --open", "no open jobs\n"), ("peers", "no peers\n")):
        result = call(*command.split(), env={"ZLB_TRACKERS": "ipc://a,ipc://b"})
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", said)
        assert tracked.endpoints == ("ipc://a", "ipc://b")


def test_peers(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    tracked.work("j-1")
    head, peer = call("peers").stdout.splitlines()
    assert head.split() == ["PEER", "SLOTS", "MEMBER", "FOR", "ENDPOINT", "COORDINATES"]
    assert re.fullmatch(r"p-3f  2      0\.\d+ s +tcp://127.0.0.1:7001  j-1", peer)
    (as_json,) = lines(call("peers", "--json"))
    assert as_json.pop("member_s") > 0
    where = {"node": "p-3f", "endpoint": "tcp://127.0.0.1:7001"}
    assert as_json == {"event": "peer", **where, "slots": 2, "jobs": ["j-1"]}


# -- one job


def test_status(call: Call, tracked: Any) -> None:
    tracked.job("j-1", name="scan 7", within_ns=3600 * 10**9)
    tracked.work("j-1", count=1 << 18)
    said = call("status", "j-1").stdout.splitlines()
    assert said[:7] == [
        "job     j-1, scan 7",
        "status  running, priority 5",
        "range   [0, 1048576)",
        "kernel  sha256, encoding dec, match trailing",
        "goal    20 zero bits: 1.05 M tries for a hit on average",
        "stop    at the end of the range",
        "done    25.0 %: 262144 of 1048576 integers, 1 hit",
    ]
    assert said[8] == "peer    coordinated by p-3f, epoch 1"
    assert said[9].startswith("fails   if not done within another ")
    (job,) = lines(call("status", "j-1", "--json"))
    assert (job["ranges"], job["stop"], job["hits_wanted"]) == ([["0", "1048576"]], "all", "0")
    assert (job["deadline_s"], job["done"], job["coordinator"]) == (3600.0, "262144", "p-3f")


def test_status_of_a_kernel_that_is_not_here(call: Call, tracked: Any) -> None:
    tracked.job("j-1", kernel="nonsense", name="\x1b[31mred")
    said = call("status", "j-1").stdout
    assert "kernel  nonsense, which is not known here\n" in said
    assert "job     j-1, \\x1b[31mred\n" in said


def test_wait(call: Call, tracked: Any) -> None:
    tracked.job("j-1", name="scan 7")
    tracked.script = [tracked.join, lambda: tracked.work(count=1 << 18), tracked.finish]
    result = call("wait", "j-1", "-v")
    assert (result.exit_code, result.stdout) == (0, HIT)
    coordinates, summary = result.stderr.splitlines()
    assert coordinates == "p-3f coordinates it, epoch 1"
    assert re.fullmatch(
        r"scan 7 \(j-1\): complete, 1 hit; 262144 integers in 0\.\d+ s, .*/s, 25.0 % of the range", summary
    )


def test_wait_as_json(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    tracked.work()
    tracked.finish()
    accepted, hit, progress, done = lines(call("wait", "j-1", "--json", "-v"))
    wanted = {"event": "accepted", "job": "j-1", "range": ["0", "1048576"], "expected_hits": 1.0, "peers": 1}
    assert accepted == wanted
    assert hit == {"event": "hit", "job": "j-1", "n": "828028", "digest": DIGEST.hex(), "bits": 20}
    assert (progress["done"], "peers" in progress) == ("1048576", False)
    assert (done["status"], done["tested"], done["recomputed"]) == ("complete", "1048576", "0")


def test_more_hits_than_one_answer_holds(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    count = 2 * HITS_PER_REPORT_MAX + 1
    tracked.work(hits=tuple((n, DIGEST) for n in range(count)))
    tracked.finish()
    said = call("wait", "j-1", "-q").stdout.splitlines()
    assert [int(line.split("\t")[0]) for line in said] == list(range(count))


def test_no_more_hits_than_were_asked_for(call: Call, tracked: Any) -> None:
    tracked.job("j-1", rule=StopRule.COUNT, hits_wanted=2)
    tracked.work(hits=tuple((n, DIGEST) for n in (5, 3, 4)))
    tracked.finish(status="found")
    result = call("result", "j-1")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["5", "3"]
    assert "found, 2 hits;" in result.stderr


def test_wait_leaves_in_time(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    result = call("wait", "j-1", "--timeout", "50ms")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "j-1 goes on: zlb wait j-1\n"
    assert tracked.registry.open_jobs


def test_wait_outlives_the_trackers(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    tracked.work()
    why = ZlbError("no majority: a reaches 1 of 3 trackers, b, c missing", ExitCode.UNREACHABLE)

    def fail() -> None:
        tracked.errors = [why, why, why]

    tracked.script = [fail, tracked.finish]
    result = call("wait", "j-1")
    assert (result.exit_code, result.stdout) == (0, HIT)
    assert result.stderr.splitlines()[:2] == [
        f"{why}; j-1 goes on, and is asked for again",
        "the trackers answer again",
    ]


@pytest.mark.parametrize(
    ("status", "detail", "code"),
    [
        ("complete", "", 0),
        ("found", "", 0),
        ("exhausted", "", 3),
        ("failed", "its deadline has passed", 6),
        ("cancelled", "", 6),
    ],
)
@pytest.mark.parametrize("command", ["wait", "result"])
def test_how_jobs_end(call: Call, tracked: Any, command: str, status: str, detail: str, code: int) -> None:
    tracked.job("j-1")
    tracked.work()
    tracked.finish("j-1", status, detail)
    result = call(command, "j-1")
    assert (result.exit_code, result.stdout) == (code, HIT)
    assert f"j-1: {status}{f' ({detail})' if detail else ''}, 1 hit;" in result.stderr


def test_result_of_a_running_job(call: Call, tracked: Any) -> None:
    tracked.job("j-1")
    tracked.work(count=1 << 18)
    result = call("result", "j-1")
    assert (result.exit_code, result.stdout) == (4, HIT)
    assert result.stderr == "j-1 has not ended, it is running: 1 hit after 25.0 % of the range\n"


def test_hits_of_a_kernel_that_is_not_here(call: Call, tracked: Any) -> None:
    tracked.job("j-1", kernel="nonsense")
    tracked.work()
    tracked.finish()
    assert call("result", "j-1").stdout == HIT
    accepted, hit, _ = lines(call("result", "j-1", "--json"))
    assert (accepted["expected_hits"], hit["bits"]) == (None, None)


def test_hits_of_a_rolled_header(call: Call, tracked: Any) -> None:
    merkle = "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    prefix = bytes.fromhex("01000000" + "00" * 32 + merkle + "29ab5f49ffff001d")
    params = {"prefix": prefix, "encoding": "u32le", "match": "bitcoin", "versions": 4, "difficulty": 9}
    spans = ((4 * 2083236000, 4000),)
    tracked.job("j-1", kernel="sha256d", params=values.pack(params), spans=spans)
    tracked.work("j-1", 4 * 2083236000, 4000, ((8332947572, DIGEST),))
    tracked.finish()
    assert call("result", "j-1").stdout == f"2083236893\t{DIGEST.hex()}\t00000001\n"
    accepted, hit, _ = lines(call("result", "j-1", "--json"))
    assert (accepted["range"], accepted["versions"]) == (["2083236000", "2083237000"], 4)
    assert (hit["nonce"], hit["version"]) == ("2083236893", "00000001")


# -- steering


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        ("cancel j-1", "j-1 is cancelled\n", "cancelled"),
        ("pause j-1", "j-1 is paused\n", "paused"),
        ("resume j-1", "j-1 is running\n", "running"),
        ("priority j-1 9", "j-1 has priority 9\n", "running"),
    ],
)
def test_steering(call: Call, tracked: Any, arguments: str, said: str, status: str) -> None:
    tracked.job("j-1")
    result = call(*arguments.split())
    assert (result.exit_code, result.stdout, result.stderr) == (0, said, "")
    ((_, once),) = tracked.told
    assert once
    (job,) = lines(call(*arguments.split(), "--json"))
    assert (job["event"], job["job"], job["status"]) == ("job", "j-1", status)
    assert job["priority"] == (9 if "priority" in arguments else 5)


@pytest.mark.parametrize("command", ["status", "wait", "result", "cancel", "pause", "resume", "priority"])
def test_there_is_no_such_job(call: Call, tracked: Any, command: str) -> None:
    result = call(command, "j-XYZ", *(["5"] if command == "priority" else []))
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr == f"zlb {command}: there is no such job: j-XYZ\n"


@pytest.mark.parametrize("command", ["pause", "resume", "priority"])
def test_a_job_that_has_ended(call: Call, tracked: Any, command: str) -> None:
    tracked.job("j-1")
    tracked.apply(commands.Steer("j-1", commands.Status.CANCELLED))
    result = call(command, "j-1", *(["5"] if command == "priority" else []))
    assert (result.exit_code, result.stderr) == (6, f"zlb {command}: the job has ended: j-1\n")


@pytest.mark.parametrize("command", ["jobs", "peers", "status j-1", "result j-1", "wait j-1", "cancel j-1"])
def test_no_tracker_answers(call: Call, tracked: Any, command: str) -> None:
    tracked.errors = [ZlbError("no tracker answers at ipc://t", ExitCode.UNREACHABLE)]
    result = call(*command.split())
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == f"zlb {command.split(maxsplit=1)[0]}: no tracker answers at ipc://t\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("status", "Missing argument 'JOB'"),
        ("wait a://b", "is no job's id, which looks like j-7Q2MXK"),
        ("cancel jö", "is no job's id"),
        ("priority j-1", "Missing argument 'N'"),
        ("priority j-1 10", "'10' is no priority: 0 to 9"),
        ("priority j-1 high", "'high' is no priority: 0 to 9"),
        ("wait j-1 --timeout soon", "'soon' is no duration"),
        ("jobs --tracker nonsense", "is no endpoint"),
        ("jobs j-1", "unexpected extra argument"),
    ],
)
def test_usage_errors(call: Call, tracked: Any, arguments: str, error: str) -> None:
    result = call(*arguments.split())
    assert result.exit_code == 2
    assert error in result.stderr
    assert not tracked.told


# -- completion


def offered(arguments: str, incomplete: str = "") -> list[str]:
    complete = ShellComplete(zlb, {}, "zlb", "_ZLB_COMPLETE")
    return [item.value for item in complete.get_completions(arguments.split(), incomplete)]


def test_completion_of_jobs(tracked: Any) -> None:
    for job in ("j-1", "j-2", "k-3"):
        tracked.job(job)
    tracked.apply(commands.Steer("j-2", commands.Status.CANCELLED))
    tracked.apply(commands.Steer("j-1", commands.Status.PAUSED))
    for command in ("cancel", "pause", "resume", "wait", "priority"):
        assert offered(command) == ["k-3", "j-1"]
    for command in ("status", "result"):
        assert offered(command, "j") == ["j-2", "j-1"]
    assert offered("status --tracker ipc://t", "x") == []
    assert (tracked.endpoints, tracked.patience_ns) == (("ipc://t",), 500 * MS)


def test_completion_without_an_answer(tracked: Any) -> None:
    for command in ("status", "tracker remove"):
        tracked.errors = [ZlbError("no tracker answers", ExitCode.UNREACHABLE)]
        assert offered(command) == []


# -- certificates


def certified(tracked: Any) -> None:
    """A job of 256 integers that is to be certified, and what p-3f has done of it."""
    params, start, count = values.pack({"difficulty": 20}), 827_904, 256
    tracked.job(spans=((start, count),), certified=True)
    tracked.join()
    tracked.apply(commands.Assign("j-1", "p-3f", 1))
    word = checker("sha256", params).word
    pattern = share_pattern(share_word(JobId("j-1"), params), 7)
    shares = tuple(n for n in range(start, start + count) if word(n) & 7 == pattern.value)
    row = commands.WireRow(start, count, "p-3f", pattern, shares)
    hits = ((828_028, DIGEST),)
    tracked.apply(commands.Checkpoint("j-1", 1, ((start, count),), hits, count, 0, (), 1, (row,)))


def test_result_writes_the_certificate_of_a_job_that_has_ended(
    call: Call, tracked: Any, tmp_path: Path
) -> None:
    certified(tracked)
    file, home = str(tmp_path / "job.cert"), str(tmp_path)
    wanted = "result", "j-1", "--certificate", file, "--state-dir", home
    assert call(*wanted).exit_code == 4 and not Path(file).exists()
    tracked.finish()
    result = call(*wanted)
    assert (result.exit_code, result.stdout) == (0, HIT)
    assert result.stderr.endswith(f"certificate: zlb verify {file}\n")
    verified = call("verify", file, "--state-dir", home)
    assert verified.exit_code == 0 and "verdict good, signed by this machine's key" in verified.stdout
    assert "coordinated by p-3f" in verified.stdout


def test_a_job_submitted_without_one_has_no_certificate(call: Call, tracked: Any, tmp_path: Path) -> None:
    tracked.job("j-1")
    tracked.work()
    tracked.finish()
    result = call("result", "j-1", "--certificate", str(tmp_path / "job.cert"))
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr == "zlb result: the job was submitted without --certificate: j-1\n"


def test_a_job_with_too_much_evidence_has_its_hits_but_no_certificate(
    call: Call, tracked: Any, tmp_path: Path
) -> None:
    certified(tracked)
    tracked.registry.evidence.clear()
    tracked.finish()
    result = call("result", "j-1", "--certificate", str(tmp_path / "c"), "--state-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (6, HIT)
    assert result.stderr.endswith("zlb result: the job has more evidence than trackers keep: j-1\n")


def test_a_certificate_takes_the_kernel(call: Call, tracked: Any, tmp_path: Path) -> None:
    tracked.job("j-1", kernel="nonsense", certified=True)
    tracked.work(hits=())
    result = call("result", "j-1", "--certificate", str(tmp_path / "c"), "--state-dir", str(tmp_path))
    assert result.exit_code == 6
    assert result.stderr.startswith("zlb result: no certificate: no kernel is named 'nonsense'; ")


def test_a_submitted_job_is_certified_when_it_has_ended(call: Call, tracked: Any, tmp_path: Path) -> None:
    file = tmp_path / "job.cert"

    def work() -> None:
        (job,) = tracked.registry.jobs
        tracked.join()
        tracked.apply(commands.Assign(job, "p-3f", 1))
        row = commands.WireRow(0, 300, "p-3f", None, ())
        tracked.apply(commands.Checkpoint(job, 1, ((0, 300),), (), 300, 0, (), 1, (row,)))
        tracked.finish(job)

    tracked.script = [work]
    asked = "submit", "--tracker", "ipc://t", "-d", "200", "--all", "-r", ":300"
    result = call(*asked, "--certificate", str(file), "--state-dir", str(tmp_path))
    assert result.exit_code == 0 and result.stderr.endswith(f"certificate: zlb verify {file}\n")
    verified = call("verify", str(file), "--state-dir", str(tmp_path))
    assert verified.exit_code == 0 and "but for 100 % of it there is the peers' word alone" in verified.stdout


def test_a_detached_job_is_certified_later(call: Call, tracked: Any, tmp_path: Path) -> None:
    file = tmp_path / "job.cert"
    asked = "submit", "--tracker", "ipc://t", "-d", "9", "--detach"
    result = call(*asked, "--certificate", str(file), "--state-dir", str(tmp_path))
    job = result.stdout.strip()
    assert result.exit_code == 0 and tracked.registry.jobs[job].spec.certified and not file.exists()
    assert f"certificate: zlb result {job} --certificate {file}\n" in result.stderr
    assert "certificate" not in call(*asked, "--certificate", str(file), "-q").stderr


def test_a_job_that_ended_before_anybody_coordinated_it_has_an_empty_certificate(
    call: Call, tracked: Any, tmp_path: Path
) -> None:
    tracked.job(certified=True)
    tracked.apply(commands.Steer("j-1", commands.Status.CANCELLED))
    file, home = str(tmp_path / "job.cert"), str(tmp_path)
    assert call("result", "j-1", "--certificate", file, "--state-dir", home).exit_code == 6
    verified = call("verify", file, "--state-dir", home)
    assert verified.exit_code == 0 and "coordinated by nobody" in verified.stdout
