"""The life of a process that serves others, on stdout: a line an event, for people or as JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from zlb.core.events import Event, NeighbourLost, NeighbourRefused, NeighbourUp, Notice, NoTracker


class Journal:
    """What peers and trackers have in common: who comes and goes, who is refused, notices."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose
        self._refusals: dict[str, str] = {}

    def on_event(self, event: Event | Any) -> None:
        """Write what people or programs may want to know."""
        match event:
            case NeighbourUp(node):
                self._refusals.pop(node, None)
                self.write("joined", f"{node} joined", node=node)
            case NeighbourLost(node, reason):
                self.write("left", f"{node} left: {reason}", node=node, reason=reason)
            case NeighbourRefused(where, code, detail):
                if self._refusals.get(where) != detail:  # it is tried again and again: once is enough
                    self._refusals[where] = detail
                    self.write(
                        "refused", f"{where} refused: {detail}", where=where, code=int(code), detail=detail
                    )
            case NoTracker(text) | Notice(text):
                self.write("notice", text, text=text)

    def bye(self) -> None:
        """The last line."""
        self.write("stopped", "bye")

    def write(self, event: str, line: str, **fields: int | str) -> None:
        """A line, or the same with its fields as JSON."""
        if self.quiet:
            return
        if self.as_json:
            line = json.dumps({"event": event, **fields}, separators=(",", ":"))
        elif self.verbose:
            line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}"
        click.echo(line)
