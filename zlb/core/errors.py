"""How things go wrong: codes peers send each other, the one exception of the codec, and exit codes of commands."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Why a message was refused; part of the wire (docs/protocol.md, "Errors").

    Definite: the request had no effect and will not have one if repeated unchanged. Indefinite: try again later.
    """

    VERSION = 1
    KIND = 2
    MALFORMED = 3
    OVERSIZED = 4
    FULL = 5
    NOT_YOURS = 6
    NOT_A_COORDINATOR = 7
    NOT_LINKED = 8
    WRONG_CLUSTER = 9
    STALE_EPOCH = 10
    REMOVED = 11

    @property
    def definite(self) -> bool:
        """Whether repeating the request unchanged is pointless."""
        return self not in (ErrorCode.FULL, ErrorCode.NOT_LINKED)


class RemoteProtocolError(Exception):
    """A stranger's bytes are not a message: the only thing `wire.codec.decode` raises."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ZlbError(Exception):
    """Something a person can mend; its text is one clear line, `exit_code` what a command ends with."""

    def __init__(self, text: str, exit_code: "ExitCode") -> None:
        super().__init__(text)
        self.exit_code = exit_code


class ExitCode(IntEnum):
    """How commands end (docs/cli.md)."""

    FOUND = 0
    USAGE = 2
    EXHAUSTED = 3
    TIMEOUT = 4
    UNREACHABLE = 5
    FAILED = 6
    BIND = 7
    INTERRUPTED = 130
