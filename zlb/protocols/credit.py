"""Splitting a reward by contribution: in whole units, so that what is given out is what there was."""

from __future__ import annotations

from collections.abc import Mapping

from zlb.core.ids import NodeId

MILLION = 1_000_000
"""Units of a reward unless told otherwise: parts per million."""


def split(credit: Mapping[NodeId, int], units: int = MILLION) -> dict[NodeId, int]:
    """`units` split in proportion to `credit`, integers that sum up exactly; nobody gets any if nobody has credit.

    Whole units first, then one more each to the largest remainders (Hamilton's method), of equal ones to the first by
    name.
    """
    total = sum(credit.values())
    if total <= 0:
        return dict.fromkeys(credit, 0)
    parts = {node: units * mine // total for node, mine in credit.items()}
    by_remainder = sorted(credit, key=lambda node: (-(units * credit[node] % total), node))
    for node in by_remainder[: units - sum(parts.values())]:
        parts[node] += 1
    return parts
