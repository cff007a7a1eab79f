"""Certificates of jobs that real peers did: good whatever died meanwhile, refused when a byte is another one."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.net.conftest import Answer, Peer, Process
from zlb.protocols.certificate import Certificate, decode

SIZE = 2**24
GENESIS = (
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617f"
    "c81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the certificate goes."""
    return tmp_path / "job.cert"


@pytest.fixture
def two(peer: Callable[..., Peer]) -> list[Peer]:
    return [peer(), peer()]


def at(peers: list[Peer]) -> list[str]:
    return [word for one in peers for word in ("--peer", one.endpoint)]


def read(file: Path) -> Certificate:
    return decode(file.read_bytes()).certificate


def covered(file: Path) -> list[tuple[int, int]]:
    """What the rows cover, neighbours as one; none overlaps another."""
    spans: list[tuple[int, int]] = []
    for row in read(file).rows:
        if spans and spans[-1][1] == row.start:
            spans[-1] = (spans[-1][0], row.stop)
        else:
            assert not spans or spans[-1][1] < row.start
            spans.append((row.start, row.stop))
    return spans


def judged(zlb: Callable[..., Answer], file: Path) -> dict[str, Any]:
    """What `zlb verify` says of a good one."""
    answer = zlb("verify", str(file), "--json")
    assert answer.code == 0, answer.out
    (said,) = answer.events
    assert (said["verdict"], said["signed_by"], said["faults"]) == ("good", "this machine", [])
    return dict(said)


@pytest.mark.slow
def test_all_hits_with_two_peers(submit: Callable, zlb: Callable, two: list[Peer], file: Path) -> None:
    options = "-r", f":{SIZE}", "-d", "14", "--all", "--chunk", "50ms", "--json"
    answer = submit(*options, "--certificate", str(file), *at(two))
    assert (answer.code, covered(file)) == (0, [(0, SIZE)])
    assert answer.err.endswith(f"certificate: zlb verify {file}\n")
    said = judged(zlb, file)
    assert (said["status"], said["covered"], said["alone"]) == ("complete", str(SIZE), "0")
    assert {line["peer"] for line in said["peers"]} == {one.node for one in two}
    found = {int(event["n"]): event["digest"] for event in answer.events if event["event"] == "hit"}
    assert {hit.n: hit.digest.hex() for hit in read(file).hits} == found
    credit = {line["peer"]: line["integers"] for line in answer.done["credit"]}
    assert {line["peer"]: line["integers"] for line in said["peers"]} == credit
    data = bytearray(file.read_bytes())
    for place in range(7, len(data), len(data) // 3):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert zlb("verify", str(file)).code == 6


@pytest.mark.slow
def test_the_lowest_hit_and_any(submit: Callable, zlb: Callable, two: list[Peer], file: Path) -> None:
    options = "-r", f":{SIZE}", "-d", "20", "--certificate", str(file), *at(two)
    assert submit(*options, "--lowest", "--chunk", "20ms").integers == [828028]
    (start, stop) = covered(file)[0]
    assert start == 0 and stop > 828028
    said = judged(zlb, file)
    assert (said["status"], said["hits"]) == ("found", "1")
    (hit,) = submit(*options, "--first").integers
    assert judged(zlb, file)["status"] == "found"
    assert [one.n for one in read(file).hits] == [hit]
    assert any(start <= hit < stop for start, stop in covered(file))


@pytest.mark.slow
def test_a_block_header(submit: Callable, zlb: Callable, two: list[Peer], file: Path) -> None:
    nonces = 2083236893 - 1_000_000, 2083236893 + 1_000_000
    asked = "--header", GENESIS, "--range", f"{nonces[0]}:{nonces[1]}", "--all", "--chunk", "50ms"
    answer = submit(*asked, "--certificate", str(file), *at(two))
    assert (answer.code, answer.integers) == (0, [2083236893])
    assert covered(file) == [nonces]
    assert judged(zlb, file)["kernel"] == "sha256d"
    assert "kernel  sha256d" in zlb("verify", str(file)).out


@pytest.mark.slow
def test_a_killed_peer_leaves_no_gap(
    client: Callable[..., Process], zlb: Callable, two: list[Peer], file: Path
) -> None:
    size = 2**27
    options = "-r", f":{size}", "-d", "200", "--all", "--json", "-v", "--chunk", "200ms"
    job = client(*options, "--certificate", str(file), *at(two))
    while int(job.wait_for_event("progress")["done"]) < size // 8:
        pass
    two[1].end(signal.SIGKILL)
    done = job.wait_for_event("done")
    assert (job.popen.wait(60), done["status"]) == (0, "complete")
    assert covered(file) == [(0, size)]
    by_peer = {line["peer"]: int(line["integers"]) for line in judged(zlb, file)["peers"]}
    assert sum(by_peer.values()) == size and by_peer.keys() == {one.node for one in two}


@pytest.mark.slow
def test_a_peer_that_slept_is_counted_once(
    client: Callable[..., Process], zlb: Callable, peer: Callable[..., Peer], file: Path
) -> None:
    first = peer()
    second = peer("--peer", first.endpoint)
    size = 12_000_000
    options = "-r", f":{size}", "--algo", "sleep", "--all", "--json", "-v", "--chunk", "200ms"
    job = client(*options, "--certificate", str(file), *at([first, second]))
    while int(job.wait_for_event("progress")["done"]) < size // 12:
        pass
    second.popen.send_signal(signal.SIGSTOP)
    first.wait_for(f"{second.node} left: silent")  # by then its leases have expired and are leased again
    second.popen.send_signal(signal.SIGCONT)
    done = job.wait_for_event("done")
    assert (job.popen.wait(60), done["status"]) == (0, "complete")
    assert size <= int(done["tested"]) <= size + int(done["recomputed"])
    assert sum(int(line["integers"]) for line in done["credit"]) == size
    assert covered(file) == [(0, size)]
    assert json.dumps(judged(zlb, file)["peers"]).count('"peer"') == 2
