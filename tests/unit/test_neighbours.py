"""Links: HELLO until WELCOME, silence, GOODBYE, NOT_LINKED (docs/protocol.md, "Links"; the section is in the names)."""

import random

import pytest

from zlb.core.config import NeighboursConfig
from zlb.core.effects import Effect, Emit, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import NeighbourLost, NeighbourRefused, NeighbourUp
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import LINKS_MAX, MS, NEIGHBOURS_MAX, NEIGHBOURS_TOLD_MAX, SECOND
from zlb.core.timers import NEVER
from zlb.protocols import neighbours as module
from zlb.protocols.neighbours import Neighbours
from zlb.wire.messages import Goodbye, Hello, Refused, Welcome

A = NodeId("a")
AT = Endpoint("tcp://127.0.0.1:7001")


def neighbours(*endpoints: Endpoint, explore: bool = False) -> Neighbours:
    core = Neighbours(NodeId("me"), 1, "l", "p", endpoints, NeighboursConfig(), random.Random(1), explore)
    core.on_start(0)
    return core


def welcome(at: str = AT, node: str = "a", *told: str) -> Welcome:
    return Welcome(node, 1, at, "", "", told)


def hello(node: str = "a", listen: str = "") -> Hello:
    return Hello(node, 1, "x", listen, "")


def refusals(effects: list[Effect]) -> list[int]:
    messages = [effect.message for effect in effects if isinstance(effect, Send)]
    return [message.code for message in messages if isinstance(message, Refused)]


def test_links_hello_comes_first_and_is_repeated_backing_off() -> None:
    core = Neighbours(NodeId("me"), 1, "l", "p", [AT], NeighboursConfig(silence_ns=NEVER), random.Random(1))
    assert core.on_start(0) == [Send(AT, Hello("me", 1, AT, "l", "p"))]
    waits, now = [], 0
    for _ in range(10):
        at = core.deadline()
        waits.append(at - now)
        now = at
        assert core.on_tick(now) == [Send(AT, Hello("me", 1, AT, "l", "p"))]
    for i, wait in enumerate(waits):
        base = min(50 * MS * 2**i, 2 * SECOND)
        assert base <= wait < 2 * base


def test_links_welcome_ends_the_calls() -> None:
    core = neighbours(AT)
    assert core.on_welcome(1, A, welcome()) == [Emit(NeighbourUp(A))]
    assert core.on_welcome(2, A, welcome()) == []  # doubled
    assert core.linked == [A] and core.deadline() == 4 * SECOND // module.SWEEPS


def test_links_a_welcome_nobody_asked_for_is_ignored() -> None:
    core = neighbours(AT)
    assert core.on_welcome(1, A, welcome("tcp://127.0.0.1:1")) == [] and core.linked == []


def test_links_hello_is_idempotent() -> None:
    core = neighbours()
    first, again = core.on_hello(0, A, hello()), core.on_hello(1, A, hello())
    assert first == [*again, Emit(NeighbourUp(A))]
    assert again == [Send(A, Welcome("me", 1, "x", "l", "p", ()))]


