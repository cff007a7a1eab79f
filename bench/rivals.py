"""What do rivals of a replicated log reach on this machine: PySyncObj, etcd, and the disk alone under SQLite?

Such figures mean something only beside ours of the same minutes: each function here is one short round that
begins with nothing and leaves nothing; whoever compares calls it in turn with its own. All files lie in the
caller's directory, on the disk that is compared; all members are processes on loopback.

* PySyncObj, three members in memory. Flood: a thread of one member keeps 20,000 commands in flight (no client
  between, as in its own benchmark); commands/s from the first sent to the last confirmed, whether each caller
  got an answer, and whether all members agree in the end. Closed loop: it waits for each command.
* etcd, three members, commits on disk, at the leader through its JSON gateway: a process with one selector
  has a keep-alive connection for each client. The gateway costs etcd CPU that native gRPC clients would save.
  Each client writes and reads a key of its own; reads are linearizable.
* Failover: the leader is killed with SIGKILL while nothing else goes on. **The client's rule**, for everyone:
  from the kill on a new try every 50 ms, at the two survivors in turn; earlier tries stay open, and the first
  success of any try ends the clock. Each round has a fresh trio.
* Disk: bare fdatasync of 4 KiB appends; SQLite (WAL, synchronous=FULL), 64 rows and one row a transaction.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import selectors
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

BYTES, MEMBERS = 100, 3
RETRY_S, WARM_UP_S = 0.05, 0.3
START_S, FAILOVER_S, SILENCE_S = 20.0, 30.0, 10.0  # longer to any leader, success, answer: given up
DRAIN_S = 5.0  # behind a flood: unanswered or unequal is what nothing has changed for so long

Figures = dict[str, Any]


class Absent(Exception):
    """The rival is not installed; the text says how it would be."""


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on; below the kernel's own, where who dials one not yet open may meet himself."""
    ports: set[int] = set()
    while len(ports) < number:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port := random.randrange(20_000, 32_000))):
                ports.add(port)
    return list(ports)


