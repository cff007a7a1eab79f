"""The tracker's state machine: which peers there are, which jobs, who coordinates each, and how far it is.

Everything here is decided by the order of commands in the log and by log time, so all replicas agree. What changes
many times a second stays outside: heartbeats (`zlb.protocols.heartbeats`), and progress between two checkpoints of a
job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from zlb.core.ids import Endpoint, JobId, NodeId, Span
from zlb.core.limits import (
    ENDED_JOBS_MAX,
    HITS_PER_JOB_MAX,
    INTEGERS_MAX,
    OPEN_JOBS_MAX,
    ROWS_BYTES_PER_JOB_MAX,
    ROWS_BYTES_PER_TRACKER_MAX,
)
from zlb.core.work import StopRule
from zlb.protocols.commands import (
    OPEN,
    Assign,
    Checkpoint,
    Commands,
    Denied,
    Finish,
    Join,
    Leave,
    Listen,
    Prioritise,
    Status,
    Steer,
    Submit,
    Tick,
    WireRow,
    WireSpan,
    denied,
    done,
    row_of,
    wire_row,
)
from zlb.protocols.evidence import Evidence
from zlb.protocols.intervals import IntervalSet

_decode = msgspec.msgpack.Decoder(Commands).decode
"""Made once: that costs as much as some dozen commands."""


class PeerEntry(NamedTuple):
    """A peer of the roster."""

    endpoint: str
    slots: int
    joined_at: int
    """Log time."""
    incarnation: int


class JobEntry(Struct):
    """What the registry knows of a job. Times are log time."""

    spec: Submit
    submitted_at: int
    priority: int
    status: Status = Status.RUNNING
    detail: str = ""
    coordinator: str = ""
    epoch: int = 0
    tested: int = 0
    recomputed: int = 0
    ended_at: int = 0
    done: list[WireSpan] = msgspec.field(default_factory=list)
    hits: dict[int, bytes] = msgspec.field(default_factory=dict)
    checkpoint: int = 0
    """The number of the last one of this epoch."""
    last_coordinator: str = ""
    """Who coordinated it last, though that has left."""

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN


class _State(NamedTuple):
    version: int
    time_ns: int
    trackers: dict[str, str]
    peers: dict[str, PeerEntry]
    jobs: dict[str, JobEntry]
    keys: dict[str, str]
    evidence: dict[str, list[WireRow]]


class Registry:
    """Implements `StateMachine`; results are what `commands.unpack_result` reads."""

    def __init__(self) -> None:
        self.version = 0
        """Grows with each change of what a roster tells: trackers, open jobs and their coordinators."""
        self.time_ns = 0
        """Log time of the last command."""
        self.trackers: dict[NodeId, Endpoint] = {}
        """Where the members of the cluster can be dialled."""
        self.peers: dict[NodeId, PeerEntry] = {}
        self.jobs: dict[JobId, JobEntry] = {}
        """In the order in which they were submitted."""
        self.keys: dict[str, JobId] = {}
        self.evidence: dict[JobId, Evidence] = {}
        """Of jobs that are to be certified, unless there was too much of it."""
        self._open: dict[JobId, JobEntry] = {}

    @property
    def open_jobs(self) -> dict[JobId, JobEntry]:
        """Those that have not ended."""
        return self._open

    # -- StateMachine

    def apply(self, time_ns: int, command: bytes) -> bytes:
        """See `StateMachine.apply`."""
        try:
            known = _decode(command)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return denied(Denied.MALFORMED)
        self.time_ns = time_ns
        self._expire(time_ns)
        handler: Callable[[int, Any], bytes] = getattr(self, f"_on_{type(known).__name__.lower()}")
        return handler(time_ns, known)

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        maps: list[Any] = [dict(self.trackers), dict(self.peers), dict(self.jobs), dict(self.keys)]
        maps.append({job: list(map(wire_row, kept.rows())) for job, kept in self.evidence.items()})
        return msgspec.msgpack.encode(_State(self.version, self.time_ns, *maps))

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self.version, self.time_ns = state.version, state.time_ns
        self.trackers = {NodeId(node): Endpoint(endpoint) for node, endpoint in state.trackers.items()}
        self.peers = {NodeId(node): peer for node, peer in state.peers.items()}
        self.jobs = {JobId(job): entry for job, entry in state.jobs.items()}
        self.keys = {key: JobId(job) for key, job in state.keys.items()}
        self.evidence = {JobId(job): Evidence(map(row_of, rows)) for job, rows in state.evidence.items()}
        self._open = {job: entry for job, entry in self.jobs.items() if entry.open}

    # -- trackers and peers

    def _on_tick(self, _time_ns: int, _tick: Tick) -> bytes:
        return done(None)

    def _on_listen(self, _time_ns: int, listen: Listen) -> bytes:
        self.trackers.pop(NodeId(listen.node), None)
        if listen.endpoint:
            self.trackers[NodeId(listen.node)] = Endpoint(listen.endpoint)
        self.version += 1
        return done(None)

    def _on_join(self, time_ns: int, join: Join) -> bytes:
        node = NodeId(join.node)
        known = self.peers.get(node)
        joined_at = time_ns if known is None else known.joined_at
        if known is not None and join.incarnation < known.incarnation:
            return done(joined_at)  # late: of a process that is gone
        self.peers[node] = PeerEntry(join.endpoint, join.slots, joined_at, join.incarnation)
        if known is not None and join.incarnation > known.incarnation:
            self._depose([node])
        elif known is not None and known.endpoint != join.endpoint:
            self.version += 1
        return done(joined_at)

    def _on_leave(self, _time_ns: int, leave: Leave) -> bytes:
        gone = [NodeId(node) for node in leave.nodes if self.peers.pop(NodeId(node), None) is not None]
        self._depose(gone)
        return done(gone)

    def _depose(self, nodes: list[NodeId]) -> None:
        """Their jobs need other coordinators."""
        for entry in self._open.values():
            if entry.coordinator in nodes:
                entry.coordinator = ""
                self.version += 1

    # -- jobs

    def _on_submit(self, time_ns: int, submit: Submit) -> bytes:
        if submit.key and submit.key in self.keys:
            return done(self.keys[submit.key])
        if submit.job in self.jobs:
            return denied(Denied.JOB_EXISTS)
        if not _searchable(submit.spans):
            return denied(Denied.MALFORMED)
        if len(self._open) >= OPEN_JOBS_MAX:
            return denied(Denied.TOO_MANY_JOBS)
        job = JobId(submit.job)
        self.jobs[job] = self._open[job] = JobEntry(submit, time_ns, submit.priority)
        if submit.certified:
            self.evidence[job] = Evidence()
        if submit.key:
            self.keys[submit.key] = job
        self.version += 1
        return done(job)

    def _on_steer(self, time_ns: int, steer: Steer) -> bytes:
        entry = self.jobs.get(JobId(steer.job))
        if entry is None:
            return denied(Denied.NO_SUCH_JOB)
        if not entry.open:
            return done(None) if entry.status is steer.status else denied(Denied.ENDED)
        if steer.status in OPEN:
            entry.status = steer.status
            self.version += 1
        elif steer.status is Status.CANCELLED:
            self._end(JobId(steer.job), entry, time_ns, Status.CANCELLED, "")
        else:
            return denied(Denied.MALFORMED)
        return done(None)

    def _on_prioritise(self, _time_ns: int, prioritise: Prioritise) -> bytes:
        entry = self.jobs.get(JobId(prioritise.job))
        if entry is None:
            return denied(Denied.NO_SUCH_JOB)
        if not entry.open:
            return denied(Denied.ENDED)
        entry.priority = prioritise.priority
        self.version += 1
        return done(None)

    def _on_assign(self, _time_ns: int, assign: Assign) -> bytes:
        entry = self.jobs.get(JobId(assign.job))
        if entry is None:
            return denied(Denied.NO_SUCH_JOB)
        if not entry.open:
            return denied(Denied.ENDED)
        if assign.node not in self.peers:
            return denied(Denied.NO_SUCH_PEER)
        if assign.epoch != entry.epoch + 1:
            return denied(Denied.STALE)
        entry.coordinator = entry.last_coordinator = assign.node
        entry.epoch, entry.checkpoint = assign.epoch, 0
        self.version += 1
        return done(entry.epoch)

    def _on_checkpoint(self, time_ns: int, checkpoint: Checkpoint) -> bytes:
        entry = self.jobs.get(JobId(checkpoint.job))
        if why := _refused(entry, checkpoint.epoch):
            return denied(why)
        assert entry is not None
        if 0 < checkpoint.number <= entry.checkpoint:
            return done(JobId(checkpoint.job) in self.evidence)  # said twice
        if len(entry.hits.keys() | {n for n, _ in checkpoint.hits}) > HITS_PER_JOB_MAX:
            return denied(Denied.TOO_MANY_HITS)
        entry.checkpoint = checkpoint.number
        finished = IntervalSet((start, start + count) for start, count in entry.done)
        wanted = IntervalSet((start, start + count) for start, count in entry.spec.spans)
        for start, count in checkpoint.undone:
            finished.remove(start, start + count)
        for start, count in checkpoint.done:
            for low, high in wanted.overlap(start, start + count):
                finished.add(low, high)
        entry.done = [(start, stop - start) for start, stop in finished]
        entry.hits.update(checkpoint.hits)
        entry.tested = max(entry.tested, checkpoint.tested)
        entry.recomputed = max(entry.recomputed, checkpoint.recomputed)
        if JobId(checkpoint.job) in self.evidence:
            self._on_evidence(max(0, time_ns - entry.submitted_at), checkpoint, entry, wanted)
        return done(JobId(checkpoint.job) in self.evidence)

    def _on_evidence(self, at_ns: int, checkpoint: Checkpoint, entry: JobEntry, wanted: IntervalSet) -> None:
        """Each integer that is done has the row that came last. Rows are to ascend and to be about what this checkpoint
        says is done: others are left out."""
        kept, before = self.evidence[JobId(checkpoint.job)], 0
        news = IntervalSet(
            span for start, count in checkpoint.done for span in wanted.overlap(start, start + count)
        )
        kept.remove([*news, *((start, start + count) for start, count in checkpoint.undone)])
        for row in map(row_of, checkpoint.rows):
            if row.start >= before:
                before, shares = row.stop, sorted({n for n in row.shares if row.start <= n < row.stop})
                kept.add(row.worker, row.pattern, news.overlap(row.start, row.stop), shares, at_ns)
        if entry.spec.rule is StopRule.LOWEST and entry.hits:
            kept.remove([(min(entry.hits) + 1, INTEGERS_MAX)])  # nobody wants them any more
        if kept.size > ROWS_BYTES_PER_JOB_MAX:
            del self.evidence[JobId(checkpoint.job)]
        while sum(one.size for one in self.evidence.values()) > ROWS_BYTES_PER_TRACKER_MAX:
            del self.evidence[next(iter(self.evidence))]

    def _on_finish(self, time_ns: int, finish: Finish) -> bytes:
        entry = self.jobs.get(JobId(finish.job))
        if entry is not None and not entry.open and entry.epoch == finish.epoch:
            return done(None)  # said twice
        if why := _refused(entry, finish.epoch):
            return denied(why)
        assert entry is not None
        if finish.status in OPEN:
            return denied(Denied.MALFORMED)
        self._end(JobId(finish.job), entry, time_ns, finish.status, finish.detail)
        return done(None)

    def _expire(self, time_ns: int) -> None:
        """Jobs whose deadline has passed have failed."""
        for job, entry in list(self._open.items()):
            if entry.spec.within_ns and entry.submitted_at + entry.spec.within_ns < time_ns:
                self._end(job, entry, time_ns, Status.FAILED, "its deadline has passed")

    def _end(self, job: JobId, entry: JobEntry, time_ns: int, status: Status, detail: str) -> None:
        entry.status, entry.detail, entry.ended_at = status, detail, time_ns
        del self._open[job]
        self.version += 1
        surplus = len(self.jobs) - len(self._open) - ENDED_JOBS_MAX  # the history has an end
        if surplus > 0:
            for old in [old for old, other in self.jobs.items() if not other.open][:surplus]:
                self.keys.pop(self.jobs.pop(old).spec.key, None)
                self.evidence.pop(old, None)


def _searchable(spans: tuple[WireSpan, ...]) -> bool:
    """Whether they are sorted, disjoint and within the integers, and their number can be told."""
    at = size = 0
    for start, count in spans:
        if start < at or start + count > INTEGERS_MAX:
            return False
        at, size = start + count, size + count
    return size < INTEGERS_MAX


def left(entry: JobEntry) -> list[Span]:
    """What a job's last checkpoint leaves to be searched."""
    todo = IntervalSet((start, start + count) for start, count in entry.spec.spans)
    for start, count in entry.done:
        todo.remove(start, start + count)
    return list(todo)


def _refused(entry: JobEntry | None, epoch: int) -> Denied | None:
    """Why a coordinator of `epoch` has no say about a job, if so."""
    if entry is None:
        return Denied.NO_SUCH_JOB
    if epoch != entry.epoch or not entry.coordinator:
        return Denied.STALE
    return None if entry.open else Denied.ENDED
