"""`zlb verify` and `zlb keys show` on real certificates: what is right passes, and one changed byte does not."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from zlb.cli import certify
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import JobId, NodeId
from zlb.core.work import Hit, Job, Row, StopRule
from zlb.drivers.keys import FILE, own_key
from zlb.kernels.hashes import SHA256
from zlb.protocols.certificate import Certificate, decode
from zlb.protocols.examiner import share_pattern, share_word
from zlb.wire import values

Call = Callable[..., Result]
PARAMS: dict[str, object] = {"difficulty": 8}
CHECK, WORD = SHA256.checker(PARAMS), SHA256.sampler(PARAMS)
STARTED = 1_795_285_271_000_000_000
JOB = Job(JobId("j-7Q2MXK"), "sha256", values.pack(PARAMS), ((0, 1024),), StopRule.ALL, 0)
PATTERN = share_pattern(share_word(JOB.id, JOB.params), 0xF)


def row(start: int, stop: int, peer: str = "p-3f") -> Row:
    shares = tuple(n for n in range(start, stop) if WORD(n) & PATTERN.mask == PATTERN.value)
    return Row(start, stop, NodeId(peer), PATTERN, shares, start)


ROWS = [row(512, 1024, "p-4a"), row(0, 512)]
HITS = [Hit(n, digest) for n in range(1024) if (digest := CHECK(n))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A certificate that this machine has signed, whose state is in `tmp_path`, too."""
    return written(tmp_path)


def written(folder: Path, job: Job = JOB, rows: list[Row] = ROWS, hits: list[Hit] = HITS) -> Path:
    path = folder / "job.cert"
    certify.write(path, certificate(job, rows, hits), folder)
    return path


def certificate(job: Job = JOB, rows: list[Row] = ROWS, hits: list[Hit] = HITS) -> Certificate:
    about = STARTED, NodeId("c-1"), b""
    return Certificate(job, "complete", "quorum:2", tuple(hits), tuple(rows), *about)


def verdict(call: Call, *arguments: str) -> dict[str, object]:
    said: dict[str, object] = json.loads(call("verify", "--json", *arguments).stdout)
    return said


def test_a_certificate_of_this_machine_is_good(call: Call, file: Path) -> None:
    done = call("verify", str(file))
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "job     j-7Q2MXK, complete" and lines[-1] == "verdict good, signed by this machine's key"
    )
    assert "checked quorum:2" in lines
    assert "goal    8 zero bits: 256 tries for a hit on average" in lines
    assert f"signed  by this machine's key, {own_key(file.parent).fingerprint}" in lines
    assert "covered 100 %: 1024 of 1024 integers, in 2 rows" in lines
    assert "began   2026-11-21T18:21:11Z, coordinated by c-1" in lines


def test_programs_are_told_the_same(call: Call, file: Path) -> None:
    said = verdict(call, str(file))
    assert said["verify"] == "quorum:2" and said["verdict"] == "good" and said["signature"] is True
    assert said["signed_by"] == "this machine" and said["key"] == own_key(file.parent).public.hex()
    assert (said["size"], said["covered"], said["alone"], said["rows"]) == ("1024", "1024", "0", "2")
    assert said["shares"] == str(sum(len(one.shares) for one in ROWS)) and said["expected"] == 64.0
    assert [one["peer"] for one in said["peers"]] == ["p-3f", "p-4a"]  # type: ignore[attr-defined]
    assert said["faults"] == said["unchecked"] == []


def test_one_changed_byte_anywhere_is_refused(call: Call, file: Path) -> None:
    data = file.read_bytes()
    for at in range(len(data)):
        other = bytearray(data)
        other[at] ^= 1 << at % 8
        file.write_bytes(other)
        done = call("verify", str(file))
        assert done.exit_code == 6, (at, chr(data[at]), done.output)
        assert done.stderr.splitlines()[-1].startswith("zlb verify: ")


def test_small_letters_for_capitals_and_other_blanks_are_refused(call: Call, file: Path) -> None:
    data = file.read_bytes()
    signature = data.rindex(b'":"') + 3
    for other in (
        data[:signature] + data[signature:].replace(b"a", b"A"),
        data.replace(b"\n", b"\r\n"),
        data + b"\n",
        data[:-1],
        b" " + data,
        b"\xef\xbb\xbf" + data,
        data[: data.rindex(b"{")],
        data * 2,
    ):
        file.write_bytes(other)
        assert call("verify", str(file)).exit_code == 6


