"""A peer as a whole: who is heard, when it begins to pull, and how it leaves."""

import random

from zlb.core.config import PeerConfig
from zlb.core.effects import Effect, Emit, Persist, Run, Send, Stop
from zlb.core.errors import ErrorCode
from zlb.core.events import Notice, Stopped
from zlb.core.ids import NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.timers import NEVER
from zlb.core.work import Failed, Measure, Measured, Rate, Searched
from zlb.nodes.peer import Peer
from zlb.wire.messages import (
    Goodbye,
    Grant,
    Hello,
    JobAdvert,
    LoadUpdate,
    Refused,
    Spec,
    TaskAck,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)

S = NodeId("s")
ADVERT = JobAdvert("s", 1, 1, "j", "sha256", 100)


def peer(kernel: str = "", rates: dict[str, float] | None = None, linked: bool = True) -> Peer:
    config = PeerConfig(measure_kernel=kernel)
    node = Peer(NodeId("p"), 1, "tcp://127.0.0.1:1", "", [], config, random.Random(1), rates or {})
    if linked:
        node.on_message(0, S, Hello("s", 1, "", "", ""))
    return node


def messages(effects: list[Effect]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def test_links_strangers_are_told_to_say_hello_and_not_heard() -> None:
    node = peer(linked=False)
    for message in (ADVERT, LoadUpdate("s", 1, 1, 0, 0.0, 0, 1), TaskAck("j", 1), Goodbye("")):
        (refused,) = messages(node.on_message(0, S, message))
        assert isinstance(refused, Refused) and refused.code == ErrorCode.NOT_LINKED
    assert node.unexpected == 4 and node.worker.jobs == [] and node.gossip.view(0) == {}


def test_errors_refused_is_never_answered() -> None:
    for linked in (False, True):
        assert messages(peer(linked=linked).on_message(0, S, Refused(ErrorCode.MALFORMED, ""))) == []


def test_errors_a_peer_coordinates_nothing() -> None:
    node = peer()
    for message in (TaskRequest("j", 1, 1, 1, 0.0, True), TaskReport("j", 1, 1, ())):
        (refused,) = messages(node.on_message(0, S, message))
        assert isinstance(refused, Refused) and refused.code == ErrorCode.NOT_A_COORDINATOR


def test_job_advert_old_and_doubled_ones_are_ignored() -> None:
    node = peer()
    node.on_message(0, S, ADVERT)
    node.on_tick(0)
    node.worker._jobs["j"].unleased = False  # type: ignore[index]
    node.on_message(1, S, ADVERT)
    assert not node.worker._jobs["j"].unleased  # type: ignore[index]


def test_goodbye_forgets_the_sender() -> None:
    node = peer()
    node.on_message(0, S, ADVERT)
    node.on_message(0, S, LoadUpdate("s", 1, 1, 5, 1.0, 1, 1))
    node.on_message(1, S, Goodbye("done"))
    assert (node.neighbours.linked, node.worker.jobs, node.gossip.view(1)) == ([], [], {})


def test_an_unmeasured_peer_pulls_only_once_measured() -> None:
    node = peer("sha256")
    (run,) = [effect for effect in node.on_start(0) if isinstance(effect, Run)]
    assert isinstance(run.work, Measure) and run.work.aim_ns == 100 * MS
    node.on_message(0, S, ADVERT)
    assert messages(node.on_tick(0)) == []
    assert Persist(Rate("sha256", 5e6)) in node.on_done(MS, run.run_id, Measured(5e6))
    (request,) = messages(node.on_tick(MS))
    assert isinstance(request, TaskRequest) and request.rate == 5e6


def test_a_peer_that_cannot_be_measured_works_all_the_same() -> None:
    node = peer("sha256")
    (run,) = [effect for effect in node.on_start(0) if isinstance(effect, Run)]
    node.on_message(0, S, ADVERT)
    node.on_done(MS, run.run_id, Failed("no such kernel"))
    (request,) = messages(node.on_tick(MS))
    assert isinstance(request, TaskRequest) and request.rate == 0


def test_a_measurement_that_was_stopped_is_nothing_to_tell_of() -> None:
    for stops in (False, True):
        node = peer("sha256", linked=False)
        (run,) = [effect for effect in node.on_start(0) if isinstance(effect, Run)]
        if stops:
            node.on_stop(1)
        effects = node.on_done(2, run.run_id, Failed("stopped"))
        told = [effect.event for effect in effects if isinstance(effect, Emit)]
        assert any(isinstance(event, Notice) for event in told) is not stops


def test_a_peer_that_remembers_its_rate_pulls_at_once() -> None:
    node = peer("sha256", {"sha256": 7.0})
    node.on_start(0)
    node.on_message(0, S, ADVERT)
    assert [type(message) for message in messages(node.on_tick(0))] == [TaskRequest]


def working() -> tuple[Peer, list[Run]]:
    node = peer(rates={"sha256": 1000.0})
    node.on_message(0, S, ADVERT)
    node.on_tick(0)
    transfer = TaskTransfer("j", 1, (Grant(0, 1000, 1),), Spec("sha256", b"", 0))
    return node, [effect for effect in node.on_message(0, S, transfer) if isinstance(effect, Run)]


def test_stop_gives_leases_back_waits_for_the_acknowledgement_and_says_goodbye() -> None:
    node, runs = working()
    assert {effect for effect in node.on_stop(5) if isinstance(effect, Stop)} == {
        Stop(r.run_id) for r in runs
    }
    for run in runs:
        node.on_done(6, run.run_id, Searched(run.work.start, (), 0))  # type: ignore[union-attr]
    (report,) = [m for m in messages(node.on_tick(6)) if isinstance(m, TaskReport)]
    assert report.parts[0].ended and not report.parts[0].done
    assert node.on_message(7, S, TaskAck("j", report.sequence)) == [
        Send(S, Goodbye("stopped")),
        Emit(Stopped()),
    ]


def test_stop_waits_for_an_acknowledgement_a_second_and_no_longer() -> None:
    node, _ = working()
    node.on_stop(5)
    assert Emit(Stopped()) not in node.on_tick(SECOND + 4)
    assert node.deadline() <= SECOND + 5
    assert node.on_tick(SECOND + 5)[-2:] == [Send(S, Goodbye("stopped")), Emit(Stopped())]


def test_stop_of_an_idle_peer_is_immediate_and_happens_once() -> None:
    node = peer()
    assert node.on_stop(5) == [Send(S, Goodbye("stopped")), Emit(Stopped())]
    assert Emit(Stopped()) not in node.on_stop(6) + node.on_tick(2 * SECOND)


def test_neither_unknown_adverts_nor_the_end_leave_a_deadline_in_the_past() -> None:
    node = peer()
    node.on_start(0)
    for now in range(0, 2 * SECOND, 10 * MS):
        node.on_tick(now)
        assert now < node.deadline() <= NEVER
