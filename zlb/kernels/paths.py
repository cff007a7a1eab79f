"""Ways through a CPU: lanes, streams and instructions a search loop can be compiled for, and which is best here.

Instructions are asked for by level (x86-64, -v3, -v4) and not by model, so compiled code fits every CPU of its level.
Where two ways are possible, a few milliseconds of each decide (`zlb.kernels.compiled`). `ZLB_SIMD` overrules.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from zlb.kernels.interface import KernelError

VARIABLE = "ZLB_SIMD"


@dataclass(frozen=True, slots=True)
class Path:
    """One way through a CPU."""

    name: str
    lanes: int
    """Words in a vector."""
    streams: int
    """Vectors side by side: operations on one have latencies that those on the other fill."""
    cpu: str
    """What LLVM calls the least CPU that can do this; empty for the one at hand."""
    features: str
    """What that CPU needs besides, as LLVM writes it."""
    needs: tuple[str, ...]
    """Features by which LLVM tells that the CPU at hand can do this."""
    ternary: bool = False
    """Whether any function of three words takes one instruction, `vpternlogd`."""
    sha: bool = False
    """Whether blocks are hashed by the SHA instructions."""


_V3 = ("avx2", "bmi", "bmi2", "fma", "f16c", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

PATHS = {
    path.name: path
    for path in (
        Path("avx512", 16, 2, "x86-64-v4", "", _V4, ternary=True),
        Path("avx2", 8, 2, "x86-64-v3", "", _V3),
        Path("shani", 1, 2, "x86-64-v2", "+sha", ("sha", "sse4.2", "ssse3"), sha=True),
        Path("sse2", 4, 1, "x86-64", "", ("sse2",)),
        Path("generic", 4, 1, "", "", ()),
    )
}
"""By name, the widest first. `generic` leaves it to LLVM what the CPU at hand can do: NEON, for example."""

NUMPY = "numpy"
"""The way without compiled code: slow, and there for debugging and for machines without a compiler."""


def asked_for() -> str | None:
    """The way that the environment asks for, if any: `ZLB_SIMD`, or numpy if numba is told not to compile.

    Raises KernelError for a way that there is not, or that this CPU has not.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return NUMPY if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0") else None
    if name not in (*PATHS, NUMPY):
        raise KernelError(f"{VARIABLE} is one of {', '.join((*PATHS, NUMPY))}, not {name[:60]!a}")
    if name != NUMPY and PATHS[name] not in possible():
        raise KernelError(f"{VARIABLE}={name}: this CPU cannot")
    return name


@cache
def possible() -> tuple[Path, ...]:
    """The ways this CPU can go, the widest first."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return tuple(path for path in PATHS.values() if all(features.get(need) for need in path.needs))


def candidates(sha256: bool) -> tuple[Path, ...]:
    """The ways worth measuring: the widest lanes, and the SHA instructions where there are some for the function."""
    widest = next(path for path in possible() if not path.sha)
    return (widest, *(path for path in possible() if path.sha and sha256))
