"""Commands that happen once, however often a client repeats them (§6.3): a state machine around another."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from zlb.core.limits import SESSIONS_MAX
from zlb.protocols.raft.machine import StateMachine


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
    client: str
    sequence: int
    payload: bytes


class _State(NamedTuple):
    sessions: list[tuple[str, Session]]
    inner: bytes


class Sessions:
    """Hands each command of a client to `machine` once, and answers repeats with the result it had.

    A client counts its commands from 1, one at a time. Sessions end by log time, the same everywhere, `expiry_ns` after
    their last command: a client that comes back later is told so, and nothing is executed a second time.
    """

    def __init__(self, machine: StateMachine, expiry_ns: int) -> None:
        self.machine, self.expiry_ns = machine, expiry_ns
        self.sessions: dict[str, Session] = {}
        """The one whose last command is longest ago comes first."""

    def apply(self, time_ns: int, command: bytes) -> object:
        """The result of the next command, or a `SessionRefusal`."""
        try:
            client, sequence, payload = msgspec.msgpack.decode(command, type=_Command)
        except msgspec.MsgspecError:
            return SessionRefusal.MALFORMED
        self._expire(time_ns)
        session = self.sessions.get(client)
        if session is not None and sequence == session.sequence:
            return session.result
        if session is not None and sequence < session.sequence:
            return SessionRefusal.STALE
        if session is None and sequence != 1:
            return SessionRefusal.EXPIRED
        result = self.machine.apply(time_ns, payload)
        assert isinstance(result, bytes)
        self.sessions.pop(client, None)
        self.sessions[client] = Session(sequence, result, time_ns)
        return result

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`: sessions are part of the state."""
        return msgspec.msgpack.encode(_State(list(self.sessions.items()), self.machine.snapshot()))

    def restore(self, data: bytes) -> None:
        """See `StateMachine.restore`."""
        state = msgspec.msgpack.decode(data, type=_State)
        self.sessions = dict(state.sessions)
        self.machine.restore(state.inner)

    def _expire(self, time_ns: int) -> None:
        while self.sessions:
            client = next(iter(self.sessions))
            if (
                len(self.sessions) < SESSIONS_MAX
                and self.sessions[client].time_ns + self.expiry_ns >= time_ns
            ):
                return
            del self.sessions[client]


def command(client: str, sequence: int, payload: bytes) -> bytes:
    """The command of a client's session, as `Sessions` takes it."""
    return msgspec.msgpack.encode(_Command(client, sequence, payload))
