"""A peer with trackers: its place on the roster, jobs it coordinates and works on itself, and how it leaves."""

import random

from zlb.core.config import PeerConfig
from zlb.core.effects import Effect, Emit, Persist, Run, Send
from zlb.core.errors import ErrorCode
from zlb.core.events import NoTracker, Stopped
from zlb.core.ids import Endpoint, NodeId
from zlb.core.limits import MS, SECOND
from zlb.core.message import Message
from zlb.core.work import Contacts, Oracle, Searched, StopRule
from zlb.nodes.peer import Peer
from zlb.protocols import commands as c
from zlb.protocols import queries
from zlb.protocols.raft.sessions import Sessions
from zlb.protocols.registry import Registry
from zlb.wire.messages import Goodbye, Hello, JobAdvert, Refused, TaskReport, TaskRequest
from zlb.wire.tracking import (
    AskKind,
    AskOutcome,
    Heartbeat,
    HeartbeatAck,
    Reply,
    Roster,
    RosterJob,
    TrackerReply,
    TrackerRequest,
)

T, U, S = NodeId("t"), NodeId("u"), NodeId("s")
AT, TRACKER = "tcp://127.0.0.1:1", "tcp://127.0.0.1:7000"


def checker(_kernel: str, _params: bytes) -> Oracle | str:
    return Oracle(lambda n: None)


class Bench:
    """A peer whose tracker is a registry that answers at once."""

    def __init__(self, expects: bool = False) -> None:
        config = PeerConfig(measure_kernel="", expects_tracker=expects)
        self.peer = Peer(NodeId("p"), 1, AT, "", [], config, random.Random(1), {"k": 1000.0}, checker)
        self.now = 0
        self.registry = Registry()
        self.log = Sessions(self.registry, 3600 * SECOND)
        self.sent: list[tuple[str, Message]] = []
        self.effects: list[Effect] = []
        self.replies: list[Reply] = []
        self.seen: list[bytes] = []
        self.mute = False
        """The tracker says nothing."""
        self.do(self.peer.on_start(0))

    def do(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Send):
                self.sent.append((str(effect.to), effect.message))
                if isinstance(effect.message, TrackerRequest) and effect.to == T and not self.mute:
                    self._asked(effect.message)
        return effects

    def _asked(self, request: TrackerRequest) -> None:
        for ask in request.asks:
            if ask.kind == AskKind.QUERY:
                result = queries.answer(self.registry, ask.payload)
            else:
                self.seen.append(ask.payload)
                applied = self.log.apply(self.now, ask.payload)
                assert isinstance(applied, bytes)
                result = applied
            self.replies.append(Reply(ask.number, int(AskOutcome.DONE), result))

    def hear(self, src: NodeId, message: Message) -> list[Effect]:
        return self.do(self.peer.on_message(self.now, src, message))

    def link(self, node: NodeId, cluster: str = "main") -> None:
        self.hear(node, Hello(node, 1, "", "", "", cluster))

    def run(self, ns: int = 0) -> None:
        """Let time pass; the tracker answers at once."""
        until = self.now + ns
        for _ in range(2000):
            if self.replies:
                replies, self.replies = tuple(self.replies), []
                self.hear(T, TrackerReply("t", "", replies))
                continue
            if self.peer.deadline() > until or self.peer._stopped:
                self.now = until
                return
            self.now = max(self.now, self.peer.deadline())
            self.do(self.peer.on_tick(self.now))
        raise AssertionError("a deadline that never passes")

    def commit(self, *commands: c.Command) -> None:
        for command in commands:
            ok, why = c.unpack_result(self.registry.apply(self.now, c.pack(command)))
            assert ok, why

    def roster(self, *trackers: str, listen: str = "", src: NodeId = T) -> None:
        jobs = tuple(
            RosterJob(job, entry.status, entry.epoch, entry.priority, entry.coordinator, 1, listen)
            for job, entry in self.registry.open_jobs.items()
        )
        self.hear(src, Roster(self.registry.version, trackers, jobs))

    def coordinate(self) -> None:
        """A job is ours to coordinate."""
        self.link(T)
        job = c.Submit("j", "", "", "k", b"", ((0, 1000),), StopRule.ALL, 0, chunk_count=100)
        self.commit(c.Join("p", AT, 1, 1), job, c.Assign("j", "p", 1))
        self.roster()
        self.run(10 * MS)

    def told(self, kind: type[Message]) -> list[tuple[str, Message]]:
        return [(to, message) for to, message in self.sent if isinstance(message, kind)]


# -- the roster


def test_heartbeat_goes_to_a_tracker_and_to_no_other_neighbour() -> None:
    bench = Bench()
    bench.link(S, "")
    bench.link(T)
    bench.run(MS)
    assert bench.told(Heartbeat) == [("t", Heartbeat(1, AT, 1, 0))]


def test_trackers_of_two_clusters_are_not_used_at_once() -> None:
    bench = Bench()
    bench.link(T)
    bench.link(U, "other")
    bench.run(5 * SECOND)
    assert {to for to, _ in bench.told(Heartbeat)} == {"t"}
    bench.hear(U, Roster(99, (), ()))
    assert bench.peer.enrolment.roster is None
    assert [e for e in bench.effects if isinstance(e, Emit) and isinstance(e.event, NoTracker)]


def test_words_of_trackers_from_who_is_none_are_not_heard() -> None:
    bench = Bench()
    bench.link(S, "")
    for message in (Roster(1, (), ()), HeartbeatAck(1), TrackerReply("s", "", ())):
        bench.hear(S, message)
    assert bench.peer.unexpected == 3 and bench.peer.enrolment.roster is None


