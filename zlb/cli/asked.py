"""What was asked, understood: options become a kernel with parameters and disjoint spans, or a usage error."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import click

from zlb.cli.headers import integer_spans
from zlb.cli.integers import merge
from zlb.cli.params import Given, gathered
from zlb.core.events import JobProgress
from zlb.core.ids import JobId, Span
from zlb.core.work import Job, StopRule
from zlb.kernels import Kernel, KernelError, load_kernel
from zlb.kernels.bitcoin import NONCE_AT, Versions, header_params, nbits_to_target
from zlb.kernels.hashes import HashKernel

DEFAULT_SPAN: Span = (0, 2**32)
DEFAULT_KERNEL, DEFAULT_ENCODING, DEFAULT_MATCH = "sha256", "dec", "trailing"

_HEADER_IMPLIES = {"algo": "sha256d", "encoding": "u32le", "match": "bitcoin"}
_GOALS = ("difficulty", "target", "nbits", "digest")
_NBITS_TARGET_BYTES = 32
_JOB_ID_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without 0 O 1 I L U: job ids are read out and typed."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the options under "What to search" said; None: not given."""

    spans: tuple[Span, ...] = ()
    difficulty: int | None = None
    target: bytes | None = None
    nbits: bytes | None = None
    digest: bytes | None = None
    match: str | None = None
    algo: str | None = None
    encoding: str | None = None
    prefix: bytes | None = None
    suffix: bytes | None = None
    header: bytes | None = None
    versions: int | None = None
    params: tuple[Given, ...] = ()


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A kernel and valid parameters for it, on spans it can search."""

    kernel: Kernel | None
    """None: it is not installed here, which only a job that was submitted elsewhere can have."""
    kernel_name: str
    params: dict[str, object]
    ranges: tuple[Span, ...]
    """What was asked for: integers, or the nonces of a header."""
    spans: tuple[Span, ...]
    """The integers that are searched; other than `ranges` only if versions are rolled."""
    tests_per_hit: float | None
    """None for a digest: its integer is in the spans or not, chance has no part in it; or if the kernel cannot tell."""
    header: Versions | None
    """What an integer stands for, if in a block header."""

    @property
    def size(self) -> int:
        """Integers to search."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def expected_hits(self) -> float | None:
        """The mean number of hits in all spans, if it is a matter of chance."""
        return None if self.tests_per_hit is None else self.size / self.tests_per_hit

    @property
    def rolled(self) -> int | None:
        """How many versions a header is tried in; None if its version stays as it is."""
        return self.header.count if self.header is not None and "versions" in self.params else None

    @property
    def hashes(self) -> bool:
        """Whether it is about a message's hash; of any other kernel nothing is known but its parameters."""
        return isinstance(self.kernel, HashKernel)

    @property
    def encoding(self) -> str | None:
        """How integers are written; None if there is no message to write them into."""
        return str(self.params.get("encoding", DEFAULT_ENCODING)) if self.hashes else None

    @property
    def match(self) -> str | None:
        """Where a digest has its zeros; None if all of it is given, or it is no hash."""
        if not self.hashes or "digest" in self.params:
            return None
        return str(self.params.get("match", DEFAULT_MATCH))


@dataclass(frozen=True, slots=True)
class Asked:
    """A job with what a person wants to be told about it."""

    job: Job
    puzzle: Puzzle
    name: str | None
    tracked: bool = False
    """Whether trackers have it: they do not tell which peers work for it, nor which of them found what."""

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
        tries = self.puzzle.tests_per_hit
        if tries is not None and self.job.rule is not StopRule.ALL and wanted > 0:
            left = min(left, wanted * tries)
        return left / per_s


def understand(options: Options) -> tuple[Puzzle, str | None]:
    """The puzzle, and a warning if spans overlapped; raises `click.UsageError` with one clear line."""
    ranges, overlapped = merge(options.spans or (DEFAULT_SPAN,))
    kernel, name, params = _of_header(options) if options.header is not None else _of_parts(options)
    header = None if options.header is None else Versions(options.header[:NONCE_AT], options.versions or 1)
    spans = ranges if header is None or options.versions is None else integer_spans(header, ranges)
    try:
        _lengths_fit(options, kernel)
        kernel.validate(params, spans)
        tests_per_hit = mean_tests(kernel, params)
    except KernelError as error:
        raise click.UsageError(str(error)) from None
    warning = "ranges overlap: merged, no integer is searched twice" if overlapped else None
    return Puzzle(kernel, name, params, ranges, spans, tests_per_hit, header), warning


