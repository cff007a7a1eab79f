"""What every kernel promises to the rest of zlb: four methods, and one of the search they prepare.

A kernel answers "which integers of a range are hits" for one kind of puzzle; `docs/kernels.md` tells how to write one.
Neither this module nor anything a client needs to describe a puzzle or verify a hit imports llvmlite, numba or numpy.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class KernelError(ValueError):
    """A puzzle or range the kernel cannot work on; the text is one clear line fit for a user."""


class Hit(NamedTuple):
    """An integer that solves the puzzle, with the digest that proves it."""

    n: int
    digest: bytes


class Pattern(NamedTuple):
    """Integers to report besides the hits: those for which `word & mask == value`.

    `word` is 32 bits of the digest that the kernel chooses for a puzzle and looks at anyway, see `SamplingSearch`.
    """

    mask: int
    value: int


class Found(NamedTuple):
    """What one search covered: all of [start, stopped_at) was tested, and `hits` are all hits in it, ascending.

    `samples[i]` are all integers in it that match pattern i, ascending.
    """

    stopped_at: int
    hits: tuple[Hit, ...]
    samples: tuple[tuple[int, ...], ...] = ()


class Search(Protocol):
    """A puzzle made ready to run. Immutable: any number of threads may call `search` at once."""

    def search(self, start: int, stop: int, stop_flag: "npt.NDArray[np.uint8]", hits_max: int) -> Found:
        """Test [start, stop) in ascending order, without the interpreter lock.

        Ends before `stop` for two reasons only: within 50 ms after `stop_flag[0]` became non-zero, or right after
        the `hits_max`-th hit, in which case `stopped_at` is that hit plus one. (If it has to compile something first,
        which happens once, it ends right after that.)

        `stop_flag` is a contiguous array of one element; any thread may set it, the search never writes it.
        Raises KernelError if the range is reversed or does not fit the puzzle, or if `hits_max` is below 1.
        """
        ...


class SamplingSearch(Search, Protocol):
    """A search that can also report which integers match patterns, at next to no cost."""

    def search(
        self,
        start: int,
        stop: int,
        stop_flag: "npt.NDArray[np.uint8]",
        hits_max: int,
        patterns: Sequence[Pattern] = (),
    ) -> Found:
        """See `Search.search`; with up to `patterns_max` patterns, `Found.samples` has one entry for each."""
        ...

    @property
    def patterns_max(self) -> int:
        """How many patterns a search can look for at once."""
        ...

    def sampled_word(self, digest: bytes) -> int:
        """The word of a digest that patterns are about."""
        ...


class Kernel(Protocol):
    """A kind of puzzle. `params` come from strangers: whatever they hold, only KernelError is raised over them."""

    @property
    def name(self) -> str:
        """The name users and jobs give, equal to the entry point's name."""
        ...

    def validate(self, params: Mapping[str, object], ranges: Sequence[tuple[int, int]]) -> None:
        """Return if `params` make a puzzle on which each [start, stop) can be searched, else raise KernelError."""
        ...

    def tests_per_hit(self, params: Mapping[str, object]) -> float:
        """Mean number of integers tested per hit, so that expected hits = size of the range / this."""
        ...

    def checker(self, params: Mapping[str, object]) -> Callable[[int], bytes | None]:
        """A function that tells of an integer its digest if it is a hit, else None, also where the puzzle has no such.

        The slow and certain twin of `Search.search`, for whoever verifies hits without being able to compile.
        """
        ...

    def prepare(self, params: Mapping[str, object]) -> Search:
        """Compile or load whatever the search needs, which may take seconds the first time on a machine."""
        ...


class SamplingKernel(Kernel, Protocol):
    """A kernel whose searches take samples, and that can tell of one integer whether it is one."""

    def sampler(self, params: Mapping[str, object]) -> Callable[[int], int]:
        """A function that tells an integer's sampled word: the certain twin of `SamplingSearch.sampled_word`.

        It raises KernelError for an integer the puzzle cannot express.
        """
        ...
