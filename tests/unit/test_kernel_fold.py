"""What folding leaves to do: nothing for integers, scalar operations for uniform words, vector ones for lanes."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.kernels.fips180 import SHA1, SHA256, HashFunction, compress, padding
from zlb.kernels.fold import Folding, Lanes, Uniform, Word
from zlb.kernels.words import PLAIN, words_of

ALL_ONES = 2**32 - 1


def value(word: Word) -> Any:
    return word if isinstance(word, int) else word.parts[0]


class Recording(Folding):
    """Folding that computes at once, on integers inside `Uniform` and `Lanes`, and writes down what it did."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str, tuple[Word, ...]]] = []

    def scalar(self, operation: str, *operands: Word) -> Uniform:
        assert any(isinstance(operand, Uniform) for operand in operands)
        assert not any(isinstance(operand, Lanes) for operand in operands)
        self.done.append(("scalar", operation, operands))
        return Uniform((self._value(operation, operands),))

    def vector(self, operation: str, *operands: Word) -> Lanes:
        assert any(isinstance(operand, Lanes) for operand in operands)
        self.done.append(("vector", operation, operands))
        return Lanes((self._value(operation, operands),))

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(kind, operation) for kind, operation, _ in self.done]

    def _value(self, operation: str, operands: tuple[Word, ...]) -> int:
        values = [value(operand) for operand in operands]
        if operation == "xor":
            assert len(values) == 2
            return int(values[0] ^ values[1])
        return int(getattr(PLAIN, operation)(*values))


numbers = st.integers(0, ALL_ONES)
uniforms = numbers.map(lambda number: Uniform((number,)))  # type: ignore[arg-type]
lanes = numbers.map(lambda number: Lanes((number,)))  # type: ignore[arg-type]
OPERATIONS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "add": lambda ops, words: ops.add(*words),
    "parity": lambda ops, words: ops.parity(*words[:3]),
    "ch": lambda ops, words: ops.ch(*words[:3]),
    "maj": lambda ops, words: ops.maj(*words[:3]),
    "rotr": lambda ops, words: ops.rotr(words[0], 7),
    "shr": lambda ops, words: ops.shr(words[0], 7),
}
TAKES = {"add": 5, "parity": 3, "ch": 3, "maj": 3, "rotr": 1, "shr": 1}
U, V = Uniform((3,)), Uniform((5,))  # type: ignore[arg-type]
X, Y, Z = Lanes((7,)), Lanes((9,)), Lanes((12,))  # type: ignore[arg-type]


