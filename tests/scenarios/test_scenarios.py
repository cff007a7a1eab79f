"""Scenario transcripts: nodes without a driver, commands in, every effect out.

A file holds comments, then blocks: commands, `----`, the effects that followed, an empty line. Commands are

    peer NAME [slots=N] [rate=R] [dials=NODE,..]       make a node; `rate` is measured beforehand, by default
              [offers=MS]                              it passes jobs on that it has held for so long
    submitter NAME START:STOP [rule=..] [wanted=N] [chunk=N] [job=ID] [dials=NODE,..] [explores=no]
    tracker NAME VOTER,..                              make a member of a tracker; its disk outlives a restart
    client NAME [dials=NODE,..]                        make a client of trackers
    submit NAME JOB START:STOP [chunk=N]               a client asks for a job, once
    start NAME        restart NAME        stop NAME    restart: the process dies, its successor starts
    kill NAME                                          the process dies
    wait MS                                            deadlines on the way are kept; messages stay where they are
    deliver [FROM>TO|all] [KIND]                       what is under way arrives, oldest first, until none is left
    drop FROM>TO [KIND]    double FROM>TO [KIND]       the oldest of them is lost, or stays under way
    done NAME RUN [STOPPED_AT] [hits=N,..] [failed=WHY]   a run comes back (1000 integers a second)
    under way                                          list the messages that are
    replica NAME VOTER,.. [log=TERM,..] [term=N]       make a replica of a log; its disk outlives a restart
    propose|add|remove|transfer NAME WHAT              ask a replica, and see what it says at once
    sides NAMES NAMES ..                               what is sent across is lost; one side with all of them heals

Publications reach whoever was welcomed. `pytest --rewrite` writes the effects anew: commit only what you can explain.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import DecodeError, msgpack

from zlb.core.config import (
    ClientConfig,
    CoordinatorConfig,
    PeerConfig,
    RaftConfig,
    SubmitterConfig,
    TrackerConfig,
    WorkerConfig,
)
from zlb.core.effects import Effect, Emit, Persist, Publish, Run, Send, Stop
from zlb.core.ids import Endpoint, JobId, NodeId, RunId
from zlb.core.limits import MS
from zlb.core.message import Message
from zlb.core.node import Node
from zlb.core.replica import Configuration, Entry, EntryKind, Saved, Vote, fold
from zlb.core.timers import NEVER
from zlb.core.work import Failed, Hit, Job, Oracle, Search, Searched, StopRule
from zlb.nodes.client import Client
from zlb.nodes.peer import Peer
from zlb.nodes.submitter import Submitter
from zlb.nodes.tracker import Tracker, founded
from zlb.protocols.commands import Submit, pack
from zlb.protocols.raft.replica import Replica
from zlb.wire.codec import decode, encode
from zlb.wire.messages import Done, Grant, Hello, JobAdvert, LoadUpdate, Part, Reported, Spec, TaskTransfer
from zlb.wire.replication import AppendEntries
from zlb.wire.tracking import Ask, AskKind, AskOutcome, Reply, RosterJob

QUIET = (LoadUpdate, JobAdvert)
"""Published twice a second each: shown, but only delivered when asked for by kind."""


RAFT = RaftConfig(heartbeat_ns=250 * MS, trailing_entries=0)
"""Few heartbeats, that a person may read them all."""


class Tape:
    """A replica's state machine: the result is all the commands so far."""

    def __init__(self) -> None:
        self.commands = ""

    def apply(self, _time_ns: int, command: bytes) -> str:
        self.commands = " ".join(filter(None, (self.commands, command.decode())))
        return self.commands

    def snapshot(self) -> bytes:
        return self.commands.encode()

    def restore(self, data: bytes) -> None:
        self.commands = data.decode()


def unpacked(payload: bytes) -> object:
    """What an ask or a reply carries, or the text it is."""
    try:
        value = msgpack.decode(payload)
    except DecodeError:
        return payload.decode()
    if isinstance(value, list):
        return [unpacked(one) if isinstance(one, bytes) and one else one for one in value]
    return value


