"""What trackers answer about jobs: what was asked for, and the hits that are results."""

import pytest

from zlb.core.work import StopRule
from zlb.protocols import commands, queries
from zlb.protocols.registry import Registry

SPEC = commands.Submit(
    "j-1", "key", "scan", "sha256", b"\x80", ((0, 100), (200, 1)), StopRule.ALL, 0, 7, 5, 6, 0, 8
)


def registry(spec: commands.Submit, hits: tuple[int, ...]) -> Registry:
    """With that job, which p-1 coordinates and has found these hits for, in this order."""
    state = Registry()
    steps = [spec, commands.Join("p-1", "", 1, 1), commands.Assign("j-1", "p-1", 1)]
    found = tuple((n, b"digest") for n in hits)
    steps.append(commands.Checkpoint("j-1", 1, ((0, 100),), found, 100, 0))
    for now, step in enumerate(steps):
        assert commands.unpack_result(state.apply(now, commands.pack(step)))[0]
    return state


def ask(state: Registry, query: queries.Query, kind: type) -> object:
    return queries.read(queries.answer(state, queries.ask(query)), kind)


def test_a_job_is_described_as_it_was_submitted() -> None:
    state = registry(SPEC, ())
    state.apply(9, commands.pack(commands.Prioritise("j-1", 1)))
    assert ask(state, queries.DescribeJob("j-1"), commands.Submit) == SPEC
    missing = ask(state, queries.DescribeJob("j-2"), commands.Submit)
    assert missing is commands.Denied.NO_SUCH_JOB


@pytest.mark.parametrize(
    ("rule", "wanted", "shown"),
    [
        (StopRule.ALL, 0, [5, 3, 9]),
        (StopRule.FIRST, 1, [5]),
        (StopRule.COUNT, 2, [5, 3]),
        (StopRule.COUNT, 3, [5, 3, 9]),
        (StopRule.COUNT, 4, [5, 3, 9]),
        (StopRule.LOWEST, 1, []),
    ],
)
def test_no_more_hits_are_shown_than_were_asked_for(rule: StopRule, wanted: int, shown: list[int]) -> None:
    state = registry(commands.Submit("j-1", "", "", "sha256", b"", ((0, 100),), rule, wanted), (5, 3, 9))
    for hits_from in range(4):
        view = ask(state, queries.WatchJob("j-1", hits_from), queries.JobView)
        assert isinstance(view, queries.JobView)
        assert [n for n, _ in view.hits] == shown[hits_from:]
        assert view.line.hits == len(shown)


def test_the_lowest_is_shown_once_it_is_proven() -> None:
    spec = commands.Submit("j-1", "", "", "sha256", b"", ((0, 100),), StopRule.LOWEST, 1)
    state = registry(spec, (5, 3, 9))
    state.apply(9, commands.pack(commands.Finish("j-1", 1, commands.Status.FOUND, "")))
    view = ask(state, queries.WatchJob("j-1", 0), queries.JobView)
    assert isinstance(view, queries.JobView)
    assert view.hits == ((3, b"digest"),)
