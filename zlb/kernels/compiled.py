"""Compiled search loops: made by LLVM when first wanted, kept on disk as object code; and the best way through the CPU.

Object code is loaded without numba, in two milliseconds. Its file is named by all it depends on: the variant, whose
path names the level of CPU, the library that compiled it, and the sources that emitted it. Files are put in place
whole and carry a checksum, so any number of processes may start at once, and what one leaves behind that died while
writing does no harm.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path as File

import llvmlite
import numpy as np
from llvmlite import binding

from zlb.kernels import blocks, fips180, fold, llvm, paths, scan, sha_instructions, words
from zlb.kernels.fips180 import HashFunction, padding
from zlb.kernels.layout import COLUMN_SLACK
from zlb.kernels.paths import PATHS, Path
from zlb.kernels.words import Words, words_of

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE = "ZLB_KERNEL_DIR"
_EMITTERS = (blocks, fips180, fold, llvm, paths, scan, sha_instructions, words)
_CHECKSUM_BYTES = 32

TRIAL_INTEGERS = 1 << 18
TRIALS = 3
"""How long each way is tried: three times a few milliseconds, of which the best counts."""

_making = threading.Lock()
"""LLVM is used by one thread at a time."""
_loaded: dict[scan.Variant, Loop] = {}
_said: set[str] = set()


class Loop:
    """A compiled search loop. Calls may overlap; they hold no interpreter lock."""

    def __init__(self, code: bytes, path: Path) -> None:
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine_for(path))
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        entry = self._engine.get_function_address("search")
        self.call: Callable[[int], int] = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(entry)
        """Takes the address of a frame as `scan.FRAME` lays it out, gives the number of records."""


def load(variant: scan.Variant) -> Loop:
    """The loop for a variant: from this process, from disk, or compiled now."""
    loop = _loaded.get(variant)
    if loop is None:
        with _making:
            loop = _loaded.get(variant)
            if loop is None:
                loop = _loaded[variant] = Loop(_code(variant), variant.path)
    return loop


def best_path(function: HashFunction) -> Path:
    """The fastest way through this CPU for a function: asked for, remembered, or measured now."""
    ways = paths.candidates(sha256=function.name == "sha256")
    name = paths.asked_for()
    if name in PATHS and (PATHS[name] in ways or not PATHS[name].sha):
        return PATHS[name]
    if len(ways) == 1:
        return ways[0]
    file = directory() / f"path-{function.name}-{_fingerprint(repr(_host()))}.json"
    try:
        remembered = PATHS[json.loads(file.read_text())["path"]]
        if remembered in ways:
            return remembered
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a cache: measured again, then written again
    seconds = {way.name: _trial(function, way) for way in ways}
    best = min(seconds, key=lambda name: seconds[name])
    log.debug("the fastest way through this CPU for %s is %s", function.name, best)
    _write(file, json.dumps({"path": best, "seconds": seconds}).encode())
    return PATHS[best]


def directory() -> File:
    """Where compiled code is kept: `ZLB_KERNEL_DIR`, or among the user's caches."""
    if chosen := os.environ.get(DIRECTORY_VARIABLE):
        return File(chosen)
    return File(os.environ.get("XDG_CACHE_HOME") or File.home() / ".cache") / "zlb" / "kernels"


def frame(table: Words, row_count: int, **given: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """What a loop is called with, see `scan.FRAME`; what is not given is 0."""
    values = {"rows": table.ctypes.data, "row_count": row_count, **given}
    return np.array([values.get(name, 0) for name in scan.FRAME], np.uint64)


def _code(variant: scan.Variant) -> bytes:
    name = variant.function.name + "d" * variant.twice
    # What a variant is printed as is the same in every process. Where it names no CPU, the code is for the one at hand.
    made_for = repr(variant) + ("" if variant.path.cpu else repr(_host()))
    file = directory() / f"{name}-{variant.path.name}-{_fingerprint(made_for)}.o"
    try:
        content = file.read_bytes()
    except OSError:
        content = b""
    checksum, code = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if code and checksum == hashlib.sha256(code).digest():
        return code
    _say_once(logging.INFO, "compiling %s, for this and later times", name)
    log.debug("... as %s", variant)
    started = time.perf_counter()
    module = binding.parse_assembly(str(scan.build(variant)))
    code = machine_for(variant.path).emit_object(module)
    log.debug("compiled in %.2f s", time.perf_counter() - started)
    _write(file, hashlib.sha256(code).digest() + code)
    return code


def _write(file: File, content: bytes) -> None:
    """Put a file in place whole. Not being able to is no failure: it will be made again."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        _say_once(logging.WARNING, "cannot keep compiled code in %s: %s", file.parent, error.strerror)


def _say_once(level: int, text: str, *values: object) -> None:
    """Log a line for a person: the first time, for how often it happens is nobody's business."""
    said = text % values
    log.log(logging.DEBUG if said in _said else level, "%s", said)
    _said.add(said)


def machine_for(path: Path) -> binding.TargetMachine:
    """LLVM set up for the CPUs that can go a way; a new one every time, for an engine owns its machine."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    cpu, features = (path.cpu, path.features) if path.cpu else _host()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", jit=True)


def _host() -> tuple[str, str]:
    """The CPU at hand, and all it can do."""
    return binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def _fingerprint(what: str) -> str:
    return hashlib.sha256((what + _sources()).encode()).hexdigest()[:20]


@cache
def _sources() -> str:
    """Stands for the code that emits and the library that compiles."""
    texts = [File(module.__file__ or "").read_bytes() for module in _EMITTERS]
    return hashlib.sha256(b"".join(texts)).hexdigest() + llvmlite.__version__ + binding.get_default_triple()


def _trial(function: HashFunction, path: Path) -> float:
    """Seconds for some integers in four bytes, the only word of the message."""
    variant = scan.Variant(function, False, ((0,),), False, len(function.initial) - 1, False, 1, path)
    loop = load(variant)
    table = np.zeros((1, variant.row_words), np.uint32)
    table[0, : len(function.initial)] = function.initial
    table[0, len(function.initial) : -1] = [0, *words_of(padding(4)[:60]).tolist(), 0]
    table[0, -1] = TRIAL_INTEGERS
    column = np.arange(TRIAL_INTEGERS + COLUMN_SLACK, dtype=np.uint32)
    tests = np.array([0xFFFFFFFF, 0, 0], np.uint32)
    records = np.empty((2 * scan.BATCH_GROUPS, variant.record_words), np.uint32)
    flag = np.zeros(1, np.uint8)
    call = frame(
        table,
        1,
        columns=column.ctypes.data,
        tests=tests.ctypes.data,
        records=records.ctypes.data,
        records_max=len(records),
        enough=TRIAL_INTEGERS,
        stop_flag=flag.ctypes.data,
    )
    trials = []
    for _ in range(TRIALS):
        started = time.perf_counter()
        loop.call(call.ctypes.data)
        trials.append(time.perf_counter() - started)
    return min(trials)
