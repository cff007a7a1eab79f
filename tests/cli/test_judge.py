"""`zlb tracker judge`: a history is told to be linearizable, or why not; a file that is none is refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from zlb.cli.main import zlb
from zlb.sim.history import Operation, dump

SUBMITTED = Operation("c1", "submit", ("name:0", "x-1"), "x-1", 0, 10)
LISTED = Operation("c2", "read", ("name:0",), ("x-1",), 20, 30)
WRITTEN = Operation("c1", "write", ("job:x-1", 7), None, 40, 50)
UNKNOWN = Operation("c3", "write", ("job:x-1", 2), None, 45, None)
READ = Operation("c2", "read", ("job:x-1",), 7, 60, 70)


def judged(path: Path, *history: Operation) -> tuple[int, str]:
    path.write_text("".join(dump(history)))
    ended = CliRunner().invoke(zlb, ["tracker", "judge", str(path)])
    return ended.exit_code, ended.output


def test_what_one_copy_could_have_answered_is_linearizable(tmp_path: Path) -> None:
    code, said = judged(tmp_path / "h", SUBMITTED, LISTED, WRITTEN, UNKNOWN, READ)
    assert (code, said) == (0, "5 operations: linearizable\n")


@pytest.mark.parametrize(
    "wrong",
    [
        LISTED._replace(result=()),
        LISTED._replace(result=("x-1", "x-1")),
        SUBMITTED._replace(result="there is a job of that id already"),
        READ._replace(result=5),
        READ._replace(result=9),
    ],
    ids=["lost", "twice", "again", "stale", "invented"],
)
def test_what_no_order_explains_is_shown(tmp_path: Path, wrong: Operation) -> None:
    right = (SUBMITTED, LISTED, WRITTEN, UNKNOWN, READ)
    history = [
        wrong if (one.operation, one.arguments) == (wrong.operation, wrong.arguments) else one
        for one in right
    ]
    code, said = judged(tmp_path / "h", *history)
    assert code == 6
    assert "is not linearizable" in said


@pytest.mark.parametrize("line", ["no JSON", json.dumps({"client": "c"})])
def test_a_file_that_is_no_history_is_refused_with_the_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "h").write_text(f"\n{line}\n")
    ended = CliRunner().invoke(zlb, ["tracker", "judge", str(tmp_path / "h")])
    assert ended.exit_code == 2
    assert "line 2: " in ended.output