def test_links_who_is_silent_for_four_seconds_is_lost_and_called_again() -> None:
    core = neighbours(AT)
    core.on_welcome(0, A, welcome())
    core.on_heard(SECOND, A, Goodbye(""))
    assert core.on_tick(5 * SECOND - 1) == [Send(AT, Hello("me", 1, AT, "l", "p"))]  # keeps the link alive
    assert core.on_tick(5 * SECOND + 4 * SECOND // module.SWEEPS)[-1] == Emit(NeighbourLost(A, "silent"))
    assert core.linked == [] and core.deadline() <= 6 * SECOND


def test_links_hello_and_welcome_of_a_process_that_is_gone_come_too_late() -> None:
    core = neighbours(AT)
    assert Emit(NeighbourUp(A)) in core.on_hello(0, A, Hello("a", 2, "x", "", ""))
    assert core.on_hello(1, A, hello()) == [] and core.on_welcome(2, A, welcome()) == []
    assert core.linked == [A]
    assert core.on_hello(3, A, Hello("a", 2, "x", "", "")) == [Send(A, Welcome("me", 1, "x", "l", "p", ()))]


def test_links_that_work_are_said_hello_once_per_silence() -> None:
    core = neighbours(AT)
    core.on_welcome(0, A, welcome())
    hellos = []
    for now in range(0, 12 * SECOND, 100 * MS):
        core.on_heard(now, A, Goodbye(""))  # it may have dropped the link, and is heard nevertheless
        for effect in core.on_tick(now):
            assert effect == Send(AT, Hello("me", 1, AT, "l", "p"))
            hellos.append(now)
            core.on_welcome(now, A, welcome())
    assert hellos == [4 * SECOND, 8 * SECOND]


def test_links_who_dialled_us_and_is_silent_is_forgotten() -> None:
    core = neighbours()
    core.on_hello(0, A, hello())
    assert core.on_tick(5 * SECOND) == [Emit(NeighbourLost(A, "silent"))]


def test_links_not_linked_makes_the_dialler_say_hello_again() -> None:
    core = neighbours(AT)
    core.on_welcome(0, A, welcome())
    effects = core.on_refused(1, A, Refused(ErrorCode.NOT_LINKED, ""))
    assert effects in ([Emit(NeighbourLost(A, "restarted"))], [])
    assert core.deadline() <= 1 + 50 * MS
    assert Send(AT, Hello("me", 1, AT, "l", "p")) in core.on_tick(core.deadline())


def test_goodbye_is_forgotten_and_the_endpoint_called_again() -> None:
    core = neighbours(AT)
    core.on_welcome(0, A, welcome())
    assert core.on_goodbye(1, A, Goodbye("done")) == [Emit(NeighbourLost(A, "done"))]
    assert core.on_goodbye(1, A, Goodbye("done")) == [] and core.deadline() == 1 + 50 * MS


def test_hello_under_another_name_is_refused() -> None:
    core = neighbours()
    assert refusals(core.on_hello(0, A, hello("b"))) == [ErrorCode.MALFORMED] and core.linked == []


def test_hello_is_refused_when_full(monkeypatch: pytest.MonkeyPatch) -> None:
    core = neighbours()
    for i in range(NEIGHBOURS_MAX):
        core.on_hello(0, NodeId(f"n{i}"), hello(f"n{i}"))
    assert refusals(core.on_hello(0, A, hello())) == [ErrorCode.FULL]
    assert refusals(core.on_hello(0, NodeId("n0"), hello("n0"))) == []  # known already


def test_welcome_names_at_most_sixteen_that_others_may_dial() -> None:
    core = neighbours()
    core.on_hello(0, NodeId("in"), hello("in", "inproc://in"))
    core.on_hello(0, NodeId("out"), hello("out"))
    for i in range(NEIGHBOURS_TOLD_MAX + 1):
        core.on_hello(0, NodeId(f"n{i}"), hello(f"n{i}", f"tcp://127.0.0.1:{i + 1}"))
    (send,) = [effect for effect in core.on_hello(0, NodeId("n0"), hello("n0")) if isinstance(effect, Send)]
    assert isinstance(send.message, Welcome)
    assert send.message.neighbours == tuple(f"tcp://127.0.0.1:{i + 2}" for i in range(NEIGHBOURS_TOLD_MAX))


def test_explore_dials_who_it_is_told_of_up_to_its_bound() -> None:
    core = neighbours(AT, explore=True)
    told = [f"tcp://127.0.0.1:{i + 1}" for i in range(LINKS_MAX)]
    effects = core.on_welcome(0, A, welcome(AT, "a", AT, "no endpoint", *told))
    assert [effect.to for effect in effects if isinstance(effect, Send)] == told[: LINKS_MAX - 1]


def test_explore_is_off_unless_asked_for() -> None:
    assert len(neighbours(AT).on_welcome(0, A, welcome(AT, "a", "tcp://127.0.0.1:1"))) == 1


def test_explore_gives_up_who_never_answers() -> None:
    core = neighbours(AT, explore=True)
    core.on_welcome(0, A, welcome(AT, "a", *(f"tcp://127.0.0.1:{i + 1}" for i in range(LINKS_MAX))))
    for now in range(0, 600 * SECOND, SECOND):
        core.on_tick(now)
    effects = core.on_welcome(600 * SECOND, A, welcome(AT, "a", "tcp://127.0.0.1:99"))
    assert [effect for effect in effects if isinstance(effect, Send)]


def test_ourselves_are_no_neighbour() -> None:
    core = neighbours(AT)
    assert core.on_welcome(0, NodeId("me"), welcome(AT, "me")) == [] and core.linked == []
    assert core.on_tick(3 * SECOND) == []


def test_refused_is_told_and_the_endpoint_called_slowly() -> None:
    core = neighbours(AT)
    assert core.on_refused(0, AT, Refused(1, "old")) == [Emit(NeighbourRefused(AT, 1, "old"))]
    assert core._calls[AT].hello_at == 2 * SECOND


def test_stop_says_goodbye_to_all_and_calls_nobody() -> None:
    core = neighbours(AT)
    core.on_hello(0, A, hello())
    assert core.on_stop(1) == [Send(A, Goodbye("stopped"))]
    assert core.linked == [] and core.deadline() == NEVER


# -- trackers and clusters


def tracker(*endpoints: Endpoint, cluster: str = "main") -> Neighbours:
    config = NeighboursConfig()
    core = Neighbours(NodeId("me"), 1, "l", "p", endpoints, config, random.Random(1), cluster=cluster)
    core.on_start(0)
    return core


def in_cluster(cluster: str, at: str = AT) -> Welcome:
    return Welcome("a", 1, at, "", "", (), cluster)


def test_hello_names_the_cluster_of_a_tracker_and_welcome_too() -> None:
    core = tracker()
    (send, _) = core.on_hello(0, A, Hello("a", 1, AT, "", ""))
    assert isinstance(send, Send) and isinstance(send.message, Welcome) and send.message.cluster == "main"
    (send,) = core.call(0, Endpoint("tcp://127.0.0.1:9"))
    assert isinstance(send, Send) and isinstance(send.message, Hello) and send.message.cluster == "main"


def test_hello_of_a_tracker_of_another_cluster_is_refused_and_both_are_named() -> None:
    core = tracker()
    (send,) = core.on_hello(0, A, Hello("a", 1, AT, "", "", "other"))
    assert isinstance(send, Send) and isinstance(send.message, Refused)
    assert send.message.code == ErrorCode.WRONG_CLUSTER
    assert "'other'" in send.message.detail and "'main'" in send.message.detail
    assert core.linked == []


@pytest.mark.parametrize(("mine", "theirs"), [("main", "main"), ("main", ""), ("", "main"), ("", "")])
def test_hello_of_the_same_cluster_or_of_who_is_in_none_is_welcome(mine: str, theirs: str) -> None:
    core = tracker(cluster=mine)
    assert refusals(core.on_hello(0, A, Hello("a", 1, AT, "", "", theirs))) == []
    assert core.cluster_of(A) == theirs


def test_welcome_of_a_tracker_of_another_cluster_makes_no_link_and_is_told() -> None:
    core = tracker(AT)
    (effect,) = core.on_welcome(0, A, in_cluster("other"))
    assert isinstance(effect, Emit) and isinstance(effect.event, NeighbourRefused)
    assert effect.event.code == ErrorCode.WRONG_CLUSTER and core.linked == []


def test_cluster_of_who_is_no_neighbour_is_none() -> None:
    assert neighbours().cluster_of(A) == ""


def test_links_with_a_tracker_are_kept_alive_though_nobody_has_anything_to_say() -> None:
    core, listener = neighbours(AT), tracker()
    now, hellos = 0, 0
    core.on_welcome(0, A, in_cluster("main"))
    listener.on_hello(0, NodeId("me"), Hello("me", 1, AT, "", ""))
    while now < 60 * SECOND:
        now = min(core.deadline(), listener.deadline())
        for effect in core.on_tick(now):
            assert isinstance(effect, Send) and isinstance(effect.message, Hello)
            hellos += 1
            listener.on_hello(now, NodeId("me"), effect.message)
            core.on_welcome(now, A, in_cluster("main"))
        assert listener.on_tick(now) == []
    assert core.linked == [A] and hellos <= 60


def test_links_with_others_are_not_kept_alive_by_hellos() -> None:
    core = neighbours(AT)
    core.on_welcome(0, A, welcome())
    assert core.on_tick(3 * SECOND) == []


# -- calling whom one hears of


def test_call_keeps_a_link_with_whoever_listens_there_for_ever() -> None:
    core = neighbours()
    (send,) = core.call(0, AT)
    assert isinstance(send, Send) and send.to == AT
    said = 0
    while core.deadline() < 600 * SECOND:
        said += len(core.on_tick(core.deadline()))
    assert said > 100


def test_call_of_who_is_called_or_linked_already_is_nothing_new() -> None:
    core = neighbours(AT)
    assert core.call(0, AT) == []
    core.on_hello(0, NodeId("b"), hello("b", "tcp://127.0.0.1:9"))
    assert core.call(0, Endpoint("tcp://127.0.0.1:9")) == []


def test_call_of_who_was_only_sought_is_not_given_up_any_more() -> None:
    core = neighbours()
    core.seek(0, AT)
    core.call(0, AT)
    while core.deadline() < 60 * SECOND:
        core.on_tick(core.deadline())
    assert core.on_welcome(60 * SECOND, A, welcome()) != []


def test_seek_gives_up_who_never_answers() -> None:
    core = neighbours()
    assert len(core.seek(0, AT)) == 1
    while core.deadline() < 60 * SECOND:
        core.on_tick(core.deadline())
    assert core.on_welcome(60 * SECOND, A, welcome()) == []


def test_seek_once_linked_and_lost_again_gives_up_too() -> None:
    core = neighbours()
    core.seek(0, AT)
    core.on_welcome(0, A, welcome())
    while core.deadline() < 60 * SECOND:
        core.on_tick(core.deadline())
    assert (
        not core.linked and core.deadline() > 60 * SECOND or core.on_welcome(60 * SECOND, A, welcome()) == []
    )


def test_release_makes_room_for_others_and_keeps_who_was_given() -> None:
    core = neighbours(AT)
    for n in range(LINKS_MAX + 3):
        core.seek(0, Endpoint(f"tcp://127.0.0.1:{n + 1}"))
    core.release([Endpoint("tcp://127.0.0.1:1")])
    new = [core.seek(0, Endpoint(f"ipc:///{n}")) for n in range(LINKS_MAX)]
    assert [len(effects) for effects in new] == [1] * (LINKS_MAX - 2) + [0] * 2


def test_seek_is_bounded_and_dials_endpoints_only() -> None:
    core = neighbours()
    said = [core.seek(0, Endpoint(f"tcp://127.0.0.1:{n + 1}")) for n in range(LINKS_MAX + 3)]
    assert [len(effects) for effects in said] == [1] * LINKS_MAX + [0] * 3
    assert neighbours().seek(0, Endpoint("no endpoint")) == []
