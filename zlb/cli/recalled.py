"""A job that was submitted elsewhere, understood again from what the trackers were told of it."""

from __future__ import annotations

from collections.abc import Mapping

from zlb.cli import human
from zlb.cli.asked import Asked, Puzzle, mean_tests
from zlb.core.ids import JobId, Span
from zlb.core.work import Job
from zlb.kernels import load_kernel
from zlb.kernels.bitcoin import NONCE_AT, NONCES, Versions, read_versions
from zlb.protocols.commands import Submit, WireSpan
from zlb.wire import values


def recalled(spec: Submit) -> Asked:
    """The job as its submitter had it. Whatever the kernel here cannot make sense of is left out."""
    spans = stops(spec.spans)
    job = Job(JobId(spec.job), spec.kernel, spec.params, spans, spec.rule, spec.hits_wanted)
    name = human.text(spec.name) or None
    try:
        params: dict[str, object] = dict(values.unpack(spec.params))
        kernel = load_kernel(spec.kernel)
        kernel.validate(params, spans)
        tests_per_hit = mean_tests(kernel, params)
    except Exception:  # noqa: BLE001 - a kernel is anybody's code, and the hits can be shown without it
        return Asked(job, Puzzle(None, spec.kernel, {}, spans, spans, None, None), name, tracked=True)
    header = _header(spec.kernel, params)
    ranges = _nonces(header, spans) if header is not None and "versions" in params else spans
    return Asked(
        job, Puzzle(kernel, spec.kernel, params, ranges, spans, tests_per_hit, header), name, tracked=True
    )


def stops(spans: tuple[WireSpan, ...]) -> tuple[Span, ...]:
    """Spans as they travel, half-open."""
    return tuple((start, start + count) for start, count in spans)


def _header(kernel: str, params: Mapping[str, object]) -> Versions | None:
    """The block header whose nonce is searched, if it is that."""
    prefix, little = params.get("prefix"), params.get("encoding") == "u32le"
    if kernel != "sha256d" or not little or not isinstance(prefix, bytes) or len(prefix) != NONCE_AT:
        return None
    return None if "suffix" in params else read_versions(prefix, params.get("versions", 1))


def _nonces(versions: Versions, spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The nonces that were asked for: those of the first versions, as all others have the same."""
    shared = versions.shared
    first = ((start, min(stop, NONCES * shared)) for start, stop in spans if start < NONCES * shared)
    return tuple((start // shared, -(-stop // shared)) for start, stop in first)
