"""`zlb submit`: what its options mean for the job that is run, and what is refused as a usage error."""

import json
from collections.abc import Callable
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from zlb.core.config import CoordinatorConfig, Method, Scheme
from zlb.core.work import StopRule
from zlb.wire import values

Call = Callable[..., Result]

BLOCK_0 = (
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a" + "29ab5f49"
    "ffff001d" + "1dac2b7c"
)
TARGET_1 = "00000000ffff" + "00" * 26
SHA256_OF_7 = sha256(b"7").hexdigest()
SHA1_OF_7 = sha1(b"7").hexdigest()


def params(grid: Any) -> dict[str, Any]:
    return values.unpack(grid.job.params)


def refused(result: Result) -> str:
    """The error line of a usage error."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Try 'zlb submit --help' for help." in result.stderr
    return result.stderr.split("Error: ", 1)[1].strip()


def test_a_plain_search(submit: Call, grid: Any, tmp_path: Path) -> None:
    assert submit("-d", "20").exit_code == 0
    ((job, where, config, timeout_ns),) = grid.calls
    assert job.id.startswith("j-")
    assert len(job.id) == 8
    assert (job.kernel, params(grid)) == ("sha256", {"difficulty": 20})
    assert (job.spans, job.rule, job.hits_wanted) == (((0, 2**32),), StopRule.FIRST, 1)
    assert (where.peers, where.slots, where.state_dir) == ((), None, tmp_path)
    assert (config, timeout_ns) == (CoordinatorConfig(), None)
    assert grid.check(828028) == sha256(b"828028").digest()
    assert grid.check(828029) is None


def test_ids_differ(submit: Call, grid: Any) -> None:
    for _ in range(2):
        submit("-d", "20")
    first, second = (call[0].id for call in grid.calls)
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "rule", "wanted"),
    [
        ("--first", StopRule.FIRST, 1),
        ("--lowest", StopRule.LOWEST, 1),
        ("--count 7", StopRule.COUNT, 7),
        ("-n 1e3", StopRule.COUNT, 1000),
        ("--all", StopRule.ALL, 0),
    ],
)
def test_stop_rules(submit: Call, grid: Any, arguments: str, rule: StopRule, wanted: int) -> None:
    assert submit("-d", "20", *arguments.split()).exit_code == 0
    assert (grid.job.rule, grid.job.hits_wanted) == (rule, wanted)


@pytest.mark.parametrize(
    "arguments",
    ["--first --lowest", "--first --all", "--lowest -n 1", "-n 2 --all", "--all --lowest --first"],
)
def test_one_stop_rule_only(submit: Call, grid: Any, arguments: str) -> None:
    assert refused(submit("-d", "20", *arguments.split())).startswith("only one of --")
    assert not grid.calls


@pytest.mark.parametrize(
    ("arguments", "kernel", "expected"),
    [
        ("-d 0", "sha256", {"difficulty": 0}),
        ("-d 256", "sha256", {"difficulty": 256}),
        ("-d 9 -m leading", "sha256", {"difficulty": 9, "match": "leading"}),
        ("-d 9 -a sha256d -e u64be", "sha256d", {"difficulty": 9, "encoding": "u64be"}),
        ("-d 9 --prefix a€ --suffix 0x00ff", "sha256", {"prefix": "a€".encode(), "suffix": b"\0\xff"}),
        (f"--target {TARGET_1}", "sha256", {"target": bytes.fromhex(TARGET_1), "match": "bitcoin"}),
        (f"--target 0x{TARGET_1} -m leading", "sha256", {"match": "leading"}),
        ("--nbits 1d00ffff", "sha256", {"target": bytes.fromhex(TARGET_1), "match": "bitcoin"}),
        ("--nbits 0x1D00FFFF", "sha256", {"target": bytes.fromhex(TARGET_1)}),
        (f"--header {BLOCK_0}", "sha256d", {"target": bytes.fromhex(TARGET_1), "encoding": "u32le"}),
        (f"--header {BLOCK_0} -a sha256d -e u32le -m bitcoin", "sha256d", {"match": "bitcoin"}),
        (f"--header {BLOCK_0} -d 9", "sha256d", {"difficulty": 9, "encoding": "u32le", "match": "bitcoin"}),
        (f"--header {'00' * 80} -d 9", "sha256d", {"difficulty": 9, "prefix": bytes(76)}),
        ("-d 160 -a sha1", "sha1", {"difficulty": 160}),
        (
            f"--target {TARGET_1[:40]} -a sha1",
            "sha1",
            {"target": bytes.fromhex(TARGET_1[:40]), "match": "bitcoin"},
        ),
        (f"--digest {SHA256_OF_7}", "sha256", {"digest": sha256(b"7").digest()}),
        (f"--digest 0x{SHA1_OF_7} -a sha1 -e hex --prefix a", "sha1", {"encoding": "hex", "prefix": b"a"}),
        (f"--header {BLOCK_0} --digest {SHA256_OF_7}", "sha256d", {"encoding": "u32le"}),
        (f"--header {BLOCK_0} --roll-version 64Ki", "sha256d", {"versions": 65536, "match": "bitcoin"}),
        (f"--header {BLOCK_0} --roll-version 8 -d 9", "sha256d", {"versions": 8, "difficulty": 9}),
    ],
)
def test_puzzles(submit: Call, grid: Any, arguments: str, kernel: str, expected: dict[str, Any]) -> None:
    result = submit(*arguments.split())
    assert result.exit_code == 0, result.output
    assert grid.job.kernel == kernel
    assert params(grid).items() >= expected.items()
    assert len({"difficulty", "target", "digest"} & params(grid).keys()) == 1
    assert "digest" not in params(grid) or "match" not in params(grid)


def test_a_header_is_solved_by_its_nonce(submit: Call, grid: Any) -> None:
    submit("--header", BLOCK_0)
    assert grid.job.spans == ((0, 2**32),)
    assert grid.check(2083236893) is not None
    assert grid.check(2083236892) is None


@pytest.mark.parametrize(
    ("rolled", "ranges", "expected"),
    [
        ("1", (), [(0, 2**32)]),
        ("2", (), [(0, 2**33)]),
        ("65536", (), [(0, 2**48)]),
        ("2", ("10:20",), [(20, 40)]),
        ("4", ("10:20", "30:+1"), [(40, 80), (120, 124)]),
        ("8", ("10:20",), [(40, 80), (4 * (2**32 + 10), 4 * (2**32 + 20))]),
        ("8", (":20", "2^32-1:2^32"), [(0, 80), (4 * 2**32 - 4, 4 * 2**32 + 80), (8 * 2**32 - 4, 8 * 2**32)]),
    ],
)
def test_ranges_of_rolled_headers_are_nonces(
    submit: Call, grid: Any, rolled: str, ranges: tuple[str, ...], expected: list[tuple[int, int]]
) -> None:
    options = [part for text in ranges for part in ("-r", text)]
    assert submit("--header", BLOCK_0, "--roll-version", rolled, *options).exit_code == 0
    assert list(grid.job.spans) == expected


def test_a_rolled_header_is_solved_by_version_and_nonce(submit: Call, grid: Any) -> None:
    submit("--header", BLOCK_0, "--roll-version", "4")
    assert grid.check(4 * 2083236893) is not None
    assert grid.check(4 * 2083236893 + 1) is None


def test_a_digest_belongs_to_one_integer(submit: Call, grid: Any) -> None:
    submit("--digest", SHA1_OF_7, "-a", "sha1")
    assert grid.check(7) == sha1(b"7").digest()
    assert grid.check(8) is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("", "how hard? Give one of --difficulty, --target, --nbits"),
        ("-d 161 -a sha1", "difficulty is an integer from 0 to 160"),
        (f"-d 9 --digest {SHA256_OF_7}", "only one of --difficulty, --digest"),
        (f"--digest {SHA256_OF_7} -m leading", "--match cannot go with --digest: all of it must be equal"),
        (f"--header {BLOCK_0} --digest {SHA256_OF_7} -m bitcoin", "--match cannot go with --digest"),
        ("--digest 00ff", "--digest: 64 hex digits (32 bytes) are needed for sha256, these are 4"),
        (f"--digest {SHA1_OF_7}", "--digest: 64 hex digits (32 bytes) are needed for sha256, these are 40"),
        (f"--digest {SHA256_OF_7} -a sha1", "40 hex digits (20 bytes) are needed for sha1, these are 64"),
        (f"--digest {SHA256_OF_7[1:]}", "an odd number of hex digits (63)"),
        (f"--digest {SHA256_OF_7[:-1]}g", "'g' (digit 64) is not hexadecimal"),
        (
            f"--target {TARGET_1} -a sha1",
            "--target: 40 hex digits (20 bytes) are needed for sha1, these are 64",
        ),
        ("--nbits 1d00ffff -a sha1", "--nbits stands for a target of 32 bytes, digests of sha1 have 20"),
        ("-d 9 --roll-version 4", "--roll-version goes with --header only"),
        (f"--header {BLOCK_0} --roll-version 3", "'3' is no power of two from 1 to 65536"),
        (f"--header {BLOCK_0} --roll-version 0", "'0' is no power of two from 1 to 65536"),
        (f"--header {BLOCK_0} --roll-version 2^17", "'2^17' is no power of two from 1 to 65536"),
        (f"--header {BLOCK_0} --roll-version x", "'x' belongs to no number"),
        (f"--header {BLOCK_0} --roll-version 4 -r :2^33", "--range: nonces end at 2**32"),
        (
            f"--header {BLOCK_0} --roll-version 2^16 -r 0:1 -r 2:3 -r 4:5 -r 6:7 -r 8:9",
            "5 ranges of nonces in 65536 versions are too many spans: 81920, the limit is 65536",
        ),
        ("-d 257", "257 is not in the range 0<=x<=256"),
        ("-d -1", "-1 is not in the range"),
        ("-d x", "'x' is not a valid integer"),
        (f"-d 9 --target {TARGET_1}", "only one of --difficulty, --target"),
        (f"-d 9 --nbits 1d00ffff --target {TARGET_1}", "only one of --difficulty, --target, --nbits"),
        (f"--target {TARGET_1} -m trailing", 'target cannot go with match "trailing"'),
        (f"--target {TARGET_1[1:]}", "an odd number of hex digits (63)"),
        ("--target 00ff", "--target: 64 hex digits (32 bytes) are needed for sha256, these are 4"),
        (f"--target {TARGET_1[:-1]}g", "'g' (digit 64) is not hexadecimal"),
        ("--nbits 1d00fff", "an odd number of hex digits (7)"),
        ("--nbits 1d00", "8 hex digits (4 bytes) are needed, these are 4"),
        ("--nbits 01800000", "--nbits: nBits 0x01800000 stands for"),
        (f"--header {BLOCK_0[:-2]}", "160 hex digits (80 bytes) are needed, these are 158"),
        (f"--header {'00' * 80}", "--header: nBits 0x00000000 stands for zero"),
        (f"--header {BLOCK_0} --prefix x", "--prefix cannot go with --header"),
        (f"--header {BLOCK_0} --suffix x", "--suffix cannot go with --header"),
        (f"--header {BLOCK_0} -a sha256", "--header means --algo sha256d, not sha256"),
        (f"--header {BLOCK_0} -e dec", "--header means --encoding u32le, not dec"),
        (f"--header {BLOCK_0} -m trailing", "--header means --match bitcoin, not trailing"),
        (f"--header {BLOCK_0} -r :2^33", 'what encoding "u32le" can express: 0 to 2**32'),
        ("-d 9 -e u32be -r 2^32:+1", 'what encoding "u32be" can express: 0 to 2**32'),
        ("-d 9 -a md5", "no kernel is named 'md5'; installed kernels: sha1, sha256, sha256d, sleep, spin"),
        ("-d 9 -e base64", "'base64' is not one of"),
        ("-d 9 -m middle", "'middle' is not one of"),
        ("-d 9 --prefix 0x0", "an odd number of hex digits (1) (0x starts hexadecimal)"),
        ("-d 9 --prefix 0xzz", "'z' (digit 1) is not hexadecimal"),
        ("-d 9 --prefix @/no/such/file", "file '/no/such/file': No such file or directory"),
        ("-d 9 --prefix @/dev/zero", "file '/dev/zero' is longer than"),
        ("-d 9 -n 0", "at least 1"),
        ("-d 9 -n many", "'m' belongs to no number"),
        ("-d 9 --timeout 0", "a duration of nothing"),
        ("-d 9 --timeout 9999d", "longer than ten years"),
        ("-d 9 --timeout 5x", "'5x' is no duration: 90, 90s, 250ms, 5m or 1h30m"),
        ("-d 9 --chunk 0", "a subjob holds at least one integer"),
        ("-d 9 --chunk 0ms", "a duration of nothing"),
        ("-d 9 --chunk 5q", "neither a duration (250ms, 2s) nor a number of integers (1e6, 4Mi)"),
        ("-d 9 --local 0", "'0' is no number of threads from 1 to 512"),
        ("-d 9 --local 513", "'513' is no number of threads from 1 to 512"),
        ("-d 9 --local --peer ipc://x", "--local means no peers: it cannot go with --peer"),
        ("-d 9 --peer localhost:7001", "'localhost:7001' is no endpoint: tcp://HOST:PORT, ipc://PATH"),
        ("-d 9 --peer tcp://localhost", "'tcp://localhost' is not tcp://HOST:PORT"),
        ("-d 9 --peer tcp://localhost:0", "port 0 of 'tcp://localhost:0' is not in 1..65535"),
        ("-d 9 --peer tcp://localhost:65536", "is not in 1..65535"),
        ("-d 9 --peer tcp://localhost:*", "to dial, name the host and the port"),
        ("-d 9 --peer udp://localhost:1", "is no endpoint"),
        ("-d 9 --peer ipc://", "names no place"),
        ("-d 9 --progress loud", "'loud' is not one of"),
        ("-d 9 --such-an-option", "No such option"),
        ("-d 9 surplus", "unexpected extra argument"),
    ],
)
def test_usage_errors(submit: Call, grid: Any, arguments: str, error: str) -> None:
    said = refused(submit(*arguments.split()))
    assert error in said
    assert not grid.calls


def test_affixes_that_cannot_travel(submit: Call, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(64 * 1024 + 1))
    said = refused(submit("-d", "9", "--prefix", f"@{tmp_path}/big"))
    assert said == "prefix is 65537 bytes long, the limit is 65536"


def test_a_prefix_from_a_file_is_taken_as_it_is(submit: Call, grid: Any, tmp_path: Path) -> None:
    (tmp_path / "prefix").write_bytes(b"\xff\n")
    submit("-d", "9", "--prefix", f"@{tmp_path}/prefix")
    assert params(grid)["prefix"] == b"\xff\n"


def test_a_bad_range_is_pointed_at(submit: Call) -> None:
    said = refused(submit("-d", "9", "-r", "0:2x**3"))
    assert said.splitlines() == [
        "Invalid value for '-r' / '--range': 'x' is neither a digit here nor one of the suffixes "
        "k, M, G, T, Ki, Mi, Gi, Ti",
        "",
        "    0:2x**3",
        "       ^",
    ]


def test_ranges_are_sorted_and_merged(submit: Call, grid: Any) -> None:
    result = submit("-d", "9", "-r", "50:60", "-r", ":10", "-r", "5:20", "-r20:30")
    assert grid.job.spans == ((0, 30), (50, 60))
    assert "warning: ranges overlap" in result.stderr


def test_touching_ranges_are_no_overlap(submit: Call, grid: Any) -> None:
    result = submit("-d", "9", "-r", "10:20", "-r", ":10")
    assert grid.job.spans == ((0, 20),)
    assert "warning" not in result.stderr


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("90", 90 * 10**9),
        ("0.5", 5 * 10**8),
        ("90s", 90 * 10**9),
        ("250ms", 250 * 10**6),
        ("5m", 300 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("1d", 86_400 * 10**9),
    ],
)
def test_timeouts(submit: Call, grid: Any, text: str, duration_ns: int) -> None:
    submit("-d", "9", "--timeout", text)
    assert grid.calls[0][3] == duration_ns


@pytest.mark.parametrize(
    ("text", "time_ns", "count"),
    [
        ("250ms", 25 * 10**7, None),
        ("5m", 300 * 10**9, None),
        ("1e6", 10**10, 10**6),
        ("5M", 10**10, 5 * 10**6),
    ],
)
def test_chunks(submit: Call, grid: Any, text: str, time_ns: int, count: int | None) -> None:
    submit("-d", "9", "--chunk", text)
    assert (grid.calls[0][2].chunk_ns, grid.calls[0][2].chunk_count) == (time_ns, count)


@pytest.mark.parametrize(
    ("text", "method", "copies"),
    [
        ("none", Method.NONE, 1),
        ("spot", Method.SPOT, 1),
        ("quorum:2", Method.QUORUM, 2),
        ("quorum:16", Method.QUORUM, 16),
    ],
)
def test_verification(submit: Call, grid: Any, text: str, method: Method, copies: int) -> None:
    assert submit("-d", "9", "--verify", text, "--peer", "ipc://a").exit_code == 0
    assert (grid.calls[0][2].verify, grid.calls[0][2].copies) == (method, copies)


@pytest.mark.parametrize("text", ["quorum", "quorum:1", "quorum:17", "quorum:x", "shares:2", "much", ""])
def test_verification_that_is_none(submit: Call, grid: Any, text: str) -> None:
    result = submit("-d", "9", "--verify", text, "--peer", "ipc://a")
    assert result.exit_code == 2 and "--verify" in result.stderr and not grid.calls


def test_one_peer_is_no_quorum(submit: Call, grid: Any) -> None:
    result = submit("-d", "9", "--verify", "quorum:2")
    assert result.exit_code == 2 and "this process is one peer only" in result.stderr and not grid.calls


def test_schemes(submit: Call, grid: Any) -> None:
    submit("-d", "9", "--scheme", "seed:2.5")
    assert (grid.calls[0][2].scheme, grid.calls[0][2].seed_factor) == (Scheme.SEED, 2.5)
    for text in ("seed:5", "seed:0.5", "factoring:2", "x"):
        assert submit("-d", "9", "--scheme", text).exit_code == 2


def test_what_a_job_at_trackers_cannot_have(submit: Call, grid: Any) -> None:
    result = submit("-d", "9", "--tracker", "ipc://t", "--scheme", "seed")
    assert result.exit_code == 2 and "--scheme" in result.stderr


def test_what_the_environment_wants_of_trackers_in_vain_is_told(submit: Call, grid: Any) -> None:
    result = submit("-d", "9", "--dry-run", "--tracker", "ipc://t", env={"ZLB_SCHEME": "seed:2"})
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 0 and line.startswith("zlb submit: warning: ZLB_SCHEME does not count: --")
    assert "goes with --peer and --local: " in line


@pytest.mark.parametrize(
    ("variable", "value"), [("ZLB_DETACH", "1"), ("ZLB_PRIORITY", "7"), ("ZLB_DEADLINE", "1h")]
)
def test_what_the_environment_wants_of_peers_in_vain_is_told(
    submit: Call, grid: Any, variable: str, value: str
) -> None:
    result = submit("-d", "9", "-q", "--timeout", "1h", env={variable: value})
    name = variable.removeprefix("ZLB_").lower()
    said = f"zlb submit: warning: {variable} does not count: --{name} goes with --tracker only\n"
    assert (result.exit_code, result.stderr) == (0, said)


def test_what_the_environment_wants_as_usual_is_no_reason_for_a_warning(submit: Call, grid: Any) -> None:
    assert submit("-d", "9", "-q", env={"ZLB_DETACH": "0", "ZLB_SCHEME": "factoring"}).stderr == ""
    env = {"ZLB_SCHEME": "factoring"}
    assert submit("-d", "9", "--dry-run", "--tracker", "ipc://t", env=env).stderr == ""


@pytest.mark.parametrize("chunk", ["1e6", "250ms"])
def test_the_seeds_scheme_takes_no_size(submit: Call, grid: Any, chunk: str) -> None:
    said = refused(submit("-d", "9", "--scheme", "seed", "--chunk", chunk))
    assert said == "--scheme seed sizes subjobs by itself: it cannot go with --chunk" and not grid.calls


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_certificate_that_cannot_be_written_is_found_out_before(
    submit: Call, grid: Any, tmp_path: Path, more: list[str]
) -> None:
    result = submit("-d", "9", "--certificate", str(tmp_path / "no" / "c.cert"), *more)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.exit_code == 2 and "No such file" in result.stderr and not grid.calls


@pytest.mark.parametrize(
    ("arguments", "variable", "peers", "slots"),
    [
        ("", "", (), None),
        ("--peer ipc://a --peer ipc://b --peer ipc://a", "", ("ipc://a", "ipc://b"), None),
        ("", "tcp://h:1 tcp://[::1]:2,ipc://c, ", ("tcp://h:1", "tcp://[::1]:2", "ipc://c"), None),
        ("--peer ipc://a", "ipc://b", ("ipc://a",), None),
        ("--local", "ipc://b", (), None),
        ("--local 3", "", (), 3),
        ("--local --all", "", (), None),
    ],
)
def test_where_it_runs(
    submit: Call, grid: Any, arguments: str, variable: str, peers: tuple[str, ...], slots: int | None
) -> None:
    result = submit("-d", "9", *arguments.split(), env={"ZLB_PEERS": variable})
    assert result.exit_code == 0, result.output
    assert (grid.calls[0][1].peers, grid.calls[0][1].slots) == (peers, slots)


def test_a_bad_endpoint_in_the_environment_is_named(submit: Call) -> None:
    assert "'nonsense' is no endpoint" in refused(submit("-d", "9", env={"ZLB_PEERS": "nonsense"}))


def test_every_option_has_a_variable(submit: Call, grid: Any) -> None:
    env = {"ZLB_DIFFICULTY": "9", "ZLB_RANGE": ":5", "ZLB_ALL": "1", "ZLB_JSON": "1"}
    result = submit(env=env)
    assert (grid.job.spans, grid.job.rule) == (((0, 5),), StopRule.ALL)
    assert json.loads(result.stdout.splitlines()[0])["event"] == "accepted"


def test_the_state_directory_can_be_named(submit: Call, grid: Any, tmp_path: Path) -> None:
    submit("-d", "9", "--state-dir", str(tmp_path / "other"))
    assert grid.calls[0][1].state_dir == tmp_path / "other"
