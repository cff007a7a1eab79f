"""examples/collatz: a compiled kernel in a package of its own, installed, found by its entry point, and exact."""

import configparser
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from zlb.kernels import KernelError

CAPACITY = 2**40
RECORD = 989_345_275_647
"""No integer below CAPACITY takes more steps; they are 1348."""
OUTGROWN = (8_528_817_511, 1_025_574_215_945)
"""On their way to 1 they pass 2^63, beyond which the compiled loop cannot count."""

Search = tuple[int, int, int, int, bool]
"""Steps, start, stop, hits_max, whether the stop flag is set."""
Answer = tuple[int, list[tuple[int, bytes]]]
"""Where a search stopped and its hits."""

NAMES = "from zlb.kernels import kernel_names; print(*kernel_names())"
LEAN = """
import sys
from zlb.kernels import load_kernel
kernel = load_kernel("collatz")
kernel.validate({"steps": 1}, [(0, 2**40)])
print(kernel.checker({"steps": 1})(27), kernel.tests_per_hit({"steps": 0}), *({"numba", "numpy"} & {*sys.modules}))
"""
SEARCHES = """
import json, sys
import numpy as np
from zlb.kernels import load_kernel
for steps, start, stop, hits_max, stopped in json.load(sys.stdin):
    search = load_kernel("collatz").prepare({"steps": steps})
    found = search.search(start, stop, np.array([stopped], np.uint8), hits_max)
    print(json.dumps([found.stopped_at, [(hit.n, hit.digest.hex()) for hit in found.hits]]))
"""
STOP = """
import threading, time
import numpy as np
from zlb.kernels import load_kernel
search, delays = load_kernel("collatz").prepare({"steps": 10_000}), []
for _ in range(5):  # the machine may be busy; the search must manage once
    flag, found = np.zeros(1, np.uint8), []
    searcher = threading.Thread(target=lambda: found.append(search.search(0, 2**40, flag, 1)), daemon=True)
    searcher.start()
    searcher.join(timeout=0.05)
    assert searcher.is_alive()  # this thread goes on meanwhile: the interpreter lock is free
    before = time.perf_counter()
    flag[0] = 1
    searcher.join(timeout=30)
    delays.append(time.perf_counter() - before)
    assert 0 < found[0].stopped_at < 2**40 and not found[0].hits
print(min(delays))
"""


def setuptools_install(package: Path) -> None:
    """Have setuptools write what pip would; pip itself needs more than a bare .venv has to do it offline."""
    build = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info"]
    subprocess.run(build, cwd=package, check=True, capture_output=True, timeout=60)


def plain_install(package: Path) -> None:
    """Where there is no setuptools: the two files of an installed package that Python looks at."""
    setup = configparser.ConfigParser()
    setup.read(package / "setup.cfg")
    points = setup["options.entry_points"]["zlb.kernels"]
    info = package / "zlb_collatz-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zlb-collatz\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zlb.kernels]\n{points.strip()}\n")


