"""One block hashed in lanes: the first rounds unrolled, for they fold, the others in a loop short enough for the CPU.

A CPU keeps the last few thousand decoded instructions. Two streams of 64 unrolled rounds are more than that and run at
half speed, so later rounds go round in turns, their schedule in memory that stays in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from zlb.kernels.fips180 import BLOCK_WORDS, HashFunction, State
from zlb.kernels.fold import Emitting, Lanes, Word
from zlb.kernels.llvm import I32, I64, WORD_BYTES, load, loop, store, word_at

ROLLED_FROM = 32
"""First round in the loop. Rounds before it fold; the 16 words before it are what the loop starts with."""
assert ROLLED_FROM == 2 * BLOCK_WORDS, "all words that are computed, and none else, are in memory"
ROLLED = 4
"""Rounds a turn. (Others were tried: bench/RESULTS.md.)"""
ROLLED_UNTIL = 56
"""When one word of the digest is asked for, rounds from here on are computed in part only."""


class Blocks:
    """Compresses blocks of one hash function; owns the memory their schedules go through.

    The memory is taken from the stack of the function that `e` emits into, so an instance is made in its first block.
    """

    def __init__(self, e: Emitting, function: HashFunction) -> None:
        self._e = e
        self._function = function
        self._rounds = len(function.constants)
        b = e.late
        self._schedule = b.alloca(I32, self._rounds * e.streams * e.lanes)
        self._schedule.align = e.lanes * WORD_BYTES
        self._constants = b.bitcast(_table(b.module, "constants", function.constants), I32.as_pointer())

    def compress(self, state: Sequence[Word], block: Sequence[Word], whole: bool) -> State:
        """The hash values after one more block. Unless `whole`, all but the first and the last word may cost more."""
        function = self._function
        last = self._rounds if whole else ROLLED_UNTIL
        rolled = range(ROLLED_FROM, last) if function.repeats else range(self._rounds, self._rounds)
        variables, w = tuple(state), dict(enumerate(block))
        for t in range(rolled.start):
            variables = self._round(variables, w, t)
        if rolled:
            memory = _Memory(self._e, self._schedule, self._width(block))
            for t in range(rolled.start - BLOCK_WORDS, rolled.start):
                memory.put(t, w[t])
            variables = self._turns(variables, rolled, memory)
            for t in range(rolled.stop, self._rounds):
                variables = self._round(variables, memory, t)
        return self._added(state, variables)

    def compress_each(self, states: Sequence[Sequence[Word]], block: Sequence[Word]) -> list[State]:
        """The hash values after one more block, for each of several states: the schedule is computed for the first."""
        e, b = self._e, self._e.late
        after = [self.compress(states[0], block, whole=True)]
        memory, w = _Memory(e, self._schedule, self._width(block)), dict(enumerate(block))

        def kw(t: ir.Value) -> Word:
            k = self._same_in_all(self._constants, t)
            return e.add(memory.at(b.mul(t, I64(memory.stride)), 0), k)

        for state in states[1:]:
            variables = tuple(state)
            for t in range(BLOCK_WORDS):
                variables = self._round(variables, w, t)
            after.append(self._added(state, self._prepared(variables, BLOCK_WORDS, kw)))
        return after

    def compress_prepared(self, state: Sequence[Word], table: ir.Value, blocks: ir.Value) -> State:
        """The hash values after `blocks` more, at least one, whose K_t + W_t stand in `table`, the same for all."""
        e, b = self._e, self._e.late
        with loop(b, I64(0), blocks, 1, e.spread(state)) as turn:
            before = e.gathered(turn.carried)
            first = b.mul(turn.index, I64(self._rounds))

            def kw(t: ir.Value) -> Word:
                return self._same_in_all(table, b.add(first, t))

            turn.carried = e.spread(self._added(before, self._prepared(before, 0, kw)))
        return e.gathered(turn.carried)

    def _round(self, variables: State, w: dict[int, Word], t: int) -> State:
        function = self._function
        if t >= BLOCK_WORDS:
            w[t] = function.schedule(self._e, w, t)
        return function.round(self._e, variables, self._e.add(w[t], function.constants[t]), t)

    def _turns(self, variables: State, rolled: range, memory: _Memory) -> State:
        """The working variables after the rounds in `rolled`; `memory` has the 16 schedule words before."""
        e, b, function = self._e, self._e.late, self._function
        with loop(b, I64(rolled.start), I64(rolled.stop), ROLLED, e.spread(variables)) as turn:
            window = memory.moved(b.mul(turn.index, I64(memory.stride)))
            constants = word_at(b, self._constants, turn.index)
            state = e.gathered(turn.carried)
            for t in range(ROLLED):
                window[t] = function.schedule(e, window, t)
                window.put(t, window[t])
                k = self._same_in_all(constants, t)
                state = function.round(e, state, e.add(window[t], k), t)
            turn.carried = e.spread(state)
        return e.gathered(turn.carried)

    def _prepared(self, variables: State, first: int, kw: Callable[[ir.Value], Word]) -> State:
        """The working variables after rounds `first` to the last, given K_t + W_t by the number of the round."""
        e, b, function = self._e, self._e.late, self._function
        if not function.repeats:
            for t in range(first, self._rounds):
                variables = function.round(e, variables, kw(I64(t)), t)
            return variables
        with loop(b, I64(first), I64(self._rounds), ROLLED, e.spread(variables)) as turn:
            state = e.gathered(turn.carried)
            for t in range(ROLLED):
                state = function.round(e, state, kw(b.add(turn.index, I64(t))), t)
            turn.carried = e.spread(state)
        return e.gathered(turn.carried)

    def _same_in_all(self, table: ir.Value, t: ir.Value | int) -> Lanes:
        """A word of a table of scalars, in all lanes of all streams."""
        b = self._e.late
        return Lanes((self._e.splat(b, b.load(word_at(b, table, t))),))

    def _added(self, state: Sequence[Word], variables: State) -> State:
        return tuple(self._e.add(h, variable) for h, variable in zip(state, variables, strict=True))

    def _width(self, block: Sequence[Word]) -> int:
        return max((len(word.parts) for word in block if isinstance(word, Lanes)), default=1)


class _Memory(dict[int, Word]):
    """Schedule words of `width` parts at `base`: those computed just now are in registers, others are loaded."""

    def __init__(self, e: Emitting, base: ir.Value, width: int) -> None:
        super().__init__()
        self._e = e
        self._base = base
        self._width = width
        self.stride = width * e.lanes

    def __missing__(self, t: int) -> Word:
        return self.at(I64(0), t)

    def moved(self, words: ir.Value) -> _Memory:
        """The same memory seen from `words` further: addresses in a loop are then constants beside one pointer."""
        return _Memory(self._e, word_at(self._e.late, self._base, words), self._width)

    def at(self, words: ir.Value, t: int) -> Lanes:
        """Word `t`, counted from `words` beyond the base."""
        e = self._e
        return Lanes(
            tuple(load(e.late, e.type, place, e.lanes * WORD_BYTES) for place in self._places(words, t))
        )

    def put(self, t: int, word: Word) -> None:
        """Store word `t`."""
        for stream, place in enumerate(self._places(I64(0), t)):
            store(self._e.late, self._e.stream(word, stream), place, self._e.lanes * WORD_BYTES)

    def _places(self, words: ir.Value, t: int) -> list[ir.Value]:
        base = word_at(self._e.late, self._base, words)
        return [
            word_at(self._e.late, base, t * self.stride + at) for at in range(0, self.stride, self._e.lanes)
        ]


def _table(module: ir.Module, name: str, values: Sequence[int]) -> ir.GlobalVariable:
    kind = ir.ArrayType(I32, len(values))
    table = ir.GlobalVariable(module, kind, name)
    table.initializer = ir.Constant(kind, values)
    table.global_constant = True
    table.linkage = "internal"
    return table
