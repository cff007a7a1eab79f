"""The tracker's state machine: which peers there are, which jobs, who coordinates each, and how far it is.

Everything here is decided by the order of commands in the log and by log time, so all replicas agree. What changes
many times a second stays outside: heartbeats (`zlb.protocols.heartbeats`), and progress between two checkpoints of a
job.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from zlb.core.ids import JobId, NodeId, Span
from zlb.core.limits import (
    ENDED_JOBS_MAX,
    ENDPOINT_BYTES_MAX,
    HITS_PER_JOB_MAX,
    PARAMS_BYTES_MAX,
    TEXT_BYTES_MAX,
)
from zlb.core.message import Count, Name
from zlb.core.work import StopRule
from zlb.protocols.intervals import IntervalSet

WireSpan = tuple[Count, Annotated[int, Meta(ge=1)]]
"""Start and count: an end of 2^64 would not fit."""
Text = Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
WireHit = tuple[Count, bytes]


class Status(StrEnum):
    """Of a job. The first two are open: integers of it may still be searched."""

    RUNNING = "running"
    PAUSED = "paused"
    FOUND = "found"
    COMPLETE = "complete"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    FAILED = "failed"


OPEN = (Status.RUNNING, Status.PAUSED)


class Denied(StrEnum):
    """Why a command changed nothing."""

    NO_SUCH_JOB = "there is no such job"
    JOB_EXISTS = "there is a job of that id already"
    ENDED = "the job has ended"
    STALE = "another coordinator has taken over"
    NO_SUCH_PEER = "there is no such peer"
    MALFORMED = "not a command of the registry"
    TOO_MANY_HITS = "a job has no more hits than that"


# --- commands ------------------------------------------------------------------------------------------------------


class Command(Struct, frozen=True, array_like=True, tag=True):
    """Base of all commands: one MessagePack array, beginning with the name."""


class Join(Command, frozen=True):
    """A peer is there, at an endpoint unless it only dials out."""

    node: Name
    endpoint: Annotated[str, Meta(max_length=ENDPOINT_BYTES_MAX)]
    slots: Annotated[int, Meta(ge=0, le=1 << 16)]


class Leave(Command, frozen=True):
    """Peers are gone: they said so, or fell silent."""

    nodes: tuple[Name, ...]


class Submit(Command, frozen=True):
    """A new job. With a `key` that was used before, the job of then is meant."""

    job: Name
    key: Text
    name: Text
    kernel: Name
    params: Annotated[bytes, Meta(max_length=PARAMS_BYTES_MAX)]
    spans: Annotated[tuple[WireSpan, ...], Meta(min_length=1)]
    rule: StopRule
    hits_wanted: Count
    priority: Annotated[int, Meta(ge=-20, le=19)] = 0
    deadline_ns: Count = 0
    """Log time after which the job has failed; 0: none."""


class Steer(Command, frozen=True):
    """Pause, resume or cancel: the status the job is to have."""

    job: Name
    status: Status


class Assign(Command, frozen=True):
    """`node` coordinates the job from now on; it gets the next epoch."""

    job: Name
    node: Name


class Checkpoint(Command, frozen=True):
    """What a coordinator knows to be done since its last one; repeating it does no harm."""

    job: Name
    epoch: Count
    done: tuple[WireSpan, ...]
    hits: tuple[WireHit, ...]
    tested: Count
    """Integers reported since the job began, doubled work included."""


class Finish(Command, frozen=True):
    """The coordinator says that the job is over."""

    job: Name
    epoch: Count
    status: Status
    detail: Text


Commands = Join | Leave | Submit | Steer | Assign | Checkpoint | Finish


# --- state ---------------------------------------------------------------------------------------------------------


class PeerEntry(NamedTuple):
    """A peer of the roster."""

    endpoint: str
    slots: int
    joined_at: int
    """Log time."""


class JobEntry(Struct):
    """What the registry knows of a job."""

    spec: Submit
    submitted_at: int
    status: Status = Status.RUNNING
    detail: str = ""
    coordinator: str = ""
    epoch: int = 0
    tested: int = 0
    ended_at: int = 0
    done: list[WireSpan] = msgspec.field(default_factory=list)
    hits: dict[int, bytes] = msgspec.field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN


class _State(NamedTuple):
    peers: dict[str, PeerEntry]
    jobs: dict[str, JobEntry]
    keys: dict[str, str]


class Registry:
    """Implements `StateMachine`; results are MessagePack: [true, value], or [false, why not]."""

    def __init__(self) -> None:
        self.peers: dict[NodeId, PeerEntry] = {}
        self.jobs: dict[JobId, JobEntry] = {}
        """In the order in which they were submitted."""
        self.keys: dict[str, JobId] = {}

    # -- StateMachine

    def apply(self, time_ns: int, command: bytes) -> bytes:
        """See `StateMachine.apply`."""
        try:
            known = msgspec.msgpack.decode(command, type=Commands)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _denied(Denied.MALFORMED)
        self._expire(time_ns)
        handler: Callable[[int, Any], bytes] = getattr(self, f"_on_{type(known).__name__.lower()}")
        return handler(time_ns, known)

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        state = _State(dict(self.peers), dict(self.jobs), dict(self.keys))  # type: ignore[arg-type]
        return msgspec.msgpack.encode(state)

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self.peers = {NodeId(node): peer for node, peer in state.peers.items()}
        self.jobs = {JobId(job): entry for job, entry in state.jobs.items()}
        self.keys = {key: JobId(job) for key, job in state.keys.items()}

    # -- peers

    def _on_join(self, time_ns: int, join: Join) -> bytes:
        known = self.peers.get(NodeId(join.node))
        joined_at = time_ns if known is None else known.joined_at
        self.peers[NodeId(join.node)] = PeerEntry(join.endpoint, join.slots, joined_at)
        return _done(joined_at)

    def _on_leave(self, _time_ns: int, leave: Leave) -> bytes:
        gone = [node for node in leave.nodes if self.peers.pop(NodeId(node), None) is not None]
        for entry in self.jobs.values():
            if entry.coordinator in gone and entry.open:
                entry.coordinator = ""
        return _done(gone)

    # -- jobs

    def _on_submit(self, time_ns: int, submit: Submit) -> bytes:
        if submit.key and submit.key in self.keys:
            return _done(self.keys[submit.key])
        if submit.job in self.jobs:
            return _denied(Denied.JOB_EXISTS)
        self.jobs[JobId(submit.job)] = JobEntry(submit, time_ns)
        if submit.key:
            self.keys[submit.key] = JobId(submit.job)
        return _done(submit.job)

    def _on_steer(self, time_ns: int, steer: Steer) -> bytes:
        entry = self.jobs.get(JobId(steer.job))
        if entry is None:
            return _denied(Denied.NO_SUCH_JOB)
        if not entry.open:
            return _done(None) if entry.status is steer.status else _denied(Denied.ENDED)
        if steer.status in OPEN:
            entry.status = steer.status
        elif steer.status is Status.CANCELLED:
            self._end(entry, time_ns, Status.CANCELLED, "")
        else:
            return _denied(Denied.MALFORMED)
        return _done(None)

    def _on_assign(self, _time_ns: int, assign: Assign) -> bytes:
        entry = self.jobs.get(JobId(assign.job))
        if entry is None:
            return _denied(Denied.NO_SUCH_JOB)
        if not entry.open:
            return _denied(Denied.ENDED)
        if assign.node not in self.peers:
            return _denied(Denied.NO_SUCH_PEER)
        entry.coordinator, entry.epoch = assign.node, entry.epoch + 1
        return _done(entry.epoch)

    def _on_checkpoint(self, _time_ns: int, checkpoint: Checkpoint) -> bytes:
        entry = self.jobs.get(JobId(checkpoint.job))
        if why := _refused(entry, checkpoint.epoch):
            return _denied(why)
        assert entry is not None
        if len(entry.hits.keys() | {n for n, _ in checkpoint.hits}) > HITS_PER_JOB_MAX:
            return _denied(Denied.TOO_MANY_HITS)
        done = IntervalSet((start, start + count) for start, count in entry.done)
        for start, count in checkpoint.done:
            done.add(start, start + count)
        entry.done = [(start, stop - start) for start, stop in done]
        entry.hits.update(checkpoint.hits)
        entry.tested = max(entry.tested, checkpoint.tested)
        return _done(done.measure)

    def _on_finish(self, time_ns: int, finish: Finish) -> bytes:
        entry = self.jobs.get(JobId(finish.job))
        if entry is not None and not entry.open and entry.epoch == finish.epoch:
            return _done(None)  # said twice
        if why := _refused(entry, finish.epoch):
            return _denied(why)
        assert entry is not None
        if finish.status in OPEN:
            return _denied(Denied.MALFORMED)
        self._end(entry, time_ns, finish.status, finish.detail)
        return _done(None)

    def _expire(self, time_ns: int) -> None:
        """Jobs whose deadline has passed have failed."""
        for entry in self.jobs.values():
            if entry.open and 0 < entry.spec.deadline_ns < time_ns:
                self._end(entry, time_ns, Status.FAILED, "its deadline has passed")

    def _end(self, entry: JobEntry, time_ns: int, status: Status, detail: str) -> None:
        entry.status, entry.detail, entry.ended_at = status, detail, time_ns
        ended = [job for job, other in self.jobs.items() if not other.open]
        for job in ended[: max(0, len(ended) - ENDED_JOBS_MAX)]:  # the history has an end
            self.keys.pop(self.jobs.pop(job).spec.key, None)


def pack(command: Command) -> bytes:
    """A command as the log holds it."""
    return msgspec.msgpack.encode(command)


def unpack_result(result: bytes) -> tuple[bool, Any]:
    """Whether a command had its effect, and its value, or why not."""
    ok, value = msgspec.msgpack.decode(result, type=tuple[bool, Any])
    return ok, value if ok else Denied(value)


def left(entry: JobEntry) -> list[Span]:
    """What a job's last checkpoint leaves to be searched: where its next coordinator begins."""
    todo = IntervalSet((start, start + count) for start, count in entry.spec.spans)
    for start, count in entry.done:
        todo.remove(start, start + count)
    return list(todo)


def _refused(entry: JobEntry | None, epoch: int) -> Denied | None:
    """Why a coordinator of `epoch` has no say about a job, if so."""
    if entry is None:
        return Denied.NO_SUCH_JOB
    if epoch != entry.epoch:
        return Denied.STALE
    return None if entry.open else Denied.ENDED


def _done(value: object) -> bytes:
    return msgspec.msgpack.encode((True, value))


def _denied(why: Denied) -> bytes:
    return msgspec.msgpack.encode((False, why.value))
