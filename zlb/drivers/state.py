"""What a machine remembers between processes: who it is, how fast it is, kernels it has compiled. Plain files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import Endpoint, NodeId
from zlb.core.work import Contacts, Rate, Record, Standing

IDENTITIES_MAX = 1024
STANDINGS_MAX = 10_000
"""Peers whose standing is kept, some 100 bytes each: as many as one job can have."""


def default_state_dir() -> Path:
    """`ZLB_STATE_DIR`, or where the platform keeps such things for a user."""
    if chosen := os.environ.get("ZLB_STATE_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "zlb"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "zlb"


class State:
    """The state directory at `path`, made if need be; raises `ZlbError` when it cannot be used.

    Contacts are kept for each set of `trackers` that was named, so that two grids on one machine do not mix. Rates are
    kept as those of the whole machine, though only a `share` of the time of its slots may be lent.
    """

    def __init__(self, path: Path, trackers: Iterable[Endpoint] = (), share: float = 1.0) -> None:
        self.path, self.share = path, share
        self._grid = hashlib.blake2b(" ".join(sorted(trackers)).encode(), digest_size=6).hexdigest()
        self.kernel_dir = path / "kernels"
        self._identity: IO[str] | None = None
        try:
            self.kernel_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ZlbError(f"state directory {path}: {error.strerror}", ExitCode.USAGE) from None

    def identity(self) -> NodeId:
        """The first remembered node id that no living process uses, or a new one; ours until this process ends."""
        for number in range(IDENTITIES_MAX):
            try:
                name = self._claimed(f"identity-{number}")
            except OSError as error:
                why = f"identity-{number}: {error.strerror}"
                raise ZlbError(f"state directory {self.path}: {why}", ExitCode.USAGE) from None
            if name:
                return NodeId(name)
        raise ZlbError(f"{IDENTITIES_MAX} peers already use {self.path}", ExitCode.USAGE)

    def _claimed(self, file_name: str) -> str:
        """The node id in that file, a new one if there is none; empty if a living process uses it."""
        file = (self.path / file_name).open("a+", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return ""
        self._identity = file  # the lock lives as long as the file is open
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = f"p-{secrets.token_hex(3)}"
            file.truncate(0)
            file.write(name + "\n")
            file.flush()
            os.fsync(file.fileno())
        return name

    def rates(self) -> dict[str, float]:
        """Measured integers a second and slot, as lent, by kernel; empty if never measured or unreadable."""
        try:
            found = json.loads((self.path / "rates.json").read_text())
            return {str(kernel): float(rate) * self.share for kernel, rate in found.items()}
        except (
            OSError,
            ValueError,
            AttributeError,
            TypeError,
        ):  # a cache: measured again, then written again
            return {}

    def contacts(self) -> Contacts:
        """Whom to dial, as a tracker last said; nobody if none ever did, or it is unreadable."""
        try:
            found = json.loads((self.path / f"contacts-{self._grid}.json").read_text())
            trackers, peers = (tuple(Endpoint(str(one)) for one in found[key]) for key in Contacts._fields)
            return Contacts(trackers, peers)
        except (OSError, ValueError, KeyError, TypeError):  # a cache: the next roster mends it
            return Contacts((), ())

    def standings(self) -> list[Standing]:
        """What jobs that were coordinated here have told of peers, those heard of last at the end."""
        try:
            found = json.loads((self.path / "trust.json").read_text())
            return [
                Standing(NodeId(str(node)), float(a), float(b), float(c), float(d), int(row), int(batch))
                for node, (a, b, c, d, row, batch) in found.items()
            ]
        except (OSError, ValueError, AttributeError, TypeError):  # then everybody is a stranger again
            return []

    def save(self, records: Sequence[Record]) -> None:
        """Make records durable, together; what other processes have saved stays. Raises `ZlbError` if that fails."""
        rates = {record.kernel: record.per_s for record in records if isinstance(record, Rate)}
        contacts = [record for record in records if isinstance(record, Contacts)]
        standings = {record.node: record[1:] for record in records if isinstance(record, Standing)}
        assert len(rates) + len(contacts) + len(standings) > 0, "nodes keep rates, contacts and standings"
        try:
            with self._locked():
                if rates:
                    known = self.rates() | rates
                    self._write("rates", {kernel: rate / self.share for kernel, rate in known.items()})
                if contacts:
                    self._write(f"contacts-{self._grid}", contacts[-1]._asdict())
                if standings:
                    others = {one.node: one[1:] for one in self.standings() if one.node not in standings}
                    latest = list((others | standings).items())[-STANDINGS_MAX:]
                    self._write("trust", dict(latest))
        except OSError as error:
            raise ZlbError(f"state directory {self.path}: {error.strerror}", ExitCode.FAILED) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Meanwhile no other process reads what it will replace, or replaces what we have read."""
        folder = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)  # and the lock is gone

    def _write(self, name: str, value: object) -> None:
        draft = self.path / f"{name}.{os.getpid()}.tmp"
        with draft.open("w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / f"{name}.json")
