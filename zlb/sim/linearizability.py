"""Could one copy, asked one operation at a time, have given the same answers? Linearizability, checked per key.

The search of Wing and Gong (1993) with Lowe's memo (2017): put operations in an order one by one, go back when none
fits, and never try the same set of placed operations with the same state again. Keys are checked one by one, as a
history is linearizable if it is so for each key (Horn and Kroening 2015: P-compositionality).

The order of two operations counts if one returned before the other was invoked, in an earlier ns. What returns in
the very ns in which another is invoked overlaps it: this may hide a violation, it never invents one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

from zlb.sim.history import Operation

S = TypeVar("S", bound=Hashable)

SHOWN = 12  # of the placed operations in an explanation


class Model(Protocol[S]):
    """What one key holds and how it answers when asked one operation at a time."""

    @property
    def initial(self) -> S:
        """What every key holds at first."""

    def key(self, operation: Operation) -> Hashable:
        """What the operation is about; operations of different keys must not influence each other."""

    def step(self, state: S, operation: str, arguments: tuple[Hashable, ...]) -> tuple[S, Any]:
        """The state after the operation, and its result; `state` stays as it is, so states are never mutable."""

    def only_looks(self, operation: Operation) -> bool:
        """Whether it leaves every state as it is in which it has its result; False if in doubt, which costs time."""


class Register(NamedTuple):
    """Keys that hold a value: read(key), write(key, value), compare_and_set(key, old, new) -> whether it was old."""

    initial: Hashable = None

    def key(self, operation: Operation) -> Hashable:
        """The first argument."""
        return operation.arguments[0]

    def step(self, state: Hashable, operation: str, arguments: tuple[Hashable, ...]) -> tuple[Hashable, Any]:
        """See the class."""
        match operation, arguments:
            case "read", (_,):
                return state, state
            case "write", (_, value):
                return value, None
            case "compare_and_set", (_, old, new):
                return (new, True) if state == old else (state, False)
        raise ValueError(f"a register has no {operation}{arguments}")

    def only_looks(self, operation: Operation) -> bool:
        """A read, or a compare_and_set that did not set."""
        return operation.operation == "read" or operation.result is False


class AppendLog(NamedTuple):
    """Keys that hold a growing tuple: append(key, value) -> the new length, read(key) -> the tuple.

    submit(key, value) -> the value is an append that does not tell the length.

    The length shows an append that took effect twice, which a register would hide: for sessions that promise once.
    """

    initial: tuple[Hashable, ...] = ()

    def key(self, operation: Operation) -> Hashable:
        """The first argument."""
        return operation.arguments[0]

    def step(
        self, state: tuple[Hashable, ...], operation: str, arguments: tuple[Hashable, ...]
    ) -> tuple[tuple[Hashable, ...], Any]:
        """See the class."""
        match operation, arguments:
            case "read", (_,):
                return state, state
            case "append", (_, value):
                return (*state, value), len(state) + 1
            case "submit", (_, value):
                return (*state, value), value
        raise ValueError(f"a log has no {operation}{arguments}")

    def only_looks(self, operation: Operation) -> bool:
        """A read."""
        return operation.operation == "read"


class Stuck(NamedTuple):
    """An operation that had to be placed next, or beside others that had to, and what the model answers to it."""

    operation: Operation
    answer: Any


class Violation(NamedTuple):
    """Why a key is not linearizable; as a string, for a person.

    `prefix` is a longest order that fits, counted in operations with a known outcome. After it the model is in
    `state` and one of `stuck` has to come next, but each saw another result than the model's.
    """

    key: Hashable
    prefix: tuple[Operation, ...]
    state: Hashable
    stuck: tuple[Stuck, ...]
    returned: int

    def __str__(self) -> str:
        placed = sum(operation.returned_at is not None for operation in self.prefix)
        lines = [
            f"{self.key!r} is not linearizable: no order places more than {placed} of {self.returned} results"
        ]
        if self.prefix:
            lines.append(
                f"such an order ends (last {SHOWN} at most):" if placed > SHOWN else "such an order:"
            )
            lines += [f"  {operation}" for operation in self.prefix[-SHOWN:]]
        lines.append(f"the state is then {self.state!r}, and none of these can come next:")
        lines += [f"  {operation}: must be {answer!r}" for operation, answer in self.stuck]
        return "\n".join(lines)


class Verdict(NamedTuple):
    """What `check` found; `steps` is how often the model was asked, a cost that is the same on every machine."""

    violation: Violation | None
    steps: int

    @property
    def ok(self) -> bool:
        """Whether the history is linearizable."""
        return self.violation is None


class TooHard(Exception):
    """The check was given up: the history may be linearizable or not."""


def check(history: Iterable[Operation], model: Model[S], steps_max: int = 5_000_000) -> Verdict:
    """Whether the history is linearizable; if not, the verdict explains the first key that is not.

    Operations of unknown outcome may be placed or not. Those known to have failed must not be in the history.
    Raises TooHard rather than ask the model more than `steps_max` times. What costs are overlapping operations, of
    which those of unknown outcome overlap all that follow. With 8 clients that never pause, 2,000 operations of a
    key take a tenth of a second; a second if 100 of them have an unknown outcome (20 in a log), a few if it is no.
    """
    keys: dict[Hashable, list[Operation]] = {}
    for operation in history:
        if operation.returned_at is not None and operation.returned_at < operation.invoked_at:
            raise ValueError(f"returned before it was invoked: {operation}")
        if operation.returned_at is not None or not model.only_looks(operation):  # else it tells nothing
            keys.setdefault(model.key(operation), []).append(operation)
    steps = 0
    for key, operations in keys.items():
        search = _Search(key, operations, model, steps_max - steps)
        violation = search.run()
        steps += search.steps
        if violation is not None:
            return Verdict(violation, steps)
    return Verdict(None, steps)


class _Events:
    """Calls and returns in the order of time, in two rings from which placed operations are lifted out.

    An event is its rank in time. One ring holds calls and returns of known outcome, from HEAD; the other holds the
    calls of unknown outcome, from `opened`, a rank past all others.
    """

    HEAD = 0

    def __init__(self, operations: list[Operation]) -> None:
        times = [(operation.invoked_at, 0, index) for index, operation in enumerate(operations)]
        for index, operation in enumerate(operations):
            if operation.returned_at is not None:
                times.append((operation.returned_at, 1, index))
        times.sort()  # calls before returns of the same ns: they overlap
        self.opened = len(times) + 1
        self.operation = [0] * (len(times) + 2)  # event -> index of its operation
        self.end = [0] * (len(times) + 2)  # call -> its return, or 0 if that is unknown; return -> 0
        call_of: dict[int, int] = {}
        known, opened = [self.HEAD], [self.opened]
        for event, (_, is_return, index) in enumerate(times, 1):
            self.operation[event] = index
            ring = opened if operations[index].returned_at is None else known
            ring.append(event)
            if is_return:
                self.end[call_of[index]] = event
            else:
                call_of[index] = event
        self.after, self.before = [0] * (len(times) + 2), [0] * (len(times) + 2)
        for ring in known, opened:
            for left, right in zip(ring, ring[1:] + ring[:1], strict=True):
                self.after[left], self.before[right] = right, left

    def lift(self, call: int) -> None:
        """Take the operation out."""
        after, before = self.after, self.before
        for event in (call, self.end[call]) if self.end[call] else (call,):
            after[before[event]], before[after[event]] = after[event], before[event]

    def put_back(self, call: int) -> None:
        """Undo the newest `lift`, which was of this operation."""
        after, before = self.after, self.before
        for event in (self.end[call], call) if self.end[call] else (call,):
            after[before[event]] = before[after[event]] = event

    def due(self) -> Iterator[int]:
        """The calls before the first return: one of these, of known outcome, comes next."""
        event = self.after[self.HEAD]
        while self.end[event]:
            yield event
            event = self.after[event]

    def optional(self) -> Iterator[int]:
        """The calls of unknown outcome before the first return; goes on rightly after a `lift` that was undone."""
        first_return = self.after[self.HEAD]
        while self.end[first_return]:
            first_return = self.after[first_return]
        event = self.after[self.opened]
        while event < first_return:
            yield event
            event = self.after[event]


class _Placed(NamedTuple):
    call: int
    state_before: Any


class _Search:
    """The search for an order of one key's operations.

    Operations of unknown outcome would make it exponential, as each can come at any time. Whatever order fits, it
    still fits without an unknown operation that changed nothing anyone saw. So one is placed only if it changes the
    state, if what comes right after it needs that, if no order with fewer of them gave the same state with the same
    known ones, and after its twins (same call, invoked earlier).

    What only looks is placed for good as soon as it fits: an order that has it later also fits with it now.
    """

    def __init__(self, key: Hashable, operations: list[Operation], model: Model[Any], steps_max: int) -> None:
        self.key, self.operations, self.model, self.steps_max = key, operations, model, steps_max
        self.events = _Events(operations)
        self.looks = [model.only_looks(operation) for operation in operations]
        self.twin = _twins(operations)
        self.returned = self.left = sum(operation.returned_at is not None for operation in operations)
        self.state: Any = model.initial
        self.known = self.unknown = 0  # bit masks of what is placed, by index
        self.placed: list[_Placed] = []
        self.tried: dict[tuple[int, Any], list[int]] = {}  # known, state -> masks of unknown
        self.steps = 0
        self.deepest: tuple[int, list[_Placed], Any, list[int]] = (self.returned + 1, [], None, [])

    def run(self) -> Violation | None:
        """Find an order, or say why there is none."""
        frames = [self._candidates()]
        while self.left:
            for call in frames[-1]:
                if self._place(call):
                    if self.looks[self.events.operation[call]]:
                        frames[-1] = iter(())  # for good: see the class
                    frames.append(self._candidates())
                    break
            else:
                if self.left < self.deepest[0]:
                    self.deepest = (self.left, self.placed.copy(), self.state, list(self.events.due()))
                if not self.placed:
                    return self._violation()
                frames.pop()
                self._take_back()
        return None

    def _candidates(self) -> Iterator[int]:
        """What may come next: first what only looks, then what must come soon, then what need not come."""
        due = list(self.events.due())
        due.sort(key=lambda call: (not self.looks[self.events.operation[call]], self.events.end[call]))
        return chain(due, self.events.optional())

    def _place(self, call: int) -> bool:
        """Put the operation next if it fits and was not tried yet."""
        index = self.events.operation[call]
        operation, bit = self.operations[index], 1 << index
        is_known = operation.returned_at is not None
        known, unknown = (self.known | bit, self.unknown) if is_known else (self.known, self.unknown | bit)
        if self.twin[index] & ~self.unknown:
            return False
        state, result = self._step(self.state, operation)
        if (result != operation.result) if is_known else (state == self.state):
            return False
        if self._needless(operation, state):
            return False
        tried = self.tried.setdefault((known, state), [])
        if any(fewer & unknown == fewer for fewer in tried):
            return False
        tried.append(unknown)
        self.placed.append(_Placed(call, self.state))
        self.events.lift(call)
        self.known, self.unknown, self.state = known, unknown, state
        self.left -= is_known
        return True

    def _needless(self, operation: Operation, state: Any) -> bool:
        """Whether the operation would do the same without the one before it, of unknown outcome."""
        if not self.placed or self.events.end[self.placed[-1].call]:
            return False
        without, result = self._step(self.placed[-1].state_before, operation)
        return bool(without == state and (operation.returned_at is None or result == operation.result))

    def _take_back(self) -> None:
        call, self.state = self.placed.pop()
        self.events.put_back(call)
        bit = 1 << self.events.operation[call]
        if self.events.end[call]:
            self.known ^= bit
            self.left += 1
        else:
            self.unknown ^= bit

    def _step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        if self.steps == self.steps_max:
            raise TooHard(f"undecided after {self.steps} steps at {self.key!r}")
        self.steps += 1
        return self.model.step(state, operation.operation, operation.arguments)

    def _violation(self) -> Violation:
        _, placed, state, due = self.deepest
        prefix = tuple(self.operations[self.events.operation[call]] for call, _ in placed)
        stuck = [self.operations[self.events.operation[call]] for call in due]
        answers = [self.model.step(state, each.operation, each.arguments)[1] for each in stuck]
        return Violation(self.key, prefix, state, tuple(map(Stuck, stuck, answers)), self.returned)


def _twins(operations: list[Operation]) -> list[int]:
    """For each operation of unknown outcome a mask of the next earlier one with the same call, else 0."""
    twins = [0] * len(operations)
    newest: dict[tuple[str, tuple[Hashable, ...]], int] = {}
    for index in sorted(range(len(operations)), key=lambda index: operations[index].invoked_at):
        operation = operations[index]
        if operation.returned_at is None:
            call = operation.operation, operation.arguments
            twins[index] = newest.get(call, 0)
            newest[call] = 1 << index
    return twins
