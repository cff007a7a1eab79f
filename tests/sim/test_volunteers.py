"""The room for measurements: what its fleet is, what comes of a job, and that a seed decides all of it."""

from dataclasses import replace

import pytest

from tests.sim.processes import told_by_all
from zlb.core.config import CoordinatorConfig, Method, WorkerConfig
from zlb.core.ids import NodeId
from zlb.core.limits import SECOND
from zlb.core.work import StopRule
from zlb.sim.cheats import Cheat
from zlb.sim.churn import IN_MINUTES, SETI, Churn
from zlb.sim.volunteers import Fleet, Run, Volunteers, scaled
from zlb.sim.weather import stream

MINUTE = 60 * SECOND
FLEET = Fleet(10, seed=3)
SAME = """
from zlb.sim.volunteers import Fleet, Volunteers
from zlb.sim.churn import SETI
print(Volunteers(Fleet(8, 5, disturbed=True, churn=SETI), 100_000).run(60 * 10**9))
"""


def run(fleet: Fleet, minutes: float = 0.5, **about: object) -> Run:
    return Volunteers(fleet, fleet.expected(minutes / 60), **about).run(int(3 * minutes * MINUTE))  # type: ignore[arg-type]


def test_a_fleet_that_stays_finishes_and_wastes_little() -> None:
    done = run(FLEET)
    assert (done.status, done.done, done.departures) == ("complete", done.size, 0)
    assert done.hashed == done.size and not done.recomputed
    assert 0.95 < done.efficiency <= 1


def test_same_seed_same_run_in_any_process() -> None:
    told = told_by_all(SAME, timeout_s=120)
    assert len(told) == 1 and "digest=" in told.pop()
    assert run(FLEET).digest != run(replace(FLEET, seed=4)).digest


def test_who_dies_is_replaced_and_what_it_did_since_its_report_is_done_again() -> None:
    fleet = replace(FLEET, sigma=0.0, rate=10_000.0)
    room = Volunteers(fleet, fleet.expected(1 / 60))
    room.kill(20 * SECOND, NodeId("p3"))
    done = room.run(5 * MINUTE)
    assert (done.status, done.departures) == ("complete", 1)
    assert 0 < done.recomputed <= 2 * 10_000  # two seconds of one machine
    assert room.capacity(NodeId("p3"), MINUTE) <= 20 * 10_000


def test_a_run_ends_with_its_job() -> None:
    told: list[tuple[int, int, int]] = []
    room = Volunteers(FLEET, FLEET.expected(0.5 / 60))
    room.watch = lambda _node, event: (
        told.append((room.world.now, room.world.steps, room.world.transcript.count))
        if type(event).__name__ == "JobEnded"
        else None
    )
    looks: list[int] = []
    done = room.run(90 * SECOND, lambda room: looks.append(room.world.now))
    ((ended_at, steps, lines),) = told
    assert done.elapsed_ns == room.world.now == ended_at
    assert done.steps == steps
    assert room.world.transcript.count <= lines + 2 * FLEET.peers  # what is left of that step
    assert looks == [*range(90 * SECOND // 100, ended_at, 90 * SECOND // 100), ended_at]
    room.world.run(90 * SECOND)  # it may go on
    assert room.world.now == 90 * SECOND and room.world.steps > steps


def test_a_scale_makes_stays_shorter_and_leaves_the_share_of_those_there() -> None:
    assert IN_MINUTES.availability == SETI.availability
    drawn = [[next(churn.stays(stream(1, f"{n}"))) for n in range(50)] for churn in (SETI, IN_MINUTES)]
    for (since, to), (scaled_since, scaled_to) in zip(*drawn, strict=True):
        assert scaled_since == pytest.approx(since / 60, abs=1)
        assert scaled_to == pytest.approx(to / 60, abs=2e6)  # no stay is shorter than a millisecond


def test_volunteers_who_come_and_go_finish_all_the_same() -> None:
    often = Churn(up_shape=1.0, up_scale_h=30 / 3600, down_mu=-6.0, down_sigma=0.5)  # 30 s up, 9 s down
    hits = [7, 1234, 5678]
    found = []
    fleet = replace(FLEET, churn=often, disturbed=True)
    room = Volunteers(fleet, fleet.expected(1 / 60), hits)
    room.watch = lambda _node, event: found.append(event)
    done = room.run(5 * MINUTE)
    assert done.status == "complete" and done.departures >= 5
    assert sorted(event.n for event in found if type(event).__name__ == "HitFound") == hits
    assert 0.5 < done.efficiency <= 1


def test_a_first_hit_ends_it() -> None:
    done = run(FLEET, hits=[1000], rule=StopRule.FIRST)
    assert done.status == "found" and done.done < done.size


def test_samples_are_told_if_results_are_checked() -> None:
    done = run(replace(FLEET, verify=Method.SHARES))
    assert (done.status, done.done, done.recomputed) == ("complete", done.size, 0)


def test_a_cheat_that_is_told_apart_comes_back_under_a_new_name() -> None:
    fleet = replace(FLEET, verify=Method.SHARES, rate=20_000.0, sigma=0.0)
    lazy = Cheat(cell=1 << 10, skips=0.9, idles=True)
    room = Volunteers(fleet, fleet.expected(0.5 / 60), cheats={4: lazy})
    room.world.run(10 * SECOND)
    assert room.accused == [NodeId("p4")]
    room.whitewash(NodeId("p4"), NodeId("p4a"), lazy)
    assert room.run(MINUTE * 3).status == "complete"
    assert room.accused == [NodeId("p4"), NodeId("p4a")]


@pytest.mark.parametrize(("peers", "longer"), [(1, 1), (100, 1), (250, 2.5), (1000, 10)])
def test_periods_are_production_s_times_n_over_100(peers: int, longer: float) -> None:
    peer, submitter = scaled(Fleet(peers))
    assert Fleet(peers).scale == longer
    assert peer.worker.report_ns == longer * WorkerConfig().report_ns
    assert peer.worker.slice_ns == longer * WorkerConfig().slice_ns
    assert submitter.coordinator.chunk_ns == longer * CoordinatorConfig().chunk_ns
    assert submitter.coordinator.silence_ns == 3 * peer.worker.report_ns
    told, _ = scaled(Fleet(peers, report_ns=5 * SECOND))
    assert told.worker.report_ns == 5 * SECOND


def test_speeds_are_lognormal_and_expected_work_counts_who_is_there() -> None:
    equal, spread = Fleet(400, sigma=0.0).expected(1), Fleet(400).expected(1)
    assert equal == pytest.approx(400_000 * 3600)
    assert spread == pytest.approx(equal * 2.718 ** (0.8**2 / 2), rel=0.15)
    assert Fleet(400, sigma=0.0, churn=SETI).expected(1) == pytest.approx(equal * SETI.availability)
    assert Fleet(400, sigma=0.0, slots=2, disturbed=True).expected(1) == pytest.approx(
        2 * equal * 0.964, rel=1e-3
    )
