"""Commitments: every block opens to what was committed to, and nothing else does."""

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.limits import BLOCKS_MAX, INTEGERS_MAX
from zlb.protocols.merkle import Commitment, block_span, opens

SHAPES = [1, 2, 3, 4, 5, 7, 8, 11, 64, 65]


def commitment(blocks: int, size: int = 1000, start: int = 500) -> Commitment:
    return Commitment((start, start + size), blocks, range(start + 1, start + size, 7))


@given(st.integers(0, INTEGERS_MAX - 1), st.integers(1, 5000), st.integers(1, BLOCKS_MAX))
def test_blocks_cut_a_lease_into_parts_that_differ_by_one_at_most(
    start: int, count: int, blocks: int
) -> None:
    span = start, start + count
    parts = [block_span(span, blocks, block) for block in range(blocks)]
    assert parts[0][0] == span[0] and parts[-1][1] == span[1]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    assert {high - low for low, high in parts} <= {count // blocks, -(-count // blocks)}


@pytest.mark.parametrize("blocks", SHAPES)
def test_every_block_opens(blocks: int) -> None:
    tree = commitment(blocks)
    told: list[int] = []
    for block in range(blocks):
        samples, path = tree.block(block), tree.path(block)
        low, high = block_span(tree.span, blocks, block)
        assert all(low <= n < high for n in samples)
        assert opens(tree.root, blocks, block, samples, path)
        told += samples
    assert told == list(tree.samples)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(SHAPES))
def test_a_block_does_not_open_to_other_samples(data: st.DataObject, blocks: int) -> None:
    tree = commitment(blocks)
    block = data.draw(st.integers(0, blocks - 1))
    true = tree.block(block)
    low, high = block_span(tree.span, blocks, block)
    other = tuple(sorted(data.draw(st.sets(st.integers(low, high - 1)))))
    assert opens(tree.root, blocks, block, other, tree.path(block)) == (other == true)
    for wrong in (true[1:], true[:-1], true[::-1], (*true, high), (*true, *true[-1:])):
        assert opens(tree.root, blocks, block, wrong, tree.path(block)) == (wrong == true)


@pytest.mark.parametrize("blocks", SHAPES)
def test_a_block_does_not_open_as_another(blocks: int) -> None:
    tree = commitment(blocks)
    for block in range(blocks):
        for other in range(blocks + 3):
            opened = opens(tree.root, blocks, other, tree.block(block), tree.path(block))
            assert opened == (other == block), (
                "nor as one that there is not: odd levels repeat their last node"
            )


@pytest.mark.parametrize("blocks", SHAPES)
def test_a_path_that_is_too_short_or_too_long_opens_nothing(blocks: int) -> None:
    tree = commitment(blocks)
    for block in range(blocks):
        samples, path = tree.block(block), tree.path(block)
        for wrong in ((*path, tree.root), (*path, bytes(32)), path[:-1], path[1:], path[::-1]):
            assert opens(tree.root, blocks, block, samples, wrong) == (wrong == path)


def test_a_node_is_not_taken_for_a_leaf_nor_a_leaf_for_a_node() -> None:
    tree = commitment(4)
    leaves = [
        hashlib.sha256(b"\0" + b"".join(n.to_bytes(8, "big") for n in tree.block(i))).digest()
        for i in range(4)
    ]
    inner = leaves[0] + leaves[1]  # shown as the samples of one block of two, it must not give the node above
    fake = [int.from_bytes(inner[i : i + 8], "big") for i in range(0, 64, 8)]
    assert not opens(tree.root, 2, 0, fake, tree.path(0)[1:])
    assert opens(tree.root, 4, 0, tree.block(0), tree.path(0))


def test_the_root_is_as_the_protocol_says() -> None:
    samples = [3, 9, 10, 28]
    blocks = [(3, 9), (10,), (28,)]
    leaves = [
        hashlib.sha256(b"\0" + b"".join(n.to_bytes(8, "big") for n in some)).digest() for some in blocks
    ]
    left = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
    right = hashlib.sha256(b"\1" + leaves[2] + leaves[2]).digest()
    assert Commitment((0, 30), 3, samples).root == hashlib.sha256(b"\1" + left + right).digest()


def test_the_greatest_integers_can_be_committed_to() -> None:
    span = INTEGERS_MAX - 10, INTEGERS_MAX
    tree = Commitment(span, 2, [INTEGERS_MAX - 1])
    assert opens(tree.root, 2, 1, (INTEGERS_MAX - 1,), tree.path(1))


def test_a_lease_without_samples_can_be_committed_to() -> None:
    tree = Commitment((0, 64), 64, [])
    assert all(opens(tree.root, 64, block, (), tree.path(block)) for block in range(64))
    assert not opens(tree.root, 64, 5, (5,), tree.path(5))


def test_the_longest_path_is_that_of_the_most_blocks() -> None:
    tree = Commitment((0, BLOCKS_MAX), BLOCKS_MAX, [7])
    assert len(tree.path(7)) == 12
    assert opens(tree.root, BLOCKS_MAX, 7, (7,), tree.path(7))
