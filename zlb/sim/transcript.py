"""Everything that happened, one line an effect, and its digest: same seed, same digest, in any process."""

from __future__ import annotations

import hashlib
from collections import deque


class Transcript:
    """Digests every line; keeps the last `keep` of them for a person."""

    def __init__(self, keep: int) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self.lines: deque[str] = deque(maxlen=keep)
        self.count = 0

    def add(self, now: int, who: str, what: object) -> None:
        """Note that `what` happened to `who`."""
        line = f"{now / 1e9:.6f} {who} {what!r}"
        self._digest.update(line.encode())
        self.lines.append(line)
        self.count += 1

    @property
    def digest(self) -> str:
        """Of all lines so far."""
        return self._digest.hexdigest()
