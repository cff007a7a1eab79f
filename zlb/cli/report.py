"""A job's events as lines: `integer<TAB>digest` or JSON for stdout, words and a summary for stderr."""

from __future__ import annotations

import json

import click

from zlb.cli import human
from zlb.cli.asked import Asked
from zlb.cli.headers import solved
from zlb.cli.screen import Screen
from zlb.core.errors import ExitCode
from zlb.core.events import (
    Event,
    HitFound,
    JobEnded,
    JobProgress,
    JobWaits,
    NeighbourLost,
    NeighbourRefused,
    NeighbourUp,
    Notice,
    WorkerAccused,
    WorkerView,
)
from zlb.core.ids import NodeId
from zlb.core.limits import SECOND
from zlb.protocols.credit import split

PROGRESS_JSON_NS = SECOND
CREDITED_MAX = 8
"""Peers named in the summary."""


def outcome(ended: JobEnded) -> str:
    """The status users read: the core's, but a job that ran out of time says so."""
    return "timeout" if (ended.status, ended.detail) == ("cancelled", "timeout") else ended.status


def exit_code(ended: JobEnded) -> ExitCode:
    """What a command ends with after that job."""
    if (ended.status, ended.detail) == ("cancelled", "interrupted"):
        return ExitCode.INTERRUPTED
    codes = {
        "found": ExitCode.FOUND,
        "complete": ExitCode.FOUND,
        "exhausted": ExitCode.EXHAUSTED,
        "timeout": ExitCode.TIMEOUT,
    }
    return codes.get(outcome(ended), ExitCode.FAILED)


def zero_bits(digest: bytes, match: str) -> int:
    """How many zero bits the digest has where `match` looks for them."""
    as_number = int.from_bytes(digest, "little" if match == "bitcoin" else "big")
    if match == "trailing" and as_number:
        return (as_number & -as_number).bit_length() - 1
    return 8 * len(digest) - as_number.bit_length()


class Results:
    """What stdout gets: here a line per hit and nothing else."""

    def __init__(self, asked: Asked, screen: Screen) -> None:
        self.asked = asked
        self.screen = screen

    def accepted(self, peers: int) -> None:
        """Peers have answered, and the job begins."""

    def hit(self, event: HitFound) -> None:
        """A hit; of a rolled header its nonce, and the version as a third column."""
        puzzle, columns = self.asked.puzzle, [str(event.n), event.digest.hex()]
        if puzzle.header is not None and puzzle.rolled is not None:
            found = solved(puzzle.header, event.n)
            columns = [str(found.nonce), event.digest.hex(), f"{found.version:08x}"]
        self.screen.write("\t".join(columns))

    def progress(self, event: JobProgress) -> None:
        """The job moves on."""

    def accused(self, event: WorkerAccused) -> None:
        """A peer was found out."""

    def ended(self, event: JobEnded) -> None:
        """The last word."""


class JsonResults(Results):
    """One JSON object per line; the fields are documented in docs/cli.md. Integers are strings."""

    def __init__(self, asked: Asked, screen: Screen, with_progress: bool) -> None:
        super().__init__(asked, screen)
        self._with_progress = with_progress
        self._progress_at_ns = 0

    def accepted(self, peers: int) -> None:
        """See docs/cli.md."""
        puzzle = self.asked.puzzle
        fields: dict[str, object] = {
            "range": [str(puzzle.ranges[0][0]), str(puzzle.ranges[-1][1])],
            "expected_hits": puzzle.expected_hits,
            "peers": peers,
        }
        if len(puzzle.ranges) > 1:
            fields["ranges"] = [[str(start), str(stop)] for start, stop in puzzle.ranges]
        if puzzle.rolled is not None:
            fields["versions"] = puzzle.rolled
        if self.asked.name is not None:
            fields["name"] = self.asked.name
        self._write("accepted", fields)

    def hit(self, event: HitFound) -> None:
        """See docs/cli.md."""
        puzzle = self.asked.puzzle
        bits = None if puzzle.match is None else zero_bits(event.digest, puzzle.match)
        fields: dict[str, object] = {"n": str(event.n)}
        if puzzle.header is not None:
            found = solved(puzzle.header, event.n)
            fields |= {"nonce": str(found.nonce), "version": f"{found.version:08x}"}
            fields["header"] = found.header.hex()
        fields |= {"digest": event.digest.hex(), "bits": bits}
        self._write("hit", fields | ({"peer": event.worker} if event.worker else {}))

    def progress(self, event: JobProgress) -> None:
        """See docs/cli.md; once a second, if wanted at all."""
        if not self._with_progress or event.elapsed_ns < self._progress_at_ns:
            return
        self._progress_at_ns = event.elapsed_ns + PROGRESS_JSON_NS
        fields: dict[str, object] = {
            "done": str(event.done),
            "size": str(event.size),
            "hits": str(event.hits),
        }
        fields |= {"elapsed_s": _seconds(event.elapsed_ns), "hashrate": _per_s(event.done, event.elapsed_ns)}
        self._write("progress", fields | ({} if self.asked.tracked else {"peers": len(event.workers)}))

    def ended(self, event: JobEnded) -> None:
        """See docs/cli.md."""
        fields: dict[str, object] = {"status": outcome(event)}
        if outcome(event) == "failed":
            fields["detail"] = event.detail
        fields |= {"tested": str(event.tested), "recomputed": str(event.recomputed)}
        fields |= {
            "elapsed_s": _seconds(event.elapsed_ns),
            "hashrate": _per_s(event.tested, event.elapsed_ns),
        }
        if not self.asked.tracked:
            parts = rewards(event)
            fields["credit"] = [credited(view, parts) for view in event.workers if view.credit]
        self._write("done", fields)

    def accused(self, event: WorkerAccused) -> None:
        """See docs/cli.md."""
        self._write("accused", {"peer": event.node, "why": event.why, "again": str(event.again)})

    def _write(self, event: str, fields: dict[str, object]) -> None:
        line = {"event": event, "job": self.asked.job.id, **fields}
        self.screen.write(json.dumps(line, separators=(",", ":"), allow_nan=False))


