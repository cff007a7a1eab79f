"""A job at the trackers, as a command: put into their log, followed, waited for, looked at."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from zlb.cli import human, run, trackers
from zlb.cli.asked import Asked
from zlb.cli.certify import Certifying
from zlb.cli.follow import INTERRUPTED, TIMEOUT, Follower, describe, standing
from zlb.cli.oracles import checker
from zlb.cli.recalled import recalled
from zlb.cli.report import JsonResults, Report, Results, exit_code
from zlb.cli.screen import Screen, open_screen
from zlb.cli.types import Verification
from zlb.core.config import Method
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import Event, JobEnded
from zlb.core.ids import Endpoint, JobId, NodeId
from zlb.core.limits import PRIORITY_DEFAULT
from zlb.core.work import Row
from zlb.protocols import commands, queries
from zlb.protocols.commands import Denied

NOBODY = "nobody"
"""Coordinated a job that ended before any peer did."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a job at trackers has beside what is searched. `within_ns`: 0 is without end."""

    priority: int = PRIORITY_DEFAULT
    within_ns: int = 0
    chunk_ns: int = 0
    chunk_count: int = 0
    verify: Method = Method.SHARES
    copies: int = 1
    certified: bool = False


@dataclass(frozen=True, slots=True)
class Manner:
    """How results and progress are told, as on the command line."""

    json: bool
    progress: str
    quiet: bool
    verbose: bool


def submit(
    asked: Asked,
    endpoints: tuple[Endpoint, ...],
    order: Order,
    manner: Manner,
    detach: bool,
    timeout_ns: int | None,
    certificate: Certifying | None,
) -> int:
    """Put the job into the log, and unless `detach` follow it; interrupted, timed out or unread, it is cancelled."""
    asked = replace(asked, tracked=True)
    command = _command(asked, order)
    trackers.require_fit(command)
    with trackers.Trackers(endpoints) as asking, _reported(asked, manner) as (screen, report):
        listen = report.on_event if certificate is None else certificate.heard(report.on_event)
        follower = _follower(asking, asked, screen, listen, timeout_ns)
        with run.signals(follower.leave):
            _enter(asking, command, follower)
            if (
                detach and not manner.json
            ):  # before anything else: it is safe, and this is how to find it again
                screen.write(asked.job.id)
            peers = _peers(asking)
            if peers == 0 and not manner.quiet:
                screen.say("no peer has joined yet: the job waits for one")
            if manner.json or not detach:
                report.accept(peers or 0)
            if detach and certificate is not None and not manner.quiet:
                screen.say(f"certificate: zlb result {asked.job.id} --certificate {certificate.path}")
            if detach:
                return ExitCode.FOUND
            ended = follower.follow() or _cancelled(follower, asked)
        report.end(ended)
        _certify(asking, ended, certificate, screen, manner)
        return exit_code(ended)


def wait(job: JobId, endpoints: tuple[Endpoint, ...], manner: Manner, timeout_ns: int | None) -> int:
    """Follow the job to its end; whoever leaves before does it no harm."""
    with trackers.Trackers(endpoints) as asking:
        asked = recalled(describe(asking, job))
        with _reported(asked, manner) as (screen, report):
            follower = _follower(asking, asked, screen, report.on_event, timeout_ns)
            with run.signals(follower.leave):
                asking.unwanted = follower.over
                report.accept(_peers(asking) or 0)
                ended = follower.follow()
            if ended is not None:
                report.end(ended)
                return exit_code(ended)
            screen.close()
            if screen.failure is None and not manner.quiet:
                screen.say(f"{asked.title} goes on: zlb wait {job}")
            return ExitCode.TIMEOUT if follower.left == TIMEOUT else ExitCode.INTERRUPTED


def result(
    job: JobId, endpoints: tuple[Endpoint, ...], manner: Manner, file: Path | None, state_dir: Path | None
) -> int:
    """What the job has brought so far, and once it has ended its certificate, if there is a `file` for it; TIMEOUT if
    it has not ended."""
    with trackers.Trackers(endpoints) as asking:
        spec = describe(asking, job)
        asked = recalled(spec)
        certificate = None if file is None else _certifying(spec, asked, file, run.state_dir(state_dir))
        with _reported(asked, manner) as (screen, report):
            seen: list[queries.JobLine] = []
            listen = report.on_event if certificate is None else certificate.heard(report.on_event)
            follower = _follower(asking, asked, screen, listen, None, seen.append)
            with run.signals(follower.leave):
                asking.unwanted = follower.over
                report.accept(_peers(asking) or 0)
                ended = follower.look()
            if ended is not None:
                report.end(ended)
                _certify(asking, ended, certificate, screen, manner)
                return exit_code(ended)
            so_far = f"{human.count(seen[-1].hits, 'hit')} after {human.share(seen[-1].done, seen[-1].size)}"
            screen.say(f"{asked.title} has not ended, it is {seen[-1].status.value}: {so_far} of the range")
            return ExitCode.TIMEOUT


