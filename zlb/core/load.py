"""Load, with its unit: seconds of work left at the measured rate, never a bare number."""

from typing import NamedTuple


class Load(NamedTuple):
    """A node's load at one instant.

    `left_ns` of work at `rate` integers a second and slot, in `queue` unfinished leases, on `slots` slots.
    """

    left_ns: int
    rate: float
    queue: int
    slots: int
