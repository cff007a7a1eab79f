"""Jobs in a peer's hands, from assignment to checkpoints. The tracker is a real registry that answers when told to."""

import itertools
import random
from dataclasses import dataclass, field

import pytest

from zlb.core.config import TrackedConfig
from zlb.core.effects import Effect, Emit, Send
from zlb.core.events import Answered, Notice
from zlb.core.ids import JobId, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.message import Message
from zlb.core.work import Oracle, StopRule
from zlb.protocols import checkpoints, queries
from zlb.protocols import commands as c
from zlb.protocols.commands import Status
from zlb.protocols.coordinators import Coordinators
from zlb.protocols.patron import Patron
from zlb.protocols.raft.sessions import Sessions
from zlb.protocols.registry import Registry
from zlb.wire.messages import (
    Done,
    JobAdvert,
    Part,
    Reported,
    TaskAck,
    TaskReport,
    TaskRequest,
    TaskTransfer,
)
from zlb.wire.tracking import Ask, AskKind, AskOutcome, Reply, Roster, RosterJob, TrackerReply, TrackerRequest

ME, T, W, V = NodeId("me"), NodeId("t"), NodeId("w"), NodeId("v")
J = JobId("j")


def digest(n: int) -> bytes | None:
    """Every multiple of 7 hits."""
    return bytes([n % 256]) if n % 7 == 0 else None


def checker(kernel: str, _params: bytes) -> Oracle | str:
    return Oracle(digest) if kernel == "k" else f"no kernel {kernel}"


