"""The compiled search loop: rows of integers in, lanes that may hold hits out.

    for each row                          integers whose leading digits, hence uniform words, are the same
        for each batch of groups          a group is what the lanes of all streams hash at once
            pass 1 over the batch         hash the block with the last digits in it
            pass 2 ...                    further blocks, the second hash: each has a hot loop of its own
            in the last pass              one word of the digest decides which lanes are put on record

Between passes the digests of a batch stay in the first-level cache. `Frame` says what the function takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from llvmlite import ir

from zlb.kernels import sha_instructions
from zlb.kernels.blocks import Blocks
from zlb.kernels.fips180 import BLOCK_WORDS, HashFunction, State, padding
from zlb.kernels.fold import Emitting, Lanes, Uniform, Word
from zlb.kernels.llvm import I8, I32, I64, WORD_BYTES, declared, load, loop, store, word_at
from zlb.kernels.matching import PATTERNS_MAX
from zlb.kernels.paths import Path
from zlb.kernels.words import words_of

BATCH_GROUPS = 16
"""Groups between two passes: 16 KiB of digests with 512-bit lanes in two streams, half a first-level cache."""

FRAME = (
    "rows",
    "row_count",
    "columns",
    "column_words",
    "tail",
    "tail_blocks",
    "tests",
    "records",
    "records_max",
    "enough",
    "stop_flag",
    "stopped_row",
    "stopped_index",
    "found",
)
"""What `search` takes: one pointer to these, each 64 bits.

    rows, row_count        `Variant.row_words` words each: hash values, blocks, first index, number of integers
    columns, column_words  by index, what the last digits add to the words in `Variant.varying`, one after another
    tail, tail_blocks      K_t + W_t of blocks that are the same for all integers
    tests                  mask, value, limit of the rule, then mask and value of each pattern
    records, records_max   where `Variant.record_words` words go for each group with a survivor
    enough                 survivors after which to come back
    stop_flag              a byte, not zero to come back at once
    stopped_row, _index    written: all before has been tested; row_count and 0 at the end
    found                  written: survivors of the rule, integers beyond the end of a row included

