"""What a machine remembers between processes: who it is, how fast it is, kernels it has compiled. Plain files."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import NodeId
from zlb.core.work import Rate, Record

IDENTITIES_MAX = 1024


def default_state_dir() -> Path:
    """`ZLB_STATE_DIR`, or where the platform keeps such things for a user."""
    if chosen := os.environ.get("ZLB_STATE_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "zlb"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "zlb"


class State:
    """The state directory at `path`, made if need be; raises `ZlbError` when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kernel_dir = path / "kernels"
        self._identity: IO[str] | None = None
        try:
            self.kernel_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ZlbError(f"state directory {path}: {error.strerror}", ExitCode.USAGE) from None

    def identity(self) -> NodeId:
        """The first remembered node id that no living process uses, or a new one; ours until this process ends."""
        for number in range(IDENTITIES_MAX):
            file = (self.path / f"identity-{number}").open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            self._identity = file  # the lock lives as long as the file is open
            file.seek(0)
            name = file.read().strip()
            if not name:
                name = f"p-{secrets.token_hex(3)}"
                file.truncate(0)
                file.write(name + "\n")
                file.flush()
                os.fsync(file.fileno())
            return NodeId(name)
        raise ZlbError(f"{IDENTITIES_MAX} peers already use {self.path}", ExitCode.USAGE)

    def rates(self) -> dict[str, float]:
        """Measured integers a second and slot, by kernel; empty if never measured or unreadable."""
        try:
            found = json.loads((self.path / "rates.json").read_text())
            return {str(kernel): float(rate) for kernel, rate in found.items()}
        except (
            OSError,
            ValueError,
            AttributeError,
            TypeError,
        ):  # a cache: measured again, then written again
            return {}

    def save(self, records: Sequence[Record]) -> None:
        """Make records durable, together."""
        rates = self.rates()
        for record in records:
            assert isinstance(record, Rate)
            rates[record.kernel] = record.per_s
        draft = self.path / f"rates.{os.getpid()}.tmp"
        with draft.open("w") as file:
            json.dump(rates, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / "rates.json")
