"""The disk of one machine: records are written first, and durable once a sync of them has ended well."""

from __future__ import annotations

import random
from collections import Counter

from zlb.core.work import Record
from zlb.sim.weather import Weather

KEPT = 0.5
"""Probability that a transaction whose sync did not end well is on the disk all the same."""


class Disk:
    """Survives the crashes of its machine. What one sync covers is found again all or not at all.

    So does SQLite's write-ahead log: one transaction a sync, and one that is torn is dropped whole by the next start.
    Without dice it is a disk that needs no sync: every record is durable as soon as it is written.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.durable: list[Record] = []
        self.counts: Counter[str] = Counter()
        """What befell it, for those who want to know that it did."""
        self._rng = rng
        self._syncing: list[Record] = []
        self._doubtful: list[Record] = []

    @property
    def at_once(self) -> bool:
        """Whether nothing has to wait for a sync."""
        return self._rng is None

    def write(self, record: Record) -> None:
        """Keep a record that needs no sync."""
        assert self.at_once
        self.durable.append(record)

    def begin(self, records: list[Record], weather: Weather | None) -> int:
        """Sync `records`, in order, as one transaction; how long that will take, in ns."""
        assert self._rng is not None and records and not self._syncing
        self._syncing = records
        self.counts["syncs"] += 1
        self.counts["group syncs"] += len(records) > 1
        return self._rng.randint(0, weather.sync_ns_max) if weather is not None else 0

    def end(self, weather: Weather | None) -> bool:
        """The sync is over; false if it failed: then only a start from what `read` finds is safe."""
        assert self._rng is not None
        if weather is not None and self._rng.random() < weather.sync_fails:
            self.counts["failed syncs"] += 1
            return False
        self.durable += self._syncing
        self._syncing = []
        return True

    def crash(self, written: int) -> None:
        """The machine is down: of `written` records only those of a sync under way may be on the disk, or not."""
        self.counts["unsynced suffixes lost"] += written > len(self._syncing)
        if self._syncing:
            self.counts["transactions in doubt"] += 1
            self._doubtful, self._syncing = self._syncing, []

    def read(self) -> list[Record]:
        """What is found at a start, durable from here on: a store syncs what it finds before anyone acts on it."""
        if self._doubtful and self._rng is not None and self._rng.random() < KEPT:
            self.counts["transactions found again"] += 1
            self.durable += self._doubtful
        self._doubtful = []
        return list(self.durable)
