"""Manners of a volunteer, by real processes: one that may not work now, and one that may work half of the time."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.net.conftest import Answer, Peer

ALL_DAY = ("--quiet-hours", "00:00-24:00")


def test_a_peer_in_quiet_hours_measures_nothing_and_works_for_nobody(
    spawn: Callable[..., Peer], submit: Callable[..., Answer]
) -> None:
    peer = spawn(Peer, "zlb.cli.peer", "--listen", "tcp://127.0.0.1:*", "--slots", "1", *ALL_DAY)
    endpoint = peer.wait_for(r" listening on (\S+), ")[1]
    assert peer.next() == "resting: quiet hours until 24:00"
    answer = submit("--peer", endpoint, "-d", "1", "--timeout", "1s", "--json")
    assert (answer.done["status"], answer.done["tested"]) == ("timeout", "0")
    assert peer.end(signal.SIGTERM) == 0
    peer.wait_for("^bye$")
    assert not any("integers a second" in line for line in peer.said)


def test_a_peer_that_lends_a_part_of_its_time_gives_right_answers(
    peer: Callable[..., Peer], submit: Callable[..., Answer]
) -> None:
    part = peer("--max-cpu", "20", "--nice", "19")
    answer = submit("--peer", part.endpoint, "-d", "20", "--lowest", "--range", ":2M")
    assert (answer.code, answer.integers) == (0, [828028])
    assert part.end(signal.SIGTERM) == 0
