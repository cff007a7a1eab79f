"""Where a tracker's clients ask: what they asked and waits, and the replies of one step, which travel together.

```
 command ─► the replica's log, if it leads ─► applied ─┐
 query ─► the replica's ReadIndex ─► confirmed ─────────┼─► TRACKER_REPLY
 anything else, or not possible here ───────────────────┘
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zlb.core.effects import Effect
from zlb.core.ids import NodeId
from zlb.core.limits import ASKS_BYTES_MAX, ASKS_PER_MESSAGE_MAX, ASKS_WAITING_MAX
from zlb.core.node import Core
from zlb.protocols import queries
from zlb.protocols.raft.machine import Refusal
from zlb.protocols.raft.replica import Replica
from zlb.protocols.raft.sessions import SessionRefusal
from zlb.protocols.registry import Registry
from zlb.wire.tracking import Ask, AskKind, AskOutcome, Reply, TrackerReply, TrackerRequest

DONE, COMMAND, QUERY = int(AskOutcome.DONE), int(AskKind.COMMAND), int(AskKind.QUERY)
"""As plain integers: an enumeration's member costs a tenth of a microsecond an ask."""
SESSION_OUTCOMES = {
    SessionRefusal.EXPIRED: AskOutcome.EXPIRED,
    SessionRefusal.STALE: AskOutcome.STALE,
    SessionRefusal.MALFORMED: AskOutcome.MALFORMED,
}
REFUSALS = {
    Refusal.NOT_LEADER: AskOutcome.NOT_LEADER,
    Refusal.TRANSFERRING: AskOutcome.BUSY,
    Refusal.TOO_LARGE: AskOutcome.TOO_LARGE,
}
"""The others are impossible."""


class Desk(Core):
    """Takes asks in for `replica` and answers them from `registry`.

    `steer` is handed what is about the cluster itself, `why_no_leader` says in words who is missing.
    """

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        steer: Callable[[int, NodeId, Ask], None],
        why_no_leader: Callable[[], str],
    ) -> None:
        super().__init__()
        self._replica, self._registry = replica, registry
        self._steer, self._why_no_leader = steer, why_no_leader
        self._commands: dict[int, tuple[int, NodeId, int]] = {}
        """By index in the log: its term, and whose ask of which number it answers."""
        self._queries: dict[int, tuple[int, NodeId, list[Ask]]] = {}
        """By token: when they came, and whose they are."""
        self._asked = 0
        """Queries that wait."""
        self._token = 0
        self._replies: dict[NodeId, list[Reply]] = {}
        self._announced: NodeId | None = None

    @property
    def waiting(self) -> int:
        """Asks that are not answered yet."""
        return len(self._commands) + self._asked

    # -- asks

    def on_tracker_request(self, now: int, src: NodeId, request: TrackerRequest) -> list[Effect]:
        """Take in what `src` asks."""
        asked: list[Ask] = []
        for ask in request.asks:
            if self.waiting + len(asked) >= ASKS_WAITING_MAX:
                self.reply(src, ask.number, AskOutcome.BUSY)
            elif ask.kind == COMMAND:
                self._on_command(now, src, ask)
            elif ask.kind == QUERY:
                asked.append(ask)
            else:
                self._steer(now, src, ask)
        if asked:
            self._on_queries(now, src, asked)
        return self._flush()

    def _on_command(self, now: int, src: NodeId, ask: Ask) -> None:
        placed = self._replica.propose(now, ask.payload)
        if isinstance(placed, Refusal):
            self.refuse(src, ask.number, placed)
        else:
            self._commands[placed[0]] = placed[1], src, ask.number

    def _on_queries(self, now: int, src: NodeId, asks: list[Ask]) -> None:
        if self._replica.known_leader is None:
            for ask in asks:
                self.refuse(src, ask.number, Refusal.NOT_LEADER)
            return
        self._token += 1
        self._queries[self._token] = now, src, asks
        self._asked += len(asks)
        self._out += self._replica.read(now, self._token)

    # -- answers

    def on_applied(self, log_index: int, term: int, result: object) -> None:
        """The command at that index has had its result."""
        asked = self._commands.pop(log_index, None)
        if asked is None:
            return
        placed_in, src, number = asked
        if placed_in != term:
            self.reply(src, number, AskOutcome.UNKNOWN)
        elif isinstance(result, bytes):
            self._replies.setdefault(src, []).append(Reply(number, DONE, result))
        else:
            assert isinstance(result, SessionRefusal)
            self.reply(src, number, SESSION_OUTCOMES[result])

    def on_confirmed(self, token: int) -> None:
        """What is applied by now answers the queries of that token."""
        _, src, asks = self._queries.pop(token, (0, NodeId(""), []))
        self._asked -= len(asks)
        for ask in asks:
            self.reply(src, ask.number, AskOutcome.DONE, queries.answer(self._registry, ask.payload))

    def on_deposed(self) -> None:
        """We lead no longer: whether what was put into the log stays there is for others to say."""
        for _, src, number in self._commands.values():
            self.reply(src, number, AskOutcome.UNKNOWN)
        self._commands.clear()

    def on_leader(self, leader: NodeId | None, clients: Iterable[NodeId]) -> None:
        """Somebody leads, or nobody: `clients`, who may wait for an answer of the one before, hear of it at once."""
        if leader is not None and leader != self._announced:
            for client in clients:
                self._replies.setdefault(client, [])
        self._announced = leader

    def forget(self, before: int) -> bool:
        """Drop queries that came before that time: their confirmation was lost, and whoever asked has asked again.
        Whether others wait."""
        for token in [token for token, (came_at, _, _) in self._queries.items() if came_at <= before]:
            self._asked -= len(self._queries.pop(token)[2])
        return bool(self._queries)

    def refuse(self, src: NodeId, number: int, refusal: Refusal) -> None:
        """It cannot be, or not here."""
        outcome = REFUSALS.get(refusal, AskOutcome.IMPOSSIBLE)
        why = refusal.value
        if outcome is AskOutcome.NOT_LEADER and self._replica.known_leader is None:
            why = self._why_no_leader()
        self.reply(src, number, outcome, why.encode())

    def reply(self, src: NodeId, number: int, outcome: AskOutcome, payload: bytes = b"") -> None:
        """Answer an ask, with the next `settle`."""
        self._replies.setdefault(src, []).append(Reply(number, int(outcome), payload))

    def settle(self, where: str) -> list[Effect]:
        """Send all replies; our leader, if there is one, listens at `where`."""
        leader = self._replica.known_leader or ""
        replies, self._replies = self._replies, {}
        for src, all_of_it in replies.items():
            batch: list[Reply] = []
            size = 0
            for reply in all_of_it:
                size += len(reply.payload)
                if batch and (size > ASKS_BYTES_MAX or len(batch) >= ASKS_PER_MESSAGE_MAX):
                    self._send(src, TrackerReply(leader, where, tuple(batch)))
                    batch, size = [], len(reply.payload)
                batch.append(reply)
            self._send(src, TrackerReply(leader, where, tuple(batch)))
        return self._flush()
