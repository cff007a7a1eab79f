"""Kernels as judges: what a coordinator, or whoever verifies a certificate, knows of single integers of a puzzle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zlb.core.errors import RemoteProtocolError
from zlb.core.ids import Span
from zlb.core.work import Oracle

if TYPE_CHECKING:
    from zlb.kernels import Kernel


def checker(name: str, params: bytes, spans: Sequence[Span] | None = None) -> Oracle | str:
    """How results of that kernel are checked, or why they cannot be: a `Checker`. With `spans`, it must fit them."""
    from zlb.kernels import KernelError, load_kernel
    from zlb.wire import values

    try:
        kernel, puzzle = load_kernel(name), values.unpack(params)
        if spans is not None:
            kernel.validate(puzzle, spans)
        return oracle_of(kernel, puzzle)
    except (KernelError, RemoteProtocolError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a kernel is anybody's code; its failure is the job's, not the peer's
        return f"kernel {name} failed: {type(error).__name__}: {error}"


def oracle_of(kernel: Kernel, params: Mapping[str, object]) -> Oracle:
    """What tells true claims about integers of that puzzle; raises `KernelError` if there is no such puzzle."""
    sampler = getattr(kernel, "sampler", None)
    return Oracle(kernel.checker(params), None if sampler is None else sampler(params))
