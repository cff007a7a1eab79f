"""One block hashed by the SHA instructions of x86: four words of one message lie in a vector, streams are the lanes.

`sha256rnds2` makes two rounds at once on the working variables, which it wants as (f, e, b, a) and (h, g, d, c);
`sha256msg1` and `sha256msg2` make four words of the schedule. Intel, "SHA Extensions", 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir

from zlb.kernels.fips180 import BLOCK_WORDS, SHA256, State
from zlb.kernels.fold import Emitting, Lanes, Word
from zlb.kernels.llvm import I32, I64, WORD_BYTES, declared, load, loop, word_at

QUAD = ir.VectorType(I32, 4)
K = SHA256.constants
UNDEFINED = ir.Constant(QUAD, ir.Undefined)


class Blocks:
    """Compresses blocks of SHA-256; does what `zlb.kernels.blocks.Blocks` does."""

    def __init__(self, e: Emitting) -> None:
        self._e = e

    def compress(self, state: Sequence[Word], block: Sequence[Word], whole: bool = True) -> State:
        """The hash values after one more block; `whole` makes no difference here."""
        e = self._e
        # Rounds before the first word in lanes fold; the instructions come by two.
        lanes_from = next(at for at, word in enumerate([*state, *block]) if isinstance(word, Lanes))
        folded = max(0, lanes_from - len(state)) // 2 * 2
        variables = tuple(state)
        for t in range(folded):
            variables = SHA256.round(e, variables, e.add(block[t], K[t]), t)

        def quads(stream: int) -> Iterator[ir.Value]:
            w = [self._pack(block[at : at + 4], stream) for at in range(0, BLOCK_WORDS, 4)]
            for t in range(0, len(K), 4):
                if t >= BLOCK_WORDS:
                    w.append(self._schedule(*w[-4:]))
                yield e.late.add(w[t // 4], ir.Constant(QUAD, list(K[t : t + 4])))

        return self._added(state, variables, quads, folded)

    def compress_each(self, states: Sequence[Sequence[Word]], block: Sequence[Word]) -> list[State]:
        """The hash values after one more block, for each of several states: LLVM sees that schedules are the same."""
        return [self.compress(state, block) for state in states]

    def compress_prepared(self, state: Sequence[Word], table: ir.Value, blocks: ir.Value) -> State:
        """The hash values after `blocks` more, at least one, whose K_t + W_t stand in `table`, the same for all."""
        e, b = self._e, self._e.late
        with loop(b, I64(0), blocks, 1, e.spread(state)) as turn:
            before = e.gathered(turn.carried)
            first = b.mul(turn.index, I64(len(K)))

            def quads(_stream: int) -> Iterator[ir.Value]:
                for t in range(0, len(K), 4):
                    yield load(b, QUAD, word_at(b, table, b.add(first, I64(t))), WORD_BYTES)

            turn.carried = e.spread(self._added(before, before, quads, 0))
        return e.gathered(turn.carried)

    def _added(
        self,
        state: Sequence[Word],
        variables: State,
        quads: Callable[[int], Iterator[ir.Value]],
        folded: int,
    ) -> State:
        """`state` plus the working variables after the last round, given them after `folded` rounds."""
        streams = [
            self._rounds(variables, stream, quads(stream), folded) for stream in range(self._e.streams)
        ]
        return tuple(
            self._e.add(h, Lanes(tuple(words[number] for words in streams))) for number, h in enumerate(state)
        )

    def _rounds(self, state: State, stream: int, quads: Iterator[ir.Value], folded: int) -> list[ir.Value]:
        a, b, c, d, e, f, g, h = state
        abef = self._pack((f, e, b, a), stream)
        cdgh = self._pack((h, g, d, c), stream)
        for at, quad in enumerate(quads):
            for t, pair in ((4 * at, quad), (4 * at + 2, self._shuffle(quad, quad, 2, 3, 2, 3))):
                if t >= folded:
                    abef, cdgh = self._call("sha256rnds2", cdgh, abef, pair), abef
        order = ((abef, 3), (abef, 2), (cdgh, 3), (cdgh, 2), (abef, 1), (abef, 0), (cdgh, 1), (cdgh, 0))
        return [self._e.late.extract_element(vector, ir.Constant(I32, at)) for vector, at in order]

    def _schedule(self, w0: ir.Value, w1: ir.Value, w2: ir.Value, w3: ir.Value) -> ir.Value:
        """The four words after the sixteen given."""
        partial = self._call("sha256msg1", w0, w1)
        return self._call("sha256msg2", self._e.late.add(partial, self._shuffle(w2, w3, 1, 2, 3, 4)), w3)

    def _pack(self, words: Sequence[Word], stream: int) -> ir.Value:
        """Four words of a stream as one vector, made early if all of them are known early."""
        e = self._e
        builder = e.late if any(isinstance(word, Lanes) for word in words) else e.early
        vector = UNDEFINED
        for at, word in enumerate(words):
            vector = builder.insert_element(vector, e.stream(word, stream), ir.Constant(I32, at))
        return vector

    def _shuffle(self, x: ir.Value, y: ir.Value, *order: int) -> ir.Value:
        return self._e.late.shuffle_vector(x, y, ir.Constant(QUAD, list(order)))

    def _call(self, name: str, *vectors: Any) -> ir.Value:
        instruction = declared(self._e.late, f"llvm.x86.{name}", QUAD, *(QUAD for _ in vectors))
        return self._e.late.call(instruction, vectors)
