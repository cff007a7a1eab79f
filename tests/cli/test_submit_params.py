"""`zlb submit --param`: kernels of other packages, which have parameters and nothing that hashes have."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import Result

from zlb.cli import asked, params, run
from zlb.kernels import Kernel, KernelError, load_kernel
from zlb.wire import values

Call = Callable[..., Result]

HASH_WORDS = ("encoding", "match", "zero bits", "hashed", "digest")


@dataclass
class Foreign:
    """A kernel from elsewhere: takes whatever is not called `bad`."""

    name: str = "foreign"
    tests: float = 4.0
    asked: list[Mapping[str, object]] = field(default_factory=list)

    def validate(self, params: Mapping[str, object], ranges: Sequence[tuple[int, int]]) -> None:
        self.asked.append(params)
        if "bad" in params:
            raise KernelError("foreign takes anything but bad")

    def tests_per_hit(self, params: Mapping[str, object]) -> float:
        return self.tests

    def checker(self, params: Mapping[str, object]) -> Callable[[int], bytes | None]:
        return lambda n: b"\1" if n % 4 == 0 else None

    def prepare(self, params: Mapping[str, object]) -> NoReturn:
        raise AssertionError("only whoever searches prepares")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Foreign:
    """Installed, as `foreign`."""
    kernel = Foreign()

    def load(name: str) -> Kernel:
        return kernel if name == kernel.name else load_kernel(name)

    monkeypatch.setattr(asked, "load_kernel", load)
    return kernel


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(result: Result) -> str:
    """The one line of a usage error."""
    assert (result.exit_code, result.stdout) == (2, "")
    said = result.stderr.split("Error: ", 1)[1]
    assert said.count("\n") == 1
    assert said.strip().isprintable()
    return said.strip()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100", 100),
        ("-1", -1),
        ("007", 7),
        ("0xfF", 255),
        ("-0X10", -16),
        (str(2**64), 2**64),
        (str(-(2**4096) + 1), -(2**4096) + 1),
        (hex(2**4096 - 1), 2**4096 - 1),
        ("0" * 5000 + "1", 1),
        ("hex:00fF", b"\0\xff"),
        ("hex:", b""),
        ("", ""),
        ("a=b", "a=b"),
        (" 1", " 1"),
        ("1.5", "1.5"),
        ("1e6", "1e6"),
        ("0x", "0x"),
        ("--1", "--1"),
        ("٣", "٣"),
        ("true", "true"),
        ("a€", "a€"),
        ("json:1.5", 1.5),
        ("json:-1e-6", -1e-6),
        ("json: [17, 18]", [17, 18]),
        ('json:{"from": 5, "factor": 0.5}', {"from": 5, "factor": 0.5}),
        ('json:["a", null, true, []]', ["a", None, True, []]),
        ("json:null", None),
        ("json:true", True),
        (f"json:{2**4095}", 2**4095),
        ('json:["€"]', ["€"]),
        ("JSON:1", "JSON:1"),
    ],
)
def test_values(submit: Call, grid: Any, foreign: Foreign, text: str, value: object) -> None:
    result = submit("-a", "foreign", "--param", f"x={text}")
    assert result.exit_code == 0, result.output
    (params,) = foreign.asked
    assert params == values.unpack(grid.job.params) == {"x": value}
    assert type(params["x"]) is type(value)
    (plan,) = lines(submit("-a", "foreign", "--param", f"x={text}", "--dry-run", "--json"))
    again = submit("-a", "foreign", "--param", f"x={plan['params']['x']}")
    assert again.exit_code == 0
    assert foreign.asked[-1] == params


def test_a_value_from_a_file(submit: Call, grid: Any, foreign: Foreign, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"1\xff\n")
    submit("-a", "foreign", "--param", f"x=@{tmp_path}/value")
    assert values.unpack(grid.job.params) == {"x": b"1\xff\n"}


def test_options_are_parameters_too_and_none_is_needed(submit: Call, grid: Any, foreign: Foreign) -> None:
    arguments = "-d 9 -m leading -e hex --prefix p --suffix 0xff --param b=x"
    assert submit("-a", "foreign", "--param", "a=1", *arguments.split()).exit_code == 0
    assert submit("-a", "foreign").exit_code == 0
    said = {"difficulty": 9, "match": "leading", "encoding": "hex", "prefix": b"p", "suffix": b"\xff"}
    assert [values.unpack(call[0].params) for call in grid.calls] == [said | {"a": 1, "b": "x"}, {}]
    assert grid.calls[0][0].kernel == "foreign"


def test_a_variable_holds_several(submit: Call, grid: Any, foreign: Foreign) -> None:
    submit("-a", "foreign", env={"ZLB_PARAM": "a=1 b=hex:02"})
    assert values.unpack(grid.job.params) == {"a": 1, "b": b"\2"}


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (["a=1", "a=2"], "--param a: given twice"),
        (["difficulty=1"], "--param difficulty: another option has said it already"),
        (["bad=1"], "foreign takes anything but bad"),
        (["steps"], "'steps' is no NAME=VALUE"),
        (["=1"], "'' is no name: it has to be printable"),
        (["\x1b[2J=1"], r"'\x1b[2J' is no name: it has to be printable"),
        (["a\udcff=1"], r"'a\udcff' is no name: it has to be printable"),
        (["a" * 65 + "=1"], "a name has at most 64 characters, this one 65"),
        (["\n" * 100], r"\n' is no NAME=VALUE"),
        (["a=hex:0"], "a: an odd number of hex digits (1) (hex: starts hexadecimal)"),
        (["a=hex:0g"], "a: 'g' (digit 2) is not hexadecimal"),
        (["a=@/no/such/file"], "file '/no/such/file': No such file or directory"),
        (["a=@/dev/zero"], "file '/dev/zero' is longer than 163840 bytes"),
        (["a=\udcff"], "a: this text is not UTF-8; bytes are written hex:00ff"),
        ([f"a={2**4096}"], "a: integers have at most 4096 bits"),
        ([f"a={-(2**4096):#x}"], "a: integers have at most 4096 bits"),
        (["a=" + "9" * 100_000], "a: integers have at most 4096 bits"),
        (["a=json:"], "a: Expecting value: line 1 column 1 (char 0) (json: starts JSON)"),
        (["a=json:[1,"], "a: Expecting value: line 1 column 4 (char 3) (json: starts JSON)"),
        (["a=json:NaN"], "a: NaN is no JSON"),
        (["a=json:[-Infinity]"], "a: -Infinity is no JSON"),
        (["a=json:1e999"], "a: a number in it is too large"),
        (["a=json:" + "[" * 100_000], "a: nested deeper than 8 levels"),
        (["a=json:" + "[" * 9 + "]" * 9], "a: nested deeper than 8 levels"),
        (['a=json:"\\ud800"'], "a: a text in it is not UTF-8"),
        ([f"a=json:{2**4096}"], "a: integers have at most 4096 bits"),
        (["a=json:" + "9" * 100_000], "a: integers have at most 4096 bits"),
        (["a=json:\n\x1b"], "a: Expecting value: line 2 column 1 (char 1)"),
        (["a=" + "x" * 100_000, "b=" + "x" * 100_000], "parameters take 200015 bytes, at most 163840"),
    ],
)
def test_what_is_refused(submit: Call, grid: Any, foreign: Foreign, params: list[str], error: str) -> None:
    arguments = [part for text in params for part in ("--param", text)]
    more = ["-d", "9"] if "difficulty=1" in params else []
    assert error in refused(submit("-a", "foreign", *more, *arguments))
    assert not grid.calls


@pytest.mark.parametrize(
    "arguments", ["", "-d 9", "-d 9 -a sha1", "-a sha256d", f"--header {'00' * 80} -d 9"]
)
def test_hashes_have_options_of_their_own(submit: Call, foreign: Foreign, arguments: str) -> None:
    said = refused(submit("--param", "a=1", *arguments.split()))
    assert said.startswith("--param is for other kernels: sha")
    assert said.endswith("has --difficulty, --prefix and other options of its own")


def test_dry_run(submit: Call, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "remembered_rate", lambda state_dir, kernel: 100.0)
    arguments = ("-a", "foreign", "-r", ":1000", "--local", "1", "--dry-run")
    given = ("--param", "steps=7", "--param", f"long={'z' * 99}", "--param", "x=\x1b[2J", "--prefix", "ab")
    said = submit(*arguments, *given)
    assert said.stdout.splitlines() == [
        "range   [0, 1000)",
        "size    1000 integers",
        "kernel  foreign",
        "param   prefix=hex:6162",
        "param   steps=7",
        f"param   long={'z' * 60}... (99 characters)",
        r"param   x='\x1b[2J'",
        "goal    4 tries for a hit on average",
        "stop    at the first hit",
        "hits    250 ± 13.7 expected in the whole range",
        "chance  100 % for a hit, < 0.1 % for none at all",
        "checked none: each hit, nothing else",
        "grid    this process, 1 thread",
        "time    about 40 ms, the whole range 10 s, at 100 /s (measured here before)",
    ]
    (plan,) = lines(submit(*arguments, "--json", "--param", "steps=7", "--param", "x=hex:00"))
    assert (plan["kernel"], plan["encoding"], plan["match"]) == ("foreign", None, None)
    assert plan["params"] == {"steps": "7", "x": "hex:00"}
    assert (plan["tests_per_hit"], plan["expected_hits"]) == (4.0, 250.0)


def test_plans_of_hashes_list_no_parameters(submit: Call, foreign: Foreign) -> None:
    (plan,) = lines(submit("-d", "9", "--dry-run", "--json"))
    assert (plan["encoding"], plan["match"], "params" in plan) == ("dec", "trailing", False)


def test_a_digest_means_nothing_to_other_kernels(submit: Call, foreign: Foreign) -> None:
    arguments = ("-a", "foreign", "--digest", "00ff", "-r", ":8", "--dry-run")
    assert "hits    2 ± 1.22 expected in the whole range" in submit(*arguments).stdout
    assert "param   digest=hex:00ff" in submit(*arguments).stdout
    (plan,) = lines(submit(*arguments, "--json"))
    assert (plan["match"], plan["expected_hits"]) == (None, 2.0)


@pytest.mark.parametrize(
    ("tests", "expected"),
    [(math.inf, None), (math.nan, None), (0.0, None), (-1.0, None), (0.5, 8.0), (1, 8.0)],
)
def test_estimates_that_cannot_be_reckoned_with(
    submit: Call, grid: Any, foreign: Foreign, tests: float, expected: float | None
) -> None:
    foreign.tests = tests
    arguments = ("-a", "foreign", "-r", ":8")
    (plan,) = lines(submit(*arguments, "--dry-run", "--json"))
    assert plan["expected_hits"] == expected
    assert lines(submit(*arguments, "--json"))[0]["expected_hits"] == expected
    said = submit(*arguments, "--dry-run").stdout.splitlines()
    assert ("hits    unknown" in said) == (expected is None)
    assert ("goal    1 try for a hit on average" in said) == (expected is not None)


def test_nothing_is_said_of_hashes(submit: Call, grid: Any, foreign: Foreign) -> None:
    grid.ending = lambda job: grid.ended(job, recomputed=7)
    arguments = ("-a", "foreign", "--param", "steps=7", "-r", ":1000")
    said = submit(*arguments, "--progress", "plain")
    assert said.stderr.endswith("about 7 integers were tested twice\n")
    for text in (said.stderr, submit(*arguments, "--dry-run").stdout):
        assert not [word for word in HASH_WORDS if word in text]
    hit = next(line for line in lines(submit(*arguments, "--json")) if line["event"] == "hit")
    assert hit["bits"] is None


def test_a_speed_that_the_parameters_say(submit: Call) -> None:
    given = ("--param", "seconds=0.01", "--param", "every=10")
    arguments = ("-a", "sleep", *given, "-r", ":1000", "--local", "2", "--dry-run")
    said = submit(*arguments, "--all").stdout.splitlines()
    assert "param   seconds=0.01" in said
    assert "goal    10 tries for a hit on average" in said
    speed = "at 200 /s (as its parameters say, on 2 threads)"
    assert said[-1] == f"time    about 5.00 s, the whole range 5.00 s, {speed}"
    (plan,) = lines(submit(*arguments, "--json"))
    assert (plan["hashrate"], plan["eta_s"], plan["whole_range_s"]) == (200.0, 0.05, 5.0)


def test_bytes_in_a_list_are_shown_as_python_has_them() -> None:
    assert params.written({"x": [b"a"], "y": [1]}) == {"x": "[b'a']", "y": "json:[1]"}
