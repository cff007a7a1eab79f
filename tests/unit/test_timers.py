"""Deadlines by name: set, moved, cancelled, and taken out in order."""

from zlb.core.timers import NEVER, Timers


def test_due_timers_are_taken_out_earliest_first() -> None:
    timers = Timers()
    for name, at in (("c", 3), ("a", 1), ("b", 1), ("d", 9)):
        timers.set(name, at)
    assert timers.next() == 1
    assert timers.due(3) == ["a", "b", "c"] and timers.due(3) == [] and timers.next() == 9


def test_set_moves() -> None:
    timers = Timers()
    timers.set("a", 5)
    timers.set("a", 9)
    timers.set("b", 4)
    assert timers.next() == 4
    assert timers.due(5) == ["b"]
    assert timers.due(9) == ["a"]


def test_cancelled_timers_do_not_ring() -> None:
    timers = Timers()
    timers.set("a", 1)
    timers.cancel("a")
    timers.cancel("a")
    assert timers.next() == NEVER and timers.due(NEVER) == []