It returns the number of records, which are in ascending order of row and index.
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """What one compiled search loop is made for."""

    function: HashFunction
    twice: bool
    """Whether the digest is hashed again."""
    varying: tuple[tuple[int, ...], ...]
    """For each block of a row, the words with last digits in them; the first block has some."""
    tail: bool
    """Whether blocks follow that are the same for all integers."""
    word: int
    """Which word of the digest is tested, the first or the last."""
    patterns: bool
    """Whether sample patterns are tested too."""
    versions: int
    """How many states each message is hashed from, in streams side by side: 1, or 2 or 4 versions of a block header."""
    path: Path

    @property
    def streams(self) -> int:
        """Vectors side by side."""
        return self.path.streams if self.versions == 1 else 2

    @property
    def sets(self) -> int:
        """Times the streams are needed for all versions."""
        return max(1, self.versions // self.streams)

    @property
    def step(self) -> int:
        """Integers a group covers."""
        return self.path.lanes * (self.path.streams if self.versions == 1 else 1)

    @property
    def row_words(self) -> int:
        """Length of a row."""
        return len(self.function.initial) * self.versions + BLOCK_WORDS * len(self.varying) + 2

    @property
    def tests(self) -> int:
        """Tests made of every integer: the rule, and sample patterns."""
        return 1 + PATTERNS_MAX * self.patterns

    @property
    def record_words(self) -> int:
        """Length of a record: row, index, set of versions, and for each test a mask of the lanes of each stream."""
        return 3 + self.tests * self.streams


def build(variant: Variant) -> ir.Module:
    """A module with the function `search`, made for `variant`."""
    module = ir.Module("zlb")
    search = ir.Function(module, ir.FunctionType(I64, [I64.as_pointer()]), "search")
    # Vectors that are spilled to the stack are to lie within cache lines.
    search.attributes.alignstack = 64
    _Scan(variant, search).emit()
    return module


Stage = Callable[[State, ir.Value], State]


class _Scan:
    """Emits `search`; methods stand in the order of the loops they emit, from the outermost in."""

    def __init__(self, variant: Variant, search: ir.Function) -> None:
        self.variant = variant
        self.hashes = len(variant.function.initial)
        self.b = b = ir.IRBuilder(search.append_basic_block("entry"))
        self.early = ir.IRBuilder(search.append_basic_block("row"))
        self.frame = search.args[0]
        self.given = {name: b.load(b.gep(self.frame, [I64(at)]), name) for at, name in enumerate(FRAME)}
        path = variant.path
        self.e = Emitting(self.early, b, path.lanes, variant.streams, path.ternary)
        self.blocks = sha_instructions.Blocks(self.e) if path.sha else Blocks(self.e, variant.function)
        self.groups = BATCH_GROUPS // variant.sets
        self.digests = b.alloca(I32, self.hashes * variant.streams * path.lanes * BATCH_GROUPS)
        self.digests.align = path.lanes * WORD_BYTES
        self.records = b.alloca(I64)
        b.store(I64(0), self.records)
        b.store(I64(0), self._in_frame("found"))

    def emit(self) -> None:
        """Emit the loop over rows, and what comes before and after."""
        b, early, row_words = self.b, self.early, self.variant.row_words
        rows = self._pointer("rows")
        with loop(b, I64(0), self.given["row_count"], 1) as turn:
            self.row = turn.index
            row = word_at(b, rows, b.mul(turn.index, I64(row_words)))
            b.branch(early.block)
            words = [load(early, I32, word_at(early, row, at), WORD_BYTES) for at in range(row_words)]
            self._take_row(words[:-2])
            first, count = (early.zext(word, I64) for word in words[-2:])
            self.end = early.add(first, count)
            batches = b.append_basic_block("batches")
            b.position_at_end(batches)
            self._batches(first)
        early.branch(batches)
        self._leave(self.given["row_count"], I64(0))

    def _take_row(self, words: list[ir.Value]) -> None:
        """Sort a row's words into the states of each set, the blocks, and the tests."""
        variant, at = self.variant, self.variant.versions * self.hashes
        parts = variant.versions // variant.sets
        self.states = [
            tuple(
                Uniform(tuple(words[(set_ * parts + part) * self.hashes + h] for part in range(parts)))
                for h in range(self.hashes)
            )
            for set_ in range(variant.sets)
        ]
        self.words = [Uniform((word,)) for word in words[at:]]
        tests = self._pointer("tests", self.early)
        self.tests = [
            self.e.splat(self.early, load(self.early, I32, word_at(self.early, tests, at), WORD_BYTES))
            for at in range(1 + 2 * variant.tests)
        ]

    def _leave(self, row: ir.Value, index: ir.Value) -> None:
        self.b.store(row, self._in_frame("stopped_row"))
        self.b.store(index, self._in_frame("stopped_index"))
        self.b.ret(self.b.load(self.records))

    def _batches(self, first: ir.Value) -> None:
        b, step = self.b, self.variant.step
        most = step * self.groups
        with loop(b, first, self.end, most) as batch:
            with b.if_then(self._is_over(), likely=False):
                self._leave(self.row, batch.index)
            left = b.sub(self.end, batch.index)
            some = b.select(b.icmp_unsigned("<", left, I64(most)), left, I64(most))
            groups = b.udiv(b.add(some, I64(step - 1)), I64(step))
            stages = self._stages()
            if stages and not self.variant.path.sha:
                self._passes(batch.index, groups, stages)
            else:
                self._straight(batch.index, groups, stages)

    def _is_over(self) -> ir.Value:
        """Whether to come back: told to, enough found, or a batch might find more than can be recorded."""
        b = self.b
        flag = b.load_atomic(b.inttoptr(self.given["stop_flag"], I8.as_pointer()), "monotonic", 1)
        found = b.load(self._in_frame("found"))
        room = b.add(b.load(self.records), I64(BATCH_GROUPS))
        reasons = (
            b.icmp_unsigned("!=", flag, I8(0)),
            b.icmp_unsigned(">=", found, self.given["enough"]),
            b.icmp_unsigned(">", room, self.given["records_max"]),
        )
        return reduce(b.or_, reasons)

    def _straight(self, first: ir.Value, groups: ir.Value, stages: list[Stage]) -> None:
        """Take each group through all stages and the test."""
        with loop(self.b, I64(0), groups, 1) as group:
            index = self._index(first, group.index)
            for set_, digest in enumerate(self._first_stage(index)):
                for stage in stages:
                    digest = stage(digest, index)
                self._test(digest, index, I64(set_))

    def _passes(self, first: ir.Value, groups: ir.Value, stages: list[Stage]) -> None:
        """Take all groups through one stage after the other, digests in memory between them."""
        b, sets = self.b, self.variant.sets
        with loop(b, I64(0), groups, 1) as group:
            for set_, digest in enumerate(self._first_stage(self._index(first, group.index))):
                self._keep(b.add(b.mul(group.index, I64(sets)), I64(set_)), digest)
        for stage in stages:
            with loop(b, I64(0), b.mul(groups, I64(sets)), 1) as slot:
                index = self._index(first, b.udiv(slot.index, I64(sets)))
                digest = stage(self._kept(slot.index), index)
                if stage is stages[-1]:
                    self._test(digest, index, b.urem(slot.index, I64(sets)))
                else:
                    self._keep(slot.index, digest)

    def _index(self, first: ir.Value, group: ir.Value) -> ir.Value:
        return self.b.add(first, self.b.mul(group, I64(self.variant.step)))

    def _keep(self, slot: ir.Value, digest: State) -> None:
        for part, place in zip(self.e.spread(digest), self._places(slot), strict=True):
            store(self.b, part, place, self.e.lanes * WORD_BYTES)

    def _kept(self, slot: ir.Value) -> State:
        e = self.e
        return e.gathered([load(self.b, e.type, place, e.lanes * WORD_BYTES) for place in self._places(slot)])

    def _places(self, slot: ir.Value) -> list[ir.Value]:
        b, words = self.b, self.hashes * self.e.streams * self.e.lanes
        base = word_at(b, self.digests, b.mul(slot, I64(words)))
        return [word_at(b, base, at) for at in range(0, words, self.e.lanes)]

    def _first_stage(self, index: ir.Value) -> list[State]:
        """Hash the first block of a row, from each of its states."""
        block = self._block(0, index)
        if self.variant.sets > 1:
            return self.blocks.compress_each(self.states, block)
        return [self.blocks.compress(self.states[0], block, whole=bool(self._stages()))]

    def _stages(self) -> list[Stage]:
        """What is done to a digest after the first stage."""
        variant = self.variant
        stages = [self._further_block(number) for number in range(1, len(variant.varying))]
        if variant.tail:
            stages.append(self._tail)
        if variant.twice:
            stages.append(self._second_hash)
        return stages

    def _further_block(self, number: int) -> Stage:
        def stage(state: State, index: ir.Value) -> State:
            return self.blocks.compress(state, self._block(number, index), whole=True)

        return stage

    def _tail(self, state: State, _index: ir.Value) -> State:
        return self.blocks.compress_prepared(state, self._pointer("tail"), self.given["tail_blocks"])

    def _second_hash(self, digest: State, _index: ir.Value) -> State:
        padded = [
            *digest,
            *words_of(padding(WORD_BYTES * len(digest))[: WORD_BYTES * (BLOCK_WORDS - len(digest))]).tolist(),
        ]
        return self.blocks.compress(self.variant.function.initial, padded, whole=False)

    def _block(self, number: int, index: ir.Value) -> list[Word]:
        """A block of the row, with what the last digits add to it."""
        words: list[Word] = list(self.words[BLOCK_WORDS * number : BLOCK_WORDS * (number + 1)])
        column = sum(len(varying) for varying in self.variant.varying[:number])
        for at in self.variant.varying[number]:
            words[at] = self.e.add(words[at], self._column(column, index))
            column += 1
        return words

    def _column(self, number: int, index: ir.Value) -> Lanes:
        b, e = self.b, self.e
        start = b.add(b.mul(self.given["column_words"], I64(number)), index)
        places = [
            word_at(b, self._pointer("columns"), b.add(start, I64(at)))
            for at in range(0, self.variant.step, e.lanes)
        ]
        return Lanes(tuple(load(b, e.type, place, WORD_BYTES) for place in places))

    def _test(self, digest: State, index: ir.Value, set_: ir.Value) -> None:
        """Put the group on record if any lane passes a test."""
        b, e = self.b, self.e
        mask, value, limit, *patterns = self.tests
        words = [self._as_number(e.stream(digest[self.variant.word], stream)) for stream in range(e.streams)]
        passed = [b.icmp_unsigned("<=", b.and_(b.xor(word, value), mask), limit) for word in words]
        for some, wanted in zip(patterns[::2], patterns[1::2], strict=True):
            passed += [b.icmp_unsigned("==", b.and_(word, some), wanted) for word in words]
        masks = [b.bitcast(each, ir.IntType(e.lanes)) for each in passed]
        with b.if_then(b.icmp_unsigned("!=", reduce(b.or_, masks), masks[0].type(0)), likely=False):
            self._record([b.trunc(self.row, I32), b.trunc(index, I32), b.trunc(set_, I32)], masks)

    def _as_number(self, word: ir.Value) -> ir.Value:
        """The tested word as rules see it: the last one begins a little-endian number."""
        if self.variant.word == 0:
            return word
        kind = "i32" if self.e.lanes == 1 else f"v{self.e.lanes}i32"
        return self.b.call(declared(self.b, f"llvm.bswap.{kind}", word.type, word.type), [word])

    def _record(self, place: list[ir.Value], masks: list[ir.Value]) -> None:
        b = self.b
        number, masks = b.load(self.records), [b.zext(mask, I32) for mask in masks]
        record = word_at(b, self._pointer("records"), b.mul(number, I64(self.variant.record_words)))
        for at, value in enumerate([*place, *masks]):
            store(b, value, word_at(b, record, at), WORD_BYTES)
        b.store(b.add(number, I64(1)), self.records)
        bits = declared(b, "llvm.ctpop.i32", I32, I32)
        survivors = reduce(b.add, [b.call(bits, [mask]) for mask in masks[: self.e.streams]])
        found = self._in_frame("found")
        b.store(b.add(b.load(found), b.zext(survivors, I64)), found)

    def _in_frame(self, name: str) -> ir.Value:
        return self.b.gep(self.frame, [I64(FRAME.index(name))])

    def _pointer(self, name: str, builder: ir.IRBuilder | None = None) -> ir.Value:
        return (builder or self.b).inttoptr(self.given[name], I32.as_pointer())
