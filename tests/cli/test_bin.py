"""bin/ from a bare clone: what the scripts start, when they build .venv, and what they say when they cannot.

Most tests take a copy whose .venv is a stand-in that prints its arguments; only the slow ones build a real one.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zlb

SECONDS_MAX = 300
STARTS = {
    "zlb": "zlb.cli.main",
    "zlb-submit": "zlb.cli.submit",
    "zlb-peer": "zlb.cli.peer",
    "zlb-sim": "zlb.cli.sim",
    "sweep": "zlb.sim.sweep",
}
SPEAKING = '#!/bin/sh\nprintf "%s|" "$@"\n'


@pytest.fixture
def clone(tmp_path: Path, root: Path, project_files: list[Path]) -> Path:
    """A bare clone: no .venv, and a path with a space."""
    clone = tmp_path / "a clone"
    for path in project_files:
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, clone / path)
    return clone


def furnish(clone: Path) -> None:
    """Give it a .venv that looks finished."""
    script(clone / ".venv/bin/python", SPEAKING)
    shutil.copy(clone / "setup.cfg", clone / ".venv/zlb-setup.cfg")
    (clone / ".venv/zlb-place").write_text(f"{clone.resolve()}\n")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A new user's: an empty home, and this Python."""
    (tmp_path / "home").mkdir()
    return {**os.environ, "HOME": str(tmp_path / "home"), "PYTHON": sys.executable}


@pytest.fixture
def offline(env: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if not k.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
    }


Call = subprocess.CompletedProcess[str]


def call(command: Path, *arguments: str, env: dict[str, str], cwd: Path) -> Call:
    return subprocess.run(
        [command, *arguments],
        env=env,
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )


@pytest.mark.parametrize(("name", "module"), STARTS.items())
def test_starts_its_module_from_anywhere(
    name: str, module: str, clone: Path, env: dict[str, str], tmp_path: Path
) -> None:
    furnish(clone)
    done = call(clone / "bin" / name, "one two", "", env=env, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"-P|-m|{module}|one two||", "")


def test_starts_through_a_chain_of_links(clone: Path, env: dict[str, str], tmp_path: Path) -> None:
    furnish(clone)
    (tmp_path / "first").symlink_to("a clone/bin/zlb-submit")
    (tmp_path / "second").symlink_to(tmp_path / "first")
    assert call(tmp_path / "second", env=env, cwd=Path("/")).stdout == "-P|-m|zlb.cli.submit|"


def change_setup(clone: Path) -> None:
    with (clone / "setup.cfg").open("a") as setup:
        setup.write("# a change\n")


def move(clone: Path) -> None:
    (clone / ".venv/zlb-place").write_text("/elsewhere\n")


def lose_python(clone: Path) -> None:
    (clone / ".venv/bin/python").unlink()


@pytest.mark.parametrize("spoil", [change_setup, move, lose_python])
def test_builds_again_what_no_longer_fits(
    spoil: Callable[[Path], None], clone: Path, env: dict[str, str], tmp_path: Path
) -> None:
    furnish(clone)
    spoil(clone)
    python = script(tmp_path / "python", f"{SPEAKING}[ $1 = -c ]\n")  # new enough, and fails to build
    done = call(clone / "bin/zlb", env=env | {"PYTHON": str(python)}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, f"-I|{clone}/bin/bootstrap.py|")


@pytest.mark.parametrize("python", ["/bin/false", "no-such-python"])
def test_says_that_no_python_will_do(python: str, clone: Path, env: dict[str, str], tmp_path: Path) -> None:
    done = call(clone / "bin/zlb", env=env | {"PYTHON": python}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"zlb: needs Python 3.11 or newer, tried: {python}; set PYTHON to one\n"


def test_looks_for_other_names_when_python3_is_old(clone: Path, env: dict[str, str], tmp_path: Path) -> None:
    del env["PYTHON"]
    script(tmp_path / "path/python3", "#!/bin/sh\nexit 1\n")
    script(tmp_path / "path/python3.13", "#!/bin/sh\nexit 127\n")  # a pyenv shim without its version
    script(
        tmp_path / "path/python3.12",
        f'#!/bin/sh\n[ "$1" = -c ] || echo found\nexec "{sys.executable}" -c ""\n',
    )
    done = call(clone / "bin/zlb", env=env | {"PATH": f"{tmp_path}/path:{env['PATH']}"}, cwd=tmp_path)
    assert done.stdout == "found\n"


def test_says_that_venv_is_missing(clone: Path, env: dict[str, str], tmp_path: Path) -> None:
    hide = (
        "import sys, runpy; sys.modules['ensurepip'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    call_with = f'#!/bin/sh\n[ "$1" = -c ] || exec "{sys.executable}" -c "{hide}" "$2"\n'
    python = script(tmp_path / "python", call_with)
    done = call(clone / "bin/zlb", env=env | {"PYTHON": str(python)}, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "apt install python3-venv" in done.stderr


def test_waits_for_another_call_and_uses_its_work(clone: Path, env: dict[str, str], tmp_path: Path) -> None:
    with (clone / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [clone / "bin/zlb", "x"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with second:
            assert "waiting" in second.stderr.readline()
            furnish(clone)
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, err = second.communicate(timeout=SECONDS_MAX)
    assert (out, err) == ("-P|-m|zlb.cli.main|x|", "")


@pytest.mark.slow
def test_throws_away_a_half_made_venv_and_shows_why_pip_failed(
    clone: Path, offline: dict[str, str], tmp_path: Path
) -> None:
    furnish(clone)
    (clone / ".venv/zlb-building").touch()
    (clone / ".venv/half").touch()
    change_setup(clone)
    done = call(clone / "bin/zlb", env=offline, cwd=tmp_path)
    assert done.returncode == 1
    assert "No matching distribution found" in done.stderr
    assert done.stderr.endswith("zlb: pip failed, see above; the next call tries again\n")
    assert not (clone / ".venv/half").exists()
    assert not (clone / ".venv.old").exists()
    assert not list((clone / ".venv").glob("zlb-*")), "a stamp or mark is left"


@pytest.fixture
def first_calls(clone: Path, env: dict[str, str], tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    command = [clone / "bin/zlb-submit", "--version"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    calls = [subprocess.Popen(command, env=env, cwd=tmp_path, **pipes) for _ in range(2)]
    yield calls
    for started in calls:
        started.kill()
        started.communicate()


@pytest.mark.slow
def test_two_first_calls_at_once(first_calls: list[subprocess.Popen[str]]) -> None:
    """The one test that needs the network: all packages are fetched and installed."""
    (out_1, err_1), (out_2, err_2) = (started.communicate(timeout=SECONDS_MAX) for started in first_calls)
    assert [started.returncode for started in first_calls] == [0, 0], err_1 + err_2
    assert out_1 == out_2
    assert "zlb-submit" in out_1
    assert zlb.__version__ in out_1
    said = err_1 + err_2
    assert said.count("making .venv (first call only)") == said.count("ready after") == 1
    assert said.count("\n") <= 4