class Report:
    """Takes a job's events as they come; `end` has the last word, which a job that reached no peer never gets."""

    def __init__(self, results: Results, dialled: int, quiet: bool, verbose: bool) -> None:
        self.refusals: list[str] = []
        self._results = results
        self._asked, self._screen = results.asked, results.screen
        self._dialled = dialled
        self._quiet, self._verbose = quiet, verbose
        self._neighbours: dict[str, None] = {}
        self._accepted = False

    def on_event(self, event: Event) -> None:
        """Say what is to be said about it."""
        match event:
            case HitFound():
                self.accept(len(self._neighbours))
                self._results.hit(event)
            case JobProgress():
                if self._neighbours or self._accepted:
                    self.accept(len(self._neighbours))
                    self._results.progress(event)
                self._screen.update(event)
            case NeighbourUp(node):
                self._neighbours[node] = None
                self._accept_if_all_answered()
                self._murmur(f"{node} is with us")
            case NeighbourLost(node, reason):
                self._neighbours.pop(node, None)
                self._murmur(f"{node} left: {reason}")
            case NeighbourRefused(where, _, detail):
                self.refusals.append(f"{where} refused: {detail}")
                self._screen.say(self.refusals[-1])
                self._accept_if_all_answered()
            case WorkerAccused(_, node, why, again):
                self._results.accused(event)
                if not self._quiet:
                    self._screen.say(human.accusation(node, why, "this job", again))
            case JobWaits(_, why) if not self._quiet:
                self._screen.say(why)
            case Notice(text):
                self._murmur(text)
            case JobEnded():
                self._screen.close()

    def accept(self, peers: int) -> None:
        """So many peers know of it; of a job at trackers, may come to do so. Said once."""
        if not self._accepted:
            self._accepted = True
            self._results.accepted(peers)

    def end(self, ended: JobEnded) -> None:
        """The summary, after everything else."""
        self._screen.close()
        self.accept(len(self._neighbours))
        self._results.ended(ended)
        if not self._quiet:
            for line in summary(self._asked, ended):
                self._screen.say(line)

    def _accept_if_all_answered(self) -> None:
        """Peers answer within milliseconds of each other; whoever does not is not waited for, see `JobProgress`."""
        if self._neighbours and len(self._neighbours) + len(self.refusals) >= self._dialled:
            self.accept(len(self._neighbours))

    def _murmur(self, line: str) -> None:
        if self._verbose:
            self._screen.say(line)


def summary(asked: Asked, ended: JobEnded) -> list[str]:
    """One line on how it went, and one more if work was done twice."""
    status = outcome(ended)
    good = status in ("found", "complete")
    why = f" ({ended.detail})" if ended.detail and status != "timeout" else ""
    workers = sum(worker.tested > 0 for worker in ended.workers)
    by_whom = "" if asked.tracked else f"{human.count(workers, 'peer')}, "
    elapsed_s = ended.elapsed_ns / SECOND
    lines = [
        f"{asked.title}: {click.style(status, fg='green' if good else 'yellow')}{why}, "
        f"{human.count(ended.hits, 'hit')}; {human.number(ended.tested)} integers in {human.seconds(elapsed_s)}, "
        f"{human.rate(_per_s(ended.tested, ended.elapsed_ns))}, {by_whom}"
        f"{human.share(ended.done, asked.puzzle.size)} of the range"
    ]
    by_credit = sorted(rewards(ended).items(), key=lambda item: (-item[1], item[0]))
    if len(by_credit) > 1:
        told = (f"{node} {ppm / 10_000:.4f} %" for node, ppm in by_credit[:CREDITED_MAX])
        more = f", and {len(by_credit) - CREDITED_MAX} more" if len(by_credit) > CREDITED_MAX else ""
        lines.append(f"credit: {', '.join(told)}{more}")
    if ended.recomputed:
        done = "hashed" if asked.puzzle.hashes else "tested"
        lines.append(f"about {human.count(ended.recomputed, 'integer')} were {done} twice")
    return lines


def rewards(ended: JobEnded) -> dict[NodeId, int]:
    """How a reward would be split, in parts per million: by what each peer has contributed."""
    return split({view.node: view.credit for view in ended.workers if view.credit})


def credited(view: WorkerView, parts: dict[NodeId, int]) -> dict[str, object]:
    """A peer's line of the credit, see docs/cli.md."""
    return {"peer": view.node, "integers": str(view.credit), "reward_ppm": parts[view.node]}


def _seconds(elapsed_ns: int) -> float:
    return round(elapsed_ns / SECOND, 6)


def _per_s(integers: int, elapsed_ns: int) -> float:
    return round(integers * SECOND / elapsed_ns, 1) if elapsed_ns > 0 else 0.0
