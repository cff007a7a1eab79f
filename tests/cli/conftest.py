"""A grid that is not there: `run.submit` replaced by a script of events, and the commands called in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zlb.cli import run
from zlb.cli.main import zlb
from zlb.core.events import Event, HitFound, JobEnded, JobProgress, NeighbourUp, WorkerView
from zlb.core.ids import JobId, NodeId
from zlb.core.work import Job

SECOND = 1_000_000_000
DIGEST = bytes.fromhex("d95f19b5269418c0d4479fa61b8e7696aa8df197082b431a65ff37595c100000")
PEER = NodeId("p-3f")


def ended(job: JobId, status: str = "found", detail: str = "", recomputed: int = 0) -> JobEnded:
    workers = (WorkerView(PEER, 1 << 20, 2.6e6, 0),)
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
    calls: list[tuple[Job, run.Grid, run.Chunk, int | None]] = field(default_factory=list)
    ended = staticmethod(ended)
    progress = staticmethod(progress)
    found = staticmethod(found)

    def submit(
        self,
        job: Job,
        check: Callable[[int], bytes | None],
        grid: run.Grid,
        chunk: run.Chunk,
        timeout_ns: int | None,
        on_event: Callable[[Event], None],
    ) -> JobEnded:
        self.calls.append((job, grid, chunk, timeout_ns))
        self.check = check
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
    for name in ("ZLB_PEERS", "NO_COLOR"):
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
