"""What every test may count on: hypothesis the same in every run, and the list of the project's files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# No deadline: speed is measured in bench/. Derandomised: a test that fails fails again.
hypothesis.settings.register_profile("zlb", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("zlb")


@pytest.fixture(scope="session", autouse=True)
def kernel_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the kernels of this run are compiled to: nothing of an earlier run or of the user's is used."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("kernels")
        patch.setenv("ZLB_KERNEL_DIR", str(path))
        yield path


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_files(root: Path) -> list[Path]:
    """What a clone holds or soon will, relative to the root: files that git tracks, or would with `git add`."""
    listing = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in sorted({*names} - {""}) if (root / (path := Path(name))).is_file()]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write tests/scenarios/*.txt and tests/golden/wire.txt anew; commit only what you can explain",
    )
    parser.addoption(
        "--kernel-cases",
        type=int,
        default=2500,
        help="how many searches test_kernel_sweep.py compares with hashlib",
    )
    parser.addoption(
        "--kernel-seed",
        type=int,
        help="other searches in test_kernel_sweep.py than those of every run, and messages of more lengths",
    )
