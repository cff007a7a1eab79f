"""A grid that is not there: `run.submit` replaced by a script of events, and the commands called in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zlb.cli import run, trackers
from zlb.cli.main import zlb
from zlb.core.config import CoordinatorConfig
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import Event, HitFound, JobEnded, JobProgress, NeighbourUp, WorkerView
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.work import Job, Oracle, StopRule
from zlb.protocols import commands, queries, steering
from zlb.protocols.registry import Registry
from zlb.wire import values

SECOND = 1_000_000_000
DIGEST = bytes.fromhex("d95f19b5269418c0d4479fa61b8e7696aa8df197082b431a65ff37595c100000")
PEER = NodeId("p-3f")


def ended(job: JobId, status: str = "found", detail: str = "", recomputed: int = 0) -> JobEnded:
    workers = (WorkerView(PEER, 1 << 20, 2.6e6, 0, 1 << 20),)
    hits = 1 if status in ("found", "complete") else 0
    return JobEnded(job, status, detail, hits, 1 << 20, 1 << 20, recomputed, 410_000_000, workers)


def progress(job: JobId, elapsed_ns: int, done: int = 0, hits: int = 0, workers: int = 1) -> JobProgress:
    views = tuple(WorkerView(NodeId(f"p-{n}"), done, 0.0, 1) for n in range(workers))
    return JobProgress(job, 1 << 32, done, hits, 0.0, elapsed_ns, views)


def found(job: JobId) -> list[Event]:
    return [NeighbourUp(PEER), HitFound(job, 828028, DIGEST, PEER)]


@dataclass
class FakeGrid:
    """Records what it was asked to do and plays `script`; ends as `ending` says, or raises `error`."""

    script: Callable[[JobId], Sequence[Event]] = found
    ending: Callable[[JobId], JobEnded] = ended
    error: BaseException | None = None
    calls: list[tuple[Job, run.Grid, CoordinatorConfig, int | None]] = field(default_factory=list)
    ended = staticmethod(ended)
    progress = staticmethod(progress)
    found = staticmethod(found)

    def submit(
        self,
        job: Job,
        oracle: Oracle,
        grid: run.Grid,
        config: CoordinatorConfig,
        timeout_ns: int | None,
        on_event: Callable[[Event], None],
    ) -> JobEnded:
        self.calls.append((job, grid, config, timeout_ns))
        self.check = oracle.check
        for event in self.script(job.id):
            on_event(event)
        last = self.ending(job.id)
        on_event(last)
        if self.error is not None:
            raise self.error
        return last

    @property
    def job(self) -> Job:
        (call,) = self.calls
        return call[0]


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> FakeGrid:
    fake = FakeGrid()
    monkeypatch.setattr(run, "submit", fake.submit)
    return fake


Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call `zlb ARGUMENTS`, in an environment without ZLB_ variables but the state directory."""
    for name in ("ZLB_PEERS", "ZLB_TRACKERS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZLB_STATE_DIR", str(tmp_path))

    def invoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
        result = CliRunner().invoke(zlb, arguments, env=env, prog_name="zlb")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return invoke


@pytest.fixture
def submit(grid: FakeGrid, call: Call) -> Call:
    """Call `zlb submit ARGUMENTS` on the grid that is not there."""
    return lambda *arguments, env=None: call("submit", *arguments, env=env)


@dataclass
class FakeTrackers:
    """Stands for `Trackers`: one registry in this process. Each look lets `script` go on by a step."""

    registry: Registry = field(default_factory=Registry)
    script: list[Callable[[], None]] = field(default_factory=list)
    errors: list[ZlbError] = field(default_factory=list)
    """Raised by the next asks, one each."""
    states: list[steering.TrackerState] = field(default_factory=list)
    """What `state` says, the last again and again."""
    steered: list[steering.Steering] = field(default_factory=list)
    told: list[tuple[commands.Command, bool]] = field(default_factory=list)
    endpoints: tuple[Endpoint, ...] = ()
    patience_ns: int = 0
    linked: bool = False
    now: int = SECOND

    def __call__(self, endpoints: tuple[Endpoint, ...], patience_ns: int = 0) -> "FakeTrackers":
        self.endpoints, self.patience_ns = endpoints, patience_ns
        return self

    def __enter__(self) -> "FakeTrackers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, command: commands.Command, once: bool = False) -> object:
        if self.errors:
            raise self.errors.pop(0)
        self.told.append((command, once))
        ok, value = commands.unpack_result(self.apply(command))
        assert ok or isinstance(value, commands.Denied)
        return value

    def ask(self, query: queries.Query, kind: type) -> object:
        if self.errors:
            raise self.errors.pop(0)
        if isinstance(query, queries.WatchJob) and self.script:
            self.script.pop(0)()
        return queries.read(queries.answer(self.registry, queries.ask(query)), kind)

    def steer(self, asked: steering.Steering) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        self.steered.append(asked)
        return b""

    def state(self) -> steering.TrackerState:
        if self.errors:
            raise self.errors.pop(0)
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def apply(self, command: commands.Command) -> bytes:
        self.now += SECOND // 10
        return self.registry.apply(self.now, commands.pack(command))

    def join(self, node: str = "p-3f") -> None:
        self.apply(commands.Join(node, "tcp://127.0.0.1:7001", 2, 1))

    def job(self, job: str = "j-1", **more: object) -> None:
        """A job that somebody else has submitted: 20 bits, all hits below 2**20."""
        fields = {"kernel": "sha256", "params": values.pack({"difficulty": 20}), "spans": ((0, 1 << 20),)}
        rest = {"name": "", "rule": StopRule.ALL, "hits_wanted": 0}
        self.apply(commands.Submit(job=job, key=job, **{**fields, **rest, **more}))

    def work(
        self, job: str = "j-1", start: int = 0, count: int = 1 << 20, hits: tuple = ((828028, DIGEST),)
    ) -> None:
        """p-3f coordinates the job, and so much of it is done."""
        entry = self.registry.jobs[JobId(job)]
        if not entry.coordinator:
            self.join()
            self.apply(commands.Assign(job, "p-3f", entry.epoch + 1))
        tested = entry.tested + count
        self.apply(commands.Checkpoint(job, entry.epoch, ((start, count),), hits, tested, 0))

    def finish(self, job: str = "j-1", status: str = "complete", detail: str = "") -> None:
        """Its coordinator says that it is over."""
        epoch = self.registry.jobs[JobId(job)].epoch
        self.apply(commands.Finish(job, epoch, commands.Status(status), detail))


UNREACHABLE = ZlbError("no tracker answers at ipc://t", ExitCode.UNREACHABLE)


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> FakeTrackers:
    fake = FakeTrackers()
    monkeypatch.setattr(trackers, "Trackers", fake)
    return fake
