"""Marries nodes to drivers: the one place where a submitter or a peer meets sockets, threads, signals and the clock."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import zmq

from zlb.cli.oracles import checker
from zlb.core import endpoints
from zlb.core.config import (
    CoordinatorConfig,
    PeerConfig,
    RaftConfig,
    SubmitterConfig,
    TrackerConfig,
    WorkerConfig,
)
from zlb.core.effects import Effect, Emit
from zlb.core.errors import ErrorCode, ExitCode, ZlbError
from zlb.core.events import Event, JobEnded, NeighbourRefused, Notice
from zlb.core.ids import Endpoint, NodeId
from zlb.core.replica import Configuration, Saved
from zlb.core.work import Job, Oracle
from zlb.drivers.bus import Bus
from zlb.drivers.machine import Machine
from zlb.drivers.manners import DEFAULT_MANNERS, Judge, Manners, Watch, stand_back_among_sessions, told_text
from zlb.drivers.names import resolved
from zlb.drivers.reactor import Reactor, ReactorThread
from zlb.drivers.state import State, default_state_dir
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import CONNECT, Submitter
from zlb.protocols.trust import remembered

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a job runs: with `peers`, or without any on an embedded peer of `slots` threads (None: one per core)."""

    peers: tuple[Endpoint, ...]
    slots: int | None
    state_dir: Path


class Listening(NamedTuple):
    """A peer is up: the first thing `serve` tells."""

    node: NodeId
    endpoint: Endpoint
    publish: Endpoint
    slots: int


def state_dir(given: Path | None) -> Path:
    """The one that was named, or the platform's place."""
    return given or default_state_dir()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Tracking:
    """A tracker to be started. `founders` is empty for one that joins a cluster."""

    me: NodeId
    cluster: str
    founders: Configuration
    endpoints: dict[NodeId, Endpoint]
    data: Path
    adopt: bool
    listen: Endpoint
    insecure: bool
    election_ns: int


class TrackerUp(NamedTuple):
    """A tracker is up: the first thing `track` tells. `founders`: how many trackers the cluster began with, if new."""

    node: NodeId
    endpoint: Endpoint
    cluster: str
    founders: int


def remembered_rate(state_dir: Path, kernel: str) -> float | None:
    """Integers a second and slot that this machine once measured for `kernel`; None if it never did."""
    return State(state_dir).rates().get(kernel)


