"""`zlb verify FILE`: what a coverage certificate is worth, found out offline (docs/certificate.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zlb.cli import command as shared
from zlb.cli import types
from zlb.cli.command import option
from zlb.cli.oracles import checker
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.work import Job, Oracle

if TYPE_CHECKING:
    from zlb.protocols.certificate import Signed
    from zlb.protocols.verdict import Tally, Verdict

SHOWN_MAX = 20
"""Faults, and peers, that people are shown; programs get all."""
RANGES_SHOWN_MAX = 4
PUBLIC_BYTES = 32
"""Of a public key."""
PEER_HEAD = ("PEER", "ROWS", "INTEGERS", "SHARES", "EXPECTED", "CHANCE", "WORD ALONE")

EPILOG = """\b
Examples:
  zlb verify job.cert
  zlb verify job.cert --key "$(cat their-key)"

Exit code 0: all is as it should be; 6: it is not, or could not be checked; 2: there is no such file.
"""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who has signed. `who`: `given key`, `this machine`, `another key` than the given one, or `unknown key`."""

    right: bool
    who: str
    key: str
    fingerprint: str

    @property
    def faults(self) -> tuple[str, ...]:
        """Lines for a person."""
        wrong = () if self.right else ("the signature does not fit: the file is not what was signed",)
        other = f"signed with another key than the given one: {self.key}, {self.fingerprint}"
        return (*wrong, other) if self.who == "another key" else wrong

    @property
    def words(self) -> str:
        """For a person who wants to know whether to trust it."""
        who = {
            "given key": "the key you gave",
            "this machine": "this machine's key",
            "another key": "another key than the one you gave",
            "unknown key": "a key not known here",
        }[self.who]
        return f"by {who}"


@click.command("verify", cls=shared.Command, context_settings=shared.CONTEXT_SETTINGS, epilog=EPILOG)
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=False, path_type=Path), metavar="FILE"
)
@option(
    "--key",
    heading="Key",
    type=types.HexType(PUBLIC_BYTES),
    metavar="PUBLIC",
    show_default="any",
    help="The public key that is to have signed it, as zlb keys show prints it there.",
)
@shared.state_dir_option("Key", "Where this machine's key is kept.")
@option("--json", heading="Output", is_flag=True, help="One JSON object.")
@shared.version_option("zlb verify")
@click.pass_context
def verify(ctx: click.Context, /, **given: Any) -> None:
    """Check the certificate of a finished job: its signature, gaps and overlaps, every share and hit, the counts.

    Nothing is asked of anybody: it takes the file, the job's kernel, and a hash per share.
    """
    from zlb.protocols import certificate, verdict

    try:
        signed = certificate.decode(_content(given["file"], certificate.CERTIFICATE_BYTES_MAX))
    except certificate.CertificateError as error:
        if given["json"]:
            click.echo(_object({"event": "certificate", "verdict": "refused", "faults": [str(error)]}))
        raise ZlbError(f"{given['file']}: {error}", ExitCode.FAILED) from None
    job = signed.certificate.job
    oracle = checker(job.kernel, job.params, job.spans)
    signature, note = _signature(signed, given["key"], given["state_dir"])
    found = verdict.verify(signed.certificate, oracle if isinstance(oracle, Oracle) else None)
    unchecked = found.unchecked if isinstance(oracle, Oracle) else (f"{found.unchecked[0]}: {oracle}",)
    found = found._replace(faults=(*signature.faults, *found.faults), unchecked=unchecked)
    if given["json"]:
        click.echo(_json(signed, signature, found))
    else:
        for line in _lines(signed, signature, found):
            click.echo(line)
    if note:
        click.echo(note, err=True)
    if not found.good:
        shared.complain(ctx, _last_word(found))
        ctx.exit(ExitCode.FAILED)


def _content(path: Path, bytes_max: int) -> bytes:
    """As much of it as is ever taken in, and one byte more."""
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except OSError as error:
        raise ZlbError(f"{path}: {error.strerror}", ExitCode.USAGE) from None


def _signature(signed: Signed, given: bytes | None, state_dir: Path | None) -> tuple[Signature, str]:
    """Who has signed, and a note for a person who might want to know more."""
    from zlb.drivers import keys
    from zlb.drivers.state import default_state_dir

    public, who, note = signed.certificate.key, "unknown key", ""
    if given is not None:
        who = "given key" if given == public else "another key"
    else:
        note = (
            "note: anyone can sign with a key of their own; if you know whose it should be, say --key PUBLIC"
        )
        try:
            own = keys.known_key(state_dir or default_state_dir())
        except ZlbError as error:  # others' certificates can be checked without it
            note = f"note: whether this machine has signed is not known: {error}\n{note}"
        else:
            if own is not None and own.public == public:
                who, note = "this machine", ""
    right = keys.is_signed(public, signed.signature, signed.body)
    return Signature(right, who, public.hex(), keys.fingerprint(public)), note


