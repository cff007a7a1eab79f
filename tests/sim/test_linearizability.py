"""Is the judge right? Known histories, all orders of small ones, and large ones that are right by construction."""

import json
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.sim.history import Operation, dump, load
from zlb.sim.linearizability import AppendLog, Model, Register, TooHard, check

# client operation(arguments) result invoked returned, "?" for an unknown outcome; the key is "k" unless told
HISTORIES: dict[str, tuple[Model[Any], bool, str]] = {
    "nothing": (Register(), True, ""),
    "one after the other": (Register(), True, "a write 1 = null 0 1; b read = 1 2 3; a read = 1 4 5"),
    "a read beside a write sees it": (Register(), True, "a write 1 = null 0 9; b read = 1 2 3"),
    "a read beside a write does not": (Register(), True, "a write 1 = null 0 9; b read = null 2 3"),
    "two readers disagree on the order": (
        Register(),
        False,
        "a write 1 = null 0 9; b write 2 = null 0 9; c read = 1 10 11; d read = 2 12 13",
    ),
    "stale read": (Register(), False, "a write 1 = null 0 1; a write 2 = null 2 3; b read = 1 4 5"),
    "reads go back in time": (Register(), False, "a write 1 = null 0 20; b read = 1 1 2; c read = null 3 4"),
    "a value from nowhere": (Register(), False, "a write 1 = null 0 1; b read = 7 0 5"),
    "equal ns overlap": (Register(), True, "a write 1 = null 0 5; b read = null 5 6"),
    "one ns later does not": (Register(), False, "a write 1 = null 0 5; b read = null 6 7"),
    "an operation that takes no time": (Register(), True, "a write 1 = null 5 5; b read = 1 5 5"),
    "one of two swaps wins": (
        Register(),
        True,
        "a write 0 = null 0 1; b compare_and_set 0 1 = true 2 9; c compare_and_set 0 2 = false 2 9",
    ),
    "both swaps win: an update is lost": (
        Register(),
        False,
        "a write 0 = null 0 1; b compare_and_set 0 1 = true 2 9; c compare_and_set 0 2 = true 2 9",
    ),
    "a failed swap tells of a write": (
        Register(),
        False,
        "a write 0 = null 0 1; b compare_and_set 0 1 = false 2 9; c read = 0 10 11",
    ),
    "unknown write seen later": (
        Register(),
        True,
        "a write 1 = null 0 ?; b read = null 5 6; b read = 1 90 91",
    ),
    "unknown write never seen": (
        Register(),
        True,
        "a write 1 = null 0 ?; b read = null 5 6; b read = null 90 91",
    ),
    "unknown write seen, then gone": (
        Register(),
        False,
        "a write 1 = null 0 ?; b read = 1 5 6; b read = null 90 91",
    ),
    "unknown write seen before it was asked": (Register(), False, "b read = 1 0 1; a write 1 = null 2 ?"),
    "unknown write takes effect once": (
        Register(),
        False,
        "a write 1 = null 0 ?; b read = 1 5 6; b write 2 = null 7 8; b read = 2 9 10; b read = 1 11 12",
    ),
    "two equal unknown writes": (
        Register(),
        True,
        "a write 1 = null 0 ?; c write 1 = null 0 ?; b read = 1 5 6; b write 2 = null 7 8; b read = 1 11 12",
    ),
    "a chain of unknown swaps": (
        Register(),
        True,
        "a compare_and_set null 1 = null 0 ?; b compare_and_set 1 2 = null 0 ?; c read = 2 5 6",
    ),
    "unknown read": (Register(), True, "a read = null 0 ?; b write 1 = null 5 6"),
    "appends": (AppendLog(), True, 'a append "x" = 1 0 5; b append "y" = 2 0 5; c read = ["x","y"] 6 7'),
    "append answered in the wrong order": (
        AppendLog(),
        False,
        'a append "x" = 1 0 5; b append "y" = 2 0 5; c read = ["y","x"] 6 7',
    ),
    "append twice, seen by a read": (AppendLog(), False, 'a append "x" = 1 0 5; c read = ["x","x"] 6 7'),
    "append twice, seen by a length": (AppendLog(), False, 'a append "x" = 1 0 5; b append "y" = 3 6 7'),
    "append lost": (AppendLog(), False, 'a append "x" = 1 0 5; b append "y" = 1 6 7'),
    "unknown append counted": (AppendLog(), True, 'a append "x" = null 0 ?; b append "y" = 2 6 7'),
    "unknown append counted twice": (AppendLog(), False, 'a append "x" = null 0 ?; b append "y" = 3 6 7'),
}


def history(text: str) -> list[Operation]:
    operations = []
    for words in map(str.split, text.split(";") if text else []):
        client, name, *arguments, _, result, invoked, returned = words
        values = map(json.loads, arguments)
        result = json.loads(result)
        operations.append(
            Operation(
                client,
                name,
                ("k", *values),
                tuple(result) if isinstance(result, list) else result,
                int(invoked),
                None if returned == "?" else int(returned),
            )
        )
    return operations


