"""Adverts: only the greatest (incarnation, sequence) of a node counts, and none for ever."""

from hypothesis import given
from hypothesis import strategies as st

from zlb.core.config import GossipConfig
from zlb.core.effects import Publish
from zlb.core.ids import NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.load import Load
from zlb.protocols.gossip import Freshness, Gossip
from zlb.wire.messages import LoadUpdate

LOAD = Load(5, 2.0, 1, 1)


def update(node: str = "a", incarnation: int = 1, sequence: int = 1, load: Load = LOAD) -> LoadUpdate:
    return LoadUpdate(node, incarnation, sequence, *load)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 3))))
def test_load_update_only_the_greatest_of_a_node_is_new(stamps: list[tuple[str, int, int]]) -> None:
    fresh, newest = Freshness(2), dict[str, tuple[int, int]]()
    for node, incarnation, sequence in stamps:
        stamp = incarnation, sequence
        assert fresh.is_new(update(node, *stamp)) == (stamp > newest.get(node, (-1, -1)))
        newest[node] = max(stamp, newest.get(node, (-1, -1)))


def test_freshness_is_bounded_and_makes_room_when_told_to_forget() -> None:
    fresh = Freshness(1)
    assert fresh.is_new(update("a")) and not fresh.is_new(update("b"))
    fresh.forget(NodeId("a"))
    assert fresh.is_new(update("b"))


def test_load_update_is_published_twice_a_second() -> None:
    core = Gossip(NodeId("me"), 4, GossipConfig())
    core.on_start(0)
    times = []
    for now in range(0, 2 * SECOND, 100 * MS):
        for effect in core.on_tick(now, LOAD):
            times.append(now // MS)
            assert effect == Publish(LoadUpdate("me", 4, len(times), *LOAD))
    assert times == [0, 500, 1000, 1500]


def test_load_update_older_than_four_seconds_says_nothing() -> None:
    core = Gossip(NodeId("me"), 1, GossipConfig())
    core.on_load_update(0, update())
    assert core.view(4 * SECOND) == {"a": LOAD} and core.view(4 * SECOND + 1) == {}


def test_load_update_of_ourselves_or_the_lost_is_not_kept() -> None:
    core = Gossip(NodeId("me"), 1, GossipConfig())
    core.on_load_update(0, update("me"))
    core.on_load_update(0, update("a", 1, 5))
    core.on_load_update(0, update("a", 1, 4, Load(9, 9.0, 9, 9)))
    assert core.view(0) == {"a": LOAD}
    core.on_lost(NodeId("a"))
    assert core.view(0) == {}
