"""How fast one slot is: a search that cannot hit, on all slots at once, made longer until it takes the aimed time.

The first round also warms the kernel up and is never the one that counts, however long it took.
"""

from __future__ import annotations

from collections.abc import Iterator

from zlb.core.effects import Effect
from zlb.core.events import Notice
from zlb.core.ids import RunId
from zlb.core.limits import SECOND
from zlb.core.node import Core
from zlb.core.work import Failed, Outcome, Rate, Search, Searched

FIRST_COUNT = 1 << 14
GROWTH_MAX = 64


class Measurement(Core):
    """Measures `kernel` on `slots` slots for about `aim_ns`; `rate` is None until then, 0 if it cannot be measured."""

    def __init__(self, kernel: str, params: bytes, slots: int, aim_ns: int, run_ids: Iterator[int]) -> None:
        super().__init__()
        self.kernel, self.params, self.slots, self.aim_ns = kernel, params, slots, aim_ns
        self.rate: float | None = None
        self._run_ids = run_ids
        self._count = FIRST_COUNT
        self._warm = False
        self._out_runs: dict[RunId, None] = {}
        self._busy_ns: list[int] = []

    def owns(self, run_id: RunId) -> bool:
        """Whether the run is one of ours."""
        return run_id in self._out_runs

    def on_start(self, now: int) -> list[Effect]:
        """Start the first round."""
        self._round()
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        """One slot is through; when all are, either that was long enough or the next round is longer."""
        del self._out_runs[run_id]
        match outcome:
            case Searched(_, _, busy_ns):
                self._busy_ns.append(max(busy_ns, 1))
            case Failed(detail):
                if self.rate is None:
                    self._emit(Notice(f"rate of kernel {self.kernel} not measured: {detail}"))
                self.rate = 0.0
        if not self._out_runs and self.rate is None:
            self._judge()
        return self._flush()

    def on_stop(self, now: int) -> list[Effect]:
        """Give up."""
        for run_id in self._out_runs:
            self._stop(run_id)
        self.rate = self.rate or 0.0
        return self._flush()

    def _round(self) -> None:
        self._busy_ns.clear()
        for _ in range(self.slots):
            run_id = RunId(next(self._run_ids))
            self._out_runs[run_id] = None
            self._run(run_id, Search(self.kernel, self.params, 0, self._count, 1))

    def _judge(self) -> None:
        mean_ns = sum(self._busy_ns) // len(self._busy_ns)
        if self._warm and 2 * mean_ns >= self.aim_ns:
            self.rate = self._count * SECOND / mean_ns
            self._persist(Rate(self.kernel, self.rate))
            return
        self._warm = True
        self._count = max(1, int(self._count * min(GROWTH_MAX, self.aim_ns / mean_ns)))
        self._round()