def test_roster_makes_us_dial_trackers_and_coordinators() -> None:
    bench = Bench()
    bench.link(T)
    bench.commit(
        c.Join("q", AT, 1, 1),
        c.Submit("j", "", "", "k", b"", ((0, 9),), StopRule.ALL, 0),
        c.Assign("j", "q", 1),
    )
    bench.roster(TRACKER, listen="tcp://127.0.0.1:5")
    assert {to for to, _ in bench.told(Hello)} == {TRACKER, "tcp://127.0.0.1:5"}
    assert Persist(Contacts((Endpoint(TRACKER),), (Endpoint("tcp://127.0.0.1:5"),))) in bench.effects


def test_a_redirect_makes_us_dial_the_leader() -> None:
    bench = Bench()
    bench.link(T)
    bench.hear(T, TrackerReply("u", "tcp://127.0.0.1:6", ()))
    assert [to for to, _ in bench.told(Hello)] == ["tcp://127.0.0.1:6"]


def test_a_missing_tracker_is_told_of_where_one_is_expected() -> None:
    for expects in (True, False):
        bench = Bench(expects)
        bench.run(10 * SECOND)
        told = [e for e in bench.effects if isinstance(e, Emit) and isinstance(e.event, NoTracker)]
        assert len(told) == expects


# -- our own jobs


def test_we_work_on_the_job_we_coordinate() -> None:
    bench = Bench()
    bench.coordinate()
    runs = [effect for effect in bench.effects if isinstance(effect, Run)]
    assert bench.peer.coordinators.jobs == bench.peer.worker.jobs == ["j"]
    assert [(run.work.start, run.work.stop) for run in runs] == [(0, 100), (100, 200)]  # type: ignore[union-attr]
    assert not [to for to, _ in bench.sent if to == "p"]  # nothing of that leaves the process


def test_our_own_work_is_checkpointed_and_the_job_ends() -> None:
    bench = Bench()
    bench.coordinate()
    seen = 0
    for _ in range(100):
        runs = [effect for effect in bench.effects if isinstance(effect, Run)]
        for run in runs[seen:]:
            bench.do(bench.peer.on_done(bench.now, run.run_id, Searched(run.work.stop, (), 100 * MS)))  # type: ignore[union-attr]
        seen = len(runs)
        bench.run(100 * MS)
    entry = bench.registry.jobs["j"]  # type: ignore[index]
    assert (entry.status, entry.done, entry.tested) == (c.Status.COMPLETE, [(0, 1000)], 1000)
    assert bench.peer.worker.jobs == [] and bench.peer.coordinators.jobs == [] and bench.peer.worker.drained


def test_others_are_served_too() -> None:
    bench = Bench()
    bench.coordinate()
    bench.link(S, "")
    assert [to for to, _ in bench.told(JobAdvert)] == ["s"]
    bench.hear(S, TaskRequest("j", 1, 1, 1, 0.0, True, 1))
    assert bench.sent[-1][0] == "s"
    bench.hear(S, TaskReport("x", 1, 1, (), 1))
    assert bench.sent[-1] == ("s", Refused(ErrorCode.NOT_A_COORDINATOR, "of job x"))


def test_a_roster_without_a_job_whose_coordinator_has_left_ends_it() -> None:
    bench = Bench()
    bench.link(T)
    bench.link(S, "")
    bench.hear(S, JobAdvert("s", 1, 1, "j", "k", 100, 1))
    bench.hear(S, Goodbye("stopped"))
    assert bench.peer.worker.jobs == ["j"]
    bench.hear(T, Roster(5, (), ()))
    assert bench.peer.worker.jobs == []


# -- leaving


def test_stop_takes_us_off_the_roster_and_then_says_goodbye() -> None:
    bench = Bench()
    bench.link(T)
    bench.commit(c.Join("p", AT, 1, 1))
    bench.roster()
    bench.do(bench.peer.on_stop(bench.now))
    assert Emit(Stopped()) not in bench.effects
    bench.run(10 * MS)
    assert not bench.registry.peers and Emit(Stopped()) in bench.effects
    assert bench.sent[-1] == ("t", Goodbye("stopped"))
    assert len(bench.seen) == 1


def test_stop_waits_for_a_silent_tracker_a_second_and_no_longer() -> None:
    bench = Bench()
    bench.link(T)
    bench.roster()
    bench.mute = True
    bench.do(bench.peer.on_stop(bench.now))
    bench.run(SECOND - 1)
    assert Emit(Stopped()) not in bench.effects
    bench.run(1)
    assert Emit(Stopped()) in bench.effects


def test_stop_of_a_peer_that_is_not_enrolled_is_immediate() -> None:
    bench = Bench()
    bench.link(S, "")
    assert Emit(Stopped()) in bench.do(bench.peer.on_stop(0))


def test_stop_puts_what_is_known_into_the_log_before_we_leave_the_roster() -> None:
    bench = Bench()
    bench.coordinate()
    runs = [effect for effect in bench.effects if isinstance(effect, Run)]
    bench.do(bench.peer.on_stop(bench.now))
    for run in runs:
        bench.do(bench.peer.on_done(bench.now, run.run_id, Searched(run.work.start + 40, (), 40 * MS)))  # type: ignore[union-attr]
    bench.run(900 * MS)
    assert bench.registry.jobs["j"].done == [(0, 40), (100, 40)]  # type: ignore[index]
    assert not bench.registry.peers and Emit(Stopped()) in bench.effects