@dataclass
class Office:
    """A peer's coordinators, and the tracker they ask."""

    now: int = 0
    out: list[Effect] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    """On their way to the tracker."""
    seen: list[c.Command] = field(default_factory=list)
    """What the log holds of theirs, in order."""
    registry: Registry = field(default_factory=Registry)

    def __post_init__(self) -> None:
        self.log = Sessions(self.registry, 3600 * SECOND)
        self.patron = Patron(TrackedConfig().patron)
        self.core = Coordinators(ME, 1, checker, TrackedConfig(), self.patron, random.Random(1))
        self.do(self.patron.on_tracker(0, T, "main"))
        for node in ("me", "v"):
            self.commit(c.Join(node, "tcp://127.0.0.1:1", 1, 1))

    def commit(self, *asked: c.Command) -> None:
        for command in asked:
            ok, why = c.unpack_result(self.registry.apply(self.now, c.pack(command)))
            assert ok, why

    def submit(
        self,
        stop: int = 101,
        rule: StopRule = StopRule.ALL,
        wanted: int = 0,
        kernel: str = "k",
        certified: bool = False,
    ) -> None:
        spans, more = ((1, stop - 1),), {"chunk_count": 10, "certified": certified}
        spec = c.Submit(J, "", "", kernel, b"", spans, rule, wanted, **more)  # type: ignore[arg-type]
        self.commit(spec, c.Assign(J, "me", 1))

    def roster(self) -> list[Effect]:
        """The registry's roster comes."""
        jobs = tuple(
            RosterJob(job, entry.status, entry.epoch, entry.priority, entry.coordinator, 1, "")
            for job, entry in self.registry.open_jobs.items()
        )
        return self.do(self.core.on_roster(self.now, Roster(self.registry.version, (), jobs)))

    def do(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case Send(_, TrackerRequest(asks)):
                    self.asks += asks
                case Emit(Answered() as event):
                    assert self.core.on_answered(self.now, event)
                    self.do(self.core.flush())
                case _:
                    self.out.append(effect)
        return effects

    def tick(self, ns: int = 0) -> None:
        self.now += ns
        self.do(self.core.on_tick(self.now))
        self.do(self.patron.on_tick(self.now))

    def answer(self) -> None:
        """The tracker answers what it was asked."""
        self.tick()
        asks, self.asks = self.asks, []
        for ask in asks:
            if ask.kind == AskKind.QUERY:
                result = queries.answer(self.registry, ask.payload)
            else:
                applied = self.log.apply(self.now, ask.payload)
                assert isinstance(applied, bytes)
                result = applied
            self.reply(ask, AskOutcome.DONE, result)

    def reply(self, ask: Ask, outcome: AskOutcome, payload: bytes = b"") -> None:
        reply = TrackerReply("t", "", (Reply(ask.number, int(outcome), payload),))
        self.do(self.patron.on_tracker_reply(self.now, T, reply))

    def begin(self, **spec: object) -> None:
        """A job in our hands, begun."""
        self.submit(**spec)  # type: ignore[arg-type]
        self.roster()
        self.answer()

    def hear(self, message: Message, src: NodeId = W) -> list[Effect] | None:
        effects = self.core.on_message(self.now, src, message)
        return None if effects is None else self.do(effects)

    def lease(self, want: int = 1, src: NodeId = W, sequence: int = 1) -> list[tuple[int, int, int]]:
        effects = self.hear(TaskRequest(J, 1, sequence, want, 0.0, True, 1), src) or []
        (transfer,) = [
            e.message for e in effects if isinstance(e, Send) and isinstance(e.message, TaskTransfer)
        ]
        return [(grant.lease, *grant.span) for grant in transfer.leases]

    def report(
        self, *leases: tuple[int, int, int], sequence: int = 9, src: NodeId = W
    ) -> list[Effect] | None:
        parts = []
        for lease, start, stop in leases:
            hits = tuple(Reported(n, digest(n) or b"") for n in range(start, stop) if digest(n))
            parts.append(Part(lease, True, (Done(start, stop - start),), hits, MS, ""))
        return self.hear(TaskReport(J, 1, sequence, tuple(parts), 1), src)

    def told(self, kind: type[Message], to: NodeId | None = None) -> list[Message]:
        """Take out the messages of a kind."""
        sends = [
            effect for effect in self.out if isinstance(effect, Send) and isinstance(effect.message, kind)
        ]
        found = [send for send in sends if to in (None, send.to)]
        self.out = [effect for effect in self.out if effect not in found]
        return [send.message for send in found]

    @property
    def notices(self) -> list[str]:
        return [e.event.text for e in self.out if isinstance(e, Emit) and isinstance(e.event, Notice)]

    @property
    def commands(self) -> list[str]:
        """Kinds of the commands that are on their way."""
        payloads = [
            c.msgspec.msgpack.decode(ask.payload)[2] for ask in self.asks if ask.kind == AskKind.COMMAND
        ]
        return [c.msgspec.msgpack.decode(payload)[0] for payload in payloads]


# -- assignment


def test_a_job_that_the_roster_gives_us_is_resumed_and_then_served() -> None:
    office = Office()
    office.submit()
    office.roster()
    assert office.core.jobs == [J] and office.core.coordinator(J) is None
    office.answer()
    assert office.core.coordinator(J) is not None and office.lease() == [(1, 1, 11)]
    assert office.notices == ["coordinates job j, epoch 1"]


def test_before_it_is_resumed_and_of_anothers_job_nobody_is_served() -> None:
    office = Office()
    office.submit()
    assert office.hear(TaskRequest(J, 1, 1, 1, 0.0, True, 1)) is None
    office.roster()
    assert office.hear(TaskRequest(J, 1, 1, 1, 0.0, True, 1)) is None


def test_a_job_of_another_node_or_of_our_former_incarnation_is_not_ours() -> None:
    office = Office()
    jobs = (RosterJob("a", "running", 1, 5, "v", 1, ""), RosterJob("b", "running", 1, 5, "me", 0, ""))
    office.do(office.core.on_roster(0, Roster(1, (), jobs)))
    assert office.core.jobs == [] and office.core.drained


def test_a_job_is_resumed_where_its_checkpoints_end() -> None:
    office = Office()
    office.submit()
    office.commit(c.Checkpoint(J, 1, ((1, 20), (90, 11)), ((7, b"\x07"),), 40, 3))
    office.roster()
    office.answer()
    coordinator = office.core.coordinator(J)
    assert coordinator is not None and list(coordinator.ledger.unleased) == [(21, 90)]
    assert (coordinator.hits, coordinator.ledger.tested, coordinator.ledger.released) == (1, 40, 3)


def test_all_neighbours_hear_of_a_job_that_begins_and_new_ones_too() -> None:
    office = Office()
    office.do(office.core.on_neighbour(0, V))
    office.begin()
    assert len(office.told(JobAdvert, V)) == 1
    office.do(office.core.on_neighbour(0, W))
    assert len(office.told(JobAdvert, W)) == 1


def test_an_assignment_that_is_stale_by_now_is_dropped() -> None:
    office = Office()
    office.submit()
    office.roster()
    office.commit(c.Assign(J, "v", 2))
    office.answer()
    assert office.core.jobs == [] and office.out == []


def test_a_job_that_ended_before_it_was_resumed_is_not_begun() -> None:
    office = Office()
    office.submit()
    office.roster()
    office.commit(c.Steer(J, Status.CANCELLED))
    office.answer()
    assert office.core.jobs == [] and office.core.drained


def test_a_job_whose_hits_cannot_be_checked_here_fails() -> None:
    office = Office()
    office.begin(kernel="other")
    assert office.commands == [] and office.core.jobs == [J]
    office.answer()
    entry = office.registry.jobs[J]
    assert (entry.status, entry.detail) == (Status.FAILED, "no kernel other")
    assert office.core.jobs == []


def test_a_complaint_as_long_as_a_novel_ends_the_job_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    monkeypatch.setattr(office.core, "_checker", lambda kernel, params: "x" * 5000)
    office.begin(kernel="other")
    office.answer()
    assert office.registry.jobs[J].status is Status.FAILED


def test_chunks_are_as_the_submitter_wants_them() -> None:
    office = Office()
    office.begin()
    assert office.lease(2) == [(1, 1, 11), (2, 11, 21)]


def test_adverts_of_all_our_jobs_are_numbered_one_after_the_other() -> None:
    office = Office()
    office.begin()
    office.commit(c.Submit("k", "", "", "k", b"", ((1, 9),), StopRule.ALL, 0), c.Assign("k", "me", 1))
    office.roster()
    office.answer()
    for _ in range(3):
        office.do(office.core.on_neighbour(office.now, W))
    sequences = [advert.sequence for advert in office.told(JobAdvert)]  # type: ignore[attr-defined]
    assert len(sequences) == len(set(sequences)) >= 6


# -- checkpoints


def test_the_first_news_are_checkpointed_after_a_second_with_all_that_came_in() -> None:
    office = Office()
    office.begin()
    one, two = office.lease(2)
    office.report(one)
    office.tick(400 * MS)
    office.report(two, sequence=10)
    office.tick(600 * MS - 1)
    assert office.commands == []
    office.tick(1)
    assert office.commands == ["Checkpoint"]
    office.answer()
    entry = office.registry.jobs[J]
    assert entry.done == [(1, 20)] and entry.hits == {7: b"\x07", 14: b"\x0e"} and entry.tested == 20


def test_checkpoints_go_out_one_at_a_time_and_at_most_once_a_second() -> None:
    office = Office()
    office.begin(stop=1001)
    times, sequence = [], 1
    while office.now < 10 * SECOND:
        sequence += 1
        (lease,) = office.lease(sequence=sequence)
        office.report(lease, sequence=1000 + sequence)
        office.tick(150 * MS)
        if office.commands:
            times.append(office.now)
            assert office.commands == ["Checkpoint"]
            office.answer()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) >= 8 and min(gaps) >= SECOND


