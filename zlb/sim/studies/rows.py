"""What studies have in common: rows of one dataclass, as a table for people, as CSV for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

Row = Any
"""A frozen dataclass; all rows of a study are of one."""
Say = Callable[[str], None]
"""Gets a line whenever a part of a study is done: some take minutes."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How a field of a row is shown: its heading, and its value as text, such as `{:.2f}`."""

    heading: str
    form: str = "{}"

    def text(self, value: object) -> str:
        """The value as people read it; nothing for None."""
        return "" if value is None else self.form.format(value)


class Study(NamedTuple):
    """One of `zlb-sim study`: what it asks, its columns by field, how it is run and drawn.

    `draw` gets rows and matplotlib axes.
    """

    name: str
    question: str
    columns: dict[str, Shown]
    run: Callable[[Say], Sequence[Row]]
    draw: Callable[[Sequence[Row], Any], None]

    def cells(self, row: Row) -> list[str]:
        """A row as people read it."""
        return [shown.text(getattr(row, name)) for name, shown in self.columns.items()]


def as_csv(rows: Sequence[Row]) -> str:
    """All fields of all rows, a heading first; numbers in full."""
    out = io.StringIO()
    names = [field.name for field in fields(rows[0])]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return out.getvalue()