def percentiles(times_ns: Sequence[int]) -> Figures:
    """The middle one, and the one that 1 % exceed, in milliseconds."""
    if not times_ns:
        raise RuntimeError("nothing was answered: there is nothing to tell")
    ordered = sorted(times_ns)
    return {"p50_ms": ordered[len(ordered) // 2] / 1e6, "p99_ms": ordered[len(ordered) * 99 // 100] / 1e6}


def repeat(once: Callable[[], Any], seconds: float, name: str, number: int = 1) -> Figures:
    """`once` again and again, each time `number` of what `name` counts; percentiles of its times."""
    times_ns = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter_ns()
        once()
        times_ns.append(time.perf_counter_ns() - began)
    return {name: number * len(times_ns) * 1e9 / sum(times_ns), **percentiles(times_ns)}


class Trio(ExitStack):
    """Three processes for a `with` block: in it they have a leader; behind it they are gone, files too."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__()
        self.directory, self.settings, self.leader = directory, settings, 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.files = Path(self.enter_context(tempfile.TemporaryDirectory(dir=self.directory)))
            self._start()
            self.settle(0)
        except BaseException:
            self.close()
            raise
        return self

    def settle(self, seconds: float) -> None:
        """Waits; the leader is who leads then, once all agree on that."""
        time.sleep(seconds)
        until = time.monotonic() + START_S
        while (leader := self._look()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"{type(self).__name__} had no leader for {START_S:.0f} s")
            time.sleep(0.05)
        self.leader = leader

    def follower(self, number: int) -> int:
        """Of the two members that do not lead, each in turn."""
        return (self.leader + 1 + number % (MEMBERS - 1)) % MEMBERS

    def _start(self) -> None:
        raise NotImplementedError

    def _look(self) -> int | None:
        """Which member leads, if all say the same and are fit for work."""
        raise NotImplementedError

    def _run(self, command: Sequence[str], *descriptors: int) -> None:
        log = self.enter_context((self.files / f"{len(self.processes)}.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.files, pass_fds=descriptors)
        self.processes.append(self.enter_context(process))
        self.callback(process.kill)


def failover(trio: Trio, ask: Callable[[int], None], answered: Callable[[float], bool]) -> Figures:
    """Kills the leader; from then to the first success, by the client's rule.

    `ask(n)` begins the nth try and returns at once; `answered(s)` waits s seconds for any try's success.
    """
    began = time.monotonic()
    trio.processes[trio.leader].kill()
    for number in range(int(FAILOVER_S / RETRY_S)):
        ask(number)
        while (left := began + (number + 1) * RETRY_S - time.monotonic()) > 0:
            if answered(left):
                return {"failover_ms": (time.monotonic() - began) * 1e3}
    raise TimeoutError(f"no write went through within {FAILOVER_S:.0f} s of the kill")


def fdatasync(directory: Path, seconds: float) -> Figures:
    """Appends of 4 KiB to one file, each synced."""
    block = os.urandom(4096)
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:

        def once() -> None:
            file.write(block)
            os.fdatasync(file.fileno())

        return repeat(once, seconds, "syncs_per_s")


def sqlite(directory: Path, seconds: float, rows: int) -> Figures:
    """Transactions of `rows` rows of 100 bytes into a log in SQLite."""
    batch = [(os.urandom(BYTES),) for _ in range(rows)]
    with tempfile.TemporaryDirectory(dir=directory) as place:
        base = sqlite3.connect(Path(place, "log"), isolation_level=None)
        base.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE log (entry BLOB)")

        def once() -> None:
            base.execute("BEGIN IMMEDIATE")
            base.executemany("INSERT INTO log (entry) VALUES (?)", batch)
            base.execute("COMMIT")

        with closing(base):
            return repeat(once, seconds, "rows_per_s", rows)


# --- etcd


def request(client: int, write: bool) -> bytes:
    """The write of one client, or its read, which is linearizable; the gateway's JSON has bytes in base64."""
    values = {"key": b"key-%d" % client} | ({"value": os.urandom(BYTES)} if write else {})
    body = json.dumps({key: base64.b64encode(value).decode() for key, value in values.items()})
    head = f"POST /v3/kv/{'put' if write else 'range'} HTTP/1.1\r\nHost: etcd\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Link:
    """A keep-alive connection that sends one request, always the same, again and again."""

    def __init__(self, port: int, words: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.words, self._buffer = words, b""
        self.ask()

    def ask(self) -> None:
        """The request is sent; not before the one before it is answered."""
        self.asked_ns = time.perf_counter_ns()
        self.socket.sendall(self.words)

    def answered(self) -> bool:
        """Whether what there is to read completes the answer; an OSError if that is not a success."""
        self._buffer += (part := self.socket.recv(65536))
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not part or (end and not head.startswith(b"HTTP/1.1 200")):
            raise OSError(f"etcd said {self._buffer[:300]!r}")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return False
        self._buffer = b""
        return True


class Links(ExitStack):
    """Many of them behind one selector, closed together."""

    def __enter__(self) -> Self:
        self.selector = self.enter_context(selectors.DefaultSelector())
        return self

    def dial(self, port: int, words: bytes) -> None:
        """One more, and its request is sent."""
        link = Link(port, words)
        self.selector.register(self.enter_context(link.socket), selectors.EVENT_READ, link)

    def answered(self, seconds: float) -> list[Link]:
        """Those answered in full by what there is to read; a broken one is dropped."""
        whole = []
        for key, _ in self.selector.select(seconds):
            try:
                whole += [key.data] if key.data.answered() else []
            except OSError:
                self.selector.unregister(key.fileobj)
        return whole


def drive(port: int, requests: Sequence[bytes], seconds: float) -> Figures:
    """As many clients as requests, each asking again once answered; behind a warm-up."""
    times_ns: list[int] = []
    cpu_s = time.process_time()
    with Links() as links:
        for words in requests:
            links.dial(port, words)
        from_ns = time.perf_counter_ns() + int(WARM_UP_S * 1e9)
        until_ns = from_ns + int(seconds * 1e9)
        while time.perf_counter_ns() < until_ns:
            for link in links.answered(0.1):
                now = time.perf_counter_ns()
                if from_ns <= now < until_ns:
                    times_ns.append(now - link.asked_ns)
                link.ask()
        cpu_share = (time.process_time() - cpu_s) / (seconds + WARM_UP_S)
        if len(links.selector.get_map()) < len(requests):
            raise OSError("etcd refused or dropped some of the clients")
    return {"per_s": len(times_ns) / seconds, **percentiles(times_ns), "client_cpu_share": cpu_share}


class Etcd(Trio):
    """Of etcd; settings are its options, at their defaults unless given."""

    def _start(self) -> None:
        if not (binary := shutil.which("etcd")):
            raise Absent(
                "not installed: apt-get install --no-install-recommends etcd-server; its service need not run"
            )
        ports = free_ports(2 * MEMBERS)
        self.ports, peers = ports[:MEMBERS], [f"http://127.0.0.1:{port}" for port in ports[MEMBERS:]]
        everyone = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        for number, peer in enumerate(peers):
            client = f"http://127.0.0.1:{self.ports[number]}"
            words = f"--name=m{number} --data-dir=m{number} --initial-cluster={everyone}"
            words += f" --listen-client-urls={client} --advertise-client-urls={client}"
            words += f" --listen-peer-urls={peer} --initial-advertise-peer-urls={peer}"
            timing = [f"--{key.replace('_', '-')}={value}" for key, value in self.settings.items()]
            self._run([binary, *words.split(), *timing])

    def _look(self) -> int | None:
        said = []
        try:
            for port in self.ports:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
                    connection.request("POST", "/v3/maintenance/status", "{}")
                    said.append(json.load(connection.getresponse()))
            leader = [one["header"]["member_id"] for one in said].index(said[0]["leader"])
            return leader if all(one["leader"] == said[0]["leader"] for one in said) else None
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return None


def etcd_rates(directory: Path, seconds: float, clients: int = 64) -> dict[str, Figures]:
    """Writes and reads of one client and of many, at one fresh trio."""
    found = {}
    with Etcd(directory) as trio:
        for name in ("writes", "reads"):
            for number in (1, clients):
                requests = [request(client, name == "writes") for client in range(number)]
                found[f"{name}, {number} clients"] = drive(trio.ports[trio.leader], requests, seconds)
    return found


def etcd_failover(directory: Path, heartbeat_ms: int, election_ms: int, settle_s: float = 1.5) -> Figures:
    """One kill of a fresh trio's leader."""
    timing = {"heartbeat_interval": heartbeat_ms, "election_timeout": election_ms}
    with Etcd(directory, **timing) as trio, Links() as links:
        trio.settle(settle_s + random.random() * election_ms / 1e3)

        def ask(number: int) -> None:
            links.dial(trio.ports[trio.follower(number)], request(number, write=True))

        return failover(trio, ask, lambda limit_s: bool(links.answered(limit_s)))


# --- PySyncObj


def member(pipe: Connection) -> None:
    """A member: does what it is told through the pipe, and ends when that does."""
    from pysyncobj import SyncObj, SyncObjConf, replicated  # type: ignore[import-not-found]

    class Log(SyncObj):  # type: ignore[misc]
        """Counts what is applied, and sums it up in its order."""

        def __init__(self, me: str, others: list[str], settings: dict[str, Any]) -> None:
            super().__init__(me, others, SyncObjConf(**settings))
            self.count = self.digest = 0

        @replicated  # type: ignore[untyped-decorator]
        def put(self, value: bytes) -> None:
            self.count += 1
            self.digest = zlib.crc32(value, self.digest)

    log = Log(*pipe.recv())
    with suppress(EOFError):
        while True:
            match pipe.recv():
                case ["status"]:
                    pipe.send((str(log.getStatus()["leader"]), log.isReady(), log.count, log.digest))
                case ["put"]:
                    log.put(b"x" * BYTES, callback=lambda _, error: pipe.send(not error))
                case ["flood", window, seconds]:
                    pipe.send(flood(log.put, window, seconds))
                case ["closed loop", seconds]:
                    once = partial(log.put, b"x" * BYTES, sync=True, timeout=SILENCE_S)
                    pipe.send(repeat(once, seconds, "commits_per_s"))
    os._exit(0)


def flood(command: Callable[..., None], window: int, seconds: float) -> Figures:
    """Keeps `window` commands in flight, then waits until all are answered or nothing more comes."""
    times_ns: list[int] = []
    began = last = time.perf_counter_ns()
    sent = answered = 0

    def answer(sent_ns: int, _: Any, error: int) -> None:
        nonlocal last, answered
        answered, last = answered + 1, time.perf_counter_ns()
        if not error:
            times_ns.append(last - sent_ns)

    until = began + int(seconds * 1e9)
    while time.perf_counter_ns() < until:
        for _ in range(window - (sent - answered)):
            sent += 1
            command(b"%0*d" % (BYTES, sent), callback=partial(answer, time.perf_counter_ns()))
        time.sleep(0.001)
    while answered < sent and time.perf_counter_ns() - max(last, until) < DRAIN_S * 1e9:
        time.sleep(0.01)
    shares = {"answered_share": answered / sent, "confirmed_share": len(times_ns) / sent}
    rate = len(times_ns) * 1e9 / (last - began)
    return {"commits_per_s": rate, **percentiles(times_ns), "sent": sent, **shares}


class PySyncObj(Trio):
    """Of PySyncObj, in memory, run by the setting `python`; the others are its SyncObjConf's."""

    def _start(self) -> None:
        python = os.path.abspath(shutil.which(self.settings.pop("python")) or "absent")
        probe = (python, "-c", "try: import pysyncobj\nexcept ImportError: exit(1)")
        if not os.path.exists(python) or subprocess.run(probe, check=False).returncode:
            raise Absent(
                "not installed: python -m venv V; V/bin/pip install PySyncObj; name V/bin/python here"
            )
        self.pipes: list[Connection] = []
        self.names = [f"127.0.0.1:{port}" for port in free_ports(MEMBERS)]
        for name in self.names:
            ours, theirs = Pipe()
            self.pipes.append(self.enter_context(ours))
            with theirs:
                end = theirs.fileno()
                self._run([python, os.path.abspath(__file__), "member", str(end)], end)
            ours.send((name, [other for other in self.names if other != name], self.settings))

    def ask(self, number: int, limit_s: float, *order: Any) -> Any:
        """What a member answers to an order."""
        self.pipes[number].send(order)
        if not self.pipes[number].poll(limit_s):
            raise TimeoutError(f"PySyncObj: no answer to {order} within {limit_s:.0f} s")
        return self.pipes[number].recv()

    def states(self) -> list[tuple[str, bool, int, int]]:
        """Of each member: its leader, whether it is ready, how much is applied, and a sum of that."""
        return [self.ask(number, SILENCE_S, "status") for number in range(MEMBERS)]

    def _look(self) -> int | None:
        said = self.states()
        leader = said[0][0]
        fit = leader in self.names and all(ready and other == leader for other, ready, *_ in said)
        return self.names.index(leader) if fit else None


def pysyncobj_flood(
    python: str, directory: Path, seconds: float, at: str = "leader", window: int = 20_000, **settings: Any
) -> Figures:
    """Open loop at one member; then whether all members hold the same, and what they logged of trouble."""
    with PySyncObj(directory, python=python, **settings) as trio:
        member = trio.leader if at == "leader" else trio.follower(0)
        found = dict(trio.ask(member, 3 * seconds + 10 * DRAIN_S, "flood", window, seconds))
        until = time.monotonic() + DRAIN_S
        while len(set(states := [state[2:] for state in trio.states()])) > 1 and time.monotonic() < until:
            time.sleep(0.1)
        text = "".join(path.read_text(errors="replace") for path in trio.files.glob("*.log"))
    found["members_equal"], found["applied"] = len(set(states)) == 1, [count for count, _ in states]
    logged = {"diverged_warnings": text.count("may have diverged"), "tracebacks": text.count("Traceback")}
    return found | logged


def pysyncobj_closed_loop(
    python: str, directory: Path, seconds: float, at: str = "leader", **settings: Any
) -> Figures:
    """One client in one member, that waits for each command."""
    with PySyncObj(directory, python=python, **settings) as trio:
        member = trio.leader if at == "leader" else trio.follower(0)
        return dict(trio.ask(member, seconds + START_S, "closed loop", seconds))


def pysyncobj_failover(python: str, directory: Path, settle_s: float = 1.5, **settings: Any) -> Figures:
    """One kill of a fresh trio's leader."""
    with PySyncObj(directory, python=python, **settings) as trio:
        trio.settle(settle_s + random.random())
        survivors = [trio.pipes[trio.follower(number)] for number in range(MEMBERS - 1)]

        def answered(limit_s: float) -> bool:
            ready = wait(survivors, limit_s)
            return any(pipe.recv() for pipe in survivors if pipe in ready)

        return failover(trio, lambda number: survivors[number % 2].send(("put",)), answered)


def plan(python: str, directory: Path, seconds: float) -> list[tuple[str, str, Callable[[], Figures]]]:
    """Every measurement: of whom, of what, and how; `rates` are several in one."""
    loop = partial(pysyncobj_closed_loop, python, directory, seconds)
    return [
        ("disk", "fdatasync, 4 KiB", partial(fdatasync, directory, seconds)),
        ("disk", "SQLite, 64 rows", partial(sqlite, directory, seconds, 64)),
        ("disk", "SQLite, 1 row", partial(sqlite, directory, seconds, 1)),
        ("etcd", "rates", partial(etcd_rates, directory, seconds)),
        ("etcd", "failover, 50/500 ms", partial(etcd_failover, directory, 50, 500)),
        ("etcd", "failover, 100/1000 ms", partial(etcd_failover, directory, 100, 1000)),
        ("pysyncobj", "flood, leader", partial(pysyncobj_flood, python, directory, seconds)),
        ("pysyncobj", "flood, follower", partial(pysyncobj_flood, python, directory, seconds, "follower")),
        ("pysyncobj", "closed loop", loop),
        ("pysyncobj", "closed loop, appendEntriesUseBatch=False", partial(loop, appendEntriesUseBatch=False)),
        ("pysyncobj", "failover", partial(pysyncobj_failover, python, directory)),
    ]


def main() -> None:
    """All rounds, in turn; a table of medians with least and greatest."""
    import common

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement in a round")
    parser.add_argument("--directory", type=Path, required=True, help="on the disk to measure")
    parser.add_argument("--only", choices=["etcd", "pysyncobj", "disk"])
    parser.add_argument("--pysyncobj", default=sys.executable, metavar="PYTHON", help="which has it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found: dict[tuple[str, str, str], list[float]] = {}
    failed: dict[tuple[str, str], str] = {}
    for rival, name, measure in options.rounds * plan(options.pysyncobj, options.directory, options.seconds):
        if options.only not in (None, rival):
            continue
        try:
            figures = measure()
        except (Absent, OSError, RuntimeError, EOFError) as why:
            failed[rival, name] = f"{type(why).__name__}: {why}"
            continue
        for part, values in figures.items() if name == "rates" else [(name, figures)]:
            for key in (key for key, value in values.items() if isinstance(value, int | float)):
                found.setdefault((rival, part, key), []).append(values[key])
    rows = []
    for (rival, part, key), numbers in found.items():
        spread = common.median_spread(numbers).values()
        texts = (f"{number:,.0f}" if number >= 1_000 else f"{number:.3g}" for number in spread)
        rows.append((rival, part, key, *texts))
    rows += [(*which, why, "", "", "") for which, why in failed.items()]
    common.print_table(("rival", "measurement", "figure", "median", "least", "greatest"), rows)


if __name__ == "__main__":
    member(Connection(int(sys.argv[2]))) if sys.argv[1:2] == ["member"] else main()
