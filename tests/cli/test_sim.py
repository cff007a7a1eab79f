"""`zlb-sim`: what it prints, what it writes, and what its `--help` does not load."""

import csv
import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from zlb.cli.main import zlb
from zlb.cli.sim import STUDIES, sim
from zlb.sim.studies import loss
from zlb.sim.studies.rows import Say

SMALL = ["jobs", "--peers", "5", "--hours", "0.005", "--seed", "2"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(sim, arguments, prog_name="zlb-sim")


@pytest.mark.parametrize("command", sim.commands.values(), ids=lambda command: command.name)
def test_every_option_is_explained(command: click.Command) -> None:
    assert command.help
    assert all(param.help for param in command.params if isinstance(param, click.Option))


def test_a_job_as_a_table() -> None:
    done = call(*SMALL)
    assert (done.exit_code, done.stderr) == (0, "")
    table = dict(line.split(maxsplit=1) for line in done.stdout.replace("wall time", "wall").splitlines())
    assert table["job"].startswith("complete after ")
    assert table["efficiency"].endswith(" % of the available capacity")
    assert set(table) == {
        "job",
        "done",
        "efficiency",
        "recomputed",
        "departures",
        "messages",
        "events",
        "wall",
        "digest",
    }


def test_a_job_as_json_is_the_same_twice() -> None:
    first, again = (
        json.loads(call(*SMALL, "--json", "--churn", "seti", "--disturbed").stdout) for _ in range(2)
    )
    assert first.pop("wall_s") > 0 and again.pop("wall_s") > 0
    assert first == again
    assert first["status"] == "complete" and first["done"] == first["size"]
    assert first["event"] == "simulated"
    assert all(first[name].isdecimal() for name in ("size", "done", "recomputed"))
    other = json.loads(
        call(*SMALL, "--json", "--verify", "shares", "--speed-sigma", "0", "--report", "2s").stdout
    )
    assert (other["status"], other["size"]) == ("complete", str(5 * 1000 * 18))
    assert other["digest"] != first["digest"]


@pytest.mark.parametrize(
    "wrong",
    [
        "--peers 0",
        "--peers 10001",
        "--hours 0",
        "--hours 1e-300",
        "--hours nan",
        "--hours inf",
        "--churn x",
        "--rate nan",
        "--rate inf",
        "--rate -1",
        "--rate 0",
        "--rate 1e-300",
        "--rate 1e30",
        "--rate 1e18",
        "--rate 1e18 --hours 1e-6 --speed-sigma 3",
        "--speed-sigma nan",
        "--slots 0",
        "--slots 513",
        "--slots 1e6",
        "--seed -1",
        "--seed 1e3",
    ],
)
def test_what_cannot_be_simulated_is_refused(wrong: str) -> None:
    done = call(*SMALL, *wrong.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    "odd", ["--rate 1e-3", "--hours 1e-6", "--rtt 3650d --report 3650d", "--slots 512 --hours 1e-6"]
)
def test_odd_numbers_end_all_the_same(odd: str) -> None:
    done = call(*SMALL, *odd.split())
    assert done.exit_code in (0, 6), done.exception
    assert done.stdout.startswith("job ")
    assert done.stderr.count("\n") == (done.exit_code == 6)


def test_on_a_terminal_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlb.cli.sim.TOLD_EVERY_S", 0.0)
    monkeypatch.setattr("zlb.cli.sim._is_terminal", lambda: True)
    said = call(*SMALL)
    lines = said.stderr.split("\r")  # where there is no terminal, click leaves the codes of one out
    assert lines[0] == lines[-1] == ""
    assert len(lines) > 10
    assert all(line.endswith(" of virtual time") for line in lines[1:-1])
    assert lines[-2].startswith("100 % done after ")
    assert call(*SMALL, "--quiet").stderr == ""


def test_it_is_a_command_of_zlb_too() -> None:
    said = CliRunner().invoke(zlb, ["sim", "jobs", "--help"], prog_name="zlb")
    assert said.stdout.startswith("Usage: zlb sim jobs [OPTIONS]")
    listed = CliRunner().invoke(zlb, ["--help"]).stdout
    assert re.search("^  sim +Run peers", listed, re.MULTILINE)
    complete = ShellComplete(zlb, {}, "zlb", "_ZLB_COMPLETE")
    assert [item.value for item in complete.get_completions(["sim"], "st")] == ["study"]
    late = "import sys, zlb.cli.main; sys.exit('zlb.cli.sim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", late], check=False, timeout=60).returncode == 0


def test_variables_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZLB_PEERS", "tcp://127.0.0.1:7001")
    monkeypatch.setenv("ZLB_SIM_PEERS", "3")
    assert json.loads(call("jobs", "--hours", "0.001", "--json").stdout)["peers"] == 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(say: Say) -> list[loss.LossRow]:
        say("a line")
        return [loss.tree(5, 6, paths=10)]

    monkeypatch.setattr(loss, "STUDY", loss.STUDY._replace(run=run))


def test_a_study_is_a_table_a_file_and_a_figure(small: None, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = call("study", "loss", "--out", str(tmp_path / "new"))
    assert (done.exit_code, done.stderr) == (0, "a line\n")
    assert "73.786 %" in done.stdout
    (row,) = csv.DictReader((tmp_path / "new" / "loss.csv").read_text().splitlines())
    assert (row["devices"], row["levels"]) == ("5", "6")
    assert (tmp_path / "new" / "loss.png").read_bytes().startswith(b"\x89PNG")


def no_room(*_arguments: object, **_more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_directory_that_cannot_be_written_is_found_before_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "STUDY", loss.STUDY._replace(run=no_room))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "below", tmp_path / "file"):
        assert call("study", "loss", "--out", str(out)).exit_code == 2
    (tmp_path / "taken" / "loss.png").mkdir(parents=True)
    done = call("study", "loss", "--out", str(tmp_path / "taken"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    monkeypatch.setattr("tempfile.TemporaryFile", no_room)
    done = call("study", "loss", "--out", str(tmp_path))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith(f"directory {tmp_path}: No space left on device\n")


@pytest.mark.parametrize("broken", ["pathlib.Path.write_text", "matplotlib.figure.Figure.savefig"])
def test_what_cannot_be_written_is_one_line_and_leaves_nothing_half(
    small: None, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "loss.csv").write_text("of yesterday")
    monkeypatch.setattr(broken, no_room)
    done = call("study", "loss", "--quiet", "--out", str(tmp_path))
    name = "csv" if "write" in broken else "png"
    assert done.exit_code == 6
    assert done.stderr.endswith(f"loss.{name}: No space left on device\n") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["loss.csv"]
    assert ((tmp_path / "loss.csv").read_text() == "of yesterday") == (name == "csv")


def test_without_matplotlib_the_figure_is_left_out(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call("study", "loss", "--quiet", "--out", str(tmp_path))
    assert done.exit_code == 0
    assert done.stderr == "no figure: matplotlib is not installed (pip install 'zlb[bench]')\n"
    assert [path.name for path in tmp_path.iterdir()] == ["loss.csv"]


def test_every_study_there_is_can_be_asked_for(root: Path) -> None:
    modules = {path.stem for path in (root / "zlb/sim/studies").glob("*.py")} - {"__init__", "rows"}
    assert modules == {*STUDIES}
    assert call("study", "nonsense").exit_code == 2