def some(words: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(words, min_size=5, max_size=5)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(words=some(numbers))
def test_integers_are_computed_here_and_now(operation: str, words: list[int]) -> None:
    folding = Recording()
    folded = OPERATIONS[operation](folding, words)
    assert type(folded) is int
    assert folded == OPERATIONS[operation](PLAIN, words)
    assert not folding.done


@pytest.mark.parametrize("operation", OPERATIONS)
@given(words=some(numbers | uniforms))
def test_uniform_words_take_scalar_operations(operation: str, words: list[Word]) -> None:
    folding = Recording()
    folded = OPERATIONS[operation](folding, words)
    early = any(isinstance(word, Uniform) for word in words[: TAKES[operation]])
    assert type(folded) is (Uniform if early else int)
    assert value(folded) == OPERATIONS[operation](PLAIN, [value(word) for word in words])
    assert all(kind == "scalar" for kind, _ in folding.kinds)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(words=some(numbers | st.just(0) | uniforms | lanes))
def test_only_lanes_take_vector_operations(operation: str, words: list[Word]) -> None:
    folding = Recording()
    folded = OPERATIONS[operation](folding, words)
    taken = words[: TAKES[operation]]
    assert isinstance(folded, Lanes) == any(isinstance(word, Lanes) for word in taken)
    assert value(folded) == OPERATIONS[operation](PLAIN, [value(word) for word in words])
    vectors = sum(kind == "vector" for kind, _ in folding.kinds)
    in_lanes = sum(isinstance(word, Lanes) for word in taken)
    most = in_lanes if operation == "add" else 1
    assert vectors <= (most if in_lanes else 0)


# --- sums ----------------------------------------------------------------------------------------------------------


def test_a_sum_takes_early_terms_first_and_lanes_in_the_order_given() -> None:
    folding = Recording()
    folding.add(X, U, 2, Y, V, 9, Z)
    (_, _, (first, second)), (_, _, (third, constant)), *vectors = folding.done
    assert (first, second) == (U, V)
    assert (value(third), constant) == (8, 11)
    known = Uniform((19,))  # type: ignore[arg-type]
    assert [operands for _, _, operands in vectors] == [(X, known), (Lanes((26,)), Y), (Lanes((35,)), Z)]  # type: ignore[arg-type]
    assert folding.kinds == [("scalar", "add")] * 2 + [("vector", "add")] * 3


def test_a_sum_of_lanes_alone_keeps_their_order() -> None:
    folding = Recording()
    folding.add(Z, X, Y)
    assert [operands for _, _, operands in folding.done] == [(Z, X), (Lanes((19,)), Y)]  # type: ignore[arg-type]


@pytest.mark.parametrize("terms", [(X,), (X, 0), (0, X), (X, 1, ALL_ONES), (0, X, 0, 0)])
def test_adding_nothing_to_lanes_takes_no_operation(terms: tuple[Word, ...]) -> None:
    folding = Recording()
    assert folding.add(*terms) is X
    assert not folding.done


@pytest.mark.parametrize("terms", [(U,), (U, 0), (0, U), (1, U, ALL_ONES)])
def test_adding_nothing_to_a_uniform_word_takes_no_operation(terms: tuple[Word, ...]) -> None:
    folding = Recording()
    assert folding.add(*terms) is U
    assert not folding.done


# --- parity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(X, 0, 0), (0, X, 0), (0, 0, X), (X, 6, 6), (6, X, 6)])
def test_parity_drops_zero(terms: tuple[Word, Word, Word]) -> None:
    folding = Recording()
    assert folding.parity(*terms) is X
    assert not folding.done


@pytest.mark.parametrize(
    ("terms", "kinds"),
    [
        ((X, Y, Z), [("vector", "parity")]),
        ((X, Y, 0), [("vector", "xor")]),
        ((0, X, Y), [("vector", "xor")]),
        ((X, Y, 1), [("vector", "parity")]),
        ((X, U, Y), [("vector", "parity")]),
        ((X, 1, 2), [("vector", "xor")]),
        ((X, U, 0), [("vector", "xor")]),
        ((X, U, 1), [("scalar", "xor"), ("vector", "xor")]),
        ((U, X, V), [("scalar", "xor"), ("vector", "xor")]),
        ((U, 0, 0), []),
        ((U, 4, 4), []),
        ((U, V, 0), [("scalar", "xor")]),
        ((U, V, 1), [("scalar", "xor")] * 2),
    ],
)
def test_parity_takes_what_is_left(terms: tuple[Word, Word, Word], kinds: list[tuple[str, str]]) -> None:
    folding = Recording()
    folded = folding.parity(*terms)
    assert value(folded) == PLAIN.parity(*map(value, terms))
    assert folding.kinds == kinds


# --- whole blocks --------------------------------------------------------------------------------------------------


def digest(
    function: HashFunction, message: bytes, at: int, make: Callable[[int], Word]
) -> tuple[Recording, bytes]:
    """The hash of a message of one block, of which word `at` is made something else than an integer."""
    block: list[Word] = words_of(message + padding(len(message))).tolist()
    block[at] = make(value(block[at]))
    folding = Recording()
    words = compress(folding, function, function.initial, block)
    return folding, b"".join(int(value(word)).to_bytes(4, "big") for word in words)


@pytest.mark.parametrize("function", [SHA1, SHA256], ids=lambda function: function.name)
@given(message=st.binary(max_size=55), at=st.integers(0, 15))
def test_a_block_folds_to_what_hashlib_says(function: HashFunction, message: bytes, at: int) -> None:
    wanted = hashlib.new(function.name, message).digest()
    for make in (int, lambda number: Uniform((number,)), lambda number: Lanes((number,))):
        assert digest(function, message, at, make)[1] == wanted


@pytest.mark.parametrize("function", [SHA1, SHA256], ids=lambda function: function.name)
def test_the_later_a_word_in_lanes_the_less_is_left_to_do(function: HashFunction) -> None:
    left = []
    for at in range(16):
        folding, _ = digest(function, b"message", at, lambda number: Lanes((number,)))  # type: ignore[arg-type]
        assert {kind for kind, _ in folding.kinds} == {"vector"}
        left.append(len(folding.done))
    assert left[15] < left[0]
    # The 15 rounds before it cost nothing; most of them would take at least five operations each.
    assert left[0] - left[15] >= 5 * 15


def test_a_block_known_early_leaves_no_vector_operation() -> None:
    folding, _ = digest(SHA256, b"", 3, lambda number: Uniform((number,)))  # type: ignore[arg-type]
    assert {kind for kind, _ in folding.kinds} == {"scalar"}
    assert not digest(SHA256, b"", 3, partial(int))[0].done
