"""How many updates a second does the ledger of a job bear, and how large is it?

Four questions. Times are CPU seconds of this thread, so that neighbours on the machine count little:

* large: an `IntervalSet` of 10^6 intervals: unit intervals merged in random order until they are one; disjoint ones
  added in random order; then random ones taken out and put back (`replace`), bridged to their neighbour and cut again
  (`bridge`), and asked for. "One list" is the same code with the list of edges never cut;
* small: the same operations on sets of 1, 10 and 50 intervals, and the bytes of such a set;
* ledger: with 10^5 live leases, leases a second, reports of a twentieth of a lease, ends of leases that fell silent;
  "late" is a report on a lease that has ended, when others have its integers;
* memory: bytes of a ledger after 10^5 leases were granted and finished, those of 10^4 live leases with nothing and
  with half reported, of an ended lease that is remembered, and of what one worker has done under a lease, while it
  is not verified. For jobs of 2^32 and 2^60 integers: what is live and remembered makes a ledger large, not its job.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import common

from zlb.core.config import Method
from zlb.core.ids import NodeId
from zlb.core.limits import LATE_LEASES_MAX
from zlb.protocols import intervals
from zlb.protocols.examiner import Examiner
from zlb.protocols.intervals import IntervalSet
from zlb.protocols.ledger import Lease, Ledger, News

Found = dict[str, float]
FAR = 1 << 59
"""Where the intervals are: integers of two machine words, as those of a large job."""
ONE_LIST_UPDATES = 2_000
LATE_REPORTS = 20
PIECES = 20
"""Reports of a lease."""
SMALL = (1, 10, 50)
LEASE_BITS = 18
"""A job has 2^18 leases in the question of memory, whatever its size."""
MEMORY_BITS = (32, 60)


def rate(count: int, act: Callable[[], object]) -> float:
    """How many a second, if `act` does `count`."""
    began = time.thread_time()
    act()
    return count / (time.thread_time() - began)


@contextmanager
def one_list() -> Iterator[None]:
    """Without cutting the list of a large set."""
    edges_max, intervals.EDGES_MAX = intervals.EDGES_MAX, sys.maxsize
    try:
        yield
    finally:
        intervals.EDGES_MAX = edges_max


def comb(count: int) -> IntervalSet:
    """Disjoint intervals of 2 with gaps of 2."""
    return IntervalSet((FAR + 4 * n, FAR + 4 * n + 2) for n in range(count))


# -- large and small sets


def large(count: int, rng: random.Random) -> Found:
    """Updates and questions a second of a set of `count` intervals."""
    order = [FAR + n for n in rng.sample(range(count), count)]
    merged, disjoint = IntervalSet(), IntervalSet()
    found = {"merge": rate(count, lambda: [merged.add(n, n + 1) for n in order])}
    assert len(merged) == 1
    order = [FAR + 4 * (n - FAR) for n in order]
    found["add disjoint"] = rate(count, lambda: [disjoint.add(n, n + 2) for n in order])
    assert len(disjoint) == count
    return found | changes(disjoint, order[: count // 5]) | questions(disjoint, order[: count // 5])


def changes(some: IntervalSet, where: list[int]) -> Found:
    """Updates a second of a `comb` that is afterwards as before."""
    updates = 2 * len(where)
    return {
        "replace": rate(updates, lambda: [(some.remove(n, n + 2), some.add(n, n + 2)) for n in where]),
        "bridge": rate(updates, lambda: [(some.add(n + 2, n + 4), some.remove(n + 2, n + 4)) for n in where]),
    }


def questions(some: IntervalSet, where: list[int]) -> Found:
    """Questions a second."""
    return {
        "overlap": rate(len(where), lambda: [some.overlap(n, n + 3) for n in where]),
        "covers": rate(len(where), lambda: [some.covers(n, n + 2) for n in where]),
        "in": rate(len(where), lambda: [n in some for n in where]),
    }


def small(count: int, rng: random.Random) -> Found:
    """Operations a second of a set of `count` intervals; its bytes."""
    where = [FAR + 4 * rng.randrange(count) for _ in range(20_000)]
    spans = list(comb(count))
    lease, step = IntervalSet([(FAR, 2 * FAR)]), FAR // 20_000
    several = 20_000 // count
    found = {
        "make": rate(several, lambda: [IntervalSet(spans) for _ in range(several)]),
        "remove the first part": rate(
            20_000, lambda: [lease.remove(FAR + n * step, FAR + (n + 1) * step) for n in range(20_000)]
        ),
        **changes(comb(count), where),
        **questions(comb(count), where),
    }
    tracemalloc.start()
    kept = [IntervalSet(spans) for _ in range(1000)]
    found["bytes"] = traced() / len(kept)
    tracemalloc.stop()
    return found


# -- the ledger


def busy_ledger(live: int, rng: random.Random) -> Found:
    """Operations a second with `live` leases, of which a tenth at a time ends and is leased again."""
    size = 1 << 32
    workers = [NodeId(f"worker-{n}") for n in range(1000)]
    ledger = Ledger([(0, 2 * live * size)])
    found = {"lease": rate(live, lambda: [ledger.lease(rng.choice(workers), size, 0) for _ in range(live)])}
    leases = rng.choices(list(ledger.leases.values()), k=live)
    found["report"] = rate(live, lambda: [report(ledger, lease) for lease in leases])
    ended = rng.sample(list(ledger.leases.values()), live // 10)
    found["end"] = rate(len(ended), lambda: [ledger.end(lease, silent=True) for lease in ended])
    again = [rng.choice(workers) for _ in ended]
    found["lease again"] = rate(len(ended), lambda: [ledger.lease(worker, size, 0) for worker in again])
    late = ended[:LATE_REPORTS]
    found["late report"] = rate(len(late), lambda: [report(ledger, lease) for lease in late])
    ledger.check()
    return found


def report(ledger: Ledger, lease: Lease, part: int = PIECES) -> News:
    """The next part of a lease is done."""
    start = lease.unreported.stop - lease.unreported.measure
    return ledger.report(lease, [(start, min(start + lease.size // part, lease.span[1]))])


def memory(bits: int, finished: int, live: int, method: Method) -> Found:
    """Bytes of a ledger of 2^bits integers, and what they are for."""
    examiner = Examiner(lambda n: zlib.crc32(n.to_bytes(8)), method, random.Random(1))
    workers = [NodeId(f"worker-{n}") for n in range(100)]
    size = 1 << bits - LEASE_BITS

    def lease(number: int) -> Lease:
        found = ledger.lease(workers[number % len(workers)], size, number)
        assert found is not None
        found.terms = examiner.terms([found.span], size)
        return found

    tracemalloc.start()
    ledger = Ledger([(0, 1 << bits)])
    for number in range(finished):
        done = lease(number)
        ledger.report(done, [done.span])
        ledger.end(done, silent=False)
    after = traced()
    leases = [lease(number) for number in range(live)]
    granted = traced() - sys.getsizeof(leases)
    for one in leases:
        report(ledger, one, 2)
    halves = traced() - sys.getsizeof(leases)
    unverified = sum(len(each) for each in ledger.unverified.values())
    ledger.unverified.clear()
    word = halves + sys.getsizeof(leases) - traced()
    before, ended = traced(), len(ledger.past)
    ledger.past.clear()
    past = before - traced()
    tracemalloc.stop()
    return {
        "after": after,
        "live": (granted - after) / live,
        "half done": (halves - after) / live,
        "unverified": word / unverified,
        "ended": past / ended,
        "ended, all": past / ended * LATE_LEASES_MAX,
    }


def traced() -> int:
    """Bytes allocated since tracemalloc was started."""
    return tracemalloc.get_traced_memory()[0]


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--intervals", "count", default=1_000_000, show_default=True)
@click.option("--leases", "live", default=100_000, show_default=True)
@click.option("--save/--no-save", default=True, show_default=True)
def main(rounds: int, count: int, live: int, save: bool) -> None:
    found: dict[str, list[Found]] = {}
    for number in range(rounds):
        rng = random.Random(number)
        found.setdefault("large", []).append(large(count, rng))
        with one_list():
            whole, where = comb(count), [FAR + 4 * rng.randrange(count) for _ in range(ONE_LIST_UPDATES)]
            found.setdefault("large, one list", []).append(changes(whole, where) | questions(whole, where))
            del whole
        for size in SMALL:
            found.setdefault(f"small, {size}", []).append(small(size, rng))
        found.setdefault("ledger", []).append(busy_ledger(live, rng))
    for bits in MEMORY_BITS:
        for method in (Method.NONE, Method.SPOT):
            name = f"memory, 2^{bits}, terms: {method.value}"
            found[name] = [memory(bits, live, live // 10, method)]
    show(found)
    if save:
        parameters = {"rounds": rounds, "intervals": count, "leases": live, "edges_max": intervals.EDGES_MAX}
        medians = {
            group: {name: common.median_spread([one[name] for one in ones]) for name in ones[0]}
            for group, ones in found.items()
        }
        common.record("ledger", parameters, {"medians": medians, "rounds": found})


def show(found: dict[str, list[Found]]) -> None:
    """One table of rates and one of bytes."""
    rates, sizes = [], []
    for group, ones in found.items():
        for name in ones[0]:
            values = [one[name] for one in ones]
            median = statistics.median(values)
            if name == "bytes" or group.startswith("memory"):
                sizes.append((group, name, f"{median:,.0f}"))
            else:
                spread = f"{median:,.0f} ({min(values):,.0f} - {max(values):,.0f})"
                rates.append((group, name, spread, f"{1e6 / median:,.2f}"))
    common.print_table(("", "", "a second: median (least - greatest)", "us each"), rates)
    print()
    common.print_table(("", "", "bytes"), sizes)


if __name__ == "__main__":
    main()
