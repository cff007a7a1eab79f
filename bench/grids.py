"""Peers as processes of their own, for benchmarks that need running ones; ended by their process ids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from zlb.core.ids import Endpoint

_SERVE = """
import sys
from pathlib import Path
from zlb.cli.run import serve, Listening
def tell(event):
    if isinstance(event, Listening):
        print(event.endpoint, flush=True)
serve("tcp://127.0.0.1:*", None, tuple(sys.argv[3:]), int(sys.argv[1]), Path(sys.argv[2]), False, tell)
"""


class RunningPeer(NamedTuple):
    """A peer that listens at `endpoint`."""

    process: subprocess.Popen[str]
    endpoint: Endpoint


@contextmanager
def running_peers(
    number: int, slots: int, state_dir: Path, linked: bool = False
) -> Iterator[list[RunningPeer]]:
    """`number` peers of `slots` threads each, sharing a state directory; `linked`: each dials those before it."""
    peers: list[RunningPeer] = []
    try:
        for _ in range(number):
            dialled = [peer.endpoint for peer in peers] if linked else []
            # -P: the zlb of PYTHONPATH, as in this process, not that of the working directory
            words = (sys.executable, "-P", "-c", _SERVE, str(slots), str(state_dir), *dialled)
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            peers.append(RunningPeer(process, _endpoint_of(process)))
        yield peers
    finally:
        for peer in peers:
            peer.process.terminate()
        for peer in peers:
            try:
                peer.process.wait(10)
            except subprocess.TimeoutExpired:
                peer.process.kill()


def _endpoint_of(process: subprocess.Popen[str]) -> Endpoint:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        process.wait(10)
        raise RuntimeError(f"peer {process.pid} did not start")
    return Endpoint(line)
