"""Compiled code is kept on disk: found again, not trusted when damaged, not needed; and which way the CPU is used."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from zlb.kernels import compiled, paths
from zlb.kernels.fips180 import SHA1 as SHA1_FUNCTION
from zlb.kernels.fips180 import SHA256 as SHA256_FUNCTION
from zlb.kernels.hashes import SHA1, SHA256, SHA256D, HashKernel
from zlb.kernels.interface import KernelError

# Eight bytes are never short enough for numpy.
PARAMS: dict[str, object] = {"encoding": "u64be", "difficulty": 5}
NUMBERS = range(1000, 2000)
HITS = [n for n in NUMBERS if hashlib.sha256(n.to_bytes(8, "big")).digest()[-1] % 32 == 0]
PROGRAM = """
import logging, sys
import numpy as np
from zlb.kernels.hashes import SHA256
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(levelname)s %(message)s")
found = SHA256.prepare({"encoding": "u64be", "difficulty": 5}).search(1000, 2000, np.zeros(1, np.uint8), 1000)
print(*(hit.n for hit in found.hits))
print(*(name for name in ("numba", "llvmlite") if name in sys.modules))
"""
WAYS = [path.name for path in paths.possible()]
TWO_WAYS = pytest.mark.skipif(
    len(paths.candidates(sha256=True)) < 2, reason="this CPU has but one way, which nothing is remembered of"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in a process that is as good as new."""
    monkeypatch.setenv(compiled.DIRECTORY_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(paths.VARIABLE, raising=False)
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    forget(monkeypatch)
    return tmp_path / "cache"


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, logger="zlb.kernels"):
        yield caplog


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process has loaded, as the next one would."""
    monkeypatch.setattr(compiled, "_loaded", {})


def search(kernel: HashKernel = SHA256) -> list[int]:
    found = kernel.prepare(PARAMS).search(NUMBERS.start, NUMBERS.stop, np.zeros(1, np.uint8), 1000)
    return [hit.n for hit in found.hits]


def process(cache: Path, **environment: str) -> "subprocess.Popen[str]":
    inherited = {
        name: text for name, text in os.environ.items() if name not in (paths.VARIABLE, "NUMBA_DISABLE_JIT")
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, compiled.DIRECTORY_VARIABLE: str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(started: "subprocess.Popen[str]") -> tuple[list[int], list[str], str]:
    """What a process found, which libraries it has imported, and what it logged."""
    out, log = started.communicate(timeout=100)
    assert started.returncode == 0, log
    hits, modules = out.split("\n")[:2]
    return [int(n) for n in hits.split()], modules.split(), log


def compiling(log: str) -> int:
    return log.count("compiling")


def files(cache: Path, pattern: str) -> list[Path]:
    return sorted(cache.glob(pattern))


# --- between processes ---------------------------------------------------------------------------------------------


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    hits, modules, log = finished(process(tmp_path))
    assert hits == HITS
    assert modules == ["llvmlite"]
    assert compiling(log)
    kept = {file: file.stat().st_mtime_ns for file in files(tmp_path, "*")}
    hits, modules, log = finished(process(tmp_path))
    assert hits == HITS
    assert modules == ["llvmlite"]
    assert not compiling(log)
    assert {file: file.stat().st_mtime_ns for file in files(tmp_path, "*")} == kept


def test_processes_that_start_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    started = [process(tmp_path) for _ in range(4)]
    assert [finished(each)[0] for each in started] == [HITS] * 4
    assert files(tmp_path, "*.o")
    assert not files(tmp_path, "*.tmp")
    assert not compiling(finished(process(tmp_path))[2])


def test_numpy_needs_neither_a_compiler_nor_a_cache(tmp_path: Path) -> None:
    for environment in ({"ZLB_SIMD": "numpy"}, {"NUMBA_DISABLE_JIT": "1"}):
        hits, modules, log = finished(process(tmp_path / "cache", **environment))
        assert hits == HITS
        assert "numba" not in modules
        assert not log
        assert not (tmp_path / "cache").exists()


def test_describing_and_checking_a_puzzle_imports_no_compiler() -> None:
    program = """
import sys
from zlb.kernels.hashes import SHA256D
from zlb.kernels.bitcoin import header_params
check = SHA256D.checker({"difficulty": 4})
SHA256D.validate({"difficulty": 4}, [(0, 5)])
print([name for name in ("numba", "llvmlite", "numpy") if name in sys.modules], any(map(check, range(200))))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert run.stdout == "[] True\n"


