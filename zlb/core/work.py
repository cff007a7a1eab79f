"""Work a node gives to its slots, what comes back, jobs as users mean them, and records that outlive the process."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from zlb.core.ids import Endpoint, JobId, NodeId, Span

if TYPE_CHECKING:  # so that commands that replicate nothing do not load what replicas need
    from zlb.core.replica import ReplicaRecord


class Hit(NamedTuple):
    """An integer that satisfies the job, with the digest that shows it."""

    n: int
    digest: bytes


class Pattern(NamedTuple):
    """Integers to report besides hits: those whose sampled word has `word & mask == value`. Both are 32 bits."""

    mask: int
    value: int


class Search(NamedTuple):
    """Search `[start, stop)` with a kernel; `params` are packed by `wire.values`; end after `hits_max` hits.

    What matches `patterns` is to be told too, if the kernel can.
    """

    kernel: str
    params: bytes
    start: int
    stop: int
    hits_max: int
    patterns: tuple[Pattern, ...] = ()


class Measure(NamedTuple):
    """Find the rate of a warm kernel on `slots` slots at once in about `aim_ns`; with `params` nothing hits."""

    kernel: str
    params: bytes
    slots: int
    aim_ns: int


Work = Search | Measure


class Searched(NamedTuple):
    """`[start, stopped_at)` of the run was searched and holds exactly `hits`; it kept a slot busy for `busy_ns`.

    `samples[i]` are all integers in it that match pattern i, ascending.
    """

    stopped_at: int
    hits: tuple[Hit, ...]
    busy_ns: int
    samples: tuple[tuple[int, ...], ...] = ()


class Measured(NamedTuple):
    """One slot tests `per_s` integers a second while all are busy."""

    per_s: float


class Failed(NamedTuple):
    """The run did not do its work; `detail` is one line for a person."""

    detail: str


Outcome = Searched | Measured | Failed


class Oracle(NamedTuple):
    """What is true of one integer, at the cost of one hash of our own: how workers' claims are checked."""

    check: Callable[[int], bytes | None]
    """Its digest if it is a hit of the job, else None."""
    word: Callable[[int], int] | None = None
    """The word of its digest that patterns are about; None: the kernel takes no samples."""


Checker = Callable[[str, bytes], Oracle | str]
"""Kernel and parameters: how results of a job are checked, or why it cannot be searched here."""


class StopRule(StrEnum):
    """When a job is over, besides the end of its range."""

    FIRST = "first"
    LOWEST = "lowest"
    COUNT = "count"
    ALL = "all"


class Job(NamedTuple):
    """A search over integer ranges: what a user asks for.

    `spans` are sorted, disjoint and half-open. `hits_wanted` ends the job: N under `StopRule.COUNT`, else 1
    (`FIRST`, `LOWEST`) or 0 (`ALL`).
    """

    id: JobId
    kernel: str
    params: bytes
    spans: tuple[Span, ...]
    rule: StopRule
    hits_wanted: int

    @property
    def size(self) -> int:
        """Integers to search."""
        return sum(stop - start for start, stop in self.spans)


class Row(NamedTuple):
    """`worker` searched `[start, stop)`; `shares`, all integers in it that match `pattern`, show it. `at_ns`: since the
    job began. Without a pattern it is the worker's word alone."""

    start: int
    stop: int
    worker: NodeId
    pattern: Pattern | None
    shares: tuple[int, ...]
    at_ns: int


class Rate(NamedTuple):
    """Record: one slot of this machine tests `per_s` integers a second with `kernel`."""

    kernel: str
    per_s: float


class Standing(NamedTuple):
    """Record: what is known of a peer's results, as `protocols.trust.Trust` counts it."""

    node: NodeId
    correct_good: float
    correct_bad: float
    timely_good: float
    timely_bad: float
    in_a_row: int
    in_batch: int


class Contacts(NamedTuple):
    """Record: where trackers and coordinators listened when a tracker last said so."""

    trackers: tuple[Endpoint, ...]
    peers: tuple[Endpoint, ...]


Record: TypeAlias = "Rate | Contacts | Standing | ReplicaRecord"
"""What `Persist` makes durable."""
