"""`zlb submit`: what goes to stdout, what to stderr, and how it ends."""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from zlb.cli import run
from zlb.cli import submit as submit_module
from zlb.cli.report import zero_bits
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import (
    HitFound,
    NeighbourLost,
    NeighbourRefused,
    NeighbourUp,
    Notice,
    WorkerAccused,
)

Call = Callable[..., Result]

HIT = "828028\td95f19b5269418c0d4479fa61b8e7696aa8df197082b431a65ff37595c100000\n"
SECOND = 10**9


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_plain(submit: Call, grid: Any) -> None:
    result = submit("-d", "20")
    assert (result.exit_code, result.stdout) == (0, HIT)
    assert result.stderr == (
        f"{grid.job.id}: found, 1 hit; 1.05 M integers in 0.41 s, 2.56 M/s, 1 peer, < 0.1 % of the range\n"
    )


def test_quiet(submit: Call) -> None:
    result = submit("-d", "20", "-q")
    assert (result.stdout, result.stderr) == (HIT, "")


def test_a_name_is_shown(submit: Call, grid: Any) -> None:
    assert submit("-d", "20", "--name", "scan 7").stderr.startswith(f"scan 7 ({grid.job.id}): found")


def test_who_was_found_out_is_told(submit: Call, grid: Any) -> None:
    accusations = ("did not find 17, which it had to", 4096), ("reported a hit that is none", 0)
    grid.script = lambda job: [WorkerAccused(job, "p-1", why, again) for why, again in accusations]
    said = submit("-d", "20").stderr.splitlines()[:2]
    assert (
        said[0] == "p-1 did not find 17, which it had to: gets no more of this job, 4096 integers of it again"
    )
    assert said[1] == "p-1 reported a hit that is none: gets no more of this job"
    assert submit("-d", "20", "-q").stderr == ""
    told = [line for line in lines(submit("-d", "20", "--json")) if line["event"] == "accused"]
    assert told[0] == {
        "event": "accused",
        "job": grid.calls[-1][0].id,
        "peer": "p-1",
        "why": "did not find 17, which it had to",
        "again": "4096",
    }
    assert told[1]["again"] == "0"


def test_work_done_twice_is_told(submit: Call, grid: Any) -> None:
    grid.ending = lambda job: grid.ended(job, recomputed=12_345)
    assert submit("-d", "20").stderr.endswith("about 12345 integers were hashed twice\n")


def test_json(submit: Call, grid: Any) -> None:
    accepted, hit, done = lines(submit("-d", "20", "--json"))
    job = grid.job.id
    assert accepted == {
        "event": "accepted",
        "job": job,
        "range": ["0", "4294967296"],
        "expected_hits": 4096.0,
        "peers": 1,
    }
    assert hit == {
        "event": "hit",
        "job": job,
        "n": "828028",
        "digest": "d95f19b5269418c0d4479fa61b8e7696aa8df197082b431a65ff37595c100000",
        "bits": 20,
        "peer": "p-3f",
    }
    assert done == {
        "event": "done",
        "job": job,
        "status": "found",
        "tested": "1048576",
        "recomputed": "0",
        "elapsed_s": 0.41,
        "hashrate": 2557502.4,
        "credit": [{"peer": "p-3f", "integers": "1048576", "reward_ppm": 1_000_000}],
    }


def test_json_of_several_ranges_and_a_name(submit: Call) -> None:
    accepted = lines(submit("-d", "2", "--json", "--name", "x", "-r", "20:24", "-r", "0:4"))[0]
    assert accepted["range"] == ["0", "24"]
    assert accepted["ranges"] == [["0", "4"], ["20", "24"]]
    assert (accepted["name"], accepted["expected_hits"]) == ("x", 2.0)


