"""What clients asked of a system and what they saw, one JSON object a line, for checkers here and elsewhere."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple

FIELDS = ("client", "operation", "arguments", "result", "invoke_ns", "return_ns")


class Operation(NamedTuple):
    """What one client asked and saw; times are int ns of one clock that all clients share.

    `returned_at` is None if the client never learned the outcome: the operation may take effect at any time after
    `invoked_at`, or never. One that is known to have failed without effect is for the recorder to leave out.
    Arguments and result are None, bool, int, float, str or tuples of these, so they can be hashed and compared.
    """

    client: str
    operation: str
    arguments: tuple[Hashable, ...]
    result: Any
    invoked_at: int
    returned_at: int | None

    def __str__(self) -> str:
        call = f"{self.client} {self.operation}({', '.join(map(repr, self.arguments))})"
        if self.returned_at is None:
            return f"{call} -> ? [{self.invoked_at}, ...]"
        return f"{call} -> {self.result!r} [{self.invoked_at}, {self.returned_at}]"


def dump(history: Iterable[Operation]) -> Iterator[str]:
    """A line for each operation, newline included; ValueError if `load` would not give the same operation back."""
    for operation in history:
        values = (*operation[:2], _thaw(operation.arguments), _thaw(operation.result), *operation[4:])
        line = json.dumps(dict(zip(FIELDS, values, strict=True)), allow_nan=False)
        _parse(line)
        yield line + "\n"


def load(lines: Iterable[str]) -> list[Operation]:
    """The operations of a file as `dump` writes it, blank lines left out; ValueError names the first bad line."""
    history = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                history.append(_parse(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
    return history


def _parse(line: str) -> Operation:
    fields = json.loads(line, parse_constant=_refuse)
    if not isinstance(fields, dict) or sorted(fields) != sorted(FIELDS):
        raise ValueError(f"not an object of exactly {', '.join(FIELDS)}")
    client, name, arguments, result, invoked_at, returned_at = (fields[field] for field in FIELDS)
    for field, value in (("client", client), ("operation", name)):
        if not isinstance(value, str):
            raise ValueError(f"{field} is {value!r}, not a string")
    if not isinstance(arguments, list):
        raise ValueError(f"arguments is {arguments!r}, not an array")
    if type(invoked_at) is not int:  # a bool is an int to isinstance
        raise ValueError(f"invoke_ns is {invoked_at!r}, not an integer")
    if returned_at is None:
        if result is not None:
            raise ValueError(f"the result is {result!r}, but the outcome is unknown")
    elif type(returned_at) is not int or returned_at < invoked_at:
        raise ValueError(f"return_ns is {returned_at!r}, neither null nor an integer from {invoked_at} on")
    frozen = tuple(_freeze(argument) for argument in arguments)
    return Operation(client, name, frozen, _freeze(result), invoked_at, returned_at)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _freeze(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, dict):
        raise ValueError("an object within arguments or result: use arrays")
    return value


def _thaw(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_thaw(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{value!r} does not come back from JSON as it was")