def submit(
    job: Job, oracle: Oracle, grid: Grid, config: CoordinatorConfig, timeout_ns: int | None, on_event: OnEvent
) -> JobEnded:
    """Run `job` to its end, telling `on_event` on the way; blocks, and must be called from the main thread.

    The first SIGINT or SIGTERM cancels the job, the second raises `KeyboardInterrupt`. Raises `ZlbError` (UNREACHABLE)
    when no peer answers.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    if grid.peers:
        return _coordinate(context, job, oracle, grid, replace(config, remembers=True), timeout_ns, on_event)
    embedded, endpoint = _embedded_peer(context, grid)
    grid = replace(grid, peers=(endpoint,))
    ended = _coordinate(context, job, oracle, grid, config, timeout_ns, on_event)
    embedded.join()  # not after an exception: a second Ctrl-C does not wait for a kernel that is being compiled
    return ended


@dataclass(frozen=True, slots=True)
class Serving:
    """A peer to be started. `slots`: None is one per core. `rtt_ns_max`: None is any distance of coordinators."""

    listen: Endpoint
    publish: Endpoint | None
    peers: tuple[Endpoint, ...]
    trackers: tuple[Endpoint, ...]
    slots: int | None
    state_dir: Path
    insecure: bool
    manners: Manners = DEFAULT_MANNERS
    rtt_ns_max: int | None = None


def serve(serving: Serving, on_event: Callable[[Event | Listening], None]) -> None:
    """Be a peer until SIGINT or SIGTERM; a second one raises `KeyboardInterrupt`.

    Raises `ZlbError`: BIND when an endpoint is taken, USAGE when it may not be bound.
    """
    state = State(serving.state_dir, serving.trackers, serving.manners.share)
    me = state.identity()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    publish = serving.publish or _publish_beside(serving.listen)
    bus = Bus(me, context, serving.listen, publish, serving.insecure)
    assert bus.listen is not None and bus.publish_endpoint is not None
    slots = serving.slots or cores()
    endpoints = serving.peers
    if serving.trackers:  # and, should none of them answer, those they told of
        endpoints += (*resolved(serving.trackers), *sum(state.contacts(), ()))
    endpoints = tuple(dict.fromkeys(one for one in endpoints if one != bus.listen))
    worker = WorkerConfig(slots=slots, rtt_ns_max=serving.rtt_ns_max)
    config = PeerConfig(worker=worker, expects_tracker=bool(serving.trackers))
    stand_back_among_sessions(serving.manners.nice)
    reactor = _peer_reactor(me, bus, endpoints, config, state, on_event, serving.manners)
    on_event(Listening(me, bus.listen, bus.publish_endpoint, slots))
    with signals(reactor.stop), _minded(reactor, serving.manners, on_event):
        reactor.run()
    refused = {code.name: bus.counts[code.name] for code in ErrorCode if bus.counts[code.name]}
    if refused:
        on_event(Notice(f"refused from others: {refused}"))


def track(tracking: Tracking, on_event: Callable[[Event | TrackerUp], None]) -> None:
    """Be a tracker until SIGINT or SIGTERM, or until removed from the cluster.

    Raises `ZlbError`: BIND and USAGE as `serve` does, or if the directory is another's; FAILED if it is damaged, or
    a save fails.
    """
    from zlb.drivers.store import Store
    from zlb.nodes.tracker import Tracker, founded

    if not tracking.founders.voters and not tracking.endpoints and not Store.is_at(tracking.data):
        raise ZlbError("a new tracker needs --cluster, or --bootstrap to be one alone", ExitCode.USAGE)
    bus = Bus(tracking.me, zmq.Context.instance(), tracking.listen, None, tracking.insecure)
    assert bus.listen is not None
    store = Store(tracking.data, tracking.cluster, tracking.me, adopt=tracking.adopt)
    saved = store.load()
    is_new = saved == Saved()
    if is_new and tracking.founders.voters:
        store.save([founded(tracking.founders)])
        saved = store.load()
    raft = RaftConfig(
        election_ns_min=tracking.election_ns,
        heartbeat_ns=min(RaftConfig().heartbeat_ns, tracking.election_ns // 5),
    )
    node = Tracker(
        tracking.me,
        time.time_ns(),
        bus.listen,
        tracking.cluster,
        tracking.endpoints,
        saved,
        TrackerConfig(raft=raft),
        random.Random(),
    )
    reactor = Reactor(node, bus, on_event, save=store.save)  # type: ignore[arg-type]
    on_event(TrackerUp(tracking.me, bus.listen, tracking.cluster, len(tracking.founders.voters) * is_new))
    try:
        with signals(reactor.stop):
            reactor.run()
    finally:
        store.close()


def _coordinate(
    context: zmq.Context[zmq.Socket[bytes]],
    job: Job,
    oracle: Oracle,
    grid: Grid,
    coordinator: CoordinatorConfig,
    timeout_ns: int | None,
    on_event: OnEvent,
) -> JobEnded:
    me = NodeId(f"c-{secrets.token_hex(4)}")
    bus = Bus(me, context, None, _advertise_at(me, grid.peers))
    state, peers = State(grid.state_dir), grid.peers
    config = SubmitterConfig(coordinator=coordinator, timeout_ns=timeout_ns)
    node = Submitter(
        me,
        time.time_ns(),
        bus.publish_endpoint or "",
        peers,
        job,
        oracle,
        config,
        random.SystemRandom(),  # what is planted is not to be guessed
        {standing.node: remembered(standing) for standing in state.standings()},
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

    reactor = Reactor(node, bus, watch, save=state.save)
    with signals(reactor.stop):
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
    endpoints: tuple[Endpoint, ...],
    config: PeerConfig,
    state: State,
    on_event: Callable[[Event], None],
    manners: Manners = DEFAULT_MANNERS,
) -> Reactor:
    from zlb.drivers.workers import Workers  # here, so that a submitter never looks at kernels' machinery
    from zlb.kernels import KernelError, paths

    try:
        paths.asked_for()
    except KernelError as error:  # better now than in the middle of a job
        raise ZlbError(str(error), ExitCode.USAGE) from None
    assert bus.listen is not None and bus.publish_endpoint is not None
    node = Peer(
        me,
        time.time_ns(),
        bus.listen,
        bus.publish_endpoint,
        endpoints,
        config,
        random.SystemRandom(),
        state.rates(),
        checker,
        {standing.node: remembered(standing) for standing in state.standings()},
    )
    workers = Workers(config.worker.slots, state.kernel_dir, manners)
    return Reactor(node, bus, on_event, workers, state.save)


def _minded(
    reactor: Reactor, manners: Manners, on_event: Callable[[Event], None]
) -> AbstractContextManager[object]:
    """Meanwhile the peer of that reactor rests when its manners say so."""
    if not (manners.idle_only or manners.quiet):
        return nullcontext()
    peer, workers = reactor.node, reactor.workers
    assert isinstance(peer, Peer) and workers is not None

    def rest(why: str) -> None:
        def step(now: int) -> list[Effect]:
            if peer.worker.resting:  # then the node has nothing to say, but the reason is another one
                return [Emit(Notice(f"still resting: {why}"))]
            return peer.on_rest(now, why)

        workers.hold()
        reactor.call(step)

    def resume() -> None:
        def step(now: int) -> list[Effect]:
            workers.release()
            return peer.on_resume(now)

        reactor.call(step)

    machine = None
    if manners.idle_only:
        machine = Machine(workers.children)
        on_event(Notice(told_text(machine)))
    return Watch(Judge(manners, random.Random()), machine, rest, resume)


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
def signals(on_first: Callable[[], None]) -> Iterator[None]:
    """Meanwhile the first SIGINT or SIGTERM calls `on_first`, the second raises `KeyboardInterrupt`."""
    received = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            raise KeyboardInterrupt
        on_first()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
