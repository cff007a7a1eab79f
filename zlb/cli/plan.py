"""`--dry-run`: what a job would be, how many hits to expect, how long it would take here."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

from zlb.cli import human
from zlb.cli.asked import Asked, Puzzle
from zlb.cli.params import shown, written
from zlb.cli.types import Verification
from zlb.core.config import Method

SUM_MAX = 10_000
"""Terms of an exact Poisson sum; beyond, the normal distribution is near enough."""

_CHECKED = {
    Method.NONE: "each hit, nothing else",
    Method.SHARES: "each hit, and samples of everything",
    Method.SPOT: "each hit, samples of everything, and slices by other peers again",
    Method.QUORUM: "each hit, and everything by {} peers",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the job would run: on peers of these `trackers`, on these `peers`, or on `slots` threads here, each testing
    `slot_per_s` if that is known."""

    peers: tuple[str, ...]
    slots: int
    slot_per_s: float | None
    trackers: tuple[str, ...] = ()
    is_told: bool = False
    """Whether the kernel itself has told the speed, which then is the same everywhere."""

    @property
    def per_s(self) -> float | None:
        """Integers a second of this machine."""
        return None if self.slot_per_s is None else self.slot_per_s * self.slots


def chance_of_none(size: int, tests_per_hit: float) -> float:
    """The probability that `size` integers hold no hit."""
    if tests_per_hit <= 1:
        return 0.0 if size else 1.0
    return math.exp(size * math.log1p(-1 / tests_per_hit))


def chance(size: int, tests_per_hit: float, wanted: int) -> float:
    """The probability of at least `wanted` hits; beyond the first by Poisson's law, good where hits are rare."""
    mean = size / tests_per_hit
    if wanted <= 0:
        return 1.0
    if tests_per_hit <= 1:
        return 1.0 if size >= wanted else 0.0
    if wanted == 1:
        return -math.expm1(size * math.log1p(-1 / tests_per_hit))
    if wanted > SUM_MAX:
        return 0.5 * math.erfc((wanted - 0.5 - mean) / math.sqrt(2 * mean))
    fewer = math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(wanted))
    return min(max(1 - fewer, 0.0), 1.0)


def seconds_needed(asked: Asked, per_s: float | None) -> tuple[float, float] | None:
    """For the whole range, and on average until the stop rule is reached; None without a speed."""
    if not per_s:
        return None
    puzzle, wanted = asked.puzzle, asked.job.hits_wanted
    whole = puzzle.size / per_s
    if puzzle.tests_per_hit is not None:
        return whole, min(whole, wanted * puzzle.tests_per_hit / per_s) if wanted else whole
    # The integer of a digest may be anywhere, and is the only one.
    return whole, whole / 2 if puzzle.hashes and wanted == 1 else whole


def plan_lines(asked: Asked, place: Place, verification: Verification) -> list[str]:
    """The plan for people."""
    puzzle, place = asked.puzzle, _with_speed(asked, place)
    rows = [
        ("range", " and ".join(f"[{start}, {stop})" for start, stop in puzzle.ranges)),
        ("size", _size(puzzle)),
        *kernel_rows(puzzle),
        ("stop", stop_words(asked)),
        *_hits(asked),
        ("checked", f"{verification.text}: {_CHECKED[verification.method].format(verification.copies)}"),
        ("grid", _grid(place)),
        ("time", _time(seconds_needed(asked, place.per_s), place)),
    ]
    return [f"{label:7} {text}" for label, text in rows]


def plan_json(asked: Asked, place: Place, verification: Verification) -> str:
    """The plan as one JSON object, see docs/cli.md."""
    puzzle, job, place = asked.puzzle, asked.job, _with_speed(asked, place)
    needed, tries = seconds_needed(asked, place.per_s), puzzle.tests_per_hit
    wanted = max(job.hits_wanted, 1)
    fields: dict[str, object] = {
        "event": "plan",
        "ranges": [[str(start), str(stop)] for start, stop in puzzle.ranges],
        "size": str(puzzle.size),
        "kernel": puzzle.kernel_name,
        "encoding": puzzle.encoding,
        "match": puzzle.match,
        "stop": job.rule.value,
        "hits_wanted": str(job.hits_wanted),
        "tests_per_hit": tries,
        "expected_hits": puzzle.expected_hits,
        "chance_of_none": None if tries is None else chance_of_none(puzzle.size, tries),
        "chance": None if tries is None else chance(puzzle.size, tries, wanted),
        "verify": verification.text,
        "peers": list(place.peers),
        "trackers": list(place.trackers),
        "slots": place.slots,
        "hashrate": place.per_s,
        "eta_s": needed[1] if needed else None,
        "whole_range_s": needed[0] if needed else None,
    }
    if puzzle.rolled is not None:
        fields["versions"] = puzzle.rolled
    if not puzzle.hashes:
        fields["params"] = written(puzzle.params)
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _with_speed(asked: Asked, place: Place) -> Place:
    """The place, with the speed of a kernel that knows it from its parameters, as those do that rehearse."""
    tell = getattr(asked.puzzle.kernel, "slot_per_s", None)
    return place if tell is None else replace(place, slot_per_s=tell(asked.puzzle.params), is_told=True)


