"""Kernels by name: whatever the installed packages registered in the entry point group `zlb.kernels`.

An entry point's name is the kernel's name; it resolves to a `Kernel` instance (`zlb.kernels.interface`), so adding a
kernel to a grid means installing a package on its peers and nothing else. Importing this costs neither a compiler nor
numpy.
"""

from importlib.metadata import EntryPoints, entry_points
from typing import cast

from zlb.kernels.interface import Found, Hit, Kernel, KernelError, Search

__all__ = ["Found", "Hit", "Kernel", "KernelError", "Search", "UnknownKernel", "kernel_names", "load_kernel"]

GROUP = "zlb.kernels"


class UnknownKernel(KernelError):
    """No installed package provides a kernel of this name."""

    def __init__(self, name: str, known_names: tuple[str, ...]) -> None:
        known = ", ".join(known_names) or "none"
        super().__init__(f"no kernel is named {name[:60]!a}; installed kernels: {known}")
        self.name = name
        self.known_names = known_names


def kernel_names() -> tuple[str, ...]:
    """Names of all installed kernels, sorted. Nothing is imported for it."""
    return tuple(sorted(_installed().names))


def load_kernel(name: str) -> Kernel:
    """The installed kernel called `name`.

    Raises UnknownKernel if there is none, and KernelError if two packages claim the name for different kernels or
    the one that has it cannot be imported.
    """
    found = _installed().select(name=name)
    providers = sorted({entry.value for entry in found})
    if not providers:
        raise UnknownKernel(name, kernel_names())
    if len(providers) > 1:
        raise KernelError(f"kernel {name!a} is provided more than once: {', '.join(providers)}")
    try:
        return cast(Kernel, next(iter(found)).load())
    except (ImportError, AttributeError) as error:
        raise KernelError(f"kernel {name!a} is installed but cannot be loaded: {error}") from error


def _installed() -> EntryPoints:
    return entry_points(group=GROUP)
