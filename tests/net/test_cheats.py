"""Peers that cheat or fail, by real processes: they are found out, and every answer is right all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.net.conftest import Answer, Peer, Tracker, free_endpoints

SIZE, CHUNK = 2**24, 2**20
"""Sixteen subjobs of some 50 ms: each has planted samples of its own."""
ALL = ("--all", "-r", f":{SIZE}", "-d", "12", "--chunk", str(CHUNK), "--json")
REHEARSED, SUBJOB = 400_000, 5_000
"""Integers of a job of `sleep`, eighty subjobs of 50 ms, however busy the machine is."""
SLOWLY = ("--algo", "sleep", "--param", "seconds=1e-5", "--param", "every=1000", "--chunk", str(SUBJOB))
SLEEP = ("--all", "-r", f":{REHEARSED}", *SLOWLY)

Hits = list[int]


@pytest.fixture(scope="session")
def hits(submit: Callable[..., Answer]) -> Hits:
    """What an honest run finds; tests/net/test_grid.py compares such runs with hashlib."""
    return found(submit(*ALL, "--local", "1"))


@pytest.fixture
def apart(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A state directory of its own, so that nobody is remembered: only compiled kernels are shared."""
    kernels = str(Path(environment["ZLB_STATE_DIR"]) / "kernels")
    return {"ZLB_STATE_DIR": str(tmp_path / "state"), "ZLB_KERNEL_DIR": kernels}


@pytest.fixture
def volunteer(peer: Callable[..., Peer], apart: dict[str, str]) -> Callable[..., Peer]:
    """Start a peer that cheats in such a way, or is honest."""
    return lambda cheat="": peer(more=apart | {"ZLB_CHEAT": cheat})


@pytest.fixture
def grid(submit: Callable[..., Answer], apart: dict[str, str]) -> Callable[..., Answer]:
    """Run `zlb-submit ARGUMENTS` with these peers."""

    def run(peers: list[Peer], *arguments: str) -> Answer:
        return submit(*arguments, *(word for one in peers for word in ("--peer", one.endpoint)), more=apart)

    return run


def found(answer: Answer) -> Hits:
    """The hits, ascending; each was told of once."""
    return sorted(int(event["n"]) for event in answer.events if event["event"] == "hit")


def accused(answer: Answer) -> list[dict[str, Any]]:
    return [event for event in answer.events if event["event"] == "accused"]