def test_while_a_checkpoint_is_not_answered_there_is_no_other() -> None:
    office = Office()
    office.begin()
    one, two = office.lease(2)
    office.report(one)
    office.tick(SECOND)
    office.report(two, sequence=10)
    for _ in range(5):
        office.tick(SECOND)
    assert len({ask.number for ask in office.asks}) == 1  # repeated, that is all


def test_a_report_is_kept_when_its_checkpoint_is_committed_and_not_before() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease()
    office.report(one)
    assert office.told(TaskAck) == [TaskAck(J, 9, False)]
    office.tick(SECOND)
    assert office.told(TaskAck) == []
    office.answer()
    assert office.told(TaskAck, W) == [TaskAck(J, 9, True)]


def test_a_report_without_news_is_kept_at_once() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease()
    office.hear(TaskReport(J, 1, 5, (Part(one[0], False, (), (), 0, ""),), 1))
    assert office.told(TaskAck) == [TaskAck(J, 5, True)]


def test_a_report_repeated_after_its_checkpoint_is_kept_without_another() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease()
    office.report(one)
    office.tick(SECOND)
    office.answer()
    office.told(TaskAck)
    office.report(one)
    office.tick(SECOND)
    assert office.told(TaskAck) == [TaskAck(J, 9, False), TaskAck(J, 9, True)] and office.commands == []