@pytest.mark.parametrize(("verbose", "expected"), [((), 0), (("-v",), 3)])
def test_json_progress_comes_once_a_second_when_verbose(
    submit: Call, grid: Any, verbose: tuple[str, ...], expected: int
) -> None:
    def script(job: Any) -> list[Any]:
        moves = [grid.progress(job, n * SECOND // 10, n << 20) for n in range(21)]
        return [NeighbourUp("p-3f"), *moves]

    grid.script = script
    said = [line for line in lines(submit("-d", "20", "--json", *verbose)) if line["event"] == "progress"]
    assert len(said) == expected
    if said:
        job = grid.job.id
        assert said[1] == {
            "event": "progress",
            "job": job,
            "done": "10485760",
            "size": "4294967296",
            "hits": "0",
            "elapsed_s": 1.0,
            "hashrate": 10485760.0,
            "peers": 1,
        }


def test_accepted_waits_for_all_that_were_dialled(submit: Call, grid: Any) -> None:
    grid.script = lambda job: [NeighbourUp("p-1"), NeighbourUp("p-2"), *grid.found(job)[1:]]
    accepted = lines(submit("-d", "20", "--json", "--peer", "ipc://a", "--peer", "ipc://b"))[0]
    assert (accepted["event"], accepted["peers"]) == ("accepted", 2)


@pytest.mark.parametrize("then", ["progress", "hit", "end"])
def test_accepted_does_not_wait_for_the_silent(submit: Call, grid: Any, then: str) -> None:
    def script(job: Any) -> list[Any]:
        more = {"progress": [grid.progress(job, 1)], "hit": grid.found(job)[1:], "end": []}
        return [grid.progress(job, 0, workers=0), NeighbourUp("p-1"), *more[then]]

    grid.script = script
    said = lines(submit("-d", "20", "--json", "--peer", "ipc://a", "--peer", "ipc://b"))
    assert (said[0]["event"], said[0]["peers"]) == ("accepted", 1)
    assert [line["event"] for line in said].count("accepted") == 1


@pytest.mark.parametrize(
    ("status", "detail", "code", "shown"),
    [
        ("found", "", 0, "found"),
        ("complete", "", 0, "complete"),
        ("exhausted", "", 3, "exhausted"),
        ("cancelled", "timeout", 4, "timeout"),
        ("cancelled", "interrupted", 130, "cancelled"),
        ("cancelled", "no reason", 6, "cancelled"),
        ("failed", "p-1 reported a hit that is none", 6, "failed"),
    ],
)
def test_how_jobs_end(submit: Call, grid: Any, status: str, detail: str, code: int, shown: str) -> None:
    grid.ending = lambda job: grid.ended(job, status, detail)
    result = submit("-d", "20", "--json")
    assert result.exit_code == code
    assert lines(result)[-1]["status"] == shown
    assert lines(result)[-1].get("detail") == (detail if status == "failed" else None)
    assert f": {shown}" in result.stderr
    assert shown == "timeout" or detail in result.stderr


@pytest.mark.parametrize("code", [ExitCode.UNREACHABLE, ExitCode.FAILED, ExitCode.USAGE])
def test_errors_are_one_line_and_a_code(submit: Call, grid: Any, code: ExitCode) -> None:
    grid.script, grid.error = lambda job: [], ZlbError("no peer answers at ipc://a", code)
    result = submit("-d", "20", "--json")
    assert (result.exit_code, result.stdout) == (int(code), "")
    assert result.stderr == "zlb submit: no peer answers at ipc://a\n"


def test_a_refusal_is_told_once(submit: Call, grid: Any) -> None:
    grid.script = lambda job: [NeighbourRefused("ipc://a", 1, "version 1 is not 2")]
    grid.error = ZlbError("ipc://a refused: version 1 is not 2", ExitCode.UNREACHABLE)
    result = submit("-d", "20", "-q")
    assert (result.exit_code, result.stderr) == (5, "ipc://a refused: version 1 is not 2\n")


def test_an_impatient_user(submit: Call, grid: Any) -> None:
    grid.error = KeyboardInterrupt()
    result = submit("-d", "20")
    assert (result.exit_code, result.stderr) == (130, "")


def test_verbose_tells_what_happens(submit: Call, grid: Any) -> None:
    grid.script = lambda job: [
        NeighbourUp("p-1"),
        NeighbourLost("p-1", "silent"),
        Notice("p-1 is silent: 7 integers are leased again"),
    ]
    said = ["p-1 is with us", "p-1 left: silent", "p-1 is silent: 7 integers are leased again"]
    assert submit("-d", "20", "-v").stderr.splitlines()[:-1] == said
    assert len(submit("-d", "20").stderr.splitlines()) == 1


def test_plain_progress_every_few_seconds(submit: Call, grid: Any) -> None:
    def script(job: Any) -> list[Any]:
        moves = [grid.progress(job, n * SECOND // 10, n << 20, workers=2) for n in range(101)]
        return [grid.progress(job, 0, workers=0), *moves]

    grid.script = script
    first, second, _ = submit("-d", "32", "--progress", "plain").stderr.splitlines()
    assert first == (
        f"{grid.job.id}: 1.2 %, 52.4 M of 4.29 G, 0 hits, 10.5 M/s, 2 workers, about 6 min 45 s left"
    )
    assert "2.4 %" in second


def test_no_progress_without_a_terminal(submit: Call, grid: Any) -> None:
    grid.script = lambda job: [grid.progress(job, n * SECOND, n) for n in range(20)]
    assert len(submit("-d", "20").stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "env", "colored"),
    [
        ((), {}, False),
        (("--color",), {}, True),
        (("--color",), {"NO_COLOR": "1"}, True),
        (("--no-color",), {}, False),
    ],
)
def test_color(submit: Call, arguments: tuple[str, ...], env: dict[str, str], colored: bool) -> None:
    result = submit("-d", "20", *arguments, env=env)
    assert ("\x1b[" in result.stderr) == colored
    assert "\x1b[" not in result.stdout


@pytest.mark.parametrize(
    ("digest", "match", "bits"),
    [
        ("00f0", "leading", 8),
        ("00f0", "trailing", 4),
        ("00f0", "bitcoin", 0),
        ("300c", "bitcoin", 4),
        ("0000", "leading", 16),
        ("0000", "trailing", 16),
    ],
)
def test_zero_bits(digest: str, match: str, bits: int) -> None:
    assert zero_bits(bytes.fromhex(digest), match) == bits


# -- block headers, whose hits are nonces and versions


@pytest.mark.parametrize(
    ("rolled", "n", "nonce", "version", "line"),
    [
        ((), 7, 7, "20000000", "7"),
        (("--roll-version", "4"), 7 * 4 + 1, 7, "20002000", "7"),
        (("--roll-version", "8"), (2**32 + 7) * 4 + 3, 7, "2000e000", "7"),
    ],
)
def test_hits_of_headers(
    submit: Call, grid: Any, rolled: tuple[str, ...], n: int, nonce: int, version: str, line: str
) -> None:
    header = "00000020" + "ab" * 64 + "cd" * 4 + "ffff001d" + "00" * 4
    grid.script = lambda job: [NeighbourUp("p-1"), HitFound(job, n, b"\1\2", "p-1")]
    shown = f"{nonce}\t0102\t{version}\n" if rolled else f"{nonce}\t0102\n"
    assert submit("--header", header, *rolled).stdout == shown
    (hit,) = (said for said in lines(submit("--header", header, *rolled, "--json")) if said["event"] == "hit")
    assert (hit["n"], hit["nonce"], hit["version"]) == (str(n), str(nonce), version)
    solved = bytes.fromhex(hit["header"])
    assert len(solved) == 80
    assert solved[:4] == bytes.fromhex(version)[::-1]
    assert solved[4:76].hex() == header[8:152]
    assert solved[76:] == nonce.to_bytes(4, "little")


def test_json_of_rolled_ranges_tells_nonces(submit: Call) -> None:
    arguments = ("--header", "00" * 80, "-d", "2", "--roll-version", "8", "-r", "10:20")
    accepted = lines(submit(*arguments, "--json"))[0]
    assert (accepted["range"], accepted["versions"], accepted["expected_hits"]) == (["10", "20"], 8, 20.0)
    (plan,) = lines(submit(*arguments, "--json", "--dry-run"))
    assert (plan["ranges"], plan["versions"], plan["size"]) == ([["10", "20"]], 8, "80")
    said = submit(*arguments, "--dry-run").stdout.splitlines()
    assert said[:2] == ["range   [10, 20)", "size    80 integers: 10 nonces in 8 versions"]


# -- a digest, which has no zero bits and is no matter of chance


def test_json_of_a_digest(submit: Call) -> None:
    accepted, hit, _ = lines(submit("--digest", HIT.split()[1], "--json"))
    assert accepted["expected_hits"] is None
    assert (hit["n"], hit["bits"]) == ("828028", None)


def test_dry_run_for_a_digest(submit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "remembered_rate", lambda state_dir, kernel: 2.0**20)
    arguments = ("--digest", HIT.split()[1], "--dry-run", "-r", ":2^20", "--local", "1")
    assert submit(*arguments).stdout.splitlines() == [
        "range   [0, 1048576)",
        "size    1048576 integers",
        "kernel  sha256, encoding dec",
        f"goal    digest {HIT.split()[1]}",
        "stop    at the first hit",
        "hits    one, if the range holds its integer",
        "checked shares: each hit, and samples of everything",
        "grid    this process, 1 thread",
        "time    about 0.50 s, the whole range 1.00 s, at 1.05 M/s (measured here before)",
    ]
    (plan,) = lines(submit(*arguments, "--json"))
    for field in ("match", "tests_per_hit", "expected_hits", "chance", "chance_of_none"):
        assert plan[field] is None
    assert (plan["eta_s"], plan["whole_range_s"]) == (0.5, 1.0)


# -- what kernels have to say


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ["zlb: compiling it", "zlb: cannot keep it"]),
        (("-q",), ["zlb: cannot keep it"]),
        (("--json",), ["zlb: cannot keep it"]),
    ],
)
def test_kernels_say_what_takes_long(
    submit: Call, grid: Any, arguments: tuple[str, ...], said: list[str]
) -> None:
    log = logging.getLogger("zlb.kernels.compiled")

    def script(job: Any) -> list[Any]:
        log.debug("how it went")
        log.info("compiling %s", "it")
        log.warning("cannot keep it")
        return grid.found(job)

    grid.script = script
    assert [
        line for line in submit("-d", "20", *arguments).stderr.splitlines() if line.startswith("zlb: ")
    ] == said
    assert not logging.getLogger("zlb.kernels").handlers


