"""What a coverage certificate is worth: gaps, overlaps, every share and hit again, and the counts of shares.

A share takes one hash to check and cannot be made up, only found or left out. Whoever really searched a range has found
about as many as chance allows; whoever skipped a part of it has too few. What this cannot see: docs/certificate.md.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, TypeVar

from zlb.core.ids import NodeId, Span
from zlb.core.work import Hit, Oracle, Row, StopRule
from zlb.protocols.certificate import Certificate
from zlb.protocols.examiner import is_share_pattern, share_word
from zlb.protocols.intervals import IntervalSet

DOUBT_BELOW = 1e-9
"""Counts of shares less likely than that are not put down to chance. Of a million honest certificates with a hundred
peers each, one is doubted with a chance of 0.1; with 1,000 shares to expect, a fifth skipped is mostly seen."""
WHOLE = ("complete", "exhausted")
"""Ends that say that the whole range was searched."""

_HALVINGS = 60
"""Of [0, 1], to find what may have been skipped: more digits than a float has."""

T = TypeVar("T")


class Tally(NamedTuple):
    """What speaks for the rows of `peer` (of all, if empty), as far as shares were asked for: so many of `expected`.

    `chance` is the two-sided probability of a count as far from what is expected as this, or farther.
    """

    peer: NodeId
    rows: int
    integers: int
    sampled: int
    """Integers in rows with a pattern; the others are the peer's word alone."""
    shares: int
    expected: float
    chance: float

    @property
    def alone(self) -> int:
        """Integers that nothing but the peer's word speaks for."""
        return self.integers - self.sampled


class Verdict(NamedTuple):
    """`faults` and `unchecked` are lines for a person; without both the certificate is good."""

    faults: tuple[str, ...]
    unchecked: tuple[str, ...]
    """What could not be checked here, and why."""
    size: int
    covered: int
    """Integers of the job that lie in rows."""
    total: Tally
    peers: tuple[Tally, ...]
    """Most integers first."""
    skipped_max: float
    """Had more than this part of what has patterns been skipped at random, so many shares would come up less often than
    `DOUBT_BELOW`; 1 if nothing is known."""

    @property
    def good(self) -> bool:
        """Whether all was checked, and nothing is wrong."""
        return not self.faults and not self.unchecked


def verify(certificate: Certificate, oracle: Oracle | None) -> Verdict:
    """Check all that can be checked without keys; `oracle` None: the job's kernel is not there, nor what it knows."""
    job, rows = certificate.job, sorted(certificate.rows)
    wanted, covered = IntervalSet(job.spans), IntervalSet()
    faults = [*_overlaps(rows, wanted, covered), *_gaps(certificate, covered), *_ending(certificate)]
    faults += _hits_in_place(certificate.hits, wanted)
    word = share_word(job.id, job.params)
    for row in rows:
        faults += _shares_in_place(row, word)
    sampled = [row for row in rows if row.pattern is not None]
    faults += _masks(sampled)
    if oracle is not None:
        faults += _hits_again(certificate.hits, oracle)
        if oracle.word is not None:
            faults += _shares_again(sampled, oracle.word)
            faults += _hits_among_shares(certificate.hits, sampled, oracle.word)
        faults += _shares_among_hits(certificate, sampled, oracle)
    unchecked = tuple(_not_recomputed(job.kernel, bool(sampled), oracle))
    total, peers = _tallies(rows)
    faults += _doubts(total, peers)
    inside = covered.measure - sum(b - a for a, b in _outside(covered, wanted))
    limit = skipped_max(total.shares, total.expected)
    return Verdict(tuple(faults), unchecked, job.size, inside, total, peers, limit)


def poisson_chance(count: int, mean: float) -> float:
    """The two-sided probability, under Poisson's law, of a count as far out as this, or farther."""
    return min(1.0, 2 * (_at_most if count <= mean else _at_least)(count, mean))


def skipped_max(shares: int, expected: float) -> float:
    """The largest part of the integers that can have been skipped, had `DOUBT_BELOW` not come true."""
    if not expected:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        mean = expected * (1 - middle)
        likely = shares <= mean or _at_least(shares, mean) >= DOUBT_BELOW
        low, high = (middle, high) if likely else (low, middle)
    return high


def _at_most(count: int, mean: float) -> float:
    """Exact, for a count of `mean` at most: its term, and the ever smaller ones below."""
    term = total = _poisson(count, mean)
    while count > 0 and term > total * 1e-17:
        term *= count / mean
        count -= 1
        total += term
    return total


