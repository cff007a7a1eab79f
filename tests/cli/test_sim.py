"""`zlb-sim`: what it prints, what it writes, and what its `--help` does not load."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from zlb.cli.sim import STUDIES, sim
from zlb.sim.studies import loss
from zlb.sim.studies.rows import Say

SMALL = ["jobs", "--peers", "5", "--hours", "0.005", "--seed", "2"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(sim, arguments)


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
    other = json.loads(
        call(*SMALL, "--json", "--verify", "shares", "--speed-sigma", "0", "--report", "2s").stdout
    )
    assert (other["status"], other["size"]) == ("complete", 5 * 1000 * 18)
    assert other["digest"] != first["digest"]


@pytest.mark.parametrize("wrong", [["--peers", "0"], ["--peers", "2000"], ["--hours", "0"], ["--churn", "x"]])
def test_what_cannot_be_simulated_is_refused(wrong: Sequence[str]) -> None:
    assert call(*SMALL, *wrong).exit_code == 2


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
    assert "73.79 %" in done.stdout
    (row,) = csv.DictReader((tmp_path / "new" / "loss.csv").read_text().splitlines())
    assert (row["devices"], row["levels"]) == ("5", "6")
    assert (tmp_path / "new" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_figure_is_left_out(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    done = call("study", "loss", "--quiet", "--out", str(tmp_path))
    assert done.exit_code == 0
    assert done.stderr == "no figure: matplotlib is not installed (pip install 'zlb[bench]')\n"
    assert [path.name for path in tmp_path.iterdir()] == ["loss.csv"]


def test_every_study_there_is_can_be_asked_for(root: Path) -> None:
    modules = {path.stem for path in (root / "zlb/sim/studies").glob("*.py")} - {"__init__", "rows"}
    assert modules == {*STUDIES}
    assert call("study", "nonsense").exit_code == 2