# -- --dry-run


def test_dry_run(submit: Call, grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "remembered_rate", lambda state_dir, kernel: 4e6)
    result = submit("-d", "20", "--dry-run", "--local", "4")
    assert not grid.calls
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "range   [0, 4294967296)",
        "size    4294967296 integers",
        "kernel  sha256, encoding dec, match trailing",
        "goal    20 zero bits: 1.05 M tries for a hit on average",
        "stop    at the first hit",
        "hits    4096 ± 64 expected in the whole range",
        "chance  100 % for a hit, 0 % for none at all",
        "checked shares: each hit, and samples of everything",
        "grid    this process, 4 threads",
        "time    about 66 ms, the whole range 4 min 28 s, at 16 M/s (measured here before)",
    ]


def test_dry_run_of_a_machine_that_never_ran(submit: Call, grid: Any) -> None:
    arguments = "-d", "20", "--dry-run", "-r", ":2^20", "--peer", "ipc://a", "--verify", "quorum:3"
    result = submit(*arguments)
    assert "checked quorum:3: each hit, and everything by 3 peers" in result.stdout
    (plan,) = lines(submit(*arguments, "--json"))
    assert plan["verify"] == "quorum:3"
    assert "chance  63.2 % for a hit, 36.8 % for none at all" in result.stdout
    assert "grid    peers ipc://a" in result.stdout
    assert "time    unknown" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "chance", "none"),
    [
        ("-d 20 -r :2^20", 0.632, 0.368),
        ("-d 1 -r :1", 0.5, 0.5),
        ("-d 0 -r :5 -n 5", 1.0, 0.0),
        ("-d 0 -r :5 -n 6", 0.0, 0.0),
        ("-d 20 -r :2^20 -n 2", 0.264, 0.368),
        ("-d 20 -n 4096", 0.502, 0.0),
        ("-d 10 -n 2^22", 0.5, 0.0),
        ("-d 20 -n 5000", 0.0, 0.0),
        ("-d 256 -r :1", 0.0, 1.0),
    ],
)
def test_chances(submit: Call, arguments: str, chance: float, none: float) -> None:
    (plan,) = lines(submit("--dry-run", "--json", *arguments.split()))
    assert plan["event"] == "plan"
    assert plan["chance"] == pytest.approx(chance, abs=1e-3)
    assert plan["chance_of_none"] == pytest.approx(none, abs=1e-3)