@pytest.mark.parametrize("name", HISTORIES)
def test_known_history(name: str) -> None:
    model, linearizable, text = HISTORIES[name]
    verdict = check(history(text), model)
    assert verdict.ok == linearizable, verdict.violation
    assert check(reversed(history(text)), model).ok == linearizable, "only times tell the order"


def test_explanation() -> None:
    _, _, text = HISTORIES["stale read"]
    fine = history("a write 1 = null 0 1")[0]._replace(arguments=("other", 1))
    verdict = check([fine, *history(text)], Register())
    assert str(verdict.violation).splitlines() == [
        "'k' is not linearizable: no order places more than 2 of 3 results",
        "such an order:",
        "  a write('k', 1) -> None [0, 1]",
        "  a write('k', 2) -> None [2, 3]",
        "the state is then 2, and none of these can come next:",
        "  b read('k') -> 1 [4, 5]: must be 2",
    ]


def test_keys_are_apart() -> None:
    one, two = history("a write 1 = null 0 1; b read = null 2 3")
    assert not check([one, two], Register()).ok
    assert check([one, two._replace(arguments=("j",))], Register()).ok


def test_what_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="returned before it was invoked: a read"):
        check(history("a read = null 5 4"), Register())
    with pytest.raises(ValueError, match="a register has no add"):
        check(history("a add 1 = null 5 6"), Register())
    with pytest.raises(ValueError, match="a log has no write"):
        check(history("a write 1 = null 5 6"), AppendLog())
    with pytest.raises(TooHard, match="undecided after 3 steps at 'k'"):
        check(history("a write 1 = null 0 1;" * 3 + "a write 1 = null 0 1"), Register(), steps_max=3)


def naive(operations: list[Operation], model: Model[Any]) -> int | None:
    """None if some order fits; else how many known outcomes a longest one has. Nothing clever: all permutations."""
    known = sum(operation.returned_at is not None for operation in operations)
    most = 0
    for order in permutations(operations):
        placed, state, left = 0, model.initial, list(operations)
        for operation in order:  # each start of the order is looked at on the way
            left.remove(operation)
            after, result = model.step(state, operation.operation, operation.arguments)
            if any(e.returned_at is not None and e.returned_at < operation.invoked_at for e in left):
                break
            if operation.returned_at is not None:
                if result != operation.result:
                    break
                placed += 1
            state = after
            most = max(most, placed)
    return None if most == known else most


@st.composite
def small_histories(draw: st.DrawFn) -> tuple[list[Operation], Model[Any]]:
    """Up to six operations with few values and times, so that about half are linearizable."""
    is_log = draw(st.booleans())
    operations = []
    value = st.integers(0, 1) if is_log else st.integers(0, 2)
    for number in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(["append", "read"] if is_log else ["write", "read", "compare_and_set"]))
        arguments = [draw(value) for _ in range({"read": 0, "compare_and_set": 2}.get(name, 1))]
        invoked = draw(st.integers(0, 8))
        result: Any = None
        returned = None
        if draw(st.integers(0, 3)):
            returned = invoked + draw(st.integers(0, 6))
            results: dict[str, st.SearchStrategy[Any]] = {
                "write": st.none(),
                "compare_and_set": st.booleans(),
                "append": st.integers(1, 3),
                "read": st.lists(value, max_size=3).map(tuple) if is_log else value,
            }
            result = draw(results[name])
        operations.append(Operation(f"c{number}", name, ("k", *arguments), result, invoked, returned))
    return operations, AppendLog() if is_log else Register(0)


@settings(max_examples=600)
@given(small_histories())
def test_as_all_permutations_say(case: tuple[list[Operation], Model[Any]]) -> None:
    operations, model = case
    verdict = check(operations, model)
    placed = naive(operations, model)
    assert verdict.ok == (placed is None)
    if verdict.violation is not None:
        prefix = verdict.violation.prefix
        assert sum(operation.returned_at is not None for operation in prefix) == placed
        assert all(stuck.operation.result != stuck.answer for stuck in verdict.violation.stuck)
        state = model.initial
        for operation in prefix:
            state, result = model.step(state, operation.operation, operation.arguments)
            assert operation.returned_at is None or result == operation.result
        assert state == verdict.violation.state


