"""The walls no other tool can see, held by a little `ast`.

A rule takes a module and yields a complaint for each place that breaks it, as (line, what is wrong). Each comes with
a piece of code it must complain about, so a rule that fell asleep is found out.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

# PURE is what must do the same in every process: the simulator and what it runs.
PURE = ("zlb/core/", "zlb/wire/", "zlb/protocols/", "zlb/nodes/", "zlb/sim/")
PACKAGE = ("zlb/",)
ALL = ("zlb/", "tests/", "examples/")

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.GeneratorExp)  # a SetComp has no order to get wrong
WALKERS = ("list", "tuple", "iter", "enumerate", "zip", "map")
ORDERLESS = ("sorted", "set", "frozenset", "any", "all", "len")  # calls that give the same for any order


@dataclass
class Module:
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))


Complaints = Iterator[tuple[int, str]]
Rule = Callable[[Module], Complaints]


def file_length(module: Module) -> Complaints:
    lines = module.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield FILE_LINES_MAX + 1, f"{lines} lines, {FILE_LINES_MAX} allowed: split it"


def function_length(module: Module) -> Complaints:
    for node in module.nodes:
        if isinstance(node, FUNCTIONS) and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX:
            yield (
                node.lineno,
                f"{node.end_lineno - node.lineno + 1} lines, {FUNCTION_LINES_MAX} allowed: split it",
            )


def docstring(module: Module) -> Complaints:
    if not ast.get_docstring(module.tree):
        yield 1, "no module docstring"


def open_marks(module: Module) -> Complaints:
    for number, line in enumerate(module.text.splitlines(), 1):
        if mark := re.search(r"\b(TODO|FIXME|XXX)\b", line):
            yield number, f"{mark[0]}: do it now or write an issue"


def sleep(module: Module) -> Complaints:
    for node in module.nodes:
        called = isinstance(node, ast.Attribute) and node.attr == "sleep"
        if called or (isinstance(node, ast.ImportFrom) and "sleep" in {alias.name for alias in node.names}):
            yield node.lineno, "sleep: wait for an event, with a deadline"


def dice(module: Module) -> Complaints:
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and _is_name(node.value, "random") and node.attr != "Random":
            yield node.lineno, f"random.{node.attr}: take a random.Random, so that one seed decides all"
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "random"
            and {a.name for a in node.names} != {"Random"}
        ):
            yield node.lineno, "from random import: take a Random, so that one seed decides all"


def clock(module: Module) -> Complaints:
    for node in module.nodes:
        if isinstance(node, ast.Import) and any(a.name == "time" for a in node.names):
            yield node.lineno, "import time: time is an argument here"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield node.lineno, "from time import: time is an argument here"


def coroutine(module: Module) -> Complaints:
    for node in module.nodes:
        if isinstance(node, ast.AsyncFunctionDef):
            yield node.lineno, "async def: a core returns its effects"


def printing(module: Module) -> Complaints:
    for node in module.nodes:
        if isinstance(node, ast.Call) and _is_name(node.func, "print"):
            yield node.lineno, "print: emit an event"


def set_order(module: Module) -> Complaints:
    """Strings in a set come in another order in every process, so what walks over one is not deterministic."""
    scopes = [node for node in module.nodes if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    constants = _known_sets(module.tree)
    found = set()
    for scope in scopes:
        known = constants | _known_sets(scope)
        found |= {
            walked.lineno for walked in _walked(scope) if _is_set(walked) or ast.unparse(walked) in known
        }
    for line in sorted(found):
        yield line, "walks over a set, in no order: sorted() it"


def _walked(scope: ast.AST) -> Iterator[ast.expr]:
    """What `for` and its like go through, where the order may show."""
    nodes = list(ast.walk(scope))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    harmless = {id(argument) for call in calls if _is_name(call.func, *ORDERLESS) for argument in call.args}
    for node in nodes:
        if isinstance(node, ast.For):
            yield node.iter
        elif isinstance(node, COMPREHENSIONS) and id(node) not in harmless:
            yield from (generator.iter for generator in node.generators)
        elif isinstance(node, ast.Call) and _is_name(node.func, *WALKERS):
            yield from node.args


def _known_sets(scope: ast.AST) -> set[str]:
    """The names and `self.names` that are sets as far as one can see without types."""
    known = set()
    for node in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
        if isinstance(node, ast.Assign) and _is_set(node.value):
            known |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.arg) and _is_set_type(node.annotation):
            known.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            known.add(ast.unparse(node.target))
    if isinstance(scope, ast.ClassDef):  # a field is met as `self.field`; the methods are scopes of their own
        fields = {ast.unparse(node.target) for node in scope.body if isinstance(node, ast.AnnAssign)} & known
        return {name for name in known if name.startswith("self.")} | {f"self.{name}" for name in fields}
    return known


def _is_name(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _is_set_type(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(
        re.match(r"(frozen)?set\b|(Abstract|Mutable)Set\b", ast.unparse(annotation))
    )


def _is_set(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_set(node.left) or _is_set(node.right)
    made = isinstance(node, ast.Call) and _is_name(node.func, "set", "frozenset")
    return made or isinstance(node, ast.Set | ast.SetComp)


WHERE: dict[Rule, tuple[str, ...]] = {
    file_length: PACKAGE,
    function_length: PACKAGE,
    docstring: PACKAGE,
    open_marks: PACKAGE,
    sleep: ALL,
    dice: PURE,
    clock: PURE,
    coroutine: PURE,
    printing: PURE,
    set_order: PURE,
}


@pytest.mark.parametrize("rule", WHERE, ids=lambda rule: rule.__name__)
def test_keeps(rule: Rule, root: Path, project_files: list[Path]) -> None:
    modules = [path for path in project_files if path.suffix == ".py" and str(path).startswith(WHERE[rule])]
    found = [
        f"{path}:{line}: {what}" for path in modules for line, what in rule(Module((root / path).read_text()))
    ]
    assert modules, "the folders of this rule have no Python files"
    assert not found, "\n".join(found)


BROKEN: list[tuple[Rule, str]] = [
    (file_length, "x = 1\n" * (FILE_LINES_MAX + 1)),
    (function_length, "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (function_length, "class C:\n    def f(self):\n" + "        x = 1\n" * FUNCTION_LINES_MAX),
    (docstring, "import sys\n"),
    (docstring, "# only a comment\n"),
    (open_marks, "x = 1  # TODO: more\n"),
    (open_marks, '"""Does it all. FIXME"""\n'),
    (sleep, "import time\ntime.sleep(1)\n"),
    (sleep, "from time import sleep\n"),
    (dice, "import random\nx = random.random()\n"),
    (dice, "import random\nshuffle = random.shuffle\n"),
    (dice, "from random import Random, choice\n"),
    (clock, "import os, time\n"),
    (clock, "def f():\n    from time import monotonic_ns\n"),
    (coroutine, "class C:\n    async def f(self): ...\n"),
    (printing, "def f(x):\n    print(x)\n"),
    (set_order, "for x in {'a', 'b'}: ...\n"),
    (set_order, "for x in set(y): ...\n"),
    (set_order, "for x in {a for a in y}: ...\n"),
    (set_order, "for x in set(y) | z: ...\n"),
    (set_order, "z = [x for x in frozenset(y)]\n"),
    (set_order, "z = max(x for x in set(y))\n"),
    (set_order, "z = list(set(y))\n"),
    (set_order, "for i, x in enumerate({'a', 'b'}): ...\n"),
    (set_order, "def f(peers: frozenset[str]):\n    for x in peers: ...\n"),
    (set_order, "class C:\n    def f(self):\n        self.up = set()\n        for x in self.up: ...\n"),
    (set_order, "UP = {'a', 'b'}\ndef f():\n    for x in UP: ...\n"),
    (set_order, "class C:\n    up: set[str]\n    def f(self):\n        return {x: 1 for x in self.up}\n"),
]

SOUND: list[tuple[Rule, str]] = [
    (file_length, "x = 1\n" * FILE_LINES_MAX),
    (function_length, "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
    (dice, "import random\nrng = random.Random(7)\n"),
    (dice, "from random import Random\n"),
    (clock, "def f(time: int) -> int:\n    return time + 1\n"),
    (set_order, "for x in sorted(set(y)): ...\n"),
    (set_order, "def f(x: set[str]): ...\ndef g(x: list[str]):\n    for y in x: ...\n"),
    (set_order, "z = sorted(x for x in set(y))\n"),
    (set_order, "z = {x + 1 for x in set(y)}\n"),
    (set_order, "z = any(x > 1 for x in set(y))\n"),
    (set_order, "z = 'a' in {'a', 'b'}\n"),
]


def _name(value: Rule | str) -> str:
    return value.__name__ if callable(value) else ""


@pytest.mark.parametrize(("rule", "text"), BROKEN, ids=_name)
def test_sees_broken_code(rule: Rule, text: str) -> None:
    assert list(rule(Module(text)))


@pytest.mark.parametrize(("rule", "text"), SOUND, ids=_name)
def test_leaves_sound_code(rule: Rule, text: str) -> None:
    assert not list(rule(Module(text)))


def test_every_rule_is_seen_failing() -> None:
    assert {rule for rule, _ in BROKEN} == {*WHERE}


# Absolute, and of one machine: a URL's path follows a host, and ~ or $HOME say what is meant.
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|root|home|Users)/\w")


def test_no_file_knows_one_machine(root: Path, project_files: list[Path]) -> None:
    found = []
    for path in project_files:
        lines = (root / path).read_bytes().decode(errors="replace").splitlines()
        found += [f"{path}:{number}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found


@pytest.mark.parametrize("folder", ["work", "root", "home"])
def test_sees_a_path_of_one_machine(folder: str) -> None:
    assert MACHINE_PATH.search(f"cd /{folder}/zlb")
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/zlb ~/{folder}/zlb")