def _command(asked: Asked, order: Order) -> commands.Submit:
    job = asked.job
    return commands.Submit(
        job=job.id,
        key=job.id,
        name=asked.name or "",
        kernel=job.kernel,
        params=job.params,
        spans=tuple((start, stop - start) for start, stop in job.spans),
        rule=job.rule,
        hits_wanted=job.hits_wanted,
        priority=order.priority,
        within_ns=order.within_ns,
        chunk_ns=order.chunk_ns,
        chunk_count=order.chunk_count,
        submitted_wall_ns=time.time_ns(),
        verify=order.verify,
        copies=order.copies,
        certified=order.certified,
    )


def _enter(asking: trackers.Trackers, command: commands.Submit, follower: Follower) -> None:
    """Once this returns, the job is durable."""
    asking.unwanted = follower.over
    try:
        told = asking.tell(command)
    except ZlbError as error:
        if error.exit_code is not ExitCode.UNREACHABLE:
            raise
        maybe = f"; should it have got through, zlb cancel {command.job} ends it" if asking.linked else ""
        code = {INTERRUPTED: ExitCode.INTERRUPTED, TIMEOUT: ExitCode.TIMEOUT}.get(
            follower.left, ExitCode.UNREACHABLE
        )
        raise ZlbError(f"{error}{maybe}", code) from None
    if isinstance(told, Denied):
        raise trackers.denied(told, command.job)


def _peers(asking: trackers.Trackers) -> int | None:
    """How many have joined; None if that cannot be told now, which is no reason to fail."""
    try:
        peers = asking.ask(queries.ListPeers(), list[queries.PeerLine])
    except ZlbError:
        return None
    return None if isinstance(peers, Denied) else len(peers)


def _follower(
    asking: trackers.Trackers,
    asked: Asked,
    screen: Screen,
    on_event: Callable[[Event], None],
    timeout_ns: int | None,
    on_line: Callable[[queries.JobLine], None] = lambda line: None,
) -> Follower:
    def on_line_too(line: queries.JobLine) -> None:
        screen.standing = standing(line)
        on_line(line)

    return Follower(asking, asked.job.id, on_event, screen.say, on_line_too, timeout_ns)


def _certifying(spec: commands.Submit, asked: Asked, file: Path, state_dir: Path) -> Certifying:
    """What will write the certificate of a job that was submitted before."""
    if not spec.certified:
        raise trackers.denied(Denied.NO_EVIDENCE, spec.job)
    oracle = checker(spec.kernel, spec.params, asked.job.spans)
    if isinstance(oracle, str):
        raise ZlbError(f"no certificate: {oracle}", ExitCode.FAILED)
    checks = Verification(spec.verify, spec.copies).text
    return Certifying(file, asked.job, checks, oracle.word, state_dir, spec.submitted_wall_ns)


def _certify(
    asking: trackers.Trackers, ended: JobEnded, certificate: Certifying | None, screen: Screen, manner: Manner
) -> None:
    """Write what the log says of who searched what."""
    if certificate is None:
        return
    asking.unwanted = lambda: False  # the job has ended: time for it does not run out any more
    rows = list[Row]()
    while True:
        found = asking.ask(queries.ReadEvidence(ended.job, len(rows)), queries.Evidenced)
        if isinstance(found, Denied):
            raise trackers.denied(found, ended.job)
        rows += map(commands.row_of, found.rows)
        if len(rows) >= found.count:
            break
    certificate.write(ended._replace(rows=tuple(rows), coordinator=NodeId(found.coordinator or NOBODY)))
    if not manner.quiet:
        screen.say(f"certificate: zlb verify {certificate.path}")


def _cancelled(follower: Follower, asked: Asked) -> JobEnded:
    """The job's end, now that it was left."""
    try:
        return follower.cancel()
    except ZlbError as error:
        why = f"{error}; {asked.job.id} could not be cancelled and goes on: zlb cancel {asked.job.id}"
        raise ZlbError(why, error.exit_code) from None


@contextmanager
def _reported(asked: Asked, manner: Manner) -> Iterator[tuple[Screen, Report]]:
    """Where the job's events go; nobody who reads them any more is like Ctrl-C."""
    screen = open_screen(manner.progress, asked, manner.quiet, _leave)
    results = JsonResults(asked, screen, manner.verbose) if manner.json else Results(asked, screen)
    try:
        yield screen, Report(results, 0, manner.quiet, manner.verbose)
    finally:
        screen.close()
        screen.raise_failure()


def _leave() -> None:
    """Nobody reads the hits any more."""
    signal.raise_signal(signal.SIGINT)
