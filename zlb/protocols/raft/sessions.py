"""Commands that happen once, however often a client repeats them (§6.3): a state machine around another."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from zlb.core.limits import SESSIONS_MAX
from zlb.protocols.raft.machine import StateMachine

OPEN = 0
"""In the place of a session's number: a new one is wanted."""


class SessionRefusal(StrEnum):
    """Why a command was not executed; it had no effect, and will have none."""

    EXPIRED = "the session has expired"
    STALE = "the client has gone on to later commands"
    MALFORMED = "not a command of a session"


class Session(NamedTuple):
    """The last command of a client, its result, and when it was, in log time."""

    sequence: int
    result: bytes
    time_ns: int


class _Command(NamedTuple):
    session: int
    sequence: int
    payload: bytes


class _State(NamedTuple):
    opened: int
    sessions: list[tuple[int, Session]]
    inner: bytes


class Sessions:
    """Hands each command of a session to `machine` once, and answers repeats with the result it had.

    A client opens a session and counts its commands in it from 1, one at a time. The log numbers sessions: one that was
    opened twice, by a doubled message, merely stays unused. A command never opens one, or it could happen again once
    its session was forgotten. Sessions end `expiry_ns` after their last command, in log time, the same everywhere.
    """

    def __init__(self, machine: StateMachine, expiry_ns: int) -> None:
        self.machine, self.expiry_ns = machine, expiry_ns
        self.sessions: dict[int, Session] = {}
        """The one whose last command is longest ago comes first."""
        self._opened = 0

    def apply(self, time_ns: int, command: bytes) -> object:
        """The result of the next command, or a `SessionRefusal`; for a new session, what `opened` reads."""
        try:
            number, sequence, payload = msgspec.msgpack.decode(command, type=_Command)
        except msgspec.MsgspecError:
            return SessionRefusal.MALFORMED
        self._expire(time_ns)
        if number == OPEN:
            return self._open(time_ns)
        session = self.sessions.get(number)
        if session is None:
            return SessionRefusal.EXPIRED
        if sequence <= session.sequence:
            return session.result if sequence == session.sequence else SessionRefusal.STALE
        result = self.machine.apply(time_ns, payload)
        assert isinstance(result, bytes)
        del self.sessions[number]
        self.sessions[number] = Session(sequence, result, time_ns)
        return result

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`: sessions are part of the state."""
        return msgspec.msgpack.encode(
            _State(self._opened, list(self.sessions.items()), self.machine.snapshot())
        )

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._opened, self.sessions = state.opened, dict(state.sessions)
        self.machine.restore(state.inner)

    def _open(self, time_ns: int) -> bytes:
        if len(self.sessions) >= SESSIONS_MAX:
            del self.sessions[next(iter(self.sessions))]
        self._opened += 1
        result = msgspec.msgpack.encode(self._opened)
        self.sessions[self._opened] = Session(0, result, time_ns)
        return result

    def _expire(self, time_ns: int) -> None:
        while self.sessions:
            oldest = next(iter(self.sessions))
            if self.sessions[oldest].time_ns + self.expiry_ns >= time_ns:
                return
            del self.sessions[oldest]


def open_session() -> bytes:
    """The command that opens a session."""
    return msgspec.msgpack.encode(_Command(OPEN, 0, b""))


def opened(result: bytes) -> int:
    """The number of the session that was opened."""
    return msgspec.msgpack.decode(result, type=int)


def command(session: int, sequence: int, payload: bytes) -> bytes:
    """A command of a session, as `Sessions` takes it."""
    return msgspec.msgpack.encode(_Command(session, sequence, payload))