def credited(answer: Answer) -> set[str]:
    return {line["peer"] for line in answer.done["credit"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cheat", "options", "why"),
    [
        ("skip=1.0", (), "which it had to"),
        ("thin=0.9", (), "which it had to"),
        ("forge=1", (), "reported a hit that is none"),
        ("thin=0.3", ("--verify", "spot"), ""),
    ],
)
def test_who_cheats_is_found_out_and_its_work_done_again(
    volunteer: Callable, grid: Callable, hits: Hits, cheat: str, options: tuple[str, ...], why: str
) -> None:
    honest, cheater = volunteer(), volunteer(cheat)
    assert any("this peer cheats" in line for line in cheater.said)
    answer = grid([honest, cheater], *ALL, *options)
    assert (answer.code, answer.done["status"]) == (0, "complete")
    assert found(answer) == hits
    (line,) = accused(answer)
    assert line["peer"] == cheater.node and why in line["why"]
    assert credited(answer) == {honest.node}
    if cheat == "skip=1.0":
        assert line["again"] == "0", "not even its first subjob was believed"


@pytest.mark.slow
def test_a_withheld_hit_is_found_out_by_a_quorum(volunteer: Callable, grid: Callable, hits: Hits) -> None:
    first, second, cheater = volunteer(), volunteer(), volunteer("withhold=1")
    answer = grid([first, second, cheater], *ALL, "--verify", "quorum:2")
    assert (answer.code, found(answer)) == (0, hits)
    (line,) = accused(answer)
    assert line["peer"] == cheater.node and "did not tell of the hit" in line["why"]


@pytest.mark.slow
def test_a_tenth_left_out_is_noticed_within_twenty_subjobs(volunteer: Callable, grid: Callable) -> None:
    honest, cheater = volunteer(), volunteer("skip=0.1")
    answer = grid([honest, cheater], *SLEEP, "--json")
    assert (answer.code, answer.done["status"]) == (0, "complete")
    assert found(answer) == [*range(0, REHEARSED, 1000)]
    (line,) = accused(answer)
    assert line["peer"] == cheater.node
    assert int(line["again"]) < 20 * SUBJOB, "what it had done until then"


@pytest.mark.slow
def test_whoever_was_found_out_is_remembered(volunteer: Callable, grid: Callable, hits: Hits) -> None:
    honest, cheater = volunteer(), volunteer("forge=1")
    assert accused(grid([honest, cheater], *ALL))
    again = grid([honest, cheater], *ALL)
    assert (again.code, found(again), accused(again)) == (0, hits, [])
    assert credited(again) == {honest.node}
    alone = grid([cheater], *ALL)
    assert (alone.code, alone.done["status"], found(alone)) == (6, "failed", [])
    assert f"(no peer is left that does it: found out in earlier jobs: {cheater.node})" in alone.err


@pytest.mark.slow
def test_with_cheats_alone_there_is_no_result(volunteer: Callable, grid: Callable) -> None:
    cheats = [volunteer("skip=1.0"), volunteer("skip=1.0")]
    answer = grid(cheats, *(word for word in ALL if word != "--json"))
    assert answer.code == 6
    first, second, last = answer.err.splitlines()[:3]
    assert {line.split()[0] for line in (first, second)} == {cheat.node for cheat in cheats}
    assert ": failed (no peer is left that does it: p-" in last


@pytest.mark.slow
def test_a_peer_that_coordinates_tells_whom_it_accused(
    spawn: Callable, peer: Callable, zlb: Callable, apart: dict[str, str], tmp_path: Path
) -> None:
    (where,) = free_endpoints(1)
    at = "--tracker", where
    tracker = spawn(
        Tracker, "zlb.cli.tracker", "--data", str(tmp_path / "t"), "--listen", where, "--bootstrap"
    )
    tracker.wait_for(" leads, ")
    honest = peer(*at, more=apart)
    job = zlb("submit", *SLEEP, *at, "--detach").out.strip()
    honest.wait_for(f"coordinates job {job}")
    cheater = peer(*at, more=apart | {"ZLB_CHEAT": "skip=1.0"})
    honest.wait_for(f"^{cheater.node} did not find .*: gets no more of job {job}$")
    answer = zlb("wait", job, *at)
    assert (answer.code, sorted(answer.integers)) == (0, [*range(0, REHEARSED, 1000)])


# -- kernels that fail


@pytest.mark.slow
def test_an_integer_that_nobody_can_search_fails_the_job(volunteer: Callable, grid: Callable) -> None:
    peers = [volunteer() for _ in range(3)]
    answer = grid(peers, *SLEEP, "--param", "fail=123456")
    assert answer.code == 6
    (why,) = (line for line in answer.err.splitlines() if ": failed (" in line)
    assert "3 of 3 peers failed on it" in why
    start, stop = (int(word) for word in why.split("integers ")[1].split(":")[0].split(" to "))
    assert start <= 123_456 < stop <= start + SUBJOB


@pytest.fixture
def installed(root: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which examples/collatz is installed."""
    info = tmp_path / "installed" / "zlb_collatz-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zlb-collatz\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zlb.kernels]\ncollatz = zlb_collatz:COLLATZ\n")
    return {"PYTHONPATH": f"{info.parent}:{root / 'examples' / 'collatz'}"}


@pytest.mark.slow
def test_a_peer_that_lacks_the_kernel_is_done_without(
    peer: Callable, submit: Callable, apart: dict[str, str], installed: dict[str, str]
) -> None:
    able = [peer(more=apart | installed) for _ in range(2)]
    unable = peer(more=apart)
    peers = [word for one in (*able, unable) for word in ("--peer", one.endpoint)]
    search = "--algo", "collatz", "--param", "steps=500", "--range", ":1M", "--all", "--json"
    answer = submit(*search, *peers, more=apart | installed)
    assert (answer.code, answer.done["status"]) == (0, "complete")
    assert found(answer) == [626331, 704623, 837799, 939497]
    assert credited(answer) <= {one.node for one in able}
    unable.wait_for("no kernel is named 'collatz'")