def linearizable(seed: int, model: Model[Any], count: int, unknown: float) -> list[Operation]:
    """What 8 clients see that ask without pause; each operation takes effect at a random point of its time."""
    dice = Random(seed)
    free = [0] * 8
    points = []
    for number in range(count):
        client = dice.randrange(8)
        invoked = free[client] + dice.randrange(1, 20)
        free[client] = returned = invoked + dice.randrange(1, 100)
        is_unknown = dice.random() < unknown
        name = dice.choice(
            ["append", "read"] if isinstance(model, AppendLog) else ["write", "read", "read", "cas"]
        )
        arguments: tuple[Any, ...] = ("k", number)
        if name == "read":
            arguments = ("k",)
        elif name == "cas":
            name, arguments = "compare_and_set", ("k", dice.randrange(number + 1), number)
        point = dice.uniform(invoked, invoked + 5000 if is_unknown else returned)
        operation = Operation(f"c{client}", name, arguments, None, invoked, None if is_unknown else returned)
        points.append((point, operation))
    state, operations = model.initial, []
    for _, operation in sorted(points):
        if operation.returned_at is None and dice.random() < 0.5:  # never takes effect
            operations.append(operation)
            continue
        state, result = model.step(state, operation.operation, operation.arguments)
        operations.append(operation if operation.returned_at is None else operation._replace(result=result))
    dice.shuffle(operations)
    return operations


SIZES = [
    (Register(), 2000, 0.0),
    (Register(), 2000, 0.02),
    (AppendLog(), 2000, 0.0),
    (AppendLog(), 500, 0.02),
]


@pytest.mark.parametrize(("model", "count", "unknown"), SIZES)
def test_right_by_construction(model: Model[Any], count: int, unknown: float) -> None:
    for seed in range(3):
        verdict = check(linearizable(seed, model, count, unknown), model)
        assert verdict.ok, str(verdict.violation)
        assert verdict.steps < 100 * count


@pytest.mark.parametrize(("model", "count", "unknown"), SIZES)
def test_one_wrong_read(model: Model[Any], count: int, unknown: float) -> None:
    """A read that gets the answer of one long before."""
    found = 0
    for seed in range(5):
        operations = linearizable(seed, model, count, unknown)
        reads = [e for e in operations if e.operation == "read" and e.returned_at is not None]
        reads.sort(key=lambda operation: operation.invoked_at)
        early, late = reads[len(reads) // 3], reads[len(reads) // 2]
        operations[operations.index(late)] = late._replace(result=early.result)
        violation = check(operations, model).violation
        found += violation is not None and late._replace(result=early.result) in {
            stuck.operation for stuck in violation.stuck
        }
    assert found >= 4


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3).map(tuple),
    max_leaves=5,
)


@st.composite
def any_operations(draw: st.DrawFn) -> Operation:
    invoked = draw(st.integers())
    returned = draw(st.none() | st.integers(invoked))
    result = None if returned is None else draw(VALUES)
    arguments = tuple(draw(st.lists(VALUES, max_size=3)))
    return Operation(draw(st.text()), draw(st.text()), arguments, result, invoked, returned)


@given(st.lists(any_operations()))
def test_json_lines_come_back(operations: list[Operation]) -> None:
    lines = list(dump(operations))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert load(lines) == operations
    assert list(map(repr, load(lines))) == list(map(repr, operations)), "True is not 1 here"


LINE = (
    '{"client": "a", "operation": "write", "arguments": ["k", [1]], "result": null,'
    ' "invoke_ns": 5, "return_ns": null}\n'
)


def test_json_line() -> None:
    operation = Operation("a", "write", ("k", (1,)), None, 5, None)
    assert list(dump([operation])) == [LINE]
    assert load(["\n", LINE, "  "]) == [operation]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (LINE, "{", "line 2: Expecting property name"),
        (LINE, "[" * 100_000, "line 2: "),
        (
            LINE,
            "[]",
            "line 2: not an object of exactly client, operation, arguments, result, invoke_ns, return_ns",
        ),
        ('"client": "a", ', "", "line 2: not an object of exactly"),
        ('"client"', '"more": 1, "client"', "line 2: not an object of exactly"),
        ('"a"', "1", "line 2: client is 1, not a string"),
        ('"write"', "null", "line 2: operation is None, not a string"),
        ('["k", [1]]', '"k"', "line 2: arguments is 'k', not an array"),
        ("[1]", "{}", "line 2: an object within arguments or result"),
        ("[1]", "NaN", "line 2: NaN is no JSON"),
        ("5", "5.0", "line 2: invoke_ns is 5.0, not an integer"),
        ("5", "true", "line 2: invoke_ns is True, not an integer"),
        (
            '"return_ns": null',
            '"return_ns": 4',
            "line 2: return_ns is 4, neither null nor an integer from 5 on",
        ),
        ('"return_ns": null', '"return_ns": "9"', "line 2: return_ns is '9', neither"),
        ('"result": null', '"result": 3', "line 2: the result is 3, but the outcome is unknown"),
    ],
)
def test_malformed_line(old: str, new: str, complaint: str) -> None:
    assert old in LINE
    with pytest.raises(ValueError) as caught:
        load([LINE, LINE.replace(old, new, 1)])
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("value", [b"x", [1], float("nan"), {1: 2}])
def test_what_json_would_change_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError):
        list(dump([Operation("a", "read", ("k",), value, 0, 1)]))
