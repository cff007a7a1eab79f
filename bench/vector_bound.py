"""How fast a CPU's vector units could hash at best: operations left after folding, and operations a second.

Operations are counted on the expressions themselves, evaluated over values that only remember what they were made
from; those the tested word does not depend on do not count. What the units can do is measured by a loop of
independent additions and exclusive ors.
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir

from zlb.kernels.compiled import machine_for
from zlb.kernels.fips180 import BLOCK_WORDS, SHA256, compress, padding
from zlb.kernels.fold import Folding, Lanes, Uniform, Word
from zlb.kernels.llvm import I32, I64, loop
from zlb.kernels.paths import Path
from zlb.kernels.words import words_of

REGISTERS = 12
"""Independent chains: more than latency times units, fewer than the registers of the smallest CPU."""
UNROLLED = 8
TURNS = 200_000


@dataclass(eq=False)
class Operation:
    """A vector operation and what it takes."""

    name: str
    operands: tuple[Any, ...] = ()


class Counting(Folding):
    """Folding that emits nothing and remembers everything."""

    def scalar(self, operation: str, *operands: Word) -> Uniform:
        """See `Folding.scalar`: free, it is done once a row."""
        return Uniform(())

    def vector(self, operation: str, *operands: Word) -> Lanes:
        """See `Folding.vector`."""
        made_from = tuple(part for word in operands if isinstance(word, Lanes) for part in word.parts)
        return Lanes((Operation(operation, made_from),))  # type: ignore[arg-type]


def operations(word: Word) -> Counter[str]:
    """How many operations of each kind it takes to make `word`."""
    seen: set[Operation] = set()
    ahead = list(word.parts) if isinstance(word, Lanes) else []
    while ahead:
        operation = ahead.pop()
        if operation not in seen:
            seen.add(operation)
            ahead += operation.operands
    return Counter(operation.name for operation in seen)


def operations_a_hash(twice: bool, varying: int, tested: int) -> Counter[str]:
    """Vector operations for SHA-256 of one block, or of that digest again, with one varying word."""
    digit = Operation("load")
    block: list[Word] = [Uniform(()) for _ in range(BLOCK_WORDS)]
    block[varying] = Lanes((digit,))  # type: ignore[arg-type]
    midstate = [Uniform(()) for _ in SHA256.initial] if twice else SHA256.initial
    state = compress(Counting(), SHA256, midstate, block)
    if twice:
        message = [*state, *words_of(padding(32)).tolist()]
        state = compress(Counting(), SHA256, SHA256.initial, message)
    counted = operations(state[tested])
    del counted["load"]
    return counted


def operations_a_second(path: Path) -> float:
    """Vectors a second through the units of one core, by loops of additions and exclusive ors in independent chains."""
    module = ir.Module("bound")
    kind = ir.VectorType(I32, path.lanes)
    function = ir.Function(module, ir.FunctionType(I64, [I64]), "chains")
    b = ir.IRBuilder(function.append_basic_block())
    # Operands that LLVM cannot know: it would make one operation of eight.
    first = b.insert_element(ir.Constant(kind, ir.Undefined), b.trunc(function.args[0], I32), I32(0))
    operand = b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * path.lanes))
    start = [ir.Constant(kind, [number] * path.lanes) for number in range(REGISTERS)]
    with loop(b, I64(0), function.args[0], 1, start) as turn:
        values = turn.carried
        for number in range(UNROLLED):
            emit = b.xor if number % 2 else b.add
            values = [emit(value, operand) for value in values]
        turn.carried = values
    total = turn.carried[0]
    for value in turn.carried[1:]:
        total = b.xor(total, value)
    b.ret(b.zext(b.extract_element(total, I32(0)), I64))
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine_for(path))
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(engine.get_function_address("chains"))
    call(TURNS)
    started = time.perf_counter()
    call(TURNS)
    return TURNS * UNROLLED * REGISTERS / (time.perf_counter() - started)
