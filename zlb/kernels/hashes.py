"""The kernels `sha1`, `sha256` and `sha256d`: find integers whose message hashes to a digest that wins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zlb.kernels.interface import SamplingSearch
from zlb.kernels.puzzle import Algorithm, Puzzle, read_puzzle


@dataclass(frozen=True, slots=True)
class HashKernel:
    """Puzzles over one hash function, applied once or twice; implements `Kernel`."""

    name: str
    algorithm: Algorithm

    def validate(self, params: Mapping[str, object], ranges: Sequence[tuple[int, int]]) -> None:
        """See `Kernel.validate`."""
        puzzle = self.puzzle(params)
        for start, stop in ranges:
            puzzle.require_fit(start, stop)

    def tests_per_hit(self, params: Mapping[str, object]) -> float:
        """See `Kernel.tests_per_hit`; here 2^difficulty, 2^bits / (target + 1), or 2^bits for a digest."""
        return self.puzzle(params).rule.tests_per_hit()

    def checker(self, params: Mapping[str, object]) -> Callable[[int], bytes | None]:
        """See `Kernel.checker`."""
        return self.puzzle(params).check

    def sampler(self, params: Mapping[str, object]) -> Callable[[int], int]:
        """See `SamplingKernel.sampler`."""
        return self.puzzle(params).sampler()

    def prepare(self, params: Mapping[str, object]) -> SamplingSearch:
        """See `Kernel.prepare`; half a second on a machine's first call, milliseconds later."""
        puzzle = self.puzzle(params)
        # llvmlite and numpy: only whoever searches pays for them.
        from zlb.kernels.hash_search import HashSearch

        return HashSearch(puzzle)

    def puzzle(self, params: Mapping[str, object]) -> Puzzle:
        """`params` with defaults filled in, or KernelError."""
        return read_puzzle(self.algorithm, params)


SHA1 = HashKernel("sha1", Algorithm("sha1", twice=False, digest_bits=160))
SHA256 = HashKernel("sha256", Algorithm("sha256", twice=False, digest_bits=256))
SHA256D = HashKernel("sha256d", Algorithm("sha256", twice=True, digest_bits=256))
