"""What the trackers tell of jobs and peers, as lines for people and as objects for programs (docs/cli.md)."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from zlb.cli import human
from zlb.cli.asked import Asked
from zlb.cli.plan import kernel_rows, stop_words
from zlb.core.limits import SECOND
from zlb.protocols.commands import OPEN, Submit
from zlb.protocols.queries import JobLine, PeerLine

JOB_HEAD = ("JOB", "STATUS", "DONE", "HITS", "PRIORITY", "COORDINATOR", "AGE", "NAME")
PEER_HEAD = ("PEER", "SLOTS", "MEMBER FOR", "ENDPOINT", "COORDINATES")
NOTHING = "-"


def jobs_lines(lines: list[JobLine]) -> list[str]:
    """A table."""
    now_ns = time.time_ns()
    rows = [
        (
            line.job,
            line.status.value,
            human.share(line.done, line.size),
            human.number(line.hits),
            str(line.priority),
            line.coordinator or NOTHING,
            human.seconds(_age_ns(line, now_ns) / SECOND),
            human.text(line.name),
        )
        for line in lines
    ]
    return human.table(JOB_HEAD, rows)


def peers_lines(lines: list[PeerLine]) -> list[str]:
    """A table."""
    rows = [
        (
            line.node,
            str(line.slots),
            human.seconds(line.member_ns / SECOND),
            human.text(line.endpoint) or NOTHING,
            " ".join(line.jobs) or NOTHING,
        )
        for line in lines
    ]
    return human.table(PEER_HEAD, rows)


def job_lines(line: JobLine, spec: Submit, asked: Asked) -> list[str]:
    """One job in full."""
    now_ns = time.time_ns()
    puzzle = asked.puzzle
    hits = human.count(line.hits, "hit")
    detail = f" ({human.text(line.detail)})" if line.detail else ""
    rows = [
        ("job", f"{line.job}{f', {asked.name}' if asked.name else ''}"),
        ("status", f"{line.status.value}{detail}, priority {line.priority}"),
        ("range", " and ".join(f"[{start}, {stop})" for start, stop in puzzle.ranges)),
        *kernel_rows(puzzle),
        ("stop", stop_words(asked)),
        ("done", f"{human.share(line.done, line.size)}: {line.done} of {line.size} integers, {hits}"),
        ("tested", f"{line.tested} integers, about {line.recomputed} of them twice"),
    ]
    if line.status in OPEN:
        who = f"coordinated by {line.coordinator}, epoch {line.epoch}" if line.coordinator else "nobody yet"
        rows.append(("peer", who))
    if line.submitted_wall_ns:
        age = human.seconds(_age_ns(line, now_ns) / SECOND)
        rows.append(("age", f"{age}, submitted {_submitted(line)}"))
    if line.status not in OPEN:
        rows.append(("took", human.seconds(line.elapsed_ns / SECOND)))
    elif spec.within_ns:
        left_s = (spec.within_ns - line.elapsed_ns) / SECOND
        rows.append(("fails", f"if not done within another {human.seconds(max(left_s, 0))}"))
    return [f"{label:7} {text}" for label, text in rows]


def job_json(line: JobLine, spec: Submit | None = None, asked: Asked | None = None) -> str:
    """A job as one JSON object; with what was asked for, if given."""
    fields: dict[str, object] = {
        "event": "job",
        "job": line.job,
        "name": line.name,
        "kernel": line.kernel,
        "status": line.status.value,
        "detail": line.detail,
        "priority": line.priority,
        "coordinator": line.coordinator or None,
        "epoch": line.epoch,
        "size": str(line.size),
        "done": str(line.done),
        "hits": str(line.hits),
        "tested": str(line.tested),
        "recomputed": str(line.recomputed),
        "elapsed_s": line.elapsed_ns / SECOND,
        "submitted": _submitted(line) if line.submitted_wall_ns else None,
    }
    if spec is not None and asked is not None:
        fields["ranges"] = [[str(start), str(stop)] for start, stop in asked.puzzle.ranges]
        if asked.puzzle.rolled is not None:
            fields["versions"] = asked.puzzle.rolled
        fields |= {"stop": spec.rule.value, "hits_wanted": str(spec.hits_wanted)}
        fields["deadline_s"] = spec.within_ns / SECOND if spec.within_ns else None
    return _object(fields)


def peer_json(line: PeerLine) -> str:
    """A peer as one JSON object."""
    return _object(
        {
            "event": "peer",
            "node": line.node,
            "endpoint": line.endpoint or None,
            "slots": line.slots,
            "member_s": line.member_ns / SECOND,
            "jobs": list(line.jobs),
        }
    )


def _object(fields: dict[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _age_ns(line: JobLine, now_ns: int) -> int:
    """Since it was submitted, as far as two wall clocks agree."""
    return max(now_ns - line.submitted_wall_ns, 0) if line.submitted_wall_ns else line.elapsed_ns


def _submitted(line: JobLine) -> str:
    """By its submitter's wall clock, which may say anything."""
    try:
        when = datetime.fromtimestamp(line.submitted_wall_ns // SECOND, UTC)
    except (OverflowError, ValueError, OSError):
        return "at some time"
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
