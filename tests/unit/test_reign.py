"""What a leader of the tracker sees to, each duty one test. Its proposals go straight into a registry."""

import itertools
from dataclasses import dataclass, field

from zlb.core.ids import JobId, NodeId
from zlb.core.limits import SECOND
from zlb.core.timers import NEVER
from zlb.core.work import StopRule
from zlb.protocols.commands import (
    Assign,
    Command,
    Finish,
    Join,
    Leave,
    Listen,
    Status,
    Steer,
    Submit,
    pack,
    unpack_result,
)
from zlb.protocols.registry import Registry
from zlb.protocols.reign import Reign
from zlb.wire.tracking import Beat

LEASE_NS = 4 * SECOND
AT = "tcp://127.0.0.1:7001"


@dataclass
class Throne:
    """A leader and the registry it reads."""

    registry: Registry = field(default_factory=Registry)
    now: int = 0
    log_time: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        self.reign = Reign(NodeId("t1"), self.registry, LEASE_NS)

    def beat(self, node: str, incarnation: int = 1, listen: str = AT, slots: int = 1) -> None:
        self.reign.on_beat(self.now, Beat(node, incarnation, listen, slots))

    def commit(self, *commands: Command) -> None:
        """The log holds them: what they say is so, or the reign hears that it is not."""
        for command in commands:
            ok, _ = unpack_result(self.registry.apply(next(self.log_time), pack(command)))
            if not ok:
                self.reign.on_denied(command)

    def proposals(self) -> list[Command]:
        return self.reign.see_to(self.now)

    def settle(self) -> list[Command]:
        """Commit what is proposed until nothing is."""
        seen: list[Command] = []
        while proposals := self.proposals():
            seen += proposals
            self.commit(*proposals)
        return seen

    def submit(self, *jobs: str) -> None:
        self.commit(*(Submit(job, "", "", "k", b"", ((0, 100),), StopRule.ALL, 0) for job in jobs))

    def coordinators(self) -> list[str]:
        return [entry.coordinator for entry in self.registry.open_jobs.values()]


def test_a_peer_is_entered_when_it_is_first_heard_and_only_once() -> None:
    throne = Throne()
    throne.beat("p1", slots=3)
    throne.beat("p1", slots=3)
    assert throne.proposals() == [Join("p1", AT, 3, 1)]
    throne.beat("p1", slots=3)  # not committed yet
    assert throne.proposals() == []
    throne.commit(Join("p1", AT, 3, 1))
    throne.beat("p1", slots=3)
    assert throne.settle() == []


def test_a_peer_that_was_restarted_or_moved_is_entered_anew() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.settle()
    throne.beat("p1", incarnation=2)
    assert throne.settle() == [Join("p1", AT, 1, 2)]
    throne.beat("p1", incarnation=2, slots=5)
    assert throne.settle() == [Join("p1", AT, 5, 2)]
    throne.beat("p1", incarnation=2, listen="tcp://127.0.0.1:9", slots=5)
    assert throne.settle() == [Join("p1", "tcp://127.0.0.1:9", 5, 2)]


def test_a_peer_silent_for_the_lease_is_taken_out_once() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.settle()
    assert throne.reign.deadline() == LEASE_NS
    throne.now = LEASE_NS - 1
    assert throne.settle() == []
    throne.now = LEASE_NS
    assert throne.proposals() == [Leave(("p1",))]
    assert throne.proposals() == [] and throne.reign.deadline() == NEVER


def test_a_peer_that_is_heard_again_after_it_left_is_entered_again() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.settle()
    throne.now = LEASE_NS
    throne.settle()
    throne.beat("p1")
    assert throne.settle() == [Join("p1", AT, 1, 1)]


def test_a_peer_silent_before_it_was_entered_may_come_back() -> None:
    throne = Throne()
    throne.beat("p1")
    (join,) = throne.proposals()
    throne.now = LEASE_NS
    (leave,) = throne.proposals()
    throne.commit(join, leave)
    throne.beat("p1")
    assert throne.proposals() == [join]


def test_a_new_leader_grants_every_peer_one_lease_more() -> None:
    before = Throne()
    before.beat("p1")
    before.beat("p2")
    before.settle()
    throne = Throne(before.registry, now=10 * SECOND)
    throne.beat("p3")
    assert throne.settle() == [Join("p3", AT, 1, 1)]
    throne.now += LEASE_NS - 1
    throne.beat("p2")
    assert throne.settle() == []
    throne.now += 1
    assert throne.settle() == [Leave(("p3", "p1"))]
    assert list(throne.registry.peers) == ["p2"]


def test_jobs_go_to_the_peers_that_coordinate_fewest() -> None:
    throne = Throne()
    for node in ("p1", "p2", "p3"):
        throne.beat(node)
        throne.settle()
    throne.submit("j1", "j2", "j3", "j4", "j5")
    assigned = throne.settle()
    assert all(isinstance(command, Assign) and command.epoch == 1 for command in assigned)
    assert sorted(throne.coordinators().count(node) for node in ("p1", "p2", "p3")) == [1, 2, 2]


