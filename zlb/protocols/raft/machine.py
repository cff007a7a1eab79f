"""What a log is for, and what its replicas will not do."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class StateMachine(Protocol):
    """The same commands in the same order give the same results everywhere."""

    def apply(self, time_ns: int, command: bytes) -> object:
        """The result of the next command; `time_ns` is log time."""
        ...

    def snapshot(self) -> bytes:
        """All of the state."""
        ...

    def restore(self, data: bytes) -> None:
        """Become the state that a snapshot holds."""
        ...


class Role(StrEnum):
    """§3.3; a pre-candidate asks whether it would be elected before it disturbs anybody (§9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Refusal(StrEnum):
    """Why a replica will not do what it was asked; the request had no effect."""

    NOT_LEADER = "not the leader"
    TRANSFERRING = "leadership is being handed over"
    CHANGE_PENDING = (
        "an earlier change of the configuration, or the leader's first entry, is not committed yet"
    )
    NO_CHANGE = "the configuration is that already"
    NOT_CAUGHT_UP = "the learner is too far behind to vote"
    LAST_VOTER = "the last voter cannot leave"
    TOO_LARGE = "the command is too large"
    FULL = "the log has as many replicas as it can have"
