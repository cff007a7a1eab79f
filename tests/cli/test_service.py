"""The systemd unit in examples/: systemd takes it, and zlb-peer takes what it asks for."""

import configparser
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from zlb.cli import run
from zlb.drivers.manners import Manners

Call = Callable[..., Result]


@pytest.fixture
def unit(root: Path) -> Path:
    return root / "examples" / "zlb-peer.service"


def test_its_command_is_one_that_zlb_peer_takes(
    unit: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[run.Serving] = []
    monkeypatch.setattr(run, "serve", lambda serving, _on_event: asked.append(serving))
    settings = configparser.RawConfigParser(
        strict=False
    )  # systemd repeats Environment=, configparser keeps the last
    settings.optionxform = str  # type: ignore[assignment,method-assign]
    settings.read(unit)
    service: Any = settings["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/zlb-peer")
    result = call("peer", *arguments)
    assert (result.exit_code, result.output) == (0, "bye\n")
    (serving,) = asked
    assert serving.manners == Manners(0.75, 19, True)
    assert service["Environment"] == "ZLB_STATE_DIR=%S/" + service["StateDirectory"]
    assert (service["KillSignal"], service["RestartPreventExitStatus"]) == ("SIGTERM", "2")


def test_systemd_has_nothing_to_say_against_it(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("%h/.local/bin/zlb-peer", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--user", copy],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
