"""How many small typed messages do two processes exchange over zlb's bus, and how many over raw pyzmq with msgpack?

Three questions, each asked of both in turn, round after round, so that the host's mood hits both alike:

* one way: a listener sends, a dialler receives and returns a credit after every 1,000 messages (8,000 are on the way
  at most, so nothing is lost); messages a second at the receiver;
* round trips: the dialler keeps 2,000 requests in flight, the listener answers each; answers a second;
* ping-pong: the same with one in flight; microseconds from one answer to the next.

zlb: a reactor with a tiny pure node on either side, `LOAD_UPDATE` as message, encoded, decoded, validated and
attributed to its sender each time. Raw: ROUTER and DEALER with `zmq.Poller`, drained with DONTWAIT, the same values as
a bare msgpack list of nine (version, kind, seven fields), packed and unpacked each time. The frames take 66 and 64
bytes. Both sides read the clock once a message. The raw side is written as fast as pyzmq gets: `recv_multipart` and
enum flags, which cost 1.5 us a message, are avoided there, so this bar is higher than that of usual pyzmq code.
"""

from __future__ import annotations

import cProfile
import multiprocessing
import pstats
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import click
import common
import msgpack
import zmq

from zlb.core.effects import Effect
from zlb.core.events import Stopped
from zlb.core.ids import Endpoint, NodeId, RunId
from zlb.core.message import Message
from zlb.core.node import Core, Statistics
from zlb.core.timers import NEVER
from zlb.core.work import Outcome
from zlb.drivers.bus import Bus
from zlb.drivers.reactor import Reactor
from zlb.wire import codec
from zlb.wire.messages import Goodbye, Hello, LoadUpdate, Welcome

WINDOW = {"one way": 8_000, "round trips": 2_000, "ping-pong": 1}
CREDIT = 1_000
DONTWAIT, SNDMORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
"""As plain integers, and frame by frame: the raw side is as fast as pyzmq gets (`recv_multipart` takes 1 us more)."""
WARM_UP_NS = 300_000_000
LISTENER, DIALLER = NodeId("listener-" + "x" * 19), NodeId("dialler-" + "x" * 20)
INCARNATION, LOAD_NS, RATE, QUEUE, SLOTS = 1_790_000_000_000_000_000, 12_345_678_901, 6.5e6, 4, 2


def small(me: NodeId, sequence: int) -> LoadUpdate:
    """The message of zlb's side."""
    return LoadUpdate(me, INCARNATION, sequence, LOAD_NS, RATE, QUEUE, SLOTS)


def small_raw(me: NodeId, sequence: int) -> bytes:
    """The same on the raw side."""
    return msgpack.packb([1, 5, me, INCARNATION, sequence, LOAD_NS, RATE, QUEUE, SLOTS])


class Clock:
    """Counts messages for `seconds` after a warm-up; keeps the times between them if asked to."""

    def __init__(self, seconds: float, each: bool) -> None:
        self.gaps_ns: list[int] | None = [] if each else None
        self._seconds_ns = int(seconds * 1e9)
        self._from = self._until = self._last = self._first_count = self._last_count = 0
        self.over = False

    def tick(self, now: int, count: int) -> bool:
        """`count` messages have come by `now`; True once it is over."""
        if not self._from:
            self._from = now + WARM_UP_NS
        elif now < self._from:
            self._first_count = count
        elif not self._until:
            self._from, self._first_count = now, count
            self._until = now + self._seconds_ns
        else:
            if self.gaps_ns is not None:
                self.gaps_ns.append(now - self._last)
            self._last_count = count
            self.over = now >= self._until
        self._last = now
        return self.over

    def result(self) -> dict[str, float]:
        """Messages a second; for ping-pong microseconds."""
        per_s = (self._last_count - self._first_count) * 1e9 / (self._last - self._from)
        if self.gaps_ns is None:
            return {"per_s": per_s}
        cuts = statistics.quantiles(self.gaps_ns, n=100)
        return {"per_s": per_s, "p50_us": cuts[49] / 1e3, "p99_us": cuts[98] / 1e3}


# --- zlb