def test_who_signed_is_said(call: Call, file: Path, tmp_path: Path) -> None:
    public, elsewhere = own_key(tmp_path).public.hex(), str(tmp_path / "elsewhere")
    given = call("verify", str(file), "--key", public)
    assert given.exit_code == 0 and "signed  by the key you gave, " in given.stdout and given.stderr == ""
    assert given.stdout.endswith("verdict good, signed by the key you gave\n")
    unknown = call("verify", str(file), "--state-dir", elsewhere)
    assert unknown.exit_code == 0 and "signed  by a key not known here, " in unknown.stdout
    assert unknown.stdout.endswith("verdict good, signed by a key not known here\n")
    assert "anyone can sign with a key of their own" in unknown.stderr and "--key PUBLIC" in unknown.stderr
    assert not Path(elsewhere).exists()  # to look is not to make a key
    other = own_key(Path(elsewhere)).public.hex()
    wrong = call("verify", str(file), "--key", other)
    assert wrong.exit_code == 6 and f"signed with another key than the given one: {public}" in wrong.stderr
    assert verdict(call, str(file), "--key", other)["signed_by"] == "another key"


def test_a_key_of_this_machine_that_is_no_good_does_not_matter(call: Call, file: Path) -> None:
    (file.parent / FILE).chmod(0o644)
    done = call("verify", str(file))
    assert done.exit_code == 0 and "whether this machine has signed is not known: key " in done.stderr


def test_the_signature_of_another_certificate_is_refused(call: Call, file: Path) -> None:
    data = file.read_bytes()
    written(file.parent, rows=[row(0, 1024)])
    other = file.read_bytes()
    file.write_bytes(data[: data.rindex(b"{")] + other[other.rindex(b"{") :])
    assert call("verify", str(file)).stderr.endswith(
        "the signature does not fit: the file is not what was signed\n"
    )
    assert verdict(call, str(file))["signature"] is False


def test_what_is_wrong_is_told_though_it_was_signed(call: Call, tmp_path: Path) -> None:
    done = call("verify", str(written(tmp_path, rows=ROWS[:1])))
    assert done.exit_code == 6
    assert "fault   gap: [0, 512) is in no row, although the job is complete\n" in done.stdout
    assert done.stdout.endswith("verdict refused\n")
    assert done.stderr.startswith("zlb verify: refused: 1 fault, the first: gap: [0, 512)")


def test_many_faults_are_not_all_shown_to_people(call: Call, tmp_path: Path) -> None:
    rows = [row(n, n + 1, f"p-{n}") for n in range(0, 1024, 2)]
    hits = [hit for hit in HITS if hit.n % 2 == 0]
    file = str(written(tmp_path, rows=rows, hits=hits))
    lines = call("verify", file).stdout.splitlines()
    assert "and 492 more peers" in lines and "fault   and 492 more" in lines
    assert len(verdict(call, file)["faults"]) == 512  # type: ignore[arg-type]


def test_a_kernel_that_is_not_here_leaves_it_open(call: Call, tmp_path: Path) -> None:
    there = JOB._replace(kernel="elsewhere")
    done = call("verify", str(written(tmp_path, job=there)))
    assert done.exit_code == 6 and done.stdout.endswith("verdict unchecked\n")
    assert (
        "zlb verify: neither good nor bad: no share and no hit was recomputed: kernel elsewhere"
        in done.stderr
    )
    assert "no kernel is named 'elsewhere'; installed kernels: " in done.stderr
    refused = verdict(call, str(written(tmp_path, job=there, rows=ROWS[:1])))
    assert refused["verdict"] == "refused" and len(refused["unchecked"]) == 1  # type: ignore[arg-type]


def test_parameters_that_make_no_puzzle_leave_it_open(call: Call, tmp_path: Path) -> None:
    for params in (values.pack({"difficulty": 999}), b"\xc1"):
        theirs = share_pattern(share_word(JOB.id, params), 0xF)
        rows = [one._replace(pattern=theirs) for one in ROWS]
        done = call("verify", str(written(tmp_path, job=JOB._replace(params=params), rows=rows)))
        assert done.exit_code == 6 and done.stdout.endswith("verdict unchecked\n")


