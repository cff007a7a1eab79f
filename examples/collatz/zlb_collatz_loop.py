"""The compiled half of the kernel `collatz`. Importing it costs what numba costs, so only whoever searches does."""

import numba
from numba import njit
from numba.extending import intrinsic

NOTHING, OUTGROWN = -1, -2
"""What `candidate` says instead of a number of steps: there is none, or the steps cannot be counted here."""

TRIPLED_MAX = (2**63 - 2) // 3
"""The largest x for which 3x + 1 is an int64: numba's integers wrap without a word."""


def _peek(typing_context, flag):
    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, "monotonic", 1)

    return numba.types.uint8(flag), emit


peek = intrinsic(_peek)
"""The first byte of an array, loaded anew each time: a plain load the compiler may move out of the loop."""


# The signature has it compiled when this module is imported, or loaded from numba's cache, and not by the first search.
@njit("UniTuple(int64, 2)(int64, int64, int64, uint8[::1])", nogil=True, cache=True)
def candidate(start, count, steps_min, stop_flag):
    """The first of `count` integers from `start` on that takes `steps_min` steps, as (integers passed, its steps).

    Steps are OUTGROWN where its numbers outgrow int64. With NOTHING as steps the integers passed are no hits, and they
    are all, or the stop flag is set.
    """
    for passed in range(count):
        # One integer is at most a few thousand steps, some microseconds: looking once for each is often enough.
        if peek(stop_flag):
            return passed, NOTHING
        x, steps = start + passed, 0
        while x > 1:
            if x & 1:
                if x > TRIPLED_MAX:
                    return passed, OUTGROWN
                x = 3 * x + 1
            else:
                x >>= 1
            steps += 1
        if steps >= steps_min:
            return passed, steps
    return count, NOTHING
