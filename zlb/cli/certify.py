"""`--certificate FILE` of a job: signs what its coordinator has gathered, and writes it, all of it or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zlb.cli.report import outcome
from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import Event, HitFound, JobEnded
from zlb.core.work import Hit, Job

if TYPE_CHECKING:
    from zlb.protocols.certificate import Certificate

MODE = 0o666
"""Less what the user's umask takes away: a certificate is made to be shown."""


class Certifying:
    """Gathers what a certificate of `job` needs besides its rows; raises as `writable` does, before anything begins.

    `verify` is how results are checked, one of `protocols.certificate.CHECKS`; `word` the kernel's, if it has samples.
    The job begins now, unless it `started_unix_ns`.
    """

    def __init__(
        self,
        path: Path,
        job: Job,
        verify: str,
        word: Callable[[int], int] | None,
        state_dir: Path,
        started_unix_ns: int | None = None,
    ) -> None:
        writable(path, state_dir)
        self.path = path
        self._job, self._state_dir = job, state_dir
        self._verify, self._word = verify, word
        self._hits: list[Hit] = []
        self._started_unix_ns = time.time_ns() if started_unix_ns is None else started_unix_ns

    def heard(self, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        """A listener that also notes hits."""

        def listen(event: Event) -> None:
            if isinstance(event, HitFound):
                self._hits.append(Hit(event.n, event.digest))
            on_event(event)

        return listen

    def write(self, ended: JobEnded) -> None:
        """See the function `write`."""
        from zlb.protocols.certificate import Certificate
        from zlb.protocols.evidence import alike
        from zlb.protocols.examiner import share_word

        job, rows = self._job, ended.rows
        if self._word is not None:
            try:
                rows = alike(rows, share_word(job.id, job.params), self._word)
            except Exception as error:  # noqa: BLE001 - a kernel is anybody's code, and rows may be, too
                why = f"kernel {job.kernel} cannot tell shares: {error}"
                raise ZlbError(f"certificate {self.path}: {why}", ExitCode.FAILED) from None
        certificate = Certificate(
            job=job,
            status=outcome(ended),
            verify=self._verify,
            hits=tuple(self._hits),
            rows=rows,
            started_unix_ns=self._started_unix_ns,
            coordinator=ended.coordinator,
            key=b"",
        )
        write(self.path, certificate, self._state_dir)


def writable(path: Path, state_dir: Path | None = None) -> None:
    """Return if a certificate can be written to `path`, and signed with the key in `state_dir`, if that is given.

    Raises `click.UsageError` with one line if not, `ZlbError` if it is for the key. A file at `path` stays as it is.
    """
    try:
        _check_former(path)
        draft, file = _draft(path)
        os.close(file)
        draft.unlink()
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--certificate {path}: {_why(error)}") from None
    if state_dir is not None:
        from zlb.drivers.keys import own_key

        own_key(state_dir)


def write(path: Path, certificate: Certificate, state_dir: Path) -> None:
    """Sign the certificate, with the key in `state_dir` whatever `key` says, and write it; replaces a file at `path`.

    Raises `ZlbError` if it cannot be signed, written, or read again.
    """
    from zlb.drivers.keys import own_key
    from zlb.protocols.certificate import CertificateError, decode, encode

    key = own_key(state_dir)
    certificate = certificate._replace(
        hits=tuple(sorted(certificate.hits)),
        rows=tuple(sorted(certificate.rows, key=lambda row: (row.start, row.stop, row.worker))),
        key=key.public,
    )
    data = encode(certificate, key.sign)
    try:
        decode(data)
        _replace(path, data)
    except CertificateError as error:  # too long, say
        raise ZlbError(f"certificate {path}: nobody could read it: {error}", ExitCode.FAILED) from None
    except OSError as error:
        raise ZlbError(f"certificate {path}: {_why(error)}", ExitCode.FAILED) from None


def _check_former(path: Path) -> None:
    """Raise `OSError` or `click.UsageError` if what is at `path` is not to be replaced."""
    try:
        former = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(former.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(former.st_mode):
        raise click.UsageError(f"--certificate {path}: is no plain file")
    for name, stream in (("stdout", 1), ("stderr", 2)):
        with contextlib.suppress(OSError):  # it may be closed
            if os.path.samestat(former, os.fstat(stream)):
                raise click.UsageError(f"--certificate {path}: is where {name} goes")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _replace(path: Path, data: bytes) -> None:
    """Durable, and at no moment half there; a former file's permissions stay."""
    draft, file = _draft(path)
    try:
        with open(file, "wb") as opened:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file, stat.S_IMODE(path.stat().st_mode) & MODE)
            opened.write(data)
            opened.flush()
            os.fsync(file)
        draft.replace(os.path.realpath(path))
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(draft.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _draft(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, or beside what it is a link to, open."""
    draft = Path(os.path.realpath(path)).parent / f".zlb-{secrets.token_hex(6)}.tmp"
    return draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)


def _why(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "no file has such a name"
