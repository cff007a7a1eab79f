"""Commands that happen once, however often a client repeats them (§6.3): a state machine around another."""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import NamedTuple

import msgspec

from zlb.core.limits import SESSIONS_MAX
from zlb.protocols.raft.machine import StateMachine

NONE = 0
"""In the place of a session's number: the command belongs to none; an empty one opens a new session."""


class SessionRefusal(StrEnum):
    """Why a command was not executed; it had no effect, and will have none."""

    EXPIRED = "the session has expired"
    STALE = "the client has gone on to later commands"
    MALFORMED = "not a command of a session"


class Session(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The last command of a client, its result, and when it was, in log time."""

    sequence: int
    result: bytes
    time_ns: int


class _Command(NamedTuple):
    session: int
    sequence: int
    payload: bytes


_decode_command = msgspec.msgpack.Decoder(_Command).decode


class _State(NamedTuple):
    opened: int
    sessions: list[tuple[int, Session]]
    inner: bytes


class Sessions:
    """Hands each command of a session to `machine` once, and answers repeats with the result it had.

    A client opens a session and counts its commands in it from 1, one at a time. The log numbers sessions: one that was
    opened twice, by a doubled message, merely stays unused. A command of a session never opens one, or it could happen
    again once its session was forgotten. Commands that do no harm when they happen twice need none. Sessions end
    `expiry_ns` after their last command, in log time, the same everywhere.
    """

    def __init__(self, machine: StateMachine, expiry_ns: int) -> None:
        self.machine, self.expiry_ns = machine, expiry_ns
        self.sessions: OrderedDict[int, Session] = OrderedDict()
        """The one whose last command is longest ago comes first: a plain dict would be slow to find it."""
        self._opened = 0

    def apply(self, time_ns: int, command: bytes) -> object:
        """The result of the next command, or a `SessionRefusal`; for a new session, what `opened` reads."""
        try:
            number, sequence, payload = _decode_command(command)
        except msgspec.MsgspecError:
            return SessionRefusal.MALFORMED
        self._expire(time_ns)
        if number == NONE:
            return self.machine.apply(time_ns, payload) if payload else self._open(time_ns)
        session = self.sessions.get(number)
        if session is None:
            return SessionRefusal.EXPIRED
        if sequence <= session.sequence:
            return session.result if sequence == session.sequence else SessionRefusal.STALE
        result = self.machine.apply(time_ns, payload)
        assert isinstance(result, bytes)
        self.sessions[number] = Session(sequence, result, time_ns)
        self.sessions.move_to_end(number)
        return result

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`: sessions are part of the state."""
        return msgspec.msgpack.encode(
            _State(self._opened, list(self.sessions.items()), self.machine.snapshot())
        )

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self._opened, self.sessions = state.opened, OrderedDict(state.sessions)
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
    return repeatable(b"")


def opened(result: bytes) -> int:
    """The number of the session that was opened."""
    return msgspec.msgpack.decode(result, type=int)


def command(session: int, sequence: int, payload: bytes) -> bytes:
    """A command of a session, as `Sessions` takes it."""
    return msgspec.msgpack.encode(_Command(session, sequence, payload))


def repeatable(payload: bytes) -> bytes:
    """A command of no session, which is harmless to repeat."""
    return msgspec.msgpack.encode(_Command(NONE, 0, payload))