def test_what_is_no_certificate_is_refused_with_its_line(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("hello\n")
    done = call("verify", str(path))
    assert (done.exit_code, done.stdout) == (6, "")
    assert done.stderr == f"zlb verify: {path}: line 1: is no JSON object\n"
    assert verdict(call, str(path)) == {
        "event": "certificate",
        "verdict": "refused",
        "faults": ["line 1: is no JSON object"],
    }


@pytest.mark.parametrize(
    "arguments", [[], ["nowhere"], ["."], ["FILE", "--key", "00"], ["FILE", "--key", "x" * 64]]
)
def test_usage(call: Call, file: Path, arguments: list[str]) -> None:
    assert call("verify", *(str(file) if one == "FILE" else one for one in arguments)).exit_code == 2


def test_a_header_with_its_versions_is_understood(call: Call, tmp_path: Path) -> None:
    params = {"prefix": bytes(76), "encoding": "u32le", "match": "bitcoin", "difficulty": 200, "versions": 4}
    job = Job(JobId("j-1"), "sha256d", values.pack(params), ((0, 4000),), StopRule.ALL, 0)
    rows = [Row(0, 4000, NodeId("p"), None, (), 0)]
    done = call("verify", str(written(tmp_path, job=job, rows=rows, hits=[])))
    assert done.exit_code == 0, done.output
    assert "range   [0, 1000)\n" in done.stdout
    assert "shares  none were asked for\n" in done.stdout
    whose = "signed by this machine's key"
    assert done.stdout.endswith(
        f"verdict good, {whose}, but for 100 % of it there is the peers' word alone\n"
    )


# -- the key


def test_keys_show(call: Call, tmp_path: Path) -> None:
    first = call("keys", "show")
    key = own_key(tmp_path)
    assert first.exit_code == 0
    assert first.stdout == (
        f"public key  {key.public.hex()}\nfingerprint {key.fingerprint}\nfile        {tmp_path / FILE}\n"
    )
    assert json.loads(call("keys", "show", "--json").stdout) == {
        "event": "key",
        "public": key.public.hex(),
        "fingerprint": key.fingerprint,
        "file": str(tmp_path / FILE),
    }
    other = call("keys", "show", "--state-dir", str(tmp_path / "other"))
    assert key.fingerprint not in other.stdout


def test_keys_show_of_a_key_that_others_may_use(call: Call, tmp_path: Path) -> None:
    own_key(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    done = call("keys", "show")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"zlb keys show: key {tmp_path / FILE}: others may use it (mode 644); ")


# -- writing


def test_a_certificate_replaces_a_former_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "job.cert").write_text("former")
    written(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["job.cert", FILE]
    assert (tmp_path / "job.cert").read_text().startswith('{"certificate":1,')


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "job.cert").symlink_to(tmp_path / "there" / "real.cert")
    certify.writable(tmp_path / "job.cert")
    written(tmp_path)
    assert (tmp_path / "job.cert").is_symlink() and os.listdir(tmp_path / "there") == ["real.cert"]


def test_a_path_is_tried_before_anything_is_searched(tmp_path: Path) -> None:
    certify.writable(tmp_path / "new.cert")
    certify.writable(tmp_path / "new.cert", tmp_path / "state")
    assert os.listdir(tmp_path) == ["state"] and os.listdir(tmp_path / "state") == [FILE]
    (tmp_path / "old").write_text("stays")
    certify.writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "stays"
    certify.writable(tmp_path / ("x" * 255))


def test_a_path_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path / "no" / "x", "No such file or directory"),
        (tmp_path / "file" / "x", "Not a directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "is no plain file"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a\0b", "no file has such a name"),
    ):
        with pytest.raises(click.UsageError) as caught:
            certify.writable(path)
        assert str(caught.value) == f"--certificate {path}: {why}"