def test_json_plan(submit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "remembered_rate", lambda state_dir, kernel: 2.0**20)
    (plan,) = lines(submit("-d", "20", "--dry-run", "--json", "--all", "--local", "2"))
    assert (plan["size"], plan["expected_hits"], plan["slots"]) == ("4294967296", 4096.0, 2)
    assert (plan["hashrate"], plan["eta_s"], plan["whole_range_s"]) == (2.0**21, 2048.0, 2048.0)


# -- a stdout that cannot be written


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BrokenPipeError(32, "Broken pipe"), 141, False),
        (OSError(28, "No space left on device"), 6, True),
    ],
)
def test_when_nobody_takes_the_hits(
    submit: Call, grid: Any, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, said: bool
) -> None:
    cancelled = []

    class Closed:
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            pass

        def fileno(self) -> int:
            raise OSError

    def script(job: Any) -> list[Any]:
        sys.stdout = Closed()
        return [HitFound(job, n, bytes(32), "p-1") for n in range(3)]

    grid.script = script
    monkeypatch.setattr(submit_module, "_cancel", lambda: cancelled.append(1))
    result = submit("-d", "20", "-q")
    assert (result.exit_code, result.stdout) == (code, "")
    assert ("No space left on device" in result.stderr) == said
    assert cancelled == [1]