def show(value: object) -> str:
    """A message, event or part of one as a person would write it."""
    match value:
        case Grant():
            return f"{value.lease}:[{value.start},{value.span[1]})"
        case Done():
            return f"[{value.start},{value.span[1]})"
        case Reported():
            return f"{value.n}"
        case Spec():
            return f"{value.kernel}/{value.hits_max}"
        case Part():
            words = [f"{value.lease}:", "ended" if value.ended else "", *map(show, value.done)]
            words += [f"hits={show(value.hits)}" if value.hits else "", value.error]
            return " ".join(filter(None, words))
        case tuple() if not hasattr(value, "_fields"):
            return "(" + ", ".join(map(show, value)) + ")"
        case Entry():
            return f"{value.term}:{value.kind.name}"
        case AppendEntries():
            news = ",".join(f"{term}:{EntryKind(kind).name}" for term, kind, _, _ in value.entries)
            told = (
                f"term={value.term} after={value.previous_index}@{value.previous_term} commit={value.commit}"
            )
            return f"AppendEntries {told} round={value.round}" + (f" entries={news}" if news else "")
        case Ask():
            return f"{value.number}:{AskKind(value.kind).name} {unpacked(value.payload)}"
        case Reply():
            return f"{value.number}:{AskOutcome(value.outcome).name} {unpacked(value.payload)}"
        case RosterJob():
            return f"{value.job}:{value.status} epoch={value.epoch} of {value.node or 'nobody'}"
        case bytes():
            return value.hex()
        case float():
            return f"{value:g}"
    fields = getattr(value, "__struct_fields__", None) or getattr(value, "_fields", None)
    if fields is None:
        return str(value)
    defaults = getattr(value, "__struct_defaults__", ())
    usual = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
    told = [
        f"{name}={show(getattr(value, name))}"
        for name in fields
        if getattr(value, name) not in ("", ()) and getattr(value, name) != usual.get(name, ...)
    ]
    return " ".join([type(value).__name__, *told])


