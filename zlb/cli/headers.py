"""Block headers as people see them: nonces and versions, where a job knows integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import click

from zlb.cli.integers import merge
from zlb.core.ids import Span
from zlb.kernels.bitcoin import HEADER_BYTES, NONCE_AT, NONCES, Versions

NONCE_BYTES = HEADER_BYTES - NONCE_AT
SPANS_MAX = 1 << 16
"""Spans that nonces may become. Each costs the submitter memory and a subjob of its own."""


@dataclass(frozen=True, slots=True)
class Solved:
    """A hit, as the header it stands for."""

    nonce: int
    version: int
    """The version field, as a number."""
    header: bytes


def solved(versions: Versions, n: int) -> Solved:
    """The header that the integer `n` stands for."""
    version, nonce = versions.split(n)
    header = versions.prefix(version) + nonce.to_bytes(NONCE_BYTES, "little")
    return Solved(nonce, versions.field(version), header)


def integer_spans(versions: Versions, nonces: Iterable[Span]) -> tuple[Span, ...]:
    """The integers that stand for these nonces in all versions; raises `click.UsageError` if that is too much."""
    nonces = tuple(nonces)
    if any(stop > NONCES for _, stop in nonces):
        raise click.UsageError("--range: nonces end at 2**32")
    if nonces == ((0, NONCES),):  # everything, which is one span however many versions there are
        return ((0, versions.count * NONCES),)
    count, shared = len(nonces) * versions.count // versions.shared, versions.shared
    if count > SPANS_MAX:
        what = f"{len(nonces)} ranges of nonces in {versions.count} versions"
        raise click.UsageError(f"{what} are too many spans: {count}, the limit is {SPANS_MAX}")
    firsts = range(0, versions.count, shared)
    spans, _ = merge(
        # the end is that of the last integer, because the nonce after the last one may belong to another group
        (versions.join(first, start), versions.join(first, stop - 1) + shared)
        for first in firsts
        for start, stop in nonces
    )
    return spans
