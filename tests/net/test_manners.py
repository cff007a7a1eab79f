"""Manners of a volunteer, by real processes: one that may not work now, and some that may work part of the time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.net.conftest import Answer, Peer
from zlb.protocols.certificate import decode

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


@pytest.mark.slow
def test_peers_of_unequal_strength_finish_together(
    peer: Callable[..., Peer], submit: Callable[..., Answer], tmp_path: Path
) -> None:
    weak, strong = peer("--max-cpu", "33"), peer()
    file = tmp_path / "job.cert"
    options = "--algo", "sleep", "--range", ":4M", "--all", "--json", "--certificate", str(file)
    answer = submit(*options, "--peer", weak.endpoint, "--peer", strong.endpoint)
    credit = {line["peer"]: int(line["integers"]) for line in answer.done["credit"]}
    assert 2 < credit[strong.node] / credit[weak.node] < 4.5
    last: dict[str, int] = {}
    for row in decode(file.read_bytes()).certificate.rows:
        last[row.worker] = max(last.get(row.worker, 0), row.at_ns)
    assert min(last.values()) > 0.9 * max(last.values()), "0.97 to 0.997, as measured"