WAYS: list[Callable[[Path], None]] = [plain_install]
if importlib.util.find_spec("setuptools"):
    WAYS.append(setuptools_install)


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.__name__)
def installed(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """An environment in which the package is installed."""
    package = tmp_path_factory.mktemp("installed") / "collatz"
    shutil.copytree(
        root / "examples" / "collatz",
        package,
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"),
    )
    request.param(package)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return kept | {"PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("numba"))}


@pytest.fixture(scope="module")
def example(root: Path) -> ModuleType:
    """The half of the kernel that is not compiled."""
    spec = importlib.util.spec_from_file_location(
        "zlb_collatz", root / "examples" / "collatz" / "zlb_collatz.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(installed: dict[str, str], code: str, given: str = "") -> str:
    command = [sys.executable, "-P", "-c", code]
    ended = subprocess.run(
        command, input=given, capture_output=True, text=True, env=installed, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def search(installed: dict[str, str], searches: Sequence[Search]) -> list[Answer]:
    lines = run(installed, SEARCHES, json.dumps(searches)).splitlines()
    answers = [json.loads(line) for line in lines]
    return [(stopped, [(n, bytes.fromhex(digest)) for n, digest in hits]) for stopped, hits in answers]


def slow_search(kernel: Any, steps: int, start: int, stop: int, hits_max: int, stopped: bool) -> Answer:
    """What the search must answer, by the checker."""
    check = kernel.checker({"steps": steps})
    hits = []
    for n in range(start, start if stopped else stop):
        if (digest := check(n)) is not None:
            hits.append((n, digest))
            if len(hits) == hits_max:
                return n + 1, hits
    return (start if stopped else stop), hits


def test_is_found_by_name_without_numba(installed: dict[str, str]) -> None:
    assert "collatz" in run(installed, NAMES).split()
    assert run(installed, LEAN) == f"{(111).to_bytes(8, 'big')} 1.0\n"


def test_search_agrees_with_the_checker(installed: dict[str, str], example: ModuleType) -> None:
    everything = 10**9
    searches: list[Search] = [
        *((steps, 0, 3000, everything, False) for steps in (0, 1, 2, 7, 100, 180, 216, 217)),
        *((steps, start, start, 1, False) for steps in (0, 50) for start in (0, 5, CAPACITY)),
        *((steps, 0, 1000, hits_max, False) for steps in (0, 1, 60, 170) for hits_max in (1, 2, 5, 1000)),
        *((0, 5, 105, hits_max, False) for hits_max in (99, 100, 101)),
        *((steps, start, 2000, 9, True) for steps in (0, 300) for start in (0, 1, 1999, 2000)),
        *((steps, CAPACITY - 500, CAPACITY, everything, False) for steps in (0, 250, 400)),
        *((steps, CAPACITY - 1, CAPACITY, 1, False) for steps in (0, 1000)),
        *((steps, 2**32 - 300, 2**32 + 300, everything, False) for steps in (150, 300)),
        *((steps, n - 30, n + 30, everything, False) for n in OUTGROWN for steps in (0, 300, 450)),
        *((steps, n, n + 1, 1, False) for n in (RECORD, *OUTGROWN) for steps in (1, 1348, 1349)),
    ]
    answers = search(installed, searches)
    assert len(answers) == len(searches)
    for asked, answer in zip(searches, answers, strict=True):
        assert answer == slow_search(example.COLLATZ, *asked), asked
    assert search(installed, [(1348, RECORD, RECORD + 1, 1, False)]) == [
        (RECORD + 1, [(RECORD, (1348).to_bytes(8, "big"))])
    ]


@pytest.mark.parametrize("steps", ["100", "0xaa"])
def test_zlb_submit_searches_with_it(
    installed: dict[str, str], example: ModuleType, tmp_path: Path, steps: str
) -> None:
    kept = {name: value for name, value in installed.items() if not name.startswith("ZLB_")}
    job = ("--algo", "collatz", "--param", f"steps={steps}", "-r", "0:1000", "--all", "--quiet")
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "zlb.cli.submit", *job],
        capture_output=True,
        text=True,
        env=kept | {"ZLB_STATE_DIR": str(tmp_path)},
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    check = example.COLLATZ.checker({"steps": int(steps, 0)})
    hits = [(n, digest) for n in range(1000) if (digest := check(n)) is not None]
    assert hits
    assert sorted(ended.stdout.splitlines(), key=lambda line: int(line.split()[0])) == [
        f"{n}\t{digest.hex()}" for n, digest in hits
    ]


def test_a_flag_set_by_another_thread_stops_within_50_ms(installed: dict[str, str]) -> None:
    assert float(run(installed, STOP)) < 0.05


def test_some_numbers_are_those_everybody_knows(example: ModuleType) -> None:
    known = {0: 0, 1: 0, 2: 1, 3: 7, 6: 8, 7: 16, 27: 111, 97: 118, 871: 178, 6171: 261, RECORD: 1348}
    assert {n: example.steps_of(n) for n in known} == known
    for n in OUTGROWN:
        assert greatest_on_the_way(n) >= 2**63


def greatest_on_the_way(n: int) -> int:
    greatest = n
    while n > 1:
        n = 3 * n + 1 if n % 2 else n // 2
        greatest = max(greatest, n)
    return greatest


def test_the_estimate_holds_within_a_factor_of_two(example: ModuleType) -> None:
    sample = np.random.default_rng(7).integers(0, CAPACITY, 20_000).tolist()
    taken = np.array([example.steps_of(n) for n in sample])
    for steps in (0, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500):
        measured = len(taken) / (taken >= steps).sum()
        assert measured / 2 < example.COLLATZ.tests_per_hit({"steps": steps}) < 2 * measured
    estimates = [example.COLLATZ.tests_per_hit({"steps": steps}) for steps in range(0, 10_001, 50)]
    assert estimates == sorted(estimates)


def test_strangers_parameters_and_ranges_are_refused(example: ModuleType) -> None:
    kernel = example.COLLATZ
    bad: list[dict[Any, Any]] = [{}, {"steps": True}, {"steps": -1}, {"steps": 10_001}, {"steps": 1, 2: 3}]
    for params in [*bad, {"steps": "9"}, {"steps": 1.0}, {"steps": [1]}, {"steps": 10**5000}]:
        for ask in (kernel.tests_per_hit, kernel.checker, kernel.prepare):
            with pytest.raises(KernelError):
                ask(params)
    for span in ((-1, 5), (5, 4), (0, CAPACITY + 1), (0, True), ("0", 5), (0, 10**5000)):
        with pytest.raises(KernelError):
            kernel.validate({"steps": 1}, [span])
    assert kernel.checker({"steps": 0})(-1) is None
    assert kernel.checker({"steps": 0})(CAPACITY) is None
