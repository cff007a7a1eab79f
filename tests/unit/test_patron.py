"""Whoever uses a replicated tracker: each ask is repeated, elsewhere, until it is answered. A promise is a test."""

from dataclasses import dataclass, field

import msgspec
import pytest

from zlb.core.config import PatronConfig
from zlb.core.effects import Effect, Emit, Send
from zlb.core.events import Answered, NoTracker
from zlb.core.ids import NodeId
from zlb.core.limits import ASKS_BYTES_MAX, ASKS_PER_MESSAGE_MAX, MS, SECOND
from zlb.core.timers import NEVER
from zlb.protocols.patron import SILENCE, Patron, chunks
from zlb.protocols.raft.sessions import Sessions, command, open_session, repeatable
from zlb.wire.tracking import Ask, AskKind, AskOutcome, Reply, TrackerReply, TrackerRequest

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
CONFIG = PatronConfig()


@dataclass
class Bench:
    """A patron, whom it asked what, and what it told."""

    now: int = 0
    asked: list[tuple[str, Ask]] = field(default_factory=list)
    told: list[object] = field(default_factory=list)
    core: Patron = field(default_factory=lambda: Patron(CONFIG))

    def do(self, effects: list[Effect]) -> list[tuple[str, int]]:
        """Take effects in; whom what number was asked."""
        fresh = []
        for effect in effects:
            match effect:
                case Send(to, TrackerRequest(asks)):
                    fresh += [(str(to), ask) for ask in asks]
                case Emit(event):
                    self.told.append(event)
        self.asked += fresh
        return [(to, ask.number) for to, ask in fresh]

    def up(self, *nodes: NodeId, cluster: str = "main") -> None:
        for node in nodes:
            self.do(self.core.on_tracker(self.now, node, cluster))

    def ask(self, payload: bytes = b"q", kind: AskKind = AskKind.QUERY) -> int:
        return self.core.ask(self.now, kind, payload)

    def once(self, payload: bytes = b"c") -> int:
        return self.core.once(self.now, payload)

    def tick(self, ns: int = 0) -> list[tuple[str, int]]:
        self.now += ns
        return self.do(self.core.on_tick(self.now))

    def next(self) -> list[tuple[str, int]]:
        """What is sent at the next deadline."""
        self.now = max(self.now, self.core.deadline())
        return self.tick()

    def reply(
        self, src: NodeId, number: int, outcome: AskOutcome, payload: bytes = b"", leader: str = ""
    ) -> list[tuple[str, int]]:
        reply = TrackerReply(leader, "", (Reply(number, int(outcome), payload),))
        return self.do(self.core.on_tracker_reply(self.now, src, reply))

    def done(self, src: NodeId, number: int, payload: bytes = b"r") -> None:
        self.reply(src, number, AskOutcome.DONE, payload)

    @property
    def commands(self) -> list[tuple[int, int, bytes]]:
        """Session, sequence and payload of all commands, as they were sent."""
        sent = [ask.payload for _, ask in self.asked if ask.kind == AskKind.COMMAND]
        return [msgspec.msgpack.decode(payload, type=tuple[int, int, bytes]) for payload in sent]


# -- asking and repeating


def test_what_is_asked_is_sent_with_the_next_tick_and_answered_once() -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask(b"how?")
    assert bench.core.deadline() == 0 and bench.tick() == [("a", number)]
    assert bench.asked[0][1] == Ask(number, AskKind.QUERY, b"how?")
    bench.done(A, number, b"so")
    assert bench.told == [Answered(number, AskOutcome.DONE, b"so")] and bench.tick(9 * SECOND) == []


def test_what_is_asked_in_one_wake_up_travels_together() -> None:
    bench = Bench()
    bench.up(A)
    numbers = [bench.ask() for _ in range(3)]
    (send,) = bench.core.on_tick(0)
    assert isinstance(send, Send) and isinstance(send.message, TrackerRequest)
    assert [ask.number for ask in send.message.asks] == numbers


def test_replies_that_are_late_or_doubled_are_ignored() -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    for _ in range(2):
        bench.done(A, number)
    bench.reply(A, number, AskOutcome.NOT_LEADER)
    bench.done(A, 77)
    assert len(bench.told) == 1 and bench.core.deadline() > NEVER // 2 or bench.next() == []


def test_replies_of_who_is_no_tracker_of_ours_are_ignored() -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    bench.done(B, number)
    assert bench.told == []