def _lines(signed: Signed, signature: Signature, found: Verdict) -> list[str]:
    """The verdict for people."""
    from zlb.cli import human
    from zlb.protocols.certificate import time_text

    certificate = signed.certificate
    started = time_text(certificate.started_unix_ns)[:19]
    rows = [
        ("job", f"{certificate.job.id}, {certificate.status}"),
        *_job_rows(certificate.job),
        ("checked", certificate.verify),
        ("began", f"{started}Z, coordinated by {certificate.coordinator}"),
        ("signed", f"{signature.words}, {signature.fingerprint}"),
        ("covered", _coverage(found)),
        ("hits", str(len(certificate.hits))),
        ("shares", _shares(found)),
    ]
    lines = [f"{label:7} {text}" for label, text in rows]
    lines += human.table(PEER_HEAD, [_peer_row(tally) for tally in found.peers[:SHOWN_MAX]])
    if len(found.peers) > SHOWN_MAX:
        lines.append(f"and {len(found.peers) - SHOWN_MAX} more peers")
    for label, texts in (("fault", found.faults), ("open", found.unchecked)):
        lines += [f"{label:7} {text}" for text in texts[:SHOWN_MAX]]
        if len(texts) > SHOWN_MAX:
            lines.append(f"{label:7} and {len(texts) - SHOWN_MAX} more")
    word = _word(found)
    if found.good:
        word += f", signed {signature.words}"
    if found.good and found.total.alone:
        share = human.share(found.total.alone, found.total.integers)
        word += f", but for {share} of it there is the peers' word alone"
    return [*lines, f"verdict {word}"]


def _job_rows(job: Job) -> list[tuple[str, str]]:
    """What was asked for, as `zlb status` has it."""
    from zlb.cli.plan import kernel_rows, stop_words
    from zlb.cli.recalled import recalled
    from zlb.protocols.commands import Submit

    spans = tuple((start, stop - start) for start, stop in job.spans)
    asked = recalled(Submit(job.id, "", "", job.kernel, job.params, spans, job.rule, job.hits_wanted))
    ranges = asked.puzzle.ranges
    shown = " and ".join(f"[{start}, {stop})" for start, stop in ranges[:RANGES_SHOWN_MAX])
    if len(ranges) > RANGES_SHOWN_MAX:
        shown += f" and {len(ranges) - RANGES_SHOWN_MAX} more"
    return [("range", shown), *kernel_rows(asked.puzzle), ("stop", stop_words(asked))]


def _coverage(found: Verdict) -> str:
    from zlb.cli import human

    rows = human.count(found.total.rows, "row")
    return f"{human.share(found.covered, found.size)}: {found.covered} of {found.size} integers, in {rows}"


def _shares(found: Verdict) -> str:
    from zlb.cli import human

    total = found.total
    if not total.expected:
        return "none were asked for"
    limit = human.percent(found.skipped_max)
    odds = f"chance {_chance(total)}; at most {limit} of these rows was skipped"
    return f"{total.shares} where {_expected(total)} are expected, {odds}"


def _expected(tally: Tally) -> str:
    return f"{tally.expected:.1f}" if tally.expected < 1e6 else f"{tally.expected:.4g}"


def _chance(tally: Tally) -> str:
    return f"{tally.chance:.2g}"


def _peer_row(tally: Tally) -> tuple[str, ...]:
    from zlb.cli import human

    return (
        tally.peer,
        str(tally.rows),
        str(tally.integers),
        str(tally.shares),
        _expected(tally),
        _chance(tally),
        human.share(tally.alone, tally.integers),
    )


def _word(found: Verdict) -> str:
    return "good" if found.good else "refused" if found.faults else "unchecked"


def _last_word(found: Verdict) -> str:
    """Why it is not good."""
    from zlb.cli import human

    if found.faults:
        return f"refused: {human.count(len(found.faults), 'fault')}, the first: {found.faults[0]}"
    return f"neither good nor bad: {found.unchecked[0]}"


def _json(signed: Signed, signature: Signature, found: Verdict) -> str:
    """The verdict as one JSON object, see docs/cli.md."""
    from zlb.protocols.certificate import time_text

    certificate = signed.certificate
    return _object(
        {
            "event": "certificate",
            "verdict": _word(found),
            "job": certificate.job.id,
            "kernel": certificate.job.kernel,
            "status": certificate.status,
            "verify": certificate.verify,
            "coordinator": certificate.coordinator,
            "started": time_text(certificate.started_unix_ns),
            "signature": signature.right,
            "signed_by": signature.who,
            "key": signature.key,
            "fingerprint": signature.fingerprint,
            "size": str(found.size),
            "covered": str(found.covered),
            "hits": str(len(certificate.hits)),
            "skipped_max": found.skipped_max,
            **_tally(found.total),
            "peers": [{"peer": tally.peer, **_tally(tally)} for tally in found.peers],
            "unchecked": list(found.unchecked),
            "faults": list(found.faults),
        }
    )


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "rows": str(tally.rows),
        "integers": str(tally.integers),
        "alone": str(tally.alone),
        "shares": str(tally.shares),
        "expected": tally.expected,
        "chance": tally.chance,
    }


def _object(fields: dict[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)
