"""Modelled machines: what they find is exact, their speed is a function of time, cheats do as they say."""

import random

import pytest

from zlb.core.ids import RunId
from zlb.core.limits import SECOND
from zlb.core.work import Measure, Measured, Pattern, Search, Searched
from zlb.sim.cheats import Cheat, CheatingCpu
from zlb.sim.churn import HOUR_NS, SETI
from zlb.sim.cpu import START_NS, Cpu
from zlb.sim.pace import DISTURBED_LOSS, Disturbed, Duty, Steady
from zlb.sim.truth import Truth, digest, samples, splitmix64, word

PATTERNS = (Pattern(0xFF, 3), Pattern(0xFFF, 0x123))
TRUTH = Truth([5, 100, 70_000, 150_000])
RUN = RunId(1)


def test_splitmix64_is_the_published_one() -> None:
    # The first outputs for seed 1234567: Vigna's splitmix64.c.
    step = 0x9E3779B97F4A7C15
    states = [(1234567 + i * step) & ((1 << 64) - 1) for i in range(3)]
    assert [splitmix64(n) for n in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("start", [0, 65_530, (1 << 32) - 70_000, (1 << 64) - 140_000])
def test_samples_are_all_there_are(start: int) -> None:
    stop = start + 140_000
    wanted = tuple(
        tuple(n for n in range(start, stop) if word(n) & pattern.mask == pattern.value)
        for pattern in PATTERNS
    )
    assert samples(PATTERNS, start, stop) == wanted
    assert all(wanted)


def test_an_oracle_knows_hits_and_words() -> None:
    oracle = TRUTH.oracle
    assert oracle.word is not None
    assert (oracle.check(100), oracle.check(101), oracle.word(7)) == (digest(100), None, word(7))


def searched(cpu: Cpu, start: int = 0, stop: int = 200_000, hits_max: int = 10) -> tuple[int, Searched]:
    """When a run ends, and what it comes to."""
    cpu.run(0, RUN, Search("k", b"", start, stop, hits_max, PATTERNS))
    at = cpu.next_at()
    assert at is not None
    run_id, outcome = cpu.finish(at)
    assert run_id == RUN and isinstance(outcome, Searched) and cpu.next_at() is None
    return at, outcome


def test_an_honest_run_tells_all_and_takes_its_time() -> None:
    cpu = Cpu(1, 1e6, {b"": TRUTH})
    at, outcome = searched(cpu)
    assert at == START_NS + SECOND // 5 == outcome.busy_ns
    assert [hit.n for hit in outcome.hits] == TRUTH.hits
    assert outcome.samples == samples(PATTERNS, 0, 200_000)
    assert cpu.hashed(at) == 200_000


def test_a_run_ends_with_enough_hits_and_counts_what_it_did_if_it_is_stopped() -> None:
    cpu = Cpu(1, 1e6, {b"": TRUTH})
    assert searched(cpu, hits_max=2)[1][:2] == (
        101,
        tuple(searched(Cpu(1, 1.0, {b"": TRUTH}), 0, 101)[1].hits),
    )
    cpu.run(0, RUN, Search("k", b"", 0, 200_000, 9, PATTERNS))
    assert cpu.hashed(SECOND // 10) == 101 + 100_000
    cpu.stop(SECOND // 10, RUN)
    _, outcome = cpu.finish(0)
    assert isinstance(outcome, Searched) and outcome.stopped_at == 100_000
    assert outcome.samples == samples(PATTERNS, 0, 100_000) and cpu.hashed(0) == 101 + 100_000


@pytest.mark.parametrize("duty", [Duty(), Duty(6, 10, 3), Duty(SECOND, 3 * SECOND)])
@pytest.mark.parametrize("seed", range(3))
def test_the_pace_of_a_disturbed_machine_does_not_depend_on_who_asks(seed: int, duty: Duty) -> None:
    pace, asked = (Disturbed(1e6, random.Random(seed), duty) for _ in range(2))
    dice = random.Random(seed + 10)
    for _ in range(300):
        start, count = dice.randrange(2000 * SECOND), dice.randrange(1, 10**8)
        stop = pace.when(start, count)
        assert stop > start and abs(pace.done(start, stop) - count) <= 2
    assert pace.done(0, 1000 * SECOND) == asked.done(0, 1000 * SECOND)


def test_disturbed_machines_lose_what_the_model_says() -> None:
    span = 3600 * SECOND
    share = sum(Disturbed(1e6, random.Random(seed)).done(0, span) for seed in range(200)) / 200 / 3600e6
    assert 1 - share == pytest.approx(DISTURBED_LOSS, abs=0.002)
    assert Disturbed(1e6, None, Duty(6, 10)).done(0, span) == pytest.approx(0.6 * 3600e6)
    assert Disturbed(7.0, None).when(5, 14) == Steady(7.0).when(5, 14)


def test_stays_are_those_of_seti() -> None:
    # Mean 10.35 h and median 1.17 h up, 28 % end within 10 min; 11.0 h and 0.56 h down; 48 % are there at any time.
    dice = random.Random(1)
    ups = sorted(SETI.up_ns(dice) / HOUR_NS for _ in range(50_000))
    downs = sorted(SETI.down_ns(dice) / HOUR_NS for _ in range(50_000))
    assert sum(ups) / len(ups) == pytest.approx(10.35, rel=0.05)
    assert ups[25_000] == pytest.approx(1.17, rel=0.05)
    assert sum(up < 1 / 6 for up in ups) / len(ups) == pytest.approx(0.28, abs=0.01)
    assert downs[25_000] == pytest.approx(0.56, rel=0.05)
    assert SETI.availability == pytest.approx(0.484, abs=0.002)


def test_at_any_time_the_same_share_of_hosts_is_there() -> None:
    counts = [0, 0, 0]
    for seed in range(2000):
        stays = SETI.stays(random.Random(seed))
        since, to = next(stays)
        for i, at in enumerate((0, HOUR_NS, 24 * HOUR_NS)):
            while to <= at:
                after, (since, to) = to, next(stays)
                assert since > after
            counts[i] += since <= at
    assert [count / 2000 for count in counts] == pytest.approx([SETI.availability] * 3, abs=0.03)
    assert next(SETI.stays(random.Random(1), fresh=True))[0] == 0


def cheating(cheat: Cheat, name: str = "x", seed: int = 1) -> CheatingCpu:
    return CheatingCpu(1, 1e6, {b"": TRUTH}, cheat, seed, name)


def test_a_cheat_without_arguments_is_honest() -> None:
    assert searched(cheating(Cheat())) == searched(Cpu(1, 1e6, {b"": TRUTH}))


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("skips", [0.1, 0.5, 1.0])
def test_who_skips_is_faster_and_misses_as_much(skips: float, stretch: bool) -> None:
    cpu = cheating(Cheat(cell=1 << 12, skips=skips, stretch=stretch))
    at, outcome = searched(cpu, 0, 1 << 17)
    told, there = len(outcome.samples[0]), len(samples(PATTERNS, 0, 1 << 17)[0])
    assert outcome.stopped_at == 1 << 17
    assert told == pytest.approx((1 - skips) * there, abs=0.1 * there)
    assert cpu.hashed(at) == pytest.approx((1 - skips) * (1 << 17), rel=0.01)
    assert at - START_NS == cpu.hashed(at) * 1000
    idle, _ = searched(cheating(Cheat(cell=1 << 12, skips=skips, idles=True)), 0, 1 << 17)
    assert idle - START_NS == (1 << 17) * 1000


def test_who_cheats_rarely_does_so_in_that_share_of_cells() -> None:
    cpu = cheating(Cheat(cell=64, skips=1.0, rate=0.2))
    searched(cpu, 0, 1 << 17)
    assert cpu.hashed(0) == pytest.approx(0.8 * (1 << 17), rel=0.02)


def test_forged_and_withheld() -> None:
    _, forged = searched(cheating(Cheat(cell=1 << 16, forges_hits=1.0, forges_samples=1.0)))
    assert [hit.n for hit in forged.hits if not TRUTH.among(hit.n, hit.n + 1)] == [1 << 15, 3 << 15, 5 << 15]
    true = samples(PATTERNS, 0, 200_000)
    assert all(set(all_true) < set(told) for all_true, told in zip(true, forged.samples, strict=True))
    assert len(forged.samples[0]) == pytest.approx(2 * len(true[0]), rel=0.02)
    _, silent = searched(cheating(Cheat(withholds=1.0)))
    assert (silent.hits, silent.samples) == ((), true)


def test_who_boasts_says_so_everywhere() -> None:
    cpu = cheating(Cheat(boasts=4.0))
    cpu.run(0, RUN, Measure("k", b"", 1, SECOND))
    assert cpu.finish(SECOND) == (RUN, Measured(4e6))
    at, outcome = searched(cpu)
    assert outcome.busy_ns == pytest.approx(at / 4, rel=0.01)


def test_those_who_collude_tell_the_same_lies_however_the_job_is_cut() -> None:
    cheat = Cheat(cell=1 << 10, rate=0.5, skips=0.5, forges_samples=0.5, group="g")
    whole = searched(cheating(cheat, "a"), 0, 1 << 16)[1].samples[0]
    parts = [searched(cheating(cheat, "b"), cut, cut + (1 << 15))[1].samples[0] for cut in (0, 1 << 15)]
    alone = searched(cheating(Cheat(cell=1 << 10, rate=0.5, skips=0.5, forges_samples=0.5), "b"), 0, 1 << 16)
    assert whole == parts[0] + parts[1] != alone[1].samples[0]