def new_job(puzzle: Puzzle, rule: StopRule, hits_wanted: int) -> Job:
    """A job with an id of its own; raises `click.UsageError` if the parameters are too long to travel."""
    from zlb.wire import values

    try:
        params = values.pack(puzzle.params)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    job_id = JobId("j-" + "".join(secrets.choice(_JOB_ID_ALPHABET) for _ in range(6)))
    return Job(job_id, puzzle.kernel_name, params, puzzle.spans, rule, hits_wanted)


def _of_parts(options: Options) -> tuple[Kernel, str, dict[str, object]]:
    """Only what was said becomes a parameter: defaults are the kernel's own."""
    goal, name = _goal(options), options.algo or DEFAULT_KERNEL
    kernel = _loaded(name, options)
    if not goal and isinstance(kernel, HashKernel):
        raise click.UsageError(
            "how hard? Give one of --difficulty, --target, --nbits, --digest, or a --header with its target"
        )
    if options.versions is not None:
        raise click.UsageError("--roll-version goes with --header only")
    params = dict(goal)
    for key in ("encoding", "match", "prefix", "suffix"):
        value = getattr(options, key)
        if value is not None:
            params[key] = value
    params = gathered(params, options.params)
    if "target" in goal:
        params.setdefault("match", "bitcoin")
    return kernel, name, params


def _loaded(name: str, options: Options) -> Kernel:
    """The kernel; ours have an option for each parameter, and take none by name."""
    try:
        kernel = load_kernel(name)
    except KernelError as error:
        raise click.UsageError(str(error)) from None
    if options.params and isinstance(kernel, HashKernel):
        instead = "--difficulty, --prefix and other options of its own"
        raise click.UsageError(f"--param is for other kernels: {kernel.name} has {instead}")
    return kernel


def mean_tests(kernel: Kernel, params: dict[str, object]) -> float | None:
    """What the kernel says, as far as it can be reckoned with."""
    if isinstance(kernel, HashKernel):
        return None if "digest" in params else kernel.tests_per_hit(params)
    tests = float(kernel.tests_per_hit(params))
    return max(tests, 1.0) if 0 < tests < math.inf else None


def _of_header(options: Options) -> tuple[Kernel, str, dict[str, object]]:
    """A header brings kernel, encoding and match with it, and its target unless another goal was named."""
    assert options.header is not None
    for key, implied in _HEADER_IMPLIES.items():
        if getattr(options, key) not in (None, implied):
            raise click.UsageError(f"--header means --{key} {implied}, not {getattr(options, key)}")
    for key in ("prefix", "suffix"):
        if getattr(options, key) is not None:
            raise click.UsageError(f"--{key} cannot go with --header: the header is the whole message")
    goal = _goal(options)
    if goal:  # the target in the header does not count, and need not make sense
        params: dict[str, object] = {"prefix": options.header[:NONCE_AT], "encoding": "u32le", **goal}
        if "digest" not in goal:
            params["match"] = "bitcoin"
    else:
        try:
            params = header_params(options.header)
        except KernelError as error:
            raise click.UsageError(f"--header: {error}") from None
    if options.versions is not None:
        params["versions"] = options.versions
    name = _HEADER_IMPLIES["algo"]
    return _loaded(name, options), name, params


def _goal(options: Options) -> dict[str, object]:
    """`difficulty`, `target` or `digest`, or none if nothing was said."""
    names = [key for key in _GOALS if getattr(options, key) is not None]
    if len(names) > 1:
        raise click.UsageError(f"only one of {', '.join(f'--{name}' for name in names)}")
    if options.digest is not None and options.match is not None:
        raise click.UsageError("--match cannot go with --digest: all of it must be equal")
    if options.nbits is not None:
        try:
            return {"target": nbits_to_target(int.from_bytes(options.nbits, "big"))}
        except KernelError as error:
            raise click.UsageError(f"--nbits: {error}") from None
    return {name: getattr(options, name) for name in names}


def _lengths_fit(options: Options, kernel: Kernel) -> None:
    """Say in hex digits what the kernel would say in bytes; a kernel that is none of ours speaks for itself."""
    if not isinstance(kernel, HashKernel):
        return
    length = kernel.algorithm.digest_bits // 8
    for key in ("target", "digest"):
        value = getattr(options, key)
        if value is not None and len(value) != length:
            wanted = f"{2 * length} hex digits ({length} bytes) are needed for {kernel.name}"
            raise click.UsageError(f"--{key}: {wanted}, these are {2 * len(value)}")
    if options.nbits is not None and length != _NBITS_TARGET_BYTES:
        stands_for = f"a target of {_NBITS_TARGET_BYTES} bytes"
        raise click.UsageError(f"--nbits stands for {stands_for}, digests of {kernel.name} have {length}")