def _at_least(count: int, mean: float) -> float:
    """Exact, for a count of `mean` at least."""
    term = total = _poisson(count, mean)
    while term > total * 1e-17:
        count += 1
        term *= mean / count
        total += term
    return total


def _poisson(count: int, mean: float) -> float:
    if mean <= 0:
        return 0.0 if count else 1.0
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


# -- coverage


def _overlaps(rows: list[Row], wanted: IntervalSet, covered: IntervalSet) -> Iterable[str]:
    """Enter ascending rows into `covered`; tell what is there twice, or is none of the job's."""
    for row in rows:
        fresh = covered.add(row.start, row.stop)
        if fresh != [(row.start, row.stop)]:
            twice = IntervalSet([(row.start, row.stop)])
            for start, stop in fresh:
                twice.remove(start, stop)
            yield f"overlap: {_spans(list(twice))} is in {_row(row)} and in another one"
    for start, stop in _outside(covered, wanted):
        yield f"[{start}, {stop}) is in rows, but not in the job"


def _outside(covered: IntervalSet, wanted: IntervalSet) -> list[Span]:
    outside = IntervalSet(covered)
    for start, stop in wanted:
        outside.remove(start, stop)
    return list(outside)


def _gaps(certificate: Certificate, covered: IntervalSet) -> Iterable[str]:
    """What is to be covered, by how the job ended, and is not."""
    status, job = certificate.status, certificate.job
    needed = IntervalSet(job.spans)
    why = f"the job is {status}"
    if status == "found" and job.rule is StopRule.LOWEST and certificate.hits:
        lowest = min(certificate.hits).n
        if lowest + 1 < needed.stop:
            needed.remove(lowest + 1, needed.stop)
        why = f"{lowest} is the lowest hit"
    elif status not in WHOLE:
        return
    for start, stop in covered:
        needed.remove(start, stop)
    for start, stop in needed:
        yield f"gap: [{start}, {stop}) is in no row, although {why}"


def _ending(certificate: Certificate) -> Iterable[str]:
    """Whether the end goes with the stop rule and the hits."""
    status, job, hits = certificate.status, certificate.job, len(certificate.hits)
    takes_all = job.rule is StopRule.ALL
    if status == "found" and (takes_all or hits < max(job.hits_wanted, 1)):
        yield f"the job is found, with {hits} hits, under the rule {job.rule.value} of {job.hits_wanted}"
    if status == "exhausted" and (takes_all or hits >= max(job.hits_wanted, 1)):
        yield f"the job is exhausted, with {hits} hits, under the rule {job.rule.value} of {job.hits_wanted}"
    if status == "complete" and not takes_all:
        yield f"the job is complete, under the rule {job.rule.value}"


# -- shares and hits


def _shares_in_place(row: Row, word: int) -> Iterable[str]:
    if row.pattern is None:
        return
    mask = row.pattern.mask
    if not is_share_pattern(word, row.pattern):
        right = f"{word & mask:08x} under a mask of low bits, here {mask:08x}"
        yield f"{_row(row)}: its pattern is not the job's, {right}"
    if any(one >= other for one, other in pairwise(row.shares)):
        yield f"{_row(row)}: its shares are not ascending, each once"
    if any(not row.start <= n < row.stop for n in row.shares):
        yield f"{_row(row)}: a share lies outside of it"
    if not mask and len(row.shares) < row.stop - row.start:
        yield f"{_row(row)}: every integer is a share, but only {len(row.shares)} are there"


def _masks(sampled: list[Row]) -> Iterable[str]:
    """All rows have one mask: a signer who chose row by row, after the search, could hide what was skipped."""
    masks = sorted({row.pattern.mask for row in sampled if row.pattern is not None})
    if len(masks) > 1:
        yield f"rows have {len(masks)} masks, from {masks[0]:08x} to {masks[-1]:08x}, and are to have the same"


def _shares_again(sampled: list[Row], word: Callable[[int], int]) -> Iterable[str]:
    for row in sampled:
        assert row.pattern is not None
        mask, value = row.pattern
        wrong = [n for n in row.shares if not _matches(_asked(word, n), mask, value)]
        if wrong:
            yield f"{_row(row)}: {len(wrong)} of {len(row.shares)} shares are none, the first {wrong[0]}"