# --- files ---------------------------------------------------------------------------------------------------------


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:32],
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\0",
        lambda content: flipped(content, 0),
        lambda content: flipped(content, 31),
        lambda content: flipped(content, 32),
        lambda content: flipped(content, len(content) // 2),
        lambda content: flipped(content, len(content) - 1),
        lambda content: bytes(len(content)),
    ],
)
def test_damaged_code_is_compiled_anew(
    cache: Path,
    records: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setenv(paths.VARIABLE, WAYS[0])
    assert search() == HITS
    (file,) = files(cache, "*.o")
    sound = file.read_bytes()
    forget(monkeypatch)
    records.clear()
    assert search() == HITS
    assert not compiling(records.text)
    file.write_bytes(damage(sound))
    forget(monkeypatch)
    assert search() == HITS
    assert compiling(records.text) == 1
    content = file.read_bytes()
    assert content[:32] == hashlib.sha256(content[32:]).digest()
    assert files(cache, "*") == [file]


@pytest.mark.parametrize(
    "way",
    [
        WAYS[0],
        pytest.param(None, marks=TWO_WAYS),
    ],
)
def test_a_cache_that_cannot_be_written_is_one_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: pytest.LogCaptureFixture,
    cache: Path,
    way: str | None,
) -> None:
    if way:
        monkeypatch.setenv(paths.VARIABLE, way)
    # A file is in the way, which also stops root.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compiled.DIRECTORY_VARIABLE, str(tmp_path / "file" / "cache"))
    assert search() == HITS
    warnings = [record for record in records.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "\n" not in warnings[0].getMessage()


def test_code_that_can_be_neither_read_nor_replaced_is_done_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstruct(cache, monkeypatch)
    assert search() == HITS


def test_a_draft_that_cannot_be_put_in_place_is_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obstruct(cache, monkeypatch)
    search()
    assert not files(cache, "*.tmp")


def obstruct(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a folder where code should be."""
    monkeypatch.setenv(paths.VARIABLE, WAYS[0])
    assert search() == HITS
    (file,) = files(cache, "*")
    file.unlink()
    (file / "inside").mkdir(parents=True)
    forget(monkeypatch)


def test_threads_compile_a_loop_once(
    cache: Path, records: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(paths.VARIABLE, WAYS[0])
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: search(), range(8))) == [HITS] * 8
    assert compiling(records.text) == 1


def test_the_cache_is_among_the_users_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiled.DIRECTORY_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.directory() == tmp_path / "zlb" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiled.directory() == tmp_path / ".cache" / "zlb" / "kernels"


# --- ways through the CPU ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", [SHA256, SHA256D], ids=lambda kernel: kernel.name)
def test_the_way_asked_for_is_gone(
    cache: Path, monkeypatch: pytest.MonkeyPatch, way: str, kernel: HashKernel
) -> None:
    monkeypatch.setenv(paths.VARIABLE, way)
    check = kernel.checker(PARAMS)
    assert search(kernel) == [n for n in NUMBERS if check(n)]
    (file,) = files(cache, "*")
    assert file.name.startswith(f"{kernel.name}-{way}-")


@pytest.mark.parametrize("way", WAYS)
def test_sha1_goes_another_way_than_the_instructions_for_sha256(
    cache: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv(paths.VARIABLE, way)
    check = SHA1.checker(PARAMS)
    assert search(SHA1) == [n for n in NUMBERS if check(n)]
    (file,) = files(cache, "*")
    taken = paths.candidates(sha256=False)[0].name if paths.PATHS[way].sha else way
    assert file.name.startswith(f"sha1-{taken}-")


@pytest.mark.parametrize("way", ["AVX2", "nonsense", "avx2 ", "sse2,avx2", "0", "x" * 5000, "a\nb", "é"])
def test_a_way_that_there_is_not_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv(paths.VARIABLE, way)
    with pytest.raises(KernelError) as refusal:
        SHA256.prepare(PARAMS)
    text = str(refusal.value)
    assert text.startswith("ZLB_SIMD is one of avx512, avx2, ")
    assert text.isascii() and text.isprintable()
    assert len(text) < 200


@pytest.mark.parametrize("kernel", [SHA1, SHA256, SHA256D], ids=lambda kernel: kernel.name)
def test_a_way_this_cpu_cannot_go_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, kernel: HashKernel
) -> None:
    monkeypatch.setattr(paths, "possible", lambda: (paths.PATHS["generic"],))
    monkeypatch.setenv(paths.VARIABLE, "avx512")
    with pytest.raises(KernelError, match=r"^ZLB_SIMD=avx512: this CPU cannot$"):
        kernel.prepare(PARAMS)


@pytest.mark.parametrize("way", ["", *WAYS])
def test_numba_told_not_to_compile_means_numpy_unless_a_way_is_asked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    monkeypatch.setenv(paths.VARIABLE, way)
    assert search() == HITS
    assert [file.name.split("-")[1] for file in files(cache, "*")] == ([way] if way else [])


@pytest.mark.parametrize("value", ["", "0"])
def test_numba_told_to_compile_is_no_reason_for_numpy(
    cache: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", value)
    assert search() == HITS
    assert files(cache, "*.o")


# --- the best way --------------------------------------------------------------------------------------------------


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which ways were measured; the last one measured seems to be the fastest."""
    tried: list[str] = []

    def trial(_function: object, path: paths.Path) -> float:
        tried.append(path.name)
        return 1 / len(tried)

    monkeypatch.setattr(compiled, "_trial", trial)
    return tried


@TWO_WAYS
def test_the_fastest_way_is_measured_once_and_remembered(cache: Path, trials: list[str]) -> None:
    ways = [path.name for path in paths.candidates(sha256=True)]
    assert compiled.best_path(SHA256_FUNCTION).name == ways[-1]
    assert trials == ways
    assert compiled.best_path(SHA256_FUNCTION).name == ways[-1]
    assert trials == ways
    (file,) = files(cache, "*")
    assert json.loads(file.read_text())["path"] == ways[-1]


@TWO_WAYS
def test_what_is_remembered_is_what_is_gone(cache: Path, trials: list[str]) -> None:
    compiled.best_path(SHA256_FUNCTION)
    (file,) = files(cache, "path-sha256-*.json")
    for way in [path.name for path in paths.candidates(sha256=True)]:
        file.write_text(json.dumps({"path": way}))
        assert compiled.best_path(SHA256_FUNCTION).name == way
        assert search() == HITS
        assert files(cache, f"sha256-{way}-*.o")


@TWO_WAYS
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"1", b'"avx2"', b"null", b"{}", b"\xff\xfe", bytes(100)),
        *(b'{"path": null}', b'{"path": ["avx2"]}', b'{"path": "mmx"}', b'{"path": "numpy"}'),
    ],
)
def test_a_memory_that_makes_no_sense_is_measured_anew(
    cache: Path, trials: list[str], content: bytes
) -> None:
    best = compiled.best_path(SHA256_FUNCTION)
    (file,) = files(cache, "*")
    file.write_bytes(content)
    trials.clear()
    assert compiled.best_path(SHA256_FUNCTION) is best
    assert trials == [path.name for path in paths.candidates(sha256=True)]
    assert json.loads(file.read_text())["path"] == best.name