def test_a_peer_that_cannot_be_dialled_coordinates_nothing() -> None:
    throne = Throne()
    throne.beat("p1", listen="")
    throne.submit("j1")
    assert throne.settle() == [Join("p1", "", 1, 1)]
    throne.beat("p2")
    throne.settle()
    assert throne.coordinators() == ["p2"]


def test_a_job_waits_for_the_first_peer() -> None:
    throne = Throne()
    throne.submit("j1")
    assert throne.settle() == []
    throne.beat("p1")
    throne.settle()
    assert throne.coordinators() == ["p1"]


def test_a_peer_that_comes_back_where_it_can_be_dialled_may_coordinate() -> None:
    throne = Throne()
    throne.beat("p1", listen="")
    throne.submit("j1")
    throne.settle()
    throne.beat("p1", incarnation=2)
    throne.settle()
    throne.now += SECOND
    throne.beat("p1", incarnation=2)
    throne.settle()
    assert throne.coordinators() == ["p1"]


def test_a_peer_that_takes_the_place_of_another_at_once_may_coordinate() -> None:
    throne = Throne()
    throne.beat("p1", listen="")
    throne.submit("j1")
    throne.settle()
    throne.beat("p2")
    throne.commit(*throne.proposals(), Leave(("p1",)))
    throne.settle()
    throne.now += SECOND
    throne.beat("p2")
    throne.settle()
    assert throne.coordinators() == ["p2"]


def test_the_jobs_of_a_peer_that_left_go_to_another_in_the_next_epoch() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.submit("j1")
    throne.settle()
    throne.now = SECOND
    throne.beat("p2")
    throne.settle()
    throne.now = LEASE_NS
    assert throne.settle() == [Leave(("p1",)), Assign("j1", "p2", 2)]


def test_the_jobs_of_a_peer_that_was_restarted_are_assigned_anew() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.submit("j1")
    throne.settle()
    throne.beat("p1", incarnation=2)
    assert throne.settle() == [Join("p1", AT, 1, 2), Assign("j1", "p1", 2)]


def test_a_job_is_not_assigned_again_before_the_log_holds_it() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.settle()
    throne.submit("j1")
    (assign,) = throne.proposals()
    throne.submit("j2")
    assert throne.proposals() == [Assign("j2", "p1", 1)]
    assert isinstance(assign, Assign) and assign.job == "j1"


def test_a_denied_assignment_is_made_anew() -> None:
    throne = Throne()
    throne.beat("p1")
    throne.settle()
    throne.submit("j1")
    (assign,) = throne.proposals()
    throne.commit(Leave(("p1",)), assign)  # it left meanwhile
    assert throne.registry.jobs[JobId("j1")].coordinator == ""
    throne.now = SECOND
    throne.beat("p2")
    throne.settle()
    assert throne.coordinators() == ["p2"]


def test_a_paused_job_without_a_coordinator_waits_and_an_ended_one_is_left_alone() -> None:
    throne = Throne()
    throne.submit("j1", "j2")
    throne.commit(Steer("j1", Status.PAUSED), Steer("j2", Status.CANCELLED))
    throne.beat("p1")
    assert throne.settle() == [Join("p1", AT, 1, 1)]
    throne.commit(Steer("j1", Status.RUNNING))
    assert throne.settle() == [Assign("j1", "p1", 1)]
    throne.commit(Finish("j1", 1, Status.COMPLETE, ""))
    assert throne.settle() == []


def test_what_the_log_does_not_take_now_is_proposed_again() -> None:
    throne = Throne()
    throne.beat("p1")
    (join,) = throne.proposals()
    throne.reign.put_off(join)
    assert throne.proposals() == [join] and throne.proposals() == []


# -- where trackers listen


def test_members_are_told_with_where_they_listen_and_once() -> None:
    throne = Throne()
    listens = {NodeId("t1"): AT, NodeId("t2"): "tcp://127.0.0.1:7002"}
    throne.reign.on_members(listens)
    throne.reign.on_members(listens)
    assert throne.proposals() == [Listen("t1", AT), Listen("t2", "tcp://127.0.0.1:7002")]
    throne.reign.on_members(listens)
    assert throne.settle() == []


def test_a_member_that_moved_is_told_anew_and_one_that_left_is_taken_out() -> None:
    throne = Throne()
    throne.reign.on_members({NodeId("t1"): AT, NodeId("t2"): "tcp://127.0.0.1:7002"})
    throne.settle()
    throne.reign.on_members({NodeId("t1"): "tcp://127.0.0.1:9"})
    throne.settle()
    assert throne.registry.trackers == {"t1": "tcp://127.0.0.1:9"}


def test_a_member_that_returns_is_told_again() -> None:
    throne = Throne()
    for listens in ({NodeId("t2"): AT}, {}, {NodeId("t2"): AT}):
        throne.reign.on_members(listens)
        throne.settle()
    assert throne.registry.trackers == {"t2": AT}


def test_the_heir_is_another_member_that_is_linked() -> None:
    throne = Throne()
    throne.reign.on_members({NodeId("t1"): AT, NodeId("t2"): AT})
    throne.settle()
    assert throne.reign.heir([NodeId("p1"), NodeId("t1"), NodeId("t2")]) == "t2"
    assert throne.reign.heir([NodeId("p1"), NodeId("t1")]) is None
