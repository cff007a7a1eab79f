"""Numbers for people: `4.29 G`, `154 M/s`, `1 h 05 min`, `12.3 %`. Machines get `--json`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from zlb.core.limits import SECOND

SPEED_WINDOW_NS = 5 * SECOND
"""Workers report once a second, so that a shorter window would show the reports and not the speed."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def number(value: float) -> str:
    """Three digits and a power of thousand; exact below a million."""
    if value == int(value) and abs(value) < 10**6:
        return f"{int(value)}"
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            whole = 999.5 * size <= value < 1e6 * size
            return f"{value / size:.0f} {letter}" if whole else f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def rate(per_s: float) -> str:
    """Integers a second."""
    shown = number(per_s)
    return f"{shown}/s" if shown[-1].isalpha() else f"{shown} /s"


def seconds(value: float) -> str:
    """A time span, to about two digits."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 0.1:
        return f"{value * 1e3:.0f} ms"
    if value < 10:
        return f"{value:.2f} s"
    if value < 2 * _MINUTE:
        return f"{value:.0f} s"
    value = round(value)  # or 239.6 would be 3 min 60 s
    if value < _HOUR:
        return f"{value // _MINUTE:.0f} min {value % _MINUTE:02.0f} s"
    if value < _DAY:
        return f"{value // _HOUR:.0f} h {value % _HOUR // _MINUTE:02.0f} min"
    if value < 1000 * _DAY:
        return f"{value // _DAY:.0f} d {value % _DAY // _HOUR:02.0f} h"
    return f"{number(value / (365.25 * _DAY))} years"


def share(part: float, whole: float) -> str:
    """Part of a whole in per cent."""
    return percent(part / whole if whole else 1.0)


def percent(fraction: float) -> str:
    """A fraction in per cent; 0 % and 100 % only if it is so."""
    if 0 < fraction < 0.0005:
        return "< 0.1 %"
    if 0.9995 < fraction < 1:
        return "> 99.9 %"
    return f"{100 * fraction:.1f} %" if 0 < fraction < 1 else f"{100 * fraction:.0f} %"


def count(n: int, noun: str) -> str:
    """`1 hit`, `2 hits`."""
    return f"{number(n)} {noun}{'' if n == 1 else 's'}"


def accusation(node: str, why: str, job: str, again: int) -> str:
    """That a peer was found out, and what that means for the job."""
    redone = f", {count(again, 'integer')} of it again" if again else ""
    return f"{node} {why}: gets no more of {job}{redone}"


def text(words: str) -> str:
    """What somebody else wrote, with nothing in it that a terminal would obey."""
    return words if words.isprintable() else ascii(words)[1:-1]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines in columns, the last of which is as wide as it likes."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    widths[-1] = 0
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


class Speed:
    """The speed of late, from a count that grows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()

    def after(self, elapsed_ns: int, done: int) -> float:
        """`done` integers after `elapsed_ns`: integers a second over the last seconds."""
        self._seen.append((elapsed_ns, done))
        while len(self._seen) > 2 and elapsed_ns - self._seen[0][0] > SPEED_WINDOW_NS:
            self._seen.popleft()
        first_ns, first_done = self._seen[0]
        if elapsed_ns <= first_ns:
            return 0.0
        return max(done - first_done, 0) * SECOND / (elapsed_ns - first_ns)
