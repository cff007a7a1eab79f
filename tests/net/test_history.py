"""Clients of a real cluster see one copy of the registry, while its trackers are killed and started again."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.net.conftest import Process
from tests.net.test_survival import Grid, free_ports


@pytest.mark.slow
def test_a_history_under_kills_is_linearizable(spawn: Callable[..., Any], tmp_path: Path) -> None:
    grid = Grid(spawn, free_ports(3), tmp_path)
    grid.leader()
    path = str(tmp_path / "history.jsonl")
    words = "tracker", "exercise", "--clients", "5", "--duration", "8s", "--history", path, *grid.options
    clients = spawn(Process, "zlb.cli.main", *words)
    for _ in range(3):
        name = grid.leader()
        grid.trackers[name].end(signal.SIGKILL)
        grid.trackers[name] = grid.start(int(name[1:]))
    clients.wait_for(" operations, 0 of them with an unknown outcome")
    assert clients.popen.wait(60) == 0
    judge = spawn(Process, "zlb.cli.main", "tracker", "judge", path)
    judge.wait_for("operations: linearizable")
    assert judge.popen.wait(60) == 0
    with open(path) as file:
        assert sum(1 for _ in file) > 500
