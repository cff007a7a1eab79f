"""The kernel `collatz`: integers that take many steps to reach 1, each step n/2 if n is even, 3n + 1 if it is odd.

    {"steps": 500}      hits take at least 500 steps; 0 and 1 take none

A hit's digest is its number of steps, as eight bytes.
"""

from zlb.kernels import Found, Hit, KernelError

CAPACITY = 2**40
"""Every integer below has been seen to reach 1, up to 2^68 and more, so counting comes to an end."""
STEPS_MAX = 10_000
"""More than any integer below CAPACITY takes."""

TESTS_PER_HIT = (1.0, 1.001, 1.22, 2.80, 12.6, 84, 687, 6250, 57_900, 571_000, 5_590_000)
"""For 0, 100, 200 ... 1000 steps: measured, 2^27 random integers of all that there are. 24 of them took 1000 steps."""


class CollatzKernel:
    """Implements `zlb.kernels.Kernel`."""

    name = "collatz"

    def validate(self, params, ranges):
        """See `Kernel.validate`."""
        steps = params.get("steps")
        if set(params) != {"steps"} or type(steps) is not int or not 0 <= steps <= STEPS_MAX:
            raise KernelError(f"collatz takes one parameter: steps, an integer from 0 to {STEPS_MAX}")
        for start, stop in ranges:
            if type(start) is not int or type(stop) is not int or not 0 <= start <= stop <= CAPACITY:
                raise KernelError("collatz searches integers from 0 to 2**40")

    def tests_per_hit(self, params):
        """See `Kernel.tests_per_hit`: for integers from everywhere below CAPACITY; small ones take fewer steps.

        Between measured numbers it grows by equal factors, and so it goes on beyond the last.
        """
        self.validate(params, [])
        at = min(params["steps"] // 100, len(TESTS_PER_HIT) - 2)
        below, above = TESTS_PER_HIT[at : at + 2]
        return below * (above / below) ** (params["steps"] / 100 - at)

    def checker(self, params):
        """See `Kernel.checker`."""
        self.validate(params, [])

        def check(n):
            if not 0 <= n < CAPACITY:
                return None
            steps = steps_of(n)
            return steps.to_bytes(8, "big") if steps >= params["steps"] else None

        return check

    def prepare(self, params):
        """See `Kernel.prepare`."""
        self.validate(params, [])
        return CollatzSearch(params["steps"])


class CollatzSearch:
    """Implements `zlb.kernels.Search`."""

    def __init__(self, steps):
        import zlb_collatz_loop  # numba: only whoever searches pays for it

        self._steps = steps
        self._loop = zlb_collatz_loop

    def search(self, start, stop, stop_flag, hits_max):
        """See `Search.search`. The loop is entered anew after each hit, so it needs no room for hits and no limit."""
        COLLATZ.validate({"steps": self._steps}, [(start, stop)])
        if hits_max < 1:
            raise KernelError("hits_max is at least 1")
        at, hits = start, []
        while len(hits) < hits_max:
            passed, steps = self._loop.candidate(at, stop - at, self._steps, stop_flag)
            at += passed
            if steps == self._loop.NOTHING:
                break
            if steps == self._loop.OUTGROWN:
                steps = steps_of(at)  # one in ten million: Python's integers do not wrap
            if steps >= self._steps:
                hits.append(Hit(at, steps.to_bytes(8, "big")))
            at += 1
        return Found(at, tuple(hits))


def steps_of(n):
    """The number of steps from `n` to 1."""
    steps = 0
    while n > 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    return steps


COLLATZ = CollatzKernel()
