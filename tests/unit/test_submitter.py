"""A submitter as a whole: its patience, its links, and how it leaves when the job has ended."""

import random

from zlb.core.config import CoordinatorConfig, SubmitterConfig
from zlb.core.effects import Effect, Emit, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import JobEnded, NeighbourLost, Stopped
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.limits import SECOND
from zlb.core.work import Job, Oracle, StopRule
from zlb.nodes.submitter import Submitter
from zlb.wire.messages import (
    Done,
    Goodbye,
    JobAdvert,
    JobClosed,
    LoadUpdate,
    Part,
    Refused,
    TaskAck,
    TaskReport,
    TaskRequest,
    TaskTransfer,
    Welcome,
)

P, AT = NodeId("p"), Endpoint("tcp://127.0.0.1:1")
WELCOME = Welcome("p", 1, AT, AT, "", ())
REQUEST = TaskRequest("j", 1, 1, 1, 0.0, True)


def submitter(linked: bool = True, **options: int) -> Submitter:
    job = Job(JobId("j"), "k", b"", ((0, 10),), StopRule.ALL, 0)
    config = SubmitterConfig(coordinator=CoordinatorConfig(chunk_count=10), **options)
    node = Submitter(NodeId("s"), 1, "", [AT], job, Oracle(lambda n: None), config, random.Random(1))
    node.on_start(0)
    if linked:
        node.on_message(0, P, WELCOME)
    return node


def ended(effects: list[Effect]) -> list[tuple[str, str]]:
    events = [effect.event for effect in effects if isinstance(effect, Emit)]
    return [(event.status, event.detail) for event in events if isinstance(event, JobEnded)]


def messages(effects: list[Effect]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def test_connect_timer_gives_up_when_nobody_answers() -> None:
    node = submitter(linked=False)
    assert ended(node.on_tick(3 * SECOND - 1)) == []
    effects = node.on_tick(3 * SECOND)
    assert ended(effects) == [("cancelled", "unreachable")] and Emit(Stopped()) in effects


def test_peers_that_peers_tell_of_are_dialled_only_by_who_explores() -> None:
    other = Endpoint("tcp://127.0.0.1:2")
    for explore in (True, False):
        node = submitter(linked=False, explore=explore)
        sent = node.on_message(0, P, Welcome("p", 1, AT, AT, "", (other,)))
        assert (other in [effect.to for effect in sent if isinstance(effect, Send)]) == explore


def test_connect_timer_is_content_with_one_neighbour() -> None:
    assert ended(submitter().on_tick(3 * SECOND)) == []


def test_timeout_timer_cancels_what_is_still_open() -> None:
    node = submitter(timeout_ns=5 * SECOND)
    node.on_message(0, P, REQUEST)
    assert node.deadline() <= 5 * SECOND
    effects = node.on_tick(5 * SECOND)
    assert ended(effects) == [("cancelled", "timeout")] and JobClosed("j", "cancelled") in messages(effects)


def test_stop_is_an_interruption() -> None:
    node = submitter()
    assert ended(node.on_stop(1)) == [("cancelled", "interrupted")]
    assert node.on_stop(2) == [] and ended(node.on_tick(9 * SECOND)) == []


def test_the_end_is_told_to_workers_then_emitted_then_goodbye() -> None:
    node = submitter()
    node.on_message(0, P, REQUEST)
    report = TaskReport("j", 1, 2, (Part(1, True, (Done(0, 10),), (), 5, ""),))
    effects = node.on_message(1, P, report)
    assert messages(effects) == [TaskAck("j", 2), JobClosed("j", "complete"), Goodbye("stopped")]
    assert ended(effects) == [("complete", "")] and effects[-1] == Emit(Stopped())


def test_links_strangers_are_told_to_say_hello() -> None:
    node = submitter(linked=False)
    for message in (REQUEST, TaskReport("j", 1, 1, ()), LoadUpdate("p", 1, 1, 0, 0.0, 0, 1)):
        (refused,) = messages(node.on_message(0, P, message))
        assert isinstance(refused, Refused) and refused.code == ErrorCode.NOT_LINKED
    assert not node.coordinator.ledger.leases


def test_welcome_brings_the_advert() -> None:
    node = submitter(linked=False)
    assert [type(message) for message in messages(node.on_message(0, P, WELCOME))] == [JobAdvert]


def test_goodbye_of_a_worker_returns_its_leases_at_once() -> None:
    node = submitter()
    assert [type(message) for message in messages(node.on_message(0, P, REQUEST))] == [TaskTransfer]
    effects = node.on_message(1, P, Goodbye(""))
    assert Emit(NeighbourLost(P, "left")) in effects and not node.coordinator.ledger.leases
    assert node.coordinator.ledger.unleased.measure == 10


def test_a_worker_that_only_publishes_is_not_lost() -> None:
    node = submitter()
    for second in range(1, 20):
        node.on_message(second * SECOND, P, LoadUpdate("p", 1, second, 0, 0.0, 0, 1))
        node.on_tick(second * SECOND)
    assert node.neighbours.linked == [P]
