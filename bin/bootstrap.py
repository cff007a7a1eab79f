"""Make or refresh .venv: run by bootstrap.sh, with the name of an extra or none, when the stamps do not match.

Uses the standard library only. Safe when several start at once and when killed anywhere:

* a lock is held, by pip too, so that a pip outliving a killed bootstrap still keeps the next one waiting;
* `zlb-building` is there while .venv may be half done, and a .venv found with it is thrown away;
* the stamps that bootstrap.sh compares are taken away first and written last.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLD = ROOT / ".venv.old"
PYTHON = VENV / "bin" / "python"
BUILDING = VENV / "zlb-building"
PLACE = VENV / "zlb-place"


def main() -> None:
    extra = sys.argv[1] if len(sys.argv) > 1 else ""
    with open(ROOT / ".venv.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another call is making .venv, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_fresh(extra):
            build(extra, lock)


def is_fresh(extra: str) -> bool:
    """What bootstrap.sh asks, asked again: the call that was waited for may have done it all."""
    try:
        return stamp(extra).read_bytes() == (ROOT / "setup.cfg").read_bytes() and is_whole()
    except FileNotFoundError:
        return False


def is_whole() -> bool:
    """Whether .venv has a Python that is new enough, with pip, made here and to the end. One made by hand may be."""
    if BUILDING.exists() or (PLACE.exists() and PLACE.read_bytes() != here()):
        return False
    probe = [PYTHON, "-I", "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"]
    return PYTHON.exists() and subprocess.run(probe, check=False, capture_output=True).returncode == 0


def build(extra: str, lock: IO[str]) -> None:
    began = time.monotonic()
    setup = (ROOT / "setup.cfg").read_bytes()  # now: a change made while pip works is for the next call
    if not is_whole():
        make_venv(lock)
    BUILDING.touch()
    for old in VENV.glob("zlb-setup*.cfg"):
        old.unlink()
    say("installing zlb and the packages it needs" + (f" to {extra}" if extra else ""))
    target = f"{ROOT}[{extra}]" if extra else f"{ROOT}"
    pip = [PYTHON, "-I", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    installed = run([*pip, "install", "--editable", target], lock)
    BUILDING.unlink()  # pip came to an end, good or bad, so what is there is whole
    if not installed:
        sys.exit("zlb: pip failed, see above; the next call tries again")
    PLACE.write_bytes(here())
    for name in {"", extra}:
        stamp(name).write_bytes(setup)
    say(f"ready after {time.monotonic() - began:.0f} s")


def make_venv(lock: IO[str]) -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(f"zlb: {sys.executable} has no venv or ensurepip; on Debian: apt install python3-venv")
    say("making .venv (first call only)")
    if VENV.exists():
        shutil.rmtree(OLD, ignore_errors=True)
        VENV.rename(OLD)  # in one step: half removed it could pass for whole
    shutil.rmtree(OLD, ignore_errors=True)
    VENV.mkdir()
    BUILDING.touch()
    if not run([sys.executable, "-I", "-m", "venv", VENV], lock):
        sys.exit("zlb: no .venv could be made, see above")


def run(command: list[str | Path], lock: IO[str]) -> bool:
    """Whether it went well; what it printed is shown only if it did not."""
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[lock.fileno()],
    )
    if done.returncode != 0:
        sys.stderr.buffer.write(done.stdout)
    return done.returncode == 0


def here() -> bytes:
    return os.fsencode(ROOT) + b"\n"


def stamp(extra: str) -> Path:
    return VENV / (f"zlb-setup-{extra}.cfg" if extra else "zlb-setup.cfg")


def say(text: str) -> None:
    print(f"zlb: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"zlb: cannot make .venv: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