class _Tiny(Core):
    """What both tiny nodes share: no timers, no work."""

    def __init__(self, me: NodeId, mode: str) -> None:
        super().__init__()
        self.me, self.mode = me, mode
        self.count = 0

    def deadline(self) -> int:
        return NEVER

    def on_start(self, now: int) -> list[Effect]:
        return self._flush()

    def on_tick(self, now: int) -> list[Effect]:
        return self._flush()

    def on_done(self, now: int, run_id: RunId, outcome: Outcome) -> list[Effect]:
        raise AssertionError

    def on_stop(self, now: int) -> list[Effect]:
        self._emit(Stopped())
        return self._flush()

    def statistics(self) -> Statistics:
        return {"count": self.count}

    def _burst(self, to: NodeId, number: int) -> None:
        for _ in range(number):
            self.count += 1
            self._send(to, small(self.me, self.count))


class TinyListener(_Tiny):
    """Answers each request; or, one way, sends as many as it has credit for."""

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        match message:
            case LoadUpdate():
                self._burst(src, CREDIT if self.mode == "one way" else 1)
            case Hello():
                self._send(src, Welcome(self.me, 1, message.dialled, "", "", ()))
                if self.mode == "one way":
                    self._burst(src, WINDOW[self.mode])
            case Goodbye():
                self._emit(Stopped())
        return self._flush()


class TinyDialler(_Tiny):
    """Sends the next request for each answer; or, one way, returns credit."""

    def __init__(self, me: NodeId, mode: str, endpoint: Endpoint, clock: Clock) -> None:
        super().__init__(me, mode)
        self.endpoint, self.clock, self.came = endpoint, clock, 0
        self.due = WINDOW[mode]
        """Messages that will have come, before anything more is asked for."""

    def on_start(self, now: int) -> list[Effect]:
        self._send(self.endpoint, Hello(self.me, 1, self.endpoint, "", ""))
        return self._flush()

    def on_message(self, now: int, src: NodeId, message: Message) -> list[Effect]:
        match message:
            case LoadUpdate():
                self.came += 1
                if self.clock.over or self.clock.tick(now, self.came):
                    if self.came == self.due:
                        self._send(src, Goodbye("enough"))
                        self._emit(Stopped())
                elif self.mode != "one way":
                    self.due += 1
                    self._burst(src, 1)
                elif self.came % CREDIT == 0:
                    self.due += CREDIT
                    self._burst(src, 1)
            case Welcome() if self.mode != "one way":
                self._burst(src, WINDOW[self.mode])
        return self._flush()


def zlb_listener(mode: str, pipe: Connection) -> None:
    """In a process of its own."""
    bus = Bus(LISTENER, zmq.Context.instance(), Endpoint("tcp://127.0.0.1:*"), None)
    pipe.send(bus.listen)
    Reactor(TinyListener(LISTENER, mode), bus, lambda event: None).run()
    pipe.send(bus.counts["lost"])


def zlb_dialler(mode: str, endpoint: Endpoint, clock: Clock) -> int:
    """In the measuring process; how many messages were lost."""
    bus = Bus(DIALLER, zmq.Context.instance(), None, None)
    Reactor(TinyDialler(DIALLER, mode, endpoint, clock), bus, lambda event: None).run()
    return bus.counts["lost"]


# --- raw


def raw_listener(mode: str, pipe: Connection) -> None:
    """In a process of its own."""
    router = zmq.Context.instance().socket(zmq.ROUTER)
    router.sndhwm = router.rcvhwm = 10_000
    port = router.bind_to_random_port("tcp://127.0.0.1")
    pipe.send(f"tcp://127.0.0.1:{port}")
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    count = 0
    while True:
        poller.poll()
        for _ in range(1_000):
            try:
                src = router.recv(DONTWAIT)
                frame = router.recv(DONTWAIT)
            except zmq.Again:
                break
            _, kind, *_ = msgpack.unpackb(frame)
            if kind == 3:
                router.close(300)
                pipe.send(0)
                return
            number = 1
            if mode == "one way":
                number = WINDOW[mode] if kind == 1 else CREDIT
            for _ in range(number):
                count += 1
                router.send(src, SNDMORE)
                router.send(small_raw(LISTENER, count), DONTWAIT)


