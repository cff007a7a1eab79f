"""The commands as a shell starts them: help, versions, usage errors, and what none of these may load."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import zlb
from zlb.cli.main import zlb as group
from zlb.cli.submit import submit
from zlb.cli.tracker import tracker

MODULES = {
    "zlb-submit": "zlb.cli.submit",
    "zlb-peer": "zlb.cli.peer",
    "zlb-tracker": "zlb.cli.tracker",
    "zlb-sim": "zlb.cli.sim",
    "zlb": "zlb.cli.main",
}
HEADINGS = ["What to search", "When to stop", "How to run", "Where", "Output"]
HEAVY = {"zmq", "numba", "numpy", "rich", "msgspec", "llvmlite", "cryptography"}

# Runs a command as `python -m` does, then tells which of the heavy modules it has loaded.
WATCHED = """
import runpy, sys
heavy, module = set(sys.argv.pop(1).split(",")), sys.argv.pop(1)
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print("loaded:", *sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZLB_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("program", "module"), MODULES.items())
def test_version(root: Path, program: str, module: str) -> None:
    done = python(root, "-m", module, "--version")
    assert (done.returncode, done.stdout) == (0, f"{program}, version {zlb.__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(("program", "module"), MODULES.items())
def test_help(root: Path, program: str, module: str, flag: str) -> None:
    done = python(root, "-m", module, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {program} [OPTIONS]")


def test_help_is_grouped_and_whole() -> None:
    said = CliRunner().invoke(submit, ["--help"]).stdout
    assert [
        line[:-1] for line in said.splitlines() if line.endswith(":") and line[:-1] in HEADINGS
    ] == HEADINGS
    options = "range difficulty target nbits digest match algo encoding prefix suffix header roll-version"
    stop = "first lowest count all timeout"
    more = "chunk local name detach priority deadline dry-run peer tracker state-dir"
    output = "json progress quiet verbose color no-color version help"
    for name in f"{options} {stop} {more} {output}".split():
        assert f"--{name}" in said
    assert "[default: 0:2**32]" in re.sub(r"\s+", " ", said)


@pytest.mark.parametrize(
    "command", [*group.commands.values(), *tracker.commands.values()], ids=lambda command: command.name
)
def test_every_option_is_explained(command: click.Command) -> None:
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
        else:
            assert param.make_metavar(click.Context(command)), param.name


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("zlb.cli.submit --help", 0),
        ("zlb.cli.submit --version", 0),
        ("zlb.cli.submit", 2),
        ("zlb.cli.submit -d 300", 2),
        ("zlb.cli.submit --digest 00ff", 2),
        (f"zlb.cli.submit --header {'00' * 80} -d 9 --roll-version 4 -r :2^33", 2),
        ("zlb.cli.submit -d 20 -r 5:3", 2),
        ("zlb.cli.submit -d 20 -a nonsense", 2),
        ("zlb.cli.submit -d 20 --peer nonsense", 2),
        ("zlb.cli.submit -d 20 -e u32le -r :2^40", 2),
        ("zlb.cli.peer --help", 0),
        ("zlb.cli.peer --listen nonsense", 2),
        ("zlb.cli.tracker --help", 0),
        ("zlb.cli.tracker", 2),
        ("zlb.cli.main --help", 0),
        ("zlb.cli.main jobs --help", 0),
        ("zlb.cli.main wait", 2),
        ("zlb.cli.main tracker add x", 2),
        ("zlb.cli.main kernels", 0),
        ("zlb.cli.main verify nowhere", 2),
        ("zlb.cli.main keys show --help", 0),
        ("zlb.cli.sim jobs --help", 0),
        ("zlb.cli.sim jobs --rate nan", 2),
        ("zlb.cli.main sim study --help", 0),
    ],
)
def test_loads_nothing_heavy(root: Path, arguments: str, code: int) -> None:
    done = python(root, "-c", WATCHED, ",".join(HEAVY), *arguments.split())
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, "loaded:")


def test_a_usage_error_of_a_process(root: Path) -> None:
    done = python(root, "-m", "zlb.cli.submit", "-d", "20", "--range", "0:2**")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: zlb-submit [OPTIONS]\n")
    assert done.stderr.endswith("\n    0:2**\n         ^\n")


def test_kernels_are_listed() -> None:
    assert CliRunner().invoke(group, ["kernels"]).stdout == "sha1\nsha256\nsha256d\nsleep\nspin\n"


def test_the_group_names_its_commands() -> None:
    said = CliRunner().invoke(group, ["--help"]).stdout
    jobs = {"jobs", "wait", "status", "result", "cancel", "pause", "resume", "priority", "peers"}
    assert set(group.commands) == {"submit", "peer", "tracker", "kernels", "keys", "verify", "sim", *jobs}
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in group.commands)


def test_the_tracker_names_its_commands() -> None:
    said = CliRunner().invoke(group, ["tracker", "--help"]).stdout
    assert set(tracker.commands) == {"status", "add", "remove", "transfer", "snapshot", "exercise", "judge"}
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in tracker.commands)
    assert said.index("--data") < said.index("Commands:") < said.index("Examples:")


@pytest.mark.parametrize(
    ("arguments", "incomplete", "offered"),
    [
        (["--algo"], "sha", ["sha1", "sha256", "sha256d"]),
        ([], "--roll", ["--roll-version"]),
        (["--peer"], "tcp", ["tcp://127.0.0.1:7001"]),
        (["--tracker"], "tcp", ["tcp://127.0.0.1:7101"]),
        (["--encoding"], "u32", ["u32le", "u32be"]),
        ([], "--low", ["--lowest"]),
    ],
)
def test_completion(arguments: list[str], incomplete: str, offered: list[str]) -> None:
    complete = ShellComplete(submit, {}, "zlb-submit", "_ZLB_SUBMIT_COMPLETE")
    assert [item.value for item in complete.get_completions(arguments, incomplete)] == offered