def test_a_report_repeated_while_its_checkpoint_is_out_is_kept_only_when_that_is_committed() -> None:
    office = Office()
    office.begin()
    (one,) = office.lease()
    office.report(one)
    office.tick(SECOND)
    office.report(one)
    for _ in range(3):
        office.tick(SECOND)
    assert TaskAck(J, 9, True) not in office.told(TaskAck)
    office.answer()
    assert TaskAck(J, 9, True) in office.told(TaskAck)


def test_what_is_checkpointed_by_an_office_that_begins_again_in_the_same_epoch_counts() -> None:
    office = Office()
    office.begin()
    office.report(*office.lease())
    office.tick(SECOND)
    office.answer()
    office.report(*office.lease(sequence=2), sequence=10)
    office.tick(SECOND)
    (ask,), office.asks = office.asks, []
    office.reply(ask, AskOutcome.TOO_LARGE)
    assert not office.core.jobs
    office.commit(c.Listen("t", "tcp://127.0.0.1:9"))  # a roster of another version
    office.roster()
    office.answer()
    office.report(*office.lease(sequence=3), sequence=11)
    office.tick(SECOND)
    office.answer()
    assert office.registry.jobs[J].done == [(1, 20)]


def test_evidence_goes_along_until_nobody_keeps_it() -> None:
    office = Office()
    office.begin(certified=True)
    for number in range(3):
        office.report(*office.lease(sequence=2 * number), sequence=100 + number)
        office.tick(SECOND)
        if number == 1:
            office.registry.evidence.clear()
        office.answer()
        coordinator = office.core.coordinator(J)
        assert coordinator is not None and (coordinator.foreman.evidence is None) == (number >= 1)
        if not number:
            assert [(row.start, row.stop, row.worker) for row in office.registry.evidence[J].rows()] == [
                (1, 11, W)
            ]
    assert office.registry.jobs[J].done == [(1, 30)] and not office.registry.evidence


def test_news_that_have_no_room_in_a_checkpoint_go_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SPANS_PER_CHECKPOINT_MAX", 1)
    office = Office()
    office.begin()
    first, _, third = office.lease(3)
    office.report(first, third)
    office.tick(SECOND)
    office.answer()
    assert office.registry.jobs[J].done == [(1, 10)]
    office.tick()
    assert office.commands == ["Checkpoint"]


def test_drained_is_who_has_all_it_knows_in_the_log() -> None:
    office = Office()
    office.begin()
    assert office.core.drained
    (one,) = office.lease()
    office.report(one)
    assert not office.core.drained
    office.do(office.core.on_stop(office.now))
    assert not office.core.drained
    office.answer()
    assert office.core.drained and office.registry.jobs[J].done == [(1, 10)]