@dataclass
class Stage:
    """The nodes of one file and what is under way between them."""

    now: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    makers: dict[str, object] = field(default_factory=dict)
    runs: dict[tuple[str, int], Search] = field(default_factory=dict)
    way: list[tuple[str, str, Message]] = field(default_factory=list)
    boots: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    disks: dict[str, Saved] = field(default_factory=dict)
    sides: tuple[str, ...] = ()

    def play(self, command: str) -> None:
        name, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        getattr(self, f"do_{name}")(*plain, **options)

    # -- commands

    def do_peer(
        self, name: str, slots: str = "1", rate: str = "1000", dials: str = "", offers: str = ""
    ) -> None:
        offer_ns = int(offers or 0) * MS
        worker = WorkerConfig(slots=int(slots), redistributes=bool(offers), offer_ns=offer_ns)
        config = PeerConfig(worker=worker, measure_kernel="")
        rates = {"sha256": float(rate)} if float(rate) else {}
        self.makers[name] = lambda incarnation: Peer(
            NodeId(name),
            incarnation,
            f"inproc://{name}",
            "",
            self._ends(dials),
            config,
            random.Random(1),
            dict(rates),
            lambda _kernel, _params: Oracle(lambda n: b"\1"),
        )

    def do_tracker(self, name: str, voters: str) -> None:
        names = [NodeId(voter) for voter in voters.split(",")]
        ends = dict(zip(names, self._ends(voters), strict=True))
        self.disks[name] = Saved(snapshot=founded(Configuration(tuple(names))))
        config = TrackerConfig(raft=RAFT)
        self.makers[name] = lambda incarnation: Tracker(
            NodeId(name),
            incarnation,
            f"inproc://{name}",
            "main",
            ends,
            self.disks[name],
            config,
            random.Random(f"{name}:{incarnation}"),
        )

    def do_client(self, name: str, dials: str = "") -> None:
        self.makers[name] = lambda incarnation: Client(
            NodeId(name), incarnation, self._ends(dials), ClientConfig(), random.Random(1)
        )

    def do_submit(self, name: str, job: str, span: str, chunk: str = "0") -> None:
        start, stop = map(int, span.split(":"))
        spec = Submit(
            job, "", "", "sha256", b"", ((start, stop - start),), StopRule.ALL, 0, chunk_count=int(chunk)
        )
        self.nodes[name].patron.once(self.now, pack(spec))  # type: ignore[attr-defined]
        self._ticks(self.now)

    def do_kill(self, name: str) -> None:
        del self.nodes[name]
        self.runs = {key: search for key, search in self.runs.items() if key[0] != name}

    def do_submitter(
        self,
        name: str,
        span: str,
        rule: str = "all",
        wanted: str = "",
        chunk: str = "",
        job: str = "j",
        dials: str = "",
        explores: str = "yes",
    ) -> None:
        start, stop = map(int, span.split(":"))
        count = int(wanted or (0 if rule == "all" else 1))
        of = Job(JobId(job), "sha256", b"", ((start, stop),), StopRule(rule), count)
        coordinator = CoordinatorConfig(chunk_count=int(chunk) if chunk else None, progress_ns=NEVER)
        config = SubmitterConfig(coordinator=coordinator, explore=explores == "yes")
        self.makers[name] = lambda incarnation: Submitter(
            NodeId(name),
            incarnation,
            "",
            self._ends(dials),
            of,
            Oracle(lambda n: b"\1"),
            config,
            random.Random(1),
        )

    def do_start(self, name: str) -> None:
        self.boots[name] = self.boots.get(name, 0) + 1
        self.nodes[name] = self.makers[name](self.boots[name])  # type: ignore[operator]
        self._perform(name, self.nodes[name].on_start(self.now))
        self._ticks(self.now)

    def do_restart(self, name: str) -> None:
        self.runs = {key: search for key, search in self.runs.items() if key[0] != name}
        self.do_start(name)

    def do_stop(self, name: str) -> None:
        self._perform(name, self.nodes[name].on_stop(self.now))
        self._ticks(self.now)

    def do_wait(self, ms: str) -> None:
        until = self.now + int(ms) * MS
        self._ticks(until)
        self.now = until

    def do_deliver(self, which: str = "all", kind: str = "") -> None:
        for _ in range(200):
            found = self._find(which, kind)
            if found is None:
                return
            src, to, message = self.way.pop(found)
            if to in self.nodes:
                self._perform(to, self.nodes[to].on_message(self.now, NodeId(src), message))
                self._ticks(self.now)
            if which != "all" and kind:
                return
        raise AssertionError("they talk for ever")

    def do_drop(self, which: str, kind: str = "") -> None:
        found = self._find(which, kind)
        assert found is not None, f"nothing of {which} {kind} is under way"
        del self.way[found]

    def do_double(self, which: str, kind: str = "") -> None:
        found = self._find(which, kind)
        assert found is not None, f"nothing of {which} {kind} is under way"
        self.way.append(self.way[found])

    def do_done(self, name: str, run: str, at: str = "", hits: str = "", failed: str = "") -> None:
        search = self.runs.pop((name, int(run)))
        stop = int(at) if at else search.stop
        found = tuple(Hit(int(n), b"\1") for n in filter(None, hits.split(",")))
        outcome = Failed(failed) if failed else Searched(stop, found, (stop - search.start) * MS)
        self._perform(name, self.nodes[name].on_done(self.now, RunId(int(run)), outcome))
        self._ticks(self.now)

    # -- replicas of a log

    def do_replica(self, name: str, voters: str, log: str = "", term: str = "0") -> None:
        initial = Configuration(tuple(map(NodeId, voters.split(","))))
        had = [
            Entry(int(of), EntryKind.COMMAND, at, f"{of}@{at}".encode())
            for at, of in enumerate(filter(None, log.split(",")), 1)
        ]
        self.disks[name] = Saved(Vote(int(term), None), None, 1, tuple(had))
        self.makers[name] = lambda incarnation: Replica(
            NodeId(name), self.disks[name], initial, Tape(), RAFT, random.Random(f"{name}:{incarnation}")
        )

    def do_propose(self, name: str, command: str) -> None:
        self._say(name, self.nodes[name].propose(self.now, command.encode()))  # type: ignore[attr-defined]

    def do_add(self, name: str, node: str) -> None:
        self._say(name, self.nodes[name].add(self.now, NodeId(node)))  # type: ignore[attr-defined]

    def do_remove(self, name: str, node: str) -> None:
        self._say(name, self.nodes[name].remove(self.now, NodeId(node)))  # type: ignore[attr-defined]

    def do_transfer(self, name: str, node: str) -> None:
        self._say(name, self.nodes[name].transfer(self.now, NodeId(node)))  # type: ignore[attr-defined]

    def do_sides(self, *sides: str) -> None:
        self.sides = sides
        self.way = [it for it in self.way if self._together(it[0], it[1])]

    def _say(self, name: str, answer: object) -> None:
        self.lines.append(f"{self.now // MS:>5} {name} says  {show(answer)}")
        self._ticks(self.now)

    def _together(self, src: str, to: str) -> bool:
        return not self.sides or any(src in side and to in side for side in self.sides)

    def do_under(self, _way: str) -> None:
        self.lines += [f"{src} > {to}  {show(message)}" for src, to, message in self.way]

    # -- the world

    def _ends(self, dials: str) -> list[Endpoint]:
        return [Endpoint(f"inproc://{name}") for name in filter(None, dials.split(","))]

    def _find(self, which: str, kind: str) -> int | None:
        for i, (src, to, message) in enumerate(self.way):
            wanted = type(message).__name__ == kind if kind else not isinstance(message, QUIET)
            if wanted and which in ("all", f"{src}>{to}"):
                return i
        return None

    def _ticks(self, until: int) -> None:
        """Keep every deadline up to `until`, of the earliest node first, by name."""
        for _ in range(1000):
            due = [(max(node.deadline(), self.now), name) for name, node in self.nodes.items()]
            at, name = min(due, default=(NEVER, ""))
            if at > until:
                return
            self.now = at
            self._perform(name, self.nodes[name].on_tick(at))
        raise AssertionError("a deadline that never passes")

    def _perform(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            self._note(name, effect)
            match effect:
                case Send(to, message) if not self._together(name, str(to)):
                    pass
                case Persist(record) if name in self.disks:
                    self.disks[name] = fold(self.disks[name], record)  # type: ignore[arg-type]
                case Send(to, message):
                    self.way.append((name, str(to).removeprefix("inproc://"), decode(encode(message))))
                case Publish(message):
                    linked = self.nodes[name].neighbours.linked  # type: ignore[attr-defined]
                    self.way += [(name, to, decode(encode(message))) for to in linked]
                case Run(run_id, search):
                    self.runs[name, run_id] = search
                case Emit(event) if type(event).__name__ == "Stopped":
                    del self.nodes[name]

    def _note(self, name: str, effect: Effect) -> None:
        text = {
            Send: lambda e: f"> {str(e.to).removeprefix('inproc://')}  {show(e.message)}",
            Publish: lambda e: f"publishes  {show(e.message)}",
            Run: lambda e: f"runs {e.run_id}: [{e.work.start},{e.work.stop}) hits_max={e.work.hits_max}",
            Stop: lambda e: f"stops run {e.run_id}",
            Persist: lambda e: f"persists  {show(e.record)}",
            Emit: lambda e: f"emits  {show(e.event)}",
        }[type(effect)](effect)  # type: ignore[no-untyped-call]
        message = getattr(effect, "message", None)
        if isinstance(message, LoadUpdate) or (isinstance(message, Hello) and len(self.lines) > 100):
            return
        self.lines.append(f"{self.now // MS:>5} {name} {text}")


def replay(text: str) -> str:
    """The same file with the effects as they are now."""
    stage, written = Stage(), []
    for block in text.strip().split("\n\n"):
        commands = block.split("\n----")[0].splitlines()
        if all(line.startswith("#") for line in commands):
            written.append(block)
            continue
        stage.lines = []
        for command in commands:
            if not command.startswith("#"):
                stage.play(command)
        written.append("\n".join([*commands, "----", *stage.lines]))
    return "\n\n".join(written) + "\n"


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    again = replay(text)
    if request.config.getoption("--rewrite"):
        path.write_text(again)
    else:
        assert again.splitlines() == text.splitlines()


def test_transfers_are_shown_as_a_person_writes_them() -> None:
    shown = show(TaskTransfer("j", 1, (Grant(0, 5, 1), Grant(5, 5, 2)), Spec("sha256", b"", 1)))
    assert shown == "TaskTransfer job=j sequence=1 leases=(1:[0,5), 2:[5,10)) spec=sha256/1"