def test_without_an_answer_the_same_ask_is_sent_elsewhere_backing_off() -> None:
    bench = Bench()
    bench.up(A, B, C)
    number = bench.ask()
    bench.tick()
    waits, targets, at = [], [], 0
    for _ in range(6):
        targets += [to for to, again in bench.next() if again == number]
        waits.append((bench.now - at) // MS)
        at = bench.now
    assert waits == [250, 500, 1000, 2000, 2000, 2000]
    assert targets == ["b", "c", "a", "b", "c", "a"] and len({ask for _, ask in bench.asked}) == 1


def test_with_one_tracker_only_that_one_is_asked_again() -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    assert bench.next() == [("a", number)]


def test_who_is_lost_is_asked_no_more_and_what_its_leader_had_is_asked_elsewhere_at_once() -> None:
    bench = Bench()
    bench.up(A, B)
    number = bench.ask()
    bench.tick()
    bench.reply(A, 0, AskOutcome.DONE, leader="a")  # who leads is told with every reply
    bench.now += MS
    bench.do(bench.core.on_lost(bench.now, A))
    assert bench.tick() == [("b", number)] and bench.core.trackers == [B]


def test_what_was_asked_of_one_that_is_lost_is_asked_elsewhere_at_once_though_it_was_no_known_leader() -> (
    None
):
    bench = Bench()
    bench.up(A, B)
    number = bench.ask()
    bench.tick()
    bench.now += MS
    bench.do(bench.core.on_lost(bench.now, A))
    assert bench.tick() == [("b", number)]


def test_asks_wait_for_the_first_tracker_and_then_go_at_once() -> None:
    bench = Bench()
    number = bench.ask()
    assert bench.tick() == [] and bench.tick(10 * SECOND) == []
    bench.up(A)
    assert bench.tick() == [("a", number)]


# -- leaders


def test_a_reply_tells_who_leads_and_that_one_is_asked_first_from_then_on() -> None:
    bench = Bench()
    bench.up(A, B)
    first = bench.ask()
    bench.tick()
    bench.reply(A, first, AskOutcome.DONE, leader="b")
    second = bench.ask()
    assert bench.tick() == [("b", second)] and bench.core.leader == B


def test_a_redirect_is_followed_at_once() -> None:
    bench = Bench()
    bench.up(A, B)
    number = bench.ask()
    bench.tick()
    bench.reply(A, number, AskOutcome.NOT_LEADER, leader="b")
    assert bench.core.deadline() <= bench.now and bench.tick() == [("b", number)]


def test_a_redirect_to_one_there_is_no_link_with_yet_waits_for_a_moment() -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    bench.reply(A, number, AskOutcome.NOT_LEADER, leader="b")
    assert bench.tick() == []
    bench.up(B)
    assert bench.tick(CONFIG.elsewhere_ns) == [("a", number)]
    bench.reply(A, number, AskOutcome.NOT_LEADER, leader="b")
    assert bench.tick() == [("b", number)]


def test_two_that_are_wrong_about_each_other_are_not_asked_in_turns_without_a_pause() -> None:
    bench = Bench()
    bench.up(A, B)
    number = bench.ask()
    bench.tick()
    for src, other in [(A, "b"), (B, "a")] * 10:
        bench.reply(src, number, AskOutcome.NOT_LEADER, leader=other)
        bench.tick()
    assert len(bench.asked) <= 4
    assert bench.tick(CONFIG.elsewhere_ns)


def test_when_nobody_leads_the_next_one_is_asked_after_a_moment() -> None:
    bench = Bench()
    bench.up(A, B)
    number = bench.ask()
    bench.tick()
    bench.reply(A, number, AskOutcome.NOT_LEADER, b"b missing")
    assert bench.tick(CONFIG.elsewhere_ns - 1) == []
    assert bench.core.deadline() == bench.now + 1 and bench.tick(1) == [("b", number)]


@pytest.mark.parametrize("outcome", [AskOutcome.UNKNOWN, AskOutcome.BUSY])
def test_what_is_not_settled_is_asked_again_after_a_moment(outcome: AskOutcome) -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    bench.reply(A, number, outcome)
    assert bench.tick(CONFIG.elsewhere_ns - 1) == [] and bench.tick(1) == [("a", number)]
    assert bench.told == []


@pytest.mark.parametrize("outcome", [outcome for outcome in AskOutcome if outcome.final])
def test_a_final_word_is_told_whatever_it_is(outcome: AskOutcome) -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    bench.reply(A, number, outcome, b"why")
    assert bench.told == [Answered(number, outcome, b"why")]


# -- commands


def test_commands_that_may_be_repeated_belong_to_no_session() -> None:
    bench = Bench()
    bench.up(A)
    bench.ask(b"c", AskKind.COMMAND)
    bench.tick()
    assert bench.asked[0][1].payload == repeatable(b"c")


def test_no_session_is_opened_before_a_command_needs_one() -> None:
    bench = Bench()
    bench.up(A)
    bench.ask(b"c", AskKind.COMMAND)
    bench.tick()
    assert open_session() not in [ask.payload for _, ask in bench.asked]
    bench.once()
    bench.tick()
    assert bench.asked[-1][1].payload == open_session()


def opened(bench: Bench, session: int = 5) -> None:
    """A session was asked for: it is opened."""
    number = next(ask.number for _, ask in reversed(bench.asked) if ask.payload == open_session())
    bench.done(A, number, msgspec.msgpack.encode(session))


def test_commands_given_once_are_sent_one_after_the_other_in_their_order() -> None:
    bench = Bench()
    bench.up(A)
    numbers = [bench.once(payload) for payload in (b"x", b"y", b"z")]
    assert len(bench.tick()) == 1
    opened(bench)
    for sequence, number in enumerate(numbers, 1):
        assert bench.tick() == [("a", number)] and bench.tick() == []
        assert bench.asked[-1][1].payload == command(5, sequence, b"xyz"[sequence - 1 : sequence])
        bench.done(A, number)
    assert [event.number for event in bench.told if isinstance(event, Answered)] == numbers


def test_a_command_given_while_another_is_out_waits_for_its_answer() -> None:
    bench = Bench()
    bench.up(A)
    first = bench.once(b"x")
    bench.tick()
    opened(bench)
    bench.tick()
    second = bench.once(b"y")
    assert bench.tick() == []
    bench.done(A, first)
    assert bench.tick() == [("a", second)] and bench.commands[1:] == [(5, 1, b"x"), (5, 2, b"y")]


def test_a_command_given_once_is_repeated_under_the_same_number_of_its_session() -> None:
    bench = Bench()
    bench.up(A, B)
    number = bench.once()
    bench.tick()
    opened(bench)
    bench.tick()
    bench.reply(A, number, AskOutcome.UNKNOWN)
    bench.next()
    bench.next()
    assert bench.commands[1:] == [(5, 1, b"c")] * 3


def test_opening_a_session_is_nobody_elses_answer() -> None:
    bench = Bench()
    bench.up(A)
    bench.once()
    bench.tick()
    opened(bench)
    assert bench.told == []


def test_a_session_that_has_expired_is_told_and_the_next_command_opens_another() -> None:
    bench = Bench()
    bench.up(A)
    first, second = bench.once(b"x"), bench.once(b"y")
    bench.tick()
    opened(bench)
    bench.tick()
    bench.reply(A, first, AskOutcome.EXPIRED)
    assert bench.told == [Answered(first, AskOutcome.EXPIRED, b"")]
    bench.tick()
    opened(bench, 6)
    assert bench.tick() == [("a", second)] and bench.commands[-1] == (6, 1, b"y")


def test_what_the_patron_sends_is_what_sessions_execute_once() -> None:
    class Tape:
        def __init__(self) -> None:
            self.seen: list[bytes] = []

        def apply(self, _time_ns: int, payload: bytes) -> bytes:
            self.seen.append(payload)
            return payload.upper()

        def snapshot(self) -> bytes:
            return b""

        def restore(self, _data: bytes) -> None: ...

    bench, tape = Bench(), Tape()
    sessions = Sessions(tape, SECOND)
    bench.up(A)
    for payload in (b"x", b"y"):
        bench.once(payload)
    for _ in range(12):  # every second answer is lost
        bench.next()
        ask = bench.asked[-1][1]
        result = sessions.apply(0, ask.payload)
        assert isinstance(result, bytes)
        if len(bench.asked) % 2 == 0:
            bench.done(A, ask.number, result)
    assert tape.seen == [b"x", b"y"]
    assert [event.payload for event in bench.told if isinstance(event, Answered)] == [b"X", b"Y"]


# -- giving up


def test_who_gives_up_hears_nothing_more() -> None:
    bench = Bench()
    bench.up(A)
    number = bench.ask()
    bench.tick()
    bench.core.give_up(number)
    bench.done(A, number)
    assert bench.told == [] and bench.tick(9 * SECOND) == []


def test_who_gives_up_at_once_has_asked_nobody() -> None:
    bench = Bench()
    bench.up(A)
    bench.core.give_up(bench.ask())
    assert bench.tick() == []


def test_giving_up_a_command_that_waits_for_its_turn_leaves_the_others() -> None:
    bench = Bench()
    bench.up(A)
    first, second, third = bench.once(b"x"), bench.once(b"y"), bench.once(b"z")
    bench.tick()
    opened(bench)
    bench.tick()
    bench.core.give_up(second)
    bench.done(A, first)
    assert bench.tick() == [("a", third)]


@pytest.mark.parametrize("ticks", [0, 1])
def test_giving_up_the_command_that_is_out_lets_the_next_one_go(ticks: int) -> None:
    bench = Bench()
    bench.up(A)
    first, second = bench.once(b"x"), bench.once(b"y")
    bench.tick()
    opened(bench)
    for _ in range(ticks):
        bench.tick()
    bench.core.give_up(first)
    assert bench.next() == [("a", second)]
    bench.done(A, second)
    assert [event.number for event in bench.told if isinstance(event, Answered)] == [second]


def test_giving_up_all_while_a_session_is_opened_leaves_it_for_the_next() -> None:
    bench = Bench()
    bench.up(A)
    bench.core.give_up(bench.once(b"x"))
    bench.tick()
    opened(bench)
    number = bench.once(b"y")
    assert bench.tick() == [("a", number)] and bench.commands[-1] == (5, 1, b"y")


# -- clusters, and complaints


def test_trackers_of_another_cluster_are_not_asked() -> None:
    bench = Bench()
    bench.up(A)
    bench.up(B, cluster="other")
    assert bench.core.trackers == [A] and bench.core.cluster == "main"
    assert bench.told == [NoTracker("b is a tracker of cluster 'other', the others are of 'main'")]


def test_that_no_tracker_answers_is_said_once() -> None:
    bench = Bench()
    bench.ask()
    for _ in range(5):
        bench.next()
    assert bench.told == [NoTracker(SILENCE)]


def test_a_reason_is_said_once_and_another_one_again() -> None:
    bench = Bench()
    bench.up(A, B)
    number = bench.ask()
    bench.tick()
    for src, why in ((A, b"x"), (B, b"x"), (A, b"y"), (B, b"y")):
        bench.reply(src, number, AskOutcome.NOT_LEADER, why)
        bench.next()
    assert bench.told == [NoTracker("x"), NoTracker("y")]
    bench.done(A, number)
    again = bench.ask()
    bench.tick()
    bench.reply(A, again, AskOutcome.NOT_LEADER, b"y")
    assert bench.told[-1] == NoTracker("y")


def test_deadlines_lie_never_in_the_past_for_long() -> None:
    bench = Bench()
    bench.up(A, B)
    for _ in range(3):
        bench.ask()
    bench.once()
    for _ in range(50):
        bench.next()
        assert bench.core.deadline() > bench.now


# -- chunks


@pytest.mark.parametrize(
    ("sizes", "messages"),
    [
        ([], []),
        ([1] * ASKS_PER_MESSAGE_MAX, [ASKS_PER_MESSAGE_MAX]),
        ([1] * (ASKS_PER_MESSAGE_MAX + 1), [ASKS_PER_MESSAGE_MAX, 1]),
        ([ASKS_BYTES_MAX // 2, ASKS_BYTES_MAX // 2], [1, 1]),
        ([ASKS_BYTES_MAX // 2 - 16, ASKS_BYTES_MAX // 2 - 16, 0], [2, 1]),
        ([3 * ASKS_BYTES_MAX, 1, 1], [1, 2]),
        ([1, 3 * ASKS_BYTES_MAX, 1], [1, 1, 1]),
    ],
)
def test_asks_of_one_message_are_neither_too_many_nor_too_long(sizes: list[int], messages: list[int]) -> None:
    asks = [Ask(number, 0, bytes(size)) for number, size in enumerate(sizes)]
    assert [len(chunk) for chunk in chunks(asks)] == messages
    assert [ask for chunk in chunks(asks) for ask in chunk] == asks
