"""`--certificate FILE` of a job: signs what its coordinator has gathered, and writes it, all of it or nothing."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.events import Event, HitFound, JobEnded
from zlb.core.ids import NodeId
from zlb.core.work import Hit, Job, Row

MODE = 0o666
"""Less what the user's umask takes away: a certificate is made to be shown."""


class Certifying:
    """Gathers what a certificate of `job` needs besides its rows; raises as `writable` does, before anything begins."""

    def __init__(self, path: Path, job: Job, state_dir: Path) -> None:
        writable(path, state_dir)
        self._path, self._job, self._state_dir = path, job, state_dir
        self._hits: list[Hit] = []
        self._started_unix_ns = time.time_ns()

    def heard(self, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
        """A listener that also notes hits."""

        def listen(event: Event) -> None:
            if isinstance(event, HitFound):
                self._hits.append(Hit(event.n, event.digest))
            on_event(event)

        return listen

    def write(self, ended: JobEnded) -> None:
        """See the function `write`."""
        started_ns, coordinator = self._started_unix_ns, ended.coordinator
        about = self._path, self._job, ended.status, self._hits, ended.rows
        write(*about, started_ns, coordinator, self._state_dir)


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


def write(
    path: Path,
    asked_job: Job,
    status: str,
    hits: Iterable[Hit],
    rows: Iterable[Row],
    started_unix_ns: int,
    coordinator: NodeId,
    state_dir: Path,
) -> None:
    """Sign the certificate of a job that ended with `status`, and write it; a former file at `path` is replaced.

    Rows and hits may come in any order. Raises `ZlbError` if it cannot be signed or written.
    """
    from zlb.drivers.keys import own_key
    from zlb.protocols.certificate import Certificate, decode, encode

    key = own_key(state_dir)
    certificate = Certificate(
        job=asked_job,
        status=status,
        hits=tuple(sorted(hits)),
        rows=tuple(sorted(rows, key=lambda row: (row.start, row.stop, row.worker))),
        started_unix_ns=started_unix_ns,
        coordinator=coordinator,
        key=key.public,
    )
    data = encode(certificate, key.sign)
    assert decode(data).certificate == certificate, "a certificate that cannot be read"
    try:
        _replace(path, data)
    except OSError as error:
        raise ZlbError(f"certificate {path}: {_why(error)}", ExitCode.FAILED) from None


def _check_former(path: Path) -> None:
    """Raise `OSError` or `click.UsageError` if what is at `path` is not to be replaced."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise click.UsageError(f"--certificate {path}: is no plain file")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _replace(path: Path, data: bytes) -> None:
    """Durable, and at no moment half there."""
    draft, file = _draft(path)
    try:
        with open(file, "wb") as opened:
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