def test_a_key_that_cannot_be_used_is_told_before_too(tmp_path: Path) -> None:
    own_key(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(ZlbError):
        certify.writable(tmp_path / "x", tmp_path)


def test_a_folder_that_went_away_meanwhile_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    certify.writable(folder / "x")
    shutil.rmtree(folder)
    with pytest.raises(ZlbError) as caught:
        certify.write(folder / "x", certificate(), tmp_path)
    assert str(caught.value) == f"certificate {folder / 'x'}: No such file or directory"
    assert caught.value.exit_code is ExitCode.FAILED


def test_a_certificate_that_is_too_long_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlb.protocols.certificate.CERTIFICATE_BYTES_MAX", 100)
    (tmp_path / "job.cert").write_text("former")
    with pytest.raises(ZlbError) as caught:
        written(tmp_path)
    assert caught.value.exit_code is ExitCode.FAILED and "\n" not in str(caught.value)
    assert str(caught.value).endswith("longer than the 100 bytes a certificate may have")
    assert (tmp_path / "job.cert").read_text() == "former"


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o640, 0o640), (0o777, 0o666)])
def test_the_permissions_of_a_former_file_stay(tmp_path: Path, mode: int, kept: int) -> None:
    (tmp_path / "job.cert").write_text("former")
    (tmp_path / "job.cert").chmod(mode)
    assert stat.S_IMODE(written(tmp_path).stat().st_mode) == kept


def test_a_certificate_tells_of_a_timeout_and_how_results_were_checked(
    submit: Call, grid: Any, tmp_path: Path
) -> None:
    grid.ending = lambda job: grid.ended(job, "cancelled", "timeout")._replace(coordinator=NodeId("c-1"))
    path = tmp_path / "job.cert"
    arguments = "-d", "20", "--certificate", str(path), "--timeout", "1s"
    assert submit(*arguments).exit_code == ExitCode.TIMEOUT
    found = decode(path.read_bytes()).certificate
    assert (found.status, found.verify, found.hits[0].n) == ("timeout", "shares", 828028)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_where_results_go_no_certificate_goes(root: Path, tmp_path: Path, stream: str) -> None:
    path = tmp_path / "log"
    check = "import sys; from zlb.cli import certify, command; from pathlib import Path; import click\n"
    check += "@click.command(cls=command.Command)\ndef it(): certify.writable(Path(sys.argv.pop()))\nit([])"
    for name in (str(path), f"/dev/{stream}"):
        with path.open("a") as log:
            to = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, stream: log}
            done = subprocess.run(
                [sys.executable, "-c", check, name], cwd=root, check=False, timeout=60, **to
            )  # type: ignore[call-overload]
        said = path.read_text() if stream == "stderr" else done.stderr.decode()
        assert done.returncode == 2 and f"--certificate {name}: is where {stream} goes" in said


def test_without_assertions_a_certificate_is_written_all_the_same(root: Path, tmp_path: Path) -> None:
    test = "from tests.cli import test_verify; from pathlib import Path; import sys\n"
    test += "test_verify.written(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-O", "-c", test, str(tmp_path)], cwd=root, check=True, timeout=60)
    assert decode((tmp_path / "job.cert").read_bytes()).certificate.job == JOB


# -- output


SMALL = ["sim", "jobs", "--peers", "1", "--hours", "0.001", "-q"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["keys", "show"], ["verify", "FILE"], SMALL])
def test_output_that_cannot_be_written_is_told_in_one_line(
    root: Path, file: Path, arguments: list[str], unbuffered: str
) -> None:
    words = [str(file) if word == "FILE" else word for word in arguments]
    command = [sys.executable, "-m", "zlb.cli.main", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "ZLB_STATE_DIR": str(file.parent)},
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 6, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.endswith(": output cannot be written: No space left on device")


def test_the_help_names_no_option_that_is_none(call: Call) -> None:
    said = call("verify", "--help").stdout
    assert "Options:" not in said and "[OPTIONS] FILE" in said
    assert "prints it there.  [default: any]" in " ".join(said.split()).replace("there. ", "there.  ")


def test_a_process_needs_no_sockets_and_no_compiler_for_it(root: Path, file: Path) -> None:
    watched = (
        "import sys\nfrom zlb.cli.main import zlb\ntry:\n    zlb(prog_name='zlb')\nfinally:\n"
        "    print(*sorted({'zmq', 'numba', 'numpy', 'llvmlite', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    )
    command = [sys.executable, "-c", watched, "verify", str(file)]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == ""
