"""A SHA-256 puzzle cut to what the compiled loop takes: whole prefix blocks absorbed, one number of digits at a time.

The loop counts from zero within a piece and never sees the integers themselves, so nothing in it can overflow at
2^63 or 2^64. Every hit it reports is hashed again with hashlib, which supplies the digest and leaves no way for a
fault of the compiled code to put a false hit into the world.
"""

import numpy as np
import numpy.typing as npt

from zlb.kernels import sha256_loops as loops
from zlb.kernels.interface import Found, Hit, KernelError
from zlb.kernels.matching import words
from zlb.kernels.sha256 import Puzzle

BLOCK_BYTES = 64

# Hits come back in batches of this size: 32 KiB of buffer however many the caller is willing to take.
HITS_PER_CALL = 4096

# Offsets in a piece are int64; a full 64-bit range is searched in pieces of this size (years each on one thread).
PIECE = 2**48


class Sha256Search:
    """Implements `Search` for one puzzle."""

    def __init__(self, puzzle: Puzzle) -> None:
        self._puzzle = puzzle
        absorbed = len(puzzle.prefix) // BLOCK_BYTES * BLOCK_BYTES
        self._head = puzzle.prefix[absorbed:]
        self._midstate = loops.absorb(_words_of(puzzle.prefix[:absorbed]))
        self._successors = np.frombuffer(puzzle.encoding.successors(), np.uint8)
        rule = puzzle.rule
        self._bounds = np.array([words(rule.mask), words(rule.limit)], np.uint32)

    def search(self, start: int, stop: int, stop_flag: npt.NDArray[np.uint8], hits_max: int) -> Found:
        """See `Search.search`."""
        self._puzzle.require_fit(start, stop)
        if hits_max < 1:
            raise KernelError("hits_max is at least 1")
        hits: list[Hit] = []
        for first, end in self._puzzle.encoding.segments(start, stop):
            at = first
            while at < end:
                if stop_flag[0]:
                    return Found(at, tuple(hits))
                room = min(hits_max - len(hits), HITS_PER_CALL)
                tested, offsets = self._search_piece(at, min(end - at, PIECE), stop_flag, room)
                hits.extend(self._proven(at + offset) for offset in offsets)
                at += tested
                if len(hits) >= hits_max:
                    return Found(at, tuple(hits))
        return Found(stop, tuple(hits))

    def _search_piece(
        self, first: int, count: int, stop_flag: npt.NDArray[np.uint8], room: int
    ) -> tuple[int, list[int]]:
        """Test up to `count` integers of equal length from `first`: how many were tested, and which (less `first`)."""
        puzzle = self._puzzle
        number = puzzle.encoding.encode(first)
        fastest, step = puzzle.encoding.fastest_wheel(len(number))
        message_bytes = len(puzzle.prefix) + len(number) + len(puzzle.suffix)
        offsets = np.empty(room, np.int64)
        tested, found = loops.search(
            self._midstate,
            _words_of(self._head + number + puzzle.suffix + padding(message_bytes)),
            len(self._head) + fastest,
            step,
            len(number),
            self._successors,
            puzzle.twice,
            self._bounds,
            puzzle.rule.byteorder == "little",
            puzzle.rule.telling_word(),
            count,
            offsets,
            stop_flag,
        )
        return tested, offsets[:found].tolist()

    def _proven(self, n: int) -> Hit:
        digest = self._puzzle.check(n)
        if digest is None:
            raise RuntimeError(f"the compiled SHA-256 loop reported {n}, which hashlib does not confirm")
        return Hit(n, digest)


def padding(message_bytes: int) -> bytes:
    """What FIPS 180-4 §5.1.1 appends to a message: a one bit, zeros, the length in bits as 64-bit integer."""
    zeros = -(message_bytes + 1 + 8) % BLOCK_BYTES
    return b"\x80" + bytes(zeros) + (8 * message_bytes).to_bytes(8, "big")


def _words_of(blocks: bytes) -> npt.NDArray[np.uint32]:
    return np.frombuffer(blocks, ">u4").astype(np.uint32)
