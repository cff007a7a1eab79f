"""Whoever uses a replicated tracker: asks any of its members, follows them to the leader, repeats until answered.

```
 ask ─► waiting ─► sent to the leader, or whom we take for it ─► DONE, or a final refusal ─► Answered
           ▲                     │
           └── no answer, NOT_LEADER, UNKNOWN, BUSY: the same ask again, elsewhere
```

What is asked in one wake-up travels together. A repeated command happens twice unless it belongs to a session: those
that would do harm are given `once`, and are then sent one after the other (Ongaro 2014, §6.3).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from zlb.core.config import PatronConfig
from zlb.core.effects import Effect
from zlb.core.events import Answered, NoTracker
from zlb.core.ids import NodeId
from zlb.core.limits import ASKS_BYTES_MAX, ASKS_PER_MESSAGE_MAX
from zlb.core.node import Core
from zlb.core.timers import NEVER
from zlb.protocols.raft.sessions import command, open_session, opened, repeatable
from zlb.wire.tracking import Ask, AskKind, AskOutcome, TrackerReply, TrackerRequest

SILENCE = "no tracker answers"
ASK_BYTES = 16
"""What an ask takes beside its payload."""


@dataclass(slots=True)
class _Waiting:
    """An ask without a final answer, and when it is to be sent (again)."""

    ask: Ask
    send_at: int
    wait_ns: int
    sent_at: int = NEVER
    """When it was sent last."""


class Patron(Core):
    """Asks trackers it is told of by `on_tracker`. Each ask ends as one `Answered`, unless it is given up.

    Emits `NoTracker` when asks wait because nobody leads or answers.
    """

    def __init__(self, config: PatronConfig) -> None:
        super().__init__()
        self.config = config
        self.leader: NodeId | None = None
        """Whom we take for the leader."""
        self.cluster = ""
        """Of the first tracker that answered; those of others are not asked."""
        self._trackers: dict[NodeId, None] = {}
        self._next_number = 1
        self._waiting: dict[int, _Waiting] = {}
        self._fresh: list[_Waiting] = []
        """Asks to be sent with the next tick."""
        self._repeat_at = NEVER
        """Not later than the earliest repetition of all others: they are looked through when it has come."""
        self._heard_at = -NEVER
        """When the leader said anything."""
        self._moved_at: dict[str, int] = {}
        """When we turned to a leader at once."""
        self._session: int | None = None
        self._sequence = 0
        self._once: deque[tuple[int, bytes]] = deque()
        """Commands of our session, the first of them is asked."""
        self._opening = 0
        self._why = ""

    @property
    def trackers(self) -> list[NodeId]:
        """Those that can be asked."""
        return list(self._trackers)

    def deadline(self) -> int:
        """ns; when something is to be sent."""
        return self._fresh[0].send_at if self._fresh else self._repeat_at

    # -- asking

    def ask(self, now: int, kind: AskKind, payload: bytes) -> int:
        """Ask, with the next tick; the number that its `Answered` will have. Commands are to be harmless to repeat."""
        if kind is AskKind.COMMAND:
            payload = repeatable(payload)
        return self._ask(now, self._number(), kind, payload)

    def once(self, now: int, payload: bytes) -> int:
        """Ask for a command that must not happen twice; they happen in the order of these calls."""
        number = self._number()
        self._once.append((number, payload))
        if len(self._once) == 1:
            self._next_once(now)
        return number

    def give_up(self, number: int) -> None:
        """Forget an ask; what it asked for may happen all the same."""
        asked = self._waiting.pop(number, None) is not None
        self._fresh = [waiting for waiting in self._fresh if waiting.ask.number != number]
        self._once = deque(pair for pair in self._once if pair[0] != number)
        if asked and self._once and self._once[0][0] not in self._waiting:
            self._next_once(0)  # it was its turn: now it is that of the next

    # -- events

    def on_tracker(self, now: int, node: NodeId, cluster: str) -> list[Effect]:
        """A link with a tracker works."""
        if self.cluster and cluster != self.cluster:
            self._complain(f"{node} is a tracker of cluster {cluster!r}, the others are of {self.cluster!r}")
            return self._flush()
        self.cluster = cluster
        if node not in self._trackers:
            self._trackers[node] = None
            if len(self._trackers) == 1:
                self._hurry(now)
        return self._flush()

    def on_lost(self, now: int, node: NodeId) -> list[Effect]:
        """A tracker does not answer any more, or has left: what it was asked is asked elsewhere at once."""
        if node in self._trackers:
            asked = node == self._whom()
            del self._trackers[node]
            if node == self.leader:
                self.leader = None
            if asked:
                self._hurry(now)
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        """Send what is due."""
        due, self._fresh = self._fresh, []
        if now >= self._repeat_at:
            self._be_patient(now)
            again = [waiting for waiting in self._waiting.values() if waiting.send_at <= now]
            if any(waiting.wait_ns > self.config.retry_ns_min for waiting in again):
                self._turn_away(self._whom())  # it was asked before, and is silent
                if not self._trackers:
                    self._complain(SILENCE)
            due = again  # all of them: what is fresh is in there too
        for waiting in due:
            waiting.sent_at, waiting.send_at = now, now + waiting.wait_ns
            waiting.wait_ns = min(2 * waiting.wait_ns, self.config.retry_ns_max)
            self._repeat_at = min(self._repeat_at, waiting.send_at)
        to = self._whom()
        if to is not None:
            for chunk in chunks([waiting.ask for waiting in due]):
                self._send(to, TrackerRequest(chunk))
        if now >= self._repeat_at:
            self._repeat_at = min((waiting.send_at for waiting in self._waiting.values()), default=NEVER)
        return self._flush()

    def on_tracker_reply(self, now: int, src: NodeId, message: TrackerReply) -> list[Effect]:
        """A tracker answers; replies to what is answered already are late or doubled, and ignored."""
        if src not in self._trackers:
            return self._flush()
        known = NodeId(message.leader) if message.leader else None
        moved = known != self.leader and known in self._trackers
        if moved:
            self.leader = known
            # Two may name each other for a moment: neither is turned to at once more than once in a while.
            moved = now - self._moved_at.get(message.leader, -NEVER) >= self.config.elsewhere_ns
        if moved:  # whatever the former one was asked, it may never answer
            self._moved_at[message.leader] = now
            self._hurry(now)
        if src == self.leader:
            self._heard_at = now
        for reply in message.replies:
            waiting = self._waiting.get(reply.number)
            if waiting is None:
                continue
            outcome = AskOutcome(reply.outcome)
            if outcome.final:
                del self._waiting[reply.number]
                self._answered(now, reply.number, outcome, reply.payload)
                continue
            if outcome is AskOutcome.NOT_LEADER and known in (None, src):
                self._turn_away(src)
                self._complain(reply.payload.decode(errors="replace"))
            if not moved:  # after a moment only: two may be wrong about each other
                self._ask_again(waiting, now + self.config.elsewhere_ns)
        return self._flush()

    # -- helpers

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _ask(self, now: int, number: int, kind: AskKind, payload: bytes) -> int:
        waiting = _Waiting(Ask(number, int(kind), payload), now, self.config.retry_ns_min)
        self._waiting[number] = waiting
        self._fresh.append(waiting)
        return number

    def _whom(self) -> NodeId | None:
        """The leader, or else the first of those who are left to be tried."""
        return self.leader if self.leader in self._trackers else next(iter(self._trackers), None)

    def _be_patient(self, now: int) -> None:
        """While the leader answers others it has much to do: what was asked once waits on, though not for ever."""
        silent_at = self._heard_at + self.config.retry_ns_min
        if self.leader is None or now >= silent_at:
            return
        for waiting in self._waiting.values():
            if waiting.sent_at < waiting.send_at <= now:
                waiting.send_at = min(silent_at, waiting.sent_at + self.config.retry_ns_max)

    def _turn_away(self, node: NodeId | None) -> None:
        """From now on all others are tried before `node`."""
        if node in self._trackers:
            self._trackers[node] = self._trackers.pop(node)
        if node == self.leader:
            self.leader = None

    def _hurry(self, now: int) -> None:
        for waiting in self._waiting.values():
            self._ask_again(waiting, now)

    def _ask_again(self, waiting: _Waiting, at: int) -> None:
        waiting.send_at, waiting.sent_at, waiting.wait_ns = at, NEVER, self.config.retry_ns_min
        self._repeat_at = min(self._repeat_at, at)

    def _answered(self, now: int, number: int, outcome: AskOutcome, payload: bytes) -> None:
        self._why = ""
        if number == self._opening:
            self._opening = 0
            self._session, self._sequence = opened(payload), 0
            self._next_once(now)
            return
        self._emit(Answered(number, int(outcome), payload))
        if self._once and self._once[0][0] == number:
            self._once.popleft()
            if outcome is AskOutcome.EXPIRED:
                self._session = None
            self._next_once(now)

    def _next_once(self, now: int) -> None:
        if not self._once or self._opening:
            return
        if self._session is None:
            self._opening = self._ask(now, self._number(), AskKind.COMMAND, open_session())
            return
        self._sequence += 1
        number, payload = self._once[0]
        self._ask(now, number, AskKind.COMMAND, command(self._session, self._sequence, payload))

    def _complain(self, why: str) -> None:
        if why != self._why:
            self._why = why
            self._emit(NoTracker(why))


def chunks(asks: list[Ask]) -> list[tuple[Ask, ...]]:
    """The asks of one message each: not too many, nor too long together."""
    out: list[tuple[Ask, ...]] = []
    chunk: list[Ask] = []
    size = 0
    for ask in asks:
        size += len(ask.payload) + ASK_BYTES
        if chunk and (len(chunk) >= ASKS_PER_MESSAGE_MAX or size > ASKS_BYTES_MAX):
            out.append(tuple(chunk))
            chunk, size = [], len(ask.payload) + ASK_BYTES
        chunk.append(ask)
    if chunk:
        out.append(tuple(chunk))
    return out
