"""What was asked, understood: options become a kernel with parameters and disjoint spans, or a usage error."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import click

from zlb.cli.integers import merge
from zlb.core.events import JobProgress
from zlb.core.ids import JobId, Span
from zlb.core.work import Job, StopRule
from zlb.kernels import Kernel, KernelError, load_kernel

DEFAULT_SPAN: Span = (0, 2**32)
DEFAULT_KERNEL, DEFAULT_ENCODING, DEFAULT_MATCH = "sha256", "dec", "trailing"

_HEADER_IMPLIES = {"algo": "sha256d", "encoding": "u32le", "match": "bitcoin"}
_NONCE_AT = 76
_JOB_ID_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without 0 O 1 I L U: job ids are read out and typed."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the options under "What to search" said; None: not given."""

    spans: tuple[Span, ...] = ()
    difficulty: int | None = None
    target: bytes | None = None
    nbits: bytes | None = None
    match: str | None = None
    algo: str | None = None
    encoding: str | None = None
    prefix: bytes | None = None
    suffix: bytes | None = None
    header: bytes | None = None


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A kernel and valid parameters for it, on spans it can search."""

    kernel: Kernel
    kernel_name: str
    params: dict[str, object]
    spans: tuple[Span, ...]
    tests_per_hit: float

    @property
    def size(self) -> int:
        """Integers to search."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def expected_hits(self) -> float:
        """The mean number of hits in all spans."""
        return self.size / self.tests_per_hit

    @property
    def encoding(self) -> str:
        """How integers are written."""
        return str(self.params.get("encoding", DEFAULT_ENCODING))

    @property
    def match(self) -> str:
        """Where a digest has its zeros."""
        return str(self.params.get("match", DEFAULT_MATCH))


@dataclass(frozen=True, slots=True)
class Asked:
    """A job with what a person wants to be told about it."""

    job: Job
    puzzle: Puzzle
    name: str | None

    @property
    def title(self) -> str:
        """Its name, if it has one, and its id."""
        return f"{self.name} ({self.job.id})" if self.name else self.job.id

    def seconds_left(self, progress: JobProgress, per_s: float) -> float | None:
        """Until the stop rule is probably reached at that speed; None without speed."""
        if per_s <= 0:
            return None
        left: float = progress.size - progress.done
        wanted = self.job.hits_wanted - progress.hits
        if self.job.rule is not StopRule.ALL and wanted > 0:
            left = min(left, wanted * self.puzzle.tests_per_hit)
        return left / per_s


def understand(options: Options) -> tuple[Puzzle, str | None]:
    """The puzzle, and a warning if spans overlapped; raises `click.UsageError` with one clear line."""
    spans, overlapped = merge(options.spans or (DEFAULT_SPAN,))
    name, params = _of_header(options) if options.header is not None else _of_parts(options)
    try:
        kernel = load_kernel(name)
        kernel.validate(params, spans)
        tests_per_hit = kernel.tests_per_hit(params)
    except KernelError as error:
        raise click.UsageError(str(error)) from None
    warning = "ranges overlap: merged, no integer is searched twice" if overlapped else None
    return Puzzle(kernel, name, params, spans, tests_per_hit), warning


def new_job(puzzle: Puzzle, rule: StopRule, hits_wanted: int) -> Job:
    """A job with an id of its own; raises `click.UsageError` if the parameters are too long to travel."""
    from zlb.wire import values

    try:
        params = values.pack(puzzle.params)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    job_id = JobId("j-" + "".join(secrets.choice(_JOB_ID_ALPHABET) for _ in range(6)))
    return Job(job_id, puzzle.kernel_name, params, puzzle.spans, rule, hits_wanted)


def _of_parts(options: Options) -> tuple[str, dict[str, object]]:
    """Only what was said becomes a parameter: defaults are the kernel's own."""
    goal = _goal(options)
    if not goal:
        raise click.UsageError(
            "how hard? Give one of --difficulty, --target, --nbits, or a --header with its target"
        )
    params = dict(goal)
    for key in ("encoding", "match", "prefix", "suffix"):
        value = getattr(options, key)
        if value is not None:
            params[key] = value
    if "target" in goal:
        params.setdefault("match", "bitcoin")
    return options.algo or DEFAULT_KERNEL, params


def _of_header(options: Options) -> tuple[str, dict[str, object]]:
    """A header brings kernel, encoding and match with it, and its target unless another goal was named."""
    from zlb.kernels.bitcoin import header_params

    assert options.header is not None
    for key, implied in _HEADER_IMPLIES.items():
        if getattr(options, key) not in (None, implied):
            raise click.UsageError(f"--header means --{key} {implied}, not {getattr(options, key)}")
    for key in ("prefix", "suffix"):
        if getattr(options, key) is not None:
            raise click.UsageError(f"--{key} cannot go with --header: the header is the whole message")
    goal = _goal(options)
    if goal:  # the target in the header does not count, and need not make sense
        return "sha256d", {
            "prefix": options.header[:_NONCE_AT],
            "encoding": "u32le",
            "match": "bitcoin",
            **goal,
        }
    try:
        return "sha256d", header_params(options.header)
    except KernelError as error:
        raise click.UsageError(f"--header: {error}") from None


def _goal(options: Options) -> dict[str, object]:
    """`difficulty` or `target`, or neither if nothing was said."""
    from zlb.kernels.bitcoin import nbits_to_target

    names = [key for key in ("difficulty", "target", "nbits") if getattr(options, key) is not None]
    if len(names) > 1:
        raise click.UsageError(f"only one of {', '.join(f'--{name}' for name in names)}")
    if options.difficulty is not None:
        return {"difficulty": options.difficulty}
    if options.target is not None:
        return {"target": options.target}
    if options.nbits is not None:
        try:
            return {"target": nbits_to_target(int.from_bytes(options.nbits, "big"))}
        except KernelError as error:
            raise click.UsageError(f"--nbits: {error}") from None
    return {}