def _size(puzzle: Puzzle) -> str:
    size = f"{puzzle.size} integers"
    if puzzle.rolled is None:
        return size
    return f"{size}: {puzzle.size // puzzle.rolled} nonces in {human.count(puzzle.rolled, 'version')}"


def kernel_rows(puzzle: Puzzle) -> list[tuple[str, str]]:
    """What wins; of a kernel that is none of ours only its parameters are known, and what it expects."""
    if puzzle.kernel is None:
        return [("kernel", f"{puzzle.kernel_name}, which is not known here")]
    if puzzle.hashes:
        match = "" if puzzle.match is None else f", match {puzzle.match}"
        how = f"{puzzle.kernel_name}, encoding {puzzle.encoding}{match}"
        return [("kernel", how), ("goal", _goal(puzzle))]
    rows = [("kernel", puzzle.kernel_name), *(("param", line) for line in shown(puzzle.params))]
    return [*rows, ("goal", _tries(puzzle.tests_per_hit))] if puzzle.tests_per_hit is not None else rows


def _tries(tests_per_hit: float) -> str:
    tries = human.number(tests_per_hit)
    return f"{tries} {'try' if tries == '1' else 'tries'} for a hit on average"


def _goal(puzzle: Puzzle) -> str:
    match puzzle.params:
        case {"digest": bytes(digest)}:
            return f"digest {digest.hex()}"
        case {"target": bytes(target)}:
            goal = f"digest at most {target.hex()}"
        case _:
            goal = f"{puzzle.params['difficulty']} zero bits"
    assert puzzle.tests_per_hit is not None
    return f"{goal}: {_tries(puzzle.tests_per_hit)}"


def _hits(asked: Asked) -> list[tuple[str, str]]:
    size, tries, mean = asked.puzzle.size, asked.puzzle.tests_per_hit, asked.puzzle.expected_hits
    if tries is None or mean is None:
        return [("hits", "one, if the range holds its integer" if asked.puzzle.hashes else "unknown")]
    spread = math.sqrt(mean * (1 - 1 / tries))
    return [
        ("hits", f"{_few(mean)} ± {_few(spread)} expected in the whole range"),
        ("chance", _chances(size, tries, max(asked.job.hits_wanted, 1))),
    ]


def stop_words(asked: Asked) -> str:
    """When the job ends, besides the end of its range."""
    wanted = asked.job.hits_wanted
    return {
        "first": "at the first hit",
        "lowest": "at the lowest hit",
        "count": f"after {human.count(wanted, 'hit')}",
        "all": "at the end of the range",
    }[asked.job.rule.value]


def _chances(size: int, tests_per_hit: float, wanted: int) -> str:
    some = human.percent(chance(size, tests_per_hit, wanted))
    none = human.percent(chance_of_none(size, tests_per_hit))
    return f"{some} for {'a hit' if wanted == 1 else human.count(wanted, 'hit')}, {none} for none at all"


def _grid(place: Place) -> str:
    if place.trackers:
        return f"trackers {' '.join(place.trackers)}"
    if place.peers:
        return f"peers {' '.join(place.peers)}"
    return f"this process, {human.count(place.slots, 'thread')}"


def _time(needed: tuple[float, float] | None, place: Place) -> str:
    if needed is None or place.per_s is None:
        return "unknown: this machine has not run the kernel yet"
    whole, mean = needed
    where = (
        f"as its parameters say, on {human.count(place.slots, 'thread')}"
        if place.is_told
        else "this machine's speed; the peers' is not known"
        if place.peers or place.trackers
        else "measured here before"
    )
    speed = f"{human.rate(place.per_s)} ({where})"
    return f"about {human.seconds(mean)}, the whole range {human.seconds(whole)}, at {speed}"


def _few(value: float) -> str:
    return f"{value:.0f}" if 100 <= value < 10**6 else human.number(value)
