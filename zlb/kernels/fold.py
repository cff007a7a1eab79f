"""Words while a search is being compiled: what is known early is computed early, and only the rest becomes lanes.

A word is one of three things:

    int       known while compiling: padding, K_t, the second block of a double hash
    Uniform   known before the loop over integers starts: prefix, leading digits, the midstate
    Lanes     different from integer to integer: the last digits and all that depends on them

The operations of FIPS 180-4 on them fold: integers are computed here and now, uniform words by scalar instructions in
front of the loop, and a vector instruction is emitted only where a lane takes part. Nothing else is needed to get
midstates, skipped rounds, and constants merged into K_t.

Several streams of lanes can run side by side to hide latencies. A value has one part for all streams, or one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from zlb.kernels.llvm import I32, declared
from zlb.kernels.words import ALL_ONES, PLAIN, WORD_BITS

# Truth tables of vpternlogd: bit 4x + 2y + z is the result for the bits x, y, z.
TERNARY = {"parity": 0x96, "ch": 0xCA, "maj": 0xE8}


@dataclass(frozen=True, slots=True)
class Uniform:
    """A word that is the same in all lanes of a stream."""

    parts: tuple[ir.Value, ...]


@dataclass(frozen=True, slots=True)
class Lanes:
    """A word of its own in every lane."""

    parts: tuple[ir.Value, ...]


Word = int | Uniform | Lanes


class Folding:
    """`zlb.kernels.words.Operations` on words of the three kinds; the two hooks decide what becomes of what is left."""

    def add(self, *terms: Word) -> Word:
        """The sum: early terms first, as one term, then the lanes in the order given."""
        known = self._known("add", [term for term in terms if not isinstance(term, Lanes)])
        lanes = [term for term in terms if isinstance(term, Lanes)]
        if not lanes:
            return known
        total = lanes[0] if known == 0 else self.vector("add", lanes[0], known)
        for term in lanes[1:]:
            total = self.vector("add", total, term)
        return total

    def parity(self, x: Word, y: Word, z: Word) -> Word:
        """Exclusive or of three."""
        known = self._known("xor", [term for term in (x, y, z) if not isinstance(term, Lanes)])
        lanes = [term for term in (x, y, z) if isinstance(term, Lanes)]
        match lanes:
            case []:
                return known
            case [only]:
                return only if known == 0 else self.vector("xor", only, known)
            case [one, other]:
                return (
                    self.vector("xor", one, other) if known == 0 else self.vector("parity", one, other, known)
                )
        return self.vector("parity", x, y, z)

    def ch(self, x: Word, y: Word, z: Word) -> Word:
        """Choose."""
        return self._apply("ch", x, y, z)

    def maj(self, x: Word, y: Word, z: Word) -> Word:
        """Majority."""
        return self._apply("maj", x, y, z)

    def rotr(self, x: Word, n: int) -> Word:
        """Rotate."""
        return self._apply("rotr", x, n)

    def shr(self, x: Word, n: int) -> Word:
        """Shift."""
        return self._apply("shr", x, n)

    def _apply(self, operation: str, *operands: Word) -> Word:
        if any(isinstance(operand, Lanes) for operand in operands):
            return self.vector(operation, *operands)
        if any(isinstance(operand, Uniform) for operand in operands):
            return self.scalar(operation, *operands)
        return getattr(PLAIN, operation)(*operands)

    def _known(self, operation: str, terms: list[Word]) -> Word:
        """One word for all `terms`, none of which is in lanes; 0 for none."""
        constant = 0
        for term in terms:
            if isinstance(term, int):
                constant = constant + term & ALL_ONES if operation == "add" else constant ^ term
        uniform = [term for term in terms if isinstance(term, Uniform)]
        if not uniform:
            return constant
        total = uniform[0]
        for term in uniform[1:] + ([constant] if constant else []):
            total = self.scalar(operation, total, term)
        return total

    def scalar(self, operation: str, *operands: Word) -> Uniform:
        """`operation` on integers and uniform words, of which there is at least one."""
        raise NotImplementedError

    def vector(self, operation: str, *operands: Word) -> Lanes:
        """`operation` on words of which at least one is in lanes."""
        raise NotImplementedError


class Emitting(Folding):
    """Folding that emits LLVM instructions: scalar ones through the builder `early`, vector ones through `late`.

    `early` stands in a block that is executed before the one `late` stands in, and is still open.
    """

    def __init__(
        self, early: ir.IRBuilder, late: ir.IRBuilder, lanes: int, streams: int, ternary: bool
    ) -> None:
        self.early = early
        self.late = late
        self.streams = streams
        self.type: ir.Type = ir.VectorType(I32, lanes) if lanes > 1 else I32
        self.lanes = lanes
        self._ternary = ternary
        self._splats: dict[ir.Value, ir.Value] = {}

    def scalar(self, operation: str, *operands: Word) -> Uniform:
        """See `Folding.scalar`."""
        return Uniform(self._each(self.early, operation, operands, self._as_scalar))

    def vector(self, operation: str, *operands: Word) -> Lanes:
        """See `Folding.vector`."""
        return Lanes(self._each(self.late, operation, operands, self._as_vector))

    def stream(self, word: Word, stream: int) -> ir.Value:
        """A word as the vector of one stream."""
        return self._as_vector(word, stream)

    def spread(self, words: Iterable[Word]) -> list[ir.Value]:
        """Several words as vectors, one for each stream: what a loop carries, or memory holds."""
        return [self.stream(word, stream) for word in words for stream in range(self.streams)]

    def gathered(self, parts: Sequence[ir.Value]) -> tuple[Lanes, ...]:
        """The words that `spread` made `parts` of."""
        streams = self.streams
        return tuple(Lanes(tuple(parts[at : at + streams])) for at in range(0, len(parts), streams))

    def constant(self, value: int) -> ir.Constant:
        """The same integer in all lanes."""
        return ir.Constant(self.type, [value] * self.lanes if self.lanes > 1 else value)

    def splat(self, builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
        """A vector with `scalar` in all lanes."""
        if self.lanes == 1:
            return scalar
        undefined = ir.Constant(self.type, ir.Undefined)
        first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(self.type, [0] * self.lanes))

    def _each(
        self,
        builder: ir.IRBuilder,
        operation: str,
        operands: tuple[Word, ...],
        as_value: Callable[[Word, int], ir.Value],
    ) -> tuple[ir.Value, ...]:
        widths = [len(operand.parts) for operand in operands if not isinstance(operand, int)]
        return tuple(
            self._emit(builder, operation, *(as_value(operand, stream) for operand in operands))
            for stream in range(max(widths))
        )

    def _as_scalar(self, word: Word, stream: int) -> ir.Value:
        return ir.Constant(I32, word) if isinstance(word, int) else _part(word, stream)

    def _as_vector(self, word: Word, stream: int) -> ir.Value:
        if isinstance(word, int):
            return self.constant(word)
        part = _part(word, stream)
        return self._early_splat(part) if isinstance(word, Uniform) else part

    def _early_splat(self, scalar: ir.Value) -> ir.Value:
        if scalar not in self._splats:
            self._splats[scalar] = self.splat(self.early, scalar)
        return self._splats[scalar]

    def _emit(self, b: ir.IRBuilder, operation: str, x: Any, y: Any, z: Any = None) -> ir.Value:
        if self._ternary and operation in TERNARY and x.type == self.type:
            ternary = declared(
                b, f"llvm.x86.avx512.pternlog.d.{WORD_BITS * self.lanes}", x.type, x.type, x.type, x.type, I32
            )
            return b.call(ternary, [x, y, z, ir.Constant(I32, TERNARY[operation])])
        match operation:
            case "add":
                return b.add(x, y)
            case "xor":
                return b.xor(x, y)
            case "shr":
                return b.lshr(x, y)
            case "rotr":
                kind = "i32" if x.type == I32 else f"v{self.lanes}i32"
                return b.call(declared(b, f"llvm.fshr.{kind}", x.type, x.type, x.type, x.type), [x, x, y])
            case "parity":
                return b.xor(b.xor(x, y), z)
            case "ch":
                return b.xor(z, b.and_(x, b.xor(y, z)))
            case "maj":
                return b.or_(b.and_(x, y), b.and_(z, b.or_(x, y)))
        raise AssertionError(operation)


def _part(word: Uniform | Lanes, stream: int) -> ir.Value:
    return word.parts[0] if len(word.parts) == 1 else word.parts[stream]
