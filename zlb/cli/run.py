"""Marries nodes to drivers: the one place where a submitter or a peer meets sockets, threads, signals and the clock."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import zmq

from zlb.core import endpoints
from zlb.core.config import CoordinatorConfig, PeerConfig, SubmitterConfig, WorkerConfig
from zlb.core.errors import ErrorCode, ExitCode, ZlbError
from zlb.core.events import Event, JobEnded, NeighbourRefused, Notice
from zlb.core.ids import Endpoint, NodeId
from zlb.core.work import Job
from zlb.drivers.bus import Bus
from zlb.drivers.reactor import Reactor, ReactorThread
from zlb.drivers.state import State, default_state_dir
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import CONNECT, Submitter
from zlb.protocols.coordinator import Check

__all__ = ["Chunk", "Grid", "Listening", "default_state_dir", "remembered_rate", "serve", "submit"]

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a job runs: with `peers`, or without any on an embedded peer of `slots` threads (None: one per core)."""

    peers: tuple[Endpoint, ...]
    slots: int | None
    state_dir: Path


@dataclass(frozen=True, slots=True)
class Chunk:
    """The size of subjobs: a time in ns, or a number of integers."""

    time_ns: int | None
    count: int | None


class Listening(NamedTuple):
    """A peer is up: the first thing `serve` tells."""

    node: NodeId
    endpoint: Endpoint
    publish: Endpoint
    slots: int


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def remembered_rate(state_dir: Path, kernel: str) -> float | None:
    """Integers a second and slot that this machine once measured for `kernel`; None if it never did."""
    return State(state_dir).rates().get(kernel)


def submit(
    job: Job, check: Check, grid: Grid, chunk: Chunk, timeout_ns: int | None, on_event: OnEvent
) -> JobEnded:
    """Run `job` to its end, telling `on_event` on the way; blocks, and must be called from the main thread.

    The first SIGINT or SIGTERM cancels the job, the second raises `KeyboardInterrupt`. Raises `ZlbError` (UNREACHABLE)
    when no peer answers.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    if grid.peers:
        return _coordinate(context, job, check, grid.peers, chunk, timeout_ns, on_event)
    embedded, endpoint = _embedded_peer(context, grid)
    ended = _coordinate(context, job, check, (endpoint,), chunk, timeout_ns, on_event)
    embedded.join()  # not after an exception: a second Ctrl-C does not wait for a kernel that is being compiled
    return ended


def serve(
    listen: Endpoint,
    publish: Endpoint | None,
    peers: tuple[Endpoint, ...],
    slots: int | None,
    state_dir: Path,
    insecure: bool,
    on_event: Callable[[Event | Listening], None],
) -> None:
    """Be a peer until SIGINT or SIGTERM; a second one raises `KeyboardInterrupt`.

    Raises `ZlbError`: BIND when an endpoint is taken, USAGE when it may not be bound.
    """
    state = State(state_dir)
    me = state.identity()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    bus = Bus(me, context, listen, publish or _publish_beside(listen), insecure)
    assert bus.listen is not None and bus.publish_endpoint is not None
    slots = slots or cores()
    reactor = _peer_reactor(me, bus, peers, PeerConfig(worker=WorkerConfig(slots=slots)), state, on_event)
    on_event(Listening(me, bus.listen, bus.publish_endpoint, slots))
    with _signals(reactor):
        reactor.run()
    refused = {code.name: bus.counts[code.name] for code in ErrorCode if bus.counts[code.name]}
    if refused:
        on_event(Notice(f"refused from others: {refused}"))


def _coordinate(
    context: zmq.Context[zmq.Socket[bytes]],
    job: Job,
    check: Check,
    peers: tuple[Endpoint, ...],
    chunk: Chunk,
    timeout_ns: int | None,
    on_event: OnEvent,
) -> JobEnded:
    me = NodeId(f"c-{secrets.token_hex(4)}")
    bus = Bus(me, context, None, _advertise_at(me, peers))
    coordinator = CoordinatorConfig(chunk_count=chunk.count)
    if chunk.time_ns is not None:
        coordinator = CoordinatorConfig(chunk_ns=chunk.time_ns)
    config = SubmitterConfig(coordinator=coordinator, timeout_ns=timeout_ns)
    node = Submitter(
        me, time.time_ns(), bus.publish_endpoint or "", peers, job, check, config, random.Random()
    )
    ended: list[JobEnded] = []
    refusals: list[str] = []

    def watch(event: Event) -> None:
        match event:
            case JobEnded():
                ended.append(event)
            case NeighbourRefused(where, _, detail):
                refusals.append(f"{where} refused: {detail}")
        on_event(event)

    reactor = Reactor(node, bus, watch)
    with _signals(reactor):
        reactor.run()
    if not ended:
        raise ZlbError("the job did not end in time to say how", ExitCode.FAILED)
    if ended[0].detail == CONNECT:
        why = refusals[-1] if refusals else f"no peer answers at {', '.join(peers)}"
        raise ZlbError(why, ExitCode.UNREACHABLE)
    return ended[0]


def _embedded_peer(context: zmq.Context[zmq.Socket[bytes]], grid: Grid) -> tuple[ReactorThread, Endpoint]:
    """A peer in this process, over inproc; it measures nothing: subjobs start small and grow within milliseconds."""
    state = State(grid.state_dir)
    me = NodeId(f"p-{secrets.token_hex(3)}")
    endpoint = Endpoint(f"inproc://{me}")
    bus = Bus(me, context, endpoint, _publish_beside(endpoint))
    config = PeerConfig(worker=WorkerConfig(slots=grid.slots or cores()), measure_kernel="")
    reactor = _peer_reactor(me, bus, (), config, state, lambda event: None)
    return ReactorThread(reactor, "embedded-peer"), endpoint


def _peer_reactor(
    me: NodeId,
    bus: Bus,
    peers: tuple[Endpoint, ...],
    config: PeerConfig,
    state: State,
    on_event: Callable[[Event], None],
) -> Reactor:
    from zlb.drivers.workers import Workers  # here, so that a submitter never looks at kernels' machinery
    from zlb.kernels import KernelError, paths

    try:
        paths.asked_for()
    except KernelError as error:  # better now than in the middle of a job
        raise ZlbError(str(error), ExitCode.USAGE) from None
    assert bus.listen is not None and bus.publish_endpoint is not None
    node = Peer(
        me, time.time_ns(), bus.listen, bus.publish_endpoint, peers, config, random.Random(), state.rates()
    )
    workers = Workers(config.worker.slots, state.kernel_dir)
    return Reactor(node, bus, on_event, workers, state.save)


def _publish_beside(listen: Endpoint) -> Endpoint:
    try:
        return endpoints.publish_beside(listen)
    except ValueError as error:
        raise ZlbError(str(error), ExitCode.USAGE) from None


def _advertise_at(me: NodeId, peers: tuple[Endpoint, ...]) -> Endpoint | None:
    """Where a submitter publishes: where its peers can subscribe without anyone else being let in, or nowhere."""
    transports = {endpoints.parse(peer).transport for peer in peers}
    if transports == {"inproc"}:
        return Endpoint(f"inproc://{me}.pub")
    if "inproc" not in transports and all(endpoints.is_local(peer) for peer in peers):
        return Endpoint("tcp://127.0.0.1:*")
    return None


@contextmanager
def _signals(reactor: Reactor) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops the reactor's node, the second raises `KeyboardInterrupt`."""
    received = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            raise KeyboardInterrupt
        reactor.stop()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
