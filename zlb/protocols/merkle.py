"""A commitment to the samples of a lease, block by block: 32 bytes now, any single block opened later.

Leaves are SHA-256 of an octet 0 and the samples of a block, nodes above of an octet 1 and their two children (so that
no leaf can pass for a node), and a level of odd size repeats its last node. See docs/protocol.md, TASK_PROVE.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import sha256

from zlb.core.ids import Span


def block_span(span: Span, blocks: int, block: int) -> Span:
    """Block `block` of `blocks` of a lease over `span`: sizes differ by one at most."""
    start, count = span[0], span[1] - span[0]
    return start + count * block // blocks, start + count * (block + 1) // blocks


class Commitment:
    """Samples of a lease over `span`, ascending, with the tree above their `blocks` blocks."""

    def __init__(self, span: Span, blocks: int, samples: Sequence[int]) -> None:
        self.span, self.blocks, self.samples = span, blocks, samples
        self._levels = [[_leaf(self.block(block)) for block in range(blocks)]]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = [*below, below[-1]] if len(below) % 2 else below
            self._levels.append([_node(pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2)])

    @property
    def root(self) -> bytes:
        """What commits to all of it."""
        return self._levels[-1][0]

    def block(self, block: int) -> tuple[int, ...]:
        """The samples of that block."""
        start, stop = block_span(self.span, self.blocks, block)
        return tuple(self.samples[bisect_left(self.samples, start) : bisect_left(self.samples, stop)])

    def path(self, block: int) -> tuple[bytes, ...]:
        """The siblings on the way from the leaf of that block to the root, leaf's first."""
        path = []
        for level in self._levels[:-1]:
            sibling = block ^ 1
            path.append(level[sibling] if sibling < len(level) else level[block])
            block //= 2
        return tuple(path)


def opens(root: bytes, blocks: int, block: int, samples: Sequence[int], path: Sequence[bytes]) -> bool:
    """Whether whoever committed to `root` over so many blocks committed to these samples of that block."""
    if not 0 <= block < blocks:
        return False  # nor is there one that an odd level seems to repeat
    node, width = _leaf(samples), blocks
    for sibling in path:
        if width <= 1:
            return False
        node = _node(sibling, node) if block % 2 else _node(node, sibling)
        block, width = block // 2, -(-width // 2)
    return width == 1 and node == root


def _leaf(samples: Sequence[int]) -> bytes:
    return sha256(b"\0" + b"".join(n.to_bytes(8, "big") for n in samples)).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