def raw_dialler(mode: str, endpoint: Endpoint, clock: Clock) -> int:
    """In the measuring process."""
    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.sndhwm = dealer.rcvhwm = 10_000
    dealer.connect(endpoint)
    poller = zmq.Poller()
    poller.register(dealer, zmq.POLLIN)
    came, due = 0, WINDOW[mode]
    if mode == "one way":
        dealer.send(msgpack.packb([1, 1]))
    else:
        for sequence in range(WINDOW[mode]):
            dealer.send(small_raw(DIALLER, sequence), DONTWAIT)
    while True:
        poller.poll()
        for _ in range(1_000):
            try:
                frame = dealer.recv(DONTWAIT)
            except zmq.Again:
                break
            msgpack.unpackb(frame)
            came += 1
            if clock.over or clock.tick(time.monotonic_ns(), came):
                if came == due:
                    dealer.send(msgpack.packb([1, 3]))
                    dealer.close(300)
                    return 0
            elif mode != "one way":
                due += 1
                dealer.send(small_raw(DIALLER, came), DONTWAIT)
            elif came % CREDIT == 0:
                due += CREDIT
                dealer.send(small_raw(DIALLER, came), DONTWAIT)


# --- both

SIDES = {"zlb": (zlb_listener, zlb_dialler), "raw": (raw_listener, raw_dialler)}


def measure(
    side: str, mode: str, seconds: float, profile: cProfile.Profile | None = None
) -> dict[str, float]:
    """One round of one side."""
    listener, dialler = SIDES[side]
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=listener, args=(mode, theirs))
    process.start()
    endpoint = ours.recv()
    clock = Clock(seconds, each=mode == "ping-pong")
    if profile is not None:
        profile.enable()
    lost = dialler(mode, endpoint, clock)
    if profile is not None:
        profile.disable()
    lost += ours.recv()
    process.join()
    if lost:
        raise RuntimeError(f"{lost} messages were lost: the windows are wrong")
    return clock.result()


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="of each round and question")
@click.option("--profile", "profiled", type=click.Choice(list(WINDOW)), help="profile zlb's dialler instead")
@click.option("--mode", "modes", multiple=True, type=click.Choice(list(WINDOW)), default=list(WINDOW))
@click.option("--save/--no-save", default=True, show_default=True)
def main(rounds: int, seconds: float, profiled: str | None, modes: tuple[str, ...], save: bool) -> None:
    if profiled is not None:
        profile = cProfile.Profile()
        print(measure("zlb", profiled, seconds, profile))
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    sizes = {"zlb": len(codec.encode(small(DIALLER, 1_000))), "raw": len(small_raw(DIALLER, 1_000))}
    print(f"frames: zlb {sizes['zlb']} bytes, raw {sizes['raw']} bytes")
    found: dict[str, dict[str, list[dict[str, float]]]] = {mode: {"raw": [], "zlb": []} for mode in modes}
    for _ in range(rounds):
        for mode in modes:
            for side in ("raw", "zlb"):
                found[mode][side].append(measure(side, mode, seconds))
    rows, medians = [], {}
    for mode in modes:
        for key in found[mode]["raw"][0]:
            values = {side: [one[key] for one in found[mode][side]] for side in ("raw", "zlb")}
            ratios = [z / r for z, r in zip(values["zlb"], values["raw"], strict=True)]
            summary: dict[str, Any] = {side: common.median_spread(values[side]) for side in values}
            summary["ratio"] = common.median_spread(ratios)
            medians[f"{mode} {key}"] = summary
            rows.append((f"{mode}, {key}", *(_text(summary[side], 0) for side in ("raw", "zlb", "ratio"))))
    common.print_table(("", "raw", "zlb", "zlb / raw"), rows)
    if save:
        parameters = {"rounds": rounds, "seconds": seconds, "bytes": sizes, "window": WINDOW}
        common.record("bus", parameters, {"medians": medians, "rounds": found})


def _text(summary: dict[str, float], digits: int) -> str:
    values = [summary["median"], summary["min"], summary["max"]]
    if values[0] < 20:
        digits = 2
    median, least, greatest = (f"{value:,.{digits}f}" for value in values)
    return f"{median} ({least} - {greatest})"


if __name__ == "__main__":
    main()
