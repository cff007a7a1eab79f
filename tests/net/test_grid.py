"""Jobs across peer processes: exact whatever dies, nothing reported is hashed again, everyone stops when told."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

SIZE = 2**24
ALL = ("--all", "-r", f"0:{SIZE}", "-d", "12")
TWELVE_ZERO_BITS = {bytes((high, 0)) for high in range(0, 256, 16)}
ENDLESS = ("-r", ":2**63", "-d", "200", "--all", "--json", "-v")


@pytest.fixture(scope="session")
def hits() -> list[int]:
    """All integers below 2**24 whose SHA-256 ends in 12 zero bits, by a hashlib loop."""
    sha256 = hashlib.sha256
    return [n for n in range(SIZE) if sha256(b"%d" % n).digest()[-2:] in TWELVE_ZERO_BITS]


@pytest.mark.slow
def test_every_hit_embedded(submit: Callable, hits: list[int]) -> None:
    answer = submit(*ALL)
    assert answer.code == 0
    assert sorted(answer.integers) == hits


@pytest.mark.slow
@pytest.mark.parametrize("peers", [1, 3])
def test_every_hit_with_peers(submit: Callable, peer: Callable, hits: list[int], peers: int) -> None:
    answer = submit(*ALL, *(argument for _ in range(peers) for argument in ("--peer", peer().endpoint)))
    assert answer.code == 0
    assert sorted(answer.integers) == hits


@pytest.mark.slow
def test_every_hit_though_a_peer_is_killed(client: Callable, peer: Callable, hits: list[int]) -> None:
    first, second = peer(), peer()
    job = client(*ALL, "--peer", first.endpoint, "--peer", second.endpoint, "--chunk", "100ms")
    found = [job.next() for _ in range(len(hits) // 3)]
    second.end(signal.SIGKILL)
    found += [job.next() for _ in range(len(hits) - len(found))]
    assert job.popen.wait(60) == 0
    assert job.lines.empty()
    assert sorted(int(line.split("\t")[0]) for line in found) == hits


def test_kill_9_loses_only_what_was_not_reported(client: Callable, peer: Callable) -> None:
    first, second = peer(), peer()
    size = 2**29  # seconds, on any machine: progress is told once a second
    arguments = ("-r", f":{size}", "-d", "200", "--all", "--json", "-v", "--chunk", "200ms")
    job = client(*arguments, "--peer", first.endpoint, "--peer", second.endpoint)
    while int(job.wait_for_event("progress")["done"]) < size // 4:
        pass
    second.end(signal.SIGKILL)
    done = job.wait_for_event("done")
    assert job.popen.wait(60) == 0
    assert done["status"] == "complete"
    assert int(done["tested"]) == size, "each integer was reported exactly once"
    assert 0 < int(done["recomputed"]) < 0.6 * done["hashrate"], "half a second of one of two peers, or so"


def test_a_stopped_process_that_wakes_is_counted_once(client: Callable, peer: Callable) -> None:
    first = peer()
    second = peer("--peer", first.endpoint)
    size = 2**28
    arguments = ("-r", f":{size}", "-d", "200", "--all", "--json", "-v", "--chunk", "200ms")
    job = client(*arguments, "--peer", first.endpoint)
    job.wait_for_event("progress")
    second.popen.send_signal(signal.SIGSTOP)
    first.wait_for(f"{second.node} left: silent")  # by then its leases have expired and are leased again
    second.popen.send_signal(signal.SIGCONT)
    done = job.wait_for_event("done")
    assert done["status"] == "complete"
    assert int(done["tested"]) >= size
    assert int(done["tested"]) - size <= int(done["recomputed"])


def test_naming_one_peer_finds_its_neighbours(submit: Callable, peer: Callable) -> None:
    first = peer()
    second = peer("--peer", first.endpoint)
    first.wait_for(f"{second.node} joined")
    answer = submit("-r", ":20M", "-d", "200", "--all", "--json", "--chunk", "20ms", "--peer", first.endpoint)
    assert answer.done["status"] == "complete"
    assert answer.done["tested"] == "20000000"
    assert "2 peers" in answer.err


def test_sigterm_hands_leases_back(client: Callable, peer: Callable) -> None:
    first, second = peer(), peer()
    size = 2**28
    arguments = ("-r", f":{size}", "-d", "200", "--all", "--json", "-v")
    job = client(*arguments, "--peer", first.endpoint, "--peer", second.endpoint)
    while int(job.wait_for_event("progress")["done"]) < size // 4:
        pass
    assert second.end(signal.SIGTERM) == 0
    done = job.wait_for_event("done")
    assert (done["status"], done["tested"], done["recomputed"]) == ("complete", str(size), "0")


def test_interrupt_cancels_everywhere(client: Callable, submit: Callable, peer: Callable) -> None:
    only = peer()
    job = client(*ENDLESS, "--peer", only.endpoint)
    job.wait_for_event("progress")
    assert job.end(signal.SIGINT) == 130
    assert job.wait_for_event("done")["status"] == "cancelled"
    only.wait_for("left")
    assert submit("-d", "16", "--lowest", "--peer", only.endpoint).integers == [31214], (
        "the peer is free again"
    )


def test_two_jobs_share_a_peer(client: Callable, submit: Callable, peer: Callable) -> None:
    only = peer()
    endless = client(*ENDLESS, "--peer", only.endpoint, "--chunk", "50ms")
    endless.wait_for_event("progress")
    assert submit("-d", "20", "--lowest", "--peer", only.endpoint).integers == [828028]
    assert endless.popen.poll() is None


def test_over_ipc(submit: Callable, peer: Callable, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("ipc") / "p"
    only = peer(listen=f"ipc://{path}")
    assert submit("-d", "16", "--lowest", "--peer", only.endpoint).integers == [31214]


def test_a_client_of_peers_never_loads_numba(peer: Callable, environment: dict[str, str]) -> None:
    code = (
        "import sys; from zlb.cli.submit import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert not {'numba', 'numpy', 'llvmlite'} & set(sys.modules)"
    )
    command = [sys.executable, "-P", "-c", code, "-d", "16", "--peer", peer().endpoint]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 0
