"""Nonces in all versions, against the numbering of `zlb.kernels.bitcoin.Versions`."""

from itertools import pairwise

import pytest

from zlb.cli.headers import NONCE_AT, integer_spans, solved
from zlb.kernels.bitcoin import NONCES, Versions

RANGES = [(0, 3), (7, 8), (NONCES - 2, NONCES)]


@pytest.mark.parametrize("count", [1, 2, 4, 8, 64])
def test_every_version_of_every_nonce_and_nothing_else(count: int) -> None:
    versions = Versions(bytes(range(NONCE_AT)), count)
    spans = integer_spans(versions, RANGES)
    expected = {
        versions.join(version, nonce)
        for version in range(count)
        for start, stop in RANGES
        for nonce in range(start, stop)
    }
    found = [n for start, stop in spans for n in range(start, stop)]
    assert found == sorted(expected)
    assert all(stop < start for (_, stop), (start, _) in pairwise(spans)), "not merged"
    assert len({solved(versions, n).header for n in found}) == len(found)