def _hits_in_place(hits: tuple[Hit, ...], wanted: IntervalSet) -> Iterable[str]:
    seen: set[int] = set()
    for n, _ in hits:
        if n not in wanted:
            yield f"hit {n} is not in the job's range"
        if n in seen:
            yield f"hit {n} is there twice"
        seen.add(n)


def _hits_again(hits: tuple[Hit, ...], oracle: Oracle) -> Iterable[str]:
    for n, digest in hits:
        right = _asked(oracle.check, n)
        if right is None:
            yield f"hit {n} is none"
        elif right != digest:
            yield f"hit {n} has another digest: {right.hex()}"


def _hits_among_shares(
    hits: tuple[Hit, ...], sampled: list[Row], word: Callable[[int], int]
) -> Iterable[str]:
    """A hit that matches the pattern of its row is a share, too. Where rows overlap, one of them is looked at."""
    starts = [row.start for row in sampled]
    for n, _ in hits:
        row = sampled[max(bisect_right(starts, n) - 1, 0)] if sampled else None
        if row is None or row.pattern is None or not row.start <= n < row.stop:
            continue
        at = bisect_left(row.shares, n)
        if row.shares[at : at + 1] != (n,) and _matches(_asked(word, n), *row.pattern):
            yield f"{_row(row)}: hit {n} matches its pattern, but is not among its shares"


def _shares_among_hits(certificate: Certificate, sampled: list[Row], oracle: Oracle) -> Iterable[str]:
    """A share that is a hit is among the hits, if the job says to know them all."""
    known = {n for n, _ in certificate.hits}
    below = certificate.job.spans[-1][1] if certificate.status in WHOLE else 0
    if certificate.status == "found" and certificate.job.rule is StopRule.LOWEST:
        below = min(known, default=0)
    for row in sampled:
        for n in row.shares:
            if n < below and n not in known and _asked(oracle.check, n) is not None:
                yield f"{_row(row)}: share {n} is a hit, but not among the hits"


def _not_recomputed(kernel: str, sampled: bool, oracle: Oracle | None) -> Iterable[str]:
    if oracle is None:
        yield f"no share and no hit was recomputed: kernel {kernel} cannot be used here"
    elif sampled and oracle.word is None:
        yield f"no share was recomputed: kernel {kernel} takes no samples here"


def _asked(function: Callable[[int], T], n: int) -> T | None:
    """What the kernel says of an integer; None if it cannot tell, which nothing that is true rests on."""
    try:
        return function(n)
    except Exception:  # noqa: BLE001 - a kernel is anybody's code, and n a stranger's integer
        return None


def _matches(word: int | None, mask: int, value: int) -> bool:
    return word is not None and word & mask == value


# -- counts


def _tallies(rows: list[Row]) -> tuple[Tally, tuple[Tally, ...]]:
    by_peer: defaultdict[NodeId, list[Row]] = defaultdict(list)
    for row in rows:
        by_peer[row.worker].append(row)
    peers = [_tally(peer, theirs) for peer, theirs in by_peer.items()]
    return _tally(NodeId(""), rows), tuple(sorted(peers, key=lambda tally: (-tally.integers, tally.peer)))


def _tally(peer: NodeId, rows: list[Row]) -> Tally:
    integers = sum(row.stop - row.start for row in rows)
    sampled = [
        (row.stop - row.start, row.pattern.mask, row.shares) for row in rows if row.pattern is not None
    ]
    shares = sum(len(shares) for _, _, shares in sampled)
    expected = math.fsum(count * 2.0 ** -mask.bit_count() for count, mask, _ in sampled)
    chance = poisson_chance(shares, expected)
    return Tally(peer, len(rows), integers, sum(count for count, *_ in sampled), shares, expected, chance)


def _doubts(total: Tally, peers: tuple[Tally, ...]) -> Iterable[str]:
    for tally in (*peers, total):
        if tally.chance < DOUBT_BELOW:
            whose = f"{tally.peer}'s rows" if tally.peer else "all rows together"
            expected = f"{tally.expected:.4g} are to be expected"
            yield f"{whose} have {tally.shares} shares where {expected}: by chance once in 10^9 times or less"


def _row(row: Row) -> str:
    return f"row [{row.start}, {row.stop}) of {row.worker}"


def _spans(spans: list[Span]) -> str:
    return " and ".join(f"[{start}, {stop})" for start, stop in spans)