@TWO_WAYS
def test_a_way_that_became_impossible_is_not_gone(
    cache: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled.best_path(SHA256_FUNCTION)
    (file,) = files(cache, "*")
    file.write_text(json.dumps({"path": WAYS[0]}))
    # As on a virtual machine that hides some, with the caches of another in the same home.
    fewer = tuple(path for path in paths.possible() if path.name != WAYS[0])
    monkeypatch.setattr(paths, "possible", lambda: fewer)
    assert compiled.best_path(SHA256_FUNCTION) in fewer


@TWO_WAYS
def test_a_way_asked_for_is_neither_measured_nor_remembered(
    cache: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in WAYS:
        monkeypatch.setenv(paths.VARIABLE, way)
        assert compiled.best_path(SHA256_FUNCTION).name == way
    assert not trials
    assert not cache.exists()


def test_where_there_is_one_way_nothing_is_measured(cache: Path, trials: list[str]) -> None:
    assert not compiled.best_path(SHA1_FUNCTION).sha
    assert not trials
    assert not cache.exists()


@TWO_WAYS
def test_ways_are_really_measured(cache: Path) -> None:
    best = compiled.best_path(SHA256_FUNCTION)
    (file,) = files(cache, "*.json")
    seconds = json.loads(file.read_text())["seconds"]
    assert list(seconds) == [path.name for path in paths.candidates(sha256=True)]
    assert all(0 < each < 10 for each in seconds.values())
    assert seconds[best.name] == min(seconds.values())
