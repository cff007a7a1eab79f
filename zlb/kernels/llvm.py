"""What every emitter of LLVM instructions here needs: types, loops, loads and stores by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
WORD_BYTES = 4


@dataclass(slots=True)
class Turn:
    """One turn of a loop that is being emitted."""

    index: ir.Value
    carried: list[ir.Value]


@contextmanager
def loop(
    b: ir.IRBuilder, first: ir.Value, end: ir.Value, step: int, carried: Sequence[ir.Value] = ()
) -> Iterator[Turn]:
    """Emit a loop over `first`, `first + step` … below `end`; its body, the with block, runs at least once.

    The body may replace `turn.carried`; what it leaves there is carried into the next turn, and stands after the loop.
    """
    before, head, after = b.block, b.append_basic_block(), b.append_basic_block()
    b.branch(head)
    b.position_at_end(head)
    phis = [b.phi(value.type) for value in (first, *carried)]
    turn = Turn(phis[0], phis[1:])
    yield turn
    following = b.add(turn.index, I64(step))
    end_of_body = b.block
    b.cbranch(b.icmp_unsigned("<", following, end), head, after)
    for phi, start, again in zip(phis, (first, *carried), (following, *turn.carried), strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(again, end_of_body)
    b.position_at_end(after)


def declared(b: ir.IRBuilder, name: str, returns: ir.Type, *takes: ir.Type) -> ir.Function:
    """The function `name`, declared in the builder's module if it is not yet."""
    known = b.module.globals.get(name)
    return known if known is not None else ir.Function(b.module, ir.FunctionType(returns, takes), name)


def word_at(b: ir.IRBuilder, pointer: ir.Value, index: ir.Value | int) -> ir.Value:
    """The address of a 32-bit word, counted from `pointer` (to i32)."""
    return b.gep(pointer, [I64(index) if isinstance(index, int) else index])


def load(b: ir.IRBuilder, kind: ir.Type, pointer: ir.Value, align: int) -> ir.Value:
    """The value of type `kind` at `pointer`, which is a multiple of `align` bytes."""
    return b.load(b.bitcast(pointer, kind.as_pointer()), align=align)


def store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value, align: int) -> None:
    """Put a value at `pointer`, which is a multiple of `align` bytes."""
    b.store(value, b.bitcast(pointer, value.type.as_pointer()), align=align)
